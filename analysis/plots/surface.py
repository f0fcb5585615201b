"""The mean of a metric on the grid of two hyperparameters, a panel a method; diverged cells are part of it."""

from __future__ import annotations

import functools
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from pandas import DataFrame

from analysis.frames.cells import GROUP, measured, several
from analysis.frames.names import brief, label, scale, sentence, words
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import legend, outer_labels, panels, titled
from analysis.plots.ticks import leaning
from trainers.fields import plural

LR_BATCH = ("optimizer.lr", "batch_size")
K1_K2 = ("optimizer.k1", "optimizer.k2")

#: A grid of two axes is a picture if more than this share of its cells was planned.
_GRID_SHARE = 0.5

#: And if neither has more values than a page has room for; drawn values of one axis alone fill any grid.
_MOST_VALUES = 40


def surface(trials: DataFrame, x: str, y: str, metric: str) -> DataFrame:
    """The mean of a metric at each pair of x and y, for each model and method; every other axis is pooled.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        x: a hyperparameter's column.
        y: another one.
        metric: a metric's column.

    Returns:
        model.name, method, x, y, mean, sd (of the sample), n (completed trials), diverged (trials); NaN where fewer
        than one, or for sd two, completed.

    Raises:
        UserError: the frame has no column `metric`.
    """
    tables = []
    for key, part in trials.groupby(list(GROUP), sort=False):
        rows = part[part[x].notna() & part[y].notna()]
        grid = pd.MultiIndex.from_product([np.unique(rows[name].to_numpy()) for name in (y, x)], names=[y, x])
        values = measured(rows, metric).groupby([y, x])[metric]
        diverged = rows[rows["outcome"] == "diverged"].groupby([y, x]).size()
        table = values.agg(mean=_mean, sd=_sd, n="count").reindex(grid)
        table = table.assign(n=table["n"].fillna(0).astype(np.int64), diverged=diverged.reindex(grid, fill_value=0))
        tables.append(table.reset_index().assign(**dict(zip(GROUP, map(str, key), strict=True))))
    columns = [*GROUP, x, y, "mean", "sd", "n", "diverged"]
    return pd.concat(tables, ignore_index=True)[columns] if tables else DataFrame(columns=columns)


def _mean(values: pd.Series[float]) -> float:
    return float(values.to_numpy().mean())  # numpy's sum, to the last bit as in figures drawn before


def _sd(values: pd.Series[float]) -> float:
    return float(values.to_numpy().std(ddof=1)) if len(values) > 1 else np.nan


def grid(trials: DataFrame, x: str, y: str, metric: str) -> DataFrame:
    """`surface`, as far as it is a picture.

    Returns:
        as `surface`; empty if x or y takes one value, or more than `_MOST_VALUES`, or if the planned points fill no
        more than half of the grid, as a random search does.
    """
    rows = surface(trials, x, y, metric)
    drawable = rows["n"].sum() and _fills_a_grid(trials, x, y) and several(rows[x]) and several(rows[y])
    return rows if drawable else rows.iloc[:0]


def deat_grid(trials: DataFrame, metric: str) -> DataFrame:
    """`surface` over k1 and k2 of DEAT's trials; one that is no axis stands as the text `fixed`.

    Returns:
        as `surface`; empty if neither takes two values, one takes more than `_MOST_VALUES`, or if the points fill no
        more than half of the grid.
    """
    own = trials[trials["optimizer.name"] == "deat"]
    own = own.assign(**{name: "fixed" for name in K1_K2 if name not in own.columns})
    rows = surface(own, *K1_K2, metric)
    drawable = rows["n"].sum() and _fills_a_grid(own, *K1_K2) and any(several(rows[name]) for name in K1_K2)
    return rows if drawable else rows.iloc[:0]


def _fills_a_grid(trials: DataFrame, x: str, y: str) -> bool:
    """Whether the planned points fill more than half of the grid that all panels of a figure share, and it fits one."""
    points = trials[[*GROUP, x, y]].dropna().drop_duplicates()
    number, sides = len(points[list(GROUP)].drop_duplicates()), (points[x].nunique(), points[y].nunique())
    return max(sides) <= _MOST_VALUES and len(points) > _GRID_SHARE * number * sides[0] * sides[1]


