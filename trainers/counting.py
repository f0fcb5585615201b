"""What a trial takes, before it is run: FLOPs, the numbers it holds, and how fast this machine is at it.

The trial's own network and training step run on two images, and every matrix product and convolution is counted (a
multiply-add is 2). Of a network that is not small they run on torch's meta device, where tensors have shapes and no
values, and nothing is computed. What is left out: element-wise
work, which takes time and no counted FLOPs, and the dynamics. Torch's counter takes the weights' gradient of a grouped
convolution for that of a whole one: steps of mobilenet, mnasnet and efficientnet come out two to three times too dear.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from trainers.config import ModelConfig, TrialConfig
from trainers.data.sources import Shape
from trainers.engine import Engine, float32_products
from trainers.method import adversary, batch_norm, objectives, optimizers, weights
from trainers.method.batch_norm import attacking
from trainers.method.objectives import cross_entropy
from trainers.method.step import Slots, Tally, adversarial, training_step
from trainers.models import registry
from trainers.randomness import generator
from trainers.stepper import Stepper

#: FLOPs of an image's forward pass, if each weight is used at each pixel: at most so many are computed, in less time
#: than torch takes to load what computes shapes alone.
_COMPUTED = 2e8
_FEW = 2  # images that are counted on: batch norm needs two
_BYTES = 4  # of a number in fp32
_FILES = 3  # of a trial that trains: the newest checkpoint, the one before, and the next while it is written
#: FLOPs of a step that is timed, at most: some tenths of a second on two cores; on a GPU a whole batch, for of a few
#: images it would be the launching of its kernels that is timed.
_FLOPS = {"cpu": 10e9, "cuda": 10e12}
#: What a timing may take, s and repeats.
_SECONDS, _REPEATS = 0.1, 20
#: Steps after which all are captured: an eager one and a capture for each of DEAT's two averages.
_TO_CAPTURE = 4


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """So many threads of torch, and then as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Work(NamedTuple):
    """What one image costs a trial, and what the trial holds.

    Attributes:
        forward: FLOPs of a forward pass.
        step: FLOPs of a training step, the attack included; with replays one of them.
        attack: FLOPs of an evaluation's PGD, all its restarts.
        parameters, buffers: numbers in the network.
        kept: bytes that autograd keeps for the update.
        kept_attacking: bytes that it keeps for a step of an evaluation's attack.
    """

    forward: float
    step: float
    attack: float
    parameters: int
    buffers: int
    kept: float
    kept_attacking: float


def work(config: TrialConfig, shape: Shape) -> Work:
    """What a resolved trial takes on data of this shape."""
    alike = config.model_copy(update=_same_for_all())
    return _work(alike, shape._replace(train_images=0, val_images=0, test_images=0, extra_images=0))


@functools.cache
def _same_for_all() -> dict[str, object]:
    """Parts of a trial that change nothing of its `Work`."""
    arithmetic = ("precision", "deterministic", "engine")
    parts = ("data", "batch_size", "optimizer", "schedule", "averaging", "dynamics", "seed", "keep", *arithmetic)
    plain = TrialConfig().resolved()
    return {name: getattr(plain, name) for name in parts}


@functools.lru_cache(maxsize=256)
@_threads(1)  # for two images more of them are slower
def _work(config: TrialConfig, shape: Shape) -> Work:
    network = deepcopy(_network(config.model, shape))  # a step that is computed changes it
    images, labels = _batch(shape, _FEW, next(network.parameters()).device)
    forward = _flops(lambda: network.eval()(images)) / _FEW
    outer = 2 if objectives.build(config.objective, shape.classes).passes_clean else 1
    attack = config.evaluation_attack()
    with attacking(network, "eval"):
        leaf = images.clone().requires_grad_()
        kept_attacking = _kept(network, lambda: network(leaf))
    return Work(
        forward,
        _step(config, network, images, labels) / _FEW,
        config.evaluation.restarts * (2 * attack.steps + 1) * forward,
        sum(each.numel() for each in network.parameters()),
        sum(each.numel() for each in network.buffers()),
        outer * _kept(network, lambda: network.train()(images)) / _FEW,
        kept_attacking / _FEW,
    )


def epoch_flops(config: TrialConfig, shape: Shape, cost: Work) -> tuple[float, float]:
    """FLOPs of a mean epoch: of its training, and of its evaluation, which not every epoch has."""
    every, averaged = config.evaluation.every, config.averaging.name != "none"
    held_out = sum(getattr(shape, f"{name}_images") for name in config.evaluation.splits if name != "train")
    evaluation = held_out * (cost.forward + cost.attack) * (2 if averaged else 1)
    if "train" in config.evaluation.splits:
        evaluation += shape.train_images * cost.forward
    updates = config.attack.replays or 1
    return shape.train_images * updates * cost.step, evaluation * math.ceil(config.epochs / every) / config.epochs


