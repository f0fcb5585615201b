"""A run directory while a launch holds it: the lock, and the only hand that writes records."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import yaml

from sweep.config import SweepConfig
from sweep.config_file import dump
from sweep.plan import Plan, metric
from sweep.progress import Progress, TrialProgress
from sweep.search import PlannedTrial
from sweep.trial import Message
from trainers.errors import UserError
from trainers.files import remove_parts, whole
from trainers.provenance import environment, host
from trainers.record import (
    DynamicsRecord,
    EpochRecord,
    OutcomeRecord,
    RecordFile,
    dynamics_record,
    epoch_record,
    has_records,
)

CONFIG_FILE = "sweep.yaml"
LOCK_FILE = ".lock"
#: How an evaluation names itself in the lock.
EVALUATION = "sweep evaluate, process"
#: How long a launch waits for the lock, s: `is_live` takes it too, for an instant.
PATIENCE = 1.0


#: What a trial that goes on sends again, by kind.
_REPEATABLE: dict[str, Callable[[Mapping[str, Any]], EpochRecord | DynamicsRecord]] = {
    "epoch": epoch_record,
    "dynamics": dynamics_record,
}


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
        except OSError as error:
            raise UserError(f"--out {directory}: cannot be written: {error.strerror}; give a folder that can") from None
        try:
            self._take()
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "unknown"
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
            return self._path.open("a+")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._path.open("a+")

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
        """While the lock is held, so that nobody else's goes."""
        self._path.unlink(missing_ok=True)
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


def is_live(directory: Path) -> bool:
    """Whether a launch holds the directory at this moment; an evaluation trains nothing, and does not count."""
    try:
        with (directory / LOCK_FILE).open() as file:
            holder = file.read()
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return not holder.startswith(EVALUATION)
    except OSError:
        return False
    return False


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
        name = yaml.safe_load(path.read_text(encoding="utf-8"))["name"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise UserError(f"{path}: must be a file that you may read: {error.strerror}; mend that") from None
    except (yaml.YAMLError, UnicodeDecodeError, TypeError, KeyError):
        raise UserError(f"{path}: is not the config of a sweep; delete it: the next launch writes it anew") from None
    if name != config.name:
        raise UserError(f"--out {directory}: holds the sweep {name!r}, not {config.name!r}; give another --out")


class Journal:
    """Takes every message of every trial, writes what is new, and tells the search and `listener`."""

    def __init__(self, directory: Path, plan: Plan, earlier: Sequence[Mapping[str, Any]]) -> None:
        """Writes nothing yet; the caller holds the run's lock.

        Args:
            directory: of the run.
            plan: made from the same earlier records.
            earlier: records of earlier launches.
        """
        self.directory, self.progress = directory, Progress.of(earlier)
        self.listener: Callable[[TrialProgress, Message], None] = lambda trial, message: None
        self._plan = plan

    @contextmanager
    def open(self, command: str) -> Iterator[None]:
        """A block in which trials run: begins with the launch and every new trial written down."""
        self._file = RecordFile(self.directory)
        try:
            self._begin(command)
            yield
        finally:
            self._file.close()

    def _begin(self, command: str) -> None:
        """Writes sweep.yaml, environment.json, the launch and every trial that is new; no trial runs yet."""
        for folder in (self.directory, self.directory / "checkpoints"):
            remove_parts(folder)
        where = environment() | {"command": command, "time": time.strftime("%FT%T%z")}
        _write_whole(self.directory / CONFIG_FILE, dump(self._plan.config))
        _write_whole(self.directory / "environment.json", json.dumps(where, indent=2) + "\n")
        known = self._plan.search.known()
        self._append(
            "launch",
            {
                "command": command,
                **{key: where[key] for key in ("commit", "dirty", "code_version", "versions")},
                "metric": self._plan.config.metric,
                "mode": self._plan.config.mode,
                "size": self._plan.size,
                "wanted": [trial.id for trial in known],
            },
        )
        for trial in known:
            self._register(trial)

    def next(self) -> PlannedTrial | None:
        """The next trial to run, written down as planned; None when there is no more."""
        trial = self._plan.search.next()
        if trial is not None:
            self._register(trial)
        return trial

    def take(self, message: Message) -> None:
        """Writes a trial's message down, unless it is an epoch, or its dynamics, that stands there already."""
        values = {key: value for key, value in message.items() if key != "record"}
        trial = self.progress.trials[values["trial_id"]]
        parsed = _REPEATABLE.get(message["record"])
        if parsed is not None and trial.has(parsed(values)):
            return
        self._append(message["record"], values)
        if message["record"] == "outcome":
            self._plan.search.tell(trial.id, metric(trial, self._plan.config))
        self.listener(trial, message)

    def fail(self, trial_id: str, reason: str) -> None:
        """The outcome of a trial whose process is gone."""
        self.take({"record": "outcome", **vars(OutcomeRecord(trial_id, "failed", reason, 0))})

    def interrupt(self, reason: str) -> None:
        """The outcome `interrupted` for every trial that runs; their checkpoints stay."""
        for trial in self.progress.running():
            self.take({"record": "outcome", **vars(OutcomeRecord(trial.id, "interrupted", reason, trial.epoch))})

    def _register(self, trial: PlannedTrial) -> None:
        """Writes the trial down, again where a wider space gives its point more keys."""
        known = self.progress.trials.get(trial.id)
        if known is None or trial.id not in self.progress.wanted or known.point != trial.point:
            self._append("trial", trial.record(len(self.progress.trials)))

    def _append(self, kind: str, values: Mapping[str, Any]) -> None:
        stamped = {**values, "time": round(time.time(), 3)}
        self._file.append(kind, stamped)
        self.progress.add({"record": kind, **stamped})


def _write_whole(path: Path, text: str) -> None:
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")
