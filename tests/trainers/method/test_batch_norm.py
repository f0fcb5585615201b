"""Batch norm's running statistics: estimated from the images named, the update being the same to the bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers import loop
from trainers.config import TrialConfig
from trainers.engine import Engine
from trainers.method import adversary, batch_norm, objectives, weights
from trainers.method.attacks import pgd
from trainers.method.batch_norm import RunningStatistics, frozen
from trainers.method.step import Slots, Tally, training_step
from trainers.record import EpochRecord

CPU = torch.device("cpu")
LR = 0.1
ATTACK = {"radius": 0.2, "step_size": 0.1, "steps": 2, "start": "uniform"}
DATA = ("adversarial", "clean", "both")


class Network(nn.Module):
    """Batch norm behind dropout, and behind nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.BatchNorm2d(1), nn.BatchNorm1d(9)
        self.linear, self.last = nn.Linear(16, 9), nn.Linear(9, 3)

    def forward(self, images: Tensor) -> Tensor:
        hidden = F.dropout(self.first(images).flatten(1), 0.3, self.training)
        logits: Tensor = self.last(torch.relu(self.second(self.linear(hidden))))
        return logits


def network(dropout: bool = False) -> nn.Module:
    torch.manual_seed(0)
    if dropout:
        return Network().train()
    return nn.Sequential(nn.BatchNorm2d(1), nn.Flatten(), nn.Linear(16, 3), nn.BatchNorm1d(3)).train()


def batch() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(12, 1, 4, 4, generator=generator), torch.randint(0, 3, (12,), generator=generator)


def step(model: nn.Module, **parts: Any) -> Tally:
    """One update by SGD of the method that the parts of a TrialConfig name."""
    values = {"data": {"name": "digits"}, **parts, "attack": {**ATTACK, **parts.get("attack", {})}}
    config = TrialConfig.model_validate(values).resolved()
    tally = Tally.empty(CPU)
    slots = Slots(
        adversary.build(config.attack, batch()[0]),
        objectives.build(config.objective, num_classes=3),
        weights.build(config.weights, epoch=0),
        torch.optim.SGD(model.parameters(), lr=LR),
        Engine(CPU, config.precision),
        batch_norm.build(config),
    )
    training_step(model, slots, *batch(), torch.Generator(), torch.Generator(), tally)
    return tally


def buffers(model: nn.Module) -> dict[str, Tensor]:
    return {name: buffer for name, buffer in model.named_buffers() if "running" in name}


