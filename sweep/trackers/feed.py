"""What a run's records say and its tracker has not been sent, sent, trial after trial."""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, Self

from analysis.frames.history import History, TrialHistory
from analysis.frames.notes import Written
from sweep.config_file import mapping
from sweep.run.directory import CONFIG_FILE, RunLock, sweep_name
from sweep.trackers.cursor import FOLDER, Cursor, Sent
from sweep.trackers.tail import Tail
from sweep.trackers.updates import Tracker, Update, tracker
from sweep.watchers import TRACKERS, TrackerConfig
from trainers.errors import UserError, validated
from trainers.record import begins_anew
from trainers.visible import in_line


class Count(NamedTuple):
    """What was sent."""

    trials: int
    epochs: int


class Feed:
    """Sends a tracker what is new of every trial that has begun."""

    def __init__(self, directory: Path, sweep: str, cursor: Cursor, to: Tracker) -> None:
        """Sends nothing yet.

        Args:
            directory: of the run.
            sweep: its name.
            cursor: of the tracker.
            to: the tracker.
        """
        self._sweep, self._cursor, self._to = sweep, cursor, to
        self._tail, self._history = Tail(directory), History[TrialHistory]()
        self._epochs: dict[str, dict[int, Mapping[str, Any]]] = defaultdict(dict)
        """Records that are not sent yet."""
        self._notes: dict[str, Written] = {}
        self._ended: set[str] = set()
        """Trials that have had an outcome."""
        self._times: dict[str, float] = {}
        self._due: dict[str, None] = {}
        """Trials of which there may be something new, in the order heard of."""
        self._last: deque[Update] = deque()
        """Why runs have ended in whose place others come, unless they have been sent that."""
        self._begun: Counter[str] = Counter()
        """How often each was begun anew, its epochs trained and measured once more."""
        self._trained: set[str] = set()
        """Trials that have epochs since they began, or began anew."""
        self._given_up: set[str] = set()
        """Trials whose epochs count no more; the next time they start they begin anew."""

    @classmethod
    @contextmanager
    def opened(cls, directory: Path, config: TrackerConfig, holder: str) -> Iterator[Self]:
        """A block in which this process, and no other, sends a run's records to a tracker.

        Args:
            directory: of the run.
            config: of the tracker.
            holder: how this process names itself to others.

        Raises:
            UserError: another process sends, the program is not installed, or the disk does not take what it was sent.
        """
        sweep = sweep_name(directory) or directory.absolute().name
        (directory / FOLDER).mkdir(exist_ok=True)
        with RunLock(lock_folder(directory, config.name), holder), Cursor.opened(directory, config.name) as cursor:
            to = tracker(config, directory, sweep)
            try:
                yield cls(directory, sweep, cursor, to)
            finally:
                to.close()

    def look(self) -> Count:
        """Sends all that is there now; who is stopped in the middle goes on from there.

        Raises:
            UserError: a line of the records is damaged.
            Exception: the tracker's own.
        """
        for record in self._tail.new():
            self._hear(record)
        trials = epochs = 0
        while self._last:
            self._send(self._last[0])
            self._last.popleft()
        for trial in list(self._due):
            update = self._update(self._history.trials[trial])
            if update.epochs or update.facts != self._sent(trial).facts:
                self._send(update)
                trials, epochs = trials + 1, epochs + len(update.epochs)
            for epoch in update.epochs:
                del self._epochs[trial][epoch["epoch"]]
            del self._due[trial]
        return Count(trials, epochs)

    def _send(self, update: Update) -> None:
        run = self._to.send(update)
        self._cursor.add(update.trial, run, (epoch["epoch"] for epoch in update.epochs), update.facts, update.begun)

    def _sent(self, trial: str) -> Sent:
        """What was sent of a trial since it was begun, or begun anew."""
        sent = self._cursor.of(trial)
        return sent if sent.begun == self._begun[trial] else Sent()

    def _begin_anew(self, trial: str) -> None:
        """What comes from now on is of another run; the one before is to hear why it ended."""
        last, sent = self._update(self._history.trials[trial]), self._sent(trial)
        if sent.run and last.facts != sent.facts:
            self._last.append(last)
        for known in (self._given_up, self._trained, self._ended):
            known.discard(trial)
        self._begun[trial] += 1

    def _hear(self, record: Mapping[str, Any]) -> None:
        if record["record"] == "start" and record["trial_id"] in self._given_up:
            self._begin_anew(record["trial_id"])
        self._history.add(record)
        trial = self._history.trials.get(record.get("trial_id", ""))
        if trial is None:
            return
        self._times[trial.id] = record.get("time", self._times.get(trial.id, 0.0))
        if record["record"] == "note":
            self._notes.setdefault(trial.id, Written()).add(record)
        if record["record"] == "outcome":
            self._ended.add(trial.id)
            if begins_anew(record) and trial.id in self._trained:
                self._given_up.add(trial.id)
                self._epochs.pop(trial.id, None)
        if record["record"] == "epoch":
            self._trained.add(trial.id)
            if not self._had(trial.id, record["epoch"]):
                self._epochs[trial.id][record["epoch"]] = record
        if trial.attempts or trial.end:
            self._due[trial.id] = None

    def _had(self, trial: str, epoch: int) -> bool:
        """Whether the tracker has an epoch, or has been sent what was trained in its place."""
        sent = self._cursor.of(trial)
        return sent.begun > self._begun[trial] or epoch in self._sent(trial).epochs

    def _update(self, trial: TrialHistory) -> Update:
        tags = {key: str(trial.start[key]) for key in ("host", "device", "code_version") if key in trial.start}
        tags |= {"trial": trial.id, "sweep": self._sweep}
        if (written := self._notes.get(trial.id)) is not None:
            tags |= {"note": written.note, "tags": ", ".join(written.tags)}
        if trial.outcome or trial.id in self._ended:  # empty while one that was interrupted goes on
            tags |= {"outcome": trial.outcome or "", "reason": trial.reason}
        return Update(
            trial=trial.id,
            sweep=self._sweep,
            token=self._cursor.token,
            begun=self._begun[trial.id],
            run=self._sent(trial.id).run,
            params={**trial.swept, "seed": trial.seed},
            tags={key: in_line(value) for key, value in tags.items()},
            epochs=[epoch for _, epoch in sorted(self._epochs[trial.id].items())],
            outcome=trial.outcome or "",
            time=self._times[trial.id],
        )


def lock_folder(directory: Path, name: str) -> Path:
    """What is held by the one process that sends a run's records to a tracker."""
    return directory / FOLDER / name


def configured(directory: Path) -> dict[str, TrackerConfig]:
    """The trackers of a run's config, by name.

    Raises:
        UserError: it cannot be read, or one of them is not as it must be.
    """
    path = directory / CONFIG_FILE
    each = mapping(path).get("trackers", ()) if path.exists() else ()
    trackers = [validated(TrackerConfig, values, f"{path}: trackers") for values in each]
    return {tracker.name: tracker for tracker in trackers}


def named(directory: Path, name: str) -> TrackerConfig:
    """A tracker of a run's config, or, where that has none of this name, one with nothing set.

    Raises:
        UserError: there is no such tracker.
    """
    if name not in TRACKERS:
        raise UserError(f"{name}: is no tracker; give one of {', '.join(TRACKERS)}")
    return configured(directory).get(name) or TrackerConfig.model_validate({"name": name})
