"""Trials in fp64, in which two ways to the same numbers differ by rounding alone, far below what a fault would do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from trainers.config import TrialConfig
from trainers.data import sets
from trainers.method.step import Tally
from trainers.training import Training
from trainers.workers import Workers


def begun(workers: Workers, config: TrialConfig) -> Training:
    """A trial at its first step, network and images in fp64."""
    training = Training.begin(config, sets.load(config.data, torch.device("cpu")), workers)
    training.model.double()
    if training.averaging is not None:
        training.averaging._averaged.double()
    if hasattr(training.attack, "_delta"):
        training.attack._delta = training.attack._delta.double()
    training.stepper.tally = Tally(torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.long))
    batches = training._batches

    def in_double(epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in batches(epoch):
            yield images.double(), labels.double() if labels.is_floating_point() else labels

    training._batches = in_double  # type: ignore[method-assign]
    return training


def trained(workers: Workers, config: TrialConfig) -> dict[str, Any]:
    """All that its epochs leave: weights, batch norm's statistics, averages, the attack's own, and each pass's sums."""
    training = begun(workers, config)
    passes = [training.epoch(epoch) for epoch in range(config.epochs)]
    left = {f"model.{name}": value for name, value in training.model.state_dict().items()}
    if training.averaging is not None:
        averaged = training.averaging.state_dict()["model"]
        left |= {f"averaged.{name}": value for name, value in averaged.items()}
    left |= {f"attack.{name}": value for name, value in training.attack.state_dict().items()}
    return left | {"passes": torch.tensor([one[:3] for one in passes], dtype=torch.float64)}
