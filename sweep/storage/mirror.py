"""What a launch or an evaluation writes on this machine, brought to the store beside it.

A thread looks at the files, so that nothing that writes them waits: records that grew are brought at once where an
outcome is among them, else every `EVERY` seconds. At the end of the block all is there, or one line says what is not.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sweep.storage import cache, checkpoints
from sweep.storage.asked import Carrier
from sweep.storage.lock import StoreLock
from sweep.storage.objects import Away, Store, gone, patiently, store_at, waiting
from trainers.errors import UserError
from trainers.files import PATIENCE, SILENCE
from trainers.provenance import host
from trainers.record import record_files

_log = logging.getLogger(__name__)

#: Between two looks, s; and how long records wait that are no outcomes, and who asks something of the launch, s.
PAUSE, EVERY = 0.5, 5.0
#: An object of records is written anew with each that comes, until it has so many bytes: then the next begins.
PART = 4_000_000
#: Records that are brought at once: what they say took long, or a user wrote it.
_AT_ONCE = tuple(b'{"record":"%s"' % kind for kind in (b"outcome", b"evaluation", b"check", b"note"))


@dataclass
class _Records:
    """How much of a file of records is in the store."""

    path: Path
    launch: int
    """Number of this launch in the names of its objects."""
    start: int
    """Where the object that is written to now begins in the file."""
    done: int
    """Up to where the file is in the store."""
    part: int = 0
    seen: int = 0
    """Up to where it was looked through for what is brought at once."""
    brought: float = -1e9

    def name(self) -> str:
        return f"{self.launch:06d}.{self.part:06d}"


class Mirror:
    """Brings a run to its store while it is written, in a block; its lock is held and its folder claimed."""

    def __init__(self, directory: Path, store: Store, lose: Callable[[str], None]) -> None:
        """Begins nothing yet.

        Args:
            directory: of the run on this machine.
            store: that the run lies in.
            lose: told why, in the thread, when the store refuses or stays away.
        """
        self._directory, self._store, self._lose = directory, store, lose
        self._records: dict[str, _Records] = {}
        self._plain: dict[str, tuple[int, int]] = {}
        self._carrier, self._carried = Carrier(directory, store), time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="store-mirror", daemon=True)

    def __enter__(self) -> Self:
        """Begins to look; what is asked of the run is there.

        Raises:
            UserError: the store refuses or stays away.
        """
        patiently(self._store, self._carrier.bring)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends the thread; `finish` comes after, unless the store is gone."""
        self._over.set()
        self._thread.join()

    def finish(self) -> None:
        """Brings all that is left, patiently, and notes what is there.

        Raises:
            UserError: the store refuses or stays away.
        """
        patiently(self._store, partial(self.look, surely=True))
        patiently(self._store, self._carrier.carry)
        for path in sorted((self._directory / "logs").glob("*.log")):
            patiently(self._store, partial(self._bring_plain, path))
        for path in sorted((self._directory / "checkpoints").glob("*.pt")):
            if Path(path.stem).suffix != ".previous":
                patiently(self._store, partial(checkpoints.bring_up, path, self._store, unless_changed=True))
        for name in self._records:
            there = patiently(self._store, partial(self._store.list, name))
            cache.pulled(self._directory, name, [[each, *there[each]] for each in sorted(there)])

    def look(self, surely: bool = False) -> None:
        """Brings what is new and due.

        Args:
            surely: all that is new.

        Raises:
            Away, UserError: the store does not take it.
        """
        code = self._directory / cache.CODE
        for path in (*(self._directory / name for name in cache.PLAIN), *code.glob("*.zip")):
            self._bring_plain(path)
        for path in record_files(self._directory):
            self._bring_records(path, surely)

    def _look_what_is_asked(self) -> None:
        if time.monotonic() - self._carried >= EVERY:
            self._carrier.carry()
            self._carried = time.monotonic()

    def _bring_plain(self, path: Path) -> None:
        try:
            status = path.stat()
        except OSError:
            return
        stamp = status.st_size, status.st_mtime_ns
        if self._plain.get(path.name) != stamp:
            self._store.write(path.relative_to(self._directory).as_posix(), path.read_bytes())
            self._plain[path.name] = stamp

    def _bring_records(self, path: Path, surely: bool) -> None:
        file = self._records.get(path.name) or self._begun(path)
        if path.stat().st_size <= file.done:
            return
        with path.open("rb") as opened:
            opened.seek(file.start)
            content = opened.read()
        content = content[: content.rfind(b"\n") + 1]
        end = file.start + len(content)
        new, file.seen = content[max(file.seen, file.start) - file.start :], end
        late = time.monotonic() - file.brought >= EVERY
        if end <= file.done or not (surely or late or any(kind in new for kind in _AT_ONCE)):
            return
        file.seen = file.done  # until it is there
        self._store.write(f"{path.name}/{file.name()}", content)
        file.done = file.seen = end
        file.brought = time.monotonic()
        if len(content) >= PART:
            file.start, file.part = end, file.part + 1

    def _begun(self, path: Path) -> _Records:
        """The file as it is in the store: `sweep.storage.cache.pull` has just made it that, and perhaps more."""
        there = self._store.list(path.name)
        size = sum(stamp.size for stamp in there.values())
        last = max((int(name.partition(".")[0]) for name in there), default=0)
        return self._records.setdefault(path.name, _Records(path, last + 1, size, size, seen=size))

    def _watch(self) -> None:
        since, told = time.monotonic(), False
        while not self._over.wait(PAUSE):
            try:
                self.look()
                self._look_what_is_asked()
                since, told = time.monotonic(), False
            except Away as away:
                waited = time.monotonic() - since
                if waited > PATIENCE:
                    self._lose(gone(self._store.address, away))
                    return
                if waited >= SILENCE and not told:
                    told = True
                    _log.warning("%s", waiting(self._store.address, away, PATIENCE))
            except FileNotFoundError:  # moved to its place at this moment
                continue
            except (UserError, OSError) as error:
                self._lose(str(error))
                return


