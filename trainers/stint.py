"""A stint: some minutes of work on a list of trials, one after another in its order, without a sweep, Ray or Optuna.

It writes the records that a launch writes, and keeps checkpoints beside them, so that both can be carried elsewhere:
the next stint goes on from them, and `sweep merge` takes them in.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import IO, Any

import torch

from trainers import cards
from trainers.blanked import command_line
from trainers.data.sources import shapes
from trainers.engine import device_of
from trainers.errors import UserError
from trainers.fields import plural
from trainers.files import checkpoint_path, opened, remove_parts, storage_time, why, write
from trainers.loop import train
from trainers.machine import machine, started
from trainers.outcome import outcome_of, start_of
from trainers.plain_file import plain
from trainers.provenance import environment, host
from trainers.record import (
    DynamicsRecord,
    EpochRecord,
    OutcomeRecord,
    ResumeRecord,
    finished,
    read_file,
)
from trainers.record.linked import NOTED, LinkedFile, refuse_lost
from trainers.trial_list import ListedTrial, TrialList

#: As a launch holds its directory (`sweep.run.lock`), which this then refuses, and is refused by.
_LOCK = ".lock"

#: As it holds one on storage without flock, and after how many seconds without a sign of life it is dead.
_SOFT_LOCK, _SOFT_STALE = ".lock.soft", 60.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

EXIT_STOPPED = 130

#: Outcomes of trials that are tried once more, after all others.
_LAST = ("failed", "out_of_memory")

#: By how much longer than the longest epoch so far the next may be.
_SLACK = 1.1


class _Ends(BaseException):
    """The stint ends within a trial; carries why."""


@dataclass
class _Known:
    """What the file holds of a trial."""

    epochs: dict[int, float] = field(default_factory=dict)
    """Epoch -> its seconds, by which the same epoch is told from one that was trained again."""
    dynamics: dict[int, float] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    listed: bool = False
    reached: int = 0
    """The epoch at which its newest attempt stands, which may be behind an earlier one's, of other code, say."""

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in one of its records."""
        match record["record"]:
            case "trial":
                self.listed = True
            case "start":
                self.outcome = {}
            case "resume":
                self.reached = record["epoch"]
            case "epoch":
                self.epochs[record["epoch"]], self.reached = record["seconds"], record["epoch"]
            case "dynamics":
                self.dynamics[record["epoch"]] = record["seconds"]
            case "outcome":
                self.outcome = record

    def has(self, record: EpochRecord | DynamicsRecord | ResumeRecord) -> bool:
        """Whether this very line stands there: a trial that goes on sends its earlier epochs again."""
        seen = {"epoch": self.epochs, "dynamics": self.dynamics}.get(record.kind, {})
        return record.epoch in seen and seen[record.epoch] == getattr(record, "seconds", None)

    @property
    def finished(self) -> bool:
        """Whether it has its numbers."""
        return finished(self.outcome, self.epochs)


class Stint:
    """Works on a list of trials until they are done, its time is over or a signal comes."""

    def __init__(
        self, trials: TrialList, file: Path, seconds: float = math.inf, say: Callable[[str], None] = print
    ) -> None:
        """Runs nothing yet.

        Args:
            trials: in their order.
            file: takes the records; checkpoints lie in a folder beside it.
            seconds: that it may take; it ends at the last epoch's end at which another would not fit.
            say: prints a line.
        """
        self._list, self._file, self._say = trials, file, say
        self._until = time.monotonic() + seconds
        self._longest = 0.0
        """Seconds of the longest epoch of this stint."""
        self._signal = ""
        self._cuts = False
        """Whether a signal ends what stands here at once; else the next line that is written does."""
        self._known: dict[str, _Known] = {}

    def run(self) -> list[OutcomeRecord]:
        """Trains what is not finished, in the list's order, what has failed before at last.

        Returns:
            How each trial ended that was begun.

        Raises:
            UserError: the file cannot be written, or another process is at it, or the run was registered and its
                registration did not travel with it, or the images are not there, or the GPU answers no more.
        """
        torch.set_num_threads(self._list.threads)
        with _held(self._file.parent), self._signals():
            asked = {"record": "launch", NOTED: self._list.launch.get(NOTED)}
            refuse_lost(self._file.parent, [asked, {"record": "start"}, *self._read()])
            order = sorted(self._list.trials, key=lambda one: bool(self._of(one.id).outcome.get("outcome") in _LAST))
            left = [one for one in order if not self._of(one.id).finished]
            self._look_at_images(left)
            self._records = LinkedFile(self._file.parent, self._file.name)
            ended: list[OutcomeRecord] = []
            with suppress(_Ends):
                self._begin(left)
                for trial in left:
                    if not self._fits():
                        break
                    ended.append(self._trained(trial))
                    if self._signal:
                        break
            self._records.close()
        return ended

    @property
    def signal(self) -> str:
        """The name of the one that has ended it; empty: none."""
        return self._signal

    def left(self) -> int:
        """Trials that are not finished."""
        return sum(not self._of(one.id).finished for one in self._list.trials)

    def _of(self, trial: str) -> _Known:
        return self._known.setdefault(trial, _Known())

    def _read(self) -> list[Mapping[str, Any]]:
        """Takes in what the file holds; gives it."""
        records: list[Mapping[str, Any]] = list(read_file(self._file)) if self._file.exists() else []
        for record in records:
            if "trial_id" in record:
                self._of(record["trial_id"]).add(record)
        remove_parts(checkpoint_path(self._file.parent, "").parent)
        return records

    def _look_at_images(self, left: list[ListedTrial]) -> None:
        """Before anything is written: each trial in turn would fail for want of them, in a registered run for good."""
        try:
            shapes(one.config.data for one in left)
        except Exception as error:  # of a user's own data set, too
            raise UserError(outcome_of("", error, self._file.parent / "logs" / "data.log").reason) from None

    def _begin(self, left: list[ListedTrial]) -> None:
        """Writes down the stint, as a launch, and the trials that are new."""
        if not left:
            return
        where = environment() | {"command": command_line(["python", "-m", "trainers", *sys.argv[1:]])}
        where |= {"time": time.strftime("%FT%T%z")}
        about = json.dumps(where, indent=2) + "\n"
        path = self._file.parent / "environment.json"
        try:
            write(path, lambda part: part.write_text(about, encoding="utf-8"))
        except OSError as error:
            raise UserError(f"{path}: {why(error, path)}; mend that, or make room: the same command goes on") from None
        code = {key: where[key] for key in ("commit", "dirty", "code_version", "versions")}
        found = {} if self._records.registered is None else {NOTED: self._records.registered}
        self._append("launch", {"command": where["command"], "decides": None, **code, **self._list.launch, **found})
        for trial in self._list.trials:
            if not self._of(trial.id).listed:
                self._append("trial", trial.record)

    def _trained(self, trial: ListedTrial) -> OutcomeRecord:
        began, device = time.monotonic(), torch.device("cpu")
        try:
            device = device_of(trial.config.device)
            self._append("start", start_of(trial.id, trial.config, device))
            with self._training():
                outcome = self._run(trial)
        except _Ends as end:
            outcome = OutcomeRecord(trial.id, "interrupted", str(end), self._of(trial.id).reached)
        except BaseException as error:
            outcome = outcome_of(trial.id, error, self._file.parent / "logs" / f"{trial.id}.log")
        self._append("outcome", asdict(outcome))
        came_to = f"{outcome.outcome}, {plural(outcome.epochs, 'epoch')}, {time.monotonic() - began:.0f} s here"
        self._say(f"{trial.id} {trial.where()}: {came_to}{outcome.reason and '; ' + outcome.reason}")
        if not cards.freed(device):  # not within `except`, where the error holds the frames, and they the model
            raise UserError(f"{device}: answers no more; the same command goes on in a new process")
        return outcome

    def _run(self, trial: ListedTrial) -> OutcomeRecord:
        known, clock = self._of(trial.id), [time.monotonic()]

        def report(record: EpochRecord | DynamicsRecord | ResumeRecord) -> None:
            if known.has(record):
                known.reached = record.epoch
                return
            self._append(record.kind, asdict(record))
            if not isinstance(record, EpochRecord):
                return
            self._longest = max(self._longest, time.monotonic() - clock[0])
            clock[0] = time.monotonic()
            if record.epoch < trial.config.epochs and not self._fits():
                raise _Ends("its minutes are over; the next goes on with it")

        return train(trial.config, report, checkpoint_path(self._file.parent, trial.id))

    def _fits(self) -> bool:
        """Whether an epoch more would end in time."""
        return time.monotonic() + _SLACK * self._longest <= self._until

    def _append(self, kind: str, values: Mapping[str, Any]) -> None:
        """Writes a line, which no signal cuts, and takes it in; a signal that has come ends the stint then."""
        stamped = {**values, "time": round(time.time(), 3)}
        cuts, self._cuts = self._cuts, False
        self._records.append(kind, stamped)
        if "trial_id" in stamped:
            self._of(stamped["trial_id"]).add({"record": kind, **stamped})
        self._cuts = cuts
        if self._signal and kind != "outcome":
            raise _Ends(f"stopped by {self._signal}")

    @contextmanager
    def _training(self) -> Iterator[None]:
        """A block that a signal cuts: the trial's newest checkpoint is written then."""
        self._cuts = True
        try:
            yield
        finally:
            self._cuts = False

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """A block in which the first signal ends the stint, and a second one the process; `nohup`'s SIGHUP does not."""
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        taken = [number for number in _SIGNALS if number != signal.SIGHUP or before[number] != signal.SIG_IGN]
        for number in taken:
            signal.signal(number, self._catch)
        try:
            yield
        finally:
            for number in taken:
                signal.signal(number, before[number])

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._signal:
            os._exit(EXIT_STOPPED)
        self._signal = signal.Signals(number).name
        if self._cuts:
            raise _Ends(f"stopped by {self._signal}")


