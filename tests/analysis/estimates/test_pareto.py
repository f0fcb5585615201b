"""The front with intervals: what they are over, and how sure a place on it is."""

from __future__ import annotations

import numpy as np
import pytest
from pandas import DataFrame
from scipy import stats

from analysis.estimates.intervals import mean_error
from analysis.estimates.pareto import ALIKE, ONE_SEED, OWN, POOLED, front
from analysis.frames.pareto import Objective
from analysis.plots.pareto import PLAN
from analysis.plots.plan import Data
from analysis.tables.pareto import front_lines

BOTH = (Objective("val_robust", "max"), Objective("val_clean", "max"))


def trials(robust, clean, methods=None):
    """(cells, seeds) of each objective -> a frame of one trial each."""
    cells, seeds = np.shape(robust)
    rows = [
        {
            "trial_id": f"{cell}-{seed}",
            "outcome": "completed",
            "method": "PGD-AT" if methods is None else methods[cell],
            "seed": seed,
            "model.name": "net",
            "optimizer.lr": 0.1 * (cell + 1),
            "lr_batch_ratio": 1.0,
            "last_val_robust": robust[cell][seed],
            "last_val_clean": clean[cell][seed],
            "last_test_robust": robust[cell][seed] - 0.01,
            "last_test_clean": np.nan,
        }
        for cell in range(cells)
        for seed in range(seeds)
    ]
    return DataFrame(rows)


def test_cells_that_trade_one_for_the_other_are_on_it_for_sure_and_a_dominated_one_never():
    spread = np.array([-0.001, 0.0, 0.001])
    frame = trials([0.5 + spread, 0.4 + spread, 0.3 + spread], [0.6 + spread, 0.8 + spread, 0.5 + spread])
    rows = front(frame, BOTH)
    assert rows["pareto"].tolist() == [True, True, False]
    assert rows["front_share"].tolist() == [1, 1, 0]
    assert rows["last_test_robust"].tolist() == pytest.approx([0.49, 0.39, 0.29])


def test_of_two_cells_told_apart_by_noise_alone_each_is_on_it_in_some_resamples():
    rng = np.random.default_rng(0)
    frame = trials(0.5 + 0.01 * rng.standard_normal((2, 5)), np.full((2, 5), 0.7))
    share = front(frame, BOTH)["front_share"]
    assert share.sum() == pytest.approx(1, abs=0.01)  # the second objective is equal, so that one of them is better
    assert share.between(0.01, 0.99).all()


def test_an_interval_is_the_t_interval_with_the_noise_pooled_over_the_stratum():
    rng = np.random.default_rng(1)
    robust = np.array([[0.5], [0.4], [0.3]]) + 0.01 * rng.standard_normal((3, 4))
    rows = front(trials(robust, 1 - robust), BOTH).sort_values("optimizer.lr")
    error, freedom = mean_error(robust)
    assert error == pytest.approx(np.sqrt(robust.var(axis=1, ddof=1).mean() / 4))
    half = stats.t.ppf(0.975, freedom) * error
    assert (rows["last_val_robust_interval"] == POOLED).all()
    np.testing.assert_allclose(rows["last_val_robust_high"] - rows["last_val_robust"], half)
    np.testing.assert_allclose(rows["last_val_robust"], robust.mean(axis=1))


def test_cells_that_their_seeds_move_alike_have_the_degrees_of_freedom_of_the_seeds():
    robust = np.array([[0.5], [0.4], [0.3]]) + np.array([-0.02, 0.0, 0.01, 0.03])
    rows = front(trials(robust, 1 - robust), BOTH).sort_values("optimizer.lr")
    half = stats.t.ppf(0.975, 3) * robust[0].std(ddof=1) / 2
    np.testing.assert_allclose(rows["last_val_robust_high"] - rows["last_val_robust"], half)


def test_cells_whose_noise_differs_have_an_interval_of_their_own():
    rng = np.random.default_rng(1)
    robust = 0.5 + np.array([[0.0001], [0.05]]) * rng.standard_normal((2, 5))
    rows = front(trials(robust, 1 - robust), BOTH).sort_values("optimizer.lr")
    assert (rows["last_val_robust_interval"] == OWN).all()
    half = stats.t.ppf(0.975, 4) * robust.std(axis=1, ddof=1) / np.sqrt(5)
    np.testing.assert_allclose(rows["last_val_robust_high"] - rows["last_val_robust"], half)


