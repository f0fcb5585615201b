"""What a run has come to, folded from its records one at a time: the same for the live table and for `status`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from analysis.frames.history import History, TrialHistory
from sweep.share import Share
from trainers.fields import number_text, plural
from trainers.record import METRICS, begins_anew, spent, written

if TYPE_CHECKING:
    from analysis.frames.columns import Epochs, Lines

#: Every state of a trial, in the order shown: its outcome, or what the lack of one means.
STATES = (
    *("completed", "pruned", "diverged", "out_of_memory", "failed", "preempted", "interrupted", "paused", "cancelled"),
    *("running", "waiting", "never_started"),
)


Live: TypeAlias = bool | Collection[Share]
"""Whether a launch of all trials is live; or which shares' are."""

#: Of a trial that a live launch runs, or will yet.
TO_COME = ("running", "waiting", "paused")

#: Trials of which a line names the ids.
_NAMED = 3

#: What is known of a trial's newest epoch.
_LAST: tuple[str, ...] = ("epoch", *METRICS, "engine", "engine_reason", "peak_memory_bytes")


@dataclass
class TrialProgress(TrialHistory):
    """One trial: where it stands."""

    epoch: int = 0
    """Of its newest record, or that it ended with."""
    last: Mapping[str, Any] = field(default_factory=dict)
    """Number, metrics, engine and memory of its newest epoch; empty before the first."""
    started: bool = False
    """Whether it started in the last launch."""
    seconds: float = 0.0
    """Training, evaluation, waiting for checkpoints and measuring, of every attempt; but of epochs that are a shorter
    trial's, which took them there."""
    counted_seconds: float = field(default=0.0, compare=False)
    """The same of the epochs that count, a shorter trial's too, and nothing of measuring."""
    _took: dict[int, float] = field(default_factory=dict, compare=False, repr=False)
    """Epoch -> what its newest line says it took, s; of a trial that is not finished."""
    ended_place: int = field(default=-1, compare=False)
    """Where in the log its last outcome stands that says how many epochs it has."""
    trained: int = 0
    """Epochs in these seconds: one that was trained twice counts twice."""
    left_out: bool = False
    """Whether the last launch does not run it again: for want of memory, or because it was cancelled or pruned."""

    @property
    def epochs_wanted(self) -> int:
        """Of the whole trial."""
        return int(self.config.get("epochs", 0))

    @property
    def whole_seconds(self) -> float:
        """What the trial took, without what was trained twice; once it has its numbers, `seconds` of
        `analysis.frames.trials`."""
        return self.counted_seconds + sum(self.measured.values())

    @property
    def begun(self) -> bool:
        """Whether it ever started."""
        return self.attempts > 0

    @property
    def cancelled(self) -> bool:
        """Whether a user ended it, or took it out of the line."""
        return self.outcome == "cancelled"

    @property
    def pruned(self) -> bool:
        """Whether a stopping rule ended it, and no launch has taken it up again since."""
        return self.outcome == "pruned"

    @property
    def settled(self) -> bool:
        """Whether no launch runs it again that is not asked to."""
        return self.finished or self.cancelled or self.pruned

    @property
    def is_over(self) -> bool:
        """Whether it is settled and the last launch does not run it: `--again` takes up what was cancelled before."""
        return self.finished or self.pruned or (self.cancelled and self.left_out)

    @property
    def code_version(self) -> str | None:
        """Of its last start."""
        return self.start.get("code_version")

    @property
    def device(self) -> str | None:
        """Of its last start: cpu, or the name of a GPU; None: its record does not say."""
        return self.start.get("device")

    def add(self, record: Mapping[str, Any], place: int = 0) -> None:
        """Takes in one of its records."""
        super().add(record, place)
        match record["record"]:
            case "start":
                self.started = True
            case "epoch":
                if not self.is_handed_on(record):
                    self.trained += 1
                    self.seconds += spent(record)
                self._count_seconds(record["epoch"], spent(record))
                self.epoch = record["epoch"]
                if self.epoch >= self.last.get("epoch", 0):  # not one that was lost and comes late
                    self.last = {name: record.get(name) for name in _LAST}
            case "dynamics" if not self.is_handed_on(record):
                self.seconds += record["seconds"]
            case "outcome":
                self.left_out = self.cancelled or self.pruned or (self.left_out and self.outcome == "out_of_memory")
                if self.ended or self.outcome == "interrupted":  # which may have lost its epochs: `sweep rerun`
                    self.epoch, self.ended_place = record["epochs"], place
                if begins_anew(record):
                    self.last = {}

    def _count_seconds(self, epoch: int, seconds: float) -> None:
        """Adds an epoch's; of one that is trained anew the newest counts."""
        self.counted_seconds += seconds - self._took.get(epoch, 0.0)
        self._took[epoch] = seconds

    def state(self, live: bool) -> str:
        """Its outcome; where it has none, or lacks an epoch's record, what that means while a launch is live or not."""
        whole = self.finished or not self.ended
        again = live and self.outcome == "preempted"  # this launch runs it again
        if self.outcome is not None and whole and (self.finished or self.started or self.left_out or not live):
            return "waiting" if again else self.outcome
        if live:
            return "running" if self.started else "waiting"
        return "interrupted" if self.begun else "never_started"

    def needs_more_than(self, capacity: float) -> bool:
        """Whether it ran out of memory alone, and where it had no less than this, bytes."""
        alone = self.outcome == "out_of_memory" and bool(self.end.get("alone"))
        return alone and (self.start.get("capacity_bytes") or 0.0) >= capacity

    def resumes(self, code_version: str) -> bool:
        """Whether it is begun and goes on from its checkpoint: one of other code begins again."""
        return self.epoch > 0 and not self.finished and self.code_version == code_version

    def has(self, message: Mapping[str, Any]) -> bool:
        """Whether this very epoch, or its dynamics, is written down already.

        Its seconds, which are measured to the nanosecond, tell it from the same epoch trained or measured anew.
        """
        known = {"epoch": self.seen, "dynamics": self.measured}.get(message["record"], {})
        return message.get("epoch") in known and known[message["epoch"]] == message["seconds"]

    def where(self) -> str:
        """Its point in words: `optimizer.lr=0.1 batch_size=32`."""
        return " ".join(f"{key}={_short(value)}" for key, value in self.point.items())

    def label(self) -> str:
        """Its point and seed in words: `optimizer.lr=0.1 batch_size=32 seed=0`."""
        return f"{self.where()} seed={self.seed}".lstrip()