class _Held:
    """A run in a store that this process holds."""

    def __init__(self) -> None:
        self.lost: str | None = None
        self.told = False
        self.listener: Callable[[str], Any] | None = None
        self._lock = threading.Lock()

    def lose(self, reason: str) -> None:
        """From now on nothing more is brought to the store; the listener is told, if there is one."""
        with self._lock:
            if self.lost is None:
                self.lost = reason
                self._tell()

    def hear(self, listener: Callable[[str], Any] | None) -> None:
        with self._lock:
            self.listener = listener
            self._tell()

    def _tell(self) -> None:
        if self.listener is not None and self.lost is not None and not self.told:
            self.told = True
            self.listener(self.lost)


#: Runs in stores that this process holds, by their folders here.
_held: dict[Path, _Held] = {}


@contextmanager
def held(directory: Path, command: str) -> Iterator[None]:
    """A block in which this process alone works on a run, and all that it writes is brought to its store.

    Args:
        directory: of the run; of an ordinary one nothing is done.
        command: such as sweep launch.

    Raises:
        UserError: another command holds the run, or the store refuses or stays away: what is not there yet is kept in
            the folder of this machine.
    """
    mark = cache.mark(directory)
    address = cache.address_of(directory)
    if mark is None or address is None:
        yield
        return
    holder = f"{command}, process {os.getpid()} on {host()} since {time.strftime('%F %T')}"
    store, run = store_at(address), _Held()
    with cache.claimed(directory, holder) as other:
        if other is not None:
            raise UserError(f"{address}: is in use by another command ({other}); wait for it, or take another address")
        with StoreLock(store, holder, mark["cache"], run.lose):
            cache.pull(directory, store)
            _held[directory] = run
            mirror = Mirror(directory, store, run.lose)
            try:
                with mirror:
                    yield
            finally:  # also where the command ends by sys.exit
                del _held[directory]
                if run.lost is None:
                    mirror.finish()
                elif not run.told:
                    raise UserError(f"{run.lost}; the same command goes on")


@contextmanager
def heeded(directory: Path, lose: Callable[[str], Any]) -> Iterator[None]:
    """A block that is told when the store of a run that this process holds is gone.

    Args:
        directory: of the run.
        lose: called in another thread with the reason, once.
    """
    run = _held.get(directory)
    if run is not None:
        run.hear(lose)
    try:
        yield
    finally:
        if run is not None:
            run.hear(None)
