"""Methods x seeds: standard errors from a randomised block layout, in which every method was run with the same seeds.

A seed fixes the first weights and the order of the images, so that a seed that is lucky for one method may be
so for others: y[method, seed] = mean[method] + seed effect + noise, the noise independent, near normal, of
one variance for all methods [Montgomery, Design and Analysis of Experiments, 8th ed., section 4.1]. At three
seeds, that one variance is what makes an interval useful: a method's own has 2 degrees of freedom, and
t = 4.3 in place of 2.04.

A seed that suits one choice, such as an objective, breaks the independence: methods that share the choice move
together from seed to seed, and the pooled variance, an average over all methods, is too large between two of them
and too small between methods of different choices. Nor does `equal_variance` always notice unequal noise. How often
intervals and verdicts are then wrong is simulated in benchmarks/methods_error.py and recorded in
benchmarks/methods_error.json; each method's own interval, which assumes neither, is given beside the pooled one.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

#: A standard error below this is rounding: the values are equal.
NO_SPREAD = 1e-12


class Error(NamedTuple):
    """A standard error and its degrees of freedom; NaN where the layout gives none."""

    error: float
    freedom: float


def difference_error(values: Array) -> Error:
    """Of the difference of two methods' means: sqrt(2 * residual mean square / seeds).

    Of two methods it is that of the t-test paired by seed.

    Args:
        values: (methods, seeds).
    """
    methods, seeds = values.shape
    freedom = (methods - 1) * (seeds - 1)
    if not freedom:
        return Error(np.nan, np.nan)
    return Error(float(np.sqrt(2 * (_residuals(values) ** 2).sum() / freedom / seeds)), freedom)


def mean_error(values: Array) -> Error:
    """Of one method's mean, the seeds being a sample: its variance is that of seed and noise together.

    The degrees of freedom are Satterthwaite's: methods * (seeds - 1) without a seed effect, seeds - 1 where it is
    all there is, for then the methods repeat each other. Of one method it is that of the ordinary t interval.

    Args:
        values: (methods, seeds).
    """
    methods, seeds = values.shape
    if seeds < 2:
        return Error(np.nan, np.nan)
    shared = methods * float(values.mean(axis=0).var(ddof=1))
    own = float((_residuals(values) ** 2).sum()) / (seeds - 1)
    if shared + own <= NO_SPREAD**2:
        return Error(0.0, seeds - 1)
    share = own / (shared + own)
    inverse = ((1 - share) ** 2 + (share**2 / (methods - 1) if methods > 1 else 0)) / (seeds - 1)
    return Error(float(np.sqrt((shared + own) / methods / seeds)), 1 / inverse)


def equal_variance(values: Array) -> float:
    """p of Bartlett's test that the methods' noise has one variance, the seeds' means taken out.

    Args:
        values: (methods, seeds).

    Returns:
        NaN for fewer than 3 methods, whose residuals mirror each other, or 2 seeds; 0 if one never varies.
    """
    if len(values) < 3 or values.shape[1] < 2:
        return np.nan
    centred = values - values.mean(axis=0)
    varies = centred.std(axis=1) > NO_SPREAD
    return float(stats.bartlett(*centred).pvalue) if varies.all() else float(not varies.any())


def _residuals(values: Array) -> Array:
    """What neither the method's nor the seed's mean explains."""
    return np.asarray(values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean())
