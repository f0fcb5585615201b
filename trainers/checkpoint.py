"""A trial's file: where it stands while it trains, with the one before beside it; and at its end the weights kept.

hash, trial_id, code_version,
history,
dynamics                           always
network                            always: what `trainers.models.registry.build` has to know of the data
weights                            "last" and, where it is kept, "best": the epoch, the raw state dict and,
                                   where weights are averaged, the averaged one
optimizer, averaging, attack,
objective                          their state dicts, while the trial trains; a user's own objective's where it has one
"""

from __future__ import annotations

import errno
import logging
import math
import os
import shutil
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias

import torch
from torch import Tensor

from trainers import archive
from trainers.config import CheckpointConfig
from trainers.errors import UserError
from trainers.files import NO_INODES, previous_path, why, write
from trainers.provenance import code_version

_log = logging.getLogger(__name__)

State: TypeAlias = dict[str, Any]
Which = Literal["last", "best"]


class Mirror(Protocol):
    """Takes files to where they are kept besides."""

    def written(self, path: Path) -> None:
        """A file has just been written; returns at once."""

    def flush(self) -> None:
        """Returns once the files are there, or were tried."""


#: Of this process's files; none: they are kept where they are written alone.
mirror: Mirror | None = None


def save(path: Path, state: State) -> None:
    """Writes the file as a whole, patient with its storage (`trainers.files.write`); its folder exists.

    The one that was there is kept beside it (`previous_path`), in place of the one before that: whenever the process
    ends, one of the two can be read.

    Raises:
        UserError: it cannot be written; where the disk is full it says what it takes and what is free.
    """
    content = {"code_version": code_version(), **state}

    def put(part: Path) -> None:
        archive.write(part, content)
        with suppress(FileNotFoundError):  # the first, or a process that ended at this very place
            os.replace(path, previous_path(path))

    try:
        write(path, put)
    except OSError as error:
        raise _unwritten(path, content, error) from None
    if mirror is not None:
        mirror.written(path)


def _unwritten(path: Path, content: State, error: OSError) -> UserError:
    reason, room = why(error, path), ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and not reason.endswith(NO_INODES):
        room = f": it takes {archive.length(content) / 1e6:.3g} MB, beside those of before"
        with suppress(OSError):
            room += f", and {shutil.disk_usage(path.parent).free / 1e6:.3g} MB are free"
    return UserError(f"{path}: {reason}{room}; {'make room' if room else 'mend that'}, and the same command goes on")


def copied(state: State) -> State:
    """The same mappings and lists with every tensor copied to the CPU, so that training may go on with the old ones.

    From a GPU the copies go to page-locked memory, all of them on their way at once; they are there on return.
    """
    devices: set[torch.device] = set()
    on_host: State = _copied(state, devices)
    for device in devices:
        torch.cuda.current_stream(device).synchronize()
    return on_host


def _copied(value: Any, devices: set[torch.device]) -> Any:
    if isinstance(value, Mapping):
        return {key: _copied(each, devices) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_copied(each, devices) for each in value)
    if not isinstance(value, Tensor):
        return value
    tensor = value.detach()
    if not tensor.is_cuda:
        return tensor.to("cpu", copy=True)
    devices.add(tensor.device)
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)


#: The writers of this process whose trials train.
_training: set[Writer] = set()


