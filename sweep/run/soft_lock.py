"""A run directory's lock where the storage has no flock, as NFS without lockd and Lustre without `-o flock`.

    .lock.soft/000000000007   who holds the directory now: the file with the highest number counts
    .lock.soft/TOKEN          the heartbeat of one of them, a file that it touches every `BEAT`

Who comes or goes writes the next number, a hard link: of several who want the same number one gets it, on NFS too, and
the others look again. So it is with a holder that is taken for dead: one takes over. The highest number is never
removed, so that none is given twice.

A holder of this machine is dead when its process is; any other when its heartbeat has not moved for `STALE` under the
eyes of who waits, whose own clock counts: no two machines' clocks are compared. Who was stopped for longer than that
looks, before it writes the next record, whether it still holds.

Of `filelock` (4.3) SoftFileLock has no heartbeat, so that a dead node's lock stays; SoftFileLease takes over by
exchanging two names, which NFS and Lustre refuse; SoftReadWriteLock, from which the numbered links are, waits out the
time for a process that it could see is dead, and tells nobody who holds, or whether anybody does.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from sweep.run.lock import LONGEST_NAME, PATIENCE, in_the_way
from sweep.share import Share
from trainers.errors import UserError
from trainers.files import patiently, storage_time, why
from trainers.machine import machine, started
from trainers.plain_file import plain
from trainers.record.rules import SHARE

_log = logging.getLogger(__name__)

FOLDER = ".lock.soft"

#: What flock answers where there is none: NFS, Lustre, others.
WITHOUT_FLOCK = frozenset((errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP))

#: Between two signs of life, s.
BEAT = 5.0

#: Without one for so long a holder is dead, s: servers of NFS and Lustre fail over within a minute.
STALE = 60.0

#: Between two looks at another's heartbeat, s; longer gaps, as of storage that is away, count as one of `_LONGEST_GAP`.
_PAUSE, _LONGEST_GAP = 0.2, 1.0

#: Characters of a list of who holds: of 10,000 shares.
_LONGEST = 10_000_000

_TOKEN = re.compile(r"[0-9a-f]{16}", re.ASCII)

#: What a file that is gone answers.
_GONE = (errno.ENOENT, errno.ESTALE)


@dataclass(frozen=True)
class _Holder:
    token: str
    """Names its heartbeat."""
    name: str
    share: str | None
    machine: str
    process: int
    started: int | None

    @property
    def part(self) -> Share | None:
        return None if self.share is None else Share.of(self.share)

    def is_dead(self) -> bool | None:
        """Whether its process is; None: that cannot be seen from here."""
        return None if self.machine != machine() else started(self.process) != self.started


class SoftLock:
    """Holds a directory from `take` to `release`, by a thread that gives signs of life."""

    def __init__(self, directory: Path, share: Share | None = None) -> None:
        """Writes nothing yet."""
        self._directory, self._folder, self._share = directory, directory / FOLDER, share
        self._token = secrets.token_hex(8)
        self._ends, self._lost = threading.Event(), False
        self._beaten = _clock()

    def take(self, name: str) -> None:
        """Holds it; waits for up to `STALE` where a holder elsewhere gives no sign of life.

        Args:
            name: what others are told that is running there.

        Raises:
            InUse: another does, and lives.
            OSError: the storage has no hard links either.
        """
        share = None if self._share is None else str(self._share)
        own = _Holder(self._token, name[:LONGEST_NAME], share, machine(), os.getpid(), started(os.getpid()))
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            self._enter(own)
        except BaseException:
            self._heartbeat.unlink(missing_ok=True)
            raise
        threading.Thread(target=self._live, name="lock", daemon=True).start()

    def _enter(self, own: _Holder) -> None:
        watch, began = _Watch(self._folder), time.monotonic()
        number, found = _latest(self._folder)
        while not self._is_in(found):
            others = [one for one in found if not watch.is_dead(one)]
            block = [one for one in others if in_the_way(self._share, [(one.name, one.part)])]
            if not block:
                self._beaten = _clock()
                self._heartbeat.touch()
                _put(self._folder, self._token, number + 1, [*others, own])
            else:
                waited = time.monotonic() - began
                live = ((one.name, one.part) for one in block if watch.lives(one))
                if waited > PATIENCE and (refused := in_the_way(self._share, live)) is not None:
                    raise refused
                if waited > 2 * BEAT and not any(map(watch.lives, block)):
                    watch.say(f"{self._directory}: is held by {block[0].name}")
                time.sleep(_PAUSE)
            number, found = _latest(self._folder)
        for one in watch.dead - {own.token}:
            (self._folder / one).unlink(missing_ok=True)

    @property
    def _heartbeat(self) -> Path:
        return self._folder / self._token

    def _live(self) -> None:
        while not self._ends.wait(BEAT) and not self._lost:
            with suppress(OSError, UserError):  # storage that is away, say: `check` waits for it
                self._beat()

    def _beat(self) -> None:
        """A sign of life, and a look whether it is still of use."""
        now = _clock()
        try:
            os.utime(self._heartbeat)
        except OSError as error:
            if error.errno not in _GONE:
                raise
            os.listdir(self._folder)  # else it is the storage that is away
            self._lost = True
        number, found = _latest(self._folder)
        self._lost |= number > 0 and not self._is_in(found)  # a listing may miss who goes and who comes
        self._beaten = now

    def _is_in(self, found: Sequence[_Holder]) -> bool:
        return any(one.token == self._token for one in found)

    def check(self) -> None:
        """Before a record is written: that the directory is still held.

        Raises:
            UserError: it was taken over, as this process gave no sign of life; or the storage is away.
        """
        silent = _clock() - self._beaten
        try:
            if silent > STALE / 2:
                patiently(self._heartbeat, self._beat)
            if silent > STALE and not self._lost:  # who has just found it dead may be about to take over
                time.sleep(_LONGEST_GAP)
                patiently(self._heartbeat, self._beat)
        except OSError as error:
            raise UserError(
                f"{self._heartbeat}: {why(error, self._heartbeat)}; mend that: the same command goes on"
            ) from None
        if self._lost:
            names = ", ".join(one.name for one in _latest(self._folder)[1]) or "one that has ended"
            raise UserError(
                f"{self._directory}: another command took it over ({names}), as this process gave no sign of life for "
                f"over {STALE:.0f} s; nothing was written since: end the other, or leave the run to it"
            )

    def release(self) -> None:
        """Gives it back; what was taken over is the other's."""
        self._ends.set()
        with suppress(OSError):  # on storage that is away it stays, and is dead with this process
            number, found = _latest(self._folder)
            while self._is_in(found):
                _put(self._folder, self._token, number + 1, [one for one in found if one.token != self._token])
                number, found = _latest(self._folder)
        with suppress(OSError):
            self._heartbeat.unlink(missing_ok=True)


