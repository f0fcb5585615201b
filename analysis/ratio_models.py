"""Does robust accuracy follow lr / batch size alone? Nested models of one network and one method.

With x = log10(lr / batch) and z = log10 lr:

    ratio only     y = s(x)               s: a polynomial of degree p
    ratio + lr     y = s(x) + b z
    full           y = t(x, z)            t: every monomial in x and z of total degree <= p

so that each holds the one before it, and the full one is every polynomial of degree p in log lr and log batch. The
degree is the largest of 3, 2 and 1 that the cells allow (`analysis.ratio_layouts.degree_of`). A seed is a block: it
moves all its trials alike. One that has a single trial explains that trial and so takes it out of the comparison.

Tests are F-tests of the least-squares fits with the seeds as fixed blocks, exact for independent normal noise of one
variance whatever the seeds' own distribution [Montgomery, Design and Analysis of Experiments, 8th ed., sections 4.1
and 10.5]. The likelihood ratio of the mixed model (seeds as random intercepts) is beside them, with its chi-squared
p, which is too small at 27 trials: benchmarks/ratio_error.json says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.budgets import one_budget
from analysis.cells import GROUP, codes, measured, varying
from analysis.differences import t_interval, t_test
from analysis.methods import holm
from analysis.mixed import random_intercept
from analysis.ratio_layouts import (
    BATCH,
    LR,
    MODELS,
    TOLERANCE,
    Layout,
    degree_of,
    f_test,
    held_out_errors,
    jackknife_difference,
    lacking,
    rank,
    residual,
    root_mean_square,
)
from analysis.seeds import NO_ESTIMATE, Estimate

Array = NDArray[np.float64]

#: Seeds whose own slopes give a t interval; of fewer, it comes from the residuals.
FEWEST_SEEDS = 3

_NOTHING = (np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class AlongRatio:
    """b of `ratio + lr`: the change of y per decade of lr along a line of equal lr / batch, in y's own unit.

    0: the ratio is all that counts. All NaN where it cannot be told, and `method` says why.
    """

    y: str
    estimate: float
    low: float
    high: float
    p: float
    """Two-sided, of b = 0."""
    n_cells: int
    n_seeds: int
    n_trials: int
    method: str
    """Where the interval comes from; `none: ` and the reason where there is none."""
    degree: int = 0
    """Of the polynomial s; 0: none was fitted."""
    blocks: Estimate = NO_ESTIMATE
    """b and its t interval from the residuals of all trials, the seeds as blocks: narrower, but it takes the model
    to be true and its slope to be every seed's."""
    p_blocks: float = np.nan
    p_alike: float = np.nan
    """F-test of one slope for all seeds against one for each: where it is small, `blocks` is too narrow."""


@dataclass(frozen=True)
class ModelFit:
    """One model, fitted to all trials of a group."""

    name: str
    terms: int
    """Fixed effects that the cells can tell apart, the mean included."""
    log_likelihood: float
    """Of the mixed model, by maximum likelihood (nat)."""
    aicc: float
    """-2 log-likelihood + 2k + 2k(k + 1)/(n - k - 1), k the terms and variances [Hurvich, Tsai, Biometrika 1989]."""
    held_out: float
    """Root mean square error of the mean of a cell that was left out with all its seeds, in y's own unit; least
    squares without blocks. It holds the noise of the cell's own seeds."""
    p_lack_of_fit: float
    """F-test against a mean of its own for each cell; NaN where no cell has two seeds or no cell is to spare."""


@dataclass(frozen=True)
class NestedTest:
    """Is the larger model needed? An F-test, and the mixed model's likelihood ratio beside it."""

    smaller: str
    larger: str
    f: float
    df: tuple[int, int]
    p: float
    p_holm: float
    """Holm's, over all such tests of one `ratio_comparisons`."""
    likelihood_ratio: float
    """Twice the difference of log-likelihoods."""
    p_chi2: float
    """Of the likelihood ratio, by chi-squared with df[0] degrees of freedom: too small for few trials."""
    held_out: Estimate
    """The larger model's held-out error minus the smaller's, below 0 where it predicts better: jackknife over cells."""


@dataclass(frozen=True)
class RatioComparison:
    """The nested models of one network, method and setting of every other axis."""

    model: str
    method: str
    setting: dict[str, Any]
    """The other axes' values, where the method has several."""
    y: str
    degree: int
    n_cells: int
    n_seeds: int
    n_trials: int
    blocked: bool
    """Whether the seeds are blocks: not where there is one seed, or none has two trials."""
    reason: str
    """Why there are no models; empty: there are."""
    along: AlongRatio
    fits: tuple[ModelFit, ...] = ()
    tests: tuple[NestedTest, ...] = ()


