"""Covariances of the recursions against chains that run them: many copies, second moments, Monte-Carlo intervals."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.theory.deat import stability_limit
from analysis.theory.recursions import deat, pgd_at, sgd
from trainers.errors import UserError
from trainers.method.optimizers import DEAT

CHAINS = 40_000
STEPS = 150  # the slowest chains here have 99.8 % of their variance: a twentieth of the interval is missing


def run_sgd(rng, hessian, root, lr, momentum, weight_decay, decoupled):
    theta, velocity = np.zeros((2, CHAINS, len(hessian)))
    for _ in range(STEPS):
        gradient = theta @ hessian + rng.standard_normal(theta.shape) @ root.T
        if decoupled:
            theta = theta * (1 - lr * weight_decay)
        else:
            gradient = gradient + weight_decay * theta
        velocity = momentum * velocity + gradient
        theta = theta - lr * velocity
    return theta


def run_pgd_at(rng, hessian, root, lr, batch_size, attack_steps):
    """Draws every sample, attacks each by gradient ascent over the input, descends the mean loss over theta."""
    theta = np.zeros((CHAINS // 2, len(hessian)))
    for _ in range(STEPS // 2):
        x = rng.standard_normal((batch_size, *theta.shape)) @ root.T
        for _ in range(attack_steps):
            x = x + lr * (x - theta) @ hessian
        theta = theta - lr * ((theta - x) @ hessian).mean(axis=0)
    return theta


@pytest.mark.parametrize(
    ("lr", "momentum", "weight_decay", "decoupled"),
    [
        (0.1, 0.0, 0.0, False),
        (1.0, 0.0, 0.2, True),
        (0.3, 0.8, 0.0, False),
        (0.5, 0.5, 0.3, True),
        (0.5, 0.5, 0.3, False),
    ],
)
def test_chains_of_sgd_have_the_stationary_covariance(pair, assert_agrees, lr, momentum, weight_decay, decoupled):
    hessian, noise = pair(1)
    rows = run_sgd(np.random.default_rng(2), hessian, np.linalg.cholesky(noise), lr, momentum, weight_decay, decoupled)
    keys = {"momentum": momentum, "weight_decay": weight_decay, "decoupled_weight_decay": decoupled}
    assert_agrees(rows, sgd(hessian, noise, lr, **keys).covariance())


@pytest.mark.parametrize(("lr", "batch_size", "attack_steps"), [(0.4, 4, 0), (0.2, 4, 3), (0.1, 2, 10)])
def test_chains_of_pgd_at_have_the_stationary_covariance(pair, assert_agrees, lr, batch_size, attack_steps):
    hessian, data = pair(3)
    rows = run_pgd_at(np.random.default_rng(4), hessian, np.linalg.cholesky(data), lr, batch_size, attack_steps)
    assert_agrees(rows, pgd_at(hessian, data, lr, batch_size, attack_steps).covariance())


@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.3])
@pytest.mark.parametrize(("k1", "k2"), [(1.0, 0.8), (1.0, 0.0), (0.0, 0.8), (0.0, 0.0), (2.5, 0.5), (3.0, 0.99)])
def test_a_step_of_the_real_deat_is_the_transition_and_takes_noise_in_as_told(pair, k1, k2, weight_decay, decoupled):
    hessian, noise = pair(5, 2)
    keys = {"k1": k1, "k2": k2, "weight_decay": weight_decay, "decoupled_weight_decay": decoupled}
    recursion = deat(hessian, noise, 0.4, **keys)
    # A row a state (theta, average, previous average): each of a basis, then none and a unit of noise.
    basis = torch.cat([torch.eye(6, dtype=torch.float64), torch.zeros(2, 6, dtype=torch.float64)])
    theta, average, previous = (part.clone() for part in basis.split(2, dim=1))
    theta.requires_grad_()
    optimizer = DEAT([theta], 0.4, **keys)
    optimizer.state[theta] |= {"average": average, "previous_average": previous}
    theta.grad = theta.detach() @ torch.from_numpy(hessian)
    theta.grad[6:] += torch.eye(2)
    optimizer.step()
    state = optimizer.state[theta]
    after = torch.cat([theta.detach(), state["average"], state["previous_average"]], dim=1).numpy()
    np.testing.assert_allclose(after[:6].T, recursion.transition, rtol=0, atol=1e-13)
    np.testing.assert_allclose(after[6:].T @ noise @ after[6:], recursion.noise, rtol=0, atol=1e-13)


def test_deat_at_k1_0_and_k2_0_is_sgd(pair):
    for seed in range(5):
        hessian, noise = pair(seed, 4)
        for decoupled in (True, False):
            keys = {"weight_decay": 0.1, "decoupled_weight_decay": decoupled}
            plain = deat(hessian, noise, 0.7, k1=0.0, k2=0.0, **keys).covariance()
            np.testing.assert_allclose(plain, sgd(hessian, noise, 0.7, **keys).covariance(), rtol=1e-9, atol=1e-12)


def test_pgd_at_without_attack_is_sgd_with_gradient_noise_a_h_a_over_b(pair):
    hessian, data = pair(7)
    natural = pgd_at(hessian, data, 0.3, 8, 0).covariance()
    np.testing.assert_allclose(natural, sgd(hessian, hessian @ data @ hessian / 8, 0.3).covariance(), rtol=1e-9)


def test_deats_decay_is_decoupled_and_sgds_coupled_unless_asked_otherwise(pair):
    hessian, noise = pair(8)
    for recursion, keys, decoupled in ((sgd, {"momentum": 0.5}, False), (deat, {}, True)):
        default, same, other = (
            recursion(hessian, noise, 0.3, weight_decay=0.4, **keys, **asked).transition
            for asked in ({}, *({"decoupled_weight_decay": place} for place in (decoupled, not decoupled)))
        )
        np.testing.assert_array_equal(default, same)
        assert np.abs(default - other).max() > 0.01


def test_without_momentum_decoupled_decay_is_coupled_decay(pair):
    hessian, noise = pair(8)
    coupled, decoupled = (
        sgd(hessian, noise, 0.3, weight_decay=0.4, decoupled_weight_decay=place).covariance() for place in (0, 1)
    )
    np.testing.assert_allclose(coupled, decoupled, rtol=1e-9)


def test_covariance_is_the_sum_of_what_every_past_noise_left(pair):
    hessian, noise = pair(9, 2)
    for recursion in (
        sgd(hessian, noise, 0.5, momentum=0.6),
        deat(hessian, noise, 0.8),
        pgd_at(hessian, noise, 0.2, 1, 4),
    ):
        gathered, left = np.zeros_like(recursion.noise), recursion.noise
        for _ in range(600):
            gathered = gathered + left
            left = recursion.transition @ left @ recursion.transition.T
        np.testing.assert_allclose(recursion.state_covariance(), gathered, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("k1", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("k2", [0.0, 0.8, 0.99])
def test_the_top_curvature_alone_decides_where_deat_is_stable(spd, k1, k2):
    hessian = spd(10, 4)
    limit = stability_limit(k1) / np.linalg.eigvalsh(hessian).max()
    assert deat(hessian, hessian, 0.999 * limit, k1=k1, k2=k2).radius < 1
    assert deat(hessian, hessian, 1.001 * limit, k1=k1, k2=k2).radius > 1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
def test_momentum_widens_sgds_limit_to_2_times_1_plus_momentum(spd, momentum):
    hessian = spd(11, 4)
    limit = 2 * (1 + momentum) / np.linalg.eigvalsh(hessian).max()
    assert sgd(hessian, hessian, 0.999 * limit, momentum=momentum).radius < 1
    assert sgd(hessian, hessian, 1.001 * limit, momentum=momentum).radius > 1


def test_an_unstable_recursion_has_no_covariance():
    with pytest.raises(UserError, match=r"must be stable, its spectral radius is 1\.5; lower lr"):
        sgd(np.eye(1), np.eye(1), 2.5).covariance()
    with pytest.raises(UserError, match=r"is 1; lower lr, or leave directions without positive curvature out"):
        sgd(np.diag([0.0, 1.0]), np.eye(2), 0.5).covariance()


def test_radius_is_the_rate_at_which_a_start_is_forgotten():
    recursion = sgd(np.diag([0.2, 1.0]), np.eye(2), 0.1)
    assert recursion.radius == pytest.approx(0.98)
    start = np.linalg.matrix_power(recursion.transition, 50)[0, 0]
    assert math.log(start) / 50 == pytest.approx(math.log(0.98))
