"""AWP against a dense transcription with two models, and what it must leave as it was."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from trainers.config import ModelConfig, WeightsConfig
from trainers.method import weights
from trainers.method.weights import perturbed
from trainers.models import registry


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3)
        return nn.Sequential(*layers).double()


X = torch.rand(8, 1, 4, 4, dtype=torch.float64, generator=seeded(1))
Y = torch.randint(0, 3, (8,), generator=seeded(2))


def loss_of(model: nn.Module) -> Callable[[], Tensor]:
    return lambda: F.cross_entropy(model(X), Y)


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def two_model_step(model: nn.Module, gamma: float, lr: float) -> None:
    """AWP as published: a proxy climbs, its difference is rescaled tensor by tensor, added, and taken away again."""
    proxy = copy.deepcopy(model)
    climb = torch.optim.SGD(proxy.parameters(), lr=0.01)
    (-loss_of(proxy)()).backward()
    climb.step()
    added = {}
    for (name, weight), moved in zip(model.named_parameters(), proxy.parameters(), strict=True):
        if weight.dim() > 1 and "weight" in name:
            difference = (moved - weight).detach()
            added[name] = gamma * weight.detach().norm() * difference / difference.norm()
    with torch.no_grad():
        for name, v in added.items():
            model.get_parameter(name).add_(v)
    descend = torch.optim.SGD(model.parameters(), lr=lr)
    loss_of(model)().backward()
    descend.step()
    with torch.no_grad():
        for name, v in added.items():
            model.get_parameter(name).sub_(v)


def test_a_step_is_that_of_the_dense_transcription_with_two_models() -> None:
    ours, theirs = network().train(), network().train()
    optimizer = torch.optim.SGD(ours.parameters(), lr=0.1)
    for _ in range(3):
        with perturbed(ours, loss_of(ours), gamma=0.05):
            optimizer.zero_grad()
            loss_of(ours)().backward()
        optimizer.step()
        theirs.zero_grad()
        two_model_step(theirs, gamma=0.05, lr=0.1)
    for (name, got), expected in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-13, msg=name)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_weights_and_buffers_are_restored_to_the_bit(dtype: torch.dtype) -> None:
    model = network().to(dtype).train()
    before = state(model)
    with perturbed(model, lambda: F.cross_entropy(model(X.to(dtype)), Y), gamma=0.3):
        assert not torch.equal(model[0].weight, before["0.weight"])
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_weights_are_restored_when_the_block_fails() -> None:
    model = network()
    before = state(model)
    with pytest.raises(RuntimeError, match="inside"), perturbed(model, loss_of(model), gamma=0.3):
        raise RuntimeError("inside")
    assert torch.equal(model[0].weight, before["0.weight"])


def test_each_tensor_moves_by_gamma_of_its_own_norm_along_its_gradient_and_vectors_stay() -> None:
    model = network()
    before = state(model)
    gradients = torch.autograd.grad(loss_of(model)(), list(model.parameters()))
    with perturbed(model, loss_of(model), gamma=0.05):
        for (name, weight), gradient in zip(model.named_parameters(), gradients, strict=True):
            moved = (weight - before[name]).detach()
            expected = 0.05 * before[name].norm() * gradient / gradient.norm() if weight.dim() > 1 else 0 * gradient
            torch.testing.assert_close(moved, expected, msg=name)


def test_the_perturbation_raises_the_loss_and_the_loss_is_called_once() -> None:
    model, calls = network(), []

    def counted() -> Tensor:
        calls.append(1)
        return loss_of(model)()

    before = loss_of(model)().item()
    with perturbed(model, counted, gamma=0.02):
        assert loss_of(model)().item() > before
    assert calls == [1]


def test_batch_norm_sees_the_batch_once() -> None:
    model, once = network().train(), network().train()
    with perturbed(model, loss_of(model), gamma=1e-9):
        loss_of(model)()
    loss_of(once)()
    assert model[1].num_batches_tracked == once[1].num_batches_tracked == 1
    torch.testing.assert_close(model[1].running_mean, once[1].running_mean)


class Level(nn.Module):
    """A running mean in a buffer that is given a new tensor in each pass, as `nn.Module` allows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 2))
        self.register_buffer("level", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.level = 0.9 * self.level + 0.1 * images.mean()
        return images @ self.weight - self.level


def test_a_buffer_that_is_given_a_new_tensor_sees_the_batch_once() -> None:
    model, images = Level(), torch.ones(3, 2)
    with perturbed(model, lambda: model(images).sum(), gamma=0.01):
        model(images)
    assert model.level.item() == pytest.approx(0.1)


class Calls(TorchDispatchMode):
    """Counts operations by name."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def test_weights_and_buffers_are_copied_by_one_call_a_type_however_many_there_are() -> None:
    model = nn.Sequential(*(layer for _ in range(5) for layer in (nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2))))
    with Calls() as calls, perturbed(model, lambda: model(torch.ones(2, 2, 3, 3)).square().sum(), gamma=0.1):
        pass
    assert calls.names["_foreach_copy_"] == 6  # weights, running statistics and counts, there and back
    assert calls.names["copy_"] == calls.names["clone"] == 0


def test_a_tensor_without_gradient_stays_and_nothing_is_nan() -> None:
    model = nn.ModuleList([nn.Linear(3, 2), nn.Linear(3, 2)])
    before = state(model)
    with perturbed(model, lambda: model[0](torch.ones(1, 3)).square().sum(), gamma=0.1):
        assert torch.equal(model[1].weight, before["1.weight"])
        assert torch.isfinite(model[0].weight).all()


@pytest.mark.parametrize(
    ("name", "stay"),
    [
        ("vit_small", {"positions"}),
        pytest.param("torchvision:swin_t", {"relative_position_bias_table"}, marks=pytest.mark.slow),
        pytest.param("torchvision:convnext_tiny", {"layer_scale"}, marks=pytest.mark.slow),
        pytest.param("torchvision:vit_b_32", {"class_token", "pos_embedding"}, marks=pytest.mark.slow),
    ],
)
def test_of_a_network_the_tensors_called_weight_move_as_published_and_no_others(name: str, stay: set[str]) -> None:
    shape = {"num_classes": 3, "channels": 3, "image_size": 32, "mean": (0.5,) * 3, "std": (0.2,) * 3, "seed": 0}
    model, images, draws = registry.build(ModelConfig(name=name), **shape).eval(), torch.rand(2, 3, 32, 32), seeded()
    with torch.no_grad():  # some begin at 0, where a tensor has no length, or those before it no gradient
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=draws), alpha=0.02)
    before, stayed = state(model), set()
    with perturbed(model, lambda: F.cross_entropy(model(images), torch.tensor([0, 1])), gamma=0.1):
        for key, weight in model.named_parameters():
            if weight.dim() > 1 and torch.equal(weight, before[key]):
                stayed.add(key.rpartition(".")[2])
    assert stayed == stay


def test_the_queries_keys_and_values_of_torch_s_attention_move() -> None:
    attention, tokens = nn.MultiheadAttention(4, 2), torch.rand(3, 1, 4, generator=seeded())
    before = state(attention)
    with perturbed(attention, lambda: attention(tokens, tokens, tokens)[0].square().sum(), gamma=0.1):
        assert not torch.equal(attention.in_proj_weight, before["in_proj_weight"])


def test_a_frozen_tensor_stays() -> None:
    model = network()
    before = state(model)
    model[0].requires_grad_(False)
    with perturbed(model, loss_of(model), gamma=0.3):
        assert torch.equal(model[0].weight, before["0.weight"])
        assert not torch.equal(model[4].weight, before["4.weight"])


@pytest.mark.parametrize("gamma", [0.005, 0.3])
@pytest.mark.parametrize(("epoch", "moves"), [(0, False), (9, False), (10, True)])
def test_awp_begins_after_its_warm_up_with_the_gamma_of_its_config(epoch: int, moves: bool, gamma: float) -> None:
    model = network()
    before = state(model)["0.weight"]
    block = weights.build(WeightsConfig(name="awp", gamma=gamma, warmup=10), epoch)
    with block(model, loss_of(model)):
        moved = (model[0].weight.detach() - before).norm() / before.norm()
        assert moved.item() == pytest.approx(gamma * moves)
    with weights.build(WeightsConfig(), epoch)(model, loss_of(model)):
        assert torch.equal(model[0].weight, before)
