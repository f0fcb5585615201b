"""A run directory: its files, its lock, whose it is."""

from __future__ import annotations

import errno
import os
import re
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import yaml

from sweep.config import SweepConfig
from sweep.run import lock, soft_lock
from sweep.run.lock import FileLock, InUse, in_the_way
from sweep.run.soft_lock import WITHOUT_FLOCK, SoftLock
from sweep.share import Share
from sweep.storage.cache import shown
from sweep.storage.lock import is_held
from sweep.yaml_text import LONGEST, parsed
from trainers.errors import UserError
from trainers.files import checkpoint_path, remove_parts, why, write
from trainers.own import snapshot
from trainers.plain_file import bounded, plain
from trainers.provenance import host
from trainers.record import has_records, record_files
from trainers.record.rules import SHARE

CONFIG_FILE = "sweep.yaml"

#: How the files begin that a launch makes for a moment, to see whether all nodes see them.
PROBE = ".probe-"

#: How long a launch looks at most whether all nodes see them, s; clocks differ by less.
_PROBING = 3600.0

#: How an evaluation names itself in the lock.
EVALUATION = "sweep evaluate, process"

#: And a merge.
MERGE = "sweep merge, process"


_OF_SHARE = re.compile(r"sweep launch --shard ([0-9/]+),", re.ASCII)


class RunLock:
    """Holds a run directory for one launch or evaluation; ends with the process, however that ends.

    At the end the lock's files go, and the folders that were made for it, if nothing else came into them: a launch that
    is refused leaves nothing.
    """

    def __init__(self, directory: Path, holder: str = "sweep launch, process", share: Share | None = None) -> None:
        """Makes the directory if need be, and takes it.

        Args:
            directory: of the run.
            holder: what the next one is told that is running there; see `EVALUATION`.
            share: that the launch runs: it holds the directory together with other shares of as many, and refuses all
                else; None: it holds all of it.

        Raises:
            UserError: it cannot be written or locked, or another holds it.
        """
        name, where = _name(holder, share), "--out " if holder.startswith("sweep launch") else ""
        self._made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        try:
            with suppress(FileNotFoundError):  # the folder goes with who made it: nothing is there to append to
                for path in written_in_place(directory):
                    open(path, "a", opener=plain).close()
            file_lock = FileLock(directory, share)
            self._lock: FileLock | SoftLock = file_lock
        except OSError as error:
            about = f" {Path(error.filename).name}" if error.errno in (errno.ELOOP, errno.EINVAL) else ""
            raise UserError(
                f"{where}{directory}: cannot be written:{about} {error.strerror}; give a folder that can"
            ) from None
        try:
            self._take(file_lock, directory, name, share)
        except InUse as taken:
            raise taken.refusal(directory) from None
        except OSError as error:
            self._remove()
            raise UserError(
                f"{where}{directory}: cannot be locked: {error.strerror}; give a folder whose file system has flock, "
                "or hard links"
            ) from None

    def _take(self, file_lock: FileLock, directory: Path, name: str, share: Share | None) -> None:
        try:
            file_lock.take(name)
        except OSError as error:
            if error.errno not in WITHOUT_FLOCK:
                raise
            file_lock.leave()
            self._lock = SoftLock(directory, share)
            self._lock.take(name)
        else:  # of another machine, which has no flock there
            if (refused := in_the_way(share, soft_lock.holders(directory))) is not None:
                self._lock.release()
                raise refused

    def check(self) -> None:
        """Before a record is written: that the directory is still held, which flock sees to and a soft lock may lose.

        Raises:
            UserError: another has taken it over.
        """
        self._lock.check()

    def _remove(self) -> None:
        self._lock.release()
        with suppress(OSError):  # something came into it
            for folder in self._made:
                folder.rmdir()

    def __enter__(self) -> Self:
        """The lock, held since it was made."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives the directory back."""
        self._remove()


