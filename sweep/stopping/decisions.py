"""What stopping rules say of a run's records, read in order: a function of that order and of nothing else.

A launch that was killed reads the records again, and so comes to the same decisions; one whose outcome line it was
killed before is written at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from trainers.record import FINISHED, PrunedRecord


@dataclass(frozen=True)
class Decision:
    """That a trial ends here."""

    trial_id: str
    epochs: int
    """That it has trained; 0: it is not begun."""
    by: str
    """Name of the rule."""
    rung: int | None = None
    rank: int | None = None
    of: int | None = None
    """As of a `trainers.record.PrunedRecord`."""
    why: str = ""
    """In words, where rank and rung do not say it."""

    def outcome(self, wanted: int) -> dict[str, Any]:
        """The outcome line of a trial of so many epochs, without its time."""
        share = self.epochs / wanted if wanted else 0.0
        where: dict[str, Any] = {"rung": self.rung, "rank": self.rank, "of": self.of, "share": share, "by": self.by}
        return {
            "record": "outcome",
            **asdict(PrunedRecord(self.trial_id, "pruned", _reason(self), self.epochs, **where)),
        }


def _reason(decision: Decision) -> str:
    """In words: `by asha: 5th of 6 at rung 2`."""
    where = "" if decision.rung is None else f" at rung {decision.rung}"
    place = "" if decision.rank is None else f": number {decision.rank} of {decision.of}{where}"
    return f"by {decision.by}{place}{f': {decision.why}' if decision.why else ''}"


class Rule(Protocol):
    """A stopping rule: it is handed every record of each trial of the sweep, in the log's order."""

    def add(self, record: Mapping[str, Any]) -> Iterable[Decision]:
        """Takes in the next record; the trials that it ends, of which some may have ended already.

        Args:
            record: with its kind under `record`; a trial's `trial` comes once, before its others. Of an epoch that was
                read from a long log trial_id, epoch and metrics alone are there.
        """


class Stopping:
    """All rules of a sweep, and what they have decided that is not carried out yet."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        """None has seen a trial yet."""
        self._rules = rules
        self._wanted: dict[str, int] = {}
        self.whole: set[str] = set()
        """Ids of trials that were taken up again, to be trained to their end: no rule is asked about them any more."""
        self._due: dict[str, Decision] = {}

    def plan(self, trial: Mapping[str, Any]) -> None:
        """A trial of the sweep, as its line in the records; what the log has of others is passed over."""
        if trial["trial_id"] not in self._wanted:
            self._wanted[trial["trial_id"]] = trial["config"]["epochs"]
            for rule in self._rules:
                self._decide(rule.add({"record": "trial", **trial}))

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in the next record of the log."""
        self.whole.update(record.get("taken_up", ()))
        name = record.get("trial_id")
        if record["record"] == "trial" or name not in self._wanted:
            return
        if record["record"] == "epoch" or record.get("outcome") in _ENDED:
            self._due.pop(name, None)  # carried out, or it has gone on: no rule, or another one, was asked then
        if name not in self.whole:
            for rule in self._rules:
                self._decide(rule.add(record))

    def _decide(self, decisions: Iterable[Decision]) -> None:
        for one in decisions:
            if one.trial_id not in self.whole:
                self._due.setdefault(one.trial_id, one)

    def due(self) -> list[dict[str, Any]]:
        """The outcome lines of decisions that are not carried out, without their times; each is given once."""
        due, self._due = self._due, {}
        return [one.outcome(self._wanted[one.trial_id]) for one in due.values()]


#: Outcomes after which no rule ends a trial.
_ENDED = FINISHED | {"pruned", "cancelled"}


def replayed(
    rules: Sequence[Rule], trials: Iterable[Mapping[str, Any]], records: Iterable[Mapping[str, Any]]
) -> Stopping:
    """The rules of a sweep once they have seen a run's records.

    Args:
        rules: that have seen nothing.
        trials: of the sweep, as lines of the records, as far as they are known.
        records: of the run, epochs among them, in the order written.
    """
    stopping = Stopping(rules)
    for trial in trials:
        stopping.plan(trial)
    for record in records:
        stopping.add(record)
    return stopping
