"""The files of a run's records: the one writer of each, and a reader of all that forgives torn last lines."""

from __future__ import annotations

import json
import mmap
import os
import re
import shlex
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from itertools import accumulate, chain
from operator import itemgetter
from pathlib import Path
from typing import IO, Any, TypeVar

from trainers.errors import NewerRecords, UserError
from trainers.fields import plural
from trainers.files import patiently, why
from trainers.plain_file import plain
from trainers.record.form import LONGEST, SEAL_LENGTH, UNKNOWN, Damaged, record_on, sealed
from trainers.record.kinds import Record
from trainers.visible import encodable

RECORDS_FILE = "records.jsonl"

#: The file of a launch that runs a share of the trials.
_OF_SHARE = re.compile(r"records\.([1-9][0-9]*)of([1-9][0-9]*)\.jsonl", re.ASCII)

#: Runs that a refusal names.
_NAMED = 3

Loaded = TypeVar("Loaded", bound=Mapping[str, Any])

#: A checksum that stands whole, behind which a newline may have become another byte.
_SEAL_OR_MORE = re.compile(rb',"crc":"[0-9a-f]{8}"\}.?', re.DOTALL)


def line(kind: str, record: Record | Mapping[str, Any]) -> str:
    """The record as one line of JSON with its checksum and its newline."""
    values = {"record": kind, **(record if isinstance(record, Mapping) else asdict(record))}
    values.pop("crc", None)  # of a line that was read elsewhere
    text = json.dumps(values, separators=(",", ":"), allow_nan=False)
    if "\\ud" in text:  # perhaps half a character, of a path whose bytes are no UTF-8: no reader believes such a line
        text = json.dumps(_encodable(values), separators=(",", ":"), allow_nan=False)
    return sealed(text) + "\n"


def _encodable(value: Any) -> Any:
    """The same, with every text such that UTF-8 can write it."""
    if isinstance(value, str):
        return encodable(value)
    if isinstance(value, Mapping):
        return {_encodable(key): _encodable(one) for key, one in value.items()}
    return [*map(_encodable, value)] if isinstance(value, list | tuple) else value


class RecordFile:
    """The one writer of a run's records: every append is whole, in the file when the call returns.

    Where it fails, as on storage that is full or away for a moment, all that is not surely on the disk is written once
    more in its place: a record is neither lost, nor torn, nor there twice.
    """

    def __init__(self, directory: Path, name: str = RECORDS_FILE) -> None:
        """Opens DIR/records.jsonl for appending, or the file of a share, first cutting off a torn last line.

        Raises:
            UserError: it cannot be opened.
        """
        self._path = directory / name
        self._file: IO[bytes] | None = None
        self._rest = b""
        """What is written, and not surely on the disk."""
        self._closed = False
        self._classes: set[str] = set()
        try:
            patiently(self._path, self._open)
        except OSError as error:
            raise UserError(f"{self._path}: {why(error, self._path)}; mend that: the same command goes on") from None

    def _open(self) -> None:
        _cut_torn_line(self._path)
        self._file = self._appending()
        self._sure = self._length = os.fstat(self._file.fileno()).st_size

    def append(self, kind: str, record: Record | Mapping[str, Any]) -> None:
        """Writes one line; outcomes, evaluations, checks and notes are also forced to the disk.

        The classes of a split's images are left out where it wrote them before.

        Raises:
            UserError: it cannot be written, though that was tried for `trainers.files.PATIENCE`. It comes with the next
                record, if that can be written; what is torn is cut off by the next who opens the file.
        """
        if self._closed:
            raise ValueError(f"{self._path}: closed file")
        new = line(kind, self._once(record if isinstance(record, Mapping) else asdict(record))).encode()
        self._rest += new
        attempt = partial(self._write, new, kind in ("outcome", "evaluation", "check", "note"))
        try:
            patiently(self._path, attempt)
        except OSError as error:
            raise UserError(
                f"{self._path}: {why(error, self._path)}; mend that, or make room: the same command goes on"
            ) from None

    def _write(self, new: bytes, surely: bool) -> None:
        """Writes the new line, or all the rest where an attempt before failed; one that fails closes the file."""
        try:
            if self._file is None:
                self._file = self._written_anew()
            else:
                self._check_place()
                _write_all(self._file, new)
                self._length += len(new)
            if surely:
                os.fsync(self._file.fileno())
                self._sure, self._rest = self._sure + len(self._rest), b""
        except OSError:
            self._let_go()
            raise

    def _check_place(self) -> None:
        """What is written to a file that was removed, or replaced by an editor, nobody ever reads; and behind what was
        cut off in the midst of a line it would be damage."""
        assert self._file is not None
        status = os.fstat(self._file.fileno())
        if not status.st_nlink:
            raise self._disturbed("removed or replaced it")
        if status.st_size < self._length:
            raise self._disturbed("made it shorter")

    def _disturbed(self, what: str) -> UserError:
        return UserError(
            f"{self._path}: another program {what} while it was written; the same command goes on from what is there"
        )

    def _written_anew(self) -> IO[bytes]:
        """All the rest in its place, and the file, opened anew: what the old one says of the disk is not believed."""
        with open(self._path, "r+b", buffering=0, opener=plain) as file:
            if os.fstat(file.fileno()).st_size < self._sure:
                raise self._disturbed("made it shorter")
            file.seek(self._sure)
            _write_all(file, self._rest)
            file.truncate()
            os.fsync(file.fileno())
        self._length = self._sure + len(self._rest)
        return self._appending()

    def _appending(self) -> IO[bytes]:
        return open(self._path, "ab", buffering=0, opener=plain)

    def _once(self, values: Mapping[str, Any]) -> Mapping[str, Any]:
        if isinstance(splits := values.get("right"), Mapping):
            return {**values, "right": {name: self._once(split) for name, split in splits.items()}}
        if values.get("classes") is None:
            return values
        if values["fingerprint"] in self._classes:
            return {name: value for name, value in values.items() if name != "classes"}
        self._classes.add(values["fingerprint"])
        return values

    def close(self) -> None:
        """Closes the file for good."""
        self._closed = True
        self._let_go()

    def _let_go(self) -> None:
        file, self._file = self._file, None
        with suppress(OSError):  # what could not be written, and was told then
            if file is not None:
                file.close()


