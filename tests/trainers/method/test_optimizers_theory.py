"""What DEAT does on a quadratic: stability and noise, in closed form, exactly, and by simulation.

Copies of a one-dimensional quadratic lambda theta^2 / 2 are the entries of one tensor, so that the real
optimizers are measured. A Monte-Carlo variance of n independent normal values has the standard error
variance * sqrt(2 / n); intervals are four of them, seeds are fixed.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor

from trainers.method.optimizers import DEAT

COPIES = 400_000
FOUR_STANDARD_ERRORS = 4 * math.sqrt(2 / COPIES)

Make = Callable[[list[Tensor]], torch.optim.Optimizer]

#: Stationary Var_DEAT / Var_SGD at k1 = 1, k2 = 0.8, for lr * lambda.
RATIOS = {0.001: 0.447, 0.01: 0.443, 0.1: 0.409, 0.5: 0.296, 1.0: 0.228}


def normaliser(k1: float) -> float:
    return math.sqrt((1 + k1) ** 2 + k1**2)


def stability_limit(k1: float) -> float:
    return 2 * normaliser(k1) / (1 + 2 * k1)


def transition(lr: float, k1: float, k2: float) -> tuple[np.ndarray, np.ndarray]:
    """The linear recursion s <- A s + b noise of s = (theta_t, h_{t-1}, h_{t-2}) at lambda = 1."""
    step = lr / normaliser(k1)
    refreshed = np.array([1 - k2, 0, k2])
    matrix = np.array([np.array([1, step * k1, 0]) - step * (1 + k1) * refreshed, refreshed, [0, 1, 0]])
    return matrix, (1 - k2) * np.array([-step * (1 + k1), 1, 0])


def stationary_variance(lr: float, k1: float, k2: float) -> float:
    """Of theta, exactly, at lambda = 1 and unit gradient noise: the discrete Lyapunov equation's solution."""
    matrix, noise = transition(lr, k1, k2)
    return float(solve_discrete_lyapunov(matrix, np.outer(noise, noise))[0, 0])


def sgd_variance(lr: float) -> float:
    return lr**2 / (1 - (1 - lr) ** 2)


