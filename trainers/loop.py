"""The one loop: a TrialConfig in, an EpochRecord an epoch, an outcome at the end."""

from __future__ import annotations

import math
import os
import resource
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
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
from trainers.data.sets import Data, fingerprint
from trainers.dynamics import measurement
from trainers.engine import Engine, compiling, device_of, float32_products
from trainers.errors import UserError
from trainers.identity import trial_id
from trainers.ladder import bits
from trainers.memory import is_out_of_memory, reason
from trainers.method import optimizers, schedules
from trainers.method.averaging import Averaging
from trainers.models import fine_tuning, registry
from trainers.randomness import generator, repeatable
from trainers.record import DynamicsRecord, EpochRecord, OutcomeRecord, ResumeRecord, dynamics_record, epoch_record
from trainers.training import Training
from trainers.workers import ALONE, Workers

Report = Callable[[EpochRecord | DynamicsRecord | ResumeRecord], None]


@dataclass
class _Trial:
    """What changes while a trial runs; with the config it is all that a checkpoint has to hold."""

    config: TrialConfig
    id: str
    training: Training
    history: list[EpochRecord]
    best: State | None
    """The weights of the best epoch so far by val_robust, where they are to be kept."""
    dynamics: list[DynamicsRecord]
    best_due: State | None = None
    """The same of the epochs that a longer trial evaluates too: the last one may be evaluated only for being that."""
    carried: State = field(default_factory=dict)
    """What its attack carries on from the last epoch, once there is one; all workers have to be asked for it."""
    state_kept: bool = False
    """Whether its file holds what a longer trial needs."""

    @property
    def data(self) -> Data:
        """Its images."""
        return self.training.data

    @property
    def model(self) -> nn.Module:
        """Its network."""
        return self.training.model

    @property
    def averaging(self) -> Averaging | None:
        """Its averaged weights."""
        return self.training.averaging

    @property
    def engine(self) -> Engine:
        """In use."""
        return self.training.engine


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
    trial: _Trial, report: Report, path: Path | None, shorter: Iterable[Path], go_on: Callable[[], None]
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
    trial: _Trial, report: Report, writer: checkpoint.Writer | None, go_on: Callable[[], None]
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


def _measure(trial: _Trial, lr: float) -> list[DynamicsRecord]:
    """Measures the dynamics if they are due, in the worker of rank 0 alone, and gives what is new."""
    epoch, engine = len(trial.history), replace(trial.engine, workers=ALONE)
    if not measurement.is_due(trial.config, epoch):
        return []
    with process.alone:  # seeds torch's own generators
        if epoch == 0:
            measurement.check(trial.config, trial.model, trial.data, engine)
        trial.dynamics.append(measurement.measure(trial.config, epoch, lr, trial.model, trial.data, engine))
    return trial.dynamics[-1:]


def _in_order(trial: _Trial) -> list[EpochRecord | DynamicsRecord]:
    """All that is known of the trial, each epoch before what was measured at its end."""
    return sorted([*trial.history, *trial.dynamics], key=lambda record: record.epoch)


def _resume(trial: _Trial, path: Path, report: Report, shorter: Iterable[Path]) -> None:
    """Goes on from the newest checkpoint that is right, or else from a shorter trial's; reports where that is not the
    trial's own newest one, or there is none."""
    config, training, begun = trial.config, trial.training, None
    right = partial(resuming.check, config=config, trial_id=trial.id, training=training)
    state, passed = resuming.newest(path, right)
    if state is None:
        state, begun, others = resuming.longest(shorter, config, training)
        passed = "; ".join(filter(None, (passed, others)))
    if state is not None:
        _restore(trial, state)
    if passed or begun is not None:
        report(ResumeRecord(trial.id, len(trial.history), passed, begun))


def _begin(config: TrialConfig, workers: Workers) -> _Trial:
    if config.batch_norm == "local" and config.workers != workers.size:
        raise UserError(
            f"workers: must be how many processes train the trial where batch_norm is local, got {config.workers}, and "
            f"it has {workers.size}; set resources.workers={config.workers}, or batch_norm=sync"
        )
    return _Trial(config, trial_id(config), Training.begin(config, workers=workers), [], None, [])


def _shared(trial: _Trial) -> int:
    """Makes where the worker of rank 0 stands in its training that of all; gives the epochs trained."""
    workers = trial.engine.workers
    if workers.alone:
        return len(trial.history)
    running: State = workers.said(checkpoint.copied(_running(trial)) if workers.rank == 0 else {})
    if workers.rank > 0:
        _restore_running(trial, running)
    return int(running["epoch"])


