"""Evaluations of trained networks as text: one line each, with the interval of its accuracy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pandas import DataFrame, isna
from rich.table import Table

from analysis.estimates.crossed import BOTH, WITHOUT
from analysis.frames.cells import several, varying, varying_in
from analysis.frames.evaluations import ATTACKS
from analysis.frames.names import brief, interval_text, short
from analysis.tables.sheet import console_table

_RIGHT = "right: share still classified correctly"

_UNBROKEN = "; unbroken: share that neither this nor a stronger attack broke, at this or a smaller radius, in %"


def evaluations_table(frame: DataFrame, *, some: bool = False, of: DataFrame | None = None) -> Table:
    """One line an evaluation: the trial, what varies, the attack, n, and the accuracy with its interval.

    Args:
        frame: of `analysis.frames.evaluations.load_evaluations`, or some of its rows.
        some: whether a narrow terminal may have some columns alone, as another command shows the others.
        of: the frame of which these are some rows: what varies there is shown; none: they are all.
    """
    rows = [{**row, **_shown(row)} for row in frame.to_dict("records")]
    varied = [name for name in ("split", "weights") if len({row[name] for row in rows}) > 1]
    whole = frame if of is None else of
    point = ["seed", *varying_in(frame, whole)] if several(whole["trial_id"]) else []
    point = [*(["preset"] if "preset" in frame else []), *point]
    alike = DataFrame(rows, columns=frame.columns).groupby(["attack", "radius"], dropna=False)
    different = alike[["steps", "step_size", "restarts", "start"]]
    numbers = different.nunique().max() > 1  # what an attack reads that its name does not say
    curve = ["unbroken"] if "unbroken" in frame and frame["unbroken"].notna().any() else []
    names = [*point, *varied, "attack", "radius", *numbers.index[numbers], "n", "right", *curve, "seconds"]
    header = ["trial id", *names]
    return console_table(
        header,
        zip((row["trial_id"] for row in rows), *(brief([row[name] for row in rows], 4) for name in names), strict=True),
        caption=_caption(frame, rows, varied) + (_UNBROKEN if curve else ""),
        right=set(header) - {"trial id", "preset", "attack", *varied},
        wraps=set(header) - {"right"},
        folds=True,
        spare=[*point, *curve, "n", *numbers.index[numbers], "seconds"] if some else (),
    )


def over_seeds_table(cells: DataFrame) -> Table:
    """One line a cell and attack: the mean over its seeds, with the interval of what other trainings would do.

    Args:
        cells: of `analysis.estimates.evaluated.over_seeds`, at least one.
    """
    rows = [{**row, **_shown(row), "n": str(row["n"])} for row in cells.to_dict("records")]
    varied = [name for name in ("split", "weights", "holds") if len({row[name] for row in rows}) > 1]
    names = ["method", *varying(cells), *varied, "attack", "radius", "images", "n", "right"]
    holds = " or ".join(dict.fromkeys(cells["holds"]))
    where = " where over seeds alone" * several(cells["holds"])
    alone = "" if holds == BOTH else f", {WITHOUT}{where}"
    return console_table(
        names,
        zip(*(brief([row[name] for row in rows], 4) for name in names), strict=True),
        title="means over seeds",
        caption=f"{_RIGHT}, in %, mean over n seeds, with 95 % intervals over {holds}{alone}",
        right={"images", "n", "right"},
        wraps=set(names) - {"right"},
        folds=True,
    )


def _caption(frame: DataFrame, rows: Sequence[Mapping[Any, Any]], varied: Sequence[str]) -> str:
    """What the columns do not say."""
    common = [str(rows[0][name]) for name in ("split", "weights") if rows and name not in varied]
    where = f" ({', '.join(common)})" if common else ""
    part = "" if frame["complete"].all() else "; n of more: not all images are attacked yet"
    mixed = "; n differs: some networks were attacked on more images than others" if several(frame["images"]) else ""
    return f"{_RIGHT}{where}, in %, with 95 % Wilson intervals over test images alone{part}{mixed}"


def attack_name(row: Mapping[Any, Any]) -> str:
    """The attack of a row in words.

    >>> attack_name({"attack": "pgd", "norm": "linf", "steps": 20, "restarts": 5})
    'PGD-20 x 5'
    >>> attack_name({"attack": "autoattack", "norm": "l2"})
    'AutoAttack, l2'
    """
    name = ATTACKS.get(row["attack"], str(row["attack"]))
    if row["attack"] in ("pgd", "cw") and not isna(row["steps"]):
        restarts = f" x {int(row['restarts'])}" if row["restarts"] > 1 else ""
        name = f"{name}-{int(row['steps'])}{restarts}"
    return f"{name}, l2" if row.get("norm") == "l2" else name


def attack_text(attack: Mapping[str, Any]) -> str:
    """Under which attack an evaluation was, in words.

    >>> row = {"attack": "autoattack", "norm": "linf", "radius": 0.15, "images": 360, "weights": "last"}
    >>> attack_text({**row, "averaged": False})
    'under AutoAttack, radius 0.15, on 360 test images (last epoch)'
    """
    weights = f"{attack['weights']} epoch{', averaged' if attack['averaged'] else ''}"
    return (
        f"under {attack_name(attack)}, radius {short(attack['radius'])}, on {attack['images']} test images ({weights})"
    )


def _shown(row: Mapping[Any, Any]) -> dict[str, str]:
    """What is shown of an evaluation besides its own columns."""
    return {
        "weights": f"{row['weights']} epoch{', averaged' if row['averaged'] else ''}",
        "attack": attack_name(row),
        "n": str(row["images"]) if row["complete"] else f"{row['images']} of {row['asked']}",
        "right": interval_text(row["robust_accuracy"], row["low"], row["high"], factor=100),
        "unbroken": "" if isna(row.get("unbroken")) else f"{100 * row['unbroken']:.2f}",
        "seconds": short(float(f"{row['seconds']:.3g}")),
    }
