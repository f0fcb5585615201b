"""The trials of one network and method as arrays, the designs of the nested models, and tests between them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import linalg

from analysis.estimates.intervals import NO_SPREAD, Estimate, t_interval
from analysis.frames.cells import GROUP, codes, several, varying
from analysis.frames.names import short
from trainers.fields import plural

Array = NDArray[np.float64]

#: The nested models, the smallest first.
MODELS = ("ratio only", "ratio + lr", "full")

LR, BATCH, RATIO = "optimizer.lr", "batch_size", "lr_batch_ratio"

#: Below this share of a design's norm a singular value is rounding.
TOLERANCE = 1e-8

ONE_RATIO = "lr / batch size has one value, so that nothing shows its own effect"


class RatioGroup(NamedTuple):
    """The trials that may stand in one model: of one network, one method and one setting of every other axis."""

    model: str
    method: str
    setting: dict[str, Any]
    """The other axes' values, where the method has several."""
    trials: DataFrame


def ratio_groups(trials: DataFrame) -> list[RatioGroup]:
    """The groups in order of appearance, never pooled.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
    """
    groups: list[RatioGroup] = []
    for (model, method), part in trials.groupby(list(GROUP), sort=False):
        others = [axis for axis in varying(part) if axis not in (*GROUP, LR, BATCH)]
        for _, rows in part.groupby(codes(part, others)):
            groups.append(RatioGroup(str(model), str(method), {axis: rows[axis].iloc[0] for axis in others}, rows))
    return groups


@dataclass(frozen=True, eq=False)
class Layout:
    """The trials of one group as arrays: what every model is fitted to."""

    x: Array
    """(n,) log10(lr / batch), centred."""
    z: Array
    """(n,) log10 lr, centred."""
    y: Array
    """(n,)."""
    cell: NDArray[np.int64]
    """(n,) from 0."""
    seed: NDArray[np.int64]
    """(n,) from 0."""

    @classmethod
    def of(cls, trials: DataFrame, y: str) -> Layout:
        """The layout of measured trials of one network, method and setting."""
        ratio, lr = (np.log10(trials[column].to_numpy(dtype=np.float64)) for column in (RATIO, LR))
        values = trials[y].to_numpy(dtype=np.float64)
        return cls(ratio - ratio.mean(), lr - lr.mean(), values, codes(trials, [LR, BATCH]), codes(trials, ["seed"]))

    @property
    def cells(self) -> int:
        """How many."""
        return len(np.unique(self.cell))

    @property
    def seeds(self) -> int:
        """How many."""
        return len(np.unique(self.seed))

    @property
    def blocked(self) -> bool:
        """Whether there are several seeds, and one at least with several trials.

        The indicator of a seed with one trial takes that trial out of the comparison, and no more.
        """
        return self.seeds > 1 and bool((np.bincount(self.seed) > 1).any())

    def design(self, name: str, degree: int) -> Array:
        """(n, columns) of the fixed effects of one of `MODELS`; columns of the full one may depend on each other."""
        x, z = (values / max(float(np.abs(values).max(initial=0)), NO_SPREAD) for values in (self.x, self.z))
        powers = range(degree + 1)
        if name == "full":
            terms = [x**i * z**j for i, j in itertools.product(powers, powers) if i + j <= degree]
        else:
            terms = [*(x**i for i in powers), *([z] if name == "ratio + lr" else [])]
        return np.column_stack(terms)

    def seed_blocks(self) -> Array:
        """(n, seeds) indicators; no column where the seeds are no blocks."""
        return np.eye(self.seeds)[self.seed] if self.blocked else np.empty((len(self.y), 0))


def lacking(trials: DataFrame, layout: Layout) -> str:
    """Why the ratio cannot be told from the learning rate in these trials; empty: it can."""
    if trials.empty:
        return "no completed trial was measured"
    if not several(trials[BATCH]):
        batch = short(trials[BATCH].iloc[0])
        return f"one batch size ({batch}): the ratio cannot be told from the learning rate"
    if not several(trials[LR]):
        return f"one learning rate ({short(trials[LR].iloc[0])}): the ratio cannot be told from the batch size"
    if one_ratio(trials):
        return ONE_RATIO
    both = layout.design("ratio + lr", 1)
    if rank(both) < both.shape[1]:
        return "the learning rate follows from lr / batch size in these cells: they cannot be told apart"
    if not degree_of(layout):
        return f"{plural(layout.cells, 'cell')}: too few to tell the ratio from the learning rate"
    return ""


