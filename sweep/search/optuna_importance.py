"""Optuna's two evaluators of importance, asked about the cells of `analysis.estimates.importance`."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from analysis.estimates.evaluator import FEWEST_BEST, Array, By, Column

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.importance import BaseImportanceEvaluator

#: PED-ANOVA's best cells are this share of all, as in Optuna.
BEST_SHARE = 0.1

#: Of Optuna's forest: its own 64 trees each leave out a third of the cells. With every cell in the study several times
#: each tree has all of them (but for e^-16), and few trees are enough: on a full grid the shares are then those of the
#: analysis of variance.
TREES, COPIES = 4, 16

#: Equal parts of a drawn axis's range that fANOVA tells apart: its time goes with their number.
PARTS = 16


def optuna_importance(by: By, columns: Mapping[str, Column], *, minimise: bool, seed: int) -> Callable[[Array], Array]:
    """An `analysis.estimates.evaluator.Evaluator`: Optuna's fANOVA or PED-ANOVA."""
    import optuna
    from optuna.trial import FrozenTrial, create_trial

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    params, spaces = _points(by, columns)
    copies = COPIES if by == "fanova" else 1

    def study_of(means: Array) -> optuna.Study:
        """A study of the cells, each several times."""
        each = [
            create_trial(params=point, distributions=space, value=float(mean))
            for point, space, mean in zip(params, spaces, means, strict=True)
        ]
        study = optuna.create_study(direction="minimize" if minimise else "maximize")
        study.add_trials([trial for trial in each for _ in range(copies)])
        return study

    of_cells = study_of(np.zeros(len(params))) if by == "fanova" else None

    def importances(means: Array) -> Array:
        def target(trial: FrozenTrial) -> float:
            return float(means[trial.number // copies])

        evaluator = _evaluator(by, len(means), seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that regimes are small: said in our own words
            if of_cells is None:  # PED-ANOVA takes a target for one to minimise
                found = evaluator.evaluate(study_of(means), list(columns))
            else:  # one study for all means: to make it takes ten times as long as to ask it
                found = evaluator.evaluate(of_cells, list(columns), target=target)
        return np.array([found[axis] for axis in columns])

    return importances


def _evaluator(by: By, n: int, seed: int) -> BaseImportanceEvaluator:
    from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator

    if by == "fanova":
        return FanovaImportanceEvaluator(n_trees=TREES, seed=seed)
    return PedAnovaImportanceEvaluator(target_quantile=max(BEST_SHARE, FEWEST_BEST / n))


def _points(
    by: By, columns: Mapping[str, Column]
) -> tuple[list[dict[str, int | float]], list[dict[str, BaseDistribution]]]:
    """Of each cell its parameters as Optuna takes them, and their distributions: of the axes that apply to it."""
    spaces = {axis: _distribution(column, by) for axis, column in columns.items()}
    numbers = {axis: _coarse(column) if by == "fanova" else column.numbers for axis, column in columns.items()}
    whole = {axis for axis, column in columns.items() if by != "fanova" and column.levels}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*numbers.values(), strict=True)]
    there = [{axis: value for axis, value in row.items() if np.isfinite(value)} for row in rows]
    params: list[dict[str, Any]] = [
        {axis: int(value) if axis in whole else float(value) for axis, value in row.items()} for row in there
    ]
    return params, [{axis: spaces[axis] for axis in row} for row in there]


def _coarse(column: Column) -> Array:
    """The numbers, of a drawn axis the middles of `PARTS` equal parts of its range."""
    if column.levels:
        return column.numbers
    low = float(np.nanmin(column.numbers))
    width = float(np.ptp(column.numbers[np.isfinite(column.numbers)])) / PARTS
    part = np.clip(np.floor((column.numbers - low) / width), 0, PARTS - 1)
    return np.asarray(low + (part + 0.5) * width)


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
