"""What theory says of a sweep, and what was measured beside it, as text: for the terminal, JSON, Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame, Series
from pandas.api.types import is_numeric_dtype
from rich.console import Group, RenderableType
from rich.text import Text

from analysis.estimates.theory_check import TheoryCheck
from analysis.frames.cells import several
from analysis.frames.names import KEYS as SLOTS
from analysis.frames.names import brief, short
from analysis.tables.export import json_text
from analysis.tables.sheet import Sheet, cells, console_table, markdown

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
    "SGD's lr": "effective_lr",
    "SGD's weight decay": "effective_weight_decay",
    "spread x 2h / c": "posterior_scale",
}

#: More update rules than this do not have a row each, but their method one with their range.
_MANY = 40

#: Digits of a number.
_DIGITS = 3

#: What the words mean that stand in several tables, and what theory takes for granted.
_WORDS = (
    "The theory assumes that the loss near a minimum is quadratic, and that the gradient's noise is independent from "
    "step to step; of a network neither is exactly true.",
    "h: curvature in a direction, an eigenvalue of the Hessian. c: variance of one image's gradient in that direction. "
    "spread: variance of the weights once they have settled; S: its matrix, over d directions.",
    "The attack is part of the loss. Weight decay is left out of limit and spread.",
)

#: Title of each table, and what its columns are.
_TITLES: dict[str, tuple[str, list[str]]] = {
    "update": (
        "predicted: each method's update over plain SGD's",
        [
            "plain SGD: without momentum, at the same lr and batch size; numbers are multiples of its own, but for "
            "`stable below`",
            "mean step: how far many steps move the weights on average",
            "noise: variance of one step; at equal step: the same, once lr makes the mean steps equal",
            "stable below: training is stable while lr x h, h being the largest curvature, is below it",
            "spread: the same number as the mean step where lr x h is small; spread at 1: where lr x h is 1",
        ],
    ),
    "settings": (
        "predicted: the plain SGD that each method acts like",
        [
            "SGD's lr, SGD's weight decay: with these, plain SGD moves the weights alike on average",
            "where lr x h is small, the spread is the last column times c / 2h",
        ],
    ),
    "bound": (
        "predicted: how the terms of the PAC-Bayes bound on the test error move",
        [
            "where lr x h is small, and all else is as it was",
            "factor: of S, and so of tr(H S) / 2, what the spread costs in risk, H being the Hessian",
            "KL: change of the divergence from the prior, nats a direction, while S is far narrower than the prior",
            "KL falls if: the width, tr(S) / (d x the prior's variance), was so before",
        ],
    ),
    "stability": (
        "measured: the largest curvature, and the learning rates that it allows",
        [
            "h: the largest curvature; limit: what lr x h must stay below; beyond: measurements that do not; stable "
            "to: the largest stable lr, limit / h",
            "means over n seeds with 95 % t intervals, of completed trials, over the epochs at that lr",
        ],
    ),
    "noise": (
        "measured: DEAT over SGD",
        [
            "step noise: theory's factor times the measured noise of the gradient; spread: theory's, of the measured h "
            "and c",
            "each at the weights that it came to; what is predicted takes h and c there to be SGD's",
            "geometric means over n seeds, 95 % t intervals of the logarithms",
        ],
    ),
    "width": (
        "measured: noise against batch size, and the bound",
        [
            "noise slope: of log noise of the gradient on log batch size, in theory -1",
            "width: tr(S) / (d x the prior's variance 0.01) over the d measured directions, S being theory's, of the "
            "measured h and c; bound: nats",
            "means and intervals as above; empty where a measurement is beyond the limit, or theory says nothing",
        ],
    ),
}

_UNMEASURED = "nothing measured stands beside it: that takes completed trials with trial.dynamics.every"


def theory_view(check: TheoryCheck) -> RenderableType:
    """All of it for the terminal: what the words mean first, what theory does not cover last."""
    parts: list[RenderableType] = [*map(Text, _WORDS), Text("")]
    for sheet in tables(check).values():
        parts += [console_table(sheet.header, sheet.rows, title=sheet.caption), *map(Text, sheet.notes), Text("")]
    return Group(*parts, *map(Text, notes(check)))


def theory_text(check: TheoryCheck, form: str) -> str:
    """All of it as `json`, every number as it is, or as `markdown`."""
    if form == "json":
        return json_text(check)
    lists = ["\n".join(f"- {line}" for line in lines) for lines in (_WORDS, notes(check)) if lines]
    return "\n".join(f"{text.rstrip()}\n" for text in [lists[0], *map(markdown, tables(check).values()), *lists[1:]])


def tables(check: TheoryCheck) -> dict[str, Sheet]:
    """Each table that has rows, without columns that are empty."""
    every = {
        "update": _by_rule(check.predicted, _UPDATE),
        "settings": _by_rule(check.predicted, _SETTINGS),
        "bound": _bound(check.bound),
        "stability": _stability(check.along),
        "noise": _beside(check.beside),
        "width": _width(check.along),
    }
    sheets = {name: Sheet(_TITLES[name][0], *cells(rows), _TITLES[name][1]) for name, rows in every.items() if rows}
    return {name: sheet.filled() for name, sheet in sheets.items()}


def notes(check: TheoryCheck) -> list[str]:
    """What of the settings theory does not cover, with the methods where it is not all of them."""
    methods: dict[str, list[str]] = {}
    for row in check.predicted[["method", "uncovered"]].drop_duplicates().to_dict("records"):
        for text in row["uncovered"]:
            methods.setdefault(text, []).append(row["method"])
    whole = check.predicted["method"].nunique()
    lines = [text if len(names) == whole else f"{_few(names)}: {text}" for text, names in methods.items()]
    return [*lines, *([_UNMEASURED] if check.along.empty else [])]


def _by_rule(predicted: DataFrame, columns: Mapping[str, str]) -> Rows:
    """One row an update rule, with the methods of which all of it is the same."""
    momentum = predicted["optimizer.momentum"]
    predicted = predicted.assign(**{"optimizer.momentum": momentum.where(momentum > 0)})
    rules, shown = list(_RULE.values()), {**_RULE, **columns}
    few = len(predicted[rules].drop_duplicates()) <= _MANY
    methods: dict[tuple[str, ...], list[str]] = {}
    for _, rows in predicted.groupby(["method", *(rules if few else [])], sort=False, dropna=False):
        methods.setdefault(tuple(_range(rows[column]) for column in shown.values()), []).append(rows["method"].iloc[0])
    return [{"method": _few(names)} | dict(zip(shown, texts, strict=True)) for texts, names in methods.items()]


def _bound(moves: DataFrame) -> Rows:
    sides = ("above", "below")
    return [
        {
            "change": row["change"],
            "factor": short(row["factor"], _DIGITS),
            "KL": f"{row['kl_per_direction']:+.3g}",
            "KL falls if": f"{sides[row['factor'] > 1]} {width}"
            if (width := short(row["turning_width"], _DIGITS))
            else "",
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
            "limit": short(row["stability_limit"], _DIGITS),
            "beyond": "" if np.isnan(row["beyond"]) else f"{row['beyond']:.0f} of {row['measurements']}",
            "stable to": short(row["largest_lr"], _DIGITS),
        }
        for cell, row in _cells(along)
    ]


def _beside(beside: DataFrame) -> Rows:
    return [
        {
            "of": row["quantity"].replace("_", " "),
            **cell,
            "predicted": short(row["predicted"], _DIGITS),
            "measured": _interval(row, "measured"),
            "n": str(row["n_treatment"]),
        }
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


def _range(values: Series[Any]) -> str:
    return " to ".join(dict.fromkeys(short(end, _DIGITS) for end in (values.min(), values.max())))


def _interval(row: Mapping[Any, Any], name: str) -> str:
    """Mean and interval, nothing for NaN."""
    value, low, high = (short(row[f"{name}{end}"], _DIGITS) for end in ("", "_low", "_high"))
    return value and f"{value} {f'[{low}, {high}]' if low else '[no interval]'}"
