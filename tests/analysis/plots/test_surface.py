import numpy as np
import pandas as pd
import pytest

from analysis.plots.surface import LR_BATCH, surface

AXES = (*LR_BATCH, "last_test_robust")


def by_cell(rows, column):
    """(batch size, learning rate) of one network and method."""
    return rows.pivot_table(index="batch_size", columns="optimizer.lr", values=column, dropna=False).to_numpy()


def test_surface_is_pandas_pivot_of_the_completed_trials(ratio_trials):
    part = ratio_trials[ratio_trials["optimizer.name"] == "deat"]
    rows = surface(part, *AXES)
    assert list(rows.columns) == ["model.name", "method", *LR_BATCH, "mean", "sd", "n", "diverged"]
    for how, aggregate in {"mean": "mean", "sd": "std", "n": "count"}.items():
        pivot = part.pivot_table(
            index="batch_size", columns="optimizer.lr", values="last_test_robust", aggfunc=aggregate
        )
        assert by_cell(rows, how) == pytest.approx(pivot.to_numpy())
    assert rows["optimizer.lr"].tolist() == [0.05, 0.1, 0.2] * 3
    assert rows["batch_size"].tolist() == [64] * 3 + [128] * 3 + [256] * 3


def test_diverged_cells_are_kept_as_such(ratio_trials):
    rows = surface(ratio_trials, *AXES)
    lost = rows[rows["diverged"] > 0]
    assert lost[["optimizer.lr", "batch_size", "n", "diverged"]].to_numpy().tolist() == [[0.2, 64, 0, 3]]
    assert set(lost["method"]) == {"PGD-AT"}
    assert lost["mean"].isna().all()


def test_cell_without_trials_is_nan_with_n_0(frame_of):
    cells = ((0.1, 64, 0.4), (0.2, 128, 0.5))
    rows = surface(
        frame_of([{"optimizer.lr": lr, "batch_size": b, "last_test_robust": y} for lr, b, y in cells]), *AXES
    )
    assert by_cell(rows, "n").tolist() == [[1, 0], [0, 1]]
    assert np.isnan(by_cell(rows, "mean")[0, 1])
    assert rows["sd"].isna().all()


def test_every_trial_that_completed_or_diverged_is_counted_once_and_no_other(ratio_trials):
    outcomes = ["failed", "out_of_memory", "preempted", "interrupted", "unfinished"]
    others = ratio_trials.head(5).assign(outcome=outcomes, last_test_robust=np.nan)
    rows = surface(pd.concat([ratio_trials, others]), *AXES)
    assert rows[["n", "diverged"]].to_numpy().sum() == len(ratio_trials)