@pytest.mark.parametrize("mode", ["eval", "train", "batch"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("awp", ["none", "awp"])
@pytest.mark.parametrize("objective", ["pgd_at", "trades", "mart", "avmixup", "natural"])
def test_a_step_and_what_it_draws_are_the_same_to_the_bit_whatever_images_it_estimates_from(
    objective: str, awp: str, precision: str, mode: str
) -> None:
    found = []
    method = {"objective": {"name": objective}, "weights": {"name": awp, "warmup": 0}, "precision": precision}
    for data in DATA:
        model = network(dropout=True)
        torch.manual_seed(3)
        tally = step(model, batch_norm_data=data, clean_passes=3, attack={"batch_norm": mode}, **method)
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([*model.parameters(), *gradients, tally.loss, tally.correct, torch.get_rng_state()])
    for other in found[1:]:
        assert all(torch.equal(*pair) for pair in zip(found[0], other, strict=True))


#: What passes through the network in train mode: x clean, a adversarial images, | the optimizer's step.
ORDERS = {
    "DEAT": ({}, "ax|x"),
    "Rice": ({"clean_passes": 1}, "a|x"),
    "TRADES": ({"objective": {"name": "trades"}}, "xax|"),
    "MART": ({"objective": {"name": "mart"}}, "xa|"),
    "AT-AWP": ({"weights": {"name": "awp"}}, "a|x"),
    "adversarial": ({"batch_norm_data": "adversarial"}, "a|"),
    "clean": ({"batch_norm_data": "clean", "clean_passes": 1}, "|x"),
    "adversarial, trades": ({"objective": {"name": "trades"}, "batch_norm_data": "adversarial"}, "a|"),
    "clean, trades": ({"objective": {"name": "trades"}, "batch_norm_data": "clean"}, "xx|"),
    "natural": ({"objective": {"name": "natural"}}, "x|"),
    "no attack steps": ({"attack": {"steps": 0}, "batch_norm_data": "clean", "clean_passes": 2}, "x|"),
}


@pytest.mark.parametrize(("parts", "order"), ORDERS.values(), ids=ORDERS)
def test_the_running_statistics_are_those_of_the_published_passes(parts: dict[str, Any], order: str) -> None:
    model, x, y = network(), *batch()
    before, twin = copy.deepcopy(model), copy.deepcopy(model)
    step(model, **parts)
    config = TrialConfig.model_validate({**parts, "attack": {**ATTACK, **parts.get("attack", {})}}).resolved()
    objective = objectives.build(config.objective, 3)
    twin.eval()
    strength = {name: getattr(config.attack, name) for name in ATTACK}
    a = pgd(objective.inner(twin, x, y), x, generator=torch.Generator(), **strength)
    twin.train()
    with weights.build(config.weights, 0)(twin, lambda: F.cross_entropy(twin(a), y)):
        run(twin, order.partition("|")[0], x, a)
    with torch.no_grad():
        for mine, moved in zip(twin.parameters(), model.parameters(), strict=True):
            mine.copy_(moved)
    run(twin, order.partition("|")[2], x, a)
    for name, expected in buffers(twin).items():
        torch.testing.assert_close(buffers(model)[name], expected)
        assert not torch.equal(expected, buffers(before)[name])


def run(model: nn.Module, order: str, x: Tensor, a: Tensor) -> None:
    for which in order:
        model(x if which == "x" else a)


def test_a_network_without_batch_norm_passes_no_images_for_its_sake() -> None:
    passed: list[int] = []
    for passes in (1, 5):
        model = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        model.register_forward_pre_hook(lambda module, inputs: passed.append(passes))  # noqa: B023
        step(model, clean_passes=passes)
    assert passed.count(1) == passed.count(5) == 3  # two steps of the attack, and the update


def test_avmixup_estimates_from_the_mixed_images_alone() -> None:
    found = []
    for extra in ({}, {"batch_norm_data": "adversarial", "clean_passes": 5}):
        model = network()
        step(model, objective={"name": "avmixup"}, **extra)
        found.append(buffers(model))
        assert model[0].num_batches_tracked == 1
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize(("data", "tracked"), [("adversarial", 3), ("both", 4), ("clean", 1)])
def test_the_steps_of_an_attack_in_train_mode_count_as_adversarial_images(data: str, tracked: int) -> None:
    model = network()
    step(model, batch_norm_data=data, clean_passes=1, attack={"batch_norm": "train", "steps": 2})
    assert model[0].num_batches_tracked == tracked


def test_frozen_statistics_stay_and_the_output_is_the_same_to_the_bit() -> None:
    model, twin, x = network(), network(), batch()[0]
    with frozen(model):
        found = model(x)
        model.eval()
        evaluated = model(x)
    assert torch.equal(found, twin(x))
    assert torch.equal(evaluated, network().eval()(x))
    assert all(torch.equal(buffer, buffers(network())[name]) for name, buffer in buffers(model).items())
    model.train()(x)
    assert model[0].num_batches_tracked == 1


def test_of_what_is_missing_the_last_pass_is_after_the_step_unless_the_objective_passes_the_clean_images() -> None:
    assert [RunningStatistics("both", n).missing(False) for n in (0, 1, 2, 3)] == [(0, 0), (0, 1), (1, 1), (2, 1)]
    assert [RunningStatistics("clean", n).missing(True) for n in (0, 1, 2, 3)] == [(0, 0), (0, 0), (1, 0), (2, 0)]
    assert RunningStatistics("adversarial", 2).missing(False) == (0, 0)


def test_a_trial_whose_attack_normalises_by_the_batch_trains_alike_and_evaluates_otherwise() -> None:
    found: dict[str, list[EpochRecord]] = {data: [] for data in DATA}
    for data, records in found.items():
        values = {
            "data": {"name": "digits", "train_per_class": 6, "test_per_class": 4, "validation_fraction": 0.2},
            "model": {"name": "small_cnn"},
            "epochs": 2,
            "batch_size": 16,
            "attack": {**ATTACK, "batch_norm": "batch"},
            "evaluation": {"splits": ["test"], "steps": 1},
            "batch_norm_data": data,
            "averaging": {"name": "ema", "decay": 0.5},
        }
        loop.train(TrialConfig.model_validate(values), records.append)
    trained = {tuple((record.train_robust, record.train_robust_loss) for record in found[data]) for data in DATA}
    assert len(trained) == 1
    for column in ("test_clean_loss", "averaged_test_clean_loss"):
        assert len({getattr(found[data][-1], column) for data in DATA}) == len(DATA)
