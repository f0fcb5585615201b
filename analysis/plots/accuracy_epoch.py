"""Accuracy along the training: its numbers and its picture."""

from __future__ import annotations

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from pandas import DataFrame

from analysis.frames.cells import GROUP, best_trials, several
from analysis.frames.names import brief, label, of_spread
from analysis.frames.trials import axes as hyperparameters
from analysis.plots.plan import BY_VAL_ROBUST, ChosenBy
from analysis.plots.style import Look, crowded, grid_of_panels, legend_below, looks, outer_labels, panel_name, title


def accuracy_by_epoch(trials: DataFrame, epochs: DataFrame, chosen_by: ChosenBy = BY_VAL_ROBUST) -> DataFrame:
    """Robust accuracy on train and test against the epoch, in each model's and method's best cell.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        epochs: as `analysis.frames.trials.load_epochs` gives them.
        chosen_by: the metric whose mean over seeds picks the cell.

    Returns:
        model.name, method, the axes of the cell, split (train or test), epoch, mean, low and
        high (least and most over seeds), n (seeds); empty if no cell can be chosen.
    """
    chosen = best_trials(trials, f"last_{chosen_by.metric}", mode=chosen_by.mode)
    rows = epochs[epochs["trial_id"].isin(chosen["trial_id"])]
    keys = [*GROUP, *(axis for axis in hyperparameters(trials) if axis not in GROUP)]
    long = pd.concat(
        [rows[[*keys, "epoch"]].assign(split=s, value=rows[f"{s}_robust"]) for s in ("train", "test")]
    ).dropna(subset=["value"])
    grouped = long.groupby([*keys, "split", "epoch"], dropna=False)["value"]
    return grouped.agg(mean="mean", low="min", high="max", n="count").reset_index()


def accuracy_epoch(rows: DataFrame) -> Figure:
    """Robust accuracy against the epoch in each method's best cell: train dashed, test solid.

    Args:
        rows: of `analysis.plots.accuracy_epoch.accuracy_by_epoch`.
    """
    styles = looks(rows["method"])
    size = {"width": 4.2, "height": 3.2} if crowded(rows["method"]) else {"width": 5.2, "height": 3.8}
    figure, grid, panels = grid_of_panels(rows, [], ["model.name"], **size)
    for axes, part in panels:
        title(axes, panel_name(rows, part), part)
        for (name, split), curve in part.groupby(["method", "split"], sort=True):
            _epoch_curve(axes, curve, styles[str(name)].colour, str(split))
        axes.locator_params(axis="x", integer=True)
        if not several(part["epoch"]):
            axes.set_xticks(part["epoch"].unique())
        axes.legend(handles=_epoch_handles(part, styles), loc="lower right", fontsize=8)
    outer_labels(grid, label("epoch"), "robust accuracy (%)")
    band = of_spread("band: least to most over seeds", rows["n"] > 1, "no band of one seed")
    legend_below(figure, [], f"cell of the highest mean validation robust accuracy; {band}")
    return figure


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
