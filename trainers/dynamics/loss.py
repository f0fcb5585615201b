"""The adversarial loss of a fixed set of images as a function of nothing but the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from trainers.config import AttackConfig
from trainers.data.batches import Split
from trainers.engine import Engine
from trainers.method.objectives import Inputs, Objective, Outer
from trainers.method.step import adversarial
from trainers.randomness import generator


@dataclass(frozen=True)
class FixedLoss:
    """The objective's outer loss at images that were attacked once and are then held fixed.

    A mean over images, but for S2O, whose target is that of the part of the set that is passed at a time.
    """

    objective: Objective
    images: Tensor
    """Clean, (m, C, H, W) in [0, 1]."""
    inputs: Inputs
    """What the update would be made on: images (m, C, H, W), targets (m,) or (m, classes)."""
    labels: Tensor
    """(m,)."""
    engine: Engine

    def __len__(self) -> int:
        """Images, m."""
        return len(self.labels)

    def outer(self, model: nn.Module, chosen: Tensor) -> Outer:
        """Mean loss (), nats, and logits (B, classes) of the images of these numbers, (B,).

        The model's mode is the caller's: in train mode batch norm mixes the images of a batch.
        """
        alone = self.inputs.images is self.images
        clean = self.images[chosen]
        part = Inputs(clean if alone else self.inputs.images[chosen], self.inputs.targets[chosen])
        fixed = replace(self.objective, inputs=lambda *unused: part)
        draws = generator(self.labels.device, "dynamics objective")  # a user's own reads it: the same at each call
        return fixed.outer(self.engine.forward(model), clean, part.images, self.labels[chosen], draws)()

    def parts(self, size: int) -> Iterator[Tensor]:
        """The numbers of all images, (B,) at a time, B at most `size`."""
        yield from torch.split(torch.arange(len(self), device=self.labels.device), size)

    def double(self) -> FixedLoss:
        """The same loss in double precision, for a model that is."""
        targets = self.inputs.targets
        alone = self.inputs.images is self.images
        images = self.images.double()
        trained = images if alone else self.inputs.images.double()
        inputs = Inputs(trained, targets.double() if targets.is_floating_point() else targets)
        return replace(self, images=images, inputs=inputs)


def fixed_loss(
    model: nn.Module,
    objective: Objective,
    split: Split,
    chosen: Tensor,
    attack: AttackConfig,
    engine: Engine,
    *,
    size: int,
    attacking: torch.Generator,
    mixing: torch.Generator,
) -> FixedLoss:
    """Attacks these images at the model's weights, as a training step would, and holds the result fixed.

    Args:
        model: a copy is attacked, in the mode that `attack.batch_norm` names.
        objective: of the trial.
        split: the images that `chosen`, (m,), numbers; they are not augmented.
        attack: resolved.
        engine: device and precision.
        size: images at a time.
        attacking: generator of the attack's random starts.
        mixing: generator of the objective's own draws.
    """
    images = engine.images(split.pixels(chosen).to(torch.float32).div_(255))
    labels = split.labels[chosen]
    parts = zip(torch.split(images, size), torch.split(labels, size), strict=True)
    own = copy.deepcopy(model)  # in train mode batch norm's running statistics move
    attacked = [adversarial(own, objective.inner, x, y, attack, engine.forward(own), attacking) for x, y in parts]
    inputs = objective.inputs(images, torch.cat(attacked), labels, mixing)
    return FixedLoss(objective, images, inputs, labels, engine)
