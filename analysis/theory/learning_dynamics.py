"""How widely the weights scatter about a minimum, settled and after the learning rate falls: SGD with momentum.

Xu, Zhang, UAI 2026, arXiv 2410.07719. In a direction of curvature h with mini-batch gradient noise c,

    w_{t+1} = (1 + mu - eta h) w_t - mu w_{t-1} - eta xi_t,    state (w_t, w_{t-1}), w from its optimum

M is the 2 x 2 companion matrix, N = eta^2 c at its first entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.theory.recursions import Array
from trainers.errors import UserError


@dataclass(frozen=True, eq=False)
class Regime:
    """A stretch of training: learning rate, momentum, and what was measured in each direction."""

    lr: float
    curvatures: Array
    """h_i, (i,): eigenvalues of the Hessian."""
    noises: Array
    """c_i, (i,): variance over mini-batches of the gradient's projection on eigenvector i."""
    momentum: float = 0.0

    @property
    def stable(self) -> NDArray[np.bool_]:
        """Where the variance settles: 0 < eta h < 2 (1 + mu); (i,)."""
        pull = self.lr * self.curvatures
        return (pull > 0) & (pull < 2 * (1 + self.momentum)) & (abs(self.momentum) < 1)


@dataclass(frozen=True, eq=False)
class Decayed:
    """Variance of w after a number of steps: `propagated` is left of the start, `injected` is noise since then."""

    propagated: Array
    """(k, i)."""
    injected: Array
    """(k, i)."""

    @property
    def variance(self) -> Array:
        """Their sum, (k, i)."""
        return self.propagated + self.injected


def companion(regime: Regime) -> Array:
    """What a step makes of the last two positions, M of every direction: [[1 + mu - eta h, -mu], [1, 0]], (i, 2, 2)."""
    matrices = np.zeros((len(regime.curvatures), 2, 2))
    matrices[:, 0, 0] = 1 + regime.momentum - regime.lr * regime.curvatures
    matrices[:, 0, 1] = -regime.momentum
    matrices[:, 1, 0] = 1
    return matrices


def injection(regime: Regime) -> Array:
    """The noise that one step adds to them: N of every direction, eta^2 c at the first entry, (i, 2, 2)."""
    matrices = np.zeros((len(regime.noises), 2, 2))
    matrices[:, 0, 0] = regime.lr**2 * regime.noises
    return matrices


def stationary_variance(regime: Regime) -> Array:
    """How widely the weights scatter once they have settled, by direction; exact.

        S_i = eta c_i (1 + mu) / [(1 - mu) h_i (2 (1 + mu) - eta h_i)]

    Returns:
        (i,); infinity where the direction is not stable.
    """
    lr, mu, h = regime.lr, regime.momentum, regime.curvatures
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = lr * regime.noises * (1 + mu) / ((1 - mu) * h * (2 * (1 + mu) - lr * h))
    return np.asarray(np.where(regime.stable, variance, np.inf))


def stationary_state(regime: Regime) -> Array:
    """How the last two positions scatter together once they have settled: covariance of (w_t, w_{t-1}), (i, 2, 2).

    S on the diagonal, S (1 + mu - eta h) / (1 + mu) beside it.

    Raises:
        UserError: a direction is not stable.
    """
    if not regime.stable.all():
        raise UserError(
            f"theory: 0 < lr * curvature < 2 (1 + momentum) must hold in every direction, {(~regime.stable).sum()} of"
            f" {len(regime.stable)} lie outside; leave them out, or start `after_decay` from a measured covariance"
        )
    variance, mu = stationary_variance(regime), regime.momentum
    beside = variance * (1 + mu - regime.lr * regime.curvatures) / (1 + mu)
    return np.stack([np.stack([variance, beside], -1), np.stack([beside, variance], -1)], -2)


def handed_over(state: Array, lr_before: float, lr_after: float) -> Array:
    """The state's covariance as torch's SGD hands it over where the learning rate changes; (i, 2, 2).

    torch keeps the velocity in units of the gradient, so that the move mu (w_t - w_{t-1}) of the next step is scaled
    by lr_after / lr_before; w_{t-1} is replaced by the position that would give that move. An optimizer whose buffer
    holds moves (the companion form taken literally, as the paper does) skips this. Without momentum it is the same.
    """
    scale = lr_after / lr_before
    change = np.array([[1.0, 0.0], [1 - scale, scale]])
    return np.asarray(change @ state @ change.T)


def after_decay(start: Array, regime: Regime, steps: Sequence[int]) -> Decayed:
    """How widely the weights scatter k steps after the learning rate fell.

        P_k = M^k P_0 M^kT (propagated) + sum_{j<k} M^j N M^jT (injected)

    The usual start is `handed_over(stationary_state(before), before.lr, after.lr)`. Exact for any curvature, also
    where nothing settles (h <= 0); sums are doubled, so that k steps cost log k products.

    Args:
        start: P_0, (i, 2, 2).
        regime: from the start on.
        steps: each k >= 0.
    """
    transition, noise = companion(regime), injection(regime)
    propagated, injected = np.empty((2, len(steps), len(start)))
    for row, k in enumerate(steps):
        power, gathered = _power_and_sum(transition, noise, k)
        propagated[row] = (power @ start @ power.swapaxes(-1, -2))[:, 0, 0]
        injected[row] = gathered[:, 0, 0]
    return Decayed(propagated, injected)


def scalar_variance(before: Regime, after: Regime, steps: ArrayLike) -> Array:
    """How widely they scatter then, in the paper's scalar form.

        S_i(k) = rho_i^2k S_i(before) + (1 - rho_i^2k) S_i(after), rho the spectral radius of M

    Exact without momentum, where rho = |1 - eta h|. With it an approximation: it has one mode for M's two and knows
    nothing of the covariance of w_t with w_{t-1}, nor of `handed_over`. Its largest error over k, in units of
    S(before), is proportional to eta h where that is small, but does not rise with it all the way: with torch's buffer
    it is largest where M's two eigenvalues meet, eta h = (1 - sqrt(mu))^2 after the decay, and near the end of
    stability. At mu = 0.9 and a tenfold decay, by eta h before it:

        eta h               0.001  0.01  0.0264  0.03  0.1  0.13  1    3
        torch's buffer, %   1.6    13    42      40    18   15    54   71
        the paper's form    10     78    171     179   288  318   568  679

    Args:
        before: the regime whose stationary variance is left.
        after: the one that begins.
        steps: k, (k,).

    Returns:
        (k, i).
    """
    rho = np.abs(np.linalg.eigvals(companion(after))).max(axis=-1)
    left = rho[None, :] ** (2 * np.asarray(steps, dtype=np.float64)[:, None])
    return np.asarray(left * stationary_variance(before) + (1 - left) * stationary_variance(after))


def _power_and_sum(transition: Array, noise: Array, steps: int) -> tuple[Array, Array]:
    """M^k and sum_{j<k} M^j N M^jT, by doubling: that of a + b is that of a plus M^a (that of b) M^aT."""
    power, gathered = np.broadcast_to(np.eye(2), transition.shape), np.zeros_like(noise)
    for bit in f"{steps:b}":
        gathered = gathered + power @ gathered @ power.swapaxes(-1, -2)
        power = power @ power
        if bit == "1":
            gathered = noise + transition @ gathered @ transition.swapaxes(-1, -2)
            power = transition @ power
    return power, gathered
