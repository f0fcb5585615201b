"""A trial's model, optimizer and data, and one pass over its training images."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
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
from trainers.method.objectives import Objective
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
    """A network in training: all that a step changes.

    Of several workers each has one, all the same but for the images that it takes of a batch. They draw the same
    numbers, but where a network draws itself, as dropout does, or a user's objective: those draw by worker.
    """

    config: TrialConfig
    data: Data
    model: nn.Module
    optimizer: torch.optim.Optimizer
    averaging: Averaging | None
    stepper: Stepper
    attack: Attack
    objective: Objective
    """One for all of the training, as a user's own may hold a state."""
    start: list[Tensor]
    """The parameters as they were before the first step, on the CPU; none where no dynamics are measured."""
    _slots: dict[bool, Slots] = field(default_factory=dict)

    @classmethod
    def begin(cls, config: TrialConfig, data: Data | None = None, workers: Workers = ALONE) -> Training:
        """A trial at its first step.

        Args:
            config: resolved, with the data's fingerprint.
            data: of the trial, on its device; None: they are loaded.
            workers: that train it together, this process among them; each has all the data.

        Raises:
            UserError: data, device or network cannot be had as asked.
        """
        data = data or load(config.data, device_of(config.device))
        engine, reason = engine_of(config, len(data.train.labels), workers)
        model = engine.prepare(fine_tuning.network(config, data))
        if not workers.alone:
            batch_norm.check_shared(model, config.model.name)
        optimizer = optimizers.build(config.optimizer, model.parameters())
        if engine.captures and not optimizers.is_capturable(config.optimizer, optimizer):
            engine, reason = engine.eager, f"the optimizer {config.optimizer.name} does not say that it is capturable"
        stepper = Stepper(model, engine, config.seed)
        stepper.reason = reason
        averaging = None if config.averaging.name == "none" else Averaging(config.averaging, model)
        train = data.train
        like = torch.empty(config.batch_size, *train.shape, device=train.labels.device)
        attack = adversary.build(config.attack, engine.images(like), workers)
        objective = objectives.build(config.objective, data.num_classes, workers)
        kept = [] if config.dynamics.every is None else model.parameters()
        start = [parameter.detach().to("cpu", copy=True) for parameter in kept]
        return cls(config, data, model, optimizer, averaging, stepper, attack, objective, start)

    @property
    def engine(self) -> Engine:
        """In use."""
        return self.stepper.engine

    def epoch(self, number: int) -> Pass:
        """Trains epoch `number`, counted from 0; what it gives is of all workers' images."""
        config, device, workers = self.config, self.engine.device, self.engine.workers
        started = time.perf_counter()
        key: tuple[int | str, ...] = (config.seed, number, "dropout", *workers.own_key)
        own = nullcontext() if process.shared() else default_generators(device, *key)
        method = self.stepper.epoch(self._method(number), number, config.batch_size)
        with float32_products(config.precision), own, method, closing(self._batches(number)) as epoch_batches:
            lr = self._steps(number, epoch_batches)
        self.stepper.tally.sum_(workers)
        accuracy, loss = self.stepper.tally.means()
        preparing = self.stepper.preparing
        return Pass(lr, accuracy, loss, time.perf_counter() - started - preparing, preparing)

    def _steps(self, number: int, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
        """The epoch's steps, up to one whose loss is not finite; gives the last lr."""
        config, count = self.config, len(self.data.train.labels)
        steps = math.ceil(count / config.batch_size)
        lr, watch = config.optimizer.lr, _Watch(self.stepper.tally.loss, self.engine.workers)
        self.model.train()
        replays = self.attack.replays
        for update, (images, labels) in enumerate(batch for batch in batches for _ in range(replays)):
            progress = number + update / (steps * replays)
            lr = config.optimizer.lr * schedules.lr_factor(config.schedule, progress, config.epochs)
            optimizers.set_lr(self.optimizer, lr)
            self.attack.set_progress(progress)
            done = update // replays * config.batch_size
            self.stepper.step(images, labels, min(config.batch_size, count - done))
            if self.averaging is not None:
                self.averaging.after_step(self.model, number)
            if watch.lost(update):
                return lr
        if self.averaging is not None:
            self.averaging.after_epoch(self.model, number)
        return lr

    def _batches(self, number: int) -> Generator[tuple[Tensor, Tensor]]:
        """The worker's part of each of the epoch's batches, as the config has them."""
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
            workers=self.engine.workers,
        )

    def _method(self, epoch: int) -> Slots:
        """The method that the config names, as it is in an epoch; the same object while it is the same."""
        config, begun = self.config, weights.begun(self.config.weights, epoch)
        if begun not in self._slots:
            self._slots[begun] = Slots(
                self.attack,
                self.objective,
                weights.build(config.weights, epoch, self.engine.workers),
                self.optimizer,
                self.engine,
                batch_norm.build(config),
                config.objective.is_own,
                config.optimizer.is_own,
            )
        return self._slots[begun]


class _Watch:
    """Whether the sum of an epoch's losses is finite still, looked at now and then, without a wait for the GPU.

    All workers look at the sum over all of them, and find the same: where there are several, each waits for the number
    that it asked for at the last look, and does not pass over it.

    Args:
        loss: (), the sum, which steps change in place.
        workers: that train together.
    """

    def __init__(self, loss: Tensor, workers: Workers) -> None:
        self._loss, self._workers = loss, workers
        self._seen = torch.zeros((), pin_memory=True) if loss.is_cuda else None
        self._copied: torch.cuda.Event | None = None

    def lost(self, step: int) -> bool:
        """Whether it was not finite when it was last looked at; on a CPU that is now."""
        if step % _EVERY:
            return False
        loss = self._loss.clone()
        self._workers.sum_([loss])
        if self._seen is None:
            return not math.isfinite(loss.item())
        if self._copied is not None and not self._workers.alone:
            self._copied.synchronize()
        if self._copied is not None and not self._copied.query():  # type: ignore[no-untyped-call]
            return False
        lost = self._copied is not None and not math.isfinite(self._seen.item())
        self._seen.copy_(loss, non_blocking=True)
        self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]
        self._copied.record(torch.cuda.current_stream(self._loss.device))
        return lost


#: Steps between two looks at the loss.
_EVERY = 16
