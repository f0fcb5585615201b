"""Accuracy against the learning rate: a line and band a method, a point a trial, a cross a diverged one."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.ranges import possible
from analysis.frames.cells import measured, several
from analysis.frames.names import label, of_spread, scale, sentence
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Plan
from analysis.plots.style import (
    at_the_foot,
    crowded,
    diverged_handles,
    in_order,
    legend,
    looks,
    means_by_lr,
    outer_labels,
    panels,
    titled,
)
from analysis.plots.ticks import log_axis, side_by_side
from trainers.fields import plural

#: Up to so many batch sizes get a panel each; more are drawn in one.
MOST_PANELS = 6

#: Squares of accuracies' differences up to here are rounding.
_EQUAL = 1e-20


def accuracy_by_lr(trials: DataFrame, metric: str) -> DataFrame:
    """Each trial at its learning rate, with the mean over trials of its model, method, batch size and lr.

    The mean's 95 % t interval takes one seed variance a curve, pooled over its learning rates: two or three seeds
    alone say too little about their own. Where no two of one learning rate differ there is none. Axes other than
    these (optimizer.k1) are pooled.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        metric: what is drawn.

    Returns:
        model.name, batch_size (`all` beyond `MOST_PANELS`), method, optimizer.lr, trial_id, seed,
        outcome (completed or diverged), value (NaN if diverged), mean, low, high, n (trials in the mean), interval
        (whose variance it takes);
        empty if there are not two learning rates.
    """
    usable = measured(trials, metric)
    rows = trials[trials.index.isin(usable.index) | (trials["outcome"] == "diverged")]
    rows = rows.assign(value=rows[metric].where(rows["outcome"] == "completed").astype(np.float64))
    if len(rows["batch_size"].unique()) > MOST_PANELS:
        rows = rows.assign(batch_size="all")
    curve = ["model.name", "batch_size", "method"]
    rows = rows[[*curve, "optimizer.lr", "trial_id", "seed", "outcome", "value"]]
    rows = rows.sort_values([*curve, "optimizer.lr", "seed", "trial_id"], ignore_index=True)
    if not several(usable["optimizer.lr"]):
        return rows.iloc[:0]
    cells = rows.groupby([*curve, "optimizer.lr"])["value"].agg(["mean", "count", "var"]).reset_index()
    freedom = (cells["count"] - 1).clip(lower=0)
    squares = (cells["var"] * freedom).where(freedom > 0, 0.0)
    keys = [cells[column] for column in curve]
    pooled = freedom.groupby(keys).transform("sum").astype(np.float64)
    pooled = pooled.where(pooled > 0)
    total = squares.groupby(keys).transform("sum")
    total = total.where(total > _EQUAL)  # equal seeds tell nothing of how far others would lie apart
    error = np.sqrt(total / pooled / cells["count"].where(cells["count"] > 0))
    half = stats.t.ppf(0.975, pooled) * error
    ends = {"low": cells["mean"] - half, "high": cells["mean"] + half}
    cells = cells.assign(**{name: end.clip(*possible(metric)) for name, end in ends.items()}, n=cells["count"])
    cells["interval"] = np.where(cells["low"].notna(), "t, variance pooled over a curve", "")
    return rows.merge(cells.drop(columns=["count", "var"]), on=[*curve, "optimizer.lr"])


def accuracy_lr(rows: DataFrame, metric: str, page: Page = PAGE) -> Figure:
    """Draws rows of `accuracy_by_lr`, a panel a network and batch size; the metric is theirs, for the label."""
    batches, styles, factor = rows["batch_size"].unique(), looks(rows["method"]), scale(metric)
    figure, grid, places = panels(rows, ["model.name"], ["batch_size"], page=page)
    for axes, part in places:
        batch = part["batch_size"].iloc[0]
        shown = "all batch sizes" if batch == "all" else f"batch {batch}"
        titled(axes, rows, part, shown if len(batches) > 1 or not crowded(rows["method"]) else "")
        part = part.assign(_at=_beside(part))
        for name in in_order(part["method"]):
            curve, (colour, shape, _) = part[part["method"] == name], styles[str(name)]
            means_by_lr(axes, curve, colour, factor, lw=1.5)
            dots: dict[str, Any] = {"color": colour, "alpha": 0.45, "markersize": 3, "mew": 0}
            axes.plot(curve["_at"], factor * curve["value"], shape, **dots)
            at_the_foot(axes, curve.loc[curve["outcome"] == "diverged", "_at"], colour)
        log_axis(axes.xaxis, rows["optimizer.lr"], page)
    outer_labels(grid, label("optimizer.lr"), label(metric))
    names = [look.name for name, look in styles.items() if name in set(rows["method"])]
    counts = Counter(styles[name].name for name in rows.loc[rows["value"].notna(), "method"])
    known = {look.name: look for look in styles.values()}
    handles = [
        Line2D([], [], color=known[name].colour, marker=known[name].marker, ms=4, label=f"{name} (n = {counts[name]})")
        for name in dict.fromkeys(names)
    ]
    legend(figure, [*handles, *diverged_handles(rows)], page)
    return figure


def _beside(part: DataFrame) -> NDArray[np.float64]:
    """Where the marks of a panel are drawn: by method, then seed."""
    order = in_order(part["method"])
    ranks = part["method"].map(order.index).to_numpy(dtype=np.float64)
    return side_by_side(part, "optimizer.lr", [np.arange(len(part), dtype=np.float64), ranks])


def band(rows: DataFrame) -> str:
    """What a caption says of the bands of these rows of `accuracy_by_lr`."""
    return of_spread(
        "band: its 95 % t interval, variance pooled over a curve, cut at 0 and 100",
        rows.loc[rows["mean"].notna(), "low"].notna(),
        "no band where each learning rate has one trial, or all its trials are equal",
    )


def caption(rows: DataFrame, metric: str) -> str:
    """What is drawn."""
    n = plural(int(rows["value"].notna().sum()), "trial")
    lost = (rows["outcome"] == "diverged").any()
    pooled = rows.duplicated(["model.name", "batch_size", "method", "optimizer.lr", "seed"]).any()
    return (
        f"{sentence(metric)}, against the learning rate, of {n}; a mark a trial, those of one learning rate beside "
        f"each other. Line: mean over seeds{' and over what else was varied' * bool(pooled)}; {band(rows)}."
        f"{' Crosses at the foot: diverged trials.' * bool(lost)}"
    )


PLAN = Plan(
    "accuracy_lr",
    lambda data: accuracy_by_lr(data.trials, data.metric),
    "needs completed trials at two learning rates",
    caption,
    accuracy_lr,
)
