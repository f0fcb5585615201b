"""The training step: what it costs, and what it is identical to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from trainers.config import AttackConfig, ModelConfig, TrialConfig
from trainers.engine import Engine, device_of
from trainers.errors import UserError
from trainers.method import adversary, batch_norm, objectives, weights
from trainers.method.attacks import pgd
from trainers.method.batch_norm import attacking
from trainers.method.objectives import cross_entropy
from trainers.method.step import Slots, Tally, adversarial, training_step
from trainers.models import registry

CPU = torch.device("cpu")


def build(name: str = "small_cnn", channels: int = 1, size: int = 8) -> torch.nn.Module:
    mean, std = (0.5,) * channels, (0.25,) * channels
    return registry.build(
        ModelConfig(name=name),
        num_classes=10,
        channels=channels,
        image_size=(size, size),
        mean=mean,
        std=std,
        seed=0,
    )


def batch(channels: int = 1, size: int = 8, images: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(images, channels, size, size, generator=generator)
    return x, torch.randint(0, 10, (images,), generator=generator)


def one_step(
    model: torch.nn.Module, precision: str = "fp32", shape: dict[str, int] | None = None, **parts: Any
) -> Tally:
    """One update by SGD, lr 0.1, of the method that the parts of a TrialConfig name."""
    config = TrialConfig.model_validate({"data": {"name": "digits"}, **parts}).resolved()
    x, y = batch(**(shape or {}))
    tally = Tally.empty(CPU)
    slots = Slots(
        adversary.build(config.attack, x),
        objectives.build(config.objective, num_classes=10),
        weights.build(config.weights, epoch=0),
        torch.optim.SGD(model.parameters(), lr=0.1),
        Engine(CPU, precision),
        batch_norm.build(config),
    )
    start, mixing = (torch.Generator().manual_seed(seed) for seed in (2, 3))
    training_step(model.train(), slots, x, y, start, mixing, tally)
    return tally


class OneModule:
    """Stands in for the counter's module tracker, whose hooks torch.autograd.grad on a leaf does not bear."""

    parents = frozenset({"Global"})

    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


def flops(work: Callable[[], object]) -> int:
    counter = FlopCounterMode(display=False)
    counter.mod_tracker = OneModule()
    with counter:
        work()
    return counter.get_total_flops()


#: Forward-equivalents of a step with 10 attack steps: a forward pass, its gradient by the input and by the weights are
#: one each, AWP repeats the outer loss without S2O's term, and clean images pass for batch norm as published.
COSTS = {
    "natural": (3, 6),
    "pgd_at": (25, 27),
    "trades": (28, 34),
    "mart": (26, 32),
    "avmixup": (23, 26),
}
COSTS_WITH_S2O = {"natural": (3, 6), "pgd_at": (26, 29), "trades": (27, 33), "mart": (26, 32), "avmixup": (26, 29)}


@pytest.mark.parametrize(
    ("s2o", "awp"),
    [
        (False, False),
        (True, True),
        *(pytest.param(*both, marks=pytest.mark.slow) for both in ((False, True), (True, False))),
    ],
)
@pytest.mark.parametrize("objective", COSTS)
def test_a_pgd10_step_costs_so_many_forward_equivalents(objective: str, s2o: bool, awp: bool) -> None:
    """Less the first layer's input gradient, which no update needs."""
    shape = {"channels": 3, "size": 16, "images": 2}
    model = build("preact_resnet18", channels=3, size=16)
    images = batch(**shape)[0]
    forward = flops(lambda: model(images))
    method = {
        "objective": {"name": objective, "s2o": {"enabled": s2o}},
        "weights": {"name": "awp" if awp else "none", "warmup": 0},
    }
    step = flops(lambda: one_step(model, shape=shape, attack={"steps": 10}, **method))
    assert step / forward == pytest.approx((COSTS_WITH_S2O if s2o else COSTS)[objective][awp], abs=0.1)


def test_gradients_that_an_earlier_step_left_do_not_count() -> None:
    fresh, used = build(), build()
    for parameter in used.parameters():
        parameter.grad = torch.ones_like(parameter)
    one_step(fresh)
    one_step(used)
    assert all(torch.equal(*pair) for pair in zip(fresh.parameters(), used.parameters(), strict=True))


@pytest.mark.parametrize("parts", [{"attack": {"steps": 0}}, {"objective": {"name": "natural"}}], ids=str)
def test_zero_attack_steps_are_one_step_of_natural_training(parts: dict[str, Any]) -> None:
    attacked, natural = build(), build()
    x, y = batch()
    one_step(attacked, **parts)
    optimizer = torch.optim.SGD(natural.parameters(), lr=0.1)
    F.cross_entropy(natural.train()(x), y).backward()
    optimizer.step()
    for got, expected in zip(attacked.parameters(), natural.parameters(), strict=True):
        assert torch.equal(got, expected)


