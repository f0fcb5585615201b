"""The noise of mini-batch gradients: how much, along which directions, and how far from Gaussian.

A batch is drawn without replacement, as in training, and independently of the others. With per-sample gradients of
covariance C, divisor m - 1, over the m images measured on, the gradient of a batch of b has covariance

    C / b (1 - b / m)                                        [Cochran, Sampling Techniques, 3rd ed., Theorem 2.2]

where each image acts on its own term only; with replacement the bracket is 1 - 1 / m. Batch norm in train mode
mixes the images of a batch, and the law is then a finding, not an identity.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainers.dynamics.curvature import Estimate
from trainers.dynamics.loss import FixedLoss


class Noise(NamedTuple):
    """What mini-batch gradients of one size gave."""

    trace: Estimate
    """Of their covariance, unbiased."""
    projections: Tensor
    """Of each gradient on each direction, (batches, q), double, on the CPU."""


def gradient_noise(
    model: nn.Module, loss: FixedLoss, batch_size: int, batches: int, directions: Tensor, generator: torch.Generator
) -> Noise:
    """Gradients of mini-batches, of which two at a time are held.

    The trace is the mean of |g - g'|^2 / 2 over disjoint pairs of batches: unbiased, and the pairs being
    independent its standard error is that of a mean, whatever the law of the noise.

    Args:
        model: in the mode in which the gradients are wanted.
        loss: of the images.
        batch_size: of a mini-batch, at most the images.
        batches: even, at least 4.
        directions: (d, q), unit columns.
        generator: of the choice of images, on their device.
    """
    projections, halves = [], []
    for _ in range(batches // 2):
        pair = [_drawn(model, loss, batch_size, generator) for _ in range(2)]
        projections += [gradient @ directions for gradient in pair]
        halves.append((pair[0] - pair[1]).square().sum() / 2)
    noises = torch.stack(halves).double()
    error = noises.std() / len(noises) ** 0.5
    return Noise(Estimate(noises.mean().item(), error.item()), torch.stack(projections).double().cpu())


def _drawn(model: nn.Module, loss: FixedLoss, batch_size: int, generator: torch.Generator) -> Tensor:
    device = loss.labels.device
    chosen = torch.randperm(len(loss), generator=generator, device=device)[:batch_size]
    return gradient(model, loss, [chosen])


def gradient(model: nn.Module, loss: FixedLoss, parts: Iterable[Tensor]) -> Tensor:
    """The gradient of the mean loss over all images of these parts by the trainable parameters, in order: (d,).

    Args:
        model: its mode is the caller's.
        loss: of the images.
        parts: numbers of images, (B,) each.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total, count = torch.zeros((), device=loss.labels.device), 0
    for part in parts:
        value = loss.outer(model, part).loss
        gradients = torch.autograd.grad(value, parameters, allow_unused=True, materialize_grads=True)
        total = total + len(part) * torch.cat([each.flatten() for each in gradients])
        count += len(part)
    return total / count


def variance(values: Tensor) -> Tensor:
    """Of each column of (n, q), divisor n - 1: (q,)."""
    return values.var(dim=0)


def excess_kurtosis(values: Tensor) -> Tensor:
    """G_2 of each column of (n, q), 0 for a Gaussian, for which it is unbiased: (q,).

        G_2 = (n - 1) / ((n - 2) (n - 3)) ((n + 1) g_2 + 6),    g_2 = m_4 / m_2^2 - 3

    Joanes, Gill, The Statistician 47, 1998. Of heavy tails it says too little: g_2 is below n - 3 whatever the
    law.
    """
    n = len(values)
    centred = values - values.mean(dim=0)
    plain = centred.pow(4).mean(dim=0) / centred.square().mean(dim=0).square() - 3
    return (n - 1) / ((n - 2) * (n - 3)) * ((n + 1) * plain + 6)
