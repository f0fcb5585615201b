"""The dot plot of methods: a row a method, robust and clean accuracy side by side. Percent in pictures."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame, Series

from analysis.estimates.crossed import BOTH, WITHOUT
from analysis.estimates.methods import EDGE, ROBUST, comparison, results_frame
from analysis.frames.cells import choice_note, measured
from analysis.frames.names import brief, named, of_spread, word
from analysis.frames.recipes import bare
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import Look, crowded, in_order, legend, looks, marker
from analysis.tables.methods import as_judged, edge_of

#: Fewer methods are compared in words.
FEWEST_METHODS = 3

_BARS = f"bars: 95 % t intervals over seeds ({{}}), cut at 0 and 100, {WITHOUT}"
_BOTH_BARS = f"bars: 95 % intervals over {BOTH} ({{}}), cut at 0 and 100"
_MIXED_BARS = (
    f"bars: 95 % intervals, t over seeds or over {BOTH} ({{}}), cut at 0 and 100; "
    "those over seeds alone leave out the error of the test set"
)

#: Of more methods each objective has a list of its own.
MOST_IN_A_LIST = 12

#: Heights in inches: of a method's row, of what stands above and below the rows.
_ROW, _FRAME = 0.24, 0.75


def methods(data: Data) -> DataFrame:
    """Each method at its own best cell by validation, the most robust first.

    Returns:
        of `analysis.estimates.methods.results_frame`; empty for fewer than 3 methods with a test accuracy.
    """
    if measured(data.trials, ROBUST).empty:
        return DataFrame()
    compared = comparison(data.trials, choosers=data.chose, **data.chosen_by._asdict())
    rows = results_frame(as_judged(compared, data.claims))
    return rows if len(rows) and rows["robust"].notna().sum() >= FEWEST_METHODS else rows.iloc[:0]


def draw_methods(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `methods`: robust and clean accuracy with intervals, a row a method, a group above another.

    A group is a model, and of many methods an objective of it.
    """
    groups = _groups(rows)
    heights = [(_ROW * len(group.rows) + _FRAME) * page.larger for group in groups]
    figure = Figure(figsize=(page.size(1, 0, (8.0, 0))[0], sum(heights) + 0.6), layout="constrained")
    grid = figure.subplots(len(groups), 2, squeeze=False, sharex="col", height_ratios=heights)
    styles = looks(rows["method"])
    for pair, (title, part, baselines) in zip(grid, groups, strict=True):
        for axes, name in zip(pair, ("robust", "clean"), strict=True):
            _dots(axes, part, name, styles)
            for value in baselines[name]:
                axes.axvline(100 * value, color="0.35", ls=":", lw=1)
            axes.set_title(f"{title}: {name}" if len(groups) > 1 else f"{name} test accuracy")
        pair[0].set_yticks(range(len(part)), part["method"])
        pair[1].set_yticks(range(len(part)), [_where(row) for _, row in part.iterrows()])
        pair[1].yaxis.tick_right()
        pair[1].tick_params(axis="y", labelsize="small", length=0)
    for axes in grid[-1]:
        axes.set_xlabel("accuracy (%)")
    shown = dict.fromkeys(styles[name] for name in in_order(rows["method"])) if crowded(rows["method"]) else {}
    legend(figure, [marker(look.marker, look.colour, look.name, size=6) for look in shown], page)
    return figure


class _Group(NamedTuple):
    """Methods in one list."""

    title: str
    rows: DataFrame
    """The most robust first."""
    baselines: DataFrame
    """What all methods of the same comparison are held against, here or in another group."""


def _groups(rows: DataFrame) -> list[_Group]:
    keys, found = _keys(rows), []
    shown = rows[rows["robust"].notna()]
    split = shown["method"].nunique() > MOST_IN_A_LIST
    comparisons = [part for _, part in shown.groupby(keys, sort=False, dropna=False)]
    for part in comparisons:
        objectives = part["method"].map(_objective if split else lambda _: "")
        where = [str(part[key].iloc[0]) for key in keys if len(comparisons) > 1 or not split]
        for name in in_order(objectives):
            title = ", ".join(filter(None, [*where, name]))
            found.append(_Group(title, part[objectives == name], part[part["verdict"] == "baseline"]))
    return found


def _objective(method: str) -> str:
    return word(named(bare(method)).objective)


def _keys(rows: DataFrame) -> list[str]:
    """The columns that tell apart what is compared with each other."""
    return list(rows.columns[: list(rows.columns).index("method")])


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    variances = [text for text in dict.fromkeys([*rows["robust_interval"], *rows["clean_interval"]]) if text]
    both = {text.startswith(BOTH) for text in variances}
    bars = _MIXED_BARS if len(both) > 1 else _BOTH_BARS if True in both else _BARS
    prefix = "" if len(both) > 1 else f"{BOTH}, " if True in both else "t, "
    whose = " or ".join(text.removeprefix(prefix) for text in variances)
    drawn = rows.loc[rows["robust"].notna(), "robust_low"].notna()
    bars = of_spread(bars.format(whose), drawn, "no bar of one seed")
    edge = (
        f"; {EDGE}: learning rate at the edge of those {edge_of(int(rows.loc[rows['lr_edge'] != '', 'pruned'].sum()))}"
    )
    return (
        f"Robust and clean test accuracy at the last epoch, {choice_note(rows, [*_keys(rows), 'method'])}; the most "
        f"robust first{' of each objective' if len(_groups(rows)) > 1 else ''}; {bars}"
        f"{'; dotted: the baseline' * bool((rows['verdict'] == 'baseline').any())}"
        f"{edge * bool((rows['lr_edge'] != '').any())}."
    )


def _dots(axes: Axes, part: DataFrame, name: str, styles: dict[str, Look]) -> None:
    for place, (_, row) in enumerate(part.iterrows()):
        look = styles[row["method"]]
        ends = 100 * np.array([row[f"{name}_low"], row[f"{name}_high"]])
        axes.plot(ends, [place, place], color=look.colour, lw=1.3, alpha=0.6)
        axes.plot(100 * row[name], place, look.marker, color=look.colour, markersize=5)
    axes.set_ylim(len(part) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")


def _where(row: Series[Any]) -> str:
    """`lr 0.1*, n = 3`."""
    edge = EDGE if row["lr_edge"] else ""
    rate = f"lr {brief([row['optimizer.lr']])[0]}{edge}, " if pd.notna(row.get("optimizer.lr")) else ""
    return f"{rate}n = {row['n']}"


def _compared(data: Data) -> Series[Any]:
    """The trials that other seeds' choice is compared by."""
    return measured(data.own_best(data.chose).compared, ROBUST)["trial_id"]


PLAN = Plan(
    "methods",
    methods,
    "needs three methods, each with a cell that validation chose",
    lambda rows, metric: caption(rows),
    lambda rows, metric, page: draw_methods(rows, page),
    trials=_compared,
)
