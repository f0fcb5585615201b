"""The records of a run, read: a short log as a list, a long one with its epochs, nearly all of it, as columns.

What reads a short log needs neither pandas nor pyarrow, which take longer to load than such a log to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from heapq import merge
from itertools import compress
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from analysis.frames.replayed import refuse_replay
from trainers.record import UNKNOWN, known_kinds, read, record_files

if TYPE_CHECKING:
    import pyarrow as pa

    from analysis.frames.columns import Epochs

#: Bytes of a log that is long: a shorter one is parsed in a quarter of a second.
LONG = 1 << 23


class Shelf(Protocol):
    """Keeps tables that are made of a log, and gives them back as long as it is the same."""

    def table(self, name: str) -> pa.Table | None:
        """One that was kept."""

    def keep_table(self, name: str, table: pa.Table) -> None:
        """Keeps one, if it can."""


@dataclass(eq=False)
class Log(Sequence[Mapping[str, Any]]):
    """The records of a run. As a sequence it is those that are no epochs, in the order written.

    Of a run with several files the places are those of the lines in one file of all, merged.
    """

    others: Sequence[Mapping[str, Any]]
    places: Sequence[int]
    """Of the others."""
    epochs: Epochs
    shelf: Shelf | None = None
    """Where what is made of it is kept; none: nowhere."""
    made: dict[str, Any] = field(default_factory=dict, repr=False)
    """What was made of it already, by name."""

    @classmethod
    def of(cls, records: Records) -> Log:
        """The log of records that are at hand."""
        from analysis.frames.columns import Epochs

        if isinstance(records, Log):
            return records
        kinds: tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]] = ([], [])
        places: tuple[list[int], list[int]] = ([], [])
        for place, record in enumerate(records):
            is_epoch = record["record"] == "epoch"
            kinds[is_epoch].append(record)
            places[is_epoch].append(place)
        return cls(kinds[False], places[False], Epochs.of(kinds[True], places[True]))

    def __getitem__(self, place: Any) -> Any:
        return self.others[place]

    def __len__(self) -> int:
        return len(self.others)

    def of_trial(self, trial_id: str) -> list[Mapping[str, Any]]:
        """The records of one trial in the order written, its epochs among them."""
        own = [(p, one) for p, one in zip(self.places, self.others, strict=True) if one.get("trial_id") == trial_id]
        own += self.epochs.of_trial(trial_id)
        return [one for _, one in sorted(own, key=lambda placed: placed[0])]

    def in_order(self, *columns: str) -> Iterator[Mapping[str, Any]]:
        """All records in the order written, epochs among them: of these trial_id, epoch and some columns alone."""
        names = ["place", "trial_id", "epoch", *columns]
        rows = self.epochs.rows(range(self.epochs.table.num_rows), names)
        epochs = ((row.pop("place"), {"record": "epoch", **row}) for row in rows)
        return (one for _, one in merge(zip(self.places, self.others, strict=True), epochs, key=itemgetter(0)))

    def of_known_kinds(self, path: Path) -> Log:
        """The same without the lines of a newer version: `trainers.record.known_kinds`."""
        others = known_kinds(path, self.others)
        if len(others) < len(self.others):
            kept = [one["record"] != UNKNOWN for one in self.others]
            self.others, self.places = others, list(compress(self.places, kept))
        return self

    def later(self, lines: int) -> Log:
        """The same records behind so many lines."""
        return Log(self.others, [place + lines for place in self.places], self.epochs.later(lines))

    def followed_by(self, *logs: Log) -> Log:
        """The records of this and other logs, one after the other."""
        every = (self, *logs)
        return Log(
            [record for log in every for record in log.others],
            [place for log in every for place in log.places],
            self.epochs.followed_by(*(log.epochs for log in logs)),
        )


Records: TypeAlias = Iterable[Mapping[str, Any]]
"""A `Log`, or all records in the order written."""


def read_records(directory: str | Path, *, replays: bool = False) -> Sequence[Mapping[str, Any]]:
    """Every record of a run, as `trainers.record.read` reads it; of a long log a `Log`.

    Args:
        directory: of the run.
        replays: whether it may have been replayed on a response surface: the caller then says so.

    Raises:
        UserError: the directory is not a run, its file cannot be read, or a line in the middle is damaged; or it was
            replayed.
    """
    if not replays:
        refuse_replay(directory)
    files = [path for path in record_files(Path(directory)) if path.is_file()]
    if sum(path.stat().st_size for path in files) < LONG:
        return read(directory)
    from analysis.frames.companion import opened

    with opened(Path(directory)) as companion:
        return read(directory) if companion is None else companion.log()


def read_log(directory: str | Path, *, replays: bool = False) -> Log:
    """The same, its epochs as columns whether it is long or not."""
    return Log.of(read_records(directory, replays=replays))
