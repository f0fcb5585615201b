"""Adversarial training as papers' codes write it: what `cpu_step.py` and `gpu.py` measure the package against.

Source: jsycsjh/DEAT, train_cifar_DEAT.py, main and attack_pgd, which go back to P2333/Bag-of-Tricks-for-AT and
locuslab/robust_overfitting; read, and written anew. Of its flags these are taken: plain SGD with coupled weight decay,
PGD in the l_inf ball from a uniform start, batch norm in eval mode while attacking (--BNeval, the paper's setting),
fp32, one restart, no early stop.

A step of K attack steps costs, in forward passes of the batch, 3 K + 7, as in that code; the package's own 2 K + 5:

    3 K   the attack: loss.backward() works out the gradients of all parameters too
    1     the attack's loss at its last images, by which it would choose among restarts
    1     the clean images before the update, in train mode, their logits unused
    3     the update
    2     the clean images after the update, for logging, and the length of their input gradient

Batch norm sees the same images in both. Images are augmented one by one and come through a DataLoader, and each step
takes its losses and accuracies off the device. The evaluation is that code's: PGD with parameters that take gradients,
in batches of the training's size. In two things this loop is faster than the code: images are float32, there float64,
and the DataLoader has no processes of its own, there two, which cost an epoch of seconds more than they save.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from trainers.config import TrialConfig
from trainers.data.batches import PADDING, Split, random_crops
from trainers.data.sets import load
from trainers.models import registry
from trainers.randomness import generator


@dataclass
class Trained:
    """What a run of either loop took, and what it found."""

    training: float = 0.0
    """Seconds of the passes over the training images."""
    seconds: float = 0.0
    """Of the whole trial, its evaluations and its start included; the data are in memory."""
    losses: list[float] = field(default_factory=list)
    """The update's loss, mean over each epoch, nats."""
    robust: float = 0.0
    """Robust accuracy on the test images after the last epoch."""


class Images(Dataset[tuple[Any, int]]):
    """Images one by one, padded beforehand, cropped and flipped as `crops` (3, N) has it, if it is not None."""

    def __init__(self, split: Split, augment: bool) -> None:
        pixels = split.images.numpy().astype(np.float32) / 255
        wide = [(0, 0), (0, 0), (PADDING, PADDING), (PADDING, PADDING)]
        self.size = pixels.shape[-1]
        self.images = np.pad(pixels, wide, mode="reflect") if augment else pixels
        self.labels = split.labels.tolist()
        self.crops: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, place: int) -> tuple[Any, int]:
        image = self.images[place]
        if self.crops is not None:
            top, left, flip = (int(value) for value in self.crops[:, place])
            image = image[:, top : top + self.size, left : left + self.size]
            image = image[:, :, ::-1].copy() if flip else image
        return image, self.labels[place]


def attack_pgd(
    model: nn.Module, normalize: nn.Module, x: Tensor, y: Tensor, config: TrialConfig, steps: int, draws: Any
) -> Tensor:
    """The perturbation (B, C, H, W), without a graph. `draws` is the start's generator."""
    radius, step_size = config.attack.radius, config.attack.step_size
    max_loss, max_delta = torch.zeros(len(y), device=x.device), torch.zeros_like(x)
    # drawn in the order in which the package's memory format has the pixels, so that both begin at the same place
    delta = torch.empty_like(x, memory_format=torch.channels_last).uniform_(-radius, radius, generator=draws)
    delta = torch.max(torch.min(delta.contiguous(), 1 - x), 0 - x)
    delta.requires_grad = True
    for _ in range(steps):
        loss = F.cross_entropy(model(normalize(x + delta)), y)
        loss.backward()
        gradient = delta.grad.detach()
        moved = torch.clamp(delta + step_size * torch.sign(gradient), min=-radius, max=radius)
        delta.data[:] = torch.max(torch.min(moved, 1 - x), 0 - x)
        delta.grad.zero_()
    all_loss = F.cross_entropy(model(normalize(x + delta)), y, reduction="none")
    max_delta[all_loss >= max_loss] = delta.detach()[all_loss >= max_loss]
    return max_delta


