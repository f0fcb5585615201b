"""The file records.jsonl: its one writer, and a reader that forgives a torn last line."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import IO, Any

from trainers.errors import UserError
from trainers.files import patiently, why
from trainers.plain_file import plain
from trainers.record.kinds import REQUIRED, Record

RECORDS_FILE = "records.jsonl"


def line(kind: str, record: Record | Mapping[str, Any]) -> str:
    """The record as one line of JSON with its newline."""
    values = record if isinstance(record, Mapping) else asdict(record)
    return json.dumps({"record": kind, **values}, separators=(",", ":"), allow_nan=False) + "\n"


class RecordFile:
    """The one writer of a run's records: every append is whole, in the file when the call returns.

    Where it fails, as on storage that is full or away for a moment, all that is not surely on the disk is written once
    more in its place: a record is neither lost, nor torn, nor there twice.
    """

    def __init__(self, directory: Path) -> None:
        """Opens DIR/records.jsonl for appending, first cutting off a torn last line.

        Raises:
            UserError: it cannot be opened.
        """
        self._path = directory / RECORDS_FILE
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
        self._file = open(self._path, "ab", buffering=0, opener=plain)  # noqa: SIM115 (see close)
        self._sure = os.fstat(self._file.fileno()).st_size

    def append(self, kind: str, record: Record | Mapping[str, Any]) -> None:
        """Writes one line; outcomes, evaluations and checks are also forced to the disk.

        The classes of a split's images are left out where it wrote them before.

        Raises:
            UserError: it cannot be written, though that was tried for `trainers.files.PATIENCE`. It comes with the next
                record, if that can be written; what is torn is cut off by the next who opens the file.
        """
        if self._closed:
            raise ValueError(f"{self._path}: closed file")
        new = line(kind, self._once(record if isinstance(record, Mapping) else asdict(record))).encode()
        self._rest += new
        attempt = partial(self._write, new, kind in ("outcome", "evaluation", "check"))
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
            if surely:
                os.fsync(self._file.fileno())
                self._sure, self._rest = self._sure + len(self._rest), b""
        except OSError:
            self._let_go()
            raise

    def _check_place(self) -> None:
        """What is written to a file that was removed, or replaced by an editor, nobody ever reads."""
        assert self._file is not None
        if not os.fstat(self._file.fileno()).st_nlink:
            raise UserError(
                f"{self._path}: another program removed or replaced it while it was written; the same command goes on "
                "from what is there"
            )

    def _written_anew(self) -> IO[bytes]:
        """All the rest in its place, and the file, opened anew: what the old one says of the disk is not believed."""
        with self._path.open("r+b", buffering=0) as file:
            if os.fstat(file.fileno()).st_size < self._sure:
                raise UserError(
                    f"{self._path}: another program made it shorter while it was written; the same command goes on "
                    "from what is there"
                )
            file.seek(self._sure)
            _write_all(file, self._rest)
            file.truncate()
            os.fsync(file.fileno())
        return self._path.open("ab", buffering=0)

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
    """Every record of a run, in the order written; a torn last line is left out.

    Raises:
        UserError: the directory is not a run, its file cannot be read, or a line in the middle is damaged.
    """
    path = Path(directory) / RECORDS_FILE
    try:
        os.close(plain(str(path), os.O_RDONLY))
        lines = path.read_bytes().split(b"\n")
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(
            f"{directory}: not a run directory: it has no {RECORDS_FILE}; give the --out of a launch"
        ) from None
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    torn = lines.pop()
    records = parsed(path, lines)
    if torn.strip() and (last := whole_record(torn)) is not None:
        records.append(last)
    return records


def parsed(path: Path, lines: Iterable[bytes], before: int = 0) -> list[dict[str, Any]]:
    """The records on whole lines of a file, in their order; empty lines are none.

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
    path = directory / RECORDS_FILE
    return path.exists() and path.stat().st_size > 0


def only_trial(directory: Path, trial_ids: Iterable[str], beginning: str) -> str:
    """The one trial of a run whose id begins so.

    Raises:
        UserError: none does, or several do.
    """
    matches = {name for name in trial_ids if name.startswith(beginning)}
    if len(matches) == 1:
        return matches.pop()
    what = "no trial begins" if not matches else f"{len(matches)} trials begin"
    raise UserError(f"{directory}: {what} with {beginning!r}; `sweep results {directory}` lists their ids")


def _parsed(path: Path, number: int, text: bytes) -> dict[str, Any]:
    record = whole_record(text)
    if record is None:
        start = text[:40].decode(errors="replace")
        raise UserError(
            f"{path}:{number}: damaged line: must be one whole JSON record, got {start!r}; "
            "restore the line, or delete it: the next launch runs again what is then missing"
        )
    return record


def whole_record(text: bytes) -> dict[str, Any] | None:
    """The record on a line; None if it is torn, damaged or of no known kind."""
    try:
        record = json.loads(text)
    except ValueError:
        return None
    return record if isinstance(record, dict) and _is_whole(record) else None


def _is_whole(record: dict[str, Any]) -> bool:
    kind = record.get("record")
    return isinstance(kind, str) and kind in REQUIRED and record.keys() >= REQUIRED[kind]


def _cut_torn_line(path: Path) -> None:
    if not path.exists() or not path.stat().st_size:
        return
    with open(path, "r+b", opener=plain) as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:  # of a long log only its end is read
            end = content.rfind(b"\n") + 1
            tail = content[end:]
        file.seek(0, os.SEEK_END)
        if tail.strip() and whole_record(tail) is not None:
            file.write(b"\n")
        elif tail:
            file.truncate(end)
