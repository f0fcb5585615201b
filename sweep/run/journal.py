"""A run directory while a launch holds it: the lock, and the only hand that writes records."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from analysis.frames.replayed import KEY as SURROGATE
from sweep.config import SweepConfig
from sweep.config_file import dump
from sweep.plan import forecast
from sweep.plan.ended import objective_values, pruned_at
from sweep.plan.longer import Shorter
from sweep.plan.plan import Plan
from sweep.plan.stopping import strata_axes
from sweep.progress import TrialProgress
from sweep.run.budget import Budget
from sweep.run.directory import CONFIG_FILE, clean, log_path, refuse_other_sweep, write_whole
from sweep.run.hung import Paces, hung, shape_of
from sweep.run.outside import cancelled_outcome
from sweep.run.preemption import outcome_when_stopped
from sweep.run.signals import FailedAlike, Interrupted
from sweep.run.trial import Message
from sweep.search.trials import FixedSearch, PlannedTrial
from sweep.stopping.fail_fast import FailFast
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.own import snapshot
from trainers.provenance import code_version, environment
from trainers.record import RECORDS_FILE, OutcomeName, OutcomeRecord, record_files
from trainers.record.linked import NOTED, LinkedFile

#: By how much a launch is later than all that it had read, s: times are written to the millisecond.
_LATER = 0.001


class Journal:
    """Takes every message of every trial, writes what is new, and tells the search and `listener`."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        """Writes nothing yet; the caller holds the run's lock.

        Args:
            directory: of the run.
            plan: made from its records; its `progress` goes on with what is written.
        """
        self.directory, self.progress, self.share = directory, plan.progress, plan.share
        self.listener: Callable[[TrialProgress, Message], None] = lambda trial, message: None
        self.ends: Callable[[str], None] = lambda trial_id: None
        """Called with the id of each trial that a stopping rule has ended: one that trains is to hear of it."""
        self.guard: Callable[[], None] = lambda: None
        """Called before each record: raises where the directory is held no more."""
        self.budget: Budget | None = None
        """Of the trials that are given out; none: all are."""
        self.stop: Callable[[Interrupted], None] = lambda why: None
        """Is told that the sweep is to end."""
        self.surrogate: str | None = None
        """Of trials that are replayed: the version of the response surface."""
        self.epoch_timeout: float | None = None
        """In place of the config's, of trials that begin from now on."""
        self.refused: UserError | None = None
        """Why a record could not be written."""
        self._plan = plan
        used = {trial.number for trial in plan.progress.trials.values()}
        self._numbers = (number for number in count() if number not in used)
        """Those of new trials."""
        self._paces = Paces()
        self._shorter = Shorter(plan.progress.trials.values(), code_version())
        self._fail_fast = None if plan.config.fail_fast is None else FailFast(plan.config.fail_fast)
        self._died: dict[str, str] = {}
        """How the last process died of each trial that is to be started once more."""
        self._withheld: PlannedTrial | None = None
        """The next trial, for which the budget has no room."""
        self._back: deque[PlannedTrial] = deque()
        self._set_aside: dict[str, PlannedTrial] = {}
        self._monotonic_began = time.time() - time.monotonic()

    @contextmanager
    def open(self, command: str, decides: Mapping[str, Any] | None = None) -> Iterator[None]:
        """A block in which trials run: begins with the launch and every new trial written down.

        Args:
            command: that launched them.
            decides: see `sweep.run.launch.Launch`.
        """
        refuse_other_sweep(self.directory, self._plan.config)  # another share may have begun since the lock was got
        self._file = LinkedFile(self.directory, self.named(RECORDS_FILE))
        try:
            self._begin(command, decides)
            yield
        finally:
            self._file.close()

    def _begin(self, command: str, decides: Mapping[str, Any] | None) -> None:
        """Writes sweep.yaml, environment.json, the launch and every trial that is new; no trial runs yet."""
        clean(self.directory, alone=self.share is None)
        checkpoint_path(self.directory, "").parent.mkdir(exist_ok=True)
        for source in self._plan.own.values():
            snapshot.keep(source, self.directory / snapshot.FOLDER)
        where = environment() | {"command": command, "time": time.strftime("%FT%T%z")}
        write_whole(self.directory / CONFIG_FILE, dump(self._plan.config))
        write_whole(self.directory / "environment.json", json.dumps(where, indent=2) + "\n")
        known, foretold = self._plan.search.known(), forecast.taken(self.directory, self._plan)
        ours = [trial for trial in self.progress.trials.values() if self.share is None or self.share.has(trial.id)]
        left_out = [trial.id for trial in ours if trial.left_out]
        self._append(
            "launch",
            {
                "command": command,
                "decides": decides,
                **({SURROGATE: self.surrogate} if self.surrogate else {}),
                **{key: where[key] for key in ("commit", "dirty", "code_version", "versions")},
                **chosen_by(self._plan.config),
                "size": self._plan.search.size(),
                "wanted": [trial.id for trial in known],
                **({"left_out": left_out} if left_out else {}),
                **({"start_from": dict(self._plan.started_from)} if self._plan.started_from else {}),
                **({"taken_up": list(self._plan.taken_up)} if self._plan.taken_up else {}),
                **({"budget_hours": self.budget.hours} if self.budget else {}),
                **({"forecast": foretold} if foretold else {}),
                **({NOTED: self._file.registered} if self._file.registered else {}),
                **self._among_files(),
            },
        )
        for trial in known:
            self._register(trial)
        for line in self._plan.decided:
            self._append("outcome", {key: value for key, value in line.items() if key != "record"})

    def _among_files(self) -> dict[str, Any]:
        """What a launch says of itself where its file is not the only one: a line comes after all that it knew."""
        share = {} if self.share is None else {"shard": str(self.share)}
        alone = not share and [path.name for path in record_files(self.directory)] == [RECORDS_FILE]
        return share if alone else {**share, "after": round(self.progress.latest + _LATER, 3)}

    def next(self) -> PlannedTrial | None:
        """The next trial to run, written down as planned; None when there is no more, or no room in the budget now."""
        while (trial := self._next()) is not None:
            known = self.progress.trials.get(trial.id)
            if known is None or not known.left_out:
                if self.budget is not None and not self.budget.allows(trial):
                    self._withheld = trial
                    return None
                self._register(trial)
                if not self.progress.trials[trial.id].pruned:
                    return trial
            else:
                self._tell(self.progress.trials[trial.id])
            self.set_aside(trial)
        return None

    def waits(self) -> bool:
        """Where `next` gives None: whether it may give more once trials that run have ended."""
        return self._withheld is not None or self._plan.search.waits()

    def _next(self) -> PlannedTrial | None:
        """In line, whether it is to be run or not."""
        trial, self._withheld = self._withheld, None
        return trial or (self._back.popleft() if self._back else self._plan.search.next())

    def runs(self, trial_id: str) -> bool:
        """Whether a trial that the records know is this launch's, and not that of another share."""
        return trial_id in self.progress.trials and (self.share is None or self.share.has(trial_id))

    def put_back(self, trial: PlannedTrial) -> None:
        """A trial that `next` gave is the next one again."""
        self._back.append(trial)

    def set_aside(self, trial: PlannedTrial) -> None:
        """A trial that is not run, unless `taken_back`."""
        self._set_aside[trial.id] = trial

    def cancel(self, trial_id: str) -> None:
        """The outcome of a trial that a user has cancelled; its checkpoint stays."""
        self.take({"record": "outcome", **cancelled_outcome(self.progress.trials[trial_id])})

    def taken_back(self, trial_id: str) -> PlannedTrial | None:
        """Of a cancelled trial, that it is to run after all; gives it where this launch has passed it by."""
        self.take({"record": "outcome", **cancelled_outcome(self.progress.trials[trial_id], undo=True)}, again=True)
        return self._set_aside.pop(trial_id, None)

    def note(self, values: Mapping[str, Any]) -> None:
        """Writes down what a user wrote of a trial: the values of a `NoteRecord`."""
        self._append("note", values)

    def named(self, file: str) -> str:
        """The name of a file that each launch has for itself, as a launch of all trials names it, or a share's."""
        return file if self.share is None else self.share.named(file)

    @property
    def listed(self) -> bool:
        """Whether it is certain beforehand which trials run, so that nothing is lost where one is asked for early."""
        certain = self.budget is None and not self._plan.config.races
        return certain and isinstance(self._plan.search, FixedSearch)

    @property
    def has_rules(self) -> bool:
        """Whether there are stopping rules, so that a trial may be ended at any epoch."""
        return self._plan.stopping is not None

    def leave_out(self, capacity: float) -> None:
        """Before trials run: those are not run again that ran out of memory alone, and where there was no less.

        Args:
            capacity: memory of the largest card, or host, on which trials would run, bytes.
        """
        for trial in self.progress.trials.values():
            trial.left_out = trial.left_out or trial.needs_more_than(capacity)

    def take(self, message: Message, again: bool = False) -> None:
        """Writes a trial's message down, unless it is an epoch, or its dynamics, that stands there already.

        Args:
            message: of a trial.
            again: where it is an outcome: the trial is run once more, and the search is told of that.
        """
        trial = self.progress.trials[message["trial_id"]]
        if trial.has(message) or trial.pruned:  # what such a trial says before it hears of it counts for nothing
            return
        if message["record"] in ("start", "outcome") and (why := self._died.pop(trial.id, "")):
            message = {**message, "died": why} if message["record"] == "start" else message
        self._append(message["record"], {key: value for key, value in message.items() if key != "record"})
        if not trial.is_handed_on(message):
            self._paces.add(shape_of(trial.config), message)
        if self.budget is not None:
            self.budget.took(trial, message, again)
        if message["record"] == "outcome":
            self._shorter.add(trial)
        if message["record"] == "outcome" and not again:
            self._tell(trial)
        self.listener(trial, message)
        if message["record"] == "outcome" and not again and self._fail_fast is not None:
            self._fails(self._fail_fast.ended(message, log_path(self.directory, trial.id)))
        self._prune()

    def _fails(self, why: str | None) -> None:
        """The sweep is to end, if it is said why."""
        if why is not None:
            self.stop(FailedAlike(why))

    def _tell(self, trial: TrialProgress) -> None:
        """Tells the search how a trial has ended."""
        config = self._plan.config
        self._plan.search.tell(trial.id, objective_values(trial, config), pruned_at(trial, config))

    def _prune(self) -> None:
        """Writes down what the stopping rules have decided by what was written last."""
        for line in self._plan.stopping.due() if self._plan.stopping else ():
            trial = self.progress.trials[line["trial_id"]]
            if not trial.is_over:
                self._append("outcome", {key: value for key, value in line.items() if key != "record"})
                if self.budget is not None:
                    self.budget.took(trial, line, again=False)
                self._tell(trial)
                self.listener(trial, line)
                self.ends(trial.id)

    def shorter(self, trial: PlannedTrial) -> list[str]:
        """Ids of the shorter trials from whose ends one that `next` gave can go on, the longest first."""
        return self._shorter.of(trial)

    def limits(self, trial: PlannedTrial, timeout: float | None) -> dict[str, Any]:
        """What the trial's `sweep.run.hung.Limits` are made of.

        Args:
            trial: given out by `next`.
            timeout: that was asked for.
        """
        known = self.progress.trials[trial.id]
        timeout = timeout if self.epoch_timeout is None else self.epoch_timeout
        recorded = max([known.epoch, *(self.progress.trials[name].epoch for name in self.shorter(trial))])
        return {"timeout": timeout, "medians": self._paces.medians(shape_of(known.config)), "recorded": recorded}

    def fail(self, trial_id: str, reason: str, outcome: OutcomeName = "failed", alone: bool = False) -> None:
        """The outcome of a trial whose process is gone: that it hung, if it did, or else this one.

        Args:
            trial_id: of the trial.
            reason: of the outcome.
            outcome: of the trial.
            alone: whether the launch ran nothing else on the trial's device.
        """
        if (why := hung(self.directory, trial_id)) is not None:
            outcome, reason = "failed", why
        self.take({"record": "outcome", **vars(OutcomeRecord(trial_id, outcome, reason, 0, alone=alone))})

    def died(self, trial_id: str, why: str) -> None:
        """The process of a trial is gone, and another takes its place: the trial's next start says why, in words."""
        trial = self.progress.trials[trial_id]
        if trial.started and trial.outcome is None:
            self._died[trial_id] = why

    def interrupt(self, reason: str) -> None:
        """The outcome `interrupted`, or `preempted`, for every trial that runs; their checkpoints stay.

        Args:
            reason: why the launch stops, in words.
        """
        if running := self.progress.running():
            outcome, why = outcome_when_stopped(reason)
            for trial in running:
                self.take({"record": "outcome", **vars(OutcomeRecord(trial.id, outcome, why, trial.epoch))})

    def preempt(self, trials: Container[str], reason: str) -> None:
        """The outcome `preempted` for those of these trials that run; they run again, from their checkpoints.

        Args:
            trials: ids.
            reason: of the outcome.
        """
        for trial in self.progress.running():
            if trial.id in trials:
                outcome = OutcomeRecord(trial.id, "preempted", reason, trial.epoch)
                self.take({"record": "outcome", **vars(outcome)}, again=True)

    def _register(self, trial: PlannedTrial) -> None:
        """Writes the trial down, again where a wider space gives its point more keys.

        One of another share gets its number and no line: a launch of that share, which may be written down at this very
        moment, gives it the same.
        """
        known = self.progress.trials.get(trial.id)
        number = next(self._numbers) if known is None else known.number
        if self.share is not None and not self.share.has(trial.id):
            return
        if known is None or trial.id not in self.progress.wanted or known.point != trial.point:
            self._append("trial", trial.record(number))
        if self._plan.stopping:
            self._plan.stopping.plan(trial.record(number))
            self._prune()

    def _append(self, kind: str, values: Mapping[str, Any]) -> None:
        stamped = {**values, "time": round(self._monotonic_began + time.monotonic(), 3)}  # a clock that is set jumps
        try:
            self.guard()
            self._file.append(kind, stamped)
        except UserError as error:
            self.refused = error
            raise
        self.progress.add({"record": kind, **stamped})
        if self._plan.stopping:
            self._plan.stopping.add({"record": kind, **stamped})


def chosen_by(config: SweepConfig) -> dict[str, Any]:
    """What a launch's line says that the sweep chooses by: the primary objective, and all where there are several.

    And within which of the grid axes, where its points are drawn.
    """
    primary, *others = config.objectives
    several = {"objectives": [one.model_dump() for one in config.objectives]} if others else {}
    within = {"strata": list(axes)} if (axes := strata_axes(config)) else {}
    return {"metric": primary.name, "mode": primary.mode, **several, **within}
