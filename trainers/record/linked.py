"""The records of a run whose study is registered: each line that matters says what its file held before it.

    "chain": {"bytes": n, "sha256": hash of the first n bytes of the file}

Whoever changes, drops, adds or moves a line breaks every link behind it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trainers.errors import UserError
from trainers.files import patiently, why
from trainers.plain_file import bounded
from trainers.record.file import RECORDS_FILE, RecordFile
from trainers.record.kinds import Record

#: Of a run directory whose study is registered (`sweep register`); its SHA-256 is its name.
REGISTRATION_FILE = "registration.json"

#: Bytes of the longest one that is read: the ids of a million trials take 15 MB.
_LONGEST = 1 << 26

#: The key of a launch's record that names the registration it found.
NOTED = "registration"

#: The key of a link, and the kinds of records that have one.
CHAIN = "chain"
LINKED = frozenset({"launch", "outcome", "evaluation", "check"})


class Chain:
    """What a file holds, hashed while it grows: each byte is read once."""

    def __init__(self, path: Path) -> None:
        """Reads nothing yet."""
        self._path, self._bytes, self._hash = path, 0, hashlib.sha256()

    def link(self) -> dict[str, Any]:
        """Of all that the file holds now."""
        with self._path.open("rb") as file:
            file.seek(self._bytes)
            while new := file.read(1 << 20):
                self._hash.update(new)
                self._bytes += len(new)
        return {"bytes": self._bytes, "sha256": self._hash.hexdigest()}


class LinkedFile(RecordFile):
    """A `RecordFile`; of a registered run the lines of `LINKED` carry a link."""

    def __init__(self, directory: Path, name: str = RECORDS_FILE) -> None:
        """Opens the file, as a `RecordFile` does.

        Raises:
            UserError: it cannot be opened.
        """
        super().__init__(directory, name)
        self.registered = registered(directory)
        """The registration's SHA-256; None: the run has none, and lines have no links."""
        self._chain = Chain(directory / name)

    def append(self, kind: str, record: Record | Mapping[str, Any]) -> None:
        """Writes one line, as a `RecordFile` does.

        Raises:
            UserError: it cannot be written, or what stands before it cannot be read.
        """
        if self.registered is not None and kind in LINKED:
            values = record if isinstance(record, Mapping) else asdict(record)
            record = {**values, CHAIN: self._link()}
        super().append(kind, record)

    def _link(self) -> dict[str, Any]:
        link: dict[str, Any] = {}
        try:
            patiently(self._path, lambda: link.update(self._of_all()))
        except OSError as error:
            raise UserError(f"{self._path}: {why(error, self._path)}; mend that: the same command goes on") from None
        return link

    def _of_all(self) -> dict[str, Any]:
        """The link after all that was to be written, also where an attempt before failed."""
        if self._file is None and not self._closed:
            self._file, self._chain = self._written_anew(), Chain(self._path)
        return self._chain.link()


def registered(directory: Path) -> str | None:
    """The SHA-256 of a run's registration; None: it has none.

    Raises:
        UserError: its file cannot be read.
    """
    content = registration(directory)
    return None if content is None else hashlib.sha256(content).hexdigest()


def registration(directory: Path) -> bytes | None:
    """What `sweep register` wrote of a run; None: nothing.

    Raises:
        UserError: its file cannot be read.
    """
    path = directory / REGISTRATION_FILE
    try:
        return bounded(path, _LONGEST)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None


def as_written(launch: Mapping[str, Any]) -> str:
    """A launch as it was before any merge: two of one text are one launch."""
    own = {key: value for key, value in launch.items() if key not in ("merged", "after", CHAIN, "crc")}
    return json.dumps(own, sort_keys=True)


def refuse_lost(directory: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Refuses to add to a registered run without its registration: what is then written has no link, and no claim
    would count as registered any more, which nothing mends.

    Raises:
        UserError: trials were begun under a registration, and it is gone, or another one.
    """
    noted: dict[str, None] = {}
    found = None
    for record in records:
        if record["record"] == "launch":
            found = record.get(NOTED)
        elif record["record"] == "start" and found is not None:
            noted[str(found)] = None
    if noted and (now := registered(directory)) not in noted:
        what = f"{directory / REGISTRATION_FILE}: is {'not there' if now is None else 'another one'}"
        raise UserError(f"{what}, and trials were begun under that of SHA-256 {', '.join(noted)}; put that there")
