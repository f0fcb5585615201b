"""What is asked of the launch of a run in a store, from any machine: DIR/requests here and requests/ there, carried.

Each request is a small file here and an object there (`sweep.run.requests`). What has changed since the last look on
one side is done on the other; where both have, the store's holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from sweep.storage import cache
from sweep.storage.objects import Stamp, Store, patiently, store_at
from trainers.files import whole
from trainers.plain_file import bounded

FOLDER = "requests"

#: Bytes of a request at most; what has more is none.
_MOST = 16_000
_NAME = re.compile(r"paused|set-[a-z_.]{1,60}|(?:cancel|undo)-[0-9a-f]{1,64}|note-[0-9a-f]{1,64}-[0-9a-f]{1,20}")


class _Known(NamedTuple):
    """A request as it was on both sides."""

    stamp: Stamp | None
    content: bytes
    settled: bool
    """Whether it was read again since: stamps of S3 are in seconds, in which it may have been written twice."""


class Carrier:
    """Carries the requests of one run between this machine and the store."""

    def __init__(self, directory: Path, store: Store) -> None:
        """Carries nothing yet.

        Args:
            directory: of the run on this machine.
            store: that it lies in.
        """
        self._folder, self._store = directory / FOLDER, store
        self._known: dict[str, _Known] = {}

    def bring(self) -> None:
        """Makes them here what they are in the store, as `carry` raises."""
        self._known = {}
        there = self._there()
        for name in self._here().keys() - there.keys():
            self._put(name, None)
        self._known = {name: _Known(None, content, False) for name, content in self._here().items()}
        self.carry()

    def carry(self) -> None:
        """Does on each side what has changed on the other.

        Raises:
            Away, UserError: the store does not answer, or refuses.
            OSError: the folder cannot be written.
        """
        there, here = self._there(), self._here()
        for name in sorted({*there, *here, *self._known}):
            self._carry(name, there.get(name), here.get(name))

    def _carry(self, name: str, stamp: Stamp | None, here: bytes | None) -> None:
        known = self._known.get(name)
        before = None if known is None else known.content
        same = known is not None and known.stamp == stamp
        theirs = before if same and known is not None and known.settled else self._read(name, stamp)
        if theirs != before:
            self._put(name, theirs)
        elif here != before:
            theirs, stamp, same = here, self._write(name, here), False
        if theirs is None:
            self._known.pop(name, None)
        else:
            self._known[name] = _Known(stamp, theirs, same)

    def _there(self) -> dict[str, Stamp]:
        every = self._store.list(FOLDER).items()
        return {name: stamp for name, stamp in every if _NAME.fullmatch(name) and 0 <= stamp.size <= _MOST}

    def _here(self) -> dict[str, bytes]:
        found = {}
        for name in filter(_NAME.fullmatch, os.listdir(self._folder) if self._folder.is_dir() else ()):
            try:
                found[name] = bounded(self._folder / name, _MOST)
            except OSError:  # taken back in this very moment
                continue
        return found

    def _read(self, name: str, stamp: Stamp | None) -> bytes | None:
        try:
            return None if stamp is None else self._store.read(f"{FOLDER}/{name}")
        except FileNotFoundError:
            return None

    def _write(self, name: str, content: bytes | None) -> Stamp | None:
        place = f"{FOLDER}/{name}"
        if content is None:
            self._store.delete(place)
            return None
        self._store.write(place, content)
        return self._store.stamp(place)

    def _put(self, name: str, content: bytes | None) -> None:
        if content is None:
            (self._folder / name).unlink(missing_ok=True)
            return
        self._folder.mkdir(exist_ok=True)
        with whole(self._folder / name) as part:
            part.write_bytes(content)


def brought(directory: Path) -> None:
    """What is asked of a run is here what it is in the store, for who reads it; where a launch of this machine runs, it
    is that.

    Raises:
        UserError: the store refuses or stays away.
    """
    if (address := cache.address_of(directory)) is not None:
        with cache.claimed(directory) as launch:
            if launch is None:
                patiently(store_at(address), Carrier(directory, store_at(address)).bring)


@contextmanager
def carried(directory: Path) -> Iterator[None]:
    """A block that reads and changes what is asked of a run, which is then in its store; an ordinary one has none.

    Where a launch runs on this machine, that carries it.

    Raises:
        UserError: the store refuses or stays away.
    """
    address = cache.address_of(directory)
    if address is None:
        yield
        return
    with cache.claimed(directory) as launch:
        carrier = Carrier(directory, store_at(address)) if launch is None else None
        if carrier is not None:
            patiently(store_at(address), carrier.bring)
        yield
        if carrier is not None:
            patiently(store_at(address), carrier.carry)
