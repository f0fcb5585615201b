"""Does accuracy go with lr / batch size beyond how well the training images are fitted? Partial correlations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.correlations import ALIKE, FEWEST_FREEDOM, FEWEST_LEVELS, NO_WIDTH, OF_SEEDS
from analysis.estimates.designs import RATIO, RatioGroup, ratio_groups
from analysis.estimates.intervals import holm
from analysis.estimates.resampling import COEFFICIENTS, Array, Bootstrap, resampled, t_on_z
from analysis.frames.budgets import network_budgets
from analysis.frames.cells import codes, measured, several
from analysis.frames.trials import axes

Kind = Literal["pearson", "spearman"]
KINDS: tuple[Kind, ...] = ("pearson", "spearman")

#: What is held fixed.
GIVEN = ("last_train_robust", "last_train_clean")

_NOTHING = (np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class PartialCorrelation:
    """How `y` goes with log10(lr / batch) among trials of equal `given`; NaN where it cannot be told (`interval`)."""

    model: str
    method: str
    setting: dict[str, Any]
    """The other axes' values, where the method has several."""
    y: str
    given: str
    coefficient: Kind
    estimate: float
    low: float
    high: float
    p: float
    """Two-sided, of none, from the partial correlation r of the means of the c cells: t = r sqrt((c - 3) / (1 - r^2)),
    c - 3 degrees of freedom. The seeds of a cell share its departure from the trend, and are no further evidence of
    it. NaN with fewer than 4 cells."""
    p_holm: float
    """Holm's, over all of one `partial_correlations`."""
    plain: float
    """The correlation without holding anything fixed."""
    n: int
    """Trials."""
    n_cells: int
    interval: str
    """Where the bounds come from; `none: ` and the reason where there are none."""


def partial_correlations(
    trials: DataFrame,
    y: str = "last_test_robust",
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> tuple[PartialCorrelation, ...]:
    """How accuracy goes with lr / batch size beyond how well the training images are fitted.

    One a group of trials (`analysis.estimates.designs.ratio_groups`), of `GIVEN` and of `KINDS`; what was not measured
    has no entry.

    The estimate is over trials; its interval is what other seeds in these cells would change, and p is about the
    cells: where these depart from the trend by more than their seeds do, an interval may exclude 0 and p be large.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them; of them `analysis.frames.budgets.network_budgets`.
        y: a metric's column.
        confidence: of each interval, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        UserError: the frame has no column `y`.
    """
    usable, bootstrap = measured(network_budgets(trials)[0], y), Bootstrap(confidence, resamples, seed)
    correlations = [
        _partial(group._replace(trials=rows), y, given, kind, bootstrap)
        for group in ratio_groups(usable)
        for given in GIVEN
        if len(rows := measured(group.trials, given))
        for kind in KINDS
    ]
    adjusted = holm(np.array([one.p for one in correlations]))
    return tuple(replace(one, p_holm=float(p)) for one, p in zip(correlations, adjusted, strict=True))


def partial(xy: Array, xz: Array, yz: Array) -> Array:
    """The correlation of x and y with z held fixed, from the three plain ones; NaN where z is x or y.

    (r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)) [Kendall, Stuart, The Advanced Theory of Statistics, volume 2,
    chapter 27]; of ranks' correlations, Spearman's.
    """
    rest = (1 - xz**2) * (1 - yz**2)
    return np.asarray((xy - xz * yz) / np.sqrt(np.where(rest > 1e-12, rest, np.nan)))


def _partial(group: RatioGroup, y: str, given: str, kind: Kind, bootstrap: Bootstrap) -> PartialCorrelation:
    rows, columns = group.trials, [RATIO, y, given]
    n, cells = len(rows), codes(rows, axes(rows))
    counts = n, int(cells.max(initial=-1)) + 1
    known = (*group[:3], y, given, kind)
    if n < 5 or not all(several(rows[column]) for column in columns):
        return PartialCorrelation(*known, *_NOTHING, *counts, "none: fewer than 5 trials, or a constant")
    ratio, *others = rows[columns].to_numpy(dtype=np.float64).T
    values = np.array([np.log10(ratio), *others])
    plain, estimate = _of_these(values, kind)
    low, high, how = _interval(values, cells, kind, estimate, bootstrap)
    means = np.array([np.bincount(cells, row) for row in values]) / np.bincount(cells)
    return PartialCorrelation(*known, estimate, low, high, _p(means, kind), np.nan, plain, *counts, how)


def _p(means: Array, kind: Kind) -> float:
    """Two-sided, of no partial correlation, by t; (3, cells)."""
    freedom = means.shape[1] - 3
    if freedom < 1:
        return np.nan
    r = _of_these(means, kind)[1]
    return float(2 * stats.t.sf(abs(r) * np.sqrt(freedom / max(1 - r**2, 1e-12)), freedom))


def _of_these(values: Array, kind: Kind) -> tuple[float, float]:
    """The plain correlation and the partial one of (3, n) values as they are."""
    plain, estimate = _coefficients(values, np.ones((1, values.shape[1])), kind, False)
    return float(plain[0]), float(estimate[0])


def _coefficients(values: Array, weights: Array, kind: Kind, replicated: bool) -> tuple[Array, Array]:
    """The plain correlation of x and y, and the partial one given z, of each resample of (3, n) x, y and z."""
    coefficient, (x, y, z) = COEFFICIENTS[kind], values
    xy, xz = (coefficient(x, other, weights, replicated) for other in (y, z))
    return xy, partial(xy, xz, coefficient(y, z, weights, False))


def _interval(
    values: Array, cells: NDArray[np.int64], kind: Kind, estimate: float, bootstrap: Bootstrap
) -> tuple[float, float, str]:
    """As `analysis.estimates.correlations.correlation` has it, one degree of freedom less for what is held fixed."""
    freedom = len(cells) - len(np.unique(cells)) - 1
    if len(np.unique(values[0])) < FEWEST_LEVELS:
        return np.nan, np.nan, f"none: fewer than {FEWEST_LEVELS} ratios"
    if freedom < FEWEST_FREEDOM - 1:
        return np.nan, np.nan, f"none: fewer than {FEWEST_FREEDOM} seeds beyond one a cell"
    weights = resampled(cells, bootstrap.resamples, np.random.default_rng(bootstrap.seed))
    drawn = _coefficients(values, weights, kind, kind == "spearman")[1]
    low, high = t_on_z(estimate, drawn, freedom, bootstrap.confidence)
    return (low, high, OF_SEEDS) if high - low >= NO_WIDTH else (np.nan, np.nan, ALIKE)
