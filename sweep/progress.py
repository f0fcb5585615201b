"""What a run has come to, folded from its records one at a time: the same for the live table and for `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from trainers.fields import number_text
from trainers.record import FINISHED, DynamicsRecord, EpochRecord, dynamics_record, epoch_record, finished, spent

#: Every state of a trial, in the order shown: its outcome, or what the lack of one means.
STATES = (
    *("completed", "diverged", "out_of_memory", "failed", "interrupted"),
    *("running", "waiting", "never_started"),
)


@dataclass
class TrialProgress:
    """One trial: where it stands."""

    id: str
    point: Mapping[str, Any]
    seed: int
    epochs_wanted: int
    config: Mapping[str, Any] = field(default_factory=dict)
    """Its identity."""
    epoch: int = 0
    seen: dict[int, int] = field(default_factory=dict)
    """Epoch -> hash of its newest record, so that a record that comes again is known."""
    measured: dict[int, int] = field(default_factory=dict)
    """The same of the dynamics."""
    last: Mapping[str, Any] = field(default_factory=dict)
    """The record of its newest epoch; empty before the first."""
    begun: bool = False
    """Whether it ever started."""
    started: bool = False
    """Whether it started in the last launch."""
    outcome: str | None = None
    reason: str = ""
    finished: bool = False
    """Whether it has its numbers, every epoch's, and will not run again."""
    seconds: float = 0.0
    """Training, evaluation, waiting for checkpoints and measuring, of every attempt."""
    trained: int = 0
    """Epochs in these seconds: one that was trained twice counts twice."""
    code_version: str | None = None
    device: str | None = None
    """On which it last started: cpu, or the name of a GPU; None: its record does not say."""

    def state(self, live: bool) -> str:
        """Its outcome; where it has none, or lacks an epoch's record, what that means while a launch is live or not."""
        whole = self.finished or self.outcome not in FINISHED
        if self.outcome is not None and whole and (self.finished or self.started or not live):
            return self.outcome
        if live:
            return "running" if self.started else "waiting"
        return "interrupted" if self.begun else "never_started"

    def resumes(self, code_version: str) -> bool:
        """Whether it is begun and goes on from its checkpoint: one of other code begins again."""
        return self.epoch > 0 and not self.finished and self.code_version == code_version

    def has(self, record: EpochRecord | DynamicsRecord) -> bool:
        """Whether this very record is written down already."""
        known = self.seen if isinstance(record, EpochRecord) else self.measured
        return known.get(record.epoch) == hash(record)

    def label(self) -> str:
        """Its point and seed in words: `optimizer.lr=0.1 batch_size=32 seed=0`."""
        return " ".join([*(f"{key}={_short(value)}" for key, value in self.point.items()), f"seed={self.seed}"])


@dataclass
class Progress:
    """All trials of a run, and the launch that runs now or ran last."""

    trials: dict[str, TrialProgress] = field(default_factory=dict)
    size: int = 0
    """Trials that the last launch wanted."""
    wanted: set[str] = field(default_factory=set)
    """Their ids, as far as they are known: Optuna finds them on the way."""
    launched: float = 0.0
    """When the last launch began, s since 1970."""
    chosen_by: Mapping[str, Any] = field(default_factory=dict)
    """metric and mode of the last launch."""
    latest: float = 0.0
    epochs_since_launch: int = 0

    @classmethod
    def of(cls, records: Iterable[Mapping[str, Any]]) -> Self:
        """The progress that a run's records tell."""
        progress = cls()
        for record in records:
            progress.add(record)
        return progress

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in one record."""
        self.latest = max(self.latest, record.get("time", 0.0))
        match record["record"]:
            case "launch":
                self._launch(record)
            case "trial":
                config = record["config"]
                trial = TrialProgress(record["trial_id"], record["point"], record["seed"], config["epochs"], config)
                self.trials.setdefault(trial.id, trial).point = trial.point
                self.wanted.add(trial.id)
            case "start" | "epoch" | "dynamics" | "outcome" if record["trial_id"] in self.trials:
                # Without its trial line, which a user may have deleted as damaged, a record counts for nothing.
                self._trial_record(self.trials[record["trial_id"]], record)

    def _launch(self, record: Mapping[str, Any]) -> None:
        self.size = record["size"]
        self.chosen_by = {key: record[key] for key in ("metric", "mode") if key in record}
        self.wanted = set(record["wanted"])
        self.launched, self.epochs_since_launch = record["time"], 0
        for trial in self.trials.values():
            trial.started = False

    def _trial_record(self, trial: TrialProgress, record: Mapping[str, Any]) -> None:
        if record["record"] == "start":
            trial.begun = trial.started = True
            trial.outcome, trial.reason, trial.finished = None, "", False
            trial.code_version, trial.device = record["code_version"], record.get("device")
        elif record["record"] == "epoch":
            trial.seconds += spent(record)
            trial.trained += 1
            trial.epoch = record["epoch"]
            if trial.epoch >= trial.last.get("epoch", 0):  # not one that was lost and comes late
                trial.last = dict(record)
            trial.seen[trial.epoch] = hash(epoch_record(record))
            self.epochs_since_launch += 1
        elif record["record"] == "dynamics":
            trial.measured[record["epoch"]] = hash(dynamics_record(record))
            trial.seconds += record["seconds"]
        else:
            trial.outcome, trial.reason = record["outcome"], record["reason"]
            if trial.outcome in FINISHED:
                trial.epoch = record["epochs"]
                trial.finished = finished(record, trial.seen)

    def current(self) -> list[TrialProgress]:
        """The trials that the last launch wanted, as far as they are known."""
        return [trial for trial in self.trials.values() if trial.id in self.wanted]

    def running(self) -> list[TrialProgress]:
        """Started in the last launch and not ended: running, if the launch is."""
        return [trial for trial in self.current() if trial.started and trial.outcome is None]

    def counts(self, live: bool = True) -> dict[str, int]:
        """Trials by state, in the order of STATES, none left out; they add up to `size`."""
        counts = Counter(trial.state(live) for trial in self.current())
        counts["waiting" if live else "never_started"] += self.size - counts.total()
        return {state: counts[state] for state in STATES if counts[state]}

    def epochs_left(self) -> int:
        """Epochs still to train, those of trials that are not known yet counted as the known ones'."""
        trials = self.current()
        left = sum(t.epochs_wanted - t.epoch for t in trials if t.state(live=True) in ("running", "waiting"))
        if trials and self.size > len(trials):
            left += round((self.size - len(trials)) * sum(t.epochs_wanted for t in trials) / len(trials))
        return left

    def epochs_per_second(self) -> float | None:
        """Of the last launch, all running trials together; None before its first epoch."""
        seconds = self.latest - self.launched
        return self.epochs_since_launch / seconds if self.epochs_since_launch and seconds > 0 else None

    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first epoch."""
        rate = self.epochs_per_second()
        return self.epochs_left() / rate if rate else None


def _short(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else str(value)