def test_the_tally_holds_the_loss_and_accuracy_at_the_adversarial_images() -> None:
    model, reference = build(), build()
    x, y = batch(images=16)
    attack = {"radius": 0.1, "step_size": 0.03, "steps": 3}
    tally = one_step(model, shape={"images": 16}, attack=attack)
    reference.train()
    x_adv = adversarial(
        reference,
        cross_entropy,
        x,
        y,
        AttackConfig(start="uniform", **attack),
        reference,
        torch.Generator().manual_seed(2),
    )
    logits = reference(x_adv)
    accuracy, loss = tally.means()
    assert accuracy == (logits.argmax(1) == y).float().mean().item()
    assert loss == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("objective", "start", "attack_draws", "mixing_draws"),
    [("pgd_at", "uniform", True, False), ("avmixup", "clean", False, True), ("natural", "uniform", False, False)],
)
def test_the_attack_and_the_mixing_draw_from_a_generator_each(
    objective: str, start: str, attack_draws: bool, mixing_draws: bool
) -> None:
    config = TrialConfig.model_validate(
        {"data": {"name": "digits"}, "objective": {"name": objective}, "attack": {"start": start, "steps": 1}}
    ).resolved()
    model, generators = build().train(), [torch.Generator().manual_seed(seed) for seed in (2, 3)]
    before = [generator.get_state() for generator in generators]
    slots = Slots(
        adversary.build(config.attack, batch()[0]),
        objectives.build(config.objective, num_classes=10),
        weights.build(config.weights, epoch=0),
        torch.optim.SGD(model.parameters(), lr=0.1),
        Engine(CPU),
        batch_norm.build(config),
    )
    training_step(model, slots, *batch(), *generators, Tally.empty(CPU))
    drew = [not torch.equal(one.get_state(), was) for one, was in zip(generators, before, strict=True)]
    assert drew == [attack_draws, mixing_draws]


@pytest.mark.parametrize("mode", ["eval", "train", "batch"])
@pytest.mark.parametrize(("norm", "start"), [("linf", "uniform"), ("l2", "normal"), ("l2", "clean")])
def test_the_attack_is_pgd_as_the_config_has_it_at_the_network_in_the_mode_that_it_names(
    norm: Any, start: Any, mode: Any
) -> None:
    x, y = batch()
    strength: dict[str, Any] = {"radius": 0.2, "step_size": 0.05, "steps": 3, "norm": norm, "start": start}
    model = build().train()
    found = adversarial(
        model,
        cross_entropy,
        x,
        y,
        AttackConfig(batch_norm=mode, **strength),
        model,
        torch.Generator().manual_seed(5),
    )
    other = build().train(mode != "eval")
    expected = pgd(cross_entropy(other, x, y), x, generator=torch.Generator().manual_seed(5), **strength)
    assert torch.equal(found, expected)


@pytest.mark.parametrize(("mode", "moves"), [("eval", False), ("train", True), ("batch", False)])
def test_batch_norm_statistics_move_while_attacking_only_in_train_mode(mode: str, moves: bool) -> None:
    model = build().train()
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    x, y = batch()
    adversarial(
        model,
        cross_entropy,
        x,
        y,
        AttackConfig(start="uniform", batch_norm=mode, steps=2),
        model,
        torch.Generator(),
    )
    moved = any(not torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())
    assert moved is moves
    assert model.training


def test_an_attack_leaves_no_gradients_and_gives_the_parameters_back() -> None:
    model = build()
    first = next(model.parameters())
    first.requires_grad_(False)
    with attacking(model, "eval"):
        assert not any(parameter.requires_grad for parameter in model.parameters())
    assert not first.requires_grad
    assert sum(parameter.requires_grad for parameter in model.parameters()) == len(list(model.parameters())) - 1


def test_bf16_steps_stay_near_fp32_ones_and_leave_fp32_parameters() -> None:
    exact, rough = build(), build()
    parts = {"shape": {"images": 32}, "attack": {"radius": 0.1, "step_size": 0.03, "steps": 3}}
    loss = one_step(exact, **parts).means()[1]
    assert one_step(rough, "bf16", **parts).means()[1] == pytest.approx(loss, rel=0.05)
    assert {parameter.dtype for parameter in rough.parameters()} == {torch.float32}


class Standardised(torch.nn.Conv2d):
    """A convolution with a weight that is worked out from its parameter, as timm's StdConv2d has."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        weight = (self.weight - self.weight.mean()) / self.weight.std()
        return F.conv2d(images, weight, self.bias)


@pytest.mark.parametrize("kind", ["plain", "standardised", "over its norm"])
def test_weights_that_are_cast_once_give_the_logits_of_weights_cast_in_each_pass(kind: str) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layer = Standardised(1, 8, 3) if kind == "standardised" else torch.nn.Conv2d(1, 8, 3)
        if kind == "over its norm":
            layer = torch.nn.utils.spectral_norm(layer)
        model = torch.nn.Sequential(layer, torch.nn.Flatten(), torch.nn.Linear(8 * 36, 10)).eval()
    engine, (x, _) = Engine(CPU, "bf16"), batch()
    expected = engine.forward(model)(x)
    with engine.cast_once(model):
        assert model[2].weight.dtype == torch.bfloat16
        assert torch.equal(engine.forward(model)(x), expected)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_asked_for_where_none_is_says_so() -> None:
    with pytest.raises(UserError, match=r"^device: must be on this machine, got 'cuda', and torch sees 0 GPUs"):
        device_of("cuda")
    assert device_of("auto") == CPU
