"""The figures on the ratio: the smooth surface with its standard error, and the shares of the variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.contour import QuadContourSet
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from pandas import DataFrame, Series

from analysis.estimates.designs import LR
from analysis.estimates.smooth_surface import SmoothSurface, smooth_surfaces
from analysis.estimates.sobol_indices import Decomposition, decompositions
from analysis.frames.names import label, of_spread, scale, sentence, setting_text, words
from analysis.plots.page import PAGE, Page, inches
from analysis.plots.plan import Data, Plan
from analysis.plots.style import centre, in_order, in_rows, legend, marker, outer_labels
from analysis.plots.ticks import log_axis
from trainers.fields import plural

#: Of more surfaces there is no picture: a row each could not be read.
MOST_SURFACES = 8

#: Significant digits of a surface: in further ones its optimum moves with the number of threads.
_DIGITS = 8

#: Lines of equal ratio, and steps of each surface's colours.
_LINES, _STEPS = 7, 9

#: In a colour that no surface has.
_EQUAL_RATIO: dict[str, Any] = {"color": "#D55E00", "ls": "--", "lw": 1.2}

#: Colour, mark and name of the two kinds of share.
_ALONE, _TOTAL = ("#0072B2", "o", "alone"), ("#D55E00", "s", "with its interactions")

#: Inches that a tick of the scale of colours takes.
_TICK = 0.36

_WIDTH, _HEIGHT = 4.1, 3.1


def surface_frames(data: Data) -> dict[str, DataFrame]:
    """The smooth surfaces' grids, and their cells; each row with `of`, the network, method and setting in words.

    Returns:
        ratio_surface: of, model.name, method, optimizer.lr, batch, mean, se (in the metric's own unit; NaN outside the
        cells' hull), noise, n_cells, n_trials. ratio_surface_cells: of, optimizer.lr, batch, value, n. Both empty where
        no surface can be told, or more than `MOST_SURFACES`.
    """
    known = [surface for surface in smooth_surfaces(data.trials, data.metric) if not surface.reason]
    if not 0 < len(known) <= MOST_SURFACES:
        return {"ratio_surface": DataFrame(), "ratio_surface_cells": DataFrame()}
    return {
        "ratio_surface": pd.concat(map(_grid, known), ignore_index=True),
        "ratio_surface_cells": pd.concat([s.cells.assign(of=setting_text(s)) for s in known], ignore_index=True),
    }


def _grid(surface: SmoothSurface) -> DataFrame:
    def rounded(number: float) -> float:
        return float(f"{number:.{_DIGITS}g}")

    return surface.grid.assign(
        **{name: surface.grid[name].map(rounded) for name in ("mean", "se")},
        **{"of": setting_text(surface), "model.name": surface.model, "method": surface.method},
        noise=rounded(surface.noise),
        n_cells=surface.n_cells,
        n_trials=surface.n_trials,
    )


def surface(grid: DataFrame, cells: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws `surface_frames`: mean and standard error, a row of two panels each, equal accuracy against equal ratio.

    All surfaces share one scale of colours, and so do all standard errors.
    """
    names = list(dict.fromkeys(grid.sort_values("method", key=_ranks, kind="stable")["of"]))
    figure = Figure(figsize=page.size(2, len(names), (_WIDTH, _HEIGHT), 1.2), layout="constrained")
    panels = figure.subplots(len(names), 2, squeeze=False, sharex=True, sharey=True)
    for place, (column, factor, text) in enumerate(
        (("mean", scale(metric), label(metric)), ("se", scale(metric), "standard error (points)"))
    ):
        levels = np.asarray(MaxNLocator(_STEPS).tick_values(factor * grid[column].min(), factor * grid[column].max()))
        for axes, name in zip(panels[:, place], names, strict=True):
            part, dots = grid[grid["of"] == name], cells[cells["of"] == name]
            said = "standard error" if place else f"n = {plural(part['n_trials'].iloc[0], 'trial')}"
            axes.set_title(f"{name}\n{said}")
            filled = _levels(axes, part, column, factor, levels, lines=not place)
            _log_axes(axes, dots, page)
            axes.plot(dots[LR], dots["batch"], "o", color="black", markersize=3.5, mfc="white", mew=0.9)
            if not place:
                _equal_ratio(axes, dots)
        ticks = levels[:: max(1, round(_TICK * page.larger * len(levels) / inches(panels[0, 0])))]
        figure.colorbar(filled, ax=list(panels[:, place]), location="bottom", label=text, ticks=ticks)
    outer_labels(panels, label(LR), label("batch_size"))
    handles = [
        Line2D([], [], color="black", lw=1.2, label="equal accuracy"),
        Line2D([], [], **_EQUAL_RATIO, label="equal learning rate / batch size"),
        Line2D([], [], color="black", marker="o", mfc="white", ls="none", markersize=4, label="trials"),
    ]
    legend(figure, handles, page)
    return figure


def _ranks(methods: Series[str]) -> Series[Any]:
    return methods.map(in_order(methods).index)


def caption_of_surface(grid: DataFrame, cells: DataFrame, metric: str) -> str:
    """What is drawn."""
    each = grid.drop_duplicates("of")
    noise = sorted(scale(metric) * each["noise"])
    spread = " to ".join(dict.fromkeys(f"{one:.2g}" for one in (noise[0], noise[-1])))
    return (
        f"{sentence(metric)}, over learning rate and batch size: a smooth surface (Gaussian process) through the "
        f"means of {plural(int(each['n_trials'].sum()), 'trial')}, and its standard error. If the ratio "
        "were all that counts, lines of equal accuracy would run along the dashed ones, of equal learning rate / batch "
        "size. "
        f"A trial's own noise: {spread} points."
    )


def _levels(
    axes: Axes, part: DataFrame, column: str, factor: float, levels: NDArray[np.float64], *, lines: bool
) -> QuadContourSet:
    values = part.pivot_table(index="batch", columns=LR, values=column, dropna=False)
    shown = np.ma.masked_invalid(factor * values.to_numpy(dtype=np.float64))
    at = (values.columns.to_numpy(dtype=np.float64), values.index.to_numpy(dtype=np.float64), shown)
    filled = axes.contourf(*at, levels=levels, cmap="viridis" if lines else "magma", alpha=0.85)
    if lines:
        contours = axes.contour(*at, levels=levels, colors="black", linewidths=1.0)
        for text in axes.clabel(contours, fontsize="x-small", fmt="%.4g", zorder=3):  # above dashed lines
            text.set_path_effects([withStroke(linewidth=2, foreground="white")])
    axes.grid(visible=False)
    return filled


def _equal_ratio(axes: Axes, cells: DataFrame) -> None:
    """Dashed lines, straight on two logarithmic axes, evenly through the ratios of the cells."""
    lr, batch = cells[LR].to_numpy(dtype=np.float64), cells["batch"].to_numpy(dtype=np.float64)
    for ratio in np.geomspace((lr / batch).min(), (lr / batch).max(), _LINES + 2)[1:-1]:
        ends = np.array([max(lr.min(), ratio * batch.min()), min(lr.max(), ratio * batch.max())])
        axes.plot(ends, ends / ratio, **_EQUAL_RATIO)


def _log_axes(axes: Axes, cells: DataFrame, page: Page) -> None:
    for axis, limit, values in ((axes.xaxis, axes.set_xlim, cells[LR]), (axes.yaxis, axes.set_ylim, cells["batch"])):
        log_axis(axis, values, page)
        limit(values.min() / 1.08, values.max() * 1.08)


def variance_frame(data: Data) -> DataFrame:
    """One row a network, method and axis: its Sobol indices with their bounds, and what stands beside them."""
    return DataFrame([row for one in decompositions(data.trials, data.metric) for row in _shares(one)])


def _shares(one: Decomposition) -> list[dict[str, Any]]:
    of_all = ("interactions", "deviation", "noise", "noise_share", "held_out_r2", "n_points", "n_trials")
    return [
        {
            "of": f"{one.model}, {one.method}",
            "model.name": one.model,
            "method": one.method,
            "axis": share.axis,
            **{
                f"{name}{end}": number
                for name, estimate in (("first", share.first), ("total", share.total))
                for end, number in zip(("", "_low", "_high"), estimate, strict=True)
            },
            **{name: getattr(one, name) for name in of_all},
        }
        for share in one.shares
    ]


def variance(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `variance_frame`: each axis's share, alone and with its interactions, a panel a method."""
    names = list(dict.fromkeys(rows.sort_values("method", key=_ranks, kind="stable")["of"]))
    longest = rows.groupby("of").size().max()
    down, across = in_rows(len(names), 4.0, page)
    figure = Figure(figsize=page.size(across, down, (4.0, 0.8 + 0.45 * longest), 0.9), layout="constrained")
    panels = figure.subplots(down, across, squeeze=False, sharex=True)
    for place in range(len(names), panels.size):
        panels[divmod(place, across)].set_visible(False)
    centre(figure, panels, len(names))
    for place, name in enumerate(names):
        axes, part = panels[divmod(place, across)], rows[rows["of"] == name].iloc[::-1]
        places = np.arange(len(part))
        for quantity, turn, (colour, shape, _) in (("first", 0.13, _ALONE), ("total", -0.13, _TOTAL)):
            value, low, high = (part[f"{quantity}{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
            ends = np.maximum([value - low, high - value], 0)
            style: dict[str, Any] = {"color": colour, "marker": shape, "ms": 5, "ls": "none", "capsize": 2}
            axes.errorbar(value, places + turn, xerr=ends, **style)
        axes.set_yticks(places, [words(axis) for axis in part["axis"]])
        axes.set_ylim(-0.6, len(part) - 0.4)
        axes.set_xlim(-0.02, 1.02)
        first = part.iloc[0]
        counts = f"{plural(int(first['n_points']), 'setting')}, n = {plural(int(first['n_trials']), 'trial')}"
        axes.set_title(f"{name}\n{counts}")
    outer_labels(panels, "share of the variance", "")
    handles = [marker(shape, colour, text) for colour, shape, text in (_ALONE, _TOTAL)]
    legend(figure, handles, page)
    return figure


def caption_of_variance(rows: DataFrame, metric: str) -> str:
    """What is drawn."""
    whiskers = of_spread(
        "whiskers: 95 % bootstrap intervals", rows["first_low"].notna(), "no whiskers of too few settings"
    )
    below = (rows["total"] < rows["first"]).any()
    each = [
        f"{one['of']}: R² at settings left out {one['held_out_r2']:.2f}{_noise(one)}"
        for one in rows.drop_duplicates("of").to_dict("records")
    ]
    return (
        f"Which hyperparameter explains how much of the variance of {words(metric)}, over the ranges that were tried: "
        f"alone, and with all its interactions (Sobol's indices of a polynomial of degree 2); {whiskers}."
        f"{_BELOW * bool(below)} {'; '.join(each)}."
    )


#: What is said where it is so.
_BELOW = " Where a share with interactions lies below the one alone, no interaction can be told from noise."


def _noise(one: Mapping[Any, Any]) -> str:
    return f", share of the seeds' noise {one['noise_share']:.2f}" if np.isfinite(one["noise_share"]) else ""


PLANS = (
    Plan(
        "ratio_surface",
        surface_frames,
        "needs one to eight networks, methods or settings with six cells of learning rates by batch sizes",
        caption_of_surface,
        surface,
    ),
    Plan(
        "variance_decomposition",
        variance_frame,
        "needs a method with two numeric axes, three values of each, and points to spare",
        caption_of_variance,
        lambda rows, metric, page: variance(rows, page),
    ),
)
