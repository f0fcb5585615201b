"""Where a checkpoint lies; and files that are always whole: who reads sees the old one until the new one is there."""

from __future__ import annotations

import errno
import fcntl
import logging
import math
import os
import re
import secrets
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from trainers.machine import machine, started
from trainers.plain_file import is_plain

_log = logging.getLogger(__name__)

Result = TypeVar("Result")

_NO_HOST = re.compile(r"[^A-Za-z0-9-]", re.ASCII)

#: How long storage that is full or away is waited for, s: NFSv4's grace period after a restart is 90 at most, and the
#: servers of Lustre and of managed NFS fail over within a minute.
PATIENCE = 60.0
#: How long it is waited for in silence, s.
SILENCE = 3.0
#: How often a folder is made again that goes before there is a file in it.
_MANY = 100

#: Between two tries, s: the first and the longest.
_PAUSES = 0.05, 1.0

#: What storage answers that is full, read-only, or away; all else is answered the same for ever.
PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("ENOSPC", "EDQUOT", "EROFS", "EIO", "ENOENT", "ESTALE", "ENOTCONN", "ETIMEDOUT", "ENODEV", "ENXIO"),
        *("ENETDOWN", "ENETUNREACH", "EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET", "ESHUTDOWN", "EREMOTEIO"),
    )
)

NO_INODES = "no inodes are left there"

#: A part: of which file, on which host, by which process, of which machine; older code's tell only of the file.
_PART = re.compile(
    r"\..*?(-[^/]*\.(?P<process>[0-9]+)\.(?P<machine>[0-9a-f]{16}))?-[0-9a-f]{8}\.part(\..*)?", re.ASCII | re.DOTALL
)

#: Characters of a file's name, and of a host's, that the name of its part has: in all they are 255 bytes at most.
_LONGEST_STEM, _LONGEST_HOST = 40, 40

#: A part of another machine that has not changed for so long is nobody's, s: to write one takes minutes at most.
ABANDONED = 600.0

#: Folders for which this process has waited in vain: until something is written there, nobody waits for them again.
_given_up: set[Path] = set()

#: Until when storage is waited for at most, by `time.monotonic`: a process that is to end does not wait to the full.
_until = math.inf

#: Parts of this process that could not be removed when their time came, as their storage was away.
_left: set[Path] = set()


def checkpoint_path(directory: Path, trial_id: str) -> Path:
    """Where a trial of a run keeps its checkpoint."""
    return directory / "checkpoints" / f"{trial_id}.pt"


def previous_path(checkpoint: Path) -> Path:
    """Where the checkpoint before this one is kept, while the trial trains."""
    return checkpoint.with_name(f"{checkpoint.stem}.previous{checkpoint.suffix}")