def heat_map(rows: DataFrame, metric: str, *, x: str, y: str, page: Page = PAGE) -> Figure:
    """Draws the grid: mean and n in each cell, diverged trials hatched, a panel a network and method.

    Args:
        rows: of `surface`.
        metric: their metric, for the label.
        x: the column along the picture.
        y: the column up the picture.
        page: for what it is drawn.
    """
    size = 1.3 + 0.62 * rows[x].nunique(), max(2.4, 1.2 + 0.5 * rows[y].nunique())
    figure, axes_grid, places = panels(rows, ["model.name"], ["method"], *size, page)
    values = scale(metric) * rows["mean"]
    norm = Normalize(values.min(), values.max())
    # of all panels: they share their axes
    columns, lines = (np.sort(rows[name].unique()) for name in (x, y))
    for axes, part in places:
        titled(axes, rows, part, str(part["method"].iloc[0]))
        mean = part.pivot_table(index=y, columns=x, values="mean", dropna=False).reindex(index=lines, columns=columns)
        shown = scale(metric) * mean.to_numpy(dtype=np.float64)
        axes.imshow(shown, origin="lower", aspect="auto", cmap="viridis", norm=norm)
        axes.grid(visible=False)
        for cell in part.to_dict("records"):
            place = (int(np.searchsorted(columns, cell[x])), int(np.searchsorted(lines, cell[y])))
            _cell(axes, place, scale(metric) * cell["mean"], cell["n"], cell["diverged"], norm)
        texts = brief(list(columns))
        axes.set_xticks(range(len(columns)), texts, rotation=leaning(texts, axes, page))
        axes.set_yticks(range(len(lines)), brief(list(lines)))
    outer_labels(axes_grid, label(x), label(y))
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, "viridis"), ax=axes_grid, shrink=0.9, pad=0.02)
    bar.set_label(label(metric))
    hatched = Patch(facecolor="white", edgecolor="0.3", hatch="////", label="diverged trials")
    legend(figure, [hatched] * bool(rows["diverged"].any()), page)
    return figure


def caption(rows: DataFrame, metric: str, *, x: str, y: str) -> str:
    """What is drawn."""
    axes = " and ".join(words(name) for name in (x, y))
    return (
        f"{sentence(metric)}, by {axes}: in each field the mean over all n completed trials with these two values; "
        f"{plural(int(rows['n'].sum()), 'trial')}."
        f"{' Hatched: trials that diverged.' * bool(rows['diverged'].any())}"
    )


def _cell(axes: Axes, place: tuple[int, int], mean: float, n: int, diverged: int, norm: Normalize) -> None:
    if diverged:
        corner = (place[0] - 0.5, place[1] - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="0.45", lw=0))
    lines = [f"{mean:.1f}"] * bool(n) + [f"n = {n}"] * bool(n or not diverged) + [f"{diverged} div."] * bool(diverged)
    face = mpl.colormaps["viridis"](norm(mean)) if n else "white"
    style: dict[str, Any] = {
        "color": "white" if n and norm(mean) < 0.55 else "black",
        "ha": "center",
        "va": "center",
        "fontsize": "x-small",
    }
    axes.text(*place, "\n".join(lines), bbox={"facecolor": face, "edgecolor": "none", "pad": 1.0}, **style)


def _counted(trials: DataFrame, metric: str) -> pd.Series[str]:
    there = trials.index.isin(measured(trials, metric).index) | (trials["outcome"] == "diverged")
    return trials.loc[there, "trial_id"]


def _of_deat(data: Data) -> pd.Series[str]:
    return _counted(data.trials[data.trials["optimizer.name"] == "deat"], data.metric)


PLANS = (
    Plan(
        "surface_lr_batch",
        lambda data: grid(data.trials, *LR_BATCH, data.metric),
        f"needs a grid of two learning rates by two batch sizes, at most {_MOST_VALUES} of each",
        functools.partial(caption, x=LR_BATCH[0], y=LR_BATCH[1]),
        functools.partial(heat_map, x=LR_BATCH[0], y=LR_BATCH[1]),
        trials=lambda data: _counted(data.trials, data.metric),
    ),
    Plan(
        "surface_k1_k2",
        lambda data: deat_grid(data.trials, data.metric),
        f"needs completed trials of deat with 2 to {_MOST_VALUES} values of optimizer.k1 or optimizer.k2",
        functools.partial(caption, x=K1_K2[0], y=K1_K2[1]),
        functools.partial(heat_map, x=K1_K2[0], y=K1_K2[1]),
        trials=_of_deat,
    ),
)
