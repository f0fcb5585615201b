"""A run directory's lock where the storage has flock: it ends with its process, however that ends.

    .lock        held by a launch or an evaluation for itself; by any number of shares of a sweep together
    .lock-1of4   held by the launch of that share; all that are held at once have the same count
    .lock-door   held by a share for the moment in which it looks which others there are

All are removed by the last who leaves.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

from sweep.share import Share
from trainers.errors import UserError
from trainers.files import opened
from trainers.plain_file import plain

LOCK_FILE = ".lock"

#: How long the lock is waited for, s: whoever only asks holds it for an instant, and so does who leaves.
PATIENCE = 1.0

#: How long a share waits at the door, s: through which all of an array of jobs go at once, one by one.
PATIENCE_AT_DOOR = 60.0

#: Between two tries, s.
_PAUSE = 0.02

#: Bytes of the text that names a holder.
LONGEST_NAME = 200

_ALONE = fcntl.LOCK_EX | fcntl.LOCK_NB
_TOGETHER = fcntl.LOCK_SH | fcntl.LOCK_NB

_OF_SHARE = re.compile(r"\.lock-([0-9]+)of([0-9]+)", re.ASCII)


class Held(UserError):
    """A run directory is in use by another command."""


class InUse(Exception):
    """Another process holds the directory, or a part of it."""

    def __init__(self, holder: str, way_out: str = "wait for it, or take another directory") -> None:
        """Args:
        holder: the text that names it; empty where that could not be written.
        way_out: what to do.
        """
        self.holder, self.way_out = holder or "unknown", way_out

    def refusal(self, directory: Path) -> Held:
        """What the user is told."""
        return Held(f"{directory}: is in use by another command ({self.holder}); {self.way_out}")


def in_the_way(own: Share | None, others: Iterable[tuple[str, Share | None]]) -> InUse | None:
    """Why a process cannot hold a directory beside others; None where it can.

    Args:
        own: the share that it is to run; None: it wants all for itself.
        others: the name of each that holds it, and its share.
    """
    for name, other in others:
        if own is None or other is None or own == other:
            return InUse(name)
        if own.count != other.count:
            return InUse(name, f"wait for it, or give --shard i/{other.count}, which runs beside it")
    return None


class FileLock:
    """Holds a directory through flock from `take` to `release`."""

    def __init__(self, directory: Path, share: Share | None = None) -> None:
        """Makes the directory if need be, and opens its lock file, which is held by nothing yet.

        Raises:
            OSError: it cannot be written.
        """
        self.path, self._share = directory / LOCK_FILE, share
        self._own: IO[str] | None = None
        """The file of the share, held."""
        self._file = self._opened()

    def take(self, name: str) -> None:
        """Holds it.

        Args:
            name: what others are told that is running there.

        Raises:
            InUse: another does, and that does not end within `PATIENCE`.
            OSError: the storage has no locks, or the file went and cannot be made again.
        """
        deadline = time.monotonic() + PATIENCE
        while (refused := self._try()) is not None:
            if time.monotonic() > deadline:
                self._file.close()
                raise refused
            time.sleep(_PAUSE)
        file = self._own or self._file
        file.truncate(0)
        with suppress(OSError):  # on a full disk it holds all the same, and the launch then makes room: `remove_parts`
            os.write(file.fileno(), name.encode()[:LONGEST_NAME])

    def check(self) -> None:
        """Nobody takes it from its holder."""

    def release(self) -> None:
        """Removes the files while they are held, so that nobody else's go; on storage that is away they stay."""
        if self._file.closed:  # it was refused
            return
        with suppress(OSError):
            if self._own is not None:
                _unlink(self._own, self._own_path)
            fcntl.flock(self._file, _ALONE)  # of the shares the last who leaves; who fails holds nothing either
            for path in _of_shares(self.path.parent) if _is_there(self._file, self.path) else ():
                path.unlink()
            _unlink(self._file, self.path)
        self._file.close()

    def leave(self) -> None:
        """Where storage turns out to have no flock: closes and removes the files, which hold nothing.

        Raises:
            InUse: another machine has held one through flock, and whether it still does cannot be seen from here.
        """
        self._file.close()
        files = [self.path, *_of_shares(self.path.parent)]
        if name := next(filter(None, map(_text, files)), ""):
            raise InUse(
                name,
                "it has locked it by flock, which this machine lacks there, so that nobody sees here whether it still "
                f"runs; once it has ended, delete {self.path}",
            )
        for file in files:
            file.unlink(missing_ok=True)

    @property
    def _own_path(self) -> Path:
        assert self._share is not None
        return self.path.with_name(f"{LOCK_FILE}-{self._share.index}of{self._share.count}")

    def _opened(self) -> IO[str]:
        return opened(self.path, _open)

    def _try(self) -> InUse | None:
        """Holds it, or gives why not."""
        while True:
            try:
                fcntl.flock(self._file, _ALONE if self._share is None else _TOGETHER)
            except BlockingIOError:
                return InUse(_holder(self.path))
            if _is_there(self._file, self.path):
                break
            self._file.close()
            self._file = self._opened()
        if self._share is None or (refused := self._try_share()) is None:
            return None
        fcntl.flock(self._file, fcntl.LOCK_UN)
        return refused

    def _try_share(self) -> InUse | None:
        """While `.lock` is held with others, so that it stays there."""
        assert self._share is not None
        with _open(self.path.with_name(f"{LOCK_FILE}-door")) as door:
            if not _comes_through(door):
                return InUse("another share, which starts")
            if (refused := in_the_way(self._share, _shares(self.path.parent, self._share))) is not None:
                return refused
            file = _open(self._own_path)
            try:
                fcntl.flock(file, _ALONE)
            except BlockingIOError:  # somebody asks
                file.close()
                return InUse(_text(self._own_path))
            if _is_there(file, self._own_path):
                self._own = file
                return None
            file.close()
            return InUse("a share that leaves")


