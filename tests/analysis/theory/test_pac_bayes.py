from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.theory import recursions
from analysis.theory.deat import amplification, small_lr_ratio
from analysis.theory.pac_bayes import (
    Complement,
    bound,
    diagonal_bound,
    gap,
    gaussian_kl,
    kl_change,
    kl_of_ratio,
    kl_slope,
    spherical_kl,
    tightest_ratio,
    widest_that_gains,
)


def test_kl_of_one_dimension_is_the_integral():
    for mean, variance, prior_mean, prior_variance in [
        (0.3, 0.5, -0.2, 2.0),
        (0.0, 3.0, 0.0, 1.0),
        (1.0, 1e-3, 0.0, 1.0),
    ]:
        q, p = stats.norm(mean, math.sqrt(variance)), stats.norm(prior_mean, math.sqrt(prior_variance))
        reach = 12 * math.sqrt(variance)
        expected, _ = integrate.quad(
            lambda w, q=q, p=p: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), mean - reach, mean + reach
        )
        found = gaussian_kl(np.array([mean]), np.array([[variance]]), np.array([prior_mean]), prior_variance)
        assert found == pytest.approx(expected, rel=1e-7)


def test_kl_of_several_dimensions_is_the_mean_log_ratio_of_densities(spd):
    covariance, mean, prior_mean = spd(0, 4), np.array([0.1, -0.4, 0.2, 0.0]), np.array([0.0, 0.3, 0.0, 1.0])
    q = stats.multivariate_normal(mean, covariance)
    draws = q.rvs(200_000, random_state=np.random.default_rng(1))
    ratios = q.logpdf(draws) - stats.multivariate_normal(prior_mean, 0.7 * np.eye(4)).logpdf(draws)
    error = ratios.std() / math.sqrt(len(ratios))
    assert gaussian_kl(mean, covariance, prior_mean, 0.7) == pytest.approx(ratios.mean(), abs=4 * error)


def test_kl_is_the_papers_form_at_a_posterior_of_mean_zero(spd):
    covariance, theta_0, prior_variance = spd(2, 5), np.arange(5.0), 1.7
    paper = (
        theta_0 @ theta_0 / (2 * prior_variance)
        - 5 / 2
        + 5 / 2 * math.log(prior_variance)
        + np.trace(covariance) / (2 * prior_variance)
        - math.log(np.linalg.det(covariance)) / 2
    )
    assert gaussian_kl(np.zeros(5), covariance, theta_0, prior_variance) == pytest.approx(paper)


def test_kl_is_zero_for_the_prior_itself_and_infinite_for_a_point():
    assert gaussian_kl(np.ones(3), 2 * np.eye(3), np.ones(3), 2.0) == pytest.approx(0, abs=1e-15)
    assert gaussian_kl(np.ones(3), np.zeros((3, 3)), np.ones(3), 2.0) == math.inf
    assert spherical_kl([0.0, 1.0], 1.0) == math.inf
    assert spherical_kl([], 1.0) == 0


def test_slope_of_kl_is_the_finite_difference_and_not_the_printed_expression(spd):
    for seed in range(5):
        shape, prior_variance = spd(seed, 6), 0.3 + seed
        for ratio in (1e-3, 0.1, 2.0):
            step = 1e-5 * ratio
            ends = [kl_of_ratio(ratio + sign * step, shape, prior_variance, 0.4) for sign in (1, -1)]
            found = kl_slope(ratio, np.trace(shape), 6, prior_variance)
            assert found == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-5, abs=1e-6)
            printed = ratio * np.trace(shape) / (4 * prior_variance) - 3 * math.log(ratio)
            assert abs(printed - found) > 0.05 * abs(found)


def test_a_prior_elsewhere_adds_its_squared_distance_over_twice_its_variance(spd):
    shape, prior_variance = spd(6, 6), 0.8
    far, near = kl_of_ratio(0.3, shape, prior_variance, 0.4), kl_of_ratio(0.3, shape, prior_variance)
    assert far - near == pytest.approx(0.4**2 / (2 * 0.8))


def test_printed_derivative_is_the_part_of_kl_that_depends_on_the_ratio(spd):
    shape, prior_variance = spd(6, 6), 0.8
    rest = [
        kl_of_ratio(ratio, shape, prior_variance) - ratio * np.trace(shape) / (4 * prior_variance) + 3 * math.log(ratio)
        for ratio in (0.01, 0.3, 5.0)
    ]
    np.testing.assert_allclose(rest, rest[0], rtol=1e-12)


def test_gap_falls_with_the_ratio_just_while_the_papers_condition_holds(spd):
    shape, prior_variance, d = spd(7, 6), 0.05, 6
    turn = tightest_ratio(np.trace(shape), d, prior_variance)
    ratios = turn * np.linspace(0.05, 2.5, 50)
    gaps = np.array([gap(kl_of_ratio(ratio, shape, prior_variance), 1000, 0.05) for ratio in ratios])
    holds = d > ratios * np.trace(shape) / (2 * prior_variance)
    assert (np.diff(gaps)[holds[1:]] < 0).all()
    assert (np.diff(gaps)[~holds[:-1]] > 0).all()
    assert 0 < holds.sum() < len(holds)
    assert kl_slope(turn, np.trace(shape), d, prior_variance) == pytest.approx(0, abs=1e-9)
    assert turn / 2 * np.trace(shape) == pytest.approx(d * prior_variance)


