"""What stopping rules say of a run's records, read in order: a function of that order and of nothing else.

A launch that was killed reads the records again, and so comes to the same decisions; one whose outcome line it was
killed before is written at once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from trainers.record import PrunedRecord


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
        where = {"rung": self.rung, "rank": self.rank, "of": self.of, "share": share, "by": self.by}
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
    """A stopping rule: `sweep.run.journal.Journal` hands it every record of a trial of the sweep, in the log's order."""

    def add(self, record: Mapping[str, Any]) -> Iterable[Decision]:
        """Takes in the next record; the trials that it ends, of which some may have ended already.

        Args:
            record: with its kind under `record`; of an epoch its trial_id, epoch and metrics.
        """