def _comes_through(door: IO[str]) -> bool:
    deadline = time.monotonic() + PATIENCE_AT_DOOR
    while True:
        try:
            fcntl.flock(door, _ALONE)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(_PAUSE)
        else:
            return True


def _open(path: Path) -> IO[str]:
    return open(path, "a+", opener=plain)


def _is_there(file: IO[str], path: Path) -> bool:
    """The file that is locked is the one in the directory: who held it before may have removed it at its end."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _unlink(file: IO[str], path: Path) -> None:
    with file:
        if _is_there(file, path):
            path.unlink()


def _of_shares(directory: Path) -> list[Path]:
    """The files of shares, and their door; none where the directory goes at this moment."""
    with suppress(FileNotFoundError):
        return list(directory.glob(f"{LOCK_FILE}-*"))
    return []


def _shares(directory: Path, beside: Share | None = None) -> Iterator[tuple[str, Share]]:
    """The name of each share that is held there, and the share.

    Args:
        directory: of the run.
        beside: those that disturb this one not at all are left out, unlooked at.
    """
    for path in _of_shares(directory):
        if (words := _OF_SHARE.fullmatch(path.name)) is not None:
            share = Share(int(words[1]), int(words[2]))
            if (beside is None or share == beside or share.count != beside.count) and _is_held(path):
                yield _text(path), share


def _is_held(path: Path) -> bool:
    try:
        with open(path, opener=plain) as file:
            fcntl.flock(file, _TOGETHER)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _text(path: Path) -> str:
    with suppress(OSError), open(path, opener=plain, errors="replace") as file:
        return file.read(LONGEST_NAME).strip()
    return ""


def _holder(path: Path) -> str:
    """Who holds `.lock`, or is one of those that do."""
    return next((name for name, _ in _shares(path.parent)), "") or _text(path)


def holders(directory: Path) -> list[str]:
    """The names of those that hold the directory at this moment."""
    path = directory / LOCK_FILE
    return [_text(path)] if _is_held(path) else [name for name, _ in _shares(directory)]