@contextmanager
def _held(directory: Path) -> Iterator[None]:
    """A block in which no launch and no other stint writes to this directory."""
    path = directory / _LOCK
    with _locked(path) as file:
        try:
            if holder := _soft_holder(directory):
                raise UserError(f"{directory}: is in use by another command ({holder}); wait for it")
            with suppress(OSError):  # on a full disk it holds all the same
                file.truncate(0)
                name = f"python -m trainers, process {os.getpid()} on {host()} since {time.strftime('%F %T')}"
                os.write(file.fileno(), name.encode())  # past the buffer, whose rest closing would try once more
            yield
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)


def _locked(path: Path) -> IO[str]:
    while True:
        try:
            file = opened(path, partial(open, mode="a+", errors="replace", opener=plain))
        except OSError as error:
            raise UserError(
                f"{path.parent}: cannot be written: {error.strerror}; give --records a place that can"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with file:
                file.seek(0)
                holder = file.read(200).strip() or "unknown"
            raise UserError(f"{path.parent}: is in use by another command ({holder}); wait for it") from None
        except OSError:  # storage without locks: whoever carries records there sees to it
            return file
        if _is_there(file, path):
            return file
        file.close()  # its holder has just removed it, and another may hold a new one


def _soft_holder(directory: Path) -> str:
    """Who holds it as `sweep.run.soft_lock` does where there is no flock; empty: nobody who seems to live."""
    folder = directory / _SOFT_LOCK
    with suppress(OSError, ValueError, LookupError, TypeError):  # none, or it changes: a launch looks too
        newest = max(folder.glob("[0-9]" * 12))
        with open(newest, encoding="utf-8", opener=plain) as file:
            holders = json.load(file)
        for one in holders:
            if (beat := folder / one["token"]).exists() and (
                started(one["process"]) == one["started"]
                if one["machine"] == machine()
                else storage_time(folder) - beat.stat().st_mtime < _SOFT_STALE
            ):
                return str(one["name"])
    return ""


def _is_there(file: IO[str], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
