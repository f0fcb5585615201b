"""The figures of a run's dynamics: around the learning rate's decay, the noise's kurtosis, the loss along directions.

Each is of the trials in each network's and method's best cell: other cells are other experiments.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, Series

from analysis.estimates.intervals import t_test
from analysis.frames.dynamics import gaussianity, lines
from analysis.frames.names import of_spread, short
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import Look, banded, centre, dash, in_order, in_rows, legend, looks, splits
from analysis.plots.ticks import log_axis, plain_decades, whole_epochs
from trainers.fields import plural

#: What is drawn against the epoch, in the order of its panels, with its name and unit. Accuracies are fractions; the
#: loss is in nats, and w stands for the unit of the weights.
QUANTITIES: dict[str, str] = {
    "robust": "robust accuracy (%)",
    "sharpness": "sharpness $h_1$ (nat / $w^2$)",
    "trace": "trace of the Hessian (nat / $w^2$)",
    "noise_trace": "trace of the gradient noise (nat² / $w^2$)",
    "posterior_trace": "trace of the posterior ($w^2$)",
    "bound": "bound on the loss (nat)",
}

#: A learning rate that changes more often than this is no piecewise one, and its changes are not marked.
_MOST_DECAYS = 4

#: Colours of the two kinds of direction, and the dash of the reference that they are held against.
_KINDS = {"eigenvector": ("#0072B2", "o"), "random": ("#E69F00", "s")}
_PLURAL = {"eigenvector": "top eigenvectors", "random": "random directions"}
_REFERENCE: dict[str, Any] = {"color": "0.35", "ls": "--", "lw": 1.1}

#: Panels of a figure over epochs side by side, and the width and height that suit one.
_ACROSS = 3
_PANEL = (3.7, 2.7)

#: Points of methods at one place stand this share of the way to the next one apart.
_APART = 0.09

#: These span decades, and are never negative.
_LOGARITHMIC = ("noise_trace", "posterior_trace")


def chosen(data: Data) -> DataFrame:
    """The dynamics of the completed trials in each network's and method's best cell."""
    if data.dynamics.empty:
        return data.dynamics
    best = data.dynamics["trial_id"].isin(data.own_best().trials["trial_id"])
    return data.dynamics[best & (data.dynamics["outcome"] == "completed")]


def around_decay(dynamics: DataFrame, epochs: DataFrame) -> DataFrame:
    """Accuracy, curvature, noise and the bound against the epoch.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`, one cell a method.
        epochs: of `analysis.frames.trials`.

    Returns:
        One row a model, method, quantity (`QUANTITIES`; of robust one for each split, train and test) and epoch: mean,
        low and high, the least and most over the n trials. NaN where a trial has no such number: the posterior's
        trace does not exist where the learning rate is beyond the quadratic's limit. Empty where nothing was measured.
    """
    if dynamics.empty:
        return DataFrame()
    keys = ["model.name", "method", "quantity", "split", "epoch"]
    rows = epochs[epochs["trial_id"].isin(dynamics["trial_id"])]
    parts = [
        rows.assign(quantity="robust", split=split, value=rows[f"{split}_robust"]).dropna(subset=["value"])
        for split in ("train", "test")
    ]
    others = [name for name in QUANTITIES if name != "robust"]
    parts += [dynamics.assign(quantity=name, split="", value=dynamics[name]) for name in others]
    grouped = pd.concat([part[[*keys, "value"]] for part in parts]).groupby(keys, sort=False)["value"]
    spread = grouped.agg(mean="mean", low="min", high="max", n="size", known="count").reset_index()
    spread.loc[spread.pop("known") < spread["n"], ["mean", "low", "high"]] = np.nan
    return spread


def decays(dynamics: DataFrame, epochs: DataFrame) -> DataFrame:
    """Where the learning rate changed in trials whose dynamics were measured: model.name, method and the last epoch
    before; nothing for a learning rate that keeps changing."""
    rows = epochs[epochs["trial_id"].isin(set(dynamics.get("trial_id", [])))].sort_values(["trial_id", "epoch"])
    before = rows.groupby("trial_id")["lr"].shift()
    changed = rows[before.notna() & ~np.isclose(rows["lr"], before)]
    often = changed.groupby("trial_id")["epoch"].transform("size") > _MOST_DECAYS
    last = changed.loc[~often, ["model.name", "method", "epoch"]]
    return last.assign(epoch=last["epoch"] - 1).drop_duplicates().reset_index(drop=True)


def draw_around_decay(rows: DataFrame, changes: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws rows of `around_decay` with `decays`, a panel a quantity, a colour a method; the metric is not read."""
    models, styles, methods = sorted(rows["model.name"].unique()), looks(rows["method"]), in_order(rows["method"])
    across = page.across(_ACROSS, _PANEL[0])
    deep = -(-len(QUANTITIES) // across)
    figure = Figure(figsize=page.size(across, deep * len(models), _PANEL, 0.9), layout="constrained")
    grid = figure.subplots(deep * len(models), across, squeeze=False, sharex=True)
    for place, (model, quantity) in enumerate((model, name) for model in models for name in QUANTITIES):
        axes: Axes = grid[divmod(place, across)]
        part = rows[(rows["model.name"] == model) & (rows["quantity"] == quantity)]
        for epoch in changes.loc[changes["model.name"] == model, "epoch"].unique():
            axes.axvline(epoch, color="0.6", lw=0.9, ls=":")
        for method in methods:
            own = part[part["method"] == method]
            if quantity == "robust":
                _accuracies(axes, own, styles[method].colour)
            else:
                _measured(axes, own, "epoch", styles[method], _shift(own["epoch"], methods.index(method), len(methods)))
        if quantity in _LOGARITHMIC and part["mean"].notna().any():
            axes.set_yscale("log")
            plain_decades(axes.yaxis)
        axes.set_title(QUANTITIES[quantity] if len(models) == 1 else f"{model}: {QUANTITIES[quantity]}")
        whole_epochs(axes)
    for axes in grid[-1]:
        axes.set_xlabel("epoch")
    trials = rows.groupby("method")["n"].max()
    handles = [
        Line2D(
            [], [], color=styles[m].colour, marker=styles[m].marker, ms=3, label=f"{styles[m].name} (n = {trials[m]})"
        )
        for m in methods
    ]
    decay = [Line2D([], [], color="0.6", ls=":", label="learning-rate decay")] if len(changes) else []
    legend(figure, [*handles, *splits(), *decay], page)
    return figure


def _accuracies(axes: Axes, rows: DataFrame, colour: str) -> None:
    for split, curve in rows.groupby("split", sort=True):
        banded(axes, curve, "epoch", colour, factor=100, alpha=0.12, ls=dash(str(split)), lw=1.4)


def _shift(places: Series[Any], rank: int, of: int) -> float:
    """How far a method's points stand from the places of all."""
    gap = float(np.diff(np.unique(places.to_numpy(dtype=np.float64))).min(initial=np.inf))
    return _APART * (rank - (of - 1) / 2) * gap if np.isfinite(gap) else 0.0


def _measured(
    axes: Axes,
    curve: DataFrame,
    x: str,
    look: Look,
    shift: float,
    *,
    names: tuple[str, str, str] = ("mean", "low", "high"),
    factor: float = 1.0,
) -> None:
    """Points with bars, for bands of several methods would lie over each other; dotted where points are missing."""
    known = curve.dropna(subset=[names[0]])
    value, low, high = (factor * known[name].to_numpy(dtype=np.float64) for name in names)
    at = known[x] + shift
    axes.plot(at, value, color=look.colour, ls=":", lw=0.9)
    axes.plot(curve[x] + shift, factor * curve[names[0]], color=look.colour, lw=1.3)
    style: dict[str, Any] = {"color": look.colour, "marker": look.marker, "ms": 3, "elinewidth": 0.8, "ls": "none"}
    if len(known):
        axes.errorbar(at, value, np.maximum([value - low, high - value], 0), **style)


def caption_of_decay(rows: DataFrame, changes: DataFrame, metric: str) -> str:
    """What is drawn."""
    measured_rows = rows[rows["quantity"] != "robust"]
    bars = of_spread("bars, of accuracy a band: minimum to maximum over seeds", rows["n"] > 1, "no bar of one seed")
    gaps = measured_rows["mean"].isna().any()
    return (
        "Robust accuracy on train and test images, sharpness, traces and bound by epoch, each method at the setting "
        f"that is best for it on validation images. Line: mean over n seeds; {bars}; measurements of one epoch stand "
        "beside each other. Train accuracy is a running mean over the epoch's batches; the bound is of the loss, to "
        "compare and not to guarantee."
        + " Dotted curve: over epochs at which some seed has no stationary posterior at its learning rate." * bool(gaps)
        + " Dotted upright line: the learning rate decays." * bool(len(changes))
    )


def kurtosis_by_batch(dynamics: DataFrame) -> DataFrame:
    """Excess kurtosis of the gradient noise's projections against the batch size, once training has begun.

    A trial's value is the mean over its measurements and directions; the interval is a t interval over trials, which
    are independent where those means are not.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`.

    Returns:
        One row a model, kind of direction and batch size: mean, low, high (95 %), n (trials), estimates (kurtoses
        behind the mean), batches, from which each of those was made, and share, of the images in a batch at most.
    """
    long = gaussianity(dynamics[dynamics["epoch"] > 0]) if len(dynamics) else DataFrame()
    if long.empty:
        return DataFrame()
    rows = []
    for (model, kind, size), group in long.groupby(["model.name", "kind", "batch_size"]):
        values = group.groupby("trial_id")["kurtosis"].mean().dropna().to_numpy(dtype=np.float64)
        mean, low, high, _ = t_test(values, 0.95)
        estimates, batches = int(group["kurtosis"].notna().sum()), int(group["batches"].iloc[0])
        rows.append((model, kind, size, mean, low, high, len(values), estimates, batches, group["share"].max()))
    columns = ["model.name", "kind", "batch_size", "mean", "low", "high", "n", "estimates", "batches", "share"]
    return DataFrame(rows, columns=columns)


def draw_kurtosis_by_batch(rows: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws rows of `kurtosis_by_batch`, a panel a network, beside what 1 / batch would give; no metric is read."""
    models = sorted(rows["model.name"].unique())
    down, across = in_rows(len(models), 3.9, page)
    figure = Figure(figsize=page.size(across, down, (3.9, 3.6), 0.8), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False, sharey=True)
    for place, model in enumerate(models):
        axes, part = grid[divmod(place, across)], rows[rows["model.name"] == model]
        axes.axhline(0, color="0.35", lw=0.9)
        for kind, points in part.groupby("kind", sort=True):
            colour, shape = _KINDS[str(kind)]
            ends = [points["mean"] - points["low"], points["high"] - points["mean"]]
            style = {"color": colour, "marker": shape, "ms": 4, "lw": 1.3, "capsize": 3}
            turn = 0.98 if kind == "eigenvector" else 1.02  # beside each other
            axes.errorbar(turn * points["batch_size"], points["mean"], ends, **style)
            first = points.iloc[0]
            smooth = np.geomspace(first["batch_size"], points["batch_size"].max(), 50)
            reference = _REFERENCE | {"color": colour, "alpha": 0.5}
            axes.plot(smooth, first["mean"] * first["batch_size"] / smooth, **reference)
        log_axis(axes.xaxis, part["batch_size"], page)
        axes.set_title(f"{model} (n = {plural(int(part['n'].max()), 'trial')})")
        axes.set_xlabel("batch size (images)")
    for place in range(len(models), grid.size):
        grid[divmod(place, across)].set_visible(False)
    centre(figure, grid, len(models))
    for axes in grid[:, 0]:
        axes.set_ylabel("excess kurtosis (Gaussian: 0)")
    handles = [Line2D([], [], color=c, marker=m, ms=4, label=_PLURAL[kind]) for kind, (c, m) in _KINDS.items()]
    legend(figure, [*handles, Line2D([], [], **_REFERENCE, label="1 / batch from the smallest batch")], page)
    return figure


