"""The importance of hyperparameters: a bar an axis, with its interval over seeds. Percent in pictures."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from analysis.estimates.importance import INTERACTIONS, importance_frame, importances
from analysis.frames.names import of_spread, sentence, words
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan, that_choose
from trainers.errors import UserError
from trainers.fields import plural

#: Heights in inches: of a bar, of what stands above and below the bars.
_ROW, _FRAME = 0.27, 0.62

_BAR, _REST = "#0072B2", "0.6"


def importance(data: Data) -> DataFrame:
    """The importance of each axis for the metric that the sweep chooses by, over all trials and within methods.

    Returns:
        of `analysis.estimates.importance.importance_frame`; empty where fewer than two axes vary, or nobody evaluates.
    """
    if data.evaluator is None:
        return DataFrame()
    try:
        return importance_frame(importances(data.trials, data.evaluator, f"last_{data.chosen_by.metric}"))
    except UserError:
        return DataFrame()


def draw_importance(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `importance`: a panel a part, below each other, the most important axis on top."""
    parts = [part for _, part in rows.groupby("part", sort=False)]
    heights = [(_ROW * len(part) + _FRAME) * page.larger for part in parts]
    figure = Figure(figsize=(page.size(1, 0, (6.0, 0))[0], sum(heights) + 0.7), layout="constrained")
    grid = figure.subplots(len(parts), 1, squeeze=False, sharex=True, height_ratios=heights)
    for axes, part in zip(grid[:, 0], parts, strict=True):
        _bars(axes, part)
    grid[-1, 0].set_xlabel("share of the variance (%)")
    grid[-1, 0].set_xlim(0, 100)
    return figure


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    bars = of_spread(
        "lines: 95 % t intervals, bootstrap over seeds, cut at 0 and 100", rows["low"].notna(), _without(rows)
    )
    return (
        f"{sentence(str(rows['metric'].iloc[0]))}: which hyperparameter explains how much of the variance between the "
        "means of settings, by itself, each of its values counting alike (fANOVA); "
        f"n = {plural(int(rows['n_trials'].max()), 'trial')}; {bars}."
    )


def _without(rows: DataFrame) -> str:
    reasons = rows.loc[rows["low"].isna(), "interval_method"].str.removeprefix("none: ")
    return f"no line: {'; '.join(dict.fromkeys(reasons))}"


def _bars(axes: Axes, part: DataFrame) -> None:
    places, shares = np.arange(len(part)), 100 * part["importance"].to_numpy(dtype=np.float64)
    colours = [_REST if axis == INTERACTIONS else _BAR for axis in part["axis"]]
    axes.barh(places, shares, color=colours, height=0.62)
    for place, (_, row) in zip(places, part.iterrows(), strict=True):
        axes.plot([100 * row["low"], 100 * row["high"]], [place, place], color="0.15", lw=1.3, marker="|", markersize=6)
    axes.set_yticks(places, [words(axis) for axis in part["axis"]])
    axes.set_ylim(len(part) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    first = part.iloc[0]
    name = "all trials" if first["part"] == "all" else first["part"]
    counts = f"{plural(int(first['n_cells']), 'cell')}, n = {plural(int(first['n_trials']), 'trial')}"
    axes.set_title(f"{name} ({counts})")


PLAN = Plan(
    "importance",
    importance,
    "needs completed trials of two axes that vary, and enough cells: sweep importance says what lacks",
    lambda rows, metric: caption(rows),
    lambda rows, metric, page: draw_importance(rows, page),
    trials=that_choose,
)
