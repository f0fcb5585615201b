"""Batch norm's running statistics: which images a training step estimates them from.

The update normalises by its own batch, whatever the running statistics are; an attack and an evaluation in eval mode
normalise by them. How often the clean images x and the adversarial ones x' pass through the network in train mode
during a step, in order, and where | is the optimizer's step (the attack itself aside, see `AttackConfig.batch_norm`;
that of Rice and AT-AWP, in train mode, has one pass more than steps, at its last images, and here has not):

    DEAT        x' x | x            jsycsjh/DEAT, train_cifar_DEAT.py and train_cifar.py, main
    Rice        x' | x              locuslab/robust_overfitting, train_cifar.py, main
    AT-AWP      x' | x              csdongxian/AWP, AT_AWP/train_cifar10.py, main
    TRADES      x x' x |            yaodongyu/TRADES, trades.py, trades_loss
    TRADES-AWP  x' x x |            csdongxian/AWP, trades_AWP/train_trades_cifar.py, train
    MART        x x' |              YisenWang/MART, mart.py, mart_loss
    AT+S2O      x x' x x' |         Alexkael/S2O, CIFAR10_AT_S2O/train_S2O.py, train
    TRADES+S2O  x x' x x' x' x |    the same, CIFAR10_TRADES_S2O/trades_s2o.py, trades_loss
    AVmixup     mixed |             Saehyung-Lee/cifar10_challenge, train.py: only the update's pass runs TensorFlow's
                                    update operations
    FGSM-RS     x' |                locuslab/fast_adversarial, CIFAR10/train_fgsm.py, main; the attack in train mode
    N-FGSM      x' |                pdejorge/N-FGSM, train.py, main; the attack in train mode
    Free-AT     x' |                ashafahi/free_adv_train, free_train.py; locuslab/fast_adversarial,
                                    CIFAR10/train_free.py: the update's pass is the attack's too
    FAT         x' |                zjfheart/Friendly-Adversarial-Training, FAT.py, train; for TRADES x x' |

Here the passes are theirs, one by one, but for: TRADES-AWP's order, x x' x |; S2O's number, x x' |, and x x' | too for
TRADES+S2O, so that the statistics remember more steps and hold nearly the same share of either.

Where a trial has several workers, each with a part of the batch, a pass in train mode normalises by the whole batch
(sync: `trainers.sync_batch_norm`), or each by its part (local), as if the batch had been cut into as many "ghost
batches" by one worker [Hoffer, Hubara, Soudry, NeurIPS 2017, Algorithm 1]; the running statistics are then the mean of
the workers' own, taken after each step.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase

from trainers import process, sync_batch_norm
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.method.objectives import Forward
from trainers.workers import Part, Workers


class RunningStatistics(NamedTuple):
    """Which images a step estimates batch norm's running statistics from; its update is the same for all."""

    data: Literal["adversarial", "clean", "both"] = "both"
    """adversarial: every pass but those of the clean images, so AVmixup's mixed ones, and an attack's in train mode."""
    clean_passes: int = 0
    """How often a step passes the clean images, an objective's own pass included; 0: only that one, if it has any."""
    sync: bool = True
    """Whether several workers normalise by the whole batch, and not each by its part."""

    def spanning(self, forward: Forward, workers: Workers) -> Forward:
        """`forward`, normalised as said: where by the whole batch, all workers have to call it."""
        return sync_batch_norm.spanning(forward, workers) if self.sync and not workers.alone else forward

    def watching(self, forward: Forward, model: nn.Module, clean: Tensor) -> Forward:
        """`forward` of `model`, which leaves the statistics alone at images that they are not estimated from.

        Args:
            clean: (B, C, H, W), the very tensor that is passed where the clean images are.
        """
        if self.data == "both":
            return forward

        def logits(images: Tensor) -> Tensor:
            if (images is clean) == (self.data == "clean"):
                return forward(images)
            with frozen(model):
                return forward(images)

        return logits

    def missing(self, reads_clean: bool) -> tuple[int, int]:
        """Passes of the clean images to be made before and after the optimizer's step.

        Args:
            reads_clean: whether the objective passes them once itself; else the last pass is after the step.
        """
        if self.data == "adversarial" or self.clean_passes == 0:
            return 0, 0
        return self.clean_passes - 1, 0 if reads_clean else 1


