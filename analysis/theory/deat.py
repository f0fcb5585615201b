"""How noisy DEAT's updates are beside SGD's, when they are stable, and which SGD they act like.

Sun, Sinha, Zhang, KDD 2023, Algorithm 2 and Theorem 2. The theorem's factor (1 + k1)^2 + k1^2 is the noise of the
bracket (1 + k1) h_t - k1 h_{t-1} against that of h_t, an average with the same k2. It is not the ratio to plain SGD
(`bracket_noise`), not that of the updates, which the normaliser lr' = lr / sqrt((1 + k1)^2 + k1^2) cancels it from
(`update_noise`), and not that of the stationary variances, which go the other way (`small_lr_ratio`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

Scalar = TypeVar("Scalar", float, Array)


@dataclass(frozen=True)
class EquivalentSGD:
    """SGD with coupled weight decay and no momentum, whose mean moves as DEAT's does at small lr."""

    lr: float
    weight_decay: float


def normaliser(k1: Scalar) -> Scalar:
    """What DEAT divides its learning rate by: sqrt((1 + k1)^2 + k1^2), 1 at k1 = 0, sqrt(5) at k1 = 1.

    Args:
        k1: a number, or an array of them.
    """
    length: Scalar = np.hypot(1 + k1, k1)
    return length


def amplification(k1: float) -> float:
    """How much noisier DEAT's bracket is than its average alone: variance (1 + k1)^2 + k1^2 times, whatever k2.

    KDD 2023, Theorem 2, prints it as the ratio to PGD-AT; it is the ratio to a dampened lag-2 average of the same k2.
    """
    return (1 + k1) ** 2 + k1**2


def bracket_noise(k1: float, k2: float) -> float:
    """How noisy DEAT's bracket is beside SGD's gradient: variance of (1 + k1) h_t - k1 h_{t-1} over a mini-batch's.

        ((1 + k1)^2 + k1^2) (1 - k2) / (1 + k2)

    0.556 at (1, 0.8): smaller than SGD's; 5 at (1, 0). h_t and h_{t-1} hold other mini-batches, so are independent.
    """
    return amplification(k1) * (1 - k2) / (1 + k2)


def update_noise(lr: float, k2: float) -> float:
    """How noisy one update of DEAT is: variance lr^2 (1 - k2) / (1 + k2) per unit of gradient noise, without k1."""
    return lr**2 * (1 - k2) / (1 + k2)


def gathered_noise(lr: float, k1: float) -> float:
    """How noisy many updates of DEAT are together: variance of their sum, per update and unit of gradient noise.

    lr^2 / ((1 + k1)^2 + k1^2), without k2.

    A mini-batch gradient enters updates with weights that sum to lr'. This, over the drift lr', is what a slow
    direction sees, and why `small_lr_ratio` is lr' / lr.
    """
    return lr**2 / amplification(k1)


def small_lr_ratio(k1: float) -> float:
    """How widely DEAT's weights scatter in the end, beside SGD's at equal lr, where lr is small.

    The limit of stationary Var_DEAT / Var_SGD as lr * curvature -> 0: 1 / sqrt((1 + k1)^2 + k1^2). 0.447
    at k1 = 1, whatever k2: at equal lr DEAT's posterior is narrower than SGD's, not wider.
    """
    return 1 / normaliser(k1)


def stability_limit(k1: float) -> float:
    """How large lr * curvature may be before DEAT flies apart: below 2 sqrt((1 + k1)^2 + k1^2) / (1 + 2 k1).

    Whatever k2: 2 at k1 = 0, as for SGD, 1.491 at 1.
    """
    return 2 * normaliser(k1) / (1 + 2 * k1)


def stationary_variance(lr: float, curvature: ArrayLike, noise: ArrayLike, k1: float = 1.0, k2: float = 0.8) -> Array:
    """How widely DEAT's weights scatter in the end, in directions of curvature h and mini-batch gradient noise c.

        lr' c   (1 + k2) + a [2 k1^2 (1 - k2) + k1 (1 - 3 k2) - k2]
        ----- * ---------------------------------------------------,    a = lr' h
          h     [2 - a (1 + 2 k1)] [(1 + k2) + a (k1 + k2 + k1 k2)]

    Exact: it solves the discrete Lyapunov equation of `analysis.theory.recursions.deat` in one dimension. The first
    bracket of the denominator is the stability limit. k1 = k2 = 0 is SGD's lr c / (h (2 - lr h)).

    Returns:
        The shape that curvature and noise broadcast to; infinity where the recursion is not stable.
    """
    curvature, noise = np.asarray(curvature, dtype=np.float64), np.asarray(noise, dtype=np.float64)
    step = lr / normaliser(k1)
    pull = step * curvature
    over = (1 + k2) + pull * (2 * k1**2 * (1 - k2) + k1 * (1 - 3 * k2) - k2)
    under = (2 - pull * (1 + 2 * k1)) * ((1 + k2) + pull * (k1 + k2 + k1 * k2))
    stable = (curvature > 0) & (pull * (1 + 2 * k1) < 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        variance: Array = np.where(stable, step * noise / curvature * over / under, np.inf)
    return variance


def variance_ratio(lr_curvature: ArrayLike, k1: float = 1.0, k2: float = 0.8) -> Array:
    """How widely DEAT's weights scatter beside SGD's at equal lr: stationary Var_DEAT / Var_SGD by lr * curvature.

    It begins at `small_lr_ratio`.

    At k1 = 1, k2 = 0.8: 0.447, 0.443, 0.409, 0.296, 0.228 at lr * curvature = 0.001, 0.01, 0.1, 0.5, 1; least (0.227)
    at 1.05, above 1 from 1.46 on, and without bound at the stability limit 1.491.

    Returns:
        The shape of lr_curvature; infinity where DEAT alone is unstable, NaN where SGD is too.
    """
    deat, sgd = (stationary_variance(1.0, lr_curvature, 1.0, *keys) for keys in ((k1, k2), (0.0, 0.0)))
    with np.errstate(invalid="ignore"):
        return np.asarray(deat / sgd)


def equivalent_sgd(
    lr: float, k1: float = 1.0, weight_decay: float = 0.0, *, decoupled_weight_decay: bool = True
) -> EquivalentSGD:
    """The SGD that DEAT acts like where lr is small: its mean moves as at lr' = lr / sqrt((1 + k1)^2 + k1^2).

    Decoupled decay, as in the authors' code, is scaled by lr and not lr', so that SGD needs weight_decay times
    sqrt((1 + k1)^2 + k1^2) to pull as hard: 5e-4 acts as 1.12e-3 at k1 = 1. Coupled decay stays what it is.
    """
    stronger = normaliser(k1) if decoupled_weight_decay else 1.0
    return EquivalentSGD(lr / normaliser(k1), weight_decay * stronger)
