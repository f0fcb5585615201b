"""How a trial begins and ends, as its records say it: on what it starts, and what it comes to where it raises."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import torch

from trainers import cards
from trainers.blanked import blanked
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.memory import is_out_of_memory, reason
from trainers.provenance import arithmetic, code_version, host
from trainers.record import OutcomeRecord


def start_of(name: str, config: TrialConfig, device: torch.device) -> dict[str, Any]:
    """The values of a trial's `start` line.

    Args:
        name: the trial's id.
        config: of the trial.
        device: that it runs on.
    """
    return {
        "trial_id": name,
        "host": host(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "code_version": code_version(),
        "arithmetic": arithmetic(config, device),
        "capacity_bytes": cards.capacity(device),
    }


def outcome_of(name: str, error: BaseException, log: Path) -> OutcomeRecord:
    """Of a trial that raised, SystemExit too.

    Args:
        name: the trial's id.
        error: that it raised.
        log: takes the traceback of what is no mistake of the user's.
    """
    if isinstance(error, UserError):
        return OutcomeRecord(name, "failed", blanked(str(error)), 0)
    if is_out_of_memory(error):  # beside the training, as at CUDA's start
        return OutcomeRecord(name, "out_of_memory", reason(error), 0)
    first = next(iter(str(error).splitlines()), "without a message")
    return OutcomeRecord(name, "failed", f"{type(error).__name__}: {blanked(first)}{logged(error, log)}", 0)


def logged(error: BaseException, log: Path) -> str:
    """Appends the traceback to a log, secrets blanked, and says where that is; nothing where it cannot be written."""
    try:
        log.parent.mkdir(exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:  # a path's bytes may be no UTF-8
            file.write(blanked("".join(traceback.format_exception(error))))
    except OSError:  # a full disk, say
        return ""
    return f" (logs/{log.name})"
