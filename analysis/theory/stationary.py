"""How widely weights scatter about a minimum once they have settled: their stationary covariance.

Of a diffusion by a Lyapunov solve, and of PGD-AT in closed form where A and H commute.

Sun, Sinha, Zhang, KDD 2023, section on Theorem 1: A^ S + S A^ = (lr / b) A H A with A^ = A + (K + 1/2) lr A^2, and for
commuting A and H: S = (lr / 2b) E, E = A^2 H A^^-1. The algebra from the first to the second is right; the equation's
right side is not of the order of its left side. With (lr / b) A^ H A^ instead, E = A^ H. The recursion's own stationary
covariance is exact: `analysis.theory.recursions`.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import solve_continuous_lyapunov

from analysis.theory.recursions import Array
from trainers.errors import UserError

#: A and H are taken to commute below this norm of A H - H A, relative to |A| |H|.
COMMUTES = 1e-9


def effective_hessian(hessian: Array, lr: float, attack_steps: int) -> Array:
    """The curvature that PGD-AT descends: A^ = A + (K + 1/2) lr A^2, (d, d).

    K lr A^2 from the attack, lr A^2 / 2 from the length of a step.
    """
    return hessian + (attack_steps + 0.5) * lr * hessian @ hessian


def continuous_covariance(drift: Array, noise: Array) -> Array:
    """How widely a diffusion scatters once it has settled: S with drift S + S drift^T = noise.

    The stationary covariance of d theta = -drift theta dt + noise^(1/2) dW.

    Args:
        drift: (d, d).
        noise: (d, d), covariance gathered in a unit of time.

    Returns:
        (d, d).

    Raises:
        UserError: an eigenvalue of the drift has no positive real part, so that nothing is stationary.
    """
    slowest = float(np.linalg.eigvals(drift).real.min())
    if not slowest > 0:
        raise UserError(
            f"theory: the drift's eigenvalues must have positive real parts, the least is {slowest:.6g}; leave"
            " directions without positive curvature out"
        )
    covariance: Array = solve_continuous_lyapunov(drift, noise)
    return (covariance + covariance.T) / 2


def printed_shape(hessian: Array, data_covariance: Array, lr: float, attack_steps: int) -> Array:
    """The shape of PGD-AT's settled covariance as printed: E = A^2 H A^^-1, for commuting A and H; S = (lr / 2b) E.

    To first order in lr it is A H (I - (K + 1/2) lr A): the correction has the wrong sign, at K = 0 too.

    Returns:
        (d, d).

    Raises:
        UserError: A and H do not commute.
    """
    _must_commute(hessian, data_covariance)
    inverse = np.linalg.inv(effective_hessian(hessian, lr, attack_steps))
    return hessian @ hessian @ data_covariance @ inverse


def shape(hessian: Array, data_covariance: Array, lr: float, attack_steps: int) -> Array:
    """The same, right up to a relative lr^2: E = A^ H = A H (I + (K + 1/2) lr A), for commuting A and H.

    Returns:
        (d, d).

    Raises:
        UserError: A and H do not commute.
    """
    _must_commute(hessian, data_covariance)
    return effective_hessian(hessian, lr, attack_steps) @ data_covariance


def exact_shape(hessian: Array, data_covariance: Array, lr: float, attack_steps: int) -> Array:
    """The same exactly: E = 2 A G H (2 I - lr A G)^-1 with G = (I + lr A)^K, for commuting A and H.

    It grows with K and with lr, up to the stability limit lr A G = 2.

    Returns:
        (d, d).

    Raises:
        UserError: A and H do not commute.
    """
    _must_commute(hessian, data_covariance)
    eye = np.eye(len(hessian))
    pull = hessian @ np.linalg.matrix_power(eye + lr * hessian, attack_steps)
    exact: Array = 2 * pull @ data_covariance @ np.linalg.inv(2 * eye - lr * pull)
    return exact


def _must_commute(hessian: Array, data_covariance: Array) -> None:
    commutator = hessian @ data_covariance - data_covariance @ hessian
    size = np.linalg.norm(hessian) * np.linalg.norm(data_covariance)
    if np.linalg.norm(commutator) > COMMUTES * size:
        raise UserError(
            "theory: Hessian and noise covariance must commute for the closed form, |AH - HA| is"
            f" {np.linalg.norm(commutator) / size:.3g} of |A| |H|; solve Lyapunov's equation instead"
        )
