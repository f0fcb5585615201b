"""Partial correlations: the textbook's formula, its other definition, and simulated truths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from analysis.estimates.partial_correlations import partial, partial_correlations
from analysis.estimates.resampling import COEFFICIENTS, resampled
from analysis.frames import published


def sweep(frame_of, rng, own=1.0, through=0.0, seeds=3, grid=(0.01, 0.03, 0.1, 0.3)):
    """y = own x + z + noise, z = through x + noise, x = log10 lr."""
    rows = []
    for lr in grid:
        for seed in range(seeds):
            x = np.log10(lr)
            z = through * x + 0.3 * rng.standard_normal()
            y = own * x + z + 0.3 * rng.standard_normal()
            rows.append({"optimizer.lr": lr, "seed": seed, "last_test_robust": y, "last_train_robust": z})
    return frame_of(rows)


def by(frame, kind, resamples=200, **options):
    found = partial_correlations(frame, resamples=resamples, **options)
    return next(one for one in found if one.coefficient == kind)


def residual(values, given):
    design = np.column_stack([np.ones_like(given), given])
    return values - design @ np.linalg.lstsq(design, values, rcond=None)[0]


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_it_is_the_correlation_of_what_the_given_leaves_over(frame_of, kind):
    frame = sweep(frame_of, np.random.default_rng(0))
    x, y, z = (frame[c].to_numpy() for c in ("lr_batch_ratio", "last_test_robust", "last_train_robust"))
    x = np.log10(x)
    if kind == "spearman":
        x, y, z = (stats.rankdata(values) for values in (x, y, z))
    expected = stats.pearsonr(residual(x, z), residual(y, z)).statistic
    found = by(frame, kind)
    assert found.estimate == pytest.approx(expected)
    assert found.plain == pytest.approx(stats.pearsonr(x, y).statistic)
    assert found.n == 12


LRS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32)


def test_p_is_that_of_the_slope_in_a_regression_of_the_cells_means_on_both(frame_of):
    from statsmodels.regression.linear_model import OLS

    frame = sweep(frame_of, np.random.default_rng(1), own=0.2, grid=LRS)
    means = frame.groupby("optimizer.lr")[["lr_batch_ratio", "last_train_robust", "last_test_robust"]].mean()
    design = np.column_stack([np.ones(6), np.log10(means["lr_batch_ratio"]), means["last_train_robust"]])
    found = by(frame, "pearson")
    assert found.p == pytest.approx(OLS(means["last_test_robust"].to_numpy(), design).fit().pvalues[1])
    assert (found.n, found.n_cells) == (18, 6)


def test_three_cells_have_an_interval_and_no_p(frame_of):
    found = by(sweep(frame_of, np.random.default_rng(1), seeds=3, grid=LRS[:3]), "pearson")
    assert np.isfinite(found.low)  # with as few degrees of freedom as may be
    assert np.isnan(found.p)


@pytest.mark.slow
def test_cells_that_depart_from_the_trend_are_not_taken_for_evidence(frame_of):
    # 9 cells with offsets of their own, thrice the noise, 5 seeds; no association. 300 sweeps at 5 %: 3.3 Monte-Carlo
    # sd of 1.26 points. With the trials as independent a third were significant.
    rng = np.random.default_rng(6)
    ps = []
    for _ in range(300):
        rows = []
        for lr in np.geomspace(0.01, 1, 9):
            own = 0.3 * rng.standard_normal(2)
            for seed in range(5):
                y, z = own + 0.1 * rng.standard_normal(2)
                rows.append({"optimizer.lr": lr, "seed": seed, "last_test_robust": y, "last_train_robust": z})
        ps.append(by(frame_of(rows), "pearson", 2).p)
    assert np.mean(np.array(ps) < 0.05) == pytest.approx(0.05, abs=3.3 * 0.0126)


def test_the_formula_of_three_correlations():
    assert partial(np.array(0.6), np.array(0.5), np.array(0.4)) == pytest.approx(0.4 / np.sqrt(0.75 * 0.84))
    assert np.isnan(partial(np.array(0.6), np.array(1.0), np.array(0.4)))


def test_an_association_that_only_the_given_makes_goes_away(frame_of):
    # x acts on y through z alone: plain near 1, partial 0. 200 sweeps at 5 %: 3.3 Monte-Carlo sd of 1.54 points.
    rng = np.random.default_rng(2)
    found = [by(sweep(frame_of, rng, own=0.0, through=2.0), "pearson", 2) for _ in range(200)]
    assert np.mean([one.plain for one in found]) > 0.9
    assert np.mean([one.p < 0.05 for one in found]) == pytest.approx(0.05, abs=3.3 * 0.0154)


def fishers_z(found):
    """The middle of the interval and half its width, on Fisher's z."""
    low, high = np.arctanh([found.low, found.high])
    return (low + high) / 2, (high - low) / 2


