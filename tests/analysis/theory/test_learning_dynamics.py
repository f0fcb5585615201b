from __future__ import annotations

import math

import numpy as np
import pytest

from analysis.theory import recursions
from analysis.theory.learning_dynamics import (
    Regime,
    after_decay,
    companion,
    handed_over,
    injection,
    scalar_variance,
    stationary_state,
    stationary_variance,
)
from trainers.errors import UserError

CURVATURES, NOISES = np.array([0.05, 0.7, 3.0, 9.0]), np.array([2.0, 0.5, 1.0, 4.0])
MOMENTA = [0.0, 0.5, 0.9]
STEPS = [0, 1, 2, 7, 64, 501]


def regime(lr, momentum=0.0):
    return Regime(lr, CURVATURES, NOISES, momentum)


def started(before, after):
    return handed_over(stationary_state(before), before.lr, after.lr)


@pytest.mark.parametrize("momentum", MOMENTA)
@pytest.mark.parametrize("lr", [1e-3, 0.1, 0.2])
def test_stationary_variance_is_that_of_sgd_with_its_velocity_as_state(lr, momentum):
    covariance = recursions.sgd(np.diag(CURVATURES), np.diag(NOISES), lr, momentum=momentum).covariance()
    np.testing.assert_allclose(np.diag(stationary_variance(regime(lr, momentum))), covariance, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_stationary_state_is_left_alone_by_a_step(momentum):
    for lr in (1e-3, 0.1, 0.2):
        here = regime(lr, momentum)
        state, transition = stationary_state(here), companion(here)
        stepped = transition @ state @ transition.swapaxes(-1, -2) + injection(here)
        np.testing.assert_allclose(stepped, state, rtol=1e-10)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_propagated_and_injected_are_the_sums_written_out(momentum):
    before, after = regime(0.1, momentum), regime(0.01, momentum)
    state, transition = started(before, after), companion(after)
    found = after_decay(state, after, STEPS)
    for row, k in enumerate(STEPS):
        powers = [np.stack([np.linalg.matrix_power(one, j) for one in transition]) for j in range(k + 1)]
        left = powers[k] @ state @ powers[k].swapaxes(-1, -2)
        gathered = sum((p @ injection(after) @ p.swapaxes(-1, -2) for p in powers[:k]), np.zeros_like(state))
        np.testing.assert_allclose(found.propagated[row], left[:, 0, 0], rtol=1e-9, atol=1e-15)
        np.testing.assert_allclose(found.injected[row], gathered[:, 0, 0], rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_a_decay_hands_over_what_torchs_velocity_buffer_does(momentum):
    """The oracle carries (theta, v), which a change of the learning rate leaves alone."""
    before, after = regime(0.1, momentum), regime(0.01, momentum)
    hessian, noise = np.diag(CURVATURES), np.diag(NOISES)
    state = recursions.sgd(hessian, noise, before.lr, momentum=momentum).state_covariance()
    step = recursions.sgd(hessian, noise, after.lr, momentum=momentum)
    found = after_decay(started(before, after), after, range(31)).variance
    for k in range(31):
        np.testing.assert_allclose(found[k], np.diag(state)[:4], rtol=1e-6)
        state = step.transition @ state @ step.transition.T + step.noise


@pytest.mark.parametrize("momentum", MOMENTA)
def test_chains_of_sgd_through_a_decay_have_the_variance(assert_agrees, momentum):
    before, after = regime(0.1, momentum), regime(0.01, momentum)
    rng, chains = np.random.default_rng(1), 20_000
    root = np.linalg.cholesky(stationary_state(before)[1])
    moves = root @ rng.standard_normal((2, chains))  # w_t and w_{t-1} of the direction 0.7
    w, velocity = moves[0], (moves[1] - moves[0]) / before.lr
    checked = (1, 5, 20, 80)
    expected = after_decay(started(before, after), after, checked).variance[:, 1]
    for k in range(1, 81):
        velocity = momentum * velocity + 0.7 * w + math.sqrt(0.5) * rng.standard_normal(chains)
        w = w - after.lr * velocity
        if k in checked:
            assert_agrees(w[:, None], np.array([[expected[checked.index(k)]]]))


@pytest.mark.parametrize("momentum", MOMENTA)
def test_start_is_all_that_is_left_at_once_and_nothing_of_it_in_the_end(momentum):
    before, after = regime(0.1, momentum), regime(0.01, momentum)
    found = after_decay(started(before, after), after, [0, 10**6])
    np.testing.assert_allclose(found.propagated[0], stationary_variance(before))
    np.testing.assert_array_equal(found.injected[0], 0)
    np.testing.assert_allclose(found.propagated[1], 0, atol=1e-12)
    np.testing.assert_allclose(found.injected[1], stationary_variance(after), rtol=1e-9)


@pytest.mark.parametrize("momentum", MOMENTA)
def test_nothing_changes_without_a_decay(momentum):
    here = regime(0.1, momentum)
    found = after_decay(started(here, here), here, STEPS).variance
    np.testing.assert_allclose(found, np.tile(stationary_variance(here), (len(STEPS), 1)), rtol=1e-9)


def test_injected_never_falls_and_without_momentum_propagated_never_rises():
    steps = range(200)
    for momentum in MOMENTA:
        before, after = regime(0.1, momentum), regime(0.01, momentum)
        found = after_decay(started(before, after), after, steps)
        assert (np.diff(found.injected, axis=0) >= -1e-15).all()
        if momentum == 0:
            assert (np.diff(found.propagated, axis=0) <= 0).all()


def test_scalar_form_is_exact_without_momentum():
    for lr in (0.01, 0.05, 0.19):  # the last: 1 - lr * 9 is negative
        before, after = regime(0.1), regime(lr)
        found = after_decay(started(before, after), after, STEPS).variance
        np.testing.assert_allclose(scalar_variance(before, after, STEPS), found, rtol=1e-9)


def worst_of_the_scalar_form(pull, momentum, *, torchs):
    """Largest error over k, in units of the variance before a tenfold decay; pull = eta h before it."""
    before, after = (Regime(lr, np.array([pull]), np.ones(1), momentum) for lr in (1.0, 0.1))
    steps = np.unique(np.geomspace(1, 100 / pull, 300).astype(int))
    state = started(before, after) if torchs else stationary_state(before)
    exact = after_decay(state, after, steps.tolist()).variance
    return np.abs(scalar_variance(before, after, steps) - exact).max() / stationary_variance(before).item()


def test_error_of_the_scalar_form_with_momentum_is_what_its_docstring_says():
    pulls = (0.001, 0.01, 0.0264, 0.03, 0.1, 0.13, 1, 3)
    torchs = [worst_of_the_scalar_form(pull, 0.9, torchs=True) for pull in pulls]
    papers = [worst_of_the_scalar_form(pull, 0.9, torchs=False) for pull in pulls]
    np.testing.assert_allclose(torchs, [0.016, 0.13, 0.42, 0.40, 0.18, 0.15, 0.54, 0.71], atol=5e-3)
    np.testing.assert_allclose(papers, [0.10, 0.78, 1.71, 1.79, 2.88, 3.18, 5.68, 6.79], atol=5e-3)


@pytest.mark.parametrize("momentum", [0.8, 0.9, 0.95])
def test_error_of_the_scalar_form_with_torchs_buffer_peaks_where_the_eigenvalues_meet(momentum):
    meeting = 10 * (1 - math.sqrt(momentum)) ** 2  # before a tenfold decay
    around = [worst_of_the_scalar_form(meeting * factor, momentum, torchs=True) for factor in (0.5, 0.9, 1, 1.1, 2)]
    assert max(around) == around[2]
    assert around[0] < around[1] > around[4]


@pytest.mark.parametrize("torchs", [True, False])
@pytest.mark.parametrize("momentum", [0.3, 0.5, 0.9])
def test_error_of_the_scalar_form_falls_as_lr(slope, momentum, torchs):
    pulls = np.array([4e-4, 2e-4, 1e-4])
    errors = [worst_of_the_scalar_form(pull, momentum, torchs=torchs) for pull in pulls]
    assert slope(pulls, errors) == pytest.approx(1, abs=0.05)


def test_a_direction_outside_the_stable_range_has_infinite_variance_and_no_stationary_state():
    here = Regime(1.0, np.array([-0.1, 0.0, 1.0, 3.0, 3.6, 3.7]), np.ones(6), 0.8)
    assert np.isinf(stationary_variance(here)).tolist() == [True, True, False, False, True, True]
    with pytest.raises(UserError, match=r"must hold in every direction, 4 of 6 lie outside; leave them out"):
        stationary_state(here)


@pytest.mark.parametrize("momentum", [1.0, 1.5, -1.0])
def test_momentum_of_one_or_more_settles_nowhere(momentum):
    assert np.isinf(stationary_variance(regime(0.1, momentum))).all()


def test_a_flat_direction_wanders_as_a_random_walk():
    here = Regime(0.1, np.array([0.0]), np.array([3.0]))
    found = after_decay(np.zeros((1, 2, 2)), here, [1, 10, 1000])
    np.testing.assert_allclose(found.injected[:, 0], 0.1**2 * 3.0 * np.array([1, 10, 1000]))


def test_momentum_acts_as_a_learning_rate_larger_by_1_over_1_minus_momentum_as_lr_falls():
    for momentum in MOMENTA:
        plain, heavy = stationary_variance(regime(1e-6 / (1 - momentum))), stationary_variance(regime(1e-6, momentum))
        np.testing.assert_allclose(heavy, plain, rtol=1e-3)
