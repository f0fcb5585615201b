"""A smooth surface of accuracy over log2 lr and log2 batch size, with its standard error and its direction.

A Gaussian process with an anisotropic squared-exponential kernel and the seeds' noise, its hyperparameters by
maximum marginal likelihood [Rasmussen, Williams, Gaussian Processes for Machine Learning, 2006, sections 2.2 and
5.4]. Standard errors take those hyperparameters for known, and the seeds of a cell for independent.

The direction does not take them for known: where the signal is weak, the likeliest length scale along one axis is
often its bound, and the direction would seem certain to be the other axis. The angle and its interval are of draws
over the hyperparameters too, by Metropolis's rule, and there are none where the draws leave most directions open.
In simulated planes of 27 trials with a noise of 1 point, 40 each, an angle was shown in 40, 40 and 39 at 5 points a
decade of the ratio, in 12 and 18 at 2 points, in 1 at 1 point, and in none without a slope; its 95 % interval missed
the truth in at most 2 of each 40, but in 2 of the 12: an angle that is shown for a weak signal is less sure than it
says (benchmarks/ratio_error.json).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import linalg, spatial

from analysis.estimates.designs import BATCH, LR, ratio_groups
from analysis.estimates.intervals import NO_ESTIMATE, Estimate
from analysis.frames.cells import cell_means, codes, measured, one_budget
from trainers.fields import plural

Array = NDArray[np.float64]

#: Fewer cells, learning rates or batch sizes have no surface.
FEWEST_CELLS, FEWEST_LEVELS = 6, 2

#: Places along each side of the grid at which the direction is asked for.
_PLACES = 5

#: Amplitudes, length scales in octaves, and noise that are looked among; of values with variance 1.
_AMPLITUDE, _LENGTHS, _NOISE = (1e-2, 1e3), (0.3, 100.0), (1e-4, 10.0)

#: Steps of the walk over hyperparameters, those forgotten at its start, and how many sets are kept of the rest.
_STEPS, _FORGOTTEN, _KEPT = 3000, 300, 100

#: Standard deviations of the walk's steps, in the logarithm.
_WIDTHS = (0.1, 0.5, 2.0)

#: Degrees of 180: where the angle's interval is wider, no direction is told.
WIDEST = 120.0


@dataclass(frozen=True, eq=False)
class Process:
    """A fitted Gaussian process of standardised values: mean 0 and variance `amplitude` before the data."""

    at: Array
    """(n, 2) log2 lr and log2 batch of each trial."""
    amplitude: float
    lengths: Array
    """(2,) octaves of lr and of batch."""
    noise: float
    """Variance of one trial's noise."""
    centre: float
    scale: float
    """y = centre + scale * standardised value."""
    weights: Array = field(repr=False)
    """(n,) K^-1 y."""
    factor: Any = field(repr=False)
    """Cholesky factor of K, as scipy gives it."""

    def kernel(self, a: Array, b: Array) -> Array:
        """(len(a), len(b)) prior covariance of the surface at two sets of places."""
        apart = (a[:, None] - b[None]) / self.lengths
        return np.asarray(self.amplitude * np.exp(-0.5 * (apart**2).sum(axis=-1)))

    def mean(self, places: Array) -> tuple[Array, Array]:
        """The surface and its standard error, without the noise of a trial, in y's own unit.

        Args:
            places: (m, 2).
        """
        across = self.kernel(places, self.at)
        variance = self.amplitude - (across * linalg.cho_solve(self.factor, across.T).T).sum(axis=1)
        return self.centre + self.scale * (across @ self.weights), self.scale * np.sqrt(np.maximum(variance, 0))

    def gradients(self, places: Array, draws: int, rng: np.random.Generator) -> tuple[Array, Array]:
        """The mean's gradient per octave, and joint draws of the gradient from the posterior, in y's own unit.

        With d = (a - b) / lengths^2 the kernel's derivatives are -d_i k and (delta_ij / lengths_i^2 - d_i d_j) k
        [Rasmussen, Williams 2006, section 9.4].

        Args:
            places: (m, 2).
            draws: how many.
            rng: where they come from.

        Returns:
            (m, 2) and (draws, m, 2).
        """
        m = len(places)
        slope = -_apart(places, self.at, self.lengths) * self.kernel(places, self.at)[..., None]
        across = np.moveaxis(slope, -1, 1).reshape(2 * m, -1)
        d = _apart(places, places, self.lengths)
        both = np.diag(self.lengths**-2.0) - d[..., :, None] * d[..., None, :]
        prior = both * self.kernel(places, places)[..., None, None]
        covariance = prior.transpose(0, 2, 1, 3).reshape(2 * m, 2 * m)
        covariance = covariance - across @ linalg.cho_solve(self.factor, across.T)
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        root = vectors * np.sqrt(np.maximum(values, 0))
        mean = across @ self.weights
        drawn = mean + rng.standard_normal((draws, 2 * m)) @ root.T
        return self.scale * mean.reshape(m, 2), self.scale * drawn.reshape(draws, m, 2)