def _name(holder: str, share: Share | None) -> str:
    """The words that name a holder, `share` in the command's own form."""
    if share is not None:
        holder = holder.replace("sweep launch", f"sweep launch --shard {share}", 1)  # as `_OF_SHARE` reads it
    return f"{holder} {os.getpid()} on {host()} since {time.strftime('%F %T')}"


def written_in_place(directory: Path) -> list[Path]:
    """The files of a run that are there and are appended to: the others are moved to their place, which is no risk."""
    return [*record_files(directory), *(path for path in log_folder(directory).glob("*.log") if os.path.lexists(path))]


def holders(directory: Path) -> list[str]:
    """The names of those that hold a directory at this moment."""
    return [*lock.holders(directory), *(name for name, _ in soft_lock.holders(directory))]


def is_live(directory: Path) -> bool:
    """Whether a launch holds the directory at this moment, or one of a share, on another machine too where it lies in a
    store; an evaluation or a merge trains nothing, and does not count.
    """
    return is_live_here(directory) or is_held(directory)


def is_live_here(directory: Path) -> bool:
    """What `is_live` tells, but of a run in a store only whether a launch of this machine holds it."""
    return any(not holder.startswith((EVALUATION, MERGE)) for holder in holders(directory))


def live_shares(directory: Path) -> list[Share]:
    """The shares whose launches hold the directory at this moment, in their order."""
    named = (_OF_SHARE.match(holder) for holder in holders(directory))
    shares = (Share.of(words[1]) for words in named if words is not None and SHARE.holds(words[1]))
    return sorted(shares, key=lambda share: share.index)


def is_starting(directory: Path) -> bool:
    """Whether a launch holds the directory and has written no records yet: it plans, or Ray starts."""
    return not has_records(directory) and is_live(directory)


def refuse_other_sweep(directory: Path, config: SweepConfig) -> None:
    """Two sweeps with different names never share a directory.

    Raises:
        UserError: the directory holds another sweep, or nobody can tell.
    """
    refuse_other_name(Path(directory), config.name, "give another --out", "--out ")


def refuse_other_name(directory: Path, name: str | None, way_out: str, where: str = "") -> None:
    """What `refuse_other_sweep` does, of a sweep of this name; None: it is not known.

    Raises:
        UserError: the directory holds a sweep of another name, or nobody can tell.
    """
    if name is not None and (own := sweep_name(directory)) is not None and own != name:
        raise UserError(f"{where}{shown(directory)}: holds the sweep {own!r}, not {name!r}; {way_out}")


def sweep_name(directory: Path) -> str | None:
    """The name of the sweep that a directory holds; None: it has no config.

    Raises:
        UserError: what is there is no config.
    """
    path = directory / CONFIG_FILE
    try:
        return str(parsed(bounded(path, LONGEST).decode())["name"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        raise UserError(f"{path}: is not the config of a sweep; delete it: the next launch writes it anew") from None


def clean(directory: Path, alone: bool = True) -> None:
    """Removes what killed processes left half written in a run directory, which the caller holds.

    What a process writes there now stays: trials of a killed launch may outlive it by some seconds.

    Args:
        directory: of the run.
        alone: whether no other launch may hold it too, whose probes are younger than `_PROBING`.
    """
    for folder in (directory, checkpoint_path(directory, "").parent, directory / snapshot.FOLDER):
        remove_parts(folder)
    for probe in directory.glob(f"{PROBE}*"):
        with suppress(OSError):
            if alone or time.time() - probe.stat().st_mtime > _PROBING:
                probe.unlink()


def write_whole(path: Path, text: str) -> None:
    """Writes the text beside its place and moves it there, so that no reader sees half of it.

    Raises:
        UserError: it cannot be written, though that was tried for `trainers.files.PATIENCE`.
    """
    try:
        write(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {why(error, path)}; mend that: the same command goes on") from None


def log_folder(directory: Path) -> Path:
    """Where a run keeps tracebacks and Ray's own messages."""
    return directory / "logs"


def log_path(directory: Path, trial: str) -> Path:
    """Where the traceback of a failed trial is written."""
    return log_folder(directory) / f"{trial}.log"
