"""How each figure looks: a frame of `analysis.plotted` -> a matplotlib Figure. Percent in pictures."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.cells import several
from analysis.frames.names import bounds, brief, label, named, of_spread, scale, short
from analysis.styles import Look, crowded, looks
from trainers.fields import plural

_MARKERS = "osD^vP*X"

#: What a curve or a surface has one value of, besides model and method.
_CURVE = ("batch_size",)

#: Up to so many values of an axis, if none are too near each other for their names, are its ticks.
_MOST_TICKS = 8

#: Characters of a line in a panel's legend.
_LEGEND_WIDTH = 80

#: Over more than this factor the powers of ten are ticks enough.
_MOST_DECADES = 500


def accuracy_lr(rows: DataFrame, metric: str) -> Figure:
    """Accuracy against the learning rate: a line and band a method, a point a trial, a cross a diverged one.

    Args:
        rows: of `analysis.plotted.accuracy_by_lr`.
        metric: their metric, for the label.
    """
    batches, styles = sorted(rows["batch_size"].unique()), looks(rows["method"])
    figure, grid, panels = _panels(rows, ["model.name"], ["batch_size"])
    for axes, part in panels:
        batch = part["batch_size"].iloc[0]
        shown = "all batch sizes" if batch == "all" else f"batch {batch}"
        _title(axes, _panel_name(rows, part, shown if len(batches) > 1 or not crowded(rows["method"]) else ""), part)
        for name, curve in part.groupby("method", sort=True):
            _lr_curve(axes, curve, styles[str(name)], scale(metric))
        _log_ticks(axes, rows["optimizer.lr"])
    _outer_labels(grid, label("optimizer.lr"), label(metric))
    band = of_spread(
        "band: its 95 % t interval, variance pooled over a curve, cut at 0 and 100",
        rows.loc[rows["mean"].notna(), "low"].notna(),
        "no band where each learning rate has one trial",
    )
    note = f"line: mean over seeds and axes not shown\n{band}"
    _legend(figure, _method_handles(rows, styles), note, diverged=bool((rows["outcome"] == "diverged").any()))
    return figure


def accuracy_ratio(rows: DataFrame, lines: DataFrame, metric: str) -> Figure:
    """Accuracy against lr / batch size, a marker a batch size, with each method's line and its band.

    Args:
        rows: of `analysis.plotted.accuracy_by_ratio`.
        lines: of `analysis.plotted.ratio_lines`.
        metric: their metric, for the label.
    """
    batches, styles = sorted(rows["batch_size"].unique()), looks(rows["method"])
    size = {"width": 4.2, "height": 3.4} if crowded(rows["method"]) else {"width": 5.2, "height": 4.0}
    figure, grid, panels = _panels(rows, [], ["model.name"], **size)
    for axes, part in panels:
        _title(axes, _panel_name(rows, part), part)
        for (name, batch), points in part.groupby(["method", "batch_size"], sort=True):
            marker = _MARKERS[batches.index(batch) % len(_MARKERS)]
            style: dict[str, Any] = {
                "color": styles[str(name)].colour,
                "alpha": 0.6,
                "markersize": 4.5,
                "markeredgewidth": 0,
            }
            axes.plot(points["lr_batch_ratio"], scale(metric) * points["value"], marker, **style)
        own = (lines["model.name"] == part["model.name"].iloc[0]) & lines["method"].isin(part["method"])
        _ratio_fits(axes, lines[own], styles, scale(metric))
        _log_ticks(axes, rows["lr_batch_ratio"], digits=2)
    low, high = grid[0, 0].get_ylim()
    most = max(part["method"].nunique() for _, part in panels)
    grid[0, 0].set_ylim(low, high + 0.12 * most * (high - low))  # the panels share it: room for their legends
    _outer_labels(grid, label("lr_batch_ratio"), label(metric))
    note = (
        "line: least squares on the logarithm, 95 % band; r, ρ: Pearson, Spearman with the ratio,\n95 % interval: "
        "they describe these trials, and are no tests over seeds;\nratio: as `sweep claims` answers; p (Holm): over "
        "all of its lines together, which decides"
    )
    few = batches if len(batches) <= len(_MARKERS) else []
    if lines["low"].isna().all():
        note = note.replace(", 95 % band", ", no band of fewer than three trials")
    _legend(figure, [_marker(_MARKERS[i], "0.35", f"batch {batch}") for i, batch in enumerate(few)], note)
    return figure


def heat_map(rows: DataFrame, x: str, y: str, metric: str, *, equal_ratio: bool) -> Figure:
    """The surface of a metric, a panel a method: mean and n in each cell, diverged trials hatched.

    Args:
        rows: of `analysis.plotted.grid` or `deat_grid`.
        x: the column along the picture.
        y: the column up the picture.
        metric: their metric, for the label.
        equal_ratio: draw the lines of equal x / y through the cells.
    """
    size = {"width": 1.3 + 0.62 * rows[x].nunique(), "height": max(2.4, 1.2 + 0.5 * rows[y].nunique())}
    figure, grid, panels = _panels(rows, ["model.name"], ["method"], **size)
    columns, lines = sorted(rows[x].unique()), sorted(rows[y].unique())  # of all panels: they share their axes
    values = scale(metric) * rows["mean"]
    norm = Normalize(values.min(), values.max())
    for axes, part in panels:
        _title(axes, _panel_name(rows, part, str(part["method"].iloc[0])), part)
        _cells(axes, part, x, y, columns, lines, scale(metric), norm)
        if equal_ratio:
            _equal_ratio(axes, rows[x].unique(), rows[y].unique())
    _outer_labels(grid, label(x), label(y))
    bar = figure.colorbar(mpl.cm.ScalarMappable(norm, "viridis"), ax=grid, shrink=0.9, pad=0.02)
    bar.set_label(label(metric))
    handles: list[Any] = (
        [Line2D([], [], color="0.3", ls="--", lw=0.9, label="equal learning rate / batch size")] if equal_ratio else []
    )
    if rows["diverged"].any():
        handles.append(Patch(facecolor="white", edgecolor="0.3", hatch="////", label="diverged trials"))
    _legend(figure, handles, "in a cell: mean over its n completed trials (seeds and axes not shown)")
    return figure


def accuracy_epoch(rows: DataFrame) -> Figure:
    """Robust accuracy against the epoch in each method's best cell: train dashed, test solid.

    Args:
        rows: of `analysis.plotted.accuracy_by_epoch`.
    """
    styles = looks(rows["method"])
    size = {"width": 4.2, "height": 3.2} if crowded(rows["method"]) else {"width": 5.2, "height": 3.8}
    figure, grid, panels = _panels(rows, [], ["model.name"], **size)
    for axes, part in panels:
        _title(axes, _panel_name(rows, part), part)
        for (name, split), curve in part.groupby(["method", "split"], sort=True):
            _epoch_curve(axes, curve, styles[str(name)].colour, str(split))
        axes.locator_params(axis="x", integer=True)
        if not several(part["epoch"]):
            axes.set_xticks(part["epoch"].unique())
        axes.legend(handles=_epoch_handles(part, styles), loc="lower right", fontsize=8)
    _outer_labels(grid, label("epoch"), "robust accuracy (%)")
    band = of_spread("band: least to most over seeds", rows["n"] > 1, "no band of one seed")
    _legend(figure, [], f"cell of the highest mean validation robust accuracy; {band}")
    return figure


def curves(rows: DataFrame) -> int:
    """How many curves or surfaces a figure of these rows would hold."""
    keys = [key for key in ("model.name", "method", *_CURVE) if key in rows]
    return len(rows[keys].drop_duplicates())


def _panels(
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
    figure, grid = _grid(len(values[0]), len(values[1]), width, height)
    places = [(values[0].index(a), values[1].index(b)) for a, b in zip(*keys, strict=True)]
    panels = [(grid[place], rows[[p == place for p in places]]) for place in sorted(set(places))]
    for place in set(np.ndindex(grid.shape)) - set(places):
        cast(Axes, grid[place]).set_visible(False)
    return figure, grid, panels


def _grid(rows: int, columns: int, width: float, height: float) -> tuple[Figure, NDArray[Any]]:
    figure = Figure(figsize=(max(columns * width, 4.8) + 0.4, rows * height + 0.7), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)


def _panel_name(rows: DataFrame, part: DataFrame, rest: str = "") -> str:
    """The model where there are several or nothing else to say, the family where each has its panel, the rest."""
    first = part.iloc[0]
    spread = crowded(rows["method"]) and rest != first["method"]
    family = named(first["method"]).family if spread else ""
    model = first["model.name"] if several(rows["model.name"]) or not (family or rest) else ""
    return ", ".join(filter(None, [model, family, rest]))


def _title(axes: Axes, name: str, part: DataFrame) -> None:
    """With n, the trials behind the panel."""
    if "epoch" in part:
        n = int(part.groupby("method")["n"].max().sum())
    else:
        n = int(part["n"].sum()) if "diverged" in part else int(part["value"].notna().sum())
    axes.set_title(f"{name} (n = {plural(n, 'trial')})")


def _outer_labels(grid: NDArray[Any], x: str, y: str) -> None:
    for axes in grid[-1]:
        axes.set_xlabel(x)
    for axes in grid[:, 0]:
        axes.set_ylabel(y)


def _legend(figure: Figure, handles: list[Any], note: str, *, diverged: bool = False) -> None:
    """One legend under all panels, with the note on what line and band mean as its title."""
    if diverged:
        handles = [*handles, _marker("x", "0.3", "diverged trial (at the foot)")]
    columns = max(1, min(len(handles), 6))
    legend = figure.legend(handles=handles, loc="outside lower center", ncols=columns, title=note, fontsize=8)
    legend.get_title().set_fontsize(7.5)
    legend.get_title().set_color("0.35")


def _marker(marker: str, colour: str, text: str) -> Line2D:
    return Line2D([], [], color=colour, marker=marker, ls="none", markersize=4.5, label=text)


def _method_handles(rows: DataFrame, styles: dict[str, Look]) -> list[Any]:
    """One a look: methods in panels of their own share it with others of their optimizer."""
    counts = Counter(styles[name] for name in rows.loc[rows["value"].notna(), "method"])
    return [
        Line2D([], [], color=look.colour, marker=look.marker, markersize=4, label=f"{look.name} (n = {n})")
        for look, n in sorted(counts.items(), key=lambda item: item[0].name)
    ]


def _lr_curve(axes: Axes, curve: DataFrame, look: Look, factor: float) -> None:
    colour = look.colour
    means = curve.drop_duplicates("optimizer.lr").dropna(subset=["mean"])
    axes.plot(means["optimizer.lr"], factor * means["mean"], color=colour, lw=1.5)
    band = means.dropna(subset=["low"])
    axes.fill_between(band["optimizer.lr"], factor * band["low"], factor * band["high"], color=colour, alpha=0.18, lw=0)
    axes.plot(
        curve["optimizer.lr"], factor * curve["value"], look.marker, color=colour, alpha=0.45, markersize=3, mew=0
    )
    lost = curve.loc[curve["outcome"] == "diverged", "optimizer.lr"]
    if len(lost):  # an empty line would have no extent, and the layout no solution
        foot = axes.get_xaxis_transform()
        axes.plot(lost, np.full(len(lost), 0.04), "x", color=colour, transform=foot, markersize=5)


def _ratio_fits(axes: Axes, lines: DataFrame, styles: dict[str, Look], factor: float) -> None:
    for name, part in lines.groupby("method", sort=True):
        first, (colour, _, shown) = part.iloc[0], styles[str(name)]
        x = part["lr_batch_ratio"]
        texts = [
            f"{symbol} n/a"
            if np.isnan(first[r])
            else f"{symbol} = {first[r]:.2f} {bounds(first[r + '_low'], first[r + '_high'])}"
            for symbol, r in (("r", "pearson"), ("ρ", "spearman"))
        ]
        said = textwrap.fill(first["ratio_claim"] and f"ratio: {first['ratio_claim']}", _LEGEND_WIDTH)
        text = "\n".join(filter(None, [f"{shown} (n = {plural(first['n'], 'trial')}): {', '.join(texts)}", said]))
        axes.plot(x, factor * part["fit"], color=colour, lw=1.5, label=text)
        axes.fill_between(x, factor * part["low"], factor * part["high"], color=colour, alpha=0.18, lw=0)
    if len(lines):
        axes.legend(loc="upper left", fontsize=7.5)


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


def _epoch_curve(axes: Axes, curve: DataFrame, colour: str, split: str) -> None:
    style = "--" if split == "train" else "-"
    marker = "o" if len(curve) == 1 else None
    axes.plot(curve["epoch"], 100 * curve["mean"], style, color=colour, lw=1.4, marker=marker)
    axes.fill_between(curve["epoch"], 100 * curve["low"], 100 * curve["high"], color=colour, alpha=0.18, lw=0)


def _epoch_handles(part: DataFrame, styles: dict[str, Look]) -> list[Line2D]:
    handles = []
    for name, curve in part.groupby("method", sort=True):
        first = curve.iloc[0]
        where = f"lr {brief([first['optimizer.lr']])[0]}, batch {first['batch_size']}, n = {curve['n'].max()}"
        handles.append(Line2D([], [], color=styles[str(name)].colour, label=f"{styles[str(name)].name}: {where}"))
    kinds = [Line2D([], [], color="0.35", ls=style, label=name) for name, style in (("train", "--"), ("test", "-"))]
    return [*handles, *kinds]


def _log_ticks(axes: Axes, values: Any, digits: int = 3) -> None:
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
