"""DIR/trackers/NAME.jsonl: what a tracker has been sent, a line each time, so that nothing is sent twice.

The first line holds a token, by which a tracker tells the trials of this run from those of another of the same sweep.
A line is written once a tracker has taken what it tells of; who is killed between the two sends that once more, which
each tracker bears in its own way.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Self

from trainers.errors import UserError
from trainers.plain_file import plain

FOLDER = "trackers"


@dataclass
class Sent:
    """What a tracker has been sent of one trial."""

    run: str = ""
    """What the tracker goes on with: its own name of the run, say. Empty: there is none yet."""
    epochs: set[int] = field(default_factory=set)
    facts: str = ""
    """A hash of all but the epochs."""
    begun: int = 0
    """How often it had been begun anew by then; another run of the tracker each time."""


class Cursor:
    """What a tracker has been sent of a run; its one writer holds the lock of DIR/trackers/NAME."""

    def __init__(self, path: Path, file: IO[bytes], lines: Iterable[dict[str, Any]]) -> None:
        """Of the lines of a file that is open for appending; use `opened`."""
        self._path, self._file = path, file
        self._trials: dict[str, Sent] = {}
        self.token = ""
        for line in lines:
            self.token = line.get("token", self.token)
            if "trial" in line:
                self._take(line)
        if not self.token:
            self.token = secrets.token_hex(4)
            self._write({"token": self.token})

    @classmethod
    @contextmanager
    def opened(cls, directory: Path, name: str) -> Iterator[Self]:
        """A block with the cursor of a run's tracker; a torn last line is cut off.

        Raises:
            UserError: it cannot be written, or is damaged.
        """
        path = cursor_path(directory, name)
        path.parent.mkdir(exist_ok=True)
        with open(path, "a+b", buffering=0, opener=plain) as file:
            file.seek(0)
            *lines, torn = file.read().split(b"\n")
            if torn:
                file.truncate(file.tell() - len(torn))
            try:
                cursor = cls(path, file, map(json.loads, lines))
            except (ValueError, KeyError, TypeError, AttributeError):
                raise UserError(f"{path}: is damaged; remove it: all is then sent once more, as other runs") from None
            yield cursor

    def of(self, trial: str) -> Sent:
        """What was sent of a trial."""
        return self._trials.get(trial, Sent())

    def add(self, trial: str, run: str, epochs: Iterable[int], facts: str, begun: int) -> None:
        """Writes down that a tracker has taken something of a trial."""
        line: dict[str, Any] = {"trial": trial, "run": run, "epochs": sorted(epochs), "facts": facts}
        line |= {"begun": begun} if begun else {}
        self._write(line)
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        sent, begun = self.of(line["trial"]), line.get("begun", 0)
        sent = self._trials[line["trial"]] = sent if sent.begun == begun else Sent(begun=begun)
        sent.run, sent.facts = line["run"], line["facts"]
        sent.epochs.update(line["epochs"])

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


def cursor_path(directory: Path, name: str) -> Path:
    """Where a run keeps what its tracker has been sent."""
    return directory / FOLDER / f"{name}.jsonl"
