"""Robust accuracy on train and test against the epoch, in each method's best cell."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame, concat

from analysis.frames.cells import BETTER, GROUP, LEFT_OUT, choice_note
from analysis.frames.names import brief, label, of_spread
from analysis.frames.recipes import recipe_names
from analysis.frames.trials import axes as axes_of
from analysis.plots.page import PAGE, Page
from analysis.plots.plan import Data, Plan
from analysis.plots.style import banded, crowded, dash, in_order, legend, looks, outer_labels, panels, splits, titled
from analysis.plots.ticks import whole_epochs
from trainers.fields import plural


def by_epoch(rows: DataFrame, keys: Sequence[str], metrics: Sequence[tuple[str, str]]) -> DataFrame:
    """Accuracies against the epoch: their mean over seeds, and the least and most of them.

    Args:
        rows: epochs, as `analysis.frames.trials.load_epochs` gives them.
        keys: the columns that tell curves apart.
        metrics: split and accuracy (clean or robust) of each.

    Returns:
        the keys, split, accuracy, epoch, mean, low, high, n (seeds in which it was measured).
    """
    long = concat(
        rows[[*keys, "epoch"]].assign(split=split, accuracy=accuracy, value=rows[f"{split}_{accuracy}"])
        for split, accuracy in metrics
    ).dropna(subset=["value"])
    grouped = long.groupby([*keys, "split", "accuracy", "epoch"], dropna=False)["value"]
    return grouped.agg(mean="mean", low="min", high="max", n="count").reset_index()


def accuracy_by_epoch(data: Data) -> DataFrame:
    """Robust accuracy in each model's and method's best cell by validation, of recipes each by itself.

    Returns:
        model.name, method, the axes of the cell, split (train or test), epoch, mean, low and
        high (least and most over seeds), n (seeds), cells_left_out (of the choice) and cells_left_out_better (of them,
        those with a better mean over the seeds that they kept); empty if no cell can be chosen, or none was measured at
        two epochs.
    """
    names = recipe_names(data.trials)
    best, rows = _best(data).set_index("trial_id"), _rows(data)
    rows = rows.assign(**{name: rows["trial_id"].map(best[name]).astype(int) for name in (LEFT_OUT, BETTER)})
    rows = rows.assign(method=rows["trial_id"].map(dict(zip(data.trials["trial_id"], names, strict=True))))
    keys = [*GROUP, *(axis for axis in axes_of(data.trials) if axis not in GROUP)]
    curves = by_epoch(rows, [*keys, LEFT_OUT, BETTER], [("train", "robust"), ("test", "robust")]).drop(
        columns="accuracy"
    )
    return curves[[*curves.columns.drop([LEFT_OUT, BETTER]), LEFT_OUT, BETTER]]


def _best(data: Data) -> DataFrame:
    """The completed trials of those cells: means over seeds that end at several epochs would jump where one ends."""
    named = data.trials.assign(method=recipe_names(data.trials))
    best = data._replace(trials=named).own_best().trials
    completed: DataFrame = best[best["outcome"] == "completed"]
    return completed


def _rows(data: Data) -> DataFrame:
    """Their epochs; of a trial that was measured once there is no curve."""
    rows = data.epochs[data.epochs["trial_id"].isin(_best(data)["trial_id"])]
    rows = rows[rows[["train_robust", "test_robust"]].notna().any(axis=1)]
    curves: DataFrame = rows[rows.groupby("trial_id")["epoch"].transform("nunique") > 1]
    return curves


def accuracy_epoch(rows: DataFrame, page: Page = PAGE) -> Figure:
    """Draws rows of `accuracy_by_epoch`, train dashed, test solid, a panel a network."""
    styles = looks(rows["method"])
    size = (4.2, 3.2) if crowded(rows["method"]) else (5.2, 3.8)
    figure, grid, places = panels(rows, [], ["model.name"], *size, page)
    for axes, part in places:
        titled(axes, rows, part)
        for (name, split), curve in part.groupby(["method", "split"], sort=True):
            banded(axes, curve, "epoch", styles[str(name)].colour, factor=100, ls=dash(str(split)), lw=1.4)
        whole_epochs(axes)
    outer_labels(grid, label("epoch"), "robust accuracy (%)")
    shown = dict.fromkeys(styles[name] for name in in_order(rows["method"]))
    legend(figure, [*(Line2D([], [], color=look.colour, label=look.name) for look in shown), *splits()], page)
    return figure


def band(rows: DataFrame) -> str:
    """What a caption says of the bands of these rows of `by_epoch`."""
    return of_spread("band: minimum to maximum over seeds", rows["n"] > 1, "no band of one seed")


#: Of more curves the settings stand in the CSV alone.
_MOST_NAMED = 8


def caption(rows: DataFrame) -> str:
    """What is drawn."""
    settings = [
        _setting(curve)
        for name in in_order(rows["method"])
        for _, curve in rows[rows["method"] == name].groupby(list(GROUP), sort=False)
    ]
    named = "; ".join(settings) if len(settings) <= _MOST_NAMED else "the settings stand in accuracy_epoch.csv"
    return (
        f"Robust accuracy on train (dashed) and test images by epoch, {choice_note(rows, GROUP)}: {named}. Line: mean "
        f"over seeds; {band(rows)}."
    )


def _setting(curve: DataFrame) -> str:
    """`PGD-AT at learning rate 0.2, batch 32, n = 3 seeds`."""
    first = curve.iloc[0]
    where = f"learning rate {brief([first['optimizer.lr']])[0]}, batch {first['batch_size']}"
    return f"{first['method']} at {where}, n = {plural(int(curve['n'].max()), 'seed')}"


PLAN = Plan(
    "accuracy_epoch",
    accuracy_by_epoch,
    "needs the sweep's metric of validation, to choose each method's cell without looking at the test set, and robust "
    "accuracy at two epochs or more (trial.evaluation.every)",
    lambda rows, metric: caption(rows),
    lambda rows, metric, page: accuracy_epoch(rows, page),
    trials=lambda data: _rows(data)["trial_id"],
)
