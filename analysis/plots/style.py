"""What all figures share: how methods are told apart and ordered, panels, bands, the legend and the caption."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, SubplotSpec
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.cells import GROUP, several
from analysis.frames.names import named, word
from analysis.frames.recipes import bare
from analysis.plots.page import FONT_SIZE, PAGE, Page, make_legible
from trainers.fields import plural

#: Of every picture, for matplotlib; sizes of letters go with `font.size`. Fonts are embedded as TrueType, which
#: publishers take: matplotlib's usual Type 3 they do not.
STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": "medium",
    "font.size": FONT_SIZE,
    "grid.alpha": 0.35,
    "grid.linewidth": 0.5,
    "hatch.linewidth": 0.6,
    "legend.fontsize": "small",
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "robustsweep",  # the same bytes each time
}

#: Okabe and Ito's colours, told apart by colour-blind readers. PGD-AT's and DEAT's stand for SGD and DEAT too.
_SGD, _DEAT = "#0072B2", "#D55E00"
_OTHERS = (("#009E73", "s"), ("#CC79A7", "^"), ("#E69F00", "D"), ("#56B4E9", "v"))

#: Up to so many methods share a panel.
MOST_TOGETHER = 4

#: What a curve or a surface has one value of.
_CURVE = (*GROUP, "batch_size")


class Look(NamedTuple):
    """How one method is drawn."""

    colour: str
    marker: str
    name: str
    """In a legend."""


def crowded(methods: Iterable[str]) -> bool:
    """Whether the methods are too many for one panel: then each family has its own, and colours mean optimizers."""
    return len(set(methods)) > MOST_TOGETHER


#: The objectives as their papers follow each other, and so in every figure; a user's own come last.
_OBJECTIVES = ("natural", "pgd_at", "trades", "mart", "avmixup")
_OPTIMIZERS = ("sgd", "deat", "adamw")


def in_order(methods: Iterable[Any]) -> list[Any]:
    """The methods, each once, in the order of every figure: by objective, what is done to it, and optimizer.

    >>> in_order(["DEAT", "TRADES", "PGD-AT-AWP", "PGD-AT", "natural"])
    ['natural', 'PGD-AT', 'DEAT', 'PGD-AT-AWP', 'TRADES']
    """
    return sorted(set(methods), key=_rank)


def _rank(method: Any) -> tuple[Any, ...]:
    one = named(bare(str(method)))
    objective, optimizer = (
        (known.index(name) if name in known else len(known), name)
        for known, name in ((_OBJECTIVES, one.objective), (_OPTIMIZERS, one.optimizer))
    )
    return objective, one.attack, one.modification, optimizer, str(method)


def looks(methods: Iterable[str]) -> dict[str, Look]:
    """Each method's look, by its name; the same for the same set of methods.

    >>> looks(["TRADES", "PGD-AT"])["TRADES"]
    Look(colour='#009E73', marker='s', name='TRADES')
    """
    known = in_order(methods)
    optimizers = {name: named(bare(name)).optimizer for name in known}
    if crowded(known):
        colours = {"deat": _DEAT, "adamw": _OTHERS[0][0]}
        return {name: Look(colours.get(opt, _SGD), "o", word(opt)) for name, opt in optimizers.items()}
    fixed = {"PGD-AT": Look(_SGD, "o", "PGD-AT"), "DEAT": Look(_DEAT, "o", "DEAT")}
    others = zip(sorted(set(known) - set(fixed)), _OTHERS, strict=False)
    styles = fixed | {name: Look(colour, marker, name) for name, (colour, marker) in others}
    return {name: styles[name] for name in in_order(styles)}


def curves(rows: DataFrame) -> int:
    """How many curves or surfaces a figure of these rows would hold."""
    return len(rows[[key for key in _CURVE if key in rows]].drop_duplicates())


#: Panels of recipes side by side.
_COLUMNS = 4


def panels(
    rows: DataFrame,
    down: list[str],
    across: list[str],
    width: float = 2.9,
    height: float = 2.7,
    page: Page = PAGE,
) -> tuple[Figure, NDArray[Any], list[tuple[Axes, DataFrame]]]:
    """The figure, its grid, and each panel with its rows: one for each value of the columns `down` and `across`.

    Too many methods for one panel are spread: down the objectives of each model, across what is done to them; recipes
    have a panel each. A single row of panels goes on below where the page is too narrow, in rows of as many panels as
    can be; a last one that is not full stands in the middle.
    """
    rows, down, across = _spread(rows, down, across)
    keys = [list(zip(*(rows[key] for key in side), strict=True)) or [()] * len(rows) for side in (down, across)]
    values = [
        sorted(set(side), key=lambda value: tuple(map(_place, names, value)))
        for side, names in zip(keys, (down, across), strict=True)
    ]
    places = [(values[0].index(a), values[1].index(b)) for a, b in zip(*keys, strict=True)]
    shape = (len(values[0]), len(values[1]))
    count = shape[1] if shape[0] == 1 else 0
    if count:
        shape = in_rows(count, width, page)
        places = [divmod(column, shape[1]) for _, column in places]
    figure = Figure(figsize=page.size(shape[1], shape[0], (width, height)), layout="constrained")
    grid = figure.subplots(*shape, squeeze=False, sharex=True, sharey=True)
    for place in set(np.ndindex(grid.shape)) - set(places):
        cast(Axes, grid[place]).set_visible(False)
    centre(figure, grid, count)
    return figure, grid, [(grid[place], rows[[p == place for p in places]]) for place in sorted(set(places))]


def in_rows(count: int, width: float, page: Page) -> tuple[int, int]:
    """How many rows as many panels of that width, in inches, take, and how many a full row has."""
    rows = -(-count // page.across(count, width))
    return rows, -(-count // rows)


def centre(figure: Figure, grid: NDArray[Any], count: int) -> None:
    """Moves the last row's panels to its middle, where the grid has so many panels, and the row is not full."""
    down, across = grid.shape
    if count % across:
        halves = figure.add_gridspec(down, 2 * across)
        for place, axes in enumerate(grid.flat):
            axes.set_subplotspec(middle(halves, place, across, count))


