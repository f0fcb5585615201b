"""Whether short runs are proxies, as text: a table a stratum, and what a reader has to know of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pandas import DataFrame, isna
from rich.console import Group, RenderableType
from rich.text import Text

from analysis.estimates.proxies import OVER_POINTS
from analysis.frames.cells import GROUP
from analysis.frames.names import UNITS, interval_text, readable, scale, short
from analysis.frames.pruned import pruned_line
from analysis.tables.sheet import console_table
from trainers.fields import plural

#: The column that seeds in halves fill: empty where points have one seed each.
_BY_HALVES = "other seeds"

_HEADER = ("setting", "cost", "tau", _BY_HALVES, "same best", "regret")

#: Columns that are no key of a stratum.
_SAID = (
    *("setting", "value", "full", "share", "estimate", "low", "high", "interval_method", "other_seeds", "ceiling"),
    *("same_best", "regret", "points", "n", "n_left_out"),
)

_MEANS = (
    "a point is one configuration; tau: Kendall's rank correlation (tau-b) of the points' means in short runs and in "
    "full ones, with its 95 % interval over seeds; 1: the same order, 0: as by chance, -1: reversed; (1 + tau) / 2 of "
    "all pairs stand in the same order"
)
_OTHERS = (
    "other seeds: tau of short runs with one half of the seeds and full runs with the other half; the ceiling has full "
    "runs in both halves"
)
_BEST = (
    "same best: how often short and full runs choose the same point when the seeds are resampled (with one seed a "
    "point: whether they do); regret: how much worse than the best point, in full runs, the one is that short runs "
    "choose, in "
)


def proxies_view(rows: DataFrame, trials: DataFrame, metric: str) -> RenderableType:
    """A table each stratum, at most 80 columns wide, and its notes.

    Args:
        rows: of `analysis.estimates.proxies.proxies`, at least one.
        trials: that it was made of.
        metric: likewise.
    """
    strata = [name for name in rows.columns if name not in _SAID]
    parts = [_table(part, strata, metric) for _, part in rows.groupby(strata, sort=False, dropna=False)]
    return Group(*parts, *map(Text, ["", *notes(rows, trials, metric)]))


def _table(rows: DataFrame, strata: list[str], metric: str) -> RenderableType:
    first = rows.iloc[0]
    others = [f"{key.rpartition('.')[2]} {readable(first[key])}" for key in strata if key not in GROUP]
    ceiling = "" if isna(first["ceiling"]) else f"; ceiling {first['ceiling']:.2f}"
    what = ", ".join([first["model.name"], first["method"], *others])
    title = f"{what}: {metric} of {plural(first['points'], 'point')}, {plural(first['n'], 'trial')}{ceiling}"
    cells = [_cells(row, metric) for row in rows.to_dict("records")]
    shown = [n for n, name in enumerate(_HEADER) if name != _BY_HALVES or rows["other_seeds"].notna().any()]
    header = [_HEADER[n] for n in shown]
    body = [[row[n] for n in shown] for row in cells]
    return console_table(header, body, title=title, right=header[1:], wraps=header)


def _cells(row: Mapping[Any, Any], metric: str) -> list[str]:
    factor = scale(metric)
    shown = [
        "" if isna(row["share"]) else f"{100 * row['share']:.0f} %",
        interval_text(row["estimate"], row["low"], row["high"]) or "none",
        "" if isna(row["other_seeds"]) else f"{row['other_seeds']:.2f}",
        "" if isna(row["same_best"]) else f"{100 * row['same_best']:.0f} %",
        "" if isna(row["regret"]) else f"{factor * row['regret']:.2f}",
    ]
    return [f"{row['setting']} {short(row['value'])} of {short(row['full']) or 'all'}", *shown]


def notes(rows: DataFrame, trials: DataFrame, metric: str) -> Iterator[str]:
    """What a reader of the tables has to know, one line each."""
    unit = UNITS[f"last_{metric}"]
    halves = [_OTHERS] if rows["other_seeds"].notna().any() else []
    yield from (_MEANS, *halves, _BEST + {"fraction": "percentage points", "nat": "nats"}.get(unit, unit))
    for key, part in rows.groupby("interval_method", sort=False):
        how = str(key)
        if how == OVER_POINTS:
            yield f"one seed a point: the interval is a {how}"
        elif how.startswith("none: "):
            yield f"no interval ({plural(len(part), 'setting')}): {how.removeprefix('none: ')}"
    if line := pruned_line(trials):
        yield f"{line}; here they are those that short runs ranked last"
