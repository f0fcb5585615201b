"""One trial as a process runs it: messages out, errors caught and logged."""

from __future__ import annotations

import threading
import traceback
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sweep.config import ResourcesConfig
from sweep.run.directory import log_path
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.files import checkpoint_path, patiently, why
from trainers.provenance import arithmetic, code_version, host
from trainers.record import DynamicsRecord, EpochRecord, OutcomeRecord

#: A record's values with its kind under `record`: start, epoch, dynamics or outcome.
Message = dict[str, Any]


def trial_values(config: TrialConfig, resources: ResourcesConfig) -> dict[str, Any]:
    """The trial as plain values: what a process that runs it is given."""
    values = config.model_dump(mode="json")
    if config.device == "auto" and not resources.gpu:
        values["device"] = "cpu"
    return values


#: Held by the trial of a process that ends, until that is known.
_ending = threading.Lock()


def run_together(
    trials: Mapping[str, Mapping[str, Any]],
    directory: Path,
    threads: int,
    send: Callable[[Message], None],
    *,
    share: float,
    training: Callable[[str], AbstractContextManager[None]],
    lost: Callable[[], None],
) -> bool:
    """Trains several trials of one device side by side in this process, each as `run_trial` does, but for:

    Args:
        trials: their values by id.
        threads: of each.
        send: takes the messages of all, from their threads, one at a time.
        share: of all.
        training: makes the block in which the trial of an id trains.
        lost: ends this process, whose GPU answers no more, once the outcome of the trial that met that first is sent:
            which of them it came from nobody can tell, and the others go on from their checkpoints in a new one.
    """
    import torch

    from trainers import cards
    from trainers.engine import device_of
    from trainers.side_by_side import side_by_side

    sending = threading.Lock()

    def send_one(message: Message) -> None:
        with sending:
            send(message)

    def run(name: str) -> None:
        with training(name):
            run_trial(name, trials[name], directory, threads, send_one, share=share, lost=lost)

    first = TrialConfig.model_validate(next(iter(trials.values())))
    device = torch.device("cpu")
    with suppress(UserError):  # which each trial reports as its own
        device = device_of(first.device)
    cards.freed(device)
    side_by_side([partial(run, name) for name in trials], device, first.deterministic)
    return cards.freed(device)


def run_trial(
    name: str,
    values: Mapping[str, Any],
    directory: Path,
    threads: int,
    send: Callable[[Message], None],
    *,
    share: float = 1,
    lost: Callable[[], None] = lambda: None,
) -> bool:
    """Trains one trial and sends what happens: a start, its epochs and their dynamics, its outcome.

    Args:
        name: the trial's id.
        values: its TrialConfig as plain values.
        directory: of the run; holds the checkpoint and, if the trial fails, its log.
        threads: that torch may use; the same number gives the same numbers.
        send: takes each message; may raise to end the trial.
        share: of a GPU's memory that the trial may take.
        lost: called where this process cannot run another, once the outcome is sent, and before that of any other.

    Returns:
        whether this process can run another trial: its GPU still answers.
    """
    import torch

    from trainers import cards
    from trainers.engine import device_of
    from trainers.loop import train
    from trainers.memory import is_out_of_memory, reason
    from trainers.own import snapshot

    snapshot.look_in(directory / snapshot.FOLDER)
    config = TrialConfig.model_validate(values)
    torch.set_num_threads(threads)
    device = torch.device("cpu")
    try:
        device = device_of(config.device)
        cards.freed(device)
        cards.limit(device, share)
        kind = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
        about = {"trial_id": name, "host": host(), "device": kind, "code_version": code_version()}
        send({"record": "start", **about, "arithmetic": arithmetic(config, device)})
        _wait_for(directory)
        outcome = train(
            config,
            lambda record: send({"record": _kind(record), **asdict(record)}),
            resume=checkpoint_path(directory, name),
        )
    except UserError as error:
        outcome = OutcomeRecord(name, "failed", str(error), 0)
    except Exception as error:
        if is_out_of_memory(error):  # at CUDA's start
            outcome = OutcomeRecord(name, "out_of_memory", reason(error), 0)
        else:
            outcome = _failed(name, error, log_path(directory, name))
    with _ending:
        usable = cards.freed(device)  # not within `except`, where the error holds the frames, and they the model
        send({"record": "outcome", **asdict(outcome)})
        if not usable:
            lost()
    return usable


def _wait_for(folder: Path) -> None:
    """Storage that is away is not taken for a trial that has no checkpoint."""
    try:
        patiently(folder, folder.stat, verb="found")
    except OSError as error:
        raise UserError(f"{folder}: {why(error, folder, 'found')}; mend that: the same command goes on") from None


def _kind(record: EpochRecord | DynamicsRecord) -> str:
    return "epoch" if isinstance(record, EpochRecord) else "dynamics"


def _failed(name: str, error: Exception, log: Path) -> OutcomeRecord:
    first = (str(error).splitlines() or [""])[0]
    return OutcomeRecord(name, "failed", f"{type(error).__name__}: {first}{logged(error, log)}", 0)


def logged(error: Exception, log: Path) -> str:
    """Appends the traceback to a log, and says where that is; nothing where it cannot be written, as on a full disk."""
    try:
        log.parent.mkdir(exist_ok=True)
        with log.open("a") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError:
        return ""
    return f" (logs/{log.name})"
