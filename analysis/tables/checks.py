"""Checks for masked gradients as text: a table a network, and which of the networks fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pandas import DataFrame
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.estimates.masking import FAILED, LEVEL, TOO_FEW, judged
from analysis.frames.names import short
from analysis.tables.sheet import console_table
from trainers.fields import plural

#: What holds where gradients are honest.
_HOLDS = {
    "steps": "more steps break no fewer",
    "single_step": "one step breaks no more than many",
    "black_box": "without gradients no more break than with them",
    "restarts": "more random starts break at most 5 % more",
    "unbounded": "without a limit on the radius at most 1 % stay right",
    "ascent": "the loss grows along the gradient, but for 5 %",
}

_HEADER = ("check", "what should hold", "right, of n", "against it", "")
_WHAT = ["weights", "averaged", "split", "norm", "radius"]


def checks_view(frame: DataFrame) -> RenderableType:
    """A table each network's checks, at most 80 columns wide, and what they say together.

    Args:
        frame: of `analysis.frames.checks.load_checks`, or some of its rows.
    """
    rows = judged(frame)
    networks = [own for _, own in rows.groupby(["trial_id", *_WHAT], sort=False)]
    return Group(*map(_table, networks), Text(_together(rows)))


def _table(rows: DataFrame) -> Table:
    one = rows.iloc[0]
    averaged = ", averaged" if one["averaged"] else ""
    which = f"{one['weights']} epoch{averaged}, {one['split']}, {one['norm']}, radius {short(one['radius'])}"
    return console_table(
        _HEADER,
        [_cells(row) for row in rows.to_dict("records")],
        title=f"{one['trial_id']} ({which})",
        wraps=set(_HEADER),
    )


def _cells(row: Mapping[Any, Any]) -> list[str]:
    n = row["clean_correct"]
    part = "" if row["complete"] else f" ({row['images']} of {row['asked']} images)"
    limit = "" if row["verdict"] == TOO_FEW else f", fails from {row['fails_from']}"
    right = f"{row['right_under']} of {n}{part}"
    return [row["check"], _HOLDS[row["check"]], right, f"{row['against']}{limit}", row["verdict"]]


def _together(rows: DataFrame) -> str:
    """What the checks say, in words."""
    rule = (
        "n: images classified correctly without an attack. Of networks whose gradients are honest, chance alone makes "
        f"at most {100 * LEVEL:.0f} % fail any check (exact tests, Bonferroni)."
    )
    if TOO_FEW in set(rows["verdict"]):
        rule += " Too few: with so few images the check cannot fail."
    failed = rows[rows["verdict"] == FAILED].groupby("trial_id", sort=False)["check"].unique()
    if failed.empty:
        return f"{plural(rows['trial_id'].nunique(), 'trial')}: no check failed. {rule}"
    which = "; ".join(f"{trial} fails {', '.join(checks)}" for trial, checks in failed.items())
    return f"{which}: do not trust robust accuracies measured by gradients there. {rule}"
