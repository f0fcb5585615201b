from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.config import OptimizerConfig, TrialConfig
from trainers.method.optimizers import DEAT, SGD, SGDW, AdamW, build, restore, set_lr

MATRIX = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.2], [0.0, -0.2, 0.5]])


def gradient(theta: np.ndarray, step: int) -> np.ndarray:
    """Of a smooth function that changes from step to step, as mini-batch losses do."""
    return MATRIX @ theta + np.sin(theta + step)


def algorithm_2(
    theta: np.ndarray, lrs: list[float], k1: float, k2: float, weight_decay: float, decoupled: bool
) -> list[np.ndarray]:
    """The update of the paper, word by word: odd and even steps keep an average each."""
    averages = {"even": np.zeros_like(theta), "odd": np.zeros_like(theta)}
    path = []
    for t, lr in enumerate(lrs):
        g = gradient(theta, t)
        if not decoupled:
            g = g + weight_decay * theta
        refreshed, other = ("odd", "even") if t % 2 else ("even", "odd")
        averages[refreshed] = k2 * averages[refreshed] + (1 - k2) * g
        if decoupled:
            theta = theta * (1 - lr * weight_decay)
        normalised = lr / math.sqrt((1 + k1) ** 2 + k1**2)
        theta = theta - normalised * ((1 + k1) * averages[refreshed] - k1 * averages[other])
        path.append(theta)
    return path


def optimizer_path(
    make: Callable[[list[Tensor]], torch.optim.Optimizer], theta: np.ndarray, lrs: list[float]
) -> list[np.ndarray]:
    param = torch.tensor(theta, requires_grad=True)
    optimizer = make([param])
    path = []
    for t, lr in enumerate(lrs):
        set_lr(optimizer, lr)
        param.grad = torch.from_numpy(gradient(param.detach().numpy(), t))
        optimizer.step()
        path.append(param.detach().numpy().copy())
    return path


