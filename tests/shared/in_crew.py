"""What the processes of a crew are called with: trials in fp64, where two ways to the same numbers differ by rounding
alone, far below what a fault would do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from trainers import sync_batch_norm
from trainers.config import TrialConfig
from trainers.data import sets
from trainers.method import optimizers
from trainers.method.batch_norm import average_
from trainers.method.step import Tally
from trainers.training import Training, _Watch
from trainers.workers import Part, Workers

Batches = Iterator[tuple[Tensor, Tensor]]


def begun(workers: Workers, config: TrialConfig) -> Training:
    """A trial at its first step, network and images in fp64."""
    training = Training.begin(config, sets.load(config.data, torch.device("cpu")), workers)
    training.model.double()
    if training.averaging is not None:
        training.averaging._averaged.double()
    if hasattr(training.attack, "_delta"):
        training.attack._delta = training.attack._delta.double()
    training.stepper.tally = Tally(torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.long))
    training._batches = partial(_in_double, training._batches)  # type: ignore[method-assign]
    return training


def _in_double(batches: Callable[[int], Batches], epoch: int) -> Batches:
    for images, labels in batches(epoch):
        yield images.double(), labels.double() if labels.is_floating_point() else labels


def trained(workers: Workers, config: TrialConfig, state: Any = None, epochs: tuple[int, int] | None = None) -> Any:
    """What epochs from one to another, by default all, leave of a trial: all that a checkpoint has, and each pass.

    Args:
        workers: that train.
        config: of the trial.
        state: what they begin with, as this gives it.
        epochs: first, and how many are done at the end.
    """
    training = begun(workers, config)
    if state is not None:
        training.model.load_state_dict(state["model"])
        optimizers.restore(training.optimizer, state["optimizer"])
        training.attack.load_state_dict(state["attack"])
        training.averaging.load_state_dict(state["averaging"])  # type: ignore[union-attr]
    passes = [tuple(training.epoch(epoch)[:3]) for epoch in range(*(epochs or (0, config.epochs)))]
    return {
        "model": training.model.state_dict(),
        "optimizer": training.optimizer.state_dict(),
        "attack": training.attack.state_dict(),
        "averaging": training.averaging and training.averaging.state_dict(),
        "passes": torch.tensor(passes, dtype=torch.float64),
    }


def sums(workers: Workers, config: TrialConfig) -> list[int]:
    """How many numbers each of the sums of a trial's first step has."""
    training, sizes, reduce = begun(workers, config), list[int](), distributed.all_reduce

    def counted(tensor: Tensor) -> Any:
        sizes.append(tensor.numel())
        return reduce(tensor)

    distributed.all_reduce = counted
    try:
        with training.stepper.epoch(training._method(1), 1, config.batch_size):
            training.stepper.step(*next(training._batches(1)), config.batch_size)
    finally:
        distributed.all_reduce = reduce
    return sizes


class Activated(nn.BatchNorm2d):
    """A layer that holds an activation too, as timm's and users' do: torch's SyncBatchNorm would lose it."""

    def forward(self, images: Tensor) -> Tensor:
        """Batch norm, and then the activation."""
        weights = {"weight": self.weight, "bias": self.bias, "training": self.training}
        return F.silu(F.batch_norm(images, self.running_mean, self.running_var, **weights))


def normalised(workers: Workers, layers: list[nn.Module], whole: Tensor) -> list[Any]:
    """Of each layer in train mode: the outputs for a part of a batch, what two passes leave, and the gradients of two
    losses that hang on all outputs, of which the second is a gradient itself."""
    return [_normalised(workers, layer, whole) for layer in layers]


