"""Robust accuracy against the radius of the attack, from evaluations at several radii."""

from __future__ import annotations

from collections import Counter
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from analysis.frames.cells import GROUP, several
from analysis.frames.evaluations import ATTACKS
from analysis.frames.names import brief, of_spread
from analysis.frames.trials import axes as axes_of
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import banded, in_order, looks, outer_labels, panels

#: Radii, besides none, of which a curve is made.
FEWEST = 3

_DASHES = ("-", "--", ":", "-.")

_PANEL = ("attack", "norm", "split", "weights", "averaged")


def robustness_by_radius(data: Data) -> DataFrame:
    """Robust accuracy against the radius in each cell whose networks were attacked at `FEWEST` radii or more.

    The accuracies of each network are those of `analysis.estimates.images.curve_rows`, and so never rise. A cell's
    radii are those that all its evaluated seeds saw, so that their mean never rises either.

    Returns:
        model.name, method, the axes of the cell, attack, norm, split, weights, averaged, radius (pixel units, 0:
        clean), mean, low and high (least and most over seeds), n (seeds), images (the fewest of a seed).
    """
    rows, keys = _rows(data)
    grouped = rows.groupby([*keys, "radius"], dropna=False)
    means = grouped["accuracy"].agg(["mean", "min", "max", "count"])
    named = means.rename(columns={"min": "low", "max": "high", "count": "n"})
    return named.assign(images=grouped["images"].min()).reset_index()


def _rows(data: Data) -> tuple[DataFrame, list[str]]:
    """The points of each network that are drawn, and the columns that tell curves apart."""
    keys = [*GROUP, *(axis for axis in axes_of(data.trials) if axis not in GROUP), *_PANEL]
    if data.curves.empty:
        return DataFrame(columns=[*keys, "trial_id", "radius", "accuracy", "images"]), keys
    known = data.trials[["trial_id", *(key for key in keys if key in data.trials)]]
    rows = known.merge(data.curves, on="trial_id")
    seeds = rows.groupby(keys, dropna=False)["trial_id"].transform("nunique")
    rows = rows[rows.groupby([*keys, "radius"], dropna=False)["trial_id"].transform("nunique") == seeds]
    radii = rows.groupby(keys, dropna=False)["radius"].transform("nunique")
    return rows[radii > FEWEST], keys  # one of them is 0


def robustness_radius(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `robustness_by_radius`, a panel a network and attack."""
    styles = looks(rows["method"])
    across = [name for name in _PANEL if name == "attack" or several(rows[name])]
    figure, grid, places = panels(rows, ["model.name"], across, 4.2, 3.4, page)
    for axes, part in places:
        first = part.iloc[0]
        names = [first["model.name"], f"{ATTACKS.get(first['attack'], first['attack'])} or stronger"]
        axes.set_title(", ".join([*names, *(str(first[name]) for name in across if name != "attack")]))
        scale = 255 if first["norm"] == "linf" else 1
        handles = []
        cell = list(rows.columns[: list(rows.columns).index("attack")])
        drawn = Counter[str]()  # of each method, whose cells share a colour
        curves = [curve for _, curve in part.groupby(cell, dropna=False)]
        order = in_order(part["method"])
        for curve in sorted(curves, key=lambda curve: order.index(curve.iloc[0]["method"])):
            look = styles[name := curve.iloc[0]["method"]]
            dashes, drawn[name] = _DASHES[drawn[name] % len(_DASHES)], drawn[name] + 1
            shape: dict[str, Any] = {"lw": 1.4, "marker": look.marker, "ms": 4, "ls": dashes}
            banded(axes, curve.assign(radius=scale * curve["radius"]), "radius", look.colour, factor=100, **shape)
            lr, batch, n = curve.iloc[0]["optimizer.lr"], curve.iloc[0]["batch_size"], int(curve["n"].max())
            text = f"{look.name}: lr {brief([lr])[0]}, batch {batch}, n = {n}"
            handles.append(Line2D([], [], color=look.colour, label=text, **shape))
        axes.legend(handles=handles, fontsize="x-small")
        axes.set_ylim(bottom=0)
    unit = "radius (1/255)" if (rows["norm"] == "linf").all() else "radius (pixel units; of linf in 1/255)"
    outer_labels(grid, unit, "images still classified correctly (%)")
    return figure


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    images = sorted(set(rows["images"]))
    counts = str(images[0]) if len(images) == 1 else f"{images[0]} to {images[-1]}"
    return (
        f"Share of {counts} images still classified correctly under attack, by the attack's radius. An image broken at "
        f"one radius counts as broken at every larger one; mean over seeds; {_band(rows)}."
    )


def _band(rows: DataFrame) -> str:
    return of_spread("band: minimum to maximum over seeds", rows["n"] > 1, "no band of one seed")


PLAN = Plan(
    "robustness_radius",
    robustness_by_radius,
    f"needs evaluations of one attack at {FEWEST} radii or more (sweep evaluate --radius R --radius R ...)",
    lambda rows, metric: caption(rows),
    lambda rows, metric, page: robustness_radius(rows, page),
    trials=lambda data: _rows(data)[0]["trial_id"],
)