@dataclass
class Pace:
    """How fast a launch goes."""

    began: float
    """When its first trial did, s since 1970; until one does, when the launch did."""
    latest: float
    """When it wrote its newest line."""
    place: int = field(compare=False)
    """Where it stands in the log."""
    epochs: int = 0
    """Since it began."""
    under_way: bool = False
    """Whether a trial has begun: what comes before, as Ray's own start, is no part of how fast they go."""


@dataclass
class Progress(History[TrialProgress]):
    """All trials of a run, and the launch that runs now or ran last; or those of shares."""

    trial_class = TrialProgress
    share: Share | None = None
    """Of whose trials it tells; none: of all."""
    size: int = 0
    """Trials that the last launch wanted."""
    chosen_by: Mapping[str, Any] = field(default_factory=dict)
    """metric and mode of the last launch."""
    paces: dict[Share | None, Pace] = field(default_factory=dict)
    """Of the last launch; or of the last of each share, all shares of one number."""
    latest: float = 0.0
    """How late the latest line of all is, s since 1970: `trainers.record.written`."""
    _counted: Counter[str] | None = field(default=None, init=False, compare=False, repr=False)
    """The wanted trials by state while a launch is live, kept from the first question on; none: not asked yet."""

    def add(self, record: Mapping[str, Any], place: int = 0) -> None:
        """Takes in one record."""
        self.latest = max(self.latest, written(record))
        self._count(record, -1)
        super().add(record, place)
        self._count(record, 1)
        if record["record"] == "launch":
            self._launch(record, place)
        elif (pace := self.paces.get(self._launched_by(name := record.get("trial_id", "")))) is not None:
            pace.latest = max(pace.latest, record.get("time", 0.0))
            if record["record"] == "start" and not pace.under_way:
                pace.began, pace.under_way = max(pace.began, record.get("time", 0.0)), True
            trained = record["record"] == "epoch" and name in self.trials
            pace.epochs += trained and not self.trials[name].is_handed_on(record)

    def _launched_by(self, trial_id: str) -> Share | None:
        """The share whose launch a trial is run by; none: by one of all trials."""
        any_share = next(iter(self.paces), None)
        return None if any_share is None else Share.that_has(trial_id, any_share.count)

    def _count(self, record: Mapping[str, Any], more: int) -> None:
        """Counts the record's trial as one more, or less, of its state: a long run need not be looked through anew."""
        trial = self.trials.get(record.get("trial_id", ""))
        if record["record"] == "launch":
            self._counted = None
        elif self._counted is not None and trial is not None and self._is_current(trial.id):
            self._counted[trial.state(live=True)] += more

    def _launch(self, record: Mapping[str, Any], place: int) -> None:
        share = Share.of(record["shard"]) if "shard" in record else None
        if share is None or any(one is None or one.count != share.count for one in self.paces):
            self.paces = {}
        self.paces[share] = Pace(record["time"], record["time"], place)
        self.size = record["size"] if self.share is None else sum(map(self.share.has, record["wanted"]))
        self.chosen_by = {key: record[key] for key in ("metric", "mode") if key in record}
        left_out = set(record.get("left_out", ()))
        for trial in self.trials.values():
            if share is None or share.has(trial.id):
                trial.started, trial.left_out = False, trial.id in left_out

    def add_epochs(self, epochs: Epochs, lines: Lines) -> None:
        """Takes in all epochs of a log at once, after its other records."""
        super().add_epochs(epochs, lines)
        self._counted = None
        trials, places, numbers = list(self.trials.values()), epochs.numbers("place"), epochs.numbers("epoch")
        self.latest = max(self.latest, epochs.latest())
        here = epochs.beyond(lines, [trial.handed_on for trial in trials])
        for share, pace in self.paces.items():
            own = here if share is None else here.of_trials([share.has(trial.id) for trial in trials])
            pace.latest = max(pace.latest, epochs.latest(pace.place, None if share is None else own))
            pace.epochs = int((places[own.rows] > pace.place).sum())
        seconds, trained = here.sums(len(trials), epochs.spent()[here.rows]), here.sums(len(trials))
        for trial, of_epochs, count in zip(trials, seconds, trained, strict=True):
            trial.seconds, trial.trained = trial.seconds + of_epochs, count
        self._count_newest(epochs)
        newest = epochs.after(self.newest, [trial.anew for trial in trials]).last()
        for number, last in zip(newest, epochs.rows(list(newest.values()), _LAST), strict=True):
            trials[number].last = {**last, "epoch": int(last["epoch"])}
        for number, row in lines.last().items():
            if places[row] > trials[number].ended_place:
                trials[number].epoch = int(numbers[row])

    def _count_newest(self, epochs: Epochs) -> None:
        """What each trial took in the epochs that count; of those that are not finished also of each epoch."""
        took = epochs.spent()[self.newest.rows]
        each, start = self.newest.sums(len(self.trials)), 0
        for trial, number in zip(self.trials.values(), each, strict=True):
            own = took[start : start + int(number)].tolist()
            start += int(number)
            trial.counted_seconds = sum(own)
            trial._took = {} if trial.finished else dict(zip(trial.seen, own, strict=True))

    def of_share(self, share: Share) -> Progress:
        """What it tells of one share's trials, and of its launch."""
        one = copy(self)
        one.share, one.size, one._counted = share, sum(map(share.has, self.wanted)), None
        return one

    def among(self, ids: Iterable[str]) -> Progress:
        """What it tells of these trials, nothing of how fast their launch goes, which runs others too."""
        one = copy(self)
        one.wanted, one.paces, one._counted = self.wanted & set(ids), {}, None
        one.size = len(one.wanted)
        return one

    def _is_current(self, trial_id: str) -> bool:
        return trial_id in self.wanted and (self.share is None or self.share.has(trial_id))

    def current(self) -> list[TrialProgress]:
        """The trials that the last launch wanted, as far as they are known."""
        return [trial for trial in self.trials.values() if self._is_current(trial.id)]

    def beside(self, wanted: Collection[str]) -> list[TrialProgress]:
        """The trials that have begun, here or in another launch, and are none of these."""
        return [trial for trial in self.trials.values() if trial.begun and trial.id not in wanted]

    def needing_more(self) -> list[TrialProgress]:
        """Those of them that a launch runs again only where there is more memory than they had, or where asked to."""
        return [trial for trial in self.current() if trial.needs_more_than(1)]

    def cancelled(self) -> list[TrialProgress]:
        """Those of them that a user has cancelled."""
        return [trial for trial in self.current() if trial.cancelled]

    def pruned(self) -> list[TrialProgress]:
        """Those of them that a stopping rule ended."""
        return [trial for trial in self.current() if trial.pruned]

    def failed(self, live: Live) -> dict[str, str]:
        """The reason of each of them that has failed and that no live launch is about to try again, by its id."""
        current = (trial for trial in self.current() if trial.outcome == "failed")
        return {trial.id: trial.reason for trial in current if trial.state(_is_run(trial.id, live)) == "failed"}

    def left_out(self) -> list[TrialProgress]:
        """Those of them that no launch runs again that is not asked to, though they have not finished."""
        return [*self.pruned(), *self.needing_more(), *self.cancelled()]

    def running(self, live: Live = True) -> list[TrialProgress]:
        """Started in the last launch and not ended: running, if the launch is."""
        current = (trial for trial in self.current() if trial.started and trial.outcome is None)
        return [trial for trial in current if _is_run(trial.id, live)]

    def counts(self, live: Live = True) -> dict[str, int]:
        """Trials by state, in the order of STATES, none left out; they add up to `size`."""
        if live is True and self._counted is None:
            self._counted = self._states(live)
        counts = Counter(self._counted if live is True and self._counted is not None else self._states(live))
        unknown = self.size - counts.total()
        if not isinstance(live, bool):
            counts["waiting"] += (soon := sum(_is_run(name, live) for name in self.wanted - self.trials.keys()))
            unknown -= soon
        counts["waiting" if live is True else "never_started"] += unknown
        return {state: counts[state] for state in STATES if counts[state]}

    def _states(self, live: Live) -> Counter[str]:
        return Counter(trial.state(_is_run(trial.id, live)) for trial in self.current())

    def epochs_left(self) -> int:
        """Epochs still to train, those of trials that are not known yet counted as the known ones'.

        What was interrupted goes on, if not in this launch then in the next.
        """
        trials, to_come = self.current(), (*TO_COME, "interrupted")
        left = sum(t.epochs_wanted - t.epoch for t in trials if t.state(live=True) in to_come)
        if trials and self.size > len(trials):
            left += round((self.size - len(trials)) * sum(t.epochs_wanted for t in trials) / len(trials))
        return left

    def epochs_per_second(self) -> float | None:
        """Of the last launch, all running trials together; None before its first epoch."""
        if (pace := self.paces.get(self.share)) is None:
            return None
        seconds = pace.latest - pace.began
        return pace.epochs / seconds if pace.epochs and seconds > 0 else None

    def seconds_left(self) -> float | None:
        """At the rate so far; None before the first epoch."""
        rate = self.epochs_per_second()
        return self.epochs_left() / rate if rate else None


