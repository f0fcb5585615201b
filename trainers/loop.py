"""The one loop: a TrialConfig in, an EpochRecord an epoch, an outcome at the end."""

from __future__ import annotations

import io
import logging
import math
import os
import resource
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainers import evaluate, optimizers, schedules
from trainers.config import TrialConfig
from trainers.data import Data, batches, fingerprint, load
from trainers.engine import Engine, device_of, float32_products
from trainers.identity import trial_id
from trainers.models import registry
from trainers.provenance import code_version
from trainers.randomness import generator
from trainers.record import EpochRecord, OutcomeRecord, epoch_record
from trainers.step import Tally, training_step

_log = logging.getLogger(__name__)

Report = Callable[[EpochRecord], None]


@dataclass
class _Trial:
    """What changes while a trial runs; with the config it is all that a checkpoint has to hold."""

    config: TrialConfig
    id: str
    data: Data
    engine: Engine
    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[EpochRecord]


def with_fingerprint(config: TrialConfig) -> TrialConfig:
    """The config, resolved, with the fingerprint of the data that are there."""
    mark = config.data.fingerprint or fingerprint(config.data)
    return config.model_copy(update={"data": config.data.model_copy(update={"fingerprint": mark})}).resolved()


def train(config: TrialConfig, report: Report, resume: str | os.PathLike[str] | None = None) -> OutcomeRecord:
    """Trains one trial to its end.

    A trial that goes on from a checkpoint reports the epochs before it once more, so that no record is lost
    with the process that should have written it; on a CPU its numbers are to the bit those of a trial that
    was never stopped, because every generator is seeded from (seed, epoch, purpose).

    Args:
        config: the trial.
        report: called once an epoch, after the checkpoint of that epoch is on the disk.
        resume: the trial's checkpoint file: training goes on from it if it exists, can be read and was
            written by this code, so that no trial is half of one code and half of another; it is replaced,
            as a whole, after every epoch. None: no checkpoint.

    Returns:
        completed; diverged (a loss was not finite: the epochs before count); or out_of_memory.

    Raises:
        UserError: data, device or model cannot be had as asked.
    """
    config = with_fingerprint(config)
    checkpoint = Path(resume) if resume is not None else None
    try:
        return _train(config, report, checkpoint)
    except torch.OutOfMemoryError as error:
        return OutcomeRecord(trial_id(config), "out_of_memory", str(error).splitlines()[0], 0)


def _train(config: TrialConfig, report: Report, checkpoint: Path | None) -> OutcomeRecord:
    trial = _begin(config)
    if checkpoint is not None and (state := _checkpoint(checkpoint)) is not None:
        _restore(trial, state, checkpoint)
        for record in trial.history:
            report(record)
    while (epoch := len(trial.history)) < config.epochs:
        record = _epoch(trial, epoch)
        if reason := _not_finite(record):
            return OutcomeRecord(trial.id, "diverged", f"{reason} in epoch {epoch + 1}", epoch)
        trial.history.append(record)
        if checkpoint is not None:
            _save(trial, checkpoint)
        report(record)
    return OutcomeRecord(trial.id, "completed", "", config.epochs)


def _begin(config: TrialConfig) -> _Trial:
    engine = Engine(device_of(config.device), config.precision)
    data = load(config.data, engine.device)
    model = registry.build(
        config.model,
        num_classes=data.num_classes,
        channels=data.channels,
        image_size=data.image_size,
        mean=data.mean,
        std=data.std,
        seed=config.seed,
    )
    model = engine.prepare(model)
    optimizer = optimizers.build(config.optimizer, model.parameters())
    return _Trial(config, trial_id(config), data, engine, model, optimizer, [])


def _epoch(trial: _Trial, epoch: int) -> EpochRecord:
    """Trains and evaluates epoch number `epoch`, counted from 0."""
    if trial.engine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trial.engine.device)
    started = time.perf_counter()
    with float32_products(trial.config.precision):
        lr, accuracy, loss = _pass(trial, epoch)
    trained = time.perf_counter()
    seconds = trained - started
    measured: dict[str, float] = {}
    if (epoch + 1) % trial.config.evaluation.every == 0 or epoch + 1 == trial.config.epochs:
        with float32_products("fp32"):
            measured = _evaluation(trial, epoch)
    return EpochRecord(
        trial_id=trial.id,
        epoch=epoch + 1,
        lr=lr,
        train_robust=accuracy,
        train_robust_loss=loss,
        seconds=seconds,
        evaluation_seconds=time.perf_counter() - trained,
        samples_per_second=len(trial.data.train.labels) / seconds,
        peak_memory_bytes=_peak_memory(trial.engine.device),
        **measured,
    )


