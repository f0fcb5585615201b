"""A trial's one file: where it stands while it trains, and the weights that are kept when it has ended.

trial_id, code_version, history,
dynamics                           always
network                            always: what `trainers.models.registry.build` has to know of the data
weights                            "last" and, where it is kept, "best": the epoch, the raw state dict and,
                                   where weights are averaged, the averaged one
optimizer, averaging               their state dicts, while the trial trains
"""

from __future__ import annotations

import io
import logging
import shutil
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch

from trainers.errors import UserError
from trainers.files import whole
from trainers.memory import is_out_of_memory
from trainers.provenance import code_version

_log = logging.getLogger(__name__)

State: TypeAlias = dict[str, Any]
Which = Literal["last", "best"]


def save(path: Path, state: State) -> None:
    """Writes the file as a whole (`trainers.files.whole`), and its folder where there is none.

    Raises:
        UserError: it cannot be written; says what it takes and what is free.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as part, part.open("wb") as file:
            torch.save({"code_version": code_version(), **state}, file)
    except (OSError, RuntimeError) as error:
        reason = error if isinstance(error, OSError) else error.__context__
        if not isinstance(reason, OSError):
            raise
        needed, free = _length(state), shutil.disk_usage(_nearest(path)).free
        raise UserError(
            f"{path}: cannot be written: {reason.strerror}: it takes {needed / 1e6:.3g} MB, beside the one of before, "
            f"and {free / 1e6:.3g} MB are free; make room, and the same command goes on"
        ) from None


class _Counter(io.BytesIO):
    """A file that keeps nothing but its length, bytes."""

    length = 0

    def write(self, content: Any, /) -> int:
        self.length += len(content)
        return len(content)


def _length(state: State) -> int:
    """Bytes of a file of this state."""
    counter = _Counter()
    torch.save(state, counter)
    return counter.length


def _nearest(path: Path) -> Path:
    """The folder above that is there."""
    return next(folder for folder in path.absolute().parents if folder.exists())


def load(path: Path) -> State | None:
    """What a trial goes on from, on the CPU; None, with a line in the log, where it must begin afresh."""
    if not path.exists():
        return None
    content = io.BytesIO(path.read_bytes())  # an OSError from here on is damage, and not the disk's
    try:
        state: State = torch.load(content, map_location="cpu", weights_only=True)
        written_by = state["code_version"]
    except Exception as error:  # torch has no exception of its own for a damaged file: it raises what comes first
        if is_out_of_memory(error):
            raise
        _log.warning("%s: unreadable checkpoint (%s); the trial begins afresh", path, type(error).__name__)
        return None
    if written_by != code_version():
        _log.warning("%s: checkpoint of other code (%s); the trial begins afresh", path, written_by)
        return None
    return state


def network_arguments(path: Path) -> State:
    """What the network of a checkpoint was built for: arguments of `trainers.models.registry.build`.

    Args:
        path: of a file from which `kept_weights` could be read.

    Raises:
        UserError: older code wrote the file, which did not note it.
    """
    state: State = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    if "network" not in state:
        raise UserError(
            f"{path}: does not say for which images its network is, as older code wrote it; `sweep evaluate` takes it "
            "with its data, or train it again"
        )
    found: State = state["network"]
    return found


def kept_weights(path: Path, which: Which, *, averaged: bool = False) -> State:
    """The state dict of an ended trial's network, on the CPU, whatever code wrote it.

    Args:
        path: of the trial's checkpoint.
        which: of the last epoch, or of the one with the best val_robust.
        averaged: the average in place of the raw weights.

    Raises:
        UserError: there is no such file, or these weights are not in it.
    """
    try:
        # mapped, not read: a plan looks into the files of a thousand trials
        state: State = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        weights = state["weights"]
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such checkpoint; launch into another --out with --set trial.keep={which}"
        ) from None
    except Exception as error:  # as in `load`
        if is_out_of_memory(error):
            raise
        raise UserError(f"{path}: unreadable checkpoint ({type(error).__name__}); launch into another --out") from None
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
    found: State = weights[which][kind]
    return found
