"""A trained network with its data, rebuilt from its checkpoint, and how many images it keeps right under an attack."""

from __future__ import annotations

import functools
from collections import Counter
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from trainers import ladder
from trainers.checkpoint import Which, kept_weights
from trainers.config import TrialConfig
from trainers.data import Data, load
from trainers.engine import Engine, device_of
from trainers.errors import UserError
from trainers.ladder import LadderAttack
from trainers.models import registry
from trainers.randomness import stable_seed

SplitName = Literal["test", "val"]

#: Of the random starts: one for all trials, so that they are compared at the same starts.
SEED = 0


class Trained(NamedTuple):
    """A network in eval mode, its data on the same device, and how many images it takes at a time."""

    model: nn.Module
    data: Data
    batch_size: int


class Counts(NamedTuple):
    """Of how many images how many are right: as they are, and whatever the attack does."""

    images: int
    clean_correct: int
    correct: int


def trained(config: TrialConfig, checkpoint: Path, which: Which, *, averaged: bool = False) -> Trained:
    """The network of an ended trial. The last one stays in memory, as long as its checkpoint is not replaced.

    Args:
        config: of the trial, as it was trained; its data are read.
        checkpoint: the trial's file.
        which: weights of the last epoch, or of the one with the best val_robust.
        averaged: the average in place of the raw weights.

    Raises:
        UserError: the checkpoint, these weights in it, or the data are not there, or are others than the trial's.
    """
    version = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    return _trained(config, checkpoint, version, which, averaged)


@functools.lru_cache(maxsize=1)
def _trained(config: TrialConfig, checkpoint: Path, version: int, which: Which, averaged: bool) -> Trained:
    weights = kept_weights(checkpoint, which, averaged=averaged)
    engine = Engine(device_of(config.device))
    data = load(config.data, engine.device)
    model = registry.network(config, data)
    try:
        model.load_state_dict(weights)
    except RuntimeError:  # torch's own names every tensor, over many lines
        raise UserError(
            f"{checkpoint}: must hold the weights of this code's {config.model.name}, and holds those of another "
            "network; evaluate it with the code that trained it, or train it again"
        ) from None
    return Trained(engine.prepare(model).eval(), data, config.evaluation.batch_size)


def order(labels: list[int]) -> list[int]:
    """The places of a split's images in the order in which they are evaluated: the same for every trial.

    The first N hold each class in proportion, and are part of the first N + 1. Each class is shuffled by a hash,
    not by a generator, whose numbers a later version may change.

    >>> [[0, 0, 1, 1][place] for place in order([0, 0, 1, 1])[:2]] in ([0, 1], [1, 0])
    True
    """
    sizes, seen = Counter(labels), Counter[int]()
    hashes = [stable_seed("evaluation", label, place) for place, label in enumerate(labels)]
    share = [0.0] * len(labels)
    for place in sorted(range(len(labels)), key=hashes.__getitem__):
        label = labels[place]
        share[place] = (seen[label] + 0.5) / sizes[label]
        seen[label] += 1
    return sorted(range(len(labels)), key=lambda place: (share[place], hashes[place]))


@functools.lru_cache(maxsize=2)
def _order(labels: tuple[int, ...]) -> list[int]:
    return order(list(labels))


def count(network: Trained, attack: LadderAttack, split: SplitName, first: int, images: int) -> Counts:
    """Attacks the images number `first` to `first + images - 1` of a split's `order`.

    Args:
        network: from `trained`.
        attack: of the ladder.
        split: of its data.
        first: from 0.
        images: how many.

    Raises:
        UserError: see `ladder.check`.
    """
    part = getattr(network.data, split)
    places = _order(tuple(part.labels.tolist()))[first : first + images]
    clean_correct = correct = 0
    for start in range(0, len(places), network.batch_size):
        chosen = torch.tensor(places[start : start + network.batch_size], device=part.labels.device)
        pixels, labels = part.images[chosen].to(torch.float32).div_(255), part.labels[chosen]
        pixels = pixels.contiguous(memory_format=torch.channels_last)
        seed = stable_seed(SEED, first + start)
        right = _number(network, pixels, labels, LadderAttack(name="clean"), seed)
        clean_correct += right
        correct += right if attack.name == "clean" else _number(network, pixels, labels, attack, seed)
    return Counts(len(places), clean_correct, correct)


def _number(network: Trained, images: torch.Tensor, labels: torch.Tensor, attack: LadderAttack, seed: int) -> int:
    return int(ladder.still_right(network.model, images, labels, attack, seed).sum())