def one_ratio(trials: DataFrame) -> bool:
    """Whether lr / batch size is the same in all trials, but for rounding."""
    return bool(np.ptp(np.log10(trials[RATIO].to_numpy(dtype=np.float64))) < 1e-9)


def degree_of(layout: Layout) -> int:
    """The largest polynomial that the cells allow: half as many cells again as the full model has terms.

    A straight line needs one cell to spare, and a polynomial of degree p at least p + 2 ratios; 0: there are too few,
    or lr follows from the ratio in these cells.
    """
    ratios = len(np.unique(np.round(layout.x, 9)))
    for degree in (3, 2, 1):
        full, both, only = (rank(layout.design(name, degree)) for name in reversed(MODELS))
        enough = layout.cells > full if degree == 1 else 2 * layout.cells >= 3 * full
        if enough and ratios > degree + 1 and both == only + 1 == degree + 2:
            return degree
    return 0


def rank(design: Array) -> int:
    """How many of the columns are independent."""
    return int(np.linalg.matrix_rank(design, rtol=TOLERANCE))


def fit(design: Array, y: Array) -> Any:
    """The least squares of y on the columns, which may depend on each other: statsmodels' `RegressionResults`.

    Its parameters are of an orthonormal basis of the columns; all else is theirs.

    Args:
        design: (n, columns).
        y: (n,).
    """
    from statsmodels.regression.linear_model import OLS

    return OLS(y, linalg.orth(design, rcond=TOLERANCE)).fit()


def f_test(smaller: Array, larger: Array, y: Array) -> tuple[float, tuple[int, int], float]:
    """F, its degrees of freedom and p of the larger model against the smaller, whose columns it spans.

    NaN where either has no degrees of freedom, or nothing is left to explain.

    Args:
        smaller: (n, columns).
        larger: (n, columns).
        y: (n,).
    """
    small, large = fit(smaller, y), fit(larger, y)
    df = int(small.df_resid - large.df_resid), int(large.df_resid)
    if min(df) < 1 or large.ssr <= NO_SPREAD * float(y @ y):
        return np.nan, df, np.nan
    f, p, _ = large.compare_f_test(small)
    return float(f), df, float(p)


def held_out_errors(design: Array, layout: Layout) -> Array:
    """Error of the mean of each cell, predicted by the least-squares fit without any of its trials.

    Returns:
        (cells,) measured minus predicted; NaN for a cell that the others do not determine.
    """
    errors = np.full(layout.cells, np.nan)
    for cell in range(layout.cells):
        out = layout.cell == cell
        if rank(design[~out]) == rank(design):
            coefficients = np.linalg.lstsq(design[~out], layout.y[~out], rcond=TOLERANCE)[0]
            errors[cell] = (layout.y[out] - design[out] @ coefficients).mean()
    return errors


def root_mean_square(errors: Array) -> float:
    """sqrt(mean of the squares)."""
    return float(np.sqrt(np.mean(errors**2)))


def jackknife_difference(first: Array, second: Array, confidence: float) -> Estimate:
    """Difference of two root mean square errors over the same cells, with its jackknife t interval.

    [Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapter 11]; takes the cells' errors for independent,
    which those of one fit are nearly.

    Args:
        first: (cells,) errors of one model.
        second: (cells,) errors of the other.
        confidence: of the interval, in (0, 1).
    """
    n = len(first)
    value = root_mean_square(first) - root_mean_square(second)
    without = [root_mean_square(np.delete(first, i)) - root_mean_square(np.delete(second, i)) for i in range(n)]
    error = float(np.sqrt((n - 1) * np.var(without))) if n > 2 else np.nan
    low, high, _ = map(float, t_interval(value, error, n - 1, confidence))
    return Estimate(value, low, high)
