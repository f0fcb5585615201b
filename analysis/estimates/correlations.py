"""How accuracy goes with a hyperparameter: correlations, frozen, with their intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from pandas.api.types import is_bool_dtype, is_numeric_dtype
from scipy import stats

from analysis.estimates.resampling import COEFFICIENTS, Array, Bootstrap, resampled, t_on_z
from analysis.frames.budgets import network_budgets
from analysis.frames.cells import GROUP, codes, measured, several
from analysis.frames.names import named
from analysis.frames.trials import axes
from trainers.errors import UserError, suggestion
from trainers.fields import plural

Method = Literal["pearson", "spearman", "kendall"]
METHODS: tuple[Method, ...] = ("pearson", "spearman", "kendall")

#: What correlations are taken with first; then with every other axis that was drawn.
PREDICTORS: tuple[str, ...] = ("optimizer.lr", "batch_size", "lr_batch_ratio")

#: Fewer give no interval: values of x; trials - cells; trials, where each is a cell of its own.
FEWEST_LEVELS, FEWEST_FREEDOM, FEWEST_TRIALS = 3, 6, 8

#: An interval narrower than this comes from resamples that are all alike, and why there is then none.
NO_WIDTH, ALIKE = 1e-6, "none: the resamples are all alike"

#: Where the bounds come from if cells hold several seeds.
OF_SEEDS = "bootstrap of seeds within cells (Rao-Wu), t on Fisher's z"

_SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}

#: Most elements of a (resamples, n) array held at once.
_BLOCK = 2_000_000


@dataclass(frozen=True)
class Correlation:
    """A correlation with its interval; all NaN for fewer than 3 trials or a constant x or y.

    The bounds alone are NaN where the data are too few for them.
    """

    estimate: float
    low: float
    high: float
    p_value: float
    """Two-sided, of no association, by scipy's test; assumes independent trials."""
    n: int
    """Trials."""
    x: str
    y: str
    method: str
    interval_method: str
    """Where the bounds come from; `none: ` and the reason where they are NaN."""