def _pass(trial: _Trial, epoch: int) -> tuple[float, float, float]:
    """One pass over the training images: the last lr, the robust accuracy and loss of its batches."""
    config, engine = trial.config, trial.engine
    start = generator(engine.device, config.seed, epoch, "attack")
    tally = Tally.empty(engine.device)
    steps = math.ceil(len(trial.data.train.labels) / config.batch_size)
    lr = config.optimizer.lr
    trial.model.train()
    order = batches(
        trial.data.train, config.batch_size, augment=bool(config.data.augment), seed=config.seed, epoch=epoch
    )
    for step, (images, labels) in enumerate(order):
        lr = config.optimizer.lr * schedules.lr_factor(config.schedule, epoch + step / steps, config.epochs)
        for group in trial.optimizer.param_groups:
            group["lr"] = lr
        training_step(trial.model, trial.optimizer, engine.images(images), labels, config.attack, engine, start, tally)
    return lr, *tally.means()


def _evaluation(trial: _Trial, epoch: int) -> dict[str, float]:
    """Clean and robust accuracy and loss by split, under their names in EpochRecord."""
    config = trial.config
    measured: dict[str, float] = {}
    engine = replace(trial.engine, precision="fp32")
    attack = evaluate.evaluation_attack(config)
    trial.model.eval()
    for name in config.evaluation.splits:
        split = getattr(trial.data, name)
        found = evaluate.clean(trial.model, split, config.evaluation.batch_size, engine)
        measured |= {f"{name}_clean": found.accuracy, f"{name}_clean_loss": found.loss}
        if name != "train":
            start = generator(engine.device, config.seed, epoch, f"evaluation {name}")
            found = evaluate.robust(trial.model, split, config.evaluation.batch_size, engine, attack, start)
            measured |= {f"{name}_robust": found.accuracy, f"{name}_robust_loss": found.loss}
    return measured


def _not_finite(record: EpochRecord) -> str:
    """Which loss is not finite, in words; empty when all are."""
    losses = {name: value for name, value in asdict(record).items() if name.endswith("_loss")}
    lost = [name for name, value in losses.items() if value is not None and not math.isfinite(value)]
    return f"{lost[0]} is {losses[lost[0]]}" if lost else ""


def _peak_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB


def _save(trial: _Trial, path: Path) -> None:
    """Writes the checkpoint beside its place, then moves it there: whoever reads sees a whole one."""
    state: dict[str, Any] = {
        "trial_id": trial.id,
        "code_version": code_version(),
        "model": trial.model.state_dict(),
        "optimizer": trial.optimizer.state_dict(),
        "history": [asdict(record) for record in trial.history],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    with part.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def _checkpoint(path: Path) -> dict[str, Any] | None:
    """What the checkpoint holds, on the CPU; None, with a line in the log, where training must begin afresh."""
    if not path.exists():
        return None
    content = io.BytesIO(path.read_bytes())  # an OSError from here on is damage, and not the disk's
    try:
        state: dict[str, Any] = torch.load(content, map_location="cpu", weights_only=True)
        written_by = state["code_version"]
    except MemoryError:
        raise
    except Exception as error:  # torch has no exception of its own for a damaged file: it raises what comes first
        _log.warning("%s: unreadable checkpoint (%s); the trial begins afresh", path, type(error).__name__)
        return None
    if written_by != code_version():
        _log.warning("%s: checkpoint of other code (%s); the trial begins afresh", path, written_by)
        return None
    return state


def _restore(trial: _Trial, state: dict[str, Any], path: Path) -> None:
    if state["trial_id"] != trial.id:
        raise ValueError(f"{path}: checkpoint of trial {state['trial_id']}, not of {trial.id}")
    trial.model.load_state_dict(state["model"])
    trial.optimizer.load_state_dict(state["optimizer"])
    trial.history = [epoch_record(values) for values in state["history"]]
