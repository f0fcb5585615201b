"""The learning rate over the epochs: a factor on optimizer.lr, as a pure function of progress."""

from __future__ import annotations

import functools
import math
import numbers
from collections.abc import Callable

from trainers.config import ScheduleConfig
from trainers.errors import UserError
from trainers.own import options, snapshot


def lr_factor(schedule: ScheduleConfig, progress: float, epochs: int) -> float:
    """What optimizer.lr is multiplied by during one step.

        piecewise   factor ^ (number of milestones <= floor(progress))
        cosine      (1 + cos(pi progress / epochs)) / 2
        linear      1 - progress / epochs
        one_cycle   linear from 0 to 1 over warmup * epochs, then linear to 0
        constant    1
        a user's    what it says of (progress, epochs)

    and, but for one_cycle, times min(1, progress / warmup_epochs) where there is a warm-up.

    Epochs are counted from 0, and progress is taken where a step begins: with milestone 100 the hundred-and-first
    epoch is the first at the lower rate, as under torch's MultiStepLR. The codes of DEAT and of Rice et al. (both
    train_cifar.py) take it where the step ends, epoch + (step + 1) / steps, so that the last step of the hundredth
    epoch is at the lower rate already, and every curve is one step ahead of this one. Those of TRADES, MART and S2O
    count epochs from 1 and lower the rate as epoch 75 or 100 begins, which is milestone 74 or 99 here. The first step
    of one_cycle and of a warm-up has factor 0.

    >>> [lr_factor(ScheduleConfig(milestones=(2,)), progress, 3) for progress in (0.0, 1.9, 2.0)]
    [1.0, 1.0, 0.1]

    Args:
        schedule: which curve.
        progress: epochs done when the step begins, as a float: epoch + fraction of it, in [0, epochs].
        epochs: length of the training.

    Returns:
        The factor, in [0, 1] unless schedule.factor is above 1.
    """
    assert 0 <= progress <= epochs, f"progress {progress} must be in [0, {epochs}]"
    if schedule.name != "one_cycle" and progress < schedule.warmup_epochs:
        return progress / schedule.warmup_epochs * _curve(schedule, progress, epochs)
    return _curve(schedule, progress, epochs)


def _curve(schedule: ScheduleConfig, progress: float, epochs: int) -> float:
    if schedule.is_own:
        return _own(schedule)(progress, epochs)
    match schedule.name:
        case "piecewise":
            return schedule.factor ** sum(milestone <= progress for milestone in schedule.milestones)
        case "cosine":
            return 0.5 * (1 + math.cos(math.pi * progress / epochs))
        case "linear":
            return 1 - progress / epochs
        case "one_cycle":
            peak = schedule.warmup * epochs
            return progress / peak if progress < peak else (epochs - progress) / (epochs - peak)
        case "constant":
            return 1.0


@functools.lru_cache(maxsize=16)
def _own(schedule: ScheduleConfig) -> Callable[[float, int], float]:
    """The user's own curve, its options read once."""
    target = snapshot.load(schedule.name, schedule.code, "schedule.name")
    keywords = options.arguments(target, schedule, "schedule", {"progress": 0.0, "epochs": 1})

    def curve(progress: float, epochs: int) -> float:
        given = {"progress": progress, "epochs": epochs}
        factor = target(**{name: given.get(name, value) for name, value in keywords.items()})
        if not isinstance(factor, numbers.Real) or not math.isfinite(factor) or factor < 0:
            raise UserError(
                f"schedule.name: {schedule.name}: must give a finite number >= 0, got {factor!r} at progress "
                f"{progress:g} of {epochs} epochs"
            )
        return float(factor)

    return curve