def _epoch(trial: _Trial, epoch: int) -> EpochRecord:
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


def _evaluation(trial: _Trial, epoch: int) -> dict[str, Any]:
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


def _measured(trial: _Trial, model: nn.Module, splits: Sequence[str], epoch: int) -> _Measured:
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


def _keep_best(trial: _Trial) -> None:
    """Copies the weights if they are to be kept and the newest epoch is the best so far; the earliest of equals."""
    scores = [record.val_robust for record in trial.history if record.val_robust is not None]
    newest = trial.history[-1].val_robust
    if trial.config.keeps("best") and newest is not None and newest > max(scores[:-1], default=-math.inf):
        trial.best = _weights(trial)
        if len(trial.history) % trial.config.evaluation.every == 0:
            trial.best_due = trial.best


def _checkpoint(trial: _Trial, writer: checkpoint.Writer) -> EpochRecord:
    """Hands the state to the writer, waits for the last epoch's file; the newest record, with these seconds."""
    started = time.perf_counter()
    _keep_best(trial)
    state = _state(trial)
    _took(trial, started)
    state["history"][-1] = asdict(trial.history[-1])
    writer.hold(state)
    if len(trial.history) == trial.config.epochs:
        writer.flush()
        _took(trial, started)
    return trial.history[-1]


def _took(trial: _Trial, started: float) -> None:
    seconds = time.perf_counter() - started
    trial.history[-1] = replace(trial.history[-1], checkpoint_seconds=seconds)


def _weights(trial: _Trial) -> State:
    """The weights as they are, copied."""
    models = {"raw": trial.model, "averaged": None if trial.averaging is None else trial.averaging.model}
    states = {kind: model.state_dict() for kind, model in models.items() if model is not None}
    return {"epoch": len(trial.history), **checkpoint.copied(states)}


def _state(trial: _Trial) -> State:
    """What the checkpoint holds, copied: all that the rest of the training needs, or the weights that are kept."""
    state: State = {
        "trial_id": trial.id,
        "network": registry.arguments(trial.data),
        "history": [asdict(record) for record in trial.history],
        "dynamics": [asdict(record) for record in trial.dynamics],
    }
    config, best = trial.config, trial.best
    if len(trial.history) < config.epochs:
        running = checkpoint.copied(_running(trial))
        return state | {"running": running, "weights": {} if best is None else {"best": best}}
    kept = {"last": _weights(trial)} if config.keeps("last") else {}
    if config.keeps("best") and best is not None:
        kept["best"] = best
    trial.state_kept = config.keep == "state"
    return state | {"weights": kept} | ({"running": _for_a_longer(trial, kept)} if trial.state_kept else {})


def _running(trial: _Trial) -> State:
    """All that changes while it trains."""
    return {
        "epoch": len(trial.history),
        "model": trial.model.state_dict(),
        "optimizer": trial.training.optimizer.state_dict(),
        "averaging": None if trial.averaging is None else trial.averaging.state_dict(),
        "attack": trial.carried,
    }


def _for_a_longer(trial: _Trial, kept: State) -> State:
    """What a longer trial goes on from, and the best weights as that one would have them; a file holds them once."""
    last, running = kept["last"], _running(trial)
    copies = checkpoint.copied({key: running[key] for key in ("optimizer", "averaging", "attack")})
    if "averaged" in last:
        copies["averaging"]["model"] = last["averaged"]
    return {**copies, "epoch": running["epoch"], "model": last["raw"], "best": trial.best_due}


def _restore(trial: _Trial, state: State) -> None:
    """Takes in a state that `resuming.check` has let through."""
    trial.history = [epoch_record(values) for values in state["history"]]
    trial.dynamics = [dynamics_record(values) for values in state["dynamics"]]
    if len(trial.history) == trial.config.epochs:
        trial.state_kept = "running" in state
        return
    trial.best = trial.best_due = state["weights"].get("best") if trial.config.keeps("best") else None
    _restore_running(trial, state["running"])


def _restore_running(trial: _Trial, running: State) -> None:
    """Takes in all that changes while it trains."""
    trial.model.load_state_dict(running["model"])
    optimizers.restore(trial.training.optimizer, running["optimizer"])
    if running["attack"]:
        trial.carried = running["attack"]
        trial.training.attack.load_state_dict(trial.carried)
    if trial.averaging is not None:
        trial.averaging.load_state_dict(running["averaging"])
