"""How the dynamics' figures look: a frame of `analysis.dynamics_plotted` -> a matplotlib Figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from analysis.dynamics_plotted import QUANTITIES
from analysis.frames.names import of_spread, short
from analysis.styles import looks
from trainers.fields import plural

#: Colours of the two kinds of direction, and the dash of the reference that they are held against.
_KINDS = {"eigenvector": ("#0072B2", "o"), "random": ("#E69F00", "s")}
_REFERENCE: dict[str, Any] = {"color": "0.35", "ls": "--", "lw": 1.1}

#: A panel row of a figure over epochs, in quantities.
_ACROSS = 3

#: These span decades, and are never negative.
_LOGARITHMIC = ("noise_trace", "posterior_trace")


def around_decay(rows: DataFrame, decays: DataFrame) -> Figure:
    """Six quantities against the epoch, a colour a method; two rows of panels a model.

    Args:
        rows: of `analysis.dynamics_plotted.around_decay`.
        decays: of `analysis.dynamics_plotted.decays`.
    """
    models, styles = sorted(rows["model.name"].unique()), looks(rows["method"])
    deep = -(-len(QUANTITIES) // _ACROSS)
    figure = Figure(figsize=(3.7 * _ACROSS, 2.7 * deep * len(models) + 0.9), layout="constrained")
    grid = figure.subplots(deep * len(models), _ACROSS, squeeze=False, sharex=True)
    for place, (model, quantity) in enumerate((model, name) for model in models for name in QUANTITIES):
        axes: Axes = grid[divmod(place, _ACROSS)]
        part = rows[(rows["model.name"] == model) & (rows["quantity"] == quantity)]
        for (method, split), curve in part.groupby(["method", "split"], sort=True):
            _curve(axes, curve, styles[str(method)].colour, str(split), 100 if quantity == "robust" else 1)
        for epoch in decays.loc[decays["model.name"] == model, "epoch"].unique():
            axes.axvline(epoch, color="0.6", lw=0.9, ls=":")
        if quantity in _LOGARITHMIC and part["mean"].notna().any():
            axes.set_yscale("log")
        axes.set_title(QUANTITIES[quantity] if len(models) == 1 else f"{model}: {QUANTITIES[quantity]}")
        axes.locator_params(axis="x", integer=True)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    trials = rows.groupby("method")["n"].max()
    handles = [
        Line2D([], [], color=styles[m].colour, label=f"{styles[m].name} (n = {trials[m]})") for m in trials.index
    ]
    handles += [Line2D([], [], color="0.35", ls=style, label=name) for name, style in (("train", "--"), ("test", "-"))]
    handles.append(Line2D([], [], color="0.6", ls=":", label="learning-rate decay"))
    band = of_spread("band: least to most", rows["n"] > 1, "no band of one seed")
    note = (
        f"mean over n seeds, {band}; a gap: no stationary posterior at this learning rate in some seed\n"
        "train accuracy: running mean over the epoch's batches; bound: of the loss, to compare, not to guarantee"
    )
    _legend(figure, handles, note)
    return figure


def kurtosis_by_batch(rows: DataFrame) -> Figure:
    """Excess kurtosis against the batch size, a panel a network, beside what 1 / batch would give.

    Args:
        rows: of `analysis.dynamics_plotted.kurtosis_by_batch`.
    """
    models = sorted(rows["model.name"].unique())
    figure = Figure(figsize=(max(3.9 * len(models), 6.4), 4.4), layout="constrained")
    grid = figure.subplots(1, len(models), squeeze=False, sharey=True)[0]
    for axes, model in zip(grid, models, strict=True):
        part = rows[rows["model.name"] == model]
        axes.axhline(0, color="0.35", lw=0.9)
        for kind, points in part.groupby("kind", sort=True):
            colour, marker = _KINDS[str(kind)]
            below, above = points["mean"] - points["low"], points["high"] - points["mean"]
            axes.errorbar(
                points["batch_size"],
                points["mean"],
                [below, above],
                color=colour,
                marker=marker,
                ms=4,
                lw=1.3,
                capsize=3,
            )
            first = points.iloc[0]
            smooth = np.geomspace(first["batch_size"], points["batch_size"].max(), 50)
            axes.plot(
                smooth, first["mean"] * first["batch_size"] / smooth, **{**_REFERENCE, "color": colour, "alpha": 0.5}
            )
        axes.set_xscale("log")
        sizes = sorted(part["batch_size"].unique())
        axes.set_xticks(sizes, [short(size) for size in sizes])
        axes.set_xticks([], minor=True)
        n, estimates = part["n"].max(), part["estimates"].sum()
        axes.set_title(f"{model} (n = {plural(n, 'trial')}, {plural(estimates, 'estimate')})")
        axes.set_xlabel("batch size")
    grid[0].set_ylabel("excess kurtosis (Gaussian: 0)")
    handles = [Line2D([], [], color=c, marker=m, ms=4, label=f"{_plural(k)}") for k, (c, m) in _KINDS.items()]
    handles.append(Line2D([], [], **_REFERENCE, label="1 / batch from the smallest batch"))
    batches, share = short(rows["batches"].min()), 100 * rows["share"].max()
    bars = of_spread("bars: 95 % t interval over trials", rows["low"].notna(), "no bar of one trial")
    note = (
        f"mini-batch gradients projected, {batches} batches an estimate; {bars}\n"
        f"the largest batch holds {share:.0f} % of the images, without replacement: from about 20 % on that alone "
        "lowers the kurtosis"
    )
    _legend(figure, handles, note)
    return figure


def against_quadratic(rows: DataFrame) -> Figure:
    """Above the loss beside its quadratic, below their relative difference; a column a network and kind of direction.

    Args:
        rows: of `analysis.dynamics_plotted.against_quadratic`.
    """
    columns = list(dict.fromkeys(zip(rows["model.name"], rows["kind"], strict=True)))
    styles = looks(rows["method"])
    figure = Figure(figsize=(max(3.9 * len(columns), 6.4), 6.2), layout="constrained")
    grid = figure.subplots(2, len(columns), squeeze=False, sharex=True)
    for (model, kind), (above, below) in zip(columns, grid.T, strict=True):
        part = rows[(rows["model.name"] == model) & (rows["kind"] == kind)]
        for method, curve in part.groupby("method", sort=True):
            colour = styles[str(method)].colour
            for axes, name, low, high in (
                (above, "median", "low", "high"),
                (below, "deviation", "deviation_low", "deviation_high"),
            ):
                factor = 100 if axes is below else 1
                axes.plot(curve["multiple"], factor * curve[name], color=colour, lw=1.4, marker="o", ms=3)
                axes.fill_between(
                    curve["multiple"], factor * curve[low], factor * curve[high], color=colour, alpha=0.15, lw=0
                )
        x = np.linspace(part["multiple"].min(), part["multiple"].max(), 101)
        above.plot(x, x**2, **_REFERENCE, zorder=3)
        below.axhline(0, **_REFERENCE)
        count, n = part.groupby("method")["lines"].max().sum(), part.groupby("method")["n"].max().sum()
        above.set_title(f"{model}: {_plural(kind)}\n({plural(count, 'line')} of n = {plural(n, 'trial')})")
        below.set_xlabel("distance / the noise's own scale")
    grid[0, 0].set_ylabel("loss above its tangent / $(h s^2 / 2)$")
    grid[1, 0].set_ylabel("deviation from the quadratic (%)")
    handles: list[Any] = [
        Line2D([], [], color=look.colour, label=look.name) for look in styles.values() if _in(rows, look)
    ]
    handles.append(Line2D([], [], **_REFERENCE, label="quadratic of the measured Hessian"))
    note = (
        "median over lines, band: their middle 80 %\n"
        "scale: the noise's stationary standard deviation as lr h → 0, $s = \\sqrt{lr\\,c / (2 (1 - \\mu) h)}$"
    )
    _legend(figure, handles, note)
    return figure


def _in(rows: DataFrame, look: Any) -> bool:
    return look.name in set(rows["method"])


def _plural(kind: str) -> str:
    return {"eigenvector": "top eigenvectors", "random": "random directions"}[kind]


def _curve(axes: Axes, curve: DataFrame, colour: str, split: str, factor: float) -> None:
    style = "--" if split == "train" else "-"
    marker = "" if split else "o"
    axes.plot(curve["epoch"], factor * curve["mean"], style, color=colour, lw=1.4, marker=marker, ms=3)
    axes.fill_between(curve["epoch"], factor * curve["low"], factor * curve["high"], color=colour, alpha=0.15, lw=0)


def _legend(figure: Figure, handles: list[Any], note: str) -> None:
    legend = figure.legend(
        handles=handles, loc="outside lower center", ncols=min(len(handles), 6), title=note, fontsize=8
    )
    legend.get_title().set_fontsize(7.5)
    legend.get_title().set_color("0.35")