def _normalised(workers: Workers, layer: nn.Module, whole: Tensor) -> dict[str, Any]:
    part = Part(workers, len(whole)).images
    images = whole[part].clone().requires_grad_()
    forward = sync_batch_norm.spanning(layer, workers) if not workers.alone else layer
    forward(images + 1)
    outputs = forward(images)
    weights = torch.arange(whole.numel(), dtype=whole.dtype).view(whole.shape).cos()[part]
    given = [images, *layer.parameters()]
    loss = (outputs * weights).sum() + outputs.pow(4).sum()
    first = torch.autograd.grad(loss, given, create_graph=True)
    second = torch.autograd.grad((first[0] * weights.sin()).pow(2).sum(), given, allow_unused=True)
    workers.sum_([*first[1:], *[one for one in second[1:] if one is not None]])
    return {
        "images": [workers.gathered(each.detach()) for each in (outputs, first[0], second[0])],
        "weights": [one.detach() for one in (*first[1:], *second[1:]) if one is not None],
        "buffers": layer.state_dict(),
    }


def gradients(workers: Workers) -> list[Tensor | None]:
    """Of three parameters: that all workers have, that the second has alone, and that none has, summed."""
    parameters = [nn.Parameter(torch.zeros(2)) for _ in range(3)]
    for parameter in parameters[: 2 if workers.rank == 1 else 1]:
        parameter.grad = torch.full((2,), workers.rank + 1.0)
    workers.sum_gradients_(parameters)
    return [parameter.grad for parameter in parameters]


def rounded(workers: Workers, whole: Tensor) -> tuple[Tensor, Tensor]:
    """Batch norm's outputs for a batch, and the gradients by its images of a loss whose own are about 1, in fp32."""
    layer, part = nn.BatchNorm2d(whole.shape[1]), Part(workers, len(whole)).images
    images = whole[part].clone().requires_grad_()
    outputs = layer(images) if workers.alone else sync_batch_norm.spanning(layer, workers)(images)
    outputs.backward(1 + whole.sin()[part])
    assert images.grad is not None
    return workers.gathered(outputs.detach().float()), workers.gathered(images.grad.float())


def averaged(workers: Workers, layer: nn.Module, whole: Tensor, sync: bool) -> dict[str, Tensor]:
    """A layer's statistics after each worker has passed its part of a batch, and all have been averaged."""
    part = Part(workers, len(whole))
    layer(whole[part.images])
    average_(layer, part, sync)
    return layer.state_dict()


def exchanged(workers: Workers) -> tuple[Any, ...]:
    """What workers of ranks 0, 1, ... make of one number each of two types, of as many rows and of their ranks."""
    rows = torch.full((workers.rank + 1, 2), workers.rank)
    numbers = [torch.tensor(float(workers.rank)), torch.tensor([workers.rank, 1])]
    workers.sum_(numbers)
    return *numbers, workers.gathered(rows), workers.gathered(rows == 0), workers.said({"rank": workers.rank})


def lost(workers: Workers, infinite: int) -> bool:
    """Whether a worker sees that the loss of one of them is not finite."""
    loss = torch.tensor(float("inf") if workers.rank == infinite else 1.0)
    return _Watch(loss, workers).lost(0)


def noised(workers: Workers, config: TrialConfig) -> Any:
    """What an epoch leaves of a trial whose optimizer adds noise from torch's own generator to the weights, and the
    first number of it in each step."""
    numbers = list[float]()

    def add_noise(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                noise = torch.randn_like(parameter)
                parameter.data.add_(noise, alpha=0.01)
                numbers.append(noise.flatten()[0].item())

    training = begun(workers, config)
    training.optimizer.register_step_post_hook(add_noise)
    training.epoch(0)
    return training.model.state_dict(), numbers


def drawn(workers: Workers, config: TrialConfig) -> list[float]:
    """What torch's own generator draws in the steps of an epoch."""
    training, numbers = begun(workers, config), list[float]()

    def step(images: Tensor, labels: Tensor, batch: int) -> None:
        numbers.append(torch.rand(()).item())
        training.stepper.tally.images += len(labels)

    training.stepper.step = step  # type: ignore[method-assign]
    training.epoch(0)
    return numbers
