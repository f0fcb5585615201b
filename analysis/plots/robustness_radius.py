"""Robust accuracy against the radius of the attack, from evaluations at several radii."""

from __future__ import annotations

from collections import Counter
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from analysis.frames.cells import GROUP, codes, several
from analysis.frames.evaluations import ATTACKS
from analysis.frames.names import of_spread, readable
from analysis.frames.trials import axes as axes_of
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import banded, in_order, legend, looks, outer_labels, panels
from trainers.fields import plural

#: Radii, besides none, of which a curve is made.
FEWEST = 3

_DASHES = ("-", "--", ":", "-.")

#: Of more settings of a method than there are dashes, marks tell the further ones apart.
_MARKS = "os^Dv"

_PANEL = ("attack", "norm", "split", "weights", "averaged")

#: The column that numbers curves' settings, and what a legend calls the axes that it always has.
_SETTING, _NAMES = "setting", {"optimizer.lr": "lr", "batch_size": "batch"}


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
    """Draws rows of `robustness_by_radius`, a panel a network and attack; a setting looks alike in all panels."""
    axes_of_cells = list(rows.columns[len(GROUP) : rows.columns.get_loc(_PANEL[0])])
    rows = rows.assign(**{_SETTING: codes(rows, ["method", *axes_of_cells])})
    across = [name for name in _PANEL if name == "attack" or several(rows[name])]
    figure, grid, places = panels(rows, ["model.name"], across, 4.2, 3.4, page)
    entries = _entries(rows, axes_of_cells)
    for axes, part in places:
        first = part.iloc[0]
        names = [first["model.name"], f"{ATTACKS.get(first['attack'], first['attack'])} or stronger"]
        axes.set_title(", ".join([*names, *(str(first[name]) for name in across if name != "attack")]))
        scale = 255 if first["norm"] == "linf" else 1
        for setting, curve in part.groupby(_SETTING):
            entry = entries[int(str(setting))]
            style: dict[str, Any] = {
                "lw": entry.get_linewidth(),
                "marker": entry.get_marker(),
                "ms": 4,
                "ls": entry.get_linestyle(),
            }
            shown = curve.assign(radius=scale * curve["radius"])
            banded(axes, shown, "radius", str(entry.get_color()), factor=100, **style)
        axes.set_ylim(bottom=0)
    unit = "radius (1/255)" if (rows["norm"] == "linf").all() else "radius (pixel units; of linf in 1/255)"
    outer_labels(grid, unit, "images still classified correctly (%)")
    legend(figure, list(entries.values()), page)
    return figure


def _entries(rows: DataFrame, axes: list[str]) -> dict[int, Line2D]:
    """A legend's entry a setting, as its curves are drawn: the colour is the method's, dashes and marks its own."""
    styles, drawn = looks(rows["method"]), Counter[str]()
    within = rows.groupby("method")[axes].nunique(dropna=False).max()
    told = [axis for axis in axes if axis in _NAMES or within[axis] > 1]
    entries, order = {}, in_order(rows["method"])
    for row in sorted(rows.drop_duplicates(_SETTING).to_dict("records"), key=lambda row: order.index(row["method"])):
        look, number = styles[row["method"]], drawn[row["method"]]
        drawn[row["method"]] += 1
        turn, dashes = divmod(number, len(_DASHES))
        shapes = look.marker + _MARKS.replace(look.marker, "")
        style: dict[str, Any] = {"ls": _DASHES[dashes], "marker": shapes[turn % len(shapes)]}
        known = {_NAMES.get(axis, axis.rpartition(".")[2]): readable(row[axis]) for axis in told}
        values = [f"{name} {text}" for name, text in known.items() if text]
        text = f"{row['method']}: {', '.join(values)}"
        entries[row[_SETTING]] = Line2D([], [], color=look.colour, lw=1.4, ms=4, label=text, **style)
    return entries


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    images = sorted(set(rows["images"]))
    counts = str(images[0]) if len(images) == 1 else f"{images[0]} to {images[-1]}"
    return (
        f"Share of {counts} images still classified correctly under attack, by the attack's radius. An image broken at "
        f"one radius counts as broken at every larger one; mean over {_seeds(rows)}; {_band(rows)}."
    )


def _seeds(rows: DataFrame) -> str:
    """`3 seeds`, of every curve; the fewest and the most where they differ."""
    fewest, most = int(rows["n"].min()), int(rows["n"].max())
    return f"{fewest} to {plural(most, 'seed')}" if fewest < most else plural(most, "seed")


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
