"""Averaged weights beside the raw ones: EMA and SWA. Training does not read them."""

from __future__ import annotations

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from trainers.config import AveragingConfig


class Averaging:
    """The average of a model's weights, and when it is taken.

    ema: after every step, average <- decay average + (1 - decay) weights, from the weights at its beginning
    [Gowal et al. 2020, Section 4.4]. swa: after every epoch, the mean of the weights so far [Izmailov et al.,
    UAI 2018]. Batch norm's statistics are averaged as the weights are: SWA's own paper works them out anew over
    the training images, which for adversarial training would be another attack on each.

    Args:
        config: of a resolved trial; ema or swa.
        model: whose weights are averaged.
    """

    def __init__(self, config: AveragingConfig, model: nn.Module) -> None:
        self._config = config
        average = get_ema_multi_avg_fn(config.decay) if config.name == "ema" else None  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, multi_avg_fn=average, use_buffers=True)

    def after_step(self, model: nn.Module, epoch: int) -> None:
        """Takes in the weights after a step of an epoch, counted from 0."""
        if self._config.name == "ema" and self._begun(epoch):
            self._averaged.update_parameters(model)

    def after_epoch(self, model: nn.Module, epoch: int) -> None:
        """Takes in the weights after an epoch, counted from 0."""
        if self._config.name == "swa" and self._begun(epoch):
            self._averaged.update_parameters(model)

    def _begun(self, epoch: int) -> bool:
        assert self._config.start is not None, "resolve the trial's config first"
        return epoch >= self._config.start

    @property
    def model(self) -> nn.Module | None:
        """The averaged model; None before the first average."""
        return self._averaged.module if self.count else None

    @property
    def count(self) -> int:
        """How many times weights were taken in; waits for the device."""
        return int(self._averaged.n_averaged)

    def state_dict(self) -> dict[str, object]:
        """What a checkpoint holds."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Goes on from a checkpoint."""
        self._averaged.load_state_dict(state)
