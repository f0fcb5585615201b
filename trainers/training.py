"""A trial's model, optimizer and data, and one pass over its training images."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainers import process
from trainers.config import TrialConfig
from trainers.data.batches import batches
from trainers.data.cutmix import CutMix
from trainers.data.sets import Data, load
from trainers.engine import Engine, device_of, engine_of, float32_products
from trainers.method import adversary, batch_norm, objectives, optimizers, schedules, weights
from trainers.method.averaging import Averaging
from trainers.method.step import Attack, Slots
from trainers.models import fine_tuning
from trainers.randomness import default_generators
from trainers.stepper import Stepper
from trainers.workers import ALONE, Workers


class Pass(NamedTuple):
    """What one pass over the training images gave.

    Attributes:
        lr: of its last step.
        accuracy: of the batches, each before its update; a fraction.
        loss: of the batches, mean over images, nats; not finite: the pass was ended there.
        seconds: of the training.
        preparing: seconds of compiling and capturing steps, which are not in `seconds`.
    """

    lr: float
    accuracy: float
    loss: float
    seconds: float
    preparing: float


@dataclass
class Training:
    """A network in training: all that a step changes."""

    config: TrialConfig
    data: Data
    model: nn.Module
    optimizer: torch.optim.Optimizer
    averaging: Averaging | None
    stepper: Stepper
    attack: Attack
    _slots: dict[bool, Slots] = field(default_factory=dict)

    @classmethod
    def begin(cls, config: TrialConfig, data: Data | None = None, workers: Workers = ALONE) -> Training:
        """A trial at its first step.

        Args:
            config: resolved, with the data's fingerprint.
            data: of the trial, on its device; None: they are loaded.
            workers: of the trial, as this process sees them.

        Raises:
            UserError: data, device or network cannot be had as asked.
        """
        data = data or load(config.data, device_of(config.device))
        engine, reason = engine_of(config, len(data.train.labels))
        engine = replace(engine, workers=workers)
        model = engine.prepare(fine_tuning.network(config, data))
        optimizer = optimizers.build(config.optimizer, model.parameters())
        if engine.captures and not optimizers.is_capturable(config.optimizer, optimizer):
            engine, reason = engine.eager, f"the optimizer {config.optimizer.name} does not say that it is capturable"
        stepper = Stepper(model, engine, config.seed)
        stepper.reason = reason
        averaging = None if config.averaging.name == "none" else Averaging(config.averaging, model)
        train = data.train
        like = torch.empty(config.batch_size, *train.shape, device=train.labels.device)
        attack = adversary.build(config.attack, engine.images(like))
        return cls(config, data, model, optimizer, averaging, stepper, attack)

    @property
    def engine(self) -> Engine:
        """In use."""
        return self.stepper.engine

    def epoch(self, number: int) -> Pass:
        """Trains epoch `number`, counted from 0."""
        config, device = self.config, self.engine.device
        started = time.perf_counter()
        own = nullcontext() if process.shared() else default_generators(device, config.seed, number, "dropout")
        method = self.stepper.epoch(self._method(number), number, config.batch_size)
        with float32_products(config.precision), own, method, closing(self._batches(number)) as epoch_batches:
            lr = self._steps(number, epoch_batches)
        accuracy, loss = self.stepper.tally.means()
        preparing = self.stepper.preparing
        return Pass(lr, accuracy, loss, time.perf_counter() - started - preparing, preparing)

    def _steps(self, number: int, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """The epoch's steps, up to one whose loss is not finite; gives the last lr."""
        config, count = self.config, len(self.data.train.labels)
        steps = math.ceil(count / config.batch_size)
        lr, watch = config.optimizer.lr, _Watch(self.stepper.tally.loss)
        self.model.train()
        replays = self.attack.replays
        for update, (images, labels) in enumerate(batch for batch in batches for _ in range(replays)):
            progress = number + update / (steps * replays)
            lr = config.optimizer.lr * schedules.lr_factor(config.schedule, progress, config.epochs)
            optimizers.set_lr(self.optimizer, lr)
            self.attack.set_progress(progress)
            self.stepper.step(images, labels)
            if self.averaging is not None:
                self.averaging.after_step(self.model, number)
            if watch.lost(update):
                return lr
        if self.averaging is not None:
            self.averaging.after_epoch(self.model, number)
        return lr

    def _batches(self, number: int) -> Generator[tuple[Tensor, Tensor]]:
        """The epoch's batches, as the config has them."""
        config, data = self.config.data, self.data
        mix = CutMix(config.cutmix, config.cutmix_window, data.num_classes)
        return batches(
            data.train,
            self.config.batch_size,
            augment=bool(config.augment),
            padding=config.padding,
            crop_scale=config.crop_scale if config.crop == "random_resized" else None,
            policy=None if config.policy == "none" else (config.policy, config.name),
            mix=mix if config.cutmix > 0 else None,
            extra=data.extra,
            seed=self.config.seed,
            epoch=number,
        )

    def _method(self, epoch: int) -> Slots:
        """The method that the config names, as it is in an epoch; the same object while it is the same."""
        config, begun = self.config, weights.begun(self.config.weights, epoch)
        if begun not in self._slots:
            self._slots[begun] = Slots(
                self.attack,
                objectives.build(config.objective, self.data.num_classes),
                weights.build(config.weights, epoch),
                self.optimizer,
                self.engine,
                batch_norm.build(config),
            )
        return self._slots[begun]


class _Watch:
    """Whether the sum of an epoch's losses is finite still, looked at now and then, without a wait for the GPU.

    Args:
        loss: (), the sum, which steps change in place.
    """

    def __init__(self, loss: Tensor) -> None:
        self._loss = loss
        self._seen = torch.zeros((), pin_memory=True) if loss.is_cuda else None
        self._copied: torch.cuda.Event | None = None

    def lost(self, step: int) -> bool:
        """Whether it was not finite when it was last looked at; on a CPU that is now."""
        if step % _EVERY:
            return False
        if self._seen is None:
            return not math.isfinite(self._loss.item())
        if self._copied is not None and not self._copied.query():  # type: ignore[no-untyped-call]
            return False
        lost = self._copied is not None and not math.isfinite(self._seen.item())
        self._seen.copy_(self._loss, non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(self._loss.device))
        return lost


#: Steps between two looks at the loss.
_EVERY = 16