def evaluation_rate(config: TrialConfig, shape: Shape, attacking: float, exact: float) -> float:
    """FLOPs a second of a trial's evaluations: `attacking` of the attack's passes, `exact` of all others, in fp32."""
    settings = config.evaluation
    if settings.precision == "fp32":
        return exact
    networks = 2 if config.averaging.name != "none" else 1
    held_out = networks * sum(getattr(shape, f"{name}_images") for name in settings.splits if name != "train")
    fast = held_out * settings.restarts * 2 * settings.steps
    slow = held_out * (settings.restarts + 1) + (shape.train_images if "train" in settings.splits else 0)
    rate: float = (fast + slow) / (fast / attacking + slow / exact)
    return rate


def memory(config: TrialConfig, shape: Shape, cost: Work) -> float:
    """Bytes of the tensors that a trial holds at its fullest: weights, gradients, the optimizer's and averaging's
    state, AWP's copies, images that are not mapped, and what autograd keeps of the larger of a training and an
    evaluation batch.

    An estimate: 0.98 to 1.00 of what lives at the fullest moment of a training step of the networks for CIFAR, and 0.72
    of small_cnn's, whose passing tensors weigh more. Workspaces of convolutions, fragments and torch itself come on
    top; in bf16 half of what autograd keeps of a batch is counted.
    """
    copies = 2 + state_copies(config) + (2 if config.weights.name == "awp" else 0)
    training = min(config.batch_size, shape.train_images) * cost.kept * (0.5 if config.precision == "bf16" else 1)
    most = max(shape.val_images, shape.test_images)
    evaluating = min(config.evaluation.batch_size, most) * cost.kept_attacking
    evaluating *= 0.5 if config.evaluation.precision == "bf16" else 1
    images = 0 if shape.mapped else shape.train_images + shape.val_images + shape.test_images
    images += shape.extra_images
    return copies * cost.parameters * _BYTES + max(training, evaluating) + images * shape.pixels


def state_copies(config: TrialConfig) -> int:
    """Copies of the weights that the optimizer and the averaging hold."""
    return optimizer_copies(config) + int(config.averaging.name != "none")


def optimizer_copies(config: TrialConfig) -> int:
    """Copies of the weights that the optimizer holds."""
    two = config.optimizer.name in ("deat", "adamw") or config.optimizer.is_own  # of a user's own, as many as Adam's
    return 2 if two else int(config.optimizer.momentum > 0)


def checkpoint_bytes(config: TrialConfig, shape: Shape, cost: Work) -> tuple[float, float]:
    """Bytes of a trial's files while it trains, the newest, the one before and the next, which is being written; and of
    what it keeps when it has ended."""
    averaged = 2 if config.averaging.name != "none" else 1
    network = (cost.parameters + cost.buffers) * _BYTES
    best = averaged * network if config.keeps("best") else 0.0
    last = averaged * network if config.keeps("last") else 0.0
    carried = config.batch_size * shape.pixels if config.attack.replays is not None else 0
    running = network + (state_copies(config) * cost.parameters + carried) * _BYTES + best
    # of the state, the weights and their average are the last ones, which a file holds once
    state = (optimizer_copies(config) * cost.parameters + carried) * _BYTES if config.keep == "state" else 0.0
    return _FILES * running, best + last + state


def rates(config: TrialConfig, shape: Shape, threads: int, device: str) -> tuple[float, float]:
    """FLOPs a second of the trial's training step and of its evaluation, timed here on random images.

    Where a step would take long, it is one of fewer images and one attack step. On a GPU it is captured, as a trial's
    are; where they are compiled too they are faster still.

    Args:
        config: resolved.
        shape: of its data.
        threads: that torch uses meanwhile.
        device: cpu or cuda.
    """
    engine = Engine(torch.device(device), config.precision, "graph")
    with _threads(threads):
        model = engine.prepare(_built(config.model, shape))
        training = _training_rate(config, shape, model, engine)
        exact = _attack_rate(config, shape, model, Engine(engine.device))
        if config.evaluation.precision == "fp32":
            return training, exact
        attacking = _attack_rate(config, shape, model, Engine(engine.device, config.evaluation.precision))
        return training, evaluation_rate(config, shape, attacking, exact)


def _training_rate(config: TrialConfig, shape: Shape, model: nn.Module, engine: Engine) -> float:
    step = work(config, shape).step
    if step * _FEW > _FLOPS[engine.device.type]:
        config = config.model_copy(update={"attack": config.attack.model_copy(update={"steps": 1})})
        step = work(config, shape).step
    size = _size(min(config.batch_size, shape.train_images), step, engine.device)
    images, labels = _batch(shape, size, engine.device)
    slots, stepper = _slots(config, model, engine, shape.classes, images), Stepper(model.train(), engine, seed=0)

    def once() -> None:
        stepper.step(images, labels)

    with float32_products(config.precision), stepper.epoch(slots, 0, size):
        for _ in range(_TO_CAPTURE if engine.captures else 0):
            once()
        return step * size / _seconds(once, engine.device)


