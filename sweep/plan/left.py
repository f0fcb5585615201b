"""What is left to run of the trials that a sweep wants, and how long it takes by what was measured."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sweep.config import SweepConfig
from sweep.plan.longer import Longer, longer_of
from sweep.plan.measured import Measured, shape_of
from sweep.plan.shapes import Left, Shape
from sweep.progress import Progress, TrialProgress
from sweep.search.trials import PlannedTrial


@dataclass(frozen=True)
class Wanted:
    """The trials of a sweep, as far as they are known."""

    every: Sequence[PlannedTrial]
    """Those that are."""
    known: Sequence[PlannedTrial]
    """Of them those of the share; of no share: all."""
    unknown: int
    """How many further ones there will be: Optuna asks for them as results come."""
    examples: Sequence[PlannedTrial]
    """Of these."""

    @property
    def all_kinds(self) -> list[PlannedTrial]:
        """All that are known, and examples of the others."""
        return [*self.every, *self.examples]

    def begun(self, progress: Progress) -> list[TrialProgress]:
        """Those of the share that the records know."""
        return [progress.trials[trial.id] for trial in self.known if trial.id in progress.trials]

    def unfinished(self, progress: Progress) -> list[PlannedTrial]:
        """Those of the share that have not finished, and examples of what is not known yet."""
        finished = {trial.id for trial in self.begun(progress) if trial.finished}
        return [*(trial for trial in self.known if trial.id not in finished), *self.examples]


def to_run(wanted: Wanted, progress: Progress, code_version: str, longer: Longer) -> tuple[Left, ...]:
    """What is left to run, with examples of what is not known yet, each for as many as it stands for."""
    left = [(one, epochs_left(one, progress.trials.get(one.id), code_version, longer)) for one in wanted.known]
    each = wanted.unknown / len(wanted.examples) if wanted.examples else 0.0
    return (
        *(Left(one.config, 1.0, epochs, shape_of(one)) for one, epochs in left if epochs),
        *(Left(one.config, each, each * one.config.epochs, shape_of(one), known=False) for one in wanted.examples),
    )


def trial_seconds(left: Sequence[Left], unknown: int, measured: Measured, config: SweepConfig) -> float | None:
    """Epochs left times the seconds that one took; None where a trial is left of whose kind none was measured."""
    total = 0.0
    for shape, epochs in _epochs_by_shape([one for one in left if one.known]).items():
        if (seconds := measured.epoch(shape)) is None:
            return None
        total += epochs * seconds
    if unknown:
        seconds = measured.any()
        return None if seconds is None else total + unknown * config.trial.epochs * seconds
    return total


def _epochs_by_shape(left: Iterable[Left]) -> dict[Shape, float]:
    epochs: dict[Shape, float] = defaultdict(float)
    for one in left:
        epochs[one.shape] += one.epochs
    return epochs


def epochs_left(trial: PlannedTrial, begun: TrialProgress | None, code_version: str, longer: Longer) -> int:
    """Epochs of the trial that are still to be trained."""
    if begun is not None and (begun.finished or begun.left_out):
        return 0
    _, shorter = longer.goes_on.get(trial.id, ("", 0))
    kept = begun.epoch if begun is not None and begun.resumes(code_version) else shorter
    return trial.config.epochs - kept


def longer_trials(known: Sequence[PlannedTrial], progress: Progress, code_version: str) -> Longer:
    """Which of the new trials go on from the ends of shorter ones."""
    begun = progress.trials
    to_run = [one for one in known if one.id not in begun or not (begun[one.id].finished or begun[one.id].left_out)]
    new = [one for one in to_run if one.id not in begun or not begun[one.id].resumes(code_version)]
    return longer_of(new, begun, to_run, code_version)