def tensors(seed: int = 0, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """Parameters of several shapes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = [(4, 3, 3, 3), (4,), (17, 5), ()]
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def train(optimizer: torch.optim.Optimizer, params: list[Tensor], steps: range) -> None:
    """Steps with a gradient that depends on the parameters and on the step's number alone."""
    for step in steps:
        generator = torch.Generator().manual_seed(1000 + step)
        for param in params:
            noise = torch.randn(param.shape, generator=generator, dtype=param.dtype)
            param.grad = param.detach() + noise
        optimizer.step()


def equal(left: list[Tensor], right: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(left, right, strict=True))


@pytest.mark.parametrize(("foreach", "as_tensor"), [(True, False), (False, False), (True, True)])
@pytest.mark.parametrize("decoupled", [True, False])
@pytest.mark.parametrize(("k1", "k2"), [(1.0, 0.8), (0.0, 0.0), (2.5, 0.3), (0.0, 0.9)])
def test_deat_is_algorithm_2(foreach: bool, as_tensor: bool, decoupled: bool, k1: float, k2: float) -> None:
    """Also with its lr as a tensor, which it is on a GPU."""
    theta = np.array([1.0, -2.0, 0.5])
    lrs = [0.2] * 20 + [0.02] * 11
    first: Any = torch.tensor(9.9, dtype=torch.float64) if as_tensor else 9.9
    path = optimizer_path(lambda params: DEAT(params, first, k1, k2, 0.3, decoupled, foreach=foreach), theta, lrs)
    np.testing.assert_allclose(path, algorithm_2(theta, lrs, k1, k2, 0.3, decoupled), rtol=0, atol=1e-13)


@pytest.mark.parametrize("decoupled", [True, False])
def test_deat_all_tensors_at_once_is_tensor_by_tensor_to_the_bit(decoupled: bool) -> None:
    left, right = tensors(), tensors()
    train(DEAT(left, 0.1, 1.0, 0.8, 0.01, decoupled, foreach=True), left, range(9))
    train(DEAT(right, 0.1, 1.0, 0.8, 0.01, decoupled, foreach=False), right, range(9))
    assert equal(left, right)


@pytest.mark.parametrize("foreach", [True, False])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_deat_at_k1_0_and_k2_0_is_torch_sgd_to_the_bit(foreach: bool, weight_decay: float) -> None:
    left, right = tensors(), tensors()
    train(DEAT(left, 0.1, 0.0, 0.0, weight_decay, False, foreach=foreach), left, range(20))
    train(torch.optim.SGD(right, 0.1, weight_decay=weight_decay), right, range(20))
    assert equal(left, right)


def test_deat_at_k1_0_and_k2_0_with_decoupled_decay_is_sgdw_to_the_bit() -> None:
    left, right = tensors(), tensors()
    train(DEAT(left, 0.1, 0.0, 0.0, 0.01), left, range(20))
    train(SGDW(right, 0.1, weight_decay=0.01), right, range(20))
    assert equal(left, right)


def test_deat_with_zero_gradients_shrinks_by_exactly_the_decoupled_decay() -> None:
    params = tensors(dtype=torch.float64)
    expected = [param.detach().clone() for param in params]
    optimizer = DEAT(params, lr=0.3, weight_decay=0.05)
    for _ in range(4):
        for param in params:
            param.grad = torch.zeros_like(param)
        optimizer.step()
        expected = [param * (1 - 0.3 * 0.05) for param in expected]
    assert equal(params, expected)


RESUMABLE: dict[str, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "deat": lambda params: DEAT(params, 0.1, weight_decay=0.01),
    "deat single": lambda params: DEAT(params, 0.1, weight_decay=0.01, foreach=False),
    "deat coupled": lambda params: DEAT(params, 0.1, weight_decay=0.01, decoupled_weight_decay=False),
    "deat groups": lambda params: DEAT([{"params": params[:2], "k1": 0.5}, {"params": params[2:]}], 0.1),
    "sgdw": lambda params: SGDW(params, 0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
}


@pytest.mark.parametrize("stop", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("name", RESUMABLE)
def test_resuming_from_a_saved_state_gives_the_same_numbers_to_the_bit(name: str, stop: int) -> None:
    unbroken = tensors()
    train(RESUMABLE[name](unbroken), unbroken, range(15))

    params = tensors()
    optimizer = RESUMABLE[name](params)
    train(optimizer, params, range(stop))
    file = io.BytesIO()
    torch.save({"params": [param.detach() for param in params], "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = [param.requires_grad_() for param in saved["params"]]
    again = RESUMABLE[name](resumed)
    again.load_state_dict(saved["optimizer"])
    train(again, resumed, range(stop, 15))
    assert equal(unbroken, resumed)


def test_loaded_hyperparameters_replace_those_of_the_constructor() -> None:
    saved = DEAT(tensors(), 0.1, k1=0.5, k2=0.3).state_dict()
    optimizer = DEAT(tensors(), 0.2)
    optimizer.load_state_dict(saved)
    assert {key: optimizer.param_groups[0][key] for key in ("lr", "k1", "k2")} == {
        "lr": 0.1,
        "k1": 0.5,
        "k2": 0.3,
    }


def test_deat_follows_a_scheduler() -> None:
    theta = np.array([1.0, -2.0, 0.5])
    param = torch.tensor(theta, requires_grad=True)
    optimizer = DEAT([param], 0.2, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[3, 7], gamma=0.1)
    for t in range(10):
        param.grad = torch.from_numpy(gradient(param.detach().numpy(), t))
        optimizer.step()
        scheduler.step()
    lrs = [0.2] * 3 + [0.02] * 4 + [0.002] * 3
    expected = algorithm_2(theta, lrs, 1.0, 0.8, 0.1, True)[-1]
    np.testing.assert_allclose(param.detach().numpy(), expected, atol=1e-13)


def test_deat_at_lr_0_leaves_the_parameters_and_still_averages() -> None:
    params, before = tensors(), tensors()
    optimizer = DEAT(params, lr=0.0, weight_decay=0.1)
    train(optimizer, params, range(3))
    assert equal(params, before)
    assert all(state["average"].abs().sum() > 0 for state in optimizer.state.values())


def test_deat_groups_act_as_optimizers_of_their_own() -> None:
    grouped, alone = tensors(), tensors()
    first: dict[str, Any] = {
        "lr": 0.05,
        "k1": 0.0,
        "k2": 0.5,
        "weight_decay": 0.1,
        "decoupled_weight_decay": False,
    }
    train(DEAT([{"params": grouped[:2], **first}, {"params": grouped[2:]}], 0.2), grouped, range(7))
    optimizers = [DEAT(alone[:2], **first), DEAT(alone[2:], 0.2)]
    for step in range(7):
        generator = torch.Generator().manual_seed(1000 + step)
        for param in alone:
            param.grad = param.detach() + torch.randn(param.shape, generator=generator)
        for optimizer in optimizers:
            optimizer.step()
    assert equal(grouped, alone)


def test_deat_takes_parameters_that_join_late_from_zero_averages() -> None:
    early, late = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = DEAT([early], 0.1)
    train(optimizer, [early], range(3))
    optimizer.add_param_group({"params": [late], "lr": 0.2})
    train(optimizer, [late], range(5))

    expected = torch.ones(3, requires_grad=True)
    train(DEAT([expected], 0.2), [expected], range(5))
    assert torch.equal(late, expected)


@pytest.mark.parametrize("make", [DEAT, SGDW])
def test_a_closure_gives_the_step_that_backward_gives_and_returns_its_loss(make: Any) -> None:
    left, right = tensors()[2], tensors()[2]
    by_closure, by_hand = make([left], 0.1, weight_decay=0.1), make([right], 0.1, weight_decay=0.1)
    for _ in range(3):

        def closure() -> float:
            by_closure.zero_grad()
            loss = (left**4).sum()
            loss.backward()
            return loss.item()

        returned = by_closure.step(closure)
        by_hand.zero_grad()
        loss = (right**4).sum()
        loss.backward()
        assert by_hand.step() is None
        assert returned == loss.item()
    assert torch.equal(left, right)


@pytest.mark.parametrize("make", [DEAT, SGDW])
def test_a_parameter_without_gradient_stays_and_gets_no_state(make: Any) -> None:
    params = tensors()
    before = params[1].detach().clone()
    optimizer = make(params, 0.1, weight_decay=0.1)
    params[0].grad = torch.ones_like(params[0])
    optimizer.step()
    assert torch.equal(params[1], before)
    assert not optimizer.state[params[1]]


@pytest.mark.parametrize("foreach", [True, False])
def test_deats_state_is_named_by_which_average_the_last_step_refreshed(foreach: bool) -> None:
    params = tensors()
    optimizer = DEAT(params, 0.1, k2=0.75, foreach=foreach)
    for param in params:
        param.grad = torch.ones_like(param)
    optimizer.step()
    for param in params:
        state = optimizer.state[param]
        assert torch.equal(state["average"], torch.full_like(param, 0.25))
        assert torch.equal(state["previous_average"], torch.zeros_like(param))


def test_without_momentum_sgdw_keeps_no_state_as_sgd_does() -> None:
    for make in (SGDW, torch.optim.SGD):
        params = tensors()
        optimizer = make(params, 0.1)
        for param in params:
            param.grad = torch.ones_like(param)
        optimizer.step()
        assert not any(value is not None for state in optimizer.state.values() for value in state.values())


def test_deat_step_without_any_gradient_does_nothing() -> None:
    params, before = tensors(), tensors()
    DEAT(params, 0.1, weight_decay=0.1).step()
    assert equal(params, before)


@pytest.mark.parametrize("foreach", [True, False])
def test_deat_lag_counts_the_parameters_own_steps(foreach: bool) -> None:
    skipping, steady = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = DEAT([skipping], 0.1, foreach=foreach)
    for step in range(8):
        train(optimizer, [skipping], range(step, step + 1))
        skipping.grad = None
        optimizer.step()
    train(DEAT([steady], 0.1), [steady], range(8))
    assert torch.equal(skipping, steady)


def test_deat_keeps_its_hands_off_the_gradients() -> None:
    params = tensors()
    optimizer = DEAT(params, 0.1, weight_decay=0.1, decoupled_weight_decay=False)
    grads = [torch.randn_like(param) for param in params]
    for param, grad in zip(params, grads, strict=True):
        param.grad = grad.clone()
    optimizer.step()
    assert all(torch.equal(param.grad, grad) for param, grad in zip(params, grads, strict=True))


@pytest.mark.parametrize("make", [DEAT, SGDW])
def test_sparse_gradients_are_refused(make: Any) -> None:
    embedding = torch.nn.Embedding(10, 3, sparse=True)
    embedding(torch.tensor([1, 2])).sum().backward()
    with pytest.raises(RuntimeError, match=r"sparse gradients are not supported, got one of shape \(10, 3\)"):
        make(embedding.parameters(), 0.1).step()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -0.1}, "lr: must be a finite number >= 0, got -0.1"),
        ({"lr": math.nan}, "lr: must be a finite number >= 0, got nan"),
        ({"lr": "0.1"}, "lr: must be a finite number >= 0, got '0.1'"),
        ({"k1": -1.0}, "k1: must be a finite number >= 0, got -1.0"),
        ({"k1": math.inf}, "k1: must be a finite number >= 0, got inf"),
        ({"k2": 1.0}, r"k2: must be a finite number in \[0, 1\), got 1.0"),
        ({"k2": -0.1}, r"k2: must be a finite number in \[0, 1\), got -0.1"),
        ({"weight_decay": -1e-4}, "weight_decay: must be a finite number >= 0, got -0.0001"),
    ],
)
def test_deat_says_which_argument_is_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        DEAT(tensors(), **({"lr": 0.1} | arguments))
    with pytest.raises(ValueError, match=f"^{message}$"):
        DEAT([{"params": tensors(), **arguments}], lr=0.1)


@pytest.mark.parametrize("options", [{}, {"nesterov": True}, {"dampening": 0.3}, {"maximize": True}], ids=str)
def test_sgdw_is_the_decay_and_then_torch_sgd_to_the_bit(options: dict[str, Any]) -> None:
    left, right = tensors(), tensors()
    decaying = SGDW(left, 0.1, momentum=0.9, weight_decay=0.01, **options)
    plain = torch.optim.SGD(right, 0.1, momentum=0.9, **options)
    for step in range(8):
        train(decaying, left, range(step, step + 1))
        generator = torch.Generator().manual_seed(1000 + step)
        for param in right:
            param.grad = param.detach() + torch.randn(param.shape, generator=generator)
            param.data.mul_(1 - 0.1 * 0.01)
        plain.step()
    assert equal(left, right)


def resolved(**optimizer: Any) -> OptimizerConfig:
    return TrialConfig(optimizer=OptimizerConfig(**optimizer)).resolved().optimizer


@pytest.mark.parametrize(
    ("arguments", "kind", "decoupled"),
    [
        ({"name": "sgd"}, SGD, None),
        ({"name": "sgd", "decoupled_weight_decay": True}, SGDW, None),
        ({"name": "deat"}, DEAT, True),
        ({"name": "deat", "decoupled_weight_decay": False}, DEAT, False),
        ({"name": "adamw"}, AdamW, True),
    ],
)
def test_build_chooses_by_name_and_decay(arguments: dict[str, Any], kind: type, decoupled: bool | None) -> None:
    optimizer = build(resolved(**arguments), tensors())
    assert type(optimizer) is kind
    assert optimizer.param_groups[0].get("decoupled_weight_decay") is decoupled


def test_build_hands_on_every_hyperparameter() -> None:
    deat = build(resolved(name="deat", lr=0.3, k1=0.5, k2=0.6, weight_decay=0.7), tensors()).param_groups[0]
    assert (deat["lr"], deat["k1"], deat["k2"], deat["weight_decay"]) == (0.3, 0.5, 0.6, 0.7)
    for decoupled in (True, False):
        config = resolved(lr=0.3, momentum=0.4, nesterov=True, weight_decay=0.7, decoupled_weight_decay=decoupled)
        sgd = build(config, tensors()).param_groups[0]
        assert (sgd["lr"], sgd["momentum"], sgd["nesterov"], sgd["weight_decay"]) == (0.3, 0.4, True, 0.7)


def adamw(
    theta: np.ndarray, lrs: list[float], beta1: float, beta2: float, eps: float, decay: float
) -> list[np.ndarray]:
    """Loshchilov and Hutter, ICLR 2019, Algorithm 2, the decay scaled by lr as in torch."""
    first, second, path = np.zeros_like(theta), np.zeros_like(theta), []
    for t, lr in enumerate(lrs):
        g = gradient(theta, t)
        first, second = beta1 * first + (1 - beta1) * g, beta2 * second + (1 - beta2) * g**2
        mean, square = first / (1 - beta1 ** (t + 1)), second / (1 - beta2 ** (t + 1))
        theta = theta - lr * decay * theta - lr * mean / (np.sqrt(square) + eps)
        path.append(theta)
    return path


def in_gpu_form(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """As `build` has it on a GPU, as far as a CPU takes it."""
    for group in optimizer.param_groups:
        group.update(lr=torch.tensor(group["lr"]), fused=True, foreach=False, capturable=True)
    return optimizer


@pytest.mark.parametrize("as_on_a_gpu", [False, True])
def test_adamw_is_its_algorithm(as_on_a_gpu: bool) -> None:
    theta, lrs = np.array([1.0, -2.0, 0.5]), [0.2] * 20 + [0.02] * 11

    def made(params: list[Tensor]) -> torch.optim.Optimizer:
        config = resolved(name="adamw", lr=0.5, beta1=0.7, beta2=0.9, eps=1e-3, weight_decay=0.3)
        return in_gpu_form(build(config, params)) if as_on_a_gpu else build(config, params)

    path = optimizer_path(made, theta, lrs)
    near = 1e-7 if as_on_a_gpu else 1e-13  # lr in fp32
    np.testing.assert_allclose(path, adamw(theta, lrs, 0.7, 0.9, 1e-3, 0.3), rtol=0, atol=near)


def test_adamw_is_torchs_with_its_defaults_to_the_bit() -> None:
    left, right = tensors(), tensors()
    train(build(resolved(name="adamw", lr=0.01, weight_decay=0.01), left), left, range(20))
    train(torch.optim.AdamW(right, 0.01), right, range(20))
    assert equal(left, right)


@pytest.mark.parametrize("to_a_gpu", [True, False])
def test_adamw_goes_on_in_the_form_that_it_has_here_with_its_steps_counted(to_a_gpu: bool) -> None:
    config = resolved(name="adamw", lr=0.01)
    left, right = tensors(), tensors()
    there, here = build(config, left), build(config, right)
    there, here = (there, in_gpu_form(here)) if to_a_gpu else (in_gpu_form(there), here)
    train(there, left, range(3))
    for param, value in zip(right, left, strict=True):
        param.data.copy_(value)
    place = here.param_groups[0]["lr"]
    restore(here, copy.deepcopy(there.state_dict()))
    assert here.param_groups[0]["capturable"] is to_a_gpu
    assert (here.param_groups[0]["lr"] is place) is to_a_gpu
    train(here, right, range(3, 6))
    train(there, left, range(3, 6))
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other)
    assert {float(state["step"]) for state in here.state.values()} == {6.0}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"momentum": 0.9}, "momentum: AdamW has none; give it to sgd alone"),
        ({"decoupled_weight_decay": False}, "decoupled_weight_decay: must be true for adamw"),
        ({"beta1": 1}, "beta1\n"),
        ({"eps": 0}, "eps\n"),
    ],
)
def test_what_adamw_has_not_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(name="adamw", **arguments)


