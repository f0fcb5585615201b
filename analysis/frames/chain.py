"""The chain of a registered run's records: lines that say what their file held before them.

    "chain": {"bytes": n, "sha256": hash of the first n bytes of the file}

Whoever changes, drops, adds or moves a line breaks every link behind it. Who computes all links anew breaks none: that
only a hash tells which lies where nobody can change it. What stands behind the last link is held by none.
"""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.errors import UserError
from trainers.plain_file import plain
from trainers.record.form import UNKNOWN, Damaged, record_on
from trainers.record.linked import CHAIN, LINKED


@dataclass(frozen=True)
class Checked:
    """A file of records, held against its own chain."""

    name: str
    records: list[dict[str, Any]]
    """Those that are believed, in their order."""
    sha256: str
    """Of the whole file."""
    lines: int = 0
    damaged: tuple[int, ...] = ()
    """Numbers of the lines, from 1, that are not as they were written."""
    links: int = 0
    broken: int = 0
    """Line of the first link that does not hold; 0: all do."""
    held: int = 0
    """Line of the last link before that one, or of the last of all: the lines before it are as they were."""
    unlinked: tuple[int, ...] = ()
    """Lines that should have a link: those of `LINKED`, behind the first link."""
    deposited: frozenset[str] = frozenset()
    """Of the hashes asked for, those that are the file's at the end of one of its lines."""


def checked(path: Path, deposited: Collection[str] = ()) -> Checked:
    """The file held against its own chain, whatever was done to it.

    Args:
        path: of a file of records.
        deposited: SHA-256 sums that it had at earlier times.

    Raises:
        UserError: it cannot be read.
    """
    try:
        os.close(plain(str(path), os.O_RDONLY))
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    so_far, start, links, held, broken = hashlib.sha256(), 0, 0, 0, 0
    damaged, unlinked, records, found = [], [], [], set()
    texts = io.BytesIO(content).readlines()
    for number, text in enumerate(texts, start=1):
        record = _believed(text)
        if record is None and (text.endswith(b"\n") or number < len(texts)) and text.strip():
            damaged.append(number)
        if record is not None:
            records.append(record)
            if CHAIN in record:
                links += 1
                holds = record[CHAIN] == {"bytes": start, "sha256": so_far.hexdigest()}
                broken = broken or (0 if holds else number)
                held = held if broken else number
            elif links and record["record"] in LINKED:
                unlinked.append(number)
        so_far.update(text)
        start += len(text)
        if deposited and (one := so_far.hexdigest()) in deposited:
            found.add(one)
    known = [record for record in records if record["record"] != UNKNOWN]
    marks = tuple(damaged), links, broken, held, tuple(unlinked), frozenset(found)
    return Checked(path.name, known, so_far.hexdigest(), len(texts), *marks)


def _believed(text: bytes) -> dict[str, Any] | None:
    try:
        return record_on(text) if text.strip() else None
    except Damaged:
        return None
