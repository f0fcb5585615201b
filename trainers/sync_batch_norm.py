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
from typing import Any, cast

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
    outputs, count, mean, variance = _Normalised.apply(images, weight, bias, workers, eps)
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * (count / (count - 1))).to(running_var.dtype), momentum)
    return cast(Tensor, outputs)


class _Normalised(torch.autograd.Function):
    """The outputs, and of each channel (C,): numbers in it, their mean, and their variance, by their count.

    torch's own kernels do what is done to each pixel. With u the gradient by the outputs and x' the normalised images,
    that by the images is weight / sqrt(variance + eps) (u - mean of u - x' times the mean of u x').
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor | None, bias: Tensor | None, workers: Workers, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        room = images.new_zeros(images.shape[1], dtype=_precision(images))
        mean, variance = torch.batch_norm_update_stats(images, room, room.clone(), 0.0)
        count, mean, variance = _together(images, mean, variance, workers)
        ctx.save_for_backward(images, weight, bias, count, mean, variance)
        ctx.workers, ctx.eps = workers, eps
        ctx.mark_non_differentiable(count, mean, variance)
        return F.batch_norm(images, mean, variance, weight, bias, eps=eps), count, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, bias, count, mean, variance = ctx.saved_tensors
        if torch.is_grad_enabled():
            return *_differentiable_gradients(ctx, gradient), None, None
        scale = torch.ones_like(mean) if weight is None else weight
        wanted = [images.dtype == mean.dtype, True, True]
        own, by_weight, by_bias = torch.ops.aten.native_batch_norm_backward(
            gradient, images, scale, mean, variance, None, None, False, ctx.eps, wanted
        )
        own = own if wanted[0] else None
        totals = [by_weight.clone(), by_bias.clone()]
        ctx.workers.sum_(totals)
        inverse = (variance + ctx.eps).rsqrt()
        slope = -scale * inverse.square() * totals[0] / count
        offset = -scale * inverse * totals[1] / count - slope * mean
        shape = [1, -1, *[1] * (images.ndim - 2)]
        slope, offset, factor = (each.view(shape) for each in (slope, offset, scale * inverse))
        if own is None:  # rounded to bf16 once: the terms cancel, and else a channel's gradients add up to no zero
            own = torch.addcmul(offset, images, slope).addcmul_(gradient, factor).to(images.dtype)
        else:
            own.addcmul_(images, slope).add_(offset)
        return own, None if weight is None else by_weight, None if bias is None else by_bias, None, None


def _differentiable_gradients(ctx: Any, gradient: Tensor) -> list[Tensor | None]:
    """The gradients by images, weight and bias as functions that have gradients themselves: from plain operations."""
    images, weight, bias, *_ = ctx.saved_tensors
    values = images.to(_precision(images))
    variance, mean = torch.var_mean(values, [axis for axis in range(images.ndim) if axis != 1], correction=0)
    _, mean, variance = _together(values, mean, variance, ctx.workers)
    shape = [1, -1, *[1] * (images.ndim - 2)]
    scale = (variance + ctx.eps).rsqrt() if weight is None else (variance + ctx.eps).rsqrt() * weight
    outputs = (values - mean.view(shape)) * scale.view(shape)
    outputs = outputs if bias is None else outputs + bias.view(shape)
    wanted = [one for one, needs in zip((images, weight, bias), ctx.needs_input_grad, strict=False) if needs]
    found = iter(torch.autograd.grad(outputs, wanted, gradient.to(outputs.dtype), create_graph=True))
    return [next(found) if needs else None for needs in ctx.needs_input_grad[:3]]


def _precision(images: Tensor) -> torch.dtype:
    """In which statistics are worked out: in fp32 where the images are in bf16."""
    return images.dtype if images.dtype == torch.float64 else torch.float32


def _together(images: Tensor, mean: Tensor, variance: Tensor, workers: Workers) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and variance over all workers, each (C,), from those of each worker's images."""
    own = torch.stack([torch.full_like(mean, images.numel() / len(mean)), mean, variance])
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
