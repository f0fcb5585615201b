"""SGD and PGD-AT as motion in continuous time: a drift to the minimum, and a diffusion about it.

Time: one unit is 1 / lr steps, so that a step takes the time lr and the drift of SGD is the gradient itself. Lemma 1 of
Sun, Sinha, Zhang, KDD 2023 (after Mandt et al., JMLR 2017, section 3.1) counts in steps instead: d theta = -lr g dt +
(lr / sqrt(b)) B dW. With t = lr * steps that is d theta = -g dt + sqrt(lr / b) B dW, the unit of Theorem 1.
B also changes its meaning: in Lemma 1, B B^T is the covariance of one sample's *gradient*; in Theorem 1, where it
enters as A B, that of the sample's own minimiser.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.linalg import expm

from analysis.theory.recursions import Array
from analysis.theory.stationary import continuous_covariance, effective_hessian


@dataclass(frozen=True, eq=False)
class OrnsteinUhlenbeck:
    """d theta = -drift theta dt + diffusion dW; a step takes the time `lr`."""

    drift: Array
    """(d, d)."""
    diffusion: Array
    """(d, m)."""
    lr: float

    @property
    def noise(self) -> Array:
        """Diffusion diffusion^T, (d, d): covariance gathered in a unit of time."""
        return self.diffusion @ self.diffusion.T

    def mean_after(self, steps: float) -> Array:
        """What the mean is multiplied by in so many steps: exp(-drift lr steps), (d, d)."""
        factor: Array = expm(-self.drift * self.lr * steps)
        return factor

    def covariance(self) -> Array:
        """Stationary, (d, d): the solution of drift S + S drift^T = noise."""
        return continuous_covariance(self.drift, self.noise)


def sgd(hessian: Array, gradient_root: Array, lr: float, batch_size: int) -> OrnsteinUhlenbeck:
    """SGD as a diffusion: drift A, diffusion sqrt(lr / b) B.

    Sun, Sinha, Zhang, KDD 2023, Lemma 1, in Theorem 1's unit of time. First order: mean and covariance of one step are
    those of the recursion up to lr^2; the stationary covariance up to a relative error proportional to lr.

    Args:
        hessian: A, (d, d).
        gradient_root: B, (d, m), of the covariance B B^T of one sample's gradient.
        lr: learning rate.
        batch_size: b.
    """
    return OrnsteinUhlenbeck(hessian, math.sqrt(lr / batch_size) * gradient_root, lr)


def pgd_at_printed(
    hessian: Array, data_root: Array, lr: float, batch_size: int, attack_steps: int
) -> OrnsteinUhlenbeck:
    """PGD-AT as a diffusion, as printed: drift A^ = A + (K + 1/2) lr A^2, diffusion sqrt(lr / b) A B.

    Sun, Sinha, Zhang, KDD 2023, Theorem 1. The drift is right to its order: exp(-lr A^) is the recursion's transition
    up to lr^3. The diffusion is not: it lacks the term of that order, so that the stationary covariance keeps a
    relative error proportional to lr, and its change with lr the wrong sign: printed, more attack steps make the
    covariance smaller; in the recursion they make it larger. `pgd_at` has the missing term.

    Args:
        hessian: A, (d, d).
        data_root: B, (d, m), with H = B B^T the covariance of one sample; see `analysis.theory.recursions.pgd_at`.
        lr: learning rate, of the update and of the attack.
        batch_size: b.
        attack_steps: K.
    """
    drift = effective_hessian(hessian, lr, attack_steps)
    return OrnsteinUhlenbeck(drift, math.sqrt(lr / batch_size) * hessian @ data_root, lr)


def pgd_at(hessian: Array, data_root: Array, lr: float, batch_size: int, attack_steps: int) -> OrnsteinUhlenbeck:
    """PGD-AT as a diffusion, with both coefficients to the same order: drift A^, diffusion sqrt(lr / b) A^ B.

        noise per step = (lr^2 / b) A (I + K lr A) H (I + K lr A) A + O(lr^4)
                       = lr D - (lr^2 / 2) (A D + D A) + O(lr^4)    with D = (lr / b) A^ H A^

    Relative error of the stationary covariance: proportional to lr^2, commuting or not. Arguments are those of
    `pgd_at_printed`.
    """
    drift = effective_hessian(hessian, lr, attack_steps)
    return OrnsteinUhlenbeck(drift, math.sqrt(lr / batch_size) * drift @ data_root, lr)


def exact_drift(hessian: Array, lr: float, attack_steps: int) -> Array:
    """The drift whose flow over one step is what PGD-AT's mean does: -log(I - lr A (I + lr A)^K) / lr.

    A + (K + 1/2) lr A^2 is its expansion to first order in lr.

    Returns:
        (d, d); NaN where an eigenvalue of the transition is not positive (no flow changes a sign).
    """
    values, vectors = np.linalg.eigh(hessian)
    factors = 1 - lr * values * (1 + lr * values) ** attack_steps
    rates = -np.log(np.where(factors > 0, factors, np.nan)) / lr
    drift: Array = (vectors * rates) @ vectors.T
    return drift
