"""What was planned, and what it took: trials, epochs, time, by the records alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from pandas import DataFrame

from analysis.frames.history import History, TrialHistory
from analysis.frames.log import Log
from analysis.report.markup import Html, element, joined, table
from analysis.tables.trials import outcome_line
from trainers.fields import plural

#: Kinds of records that are no launch's.
_AFTERWARDS = frozenset({"evaluation", "check", "note"})

#: Outcomes after which a trial has trained all that it is to train.
_ENDED = ("completed", "diverged", "pruned")


class Work(NamedTuple):
    """Epochs that machines trained, a shorter trial's handed on to a longer one counted once."""

    trained: int
    seconds: float
    """With evaluation, checkpoints and compiling."""
    twice: int
    """Of them, those trained again after an interruption."""
    twice_seconds: float


def work_of(log: Log) -> Work:
    """What was trained of all trials of a run."""
    history: History[TrialHistory] = History.of(log)
    trials = list(history.trials.values())
    handed_on = [trial.handed_on for trial in trials]
    lines = log.epochs.lines(list(history.trials), [trial.planned for trial in trials])
    every, counted = (log.epochs.beyond(some, handed_on).rows for some in (lines, history.newest))
    spent = log.epochs.spent()
    seconds, once = float(spent[every].sum()), float(spent[counted].sum())
    return Work(len(every), seconds, len(every) - len(counted), seconds - once)


def planned_epochs(log: Log, wanted: int) -> int:
    """Epochs of so many trials that a launch wanted; those that are not known yet are taken to be like the others."""
    history: History[TrialHistory] = History.of(log)
    known = [int(one.config.get("epochs", 0)) for one in history.trials.values() if one.id in history.wanted]
    return round(sum(known) * max(wanted / len(known), 1)) if known else 0


def cost(trials: DataFrame, log: Log) -> Html:
    """The plan beside what it took, then each launch."""
    launches = [one for one in log if one["record"] == "launch"]
    wanted = int(launches[-1]["size"]) if launches else len(trials)
    work, epochs = work_of(log), planned_epochs(log, wanted)
    ended = int(trials["outcome"].isin(_ENDED).sum())
    saved = trials.loc[trials["outcome"] == "pruned", "pruned_share"] if "pruned_share" in trials else np.array([])
    rows: list[list[object]] = [
        ["trials", str(wanted), f"{ended} ended", outcome_line(trials).partition(": ")[2]],
        ["epochs", str(epochs), str(work.trained - work.twice), _epochs_text(work, len(saved))],
        ["time of all trials, one after another", *_times(work, epochs)],
    ]
    if (memory := trials["memory_bytes"].max()) == memory:
        rows.append(["GPU memory of a trial", "", f"{memory / 2**30:.1f} GiB at most", ""])
    return joined(table(["", "planned", "done", ""], rows), element("h3", "Launches"), _launches_table(_launches(log)))


def _times(work: Work, epochs: int) -> tuple[str, str, str]:
    """What all planned epochs will take, what was taken, and how it is told; before an epoch was trained, nothing."""
    if not work.trained:
        return "", "", "not known before an epoch is trained"
    pace = work.seconds / work.trained
    said = f"{_duration(pace)} an epoch, with its evaluation"
    return f"{_duration(pace * epochs)} at this pace", _duration(work.seconds), said


def _epochs_text(work: Work, pruned: int) -> str:
    again = f"{plural(work.twice, 'epoch')} more, {_duration(work.twice_seconds)}, trained again after a stop"
    ended = f"{plural(pruned, 'trial')} ended early by a stopping rule"
    return "; ".join(filter(None, [again if work.twice else "", ended if pruned else ""]))


class _Launch(NamedTuple):
    """A launch, and what was written in the records until the next one began."""

    record: Mapping[str, Any]
    took: float
    """Seconds until its last line."""
    ended: int
    """Trials that ended; one that was interrupted or failed has not."""
    seconds: float
    """Of all trained epochs, one after another."""

    @property
    def alone(self) -> bool:
        """Whether these lines are its own: those of shares are mixed."""
        return "shard" not in self.record


