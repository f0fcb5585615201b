import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.claims.evidence import SCALE, anytime_p, half_width, log_evidence


def mixture(t: float, n: int, freedom: float, scale: float) -> float:
    """The Bayes factor as a mean of ratios of densities of the t statistic over the prior: an independent oracle."""

    def integrand(effect: float) -> float:
        return float(stats.nct.pdf(t, freedom, effect * math.sqrt(n)) * stats.norm.pdf(effect, scale=scale))

    centre = t / math.sqrt(n)
    found = integrate.quad(integrand, -8 * scale, 8 * scale, points=[0.0, max(-7 * scale, min(centre, 7 * scale))])[0]
    return found / float(stats.t.pdf(t, freedom))


@pytest.mark.parametrize(("n", "freedom"), [(2, 1), (3, 2), (6, 5), (12, 11), (4, 9), (5, 16)])
@pytest.mark.parametrize("t", [0.0, 0.7, -2.5, 6.0])
def test_evidence_is_the_mean_ratio_of_t_densities_over_the_prior(t, n, freedom):
    for scale in (0.5, 2.0):
        assert math.exp(log_evidence(t, n, freedom, scale)) == pytest.approx(mixture(t, n, freedom, scale), rel=1e-4)


@pytest.mark.parametrize("n", [2, 3, 5, 20])
def test_evidence_has_mean_one_without_effect(n):
    def integrand(t: float) -> float:
        return math.exp(log_evidence(t, n, n - 1)) * float(stats.t.pdf(t, n - 1))

    assert 2 * integrate.quad(integrand, 0, np.inf, limit=200)[0] == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("n", "freedom"), [(4, 3), (7, 6), (30, 29), (3, 8)])
def test_the_ends_of_the_interval_are_where_evidence_is_one_over_alpha(n, freedom):
    half = half_width(0.25, n, freedom, 0.05)
    assert log_evidence(half / 0.25, n, freedom) == pytest.approx(math.log(20))
    assert anytime_p(half / 0.25, n, freedom) == pytest.approx(0.05)
    assert anytime_p(half / 0.25, n, freedom, comparisons=3) == pytest.approx(0.15)


def test_p_is_at_most_one_though_evidence_may_be_less():
    assert log_evidence(0.1, 5, 4) < 0
    assert anytime_p(0.1, 5, 4) == 1


def test_two_seeds_never_decide_however_far_from_nothing():
    assert half_width(0.1, 2, 1, 0.05) == math.inf
    assert anytime_p(1e9, 2, 1) == pytest.approx((1 + 2 * SCALE**2) ** -0.5, rel=1e-6)
    assert (anytime_p(0.0, 1, 0), half_width(0.1, 1, 0, 0.05)) == (1.0, math.inf)


def looked_at(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(runs, looks): whether 0 is excluded after each seed, by the sequence and by the t interval."""
    n = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / n
    variance = ((values**2).cumsum(axis=1) - n * mean**2)[:, 1:] / (n[1:] - 1)
    t = np.abs(mean[:, 1:]) / np.sqrt(variance / n[1:])
    widths = np.array([half_width(1.0, int(k), k - 1, 0.05) for k in n[1:]])
    return t > widths, t > stats.t.ppf(0.975, n[1:] - 1)


def test_looking_after_every_seed_errs_in_less_than_5_percent_and_with_t_intervals_in_a_quarter():
    anytime, naive = looked_at(np.random.default_rng(0).standard_normal((5000, 100)))
    wrong = stats.binomtest(int(anytime.any(axis=1).sum()), 5000).proportion_ci(0.999)
    assert wrong.high < 0.05
    assert wrong.low > 0.01  # nor is it a rule that never decides
    assert stats.binomtest(int(naive.any(axis=1).sum()), 5000).proportion_ci(0.999).low > 0.25


def test_the_error_rate_does_not_depend_on_the_seeds_that_were_there_before():
    anytime, _ = looked_at(np.random.default_rng(1).standard_normal((5000, 60)))
    for first in (3, 10, 30):
        assert stats.binomtest(int(anytime[:, first:].any(axis=1).sum()), 5000).proportion_ci(0.999).high < 0.05


@pytest.mark.parametrize(("effect", "fewest", "most"), [(1.0, 12.5, 15), (2.0, 5.7, 6.8), (3.0, 4.5, 5.2)])
def test_an_effect_is_decided_in_few_more_seeds_than_a_fixed_number_would_need(effect, fewest, most):
    anytime, _ = looked_at(effect + np.random.default_rng(2).standard_normal((5000, 100)))
    assert anytime.any(axis=1).mean() > 0.999
    assert fewest < (anytime.argmax(axis=1) + 2).mean() < most