class _Watch:
    """What one who waits has seen of the heartbeats of others."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.dead: set[str] = set()
        self._seen: dict[str, tuple[int, float, float]] = {}
        """Of each the heartbeat, for how long it has stood still, and when that was seen."""
        self._moved: set[str] = set()
        self._said = False

    def is_dead(self, one: _Holder) -> bool:
        """Looks at it once more."""
        beat, now = _heartbeat(self._folder / one.token), time.monotonic()
        dead = one.is_dead()
        if dead is None:
            last, still, at = self._seen.get(one.token, (beat, 0.0, now))
            if last != beat:
                self._moved.add(one.token)
            still = still + min(now - at, _LONGEST_GAP) if last == beat else 0.0
            self._seen[one.token] = beat or 0, still, now
            dead = still >= STALE
        if dead or beat is None:
            self.dead.add(one.token)
            return True
        return False

    def lives(self, one: _Holder) -> bool:
        """Whether it has been seen to."""
        return one.is_dead() is False or one.token in self._moved

    def say(self, what: str) -> None:
        """Says once that a holder is waited for."""
        if not self._said:
            self._said = True
            _log.warning("%s, which gives no sign of life; after %.0f s of that it is taken over", what, STALE)


def holders(directory: Path) -> list[tuple[str, Share | None]]:
    """The name and the share of each that holds a directory, at one look.

    That compares times of the storage alone; where they are several machines' (Lustre's), clocks that differ by `STALE`
    deceive it. A lock is never taken over by this.
    """
    folder = directory / FOLDER
    if not folder.is_dir():
        return []
    found = _latest(folder)[1]
    now = storage_time(folder) if any(one.is_dead() is None for one in found) else 0.0
    return [(one.name, one.part) for one in found if not _seems_dead(folder, one, now)]


def _seems_dead(folder: Path, one: _Holder, now: float) -> bool:
    if (beat := _heartbeat(folder / one.token)) is None:
        return True
    dead = one.is_dead()
    return now - beat / 1e9 >= STALE if dead is None else dead


def _heartbeat(path: Path) -> int | None:
    """When it was last touched, ns; opened, as only then NFS asks its server; None: it is gone."""
    try:
        with open(path, "rb", opener=plain) as file:
            return os.fstat(file.fileno()).st_mtime_ns
    except OSError as error:
        if error.errno in (*_GONE, errno.EINVAL):  # the latter of what is no file
            return None
        raise


def _clock() -> float:
    """Goes on while the machine sleeps, s."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _numbered(folder: Path, number: int) -> Path:
    return folder / f"{number:012d}"


