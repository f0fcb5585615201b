"""Longer training of what is finished: from which shorter trials a longer one goes on, and what it takes of them.

A trial of n epochs is the beginning of one of N > n, to the bit, where nothing that trains it in its first n epochs
hangs on how many there are in all. What does is the learning rate of some schedules, and what a key left out stands for
(`averaging.start` of swa; `clean_passes`, by whether AWP begins at all). All else counts epochs from the first one:
milestones, warm-ups, AWP's and the averages' starts. The last epoch of a trial is always evaluated, and its dynamics
are always measured; of a longer one that is dropped which is not due there.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from trainers.config import ScheduleConfig, TrialConfig
from trainers.identity import trial_id
from trainers.method.schedules import lr_factor
from trainers.record import METRICS

#: At so many places of each epoch the learning rates of two lengths are compared.
_PLACES = 8

State = Mapping[str, Any]


def beginning(config: TrialConfig, epochs: int) -> TrialConfig:
    """The trial of fewer epochs with which this one begins, if such a one is there and `why_not` has nothing to say.

    Keys that stand for another value by the number of epochs have their values from the longer trial, so that the
    shorter one's id is another where its own are others.

    Args:
        config: resolved.
        epochs: fewer than its own.
    """
    return config.model_copy(update={"epochs": epochs})


def why_not(config: TrialConfig, epochs: int) -> str:
    """Why no trial of so many epochs can be this one's beginning, in words that name the kind; empty: one can.

    Args:
        config: resolved.
        epochs: fewer than its own.
    """
    schedule = config.schedule
    if schedule.is_own:
        return "a schedule of your own: what it makes of epochs is not known"
    if not _same_rates(schedule, epochs, config.epochs):
        return f"{schedule.name}: its beginning depends on epochs"
    return ""


@functools.lru_cache(maxsize=1024)
def _same_rates(schedule: ScheduleConfig, epochs: int, longer: int) -> bool:
    """Whether the learning rate is the same in all of the shorter training, by the factors themselves."""
    places = (place / _PLACES for place in range(_PLACES * epochs))
    return all(lr_factor(schedule, place, epochs) == lr_factor(schedule, place, longer) for place in places)


def continued(state: State, config: TrialConfig) -> dict[str, Any]:
    """What the longer trial's own checkpoint would hold if it had been stopped where the shorter one ended.

    Args:
        state: what the file of a completed trial holds that kept its state.
        config: of the longer trial, resolved.
    """
    from trainers.dynamics.measurement import is_due  # a plan needs none of what that imports

    name = trial_id(config)
    running = dict(state["running"])
    best = running.pop("best")
    return {
        **state,
        "trial_id": name,
        "history": [{**_as_due(epoch, config), "trial_id": name} for epoch in state["history"]],
        "dynamics": [{**one, "trial_id": name} for one in state["dynamics"] if is_due(config, one["epoch"])],
        "weights": {"best": best} if config.keeps("best") and best is not None else {},
        "running": running,
    }


def _as_due(epoch: State, config: TrialConfig) -> dict[str, Any]:
    """An epoch's values without what a longer trial does not measure there."""
    undue = () if config.evaluates(epoch["epoch"]) else (metric for metric in METRICS if metric not in _TRAINED)
    return {**epoch, "right": None, **dict.fromkeys(undue)}


#: Metrics of the training itself, which each epoch has.
_TRAINED = ("train_robust", "train_robust_loss")
