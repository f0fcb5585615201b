"""One fold of a run's records: what has become of each trial, for the frames and for a launch's progress alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, cast

from analysis.frames.log import Log, Records
from trainers.record import FINISHED, begins_anew, finished

if TYPE_CHECKING:
    from analysis.frames.columns import Epochs, Lines


@dataclass
class TrialHistory:
    """One trial: what its records so far tell."""

    id: str
    number: int
    config: Mapping[str, Any]
    seed: int
    point: Mapping[str, Any]
    """As it was planned last."""
    planned: int = field(default=0, compare=False)
    """Where in the log it was planned first."""
    swept: dict[str, Any] = field(default_factory=dict)
    """The points of all launches that planned it."""
    seen: dict[int, float] = field(default_factory=dict)
    """Epoch -> seconds of its newest record."""
    measured: dict[int, float] = field(default_factory=dict)
    """The same of the dynamics."""
    attempts: int = 0
    starts: list[Mapping[str, Any]] = field(default_factory=list, compare=False, repr=False)
    start: Mapping[str, Any] = field(default_factory=dict)
    """Its last start."""
    began: int = field(default=0, compare=False)
    """Where in the log that stands."""
    end: Mapping[str, Any] = field(default_factory=dict)
    """Its last outcome; empty again once it starts after that."""
    from_trial: str | None = None
    """The shorter trial from whose end it went on; None: none."""
    handed_on: int = 0
    """Its first so many epochs are that one's, with the seconds that were measured there."""
    anew: int = field(default=-1, compare=False)
    """Where in the log it stands that it begins again at its first epoch, as by `sweep rerun`; -1: nowhere."""
    finished: bool = False
    """Whether it has its numbers, every epoch's, and will not run again."""

    def add(self, record: Mapping[str, Any], place: int = 0) -> None:
        """Takes in one of its starts, resumptions, epochs, measurements or outcomes.

        Args:
            record: whose kind is under `record`.
            place: in the log.
        """
        match record["record"]:
            case "epoch":
                self.seen[record["epoch"]] = record["seconds"]
            case "dynamics":
                self.measured[record["epoch"]] = record["seconds"]
            case "start" if record in self.starts:
                pass  # a line that stands twice is one start
            case "start":
                self.starts.append(record)
                self.attempts, self.start, self.began, self.end = self.attempts + 1, record, place, {}
            case "outcome":
                self.end = record
                if begins_anew(record):
                    self.from_trial, self.handed_on, self.anew, self.measured = None, 0, place, {}
            case "resume" if record.get("from_trial") or record["epoch"] < self.handed_on:
                self.from_trial, self.handed_on = record.get("from_trial"), record["epoch"]
        self.finished = finished(self.end, self.seen)

    def take_up(self) -> None:
        """A launch trains it to its end, though a stopping rule had ended it."""
        if self.outcome == "pruned":
            self.end = {}

    @property
    def taken_back(self) -> int:
        """Up to where in the log its epochs count no longer, until it has its numbers once more; -1: all count."""
        return -1 if self.finished else self.anew

    def is_handed_on(self, record: Mapping[str, Any]) -> bool:
        """Whether an epoch, or what was measured at its end, was trained by the shorter trial."""
        return bool(0 < self.handed_on >= record.get("epoch", math.inf))

    @property
    def ended(self) -> bool:
        """Whether its last outcome is one after which a trial has its numbers, though some may be lost."""
        return self.end.get("outcome") in FINISHED

    @property
    def missing(self) -> list[int]:
        """Of a trial that ended, the epochs without a record."""
        lost = self.ended and not self.finished
        return [epoch for epoch in range(1, self.end["epochs"] + 1) if epoch not in self.seen] if lost else []

    @property
    def outcome(self) -> str | None:
        """Its name; None before there is one."""
        return self.end.get("outcome")

    @property
    def reason(self) -> str:
        """Of the outcome."""
        return str(self.end.get("reason", ""))


def handed_on(log: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """By the id of each trial that went on from a shorter one's end, how many of its first epochs are that one's.

    Args:
        log: of a run; epochs need not be among it.
    """
    known: dict[str, int] = {}
    for one in log:
        if one["record"] == "resume" and (one.get("from_trial") or one["epoch"] < known.get(one["trial_id"], 0)):
            known[one["trial_id"]] = one["epoch"]
        elif one["record"] == "outcome" and begins_anew(one):
            known.pop(one["trial_id"], None)
    return known


Trial = TypeVar("Trial", bound=TrialHistory)


@dataclass
class History(Generic[Trial]):
    """All trials of a run, in the order planned first."""

    trial_class: ClassVar[type[TrialHistory]] = TrialHistory
    """Of its trials."""
    trials: dict[str, Trial] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    """Ids of those that the last launch wanted, as far as they are known: Optuna finds them on the way."""
    newest: Lines = field(init=False, compare=False, repr=False)
    """The epochs' lines of the log that it was made of, by trial and epoch."""

    @classmethod
    def of(cls, records: Records) -> Self:
        """The history that a run's records tell."""
        history = cls()
        for place, record in zip(records.places if isinstance(records, Log) else count(), records, strict=False):
            history.add(record, place)
        if isinstance(records, Log):
            planned = [trial.planned for trial in history.trials.values()]
            history.add_epochs(records.epochs, records.epochs.lines(list(history.trials), planned))
        return history

    def add(self, record: Mapping[str, Any], place: int = 0) -> None:
        """Takes in one record; without its trial's own line, which a user may have deleted, it counts for nothing.

        Args:
            record: whose kind is under `record`.
            place: in the log.
        """
        match record["record"]:
            case "launch":
                self.wanted = set(record["wanted"])
                for name in record.get("taken_up", ()):
                    if name in self.trials:
                        self.trials[name].take_up()
            case "trial":
                self._plan(record, place)
            case "start" | "resume" | "epoch" | "dynamics" | "outcome" if record["trial_id"] in self.trials:
                self.trials[record["trial_id"]].add(record, place)

    def _plan(self, record: Mapping[str, Any], place: int) -> None:
        """A trial that is planned again, by a launch with more axes, keeps its number and gains these."""
        name, point = record["trial_id"], record["point"]
        if name not in self.trials:
            known = {key: record[key] for key in ("number", "config", "seed", "point")}
            self.trials[name] = cast(Trial, self.trial_class(name, **known, planned=place))
        self.trials[name].point = point
        self.trials[name].swept.update(point)
        self.wanted.add(name)

    def add_epochs(self, epochs: Epochs, lines: Lines) -> None:
        """Takes in all epochs of a log at once, after its other records.

        Args:
            epochs: of the log.
            lines: those that belong to its trials.
        """
        self.newest = newest = epochs.newest(lines)
        numbers, seconds = (epochs.numbers(name)[newest.rows].tolist() for name in ("epoch", "seconds"))
        pairs = zip(map(int, numbers), seconds, strict=True)
        for trial, epochs_of_trial in zip(self.trials.values(), newest.sums(len(self.trials)), strict=True):
            trial.seen = dict(islice(pairs, epochs_of_trial))
            trial.finished = finished(trial.end, trial.seen)
