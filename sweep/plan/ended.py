"""What the search is told of a trial that has ended."""

from __future__ import annotations

from sweep.config import SweepConfig
from sweep.objectives import SECONDS
from sweep.progress import TrialProgress
from sweep.search.trials import Pruned


def objective_values(trial: TrialProgress, config: SweepConfig) -> tuple[float, ...] | None:
    """The sweep's objectives at the trial's end; the worst there is if it diverged; None if it lacks one."""
    if trial.outcome == "diverged":
        return tuple(one.worst for one in config.objectives)
    if trial.outcome != "completed":
        return None
    values = [trial.whole_seconds if one.name == SECONDS else trial.last.get(one.name) for one in config.objectives]
    known = tuple(value for value in values if value is not None)
    return known if len(known) == len(values) else None


def pruned_at(trial: TrialProgress, config: SweepConfig) -> Pruned | None:
    """Where a stopping rule ended the trial; None: none did, or before it had a value."""
    value = trial.last.get(config.objectives[0].name) if trial.outcome == "pruned" else None
    return None if value is None else Pruned(trial.epoch, value)
