"""The epochs of a log as columns, and a log parsed so, many lines at a time."""

from __future__ import annotations

import json as text_json
import math
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeAlias
from zlib import crc32

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyarrow import json

from analysis.frames.log import Log
from trainers.errors import UserError
from trainers.record import REQUIRED, SPENT, EpochRecord, at_the_end, is_id, parsed
from trainers.record.form import LONGEST, SEAL_LENGTH
from trainers.record.rules import LARGEST, LAST_SECOND, MOST_EPOCHS

Array: TypeAlias = NDArray[np.float64]

#: What an epoch's record says of each image; few have it, and it is no column.
RIGHT = "right"

#: Columns of an epoch: its record's texts and numbers, and when it was written.
TEXTS: tuple[str, ...] = tuple(entry.name for entry in fields(EpochRecord) if entry.type == "str")
NUMBERS: tuple[str, ...] = (
    *(entry.name for entry in fields(EpochRecord) if entry.type != "str" and entry.name != RIGHT),
    "time",
)

#: Where a record stands among the lines of the log.
PLACE = "place"

_TEXT = pa.dictionary(pa.int32(), pa.string())
_SCHEMA = pa.schema(
    [*((name, _TEXT) for name in TEXTS), *((name, pa.float64()) for name in NUMBERS), (PLACE, pa.int64())]
)

#: Of the epochs that say something of each image: where they stand, and what they say, as JSON.
_RIGHTS = pa.schema([(PLACE, pa.int64()), (RIGHT, pa.string())])

#: Bytes of an epoch's line that holds more than its columns: these take 1,000.
_LONG_LINE = 2000

#: What a line's keys are parsed to, in their order on a line, as the parser looks for each behind the one before. Of
#: what is said of each image it parses no more than whether something is.
_KINDS = {**dict.fromkeys(("record", *TEXTS), pa.string()), RIGHT: pa.struct([])}
_KINDS |= dict.fromkeys(("epoch", "peak_memory_bytes"), pa.int64())
_LINE = ("record", *(entry.name for entry in fields(EpochRecord)), "time")
_PARSED = pa.schema([(name, _KINDS.get(name, pa.float64())) for name in _LINE])

#: Columns of an epoch that are no text and never null, of which a line of older code may lack some.
_NEVER_NULL = (*(entry.name for entry in fields(EpochRecord) if entry.type in ("int", "float")), "time")

#: What `trainers.record.line` writes before a checksum's digits, and the value of each digit; 255: none.
_BEFORE = np.frombuffer(b',"crc":"', np.uint8)
_DIGITS = np.full(256, 255, np.uint8)
_DIGITS[np.frombuffer(b"0123456789abcdef", np.uint8)] = range(16)

#: How `trainers.record.line` begins an epoch. Lines that begin otherwise are read one by one.
_EPOCH = b'{"record":"epoch",'

#: Bytes parsed at once: enough for two threads, few beside a frame.
_BLOCK = 1 << 23

#: Blocks that wait for a thread or are parsed: more of them would take memory.
_AHEAD = 3


class Lines(NamedTuple):
    """Some lines of epochs, and of which trial each is."""

    rows: NDArray[np.intp]
    """Of the `Epochs`, (lines,)."""
    trials: NDArray[np.intp]
    """(lines,)"""

    def sums(self, trials: int, values: Array | None = None) -> list[Any]:
        """Of each of so many trials the sum of its lines' values, (lines,), or else how many lines it has."""
        sums: list[Any] = np.bincount(self.trials, values, trials).tolist()
        return sums

    def of_trials(self, are: Sequence[bool]) -> Lines:
        """The lines of some of the trials: whether of each, (trials,)."""
        kept = np.array([*are, False])[self.trials]
        return Lines(self.rows[kept], self.trials[kept])

    def last(self) -> dict[int, int]:
        """The last row of each trial that has one."""
        return dict(zip(self.trials.tolist(), self.rows.tolist(), strict=True))


