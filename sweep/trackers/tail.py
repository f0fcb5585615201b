"""The lines that are new in a run's records, as often as one asks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainers.plain_file import plain
from trainers.record import known_kinds, merged, parsed, record_files


@dataclass
class _Place:
    """Up to where a file has been read."""

    file: int = 0
    """Its inode: another file in its place is read from its beginning."""
    size: int = 0
    lines: int = 0


class Tail:
    """Reads what was appended to a run's records since it looked last; from their beginning at first."""

    def __init__(self, directory: Path) -> None:
        """Reads nothing yet.

        Args:
            directory: of the run.
        """
        self._directory = directory
        self._places: dict[str, _Place] = {}

    def new(self) -> list[dict[str, Any]]:
        """The whole lines that have come, those of several files `trainers.record.merged`.

        A file that was replaced, or is shorter than it was, is read anew from its beginning.

        Raises:
            UserError: a line is damaged.
            OSError: a file cannot be read.
        """
        logs = [self._new(path) for path in record_files(self._directory)]
        return logs[0] if len(logs) == 1 else merged(logs)

    def _new(self, path: Path) -> list[dict[str, Any]]:
        place = self._places.setdefault(path.name, _Place())
        with open(path, "rb", opener=plain) as file:
            status = os.fstat(file.fileno())
            if status.st_ino != place.file or status.st_size < place.size:
                place.file, place.size, place.lines = status.st_ino, 0, 0
            if status.st_size == place.size:
                return []
            file.seek(place.size)
            content = file.read(status.st_size - place.size)
        whole = content[: content.rfind(b"\n") + 1]
        records = parsed(path, lines := whole.splitlines(), place.lines)
        place.size, place.lines = place.size + len(whole), place.lines + len(lines)
        return known_kinds(path, records)