def _attack_rate(config: TrialConfig, shape: Shape, model: nn.Module, engine: Engine) -> float:
    attack = config.evaluation_attack().model_copy(update={"steps": 1})
    flops = 2 * work(config, shape).forward
    size = _size(
        min(config.evaluation.batch_size, max(shape.val_images, shape.test_images, _FEW)), flops, engine.device
    )
    images, labels = _batch(shape, size, engine.device)
    images, draws = engine.images(images), generator(engine.device, 0)

    def once() -> None:
        adversarial(model.eval(), cross_entropy, images, labels, attack, engine.forward(model), draws)

    with float32_products("fp32"):
        return flops * size / _seconds(once, engine.device)


def _size(wanted: int, flops: float, device: torch.device) -> int:
    """So many of the wanted images as may be timed."""
    return max(_FEW, min(wanted, int(_FLOPS[device.type] / flops)))


def _seconds(once: Callable[[], None], device: torch.device) -> float:
    """The shortest of some repeats, after one to warm up, in which a GPU loads its libraries."""
    times: list[float] = []
    while len(times) < 3 or (sum(times[1:]) < _SECONDS and len(times) < _REPEATS):
        started = time.perf_counter()
        once()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - started)
        if sum(times[1:]) > 3 * _SECONDS:
            break
    return min(times[1:])


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the FLOPs of what runs in it, by torch's formulas.

    Torch's own counter would do, but it makes torch load its compiler, which takes longer than all the rest of a plan.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.flops = 0

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing here is compiled; true: the compiler is loaded, to be told so

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if (formula := flop_registry.get(getattr(func, "overloadpacket", None))) is not None:
            self.flops += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _flops(run: Callable[[], object]) -> int:
    counter = _Counter()
    with counter:
        run()
    return counter.flops


def _step(config: TrialConfig, network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """FLOPs of a mean training step: attack steps after the second cost what the second does, AWP begins late."""
    once = functools.partial(_counted, network=network, images=images, labels=labels)
    steps, part = config.attack.steps, config.weights
    first, second = (once(_with_steps(config, min(steps, most))) for most in (1, 2))
    total: float = first + max(steps - 1, 0) * (second - first)
    if part.name == "awp" and part.warmup:
        without = config.model_copy(update={"weights": part.model_copy(update={"name": "none"})})
        share = min(part.warmup / config.epochs, 1)
        total -= share * (first - once(_with_steps(without, min(steps, 1))))
    return total


def _with_steps(config: TrialConfig, steps: int) -> TrialConfig:
    return config.model_copy(update={"attack": config.attack.model_copy(update={"steps": steps})})


def _counted(config: TrialConfig, network: nn.Module, images: Tensor, labels: Tensor) -> int:
    slots = _slots(config, network, Engine(images.device), int(network(images).shape[1]), images)
    one, other = torch.Generator(), torch.Generator()
    return _flops(lambda: training_step(network.train(), slots, images, labels, one, other, Tally.empty(images.device)))


def _slots(config: TrialConfig, network: nn.Module, engine: Engine, classes: int, images: Tensor) -> Slots:
    perturbed = weights.build(config.weights, epoch=config.epochs + (config.weights.warmup or 0))
    optimizer = optimizers.build(config.optimizer, network.parameters())
    objective = objectives.build(config.objective, classes)
    attack = adversary.build(config.attack, engine.images(images))
    return Slots(attack, objective, perturbed, optimizer, engine, batch_norm.build(config))


def _kept(network: nn.Module, forward: Callable[[], Tensor]) -> int:
    """Bytes that autograd keeps of a forward pass and its loss, the weights left out."""
    own = {tensor.untyped_storage()._cdata for tensor in (*network.parameters(), *network.buffers())}
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = forward()
        loss = F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))
    kept_bytes = sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)
    del loss
    return kept_bytes


def _batch(shape: Shape, size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    size_of_all = (size, shape.channels, shape.height, shape.width)
    images = torch.rand(size_of_all, device=device, generator=None if device.type == "meta" else generator(device, 0))
    return images, torch.zeros(size, dtype=torch.long, device=device)


@functools.lru_cache(maxsize=8)
def _network(config: ModelConfig, shape: Shape) -> nn.Module:
    """The network to count on; one that is not small is without values."""
    network = _built(config, shape)
    weights = sum(each.numel() for each in network.parameters())
    return network if 2 * weights * shape.height * shape.width <= _COMPUTED else network.to("meta")


def _built(config: ModelConfig, shape: Shape) -> nn.Module:
    return registry.build(
        config,
        num_classes=shape.classes,
        channels=shape.channels,
        image_size=(shape.height, shape.width),
        mean=(0.5,) * shape.channels,
        std=(0.25,) * shape.channels,
        seed=0,
    )