def _launches(log: Log) -> list[_Launch]:
    known = [(place, one) for place, one in zip(log.places, log, strict=True) if one["record"] == "launch"]
    times = np.concatenate([log.epochs.numbers("time"), np.array(_moments(log), dtype=np.float64)])
    places = np.concatenate([log.epochs.numbers("place"), np.array(log.places, dtype=np.float64)])
    ends = [*(place for place, _ in known[1:]), np.inf]
    spent, trained_at = log.epochs.spent(), log.epochs.numbers("place")
    outcomes = [(place, one) for place, one in zip(log.places, log, strict=True) if one.get("outcome") in _ENDED]
    launches = []
    for (place, one), end in zip(known, ends[: len(known)], strict=True):
        own = times[(places >= place) & (places < end) & ~np.isnan(times)]
        seconds = float(spent[(trained_at >= place) & (trained_at < end)].sum())
        ended = {outcome["trial_id"] for there, outcome in outcomes if place <= there < end}
        launches.append(_Launch(one, float(own.max()) - float(one["time"]), len(ended), seconds))
    return launches


def _launches_table(launches: Sequence[_Launch]) -> Html:
    """When each began, how long until its last line, what its plan forecast beside what it took, what was typed."""
    foretold = any("forecast" in one.record for one in launches)
    header = ["began", "took", "trials wanted", *(["forecast", "trained"] if foretold else []), "code", "command"]
    rows: list[list[object]] = []
    for one in launches:
        record = one.record
        size = str(record["size"]) + ("" if one.alone else f", share {record['shard']}")
        beside = [_forecast(record.get("forecast")), _trained(one)] if foretold else []
        command = element("code", record.get("command") or "not recorded")
        took = _duration(one.took) if one.alone else ""
        version = str(record.get("code_version", ""))
        rows.append([moment(float(record["time"])), took, size, *beside, version, command])
    said = "Forecast: by the plan, when the launch began. Times there are of all trials, one after another."
    return joined(table(header, rows), element("p", said, class_="note") if foretold else None)


def _forecast(plan: Mapping[str, Any] | None) -> str:
    """What a plan said: trials, and their time."""
    if plan is None:
        return ""
    return f"{plural(plan['trials'], 'trial')}, {_duration(plan['seconds'])}"


def _trained(launch: _Launch) -> str:
    """What came of a forecast; how far it was off, once as many trials have ended."""
    plan = launch.record.get("forecast")
    if plan is None or not launch.alone:
        return ""
    came = f"{plural(launch.ended, 'trial')} ended, {_duration(launch.seconds)}"
    if launch.ended < plan["trials"] or not plan["seconds"]:
        return came
    return f"{came}: {launch.seconds / plan['seconds']:.2g} times the forecast"


def _moments(log: Log) -> list[float]:
    """When each line was written; NaN: it has no time, or is written of what a launch has left, weeks later too.

    Such is an outcome of a trial that is not running: `sweep rerun` and `sweep cancel` write it.
    """
    running: set[str] = set()
    times: list[float] = []
    for record in log:
        kind, trial = record["record"], record.get("trial_id", "")
        later = kind in _AFTERWARDS or (kind == "outcome" and trial not in running)
        times.append(float("nan") if later else float(record.get("time", "nan")))
        if kind == "start":
            running.add(trial)
        elif kind == "outcome":
            running.discard(trial)
    return times


def moment(seconds: float) -> str:
    """A time of day as every table shows it: `2026-11-27 14:11 UTC`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def states(trials: DataFrame) -> Counter[str]:
    """How many trials ended how, the most frequent first."""
    return Counter(dict(trials["outcome"].value_counts()))


def _duration(seconds: float) -> str:
    """As a person says it.

    >>> _duration(42.4), _duration(190), _duration(8000), _duration(0.31)
    ('42 s', '3.2 min', '2.2 h', '0.31 s')
    """
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
