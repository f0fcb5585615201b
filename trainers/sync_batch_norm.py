"""Batch norm over a whole batch whose parts several workers have: its mean, its variance, and the gradient by both.

    y = (x - mean) / sqrt(variance + eps) * weight + bias

A worker works out count, mean and variance of its part; all get those of all in one sum, and put them together:

    n mean = sum n_r mean_r,    n variance = sum n_r (variance_r + (mean_r - mean)^2)

so that nothing is lost where a mean is large. Gradients take the same way back, any number of times: a user's objective
may have a gradient in it.

This stands in for `torch.nn.functional.batch_norm` while a network runs, in whatever layer calls it: torch's, timm's
that holds an activation too, a user's own. So the network stays what it is, and its checkpoints fit any number of
workers. torch's SyncBatchNorm refuses CPUs, and takes the layer's place.

Source: Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American Statistician 1983, eq. 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from trainers.workers import Workers


def spanning(forward: Callable[[Tensor], Tensor], workers: Workers) -> Callable[[Tensor], Tensor]:
    """`forward`, in which batch norm in train mode normalises by all workers' images; they all have to call it."""

    def logits(images: Tensor) -> Tensor:
        with _Spanning(workers):
            return forward(images)

    return logits


class _Spanning(TorchFunctionMode):
    """A block in which `batch_norm` takes the place of torch's."""

    def __init__(self, workers: Workers) -> None:
        super().__init__()
        self._workers = workers

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        if function is F.batch_norm and given.get("training"):
            return batch_norm(self._workers, *args, **given)
        return function(*args, **given)


def batch_norm(
    workers: Workers,
    images: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None,
    bias: Tensor | None,
    training: bool,
    momentum: float,
    eps: float,
) -> Tensor:
    """As torch's in training, whose arguments these are, over the images (B, C, ...) of all workers."""
    values = images if images.dtype == torch.float64 else images.float()
    across = [dimension for dimension in range(images.ndim) if dimension != 1]
    count, mean, variance = _moments(values, across, workers)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    shape = [1, -1, *[1] * (images.ndim - 2)]
    return torch.addcmul(shift.view(shape), values, scale.view(shape)).to(images.dtype)


def _moments(values: Tensor, across: list[int], workers: Workers) -> tuple[Tensor, Tensor, Tensor]:
    """Of each channel (C,): numbers in it, their mean, and their variance, by their count."""
    variance, mean = torch.var_mean(values, across, correction=0)
    own = torch.stack([torch.full_like(mean, values.numel() / len(mean)), mean, variance])
    none = torch.zeros_like(own)
    of_all = _Sum.apply(torch.stack([own if rank == workers.rank else none for rank in range(workers.size)]), workers)
    counts, means, variances = of_all.unbind(1)
    count = counts.sum(0)
    mean = (counts * means).sum(0) / count
    return count, mean, (counts * (variances + (means - mean).square())).sum(0) / count


class _Sum(torch.autograd.Function):
    """The sum over the workers; so is its gradient, as each worker's sum hangs on every other's share."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, workers: Workers) -> Tensor:
        total = own.clone()
        workers.sum_([total])
        ctx.workers = workers
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.apply(gradient, ctx.workers), None