def simulated(make: Make, steps: int, curvature: float = 1.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Theta and its last update, (COPIES,) each, after `steps` steps from 0 with unit gradient noise."""
    torch.manual_seed(seed)
    theta = torch.zeros(COPIES, requires_grad=True)
    optimizer = make([theta])
    before = theta.detach().clone()
    for _ in range(steps):
        before.copy_(theta.detach())
        theta.grad = torch.randn(COPIES).add_(theta.detach(), alpha=curvature)
        optimizer.step()
    return theta.detach(), theta.detach() - before


def variance(values: Tensor) -> float:
    """About the known mean 0."""
    return values.double().square().mean().item()


@pytest.mark.parametrize("k2", [0.0, 0.5, 0.8, 0.95, 0.99])
def test_the_recursion_is_stable_up_to_the_closed_form_limit_and_not_beyond(k2: float) -> None:
    for k1 in (0.0, 0.1, 0.5, 1.0, 2.0, 5.0):
        for share in (0.01, 0.3, 0.7, 0.9, 0.999):
            matrix, _ = transition(share * stability_limit(k1), k1, k2)
            assert np.abs(np.linalg.eigvals(matrix)).max() < 1
        matrix, _ = transition(1.001 * stability_limit(k1), k1, k2)
        assert np.abs(np.linalg.eigvals(matrix)).max() > 1


@pytest.mark.parametrize(("k1", "k2"), list(itertools.product((0.0, 1.0, 3.0), (0.0, 0.8, 0.9))))
def test_deat_converges_just_below_the_limit_and_diverges_just_above(k1: float, k2: float) -> None:
    limit = stability_limit(k1)
    curvature = torch.tensor([0.97 * limit, 1.03 * limit], dtype=torch.float64)
    theta = torch.ones(2, dtype=torch.float64, requires_grad=True)
    optimizer = DEAT([theta], 1.0, k1, k2)
    for _ in range(10_000):
        theta.grad = curvature * theta.detach()
        optimizer.step()
    below, above = theta.detach().abs().tolist()
    assert below < 1e-3
    assert above > 1e3


def test_the_limit_is_two_for_sgd_and_1_491_at_k1_1() -> None:
    assert stability_limit(0.0) == 2.0
    assert stability_limit(1.0) == pytest.approx(1.491, abs=5e-4)


@pytest.mark.parametrize(("k1", "k2", "ratio"), [(1.0, 0.8, 0.556), (1.0, 0.0, 5.0), (0.0, 0.8, 0.111)])
def test_instantaneous_noise_of_the_bracket_against_plain_sgd(k1: float, k2: float, ratio: float) -> None:
    exact = normaliser(k1) ** 2 * (1 - k2) / (1 + k2)
    assert exact == pytest.approx(ratio, abs=5e-4)
    _, update = simulated(lambda params: DEAT(params, normaliser(k1), k1, k2), steps=80, curvature=0.0)
    assert variance(update) == pytest.approx(exact, rel=FOUR_STANDARD_ERRORS)


@pytest.mark.parametrize(("k1", "k2"), [(0.0, 0.8), (1.0, 0.8), (3.0, 0.8), (0.0, 0.0), (1.0, 0.0)])
def test_noise_of_one_update_does_not_depend_on_k1(k1: float, k2: float) -> None:
    lr = 0.3
    _, update = simulated(lambda params: DEAT(params, lr, k1, k2), steps=80, curvature=0.0, seed=1)
    assert variance(update) == pytest.approx(lr**2 * (1 - k2) / (1 + k2), rel=FOUR_STANDARD_ERRORS)


@pytest.mark.parametrize("k1", [0.5, 1.0, 2.0])
def test_bracket_noise_is_amplified_by_the_papers_factor_against_the_damped_average_of_the_same_k2(
    k1: float,
) -> None:
    _, amplified = simulated(lambda params: DEAT(params, normaliser(k1), k1, 0.8), steps=80, curvature=0.0)
    _, average = simulated(lambda params: DEAT(params, 1.0, 0.0, 0.8), steps=80, curvature=0.0, seed=1)
    ratio = variance(amplified) / variance(average)
    assert ratio == pytest.approx((1 + k1) ** 2 + k1**2, rel=math.sqrt(2) * FOUR_STANDARD_ERRORS)


@pytest.mark.parametrize("lr", [0.01, 0.5, 1.9])
def test_stationary_variance_at_k1_0_and_k2_0_is_that_of_sgd(lr: float) -> None:
    assert stationary_variance(lr, 0.0, 0.0) == pytest.approx(sgd_variance(lr), rel=1e-9)


@pytest.mark.parametrize(("lr", "ratio"), RATIOS.items())
def test_exact_stationary_variance_ratio(lr: float, ratio: float) -> None:
    assert stationary_variance(lr, 1.0, 0.8) / sgd_variance(lr) == pytest.approx(ratio, abs=5e-4)


@pytest.mark.parametrize("k2", [0.0, 0.5, 0.8])
@pytest.mark.parametrize("k1", [0.0, 1.0, 2.0])
def test_stationary_variance_ratio_tends_to_the_ratio_of_mean_steps(k1: float, k2: float) -> None:
    errors = [abs(stationary_variance(lr, k1, k2) / sgd_variance(lr) - 1 / normaliser(k1)) for lr in (1e-2, 1e-3)]
    assert errors[1] <= 0.15 * errors[0] + 1e-9
    assert errors[1] < 5e-3


@pytest.mark.parametrize("lr", [pytest.param(0.01, marks=pytest.mark.slow), 0.1, 0.5, 1.0])
def test_simulated_stationary_variances_are_the_exact_ones(lr: float) -> None:
    steps = 100 + math.ceil(4 / (lr / math.sqrt(5)))  # the variance is stationary to exp(-8)
    deat, _ = simulated(lambda params: DEAT(params, lr, 1.0, 0.8), steps)
    sgd, _ = simulated(lambda params: torch.optim.SGD(params, lr), steps, seed=1)
    tolerance = FOUR_STANDARD_ERRORS + math.exp(-8)
    assert variance(deat) == pytest.approx(stationary_variance(lr, 1.0, 0.8), rel=tolerance)
    assert variance(sgd) == pytest.approx(sgd_variance(lr), rel=tolerance)
    assert variance(deat) / variance(sgd) == pytest.approx(RATIOS[lr], rel=math.sqrt(2) * tolerance + 2e-3)


@pytest.mark.parametrize("k2", [0.0, 0.8])
def test_deat_looks_ahead_of_descent_on_the_average(k2: float) -> None:
    """With x_t = theta_t + lr' k1 h_{t-1}: x_{t+1} = x_t - lr' h_t and theta_t = x_t + k1 (x_t - x_{t-1})."""
    torch.manual_seed(0)
    lr, k1 = 0.3, 0.7
    theta = torch.randn(5, dtype=torch.float64, requires_grad=True)
    optimizer = DEAT([theta], lr, k1, k2)
    step = lr / normaliser(k1)
    x = theta.detach().clone()
    for _ in range(12):
        theta.grad = theta.detach() + torch.randn(5, dtype=torch.float64)
        optimizer.step()
        average = optimizer.state[theta]["average"]
        previous, x = x, theta.detach() + step * k1 * average
        torch.testing.assert_close(x, previous - step * average, rtol=0, atol=1e-14)
        torch.testing.assert_close(theta.detach(), x + k1 * (x - previous), rtol=0, atol=1e-14)


def test_decoupled_decay_weighs_sqrt_5_times_as_much_as_in_sgd() -> None:
    """Where (theta - 1)^2 / 2 and the decay balance: SGD at lr / sqrt(5), weight decay times sqrt(5)."""
    weight_decay = 0.2
    theta = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = DEAT([theta], lr=0.05, weight_decay=weight_decay)
    for _ in range(2000):
        theta.grad = theta.detach() - 1
        optimizer.step()
    # Decay acts before the step and the gradient is taken before both, so the balance is exact in lr.
    assert theta.item() == pytest.approx(1 / (1 + math.sqrt(5) * weight_decay), rel=1e-9)
