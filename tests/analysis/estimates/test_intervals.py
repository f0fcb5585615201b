import warnings

import numpy as np
import pytest
from scipy import stats

from analysis.estimates.intervals import difference_error, equal_variance, holm, line, mean_error, t_test


def tables(methods, seeds, n, rng, seed_sd=0.0):
    return seed_sd * rng.standard_normal((n, 1, seeds)) + rng.standard_normal((n, methods, seeds))


def covered(estimates, errors, confidence=0.95):
    """Whether the interval about each estimate of 0 holds 0."""
    half = [stats.t.ppf((1 + confidence) / 2, freedom) * error for error, freedom in errors]
    return np.abs(estimates) <= np.array(half)


def test_of_two_methods_it_is_the_paired_t_test():
    one, other = values = np.array([[0.50, 0.54, 0.52], [0.48, 0.53, 0.50]])
    expected = stats.ttest_rel(one, other)
    error, freedom = difference_error(values)
    assert freedom == expected.df
    assert (one.mean() - other.mean()) / error == pytest.approx(expected.statistic)


def test_of_one_method_it_is_the_ordinary_t_interval():
    values = np.array([[0.50, 0.54, 0.52]])
    assert mean_error(values) == pytest.approx((stats.sem(values[0]), 2))
    assert np.isnan(difference_error(values).freedom)


def test_residual_mean_square_by_hand():
    # Rows 1 3 | 2 2 | 3 7: row means 2 2 5, column means 2 4, residuals -+0, +-1, -+1; squares 4, freedom 2.
    values = np.array([[1.0, 3.0], [2.0, 2.0], [3.0, 7.0]])
    assert difference_error(values) == pytest.approx((np.sqrt(2 * 2.0 / 2), 2))
    # A mean's: the seeds' means 2 and 4 have variance 2, times 3 methods 6; the residuals' squares are 4, over 2 - 1.
    assert mean_error(values) == pytest.approx((np.sqrt(10 / 3 / 2), 1 / (0.6**2 + 0.4**2 / 2)))


def test_seed_effect_cancels_in_a_difference_but_not_in_a_mean():
    values = np.random.default_rng(0).standard_normal((5, 4))
    shifted = values + np.array([10.0, -10.0, 5.0, -5.0])
    assert difference_error(shifted) == pytest.approx(difference_error(values))
    assert mean_error(shifted).error > 5 * mean_error(values).error
    assert equal_variance(shifted) == pytest.approx(equal_variance(values))


def test_methods_that_repeat_each_other_count_as_one():
    once = np.array([[0.50, 0.54, 0.52]])
    assert mean_error(np.repeat(once, 9, axis=0)) == pytest.approx(mean_error(once))


def test_without_seed_effect_every_method_adds_its_degrees_of_freedom():
    rng = np.random.default_rng(0)
    freedom = [mean_error(values).freedom for values in tables(16, 40, 50, rng)]
    assert np.median(freedom) == pytest.approx(16 * 39, rel=0.02)


@pytest.mark.parametrize("seed_sd", [0.0, 2.0])
def test_intervals_of_16_methods_at_3_seeds_hold_the_truth(seed_sd):
    # 2000 tables: Monte-Carlo sd 0.5 points, 3.5 sd allowed. A mean's is Satterthwaite's, and a little narrow.
    rng = np.random.default_rng(1)
    values = tables(16, 3, 2000, rng, seed_sd)
    differences = covered(values[:, 1].mean(1) - values[:, 0].mean(1), [difference_error(v) for v in values])
    means = covered(values[:, 0].mean(1), [mean_error(v) for v in values])
    assert differences.mean() == pytest.approx(0.95, abs=0.018)
    assert 0.92 - 0.02 < means.mean() < 0.95 + 0.018


@pytest.mark.slow
def test_equal_variance_is_refuted_in_5_percent_of_tables_where_it_holds_and_in_more_where_not():
    rng = np.random.default_rng(2)
    values = tables(16, 3, 1000, rng, seed_sd=1.0)
    assert np.mean([equal_variance(v) < 0.05 for v in values]) < 0.05 + 3.5 * 0.007
    values[:, 3] *= 6
    assert np.mean([equal_variance(v) < 0.05 for v in values]) > 0.5


def test_method_without_any_spread_refutes_equal_variance():
    values = np.random.default_rng(0).standard_normal((4, 3))
    values[0] = values[1:].mean(axis=0)
    assert equal_variance(np.vstack([values[1:] - values[1:].mean(axis=0), np.zeros((1, 3))])) == 0.0
    assert np.isnan(equal_variance(values[:2]))
    assert equal_variance(np.ones((4, 3))) == 1.0


def test_equal_values_have_an_error_of_zero():
    assert mean_error(np.ones((4, 3))) == (0, 2)
    assert difference_error(np.ones((4, 3))) == (0, 6)


@pytest.mark.parametrize("values", [np.ones((4, 1)), np.ones((1, 1))])
def test_one_seed_has_no_error(values):
    assert np.isnan([*mean_error(values), difference_error(values).error]).all()


def test_a_t_interval_is_students_and_one_value_has_none():
    mean, low, high, p = t_test(np.array([1.0, 2.0, 3.0]), 0.95)
    assert mean == 2.0
    assert (low, high) == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5))
    assert p == pytest.approx(stats.ttest_1samp([1.0, 2.0, 3.0], 0.0).pvalue)
    assert t_test(np.array([1.0]), 0.95)[0] == 1.0
    assert np.isnan(t_test(np.array([1.0]), 0.95)[1:]).all()
    assert np.isnan(t_test(np.array([]), 0.95)).all()


def test_holm_multiplies_the_smallest_p_by_how_many_there_are_and_never_falls():
    rng = np.random.default_rng(0)
    p = rng.uniform(size=9) ** 3
    order = np.argsort(p)
    expected = np.minimum(np.maximum.accumulate(p[order] * np.arange(9, 0, -1)), 1)
    assert holm(np.append(p, np.nan))[order] == pytest.approx(expected)
    assert np.isnan(holm(np.array([np.nan, np.nan]))).all()
    assert holm(np.array([])).tolist() == []


def test_exact_line_is_found_with_no_band():
    x = np.array([0.0, 1.0, 2.0, 5.0])
    fit, low, high = line(x, 3 - 2 * x, np.array([-1.0, 10.0]))
    assert fit == pytest.approx([5.0, -17.0])
    assert high - low == pytest.approx([0.0, 0.0], abs=1e-12)


def test_the_band_is_t_times_the_standard_error_of_the_line():
    # s sqrt(1/n + (at - mean)^2 / sum (x - mean)^2) [Draper, Smith, Applied Regression Analysis, 3rd ed., section 3.1].
    rng = np.random.default_rng(0)
    x, at = rng.standard_normal(12), np.array([-2.0, 0.0, 3.0])
    y = 1 + x + rng.standard_normal(12)
    known = stats.linregress(x, y)
    fit, low, high = line(x, y, at, 0.9)
    variance = ((y - known.intercept - known.slope * x) ** 2).sum() / 10
    error = np.sqrt(variance * (1 / 12 + (at - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()))
    assert fit == pytest.approx(known.intercept + known.slope * at)
    assert high - fit == pytest.approx(stats.t.ppf(0.95, 10) * error)
    assert fit - low == pytest.approx(high - fit)


def test_two_points_have_a_line_but_no_band_and_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for y in ([0.0, 1.0], [0.1, 0.7]):
            fit, low, high = line(np.array([0.0, 1.0]), np.array(y), np.array([0.5]))
            assert fit == pytest.approx(np.mean(y))
            assert np.isnan([low, high]).all()