@pytest.mark.parametrize("of_a_gpu", [True, False])
def test_each_group_goes_on_at_its_own_lr_in_the_form_that_it_has_here(of_a_gpu: bool) -> None:
    def made(lrs: tuple[Any, Any], fused: bool) -> torch.optim.Optimizer:
        groups = [{"params": [each], "lr": lr} for each, lr in zip(tensors()[:2], lrs, strict=True)]
        return torch.optim.SGD(groups, fused=fused, foreach=not fused)

    numbers, addresses = (0.25, 0.5), (torch.tensor(0.0), torch.tensor(0.0))
    there, here = made((torch.tensor(0.25), torch.tensor(0.5)), True), made((9.0, 9.0), False)
    if not of_a_gpu:
        there, here = made(numbers, False), made(addresses, True)
    restore(here, there.state_dict())
    groups = here.param_groups
    assert tuple(float(group["lr"]) for group in groups) == numbers
    assert [group["fused"] for group in groups] == [not of_a_gpu] * 2
    kinds = {type(group["lr"]) for group in groups}
    assert kinds == ({float} if of_a_gpu else {torch.Tensor})
    if not of_a_gpu:  # a captured step reads these
        assert all(group["lr"] is address for group, address in zip(groups, addresses, strict=True))


def test_build_wants_a_resolved_config() -> None:
    with pytest.raises(AssertionError, match="resolve"):
        build(OptimizerConfig(), tensors())
