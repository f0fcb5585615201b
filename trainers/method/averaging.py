"""Averaged weights beside the raw ones: EMA and SWA. Training does not read them."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from trainers.config import AveragingConfig
from trainers.method.weights import copy_all, places


class Averaging:
    """The average of a model's weights, and when it is taken.

        average <- average + share (weights - average)

    ema: after every step, share = 1 - decay, from the weights after its first step; with ema_warmup share =
    1 - min(decay, (1 + t) / (10 + t)) at its step t = 0, 1, ..., from the weights before it [Gowal et al. 2020,
    Section 4.4; code: google-deepmind/deepmind-research, adversarial_robustness/jax/utils.py, ema_update]. swa: after
    every epoch, share = 1 / (number of averages), the mean of the weights so far [Izmailov et al., UAI 2018].

    Batch norm's statistics are averaged as the weights are; with ema_warmup they are those of the raw model, as in
    that code (experiment.py, evaluate). SWA's own paper works them out anew over the training images, which for
    adversarial training would be another attack on each.

    torch's `AveragedModel` is not used: with buffers it waits for the GPU at every step, and fails there on batch
    norm's integer count.

    Args:
        config: of a resolved trial; ema or swa.
        model: whose weights are averaged.
    """

    def __init__(self, config: AveragingConfig, model: nn.Module) -> None:
        self._config = config
        self._warms_up = config.name == "ema" and config.ema_warmup
        self._averaged = copy.deepcopy(model).requires_grad_(False)
        self._count = 0
        self._of: nn.Module | None = None
        """The model that `_mixed` and `_copied` were listed for, and `_places` with the buffers that it then had."""

    def after_step(self, model: nn.Module, epoch: int) -> None:
        """Takes in the weights after a step of an epoch, counted from 0."""
        if self._config.name == "ema" and self._begun(epoch):
            self._take(model, 1 - self._decay(self._count))

    def _decay(self, t: int) -> float:
        """What the average so far weighs at step `t` of the EMA, from 0."""
        if self._warms_up:
            return min(self._config.decay, (1 + t) / (10 + t))
        return self._config.decay if t else 0.0

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Takes in the weights after an epoch, counted from 0."""
        if self._config.name == "swa" and self._begun(epoch):
            self._take(model, 1 / (self._count + 1))
        elif self._warms_up and not self._begun(epoch) and self._begun(epoch + 1):
            self._average(model, 1.0)  # what it begins with; not an average yet

    def _begun(self, epoch: int) -> bool:
        assert self._config.start is not None, "resolve the trial's config first"
        return epoch >= self._config.start

    def _take(self, model: nn.Module, share: float) -> None:
        self._average(model, share)
        self._count += 1

    @torch.no_grad()
    def _average(self, model: nn.Module, share: float) -> None:
        """Tensors by their share, 1 being a copy; integers, batch norm's counts, are copied."""
        if model is not self._of or any(module._buffers.get(name) is not each for module, name, each in self._places):
            self._list(model)
        if share < 1:
            torch._foreach_lerp_(*self._mixed, share)
        else:
            copy_all(*self._mixed)
        copy_all(*self._copied)

    def _list(self, model: nn.Module) -> None:
        """Lists the tensors that are averaged and those that are copied: the average's, and the model's."""
        pairs = list(zip(_tensors(self._averaged), _tensors(model), strict=True))
        mixing = len(list(model.parameters())) if self._warms_up else len(pairs)
        mixed = [pair for pair in pairs[:mixing] if pair[1].is_floating_point()]
        copied = [pair for pair in pairs[:mixing] if not pair[1].is_floating_point()] + pairs[mixing:]
        self._of, self._mixed, self._copied = model, _sides(mixed), _sides(copied)
        self._places = places(model)

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


def _sides(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [one for one, _ in pairs], [other for _, other in pairs]
