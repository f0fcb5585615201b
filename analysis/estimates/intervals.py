"""Intervals and tests that several questions share: t, Holm, a line's band, and those of methods x seeds.

Methods x seeds are a randomised block layout, in which every method was run with the same seeds. A seed fixes the
first weights and the order of the images, so that a seed that is lucky for one method may be so for others: y[method,
seed] = mean[method] + seed effect + noise, the noise independent, near normal, of one variance for all methods
[Montgomery, Design and Analysis of Experiments, 8th ed., section 4.1]. At three seeds, that one variance is what makes
an interval useful: a method's own has 2 degrees of freedom, and t = 4.3 in place of 2.04.

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

from analysis.estimates.crossed import half_width, level

Array = NDArray[np.float64]

#: A standard error below this is rounding: the values are equal.
NO_SPREAD = 1e-12


class Estimate(NamedTuple):
    """A value with its interval, in its own unit; NaN where there is none."""

    value: float = np.nan
    low: float = np.nan
    high: float = np.nan


NO_ESTIMATE = Estimate()


class Error(NamedTuple):
    """A standard error and its degrees of freedom; NaN where the layout gives none."""

    error: float
    freedom: float


def difference_error(values: Array) -> Error:
    """How far off the difference of two methods' means may be, with one noise for all methods.

    sqrt(2 * residual mean square / seeds); of two methods it is that of the t-test paired by seed.

    Args:
        values: (methods, seeds).
    """
    methods, seeds = values.shape
    freedom = (methods - 1) * (seeds - 1)
    if not freedom:
        return Error(np.nan, np.nan)
    return Error(float(np.sqrt(2 * (residuals(values) ** 2).sum() / freedom / seeds)), freedom)


def mean_error(values: Array) -> Error:
    """How far off one method's mean may be, the seeds being a sample, with one noise for all methods.

    Its variance is that of seed and noise together. The degrees of freedom are Satterthwaite's: methods * (seeds - 1)
    without a seed effect, seeds - 1 where it is all there is, for then the methods repeat each other. Of one method it
    is that of the ordinary t interval.

    Args:
        values: (methods, seeds).
    """
    methods, seeds = values.shape
    if seeds < 2:
        return Error(np.nan, np.nan)
    shared = methods * float(values.mean(axis=0).var(ddof=1))
    own = float((residuals(values) ** 2).sum()) / (seeds - 1)
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


def residuals(values: Array) -> Array:
    """What neither the method's nor the seed's mean explains."""
    return np.asarray(values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean())


def t_test(values: NDArray[np.float64], confidence: float, images: float = np.nan) -> tuple[float, float, float, float]:
    """Mean, its t interval and the two-sided p of mean 0; all but the mean NaN for fewer than 2 values or equal ones.

    Args:
        values: (n,) independent, near normal.
        confidence: of the interval, in (0, 1).
        images: as in `t_interval`.

    Returns:
        mean, low, high, p.
    """
    n = len(values)
    if n == 0:
        return np.nan, np.nan, np.nan, np.nan
    mean = float(values.mean())
    error = float(values.std(ddof=1)) / np.sqrt(n) if n > 1 else np.nan
    return mean, *t_interval(mean, error, n - 1, confidence, images)


def t_interval(
    estimate: float, error: float, freedom: float, confidence: float, images: float = np.nan
) -> tuple[float, float, float]:
    """low, high, p of an estimate with its standard error; NaN without any spread, which says nothing of it.

    Args:
        estimate, error: in one unit.
        freedom: degrees of freedom of `error`.
        confidence: of the interval, in (0, 1).
        images: variance that the test images add (`analysis.estimates.crossed.image_variance`); NaN: not known.
    """
    if error <= NO_SPREAD:
        return np.nan, np.nan, np.nan
    if images > 0:
        half = half_width(error, freedom, images, 1 - confidence)
        return estimate - half, estimate + half, level(abs(estimate), error, freedom, images)
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * error
    return estimate - half, estimate + half, float(2 * stats.t.sf(abs(estimate) / error, freedom))


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's adjusted p [Holm, Scandinavian Journal of Statistics 1979]: below 0.05, it holds at 5 % for all together.

    Whatever the dependence of the tests. NaN is no test and stays NaN.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(
        len(p_values), np.nan
    )  # statsmodels' multipletests collects garbage at each call: 50 ms and more
    tests = np.flatnonzero(np.isfinite(p_values))
    order = tests[np.argsort(p_values[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def line(x: Array, y: Array, at: Array, confidence: float = 0.95) -> tuple[Array, Array, Array]:
    """A least-squares line at some places, with a band that holds the line, not new points, at each with confidence.

    It assumes independent residuals of one variance.

    Args:
        x: (n,) of at least two values.
        y: (n,).
        at: (m,) where the line is asked for.
        confidence: of the band at one place, in (0, 1).

    Returns:
        the line and the band's lower and upper end, (m,) each; the band is NaN for fewer than 3 points.
    """
    from statsmodels.regression.linear_model import OLS

    design, places = (np.column_stack([np.ones(len(values)), values]) for values in (x, at))
    with np.errstate(divide="ignore", invalid="ignore"):  # two points leave no residuals
        prediction = OLS(y, design).fit().get_prediction(places)
        low, high = prediction.conf_int(alpha=1 - confidence).T
    return prediction.predicted_mean, low, high