def caption_of_kurtosis(rows: DataFrame, metric: str) -> str:
    """What is drawn."""
    batches, share = short(rows["batches"].min()), 100 * rows["share"].max()
    bars = of_spread("bars: 95 % t interval over trials", rows["low"].notna(), "no bar of one trial")
    return (
        "Excess kurtosis of mini-batch gradients projected on the Hessian's top eigenvectors and on random directions, "
        f"against the batch size: mean over {plural(int(rows['n'].max()), 'trial')}, {batches} batches an estimate, "
        f"{plural(int(rows['estimates'].sum()), 'estimate')}; {bars}."
        + f" The largest batch holds {share:.0f} % of the images, drawn without replacement: from about 20 % on that "
        "alone lowers the kurtosis." * bool(share >= 1)
    )


def against_quadratic(dynamics: DataFrame) -> DataFrame:
    """The loss along directions beside its quadratic, once training has begun, in units that all directions share.

    With s the noise's own scale along a direction, x = t / s and y = (loss(w + t v) - loss(w) - g t) / (h s^2 / 2), a
    quadratic is y = x^2 for every direction, and deviation = (y - x^2) / x^2. Directions in which the loss does not
    curve up have no s, and are left out.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`.

    Returns:
        One row a model, method, kind and multiple x: median, low and high (the middle 80 %) of y over lines,
        deviation, deviation_low and deviation_high alike; lines (a direction of a measurement), n (trials) and, to
        be seen beside them, settled, the median of t / sqrt(S) where there is a stationary variance S.
    """
    long = lines(dynamics[dynamics["epoch"] > 0]) if len(dynamics) else DataFrame()
    if long.empty:
        return DataFrame()
    long = long.dropna(subset=["multiple", "rise"]).assign(multiple=lambda rows: rows["multiple"].round(3))
    long = long.assign(y=long["multiple"] ** 2 * (1 + long["deviation"]))
    grouped = long.groupby(["model.name", "method", "kind", "multiple"])
    known = {
        "median": grouped["y"].median(),
        "low": grouped["y"].quantile(0.1),
        "high": grouped["y"].quantile(0.9),
        "deviation": grouped["deviation"].median(),
        "deviation_low": grouped["deviation"].quantile(0.1),
        "deviation_high": grouped["deviation"].quantile(0.9),
        "lines": grouped.size(),
        "n": grouped["trial_id"].nunique(),
        "settled": grouped["settled"].median(),
    }
    return DataFrame(known).reset_index()


