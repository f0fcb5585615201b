"""The figures of a run's dynamics: what `analysis.figures` draws where they were measured."""

from __future__ import annotations

from analysis import dynamics_panels as panels
from analysis import dynamics_plotted as plotted
from analysis.plans import Plan

_NEEDS = "dynamics, which trial.dynamics.every switches on"

PLANS: tuple[Plan, ...] = (
    Plan(
        "dynamics_decay",
        lambda data: {
            "dynamics_decay": plotted.around_decay(data.dynamics, data.trials, data.epochs, data.chosen_by),
            "dynamics_decay_lr": plotted.decays(data.dynamics, data.epochs),
        },
        lambda rows, metric: panels.around_decay(rows["dynamics_decay"], rows["dynamics_decay_lr"]),
        _NEEDS,
    ),
    Plan(
        "dynamics_kurtosis",
        lambda data: {"dynamics_kurtosis": plotted.kurtosis_by_batch(data.dynamics)},
        lambda rows, metric: panels.kurtosis_by_batch(rows["dynamics_kurtosis"]),
        f"{_NEEDS}, after the first epoch",
    ),
    Plan(
        "dynamics_quadratic",
        lambda data: {"dynamics_quadratic": plotted.against_quadratic(data.dynamics)},
        lambda rows, metric: panels.against_quadratic(rows["dynamics_quadratic"]),
        f"{_NEEDS}, after the first epoch",
    ),
)
