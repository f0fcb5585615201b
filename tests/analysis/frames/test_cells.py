import doctest

import numpy as np
import pytest

from analysis.claims.ledger import ledger
from analysis.claims.study import Study
from analysis.estimates.methods import comparison
from analysis.frames import budgets, cells, strata
from analysis.frames.cells import LEFT_OUT, best_cells, best_trials, cell_means, codes, own_best, varying
from analysis.tables.methods import notes
from analysis.tables.trials import best_lines


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


def test_cell_of_one_lucky_seed_is_no_candidate_beside_whole_ones(frame_of):
    whole = rows(0.1, [0.5, 0.6]) + rows(0.2, [0.6, 0.7])
    lucky = [*rows(0.4, [0.9]), {"optimizer.lr": 0.4, "seed": 1, "outcome": "failed"}]
    frame = frame_of(whole + lucky)
    best = best_cells(frame)
    assert (best["optimizer.lr"].tolist(), best["n"].tolist(), best[LEFT_OUT].tolist()) == ([0.2], [2], [1])
    assert best_trials(frame)["optimizer.lr"].tolist() == [0.2, 0.2]
    assert set(best_trials(frame)[LEFT_OUT]) == {1}


def test_cell_that_was_wanted_with_one_seed_is_no_candidate_beside_cells_of_three(frame_of):
    explored = [row for lr in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0) for row in rows(lr, [0.9])]
    best = best_cells(frame_of(rows(0.1, [0.5] * 3) + rows(0.2, [0.6] * 3) + explored))
    assert (best["optimizer.lr"].tolist(), best[LEFT_OUT].tolist()) == ([0.2], [7])


def test_seeds_that_were_added_to_one_cell_alone_do_not_rule_the_others_out(frame_of):
    frame = frame_of(rows(0.1, [0.5] * 12) + rows(0.2, [0.6] * 3) + rows(0.4, [0.4] * 3) + rows(0.8, [0.3] * 3)
                     + rows(1.6, [0.3] * 3) + rows(3.2, [0.3] * 3))  # fmt: skip
    assert best_cells(frame)["optimizer.lr"].tolist() == [0.2]


def test_cell_that_lacks_a_seed_it_was_wanted_with_is_no_candidate_where_half_the_others_are_whole(frame_of):
    lacking = [*rows(0.4, [0.9, 0.9]), {"optimizer.lr": 0.4, "seed": 2, "outcome": "failed"}]
    best = best_cells(frame_of(rows(0.1, [0.5] * 3) + rows(0.2, [0.6] * 3) + lacking))
    assert (best["optimizer.lr"].tolist(), best[LEFT_OUT].tolist()) == ([0.2], [1])


def test_cells_that_still_wait_for_a_further_seed_stand_beside_the_first_that_has_it(frame_of):
    waiting = [{"optimizer.lr": lr, "seed": 2, "outcome": "never_started"} for lr in (0.2, 0.4, 0.8)]
    two = [row for lr in (0.2, 0.4, 0.8) for row in rows(lr, [lr, lr])]
    best = best_cells(frame_of(rows(0.1, [0.5] * 3) + two + waiting))
    assert (best["optimizer.lr"].tolist(), best[LEFT_OUT].tolist()) == ([0.8], [0])


def test_seed_counts_only_where_it_measured_what_chooses(frame_of):
    nan = float("nan")
    frame = frame_of(rows(0.1, [0.5, 0.5]) + rows(0.2, [0.9, nan]))
    assert best_cells(frame)["optimizer.lr"].tolist() == [0.1]


def test_cells_of_one_seed_each_are_all_candidates(frame_of):
    best = best_cells(frame_of(rows(0.1, [0.5]) + rows(0.2, [0.6])))
    assert (best["optimizer.lr"].tolist(), best[LEFT_OUT].tolist()) == ([0.2], [0])


def test_only_the_seeds_that_are_to_choose_do(frame_of):
    frame = frame_of(rows(0.1, [0.5, 0.5, 0.9]) + rows(0.2, [0.6, 0.6, 0.1]))
    assert best_cells(frame, seeds={0, 1})["optimizer.lr"].tolist() == [0.2]
    assert best_cells(frame, seeds={0, 1})["last_val_robust"].tolist() == pytest.approx([1.3 / 3])
    assert best_cells(frame)["optimizer.lr"].tolist() == [0.1]


def test_cell_that_lacks_one_of_the_seeds_that_are_to_choose_is_no_candidate(frame_of):
    frame = frame_of(rows(0.1, [0.5] * 3) + rows(0.2, [0.6] * 3) + rows(0.3, [0.5] * 3) + rows(0.4, [0.9] * 2))
    assert best_cells(frame)["optimizer.lr"].tolist() == [0.4]
    assert best_cells(frame, seeds={0, 1, 2})["optimizer.lr"].tolist() == [0.2]


def test_superseded_trials_are_not_of_the_best_cell(frame_of):
    frame = frame_of(rows(0.1, [0.5, 0.5]) + rows(0.1, [0.9, 0.9], outcome="superseded") + rows(0.2, [0.4, 0.4]))
    best = best_cells(frame)
    assert (best["last_val_robust"].tolist(), best["n"].tolist(), best["trials"].tolist()) == ([0.5], [2], [2])
    assert best_trials(frame)["trial_id"].tolist() == ["t0", "t1"]


@pytest.mark.parametrize("module", [budgets, cells, strata], ids=lambda module: module.__name__)
def test_examples_hold(module):
    tried = doctest.testmod(module)
    assert (tried.failed, tried.attempted > 0) == (0, True)


def test_every_answer_leaves_the_lucky_cell_out_and_says_so(frame_of):
    sides = []
    for name in ("sgd", "deat"):
        side = rows(0.1, [0.5, 0.6]) + rows(0.2, [0.6, 0.7]) + rows(0.4, [0.9])
        sides += [{**row, "optimizer.name": name, "last_test_robust": row["last_val_robust"]} for row in side]
    frame = frame_of(sides)
    text = "1 cell left out of the choice: not all of their seeds completed, or fewer than of the others"
    assert [line.endswith(f"(mean over 2 seeds; {text})") for line in best_lines(frame)[::2]] == [True, True]
    assert {line[:22] for line in best_lines(frame)[1::2]} == {"  perhaps not the best"}
    results = comparison(frame)
    assert [(row.cell["optimizer.lr"], row.n, row.left_out) for row in results] == [(0.2, 2, 1)] * 2
    assert text.replace("1 cell", "2 cells") in notes(results)
    (claim,) = ledger(Study(frame), only="deat_own_best")
    assert (claim.n, claim.n_trials) == (2, 4)


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


def test_own_best_parts_the_seeds_that_chose_from_those_compared(frame_of):
    def at(lr, seed, value):
        return {"optimizer.lr": lr, "seed": seed, "last_val_robust": value}

    frame = frame_of([at(0.1, 0, 0.6), at(0.1, 1, 0.1), at(0.2, 0, 0.5), at(0.2, 1, 0.9)])
    alone = own_best(frame, choosers=(0,))
    assert alone.trials["trial_id"].tolist() == ["t0", "t1"]
    assert alone.chose["trial_id"].tolist() == ["t0"]
    assert alone.compared["trial_id"].tolist() == ["t1"]
    together = own_best(frame)
    assert together.trials["trial_id"].tolist() == ["t2", "t3"]
    assert together.chose.equals(together.trials)
    assert together.compared.equals(together.trials)