@dataclass(frozen=True)
class Epochs:
    """The epochs' lines of a log in the order written, a row each."""

    table: pa.Table
    """`TEXTS`, `NUMBERS` and `PLACE`; null: not measured, or not in the line."""
    rights: pa.Table = field(default_factory=_RIGHTS.empty_table)
    """`PLACE` and `RIGHT` of those that say something of each image."""

    @classmethod
    def of(cls, records: Sequence[Mapping[str, Any]], places: Sequence[int]) -> Epochs:
        """Of records that were parsed one by one, and their places; a text that is not there is empty."""
        columns = {name: pa.array([one.get(name, "") for one in records], pa.string()) for name in TEXTS}
        for name in NUMBERS:
            columns[name] = pa.array(np.array([one.get(name) for one in records], np.float64), from_pandas=True)
        table = pa.table({**columns, PLACE: pa.array(places, pa.int64())}).cast(_SCHEMA)
        return cls(table, _rights(zip(places, records, strict=True)))

    def numbers(self, name: str) -> Array:
        """A column of `NUMBERS` or `PLACE`, (rows,); NaN: null."""
        values: Array = self.table[name].to_numpy()
        return values

    def beyond(self, lines: Lines, numbers: Sequence[int]) -> Lines:
        """Those lines whose epoch is later than the number of its trial, (trials,)."""
        later = self.numbers("epoch")[lines.rows] > np.array([*numbers, 0])[lines.trials]
        return Lines(lines.rows[later], lines.trials[later])

    def after(self, lines: Lines, places: Sequence[int]) -> Lines:
        """Those lines that stand after the place of their trial, (trials,)."""
        later = self.numbers(PLACE)[lines.rows] > np.array([*places, 0])[lines.trials]
        return Lines(lines.rows[later], lines.trials[later])

    def rows(self, places: Sequence[int] | NDArray[np.intp], names: Sequence[str]) -> list[dict[str, Any]]:
        """Some columns of some rows; None: null."""
        table = self.table.select(names).take(pa.array(places, pa.int64()))
        columns = (table[name].to_pylist() for name in names)
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def of_trial(self, trial_id: str) -> list[tuple[int, Mapping[str, Any]]]:
        """The records of one trial's lines, each with its place."""
        codes, ids = self.texts("trial_id")
        rows = np.flatnonzero(codes == (ids.index(trial_id) if trial_id in ids else -1))
        return [(one[PLACE], {"record": "epoch", **one}) for one in self.rows(rows, _SCHEMA.names)]

    def right(self) -> dict[int, Any]:
        """What is said of each image, by the place of the line that says it."""
        pairs = zip(*(self.rights[name].to_pylist() for name in _RIGHTS.names), strict=True)
        return {place: text_json.loads(text) for place, text in pairs}

    def lines(self, trials: Sequence[str], planned: Sequence[int]) -> Lines:
        """The lines that come after those of their trials.

        Args:
            trials: the trials' ids.
            planned: the places of their own lines.
        """
        codes, ids = self.texts("trial_id")
        order = {name: number for number, name in enumerate(trials)}
        of_trial = np.array([order.get(str(name), -1) for name in ids], dtype=np.intp)[codes]
        rows = np.flatnonzero(self.numbers(PLACE) > np.array([*planned, np.inf])[of_trial])
        return Lines(rows, of_trial[rows])

    def newest(self, lines: Lines) -> Lines:
        """The lines by trial and epoch, of several of one epoch the last."""
        epochs = self.numbers("epoch")[lines.rows]
        order = np.lexsort((epochs, lines.trials))
        rows, trials, epochs = lines.rows[order], lines.trials[order], epochs[order]
        last = np.ones(len(rows), dtype=np.bool_)
        last[:-1] = (trials[1:] != trials[:-1]) | (epochs[1:] != epochs[:-1])
        return Lines(rows[last], trials[last])

    def latest(self, place: float = -1, lines: Lines | None = None) -> float:
        """When the last of these lines, or of all, after a place of the log was written; 0: nobody knows."""
        rows = slice(None) if lines is None else lines.rows
        times, after = np.nan_to_num(self.numbers("time")[rows]), self.numbers(PLACE)[rows] > place
        return float(np.max(times, initial=0.0, where=after))

    def followed_by(self, *more: Epochs) -> Epochs:
        """These and other lines, one after the other."""
        every = (self, *more)
        return Epochs(*(pa.concat_tables([getattr(one, name) for one in every]) for name in ("table", "rights")))

    def placed(self, places: NDArray[np.int64]) -> Epochs:
        """The same at other places: (rows,), in the same order."""
        of_right = np.searchsorted(self.table[PLACE].to_numpy(), self.rights[PLACE].to_numpy())
        return Epochs(_placed(self.table, places), _placed(self.rights, places[of_right]))

    def by_place(self) -> Epochs:
        """The same in the order of their places."""
        order = np.argsort(self.table[PLACE].to_numpy(), kind="stable")
        return Epochs(self.table.unify_dictionaries().take(order), self.rights.sort_by(PLACE))

    def later(self, lines: int) -> Epochs:
        """The same behind so many lines."""
        return Epochs(*(_later(table, lines) for table in (self.table, self.rights)))

    def spent(self) -> Array:
        """All that each line's epoch took, s, as `trainers.record.spent` adds it up: (rows,)."""
        seconds: Array = np.sum([np.nan_to_num(self.numbers(part)) for part in SPENT], axis=0)
        return seconds

    def texts(self, name: str) -> tuple[NDArray[np.int32], list[str | None]]:
        """A column of `TEXTS`: the number of each row's text, (rows,), and the texts."""
        column = self.table[name].unify_dictionaries()
        words = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
        codes = [chunk.indices.fill_null(len(words)).to_numpy() for chunk in column.chunks]
        return np.concatenate([np.empty(0, np.int32), *codes]), [*words, None]


