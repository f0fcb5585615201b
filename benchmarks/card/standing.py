"""evaluation: what an epoch's evaluation and a checkpoint take, and how often two precisions of the attack agree."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from card.setting import Setting, read
from card.speed import best_engine
from card.study import real_data
from card.trials import IMAGES, free, images, trial
from trainers import checkpoint, evaluate
from trainers.config import TrialConfig
from trainers.data.batches import Split, sequential
from trainers.data.sets import Data, load
from trainers.engine import Engine, Precision, engine_of, float32_products
from trainers.loop import with_fingerprint
from trainers.method.objectives import cross_entropy
from trainers.method.step import adversarial
from trainers.randomness import generator
from trainers.training import Training

#: Test images on which it is seen how often two attacks agree.
AGREEING = 5000
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp32")


def evaluation(setting: Setting) -> None:
    """Seconds of an epoch's evaluation and of a DEAT checkpoint over those of its training; agreement by image."""
    config = trial(setting, {"engine": best_engine(setting), "optimizer": {"name": "deat"}})
    training = None
    with setting.measuring("training"):
        data = images(setting, setting.pick(IMAGES, 40), setting.pick(1000, 16), setting.pick(10_000, 24))
        training = Training.begin(config, data)
        seconds = _training_seconds(setting, training)
        setting.write("training", seconds=seconds, engine=best_engine(setting))
    if training is None:
        return
    for precision in PRECISIONS:
        if setting.fits(f"evaluation {precision}", 25):
            with setting.measuring(f"evaluation {precision}"):
                parts = evaluation_seconds(setting, config, precision, training.model, data)
                share = {"share_of_training": sum(parts.values()) / seconds}
                setting.write(f"evaluation {precision}", **parts, total=sum(parts.values()), **share)
    with setting.measuring("checkpoint"):
        written = checkpoint_seconds(setting, training)
        share = {"share_of_training": written["snapshot"] / seconds}
        setting.write("checkpoint", **written, **share)
    del training, data
    free(setting)
    with setting.measuring("agreement"):
        agreement(setting)


def _training_seconds(setting: Setting, training: Training) -> float:
    """Of an epoch in the best mode: what the section modes measured of it in this run, else measured here."""
    training.epoch(0)  # and the optimizer has its state
    known = [row["epoch_seconds"] for row in read(setting.out) if row["name"] == "whole epochs" and "ms" in row]
    return float(known[-1]) if known else training.epoch(1).seconds


def evaluation_seconds(
    setting: Setting, config: TrialConfig, precision: str, model: nn.Module, data: Data
) -> dict[str, float]:
    """By split, as the loop evaluates at an epoch's end."""
    values = config.evaluation.model_copy(update={"precision": precision})
    config, engine = (
        config.model_copy(update={"evaluation": values}),
        Engine(setting.device, "fp32", engine_of(config)[0].mode),
    )
    size = values.batch_size
    model.eval()

    def robust(split: Split) -> object:
        return evaluate.robust(model, split, config, engine, generator(setting.device, 0, "evaluation"))

    parts: dict[str, Callable[[], object]] = {
        "train_clean": lambda: evaluate.clean(model, data.train, size, engine),
        "val_clean": lambda: evaluate.clean(model, data.val, size, engine),
        "val_robust": lambda: robust(data.val),
        "test_clean": lambda: evaluate.clean(model, data.test, size, engine),
        "test_robust": lambda: robust(data.test),
    }
    with float32_products("fp32"):
        robust(data.val)  # not timed: algorithms are chosen
        return {name: _timed(setting, part) for name, part in parts.items()}


def _timed(setting: Setting, once: Callable[[], object]) -> float:
    setting.synchronize()
    started = time.perf_counter()
    once()
    setting.synchronize()
    return time.perf_counter() - started


def checkpoint_seconds(setting: Setting, training: Any) -> dict[str, Any]:
    """Of three DEAT checkpoints each: the snapshot, for which training waits, and the writing beside it; medians."""
    snapshots, writings = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trial.pt"
        for _ in range(3):
            setting.synchronize()
            started = time.perf_counter()
            state = checkpoint.copied(
                {"model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()}
            )
            snapshots.append(time.perf_counter() - started)
            writings.append(_timed(setting, lambda: checkpoint.save(path, state)))  # noqa: B023
        size = path.stat().st_size
    found = {"snapshot": statistics.median(snapshots), "write": statistics.median(writings), "bytes": size}
    return {**found, "snapshots": snapshots, "writes": writings}


def agreement(setting: Setting) -> None:
    """Test images right under an attack whose gradients are fp32, and under one whose gradients are bf16, from the same
    starts, on a network trained for an epoch; the passes that count are fp32. And fp32 from other starts, to compare.
    """
    values = real_data(setting, "agreement")
    if values is None or not setting.fits("agreement", 50):
        return
    chosen = {"engine": best_engine(setting), "data": values, "optimizer": {"lr": 0.05, "momentum": 0.9}}
    config = with_fingerprint(trial(setting, chosen))
    data = load(config.data, setting.device)
    training = Training.begin(config, data)
    training.epoch(0)
    model, split = training.model.eval(), Split(data.test.images[:AGREEING], data.test.labels[:AGREEING])
    one, other, again = (
        right(setting, model, split, config, *draws) for draws in (("fp32", 0), ("bf16", 0), ("fp32", 1))
    )
    count = len(one)
    setting.write(
        "agreement",
        data=values["name"],
        images=count,
        fp32=one.float().mean().item(),
        bf16=other.float().mean().item(),
        agree=(one == other).float().mean().item(),
        agree_of_two_starts=(one == again).float().mean().item(),
        only_fp32_right=int((one & ~other).sum()),
        only_bf16_right=int((other & ~one).sum()),
    )


def right(
    setting: Setting, model: nn.Module, split: Split, config: TrialConfig, precision: Precision, seed: int
) -> torch.Tensor:
    """Which images (N,) are right at what PGD finds with gradients in a precision; that pass is fp32."""
    engine, draws = Engine(setting.device, precision), generator(setting.device, seed, "evaluation")
    attack, found = config.evaluation_attack(), []
    with float32_products("fp32"):
        for batch, labels in sequential(split, config.evaluation.batch_size):
            forward = engine.forward(model)
            x_adv = adversarial(model, cross_entropy, engine.images(batch), labels, attack, forward, draws)
            with torch.no_grad():
                found.append(model(x_adv).argmax(dim=1) == labels)
    return torch.cat(found)
