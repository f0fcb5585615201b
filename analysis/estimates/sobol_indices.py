"""Which hyperparameter moves accuracy, and by how much: the variance over a design, shared out among its axes.

A polynomial chaos of degree 2: least squares of the points' means on products of normalised Legendre polynomials of
the axes, each axis scaled to [-1, 1]. The squares of its coefficients are the parts of the variance over the box of
the design, in which every axis is uniform and independent of the others: Sobol's indices [Sudret, Reliability
Engineering & System Safety 2008, section 4]. A squared estimate is too large by its own variance, which is taken off.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.polynomial.legendre import legvander
from numpy.typing import NDArray
from pandas import DataFrame
from pandas.api.types import is_numeric_dtype
from scipy import stats

from analysis.estimates.intervals import NO_SPREAD, Estimate
from analysis.frames.budgets import network_budgets, same_budget
from analysis.frames.cells import GROUP, codes, measured, varying
from trainers.fields import plural

Array = NDArray[np.float64]

#: Axes that a sweep draws on a logarithmic scale.
LOGARITHMIC = ("optimizer.lr", "batch_size", "optimizer.weight_decay")

#: Points that the fit has to spare, at least.
FEWEST_SPARE = 3

#: Points for each term of the polynomial that an interval needs.
POINTS_A_TERM = 2

_DEGREE = 2


@dataclass(frozen=True)
class AxisShare:
    """One axis's Sobol indices: shares of the variance that the design's axes make, without the seeds' noise."""

    axis: str
    first: Estimate
    """Of the axis alone."""
    total: Estimate
    """With all its interactions."""


@dataclass(frozen=True)
class Decomposition:
    """The variance of one network and method over its design; shares in [0, 1], NaN where they cannot be told."""

    model: str
    method: str
    y: str
    n_points: int
    n_trials: int
    n_seeds: int
    reason: str
    """Why there is no decomposition; empty: there is."""
    terms: int = 0
    """Of the polynomial, the mean included."""
    shares: tuple[AxisShare, ...] = ()
    interactions: float = np.nan
    """Share of the pairs of axes together."""
    deviation: float = np.nan
    """Standard deviation of y over the design, without noise, in y's own unit."""
    noise: float = np.nan
    """Standard deviation over the seeds of one point; NaN where no point has two."""
    noise_share: float = np.nan
    """The noise's share of a single trial's variance: noise, design, and what the polynomial misses."""
    held_out_r2: float = np.nan
    """1 - PRESS / sum of squares about the mean without the point: of points left out, one at a time."""
    note: str = ""
    """How many points were wanted and have no completed, measured trial: the shares are over the box of the others."""


