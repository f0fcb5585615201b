"""The pictures: each drawn from a frame of `analysis.plotted`, and written beside it as PNG, PDF and CSV."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from pandas import DataFrame

from analysis import dots, panels, plotted
from analysis.differences import differences
from analysis.fits import correlations
from analysis.frame import load_epochs, load_trials
from analysis.plans import Data, Plan
from analysis.plotted import BY_VAL_ROBUST, ChosenBy
from trainers.errors import UserError

#: Of more there is no picture, but only the numbers.
MOST_CURVES = 64

_STYLE: dict[Any, Any] = {
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


@dataclass(frozen=True)
class Drawing:
    """What `draw` wrote, and what it could not draw and why."""

    written: tuple[Path, ...]
    skipped: dict[str, str]
    """Figure or table: what it needs that the data do not have."""


def draw(
    directory: Path, output: Path, metric: str = "last_test_robust", chosen_by: ChosenBy = BY_VAL_ROBUST
) -> Drawing:
    """Every figure and table of numbers that a run's records allow.

    Args:
        directory: a run, as given to `sweep launch --out`.
        output: folder for the files; made if it is not there.
        metric: what is drawn, a column of `analysis.frame.load_trials`.
        chosen_by: what the sweep chooses by; each method's cell, in the figures that draw only one.

    Returns:
        the paths written (NAME.png at 150 dpi, NAME.pdf, the CSVs), and what was skipped.

    Raises:
        UserError: the directory is not a run, no trial is completed, there is no such metric, or the output
            cannot be written.
    """
    trials, epochs = load_trials(directory), load_epochs(directory)
    completed = int((trials["outcome"] == "completed").sum())
    if not completed:
        raise UserError(
            f"{directory}: needs a completed trial to draw, got 0 of {len(trials)}; "
            "launch the sweep again: it goes on where it stopped"
        )
    try:
        return _drawing(Data(trials, epochs, metric, chosen_by), output)
    except OSError as error:
        why = error.strerror or error
        raise UserError(f"--output {output}: cannot be written: {why}; give a folder that can") from error


def _drawing(data: Data, output: Path) -> Drawing:
    output.mkdir(parents=True, exist_ok=True)
    tables = {
        "correlations": correlations(data.trials, data.metric),
        **difference_tables(data.trials, data.metric),
    }
    written = [_csv(table, output / f"{name}.csv") for name, table in tables.items() if len(table)]
    skipped = {name: TABLE_NEEDS[name] for name, table in tables.items() if not len(table)}
    for plan in PLANS:
        frames = plan.frames(data)
        first = next(iter(frames.values()))
        if first.empty:
            skipped[plan.name] = plan.needs
        elif (curves := panels.curves(first)) > MOST_CURVES:
            written += [_csv(frame, output / f"{stem}.csv") for stem, frame in frames.items()]
            skipped[plan.name] = f"needs at most {MOST_CURVES} curves or surfaces, to be read, and has {curves}"
        else:
            written += _written(plan, frames, data.metric, output)
    return Drawing(tuple(written), skipped)


def difference_tables(trials: DataFrame, metric: str) -> dict[str, DataFrame]:
    """DEAT minus SGD: one row a model, and one row a comparison of two cells; in the metric's own unit."""
    found = differences(trials, metric)
    overall = [
        {"model.name": model, **{k: v for k, v in vars(value).items() if k not in ("cells", "left_out")}}
        | {"n_left_out": sum(value.left_out.values())}
        for model, value in found.items()
        if value.n_cells
    ]
    cells = [value.cells for value in found.values() if value.n_cells]
    return {
        "paired_difference": DataFrame(overall),
        "paired_difference_cells": pd.concat(cells, ignore_index=True) if cells else DataFrame(),
    }


def _csv(table: DataFrame, path: Path) -> Path:
    table.to_csv(path, index=False, float_format="%.10g", lineterminator="\n")
    return path


def _written(plan: Plan, frames: dict[str, DataFrame], metric: str, output: Path) -> list[Path]:
    paths = [_csv(frame, output / f"{stem}.csv") for stem, frame in frames.items()]
    with mpl.rc_context(_STYLE):
        figure = plan.render(frames, metric)
        figure.savefig(output / f"{plan.name}.png", dpi=150)
        figure.savefig(output / f"{plan.name}.pdf", metadata={"CreationDate": None})
    return [*paths, output / f"{plan.name}.png", output / f"{plan.name}.pdf"]


def _single(name: str, function: Callable[[Data], DataFrame]) -> Callable[[Data], dict[str, DataFrame]]:
    return lambda data: {name: function(data)}


def _ratio_frames(data: Data) -> dict[str, DataFrame]:
    return {
        "accuracy_ratio": plotted.accuracy_by_ratio(data.trials, data.metric),
        "accuracy_ratio_lines": plotted.ratio_lines(data.trials, data.metric),
    }


TABLE_NEEDS = {
    "correlations": "needs completed trials with two values of the learning rate or the batch size",
    "paired_difference": "needs completed trials of deat and sgd in the same cell",
    "paired_difference_cells": "needs completed trials of deat and sgd in the same cell",
}

PLANS: tuple[Plan, ...] = (
    Plan(
        "accuracy_lr",
        _single("accuracy_lr", lambda data: plotted.accuracy_by_lr(data.trials, data.metric)),
        lambda frames, metric: panels.accuracy_lr(frames["accuracy_lr"], metric),
        "needs completed trials at two learning rates",
    ),
    Plan(
        "accuracy_ratio",
        _ratio_frames,
        lambda frames, metric: panels.accuracy_ratio(frames["accuracy_ratio"], frames["accuracy_ratio_lines"], metric),
        "needs completed trials at two values of lr / batch size",
    ),
    Plan(
        "surface_lr_batch",
        _single(
            "surface_lr_batch",
            lambda data: plotted.grid(data.trials, "optimizer.lr", "batch_size", data.metric),
        ),
        lambda frames, metric: panels.heat_map(
            frames["surface_lr_batch"], "optimizer.lr", "batch_size", metric, equal_ratio=True
        ),
        "needs a grid of two learning rates by two batch sizes",
    ),
    Plan(
        "surface_k1_k2",
        _single("surface_k1_k2", lambda data: plotted.deat_grid(data.trials, data.metric)),
        lambda frames, metric: panels.heat_map(
            frames["surface_k1_k2"], "optimizer.k1", "optimizer.k2", metric, equal_ratio=False
        ),
        "needs completed trials of deat with two values of optimizer.k1 or optimizer.k2",
    ),
    Plan(
        "accuracy_epoch",
        _single("accuracy_epoch", lambda data: plotted.accuracy_by_epoch(data.trials, data.epochs, data.chosen_by)),
        lambda frames, metric: panels.accuracy_epoch(frames["accuracy_epoch"]),
        "needs the sweep's metric of validation, to choose each method's cell without looking at the test set",
    ),
    Plan(
        "methods",
        _single("methods", lambda data: plotted.methods(data.trials, data.chosen_by)),
        lambda frames, metric: dots.methods(frames["methods"]),
        "needs three methods, each with a cell that validation chose",
    ),
)
