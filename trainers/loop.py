"""The one loop: a TrialConfig in, an EpochRecord an epoch, an outcome at the end."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from trainers import checkpoint, evaluate, process, resuming
from trainers.checkpoint import State
from trainers.config import TrialConfig
from trainers.crew import following, heeding, leading
from trainers.data import extra
from trainers.data.sets import Data
from trainers.data.sources import fingerprint
from trainers.dynamics import measurement
from trainers.engine import Engine, compiling, device_of, float32_products
from trainers.errors import UserError
from trainers.identity import trial_id
from trainers.ladder import bits
from trainers.memory import is_out_of_memory, reason
from trainers.method import schedules
from trainers.models import fine_tuning
from trainers.randomness import generator, repeatable
from trainers.record import DynamicsRecord, EpochRecord, OutcomeRecord, ResumeRecord
from trainers.running import Running, checkpoint_state, keep_best, restore, restore_running, running_state
from trainers.training import Training
from trainers.workers import ALONE, Workers

Report = Callable[[EpochRecord | DynamicsRecord | ResumeRecord], None]


def with_fingerprint(config: TrialConfig) -> TrialConfig:
    """The config, resolved, with the fingerprints of the data and of the weights to start from that are there.

    Raises:
        UserError: they are not there, or the weights are others than the config's fingerprint says.
    """
    data = config.data
    marks = {"fingerprint": data.fingerprint or fingerprint(data)}
    if data.reads_extra:
        marks["extra_fingerprint"] = extra.content(data)
    model = fine_tuning.with_fingerprint(config.model)
    return config.model_copy(update={"data": data.model_copy(update=marks), "model": model}).resolved()


def train(
    config: TrialConfig,
    report: Report,
    resume: str | os.PathLike[str] | None = None,
    shorter: Iterable[Path] = (),
    workers: Workers = ALONE,
) -> OutcomeRecord:
    """Trains one trial to its end.

    A trial that goes on from a checkpoint reports the epochs before it once more, so that no record is lost
    with the process that should have written it; on a CPU its numbers are to the bit those of a trial that
    was never stopped, because every generator is seeded from (seed, epoch, purpose).

    Args:
        config: the trial.
        report: called once an epoch, and then once more where the dynamics were measured at its end; before the first
            epoch, where they were measured then. What it raises ends the trial, and the file is then of the epoch that
            was reported last. The last epoch is reported once its file is on the disk, which may be behind the others.
            First of all, where the trial goes on from less than its newest checkpoint, that and why.
        resume: the trial's checkpoint file (see `trainers.checkpoint`): training goes on from it if it exists, is what
            was written, this trial's and of this code, so that no trial is half of one code and half of another; else
            from the one before, which is beside it until the trial has ended. It is replaced, as a whole, beside the
            training, whenever `config.checkpoint` says so and when the trial ends, and holds at last what
            `config.keep` names. None: no checkpoint.
        shorter: files of shorter trials with which this one begins (`trainers.longer`), the longest first. Where there
            is no checkpoint to go on from, it goes on from the first of them that is one, and says so; the file stays
            as it is. Asked for one at a time.
        workers: of the trial, of whom this is the one of rank 0, joined (`trainers.workers.joined`); the others `join`.

    Returns:
        completed; diverged (a loss was not finite: the epochs before count); or out_of_memory, here or in another
        worker.

    Raises:
        UserError: data, device or model cannot be had as asked, or not with the same bits each time.
        WorkerFailed: another worker raised, of a user's own code, say.
        WorkerLost: another worker is gone.
    """
    path = Path(resume) if resume is not None else None
    with leading(workers) as go_on:
        config = with_fingerprint(config)
        try:
            with repeatable(device_of(config.device), config.deterministic), heeding(workers):
                return _train(_begin(config, workers), report, path, shorter, go_on)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            return OutcomeRecord(trial_id(config), "out_of_memory", reason(error), 0)


def join(config: TrialConfig, workers: Workers) -> None:
    """Trains a trial along with the worker of rank 0, which `train`s it; reports and writes nothing.

    Returns once that one's `train` has ended, however it ended.

    Args:
        config: as that one has it.
        workers: of the trial, as this one sees them, joined.

    Raises:
        WorkerLost: another worker is gone.
        Exception: whatever this one met, which is that one's to report.
    """
    with following(workers) as goes_on:
        config = with_fingerprint(config)
        with repeatable(device_of(config.device), config.deterministic):
            trial = _begin(config, workers)
            if not goes_on():
                return
            epoch = _shared(trial)
            while goes_on():
                _epoch(trial, epoch)
                epoch += 1


def _train(
    trial: Running, report: Report, path: Path | None, shorter: Iterable[Path], go_on: Callable[[], None]
) -> OutcomeRecord:
    config = trial.config
    if path is not None:
        _resume(trial, path, report, shorter)
    go_on()
    _shared(trial)
    if not trial.history:
        _measure(trial, config.optimizer.lr * schedules.lr_factor(config.schedule, 0.0, config.epochs))
    for known in _in_order(trial):
        report(known)
    with nullcontext() if path is None else checkpoint.Writer(path, config.checkpoint) as writer:
        outcome = _epochs(trial, report, writer, go_on)
    if path is not None:
        checkpoint.forget_previous(path)
    return outcome


def _epochs(
    trial: Running, report: Report, writer: checkpoint.Writer | None, go_on: Callable[[], None]
) -> OutcomeRecord:
    """The epochs that are left."""
    config = trial.config
    while (epoch := len(trial.history)) < config.epochs:
        go_on()
        record = _epoch(trial, epoch)
        if lost := _not_finite(record):
            return OutcomeRecord(trial.id, "diverged", f"{lost} in epoch {epoch + 1}", epoch)
        trial.history.append(record)
        measured = _measure(trial, record.lr)
        if writer is not None:
            record = _checkpoint(trial, writer)
        report(record)
        for each in measured:
            report(each)
    return OutcomeRecord(trial.id, "completed", "", config.epochs, state_kept=trial.state_kept)


def _measure(trial: Running, lr: float) -> list[DynamicsRecord]:
    """Measures the dynamics if they are due, in the worker of rank 0 alone, and gives what is new."""
    epoch, engine = len(trial.history), replace(trial.engine, workers=ALONE)
    if not measurement.is_due(trial.config, epoch):
        return []
    with process.alone:  # seeds torch's own generators
        if epoch == 0:
            measurement.check(trial.config, trial.model, trial.data, engine)
        start = trial.training.start
        trial.dynamics.append(measurement.measure(trial.config, epoch, lr, trial.model, trial.data, engine, start))
    return trial.dynamics[-1:]


def _in_order(trial: Running) -> list[EpochRecord | DynamicsRecord]:
    """All that is known of the trial, each epoch before what was measured at its end."""
    return sorted([*trial.history, *trial.dynamics], key=lambda record: record.epoch)


def _resume(trial: Running, path: Path, report: Report, shorter: Iterable[Path]) -> None:
    """Goes on from the newest checkpoint that is right, or else from a shorter trial's; reports where that is not the
    trial's own newest one, or there is none."""
    config, training, begun = trial.config, trial.training, None
    right = partial(resuming.check, config=config, trial_id=trial.id, training=training)
    state, passed = resuming.newest(path, right)
    if state is None:
        state, begun, others = resuming.longest(shorter, config, training)
        passed = "; ".join(filter(None, (passed, others)))
    if state is not None:
        restore(trial, state)
    if passed or begun is not None:
        report(ResumeRecord(trial.id, len(trial.history), passed, begun))