def decompositions(
    trials: DataFrame,
    y: str = "last_test_robust",
    *,
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> tuple[Decomposition, ...]:
    """Which axis moves `y`, and by how much: over every numeric axis that varies within a network and method.

    The interval is the estimate plus and minus the normal quantile times the standard deviation over a bootstrap of
    points, cut at 0 and 1. It takes the points for a random sample of the box, which a quasi-random design covers more
    evenly, and is rather too wide. How often it held the truth in simulated sweeps is in benchmarks/ratio_error.json;
    with fewer than `POINTS_A_TERM` points for each term that was down to 42 % (20 points, 15 terms, much
    noise, 83 designs), and there is none: its bounds are NaN.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them; of them `analysis.frames.budgets.network_budgets`.
        y: a metric's column.
        confidence: of each interval, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(network_budgets(trials)[0], y)
    networks = (same_budget(part) for _, part in trials.groupby("model.name"))
    wanted_of = {key: part for wanted in networks for key, part in wanted.groupby(list(GROUP), sort=False)}
    return tuple(
        replace(
            _decomposed(tuple(map(str, key)), part, y, confidence, resamples, np.random.default_rng(seed)),
            note=_missing(wanted_of[key], part),
        )
        for key, part in usable.groupby(list(GROUP), sort=False)
    )


def scaled(values: Array, logarithmic: bool) -> Array:
    """An axis on [-1, 1], from its least to its greatest value, by its logarithm if asked for.

    Args:
        values: (n,), not all the same; positive where the logarithm is taken.
        logarithmic: whether it is.
    """
    known = np.log(values) if logarithmic else values
    low, high = known.min(), known.max()
    return np.asarray(2 * (known - low) / (high - low) - 1)


def terms(axes: int) -> list[tuple[int, ...]]:
    """The degree of each axis in every term of the polynomial, the constant first."""
    powers = [powers for powers in itertools.product(range(_DEGREE + 1), repeat=axes) if sum(powers) <= _DEGREE]
    return sorted(powers, key=lambda one: (sum(one), tuple(-power for power in one)))


def basis(points: Array, powers: Sequence[tuple[int, ...]]) -> Array:
    """Products of Legendre polynomials that have mean 0 (but the constant) and variance 1 over the box.

    sqrt(2k + 1) P_k for each axis.

    Args:
        points: (n, axes) in [-1, 1].
        powers: of `terms`.

    Returns:
        (n, terms).
    """
    values = legvander(points, _DEGREE) * np.sqrt(2 * np.arange(_DEGREE + 1) + 1)
    axes = np.arange(points.shape[1])
    return np.stack([values[:, axes, power].prod(axis=1) for power in powers], axis=1)


def _missing(wanted: DataFrame, part: DataFrame) -> str:
    """How many points of a method have no measured trial; empty: every one has."""
    points = codes(wanted, [axis for axis in varying(wanted) if axis not in GROUP])
    n = int(points.max()) + 1
    lost = n - len(np.unique(points[wanted.index.isin(part.index)]))
    count = f"{lost} of {plural(n, 'point')} without a completed, measured trial"
    return f"{count}: the shares are over the box of the others" if lost else ""


def _decomposed(
    key: tuple[str, ...], part: DataFrame, y: str, confidence: float, resamples: int, rng: np.random.Generator
) -> Decomposition:
    names = [axis for axis in varying(part) if is_numeric_dtype(part[axis]) and part[axis].notna().all()]
    cells, values, powers = codes(part, names), part[y].to_numpy(dtype=np.float64), terms(len(names))
    counts = np.bincount(cells)
    known = Decomposition(key[0], key[1], y, len(counts), len(part), int(part["seed"].nunique()), "")
    if reason := _lacking(part, names, len(counts), len(powers)):
        return replace(known, reason=reason)
    first = part.iloc[np.unique(cells, return_index=True)[1]]
    points = [scaled(first[axis].to_numpy(dtype=np.float64), _logarithmic(axis, first)) for axis in names]
    design, means = basis(np.column_stack(points), powers), np.bincount(cells, values) / counts
    if np.ptp(means) <= NO_SPREAD:
        return replace(known, reason="all points have the same mean")
    if np.linalg.matrix_rank(design) < len(powers):
        return replace(known, reason=f"too few values of an axis: the {len(powers)} terms cannot be told apart")
    squares, errors, residual = _squares(design, means)
    parts, freedom = squares - errors, len(part) - len(counts)
    variance = max(float(parts[1:].sum()), 0.0)
    noise = float(((values - means[cells]) ** 2).sum() / freedom) if freedom else np.nan
    missed = max(residual - noise * float(np.mean(1 / counts)), 0.0)
    known = replace(
        known,
        terms=len(powers),
        deviation=float(np.sqrt(variance)),
        noise=float(np.sqrt(noise)),
        noise_share=noise / (noise + variance + missed),
        held_out_r2=_held_out_r2(design, means),
    )
    if not variance:
        return replace(known, reason="the hyperparameters explain no more variance than the noise of the fit")
    pairs = [sum(power > 0 for power in term) > 1 for term in powers]
    picks = rng.integers(len(means), size=(resamples, len(means)))
    shares = _shares(names, powers, design, means, confidence, picks)
    return replace(known, shares=shares, interactions=float(np.clip(parts[pairs].sum() / variance, 0, 1)))


def _lacking(part: DataFrame, names: Sequence[str], points: int, n_terms: int) -> str:
    """Why a method's trials have no decomposition; empty: they may have one."""
    texts = [axis for axis in varying(part) if axis not in names and axis not in GROUP]
    if len(names) < 2:
        return f"fewer than 2 numeric axes vary: {', '.join(names) or 'none'}"
    if texts:
        return f"{', '.join(texts)} varies too, and is no number"
    needed = n_terms + FEWEST_SPARE
    return f"{n_terms} terms need {needed} points, got {points}" if points < needed else ""


def _logarithmic(axis: str, points: DataFrame) -> bool:
    return axis in LOGARITHMIC and bool((points[axis] > 0).all())


def _shares(
    names: Sequence[str],
    powers: Sequence[tuple[int, ...]],
    design: Array,
    means: Array,
    confidence: float,
    picks: NDArray[np.int64],
) -> tuple[AxisShare, ...]:
    """Of each axis, with bounds from the resamples: (resamples, points) numbers of points."""
    members = _members(powers)
    estimates = _indices(design, means, members)
    drawn = np.array([_indices(design[pick], means[pick], members) for pick in picks])
    enough = len(means) >= POINTS_A_TERM * len(powers)
    spread = drawn[np.isfinite(drawn[:, 0])].std(axis=0) if enough else np.full(len(members), np.nan)
    half = float(stats.norm.ppf((1 + confidence) / 2)) * spread
    clipped = np.clip([estimates, estimates - half, estimates + half], 0, 1)
    bounds = [Estimate(*map(float, values)) for values in clipped.T]
    return tuple(AxisShare(*one) for one in zip(names, bounds[: len(names)], bounds[len(names) :], strict=True))


def _squares(design: Array, means: Array) -> tuple[Array, Array, float]:
    """Squared coefficients, the variances of these coefficients, and the residual variance.

    A resample may hold too few points for its terms: its coefficients are then the smallest that fit.
    """
    inverse = np.linalg.pinv(design.T @ design, hermitian=True)
    coefficients = inverse @ design.T @ means
    rest = means - design @ coefficients
    residual = float(rest @ rest) / (len(means) - design.shape[1])
    return coefficients**2, residual * np.diag(inverse), residual


def _members(powers: Sequence[tuple[int, ...]]) -> NDArray[np.bool_]:
    """(2 axes, terms): the terms of each axis alone, then those in which it is."""
    there = np.array(powers) > 0
    alone = there & (there.sum(axis=1) == 1)[:, None]
    return np.vstack([alone.T, there.T])


def _indices(design: Array, means: Array, members: NDArray[np.bool_]) -> Array:
    """Sobol's indices of one fit, of the axes alone and with their interactions; NaN where it makes no variance."""
    squares, errors, _ = _squares(design, means)
    parts = squares - errors
    variance = parts[1:].sum()
    return np.asarray(members @ parts / variance if variance > 0 else np.full(len(members), np.nan))


def _held_out_r2(design: Array, means: Array) -> float:
    from statsmodels.regression.linear_model import OLS

    polynomial, mean = (OLS(means, columns).fit().get_influence() for columns in (design, design[:, :1]))
    if polynomial.hat_matrix_diag.max() > 1 - 1e-9:
        return float("nan")
    return float(1 - polynomial.ess_press / mean.ess_press)