@dataclass(frozen=True, eq=False)
class SmoothSurface:
    """The surface of one network, method and setting, and which way it rises."""

    model: str
    method: str
    setting: dict[str, Any]
    """The other axes' values, where the method has several."""
    y: str
    n_cells: int
    n_trials: int
    reason: str
    """Why there is no surface; empty: there is."""
    angle: Estimate = NO_ESTIMATE
    """Median over places of the angle (degrees, in [-90, 90)) from the direction of rising lr / batch to the surface's
    gradient, a line's direction and not its sense. 0: accuracy follows the ratio; 45: the learning rate alone;
    -45: the batch size alone. Median and quantiles of draws from the posterior, the hyperparameters' included; a
    bound may lie beyond 90, where the line at 100 is that at -80. NaN where the interval would be wider than
    `WIDEST`, and `notes` says so."""
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
    trials: DataFrame,
    y: str = "last_test_robust",
    *,
    confidence: float = 0.95,
    side: int = 33,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[SmoothSurface, ...]:
    """The surface of every group of `analysis.estimates.designs.ratio_groups`.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them; `analysis.frames.cells.one_budget` is taken of them.
        y: a metric's column.
        confidence: of the angle's interval, in (0, 1).
        side: places along each side of the grid.
        draws: from the posterior, for the angle.
        seed: of the draws, and of where the likelihood's maximum is searched from.

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(one_budget(trials)[0], y)
    return tuple(_smooth(identity, part, y, confidence, side, draws, seed) for identity, part in ratio_groups(usable))


def fit_process(at: Array, y: Array, seed: int = 0) -> tuple[Process, tuple[str, ...]]:
    """The process of these trials, hyperparameters by maximum marginal likelihood; and what is odd about them.

    Args:
        at: (n, 2) log2 lr and log2 batch.
        y: (n,).
        seed: of the second and third start of the search.
    """
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    centre, scale = float(y.mean()), float(y.std()) or 1.0
    kernel = ConstantKernel(1.0, _AMPLITUDE) * RBF(np.ones(2) * 3.0, _LENGTHS) + WhiteKernel(0.1, _NOISE)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of hyperparameters at their bounds, which the notes tell
        fitted = GaussianProcessRegressor(kernel, n_restarts_optimizer=2, random_state=seed).fit(
            at, (y - centre) / scale
        )
    values = np.exp(fitted.kernel_.theta)
    amplitude, lengths, noise = float(values[0]), values[1:3], float(values[3])
    notes = [
        f"no bend along {name} is seen"
        for name, at_most in zip(("lr", "batch size"), lengths, strict=True)
        if at_most > 0.99 * _LENGTHS[1]
    ]
    notes += ["no noise is seen"] if noise < 1.01 * _NOISE[0] else []
    bare = Process(at, amplitude, lengths, noise, centre, scale, np.empty(0), None)
    factor = linalg.cho_factor(bare.kernel(at, at) + noise * np.eye(len(y)), lower=True)
    weights = linalg.cho_solve(factor, (y - centre) / scale)
    return Process(at, amplitude, lengths, noise, centre, scale, weights, factor), tuple(notes)


def ratio_angles(gradients: Array) -> Array:
    """Degrees in [-90, 90] from the direction of rising lr / batch, (1, -1), to each gradient, as lines.

    >>> ratio_angles(np.array([[1.0, -1.0], [-2.0, 2.0], [1.0, 0.0], [0.0, -1.0]])).round(6).tolist()
    [0.0, 0.0, 45.0, -45.0]

    Args:
        gradients: (..., 2) per octave of lr and of batch.
    """
    lr, batch = gradients[..., 0], gradients[..., 1]
    angle = np.degrees(np.arctan2(lr + batch, lr - batch))
    return _folded(angle)


def _apart(a: Array, b: Array, lengths: Array) -> Array:
    return np.asarray((a[:, None] - b[None]) / lengths**2)


def _smooth(
    identity: dict[str, Any], part: DataFrame, y: str, confidence: float, side: int, draws: int, seed: int
) -> SmoothSurface:
    setting = {key: value for key, value in identity.items() if key not in ("model.name", "method")}
    n_cells = int(codes(part, [LR, BATCH]).max()) + 1
    known = (str(identity["model.name"]), str(identity["method"]), setting, y, n_cells, len(part))
    levels = min(part[LR].nunique(), part[BATCH].nunique())
    at = np.log2(part[[LR, BATCH]].to_numpy(dtype=np.float64))
    if n_cells < FEWEST_CELLS or levels < FEWEST_LEVELS or np.linalg.matrix_rank(at - at.mean(axis=0)) < 2:
        found = {"learning rate": part[LR].nunique(), "batch size": part[BATCH].nunique(), "cell": n_cells}
        counts = ", ".join(plural(n, noun) for noun, n in found.items())
        why = f"a surface needs {FEWEST_LEVELS} of both and {FEWEST_CELLS} cells not in line, got {counts}"
        return SmoothSurface(*known, why)
    process, notes = fit_process(at, part[y].to_numpy(dtype=np.float64), seed)
    places = _grid(at, side)
    mean, error = process.mean(places)
    lost = ~_inside(at, places)
    mean[lost], error[lost] = np.nan, np.nan
    grid = DataFrame({LR: 2 ** places[:, 0], "batch": 2 ** places[:, 1], "mean": mean, "se": error})
    means = cell_means(part, [y])
    cells = DataFrame({LR: means[LR], "batch": means[BATCH], "value": means[y], "n": means["n"]})
    inner = _grid(at, _PLACES)
    values = part[y].to_numpy(dtype=np.float64)
    angle = _angle(process, values, inner[_inside(at, inner)], confidence, draws, seed)
    if angle.high - angle.low > WIDEST:
        angle = NO_ESTIMATE
        notes += (f"no direction is told: its interval would be wider than {WIDEST:g} of 180 degrees",)
    lengths = (float(process.lengths[0]), float(process.lengths[1]))
    noise = process.scale * float(np.sqrt(process.noise))
    return SmoothSurface(*known, "", angle, lengths, noise, notes, grid, cells)


def axial_median(angles: Array, axis: int = -1) -> Array:
    """Median of lines' directions: of their differences from the mean line, at half the angle of the mean of e^(2ia).

    [Mardia, Jupp, Directional Statistics, 2000, section 2.3.3, and chapter 9.1 on doubling].

    >>> axial_median(np.array([80.0, -85.0, 89.0])).round(6).tolist()
    89.0

    Args:
        angles: degrees, of period 180.
        axis: over which.

    Returns:
        degrees in [-90, 90).
    """
    middle = _mean_line(angles, axis)
    return _folded(np.median(_folded(angles - middle), axis=axis) + np.squeeze(middle, axis))


def _folded(angles: Array) -> Array:
    return np.asarray((angles + 90) % 180 - 90)


def _mean_line(angles: Array, axis: int) -> Array:
    return np.asarray(np.degrees(np.angle(np.exp(2j * np.radians(angles)).mean(axis=axis, keepdims=True))) / 2)


def _angle(process: Process, y: Array, places: Array, confidence: float, draws: int, seed: int) -> Estimate:
    rng = np.random.default_rng(seed)
    drawn = [one.gradients(places, -(-draws // _KEPT), rng)[1] for one in _walk(process, y, rng)]
    medians = axial_median(ratio_angles(np.concatenate(drawn)))
    value = float(axial_median(medians))
    low, high = np.quantile(_folded(medians - value), [(1 - confidence) / 2, (1 + confidence) / 2])
    return Estimate(value, value + float(low), value + float(high))


def _walk(process: Process, y: Array, rng: np.random.Generator) -> list[Process]:
    """`_KEPT` processes of the posterior over hyperparameters, each uniform in its logarithm within its bounds.

    Steps of several widths, of one hyperparameter or of all, serve weak and strong signals alike.
    """
    given = _likelihood(process, y)
    low, high = np.log(np.array([_AMPLITUDE, _LENGTHS, _LENGTHS, _NOISE])).T
    logs = np.clip(np.log([process.amplitude, *process.lengths, process.noise]), low, high)
    likelihood, now = given(logs)
    kept: list[Process] = []
    for step in range(_FORGOTTEN + _STEPS):
        moved = rng.standard_normal(4) * rng.choice(_WIDTHS)
        if step % 2:
            moved *= np.arange(4) == rng.integers(4)
        if ((low <= logs + moved) & (logs + moved <= high)).all():
            proposed, there = given(logs + moved)
            if np.log(rng.random()) < proposed - likelihood:
                logs, likelihood, now = logs + moved, proposed, there
        if step >= _FORGOTTEN and step % (_STEPS // _KEPT) == 0:
            kept.append(now)
    return kept


def _likelihood(process: Process, y: Array) -> Callable[[Array], tuple[float, Process]]:
    """The log-likelihood (but for a constant) and the process of the logarithms of the four hyperparameters.

    On the cells' means, whose noise is the trials' over their number; the spread within cells enters the likelihood
    by itself.
    """
    at, cell, counts = np.unique(process.at, axis=0, return_inverse=True, return_counts=True)
    values, cell = (y - process.centre) / process.scale, cell.ravel()
    means = np.bincount(cell, values) / counts
    within, spare = float(((values - means[cell]) ** 2).sum()), len(values) - len(counts)
    squares = (at[:, None] - at[None]) ** 2

    def given(logs: Array) -> tuple[float, Process]:
        amplitude, *lengths, noise = np.exp(logs)
        covariance = amplitude * np.exp(-0.5 * (squares / np.square(lengths)).sum(axis=-1)) + np.diag(noise / counts)
        factor = linalg.cho_factor(covariance, lower=True, check_finite=False)
        weights = linalg.cho_solve(factor, means, check_finite=False)
        loss = float(means @ weights) / 2 + float(np.log(np.diag(factor[0])).sum())
        loss += within / (2 * noise) + spare * float(logs[-1]) / 2
        known = (at, amplitude, np.array(lengths), noise, process.centre, process.scale)
        return -loss, Process(*known, weights, factor)

    return given


def _grid(at: Array, side: int) -> Array:
    """(side^2, 2) places, lr varying slowest."""
    lr, batch = (np.linspace(values.min(), values.max(), side) for values in at.T)
    return np.stack(np.meshgrid(lr, batch, indexing="ij"), axis=-1).reshape(-1, 2)


def _inside(at: Array, places: Array) -> NDArray[np.bool_]:
    """Which places lie within the cells' convex hull, its edge included."""
    low, span = at.min(axis=0), np.ptp(at, axis=0)
    hull = spatial.Delaunay(np.unique((at - low) / span, axis=0))
    return np.asarray(hull.find_simplex((places - low) / span, tol=1e-9) >= 0)