def test_gap_is_lemma_2():
    assert gap(10.0, 50_000, 0.05) == pytest.approx(math.sqrt((10 + math.log(20) + math.log(50_000) + 2) / 99_999))


@pytest.mark.parametrize("k1", [0.1, 0.5, 1.0, 3.0])
def test_theorem_2_needs_a_narrower_posterior_than_the_condition_on_the_ratio(spd, k1):
    scale, d, prior_variance = amplification(k1), 5, 1.0
    widest = widest_that_gains(scale)
    assert 1 / scale < widest < 1
    for share in (0.5, 0.99, 1.01, 2.0):
        covariance = spd(8, d)
        covariance *= share * widest * d * prior_variance / np.trace(covariance)
        change = gaussian_kl(np.zeros(d), scale * covariance, np.zeros(d), prior_variance) - gaussian_kl(
            np.zeros(d), covariance, np.zeros(d), prior_variance
        )
        assert kl_change(scale, np.trace(covariance), d, prior_variance) == pytest.approx(change, abs=1e-12)
        assert (change < 0) == (share < 1)


def test_deat_at_equal_lr_has_the_narrower_posterior_and_so_the_larger_gap_where_width_would_help(pair):
    hessian, noise = pair(9, 4)
    lr, prior_variance = 1e-3, 1.0
    sgd, deat = (recursion(hessian, noise, lr).covariance() for recursion in (recursions.sgd, recursions.deat))
    assert np.trace(sgd) < 4 * prior_variance * widest_that_gains(5.0)  # Theorem 2 would call DEAT tighter
    kls = [gaussian_kl(np.zeros(4), covariance, np.zeros(4), prior_variance) for covariance in (sgd, deat)]
    assert kls[1] > kls[0]
    expected = kl_change(small_lr_ratio(1.0), np.trace(sgd), 4, prior_variance)
    assert kls[1] - kls[0] == pytest.approx(expected, rel=5e-3)


def test_first_three_terms_are_the_mean_empirical_risk_of_a_quadratic(spd):
    hessian, covariance, mean = spd(10), 0.1 * spd(11), np.array([0.2, -0.1, 0.3])
    found = bound(0.25, hessian, covariance, mean, np.zeros(3), 1.0, 1000, 0.05)
    draws = np.random.default_rng(12).multivariate_normal(mean, covariance, 400_000)
    risks = 0.25 + 0.5 * np.einsum("ni,ij,nj->n", draws, hessian, draws)
    expected = found.empirical_risk + found.curvature + found.displacement
    assert risks.mean() == pytest.approx(expected, abs=4 * risks.std() / math.sqrt(len(risks)))
    assert found.total == pytest.approx(expected + found.complexity)
    assert found.complexity == pytest.approx(math.sqrt((found.kl + math.log(1000 / 0.05)) / 2000))


def test_diagonal_bound_is_the_full_one_where_the_complement_is_of_one_variance(spd):
    hessian = spd(13, 7)
    curvatures, vectors = np.linalg.eigh(hessian)
    leading, rest = curvatures[4:], curvatures[:4]
    variances, shifts = np.array([0.1, 0.3, 0.05]), np.array([0.2, 0.0, -0.4])
    covariance = (vectors * np.concatenate([np.full(4, 0.6), variances])) @ vectors.T
    mean = vectors[:, 4:] @ shifts
    prior_mean = np.linspace(-1, 1, 7)
    full = bound(0.3, hessian, covariance, mean, prior_mean, 0.8, 500, 0.1)
    diagonal = diagonal_bound(
        0.3,
        leading,
        variances,
        Complement(4, float(rest.sum()), 0.6),
        float(np.linalg.norm(mean - prior_mean)),
        0.8,
        500,
        0.1,
        mean=shifts,
    )
    for name in ("empirical_risk", "curvature", "displacement", "kl", "complexity", "total"):
        assert getattr(diagonal, name) == pytest.approx(getattr(full, name), rel=1e-10), name


def test_a_complement_with_the_priors_variance_costs_curvature_and_no_kl():
    arguments = 0.3, np.array([4.0, 2.0]), np.array([0.1, 0.2])
    many, none = (
        diagonal_bound(*arguments, complement, 0.0, 0.5, 500, 0.1)
        for complement in (Complement(10_000, 6.0, 0.5), Complement(0, 0.0, 0.5))
    )
    assert many.kl == pytest.approx(none.kl)
    assert many.curvature - none.curvature == pytest.approx(6.0 * 0.5 / 2)
    assert none.displacement == 0


def test_a_complement_of_another_variance_costs_its_kl_in_every_dimension():
    arguments = 0.3, np.array([4.0]), np.array([0.1])
    kls = [diagonal_bound(*arguments, Complement(d, 0.0, 0.25), 0.0, 0.5, 500, 0.1).kl for d in (0, 1000)]
    assert kls[1] - kls[0] == pytest.approx(1000 * (0.5 - 1 - math.log(0.5)) / 2)
