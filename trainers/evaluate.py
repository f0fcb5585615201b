"""Clean and robust accuracy of a split, in eval mode: what is right is said in fp32, whatever the attack runs in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.config import TrialConfig
from trainers.data.batches import Split, sequential, shares
from trainers.engine import Engine
from trainers.method.objectives import cross_entropy
from trainers.method.step import Tally, adversarial
from trainers.workers import Part, Workers


@dataclass(frozen=True)
class Evaluation:
    """Accuracy (fraction) and mean cross-entropy (nats) over a split."""

    accuracy: float
    loss: float
    right: Tensor = field(compare=False, repr=False)
    """Which images are right, (N,) bool, each in its place in the split."""


@torch.no_grad()
def clean(model: nn.Module, split: Split, batch_size: int, engine: Engine) -> Evaluation:
    """Accuracy at the images themselves, of which each of several workers takes a part. The model must be in eval mode,
    and the same in all of them."""
    answers: list[_Answers] = []
    for own, (images, labels) in _shared(split, batch_size, engine.workers):
        logits = model(engine.images(images))
        answers.append(_Answers(own, logits.argmax(dim=1) == labels, F.cross_entropy(logits, labels, reduction="none")))
    return _evaluation(answers, engine)


def robust(
    model: nn.Module, split: Split, config: TrialConfig, engine: Engine, generator: torch.Generator
) -> Evaluation:
    """Accuracy and cross-entropy at the worst of the images that PGD found from each of its starts.

    An image that one start breaks is broken; its loss is the largest over the starts.

    Args:
        model: in eval mode, and the same in all workers.
        split: which images; each of several workers takes a part.
        config: of a resolved trial.
        engine: its device; the attack's precision is `evaluation.precision`.
        generator: of the starts, in the same state in all workers.
    """
    attack, settings = config.evaluation_attack(), config.evaluation
    attacker = replace(engine, precision=settings.precision)
    answers: list[_Answers] = []
    for own, (images, labels) in _shared(split, settings.batch_size, engine.workers):
        # compiled for whole batches, and in bf16 alone: what is measured in fp32 is so whatever the engine
        compiles = settings.precision == "bf16" and own.whole == settings.batch_size
        draws = own.draws(generator)
        broken = torch.zeros_like(labels, dtype=torch.bool)
        worst = images.new_zeros(len(labels))
        forward = (attacker if compiles else attacker.eager).forward(model)
        for _ in range(settings.restarts):
            with attacker.cast_once(model):
                x_adv = adversarial(model, cross_entropy, engine.images(images), labels, attack, forward, draws)
            with torch.no_grad():
                logits = model(x_adv)
                broken |= logits.argmax(dim=1) != labels
                worst = torch.maximum(worst, F.cross_entropy(logits, labels, reduction="none"))
        answers.append(_Answers(own, ~broken, worst))
    return _evaluation(answers, engine)


class _Answers(NamedTuple):
    """What is said of a batch's images.

    Attributes:
        own: which of the batch's a worker was asked for.
        right: whether each of those is right, (B,) bool.
        losses: of each, (B,).
    """

    own: Part
    right: Tensor
    losses: Tensor


def _shared(split: Split, batch_size: int, workers: Workers) -> Iterator[tuple[Part, tuple[Tensor, Tensor]]]:
    """What of each batch a worker is asked for, and its images and labels."""
    return zip(shares(len(split.labels), batch_size, workers), sequential(split, batch_size, workers), strict=True)


def _evaluation(answers: Sequence[_Answers], engine: Engine) -> Evaluation:
    """Of all batches, counted as one worker does that has them all."""
    tally, right = Tally.empty(engine.device), []
    for correct, losses in _of_all(answers, engine.workers):
        right.append(correct)
        tally.count(correct, losses)
    return Evaluation(*tally.means(), torch.cat(right))


def _of_all(answers: Sequence[_Answers], workers: Workers) -> list[tuple[Tensor, Tensor]]:
    """By batch which images are right, and their losses, of all workers: a sum in which each image has one addend."""
    if workers.alone:
        return [(each.right, each.losses) for each in answers]
    batches = [each.losses.new_zeros(2, each.own.whole) for each in answers]
    for batch, (own, right, losses) in zip(batches, answers, strict=True):
        if workers.rank == 0 or not own.workers.alone:
            batch[:, own.images] = torch.stack([right.to(losses.dtype), losses])
    workers.sum_(batches)
    return [(right > 0, losses) for right, losses in batches]
