"""Correlation coefficients of many weighted resamples at once.

A resample of n trials is a row of weights: how often each trial was drawn (rescaled draws give fractions).
Ranks and pair counts are then linear and quadratic forms in the weights, so that all resamples of a bootstrap
are a few matrix products. Weights of 1 give the ordinary coefficient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]
Coefficient = Callable[[Array, Array, Array, bool], Array]

#: Below this share of the data's variance a resample counts as constant, and has no correlation.
_CONSTANT = 1e-12

#: Correlations are held below this where Fisher's z of 1 would be infinite.
_NEAR_ONE = 1 - 1e-9


@dataclass(frozen=True)
class Bootstrap:
    """How an interval is had from resamples."""

    confidence: float
    """In (0, 1)."""
    resamples: int
    seed: int
    """Of the resampling."""


def pearson(x: Array, y: Array, weights: Array, replicated: bool = False) -> Array:
    """Pearson's product-moment correlation.

    Args:
        x: (n,) or (resamples, n).
        y: (n,) or (resamples, n).
        weights: (resamples, n), how often each trial was drawn.
        replicated: not used; the coefficients share one signature.

    Returns:
        (resamples,), NaN where x or y is constant.
    """
    return _product_moment(x, y, weights, np.zeros(len(weights)))


def spearman(x: Array, y: Array, weights: Array, replicated: bool = False) -> Array:
    """Spearman's rank correlation: Pearson's of a resample's mid-ranks.

    Args:
        x: (n,).
        y: (n,).
        weights: (resamples, n), how often each trial was drawn.
        replicated: as for `kendall`: the spread of y's ranks is that of untied copies.

    Returns:
        (resamples,), NaN where x or y is constant.
    """
    untied = (weights**3 - weights).sum(axis=1) / 12 if replicated else np.zeros(len(weights))
    return _product_moment(_ranks(x, weights), _ranks(y, weights), weights, untied)


def kendall(x: Array, y: Array, weights: Array, replicated: bool = False) -> Array:
    """Kendall's tau-b: concordant minus discordant pairs over the pairs not tied in x and in y.

    Args:
        x: (n,).
        y: (n,).
        weights: (resamples, n), how often each trial was drawn.
        replicated: a trial drawn twice stands for two seeds of one cell, which tie in x but not in y; without
            it the copies would tie in both, and tau-b of the resamples would lie above that of the data.

    Returns:
        (resamples,), NaN where x or y is constant.
    """
    sign_x, sign_y = np.sign(x[:, None] - x), np.sign(y[:, None] - y)

    def pairs(matrix: Array) -> Array:
        return np.asarray(((weights @ matrix) * weights).sum(axis=1))

    untied_x, untied_y = pairs(np.abs(sign_x)), pairs(np.abs(sign_y))
    if replicated:
        untied_y = untied_y + (weights * (weights - 1)).sum(axis=1)
    scale = np.sqrt(np.maximum(untied_x * untied_y, 0))
    return pairs(sign_x * sign_y) / np.where(scale > 0, scale, np.nan)


COEFFICIENTS: dict[str, Coefficient] = {"pearson": pearson, "spearman": spearman, "kendall": kendall}


def resampled(cells: NDArray[np.int64], resamples: int, rng: np.random.Generator) -> Array:
    """Weights of a bootstrap over trials that redraws the seeds within every cell.

    Of a cell's m trials m - 1 are drawn with replacement and weigh m / (m - 1) each; drawing m would make a
    mean's variance too small by (m - 1) / m, a third at three seeds [Rao, Wu, JASA 1988, section 2]. A cell
    of one trial keeps it. Assumes that the seeds of a cell are independent.

    Args:
        cells: (n,) the number of each trial's cell.
        resamples: how many.
        rng: where the draws come from.

    Returns:
        (resamples, n); in each row the weights of a cell sum to its number of trials.
    """
    n = len(cells)
    order = np.argsort(cells, kind="stable")
    sizes = np.bincount(cells)[cells[order]]
    first = np.searchsorted(cells[order], cells[order])
    drawn = (np.arange(n) != first) | (sizes == 1)
    starts, sizes = first[drawn], sizes[drawn]
    picks = starts + (rng.random((resamples, len(starts))) * sizes).astype(np.int64)
    weight = np.where(sizes > 1, sizes / np.maximum(sizes - 1, 1), 1.0)
    flat = (np.arange(resamples)[:, None] * n + order[picks]).ravel()
    counts = np.bincount(flat, np.broadcast_to(weight, picks.shape).ravel(), minlength=resamples * n)
    return np.asarray(counts.reshape(resamples, n), dtype=np.float64)


def redrawn_seeds(
    cells: NDArray[np.int64], seeds: NDArray[Any], resamples: int, rng: np.random.Generator
) -> tuple[Array, str]:
    """Weights of a bootstrap over seeds: of seeds as blocks where all cells have the same ones, else within each cell.

    A seed fixes the first weights and the order of the images: its trials may be lucky together. Drawn as in
    `resampled`, one fewer than there are.

    Args:
        cells: (n,) the number of each trial's cell.
        seeds: (n,) its seed; each once in a cell.
        resamples: how many.
        rng: where the draws come from.

    Returns:
        (resamples, n), and in words what was redrawn.
    """
    names, numbers = np.unique(seeds, return_inverse=True)
    if len(cells) == (cells.max() + 1) * len(names):
        blocks = resampled(np.zeros(len(names), dtype=np.int64), resamples, rng)
        return blocks[:, numbers], "of seeds as blocks, which all cells share"
    return resampled(cells, resamples, rng), "of seeds within cells, which have different ones"


def t_on_z(estimate: float, drawn: Array, freedom: int, confidence: float) -> tuple[float, float]:
    """A correlation's t interval on Fisher's z, whose standard error is the standard deviation of the resamples' z.

    z = arctanh r, in which a correlation is near normal [Fisher, Metron 1921].

    Args:
        estimate: the correlation of the data.
        drawn: (resamples,) those of the resamples; NaN are left out.
        freedom: degrees of freedom of t.
        confidence: of the interval, in (0, 1).
    """
    centre, z = (np.arctanh(np.clip(r, -_NEAR_ONE, _NEAR_ONE)) for r in (estimate, drawn[np.isfinite(drawn)]))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * (z.std() if len(z) else np.nan)
    return float(np.tanh(centre - half)), float(np.tanh(centre + half))


def _product_moment(x: Array, y: Array, weights: Array, extra: Array) -> Array:
    """Weighted correlation, `extra` (resamples,) being added to y's sum of squares."""
    total = weights.sum(axis=1)
    dx = x - ((weights * x).sum(axis=1) / total)[:, None]
    dy = y - ((weights * y).sum(axis=1) / total)[:, None]
    sxx, syy = (weights * dx * dx).sum(axis=1), (weights * dy * dy).sum(axis=1)
    constant = (sxx <= _CONSTANT * total * np.var(x)) | (syy <= _CONSTANT * total * np.var(y))
    scale = np.sqrt(sxx * (syy + extra))
    return np.asarray((weights * dx * dy).sum(axis=1) / np.where(constant, np.nan, scale))


def _ranks(values: Array, weights: Array) -> Array:
    """(resamples, n) mid-ranks of each trial among the drawn ones, up to a constant."""
    below = np.sign(values[None, :] - values[:, None]) / 2 + 0.5
    return np.asarray(weights @ below)
