"""A Gaussian process of one metric at one epoch: the surface, its error, and the noise of seeds.

Kernel: Matern 5/2, a length for each axis, and the noise of a trial, which is one for all points; hyperparameters by
maximum marginal likelihood [Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, sections 4.2, 5.4].
The error of the surface takes them for known.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Amplitude and noise of values with variance 1, and lengths in ranges of an axis, that are looked among.
_AMPLITUDE, _LENGTHS, _NOISE = (1e-2, 1e2), (0.05, 30.0), (1e-4, 2.0)


@dataclass(frozen=True, eq=False)
class Process:
    """A surface over n trials at places in [0, 1]^d."""

    theta: tuple[float, ...]
    """Logarithms of amplitude, the d lengths and the noise, of values with variance 1."""
    scale: float
    """Standard deviation of the n values."""
    regressor: Any = field(repr=False)

    @property
    def noise(self) -> float:
        """Standard deviation of a trial about the surface, in the metric's own unit."""
        return self.scale * float(np.exp(self.theta[-1] / 2))

    def predict(self, at: Array) -> tuple[Array, Array]:
        """The surface and its standard error at places (m, d), each (m,); without a trial's noise."""
        mean, error = self.regressor.predict(at, return_std=True)
        return np.clip(mean, 0, 1), error


def fitted(
    at: Array, y: Array, theta: Sequence[float] | None = None, *, start: Sequence[float] | None = None
) -> Process:
    """The process of n trials.

    Args:
        at: (n, d), each axis scaled to [0, 1].
        y: (n,), fractions.
        theta: its hyperparameters; None: they are found here.
        start: hyperparameters from which they are looked for; None: the same each time.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor

    found = _found(at, y, start) if theta is None else np.array(theta)
    kernel = _kernel(at.shape[1])
    kernel.theta = found
    # the noise leaves the kernel, so that `predict` gives the surface's error alone
    rest = GaussianProcessRegressor(kernel.k1, alpha=kernel.k2.noise_level, optimizer=None, normalize_y=True)
    return Process(tuple(float(value) for value in found), float(y.std()) or 1.0, rest.fit(at, y))


def _found(at: Array, y: Array, start: Sequence[float] | None) -> Array:
    from sklearn.gaussian_process import GaussianProcessRegressor

    kernel = _kernel(at.shape[1])
    if start is not None:
        kernel.theta = np.array(start)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hyperparameters at their bounds: an axis that does not matter
        search = GaussianProcessRegressor(kernel, normalize_y=True).fit(at, y)
    theta: Array = np.round(search.kernel_.theta, 4)
    return theta


def _kernel(axes: int) -> Any:
    from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

    surface = ConstantKernel(1.0, _AMPLITUDE) * Matern(np.full(axes, 0.5), _LENGTHS, nu=2.5)
    return surface + WhiteKernel(0.1, _NOISE)
