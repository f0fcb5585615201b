"""An estimate and how far off it may be, under one of three laws: what every verdict is read from.

A t interval holds the error of the test images too, where their variance is known (`analysis.estimates.crossed`).

Looking after every seed: an anytime-valid t-test and the confidence sequence that is its inverse.

Whoever looks at a t interval after each new seed and stops once it excludes 0 errs far more often than in 5 %: in 44 %
within 200 seeds. Here one may: the mixture below is an e-process, whose chance of ever reaching 1 / alpha, over all
looks there will be, is at most alpha under the null [Ville 1939]. Seeds that were there before the first look count as
its first ones, for whatever made somebody go on is a stopping rule like any other.

Assumes that the seeds' effects are independent, normal and of one mean and variance: d_s ~ N(mu, sigma^2).
benchmarks/decide_error.py simulates how often it errs and how many seeds it takes.

Sources: Lai, Annals of Statistics 1976, section 4; Hendriksen, de Heide, Gruenwald, Bayesian Analysis 2021 (right-Haar
priors under optional stopping); Wang, Ramdas, "Anytime-valid t-tests and confidence sequences for Gaussian means with
unknown variance", 2023.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from analysis.estimates import crossed
from analysis.estimates.intervals import NO_SPREAD, residuals

Array = NDArray[np.float64]

#: t: Student's, at an n fixed beforehand. range: the largest difference of several cells' means, by the studentized
#: range. sequence: either, at an n that was stopped at (the function `half_width`).
Law = Literal["t", "range", "sequence"]

#: More further replicates than this are not counted.
MOST_FURTHER = 50

#: At a t beyond this one more replicate decides, whatever t is; scipy's noncentral t ends in NaN not far above.
_SURELY = 100.0

#: Power at which further replicates are foretold.
POWER = 0.8

#: Standard deviation of the prior of mu / sigma. At 2, an effect of 1, 2 or 3 sigma takes 13.8, 6.2 or 4.8 seeds on
#: average, where a t-test of a number fixed beforehand takes 10, 5 or 4; no other of 0.5 to 5 takes 0.4 fewer at any
#: of them (benchmarks/decide_error.json).
SCALE = 2.0


@dataclass(frozen=True)
class Evidence:
    """An estimate with the noise of one replicate; an interval is estimate +- `half_width`, at any level."""

    estimate: float
    spread: float
    """Standard deviation of one replicate's effect (of a range: of one cell), in the estimate's unit; may be NaN."""
    n: int
    """Replicates."""
    law: Law = "t"
    cells: int = 2
    """Whose means a range is of."""
    is_range: bool = False
    """Whether the estimate is the largest difference of the cells' means, and not a mean."""
    parameters: int = 1
    """Fitted to the replicates: n - parameters degrees of freedom for each contrast."""
    images: float = math.nan
    """Variance of the estimate over draws of the test images, which no further replicate makes less; NaN: not known,
    and in no interval."""

    @property
    def holds(self) -> str:
        """Whose error the interval holds, where seeds are the replicates: seeds, or `seeds and test images`."""
        return crossed.SEEDS if math.isnan(self.images) else crossed.BOTH

    @property
    def freedom(self) -> int:
        """Degrees of freedom of `spread`."""
        return (self.n - self.parameters) * (self.cells - 1)

    @property
    def error(self) -> float:
        """Standard error: of the estimate; of a range, of the difference of two cells."""
        return self.spread * math.sqrt((2 if self.is_range else 1) / self.n) if self.n else math.nan

    @property
    def known(self) -> bool:
        """Whether there is any interval: two replicates that differ."""
        return self.freedom > 0 and self.error > NO_SPREAD

    def half_width(self, alpha: float) -> float:
        """Half the width of the interval of confidence 1 - alpha; NaN without spread.

        Of m cells' means with n replicates each: q(1 - alpha; m, v) s / sqrt(n), which holds for all differences at
        once and so for the largest [Tukey; Miller, Simultaneous Statistical Inference, 1981, ch. 2, section 1].
        """
        if not self.known:
            return math.nan
        if self.law == "sequence":
            return half_width(self.error, self.n, self.freedom, alpha / self._comparisons)
        if self.law == "range":
            quantile = float(stats.studentized_range.ppf(1 - alpha, self.cells, self.freedom))
            return quantile * self.spread / math.sqrt(self.n)
        if self.images > 0:
            return crossed.half_width(self.error, self.freedom, self.images, alpha)
        return float(stats.t.ppf(1 - alpha / 2, self.freedom)) * self.error

    def level(self, gap: float) -> float:
        """The alpha at which `half_width` is the gap: p of the test that it is no further off. NaN: no spread."""
        if not self.known:
            return math.nan
        if self.law == "sequence":
            return anytime_p(gap / self.error, self.n, self.freedom, self._comparisons)
        if self.law == "range":
            return float(stats.studentized_range.sf(gap * math.sqrt(self.n) / self.spread, self.cells, self.freedom))
        return crossed.level(gap, self.error, self.freedom, self.images if self.images > 0 else 0.0)

    def interval(self, alpha: float) -> tuple[float, float]:
        """low and high; a range has none below 0."""
        half = self.half_width(alpha)
        low = self.estimate - half
        return (max(low, 0.0) if self.is_range else low), self.estimate + half

    def further(self, gap: float, alpha: float) -> int | None:
        """Replicates beyond these after which an interval of 1 - alpha is shorter than the gap, with `POWER`.

        If estimate and spread are true: half_width(n) + t(POWER; v) error(n) <= gap.

        Args:
            gap: from the estimate to what is to be excluded, in its unit.
            alpha: in (0, 1).

        Returns:
            None: more than `MOST_FURTHER`, or the spread is not known.
        """
        if not self.known:
            return None
        numbers = range(1, MOST_FURTHER + 1)
        place = bisect.bisect_left(numbers, True, key=lambda more: self._enough(self.n + more, gap, alpha))
        return numbers[place] if place < len(numbers) else None

    def further_interval(self, gap: float, alpha: float) -> tuple[int | None, int | None]:
        """95 % interval of `further`: what it is at the ends of that of the true gap in units of the spread.

        gap / error is noncentral t, and its noncentrality sqrt(n) times the true gap over the true spread, whose exact
        interval is the one inverted [Steiger, Fouladi, in Harlow et al., What If There Were No Significance Tests?,
        1997]: the uncertainty of the estimate and that of the spread are both in it. Simulated, it held what the truth
        asks for in 95 to 100 % (n 2 to 10, effects of 0.3 to 3 standard deviations, alpha 0.05 and 0.05 / 6), and it
        is wide: few seeds say little of how many more. Of a range, and of an n that was stopped at, it is an
        approximation.

        Returns:
            low and high; None: more than `MOST_FURTHER`, or the spread is not known.
        """
        if not self.known:
            return None, None
        t = min(gap / self.error, _SURELY)
        most = 4 + t * math.sqrt(float(stats.chi2.isf(1e-4, self.freedom)) / self.freedom)
        ends = [self._noncentrality(t, q, most) for q in (0.025, 0.975)]
        nearest, furthest = (self.further(end * self.error, alpha) if end > 0 else None for end in ends)
        return nearest, furthest

    def _noncentrality(self, t: float, q: float, most: float) -> float:
        """The one in [0, most] at which t is the q quantile; 0 for one below, where scipy's cdf may be NaN."""

        def off(m: float) -> float:
            return float(stats.nct.cdf(t, self.freedom, m)) - q

        return float(optimize.brentq(off, 0, most)) if off(0) > 0 else 0.0

    def _enough(self, n: int, gap: float, alpha: float) -> bool:
        there = replace(self, n=n)
        left = gap - float(stats.t.ppf(POWER, there.freedom)) * there.error
        return left > 0 and there.level(left) <= alpha

    @property
    def _comparisons(self) -> int:
        return self.cells * (self.cells - 1) // 2