def _begin(config: TrialConfig, workers: Workers) -> Running:
    if config.batch_norm == "local" and config.workers != workers.size:
        raise UserError(
            f"workers: must be how many processes train the trial where batch_norm is local, got {config.workers}, and "
            f"it has {workers.size}; set resources.workers={config.workers}, or batch_norm=sync"
        )
    return Running(config, trial_id(config), Training.begin(config, workers=workers), [], None, [])


def _shared(trial: Running) -> int:
    """Makes where the worker of rank 0 stands in its training that of all; gives the epochs trained."""
    workers = trial.engine.workers
    if workers.alone:
        return len(trial.history)
    running: State = workers.said(checkpoint.copied(running_state(trial)) if workers.rank == 0 else {})
    if workers.rank > 0:
        restore_running(trial, running)
    return int(running["epoch"])


def _epoch(trial: Running, epoch: int) -> EpochRecord:
    """Trains and evaluates epoch number `epoch`, counted from 0."""
    if trial.engine.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trial.engine.device)
    trained = trial.training.epoch(epoch)
    trial.carried = trial.training.attack.state_dict()
    started, compiled = time.perf_counter(), compiling()
    measured: dict[str, Any] = {}
    if trial.config.evaluates(epoch + 1) and math.isfinite(trained.loss):
        with float32_products("fp32"):
            measured = _evaluation(trial, epoch)
    compiled = compiling() - compiled
    return EpochRecord(
        trial_id=trial.id,
        epoch=epoch + 1,
        lr=trained.lr,
        train_robust=trained.accuracy,
        train_robust_loss=trained.loss,
        seconds=trained.seconds,
        preparing_seconds=trained.preparing + compiled,
        evaluation_seconds=time.perf_counter() - started - compiled,
        samples_per_second=len(trial.data.train.labels) / trained.seconds,
        engine=trial.engine.mode,
        engine_reason=trial.training.stepper.reason,
        peak_memory_bytes=_peak_memory(trial.engine),
        **measured,
    )