def _is_run(trial_id: str, live: Live) -> bool:
    """Whether a trial is one of those that a live launch runs."""
    return live if isinstance(live, bool) else any(share.has(trial_id) for share in live)


def out_of_memory_line(trials: Sequence[TrialProgress]) -> str:
    """What is said of trials that are not run again, for want of memory."""
    most = max(trial.start["capacity_bytes"] for trial in trials)
    return (
        f"{_are(trials)} out_of_memory for good, alone on {most / 2**30:.1f} GiB: {_names(trials)}; only "
        "more memory, or sweep launch --again, runs such a trial again"
    )


def cancelled_line(trials: Sequence[TrialProgress]) -> str:
    """What is said of trials that a user has cancelled."""
    return (
        f"{_are(trials)} cancelled: {_names(trials)}; sweep cancel --undo, or sweep launch --again, runs such a trial"
    )


def pruned_line(trials: Sequence[TrialProgress]) -> str:
    """What is said of trials that a stopping rule ended."""
    wanted = sum(trial.epochs_wanted for trial in trials)
    saved = wanted - sum(trial.end["epochs"] for trial in trials)
    return (
        f"{_are(trials)} pruned: {_names(trials)}, which saves {saved} of their {plural(wanted, 'epoch')}; "
        "sweep launch --resume-pruned trains them to their end"
    )


def left_out_lines(trials: Sequence[TrialProgress]) -> list[str]:
    """What is said of trials that a launch does not run again, by why."""
    kinds = (
        (cancelled_line, [t for t in trials if t.cancelled]),
        (pruned_line, [t for t in trials if t.pruned]),
        (out_of_memory_line, [t for t in trials if not t.cancelled and not t.pruned]),
    )
    return [line(some) for line, some in kinds if some]


def _are(trials: Sequence[TrialProgress]) -> str:
    return f"{plural(len(trials), 'trial')} {'is' if len(trials) == 1 else 'are'}"


def _names(trials: Sequence[TrialProgress]) -> str:
    return ", ".join(trial.id for trial in trials[:_NAMED]) + (", ..." if len(trials) > _NAMED else "")


def _short(value: Any) -> str:
    return number_text(value) if isinstance(value, float) else str(value)