def train(config: TrialConfig, evaluate: bool = True) -> Trained:
    """Trains a resolved config, with a constant lr, as those codes do; on the CPU.

    Weights, order, crops and the attack's starts are the package's own for the same config, so that both train alike.
    """
    data, found, began = load(config.data, "cpu"), Trained(), perf_counter()
    normalize, model = registry.network(config, data)
    optimizer = torch.optim.SGD(
        model.parameters(), config.optimizer.lr, config.optimizer.momentum, weight_decay=config.optimizer.weight_decay
    )
    images = Images(data.train, bool(config.data.augment))
    held_out = [DataLoader(Images(split, False), config.batch_size) for split in (data.val, data.test)]
    for epoch in range(config.epochs):
        started = perf_counter()
        found.losses.append(_epoch(model, normalize, images, optimizer, config, epoch))
        found.training += perf_counter() - started
        if evaluate and (epoch + 1) % config.evaluation.every == 0:
            found.robust = [_evaluated(model, normalize, loader, config) for loader in held_out if loader.dataset][-1]
    found.seconds = perf_counter() - began
    return found


def _epoch(
    model: nn.Module, normalize: nn.Module, images: Images, optimizer: Any, config: TrialConfig, epoch: int
) -> float:
    """One pass over the training images; its mean loss."""
    cpu = torch.device("cpu")
    order = torch.randperm(len(images), generator=generator(cpu, config.seed, epoch, "order"))
    images.crops = random_crops(len(images), cpu, config.seed, epoch) if config.data.augment else None
    if images.crops is not None:  # the package draws them by place in the epoch
        images.crops = images.crops[:, order.argsort()]
    draws = generator(cpu, config.seed, epoch, "attack")
    total = nothing()
    model.train()
    for x, y in DataLoader(images, config.batch_size, sampler=order.tolist()):
        step(model, normalize, x, y, optimizer, config, draws, total)
    return total["robust loss"] / total["images"]


def nothing() -> dict[str, Any]:
    """The sums that an epoch logs, before its first step."""
    return {"robust loss": 0.0, "robust": 0, "loss": 0.0, "right": 0, "gradient": 0.0, "images": 0}


def step(
    model: nn.Module,
    normalize: nn.Module,
    x: Tensor,
    y: Tensor,
    optimizer: Any,
    config: TrialConfig,
    draws: Any,
    total: dict[str, Any],
) -> None:
    """One update at images (B, C, H, W) and labels (B,), on their device, and what is logged of it into `total`."""
    optimizer.param_groups[0].update(lr=config.optimizer.lr)
    model.eval()
    delta = attack_pgd(model, normalize, x, y, config, config.attack.steps, draws)
    model.train()
    adversarial = normalize(torch.clamp(x + delta, min=0, max=1)).requires_grad_()
    robust_output = model(adversarial)
    model(normalize(x).requires_grad_())
    robust_loss = F.cross_entropy(robust_output, y)
    optimizer.zero_grad()
    robust_loss.backward()
    optimizer.step()
    output, loss, gradient = _looked_at(model, normalize, x, y)
    total["robust loss"] += robust_loss.item() * len(y)
    total["robust"] += (robust_output.max(1)[1] == y).sum().item()
    total["loss"] += loss.item() * len(y)
    total["right"] += (output.max(1)[1] == y).sum().item()
    total["gradient"] += gradient.abs().sum()
    total["images"] += len(y)


def _looked_at(model: nn.Module, normalize: nn.Module, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and loss at the clean images, and the loss's gradient by them: what is logged."""
    clean = normalize(x).requires_grad_()
    output = model(clean)
    loss = F.cross_entropy(output, y)
    return output, loss, torch.autograd.grad(loss, clean)[0]


def _evaluated(model: nn.Module, normalize: nn.Module, loader: Iterable[Any], config: TrialConfig) -> float:
    """Robust accuracy; the losses, the clean accuracy and the gradient's length are worked out as well."""
    model.eval()
    draws = generator("cpu", config.seed, "evaluation")
    robust, right, images, losses, lengths = 0, 0, 0, 0.0, 0.0
    for x, y in loader:
        delta = attack_pgd(model, normalize, x, y, config, config.evaluation.steps, draws)
        robust_output = model(normalize(torch.clamp(x + delta, min=0, max=1)).requires_grad_())
        robust_loss = F.cross_entropy(robust_output, y)
        output, loss, gradient = _looked_at(model, normalize, x, y)
        losses += robust_loss.item() * len(y) + loss.item() * len(y)
        robust += (robust_output.max(1)[1] == y).sum().item()
        right += (output.max(1)[1] == y).sum().item()
        lengths += gradient.abs().sum()
        images += len(y)
    return robust / images
