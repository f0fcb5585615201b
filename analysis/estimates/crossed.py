"""One interval for two errors: another draw of seeds, and another draw of test images.

The accuracy of a network differs by its seed, and by the images that it was tested on. All seeds share the test images,
so that a t interval over seeds says how another training would do on these images, and nothing of others. Here seeds
and images are crossed random factors:

    g[s, i] = mu + seed[s] + image[i] + rest[s, i]
    Var(mean of g) = (sigma_seed^2 + sigma_rest^2 / I) / S + sigma_image^2 / I

g is one bit an image (right or wrong), or any contrast of such bits: the difference of two methods at the same seed.
The first term is that of the t interval over seeds, whose S - 1 degrees of freedom are few. The second is added here;
it is (MS_image - MS_rest) / (S I), by the mean squares of the two-way layout, and known well, images being many.

An interval is estimate +- t sqrt(V), V the sum of both, with Satterthwaite's degrees of freedom (S - 1) (V / V_seeds)^2
[Satterthwaite, Biometrics 1946; Searle, Casella, McCulloch, Variance Components, 1992, sections 2.6 and 4.3], but never
shorter than Student's interval over seeds alone: two errors are not less than one of them. Without that bound it holds
the truth in as little as 87 % at 2 seeds and 92 % at 3, where the seeds' error is most of V and few seeds happen to
agree; with it, in 94.3 to 95.5 % at 3 seeds and more, in 95 to 97.7 % at 2, whatever the share of each error (by
quadrature over the seeds' chi-squared variance, the images' being known).
`benchmarks/crossed_coverage.py` simulates it with bits, beside the bootstrap over both factors.

It assumes that seeds and images are drawn independently, and a mean over many images, so near normal.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import special

from analysis.frames.bits import bits_table

Array = NDArray[np.float64]

#: Whose error an interval holds, in words: with the bits of the test images, and without.
BOTH, SEEDS = "seeds and test images", "seeds"

#: What is said of an interval over seeds alone, wherever it is printed.
WITHOUT = "without the error of the test set"


def methods_variance(trials: DataFrame, signs: Mapping[str, float], y: str) -> float:
    """`image_variance` of a sum of methods' means over seeds, each with its weight: of a difference, 1 and -1.

    Args:
        trials: one a method and seed, with the column `analysis.frames.bits.BITS`.
        signs: weights by method. Methods that all have the same seeds are paired by seed.
        y: the accuracy's column.

    Returns:
        NaN where bits are missing.
    """
    used = trials[trials["method"].isin(signs)]
    weights = np.array([signs[str(method)] for method in used["method"]], dtype=np.float64)
    seeds = [frozenset(rows) for _, rows in used.groupby("method")["seed"]]
    return contrast_variance(used, weights, y, paired=len(set(seeds)) == 1)


def contrast_variance(trials: DataFrame, weights: Array, y: str, *, paired: bool = True) -> float:
    """`image_variance` of the mean over seeds of a sum of trials' accuracies, each with its weight.

    Args:
        trials: of the same cells at each seed.
        weights: (trials,).
        y: the accuracy's column.
        paired: whether a seed is one draw for all its trials; else each method's seeds are draws of their own.

    Returns:
        NaN where bits are missing.
    """
    if not len(trials) or (table := bits_table(trials, y)) is None:
        return math.nan
    seeds = trials["seed"].to_numpy()
    draws = np.zeros(len(trials), dtype=np.int64) if paired else trials.groupby("method").ngroup().to_numpy()
    groups = []
    for draw in np.unique(draws):
        each = [(draws == draw) & (seeds == seed) for seed in np.unique(seeds[draws == draw])]
        groups.append(np.stack([weights[rows] @ table[rows].astype(np.float64) for rows in each]))
    return image_variance(*groups)


def image_variance(*groups: Array) -> float:
    """How far another draw of test images would move a mean over seeds, as a variance: sigma_image^2 / I.

    Args:
        groups: (seeds, images) each, of the same images; the estimate is the sum of their means over seeds. Seeds that
            two methods share make one group, of differences; other seeds make two, the second with a minus.

    Returns:
        at least 0; NaN where a group has one seed, of which nothing tells the images' error from the seed's own on each
        image.
    """
    if min(len(group) for group in groups) < 2:
        return math.nan
    images = groups[0].shape[1]
    together: Array = np.sum([group.mean(axis=0) for group in groups], axis=0)
    rest = sum(_rest(group) / len(group) for group in groups)
    return float(max(0.0, (together.var(ddof=1) - rest) / images))


def _rest(group: Array) -> float:
    """Mean square of what neither the seed nor the image explains."""
    seeds, images = group.shape
    left = group - group.mean(axis=0)
    left -= left.mean(axis=1, keepdims=True)
    return float((left**2).sum() / (seeds - 1) / (images - 1))


def half_width(error: float, freedom: float, images: float, alpha: float) -> float:
    """Half the width of the interval of confidence 1 - alpha that holds both errors.

    Args:
        error: standard error over seeds, > 0.
        freedom: its degrees of freedom.
        images: of `image_variance`; 0: Student's interval over seeds.
        alpha: in (0, 1).
    """
    return max(-error * float(special.stdtrit(df, alpha / 2)) for error, df in _errors(error, freedom, images))


def level(gap: float, error: float, freedom: float, images: float) -> float:
    """The alpha at which `half_width` is the gap: the two-sided p of the test that the estimate is no further off.

    Args:
        gap: >= 0, in the estimate's unit.
        error, freedom, images: as in `half_width`.
    """
    return max(2 * float(special.stdtr(df, -gap / error)) for error, df in _errors(error, freedom, images))


def _errors(error: float, freedom: float, images: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Both standard errors with their degrees of freedom: of seeds alone, and of seeds and images."""
    total = error**2 + images
    return (error, freedom), (math.sqrt(total), freedom * (total / error**2) ** 2)
