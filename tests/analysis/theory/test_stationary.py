from __future__ import annotations

import numpy as np
import pytest

from analysis.theory import recursions, sde
from analysis.theory.stationary import continuous_covariance, exact_shape, printed_shape, shape
from trainers.errors import UserError


@pytest.fixture
def commuting(spd):
    hessian = spd(0, 4)
    return hessian, spd(1, 4, basis=hessian)


@pytest.mark.parametrize("attack_steps", [0, 1, 10])
@pytest.mark.parametrize("lr", [0.001, 0.03])
def test_closed_forms_of_commuting_matrices_are_the_solves(commuting, lr, attack_steps):
    hessian, data = commuting
    root = np.linalg.cholesky(data)
    solves = {
        printed_shape: sde.pgd_at_printed(hessian, root, lr, 8, attack_steps),
        shape: sde.pgd_at(hessian, root, lr, 8, attack_steps),
        exact_shape: recursions.pgd_at(hessian, data, lr, 8, attack_steps),
    }
    for closed, solved in solves.items():
        expected = lr / 16 * closed(hessian, data, lr, attack_steps)
        np.testing.assert_allclose(solved.covariance(), expected, rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("attack_steps", [0, 1, 10])
def test_printed_shape_bends_the_wrong_way_from_the_common_limit(commuting, attack_steps):
    hessian, data = commuting
    limit, lr = hessian @ data, 1e-5
    bends = {
        closed: (closed(hessian, data, lr, attack_steps) - limit) / lr for closed in (printed_shape, shape, exact_shape)
    }
    expected = (attack_steps + 0.5) * hessian @ hessian @ data
    np.testing.assert_allclose(bends[exact_shape], expected, rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(bends[shape], expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(bends[printed_shape], -expected, rtol=1e-2, atol=1e-3)


def test_exact_shape_grows_with_lr_without_bound_towards_the_stability_limit():
    # One direction, K = 0: E = 2 A H / (2 - lr A).
    values = [exact_shape(np.eye(1), np.eye(1), lr, 0).item() for lr in (1e-9, 1.0, 1.9, 1.999)]
    assert values == pytest.approx([1.0, 2.0, 20.0, 2000.0])


@pytest.mark.parametrize("closed", [printed_shape, shape, exact_shape])
def test_closed_forms_refuse_matrices_that_do_not_commute(spd, closed):
    with pytest.raises(UserError, match=r"must commute for the closed form, .*; solve Lyapunov's equation instead"):
        closed(spd(2), spd(3), 0.1, 1)


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_whether_matrices_commute_does_not_depend_on_their_unit(commuting, spd, scale):
    hessian, data = commuting
    assert shape(hessian, scale * data, 0.1, 1) == pytest.approx(scale * shape(hessian, data, 0.1, 1))
    with pytest.raises(UserError, match=r"must commute"):
        shape(spd(2), 1e-4 * scale * spd(3), 0.1, 1)


def test_lyapunovs_equation_holds_for_any_stable_drift():
    rng = np.random.default_rng(4)
    for _ in range(10):
        drift = np.eye(5) + 0.3 * rng.standard_normal((5, 5))
        root = rng.standard_normal((5, 2))
        covariance = continuous_covariance(drift, root @ root.T)
        np.testing.assert_allclose(drift @ covariance + covariance @ drift.T, root @ root.T, atol=1e-10)
        assert np.linalg.eigvalsh(covariance).min() > -1e-12


def test_a_flat_direction_has_no_stationary_covariance():
    with pytest.raises(UserError, match="the least is 0; leave directions without positive curvature out"):
        continuous_covariance(np.diag([1.0, 0.0]), np.eye(2))
