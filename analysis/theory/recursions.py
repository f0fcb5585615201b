"""Training near a minimum, step by step as it is run: SGD, DEAT and PGD-AT on a quadratic risk.

Linear recursions, exact for any learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_discrete_lyapunov

from analysis.theory.deat import normaliser
from trainers.errors import UserError

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Recursion:
    """Training whose next state is a matrix times the last one, and noise: s_{t+1} = transition s_t + xi_t.

    The xi_t are independent, of mean 0. theta stands first in the state s, measured from the recursion's fixed point,
    which weight decay moves and the covariance does not see.
    """

    transition: Array
    """(s, s)."""
    noise: Array
    """(s, s): the covariance of xi_t."""
    dimensions: int
    """Of theta."""

    @property
    def radius(self) -> float:
        """The largest modulus of the transition's eigenvalues; the recursion is stable below 1."""
        return float(np.abs(np.linalg.eigvals(self.transition)).max())

    def state_covariance(self) -> Array:
        """How the state scatters once it has settled: P = transition P transition^T + noise.

        Returns:
            (s, s).

        Raises:
            UserError: the recursion is not stable.
        """
        if not self.radius < 1:
            raise UserError(
                f"theory: the recursion must be stable, its spectral radius is {self.radius:.6g}; lower lr, or leave"
                " directions without positive curvature out"
            )
        covariance: Array = solve_discrete_lyapunov(self.transition, self.noise)
        return (covariance + covariance.T) / 2

    def covariance(self) -> Array:
        """How theta scatters once it has settled, (d, d); see `state_covariance`."""
        return self.state_covariance()[: self.dimensions, : self.dimensions]


def sgd(
    hessian: Array,
    noise: Array,
    lr: float,
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
) -> Recursion:
    """SGD on a quadratic, with the momentum of torch; state (theta_t, v_{t-1}).

        v_t = momentum v_{t-1} + (A + weight_decay) theta_t + noise,    theta_{t+1} = theta_t - lr v_t

    Args:
        hessian: A, (d, d), symmetric.
        noise: C, (d, d): covariance of the mini-batch gradient, which is H / b for H that of one sample.
        lr: learning rate.
        momentum: without dampening, not Nesterov's.
        weight_decay: L2 coefficient.
        decoupled_weight_decay: theta *= 1 - lr * weight_decay before the step, and no decay in the gradient.
    """
    eye, shrink, coupled = _decay(hessian, lr, weight_decay, decoupled_weight_decay)
    curvature = hessian + coupled * eye
    transition = np.block([[shrink * eye - lr * curvature, -lr * momentum * eye], [curvature, momentum * eye]])
    return _driven(transition, np.vstack([-lr * eye, eye]), noise)


def deat(
    hessian: Array,
    noise: Array,
    lr: float,
    *,
    k1: float = 1.0,
    k2: float = 0.8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = True,
) -> Recursion:
    """DEAT on a quadratic, as `trainers.method.optimizers.DEAT` runs it; state (theta_t, h_{t-1}, h_{t-2}).

        h_t         = k2 h_{t-2} + (1 - k2) g_t
        theta_{t+1} = theta_t - lr' ((1 + k1) h_t - k1 h_{t-1}),    lr' = lr / sqrt((1 + k1)^2 + k1^2)

    Sun, Sinha, Zhang, KDD 2023, Algorithm 2. k1 = k2 = 0 is SGD without momentum. Arguments are those of `sgd`.
    """
    eye, shrink, coupled = _decay(hessian, lr, weight_decay, decoupled_weight_decay)
    zero, step = np.zeros_like(eye), lr / normaliser(k1)
    refreshed = np.hstack([(1 - k2) * (hessian + coupled * eye), zero, k2 * eye])
    moved = np.hstack([shrink * eye, step * k1 * eye, zero]) - step * (1 + k1) * refreshed
    transition = np.vstack([moved, refreshed, np.hstack([zero, eye, zero])])
    return _driven(transition, (1 - k2) * np.vstack([-step * (1 + k1) * eye, eye, zero]), noise)


def pgd_at(hessian: Array, data_covariance: Array, lr: float, batch_size: int, attack_steps: int) -> Recursion:
    """PGD-AT on a quadratic, with K unclipped attack steps of size lr on the loss (theta - x)^T A (theta - x) / 2.

        x^{k+1} = x^k + lr grad_x = x^k - lr A (theta - x^k),    so theta - x^K = (I + lr A)^K (theta - x)
        theta_{t+1} = theta_t - lr A (I + lr A)^K (theta_t - mean of x over the mini-batch)

    x of mean 0 and covariance H is one sample. The attack ascends the loss over the *input*; each step multiplies the
    distance from theta by I + lr A. Sun, Sinha, Zhang, KDD 2023, Theorem 1, takes the inner step to be lr too.
    *Reconstructed*: this is the quadratic whose expansion in lr gives the theorem's printed drift and diffusion (see
    `analysis.theory.sde`); the real attack is clipped and takes the gradient's sign.

    Args:
        hessian: A, (d, d), symmetric.
        data_covariance: H, (d, d), of one sample; the gradient's covariance at K = 0 is A H A.
        lr: learning rate, of the update and of the attack.
        batch_size: samples in a mini-batch, drawn independently.
        attack_steps: K >= 0; 0 is natural training.
    """
    eye = np.eye(len(hessian))
    gain = lr * hessian @ np.linalg.matrix_power(eye + lr * hessian, attack_steps)
    return _driven(eye - gain, gain, data_covariance / batch_size)


def _decay(hessian: Array, lr: float, weight_decay: float, decoupled: bool) -> tuple[Array, float, float]:
    """The identity, the factor that shrinks theta before the step, and what joins the Hessian."""
    eye = np.eye(len(hessian))
    return (eye, 1 - lr * weight_decay, 0.0) if decoupled else (eye, 1.0, weight_decay)


def _driven(transition: Array, entry: Array, noise: Array) -> Recursion:
    """The recursion that a noise of covariance `noise` enters through `entry`, (s, d)."""
    return Recursion(transition, entry @ noise @ entry.T, entry.shape[1])
