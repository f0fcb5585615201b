"""A run directory: its files, its lock, whose it is."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import yaml

from sweep.config import SweepConfig
from sweep.storage.lock import is_held
from sweep.yaml_text import LONGEST, parsed
from trainers.errors import UserError
from trainers.files import checkpoint_path, remove_parts, why, write
from trainers.own import snapshot
from trainers.plain_file import bounded, plain
from trainers.provenance import host
from trainers.record import RECORDS_FILE, has_records

CONFIG_FILE = "sweep.yaml"

LOCK_FILE = ".lock"

#: How the files begin that a launch makes for a moment, to see whether all nodes see them.
PROBE = ".probe-"

#: How an evaluation names itself in the lock.
EVALUATION = "sweep evaluate, process"

#: How long a launch waits for the lock, s: `is_live` takes it too, for an instant.
PATIENCE = 1.0


class RunLock:
    """Holds a run directory for one launch or evaluation; ends with the process, however that ends.

    At the end the lock file goes, and the folders that were made for it, if nothing else came into them: a launch that
    is refused leaves nothing.
    """

    def __init__(self, directory: Path, holder: str = "sweep launch, process") -> None:
        """Makes the directory if need be, and takes it.

        Args:
            directory: of the run.
            holder: what the next one is told that is running there; see `EVALUATION`.

        Raises:
            UserError: it cannot be written or locked, or another launch holds it.
        """
        self._path = directory / LOCK_FILE
        self._made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
        try:
            self._file = self._opened()
            for path in written_in_place(directory):
                open(path, "a", opener=plain).close()
        except OSError as error:
            about = f" {Path(error.filename).name}" if error.errno in (errno.ELOOP, errno.EINVAL) else ""
            raise UserError(
                f"--out {directory}: cannot be written:{about} {error.strerror}; give a folder that can"
            ) from None
        try:
            self._take()
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read(200).strip() or "unknown"
            self._file.close()
            raise UserError(
                f"{directory}: is in use by another command ({holder}); wait for it, or take another directory"
            ) from None
        except OSError as error:
            self._remove()
            raise UserError(
                f"--out {directory}: cannot be locked: {error.strerror}; give a folder whose file system has locks"
            ) from None
        self._file.truncate(0)
        with suppress(OSError):  # on a full disk it holds all the same, and the launch then makes room: `remove_parts`
            os.write(self._file.fileno(), f"{holder} {os.getpid()} on {host()} since {time.strftime('%F %T')}".encode())

    def _opened(self) -> IO[str]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # the folder has just gone with the refused launch that made it
            return open(self._path, "a+", opener=plain)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return open(self._path, "a+", opener=plain)

    def _take(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_there():
                    return
                self._file.close()
                self._file = self._opened()
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _is_there(self) -> bool:
        """The file that is locked is the one in the directory: who held it before may have removed it at its end."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), self._path.stat())
        except FileNotFoundError:
            return False

    def _remove(self) -> None:
        """While the lock is held, so that nobody else's goes; on storage that is away or read-only it stays, unheld."""
        with suppress(OSError):
            if self._is_there():
                self._path.unlink()
        self._file.close()
        with suppress(OSError):  # something came into it
            for folder in self._made:
                folder.rmdir()

    def __enter__(self) -> Self:
        """The lock, held since it was made."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives the directory back."""
        self._remove()


def written_in_place(directory: Path) -> list[Path]:
    """The files of a run that are there and are appended to: the others are moved to their place, which is no risk."""
    return [path for path in (directory / RECORDS_FILE, *log_folder(directory).glob("*.log")) if os.path.lexists(path)]


def is_live(directory: Path) -> bool:
    """Whether a launch holds the directory at this moment, on another machine too where it lies in a store; an
    evaluation trains nothing, and does not count.
    """
    try:
        with open(directory / LOCK_FILE, opener=plain) as file:
            holder = file.read(200)
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return not holder.startswith(EVALUATION)
    except OSError:
        pass
    return is_held(directory)


def is_starting(directory: Path) -> bool:
    """Whether a launch holds the directory and has written no records yet: it plans, or Ray starts."""
    return not has_records(directory) and is_live(directory)


def refuse_other_sweep(directory: Path, config: SweepConfig) -> None:
    """Two sweeps with different names never share a directory.

    Raises:
        UserError: the directory holds another sweep, or nobody can tell.
    """
    path = directory / CONFIG_FILE
    try:
        name = parsed(bounded(path, LONGEST).decode())["name"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    except (yaml.YAMLError, ValueError, TypeError, KeyError):
        raise UserError(f"{path}: is not the config of a sweep; delete it: the next launch writes it anew") from None
    if name != config.name:
        raise UserError(f"--out {directory}: holds the sweep {name!r}, not {config.name!r}; give another --out")


def clean(directory: Path) -> None:
    """Removes what killed processes left half written in a run directory, which the caller holds.

    What a process writes there now stays: trials of a killed launch may outlive it by some seconds.
    """
    for folder in (directory, checkpoint_path(directory, "").parent, directory / snapshot.FOLDER):
        remove_parts(folder)
    for probe in directory.glob(f"{PROBE}*"):
        with suppress(OSError):
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
