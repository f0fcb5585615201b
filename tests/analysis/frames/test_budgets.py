"""Trials of other budgets never stand beside the rest, and it is said how many they were."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.estimates.correlations import correlations
from analysis.figures import draw
from analysis.frames.budgets import network_budgets, one_budget, same_budget, trials_left_out


def rows(n, **values):
    return [{"seed": seed, "last_test_robust": 0.5, **values} for seed in range(n)]


def test_the_commonest_budget_stays_and_every_other_trial_is_counted(frame_of):
    frame = frame_of(
        rows(4, planned_epochs=10)
        + rows(3, planned_epochs=20)
        + rows(2, planned_epochs=10, outcome="pruned")
        + rows(1, planned_epochs=10, outcome="diverged")
    )
    kept, left_out = one_budget(frame)
    assert set(kept["planned_epochs"]) == {10}
    assert set(kept["outcome"]) == {"completed"}
    assert left_out == {"another budget": 3, "diverged": 1, "pruned": 2}
    assert len(kept) + sum(left_out.values()) == len(frame)


def test_many_pruned_trials_do_not_choose_the_budget(frame_of):
    frame = frame_of(rows(9, planned_epochs=50, outcome="pruned") + rows(2, planned_epochs=10))
    assert set(one_budget(frame)[0]["planned_epochs"]) == {10}


def test_of_equally_common_budgets_the_longest_stays(frame_of):
    frame = frame_of(rows(2, planned_epochs=10) + rows(2, planned_epochs=30) + rows(2, planned_epochs=20))
    assert set(one_budget(frame)[0]["planned_epochs"]) == {30}


def test_trials_measured_by_another_attack_are_left_out(frame_of):
    frame = frame_of(rows(3, **{"evaluation.steps": 10}) + rows(2, **{"evaluation.steps": 20}))
    kept, left_out = one_budget(frame)
    assert set(kept["evaluation.steps"]) == {10}
    assert left_out == {"other conditions": 2}


@pytest.mark.parametrize("planned", [{}, {"planned_epochs": 10}])
def test_a_completed_trial_with_fewer_epochs_than_planned_never_enters(frame_of, planned):
    frame = frame_of(rows(3, **planned)).assign(epochs=[10, 7, 10])
    kept, left_out = one_budget(frame)
    assert list(kept["epochs"]) == [10, 10]
    assert left_out == {"fewer epochs than planned": 1}


def test_a_whole_frame_comes_back_as_it_is(ratio_trials):
    kept, left_out = one_budget(ratio_trials)
    assert left_out == {"diverged": 3}
    assert kept.equals(ratio_trials[ratio_trials["outcome"] == "completed"])


def test_an_empty_frame_stays_empty(frame_of):
    frame = frame_of(rows(2, outcome="failed"))
    kept, left_out = one_budget(frame)
    assert kept.empty
    assert left_out == {"failed": 2}
    assert np.array_equal(kept.columns, frame.columns)


def test_each_network_keeps_its_own_commonest_budget(frame_of):
    small = rows(3, planned_epochs=10) + rows(2, planned_epochs=20) + rows(1, planned_epochs=10, outcome="pruned")
    large = [{**row, "model.name": "resnet"} for row in rows(2, planned_epochs=30) + rows(1, planned_epochs=10)]
    frame = frame_of(small + large)
    kept, left_out = network_budgets(frame)
    assert kept["planned_epochs"].tolist() == [10] * 3 + [30] * 2
    assert left_out == {"another budget": 3, "pruned": 1}
    assert network_budgets(frame[:0])[1] == {}


def test_the_text_names_every_reason():
    assert trials_left_out({"another budget": 4, "pruned": 1}) == "5 trials left out: 4 another budget, 1 pruned"
    assert trials_left_out({"pruned": 1}) == "1 trial left out: 1 pruned"


def test_of_the_same_budget_stay_trials_of_every_outcome(frame_of):
    frame = frame_of(
        rows(3, planned_epochs=10) + rows(1, planned_epochs=10, outcome="diverged") + rows(2, planned_epochs=20)
    )
    assert same_budget(frame)["outcome"].tolist() == ["completed"] * 3 + ["diverged"]
    assert same_budget(frame_of(rows(2, outcome="failed")))["outcome"].tolist() == ["failed"] * 2


def test_correlations_never_pool_two_budgets_and_count_the_other(frame_of):
    """Twice the epochs add points at the small learning rates alone: pooled, little of the rise would be left."""
    lrs = np.geomspace(0.01, 1, 9)
    short = [{"optimizer.lr": lr, "planned_epochs": 5, "last_test_robust": 0.3 + 0.05 * np.log10(lr)} for lr in lrs]
    long = [{"optimizer.lr": lr, "planned_epochs": 10, "last_test_robust": 0.6} for lr in lrs[:6]]
    fits = correlations(frame_of(short + long), predictors=["optimizer.lr"], methods=["spearman"])
    assert fits[["estimate", "n", "n_left_out"]].to_numpy().tolist() == [[1, 9, 6]]
    both = [(row["optimizer.lr"], row["last_test_robust"]) for row in short + long]
    assert stats.spearmanr(both).statistic < 0.2


def test_figures_do_not_pool_two_budgets_and_say_how_many_are_left_out(run, tmp_path):
    for index, lr in enumerate([0.01, 0.1, 0.2]):
        run.whole(f"a{index}", [0.3, 0.4 + lr], optimizer__lr=lr)
    run.whole("b", [0.3, 0.4, 0.9], config={"epochs": 3}, optimizer__lr=0.1)
    run.close()
    drawing = draw(run.directory, tmp_path / "out")
    assert drawing.left_out == {"another budget": 1}
    assert "b" not in pd.read_csv(tmp_path / "out" / "accuracy_lr.csv")["trial_id"].tolist()
