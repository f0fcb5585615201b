import numpy as np
import pandas as pd
import pytest

from analysis.plots.surface import surface, surfaces


def test_surface_is_pandas_pivot_of_the_completed_trials(ratio_trials):
    part = ratio_trials[ratio_trials["optimizer.name"] == "deat"]
    found = surface(part, "optimizer.lr", "batch_size")
    for how in ("mean", "sd", "n"):
        aggregate = {"mean": "mean", "sd": "std", "n": "count"}[how]
        pivot = part.pivot_table(
            index="batch_size", columns="optimizer.lr", values="last_test_robust", aggfunc=aggregate
        )
        assert getattr(found, how) == pytest.approx(pivot.to_numpy())
    assert found.x_values.tolist() == [0.05, 0.1, 0.2]
    assert found.y_values.tolist() == [64, 128, 256]


def test_diverged_cells_are_kept_as_such(ratio_trials):
    found = surfaces(ratio_trials, "optimizer.lr", "batch_size")["small_cnn", "PGD-AT"]
    assert np.isnan(found.mean[0, 2])
    assert (found.n[0, 2], found.diverged[0, 2]) == (0, 3)
    assert found.diverged.sum() == 3


def test_cell_without_trials_is_nan_with_n_0(frame_of):
    frame = frame_of(
        [
            {"optimizer.lr": 0.1, "batch_size": 64, "last_test_robust": 0.4},
            {"optimizer.lr": 0.2, "batch_size": 128, "last_test_robust": 0.5},
        ]
    )
    found = surface(frame, "optimizer.lr", "batch_size")
    assert found.n.tolist() == [[1, 0], [0, 1]]
    assert np.isnan(found.mean[0, 1])
    assert np.isnan(found.sd).all()


def test_table_has_a_row_a_grid_point_with_its_own_x_and_y(frame_of):
    points = [(lr, batch) for lr in (0.1, 0.2) for batch in (64, 128, 256)]
    rows = [{"optimizer.lr": lr, "batch_size": b, "last_test_robust": lr + b / 1000} for lr, b in points]
    table = surface(frame_of(rows), "optimizer.lr", "batch_size").table()
    assert list(table.columns) == ["optimizer.lr", "batch_size", "mean", "sd", "n", "diverged"]
    assert len(table) == 6
    assert table["mean"].to_numpy() == pytest.approx(table["optimizer.lr"] + table["batch_size"] / 1000)


def test_every_trial_that_completed_or_diverged_is_counted_once_and_no_other(ratio_trials):
    outcomes = ["failed", "out_of_memory", "interrupted", "unfinished"]
    others = ratio_trials.head(4).assign(outcome=outcomes, last_test_robust=np.nan)
    found = surfaces(pd.concat([ratio_trials, others]), "optimizer.lr", "batch_size").values()
    assert sum(each.n.sum() + each.diverged.sum() for each in found) == len(ratio_trials)
