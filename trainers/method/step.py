"""The one training step, over its four slots: attack, objective, weights, update."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from trainers.config import AttackConfig
from trainers.engine import Engine
from trainers.method.attacks import Draws, EarlyStop, Gradient, gradient, pgd
from trainers.method.batch_norm import RunningStatistics, attacking, average_, estimate
from trainers.method.objectives import Forward, Inner, Objective, Outer
from trainers.method.weights import Perturbed
from trainers.workers import Part, Workers


@dataclass
class Tally:
    """Sums over images, kept on the device so that nothing waits for it before the epoch's end."""

    loss: Tensor
    correct: Tensor
    images: int = 0

    @classmethod
    def empty(cls, device: torch.device) -> Tally:
        """No images yet."""
        return cls(torch.zeros((), device=device), torch.zeros((), dtype=torch.long, device=device))

    def clear(self) -> None:
        """Starts again at no images, in place."""
        self.loss.zero_()
        self.correct.zero_()
        self.images = 0

    @torch.no_grad()
    def count(self, correct: Tensor, losses: Tensor) -> None:
        """Counts a batch: which images are right (B,), and their losses (B,)."""
        self.loss += losses.sum()
        self.correct += correct.sum()
        self.images += len(correct)

    def sum_(self, workers: Workers) -> None:
        """Adds what the other workers have counted."""
        images = torch.tensor(self.images, device=self.correct.device)
        workers.sum_([self.loss, self.correct, images])
        self.images = int(images)

    def means(self) -> tuple[float, float]:
        """Accuracy (fraction) and mean loss (nats); waits for the device."""
        return self.correct.item() / self.images, self.loss.item() / self.images


class Strength(NamedTuple):
    """What of an attack may change from step to step; in tensors () on the device where it does."""

    radius: float | Tensor
    step_size: float | Tensor
    """Both in pixel units."""
    tau: int | Tensor | None
    """As `AttackConfig.tau`."""

    @classmethod
    def of(cls, attack: AttackConfig) -> Strength:
        """The whole of it, after all warm-ups; tau as in the first epoch."""
        return cls(attack.radius, attack.step_size, attack.tau)


class Attack(Protocol):
    """Who finds the images that a step trains on; `trainers.method.adversary` has them."""

    replays: int
    """Updates on a batch before the next."""

    def set_progress(self, progress: float) -> None:
        """What changes from step to step is that of a step which begins when so many epochs are done."""

    def find(
        self,
        model: nn.Module,
        inner: Inner,
        images: Tensor,
        labels: Tensor,
        forward: Forward,
        generator: torch.Generator,
        gradient: Gradient,
        part: Part,
    ) -> Tensor:
        """The images to train on, (B, C, H, W) in [0, 1]; arguments as `adversarial` has them.

        Args:
            generator: in the same state in all workers.
            part: what of the batch the images are.
        """

    def updated(self, images: Tensor, trained: Tensor, part: Part) -> None:
        """Called once the update is made, with the clean images and those that it was made on."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds of it, the same whatever the number of workers, which all have to ask."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""


@dataclass(frozen=True)
class Slots:
    """A method: a choice in each of the four slots, and the engine that they run on."""

    attack: Attack
    objective: Objective
    perturbed: Perturbed
    optimizer: torch.optim.Optimizer
    """Over the model's parameters."""
    engine: Engine
    statistics: RunningStatistics
    """Which images those of batch norm are estimated from."""
    own_objective: bool = False
    """Whether the objective is a user's, which draws from a generator itself, and so for each worker's images alone."""
    own_optimizer: bool = False
    """Whether the optimizer is a user's, which may draw from torch's own generator."""
    alike: Callable[[], AbstractContextManager[None]] = nullcontext
    """A block in which torch's own generator is the same in all workers: the update's, or they would part."""


def adversarial(
    model: nn.Module,
    inner: Inner,
    images: Tensor,
    labels: Tensor,
    attack: AttackConfig,
    forward: Forward,
    generator: Draws,
    gradient: Gradient = gradient,
    *,
    strength: Strength | None = None,
) -> Tensor:
    """Images (B, C, H, W) that PGD found in the ball around `images` by raising the inner loss.

    Args:
        attack: resolved; steps = 0: the clean images.
        forward: of the model.
        gradient: of the engine.
        strength: in this step; none: all of the attack's.
    """
    if attack.steps == 0:
        return images
    assert attack.start is not None, "resolve the trial's config first"
    radius, step_size, tau = strength or Strength.of(attack)
    stop = None if tau is None else EarlyStop(labels, tau)
    with attacking(model, attack.batch_norm):
        return pgd(
            inner(forward if stop is None else stop.watching(forward), images, labels),
            images,
            radius=radius,
            step_size=step_size,
            steps=attack.steps,
            norm=attack.norm,
            start=attack.start,
            start_scale=attack.start_scale,
            project=attack.project,
            going=stop,
            generator=generator,
            gradient=gradient,
        )


def training_step(
    model: nn.Module,
    slots: Slots,
    images: Tensor,
    labels: Tensor,
    attacking_from: torch.Generator,
    mixing: torch.Generator,
    tally: Tally,
    whole: int | None = None,
) -> None:
    """One update of adversarial training, counted into `tally`.

    Several workers, each with its part of the batch, make the same update: gradients are summed once, all together,
    and AWP's on the way up once more.

    Args:
        model: in train mode; left so.
        slots: the method.
        images: (B, C, H, W) in [0, 1]: the worker's part of the batch.
        labels: (B,), or probabilities (B, classes), of which the largest is the label that counts as correct.
        attacking_from: generator of the attack's random start.
        mixing: generator of an objective's own draws.
        tally: gets the outer loss and the correct answers at the update's images, before the update.
        whole: images of the batch; none: as many as given.
    """
    workers = slots.engine.workers
    part = Part(workers, len(images) if whole is None else whole)
    plain = slots.statistics.spanning(slots.engine.forward(model), workers)
    forward = slots.statistics.watching(plain, model, images)
    before, after = slots.statistics.missing(slots.objective.passes_clean)
    inner, engine = slots.objective.inner, slots.engine
    with engine.cast_once(model):
        x_adv = slots.attack.find(model, inner, images, labels, forward, attacking_from, engine.whole(gradient), part)
    outer = slots.objective.outer(forward, images, x_adv, labels, mixing if slots.own_objective else part.draws(mixing))
    with slots.perturbed(model, lambda: part.of_mean(outer(ascending=True).loss)):
        outcome: Outer = outer()
        slots.optimizer.zero_grad()
        part.of_mean(outcome.loss).backward()  # type: ignore[no-untyped-call]
        estimate(plain, model, images, before)
    workers.sum_gradients_([parameter for parameter in model.parameters() if parameter.requires_grad])
    with slots.alike():
        slots.optimizer.step()
    slots.attack.updated(images, x_adv, part)
    estimate(plain, model, images, after)
    average_(model, part, slots.statistics.sync)
    answers = labels if labels.ndim == 1 else labels.argmax(dim=1)
    tally.count(outcome.logits.argmax(dim=1) == answers, outcome.loss.detach().expand(len(labels)))
