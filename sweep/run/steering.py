"""What users ask of a launch while it runs (`sweep.run.requests`), done: with Ray, serially, and in each share."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console

from sweep.progress import TO_COME
from sweep.run import requests
from sweep.run.requests import Asked, Requests
from sweep.run.screen import say
from sweep.run.signals import Interrupts
from sweep.storage.cache import typed
from trainers.fields import number_text
from trainers.visible import in_line

if TYPE_CHECKING:  # lest each process of a trial load the plan
    from collections.abc import Callable

    from sweep.run.journal import Journal
    from sweep.search.trials import PlannedTrial


class Trials(Protocol):
    """The trials of a launch, as far as they can be steered."""

    def hold(self, at_once: int | None, paused: bool) -> None:
        """At most so many run at a time from now on, None: as the config says; paused: none, those that run stop."""

    def cancel(self, trial_id: str) -> bool:
        """Has a trial end now, or takes it out of the line; asked again until it is true: nothing of it runs."""

    def ends(self, trial_id: str) -> bool:
        """Whether it has been told to end, and has not yet."""

    def put_back(self, trial: PlannedTrial) -> None:
        """A trial that this launch has passed by is to run after all."""


class Steering:
    """Looks at what is asked for, twice a second at most, and has it done."""

    def __init__(self, journal: Journal, console: Console, interrupts: Interrupts) -> None:
        """Looks at nothing yet.

        Args:
            journal: of the launch.
            console: is told what changes.
            interrupts: a signal cuts nothing in two.
        """
        self._journal, self._console, self._interrupts = journal, console, interrupts
        self._requests = Requests(journal.directory)
        self._known = Asked()
        self._noted: set[str] = set()
        """Names of the notes that are written down."""
        self._trials: Trials | None = None

    def steer(self, trials: Trials) -> None:
        """These from now on; what is asked for already holds before any of them begins."""
        self._trials = trials
        self.look()

    def is_paused(self) -> bool:
        """Whether nothing is to run."""
        return bool(self._known.paused)

    def look(self) -> None:
        """Does what is asked for, if anything has changed."""
        if self._trials is None:
            return
        asked, known = self._requests.look(), self._known
        with self._interrupts.held():
            self._hold(self._trials, asked)
            for trial_id in asked.cancel:
                self._cancel(self._trials, trial_id)
            for trial_id in asked.undo:
                self._undo(self._trials, trial_id)
            for name, note in asked.notes.items():
                self._note(name, note)
        self._known = asked
        for line in self._changes(known, asked):
            say(self._console, line)

    def _hold(self, trials: Trials, asked: Asked) -> None:
        counts = self._journal.progress.counts() if asked.paused else {}
        self._journal.epoch_timeout = asked.settings.get("resources.epoch_timeout")
        trials.hold(asked.settings.get("max_concurrent"), any(counts.get(state) for state in TO_COME))

    def _cancel(self, trials: Trials, trial_id: str) -> None:
        trial = self._journal.progress.trials.get(trial_id)
        if trial is None or not self._journal.runs(trial_id):
            return
        if not trial.is_over:
            if not trials.cancel(trial_id):
                return
            self._journal.cancel(trial_id)
        requests.done(self._journal.directory, trial_id, undo=False)

    def _undo(self, trials: Trials, trial_id: str) -> None:
        trial = self._journal.progress.trials.get(trial_id)
        if trial is None or not self._journal.runs(trial_id) or trials.ends(trial_id):
            return
        if trial.cancelled and (planned := self._journal.taken_back(trial_id)) is not None:
            trials.put_back(planned)
        requests.done(self._journal.directory, trial_id, undo=True)

    def _note(self, name: str, note: Mapping[str, Any]) -> None:
        """Writes a note down once: what is asked for is read anew only now and then, and its file may not go."""
        if self._journal.runs(note["trial_id"]) and name not in self._noted:
            self._noted.add(name)
            self._journal.note(note)
            requests.taken(self._journal.directory, name)

    def _changes(self, before: Asked, now: Asked) -> Iterator[str]:
        """What is to be said, in lines."""
        run = typed(self._journal.directory)
        if now.paused and not before.paused:
            since = f"paused since {in_line(now.paused, requests.SHOWN)}"
            yield f"{since}: trials that run stop at their next epoch, none starts; `sweep resume {run}` goes on"
        if before.paused and not now.paused:
            yield "goes on after the pause"
        for key in sorted({*before.settings, *now.settings}):
            if before.settings.get(key) != now.settings.get(key):
                value = number_text(now.settings[key]) if key in now.settings else "as in the config again"
                yield f"{key}: {value}, by `sweep set {run} {key}=...`"
        for key, why in now.refused.items():
            if why != before.refused.get(key):
                yield f"{key}: {why}"


class Cancelled(BaseException):
    """The trial that a serial launch runs is to end now."""


class OneByOne:
    """The trials of a serial launch."""

    def __init__(self, journal: Journal, each_step: Callable[[], None]) -> None:
        """None is given out yet.

        Args:
            journal: gives them.
            each_step: called several times a second while nothing runs for a pause; looks at what is asked for.
        """
        self._journal, self._each_step = journal, each_step
        self._running: str | None = None
        self._paused = False

    def __iter__(self) -> Iterator[PlannedTrial]:
        """One after another; waits while they are paused."""
        while (trial := self._journal.next()) is not None:
            while self._paused:
                time.sleep(requests.PAUSE / 2)
                self._each_step()
            if self._journal.progress.trials[trial.id].left_out:
                self._journal.set_aside(trial)
            else:
                yield trial

    @contextmanager
    def running(self, trial: PlannedTrial) -> Iterator[None]:
        """A block in which this one runs; it ends where the trial is cancelled."""
        self._running = trial.id
        try:
            yield
        except Cancelled:
            self._journal.set_aside(trial)
            self._journal.cancel(trial.id)
        finally:
            self._running = None
        if self._journal.progress.trials[trial.id].outcome == "paused":
            self._journal.put_back(trial)

    def is_paused(self) -> bool:
        """Whether the one that runs is to stop at its next epoch."""
        return self._paused

    def is_pruned(self) -> bool:
        """Whether a stopping rule has ended the one that runs."""
        return self._running is not None and self._journal.progress.trials[self._running].pruned

    def hold(self, at_once: int | None, paused: bool) -> None:
        """Only the pause matters: there is one at a time."""
        self._paused = paused

    def cancel(self, trial_id: str) -> bool:
        """Raises Cancelled where that one runs, in the midst of whatever it is; its process is then ended."""
        if trial_id == self._running:
            raise Cancelled
        return True

    def ends(self, trial_id: str) -> bool:
        """It ends at once."""
        return False

    def put_back(self, trial: PlannedTrial) -> None:
        """It is the next."""
        self._journal.put_back(trial)