def test_one_seed_has_no_interval_and_the_lines_say_so():
    frame = trials([[0.5], [0.4]], [[0.6], [0.8]])
    rows = front(frame, BOTH)
    assert rows["front_share"].isna().all()
    assert rows["last_val_robust_low"].isna().all()
    assert (rows["last_val_robust_interval"] == ONE_SEED).all()
    lines = front_lines(frame, rows, BOTH)
    assert lines[0] == "Pareto front of val_robust (max), val_clean (max), net, PGD-AT: 2 of 2 cells, by validation"
    assert lines[1:4] == [
        "  optimizer.lr 0.1 (n = 1)",
        "    val robust 50.0 %, val clean 60.0 %",
        "    test robust 49.0 %",
    ]
    assert lines[-1] == "means at the last epoch; one seed a cell: no interval, and nothing says how sure the front is"


def test_seeds_that_do_not_differ_have_no_interval_and_the_lines_say_so():
    frame = trials([[0.5, 0.5], [0.4, 0.4]], [[0.6, 0.6], [0.8, 0.8]])
    rows = front(frame, BOTH)
    assert rows["last_val_robust_low"].isna().all()
    assert (rows["last_val_robust_interval"] == ALIKE).all()
    lines = front_lines(frame, rows, BOTH)
    assert "means at the last epoch; no interval: cells have one seed, or seeds that do not differ" in lines


def test_a_drawn_setting_is_shown_in_4_digits():
    frame = trials([[0.5, 0.51]], [[0.6, 0.6]]).assign(**{"optimizer.lr": [0.026358449231681756, 0.5]}).iloc[:1]
    frame = DataFrame([*frame.to_dict("records"), {**frame.iloc[0], "trial_id": "b", "optimizer.lr": 0.5}])
    assert front_lines(frame, front(frame, BOTH), BOTH)[1] == "  optimizer.lr 0.02636 (n = 1)"


def test_methods_have_a_front_each():
    rows = front(trials([[0.5] * 2, [0.4] * 2], [[0.6] * 2, [0.5] * 2], ["PGD-AT", "DEAT"]), BOTH)
    assert rows["pareto"].all()


def test_without_a_cell_that_can_be_judged_there_is_a_line():
    frame = trials([[0.5, 0.4]], [[0.6, np.nan]]).assign(outcome="diverged")
    assert front_lines(frame, front(frame, BOTH), BOTH)[0].startswith("no Pareto front of val_robust (max)")


def test_cells_that_are_not_judged_are_counted_with_the_reasons_also_of_a_stratum_without_a_front():
    frame = trials([[0.5] * 2, [0.6] * 2, [0.1] * 2, [0.2] * 2], [[0.6] * 2] * 4, ["PGD-AT"] * 3 + ["DEAT"])
    lost = frame["trial_id"].isin(["1-1", "2-0", "2-1", "3-0", "3-1"])
    frame["outcome"] = np.where(lost, "pruned", "completed")
    lines = front_lines(frame, front(frame, BOTH), BOTH)
    wanted = "front of val_robust (max), val_clean (max), net"
    counted = "2 cells not judged: a seed was pruned (1), no seed completed (1)"
    assert lines[0] == f"Pareto {wanted}, PGD-AT: 1 of 1 cell, by validation; {counted}"
    assert f"no Pareto {wanted}, DEAT: 1 cell not judged: no seed completed" in lines


def test_cells_that_are_not_judged_are_hollow_in_the_figure_and_named_in_its_numbers():
    frame = trials([[0.5] * 2, [0.6] * 2, [0.1] * 2], [[0.6] * 2] * 3)
    frame["outcome"] = np.where(frame["trial_id"].isin(["1-1", "2-0", "2-1"]), "pruned", "completed")
    data = Data(frame, DataFrame(), "last_test_robust", objectives=BOTH)
    rows = PLAN.frames(data)["pareto"]
    assert rows["why_not"].tolist() == ["", "a seed was pruned", "no seed completed"]
    assert rows["n"].tolist() == [2, 1, 0]
    assert rows["pareto"].iloc[0]
    assert rows.loc[1:, ["pareto", "front_share", "last_val_robust_low"]].isna().all(axis=None)
    figure = PLAN.render({"pareto": rows}, data.metric)
    hollow = [line for line in figure.axes[0].lines if line.get_markerfacecolor() == "none"]
    assert [np.round(line.get_xydata(), 9).tolist() for line in hollow] == [[[60.0, 60.0]]]
    assert figure.axes[0].get_title() == "PGD-AT (1 of 1 cell on the front, 1 not judged)"
    assert "not judged: a seed was pruned" in PLAN.captioned(data, {"pareto": rows})
    assert PLAN.trial_ids(data, [rows]) == {"0-0", "0-1", "1-0"}
