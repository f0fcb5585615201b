"""A cell: the trials that agree on every axis and differ by their seed alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from analysis.frame import CONDITIONS, axes
from analysis.words import brief
from trainers.errors import UserError, suggestion

Mode = Literal["max", "min"]

#: What is compared, never pooled, unless a function says so.
GROUP: tuple[str, ...] = ("model.name", "method")


def codes(frame: DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """The number of each row's group, from 0 in order of appearance; NaN is a value like any other.

    Returns:
        (n,) integers; all 0 if there are no columns.
    """
    if not len(columns) or frame.empty:
        return np.zeros(len(frame), dtype=np.int64)
    return frame.groupby(list(columns), dropna=False, sort=False).ngroup().to_numpy().astype(np.int64)


def measured(frame: DataFrame, y: str) -> DataFrame:
    """The completed trials with a finite `y`: the only ones that enter an estimate.

    Raises:
        UserError: the frame has no column `y`.
    """
    if y not in frame.columns:
        raise UserError(f"{y}: no such column; {suggestion(y, map(str, frame.columns))}")
    finite = np.isfinite(frame[y].to_numpy(dtype=np.float64))
    usable: DataFrame = frame[finite & (frame["outcome"] == "completed").to_numpy(dtype=bool)]
    return usable


def nothing_completed(trials: DataFrame, what_for: str) -> str:
    """What is the matter with trials of which none is completed, and the way out.

    Args:
        trials: as `analysis.frame.load_trials` gives them.
        what_for: a completed one is needed: `to draw`.
    """
    counts = trials["outcome"].value_counts()
    needs = f"needs a completed trial {what_for}"
    if len(trials) and counts.get("diverged", 0) == len(trials):
        rates = brief(sorted({trials["optimizer.lr"].min(), trials["optimizer.lr"].max()}))
        return (
            f"{needs}, and all {len(trials)} diverged ({trials['reason'].iloc[0]}), which stays so when launched "
            "again; add smaller values of optimizer.lr to the config and launch that: tried "
            f"{'was' if len(rates) == 1 else 'were'} {' to '.join(rates)}"
        )
    said = f" ({', '.join(f'{n} {name}' for name, n in counts.items())})" if len(trials) else ""
    return f"{needs}, got 0 of {len(trials)}{said}; launch the sweep again: it goes on where it stopped"


def varying(frame: DataFrame) -> list[str]:
    """The axes that take several values; one that only does not apply to some method is not among them."""
    if frame.empty:
        return []
    by_method = frame.groupby("method", dropna=False)
    return [axis for axis in axes(frame) if several(frame[axis]) or by_method[axis].nunique(dropna=False).max() > 1]


def conditions(frame: DataFrame) -> list[str]:
    """The axes across which accuracies are not comparable, and no best cell is chosen: other data, another attack."""
    return [axis for axis in varying(frame) if axis.startswith(CONDITIONS)]


def several(values: Series[Any]) -> bool:
    """Whether the values differ; NaN is none."""
    return len(values.dropna().unique()) > 1


def cell_means(frame: DataFrame, metrics: Sequence[str]) -> DataFrame:
    """One row a cell, in order of appearance: how many trials, and their mean metrics.

    Returns:
        method, the axes, lr_batch_ratio, n (completed trials), diverged (trials), trials (of any outcome), and each
        metric as the mean over the completed trials in which it was measured, NaN if there is none.
    """
    completed, known = frame["outcome"] == "completed", ["method", *axes(frame), "lr_batch_ratio"]
    columns = frame[known].assign(
        n=completed.astype(np.int64),
        diverged=(frame["outcome"] == "diverged").astype(np.int64),
        trials=1,
        **{metric: frame[metric].where(completed).astype(np.float64) for metric in metrics},
    )
    how = dict.fromkeys(known, "first") | dict.fromkeys(metrics, "mean")
    how |= dict.fromkeys(("n", "diverged", "trials"), "sum")
    return columns.groupby(codes(frame, axes(frame)), sort=True).agg(how)[list(columns.columns)]


def best_cells(
    frame: DataFrame, metric: str = "last_val_robust", report: Sequence[str] = (), *, mode: Mode = "max"
) -> DataFrame:
    """The cell with the best mean `metric` of each model, condition and method; the earliest of equals.

    Choose by a validation metric: the best of many cells by a test metric overstates the test accuracy. A
    cell in which a trial diverged is no candidate. Where the metric was not measured, a sole cell still is.

    Args:
        frame: trials, as `analysis.frame.load_trials` gives them.
        metric: what the choice is by, such as last_val_robust.
        report: further metrics to carry along.
        mode: max for an accuracy, min for a loss.

    Returns:
        rows of `cell_means`, at most one a model, condition and method, in order of appearance.
    """
    cells = cell_means(frame, list(dict.fromkeys([metric, *report])))
    cells = cells[(cells["n"] > 0) & (cells["diverged"] == 0)]
    chosen, best = [], np.nanargmax if mode == "max" else np.nanargmin
    for _, group in cells.groupby([*GROUP, *conditions(frame)], sort=False, dropna=False):
        if len(group) == 1 or group[metric].notna().any():
            position = 0 if len(group) == 1 else int(best(group[metric].to_numpy(dtype=np.float64)))
            chosen.append(group.index[position])
    return cells.loc[chosen]


def best_trials(
    frame: DataFrame, metric: str = "last_val_robust", *, mode: Mode = "max", overall: bool = False
) -> DataFrame:
    """The trials of the `best_cells`, of any outcome but diverged, in the frame's order.

    Args:
        frame: trials, as `analysis.frame.load_trials` gives them.
        metric: as in `best_cells`.
        mode: as in `best_cells`.
        overall: of these cells only the best one.
    """
    cells = best_cells(frame, metric, mode=mode)
    if overall and len(cells) > 1:
        cells = cells.sort_values(metric, ascending=mode == "min", kind="stable").head(1)
    trials: DataFrame = frame[np.isin(codes(frame, axes(frame)), cells.index)]
    return trials
