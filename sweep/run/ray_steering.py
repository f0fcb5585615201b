"""Trials through Ray, steered: those that run hear it from `sweep.run.bell`, those that wait are in `packing`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import ray

from sweep.run.packing import Packing, Start
from sweep.run.signals import STOPPING

if TYPE_CHECKING:  # lest each process of a trial load the plan
    from sweep.run.journal import Journal
    from sweep.search.trials import PlannedTrial


class RayTrials:
    """The trials that Tune was given, and those that wait."""

    def __init__(
        self,
        journal: Journal,
        packing: Packing[PlannedTrial],
        bell: Any,
        given: Mapping[str, Start[PlannedTrial]],
    ) -> None:
        """None is told anything yet.

        Args:
            journal: of the launch.
            packing: has those that wait.
            bell: handle of the actor.
            given: to Tune, by Tune's own id of a process's trials.
        """
        self.tunes: Sequence[Any] = ()
        """Tune's trials, ended ones too, each of which is a process's trials."""
        self._journal, self._packing, self._bell, self._given = journal, packing, bell, given
        self._most = packing.limit
        self._paused = False
        self._ending: dict[str, float] = {}
        """Ids of those that were told to end, and when their process is killed if it has not, s."""
        self._unbegun: dict[str, Any] = {}
        """Ids of those that were cancelled before their process was there, and Tune's trial of it."""

    def hold(self, at_once: int | None, paused: bool) -> None:
        """At most so many run at a time from now on, None: as the config says; paused: none, those that run stop."""
        self._packing.limit = 0 if paused else at_once or self._most
        if paused != self._paused:
            self._paused = paused
            self._tell()

    def _tell(self) -> None:
        self._bell.want.remote(self._paused, [*self._ending, *self._unbegun])

    def cancel(self, trial_id: str) -> bool:
        """Has a trial end now, or takes it out of the line; asked again until it is true: nothing of it runs.

        Its process writes what its trials hold and ends; one that does not is killed. Others of that process go on in
        a new one, which uses up none of their restarts.
        """
        if (process := self._process(trial_id)) is not None:
            if process.status == process.PENDING:
                self._ended(process, trial_id)
                self._unbegun[trial_id] = process  # which may be on its way, and hears so once it is there
                self._tell()
                return True
            if trial_id not in self._ending:
                self._ending[trial_id] = time.monotonic() + STOPPING
                self._tell()
                process.max_failures += 1
            elif time.monotonic() > self._ending[trial_id]:
                _kill(process)
            return False
        if (waiting := self._packing.drop(trial_id)) is not None:
            self._journal.set_aside(waiting)
        return True

    def _process(self, trial_id: str) -> Any:
        """Tune's trial in which it is and has not ended; None: none."""
        each = (trial for trial in reversed(self.tunes) if not trial.is_finished())
        return next((trial for trial in each if trial_id in trial.config["trials"]), None)

    def _ended(self, process: Any, trial_id: str) -> None:
        """It is none of the process's any more."""
        planned = next(one for one in self._given[process.trial_id].trials if one.id == trial_id)
        del process.config["trials"][trial_id]
        if not process.config["trials"]:
            process.max_failures = 0
        self._journal.set_aside(planned)

    def prune(self, trial_id: str) -> None:
        """A stopping rule has ended a trial: it hears so with the answer to its epoch; one that waits does not begin.

        Returns once the bell knows, before the trial goes on; where Ray does not answer it trains an epoch more, which
        the journal does not take.
        """
        if (process := self._process(trial_id)) is None:
            if (waiting := self._packing.drop(trial_id)) is not None:
                self._journal.set_aside(waiting)
        elif process.status == process.PENDING:
            self._ended(process, trial_id)
            self._unbegun[trial_id] = process
            self._tell()
        else:
            with suppress(ray.exceptions.RayError):
                ray.get(self._bell.prune.remote(trial_id), timeout=STOPPING)

    def died(self, process: Any) -> None:
        """A process has: those of its trials that were to end have ended."""
        for trial_id in [name for name in process.config["trials"] if self._journal.progress.trials[name].pruned]:
            self._ended(process, trial_id)
            self.ended(trial_id)
        for trial_id in [name for name in process.config["trials"] if name in self._ending]:
            self._ended(process, trial_id)
            self._journal.cancel(trial_id)
            self.ended(trial_id)

    def lacked(self, process: Any) -> tuple[str, str]:
        """Why a process has ended itself: see `sweep.run.bell.Bell.lacked`."""
        for trial_id in process.config["trials"] if process.config["workers"] > 1 else ():
            with suppress(ray.exceptions.RayError):
                why, preempted = ray.get(self._bell.lacked.remote(trial_id), timeout=STOPPING)
                return why, preempted
        return "", ""

    def ended(self, trial_id: str) -> None:
        """A trial has, perhaps by itself before it heard that it was to."""
        if self._ending.pop(trial_id, None) is not None:
            self._tell()

    def ends(self, trial_id: str) -> bool:
        """Whether it has been told to end, and has not yet."""
        process = self._unbegun.get(trial_id)
        return trial_id in self._ending or (process is not None and not process.is_finished())

    def put_back(self, trial: PlannedTrial) -> None:
        """It is the next of its shape."""
        if self._unbegun.pop(trial.id, None) is not None:
            self._tell()
        self._packing.put_back(trial)


def _kill(process: Any) -> None:
    """Ends a process that never hears, such as one that does not give up Python's lock."""
    with suppress(ray.exceptions.RayError, AttributeError, ValueError):  # it has just ended by itself
        ray.kill(process.temporary_state.ray_actor)