def _write_all(file: IO[bytes], content: bytes) -> None:
    """Of a disk that gets full a write gives back that it took a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]


def read(directory: str | Path) -> list[dict[str, Any]]:
    """Every record of a run, in the order written, that of several files `merged`; a torn last line is left out.

    Raises:
        UserError: the directory is not a run, its file cannot be read, or a line in the middle is damaged.
    """
    logs = [read_file(path) for path in record_files(Path(directory)) or [Path(directory) / RECORDS_FILE]]
    return logs[0] if len(logs) == 1 else merged(logs)


def read_file(path: Path) -> list[dict[str, Any]]:
    """Every record of one file, in the order written; see `read`."""
    try:
        os.close(plain(str(path), os.O_RDONLY))
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        raise no_run(path.parent) from None
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    torn = lines.pop()
    records = parsed(path, lines)
    if (last := at_the_end(path, torn, len(lines) + 1)) is not None:
        records.append(last)
    return known_kinds(path, records)


def no_run(directory: Path) -> UserError:
    """What refuses a directory that has no records: it names the runs in it, where there are some."""
    if not (runs := runs_in(directory)):
        return UserError(f"{directory}: not a run directory: it has no {RECORDS_FILE}; give the --out of a launch")
    more = f" and {len(runs) - _NAMED} more" if len(runs) > _NAMED else ""
    return UserError(f"{directory}: holds runs, and is none; give one of them: {', '.join(runs[:_NAMED])}{more}")


def runs_in(directory: Path) -> list[str]:
    """The folders in a directory that have records."""
    with suppress(OSError):  # it is none, or may not be read
        return sorted(str(place) for place in directory.iterdir() if place.is_dir() and record_files(place))
    return []


def record_files(directory: Path) -> list[Path]:
    """The files of a run's records that are there: that without a share, then those of shares by number and place."""
    shares = {path: name for path in directory.glob("records.*of*.jsonl") if (name := _OF_SHARE.fullmatch(path.name))}
    whole = directory / RECORDS_FILE
    return [
        *([whole] if os.path.lexists(whole) else []),
        *sorted(shares, key=lambda path: (int(shares[path][2]), int(shares[path][1]))),
    ]