def correlation(
    frame: DataFrame,
    x: str,
    y: str,
    method: Method,
    *,
    cells: Sequence[str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Correlation:
    """Correlation of `y` with `x` over completed trials, with a bootstrap interval.

    Where a cell holds several seeds they are redrawn within their cell, so that the interval is about the
    seeds' noise on this grid of hyperparameters. It is a t interval on Fisher's z, with trials - cells
    degrees of freedom: the percentile interval lies too high at few seeds. In 5 simulated layouts with 2 to 5
    seeds a cell, 600 sweeps each, a 95 % interval held the truth in 90-94 % for Pearson and in 95-98 % for the
    ranks' coefficients, the percentile interval in 67-88 % and 73-92 % (benchmarks/interval_coverage.json).

    Where every cell holds one trial that noise cannot be told apart, and trials themselves are redrawn, as if
    the grid were a random sample; the interval is then the percentile one [Efron, Tibshirani 1993, ch. 13].

    The bounds are NaN, and `interval_method` says why, below `FEWEST_LEVELS` values of x, `FEWEST_FREEDOM`
    degrees of freedom or, at one trial a cell, `FEWEST_TRIALS`; and where the resamples are all alike: a seed
    noise too small to reorder the trials leaves a rank's coefficient no width, though it is not known exactly.
    At the edge of this (3 cells of 3 seeds, 6 of 2, 9 of 2 or 3 with little noise; the same file) the
    intervals shown held the truth in 93-99 % for Pearson and in 90-100 % for the ranks' coefficients. Tau-b
    above 0.9 falls a little as seeds are added (more ties in x), which costs Kendall's interval there.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        x: a hyperparameter's column.
        y: a metric's column.
        method: pearson, spearman or kendall (tau-b).
        cells: columns that define a cell, to which x is added; none: every axis.
        confidence: of the interval, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        The coefficient, its interval, p and n, and what they were made of.

    Raises:
        UserError: the frame has no such column, or there is no such coefficient.
    """
    if method not in METHODS:
        raise UserError(f"{method}: no such coefficient; {suggestion(method, METHODS)}")
    rows = measured(measured(frame, y), x)
    xs, ys = (rows[column].to_numpy(dtype=np.float64) for column in (x, y))
    if len(xs) < 3 or _constant(xs) or _constant(ys):
        return Correlation(
            np.nan, np.nan, np.nan, np.nan, len(xs), x, y, method, "none: fewer than 3 trials, or constant"
        )
    groups = codes(rows, list(dict.fromkeys([*(axes(frame) if cells is None else cells), x])))
    low, high, how = _interval(xs, ys, groups, method, Bootstrap(confidence, resamples, seed))
    result = _SCIPY[method](xs, ys)
    estimate, p_value = float(result.statistic), float(result.pvalue)
    return Correlation(estimate, low, high, p_value, len(xs), x, y, method, how)


def correlations(
    frame: DataFrame,
    y: str = "last_test_robust",
    *,
    predictors: Sequence[str] | None = None,
    methods: Sequence[Method] = METHODS,
    confidence: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> DataFrame:
    """Every correlation of `y` worth a line: models x methods x predictors x coefficients.

    Models are never pooled; nor are methods, but for `all` where they differ in the optimizer alone. A
    predictor that is constant in a group has no line there. Mixed budgets are matched (`analysis.frames.cells`). There
    is no p: they describe these trials, and the ledger tests.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        y: a metric's column.
        predictors: columns of hyperparameters; none: `PREDICTORS`, and every other axis that was drawn from a range.
        methods: coefficients: pearson, spearman, kendall.
        confidence: of the intervals, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the resampling.

    Returns:
        model.name, method (the trials', or `all`), x, y, coefficient (one of `methods`), estimate, low, high,
        n (trials), n_left_out (trials of the group that are not completed, not measured or of another budget),
        interval_method.

    Raises:
        UserError: the frame has no such column, or there is no such coefficient.
    """
    for x in predictors or ():
        if x not in frame.columns:
            raise UserError(f"{x}: no such column; {suggestion(x, map(str, frame.columns))}")
    rows: list[dict[str, Any]] = []
    budget = network_budgets(frame)[0].index
    for model, name, group in _groups(frame):
        usable = measured(group[group.index.isin(budget)], y)
        xs = [*PREDICTORS, *_drawn(usable)] if predictors is None else predictors
        for x, coefficient in itertools.product([x for x in xs if several(usable[x])], methods):
            fit = correlation(usable, x, y, coefficient, confidence=confidence, resamples=resamples, seed=seed)
            identity = {"model.name": model, "method": name, "coefficient": coefficient}
            rows.append({**vars(fit), **identity, "n_left_out": len(group) - fit.n})
    columns = ["x", "y", "coefficient", "estimate", "low", "high", "n", "n_left_out", "interval_method"]
    return DataFrame(rows, columns=[*GROUP, *columns])


def _drawn(trials: DataFrame) -> list[str]:
    """Other axes that were drawn from a range, as a search does: numbers that hardly recur from cell to cell.

    A list of few values is often there for a part of the trials alone, as controls are: what the others do would then
    stand in its correlation.
    """
    cells = len(np.unique(codes(trials, axes(trials))))
    others = (axis for axis in axes(trials) if axis not in PREDICTORS and trials[axis].notna().all())
    numeric = [axis for axis in others if is_numeric_dtype(trials[axis]) and not is_bool_dtype(trials[axis])]
    return [axis for axis in numeric if trials[axis].nunique() > max(cells / 2, FEWEST_LEVELS)]


def _constant(values: Array) -> bool:
    return bool(np.ptp(values) <= 1e-12 * np.abs(values).max())


def _interval(
    xs: Array, ys: Array, groups: NDArray[np.int64], method: str, bootstrap: Bootstrap
) -> tuple[float, float, str]:
    """The bounds and where they come from; NaN and why not."""
    if lacking := _lacking(xs, groups):
        return np.nan, np.nan, f"none: {lacking}"
    low, high = _bounds(xs, ys, groups, method, bootstrap)
    return (np.nan, np.nan, ALIKE) if high - low < NO_WIDTH else (low, high, _interval_method(groups))


def _lacking(xs: Array, groups: NDArray[np.int64]) -> str:
    """What the data have too few of for an interval, if anything."""
    freedom = len(groups) - len(np.unique(groups))
    if len(np.unique(xs)) < FEWEST_LEVELS:
        return f"fewer than {FEWEST_LEVELS} values of x"
    if not freedom and len(groups) < FEWEST_TRIALS:
        return f"fewer than {FEWEST_TRIALS} trials, one a cell"
    return f"fewer than {FEWEST_FREEDOM} degrees of freedom" if 0 < freedom < FEWEST_FREEDOM else ""


def _interval_method(groups: NDArray[np.int64]) -> str:
    sizes = np.bincount(groups)
    if sizes.max() == 1:
        return "bootstrap of trials (one a cell), percentile"
    single = int((sizes == 1).sum())
    verb = "holds" if single == 1 else "hold"
    return OF_SEEDS + (f"; {single} of {plural(len(sizes), 'cell')} {verb} one trial, which stays" if single else "")


def _bounds(xs: Array, ys: Array, groups: NDArray[np.int64], method: str, bootstrap: Bootstrap) -> tuple[float, float]:
    coefficient, freedom = COEFFICIENTS[method], len(groups) - len(np.unique(groups))
    strata = groups if freedom else np.zeros_like(groups)
    rng, block = np.random.default_rng(bootstrap.seed), max(1, _BLOCK // len(xs))
    draws = (min(block, bootstrap.resamples - start) for start in range(0, bootstrap.resamples, block))
    drawn = np.concatenate([coefficient(xs, ys, resampled(strata, n, rng), freedom > 0) for n in draws])
    if freedom:
        estimate = float(coefficient(xs, ys, np.ones((1, len(xs))), False)[0])
        return t_on_z(estimate, drawn, freedom, bootstrap.confidence)
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.nanquantile(drawn, [tail, (1 + bootstrap.confidence) / 2])
    return float(low), float(high)


def _groups(frame: DataFrame) -> list[tuple[str, str, DataFrame]]:
    """(model, method, trials), with the method `all` first where several differ in the optimizer alone."""
    groups: list[tuple[str, str, DataFrame]] = []
    for model, rows in frame.groupby("model.name", sort=False):
        methods = [(str(name), part) for name, part in rows.groupby("method", sort=False)]
        families = {named(name).family for name, _ in methods}
        pooled = [("all", rows)] if len(methods) > 1 and len(families) == 1 else []
        groups += [(str(model), name, part) for name, part in [*pooled, *methods]]
    return groups
