"""Does accuracy go with lr / batch size beyond how well the training images are fitted? Partial correlations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.correlations import FEWEST_FREEDOM, FEWEST_LEVELS
from analysis.estimates.designs import RATIO, ratio_groups
from analysis.estimates.intervals import holm
from analysis.estimates.resampling import COEFFICIENTS, Array, resampled
from analysis.frames.cells import codes, measured, one_budget, several
from analysis.frames.trials import axes

Kind = Literal["pearson", "spearman"]
KINDS: tuple[Kind, ...] = ("pearson", "spearman")

#: What is held fixed.
GIVEN = ("last_train_robust", "last_train_clean")

#: Correlations are held below this where Fisher's z of 1 would be infinite.
_NEAR_ONE = 1 - 1e-9

_NOTHING = (np.nan, np.nan, np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class PartialCorrelation:
    """Of `y` with log10(lr / batch), `given` held fixed; all NaN where it cannot be told, and `interval` says why."""

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
    """Groups (`analysis.estimates.designs.ratio_groups`) x `GIVEN` x `KINDS`; what was not measured has no entry.

    The estimate is over trials; its interval is what other seeds in these cells would change, and p is about the
    cells: where these depart from the trend by more than their seeds do, an interval may exclude 0 and p be large.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them; `analysis.frames.cells.one_budget` is taken of them.
        y: a metric's column.
        confidence: of each interval, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(one_budget(trials)[0], y)
    found: list[PartialCorrelation] = []
    for identity, part in ratio_groups(usable):
        for given in GIVEN:
            rows = measured(part, given)
            if len(rows):
                found += [_partial(identity, rows, y, given, kind, confidence, resamples, seed) for kind in KINDS]
    adjusted = holm(np.array([one.p for one in found]))
    return tuple(replace(one, p_holm=float(p)) for one, p in zip(found, adjusted, strict=True))


def partial(xy: Array, xz: Array, yz: Array) -> Array:
    """(r_xy - r_xz r_yz) / sqrt((1 - r_xz^2)(1 - r_yz^2)): of x and y, z held fixed; NaN where z is x or y.

    [Kendall, Stuart, The Advanced Theory of Statistics, volume 2, chapter 27]; of ranks' correlations, Spearman's.
    """
    rest = (1 - xz**2) * (1 - yz**2)
    return np.asarray((xy - xz * yz) / np.sqrt(np.where(rest > 1e-12, rest, np.nan)))


def _partial(
    identity: dict[str, Any],
    rows: DataFrame,
    y: str,
    given: str,
    kind: Kind,
    confidence: float,
    resamples: int,
    seed: int,
) -> PartialCorrelation:
    values = tuple(rows[column].to_numpy(dtype=np.float64) for column in (RATIO, y, given))
    x, ys, z = np.log10(values[0]), *values[1:]
    setting = {key: value for key, value in identity.items() if key not in ("model.name", "method")}
    known = (str(identity["model.name"]), str(identity["method"]), setting, y, given, kind)
    n, cells = len(rows), codes(rows, axes(rows))
    n_cells = int(cells.max(initial=-1)) + 1
    if n < 5 or not all(several(rows[column]) for column in (RATIO, y, given)):
        return PartialCorrelation(*known, *_NOTHING, n, n_cells, "none: fewer than 5 trials, or a constant")
    plain, estimate = (float(one[0]) for one in _coefficients(x, ys, z, np.ones((1, n)), kind, False))
    low, high, how = _interval(x, ys, z, cells, kind, estimate, confidence, resamples, seed)
    means = [np.bincount(cells, of) / np.bincount(cells) for of in (x, ys, z)]
    return PartialCorrelation(
        *known, estimate, low, high, _p(means[0], means[1], means[2], kind), np.nan, plain, n, n_cells, how
    )


def _p(x: Array, y: Array, z: Array, kind: Kind) -> float:
    """Two-sided, of no partial correlation, by t; the three are of cells."""
    freedom = len(x) - 3
    if freedom < 1:
        return np.nan
    r = float(_coefficients(x, y, z, np.ones((1, len(x))), kind, False)[1][0])
    return float(2 * stats.t.sf(abs(r) * np.sqrt(freedom / max(1 - r**2, 1e-12)), freedom))


def _coefficients(x: Array, y: Array, z: Array, weights: Array, kind: Kind, replicated: bool) -> tuple[Array, Array]:
    """The plain correlation and the partial one of each resample."""
    of = COEFFICIENTS[kind]
    xy, xz, yz = of(x, y, weights, replicated), of(x, z, weights, replicated), of(y, z, weights, False)
    return xy, partial(xy, xz, yz)


def _interval(
    x: Array,
    y: Array,
    z: Array,
    cells: NDArray[np.int64],
    kind: Kind,
    estimate: float,
    confidence: float,
    resamples: int,
    seed: int,
) -> tuple[float, float, str]:
    """t on Fisher's z, as `analysis.estimates.correlations.correlation` has it.

    It has one degree of freedom less, for what is held fixed.
    """
    freedom = len(x) - len(np.unique(cells)) - 1
    if len(np.unique(x)) < FEWEST_LEVELS:
        return np.nan, np.nan, f"none: fewer than {FEWEST_LEVELS} ratios"
    if freedom < FEWEST_FREEDOM - 1:
        return np.nan, np.nan, f"none: fewer than {FEWEST_FREEDOM} seeds beyond one a cell"
    weights = resampled(cells, resamples, np.random.default_rng(seed))
    drawn = _coefficients(x, y, z, weights, kind, kind == "spearman")[1]
    drawn = drawn[np.isfinite(drawn)]
    spread = float(np.std(np.arctanh(np.clip(drawn, -_NEAR_ONE, _NEAR_ONE)))) if len(drawn) > 1 else 0.0
    if spread < 1e-6:
        return np.nan, np.nan, "none: the resamples are all alike"
    centre = np.arctanh(np.clip(estimate, -_NEAR_ONE, _NEAR_ONE))
    half = float(stats.t.ppf((1 + confidence) / 2, freedom)) * spread
    how = "bootstrap of seeds within cells (Rao-Wu), t on Fisher's z"
    return float(np.tanh(centre - half)), float(np.tanh(centre + half)), how