def draw_against_quadratic(rows: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws rows of `against_quadratic`: above the loss beside its quadratic, below their relative difference.

    A column is a network and kind of direction; the metric is not read.
    """
    columns = list(dict.fromkeys(zip(rows["model.name"], rows["kind"], strict=True)))
    styles, methods = looks(rows["method"]), in_order(rows["method"])
    figure = Figure(figsize=page.size(len(columns), 2, (3.9, 2.8), 0.8), layout="constrained")
    grid = figure.subplots(2, len(columns), squeeze=False, sharex=True)
    for (model, kind), (above, below) in zip(columns, grid.T, strict=True):
        part = rows[(rows["model.name"] == model) & (rows["kind"] == kind)]
        x = np.linspace(part["multiple"].min(), part["multiple"].max(), 101)
        above.plot(x, x**2, **_REFERENCE)
        below.axhline(0, **_REFERENCE)
        for method in methods:
            curve = part[part["method"] == method]
            look, shift = styles[method], _shift(part["multiple"], methods.index(method), len(methods))
            _measured(above, curve, "multiple", look, shift, names=("median", "low", "high"))
            names = ("deviation", "deviation_low", "deviation_high")
            _measured(below, curve, "multiple", look, shift, names=names, factor=100)
        count, n = part.groupby("method")["lines"].max().sum(), part.groupby("method")["n"].max().sum()
        above.set_title(f"{model}: {_PLURAL[kind]}\n({plural(int(count), 'line')} of n = {plural(int(n), 'trial')})")
        below.set_xlabel("distance / the noise's own scale")
    grid[0, 0].set_ylabel("loss above its tangent / $(h s^2 / 2)$")
    grid[1, 0].set_ylabel("deviation from the quadratic (%)")
    handles = [
        Line2D([], [], color=styles[m].colour, marker=styles[m].marker, ms=3, label=styles[m].name) for m in methods
    ]
    legend(figure, [*handles, Line2D([], [], **_REFERENCE, label="quadratic of the measured Hessian")], page)
    return figure


def caption_of_lines(rows: DataFrame, metric: str) -> str:
    """What is drawn."""
    return (
        "The loss along directions through the weights, beside the quadratic of the measured Hessian, and its "
        "deviation from it. Points: median over lines, a line being a direction of one measurement; bars: their "
        "middle 80 %; methods stand beside each other. Distances are in the noise's own scale, its stationary standard "
        "deviation as lr h → 0: s = sqrt(lr c / (2 (1 - μ) h)), with h the curvature, c the noise and μ the momentum."
    )


_NEEDS = "dynamics, which trial.dynamics.every switches on"


def _decay(data: Data) -> dict[str, DataFrame]:
    known = chosen(data), data.epochs
    return {"dynamics_decay": around_decay(*known), "dynamics_decay_lr": decays(*known)}


def _trials(data: Data) -> Series[Any]:
    return chosen(data)["trial_id"]


PLANS = (
    Plan("dynamics_decay", _decay, _NEEDS, caption_of_decay, draw_around_decay, trials=_trials),
    Plan(
        "dynamics_kurtosis",
        lambda data: kurtosis_by_batch(chosen(data)),
        f"{_NEEDS}, after the first epoch",
        caption_of_kurtosis,
        draw_kurtosis_by_batch,
        trials=_trials,
    ),
    Plan(
        "dynamics_quadratic",
        lambda data: against_quadratic(chosen(data)),
        f"{_NEEDS}, after the first epoch",
        caption_of_lines,
        draw_against_quadratic,
        trials=_trials,
    ),
)
