"""One metric of several methods by seed: their means, and how they differ from one of them, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.estimates.crossed import BOTH, methods_variance
from analysis.estimates.differences import NO_SEEDS, compared
from analysis.estimates.intervals import Estimate, difference_error, equal_variance, mean_error, t_interval, t_test
from analysis.estimates.ranges import clipped, possible, possible_difference
from analysis.frames.cells import measured

#: Below this p of one variance for all methods, none is assumed.
_UNEQUAL = 0.05


@dataclass(frozen=True, eq=False)
class SeedTable:
    """The metric of each method (rows) with each seed (columns), NaN where not measured, one cell a method.

    Methods with the baseline's seeds, or else the commonest ones, form a `block`, over which the noise's variance
    is pooled: `analysis.estimates.intervals` says why and on what assumption. Where Bartlett's test refutes that, of
    two methods, where nothing can be tested, and for methods with other seeds, an interval is the method's own.
    """

    metric: str
    values: DataFrame
    block: DataFrame
    """(methods, seeds) without NaN."""
    p_equal: float
    """Of Bartlett's test of one variance over the block; NaN for fewer than 3 methods."""
    trials: DataFrame
    """Those that it is of: where each has its bits of the test images, intervals hold these images' error too
    (`analysis.estimates.crossed`)."""

    @classmethod
    def of(cls, trials: DataFrame, y: str, baseline: str | None) -> SeedTable:
        """The table of `y`, of the completed trials in each method's cell."""
        usable = measured(trials, y)
        values = usable.pivot_table(index="method", columns="seed", values=y, sort=False).astype(np.float64)
        block = _block(values, baseline)
        return cls(y, values, block, equal_variance(block.to_numpy()), usable)

    @property
    def pooled(self) -> bool:
        """Whether the block has one variance, as far as the test tells."""
        return len(self.block) > 2 and not self.p_equal < _UNEQUAL

    def mean(self, method: str, confidence: float) -> Estimate:
        """The mean over the method's seeds with its interval, within what the metric can be."""
        images = self.image_variance({method: 1.0})
        value, *own = t_test(np.asarray(self._of(method)), confidence, images)
        if self.pooled and method in self.block.index:
            own = list(t_interval(value, *mean_error(self.block.to_numpy()), confidence, images))
        return Estimate(value, *clipped(own[0], own[1], possible(self.metric)))

    def interval(self, method: str) -> str:
        """Whose variance the interval of the method's `mean` takes, in words; empty: it has none."""
        if not np.isfinite(self.mean(method, 0.95).low):
            return ""
        pooled = self.pooled and method in self.block.index
        whose = f"variance pooled over {len(self.block)} methods" if pooled else "variance of the method's own seeds"
        return f"{'t' if np.isnan(self.image_variance({method: 1.0})) else BOTH}, {whose}"

    def image_variance(self, signs: Mapping[str, float]) -> float:
        """What the test images add to the variance of a weighted sum of methods' means; NaN: bits are missing."""
        return methods_variance(self.trials, signs, self.metric)

    def difference(self, method: str, baseline: str, confidence: float) -> dict[str, Any]:
        """The method's mean minus the baseline's: `difference`, `own` (both `Estimate`), `p_value`, `test`.

        `own` is of `analysis.estimates.differences.compared`, over seeds alone: paired by seed where the seeds are the
        same, else Welch's.
        """
        images, within = self.image_variance({method: 1.0, baseline: -1.0}), possible_difference(self.metric)
        sides = self._of(method), self._of(baseline)
        seeds, row = compared(*sides, confidence), compared(*sides, confidence, images)
        own, gain = (Estimate(one["difference"], *clipped(one["low"], one["high"], within)) for one in (seeds, row))
        paired = ", paired by image" if np.isfinite(images) else ""
        test = row["test"] + paired * (row["test"] != "none")
        alone = {"difference": gain, "own": own, "p_value": row["p_value"], "test": test}
        if not (self.pooled and {method, baseline} <= set(self.block.index)):
            return alone
        error = difference_error(self.block.to_numpy())
        low, high, p_value = t_interval(own.value, *error, confidence, images)
        test = f"paired by seed, variance pooled over {len(self.block)} methods{paired}"
        pooled = {"difference": Estimate(own.value, *clipped(low, high, within)), "p_value": p_value, "test": test}
        return alone | (pooled if np.isfinite(low) else {})

    def _of(self, method: str) -> pd.Series[float]:
        """The method's values by seed."""
        return self.values.T[method].dropna() if method in self.values.index else NO_SEEDS


def _block(values: DataFrame, baseline: str | None) -> DataFrame:
    """The methods that were measured with the same seeds as the baseline, or with the commonest ones."""
    if values.empty:
        return values
    patterns = [tuple(row) for row in values.notna().to_numpy()]
    if baseline in values.index:
        reference = patterns[list(values.index).index(baseline)]
    else:
        reference = max(patterns, key=patterns.count)
    same = [pattern == reference for pattern in patterns]
    block: DataFrame = values.loc[same, list(reference)]
    return block
