"""Which points are clearly worse than another, seeds being blocks: a test of each pair that holds at every look.

Of every pair of a stratum's K points asks an e-process (`sweep.stopping.one_sided`) whether the one is better. A point
is dropped once any other has evidence (K - 1) / alpha against it, which is Bonferroni over the others: so the point
that is truly best is dropped with probability at most alpha, over all looks and whichever it is. Nobody has to choose a
best point first, by the same results that then speak for it.

    t = (mean_q - mean_p - margin) / (s sqrt(2 / n)),  over the n seeds of p, all of which q has too

s is the spread that neither points nor seeds explain, pooled over the stratum, or this pair's own where that is larger:
so that a point that scatters more than the others is not held against their spread. Assumes normal residuals of one
variance. Exact for points and seeds fixed beforehand; that dropped points leave later seeds, and other variances and
laws, are simulated in benchmarks/race_error.py. Bounds for values in [0, 1] that assume no law [Waudby-Smith, Ramdas,
JRSS B 2024] decide nothing here: a seed multiplies a bet on a difference d by at most 1 + d, and 180 are needed of ten.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from analysis.estimates.intervals import NO_SPREAD
from sweep.stopping.one_sided import critical, log_evidence_above

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]


class Worse(NamedTuple):
    """A point that is clearly worse than another."""

    row: int
    better: int
    """Row of the other."""
    seeds: int
    """That both have."""
    gap: float
    """By how much its mean over them is below the other's."""
    error: float
    """Standard error of that."""
    evidence: float
    """That it is worse by more than the margin, as odds."""


def residual(values: Array) -> tuple[float, int]:
    """The spread that neither points nor seeds explain, and its degrees of freedom, by least squares.

    Args:
        values: (points, seeds); NaN: missing.

    Returns:
        The standard deviation of one value, NaN without freedom; and the freedom.
    """
    there = ~np.isnan(values)
    per_point = there.sum(axis=1)
    values, there, per_point = values[per_point > 0], there[per_point > 0].astype(float), per_point[per_point > 0]
    means = np.nansum(values, axis=1) / per_point if len(values) else np.empty(0)
    left = np.nan_to_num(values - means[:, None])
    normal = np.diag(there.sum(axis=0)) - there.T @ (there / per_point[:, None])  # of the seeds, points taken out
    sums = left.sum(axis=0)
    solution, _, rank, _ = np.linalg.lstsq(normal, sums, rcond=1e-10)
    freedom = int(per_point.sum() - len(per_point) - rank)
    squares = max(float((left**2).sum() - solution @ sums), 0.0)
    return (math.sqrt(squares / freedom) if freedom else math.nan), freedom


def clearly_worse(
    values: Array, odd: Flags, racing: Flags, *, alpha: float, least: int = 2, margin: float = 0.0
) -> Iterator[Worse]:
    """The racing points against which another has the evidence; of several, the one with the most.

    Args:
        values: (points, seeds), larger is better; NaN: not known.
        odd: (points,): whose spread is not pooled with the others', such as one of which a seed diverged.
        racing: (points,): which may be dropped.
        alpha: error of each pair.
        least: seeds that a point has before it is.
        margin: points worse by no more than this are not worse.
    """
    there = ~np.isnan(values)
    alike: dict[bytes, list[int]] = defaultdict(list)
    for row in np.flatnonzero(racing & (there.sum(axis=1) >= least)):
        alike[there[row].tobytes()].append(int(row))
    for rows in alike.values():
        seeds = there[rows[0]]
        whole = np.flatnonzero(there[:, seeds].all(axis=1))
        spread, freedom = residual(values[~odd][:, seeds])
        if spread > NO_SPREAD:
            yield from _of_these(values[np.ix_(whole, seeds)], whole, rows, spread, freedom, alpha, margin)


def _of_these(
    table: Array, whole: NDArray[np.int64], rows: list[int], spread: float, freedom: int, alpha: float, margin: float
) -> Iterator[Worse]:
    """Of points that have the same seeds.

    Args:
        table: (points, seeds), whole.
        whole: the points' rows.
        rows: those that may be dropped.
        spread, freedom: see `residual`.
        alpha, margin: see `clearly_worse`.
    """
    n, needed = table.shape[1], critical(table.shape[1], freedom, alpha)
    means = table.mean(axis=1)
    centred = table - means[:, None]
    squares = (centred**2).sum(axis=1)
    at_most = (means.max() - means - margin) / np.sqrt(2 / n * spread**2)  # t, for no error is smaller
    for row in rows:
        own = int(np.searchsorted(whole, row))
        if at_most[own] < needed:
            continue
        gaps = means - means[own]
        of_pairs = np.maximum(squares + squares[own] - 2 * centred @ centred[own], 0) / (2 * (n - 1))
        errors = np.sqrt(2 / n * np.maximum(spread**2, of_pairs))
        t = (gaps - margin) / errors
        best = int(t.argmax())
        if t[best] >= needed:
            evidence = math.exp(min(log_evidence_above(float(t[best]), n, freedom), 700.0))
            yield Worse(row, int(whole[best]), n, float(gaps[best]), float(errors[best]), evidence)
