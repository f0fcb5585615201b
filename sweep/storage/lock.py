"""Who holds a run in a store: an object that its holder writes anew every few seconds.

The rule needs no conditional write, which pyarrow does not offer, but a store whose listing holds all that was written
before, as those of S3, Google and MinIO do: who wants the run writes an object of its own first, and holds the run once
it has seen no other. Of two, the one that writes later sees the other. What is not written anew for `STALE` was left by
a process that is gone, and who sees that removes it; one that only stood still finds its own gone, and ends.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from sweep.storage.cache import address_of
from sweep.storage.objects import Away, Stamp, Store, gone, patiently, store_at
from trainers.errors import UserError
from trainers.files import PATIENCE
from trainers.machine import machine

#: Between two writings, s.
BEAT = 10.0
#: What was last written so long ago, by the store's clock, is left over, s: a holder whose store is away ends before.
STALE = 90.0
#: Between two looks of who waits for the run, s.
PAUSE = 1.0

FOLDER = "lock"

#: How an evaluation names itself.
EVALUATION = "sweep evaluate"


class _Other(NamedTuple):
    """What another command says of itself."""

    name: str
    stamp: Stamp
    values: dict[str, Any]


class StoreLock:
    """Holds a run in a store for one launch or evaluation, in a block."""

    def __init__(self, store: Store, holder: str, cache: str, lose: Callable[[str], None]) -> None:
        """Takes nothing yet.

        Args:
            store: that the run lies in.
            holder: what the next one is told that is running there.
            cache: a word of the folder of this machine, which the caller has claimed: what another of this machine left
                under the same word is of a process that is gone.
            lose: told why, in a thread, when the run is held no more.
        """
        self._store, self._lose = store, lose
        self._name = f"{FOLDER}/{secrets.token_hex(8)}"
        self._values = {"holder": holder, "cache": cache, "machine": machine()}
        self._beats = 0
        self._over = threading.Event()
        self._beating: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Takes the run, at once or when what is there has been seen to be left over.

        Raises:
            UserError: another command holds it; or the store refuses or stays away.
        """
        try:
            patiently(self._store, self._store.check)
            self._take()
        except BaseException:
            self._remove()
            raise
        self._beating = threading.Thread(target=self._beat, name="store-lock", daemon=True)
        self._beating.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives the run back."""
        self._over.set()
        if self._beating is not None:
            self._beating.join()
        self._remove()

    def _take(self) -> None:
        first: dict[str, Any] = {}
        while True:
            others = self._others()
            if not others:
                self._write(holds=True)
                return
            for other in others:
                beat = other.values.get("beat")
                if other.values.get("holds") and beat != first.setdefault(other.name, beat):
                    raise UserError(
                        f"{self._store.address}: is in use by another command "
                        f"({other.values.get('holder', 'unknown')}); wait for it, or take another address"
                    )
            if not any(other.values.get("holds") for other in others) and min(others).name < self._name:
                self._remove()  # of several that only want it, the first by name goes on
            time.sleep(PAUSE)

    def _others(self) -> list[_Other]:
        """Those that are not left over, of which it removes what is there; its own is written first."""
        own = None
        while own is None:  # who held the run and stood still meanwhile may take it for left over
            self._write(holds=False)
            there = patiently(self._store, partial(self._store.list, FOLDER))
            own = there.pop(self._name.rpartition("/")[2], None)
        others = []
        for name, stamp in there.items():
            if stamp.size < 0:
                continue
            with suppress(FileNotFoundError):
                path = f"{FOLDER}/{name}"
                other = _Other(path, stamp, self._read(path))
                if self._is_left(other, own):
                    patiently(self._store, partial(self._store.delete, path))
                else:
                    others.append(other)
        return others

    def _is_left(self, other: _Other, own: Stamp) -> bool:
        # A cache folder on a home that machines share may have locks for each machine alone.
        same = all(other.values.get(key) == self._values[key] for key in ("cache", "machine"))
        return same or own.time_ns - other.stamp.time_ns > STALE * 1e9

    def _read(self, path: str) -> dict[str, Any]:
        return _parsed(patiently(self._store, lambda: self._store.read(path)))

    def _write(self, holds: bool) -> None:
        patiently(self._store, partial(self._store.write, self._name, self._content(holds)))

    def _content(self, holds: bool) -> bytes:
        self._beats += 1
        return json.dumps({**self._values, "holds": holds, "beat": self._beats}).encode()

    def _beat(self) -> None:
        since = time.monotonic()
        while not self._over.wait(BEAT):
            try:
                if self._store.stamp(self._name) is None:
                    self._lose(f"{self._store.address}: another command has taken the run, as this one stood still")
                    return
                self._store.write(self._name, self._content(holds=True))
                since = time.monotonic()
            except Away as away:
                if time.monotonic() - since > PATIENCE:
                    self._lose(gone(self._store.address, away))
                    return
            except UserError as error:
                self._lose(str(error))
                return

    def _remove(self) -> None:
        with suppress(Away, UserError):  # it is left over then
            self._store.delete(self._name)


def is_held(directory: Path) -> bool:
    """Whether a launch holds a run in a store, on whichever machine; of an ordinary directory false."""
    address = address_of(directory)
    text = None if address is None else holder(store_at(address))
    return text is not None and not text.startswith(EVALUATION)


def holder(store: Store) -> str | None:
    """What the command says of itself that holds the run; None: none does.

    Raises:
        UserError: the store refuses or stays away.
    """
    there = patiently(store, partial(store.list, FOLDER))
    oldest = (time.time() - STALE) * 1e9  # by this machine's clock: who only reads has nothing to tell the store's by
    for name in (name for name, stamp in there.items() if stamp.size >= 0 and stamp.time_ns > oldest):
        with suppress(FileNotFoundError):
            values = _parsed(patiently(store, partial(store.read, f"{FOLDER}/{name}")))
            if values.get("holds"):
                return str(values.get("holder", "unknown"))
    return None


def _parsed(content: bytes) -> dict[str, Any]:
    try:
        values = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
