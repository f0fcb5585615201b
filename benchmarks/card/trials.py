"""The trial that is timed, its data and its training; how a timing is made."""

from __future__ import annotations

import gc
import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from card.setting import Setting
from trainers.config import TrialConfig
from trainers.data.batches import Split
from trainers.data.sets import Data
from trainers.data.sources import Shape
from trainers.training import Pass, Training
from trainers.workers import ALONE, Workers

#: Training images of CIFAR-10 without the validation images, and what an epoch of batch 128 has of steps.
IMAGES, STEPS = 49_000, 383
#: Of CIFAR-10's training images; what random images have does not matter to a timing.
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
ENGINES = ("eager", "graph", "compile")


def engines(setting: Setting) -> tuple[str, ...]:
    """The engines that are measured: at toy size none that compiles, which takes half a minute."""
    return tuple(engine for engine in ENGINES if not (setting.tiny and engine == "compile"))


def trial(setting: Setting, values: Mapping[str, Any] | None = None) -> TrialConfig:
    """The trial that the goals speak of: PreActResNet-18, PGD-10, batch 128, bf16; with `tiny` a small one.

    Args:
        values: nested, as in a config file; they win.
    """
    plain: dict[str, Any] = {
        "data": {"name": "cifar10", "fingerprint": "random images"},
        "model": {"name": setting.pick("preact_resnet18", "small_cnn")},
        "batch_size": setting.pick(128, 8),
        "attack": {"steps": setting.pick(10, 2)},
        "evaluation": {"steps": setting.pick(10, 2)},
        "epochs": 1000,
        "optimizer": {"lr": 0.01},  # small, so that random labels do not make it diverge
        "schedule": {"milestones": [1000]},
        "precision": "bf16",
        "engine": "eager",
        "device": setting.device.type,
    }
    return TrialConfig.model_validate(_beneath(plain, values or {})).resolved()


def _beneath(plain: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    inner = {key: _beneath(plain[key], value) for key, value in values.items() if isinstance(plain.get(key), Mapping)}
    return {**plain, **values, **inner}


def images(setting: Setting, train: int, val: int = 64, test: int = 64, size: int | None = None) -> Data:
    """Random images on the device, (3, 32, 32) or with `tiny` (3, 8, 8), and random labels of 10 classes."""
    shape = (3, *[size or setting.pick(32, 8)] * 2)
    parts = [_split(setting.device, count, shape) for count in (train, val, test)]
    return Data(*parts, 10, MEAN, STD, "random", "random images")


def _split(device: torch.device, count: int, shape: tuple[int, ...]) -> Split:
    generator = torch.Generator(device).manual_seed(count)
    pixels = torch.randint(256, (count, *shape), dtype=torch.uint8, device=device, generator=generator)
    return Split(pixels, torch.randint(10, (count,), device=device, generator=generator))


def shape_of(data: Data) -> Shape:
    """What counting needs to know of the data."""
    sizes = (len(split.labels) for split in (data.train, data.val, data.test))
    return Shape(*sizes, data.num_classes, data.channels, *data.image_size)


def engine_used(training: Training) -> tuple[str, str]:
    """The engine's mode that a training runs in, and why it is not the one asked for."""
    return training.engine.mode, training.stepper.reason


def free(setting: Setting) -> None:
    """Gives the memory of trainings that nothing holds any more back to the card."""
    gc.collect()
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()


class Timer:
    """Times epochs of one training, the first of which, a warm-up, is not counted."""

    def __init__(self, setting: Setting, config: TrialConfig, data: Data, workers: Workers = ALONE) -> None:
        self._setting, self._epoch = setting, 0
        self.steps = math.ceil(len(data.train.labels) / config.batch_size)
        self.training = Training.begin(config, data, workers)
        self.milliseconds: list[float] = []
        self.losses: list[float] = []
        self.preparing = self._once().preparing
        self.milliseconds.clear()

    def _once(self) -> Pass:
        self._setting.synchronize()
        started = time.perf_counter()
        found = self.training.epoch(self._epoch)
        self._setting.synchronize()
        seconds = time.perf_counter() - started - found.preparing
        self.milliseconds.append(1000 * seconds / self.steps)
        self.losses.append(found.loss)
        self._epoch += 1
        return found

    def repeat(self, times: int = 1) -> Timer:
        """Times so many more epochs."""
        for _ in range(times):
            self._once()
        return self

    def values(self) -> dict[str, Any]:
        """What is written down of it; ok: losses are finite, and on the card the engine that was asked for was used."""
        used, reason = engine_used(self.training)
        as_asked = self._setting.tiny or used == self.training.config.engine
        finite = all(math.isfinite(loss) for loss in self.losses)
        found = {**summary(self.milliseconds), "steps": self.steps, "preparing": self.preparing}
        return {**found, "engine_used": used, "reason": reason, "ok": finite and as_asked}


def summary(milliseconds: list[float]) -> dict[str, Any]:
    """Every repeat, ms a step; their median and range; what an epoch of 49,000 images would take, s."""
    median = statistics.median(milliseconds)
    spread = {"ms_min": min(milliseconds), "ms_max": max(milliseconds)}
    return {"repeats": milliseconds, "ms": median, **spread, "epoch_seconds": median * STEPS / 1000}


def random_images(data: Data, count: int) -> tuple[Tensor, Tensor]:
    """The first so many training images (N, C, H, W) in [0, 1], and their labels (N,)."""
    return data.train.images[:count].float().div_(255), data.train.labels[:count]
