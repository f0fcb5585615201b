"""Nested models of the ratio: identities, closed forms, and simulated sweeps of which the truth is known."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from analysis.estimates.designs import Layout, degree_of, f_test, held_out_errors, jackknife_difference, ratio_groups
from analysis.estimates.nested_models import ratio_comparisons
from analysis.frames import published

GRID = ([0.05, 0.1, 0.2], [32, 64, 128])


@pytest.fixture
def sweep(frame_of):
    """Builds a sweep of 3 x 3 cells: a + slope log10(lr / batch) + along log10 lr, seed effects and noise."""

    def build(rng, along=0.0, seeds=3, noise=0.01, seed_effect=0.0, grid=GRID, bend=0.0, **values):
        shift = seed_effect * rng.standard_normal(seeds)
        rows = []
        for lr in grid[0]:
            for batch in grid[1]:
                for seed in range(seeds):
                    x = np.log10(lr / batch) + 3
                    y = 0.5 + 0.05 * x + bend * x**2 + along * np.log10(lr) + shift[seed]
                    point = {"optimizer.lr": lr, "batch_size": batch, "seed": seed, **values}
                    rows.append({**point, "last_test_robust": y + noise * rng.standard_normal()})
        return frame_of(rows)

    return build


def test_a_seed_that_was_run_once_changes_nothing_but_its_own_trial(sweep, frame_of):
    frame = sweep(np.random.default_rng(9), along=-0.006, seeds=4, noise=0.002, seed_effect=0.02)
    once = frame.iloc[0].to_dict() | {"seed": 4, "last_test_robust": 0.9}
    more = frame_of([*frame.to_dict("records"), once])
    (before,), (after,) = ratio_comparisons(frame), ratio_comparisons(more)
    assert before.blocked
    assert after.blocked
    # The same F: the centres of the polynomial move, and what it spans does not.
    assert [test.p for test in after.tests] == pytest.approx([test.p for test in before.tests], rel=1e-6)
    assert after.p_alike == pytest.approx(before.p_alike)


def test_seeds_of_one_trial_each_are_no_blocks(sweep):
    frame = sweep(np.random.default_rng(9), seeds=1)
    (found,) = ratio_comparisons(frame.assign(seed=range(9)))
    assert not found.blocked
    assert np.isnan(found.p_alike)


def test_intervals_of_a_comparison_are_those_of_its_parts_at_95_percent(sweep):
    frame = sweep(np.random.default_rng(1), along=0.02, seed_effect=0.02)
    (found,) = ratio_comparisons(frame)
    layout = Layout.of(frame, "last_test_robust")
    for test in found.tests:
        errors = [held_out_errors(layout.design(name, 2), layout) for name in (test.larger, test.smaller)]
        assert test.held_out == pytest.approx(jackknife_difference(*errors, 0.95))


def test_slopes_of_seeds_that_differ_are_noticed(sweep):
    rng = np.random.default_rng(2)
    frame = sweep(rng, noise=0.001)
    own = frame["seed"].map({0: -0.05, 1: 0.0, 2: 0.05}) * np.log10(frame["optimizer.lr"])
    differ = frame.assign(last_test_robust=frame["last_test_robust"] + own)
    assert ratio_comparisons(frame)[0].p_alike > 0.01
    assert ratio_comparisons(differ)[0].p_alike < 1e-6


@pytest.mark.parametrize(
    ("grid", "reason"),
    [
        (([0.1, 0.2, 0.4], [128]), "one batch size (128): the ratio cannot be told from the learning rate"),
        (([0.1], [32, 64, 128]), "one learning rate (0.1): the ratio cannot be told from the batch size"),
        (([0.1, 0.2], [128]), "one batch size (128): the ratio cannot be told from the learning rate"),
    ],
)
def test_what_cannot_be_told_is_said(sweep, grid, reason):
    frame = sweep(np.random.default_rng(0), grid=grid)
    (found,) = ratio_comparisons(frame)
    assert found.reason == reason
    assert found.fits == found.tests == ()


def test_a_design_in_which_lr_follows_from_the_ratio_is_refused(sweep):
    frame = sweep(np.random.default_rng(0))
    diagonal = frame[np.isclose(frame["optimizer.lr"] * frame["batch_size"], 6.4)]
    assert "cannot be told apart" in ratio_comparisons(diagonal)[0].reason


def test_cells_of_one_ratio_are_refused_as_such(sweep):
    frame = sweep(np.random.default_rng(0), grid=([0.1 * k for k in range(1, 9)], [32 * k for k in range(1, 9)]))
    along = frame[np.isclose(frame["lr_batch_ratio"], 0.1 / 32)]
    assert len(set(along["lr_batch_ratio"])) > 1  # by rounding alone
    assert ratio_comparisons(along)[0].reason == "lr / batch size has one value, so that nothing shows its own effect"


def test_the_published_study_cannot_tell_the_ratio_from_lr():
    found = ratio_comparisons(published.load_trials())
    assert len(found) == 6
    assert {one.reason for one in found} == {"one batch size (128): the ratio cannot be told from the learning rate"}


def test_networks_methods_and_settings_are_never_pooled(sweep, frame_of):
    rng = np.random.default_rng(0)
    parts = [sweep(rng, **{"model.name": m, "optimizer.weight_decay": d}) for m in "ab" for d in (0.0, 1e-3)]
    frame = frame_of([row for part in parts for row in part.to_dict("records")])
    groups = ratio_groups(frame)
    assert [len(group.trials) for group in groups] == [27] * 4
    assert [one.setting for one in ratio_comparisons(frame)] == [{"optimizer.weight_decay": d} for d in (0.0, 1e-3)] * 2


def test_pruned_trials_and_other_budgets_do_not_enter(sweep, frame_of):
    frame = sweep(np.random.default_rng(0), planned_epochs=10)
    worse = frame.assign(last_test_robust=0.1)
    others = [worse.assign(outcome="pruned"), worse.iloc[:9].assign(planned_epochs=2)]
    mixed = frame_of([row for part in (frame, *others) for row in part.to_dict("records")])
    assert len(mixed) == 63
    assert ratio_comparisons(mixed) == ratio_comparisons(frame)


def test_every_model_lies_within_the_next(sweep):
    layout = Layout.of(sweep(np.random.default_rng(0), grid=([0.02, 0.05, 0.1, 0.2], [16, 32, 64, 128])), "seed")
    for degree in (1, 2, 3):
        only, both, full = (layout.design(name, degree) for name in ("ratio only", "ratio + lr", "full"))
        for smaller, larger in ((only, both), (both, full)):
            rest = smaller - larger @ np.linalg.lstsq(larger, smaller, rcond=None)[0]
            assert np.abs(rest).max() < 1e-9
        batch = (layout.z - layout.x)[:, None] ** np.arange(degree + 1)
        assert np.abs(batch - full @ np.linalg.lstsq(full, batch, rcond=None)[0]).max() < 1e-9


@pytest.mark.parametrize(("side", "degree"), [(2, 1), (3, 2), (4, 3), (6, 3)])
def test_the_degree_grows_with_the_cells(sweep, side, degree):
    grid = ([0.01 * 3**i for i in range(side)], [16 * 2**i for i in range(side)])
    assert degree_of(Layout.of(sweep(np.random.default_rng(0), grid=grid), "last_test_robust")) == degree


def squares(design, y):
    rest = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    return rest @ rest


def test_f_is_of_the_residual_sums_of_squares_though_columns_depend_on_each_other():
    rng = np.random.default_rng(0)
    design, y = rng.standard_normal((20, 5)), rng.standard_normal(20)
    small, large = design[:, :3], np.column_stack([design, design @ np.ones(5)])
    f = (squares(small, y) - squares(large, y)) / 2 / (squares(large, y) / 15)
    found = f_test(small, large, y)
    assert found[1] == (2, 15)
    assert (found[0], found[2]) == pytest.approx((f, stats.f.sf(f, 2, 15)))


def profile_likelihood(theta, design, y, groups):
    """Greatest log-likelihood at a ratio theta of the intercepts' variance to the noise's.

    Least squares of y_i - c_g mean_g(y) on the columns treated alike, c_g = 1 - 1 / sqrt(1 + theta n_g) [Pinheiro,
    Bates, Mixed-Effects Models in S and S-PLUS, 2000, section 2.2].
    """
    sizes = np.bincount(groups)
    mean = np.eye(len(sizes))[groups] / sizes[groups][:, None] @ np.eye(len(sizes))[groups].T
    pull = np.eye(len(y)) - (1 - 1 / np.sqrt(1 + theta * sizes))[groups][:, None] * mean
    n, rest = len(y), squares(pull @ design, pull @ y)
    return -n / 2 * (np.log(2 * np.pi * rest / n) + 1) - np.log1p(theta * sizes).sum() / 2


@pytest.mark.parametrize("seed_effect", [0.0, 0.005, 0.05])
def test_likelihoods_are_the_maximum_and_aicc_is_of_them(sweep, seed_effect):
    for seed in range(3):
        frame = sweep(np.random.default_rng(seed), seed_effect=seed_effect).iloc[: 27 - 2 * seed]
        (found,) = ratio_comparisons(frame)
        layout = Layout.of(frame, "last_test_robust")
        assert found.blocked
        for fit in found.fits:
            design = layout.design(fit.name, found.degree)
            shares = np.append(np.linspace(0, 0.99, 300), 1 - np.geomspace(1e-2, 1e-5, 300))
            highest = max(profile_likelihood(s / (1 - s), design, layout.y, layout.seed) for s in shares)
            n, k = len(frame), fit.terms + 2
            assert highest - 1e-6 < fit.log_likelihood < highest + 2e-3  # the grid's steps
            assert fit.aicc == pytest.approx(-2 * fit.log_likelihood + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def test_a_likelihood_that_statsmodels_cannot_solve_for_is_none(sweep, monkeypatch):
    def singular(self, **options):
        raise np.linalg.LinAlgError("Singular matrix")

    monkeypatch.setattr("statsmodels.regression.mixed_linear_model.MixedLM.fit", singular)
    (found,) = ratio_comparisons(sweep(np.random.default_rng(3)))
    assert all(np.isnan([fit.log_likelihood, fit.aicc]).all() for fit in found.fits)
    assert np.isnan([test.likelihood_ratio for test in found.tests]).all()
    assert all(test.p < 1 for test in found.tests)


def test_one_seed_falls_back_to_least_squares_and_says_so(sweep):
    frame = sweep(np.random.default_rng(3), seeds=1)
    (found,) = ratio_comparisons(frame)
    layout = Layout.of(frame, "last_test_robust")
    design = layout.design("ratio + lr", 2)
    coefficients = np.linalg.lstsq(design, layout.y, rcond=None)[0]
    rest = layout.y - design @ coefficients
    normal = stats.norm(0, np.sqrt(np.mean(rest**2)))
    error = np.sqrt(rest @ rest / 5 * np.linalg.inv(design.T @ design)[3, 3])
    assert not found.blocked
    assert found.fits[1].log_likelihood == pytest.approx(normal.logpdf(rest).sum())
    assert found.tests[0].p == pytest.approx(2 * stats.t.sf(abs(coefficients[3] / error), 5))
    assert all(np.isnan(fit.p_lack_of_fit) for fit in found.fits)


def test_held_out_errors_are_those_of_the_hat_matrix(sweep):
    # e_c = mean of (I - H_cc)^-1 r_c [Cook, Weisberg, Residuals and Influence in Regression, 1982, section 2.2].
    layout = Layout.of(sweep(np.random.default_rng(4)), "last_test_robust")
    design = layout.design("ratio + lr", 2)
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    expected = []
    for cell in range(9):
        at = np.flatnonzero(layout.cell == cell)
        expected.append(np.linalg.solve(np.eye(3) - hat[np.ix_(at, at)], (layout.y - hat @ layout.y)[at]).mean())
    np.testing.assert_allclose(held_out_errors(design, layout), expected, atol=1e-12)


def test_a_cell_that_the_others_do_not_determine_has_no_held_out_error(sweep):
    layout = Layout.of(sweep(np.random.default_rng(4)), "last_test_robust")
    design = np.column_stack([np.ones(27), layout.cell == 0]).astype(float)
    assert np.isnan(held_out_errors(design, layout)).tolist() == [True] + [False] * 8


def test_with_one_trial_a_cell_held_out_errors_are_the_press_residuals(sweep):
    layout = Layout.of(sweep(np.random.default_rng(4), seeds=1), "last_test_robust")
    design = layout.design("ratio only", 2)
    hat = design @ np.linalg.inv(design.T @ design) @ design.T
    press = (layout.y - hat @ layout.y) / (1 - np.diag(hat))
    np.testing.assert_allclose(held_out_errors(design, layout), press, atol=1e-12)


def test_jackknife_of_a_mean_square_has_the_closed_form():
    # Of sqrt(mean square) against a constant 0: the delta method's error, sd(e^2) / (2 rms sqrt(n)), for many cells.
    errors = np.random.default_rng(0).standard_normal(4000)
    found = jackknife_difference(errors, np.zeros(4000), 0.95)
    rms = np.sqrt(np.mean(errors**2))
    half = 1.96 * np.std(errors**2) / (2 * rms * np.sqrt(4000))
    assert found.value == pytest.approx(rms)
    assert found.high - found.value == pytest.approx(half, rel=0.02)


def test_type_one_error_of_the_f_test_is_nominal_with_strong_seed_effects(sweep):
    # 1,500 sweeps of 27 trials at 5 %: Monte-Carlo sd 0.56 points, 3.3 sd allowed.
    rng = np.random.default_rng(5)
    frame = sweep(rng)
    layout = Layout.of(frame, "last_test_robust")
    blocks = layout.seed_blocks()
    small, large = (np.column_stack([layout.design(name, 2), blocks]) for name in ("ratio only", "ratio + lr"))
    mean = layout.design("ratio only", 2) @ [0.5, 0.05, -0.02]
    ps = []
    for _ in range(1500):
        y = mean + (0.03 * rng.standard_normal(3))[layout.seed] + 0.01 * rng.standard_normal(27)
        ps.append(f_test(small, large, y)[2])
    assert np.mean(np.array(ps) < 0.05) == pytest.approx(0.05, abs=3.3 * 0.0056)
    assert stats.kstest(ps, "uniform").pvalue > 1e-3


def test_a_slope_along_equal_ratio_is_found(sweep):
    # t of the slope: 0.05 * sqrt(27 * var(z given the ratio)) / 0.01 is about 11.
    (found,) = ratio_comparisons(sweep(np.random.default_rng(6), along=-0.05))
    test = found.tests[0]
    assert (test.smaller, test.larger, test.df) == ("ratio only", "ratio + lr", (1, 21))
    assert test.p_holm < 1e-4
    assert test.held_out.value < 0
    best = min(found.fits, key=lambda fit: fit.aicc)
    assert best.name == "ratio + lr"


def test_a_surface_that_no_polynomial_fits_is_flagged(sweep):
    rng = np.random.default_rng(7)
    frame = sweep(rng, noise=0.002)
    bump = 0.05 * ((frame["optimizer.lr"] == 0.1) & (frame["batch_size"] == 64))
    (found,) = ratio_comparisons(frame.assign(last_test_robust=frame["last_test_robust"] + bump))
    assert found.fits[-1].name == "full"
    assert found.fits[-1].p_lack_of_fit < 1e-6
    (fine,) = ratio_comparisons(frame)
    assert fine.fits[-1].p_lack_of_fit > 0.01


def test_holm_is_over_the_tests_of_all_groups(sweep, frame_of):
    rng = np.random.default_rng(8)
    rows = [row for name in "ab" for row in sweep(rng, **{"model.name": name}).to_dict("records")]
    alone = ratio_comparisons(frame_of([row for row in rows if row["model.name"] == "a"]))
    both = ratio_comparisons(frame_of(rows))
    assert [t.p for t in both[0].tests] == [t.p for t in alone[0].tests]
    tests = [test for one in both for test in one.tests]
    assert len(tests) == 6
    assert min(test.p_holm for test in tests) == pytest.approx(min(1, 6 * min(test.p for test in tests)))


def test_constant_values_give_no_interval_and_no_warning(sweep):
    frame = sweep(np.random.default_rng(0)).assign(last_test_robust=0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = ratio_comparisons(frame)
    assert np.isnan(found.p_alike)
    assert np.isnan([test.p for test in found.tests]).all()
