"""Mean accuracy on a grid of two hyperparameters, diverged cells kept: numbers and heat map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.cells import GROUP, measured, several
from analysis.frames.names import brief, label, scale
from analysis.plots.style import grid_of_panels, legend_below, no_rows, outer_labels, panel_name, title, with_group

#: A grid of two axes is a picture if more than this share of its cells was planned.
_GRID_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Surface:
    """Mean of `value` at each pair of x and y; every other axis, the seed included, is pooled."""

    x: str
    y: str
    value: str
    x_values: NDArray[Any]
    """(X,) rising."""
    y_values: NDArray[Any]
    """(Y,) rising."""
    mean: NDArray[np.float64]
    """(Y, X) over completed trials; NaN where there is none."""
    sd: NDArray[np.float64]
    """(Y, X) sample standard deviation over them; NaN for fewer than 2."""
    n: NDArray[np.int64]
    """(Y, X) completed trials with the value measured."""
    diverged: NDArray[np.int64]
    """(Y, X) diverged trials."""

    def table(self) -> DataFrame:
        """One row a grid point: x, y, mean, sd, n, diverged."""
        y, x = np.meshgrid(self.y_values, self.x_values, indexing="ij")
        arrays = {"mean": self.mean, "sd": self.sd, "n": self.n, "diverged": self.diverged}
        return DataFrame({self.x: x.ravel(), self.y: y.ravel(), **{k: a.ravel() for k, a in arrays.items()}})


def surface(frame: DataFrame, x: str, y: str, value: str = "last_test_robust") -> Surface:
    """The mean of `value` on the grid of x and y.

    Args:
        frame: trials of one model and one method, else those are pooled too.
        x: a hyperparameter's column, the grid's columns.
        y: another one, the grid's rows.
        value: a metric's column.

    Raises:
        UserError: the frame has no column `value`.
    """
    rows = frame[frame[x].notna() & frame[y].notna()]
    x_values, y_values = np.unique(rows[x].to_numpy()), np.unique(rows[y].to_numpy())
    shape = (len(y_values), len(x_values))

    def place(part: DataFrame) -> NDArray[np.int64]:
        row, column = (
            np.searchsorted(y_values, part[y].to_numpy()),
            np.searchsorted(x_values, part[x].to_numpy()),
        )
        return np.asarray(row * len(x_values) + column, dtype=np.int64)

    def total(cells: NDArray[np.int64], weights: NDArray[np.float64] | None = None) -> NDArray[Any]:
        return np.bincount(cells, weights, minlength=shape[0] * shape[1])

    usable = measured(rows, value)
    cells, values = place(usable), usable[value].to_numpy(dtype=np.float64)
    n = total(cells)
    mean = np.where(n > 0, total(cells, values) / np.maximum(n, 1), np.nan)
    squares = total(cells, (values - mean[cells]) ** 2)
    sd = np.where(n > 1, np.sqrt(squares / np.maximum(n - 1, 1)), np.nan)
    diverged = total(place(rows[rows["outcome"] == "diverged"]))
    grids = (array.reshape(shape) for array in (mean, sd, n, diverged))
    return Surface(x, y, value, x_values, y_values, *grids)


def surfaces(
    frame: DataFrame, x: str, y: str, value: str = "last_test_robust", by: Sequence[str] = GROUP
) -> dict[tuple[Any, ...], Surface]:
    """One surface for each combination of the columns `by`, in order of appearance; else as `surface`."""
    groups = frame.groupby(list(by), sort=False)
    return {key: surface(part, x, y, value) for key, part in groups}


def grid(trials: DataFrame, x: str, y: str, metric: str) -> DataFrame:
    """The metric's surface over x and y for each model and method, other axes pooled.

    Returns:
        model.name, method, x, y, mean, sd, n (completed trials), diverged (trials); empty if x or y
        takes one value or if the planned points fill no more than half of the grid, as a random search does.
    """
    rows = _stacked(trials, x, y, metric)
    drawable = len(measured(trials, metric)) and _fills_a_grid(trials, x, y)
    return rows if drawable and several(rows[x]) and several(rows[y]) else no_rows(rows)


def deat_grid(trials: DataFrame, metric: str) -> DataFrame:
    """`grid` over k1 and k2 of DEAT's trials; one that is no axis stands as the text `fixed`.

    Returns:
        as `grid`; empty if neither takes two values or if the points fill no more than half of the grid.
    """
    own = trials[trials["optimizer.name"] == "deat"]
    names = ["optimizer.k1", "optimizer.k2"]
    own = own.assign(**{name: "fixed" for name in names if name not in own.columns})
    rows = _stacked(own, names[0], names[1], metric)
    drawable = rows["n"].sum() and _fills_a_grid(own, *names)
    return rows if drawable and any(several(rows[name]) for name in names) else no_rows(rows)


def _fills_a_grid(trials: DataFrame, x: str, y: str) -> bool:
    """Whether the planned points fill more than half of the grid that all panels of a figure share."""
    points = trials[[*GROUP, x, y]].dropna().drop_duplicates()
    panels = len(points[list(GROUP)].drop_duplicates())
    return len(points) > _GRID_SHARE * panels * points[x].nunique() * points[y].nunique()


def _stacked(trials: DataFrame, x: str, y: str, metric: str) -> DataFrame:
    columns = [*GROUP, x, y, "mean", "sd", "n", "diverged"]
    found = surfaces(trials, x, y, metric)
    tables = [with_group(surface.table(), key) for key, surface in found.items()]
    return pd.concat(tables, ignore_index=True)[columns] if tables else DataFrame(columns=columns)


def heat_map(rows: DataFrame, x: str, y: str, metric: str, *, equal_ratio: bool) -> Figure:
    """The surface of a metric, a panel a method: mean and n in each cell, diverged trials hatched.

    Args:
        rows: of `analysis.plots.surface.grid` or `deat_grid`.
        x: the column along the picture.
        y: the column up the picture.
        metric: their metric, for the label.
        equal_ratio: draw the lines of equal x / y through the cells.
    """
    size = {"width": 1.3 + 0.62 * rows[x].nunique(), "height": max(2.4, 1.2 + 0.5 * rows[y].nunique())}
    figure, grid, panels = grid_of_panels(rows, ["model.name"], ["method"], **size)
    columns, lines = sorted(rows[x].unique()), sorted(rows[y].unique())  # of all panels: they share their axes
    values = scale(metric) * rows["mean"]
    norm = Normalize(values.min(), values.max())
    for axes, part in panels:
        title(axes, panel_name(rows, part, str(part["method"].iloc[0])), part)
        _cells(axes, part, x, y, columns, lines, scale(metric), norm)
        if equal_ratio:
            _equal_ratio(axes, rows[x].unique(), rows[y].unique())
    outer_labels(grid, label(x), label(y))
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, "viridis"), ax=grid, shrink=0.9, pad=0.02)
    bar.set_label(label(metric))
    handles: list[Any] = (
        [Line2D([], [], color="0.3", ls="--", lw=0.9, label="equal learning rate / batch size")] if equal_ratio else []
    )
    if rows["diverged"].any():
        handles.append(Patch(facecolor="white", edgecolor="0.3", hatch="////", label="diverged trials"))
    legend_below(figure, handles, "in a cell: mean over its n completed trials (seeds and axes not shown)")
    return figure


def _cells(
    axes: Axes,
    part: DataFrame,
    x: str,
    y: str,
    columns: list[Any],
    rows: list[Any],
    factor: float,
    norm: Normalize,
) -> None:
    mean = part.pivot_table(index=y, columns=x, values="mean", dropna=False).reindex(index=rows, columns=columns)
    axes.imshow(factor * mean.to_numpy(dtype=np.float64), origin="lower", aspect="auto", cmap="viridis", norm=norm)
    axes.grid(visible=False)
    for _, cell in part.iterrows():
        place = (columns.index(cell[x]), rows.index(cell[y]))
        _cell(axes, place, factor * cell["mean"], int(cell["n"]), int(cell["diverged"]), norm)
    axes.set_xticks(range(len(columns)), brief(columns))
    axes.set_yticks(range(len(rows)), brief(rows))


def _cell(axes: Axes, place: tuple[int, int], mean: float, n: int, diverged: int, norm: Normalize) -> None:
    if diverged:
        corner = (place[0] - 0.5, place[1] - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor="0.45", lw=0))
    dark = n > 0 and norm(mean) < 0.55
    lines = [f"{mean:.1f}"] if n else []
    lines += [f"n = {n}"] if n or not diverged else []
    lines += [f"{diverged} div."] if diverged else []
    face = mpl.colormaps["viridis"](norm(mean)) if n else "white"
    box = {"facecolor": face, "edgecolor": "none", "pad": 1.0}
    axes.text(
        *place,
        "\n".join(lines),
        ha="center",
        va="center",
        color="white" if dark else "black",
        fontsize=7,
        bbox=box,
    )


def _equal_ratio(axes: Axes, x_values: NDArray[Any], y_values: NDArray[Any]) -> None:
    """Dashed lines of equal x / y through the cells' centres, straight in the logarithms between them."""
    columns, rows = np.log(np.sort(x_values.astype(float))), np.log(np.sort(y_values.astype(float)))
    ratios = np.unique(np.round(np.subtract.outer(columns, rows), 6))
    heights = np.linspace(0, len(rows) - 1, 200)
    log_y = np.interp(heights, np.arange(len(rows)), rows)
    for ratio in ratios if len(ratios) <= 12 else []:
        across = np.interp(log_y + ratio, columns, np.arange(len(columns)), left=np.nan, right=np.nan)
        axes.plot(across, heights, color="white", lw=1.6, alpha=0.5)
        axes.plot(across, heights, color="0.2", ls="--", lw=0.8)
