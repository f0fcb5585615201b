"""The figures of a run's dynamics: what `analysis.figures` draws where they were measured."""

from __future__ import annotations

from pandas import DataFrame

from analysis import dynamics_panels as panels
from analysis import dynamics_plotted as plotted
from analysis.frames.cells import best_trials
from analysis.plans import Data, Plan

_NEEDS = "dynamics, which trial.dynamics.every switches on"


def chosen(data: Data) -> DataFrame:
    """The dynamics of the trials in each network's and method's best cell: other cells are other experiments."""
    if data.dynamics.empty:
        return data.dynamics
    best = best_trials(data.trials, f"last_{data.chosen_by.metric}", mode=data.chosen_by.mode)
    return data.dynamics[data.dynamics["trial_id"].isin(best["trial_id"])]


PLANS: tuple[Plan, ...] = (
    Plan(
        "dynamics_decay",
        lambda data: {
            "dynamics_decay": plotted.around_decay(chosen(data), data.epochs),
            "dynamics_decay_lr": plotted.decays(chosen(data), data.epochs),
        },
        lambda rows, metric: panels.around_decay(rows["dynamics_decay"], rows["dynamics_decay_lr"]),
        _NEEDS,
    ),
    Plan(
        "dynamics_kurtosis",
        lambda data: {"dynamics_kurtosis": plotted.kurtosis_by_batch(chosen(data))},
        lambda rows, metric: panels.kurtosis_by_batch(rows["dynamics_kurtosis"]),
        f"{_NEEDS}, after the first epoch",
    ),
    Plan(
        "dynamics_quadratic",
        lambda data: {"dynamics_quadratic": plotted.against_quadratic(chosen(data))},
        lambda rows, metric: panels.against_quadratic(rows["dynamics_quadratic"]),
        f"{_NEEDS}, after the first epoch",
    ),
)