def parsed(path: Path, lines: Iterable[bytes], before: int = 0) -> list[dict[str, Any]]:
    """The records on whole lines of a file, in their order; empty lines are none, those of a newer version `UNKNOWN`.

    Args:
        path: of the file, as a damaged line is named.
        lines: of it, one after another.
        before: how many stand before the first of them.

    Raises:
        UserError: a line is damaged.
    """
    return [_parsed(path, number, text) for number, text in enumerate(lines, start=before + 1) if text.strip()]


def has_records(directory: Path) -> bool:
    """Whether there is a line to read: a launch opens the file a moment before it writes its first."""
    return any(path.exists() and path.stat().st_size > 0 for path in record_files(directory))


def merged(logs: Sequence[Sequence[Loaded]]) -> list[Loaded]:
    """One log of several: by when a line was written, those of one log in their order.

    A line is as late as the latest before it in its log, so that a clock that was set changes no order. What a launch
    had read it comes after, though another machine's clock wrote that: its `after` says how late that was.

    >>> merged([[{"id": 1, "time": 2.0}, {"id": 2}], [{"id": 3, "time": 1.0, "after": 2.1}], [{"id": 4, "time": 1.9}]])
    [{'id': 4, 'time': 1.9}, {'id': 1, 'time': 2.0}, {'id': 2}, {'id': 3, 'time': 1.0, 'after': 2.1}]
    """
    moments = (moment for log in logs for moment in accumulate(map(written, log), max))
    placed = zip(moments, chain(*logs), strict=True)
    return [record for _, record in sorted(placed, key=itemgetter(0))]  # which keeps the order of what is equally late


def written(record: Mapping[str, Any]) -> float:
    """When a line was written, s since 1970, as far as it says so; a launch's, no earlier than its `after`."""
    return float(max(record.get("time", 0.0), record.get("after", 0.0)))


def only_trial(run: str | Path, trial_ids: Iterable[str], beginning: str) -> str:
    """The one trial of a run whose id begins so.

    Raises:
        UserError: none does, or several do.
    """
    matches = {name for name in trial_ids if name.startswith(beginning)}
    if len(matches) == 1:
        return matches.pop()
    what = "no trial begins" if not matches else f"{len(matches)} trials begin"
    raise UserError(f"{run}: {what} with {beginning!r}; `sweep results {shlex.quote(str(run))}` lists their ids")


def at_the_end(path: Path, text: bytes, number: int | str) -> dict[str, Any] | None:
    """The record on a last line without its newline; None where it is torn, or nothing.

    Args:
        path: of the file, as a damaged line is named.
        text: of the line.
        number: of it, from 1; or a word for that.

    Raises:
        UserError: the line is damaged: its checksum is there, so that it was whole, or it is too long to be a line.
    """
    if len(text) > LONGEST or _SEAL_OR_MORE.search(text[-SEAL_LENGTH - 1 :]):
        return _parsed(path, number, text)
    try:
        return record_on(text) if text.strip() else None
    except Damaged:
        return None


def known_kinds(path: Path, records: Sequence[Loaded]) -> list[Loaded]:
    """The records without those of a newer version, of which a warning tells how many they are."""
    passed = Counter(record["kind"] for record in records if record["record"] == UNKNOWN)
    if not passed:
        return list(records)
    warnings.warn(
        f"{path}: {plural(passed.total(), 'line')} of kinds that this version does not know passed over: "
        f"{', '.join(sorted(passed))}; a newer robustsweep wrote them",
        NewerRecords,
        stacklevel=2,
    )
    return [record for record in records if record["record"] != UNKNOWN]


def _parsed(path: Path, number: int | str, text: bytes) -> dict[str, Any]:
    try:
        return record_on(text)
    except Damaged as error:
        raise UserError(
            f"{path}:{number}: damaged line: {error}; "
            "restore the line, or delete it: the next launch runs again what is then missing"
        ) from None


def _cut_torn_line(path: Path) -> None:
    """Ends a file whose last line is torn before that line; one that is damaged is refused, and stays."""
    if not path.exists() or not path.stat().st_size:
        return
    with open(path, "r+b", opener=plain) as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # of a long log only its end is read
            end = content.rfind(b"\n") + 1
            last = at_the_end(path, content[end : end + LONGEST + 1], "last")
            torn = len(content) > end
        file.seek(0, os.SEEK_END)
        if last is not None:
            file.write(b"\n")
        elif torn:
            file.truncate(end)
