import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.estimates.differences import compared, differences, paired_difference
from analysis.estimates.intervals import t_test
from analysis.frames.trials import load_trials


def rows(optimizer, values, lr=0.1, **more):
    """One trial a seed."""
    return [
        {"optimizer.name": optimizer, "optimizer.lr": lr, "seed": seed, "last_test_robust": value, **more}
        for seed, value in enumerate(values)
    ]


def test_swapping_the_sides_changes_the_sign_alone(ratio_trials):
    there = paired_difference(ratio_trials)
    back = paired_difference(ratio_trials, treatment="sgd", control="deat")
    assert (back.estimate, back.low, back.high) == pytest.approx((-there.estimate, -there.high, -there.low))
    assert back.p_value == pytest.approx(there.p_value)


def test_overall_test_is_scipys_paired_t_test_over_cell_means(frame_of):
    rng = np.random.default_rng(0)
    data = {lr: (rng.normal(0.5, 0.02, 3), rng.normal(0.48, 0.02, 3)) for lr in (0.1, 0.2, 0.3, 0.4)}
    frame = frame_of([r for lr, (d, s) in data.items() for r in rows("deat", d, lr) + rows("sgd", s, lr)])
    found = paired_difference(frame)
    means = np.array([(d.mean(), s.mean()) for d, s in data.values()])
    expected = stats.ttest_rel(means[:, 0], means[:, 1])
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high, found.p_value) == pytest.approx((*interval, expected.pvalue))
    assert found.p_wilcoxon == pytest.approx(stats.wilcoxon(means[:, 0] - means[:, 1]).pvalue)


def test_same_seeds_on_both_sides_are_paired(frame_of):
    deat, sgd = np.array([0.5, 0.54, 0.52]), np.array([0.48, 0.53, 0.5])
    found = paired_difference(frame_of(rows("deat", deat) + rows("sgd", sgd)[::-1]))
    expected = stats.ttest_rel(deat, sgd)
    assert found.cells["test"].tolist() == ["paired by seed"]
    assert found.cells["p_value"].item() == pytest.approx(expected.pvalue)
    assert found.test == "t-test over seeds, paired by seed, in the only cell"
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval(0.95)))


@pytest.mark.parametrize("seeds", [(3, 2), (2, 3)])
def test_other_seeds_are_compared_by_welch_though_one_sides_are_among_the_others(frame_of, seeds):
    deat, sgd = np.array([0.5, 0.54, 0.52])[: seeds[0]], np.array([0.48, 0.53, 0.51])[: seeds[1]]
    cells = paired_difference(frame_of(rows("deat", deat) + rows("sgd", sgd))).cells
    expected = stats.ttest_ind(deat, sgd, equal_var=False)
    assert cells["test"].tolist() == ["Welch"]
    assert cells["p_value"].item() == pytest.approx(expected.pvalue)
    interval = tuple(expected.confidence_interval(0.95))
    assert (cells["low"].item(), cells["high"].item()) == pytest.approx(interval)


@pytest.mark.parametrize("seeds", [([0, 0, 1], [0, 1, 1]), ([0, 1], [0, 1, 1]), ([0, 0, 1], [0, 1])])
def test_a_seed_that_was_run_twice_pairs_nothing(seeds):
    rng = np.random.default_rng(0)
    treated, control = (pd.Series(rng.standard_normal(len(of)), index=of) for of in seeds)
    found = compared(treated, control, 0.95)
    assert found["test"] == "Welch"
    assert found["p_value"] == pytest.approx(stats.ttest_ind(treated, control, equal_var=False).pvalue)


def test_axis_of_one_side_makes_comparisons_that_count_as_one_cell(frame_of):
    frame = frame_of(
        [
            *rows("deat", [0.5], 0.1, **{"optimizer.k1": 0.0}),
            *rows("deat", [0.6], 0.1, **{"optimizer.k1": 1.0}),
            *rows("deat", [0.5], 0.2, **{"optimizer.k1": 0.0}),
            *rows("sgd", [0.4], 0.1),
            *rows("sgd", [0.45], 0.2),
        ]
    )
    found = paired_difference(frame)
    assert found.cells["optimizer.k1"].tolist() == [0.0, 1.0, 0.0]
    assert found.cells["difference"].tolist() == pytest.approx([0.1, 0.2, 0.05])
    assert (found.n_cells, found.n_trials) == (2, 5)
    assert found.estimate == pytest.approx((0.15 + 0.05) / 2)