@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_the_interval_is_a_t_interval_about_the_estimates_z_with_one_degree_of_freedom_less(frame_of, kind):
    frame = sweep(frame_of, np.random.default_rng(0), own=0.3)
    inner, outer = (by(frame, kind, confidence=level) for level in (0.5, 0.95))
    assert fishers_z(outer)[0] == pytest.approx(np.arctanh(outer.estimate))
    expected = stats.t.ppf([0.75, 0.975], 12 - 4 - 1)
    assert fishers_z(outer)[1] / fishers_z(inner)[1] == pytest.approx(expected[1] / expected[0])
    assert by(frame, kind) == outer


def test_its_half_width_is_t_times_the_standard_deviation_of_the_resamples_z(frame_of):
    frame = sweep(frame_of, np.random.default_rng(0), own=0.3)
    values = frame[["lr_batch_ratio", "last_test_robust", "last_train_robust"]].to_numpy().T
    values[0] = np.log10(values[0])
    draws = resampled(np.repeat(np.arange(4), 3), 200, np.random.default_rng(5))
    precisions = [np.linalg.inv(np.cov(values, aweights=weights)) for weights in draws]
    pearson = np.array([-p[0, 1] / np.sqrt(p[0, 0] * p[1, 1]) for p in precisions])
    # Copies of a trial tie in x, as seeds of one cell do, and not in y or z; y and z are of one trial.
    x, y, z = values
    ranks = [
        COEFFICIENTS["spearman"](a, b, draws, untied) for a, b, untied in ((x, y, True), (x, z, True), (y, z, False))
    ]
    for kind, drawn in (("pearson", pearson), ("spearman", partial(*ranks))):
        half = stats.t.ppf(0.975, 7) * np.arctanh(drawn).std()
        assert fishers_z(by(frame, kind, seed=5))[1] == pytest.approx(half)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["pearson", "spearman"])
def test_the_interval_holds_the_mean_estimate_as_often_as_it_says(frame_of, kind):
    # 200 sweeps, target the estimates' mean: at 95 % the Monte-Carlo sd is 1.54 points; no less than 3.3 sd below 92 %.
    rng = np.random.default_rng(3)
    found = [by(sweep(frame_of, rng, own=0.3), kind) for _ in range(200)]
    target = np.mean([one.estimate for one in found])
    assert np.mean([one.low <= target <= one.high for one in found]) > 0.92 - 3.3 * 0.0154


def test_holm_is_over_all_of_the_call(frame_of):
    found = partial_correlations(sweep(frame_of, np.random.default_rng(4), own=0.1, grid=LRS), resamples=50)
    assert len(found) == 2  # last_train_clean was not measured
    assert max(one.p_holm for one in found) == pytest.approx(
        min(1, max(2 * min(o.p for o in found), max(o.p for o in found)))
    )


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seeds": 1}, "none: fewer than 5 trials"),
        ({"grid": (0.1,), "seeds": 6}, "none: fewer than 5 trials, or a constant"),
        ({"grid": (0.1, 0.2), "seeds": 6}, "none: fewer than 3 ratios"),
        ({"grid": (0.1, 0.2, 0.4, 0.8, 1.6, 3.2), "seeds": 1}, "none: fewer than 6 seeds beyond one a cell"),
    ],
)
def test_too_few_trials_have_no_interval_and_say_why(frame_of, options, reason):
    found = by(sweep(frame_of, np.random.default_rng(5), **options), "pearson")
    assert found.interval.startswith(reason)
    assert np.isnan([found.low, found.high]).all()


def test_the_published_study_measured_too_little_for_it():
    assert all(one.interval.startswith("none: fewer than 5") for one in partial_correlations(published.load_trials()))