def ratio_groups(trials: DataFrame) -> list[tuple[dict[str, Any], DataFrame]]:
    """The trials that may stand in one model: of one network, one method and one setting of every other axis.

    Args:
        trials: as `analysis.frame.load_trials` gives them.

    Returns:
        model.name, method and the other axes that vary within the method, with the group's trials.
    """
    groups: list[tuple[dict[str, Any], DataFrame]] = []
    for key, part in trials.groupby(list(GROUP), sort=False):
        others = [axis for axis in varying(part) if axis not in (*GROUP, LR, BATCH)]
        numbers = codes(part, others)
        for number in range(int(numbers.max(initial=-1)) + 1):
            rows = part[numbers == number]
            groups.append((dict(zip(GROUP, key, strict=True)) | {axis: rows[axis].iloc[0] for axis in others}, rows))
    return groups


def ratio_comparisons(
    trials: DataFrame, y: str = "last_test_robust", *, confidence: float = 0.95
) -> tuple[RatioComparison, ...]:
    """The nested models of every group of `ratio_groups`; Holm's p over all their tests together.

    Args:
        trials: as `analysis.frame.load_trials` gives them; `analysis.budgets.one_budget` is taken of them.
        y: a metric's column.
        confidence: of the intervals, in (0, 1).

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(one_budget(trials)[0], y)
    found = [_compared(identity, part, y, confidence) for identity, part in ratio_groups(usable)]
    adjusted = iter(holm(np.array([test.p for comparison in found for test in comparison.tests])))
    return tuple(
        replace(comparison, tests=tuple(replace(test, p_holm=float(next(adjusted))) for test in comparison.tests))
        for comparison in found
    )


def along_ratio(trials: DataFrame, y: str = "last_test_robust", *, confidence: float = 0.95) -> AlongRatio:
    """How much accuracy changes per decade of lr along a line of equal lr / batch; 0: the ratio is all.

    b of y = s(log10(lr / batch)) + b log10 lr. With `FEWEST_SEEDS` seeds that each suffice for a fit of their own,
    the estimate is the mean of these seeds' slopes and the interval the t interval over them: it takes the seeds to
    be independent and near normal, for lack of fit and unequal noise are the same for every seed; `method` says how
    many of the seeds these are. Otherwise both come
    from the residuals of all trials, the seeds as blocks where they can be. In simulated sweeps the first interval
    held the truth in 94-96 %, the second in 92-96 %, but in 87 % where the seeds' slopes differed as much as the
    noise lets one see (benchmarks/ratio_error.json). Sun et al., KDD 2022, find the slope
    negative.

    Args:
        trials: as `analysis.frame.load_trials` gives them, of one network, method and setting of every other axis;
            `analysis.budgets.one_budget` is taken of them.
        y: a metric's column.
        confidence: of the interval, in (0, 1).

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(one_budget(trials)[0], y)
    groups = ratio_groups(usable)
    if len(groups) > 1:
        why = f"{len(groups)} networks, methods or settings, which are never pooled"
        return AlongRatio(y, *_NOTHING, 0, 0, len(usable), f"none: {why}")
    return _along(usable, y, confidence)


def _along(usable: DataFrame, y: str, confidence: float) -> AlongRatio:
    """`along_ratio` of one group's measured trials."""
    layout = Layout.of(usable, y)
    degree, why = degree_of(layout), lacking(usable, layout)
    counts = (layout.cells, layout.seeds, len(layout.y))
    if why:
        return AlongRatio(y, *_NOTHING, *counts, f"none: {why}")
    blocks, p_blocks, freedom = _blocked_slope(layout, degree, confidence)
    slopes = _seed_slopes(layout, degree)
    if len(slopes) >= FEWEST_SEEDS:
        estimate, low, high, p = t_test(slopes, confidence)
        count = f"{len(slopes)} of {layout.seeds}" if len(slopes) < layout.seeds else f"{len(slopes)}"
        method = f"t over {count} seeds' own slopes"
    else:
        estimate, low, high, p = *blocks, p_blocks
        method = f"t on the residuals, {freedom} df, {_seeds_as(layout)}"
    method = method if np.isfinite(low) else f"none: {'the seeds are all alike' if freedom else 'no residual df'}"
    return AlongRatio(
        y,
        estimate,
        float(low),
        float(high),
        float(p),
        *counts,
        method,
        degree,
        blocks,
        p_blocks,
        _alike(layout, degree),
    )


def _seeds_as(layout: Layout) -> str:
    if layout.blocked:
        return f"{layout.seeds} seeds as blocks"
    return "one seed, whose own effect cannot be told" if layout.seeds == 1 else "no seed has two trials"