def middle(halves: GridSpec, place: int, across: int, count: int) -> SubplotSpec:
    """Where a panel stands, that those of a last row that is not full stand in its middle.

    Args:
        halves: two columns a panel.
        place: the panel's number, from 0; an empty place has one too.
        across: panels in a full row.
        count: of all panels.
    """
    row, column = divmod(place, across)
    left = min(2 * column + max(0, across - (count - row * across)), 2 * across - 2)
    return halves[row, left : left + 2]


def _place(column: str, value: Any) -> Any:
    """What a panel's value is sorted by."""
    return _rank(value) if column in ("method", "_objective") else value


def _spread(rows: DataFrame, down: list[str], across: list[str]) -> tuple[DataFrame, list[str], list[str]]:
    """The rows with what tells panels apart, and its columns."""
    slots = [named(bare(str(method))) for method in rows["method"]]
    rows = rows.assign(_objective=[word(s.objective) for s in slots], _modified=[s.modification for s in slots])
    names = in_order(rows["method"].astype(str))
    if crowded(names) and any(bare(name) != name for name in names):  # a panel a recipe
        tiles = [divmod(names.index(name), _COLUMNS) for name in rows["method"].astype(str)]
        rows = rows.assign(_row=[row for row, _ in tiles], _column=[column for _, column in tiles])
        return rows, ["model.name", "_row"], ["_column"]
    if not crowded(names):
        return rows, down, across
    if "method" not in across:
        others = [key for key in (*down, *across) if key != "model.name"]
        return rows, ["model.name", *others, "_objective"], ["_modified"]
    rows = rows.assign(_modified=[f"{s.modification} {s.optimizer}" for s in slots])
    return rows, ["model.name", "_objective"], ["_modified"]


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
    """Names the axes at the left and the lower edge of the grid, also where no panel stands straight below."""
    lowest = {axes.get_subplotspec().colspan.start: axes for row in grid for axes in row if axes.get_visible()}
    for axes in lowest.values():
        axes.set_xlabel(x)
        axes.tick_params(axis="x", labelbottom=True)
    for row in grid:
        for axes in [axes for axes in row if axes.get_visible()][:1]:
            axes.set_ylabel(y)
            axes.tick_params(axis="y", labelleft=True)


#: Of a legend: letters an inch, and those that an entry's line and the gap to the next one take.
_LETTERS, _HANDLE = 15, 9


def legend(figure: Figure, handles: Sequence[Any], page: Page = PAGE) -> None:
    """One legend under all panels, in as few lines as there is room for, which are even; none of nothing."""
    if not handles:
        return
    longest = max(len(str(handle.get_label())) for handle in handles) + _HANDLE
    columns = max(1, min(len(handles), int(_LETTERS * figure.get_figwidth() / page.larger / longest)))
    lines = -(-len(handles) // columns)
    figure.legend(handles=handles, loc="outside lower center", ncols=-(-len(handles) // lines))


#: Height of a line of small print, inches.
_LINE = 0.115


def captioned(figure: Figure, caption: str, page: Page = PAGE) -> Legend:
    """Writes its caption under a figure; returns what holds it, the legend."""
    lines = textwrap.fill(caption, page.letters(figure.get_figwidth()), break_on_hyphens=False)
    figure.set_figheight(figure.get_figheight() + _LINE * page.larger * (1 + lines.count("\n")))
    one = figure.legends[-1] if figure.legends else figure.legend(handles=[], loc="outside lower center")
    one.set_title(lines)
    one.get_title().set(fontsize="x-small", color="0.2", multialignment="left")
    make_legible(one.get_title())
    return one


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
    """The means of `accuracy_lr.accuracy_by_lr` with their band."""
    means = curve.drop_duplicates("optimizer.lr").dropna(subset=["mean"])
    banded(axes, means, "optimizer.lr", colour, factor=factor, **style)


def at_the_foot(axes: Axes, places: Any, colour: str) -> None:
    """Crosses where trials diverged."""
    if len(places):  # an empty line would have no extent, and the layout no solution
        foot = axes.get_xaxis_transform()
        axes.plot(places, np.full(len(places), 0.04), "x", color=colour, transform=foot, markersize=5)


def diverged_handles(rows: DataFrame) -> list[Line2D]:
    """A legend's entry of the crosses of `at_the_foot`, where there are any."""
    lost = (rows["outcome"] == "diverged").any()
    return [marker("x", "0.3", "diverged trial (at the foot)")] if lost else []