def _numbers(folder: Path) -> list[int]:
    return [int(name) for name in os.listdir(folder) if name.isascii() and name.isdecimal() and len(name) == 12]


def _latest(folder: Path) -> tuple[int, list[_Holder]]:
    """The highest number, and who holds."""
    while True:
        number = max(_numbers(folder), default=0)
        while number and _numbered(folder, number + 1).exists():  # a listing may be older than a look at one name
            number += 1
        if not number:
            return 0, []
        with suppress(FileNotFoundError):  # meanwhile there is a higher one
            return number, _read(_numbered(folder, number))


def _read(path: Path) -> list[_Holder]:
    try:
        with open(path, encoding="utf-8", opener=plain) as file:
            found = [_Holder(**one) for one in json.loads(file.read(_LONGEST))]
        if all(map(_is_one, found)):
            return found
    except (ValueError, TypeError, RecursionError):
        pass
    except OSError as error:
        if error.errno != errno.EINVAL and not path.is_symlink():  # which would lead nowhere for ever
            raise
    raise UserError(f"{path}: is not as it was written; if no launch runs there, delete {path.parent}")


def _is_one(holder: _Holder) -> bool:
    """Whether it is as one writes itself: its token names a file that is removed once it is dead."""
    texts, numbers = (holder.token, holder.name, holder.machine), (holder.process, holder.started or 0)
    return (
        all(isinstance(text, str) for text in texts)
        and all(type(number) is int for number in numbers)
        and _TOKEN.fullmatch(holder.token) is not None
        and (holder.share is None or SHARE.holds(holder.share))
    )


def _put(folder: Path, token: str, number: int, held_by: Sequence[_Holder]) -> None:
    """Tries to make that the next number; who looks afterwards sees whether it is."""
    part = folder / f"{token}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump([asdict(one) for one in held_by], file)
        file.flush()
        os.fsync(file.fileno())
    try:
        with suppress(FileExistsError):
            os.link(part, _numbered(folder, number))
    finally:
        part.unlink()
    numbers = _numbers(folder)
    for old in set(numbers) - {max(numbers, default=0)}:
        _numbered(folder, old).unlink(missing_ok=True)
