"""Optuna's two estimators of importance, asked about cells; what is made of their answers is `importance`'s matter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import Series
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from analysis.estimates.sobol_indices import LOGARITHMIC
from trainers.fields import plural

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.importance import BaseImportanceEvaluator

Array = NDArray[np.float64]
By = Literal["fanova", "ped_anova"]

#: What no axis makes by itself, of fANOVA's variance.
INTERACTIONS = "interactions"

#: PED-ANOVA's best cells are this share of all, as in Optuna, or so many at least, as its documentation wants.
BEST_SHARE, FEWEST_BEST = 0.1, 5

#: Of Optuna's forest: its own 64 trees each leave out a third of the cells. With every cell in the study several times
#: each tree has all of them (but for e^-16), and few trees are enough: on a full grid the shares are then those of the
#: analysis of variance.
TREES, COPIES = 4, 16

#: Equal parts of a drawn axis's range that fANOVA tells apart: its time goes with their number.
PARTS = 16


class Column(NamedTuple):
    """An axis as an estimator sees it."""

    numbers: Array
    """(points,) NaN: the axis does not apply."""
    levels: int
    """Values that recur, each of which counts alike; 0: drawn from a range."""
    names: bool
    words: str

    def coarse(self) -> Column:
        """The same with a drawn axis at the middles of `PARTS` equal parts of its range."""
        if self.levels:
            return self
        low, width = float(np.nanmin(self.numbers)), float(np.ptp(self.numbers[np.isfinite(self.numbers)])) / PARTS
        part = np.clip(np.floor((self.numbers - low) / width), 0, PARTS - 1)
        return self._replace(numbers=low + (part + 0.5) * width)


def column_of(values: Series[Any], means: Array, axis: str) -> Column:
    """An axis's values as numbers in which every one of a list counts alike, and a range is on the scale of its draws.

    Names are put in the order of their mean metric: splits of a regression tree in that order are the best of all
    [Breiman, Friedman, Olshen, Stone 1984, section 9.4], while Optuna's column a name would weigh three names unevenly.
    """
    known = values.notna().to_numpy()
    distinct = values[known].unique()
    if not is_numeric_dtype(values) or is_bool_dtype(values):
        of_name = Series(means[known]).groupby(values[known].astype(str).to_numpy()).mean()
        place = {name: n for n, name in enumerate(of_name.sort_values(kind="stable").index)}
        ranks = [place[str(value)] if there else np.nan for value, there in zip(values, known, strict=True)]
        return Column(np.array(ranks, dtype=np.float64), len(place), True, plural(len(place), "choice"))
    numbers = values.to_numpy(dtype=np.float64)
    if 2 * len(distinct) <= known.sum():
        places = np.searchsorted(np.sort(distinct), numbers).astype(np.float64)
        return Column(np.where(known, places, np.nan), len(distinct), False, plural(len(distinct), "value"))
    logarithmic = axis in LOGARITHMIC and bool((numbers[known] > 0).all())
    scale = "logarithmic" if logarithmic else "linear"
    return Column(np.log(numbers) if logarithmic else numbers, 0, False, f"{len(distinct)} drawn, {scale}")


class Estimator:
    """One of Optuna's estimators on given cells, asked again and again with other means."""

    def __init__(self, by: By, metric: str, columns: Mapping[str, Column], seed: int) -> None:
        self.by, self.columns, self.seed = by, columns, seed
        less = metric.endswith(("loss", "seconds"))
        self._direction: Literal["minimize", "maximize"] = "minimize" if less else "maximize"
        spaces = {axis: _distribution(column, by) for axis, column in columns.items()}
        columns = {axis: column.coarse() if by == "fanova" else column for axis, column in columns.items()}
        whole = {axis: by != "fanova" and column.levels > 0 for axis, column in columns.items()}
        rows = zip(*(column.numbers for column in columns.values()), strict=True)
        applies = [{axis: v for axis, v in zip(columns, row, strict=True) if np.isfinite(v)} for row in rows]
        self._params = [{a: int(v) if whole[a] else float(v) for a, v in there.items()} for there in applies]
        self._spaces = [{axis: spaces[axis] for axis in there} for there in applies]

    @property
    def names(self) -> list[str]:
        """The axes, and what is left to them together."""
        return [*self.columns, *([INTERACTIONS] if self.by == "fanova" else [])]

    def parts(self, means: Array) -> Array:
        """Each name's part of the total, and last the total, in the unit of the estimator.

        Args:
            means: (cells,) of the metric.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that regimes are small: said in our own words
            study = optuna.create_study(direction=self._direction)
            found = self._evaluator(len(means)).evaluate(self._filled(study, means), list(self.columns))
        shares = np.array([found[axis] for axis in self.columns])
        if self.by == "ped_anova":
            return np.array([*shares, shares.sum()])
        total = float(means.var())
        return np.array([*shares, 1 - shares.sum(), 1.0]) * total

    def _evaluator(self, n: int) -> BaseImportanceEvaluator:
        from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

        if self.by == "fanova":
            return FanovaImportanceEvaluator(n_trees=TREES, seed=self.seed)
        return PedAnovaImportanceEvaluator(target_quantile=max(BEST_SHARE, FEWEST_BEST / n))

    def _filled(self, study: Any, means: Array) -> Any:
        from optuna.trial import create_trial

        copies = COPIES if self.by == "fanova" else 1
        each = [
            create_trial(params=params, distributions=spaces, value=float(mean))
            for params, spaces, mean in zip(self._params, self._spaces, means, strict=True)
        ]
        study.add_trials([trial for trial in each for _ in range(copies)])
        return study


def _distribution(column: Column, by: By) -> BaseDistribution:
    """The space of an axis: of listed values a cell of equal width each, for fANOVA weighs by width."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if column.levels and by == "fanova":
        return FloatDistribution(-0.5, column.levels - 0.5)
    if column.names:
        return CategoricalDistribution(range(column.levels))
    if column.levels:
        return IntDistribution(0, column.levels - 1)
    return FloatDistribution(float(np.nanmin(column.numbers)), float(np.nanmax(column.numbers)))
