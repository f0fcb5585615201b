"""`--budget-hours`: trials are given out as long as they end within it, and whole seeds, or whole points, at a time.

The hours are trial hours, as those of `--decide`: training, evaluation and checkpoints of the epochs that launches with
a budget recorded in the directory, as if one after another, whatever ran side by side. So a launch that was killed goes
on with what is left.

A trial that waits is counted at the epochs that it has left times what one of its shape took: in this launch, else in
earlier ones, else as `sweep plan` estimates it. A seed is begun if all points fit with it, so that no point has a seed
more than another; where points are asked for one by one, a point with all its seeds. If not even one fits, what does.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from analysis.frames.columns import PLACE
from analysis.frames.history import handed_on
from analysis.frames.log import Log
from sweep.plan.left import epochs_left
from sweep.plan.measured import kind_of, shape_of
from sweep.plan.plan import Plan
from sweep.plan.shapes import Shape
from sweep.progress import TrialProgress
from sweep.run.trial import Message
from sweep.search.trials import FixedSearch, PlannedTrial
from trainers.fields import number_text, plural
from trainers.provenance import code_version
from trainers.record import spent


class NothingFits(Exception):
    """What is left of the hours is too short for any trial, so that none runs; the console has been told."""


#: Points and seeds that are named of those that are left out.
_NAMED = 3


def spent_seconds(records: Iterable[Mapping[str, Any]], counts: Callable[[Mapping[str, Any]], bool]) -> float:
    """Training, evaluation and checkpoints of the epochs that certain launches trained, s.

    Args:
        records: of a run.
        counts: whether those of a launch are counted, by its line.
    """
    log = Log.of(records)
    launches = [(place, one) for place, one in zip(log.places, log, strict=True) if one["record"] == "launch"]
    counted = np.array([False, *(counts(one) for _, one in launches)])
    launch = np.searchsorted([place for place, _ in launches], log.epochs.numbers(PLACE))
    codes, ids = log.epochs.texts("trial_id")
    begins = handed_on(log)
    shorter = np.array([begins.get(str(name), 0) for name in ids], dtype=np.float64)[codes]
    trained = ~(log.epochs.numbers("epoch") <= shorter)
    return float(np.sum(log.epochs.spent(), where=counted[launch] & trained))


def budget_of(hours: float, plan: Plan, records: Iterable[Mapping[str, Any]]) -> Budget:
    """A launch's budget, less what earlier launches with one used; estimates what no record tells.

    Args:
        hours: of trials, in all those launches.
        plan: of the launch.
        records: that it was made from.
    """
    measured, estimates = plan.measured, {}
    unknown = [one for one in plan.to_run if measured is None or measured.epoch(one.shape) is None]
    if unknown:
        from sweep.plan.cost import cost_of  # which imports torch

        cost, _ = cost_of(unknown, plan.shapes, plan.config.resources, None, plan.own)
        seconds = () if cost is None else (each for each, _ in cost.each)
        estimates = dict(zip((one.shape for one in unknown), seconds, strict=False))
    used = spent_seconds(records, lambda launched: "budget_hours" in launched)
    return Budget(hours, plan, used, code_version(), estimates)


class Budget:
    """What is left of a launch's hours, and whether a trial still fits."""

    def __init__(
        self, hours: float, plan: Plan, used: float, code_version: str, estimates: Mapping[Shape, float]
    ) -> None:
        """No trial is given out yet.

        Args:
            hours: of trials.
            plan: of the launch; its `progress` goes on with what is written.
            used: s, by earlier launches with a budget.
            code_version: of the trainers that run.
            estimates: seconds of an epoch, of shapes of which none was measured.
        """
        self.hours = hours
        self._plan, self._code_version, self._estimates = plan, code_version, estimates
        self._used = used
        self._given: dict[str, tuple[Shape, int]] = {}
        """Of trials that were given out and have not ended: shape, and epochs left."""
        self._took: dict[Shape, tuple[float, int]] = {}
        """Seconds, and how many epochs, of this launch."""
        self._by_seed = isinstance(plan.search, FixedSearch) and plan.search.by_seed
        self._blocks: dict[Any, list[PlannedTrial]] = defaultdict(list)
        for trial in plan.search.known():
            self._blocks[self._block(trial)].append(trial)
        self._begun: set[Any] = set()

    def _block(self, trial: PlannedTrial) -> Any:
        """What is to be run wholly or not at all: the seed of a trial, or its point."""
        return trial.seed if self._by_seed else point_key(trial.identity)

    def _seconds(self, shape: Shape) -> float:
        """Of an epoch; 0 where nothing whatever is known of it."""
        if shape in self._took:
            seconds, epochs = self._took[shape]
            return seconds / epochs
        measured = self._plan.measured
        known = measured.epoch(shape) if measured is not None else None
        if known is None:
            known = self._estimates.get(shape)
        return known if known is not None else (measured.any() if measured is not None else None) or 0.0

    def _cost(self, trial: PlannedTrial) -> float:
        return self._epochs(trial) * self._seconds(shape_of(trial))

    def _epochs(self, trial: PlannedTrial) -> int:
        """That are left of a trial; 0: it is not run."""
        known = self._plan.progress.trials.get(trial.id)
        return epochs_left(trial, known, self._code_version, self._plan.longer)

    @property
    def left(self) -> float:
        """Seconds that no trial has used, and none that runs will."""
        running = sum(epochs * self._seconds(shape) for shape, epochs in self._given.values())
        return 3600 * self.hours - self._used - running

    def allows(self, trial: PlannedTrial) -> bool:
        """Whether the trial may be given out: it is then counted until it has ended."""
        block = self._block(trial)
        if block not in self._blocks:
            self._blocks[block] = [trial.of_seed(seed) for seed in self._plan.config.seeds]
        fits = self._cost(trial) <= self.left and (self._is_begun(block) or self._begins(block))
        if fits:
            self._begun.add(block)
            self._given[trial.id] = shape_of(trial), self._epochs(trial)
        return fits

    def _is_begun(self, block: Any) -> bool:
        trials = self._plan.progress.trials
        of_block = (trials.get(trial.id) for trial in self._blocks[block])
        return block in self._begun or any(known is not None and (known.begun or known.finished) for known in of_block)

    def _begins(self, block: Any) -> bool:
        """Whether all of it fits; or there is none that is whole, nor will be."""
        return sum(map(self._cost, self._blocks[block])) <= self.left or not any(
            self._is_begun(one) for one in self._blocks
        )

    def took(self, trial: TrialProgress, message: Message, again: bool) -> None:
        """A message of a trial was written down.

        Args:
            trial: whose.
            message: of it.
            again: where it is an outcome: whether the trial is run once more.
        """
        if message["record"] == "epoch":
            shape, _ = self._given.get(trial.id, ((kind_of(trial.config), trial.config["batch_size"]), 0))
            if not trial.is_handed_on(message):
                seconds, number = self._took.get(shape, (0.0, 0))
                self._took[shape] = seconds + spent(message), number + 1
                self._used += spent(message)
            if trial.id in self._given:
                self._given[trial.id] = shape, trial.epochs_wanted - message["epoch"]
        elif message["record"] == "outcome" and not again:
            self._given.pop(trial.id, None)

    def opening(self) -> str:
        """What is said before trials run."""
        room = f"{max(self.left, 0) / 3600:.3g} of {self.hours:g} trial hours are left"
        what = "a seed of all points" if self._by_seed else "a point with all its seeds"
        costs = [sum(map(self._cost, block)) / 3600 for block in self._blocks.values()]
        cost = next((one for one in costs if one), None)
        return f"budget: {room}; {what} takes " + (f"about {cost:.3g}" if cost else "a time not known yet")

    def check(self) -> str | None:
        """What is said where no trial would be given out; None: one would."""
        unit, needed = self._next()
        if needed <= self.left:
            return None
        return f"nothing fits in what is left; the next {unit} needs --budget-hours {self._hours(needed)} at least"

    def _next(self) -> tuple[str, float]:
        """What is given out next, and what must be left for it, s; 0 where there is nothing, or it is not known."""
        for block, trials in self._blocks.items():
            if left := [trial for trial in trials if self._epochs(trial) and trial.id not in self._given]:
                if self._is_begun(block) or not any(map(self._is_begun, self._blocks)):
                    return "trial", self._cost(left[0])
                return "seed" if self._by_seed else "point", sum(map(self._cost, trials))
        seeds = len(self._plan.config.seeds) if self._blocks else 1
        costs = [one.config.epochs * self._seconds(one.shape) for one in self._plan.to_run if not one.known]
        return "point", seeds * min(costs, default=0.0) if self._missing() else 0.0

    def _hours(self, needed: float) -> str:
        """A `--budget-hours` with which so many seconds are left, in 3 digits, rounded up."""
        taken = 3600 * self.hours - self.left
        hours = (taken + needed) / 3600
        digit = 10.0 ** (math.floor(math.log10(hours)) - 2)
        rounded = (float(f"{number * digit:.3g}") for number in count(int(hours / digit)))
        return number_text(next(one for one in rounded if 3600 * one - taken >= needed))

    def _missing(self) -> int:
        """Trials that the search would still ask for."""
        return self._plan.search.size() - sum(map(len, self._blocks.values()))

    def left_out(self) -> list[str]:
        """What was not run for want of hours, in words; empty: nothing."""
        lines = list(self._lines())
        if missing := self._missing():
            lines.append(
                plural(missing // len(self._plan.config.seeds), "point") + " that the search would have asked for"
            )
        return lines

    def _lines(self) -> Iterator[str]:
        of_seed: dict[int, list[PlannedTrial]] = defaultdict(list)
        missing: dict[int, list[PlannedTrial]] = defaultdict(list)
        for trial in (trial for block in self._blocks.values() for trial in block):
            of_seed[trial.seed].append(trial)
            known = self._plan.progress.trials.get(trial.id)
            if self._epochs(trial) and (known is None or not known.started):
                missing[trial.seed].append(trial)
        whole = [seed for seed, trials in missing.items() if len(trials) == len(of_seed[seed])]
        if whole:
            noun = "seed" if len(whole) == 1 else "seeds"
            yield f"{noun} {', '.join(map(str, whole))} of all {len(of_seed[whole[0]])} points"
        for seed in (seed for seed in missing if seed not in whole):
            yield f"seed {seed} of {len(missing[seed])} of {len(of_seed[seed])} points: {_labels(missing[seed])}"

    def closing(self) -> str:
        """What is said when no more trials are given out."""
        used = f"--budget-hours {self.hours:g}: {self._used / 3600:.3g} trial hours used"
        lines = self.left_out()
        needed = self._next()[1]
        hours = f"--budget-hours {self._hours(needed)} or more" if needed > self.left else "more hours"
        more = f"; the same command with {hours}, or without, goes on"
        return f"{used}; left out: {'; '.join(lines)}{more}" if lines else used


def point_key(identity: Mapping[str, Any]) -> str:
    """Equal for the seeds of one point."""
    return json.dumps({key: value for key, value in identity.items() if key != "seed"}, sort_keys=True)


def _labels(trials: Sequence[PlannedTrial]) -> str:
    named = [" ".join(f"{key}={value}" for key, value in trial.point.items()) for trial in trials[:_NAMED]]
    return ", ".join(named) + (", ..." if len(trials) > _NAMED else "")
