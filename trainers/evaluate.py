"""Clean and robust accuracy of a split, in eval mode: what is right is said in fp32, whatever the attack runs in."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.config import AttackConfig, TrialConfig
from trainers.data.batches import Split, sequential
from trainers.engine import Engine
from trainers.method.objectives import cross_entropy
from trainers.method.step import Tally, adversarial


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (fraction) and mean cross-entropy (nats) over a split."""

    accuracy: float
    loss: float
    right: Tensor = field(compare=False, repr=False)
    """Which images are right, (N,) bool, each in its place in the split."""


def evaluation_attack(config: TrialConfig) -> AttackConfig:
    """The attack that a resolved config evaluates with: the training attack's norm, its own strength and start."""
    return config.attack.model_copy(
        update={
            "steps": config.evaluation.steps,
            "step_size": config.evaluation.step_size,
            "radius": config.evaluation.radius,
            "start": config.evaluation.start,
            "batch_norm": "eval",
        }
    )


@torch.no_grad()
def clean(model: nn.Module, split: Split, batch_size: int, engine: Engine) -> Evaluation:
    """Accuracy at the images themselves. The model must be in eval mode."""
    tally, right = Tally.empty(engine.device), []
    for images, labels in sequential(split, batch_size):
        logits = model(engine.images(images))
        right.append(logits.argmax(dim=1) == labels)
        tally.count(right[-1], F.cross_entropy(logits, labels, reduction="none"))
    return Evaluation(*tally.means(), torch.cat(right))


def robust(
    model: nn.Module, split: Split, config: TrialConfig, engine: Engine, generator: torch.Generator
) -> Evaluation:
    """Accuracy and cross-entropy at the worst of the images that PGD found from each of its starts.

    An image that one start breaks is broken; its loss is the largest over the starts.

    Args:
        model: in eval mode.
        split: which images.
        config: of a resolved trial.
        engine: its device; the attack's precision is `evaluation.precision`.
        generator: of the starts.
    """
    attack, settings = evaluation_attack(config), config.evaluation
    attacker = replace(engine, precision=settings.precision)
    tally, right = Tally.empty(engine.device), []
    for images, labels in sequential(split, settings.batch_size):
        broken = torch.zeros_like(labels, dtype=torch.bool)
        worst = images.new_zeros(len(labels))
        # compiled for whole batches, and in bf16 alone: what is measured in fp32 is so whatever the engine
        compiles = settings.precision == "bf16" and len(labels) == settings.batch_size
        forward = (attacker if compiles else attacker.eager).forward(model)
        for _ in range(settings.restarts):
            with attacker.cast_once(model):
                x_adv = adversarial(model, cross_entropy, engine.images(images), labels, attack, forward, generator)
            with torch.no_grad():
                logits = model(x_adv)
                broken |= logits.argmax(dim=1) != labels
                worst = torch.maximum(worst, F.cross_entropy(logits, labels, reduction="none"))
        right.append(~broken)
        tally.count(right[-1], worst)
    return Evaluation(*tally.means(), torch.cat(right))
