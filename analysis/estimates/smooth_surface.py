"""A smooth surface of accuracy over log2 lr and log2 batch size, with its standard error.

A Gaussian process with an anisotropic squared-exponential kernel and the seeds' noise, its hyperparameters by
maximum marginal likelihood [Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2 and
5.4]. Standard errors take those hyperparameters for known, and the seeds of a cell for independent.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.estimates.designs import BATCH, LR, RatioGroup, ratio_groups
from analysis.frames.budgets import network_budgets
from analysis.frames.cells import cell_means, codes, measured
from trainers.fields import plural

Array = NDArray[np.float64]

#: Fewer cells, learning rates or batch sizes have no surface.
FEWEST_CELLS, FEWEST_LEVELS = 6, 2

#: Amplitudes, length scales in octaves, and noise that are looked among; of values with variance 1.
_AMPLITUDE, _LENGTHS, _NOISE = (1e-2, 1e3), (0.3, 100.0), (1e-4, 10.0)


@dataclass(frozen=True, eq=False)
class SmoothSurface:
    """The surface of one network, method and setting."""

    model: str
    method: str
    setting: dict[str, Any]
    """The other axes' values, where the method has several."""
    y: str
    n_cells: int
    n_trials: int
    reason: str
    """Why there is no surface; empty: there is."""
    lengths: tuple[float, float] = (np.nan, np.nan)
    """Octaves of lr and of batch size over which the surface bends."""
    noise: float = np.nan
    """Standard deviation of a trial about the surface, in y's own unit."""
    notes: tuple[str, ...] = ()
    """What the fit's hyperparameters say of it."""
    grid: DataFrame = field(default_factory=DataFrame, repr=False)
    """optimizer.lr, batch, mean, se at places within the hull of the cells, NaN outside."""
    cells: DataFrame = field(default_factory=DataFrame, repr=False)
    """optimizer.lr, batch, value (the cell's mean), n (trials)."""


def smooth_surfaces(
    trials: DataFrame, y: str = "last_test_robust", *, side: int = 33, seed: int = 0
) -> tuple[SmoothSurface, ...]:
    """`y` as a smooth function of lr and batch size, of every group of trials that may be pooled.

    The groups are those of `analysis.estimates.designs.ratio_groups`.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them; of them `analysis.frames.budgets.network_budgets`.
        y: a metric's column.
        side: places along each side of the grid.
        seed: of where the likelihood's maximum is searched from.

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(network_budgets(trials)[0], y)
    return tuple(_smooth(group, y, side, seed) for group in ratio_groups(usable))


def fit_process(at: Array, y: Array, seed: int = 0) -> Any:
    """scikit-learn's Gaussian process of these trials, whose `predict` is of the surface, without a trial's noise.

    Args:
        at: (n, 2) log2 lr and log2 batch.
        y: (n,).
        seed: of the second and third start of the search.

    Returns:
        `GaussianProcessRegressor`; of its values with variance 1, `alpha` is the variance of one trial's noise.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    kernel = ConstantKernel(1.0, _AMPLITUDE) * RBF(np.full(2, 3.0), _LENGTHS) + WhiteKernel(0.1, _NOISE)
    search = GaussianProcessRegressor(kernel, normalize_y=True, n_restarts_optimizer=2, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hyperparameters at their bounds, which the notes tell
        kernel = search.fit(at, y).kernel_
    # The noise leaves the kernel, so that `predict` gives the surface's error alone.
    return GaussianProcessRegressor(kernel.k1, alpha=kernel.k2.noise_level, optimizer=None, normalize_y=True).fit(at, y)


def _smooth(group: RatioGroup, y: str, side: int, seed: int) -> SmoothSurface:
    part = group.trials
    n_cells = int(codes(part, [LR, BATCH]).max()) + 1
    known = (*group[:3], y, n_cells, len(part))
    at = np.log2(part[[LR, BATCH]].to_numpy(dtype=np.float64))
    counts = {"learning rate": part[LR].nunique(), "batch size": part[BATCH].nunique(), "cell": n_cells}
    levels = min(counts["learning rate"], counts["batch size"])
    if n_cells < FEWEST_CELLS or levels < FEWEST_LEVELS or np.linalg.matrix_rank(at - at.mean(axis=0)) < 2:
        got = ", ".join(plural(n, noun) for noun, n in counts.items())
        why = f"a surface needs {FEWEST_LEVELS} of both and {FEWEST_CELLS} cells not in line, got {got}"
        return SmoothSurface(*known, why)
    values = part[y].to_numpy(dtype=np.float64)
    process = fit_process(at, values, seed)
    lr, batch = (float(length) for length in process.kernel_.k2.length_scale)
    straight = [name for name, length in (("lr", lr), ("batch size", batch)) if length > 0.99 * _LENGTHS[1]]
    notes = [f"no bend along {name} is seen" for name in straight]
    notes += ["no noise is seen"] if process.alpha < 1.01 * _NOISE[0] else []
    means = cell_means(part, [y])
    cells = DataFrame({LR: means[LR], "batch": means[BATCH], "value": means[y], "n": means["n"]})
    noise = float(values.std() * np.sqrt(process.alpha))
    return SmoothSurface(*known, "", (lr, batch), noise, tuple(notes), _grid(process, at, side), cells)


def _grid(process: Any, at: Array, side: int) -> DataFrame:
    """Mean and standard error at side^2 places, lr varying slowest; NaN outside the cells' convex hull."""
    from scipy.spatial import Delaunay

    lr, batch = (np.linspace(values.min(), values.max(), side) for values in at.T)
    places = np.stack(np.meshgrid(lr, batch, indexing="ij"), axis=-1).reshape(-1, 2)
    low, span = at.min(axis=0), np.ptp(at, axis=0)
    hull = Delaunay(np.unique((at - low) / span, axis=0))
    inside = hull.find_simplex((places - low) / span, tol=1e-9) >= 0
    mean, error = (np.where(inside, values, np.nan) for values in process.predict(places, return_std=True))
    return DataFrame({LR: 2 ** places[:, 0], "batch": 2 ** places[:, 1], "mean": mean, "se": error})