def _compared(identity: dict[str, Any], part: DataFrame, y: str, confidence: float) -> RatioComparison:
    layout = Layout.of(part, y)
    reason, degree = lacking(part, layout), degree_of(layout)
    setting = {key: value for key, value in identity.items() if key not in GROUP}
    known = RatioComparison(
        str(identity["model.name"]),
        str(identity["method"]),
        setting,
        y,
        0 if reason else degree,
        layout.cells,
        layout.seeds,
        len(layout.y),
        layout.blocked,
        reason,
        _along(part, y, confidence),
    )
    if reason:
        return known
    designs = {name: layout.design(name, degree) for name in MODELS}
    ranks = {name: rank(design) for name, design in designs.items()}
    names = [name for name in MODELS if name != "full" or ranks["full"] > ranks["ratio + lr"]]
    errors = {name: held_out_errors(designs[name], layout) for name in names}
    fits = tuple(_fit(layout, name, designs[name], errors[name]) for name in names)
    tests = tuple(_nested(layout, fits[0], larger, designs, errors, confidence) for larger in fits[1:])
    if len(fits) == len(MODELS):
        tests += (_nested(layout, fits[1], fits[2], designs, errors, confidence),)
    return replace(known, fits=fits, tests=tests)


def _fit(layout: Layout, name: str, design: Array, errors: Array) -> ModelFit:
    mixed = random_intercept(design, layout.y, layout.seed if layout.blocked else None)
    n, terms = len(layout.y), rank(design)
    k = terms + (2 if layout.blocked else 1)
    aicc = -2 * mixed.log_likelihood + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.nan
    cells = np.eye(layout.cells)[layout.cell]
    blocks = layout.seed_blocks()
    lack = f_test(np.column_stack([design, blocks]), np.column_stack([cells, blocks]), layout.y)[2]
    return ModelFit(name, terms, mixed.log_likelihood, aicc, root_mean_square(errors), lack)


def _nested(
    layout: Layout,
    smaller: ModelFit,
    larger: ModelFit,
    designs: dict[str, Array],
    errors: dict[str, Array],
    confidence: float,
) -> NestedTest:
    blocks = layout.seed_blocks()
    small, large = (np.column_stack([designs[fit.name], blocks]) for fit in (smaller, larger))
    f, df, p = f_test(small, large, layout.y)
    statistic = 2 * (larger.log_likelihood - smaller.log_likelihood)
    p_chi2 = float(stats.chi2.sf(max(statistic, 0.0), df[0])) if df[0] else np.nan
    gain = jackknife_difference(errors[larger.name], errors[smaller.name], confidence)
    return NestedTest(smaller.name, larger.name, f, df, p, np.nan, statistic, p_chi2, gain)


def _blocked_slope(layout: Layout, degree: int, confidence: float) -> tuple[Estimate, float, int]:
    """b with its t interval from the residuals, its p, and the residuals' degrees of freedom."""
    rest = np.column_stack([layout.design("ratio only", degree), layout.seed_blocks()])
    own = layout.z - rest @ np.linalg.lstsq(rest, layout.z, rcond=TOLERANCE)[0]
    spread = float(own @ own)
    slope = float(own @ layout.y) / spread
    rss, freedom = residual(np.column_stack([rest, layout.z]), layout.y)
    error = float(np.sqrt(rss / freedom / spread)) if freedom > 0 else np.nan
    low, high, p = map(float, t_interval(slope, error, freedom, confidence))
    return Estimate(slope, low, high), p, freedom


def _alike(layout: Layout, degree: int) -> float:
    """p of the same slope for every seed; NaN where the seeds are no blocks."""
    blocks = layout.seed_blocks()
    one = np.column_stack([layout.design("ratio + lr", degree), blocks])
    return f_test(one, np.column_stack([one, blocks * layout.z[:, None]]), layout.y)[2]


def _seed_slopes(layout: Layout, degree: int) -> Array:
    """b of each seed's own least-squares fit, of those seeds whose cells allow one."""
    slopes: list[float] = []
    for seed in range(layout.seeds):
        at = layout.seed == seed
        part = Layout(layout.x[at], layout.z[at], layout.y[at], layout.cell[at], layout.seed[at] * 0)
        design = part.design("ratio only", degree)
        if rank(np.column_stack([design, part.z])) == degree + 2:
            slopes.append(_blocked_slope(part, degree, 0.95)[0].value)
    return np.array(slopes)


def verdict(comparison: RatioComparison, level: float = 0.05) -> str:
    """What the comparison says, in a sentence; p are Holm's.

    The F-tests take what remains for independent noise, and reject too often where the seeds' own slopes differ; so
    the ratio is only said not to be all if the slope over seeds (`AlongRatio`) is not 0 either.

    Args:
        comparison: of `ratio_comparisons`.
        level: below which a p counts.
    """
    if comparison.reason:
        return comparison.reason
    beyond: Sequence[NestedTest] = [test for test in comparison.tests if test.smaller == MODELS[0]]
    lost = [test.larger for test in beyond if test.p_holm < level]
    better = f"{' and '.join(lost)} fit better"
    if not lost and comparison.along.p < level:
        said = "open: the seeds' own slopes say that the ratio is not all, and no larger model fits better"
    elif not lost:
        said = "nothing beyond the ratio is seen"
    elif comparison.along.p < level:
        said = f"the ratio is not all: {better}"
    else:
        said = f"open: {better} if all seeds have one slope, but their own slopes do not settle it"
    if comparison.fits[-1].p_lack_of_fit < level:
        said += "; but even the largest model misses the cells' means, so that this depends on its shape"
    return said
