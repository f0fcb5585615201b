"""Does robust accuracy follow lr / batch size alone? Nested models of one network and one method.

With x = log10(lr / batch) and z = log10 lr:

    ratio only     y = s(x)               s: a polynomial of degree p
    ratio + lr     y = s(x) + b z
    full           y = t(x, z)            t: every monomial in x and z of total degree <= p

so that each holds the one before it, and the full one is every polynomial of degree p in log lr and log batch. The
degree is the largest of 3, 2 and 1 that the cells allow (`analysis.estimates.designs.degree_of`). A seed is a block: it
moves all its trials alike. One that has a single trial explains that trial and so takes it out of the comparison.

Tests are F-tests of the least-squares fits with the seeds as fixed blocks, exact for independent normal noise of one
variance whatever the seeds' own distribution [Montgomery, Design and Analysis of Experiments, 8th ed., sections 4.1
and 10.5]. The likelihood ratio of the mixed model (seeds as random intercepts) is beside them, with its chi-squared
p, which is too small at 27 trials: benchmarks/ratio_error.json says by how much.

They describe the trials at hand. Whether the ratio is all is answered by the ledger (`analysis.claims.ledger`,
`ratio_only`), by the same slope b, of each seed by itself: F-tests reject in 13 % where seeds differ in it (the same
file).
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.designs import (
    MODELS,
    Layout,
    RatioGroup,
    degree_of,
    f_test,
    fit,
    held_out_errors,
    jackknife_difference,
    lacking,
    rank,
    ratio_groups,
    root_mean_square,
)
from analysis.estimates.intervals import NO_SPREAD, Estimate, holm
from analysis.frames.budgets import network_budgets
from analysis.frames.cells import measured

Array = NDArray[np.float64]


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
    p_alike: float = np.nan
    """F-test of one slope along equal ratio for all seeds against one for each: where it is small, the seeds differ in
    it, and `tests`, which take what remains for independent noise, reject too often."""
    fits: tuple[ModelFit, ...] = ()
    tests: tuple[NestedTest, ...] = ()


def ratio_comparisons(
    trials: DataFrame, y: str = "last_test_robust", *, confidence: float = 0.95
) -> tuple[RatioComparison, ...]:
    """Whether `y` follows lr / batch size alone, by nested models of every group of trials that may be pooled.

    The groups are those of `analysis.estimates.designs.ratio_groups`; Holm's p is over all tests together.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them; of them `analysis.frames.budgets.network_budgets`.
        y: a metric's column.
        confidence: of the intervals, in (0, 1).

    Raises:
        UserError: the frame has no column `y`.
    """
    usable = measured(network_budgets(trials)[0], y)
    comparisons = [_compared(group, y, confidence) for group in ratio_groups(usable)]
    adjusted = iter(holm(np.array([test.p for comparison in comparisons for test in comparison.tests])))
    return tuple(
        replace(comparison, tests=tuple(replace(test, p_holm=float(next(adjusted))) for test in comparison.tests))
        for comparison in comparisons
    )


def _compared(group: RatioGroup, y: str, confidence: float) -> RatioComparison:
    layout = Layout.of(group.trials, y)
    reason, degree = lacking(group.trials, layout), degree_of(layout)
    known = RatioComparison(
        *group[:3],
        y=y,
        degree=0 if reason else degree,
        n_cells=layout.cells,
        n_seeds=layout.seeds,
        n_trials=len(layout.y),
        blocked=layout.blocked,
        reason=reason,
    )
    if reason:
        return known
    designs = {name: layout.design(name, degree) for name in MODELS}
    names = [name for name in MODELS if name != "full" or rank(designs["full"]) > rank(designs["ratio + lr"])]
    errors = {name: held_out_errors(designs[name], layout) for name in names}
    fits = {name: _fit(layout, name, designs[name], errors[name]) for name in names}
    pairs = sorted(itertools.combinations(names, 2), key=lambda pair: pair[0] != names[0])
    tests = [_nested(layout, fits[one], fits[other], designs, errors, confidence) for one, other in pairs]
    return replace(known, p_alike=_alike(layout, degree), fits=tuple(fits.values()), tests=tuple(tests))


def _fit(layout: Layout, name: str, design: Array, errors: Array) -> ModelFit:
    from statsmodels.tools.eval_measures import aicc

    likelihood = log_likelihood(design, layout)
    n, terms = len(layout.y), rank(design)
    k = terms + (2 if layout.blocked else 1)
    cells, blocks = np.eye(layout.cells)[layout.cell], layout.seed_blocks()
    lack = f_test(np.column_stack([design, blocks]), np.column_stack([cells, blocks]), layout.y)[2]
    information = float(aicc(likelihood, n, k)) if n > k + 1 else np.nan
    return ModelFit(name, terms, likelihood, information, root_mean_square(errors), lack)


def log_likelihood(design: Array, layout: Layout) -> float:
    """Greatest log-likelihood (nat) of the fixed effects, a random intercept of each seed and noise, all normal.

    Without blocks, and where no variance of the seeds does as well, that of least squares. Of statsmodels' optimisers
    Powell's alone comes near the maximum where that variance is 0, given an orthonormal design and standardised values:
    in 2,745 simulated fits, seeds varying 0 to 1,000 times as much as the noise, to 5e-5 of what a fine search found.

    Returns:
        NaN where nothing is left to explain, or too little beside what the seeds do for statsmodels to solve.
    """
    from statsmodels.regression.mixed_linear_model import MixedLM

    plain = fit(design, layout.y)
    if plain.ssr <= len(layout.y) * (NO_SPREAD * float(np.abs(layout.y).max())) ** 2:
        return np.nan
    if not layout.blocked:
        return float(plain.llf)
    values, scale = layout.y - layout.y.mean(), float(layout.y.std())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a variance at its bound, 0, where `plain` is the maximum
        try:
            mixed = MixedLM(values / scale, plain.model.exog, layout.seed).fit(reml=False, method="powell").llf
        except np.linalg.LinAlgError:
            return np.nan
    return max(float(plain.llf), float(mixed) - len(values) * float(np.log(scale)))


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


def _alike(layout: Layout, degree: int) -> float:
    """p of the same slope for every seed; NaN where the seeds are no blocks."""
    blocks = layout.seed_blocks()
    one = np.column_stack([layout.design("ratio + lr", degree), blocks])
    return f_test(one, np.column_stack([one, blocks * layout.z[:, None]]), layout.y)[2]
