"""The records of a run whose study is registered: each line that matters says what its file held before it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from analysis.claims import registration
from analysis.frames.chain import CHAIN, LINKED, Chain
from trainers.errors import UserError
from trainers.files import patiently, why
from trainers.record import RECORDS_FILE, Record, RecordFile


class LinkedFile(RecordFile):
    """A `RecordFile`; of a registered run the lines of `LINKED` carry a link of `analysis.frames.chain`."""

    def __init__(self, directory: Path, name: str = RECORDS_FILE) -> None:
        """Opens the file, as a `RecordFile` does.

        Raises:
            UserError: it cannot be opened.
        """
        super().__init__(directory, name)
        self.registered = registration.noted(directory)
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
