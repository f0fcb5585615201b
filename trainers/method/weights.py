"""AWP: around which weights the loss is descended, slot 3 of the training step.

Source: [AWP] Wu, Xia, Wang, "Adversarial Weight Perturbation Helps Robust Generalization", NeurIPS 2020.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeAlias

import torch
from torch import Tensor, nn

from trainers.config import WeightsConfig
from trainers.workers import ALONE, Workers

Perturbed: TypeAlias = Callable[[nn.Module, Callable[[], Tensor]], AbstractContextManager[None]]
"""A model and its loss as a function of nothing but the weights, to the block in which they are perturbed."""

#: Keeps a tensor without gradient where it is; gradients of such a norm move less than gamma. [AWP, code]
_SMALLEST = 1e-20


def begun(config: WeightsConfig, epoch: int) -> bool:
    """Whether a resolved config perturbs the weights in an epoch, counted from 0: not before the warm-up's end."""
    if config.name == "none":
        return False
    assert config.warmup is not None, "resolve the trial's config first"
    return epoch >= config.warmup


def build(config: WeightsConfig, epoch: int, workers: Workers = ALONE) -> Perturbed:
    """What a resolved config does to the weights in an epoch, counted from 0.

    The loss that it is then given is the worker's addend of the batch's.
    """
    if not begun(config, epoch):
        return lambda model, loss: nullcontext()
    gamma = config.gamma
    assert gamma is not None, "resolve the trial's config first"
    return lambda model, loss: perturbed(model, loss, gamma, workers)


@contextmanager
def perturbed(model: nn.Module, loss: Callable[[], Tensor], gamma: float, workers: Workers = ALONE) -> Iterator[None]:
    """The weights a step of one tensor's relative length gamma up the loss; on leaving, the same to the bit.

        v = gamma |w| g / |g|,    g the loss's gradient at w

    for each trainable tensor w of more than one dimension with `weight` in its name [AWP, eq. 10; code,
    AT_AWP/utils_awp.py, diff_in_weights]: biases, batch norm's scales, a transformer's positions and class token and
    the tables and scales of torchvision's swin, maxvit and convnext stay; queries, keys and values do not. The pass
    that finds g leaves no trace in the buffers: batch norm sees the batch once, at w + v.

    The surprise: the caller steps the optimizer after the block, at w. The authors step at w + v and subtract v
    then, so that there weight decay also acts on v: a difference of lr * weight_decay * v.

    Args:
        model: its mode is left alone.
        loss: (), the same function at every call; called once here.
        gamma: |v| / |w|.
        workers: whose losses add up to the batch's, up which the weights step: in all workers alike.
    """
    chosen: list[Tensor] = [
        weight for name, weight in model.named_parameters() if weight.requires_grad and _climbs(name, weight)
    ]
    kept = _copies(chosen)
    gradients = _gradients(model, loss, chosen)
    workers.sum_(gradients)
    with torch.no_grad():
        lengths = torch._foreach_norm(kept)
        torch._foreach_mul_(lengths, gamma)
        steepness = torch._foreach_norm(gradients)
        torch._foreach_add_(steepness, _SMALLEST)
        torch._foreach_div_(lengths, steepness)
        torch._foreach_mul_(gradients, lengths)
        torch._foreach_add_(chosen, gradients)
    try:
        yield
    finally:
        copy_all(chosen, kept)


def _climbs(name: str, weight: Tensor) -> bool:
    return weight.dim() > 1 and "weight" in name


def _gradients(model: nn.Module, loss: Callable[[], Tensor], chosen: list[Tensor]) -> list[Tensor]:
    """The loss's gradient by each tensor; the model's buffers are as before."""
    put_back = keep_buffers(model)
    gradients = torch.autograd.grad(loss(), chosen, allow_unused=True, materialize_grads=True)
    put_back()
    return list(gradients)


def places(model: nn.Module) -> list[tuple[nn.Module, str, Tensor | None]]:
    """Each of the model's buffers behind the module that holds it and its name there: a pass may put another there."""
    return [(module, name, buffer) for module in model.modules() for name, buffer in module._buffers.items()]


def keep_buffers(model: nn.Module) -> Callable[[], None]:
    """Copies the model's buffers; gives what puts them back, with what they held."""
    there = places(model)
    buffers = [buffer for _, _, buffer in there if buffer is not None]
    kept = _copies(buffers)

    def put_back() -> None:
        for module, name, buffer in there:
            module._buffers[name] = buffer
        copy_all(buffers, kept)

    return put_back


def _copies(tensors: Sequence[Tensor]) -> list[Tensor]:
    kept = [torch.empty_like(tensor, requires_grad=False) for tensor in tensors]
    copy_all(kept, tensors)
    return kept


@torch.no_grad()
def copy_all(into: Sequence[Tensor], tensors: Sequence[Tensor]) -> None:
    """Copies each tensor into its fellow, with one call for all of a type: on a GPU one kernel, not one for each."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        alike = [(old, new) for old, new in zip(into, tensors, strict=True) if new.dtype == dtype]
        torch._foreach_copy_([old for old, _ in alike], [new for _, new in alike])
