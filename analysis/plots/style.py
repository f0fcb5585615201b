"""What all figures share: how methods are told apart, panels, bands, ticks and the legend."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.cells import GROUP, several
from analysis.frames.names import brief, named, short, word
from analysis.frames.recipes import bare
from trainers.fields import plural
from trainers.visible import visible

_FORMULAS = MathTextParser("path")

#: Of every picture, for matplotlib.
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

#: Okabe and Ito's colours, told apart by colour-blind readers. PGD-AT's and DEAT's stand for SGD and DEAT too.
_SGD, _DEAT = "#0072B2", "#D55E00"
_OTHERS = (("#009E73", "s"), ("#CC79A7", "^"), ("#E69F00", "D"), ("#56B4E9", "v"))

#: Up to so many methods share a panel.
MOST_TOGETHER = 4

#: Up to so many values of an axis, if none are too near each other for their names, are its ticks.
_MOST_TICKS = 8

#: Over more than this factor the powers of ten are ticks enough.
_MOST_DECADES = 500

#: What a curve or a surface has one value of.
_CURVE = (*GROUP, "batch_size")


def legible(figure: Figure) -> None:
    """Makes all texts of a figure ones that can be drawn: a name from records can hold anything.

    Control characters become their escapes; what is no formula of matplotlib's is no formula.
    """
    for text in figure.findobj(Text):
        text.set_text(visible(text.get_text()))
        try:
            for line in text.get_text().split("\n") if "$" in text.get_text() else ():
                _FORMULAS.parse(line)
        except ValueError:
            text.set_parse_math(False)


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
    optimizers = {name: named(bare(name)).optimizer for name in known}
    if crowded(known):
        colours = {"deat": _DEAT, "adamw": _OTHERS[0][0]}
        return {name: Look(colours.get(opt, _SGD), "o", word(opt)) for name, opt in optimizers.items()}
    fixed = {"PGD-AT": Look(_SGD, "o", "PGD-AT"), "DEAT": Look(_DEAT, "o", "DEAT")}
    others = zip((name for name in known if name not in fixed), _OTHERS, strict=False)
    return fixed | {name: Look(colour, marker, name) for name, (colour, marker) in others}


def curves(rows: DataFrame) -> int:
    """How many curves or surfaces a figure of these rows would hold."""
    return len(rows[[key for key in _CURVE if key in rows]].drop_duplicates())


#: Panels of recipes side by side.
_COLUMNS = 4


def panels(
    rows: DataFrame, down: list[str], across: list[str], width: float = 2.9, height: float = 2.7
) -> tuple[Figure, NDArray[Any], list[tuple[Axes, DataFrame]]]:
    """The figure, its grid, and each panel with its rows: one for each value of the columns `down` and `across`.

    Too many methods for one panel are spread: down the objectives of each model, across what is done to them; recipes
    have a panel each.
    """
    slots = [named(bare(str(method))) for method in rows["method"]]
    rows = rows.assign(_objective=[s.objective for s in slots], _modified=[s.modification for s in slots])
    names = sorted(set(rows["method"].astype(str)))
    if crowded(names) and any(bare(name) != name for name in names):  # a panel a recipe
        tiles = [divmod(names.index(name), _COLUMNS) for name in rows["method"].astype(str)]
        rows = rows.assign(_row=[row for row, _ in tiles], _column=[column for _, column in tiles])
        down, across = ["model.name", "_row"], ["_column"]
    elif crowded(rows["method"]) and "method" not in across:
        others = [key for key in (*down, *across) if key != "model.name"]
        down, across = ["model.name", *others, "_objective"], ["_modified"]
    elif crowded(rows["method"]):
        rows = rows.assign(_modified=[f"{s.modification} {s.optimizer}" for s in slots])
        down, across = ["model.name", "_objective"], ["_modified"]
    keys = [list(zip(*(rows[key] for key in side), strict=True)) or [()] * len(rows) for side in (down, across)]
    values = [sorted(set(side)) for side in keys]
    size = (max(len(values[1]) * width, 4.8) + 0.4, len(values[0]) * height + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(*map(len, values), squeeze=False, sharex=True, sharey=True)
    places = [(values[0].index(a), values[1].index(b)) for a, b in zip(*keys, strict=True)]
    for place in set(np.ndindex(grid.shape)) - set(places):
        cast(Axes, grid[place]).set_visible(False)
    return figure, grid, [(grid[place], rows[[p == place for p in places]]) for place in sorted(set(places))]


def titled(axes: Axes, rows: DataFrame, part: DataFrame, rest: str = "") -> None:
    """A panel's title, with n, the trials behind it.

    It names the model where there are several or nothing else to say, the family where each has its panel, the rest.

    Args:
        axes: the panel.
        rows: of the figure.
        part: those of the panel.
        rest: what else tells it from others.
    """
    first = part.iloc[0]
    spread = crowded(rows["method"]) and rest != first["method"]
    plain = bare(str(first["method"]))
    family = (named(plain).family if plain == first["method"] else str(first["method"])) if spread else ""
    model = first["model.name"] if several(rows["model.name"]) or not (family or rest) else ""
    if "epoch" in part:
        n = int(part.groupby("method")["n"].max().sum())
    else:
        n = int(part["n"].sum()) if "diverged" in part else int(part["value"].notna().sum())
    axes.set_title(f"{', '.join(filter(None, [model, family, rest]))} (n = {plural(n, 'trial')})")


def outer_labels(grid: NDArray[Any], x: str, y: str) -> None:
    """Names the axes at the left and the lower edge of the grid."""
    for axes in grid[-1]:
        axes.set_xlabel(x)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


#: Letters of a note an inch, at its size.
_LETTERS = 18


def legend(figure: Figure, handles: Sequence[Any], note: str, *, columns: int = 6, centred: bool = False) -> Legend:
    """One legend under all panels, what lines and bands mean as its title.

    Args:
        figure: whose legend it is.
        handles: what it explains.
        note: lines of text.
        columns: at most.
        centred: whether the lines of the note are.
    """
    ncols = max(1, min(len(handles), columns))
    room = int(_LETTERS * figure.get_figwidth())
    note = "\n".join(textwrap.fill(line, room) for line in note.splitlines())
    one = figure.legend(handles=handles, loc="outside lower center", ncols=ncols, title=note or None, fontsize=8)
    one.get_title().set(fontsize=7.5, color="0.35", multialignment="center" if centred else "left")
    return one


def noted(figure: Figure, note: str) -> None:
    """Adds lines to the note under a figure.

    Args:
        figure: with or without a `legend`.
        note: what to add.
    """
    if not figure.legends:
        legend(figure, [], note)
        return
    title = figure.legends[-1].get_title()
    lines = textwrap.fill(note, int(_LETTERS * figure.get_figwidth()))
    title.set_text("\n".join(filter(None, [title.get_text(), lines])))


def marker(shape: str, colour: str, text: str, size: float = 4.5) -> Line2D:
    """A legend's entry of a marker alone."""
    return Line2D([], [], color=colour, marker=shape, ls="none", markersize=size, label=text)


