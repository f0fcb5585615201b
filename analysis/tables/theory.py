"""What theory says of a sweep, and what was measured beside it, as text: for the terminal, JSON, Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame, Series
from pandas.api.types import is_numeric_dtype
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.estimates.theory_check import TheoryCheck
from analysis.frames.cells import several
from analysis.frames.names import KEYS as SLOTS
from analysis.frames.names import brief, short
from analysis.tables.export import json_text

Rows = list[dict[str, str]]

#: Header to column: what tells update rules apart, and what theory says of each.
_RULE = {"k1": "optimizer.k1", "k2": "optimizer.k2", "momentum": "optimizer.momentum"}
_UPDATE = {
    "mean step": "mean_step",
    "noise": "step_noise",
    "at equal step": "noise_at_equal_step",
    "stable below": "stability_limit",
    "spread at 1": "spread_at_1",
}
_SETTINGS = {
    "lr": "optimizer.lr",
    "lr / batch": "lr_batch_ratio",
    "as SGD at lr": "effective_lr",
    "weight decay": "effective_weight_decay",
    "spread x 2h / c": "posterior_scale",
}

#: More update rules than this do not have a row each, but their method one with their range.
_MANY = 16

_TITLES = {
    "update": "predicted: each method's update beside plain SGD's, at the same lr and batch size",
    "settings": "predicted: the plain SGD that each method acts like",
    "bound": "predicted: how the terms of the PAC-Bayes bound move",
    "stability": "measured: the largest curvature, and the learning rates that it allows",
    "noise": "measured: DEAT over SGD",
    "width": "measured: noise against batch size, and the bound",
}

_CAPTIONS = {
    "update": "plain SGD: without momentum. mean step: how far many steps move the mean. noise: variance of one step. "
    "at equal step: the same, once lr makes the mean steps equal. stable below: what lr x h must be below, h the "
    "largest eigenvalue of the Hessian. The spread, the covariance of weights that have settled, is as the mean step "
    "where lr x h is small; spread at 1: where it is 1",
    "settings": "its lr and weight decay: those with which the mean moves alike. c / 2h times the last column: the "
    "variance of settled weights in a direction, h its curvature, c the variance of one image's gradient",
    "bound": "where lr x h is small, all else as it was. factor: of the spread S over d directions, and so of "
    "tr(H S) / 2, what it costs in risk. KL: change of the divergence from the prior, nats a direction, while S is "
    "far narrower than the prior. KL falls if: the width, tr(S) / (d x the prior's variance), was so before",
    "stability": "h: largest eigenvalue of the Hessian. limit: of lr x h. beyond: measurements over it. stable to: "
    "limit / h. Means over n seeds with 95 % t intervals, of completed trials, over the epochs at that lr",
    "noise": "each at the weights that it came to; theory takes noise and curvature there to be alike. spread: of S, "
    "which is theory with the measured h and c. Geometric means over n seeds, 95 % t intervals of the logarithms",
    "width": "noise slope: of log noise on log batch size, in theory -1. width: as above, of the S that theory makes "
    "of the measured h and c, the prior's variance 0.01. bound: nats. Empty where a measurement is over the limit",
}

_ALWAYS = (
    "Theory takes the loss for its quadratic, with noise that is independent from step to step; a network is neither. "
    "The attack is part of the loss; weight decay is left out of limit and spread."
)

_UNMEASURED = "nothing measured stands beside it: no completed trial has trial.dynamics.every"


def theory_view(check: TheoryCheck) -> RenderableType:
    """All of it for the terminal, what theory does not cover last."""
    parts: list[RenderableType] = []
    for name, rows in tables(check).items():
        table = Table(title=_TITLES[name], caption=_CAPTIONS[name])
        for header in rows[0]:
            table.add_column(header, no_wrap=True)
        for row in rows:
            table.add_row(*map(Text, row.values()))
        parts += [table, Text("")]
    return Group(*parts, *map(Text, notes(check)))


def theory_text(check: TheoryCheck, form: str) -> str:
    """All of it as `json`, every number as it is, or as `markdown`."""
    if form == "json":
        return json_text(check)
    blocks = []
    for name, rows in tables(check).items():
        lines = [list(rows[0]), ["---"] * len(rows[0]), *(list(row.values()) for row in rows)]
        body = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        blocks.append(f"**{_TITLES[name]}**\n\n{body}\n\n{_CAPTIONS[name]}")
    return "\n\n".join([*blocks, "\n".join(f"- {line}" for line in notes(check))]) + "\n"


def tables(check: TheoryCheck) -> dict[str, Rows]:
    """Header to text, one mapping a row, of each table that has rows; without columns that are empty."""
    every = {
        "update": _by_rule(check.predicted, _UPDATE),
        "settings": _by_rule(check.predicted, _SETTINGS),
        "bound": _bound(check.bound),
        "stability": _stability(check.along),
        "noise": _beside(check.beside),
        "width": _width(check.along),
    }
    return {name: _without_empty(list(rows)) for name, rows in every.items() if rows}


def notes(check: TheoryCheck) -> list[str]:
    """What theory assumes, and what of the settings it does not cover, with the methods where it is not all of them."""
    methods: dict[str, list[str]] = {}
    for row in check.predicted[["method", "uncovered"]].drop_duplicates().to_dict("records"):
        for text in row["uncovered"]:
            methods.setdefault(text, []).append(row["method"])
    whole = check.predicted["method"].nunique()
    said = [text if len(names) == whole else f"{_few(names)}: {text}" for text, names in methods.items()]
    return [_ALWAYS, *said, *([_UNMEASURED] if check.along.empty else [])]


def _by_rule(predicted: DataFrame, columns: Mapping[str, str]) -> Rows:
    """One row an update rule, with the methods of which all of it is the same."""
    momentum = predicted["optimizer.momentum"]
    predicted = predicted.assign(**{"optimizer.momentum": momentum.where(momentum > 0)})
    rules, shown = list(_RULE.values()), {**_RULE, **columns}
    few = len(predicted[rules].drop_duplicates()) <= _MANY
    methods: dict[tuple[str, ...], list[str]] = {}
    for _, rows in predicted.groupby(["method", *(rules if few else [])], sort=False, dropna=False):
        methods.setdefault(tuple(_range(rows[column]) for column in shown.values()), []).append(rows["method"].iloc[0])
    return [{"method": _few(names)} | dict(zip(shown, cells, strict=True)) for cells, names in methods.items()]


def _bound(moves: DataFrame) -> Rows:
    sides = ("above", "below")
    return [
        {
            "change": row["change"],
            "factor": _number(row["factor"]),
            "KL": f"{row['kl_per_direction']:+.3g}",
            "KL falls if": "" if row["factor"] == 1 else f"{sides[row['factor'] > 1]} {_number(row['turning_width'])}",
        }
        for row in moves.to_dict("records")
    ]


def _stability(along: DataFrame) -> Rows:
    return [
        cell
        | {
            "epochs": "-".join(map(str, sorted({row["first_epoch"], row["last_epoch"]}))),
            "n": str(row["n"]),
            "h": _interval(row, "sharpness"),
            "lr x h": _interval(row, "lr_curvature"),
            "limit": _number(row["stability_limit"]),
            "beyond": "" if np.isnan(row["beyond"]) else f"{row['beyond']:.0f} of {row['measurements']}",
            "stable to": _number(row["largest_lr"]),
        }
        for cell, row in _cells(along)
    ]


def _beside(beside: DataFrame) -> Rows:
    return [
        {"of": row["quantity"].replace("_", " "), **cell}
        | {"predicted": _number(row["predicted"]), "measured": _interval(row, "measured"), "n": str(row["n_treatment"])}
        for cell, row in _cells(beside)
    ]


def _width(along: DataFrame) -> Rows:
    shown = {"noise slope": "rate", "width": "width", "bound": "bound"}
    return [
        cell | {"n": str(row["n"]), **{header: _interval(row, name) for header, name in shown.items()}}
        for cell, row in _cells(along)
    ]


def _cells(rows: DataFrame) -> Iterator[tuple[dict[str, str], dict[Any, Any]]]:
    """Each row with what tells its cell from the others: the method, the axes that vary and the lr of the moment."""
    axes = [name for name in map(str, rows) if ("." in name or name == "batch_size") and name not in SLOTS]
    varied = [name for name in ("method", *axes) if name in rows and several(rows[name])]
    columns = {name: _texts(rows[name]) for name in dict.fromkeys((*varied, "lr"))} if len(rows) else {}
    for values, row in zip(zip(*columns.values(), strict=True), rows.to_dict("records"), strict=True):
        yield dict(zip(columns, values, strict=True)), row


def _texts(values: Series[Any]) -> list[str]:
    return brief(list(values)) if is_numeric_dtype(values) else list(map(short, values))


def _few(names: Sequence[str]) -> str:
    """The names, of many the first."""
    return " / ".join(names) if len(names) < 3 else f"{names[0]} and {len(names) - 1} more"


def _without_empty(rows: Rows) -> Rows:
    kept = [name for name in rows[0] if any(row[name] for row in rows)]
    return [{name: row[name] for name in kept} for row in rows]


def _range(values: Series[Any]) -> str:
    low, high = values.min(), values.max()
    return _number(low) if low == high else f"{low:.3g} to {high:.3g}" if low < high else ""


def _interval(row: Mapping[Any, Any], name: str) -> str:
    """Mean and interval, nothing for NaN."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return (
        f"{row[name]:.3g} {'[n/a]' if np.isnan(low) else f'[{low:.3g}, {high:.3g}]'}" if row[name] == row[name] else ""
    )


def _number(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3g}"
