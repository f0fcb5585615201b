"""The front of several objectives: a point a cell, with intervals over seeds; dominated cells grey."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from analysis.estimates.pareto import front
from analysis.frames.cells import codes, several
from analysis.frames.names import label, of_spread, readable, scale
from analysis.frames.pareto import judged_cells, strata
from analysis.frames.trials import axes as axes_of
from analysis.plots.plan import Data, Plan
from analysis.plots.style import legend, looks, marker
from trainers.fields import plural

_DOMINATED = "0.6"

#: More strata than this would make a figure that nobody reads.
MOST_STRATA = 12

#: What the numbers carry for the drawing: of which columns, and in which direction, the front is.
_STRATUM, _OBJECTIVES = "stratum", "objectives"


def pareto(data: Data) -> DataFrame:
    """Every cell that may be on a front, with its objectives, its test accuracies and their intervals over seeds.

    Returns:
        stratum, objectives (`last_val_robust max, seconds min`), then the columns of `analysis.estimates.pareto.front`;
        empty where the sweep has one objective.
    """
    if not data.objectives:
        return DataFrame()
    rows = front(data.trials, data.objectives)
    if rows.empty:
        return rows
    keys = strata(data.trials)
    shown = [key for key in keys if several(rows[key])] or ["method"]
    rows.insert(0, _OBJECTIVES, ", ".join(f"{one.column} {one.mode}" for one in data.objectives))
    rows.insert(0, _STRATUM, [", ".join(map(readable, row)) for row in rows[shown].itertuples(index=False)])
    return rows


def draw_pareto(rows: DataFrame) -> Figure:
    """Draws rows of `pareto`: a row of panels a stratum, a panel for each pair of objectives."""
    objectives = [one.split() for one in str(rows[_OBJECTIVES].iloc[0]).split(", ")]
    pairs = list(itertools.combinations(objectives, 2))
    parts = [(str(name), part) for name, part in rows.groupby(_STRATUM, sort=False)][:MOST_STRATA]
    figure = Figure(figsize=(max(3.3 * len(pairs), 5.2), 2.9 * len(parts) + 1.0), layout="constrained")
    grid = figure.subplots(len(parts), len(pairs), squeeze=False, sharex="col", sharey="col")
    styles = looks(rows["method"])
    for panels, (name, part) in zip(grid, parts, strict=True):
        colour = styles[str(part["method"].iloc[0])].colour
        for axes, (x, y) in zip(panels, pairs, strict=True):
            _points(axes, part, x[0], y[0], colour)
            if len(objectives) == 2:
                _stairs(axes, part[part["pareto"]], x, y, colour)
            axes.set_ylabel(label(y[0]))
        panels[0].set_title(f"{name} ({int(part['pareto'].sum())} of {plural(len(part), 'cell')} on the front)")
    for axes, (x, _) in zip(grid[-1], pairs, strict=True):
        axes.set_xlabel(label(x[0]))
    handles = [marker("o", "0.15", "on the front"), marker("o", _DOMINATED, "dominated", size=3.5)]
    legend(figure, handles, _note(rows, [one[0] for one in objectives], len(pairs)))
    return figure


def _note(rows: DataFrame, columns: Sequence[str], pairs: int) -> str:
    drawn = pd.concat([rows[f"{column}_low"].notna() for column in columns])
    bars = of_spread("bars: 95 % t intervals over seeds", drawn, "no bar of one seed, or of seeds that do not differ")
    several = "" if pairs == 1 else "; on the front of all objectives, and so perhaps not of a panel's two"
    return f"means over seeds at the last epoch, on validation{several}; {bars}"


def _points(axes: Axes, part: DataFrame, x: str, y: str, colour: str) -> None:
    for on_it, hue, size, above in ((False, _DOMINATED, 3.5, 1), (True, colour, 5.0, 2)):
        some = part[part["pareto"] == on_it]
        for _, row in some.iterrows():
            line: dict[str, Any] = {"color": hue, "lw": 1.0, "alpha": 0.6, "zorder": above}
            axes.plot(scale(x) * row[[f"{x}_low", f"{x}_high"]].astype(float), [scale(y) * row[y]] * 2, **line)
            axes.plot([scale(x) * row[x]] * 2, scale(y) * row[[f"{y}_low", f"{y}_high"]].astype(float), **line)
        values = scale(x) * some[x], scale(y) * some[y]
        axes.plot(*values, "o", color=hue, markersize=size, zorder=above)


def _stairs(axes: Axes, part: DataFrame, x: list[str], y: list[str], colour: str) -> None:
    """The edge of what the front's cells dominate."""
    ordered = part.sort_values(x[0])
    where: Any = "post" if x[1] == "min" else "pre"
    values = np.asarray(scale(x[0]) * ordered[x[0]]), np.asarray(scale(y[0]) * ordered[y[0]])
    axes.step(*values, where=where, color=colour, lw=0.8, ls=":", zorder=1)


def _judged(data: Data) -> Series[Any]:
    """The completed trials of the cells that may be on a front."""
    trials, cells = data.trials, judged_cells(data.trials, data.objectives)
    inside = np.isin(codes(trials, axes_of(trials)), cells.index)
    return trials.loc[inside & (trials["outcome"] == "completed"), "trial_id"]


PLAN = Plan(
    "pareto",
    pareto,
    "needs a sweep of several objectives (metric: a list), with a cell that has all its seeds",
    lambda rows, metric: draw_pareto(rows),
    trials=_judged,
)
