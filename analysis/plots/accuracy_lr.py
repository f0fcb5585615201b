"""Accuracy against the learning rate: its numbers and its picture."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame
from scipy import stats

from analysis.estimates.ranges import possible
from analysis.frames.cells import measured, several
from analysis.frames.names import label, of_spread, scale
from analysis.plots.style import (
    Look,
    crowded,
    grid_of_panels,
    legend_below,
    log_ticks,
    looks,
    method_handles,
    no_rows,
    outer_labels,
    panel_name,
    title,
)

#: Up to so many batch sizes get a panel each; more are drawn in one.
MOST_PANELS = 6


def accuracy_lr(rows: DataFrame, metric: str) -> Figure:
    """Accuracy against the learning rate: a line and band a method, a point a trial, a cross a diverged one.

    Args:
        rows: of `analysis.plots.accuracy_lr.accuracy_by_lr`.
        metric: their metric, for the label.
    """
    batches, styles = sorted(rows["batch_size"].unique()), looks(rows["method"])
    figure, grid, panels = grid_of_panels(rows, ["model.name"], ["batch_size"])
    for axes, part in panels:
        batch = part["batch_size"].iloc[0]
        shown = "all batch sizes" if batch == "all" else f"batch {batch}"
        title(axes, panel_name(rows, part, shown if len(batches) > 1 or not crowded(rows["method"]) else ""), part)
        for name, curve in part.groupby("method", sort=True):
            _lr_curve(axes, curve, styles[str(name)], scale(metric))
        log_ticks(axes, rows["optimizer.lr"])
    outer_labels(grid, label("optimizer.lr"), label(metric))
    band = of_spread(
        "band: its 95 % t interval, variance pooled over a curve, cut at 0 and 100",
        rows.loc[rows["mean"].notna(), "low"].notna(),
        "no band where each learning rate has one trial",
    )
    note = f"line: mean over seeds and axes not shown\n{band}"
    legend_below(figure, method_handles(rows, styles), note, diverged=bool((rows["outcome"] == "diverged").any()))
    return figure


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


def accuracy_by_lr(trials: DataFrame, metric: str, confidence: float = 0.95) -> DataFrame:
    """Each trial at its learning rate, with the mean over trials of its model, method, batch size and lr.

    The mean's t interval takes one seed variance a curve, pooled over its learning rates: two or three seeds
    alone say too little about their own. Axes other than these (optimizer.k1) are pooled.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        metric: what is drawn.
        confidence: of the interval, in (0, 1).

    Returns:
        model.name, batch_size (`all` beyond `MOST_PANELS`), method, optimizer.lr, trial_id, seed,
        outcome (completed or diverged), value (NaN if diverged), mean, low, high, n (trials in the mean), interval
        (whose variance it takes);
        empty if there are not two learning rates.
    """
    usable = measured(trials, metric)
    diverged = trials["outcome"] == "diverged"
    rows = trials[trials.index.isin(usable.index) | diverged]
    rows = rows.assign(value=rows[metric].where(rows["outcome"] == "completed").astype(np.float64))
    if len(rows["batch_size"].unique()) > MOST_PANELS:
        rows = rows.assign(batch_size="all")
    curve = ["model.name", "batch_size", "method"]
    rows = rows[[*curve, "optimizer.lr", "trial_id", "seed", "outcome", "value"]]
    rows = rows.sort_values([*curve, "optimizer.lr", "seed", "trial_id"], ignore_index=True)
    return (
        _with_interval(rows, curve, confidence, possible(metric)) if several(usable["optimizer.lr"]) else no_rows(rows)
    )


def _with_interval(rows: DataFrame, curve: list[str], confidence: float, within: tuple[float, float]) -> DataFrame:
    """The mean of each learning rate and its t interval, with the seed variance pooled over a curve."""
    cells = rows.groupby([*curve, "optimizer.lr"])["value"].agg(["mean", "count", "var"]).reset_index()
    freedom = (cells["count"] - 1).clip(lower=0)
    squares = (cells["var"] * freedom).where(freedom > 0, 0.0)
    keys = [cells[column] for column in curve]
    pooled = freedom.groupby(keys).transform("sum").astype(np.float64)
    pooled = pooled.where(pooled > 0)
    error = np.sqrt(squares.groupby(keys).transform("sum") / pooled / cells["count"].where(cells["count"] > 0))
    half = stats.t.ppf((1 + confidence) / 2, pooled) * error
    ends = {"low": (cells["mean"] - half).clip(*within), "high": (cells["mean"] + half).clip(*within)}
    cells = cells.assign(**ends, n=cells["count"])
    cells["interval"] = np.where(cells["low"].notna(), "t, variance pooled over a curve", "")
    return rows.merge(
        cells[[*curve, "optimizer.lr", "mean", "low", "high", "n", "interval"]], on=[*curve, "optimizer.lr"]
    )
