"""The figures on the ratio: the smooth surface with its standard error, and the shares of the variance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator
from pandas import DataFrame

from analysis.estimates.designs import LR
from analysis.estimates.smooth_surface import SmoothSurface, smooth_surfaces
from analysis.estimates.sobol_indices import Decomposition, decompositions
from analysis.frames.names import brief, label, of_spread, scale, setting_text
from analysis.plots.plan import Data, Plan
from analysis.plots.style import legend, outer_labels
from trainers.fields import plural

#: Of more surfaces there is no picture: a row each could not be read.
MOST_SURFACES = 8

#: Significant digits of a surface: in further ones its optimum moves with the number of threads.
_DIGITS = 8

#: Lines of equal ratio, and steps of each surface's colours.
_LINES, _STEPS = 7, 9

_ALONE, _TOTAL = "#0072B2", "#56B4E9"

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


def surface(grid: DataFrame, cells: DataFrame, metric: str) -> Figure:
    """Draws `surface_frames`: mean and standard error, a row of two panels each, equal accuracy against equal ratio."""
    names = list(dict.fromkeys(grid["of"]))
    size = (2 * _WIDTH + 0.8, _HEIGHT * len(names) + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(len(names), 2, squeeze=False, sharex=True, sharey=True)
    for (mean, error), name in zip(panels, names, strict=True):
        part, dots = grid[grid["of"] == name], cells[cells["of"] == name]
        mean.set_title(f"{name}\nn = {plural(part['n_trials'].iloc[0], 'trial')}", fontsize=9)
        error.set_title(f"{name}\nstandard error", fontsize=9)
        _levels(figure, mean, part, "mean", scale(metric), label(metric), lines=True)
        _levels(figure, error, part, "se", scale(metric), "standard error (points)", lines=False)
        for axes in (mean, error):
            _log_axes(axes, dots)
            axes.plot(dots[LR], dots["batch"], "o", color="black", markersize=3.5, mfc="white", mew=0.9)
        _equal_ratio(mean, dots)
    outer_labels(panels, label(LR), label("batch_size"))
    handles = [
        Line2D([], [], color="black", lw=1.2, label="equal accuracy"),
        Line2D([], [], color="white", lw=1.2, ls="--", label="equal learning rate / batch size"),
        Line2D([], [], color="black", marker="o", mfc="white", ls="none", markersize=4, label="trials"),
    ]
    frame = legend(figure, handles, "", columns=3)
    frame.set_frame_on(True)
    frame.get_frame().set_facecolor("0.8")
    return figure


def _levels(figure: Figure, axes: Axes, part: DataFrame, column: str, factor: float, text: str, *, lines: bool) -> None:
    values = part.pivot_table(index="batch", columns=LR, values=column, dropna=False)
    shown = np.ma.masked_invalid(factor * values.to_numpy(dtype=np.float64))
    at = (values.columns.to_numpy(dtype=np.float64), values.index.to_numpy(dtype=np.float64), shown)
    filled = axes.contourf(*at, levels=_STEPS, cmap="viridis" if lines else "magma", alpha=0.85)
    if lines:
        contours = axes.contour(*at, levels=filled.levels, colors="black", linewidths=1.0)
        axes.clabel(contours, fontsize=7, fmt="%.4g")
    axes.grid(visible=False)
    figure.colorbar(filled, ax=axes, label=text)


def _equal_ratio(axes: Axes, cells: DataFrame) -> None:
    """Dashed lines, straight on two logarithmic axes, evenly through the ratios of the cells."""
    lr, batch = cells[LR].to_numpy(dtype=np.float64), cells["batch"].to_numpy(dtype=np.float64)
    ends = np.array([lr.min(), lr.max()])
    for ratio in np.geomspace((lr / batch).min(), (lr / batch).max(), _LINES + 2)[1:-1]:
        axes.plot(ends, ends / ratio, "--", color="white", lw=1.1)


def apart(values: Sequence[float], least: float = 0.14) -> list[float]:
    """Those that can be labelled on a logarithmic axis: first and last, and of the others what is far enough from all.

    >>> apart([0.025, 0.0313, 0.0862, 0.366, 0.389, 0.667])
    [0.025, 0.0862, 0.366, 0.667]

    Args:
        values: positive, sorted.
        least: distance of two labels, as a share of the axis.
    """
    shares = np.log(np.asarray(values) / values[0]) / max(float(np.log(values[-1] / values[0])), np.finfo(float).tiny)
    kept = [0]
    for place in range(1, len(values) - 1):
        if shares[place] - shares[kept[-1]] >= least and 1 - shares[place] >= least:
            kept.append(place)
    return [values[place] for place in sorted({*kept, len(values) - 1})]


def _log_axes(axes: Axes, cells: DataFrame) -> None:
    axes.set(xscale="log", yscale="log")
    for values, limit, ticks, axis in (
        (cells[LR], axes.set_xlim, axes.set_xticks, axes.xaxis),
        (cells["batch"], axes.set_ylim, axes.set_yticks, axes.yaxis),
    ):
        known = sorted(set(values))
        limit(known[0] / 1.08, known[-1] * 1.08)
        chosen = apart(known if len(known) <= 6 else list(np.quantile(known, np.linspace(0, 1, 5), method="nearest")))
        ticks(chosen, brief(chosen))
        axis.set_minor_locator(NullLocator())


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


def variance(rows: DataFrame) -> Figure:
    """Draws rows of `variance_frame`: each axis's share, alone and with its interactions, a panel a method."""
    names = list(dict.fromkeys(rows["of"]))
    longest = rows.groupby("of").size().max()
    size = (max(4.0 * len(names), 4.8), 1.7 + 0.5 * longest)
    figure = Figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(names), squeeze=False, sharex=True)[0]
    for axes, name in zip(panels, names, strict=True):
        part = rows[rows["of"] == name].iloc[::-1]
        places = np.arange(len(part))
        for quantity, place, colour in (("first", places + 0.18, _ALONE), ("total", places - 0.18, _TOTAL)):
            value, low, high = (part[f"{quantity}{end}"].to_numpy(dtype=np.float64) for end in ("", "_low", "_high"))
            ends = np.maximum([value - low, high - value], 0)
            axes.barh(place, value, 0.34, color=colour, xerr=ends, error_kw={"elinewidth": 0.9, "capsize": 2})
        axes.set_yticks(places, [label(axis) for axis in part["axis"]])
        axes.set_xlim(0, 1.02)
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("share of the variance over the design")
        first = part.iloc[0]
        noise = f", noise {first['noise_share']:.2f}" if np.isfinite(first["noise_share"]) else ""
        counts = f"{plural(first['n_points'], 'point')}, n = {plural(first['n_trials'], 'trial')}"
        axes.set_title(f"{name}\n{counts}\nheld-out R² {first['held_out_r2']:.2f}{noise}", fontsize=9)
    handles = [
        Line2D([], [], color=colour, lw=6, label=text)
        for colour, text in ((_ALONE, "alone"), (_TOTAL, "with its interactions"))
    ]
    whiskers = of_spread("whiskers: 95 % bootstrap", rows["first_low"].notna(), "no whiskers of too few points")
    note = f"Sobol's indices, Legendre polynomial; {whiskers}\nnoise: the seeds' share of a trial's variance"
    legend(figure, handles, note, columns=2)
    return figure


PLANS = (
    Plan(
        "ratio_surface",
        surface_frames,
        "needs one to eight networks, methods or settings with six cells of learning rates by batch sizes",
        surface,
    ),
    Plan(
        "variance_decomposition",
        variance_frame,
        "needs a method with two numeric axes, three values of each, and points to spare",
        lambda rows, metric: variance(rows),
    ),
)
