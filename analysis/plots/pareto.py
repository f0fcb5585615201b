"""The front of several objectives: a point a cell, with intervals over seeds; dominated cells grey, others hollow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from analysis.estimates.pareto import REPORTED, front
from analysis.frames.cells import WHY_NOT, codes, several
from analysis.frames.names import label, of_spread, scale, words
from analysis.frames.pareto import judged_cells, unjudged_cells
from analysis.frames.strata import strata, stratum_name
from analysis.frames.trials import axes as axes_of
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import legend, looks, marker
from trainers.fields import plural

_DOMINATED = "0.6"

#: The look of cells that are not judged.
_HOLLOW: dict[str, Any] = {"markeredgecolor": "0.4", "markerfacecolor": "none", "markersize": 4.5}

#: More strata than this would make a figure that nobody reads.
MOST_STRATA = 12

#: What the numbers carry for the drawing: of which columns, and in which direction, the front is.
_STRATUM, _OBJECTIVES = "stratum", "objectives"


def pareto(data: Data) -> DataFrame:
    """Every cell with its objectives, its test accuracies and, of one that may be on a front, intervals over seeds.

    Returns:
        stratum, objectives (`last_val_robust max, seconds min`), then the columns of `analysis.estimates.pareto.front`
        and why_not: why a cell was not judged (a seed was pruned), its means being over the seeds that completed; empty
        text of one that was. No rows where the sweep has one objective, or no cell was judged.
    """
    if not data.objectives:
        return DataFrame()
    rows = front(data.trials, data.objectives, grid=data.grid)
    if rows.empty:
        return rows
    others = unjudged_cells(data.trials, data.objectives, REPORTED)
    known = [*rows.columns.intersection(others.columns), WHY_NOT]
    rows = pd.concat([rows.assign(**{WHY_NOT: ""}), others[known]], ignore_index=True)
    keys = strata(data.trials, data.grid)
    shown = [key for key in keys if several(rows[key])] or ["method"]
    rows.insert(0, _OBJECTIVES, ", ".join(f"{one.column} {one.mode}" for one in data.objectives))
    rows.insert(0, _STRATUM, [stratum_name(shown, row, data.grid) for row in rows[shown].itertuples(index=False)])
    return rows


def draw_pareto(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `pareto`: a row of panels a stratum, a panel for each pair of objectives."""
    objectives, shown = _objectives(rows), _shown(rows)
    pairs = list(itertools.combinations(objectives, 2))
    parts = [(str(name), part) for name, part in shown.groupby(_STRATUM, sort=False)][:MOST_STRATA]
    figure = Figure(figsize=page.size(len(pairs), len(parts), (3.3, 2.9), 1.0), layout="constrained")
    grid = figure.subplots(len(parts), len(pairs), squeeze=False, sharex="col", sharey="col")
    styles = looks(rows["method"])
    for panels, (name, part) in zip(grid, parts, strict=True):
        colour = styles[str(part["method"].iloc[0])].colour
        judged, others = part[part[WHY_NOT] == ""].astype({"pareto": bool}), part[part[WHY_NOT] != ""]
        for axes, (x, y) in zip(panels, pairs, strict=True):
            _points(axes, judged, x[0], y[0], colour)
            if len(objectives) == 2:
                _stairs(axes, judged[judged["pareto"]], x, y, colour)
            axes.plot(scale(x[0]) * others[x[0]], scale(y[0]) * others[y[0]], "o", color="none", **_HOLLOW)
            axes.set_ylabel(label(y[0]))
        counted = f"{int(judged['pareto'].sum())} of {plural(len(judged), 'cell')} on the front"
        panels[0].set_title(f"{name} ({counted}{f', {len(others)} not judged' if len(others) else ''})")
    for axes, (x, _) in zip(grid[-1], pairs, strict=True):
        axes.set_xlabel(label(x[0]))
    handles = [marker("o", "0.15", "on the front"), marker("o", _DOMINATED, "dominated", size=3.5)]
    if (shown[WHY_NOT] != "").any():
        handles.append(Line2D([], [], color="none", marker="o", label="not judged", **_HOLLOW))
    legend(figure, handles, page)
    return figure


def _objectives(rows: DataFrame) -> list[list[str]]:
    """Column and direction of each."""
    return [one.split() for one in str(rows[_OBJECTIVES].iloc[0]).split(", ")]


def _shown(rows: DataFrame) -> DataFrame:
    return rows[rows[[column for column, _ in _objectives(rows)]].notna().all(axis=1)]


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    objectives, shown = _objectives(rows), _shown(rows)
    said = " and ".join(words(column) for column, _ in objectives)
    judged = shown[shown[WHY_NOT] == ""]
    drawn = pd.concat([judged[f"{column}_low"].notna() for column, _ in objectives])
    bars = of_spread("bars: 95 % t intervals over seeds", drawn, "no bar of one seed, or of seeds that do not differ")
    why = dict.fromkeys(shown.loc[shown[WHY_NOT] != "", WHY_NOT])
    hollow = f"; hollow: over the seeds that completed; not judged: {', '.join(why)}" if why else ""
    more = "; on the front of all objectives, and so perhaps not of a panel's two" if len(objectives) > 2 else ""
    return (
        f"Settings (a point each) by {said}: means over seeds at the last epoch. On the front is what no other setting "
        f"beats in everything, judged on validation images{more}; {bars}{hollow}."
    )


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


def _drawn(data: Data) -> Series[Any]:
    """The completed trials of the cells that are drawn: those that may be on a front, and the hollow ones."""
    trials, objectives = data.trials, data.objectives
    cells = judged_cells(trials, objectives).index.union(unjudged_cells(trials, objectives).index)
    inside = np.isin(codes(trials, axes_of(trials)), cells)
    return trials.loc[inside & (trials["outcome"] == "completed"), "trial_id"]


PLAN = Plan(
    "pareto",
    pareto,
    "needs a sweep of several objectives (metric: a list), with a cell that has all its seeds",
    lambda rows, metric: caption(rows),
    lambda rows, metric, page: draw_pareto(rows, page),
    trials=_drawn,
)
