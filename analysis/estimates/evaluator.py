"""What says of given cells how much each axis matters, and the axes as it sees them.

Who evaluates stands above (`sweep.search.optuna_importance` asks Optuna); what is made of the answers is the matter of
`analysis.estimates.importance`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from pandas import Series
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from analysis.estimates.sobol_indices import LOGARITHMIC
from trainers.fields import plural

Array = NDArray[np.float64]
By = Literal["fanova", "ped_anova"]

#: PED-ANOVA's best cells are so many at least, as Optuna's documentation wants.
FEWEST_BEST = 5


class Column(NamedTuple):
    """An axis as an estimator sees it."""

    numbers: Array
    """(points,) NaN: the axis does not apply."""
    levels: int
    """Values that recur, each of which counts alike; 0: drawn from a range."""
    names: bool
    words: str


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


class Evaluator(Protocol):
    """Asked for the importance of axes, on given cells."""

    def __call__(self, by: By, columns: Mapping[str, Column], *, minimise: bool, seed: int) -> Callable[[Array], Array]:
        """How much each axis matters for means of these cells, of which many are given one after the other.

        Args:
            by: fanova: the share of the variance of the means that each axis makes by itself; ped_anova: how
                differently the best cells are spread over it than all.
            columns: the axes.
            minimise: whether less of the metric is better.
            seed: of what is drawn at random.

        Returns:
            of (cells,) means to (axes,) importances, in the order of `columns`.
        """
        ...
