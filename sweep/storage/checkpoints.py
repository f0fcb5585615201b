"""A trial's file of a run in a store: there where it goes on, wherever that is, and in the store once it is written.

The process that trains brings it: the newest in the background, so that training never waits; and at the trial's end,
before its outcome is told, the one with the weights that are kept. Beside the files of this machine stands which object
each was made of or became (`.store/ID.json`): an object that is another one now was written elsewhere, and is fetched.
Whether a file is whole its own hash says (`trainers.archive`); `trainers.resuming` looks at it as at any other.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from sweep.storage import cache
from sweep.storage.objects import Stamp, Store, patiently, store_at
from trainers.files import checkpoint_path, previous_path, whole

_log = logging.getLogger(__name__)


def fetch(directory: Path, trial_id: str, *, trains: bool = False) -> None:
    """Brings a trial's file to this machine, if the store has another than the one that is here or became of it.

    Args:
        directory: of the run; of an ordinary one nothing is done.
        trial_id: of the trial.
        trains: the trial is to train here: what it writes from now on is brought to the store, and the file that is
            here is kept as the one before, which the trial goes on from where the new one is damaged.

    Raises:
        UserError: the store refuses or stays away.
    """
    address = cache.address_of(directory)
    if address is None:
        return
    store, path = store_at(address), checkpoint_path(directory, trial_id)
    there = patiently(store, partial(store.stamp, _name(path)))
    if there is not None and not (path.exists() and _noted(path).get("object") == [*there]):
        content = patiently(store, partial(store.read, _name(path)))
        path.parent.mkdir(parents=True, exist_ok=True)
        if trains and path.exists():
            os.replace(path, previous_path(path))
        with whole(path) as part:
            part.write_bytes(content)
        _note(path, there)
    if trains:
        from trainers import checkpoint

        checkpoint.mirror = _uploads


def settle(directory: Path, trial_id: str) -> None:
    """Returns once a trial's file is in the store, as it is here.

    Raises:
        UserError: the store refuses or stays away.
    """
    if (address := cache.address_of(directory)) is not None:
        store = store_at(address)
        _uploads.flush()
        patiently(store, partial(bring_up, checkpoint_path(directory, trial_id), store))


def bring_log(directory: Path, log: Path) -> None:
    """Brings a trial's log to the store, if there is one; it is no matter if it does not come there."""
    if (address := cache.address_of(directory)) is not None and log.exists():
        with suppress(Exception):
            store_at(address).write(f"logs/{log.name}", log.read_bytes())


def bring_up(path: Path, store: Store, *, unless_changed: bool = False) -> None:
    """Brings a file to the store, unless it is there.

    Args:
        path: of the file.
        store: of its run.
        unless_changed: not where the object is another than the file was made of or became: the trial has gone on
            elsewhere meanwhile.

    Raises:
        Away, UserError: the store does not take it.
    """
    try:
        with path.open("rb") as file:
            status = os.fstat(file.fileno())
            here = [status.st_ino, status.st_size, status.st_mtime_ns]
            if _noted(path).get("file") == here:
                return
            content = file.read()
    except FileNotFoundError:
        return
    if unless_changed and (there := store.stamp(_name(path))) and [*there] != _noted(path).get("object"):
        return
    store.write(_name(path), content)
    _note(path, store.stamp(_name(path)), here)


class _Uploads:
    """Brings files up in a thread: of each the newest. Put in `trainers.checkpoint.mirror` by `fetch`."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[Path, None] = {}
        self._working = False

    def written(self, path: Path) -> None:
        """A file has just been written; returns at once."""
        with self._changed:
            self._waiting[path] = None
            if not self._working:
                threading.Thread(target=self._work, name="store-checkpoints", daemon=True).start()
                self._working = True  # only now, as no thread may start; it waits for this block's end

    def flush(self) -> None:
        """Returns once all are there, or were tried: what was not taken is a line in the log."""
        with self._changed:
            self._changed.wait_for(lambda: not self._working)

    def _work(self) -> None:
        while (path := self._next()) is not None:
            try:
                if (address := cache.address_of(path.parent.parent)) is not None:
                    store = store_at(address)
                    patiently(store, partial(bring_up, path, store))
            except Exception as error:  # the next one, or the trial's end, tries again
                _log.warning("%s", error)

    def _next(self) -> Path | None:
        with self._changed:
            if not self._waiting:
                self._working = False
                self._changed.notify_all()
                return None
            path = next(iter(self._waiting))
            del self._waiting[path]
            return path


_uploads = _Uploads()


def _name(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _note_path(path: Path) -> Path:
    return path.parent.parent / ".store" / f"{path.stem}.json"


def _noted(path: Path) -> dict[str, Any]:
    try:
        values: dict[str, Any] = json.loads(_note_path(path).read_bytes())
    except (OSError, ValueError):
        return {}
    return values


def _note(path: Path, there: Stamp | None, here: list[int] | None = None) -> None:
    """Which object a file is, and by which it is known: its place on the disk, bytes and time."""
    if here is None:
        status = path.stat()
        here = [status.st_ino, status.st_size, status.st_mtime_ns]
    _note_path(path).parent.mkdir(exist_ok=True)
    with whole(_note_path(path)) as part:
        part.write_text(json.dumps({"object": there and [*there], "file": here}))