def test_several_comparisons_in_the_only_cell_have_no_test_of_their_mean(frame_of):
    ks = [
        row
        for k1, values in ((0.0, [0.5, 0.6]), (1.0, [0.7, 0.9]))
        for row in rows("deat", values, **{"optimizer.k1": k1})
    ]
    found = paired_difference(frame_of([*ks, *rows("sgd", [0.4, 0.45])]))
    assert found.estimate == pytest.approx(0.25)
    assert (found.n_cells, len(found.cells), found.test) == (1, 2, "none")
    assert np.isnan([found.low, found.high, found.p_value]).all()


def test_cells_without_a_completed_trial_on_a_side_are_left_out(frame_of):
    frame = frame_of(
        [
            *rows("deat", [0.5, 0.5], 0.1),
            *rows("sgd", [0.4, 0.4], 0.1),
            *rows("deat", [0.5, 0.5], 0.2),
            *rows("sgd", [np.nan, np.nan], 0.2, outcome="diverged"),
            *rows("deat", [0.5], 0.3),
            *rows("sgd", [np.nan], 0.1, seed=7),
        ]
    )
    found = paired_difference(frame)
    assert (found.n_cells, found.n_trials) == (1, 4)


def test_missing_method_gives_nan_and_no_crash(frame_of):
    found = paired_difference(frame_of(rows("sgd", [0.4, 0.5])))
    assert found.n_cells == 0
    assert np.isnan([found.estimate, found.low, found.p_value, found.p_wilcoxon]).all()
    assert differences(frame_of(rows("sgd", [0.4, 0.5]))) == {}


def test_the_cells_have_their_columns_in_their_order_though_there_is_none(ratio_trials):
    none, some = (paired_difference(frame).cells for frame in (ratio_trials[:0], ratio_trials))
    compared = ["treatment_mean", "control_mean", "difference", "low", "high", "p_value"]
    named = ["cell", *compared, "n_treatment", "n_control", "test"]
    assert len(none) == 0 < len(some)
    assert list(none.columns)[-len(named) :] == list(some.columns)[-len(named) :] == named


def test_any_factor_and_metric_can_be_compared(frame_of):
    frame = frame_of(
        [
            {"batch_size": b, "optimizer.lr": lr, "last_test_clean": 0.8 - b / 1000}
            for b in (64, 128)
            for lr in (0.1, 0.2)
        ]
    )
    found = paired_difference(frame, "last_test_clean", "batch_size", 64, 128)
    assert found.estimate == pytest.approx(0.064)


def test_p_is_uniform_when_there_is_no_difference():
    # 2000 p-values; each cell's difference is tested as in `paired_difference`, here without the frame.
    rng = np.random.default_rng(0)
    p_values = [t_test(values, 0.95)[3] for values in rng.standard_normal((2000, 4))]
    assert stats.kstest(p_values, "uniform").pvalue > 0.001


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.0, 0.0], [0.52 - 0.5, 0.42 - 0.4, 0.62 - 0.6]])
def test_equal_gains_say_nothing_about_the_spread(values):
    mean, *rest = t_test(np.array(values), 0.95)
    assert mean == pytest.approx(values[0])
    assert np.isnan(rest).all()


def test_equal_gains_of_cells_have_no_test(frame_of):
    frame = frame_of([r for lr in (0.1, 0.2) for r in rows("deat", [0.5], lr) + rows("sgd", [0.4], lr)])
    found = paired_difference(frame)
    assert np.isnan([found.low, found.high, found.p_value]).all()
    assert found.test == "none"


def test_axis_that_only_deat_sweeps_leaves_it_matched_though_sgd_has_the_key(run):
    key = "optimizer.decoupled_weight_decay"
    run.whole("s", [0.40], optimizer__name="sgd", config={key: False})
    run.whole("d", [0.50], optimizer__name="deat", optimizer__decoupled_weight_decay=True)
    run.whole("e", [0.44], optimizer__name="deat", optimizer__decoupled_weight_decay=False)
    found = paired_difference(load_trials(run.directory))
    assert found.cells["difference"].tolist() == pytest.approx([0.1, 0.04])
    assert found.cells[key].tolist() == [True, False]
    assert (found.n_cells, found.n_trials) == (1, 3)


def test_trials_of_other_base_configs_are_not_compared(run):
    for name, radius, robust in (("sgd", 0.1, 0.4), ("sgd", 0.2, 0.2), ("deat", 0.1, 0.5)):
        run.whole(f"{name}{radius}", [robust], optimizer__name=name, config={"attack.radius": radius})
    found = paired_difference(load_trials(run.directory))
    assert found.estimate == pytest.approx(0.1)