def of_values(values: Array, *, sequential: bool = False, images: float = math.nan) -> Evidence:
    """The mean of independent, near normal replicates.

    Args:
        values: (n,).
        sequential: n was stopped at, not fixed beforehand.
        images: as in `Evidence`.
    """
    n = len(values)
    spread = float(values.std(ddof=1)) if n > 1 else math.nan
    estimate = float(values.mean()) if n else math.nan
    return Evidence(estimate, spread, n, "sequence" if sequential else "t", images=images)


def of_range(table: Array, *, sequential: bool = False) -> Evidence:
    """The largest difference of cells' means, the seeds as blocks: one variance s^2 for all, what neither explains.

    Args:
        table: (cells, seeds), at least two cells.
        sequential: as in `of_values`; the range's bounds are then Bonferroni's over all pairs of cells.
    """
    cells, n = table.shape
    freedom = (cells - 1) * (n - 1)
    spread = float(np.sqrt((residuals(table) ** 2).sum() / freedom)) if freedom else math.nan
    return Evidence(
        float(np.ptp(table.mean(axis=1))), spread, n, "sequence" if sequential else "range", cells, is_range=True
    )


def of_regression(design: Array, y: Array, column: int) -> Evidence:
    """A coefficient of a least-squares fit, each row a replicate of its own.

    Assumes independent errors of one variance about the model; where a smooth curve is bent, they are neither.

    Args:
        design: (n, parameters).
        y: (n,).
        column: the coefficient's.
    """
    n = len(y)
    inverse = np.linalg.pinv(design)
    parameters = int(np.linalg.matrix_rank(design))
    left = y - design @ (inverse @ y)
    variance = float((left**2).sum()) / (n - parameters) if n > parameters else math.nan
    spread = math.sqrt(variance * float((inverse[column] ** 2).sum()) * n)
    return Evidence(float(inverse[column] @ y), spread, n, parameters=parameters)


