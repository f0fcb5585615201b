"""The diffusions against the recursions they stand for: orders in lr, as slopes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm

from analysis.theory import recursions, sde
from analysis.theory.stationary import effective_hessian

LRS = np.array([0.004, 0.002, 0.001, 0.0005])
STEPS = [0, 1, 3, 10]


def covariance_of_a_step(diffusion):
    """What an Ornstein-Uhlenbeck process gathers in the time lr, by Van Loan's block exponential (1978)."""
    d, time = len(diffusion.drift), diffusion.lr
    block = expm(time * np.block([[diffusion.drift, diffusion.noise], [np.zeros((d, d)), -diffusion.drift.T]]))
    return block[d:, d:].T @ block[:d, d:]


@pytest.mark.parametrize("attack_steps", STEPS)
def test_drift_of_theorem_1_gives_the_step_up_to_lr_cubed_and_the_hessian_alone_up_to_lr_squared(
    pair, slope, attack_steps
):
    hessian, data = pair(0)
    exact = [recursions.pgd_at(hessian, data, lr, 1, attack_steps).transition for lr in LRS]
    corrected = [expm(-lr * effective_hessian(hessian, lr, attack_steps)) for lr in LRS]
    plain = [expm(-lr * hessian) for lr in LRS]
    assert slope(LRS, [np.linalg.norm(a - b) for a, b in zip(exact, corrected, strict=True)]) == pytest.approx(
        3, abs=0.1
    )
    assert slope(LRS, [np.linalg.norm(a - b) for a, b in zip(exact, plain, strict=True)]) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("attack_steps", STEPS)
def test_exact_drift_flows_into_the_step_itself(spd, attack_steps):
    hessian = spd(1, high=0.8)
    lr = 0.1
    transition = recursions.pgd_at(hessian, hessian, lr, 1, attack_steps).transition
    np.testing.assert_allclose(expm(-lr * sde.exact_drift(hessian, lr, attack_steps)), transition, atol=1e-12)
    assert np.isnan(sde.exact_drift(hessian, 5.0, 0)).all()


@pytest.mark.parametrize("attack_steps", STEPS)
def test_noise_of_a_step_is_right_to_the_drifts_order_only_with_a_hat_in_the_diffusion(pair, slope, attack_steps):
    hessian, data = pair(2)
    root = np.linalg.cholesky(data)
    errors = {sde.pgd_at: [], sde.pgd_at_printed: []}
    for lr in LRS:
        exact = recursions.pgd_at(hessian, data, lr, 4, attack_steps).noise
        for diffusion, found in errors.items():
            step = covariance_of_a_step(diffusion(hessian, root, lr, 4, attack_steps))
            found.append(np.linalg.norm(step - exact) / np.linalg.norm(exact))
    assert slope(LRS, errors[sde.pgd_at]) == pytest.approx(2, abs=0.1)
    assert slope(LRS, errors[sde.pgd_at_printed]) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("attack_steps", STEPS)
@pytest.mark.parametrize(("diffusion", "order"), [(sde.pgd_at_printed, 1), (sde.pgd_at, 2)])
def test_relative_error_of_the_stationary_covariance_falls_as_lr_printed_and_as_lr_squared_corrected(
    pair, slope, relative, attack_steps, diffusion, order
):
    for seed in range(3):
        hessian, data = pair(seed)
        root = np.linalg.cholesky(data)
        errors = [
            relative(
                diffusion(hessian, root, lr, 4, attack_steps).covariance(),
                recursions.pgd_at(hessian, data, lr, 4, attack_steps).covariance(),
            )
            for lr in LRS
        ]
        assert slope(LRS, errors) == pytest.approx(order, abs=0.15)


def test_relative_error_of_sgds_diffusion_falls_as_lr(pair, slope, relative):
    hessian, noise = pair(3)
    errors = [
        relative(
            sde.sgd(hessian, np.linalg.cholesky(noise), lr, 8).covariance(),
            recursions.sgd(hessian, noise / 8, lr).covariance(),
        )
        for lr in LRS
    ]
    assert slope(LRS, errors) == pytest.approx(1, abs=0.05)


def test_attack_steps_widen_the_recursions_covariance_and_narrow_the_printed_one(pair):
    hessian, data = pair(4)
    root, lr = np.linalg.cholesky(data), 0.01
    traces = {
        "recursion": [np.trace(recursions.pgd_at(hessian, data, lr, 4, k).covariance()) for k in STEPS],
        "corrected": [np.trace(sde.pgd_at(hessian, root, lr, 4, k).covariance()) for k in STEPS],
        "printed": [np.trace(sde.pgd_at_printed(hessian, root, lr, 4, k).covariance()) for k in STEPS],
    }
    assert (np.diff(traces["recursion"]) > 0).all()
    assert (np.diff(traces["corrected"]) > 0).all()
    assert (np.diff(traces["printed"]) < 0).all()


def test_attack_steps_widen_simulated_chains():
    # One dimension, lr * curvature = 0.05, K = 10 against 0: a factor 1.66 by the recursion, 0.67 as printed.
    rng = np.random.default_rng(5)
    chains, lr = 40_000, 0.05
    variances = []
    for attack_steps in (0, 10):
        theta = np.zeros(chains)
        for _ in range(120):
            x = rng.standard_normal(chains)
            for _ in range(attack_steps):
                x = x + lr * (x - theta)
            theta = theta - lr * (theta - x)
        variances.append(np.mean(theta**2))
    exact = [recursions.pgd_at(np.eye(1), np.eye(1), lr, 1, k).covariance().item() for k in (0, 10)]
    printed = [sde.pgd_at_printed(np.eye(1), np.eye(1), lr, 1, k).covariance().item() for k in (0, 10)]
    assert variances[1] / variances[0] == pytest.approx(exact[1] / exact[0], rel=4 * np.sqrt(4 / chains))
    assert exact[1] / exact[0] == pytest.approx(1.66, abs=0.005)
    assert printed[1] / printed[0] == pytest.approx(0.67, abs=0.005)


def test_a_unit_of_time_is_1_over_lr_steps(spd):
    hessian, lr = spd(6), 1e-3
    diffusion = sde.sgd(hessian, np.eye(3), lr, 1)
    mean = np.linalg.matrix_power(recursions.sgd(hessian, np.eye(3), lr).transition[:3, :3], 1000)
    np.testing.assert_allclose(diffusion.mean_after(1000), expm(-hessian), rtol=1e-12)
    np.testing.assert_allclose(mean, expm(-hessian), atol=1e-3)


def test_lemma_1_in_steps_and_in_units_of_1_over_lr_has_one_stationary_covariance(pair):
    hessian, noise = pair(7)
    root, lr, batch_size = np.linalg.cholesky(noise), 0.02, 16
    in_steps = sde.OrnsteinUhlenbeck(lr * hessian, lr / np.sqrt(batch_size) * root, 1.0)
    np.testing.assert_allclose(in_steps.covariance(), sde.sgd(hessian, root, lr, batch_size).covariance(), rtol=1e-9)


def test_noise_falls_as_one_over_the_batch_size(pair):
    hessian, data = pair(8)
    for diffusion in (sde.pgd_at, sde.pgd_at_printed):
        small, large = (diffusion(hessian, np.linalg.cholesky(data), 0.01, b, 3).covariance() for b in (4, 64))
        np.testing.assert_allclose(small, 16 * large, rtol=1e-9)