def splits() -> list[Line2D]:
    """A legend's entries of train and test, which `dash` draws."""
    return [Line2D([], [], color="0.35", ls=dash(name), label=name) for name in ("train", "test")]


def dash(split: str) -> str:
    """How a split's curve is drawn: train dashed."""
    return "--" if split == "train" else "-"


def banded(
    axes: Axes,
    curve: DataFrame,
    x: str,
    colour: str,
    *,
    names: tuple[str, str, str] = ("mean", "low", "high"),
    factor: float = 1.0,
    alpha: float = 0.18,
    **style: Any,
) -> None:
    """A line with its band.

    Args:
        axes: to draw on.
        curve: a row a point.
        x: the column along the picture.
        colour: of line and band.
        names: the columns of the line, and of the band's lower and upper edge.
        factor: by which they are shown, such as 100 for percent.
        alpha: of the band.
        style: of the line.
    """
    line, low, high = (factor * curve[name] for name in names)
    axes.plot(curve[x], line, color=colour, **style)
    axes.fill_between(curve[x], low, high, color=colour, alpha=alpha, lw=0)


def means_by_lr(axes: Axes, curve: DataFrame, colour: str, factor: float, **style: Any) -> None:
    """The means of `accuracy_lr.accuracy_by_lr` with their band, and crosses at the foot where trials diverged."""
    means = curve.drop_duplicates("optimizer.lr").dropna(subset=["mean"])
    banded(axes, means, "optimizer.lr", colour, factor=factor, **style)
    lost = curve.loc[curve["outcome"] == "diverged", "optimizer.lr"]
    if len(lost):  # an empty line would have no extent, and the layout no solution
        foot = axes.get_xaxis_transform()
        axes.plot(lost, np.full(len(lost), 0.04), "x", color=colour, transform=foot, markersize=5)


def diverged_handles(rows: DataFrame) -> list[Line2D]:
    """A legend's entry of the crosses of `means_by_lr`, where there are any."""
    lost = (rows["outcome"] == "diverged").any()
    return [marker("x", "0.3", "diverged trial (at the foot)")] if lost else []


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
