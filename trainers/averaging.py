"""Averaged weights beside the raw ones: EMA and SWA. Training does not read them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from trainers.config import AveragingConfig


class Averaging:
    """The average of a model's weights, and when it is taken.

        average <- average + share (weights - average)

    ema: after every step, share = 1 - decay, from the weights after its first step [Gowal et al. 2020, Section
    4.4]. swa: after every epoch, share = 1 / (number of averages), the mean of the weights so far [Izmailov et
    al., UAI 2018]. Batch norm's statistics are averaged as the weights are: SWA's own paper works them out anew
    over the training images, which for adversarial training would be another attack on each.

    torch's `AveragedModel` is not used: with buffers it waits for the GPU at every step, and fails there on batch
    norm's integer count.

    Args:
        config: of a resolved trial; ema or swa.
        model: whose weights are averaged.
    """

    def __init__(self, config: AveragingConfig, model: nn.Module) -> None:
        self._config = config
        self._averaged = copy.deepcopy(model).requires_grad_(False)
        self._count = 0

    def after_step(self, model: nn.Module, epoch: int) -> None:
        """Takes in the weights after a step of an epoch, counted from 0."""
        if self._config.name == "ema" and self._begun(epoch):
            self._take(model, 1 - self._config.decay)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Takes in the weights after an epoch, counted from 0."""
        if self._config.name == "swa" and self._begun(epoch):
            self._take(model, 1 / (self._count + 1))

    def _begun(self, epoch: int) -> bool:
        assert self._config.start is not None, "resolve the trial's config first"
        return epoch >= self._config.start

    @torch.no_grad()
    def _take(self, model: nn.Module, share: float) -> None:
        """The first weights as they are, later ones by their share; integers, batch norm's counts, as they are."""
        averaged, current = _tensors(self._averaged), _tensors(model)
        real = [number for number, tensor in enumerate(current) if tensor.is_floating_point()]
        if self._count:
            torch._foreach_lerp_([averaged[number] for number in real], [current[number] for number in real], share)
        for number in set(range(len(current))).difference(real if self._count else ()):
            averaged[number].copy_(current[number])
        self._count += 1

    @property
    def model(self) -> nn.Module | None:
        """The averaged model; None before the first average."""
        return self._averaged if self._count else None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {"count": self._count, "model": self._averaged.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self._count = state["count"]
        self._averaged.load_state_dict(state["model"])


def _tensors(model: nn.Module) -> list[Tensor]:
    return [*model.parameters(), *model.buffers()]
