"""What all pictures share: colours, markers, panels, legends, ticks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.cells import GROUP, several
from analysis.frames.names import brief, named, short, word
from trainers.fields import plural

#: Okabe and Ito's colours, told apart by colour-blind readers. PGD-AT's and DEAT's stand for SGD and DEAT too.
_SGD, _DEAT = "#0072B2", "#D55E00"

_OTHERS = (("#009E73", "s"), ("#CC79A7", "^"), ("#E69F00", "D"), ("#56B4E9", "v"))

#: Up to so many methods share a panel.
MOST_TOGETHER = 4

#: What a curve or a surface has one value of, besides model and method.
_CURVE = ("batch_size",)

#: Up to so many values of an axis, if none are too near each other for their names, are its ticks.
_MOST_TICKS = 8

#: Characters of a line in a panel's legend.
LEGEND_WIDTH = 80

#: Over more than this factor the powers of ten are ticks enough.
_MOST_DECADES = 500

STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}


class Look(NamedTuple):
    """How one method is drawn."""

    colour: str
    marker: str
    name: str
    """In a legend."""


def crowded(methods: Iterable[str]) -> bool:
    """Whether the methods are too many for one panel: then each family has its own, and colours mean optimizers."""
    return len(set(methods)) > MOST_TOGETHER


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Each method's look, by its name; the same for the same set of methods.

    >>> looks(["TRADES", "PGD-AT"])["TRADES"]
    Look(colour='#009E73', marker='s', name='TRADES')
    """
    known = sorted(set(methods))
    optimizers = {name: named(name).optimizer for name in known}
    if crowded(known):
        return {name: Look(_DEAT if opt == "deat" else _SGD, "o", word(opt)) for name, opt in optimizers.items()}
    fixed = {"PGD-AT": Look(_SGD, "o", "PGD-AT"), "DEAT": Look(_DEAT, "o", "DEAT")}
    others = zip((name for name in known if name not in fixed), _OTHERS, strict=False)
    return fixed | {name: Look(colour, marker, name) for name, (colour, marker) in others}


def with_group(rows: DataFrame, key: Any) -> DataFrame:
    """The rows with their network and method, the key of a group by `GROUP`, as columns."""
    return rows.assign(**{column: str(name) for column, name in zip(GROUP, key, strict=True)})


def no_rows(rows: DataFrame) -> DataFrame:
    """The columns alone: the data do not allow the figure."""
    return rows.iloc[:0]


def curves(rows: DataFrame) -> int:
    """How many curves or surfaces a figure of these rows would hold."""
    keys = [key for key in ("model.name", "method", *_CURVE) if key in rows]
    return len(rows[keys].drop_duplicates())


def grid_of_panels(
    rows: DataFrame, down: list[str], across: list[str], width: float = 2.9, height: float = 2.7
) -> tuple[Figure, NDArray[Any], list[tuple[Axes, DataFrame]]]:
    """The figure, its grid, and each panel with its rows: one for each value of the columns `down` and `across`.

    Too many methods for one panel are spread: down the objectives of each model, across what is done to them.
    """
    slots = [named(str(method)) for method in rows["method"]]
    rows = rows.assign(_objective=[s.objective for s in slots], _modified=[s.modification for s in slots])
    if crowded(rows["method"]) and "method" not in across:
        others = [key for key in (*down, *across) if key != "model.name"]
        down, across = ["model.name", *others, "_objective"], ["_modified"]
    elif crowded(rows["method"]):
        rows = rows.assign(_modified=[f"{s.modification} {s.optimizer}" for s in slots])
        down, across = ["model.name", "_objective"], ["_modified"]
    keys = [list(zip(*(rows[key] for key in side), strict=True)) or [()] * len(rows) for side in (down, across)]
    values = [sorted(set(side)) for side in keys]
    figure, grid = grid_of_axes(len(values[0]), len(values[1]), width, height)
    places = [(values[0].index(a), values[1].index(b)) for a, b in zip(*keys, strict=True)]
    panels = [(grid[place], rows[[p == place for p in places]]) for place in sorted(set(places))]
    for place in set(np.ndindex(grid.shape)) - set(places):
        cast(Axes, grid[place]).set_visible(False)
    return figure, grid, panels


def grid_of_axes(rows: int, columns: int, width: float, height: float) -> tuple[Figure, NDArray[Any]]:
    """A figure of panels that share their axes; width and height of one, in inches."""
    figure = Figure(figsize=(max(columns * width, 4.8) + 0.4, rows * height + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)


def panel_name(rows: DataFrame, part: DataFrame, rest: str = "") -> str:
    """The model where there are several or nothing else to say, the family where each has its panel, the rest."""
    first = part.iloc[0]
    spread = crowded(rows["method"]) and rest != first["method"]
    family = named(first["method"]).family if spread else ""
    model = first["model.name"] if several(rows["model.name"]) or not (family or rest) else ""
    return ", ".join(filter(None, [model, family, rest]))


def title(axes: Axes, name: str, part: DataFrame) -> None:
    """With n, the trials behind the panel."""
    if "epoch" in part:
        n = int(part.groupby("method")["n"].max().sum())
    else:
        n = int(part["n"].sum()) if "diverged" in part else int(part["value"].notna().sum())
    axes.set_title(f"{name} (n = {plural(n, 'trial')})")


def outer_labels(grid: NDArray[Any], x: str, y: str) -> None:
    """Names the axes at the grid's foot and at its left, once for all panels."""
    for axes in grid[-1]:
        axes.set_xlabel(x)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def legend_below(figure: Figure, handles: list[Any], note: str, *, diverged: bool = False) -> None:
    """One legend under all panels, with the note on what line and band mean as its title."""
    if diverged:
        handles = [*handles, marker_handle("x", "0.3", "diverged trial (at the foot)")]
    columns = max(1, min(len(handles), 6))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=note, fontsize=8)
    legend.get_title().set_fontsize(7.5)
    legend.get_title().set_color("0.35")


def marker_handle(marker: str, colour: str, text: str) -> Line2D:
    """A marker and what it means, for a legend."""
    return Line2D([], [], color=colour, marker=marker, ls="none", markersize=4.5, label=text)


def method_handles(rows: DataFrame, styles: dict[str, Look]) -> list[Any]:
    """One a look: methods in panels of their own share it with others of their optimizer."""
    counts = Counter(styles[name] for name in rows.loc[rows["value"].notna(), "method"])
    return [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=4, label=f"{look.name} (n = {n})")
        for look, n in sorted(counts.items(), key=lambda item: item[0].name)
    ]


def log_ticks(axes: Axes, values: Any, digits: int = 3) -> None:
    """A logarithmic axis whose ticks are the values themselves while they are few, else 1, 2 and 5 of each decade."""
    axes.set_xscale("log")
    few = sorted(set(values))
    apart = np.diff(np.log(few)).min(initial=np.inf) * _MOST_TICKS * 1.5 >= np.log(few[-1] / few[0])
    if len(few) <= _MOST_TICKS and apart:
        axes.set_xticks(few, brief(few, digits))
        axes.set_xticks([], minor=True)
    elif few[-1] / few[0] < _MOST_DECADES:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value, 3)))
        axes.xaxis.set_minor_formatter(NullFormatter())