class Parsed(NamedTuple):
    """What a file holds from some line on."""

    log: Log
    """Of its whole lines."""
    size: int
    """Bytes that they take."""
    lines: int
    """How many they are, with those before."""
    last: Mapping[str, Any] | None
    """The record on a last line without its newline, if it is whole."""


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """The next so many, or as many as there are."""


def parse(file: Readable, path: Path, before: int = 0) -> Parsed:
    """The records of a file from where it stands to its end; two threads parse a block at a time.

    Args:
        file: at the beginning of a line.
        path: of it, as a damaged line is named.
        before: how many lines stand before.

    Raises:
        UserError: a line is damaged.
    """
    logs: list[Log] = []
    size, lines, torn = 0, before, b""
    pending: deque[tuple[bytes, Future[tuple[Log | None, int]]]] = deque()

    def take() -> int:
        text, future = pending.popleft()
        log, count = future.result()
        logs.append((_one_by_one(text, path, lines) if log is None else log).later(lines))
        return lines + count

    with ThreadPoolExecutor(2) as pool:
        while chunk := file.read(_BLOCK):
            text, newline, torn = (torn + chunk).rpartition(b"\n")
            if newline:
                size += len(text) + 1
                pending.append((text, pool.submit(_at_once, text, path)))
            if len(pending) > _AHEAD or len(torn) > LONGEST:
                lines = take() if pending else lines
            if len(torn) > LONGEST:
                break
        while pending:
            lines = take()
    return Parsed(Log.of([]).followed_by(*logs), size, lines, at_the_end(path, torn, lines + 1))


def _one_by_one(text: bytes, path: Path, before: int) -> Log:
    """The records of whole lines, each parsed by itself: what is damaged is named, and what is unusual is read."""
    return Log.of(parsed(path, text.split(b"\n"), before))


def _at_once(text: bytes, path: Path) -> tuple[Log | None, int]:
    """The same, the epochs parsed together, and how many lines; no log where it would perhaps not be the same."""
    ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n")), len(text))
    return _by_columns(text, np.append(0, ends[:-1] + 1), ends, path), len(ends)


def _by_columns(text: bytes, starts: NDArray[np.intp], ends: NDArray[np.intp], path: Path) -> Log | None:
    """The log of a text whose lines begin and end there, (lines,); none as in `_at_once`."""
    lines, is_epoch = list(zip(starts.tolist(), ends.tolist(), strict=True)), _begin_as_epochs(text, starts, ends)
    changes = np.flatnonzero(np.diff(is_epoch, prepend=False, append=False)).reshape(-1, 2).tolist()
    together = b"\n".join(text[lines[first][0] : lines[after - 1][1]] for first, after in changes)

    def records(places: Iterable[int]) -> list[dict[str, Any]]:
        return parsed(path, [text[slice(*lines[place])] for place in places])

    places = [place for place in np.flatnonzero(~is_epoch).tolist() if text[slice(*lines[place])].strip()]
    lengths, of_epochs = (ends - starts)[is_epoch], np.flatnonzero(is_epoch)
    try:
        others, epochs = records(places), _together(together, lengths)
        if epochs is None or any(record["record"] == "epoch" for record in others):
            return None
        # What is said of each image; and so much that what is not known in it may be more than Python's parser reads.
        looked_at = of_epochs[epochs[RIGHT].is_valid().to_numpy() | (lengths > _LONG_LINE)].tolist()
        rights = _rights(zip(looked_at, records(looked_at), strict=True))
        table = epochs.append_column(PLACE, pa.array(of_epochs, pa.int64())).select(_SCHEMA.names).cast(_SCHEMA)
    except (UserError, ValueError, pa.ArrowException):
        return None
    return Log(others, places, Epochs(table, rights))


