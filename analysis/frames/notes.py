"""What users wrote of trials: `sweep note`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pandas import DataFrame

#: The columns of a frame of trials, where any has a note or a tag.
NOTE, TAGS = "note", "tags"


@dataclass
class Written:
    """Of one trial."""

    note: str = ""
    tags: list[str] = field(default_factory=list)
    """In the order in which they came."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in its next `trainers.record.NoteRecord`."""
        if (note := record.get("note")) is not None:
            self.note = note
        gone, more = record.get("untags", ()), record.get("tags", ())
        self.tags = [tag for tag in self.tags if tag not in gone]
        self.tags += [tag for tag in dict.fromkeys(more) if tag not in self.tags]

    def __bool__(self) -> bool:
        return bool(self.note or self.tags)


def notes_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Written]:
    """What is written of each trial of which anything is, by its id.

    Args:
        records: of the run, in the order written.
    """
    known: dict[str, Written] = {}
    for record in records:
        if record["record"] == "note":
            known.setdefault(record["trial_id"], Written()).add(record)
    return {name: one for name, one in known.items() if one}


def with_notes(frame: DataFrame, records: Iterable[Mapping[str, Any]]) -> DataFrame:
    """The frame with the columns `note` and `tags` last, where any of its trials has one; another as it is.

    Args:
        frame: with a row a trial.
        records: those that it is of.

    Returns:
        The same rows; an empty text where nothing was written; tags with a comma and a space between them.
    """
    known, ids = notes_of(records), list(frame["trial_id"])
    if known.keys().isdisjoint(ids):
        return frame
    each = [known.get(name, Written()) for name in ids]
    return frame.assign(**{NOTE: [one.note for one in each], TAGS: [", ".join(one.tags) for one in each]})