def opened(path: Path, opening: Callable[[Path], Result]) -> Result:
    """Opens a file in a folder that is made for it, and made again where it goes with the process that made it before.

    Args:
        path: of the file.
        opening: opens it.

    Raises:
        OSError: the folder cannot be made, or the file not be opened.
    """
    for _ in range(_MANY):
        with suppress(FileNotFoundError, FileExistsError):  # between these steps, or within the first
            path.parent.mkdir(parents=True, exist_ok=True)
            return opening(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return opening(path)


def patiently(path: Path, act: Callable[[], Result], *, verb: str = "written") -> Result:
    """What `act` gives, which is called again while storage is full, read-only or away; one line in the log says so.

    Args:
        path: of what is written or read.
        act: may be called any number of times, each as if it were the first.
        verb: what cannot be done, for the line.

    Raises:
        OSError: the last, after `PATIENCE`; or the first, where no waiting mends it, or in this folder was in vain.
    """
    folder, begun, pause, silent = path.parent, time.monotonic(), _PAUSES[0], True
    while True:
        try:
            result = act()
        except OSError as error:
            waited = time.monotonic() - begun
            over = waited >= PATIENCE or begun + waited >= _until
            if error.errno not in PASSING or over or folder in _given_up:
                if error.errno in PASSING:
                    _given_up.add(folder)
                raise
            if silent and waited >= SILENCE:
                silent = False
                _log.warning("%s: %s; waiting for it, up to %.0f s", path, why(error, path, verb), PATIENCE)
        else:
            _given_up.discard(folder)
            return result
        time.sleep(min(pause, max(PATIENCE - waited, 0)))
        pause = min(2 * pause, _PAUSES[1])


def hurry(seconds: float) -> None:
    """From now on this process waits so long at most, s, for all storage together; inf: as `patiently` says."""
    global _until
    _until = time.monotonic() + seconds


def why(error: OSError, path: Path, verb: str = "written") -> str:
    """That a file cannot be written, and why; of a full disk also whether inodes are what it lacks."""
    reason = f"cannot be {verb}: {error.strerror or error}"
    if error.errno == errno.ENOSPC:
        with suppress(OSError):
            room = os.statvfs(next(folder for folder in path.absolute().parents if folder.exists()))
            if room.f_files and not room.f_favail:
                return f"{reason}: {NO_INODES}"
    return reason


def write(path: Path, content: Callable[[Path], object]) -> None:
    """Writes a file as a whole, by `content`, which is given the path to write to; patient as `patiently` is.

    Args:
        path: of the file; its folder exists.
        content: may be called several times.

    Raises:
        OSError: as `whole`.
    """

    def attempt() -> None:
        with whole(path) as part:
            content(part)

    patiently(path, attempt)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A new file in the same folder to write to; at the end of the block it takes the place of `path` in one move.

    What is written is on the disk before it is moved, so that a crash leaves the old file or the new one. A block that
    raises leaves the old file, and nothing beside it. An OSError then names `path`, which a full disk's does not; and
    what torch made of one is that again.

    The new file is this process's alone: it is none that was there before, nor the end of a link. It is locked, and its
    name says which machine's and which process's it is, by which `remove_parts` knows it from what a killed one left.

    Args:
        path: of the file; its folder exists.

    Raises:
        OSError: it cannot be written; or a device, a pipe or a folder is there, whose place no file takes.
    """
    _remove_left()
    try:
        if not path.is_symlink() and not is_plain(path):
            raise OSError(errno.EINVAL, "is not a regular file")
        part, descriptor = _new_part(path)
    except OSError as error:
        error.filename = str(path)
        raise
    try:
        yield part
        os.fsync(descriptor)  # opened before the first byte: it is told of each write that failed
        os.replace(part, path)
    except BaseException as error:
        _remove(part)
        failed = error.__context__ if isinstance(error, RuntimeError) else error  # torch.save makes one of the other
        if not isinstance(failed, OSError):
            raise
        failed.filename = str(path)
        raise failed from None
    finally:
        os.close(descriptor)


def _new_part(path: Path) -> tuple[Path, int]:
    """A file of a name that was not there, locked; and its descriptor."""
    while True:
        part = path.with_name(f".{path.stem[:_LONGEST_STEM]}-{_owner()}-{secrets.token_hex(4)}.part{path.suffix}")
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with suppress(OSError):  # a file system without locks: its name tells
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:
            return part, descriptor
        os.close(descriptor)  # who removes parts came before the lock


def _owner() -> str:
    return f"{_NO_HOST.sub('_', socket.gethostname())[:_LONGEST_HOST]}.{os.getpid()}.{machine()}"


def _remove(part: Path) -> None:
    """Removes a part of this process, later if its storage is away now."""
    _left.add(part)
    with suppress(OSError):
        part.unlink()
        _left.discard(part)


def _remove_left() -> None:
    for part in list(_left):
        _remove(part)


def remove_parts(folder: Path) -> None:
    """Removes what processes left that were killed while they wrote; what a process writes now stays.

    What another machine wrote stays until it is `ABANDONED`: a lock that is not seen from here proves nothing, as of
    storage that has none, or has it for each machine alone.
    """
    _remove_left()
    for part in folder.iterdir() if folder.is_dir() else ():
        if (name := _PART.fullmatch(part.name)) is not None:
            with suppress(OSError):
                _remove_if_left(part, int(name["process"] or 0), name["machine"])


def _remove_if_left(part: Path, process: int, where: str | None) -> None:
    """While it is locked: a process that has just made it, and gets the lock next, then sees that it is gone."""
    descriptor = os.open(part, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            left = True
        except BlockingIOError:
            return
        except OSError:
            left = process not in (0, os.getpid()) and started(process) is None
        if where not in (None, machine()):
            left = storage_time(part.parent) - part.stat().st_mtime >= ABANDONED
        if left:
            part.unlink()
    finally:
        os.close(descriptor)


def storage_time(folder: Path) -> float:
    """By the clock that stamps files in a folder, s; where none can be written, 0.

    Args:
        folder: on the storage.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0")
            file.flush()
            return os.fstat(file.fileno()).st_mtime
    except OSError:
        return 0.0
