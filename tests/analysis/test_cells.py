import numpy as np
import pytest

from analysis.cells import best_cells, best_trials, cell_means, codes, varying


def rows(lr, values, outcome="completed", **more):
    metrics = {"last_val_robust": values, "last_test_robust": [1 - value for value in values]}
    return [
        {
            "optimizer.lr": lr,
            "seed": seed,
            "outcome": outcome,
            **{k: v[seed] for k, v in metrics.items()},
            **more,
        }
        for seed in range(len(values))
    ]


def test_best_cell_has_the_highest_mean_not_the_highest_trial(frame_of):
    frame = frame_of(rows(0.1, [0.9, 0.1]) + rows(0.2, [0.6, 0.6]))
    best = best_cells(frame, report=["last_test_robust"])
    assert best["optimizer.lr"].tolist() == [0.2]
    assert best["last_test_robust"].tolist() == pytest.approx([0.4])
    assert best["n"].tolist() == [2]


def test_best_cell_by_a_loss_has_the_lowest_mean(frame_of):
    frame = frame_of(rows(0.1, [0.5, 0.1]) + rows(0.2, [0.6, 0.6]))
    assert best_cells(frame, mode="min")["optimizer.lr"].tolist() == [0.1]


def test_cell_in_which_a_trial_diverged_is_no_candidate(frame_of):
    frame = frame_of(rows(0.1, [0.5]) + rows(0.2, [0.9]) + rows(0.2, [0.0], outcome="diverged"))
    assert best_cells(frame)["optimizer.lr"].tolist() == [0.1]


def test_without_validation_only_a_sole_cell_is_best(frame_of):
    nan = float("nan")
    assert len(best_cells(frame_of(rows(0.1, [nan])))) == 1
    assert best_cells(frame_of(rows(0.1, [nan]) + rows(0.2, [nan]))).empty


def test_each_model_and_optimizer_has_its_own_best(ratio_trials):
    best = best_cells(ratio_trials)
    assert best["optimizer.name"].tolist() == ["sgd", "deat"]


def test_cell_means_count_every_trial(ratio_trials):
    cells = cell_means(ratio_trials, ["last_val_robust"])
    assert len(cells) == 18
    assert (cells["trials"].sum(), cells["n"].sum(), cells["diverged"].sum()) == (54, 51, 3)


def test_nan_is_a_value_of_its_own_in_codes(frame_of):
    frame = frame_of([{"optimizer.k1": value} for value in (np.nan, 1.0, np.nan)])
    assert codes(frame, ["optimizer.lr", "optimizer.k1"]).tolist() == [0, 1, 0]


def test_axis_that_only_does_not_apply_to_sgd_does_not_vary(frame_of):
    frame = frame_of([{"optimizer.name": "sgd"}, {"optimizer.name": "deat", "optimizer.k1": 1.0}])
    assert varying(frame) == ["optimizer.name"]


@pytest.mark.parametrize(("mode", "best"), [("max", "deat"), ("min", "sgd")])
def test_best_trials_overall_are_the_seeds_of_one_cell(frame_of, mode, best):
    sgd = rows(0.1, [0.5, 0.6], **{"optimizer.name": "sgd"})
    frame = frame_of(sgd + rows(0.2, [0.7, 0.8], **{"optimizer.name": "deat"}))
    assert best_trials(frame, mode=mode)["optimizer.name"].tolist() == ["sgd", "sgd", "deat", "deat"]
    assert best_trials(frame, mode=mode, overall=True)["optimizer.name"].tolist() == [best, best]