class Writer:
    """Writes a trial's checkpoints beside its training, in a block: one file at a time.

    A state that comes while a file is written takes the place of one that waits, so that training never waits for a
    slow disk; at the end of the block, however it ends, the newest is on the disk. An error of the writing is raised at
    the next state, or at the end.
    """

    def __init__(self, path: Path, every: CheckpointConfig) -> None:
        """Writes nothing yet.

        Args:
            path: of the file.
            every: when it is written.
        """
        self._path, self._every = path, every
        self._changed = threading.Condition()
        self._held: State | None = None
        self._wanted = self._writing = False
        self._error: Exception | None = None
        self._unwritten, self._began = 0, -math.inf

    def __enter__(self) -> Self:
        """The writer, which `write_held` knows from now on; makes the folder, if need be, once and for all.

        Not anew for each file: where a run's storage is away for a moment, its place is no place for one.
        """
        with suppress(OSError):  # which the first file meets too
            self._path.parent.mkdir(parents=True, exist_ok=True)
        _training.add(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Writes the newest state; where the block raises, what hinders that is a line in the log."""
        try:
            if error is None:
                self.flush()
            elif error is not self._error:
                _flush_or_log(self)
        finally:
            _training.discard(self)  # only now: who ends this process waits for the last file too

    def hold(self, state: State) -> None:
        """Takes the state of an epoch's end, which nothing changes any more, and begins to write it if a file is due.

        Raises:
            UserError: the file before could not be written.
        """
        with self._changed:
            self._check()
            self._held = state
            self._unwritten += 1
            if self._is_due():
                self._begin()

    def flush(self) -> None:
        """Returns once the newest state is on the disk.

        Raises:
            UserError: it cannot be written, or the one before could not.
        """
        with self._changed:
            self._begin()
            self._changed.wait_for(lambda: not self._writing)
            self._check()

    def _is_due(self) -> bool:
        epochs, minutes = self._every.every_epochs, self._every.every_minutes
        if self._began == -math.inf or (epochs is not None and self._unwritten >= epochs):
            return True
        return minutes is not None and time.monotonic() - self._began >= 60 * minutes

    def _begin(self) -> None:
        self._check()
        if self._held is None:
            return
        self._wanted = True
        self._unwritten, self._began = 0, time.monotonic()
        if not self._writing:
            # A daemon: a disk that does not answer must not keep a process that is told to end.
            threading.Thread(target=self._write, name="checkpoint", daemon=True).start()
            self._writing = True  # only now, as no thread may start; it waits for this block's end

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        while (state := self._next()) is not None:
            try:
                save(self._path, state)
            except Exception as error:
                with self._changed:
                    self._error, self._wanted = error, False
            del state  # or it stays in memory until the next one

    def _next(self) -> State | None:
        """The state to write now; None: there is none, and this thread ends."""
        with self._changed:
            if self._wanted:
                state, self._held, self._wanted = self._held, None, False
                return state
            self._writing = False
            self._changed.notify_all()
            return None


def _flush_or_log(writer: Writer) -> None:
    try:
        writer.flush()
    except Exception as error:
        _log.warning("%s", error)


def write_held() -> None:
    """Returns once the newest state of every trial of this process is on the disk; from any thread, while they train.

    What hinders that is a line in the log, and the trial's own thread meets it too.
    """
    for writer in list(_training):
        _flush_or_log(writer)
    if mirror is not None:
        mirror.flush()


def forget_previous(path: Path) -> None:
    """Removes the checkpoint before this one: the trial has ended."""
    try:
        previous_path(path).unlink(missing_ok=True)
    except OSError as error:  # it costs room alone
        _log.warning("%s", error)


def load(path: Path) -> State:
    """What a file of this code holds, on the CPU.

    Raises:
        Refused: it is not what was written, or holds something else.
        OSError: it is not there, or cannot be read.
    """
    state: Any = archive.read(path)
    if not isinstance(state, dict):
        raise archive.Refused("is no checkpoint of a trial")
    return state


class DamagedCheckpoint(UserError):
    """The file of an ended trial is there, and is not what was written or not that trial's."""


def network_arguments(path: Path) -> State:
    """What the network of a checkpoint was built for: arguments of `trainers.models.registry.build`.

    Args:
        path: of a file from which `kept_weights` could be read.

    Raises:
        UserError: older code wrote the file, which did not note it; or as `kept_weights`.
    """
    state = _ended(path, None, mapped=False)
    if "network" not in state:
        raise UserError(
            f"{path}: does not say for which images its network is, as older code wrote it; `sweep evaluate` takes it "
            "with its data, or train it again"
        )
    network: State = state["network"]
    return network


def kept_weights(
    path: Path, which: Which, *, averaged: bool = False, trial_id: str | None = None, mapped: bool = False
) -> State:
    """The state dict of an ended trial's network, on the CPU, whatever code wrote it.

    Args:
        path: of the trial's checkpoint.
        which: of the last epoch, or of the one with the best val_robust.
        averaged: the average in place of the raw weights.
        trial_id: whose they must be; None: anybody's.
        mapped: only to see whether they are there: the file is not read, and what is not read is not checked. A plan
            looks into the files of a thousand trials.

    Raises:
        DamagedCheckpoint: the file is not what was written, or another trial's.
        UserError: there is no such file, or these weights are not in it.
    """
    try:
        weights = _ended(path, trial_id, mapped)["weights"]
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such checkpoint; launch into another --out with --set trial.keep={which}"
        ) from None
    if which not in weights:
        kept = ", ".join(weights) or "none"
        raise UserError(
            f"{path}: must hold the {which} weights, and holds {kept}; choose of those, or launch into another --out "
            f"with --set trial.keep={which}"
        )
    kind = "averaged" if averaged else "raw"
    if kind not in weights[which]:
        epoch = weights[which]["epoch"]
        raise UserError(
            f"{path}: its {which} weights, of epoch {epoch}, have no average; take the raw ones, or a trial whose "
            "averaging.name is ema or swa and whose averaging.start is before that epoch"
        )
    network: State = weights[which][kind]
    return network


def _ended(path: Path, trial_id: str | None, mapped: bool) -> State:
    """What the file of an ended trial holds."""
    try:
        state = archive.loaded(path) if mapped and path.is_file() else archive.read(path, unhashed=True)
        _check_ended(state, trial_id)
    except archive.Refused as error:
        raise DamagedCheckpoint(
            f"{path}: {error}; put back a copy of it, or launch into another --out to train it again"
        ) from None
    except FileNotFoundError:
        raise
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: cannot be read: {error.strerror}; mend that") from None
    whole_state: State = state
    return whole_state


def _check_ended(state: Any, trial_id: str | None) -> None:
    weights = state.get("weights") if isinstance(state, dict) else None
    if not isinstance(weights, dict) or not all(map(_is_kept, weights.values())):
        raise archive.Refused("is no checkpoint of a trial")
    if trial_id is not None and state.get("trial_id") != trial_id:
        raise archive.Refused(f"is of another trial, {state.get('trial_id')}")


def _is_kept(weights: Any) -> bool:
    if not isinstance(weights, dict) or not {"epoch", "raw"} <= weights.keys():
        return False
    return all(isinstance(weights[kind], dict) for kind in ("raw", "averaged") if kind in weights)
