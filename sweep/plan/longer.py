"""Which trials go on from the ends of shorter ones (`trainers.longer`): for the plan, and for a launch's next trial."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sweep.progress import TrialProgress
from sweep.search.trials import PlannedTrial
from trainers import longer
from trainers.config import TrialConfig
from trainers.fields import plural
from trainers.identity import hashed, identity

#: Keys that stand for another value in a longer trial where they are left out.
_BY_EPOCHS = ("averaging.start", "clean_passes")

#: Parts of a trial's identity that only one of two lengths may read, or otherwise.
_OF_LENGTH = ("epochs", "schedule", "averaging", "weights", "attack", "clean_passes")

#: Trials of which a line names the ids.
_NAMED = 3


class Beginnings:
    """Trials by what they would be with fewer epochs; each point is looked at once, for all its seeds."""

    def __init__(self) -> None:
        """Knows of none."""
        self._known: dict[tuple[TrialConfig, int], dict[str, Any]] = {}

    def id(self, trial: PlannedTrial, epochs: int) -> str:
        """The id of the trial of so many epochs with which this one begins."""
        key = trial.config.model_copy(update={"seed": 0}), epochs
        if key not in self._known:
            self._known[key] = identity(longer.beginning(key[0], epochs))
        return hashed({**self._known[key], "seed": trial.seed})


class Shorter:
    """The trials from whose ends this code's longer ones can go on: completed, with their state kept."""

    def __init__(self, trials: Iterable[TrialProgress], code_version: str) -> None:
        """Takes those of a run that are such."""
        self._code_version = code_version
        self._ids: dict[int, set[str]] = defaultdict(set)
        self._beginnings = Beginnings()
        for trial in trials:
            self.add(trial)

    def add(self, trial: TrialProgress) -> None:
        """Takes in one that has just ended, if it is such."""
        if not why_not_kept(trial, self._code_version):
            self._ids[trial.epochs_wanted].add(trial.id)

    def of(self, trial: PlannedTrial) -> list[str]:
        """Ids of those with which a trial begins, the longest first."""
        lengths = sorted((epochs for epochs in self._ids if epochs < trial.config.epochs), reverse=True)
        able = (epochs for epochs in lengths if not longer.why_not(trial.config, epochs))
        ids = ((epochs, self._beginnings.id(trial, epochs)) for epochs in able)
        return [name for epochs, name in ids if name in self._ids[epochs]]


def why_not_kept(trial: TrialProgress, code_version: str) -> str:
    """Why no trial goes on from this one's end, in words; empty: one may."""
    if trial.outcome != "completed" or not trial.finished:
        return "the shorter trial is not completed"
    if not trial.end.get("state_kept"):
        return "the shorter trial kept no state (trial.keep: state)"
    if trial.code_version != code_version:
        return f"other code trained the shorter trial ({trial.code_version})"
    return ""


@dataclass(frozen=True)
class Longer:
    """What of a plan's new trials goes on from shorter ones."""

    goes_on: Mapping[str, tuple[str, int]]
    """By id the shorter trial's id, and its epochs."""
    epochs: int
    """Of all those trials together, to their ends."""
    why_not: Mapping[str, int]
    """How many new trials have a shorter one and begin afresh, by why."""
    may: int
    """How many may go on from a shorter one that is itself still to run."""

    @property
    def saved(self) -> int:
        """Epochs that are not trained again."""
        return sum(epochs for _, epochs in self.goes_on.values())

    def lines(self) -> Iterator[str]:
        """In words."""
        if self.goes_on:
            pairs = [f"{name} from {short} ({plural(n, 'epoch')})" for name, (short, n) in self.goes_on.items()]
            more = ", ..." if len(pairs) > _NAMED else ""
            verb = "goes" if len(pairs) == 1 else "go"
            yield (
                f"{len(pairs)} of the new {verb} on from the end of a shorter trial, which saves {self.saved} of "
                f"{self.epochs} epochs: {', '.join(pairs[:_NAMED])}{more}"
            )
        if self.may:
            yield (
                f"{self.may} of the new may go on from the end of a shorter trial that is to run too, where that has "
                "ended by then; no epoch is counted as saved"
            )
        for why, number in self.why_not.items():
            verb = "has a shorter trial and begins" if number == 1 else "have a shorter trial and begin"
            yield f"{number} of the new {verb} afresh: {why}"


def longer_of(
    new: Sequence[PlannedTrial], trials: Mapping[str, TrialProgress], wanted: Iterable[PlannedTrial], code_version: str
) -> Longer:
    """Looks at a plan's new trials.

    Args:
        new: those that have no checkpoint of their own to go on from.
        trials: of the run's records, by id.
        wanted: trials that are to run, the new ones among them.
        code_version: that would train them.
    """
    longest = max((one.config.epochs for one in new), default=0)
    ended = [trial for trial in trials.values() if trial.ended and trial.epochs_wanted < longest]
    shorter, points, ids = Shorter(ended, code_version), defaultdict(list), Beginnings()
    for one in ended:
        points[_place(one.point, one.seed)].append(one)
    keeping = {one.id: one.config.epochs for one in wanted if one.config.keep == "state"}
    lengths = sorted({*(one.epochs_wanted for one in ended), *keeping.values()}, reverse=True)
    goes_on, may, total, reasons = {}, 0, 0, Counter[str]()
    for trial in new:
        fewer = [epochs for epochs in lengths if epochs < trial.config.epochs]
        if from_ids := shorter.of(trial):
            goes_on[trial.id] = from_ids[0], trials[from_ids[0]].epochs_wanted
            total += trial.config.epochs
        elif any(ids.id(trial, n) in keeping and not longer.why_not(trial.config, n) for n in fewer):
            may += 1
        elif why := _why_not(trial, fewer, trials, points[_place(trial.point, trial.seed)], ids, code_version):
            reasons[why] += 1
    return Longer(goes_on, total, reasons, may)


def _place(point: Mapping[str, Any], seed: int) -> str:
    return json.dumps([{key: value for key, value in point.items() if key != "epochs"}, seed], sort_keys=True)


def _why_not(
    trial: PlannedTrial,
    fewer: Iterable[int],
    trials: Mapping[str, TrialProgress],
    at_its_point: Sequence[TrialProgress],
    ids: Beginnings,
    code_version: str,
) -> str:
    """Why a trial goes on from none of the shorter ones that there are of it, in words; empty: there are none."""
    for epochs in fewer:
        if (short := trials.get(ids.id(trial, epochs))) is not None:
            return longer.why_not(trial.config, epochs) or why_not_kept(short, code_version)
    for short in at_its_point:
        if short.epochs_wanted < trial.config.epochs and (keys := _by_epochs(trial.identity, short.config)):
            verb = "stands" if len(keys) == 1 else "stand"
            return f"{' and '.join(keys)} {verb} for other values in a longer trial; set what the shorter one has"
    return ""


def _by_epochs(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The keys of `_BY_EPOCHS` in which two trials differ that differ in no part but those of their length."""
    if any(one.get(part) != other.get(part) for part in (one.keys() | other.keys()) - {*_OF_LENGTH}):
        return []
    return [key for key in _BY_EPOCHS if _value(one, key) != _value(other, key)]


def _value(values: Any, key: str) -> Any:
    for part in key.split("."):
        values = (values or {}).get(part)
    return values
