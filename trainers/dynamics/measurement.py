"""One measurement of a trial's dynamics: a model at its weights in, a DynamicsRecord out; the model stays as it is."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from trainers.config import TrialConfig
from trainers.data.sets import Data, load
from trainers.dynamics import curvature, lines
from trainers.dynamics.lines import rises
from trainers.dynamics.loss import FixedLoss, fixed_loss
from trainers.dynamics.noise import excess_kurtosis, gradient, gradient_noise, variance
from trainers.engine import Engine, float32_products
from trainers.errors import UserError
from trainers.identity import trial_id
from trainers.method import objectives
from trainers.models import registry
from trainers.randomness import default_generators, generator
from trainers.record import DynamicsRecord

#: Of how many images the loss is whose second derivative shows that there is one.
_FEW = 2


def is_due(config: TrialConfig, epoch: int) -> bool:
    """Whether something is measured once so many epochs are trained."""
    every = config.dynamics.every
    return every is not None and (epoch % every == 0 or epoch == config.epochs)


def refuse(config: TrialConfig) -> None:
    """`check` of a trial that has not begun, on the CPU; nothing where nothing is to be measured.

    Raises:
        UserError: as `check`, or the data cannot be loaded.
    """
    if config.dynamics.every is not None:
        engine = Engine(torch.device("cpu"))
        data = load(config.data, engine.device)
        check(config, registry.network(config, data), data, engine)


def check(config: TrialConfig, model: nn.Module, data: Data, engine: Engine) -> None:
    """What the config wants measured can be measured on this network and these data.

    Raises:
        UserError: the network cannot be differentiated twice or computed in double precision, or a batch is not smaller
            than the images measured on.
    """
    settings, there = config.dynamics, len(data.train.labels)
    most = min(settings.images, there)
    for key, size in [("batch_size", config.batch_size), *(("dynamics.batch_sizes", b) for b in settings.batch_sizes)]:
        if size >= most:
            raise UserError(
                f"{key}: must be below the {most} images that the dynamics are measured on (dynamics.images "
                f"{settings.images}, {there} training images), got {size}; lower it, or raise dynamics.images"
            )
    fixed = copy.deepcopy(model).eval()
    loss = _loss(config, fixed, data, _exact(engine), 0, _FEW)
    curvature.check(fixed, loss, config.model.name)
    lines.check(fixed, loss, config.model.name)


def measure(
    config: TrialConfig, epoch: int, lr: float, model: nn.Module, data: Data, engine: Engine, start: Sequence[Tensor]
) -> DynamicsRecord:
    """What there is to know of the adversarial loss at the model's weights.

    On a copy of the model, in fp32, on images that are the same for every epoch and seed: without augmentation,
    attacked once at these weights by the training attack, and then held fixed. Loss, Hessian and lines are in eval
    mode, so that the loss is a mean over images; the gradients of mini-batches are in the mode that
    `dynamics.batch_norm` names.

    Args:
        config: of a resolved trial.
        epoch: epochs trained.
        lr: that the weights were trained with last; before training, that of the first step.
        model: stays as it is, with its buffers, gradients and mode; so do torch's own generators.
        data: of the trial.
        engine: of the trial.
        start: the model's parameters before training, w_0.
    """
    started = time.perf_counter()
    with float32_products("fp32"), default_generators(engine.device, config.seed, epoch, "dynamics"):
        record = _measured(config, epoch, lr, copy.deepcopy(model).eval(), data, _exact(engine), start)
    return replace(record, seconds=time.perf_counter() - started)


def _measured(
    config: TrialConfig, epoch: int, lr: float, model: nn.Module, data: Data, engine: Engine, start: Sequence[Tensor]
) -> DynamicsRecord:
    settings, size = config.dynamics, config.evaluation.batch_size
    loss = _loss(config, model, data, engine, epoch, min(settings.images, len(data.train.labels)))
    level, robust = _level(model, loss, size)
    slope = gradient(model, loss, loss.parts(size))
    operator = curvature.hessian(model, loss, size)
    first = torch.randn(len(slope), generator=generator("cpu", config.seed, "dynamics start")).to(slope)
    pairs = curvature.eigenpairs(operator, min(settings.eigenpairs, len(slope) - 1), first)
    trace = curvature.trace(
        operator, pairs, settings.probes, generator(engine.device, config.seed, epoch, "dynamics probes")
    )
    random = _random_directions(len(slope), config).to(slope)
    directions = torch.cat([pairs.directions, random], dim=1)
    curvatures = [*pairs.values, *(float(each @ (operator @ each)) for each in random.T)]
    # a copy of its own: in train mode batch norm's running statistics move
    moving = copy.deepcopy(model).train(settings.batch_norm == "train")
    noises = {
        b: gradient_noise(
            moving, loss, b, settings.batches, directions, generator(engine.device, config.seed, epoch, "dynamics", b)
        )
        for b in dict.fromkeys((config.batch_size, *settings.batch_sizes))
    }
    variances = [variance(noise.projections).tolist() for noise in noises.values()]
    deat = config.optimizer.name == "deat"
    momentum = 0.0 if deat else config.optimizer.momentum
    mean_lr = lr / math.hypot(1 + config.optimizer.k1, config.optimizer.k1) if deat else lr
    scales = [noise_scale(mean_lr, c, h, momentum) for c, h in zip(variances[0], curvatures, strict=True)]
    places = [[sign * step * scale for sign in (-1, 1) for step in settings.line] for scale in scales]
    return DynamicsRecord(
        trial_id=trial_id(config),
        epoch=epoch,
        lr=lr,
        batch_size=config.batch_size,
        momentum=momentum,
        k1=config.optimizer.k1 if deat else None,
        k2=config.optimizer.k2 if deat else None,
        parameters=len(slope),
        training_images=len(data.train.labels),
        images=len(loss),
        robust=robust,
        loss=_number(level),
        gradient_squared=_number(slope.square().sum().item()),
        distance_squared=_number(_distance_squared(model, start)),
        eigenpairs=len(pairs.values),
        trace=_number(trace.value),
        trace_error=_number(trace.error),
        curvatures=_numbers(curvatures),
        slopes=_numbers((slope @ directions).tolist()),
        batches=settings.batches,
        batch_sizes=tuple(noises),
        noise_traces=_numbers([noise.trace.value for noise in noises.values()]),
        noise_trace_errors=_numbers([noise.trace.error for noise in noises.values()]),
        variances=tuple(_numbers(each) for each in variances),
        kurtoses=tuple(_numbers(excess_kurtosis(noise.projections).tolist()) for noise in noises.values()),
        places=tuple(_numbers(line) for line in places),
        rises=tuple(_numbers(line) for line in rises(model, loss, directions, places, size)),
    )


def noise_scale(lr: float, variance: float, curvature: float, momentum: float) -> float:
    """How far the noise carries the weights along a direction, as lr h goes to 0: sqrt(lr c / (2 (1 - mu) h)).

    Mandt, Hoffman, Blei, JMLR 18, 2017, Section 4. It is only where the lines are measured, and so simple that it
    exists at every learning rate; 1 where the loss does not curve up, or there is no noise.

    Args:
        lr: learning rate; of DEAT that of its mean step, lr / sqrt((1 + k1)^2 + k1^2) (`analysis.theory.deat`).
        variance: of the mini-batch gradient along the direction, c.
        curvature: of the loss along it, h.
        momentum: mu, in [0, 1).
    """
    squared = lr * variance / (2 * (1 - momentum) * curvature) if curvature else math.nan
    return math.sqrt(squared) if 0 < squared < math.inf else 1.0


def _exact(engine: Engine) -> Engine:
    return replace(engine, precision="fp32")


def _loss(config: TrialConfig, model: nn.Module, data: Data, engine: Engine, epoch: int, count: int) -> FixedLoss:
    """Of `count` training images, the first so many of an order that every epoch and seed has."""
    order = torch.randperm(len(data.train.labels), generator=generator("cpu", "dynamics images"))
    return fixed_loss(
        model,
        objectives.build(config.objective, data.num_classes),
        data.train,
        order[:count].sort().values.to(engine.device),
        config.attack,
        engine,
        size=config.evaluation.batch_size,
        attacking=generator(engine.device, config.seed, epoch, "dynamics attack"),
        mixing=generator(engine.device, config.seed, epoch, "dynamics mixing"),
    )


@torch.no_grad()
def _level(model: nn.Module, loss: FixedLoss, size: int) -> tuple[float, float]:
    """Mean loss, nats, and accuracy, fraction, at the images that the update would be made on."""
    total = correct = 0.0
    for part in loss.parts(size):
        outcome = loss.outer(model, part)
        total += len(part) * outcome.loss.item()
        correct += int((outcome.logits.argmax(dim=1) == loss.labels[part]).sum())
    return total / len(loss), correct / len(loss)


def _random_directions(parameters: int, config: TrialConfig) -> Tensor:
    """Unit vectors, (d, r), uniform on the sphere, the same in every epoch of a trial."""
    drawn = torch.randn(
        (parameters, config.dynamics.directions), generator=generator("cpu", config.seed, "dynamics directions")
    )
    lengths: Tensor = torch.linalg.vector_norm(drawn, dim=0)
    return drawn / lengths


@torch.no_grad()
def _distance_squared(model: nn.Module, start: Sequence[Tensor]) -> float:
    """|w - w_0|^2, w_0 the weights before training."""
    pairs = zip(model.parameters(), start, strict=True)
    return sum((now - then.to(now)).double().square().sum().item() for now, then in pairs if now.requires_grad)


def _number(value: float) -> float | None:
    """The value, None where JSON has no number for it."""
    return value if math.isfinite(value) else None


def _numbers(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(map(_number, values))