def build(config: TrialConfig) -> RunningStatistics:
    """What a resolved config names; without attack steps there are only clean images, and nothing is added."""
    sync = config.batch_norm == "sync"
    if config.attack.steps == 0:
        return RunningStatistics(sync=sync)
    assert config.batch_norm_data is not None, "resolve the trial's config first"
    assert config.clean_passes is not None, "resolve the trial's config first"
    return RunningStatistics(config.batch_norm_data, config.clean_passes, sync)


def average_(model: nn.Module, part: Part, sync: bool) -> None:
    """Gives all workers the same running statistics where each has worked out its own: their mean, by images.

    Those are batch norm's unless it is in sync, and instance norm's, a mean over the batch whatever the statistics that
    normalise it.
    """
    if part.workers.alone:
        return
    own = [
        statistic
        for layer in model.modules()
        if isinstance(layer, _NormBase) and layer.training and not (sync and isinstance(layer, _BatchNorm))
        for statistic in (layer.running_mean, layer.running_var)
        if statistic is not None
    ]
    for statistic in own:
        statistic.mul_(part.share)
    part.workers.sum_(own)


def check_shared(model: nn.Module, name: str) -> None:
    """Several workers can share an evaluation of a network: none of its batch norm normalises that by its batches.

    Raises:
        UserError: some does, and each worker has a part of a batch.
    """
    if any(isinstance(layer, _BatchNorm) and layer.running_mean is None for layer in model.modules()):
        raise UserError(
            f"model.name: batch norm in {name} keeps no running statistics, and an evaluation would be normalised by "
            "each worker's part of its batches; leave track_running_stats=False out, or set resources.workers=1"
        )


@contextmanager
def frozen(model: nn.Module) -> Iterator[None]:
    """A block in which batch norm in train mode normalises by the batch, and leaves its running statistics alone."""
    tracking = _tracking(model)
    for module in tracking:
        module.track_running_stats = False
    try:
        yield
    finally:
        for module in tracking:
            module.track_running_stats = True


def _tracking(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]


@torch.no_grad()
def estimate(forward: Forward, model: nn.Module, images: Tensor, passes: int) -> None:
    """Passes images through a model in train mode for the sake of its running statistics alone, if it has any.

    torch's own generators are as before, so that the update's dropout draws what it would draw without.

    Args:
        forward: of the model.
        images: (B, C, H, W) in [0, 1].
        passes: how many; 0 does nothing.
    """
    if passes == 0 or not _tracking(model):
        return
    # a step that is captured draws nothing from them, and they cannot be read then; they are no one thread's
    untouched = process.shared() or (images.is_cuda and torch.cuda.is_current_stream_capturing())
    with nullcontext() if untouched else torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
        for _ in range(passes):
            forward(images)


@contextmanager
def attacking(model: nn.Module, batch_norm: Literal["eval", "train", "batch"]) -> Iterator[None]:
    """The model as an attack needs it: parameters frozen, so that only input gradients are worked out.

    batch: in train mode, but batch norm's running statistics stay.

    Freezing saves a third of every backward pass: a PGD-10 step costs 23 forward-equivalents, not 33.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    was_training = model.training
    for parameter in trainable:
        parameter.requires_grad_(False)
    model.train(batch_norm != "eval")
    try:
        with frozen(model) if batch_norm == "batch" else nullcontext():
            yield
    finally:
        model.train(was_training)
        for parameter in trainable:
            parameter.requires_grad_(True)