def _begin_as_epochs(text: bytes, starts: NDArray[np.intp], ends: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which lines do, (lines,): of where they begin and end."""
    are = ends - starts >= len(_EPOCH)
    heads = np.frombuffer(text, np.uint8)[starts[are, None] + np.arange(len(_EPOCH))]
    are[are] = (heads == np.frombuffer(_EPOCH, np.uint8)).all(1)
    return are


def _rights(epochs: Iterable[tuple[int, Mapping[str, Any]]]) -> pa.Table:
    rows = [(place, text_json.dumps(one[RIGHT])) for place, one in epochs if one.get(RIGHT) is not None]
    return pa.table([[place for place, _ in rows], [text for _, text in rows]], schema=_RIGHTS)


def _later(table: pa.Table, lines: int) -> pa.Table:
    return _placed(table, table[PLACE].to_numpy() + lines)


def _placed(table: pa.Table, places: NDArray[np.int64]) -> pa.Table:
    return table.set_column(table.schema.get_field_index(PLACE), PLACE, pa.array(places, pa.int64()))


def _together(text: bytes, lengths: NDArray[np.intp]) -> pa.Table | None:
    """`_PARSED` of epochs' lines; none where `trainers.record.parsed` might refuse one, or read it in another way.

    Args:
        text: the lines, a byte between each two.
        lengths: theirs, (lines,).
    """
    if not len(lengths):
        return _PARSED.empty_table()
    options = json.ParseOptions(explicit_schema=_PARSED, unexpected_field_behavior="ignore")
    table = json.read_json(pa.BufferReader(text), json.ReadOptions(use_threads=False, block_size=1 << 20), options)
    required = REQUIRED["epoch"] - {"record"}
    nulls = [name for name in (*TEXTS, *_NEVER_NULL) if table[name].null_count]
    if len(table) != len(lengths) or not text.isascii() or any(table[name].null_count for name in required):
        return None
    if any(f'"{name}":null'.encode() in text for name in nulls):
        return None
    if not (_in_range(table) and _as_written(text, lengths)):
        return None
    for name in TEXTS:
        column = table[name].fill_null("").dictionary_encode()
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table if all(map(is_id, pc.unique(table["trial_id"]).to_pylist())) else None


def _in_range(table: pa.Table) -> bool:
    """Whether numbers are those that `trainers.record.form` believes."""
    for name in NUMBERS:
        low, high = (pc.min_max(table[name])[end].as_py() for end in ("min", "max"))
        least = 1 if name == "epoch" else 0 if name in _NEVER_NULL and name != "lr" else -LARGEST
        most = {"epoch": MOST_EPOCHS, "time": LAST_SECOND}.get(name, LARGEST)
        if low is not None and not (least <= low <= high <= most and pc.sum(table[name]).as_py() < math.inf):
            return False  # a sum is NaN where any number is, which the least and the largest are not
    return True


def _as_written(text: bytes, lengths: NDArray[np.intp]) -> bool:
    """Whether each line's checksum is that of the line, where it has one; the arguments are those of `_together`."""
    ends = np.cumsum(lengths + 1) - 1
    tails = np.frombuffer(text, np.uint8)[ends[:, None] + np.arange(-SEAL_LENGTH, 0)]
    has = (tails[:, : len(_BEFORE)] == _BEFORE).all(1) & (tails[:, -2] == ord('"'))
    digits = _DIGITS[tails[has, len(_BEFORE) : -2]]
    if (tails[:, -1] != ord("}")).any() or (digits > 15).any():
        return False  # as where a line ends in spaces
    spans = zip((ends - lengths)[has].tolist(), (ends[has] - SEAL_LENGTH).tolist(), strict=True)
    crcs = [crc32(text[start:end]) for start, end in spans]
    return bool((np.array(crcs, np.uint32) == digits @ (np.uint32(16) ** np.arange(7, -1, -1, dtype=np.uint32))).all())
