"""The figures on the ratio: their numbers, their drawing, what they need."""

from __future__ import annotations

import pandas as pd
from pandas import DataFrame

from analysis import ratio_panels
from analysis.estimates.smooth_surface import SmoothSurface, smooth_surfaces
from analysis.estimates.sobol_indices import Decomposition, decompositions
from analysis.frames.names import short
from analysis.plans import Data, Plan

#: Of more surfaces there is no picture: a row each could not be read.
MOST_SURFACES = 8

#: Significant digits of a surface: in further ones its optimum moves with the number of threads.
_DIGITS = 8


def surface_frames(data: Data) -> dict[str, DataFrame]:
    """The smooth surfaces' grids, and their cells; each row with `of`, the network, method and setting in words.

    Returns:
        ratio_surface: of, model.name, method, optimizer.lr, batch, mean, se (in the metric's own unit; NaN outside the
        cells' hull), angle, angle_low, angle_high (degrees), noise, n_cells, n_trials. ratio_surface_cells: of,
        optimizer.lr, batch, value, n. Both empty where no surface can be told, or more than `MOST_SURFACES`.
    """
    found = [surface for surface in smooth_surfaces(data.trials, data.metric) if not surface.reason]
    if not 0 < len(found) <= MOST_SURFACES:
        return {"ratio_surface": DataFrame(), "ratio_surface_cells": DataFrame()}
    return {
        "ratio_surface": pd.concat([_grid(surface) for surface in found], ignore_index=True),
        "ratio_surface_cells": pd.concat([s.cells.assign(of=_name(s)) for s in found], ignore_index=True),
    }


def variance_frame(data: Data) -> DataFrame:
    """One row a network, method and axis: its Sobol indices with their bounds, and what stands beside them."""
    found = decompositions(data.trials, data.metric)
    return DataFrame([row for one in found for row in _shares(one)])


def _grid(surface: SmoothSurface) -> DataFrame:
    told = ("angle", "angle_low", "angle_high", "noise")
    return surface.grid.assign(
        **{name: surface.grid[name].map(_rounded) for name in ("mean", "se")},
        **{"of": _name(surface), "model.name": surface.model, "method": surface.method},
        **dict(zip(told, map(_rounded, (*surface.angle, surface.noise)), strict=True)),
        n_cells=surface.n_cells,
        n_trials=surface.n_trials,
    )


def _rounded(number: float) -> float:
    return float(f"{number:.{_DIGITS}g}")


def _name(surface: SmoothSurface) -> str:
    setting = [f"{key.rpartition('.')[2]} {short(value)}" for key, value in surface.setting.items()]
    return ", ".join([surface.model, surface.method, *setting])


def _shares(one: Decomposition) -> list[dict[str, object]]:
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
            "interactions": one.interactions,
            "deviation": one.deviation,
            "noise": one.noise,
            "noise_share": one.noise_share,
            "held_out_r2": one.held_out_r2,
            "n_points": one.n_points,
            "n_trials": one.n_trials,
        }
        for share in one.shares
    ]


PLANS: tuple[Plan, ...] = (
    Plan(
        "ratio_surface",
        surface_frames,
        lambda frames, metric: ratio_panels.surface(frames["ratio_surface"], frames["ratio_surface_cells"], metric),
        "needs one to eight networks, methods or settings with six cells of learning rates by batch sizes",
    ),
    Plan(
        "variance_decomposition",
        lambda data: {"variance_decomposition": variance_frame(data)},
        lambda frames, metric: ratio_panels.variance(frames["variance_decomposition"]),
        "needs a method with two numeric axes, three values of each, and points to spare",
    ),
)
