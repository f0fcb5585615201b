"""DEAT's ratios, each against the recursion itself: impulse responses and Lyapunov solves are exact."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from analysis.theory import recursions
from analysis.theory.deat import (
    amplification,
    bracket_noise,
    equivalent_sgd,
    gathered_noise,
    normaliser,
    small_lr_ratio,
    stability_limit,
    stationary_variance,
    update_noise,
    variance_ratio,
)

KEYS = list(itertools.product((0.0, 0.3, 1.0, 4.0), (0.0, 0.5, 0.8, 0.95)))


def updates_of_one_gradient(lr, k1, k2, length=4000):
    """The updates that a gradient of 1 at the first step, and 0 after, enters: Algorithm 2 written out."""
    h = [0.0, 0.0]
    updates = []
    for step in range(length):
        h.append(k2 * h[-2] + (1 - k2) * (step == 0))
        updates.append(-lr / normaliser(k1) * ((1 + k1) * h[-1] - k1 * h[-2]))
    return np.array(updates)


@pytest.mark.parametrize(("k1", "k2"), KEYS)
def test_noise_of_one_update_is_the_impulse_responses_sum_of_squares_without_k1(k1, k2):
    assert np.sum(updates_of_one_gradient(0.3, k1, k2) ** 2) == pytest.approx(update_noise(0.3, k2))


@pytest.mark.parametrize(("k1", "k2"), KEYS)
def test_gathered_noise_is_the_impulse_responses_squared_sum_without_k2(k1, k2):
    assert np.sum(updates_of_one_gradient(0.3, k1, k2)) ** 2 == pytest.approx(gathered_noise(0.3, k1))


@pytest.mark.parametrize(("k1", "k2"), KEYS)
def test_the_papers_factor_is_against_the_average_with_the_same_k2_and_not_against_sgd(k1, k2):
    bracket = np.sum(updates_of_one_gradient(normaliser(k1), k1, k2) ** 2)
    average = np.sum(updates_of_one_gradient(1.0, 0.0, k2) ** 2)
    sgd = np.sum(updates_of_one_gradient(1.0, 0.0, 0.0) ** 2)
    assert bracket / average == pytest.approx(amplification(k1))
    assert bracket / sgd == pytest.approx(bracket_noise(k1, k2))
    assert (bracket_noise(k1, k2) == pytest.approx(amplification(k1))) == (k2 == 0)


def test_the_ratios_at_the_defaults():
    assert amplification(1.0) == 5
    assert bracket_noise(1.0, 0.8) == pytest.approx(0.556, abs=5e-4)
    assert bracket_noise(1.0, 0.0) == 5
    assert small_lr_ratio(1.0) == pytest.approx(0.447, abs=5e-4)
    assert stability_limit(1.0) == pytest.approx(1.491, abs=5e-4)
    assert stability_limit(0.0) == 2


def test_closed_form_of_the_stationary_variance_is_the_lyapunov_solution():
    rng = np.random.default_rng(0)
    for _ in range(200):
        k1, k2, noise, curvature = rng.uniform([0, 0, 0.1, 0.1], [5, 0.99, 10, 10])
        lr = rng.uniform(0.01, 0.99) * stability_limit(k1) / curvature
        solved = recursions.deat(np.array([[curvature]]), np.array([[noise]]), lr, k1=k1, k2=k2).covariance().item()
        assert stationary_variance(lr, curvature, noise, k1, k2) == pytest.approx(solved, rel=1e-7)


def test_eigen_directions_of_commuting_matrices_have_the_closed_forms_variance(spd):
    hessian = spd(1, 4)
    noise = spd(2, 4, basis=hessian)
    curvatures, vectors = np.linalg.eigh(hessian)
    covariance = vectors.T @ recursions.deat(hessian, noise, 0.5).covariance() @ vectors
    variances = stationary_variance(0.5, curvatures, np.diag(vectors.T @ noise @ vectors))
    np.testing.assert_allclose(covariance, np.diag(variances), rtol=1e-8, atol=1e-12)


def test_stationary_variance_is_sgds_at_k1_0_and_k2_0():
    curvatures = np.array([0.1, 1.0, 3.0])
    expected = 0.5 * 2.0 / (curvatures * (2 - 0.5 * curvatures))
    np.testing.assert_allclose(stationary_variance(0.5, curvatures, 2.0, 0.0, 0.0), expected)


def test_table_of_variance_ratios():
    expected = [0.447, 0.443, 0.409, 0.296, 0.228]
    np.testing.assert_allclose(variance_ratio([0.001, 0.01, 0.1, 0.5, 1.0]), expected, atol=5e-4)


@pytest.mark.parametrize(("k1", "k2"), KEYS)
def test_variance_ratio_leaves_the_ratio_of_mean_steps_linearly_in_lr(slope, k1, k2):
    lrs = np.array([1e-3, 3e-4, 1e-4])
    errors = np.abs(variance_ratio(lrs, k1, k2) - small_lr_ratio(k1))
    assert (errors < 1e-3 * (1 + k1)).all()
    if (k1, k2) != (0, 0):
        assert slope(lrs, errors) == pytest.approx(1, abs=0.05)


def test_variance_ratio_at_the_defaults_falls_until_1_05_and_passes_1_only_at_1_46():
    lr_curvature = np.linspace(0.001, 1.49, 2000)
    ratios = variance_ratio(lr_curvature)
    assert (np.diff(ratios)[lr_curvature[1:] < 1.05] < 0).all()
    assert (np.diff(ratios)[lr_curvature[:-1] > 1.06] > 0).all()
    assert lr_curvature[ratios < 1].max() == pytest.approx(1.458, abs=1e-3)


def test_variance_is_infinite_where_deat_is_unstable_or_flat():
    assert np.isinf(stationary_variance(1.0, [0.0, -1.0, 1.5], 1.0)).all()
    assert np.isinf(variance_ratio(1.6))
    assert np.isnan(variance_ratio(2.1))


@pytest.mark.parametrize("k2", [0.0, 0.8])
@pytest.mark.parametrize("k1", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("decoupled", [True, False])
def test_equivalent_sgd_forgets_a_start_at_the_same_rate_as_lr_falls(slope, k1, k2, decoupled):
    curvature, weight_decay, lrs = np.array([[0.7]]), 0.2, np.array([1e-3, 5e-4, 2.5e-4])
    errors = []
    for lr in lrs:
        keys = {"k1": k1, "weight_decay": weight_decay, "decoupled_weight_decay": decoupled}
        same = equivalent_sgd(lr, **keys)
        rate = -math.log(recursions.deat(curvature, curvature, lr, k2=k2, **keys).radius)
        expected = same.lr * (0.7 + same.weight_decay)
        errors.append(abs(rate / expected - 1))
    assert max(errors) < 0.01
    assert slope(lrs, errors) == pytest.approx(1, abs=0.1)


def test_decoupled_decay_of_5e_4_acts_as_1_12e_3_at_the_defaults():
    same = equivalent_sgd(0.1, weight_decay=5e-4)
    assert same.weight_decay == pytest.approx(1.118e-3, rel=1e-3)
    assert same.lr == pytest.approx(0.1 / math.sqrt(5))
    assert equivalent_sgd(0.1, weight_decay=5e-4, decoupled_weight_decay=False).weight_decay == 5e-4
    assert equivalent_sgd(0.1).weight_decay == 0


def test_at_equal_mean_steps_deat_and_sgd_have_one_stationary_covariance_as_lr_falls(pair, slope, relative):
    hessian, noise = pair(3)
    lrs = np.array([4e-3, 2e-3, 1e-3])
    errors = [
        relative(
            recursions.deat(hessian, noise, lr).covariance(),
            recursions.sgd(hessian, noise, equivalent_sgd(lr).lr).covariance(),
        )
        for lr in lrs
    ]
    assert errors[-1] < 2e-3
    assert slope(lrs, errors) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("k1", "k2"), [(0.0, 0.8), (0.7, 0.0), (1.0, 0.8)])
def test_deat_is_a_look_ahead_on_descent_along_the_average(k1, k2):
    """In coordinates x_t = theta_t + lr' k1 h_{t-1}: x_{t+1} = x_t - lr' h_t, theta_t = x_t + k1 (x_t - x_{t-1})."""
    lr = 0.3
    step = lr / normaliser(k1)
    transition = recursions.deat(np.eye(1), np.eye(1), lr, k1=k1, k2=k2).transition
    change = np.array([[1, step * k1, 0], [0, 1, 0], [0, 0, 1]])
    before, refreshed = change @ transition @ np.linalg.inv(change), transition[1] @ np.linalg.inv(change)
    np.testing.assert_allclose(before[0], np.array([1, 0, 0]) - step * refreshed, atol=1e-14)
    # x_t - x_{t-1} = -lr' h_{t-1}, so that the look-ahead is what the inverse change of coordinates says.
    np.testing.assert_allclose(np.linalg.inv(change)[0], [1, -step * k1, 0], atol=1e-14)