def _evaluation(trial: Running, epoch: int) -> dict[str, Any]:
    """Clean and robust accuracy and loss by split, under their names in EpochRecord; at the last epoch each image."""
    splits = trial.config.evaluation.splits
    raw = _measured(trial, trial.model, splits, epoch)
    values: dict[str, Any] = _named(raw, "")
    if trial.averaging is not None and (averaged := trial.averaging.model) is not None:
        held_out = [name for name in splits if name != "train"]
        values |= _named(_measured(trial, averaged, held_out, epoch), "averaged_")
    if epoch + 1 == trial.config.epochs and trial.engine.workers.rank == 0:
        values["right"] = _right(trial.data, raw)
    return values


_Measured = dict[tuple[str, str], evaluate.Evaluation]
"""By the split and clean or robust."""


def _measured(trial: Running, model: nn.Module, splits: Sequence[str], epoch: int) -> _Measured:
    config = trial.config
    measured: _Measured = {}
    engine = replace(trial.engine, precision="fp32")
    model.eval()
    for name in splits:
        split = getattr(trial.data, name)
        measured[name, "clean"] = evaluate.clean(model, split, config.evaluation.batch_size, engine)
        if name != "train":
            start = generator(engine.device, config.seed, epoch, f"evaluation {name}")
            measured[name, "robust"] = evaluate.robust(model, split, config, engine, start)
    return measured


def _named(measured: _Measured, prefix: str) -> dict[str, float]:
    accuracies = {f"{prefix}{split}_{what}": one.accuracy for (split, what), one in measured.items()}
    return accuracies | {f"{prefix}{split}_{what}_loss": one.loss for (split, what), one in measured.items()}


def _right(data: Data, measured: _Measured) -> dict[str, dict[str, Any]]:
    """Which images are right, by split, in the order in which trained networks are attacked."""
    right: dict[str, dict[str, Any]] = {}
    for (name, what), one in measured.items():
        if name != "train":
            places = bits.places(getattr(data, name))
            if name not in right:
                known = {"images": len(places.order), "fingerprint": places.fingerprint}
                right[name] = {**known, "classes": bits.classes(data, name)}
            right[name][what] = bits.packed(one.right.cpu().numpy()[places.order])
    return right


def _not_finite(record: EpochRecord) -> str:
    """Which loss is not finite, in words; empty when all are."""
    losses = {name: value for name, value in asdict(record).items() if name.endswith("_loss")}
    lost = [name for name, value in losses.items() if value is not None and not math.isfinite(value)]
    return f"{lost[0]} is {losses[lost[0]]}" if lost else ""


def _peak_memory(engine: Engine) -> int:
    """Of the worker that held most."""
    if engine.device.type == "cuda":
        own = torch.cuda.max_memory_reserved(engine.device)  # what a captured step uses is not allocated at its replays
    else:
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # Linux counts in KiB
    if engine.workers.alone:
        return own
    return int(engine.workers.gathered(torch.tensor([own], device=engine.device)).max())


def _checkpoint(trial: Running, writer: checkpoint.Writer) -> EpochRecord:
    """Hands the state to the writer, waits for the last epoch's file; the newest record, with these seconds."""
    started = time.perf_counter()
    keep_best(trial)
    state = checkpoint_state(trial)
    _took(trial, started)
    state["history"][-1] = asdict(trial.history[-1])
    writer.hold(state)
    if len(trial.history) == trial.config.epochs:
        writer.flush()
        _took(trial, started)
    return trial.history[-1]


def _took(trial: Running, started: float) -> None:
    seconds = time.perf_counter() - started
    trial.history[-1] = replace(trial.history[-1], checkpoint_seconds=seconds)
