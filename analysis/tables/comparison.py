"""Two trials of a run beside each other: what differs in them, and what came of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame, isna
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frames.evaluations import PARAMETERS
from analysis.frames.history import TrialHistory
from analysis.frames.identity import at
from analysis.frames.images import TRAINING, images_of
from analysis.frames.log import Log
from analysis.frames.names import readable
from analysis.frames.trials import epochs_of, trials_of
from analysis.tables.curve import WIDTH, beside, curves, points
from analysis.tables.evaluations import attack_name
from analysis.tables.sheet import console_table
from trainers.config import leaves

#: Metrics that are drawn, and those whose last values are set beside each other.
_DRAWN = ("val_robust", "test_robust")
_FINAL = ("val_clean", "val_robust", "test_clean", "test_robust")

#: Where and how trials were computed.
_HOW = ("host", "device", "code_version", "workers", "arithmetic")

#: What tells two evaluations of one network apart.
_SAME = ("source", "weights", "averaged", "attack", *PARAMETERS, "split", "fingerprint")


def comparison_view(log: Log, one: TrialHistory, other: TrialHistory) -> RenderableType:
    """What differs in two trials' configs, their curves, their accuracies, and on which images they agree.

    Args:
        log: of the run.
        one: called A.
        other: called B.
    """
    trials = trials_of(log).set_index("trial_id")
    rows = [trials.loc[trial.id] for trial in (one, other)]
    parts: list[RenderableType] = [
        Text(f"{name}: trial {trial.id}, {row['method']}, seed {trial.seed}, {row['outcome']}")
        for name, trial, row in zip("AB", (one, other), rows, strict=True)
    ]
    parts += [Text(""), _differences(one.config, other.config, rows)]
    epochs = epochs_of(log)
    each = [epochs[epochs["trial_id"] == trial.id] for trial in (one, other)]
    parts += [Text(line) for line in drawn(*each)]
    parts += [Text(""), _accuracies(rows) if any(map(len, each)) else Text("no epoch of either is recorded")]
    agreement = agreement_of(images_of(log), one.id, other.id)
    parts += [Text(""), _agreement_table(agreement)] if len(agreement) else []
    return Group(*parts)


def _differences(one: Mapping[str, Any], other: Mapping[str, Any], rows: Sequence[Any]) -> RenderableType:
    """The keys of the configs that differ, and where and how the two were computed, as far as that does."""
    differing = [*_differing(one, other), *((name, *pair) for name, pair in _computed(rows))]
    if not differing:
        return Text("nothing differs in their configs, or in how they were computed")
    return console_table(["differs", "A", "B"], differing, wraps=("A", "B"), folds=True)


def _differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in dict.fromkeys([*leaves(one), *leaves(other)]):
        values = [at(config, key) for config in (one, other)]
        texts = ["none" if value is None else readable(value) or "-" for value in values]
        if values[0] != values[1] and texts[0] != texts[1]:
            yield key, texts[0], texts[1]


def _computed(rows: Sequence[Any]) -> Iterator[tuple[str, list[str]]]:
    for name in _HOW:
        texts = ["" if isna(row[name]) else str(row[name]) for row in rows]
        if texts[0] != texts[1]:
            yield name, texts


def drawn(one: DataFrame, other: DataFrame) -> list[str]:
    """The two trials' curves, validation and test side by side; none where nothing was measured.

    Args:
        one: epochs of A, as `analysis.frames.trials.load_epochs` gives them.
        other: those of B.
    """
    lines = [{"A": points(one, metric), "B": points(other, metric)} for metric in _DRAWN]
    titles = [f"{metric.replace('_', ' ')}, %, by epoch" for metric in _DRAWN]
    pictures = [curves(each, title, WIDTH // 2 - 1) for each, title in zip(lines, titles, strict=True)]
    left, right = sorted(pictures, key=bool, reverse=True)
    return ["", *beside(left, right)] if left else []


def _accuracies(rows: Sequence[Any]) -> Table:
    """Of each metric the values at the last epoch and at the best one, and B less A."""
    lines = []
    for which in ("last", "best"):
        for metric in _FINAL:
            one, other = (float(row[f"{which}_{metric}"]) for row in rows)
            difference = "" if isna(other - one) else f"{100 * (other - one):+.2f}"
            lines.append([which, metric.replace("_", " "), *map(_percent, (one, other)), difference])
    caption = "accuracies in %; last: at the last epoch, best: at the best one by validation; one training each"
    shown = [line for line in lines if any(line[2:4])]
    return console_table(["epoch", "accuracy", "A", "B", "B - A"], shown, caption=caption, right=("A", "B", "B - A"))


def agreement_of(images: DataFrame, one: str, other: str) -> DataFrame:
    """A row an evaluation that both trials have: of how many images both are right, one alone, or neither.

    Args:
        images: of `analysis.frames.images.images_of`.
        one: id of A.
        other: id of B.
    """
    keyed = {
        name: {tuple(map(str, (row[key] for key in _SAME))): row for row in part.to_dict("records")}
        for name, part in images[images["trial_id"].isin((one, other))].groupby("trial_id")
    }
    rows = []
    for key, row in keyed.get(one, {}).items():
        if (same := keyed.get(other, {}).get(key)) is not None:
            n = min(len(row["right"]), len(same["right"]))  # a shorter one holds the first of a longer one
            left, right = np.asarray(row["right"][:n]), np.asarray(same["right"][:n])
            counts = {
                "both": left & right,
                "only A": left & ~right,
                "only B": ~left & right,
                "neither": ~(left | right),
            }
            known = {name: row[name] for name in _SAME} | {"n": n}
            rows.append(known | {name: int(those.sum()) for name, those in counts.items()})
    return DataFrame(rows)


def _agreement_table(rows: DataFrame) -> Table:
    counts = ["n", "both", "only A", "only B", "neither"]
    lines = [[row["split"], _evaluated(row), *(str(row[name]) for name in counts)] for row in rows.to_dict("records")]
    caption = "images that both classify right, A alone, B alone, and neither"
    return console_table(["images", "attack", *counts], lines, caption=caption, right=counts, wraps=("attack",))


def _evaluated(row: Mapping[Any, Any]) -> str:
    """The attack, and of which weights, where these are not the raw ones of the last epoch."""
    which = "".join([" best" if row["weights"] == "best" else "", " averaged" if row["averaged"] else ""])
    when = ", at the end of training" if row["source"] == TRAINING else ""
    return f"{attack_name(row)}{when}{f',{which} weights' if which else ''}"


def _percent(value: float) -> str:
    return "" if isna(value) else f"{100 * value:.2f}"