def log_evidence(t: float, n: int, freedom: float, scale: float = SCALE) -> float:
    """Logarithm of the Bayes factor against the null value that `t` was formed with.

        (1 + n c^2)^(-1/2) [(1 + t^2 / v) / (1 + t^2 / (v (1 + n c^2)))]^((v + 1) / 2)

    The location under test has prior N(0, c^2) in units of sigma, sigma the right-Haar prior 1 / sigma, and so has
    any other location a flat one: with v = n - 1 it is a t-test; with v = (m - 1)(n - 1) it is one contrast of m
    cells in n blocks, all cells of one variance. Of a sequence of n this is a martingale under the null, because it
    is the ratio of the densities of what remains of the data once location and scale are taken out.

    Args:
        t: (estimate - null) / standard error.
        n: replicates.
        freedom: v, of the standard error; 0: one replicate says nothing.
        scale: c > 0.

    Returns:
        at most ((n c^2 + 1)^(v / 2) in the limit of no noise), so that two seeds never decide.
    """
    if freedom <= 0:
        return 0.0
    weight = 1 + n * scale**2
    ratio = math.log1p(t**2 / freedom) - math.log1p(t**2 / (freedom * weight))
    return (freedom + 1) / 2 * ratio - math.log(weight) / 2


def anytime_p(t: float, n: int, freedom: float, comparisons: int = 1, scale: float = SCALE) -> float:
    """p that stays valid whenever one stops: min(1, comparisons / evidence).

    Args:
        t: as in `log_evidence`, as are n, freedom and scale.
        comparisons: asked at once (Bonferroni).
    """
    return min(1.0, comparisons * math.exp(-log_evidence(t, n, freedom, scale)))


def half_width(error: float, n: int, freedom: float, alpha: float, scale: float = SCALE) -> float:
    """Half the width of the confidence sequence: the null values whose evidence is below 1 / alpha.

        error sqrt(v (k - 1) / (1 - k / A)),  A = 1 + n c^2,  k = (sqrt(A) / alpha)^(2 / (v + 1))

    All its intervals together, of every n, hold the truth with probability >= 1 - alpha.

    Args:
        error: standard error of the estimate, in its unit.
        n: replicates, as are freedom and scale those of `log_evidence`.
        alpha: in (0, 1).

    Returns:
        in the unit of `error`; infinite where so few replicates exclude nothing (k >= A).
    """
    if freedom <= 0:
        return math.inf
    weight = 1 + n * scale**2
    log_k = 2 / (freedom + 1) * (math.log(weight) / 2 - math.log(alpha))
    if log_k >= math.log(weight):
        return math.inf
    k = math.exp(log_k)
    return error * math.sqrt(freedom * (k - 1) / (1 - k / weight))
