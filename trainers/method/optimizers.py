"""SGD, DEAT and AdamW: which update, slot 4 of the training step.

    optimizer = build(config.optimizer, model.parameters())

Source: [DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023, Algorithm 2
and the authors' code.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Sequence
from numbers import Real
from typing import Any, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from trainers.config import OptimizerConfig
from trainers.errors import UserError
from trainers.own import options, snapshot


class _Uncompiled(torch.optim.Optimizer):
    """An optimizer that does not load torch's compiler, 2 s of every process that trains.

    Torch wraps these methods, and the steps of its own optimizers, so that they load it to be left alone by it; here a
    network's passes are compiled at most, never a step of its optimizer.
    """

    add_param_group: Any = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    load_state_dict: Any = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    state_dict: Any = inspect.unwrap(torch.optim.Optimizer.state_dict)
    zero_grad: Any = inspect.unwrap(torch.optim.Optimizer.zero_grad)


class DEAT(_Uncompiled):
    """Diffusion-enhanced adversarial training: SGD on a noise-amplified gradient average.

        h_t         = k2 h_{t-2} + (1 - k2) g_t
        theta_{t+1} = theta_t - lr' ((1 + k1) h_t - k1 h_{t-1}),    lr' = lr / sqrt((1 + k1)^2 + k1^2)

    [DEAT, Algorithm 2]. Odd and even steps keep one average each; both start at zero, no bias correction.
    k1 = k2 = 0 is SGD without momentum.

    The surprise: because of the normaliser, k1 leaves the noise of one update alone, lr^2 (1 - k2) / (1 + k2)
    per unit of gradient noise, and shrinks the mean step to lr'. Decoupled weight decay is not shrunk with
    it: at the defaults the mean update is that of SGD at lr / sqrt(5) with weight_decay * sqrt(5).

    Args:
        params: parameters or parameter groups; every argument below may differ between groups.
        lr: learning rate, >= 0; read at every step, so that schedulers act at once. A tensor () on the parameters'
            device can be changed in place between the replays of a captured step; the step then never reads it back.
        k1: noise enhancement, >= 0.
        k2: decay of each average, in [0, 1).
        weight_decay: L2 coefficient, >= 0.
        decoupled_weight_decay: true: theta *= 1 - lr * weight_decay, with lr and not lr', before the step
            [DEAT, code]; false: weight_decay * theta joins the gradient.
        foreach: one call for all tensors of a group instead of one for each.

    The state of a parameter is `average`, refreshed by its last step, and `previous_average`, which its next
    step refreshes: the two change names at every step. A parameter without gradient is passed over, and its
    lag counts its own steps.

    Raises:
        ValueError: an argument, of the optimizer or of one group, is out of range.
        RuntimeError: a gradient is sparse.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        k1: float = 1.0,
        k2: float = 0.8,
        weight_decay: float = 0.0,
        decoupled_weight_decay: bool = True,
        *,
        foreach: bool = True,
    ) -> None:
        defaults = {
            "lr": lr,
            "k1": k1,
            "k2": k2,
            "weight_decay": weight_decay,
            "decoupled_weight_decay": decoupled_weight_decay,
            "foreach": foreach,
        }
        self.parity = False
        """Which of its two averages a parameter's next step refreshes; a captured step refreshes one of them."""
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, now or after training has begun; what the group does not name is the default."""
        _check(self.defaults | param_group)
        super().add_param_group(param_group)

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient.

        Args:
            closure: clears the gradients, runs the backward pass and returns the loss.

        Returns:
            What the closure returned; None without one.
        """
        loss = _evaluated(closure)
        self.parity = not self.parity
        for group in self.param_groups:
            params, grads = _with_gradients(group)
            if params:
                refreshed, other = self._averages(params)
                _update_of(group)(params, grads, refreshed, other, group)
        return loss

    def replayed(self) -> None:
        """What a replay of a captured step leaves to be done: the averages change names, as `step` has them do."""
        self.parity = not self.parity
        for group in self.param_groups:
            self._averages(_with_gradients(group)[0])

    def _averages(self, params: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Swap the two averages of every parameter: h_{t-2}, to become h_t in place, and h_{t-1}."""
        refreshed, other = [], []
        for param in params:
            state = self.state[param]
            if not state:
                state["average"] = torch.zeros_like(param)
                state["previous_average"] = torch.zeros_like(param)
            state["average"], state["previous_average"] = state["previous_average"], state["average"]
            refreshed.append(state["average"])
            other.append(state["previous_average"])
        return refreshed, other


_SGD_KEYS = ("lr", "momentum", "dampening", "nesterov", "maximize", "foreach", "fused")


class SGD(_Uncompiled, torch.optim.SGD):
    """Torch's SGD, which does not load torch's compiler."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.SGD.step))


class AdamW(_Uncompiled, torch.optim.AdamW):
    """Torch's AdamW, which does not load torch's compiler."""

    step: Any = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


class SGDW(SGD):
    """SGD with decoupled weight decay: theta *= 1 - lr * weight_decay, then SGD's step without it.

    Loshchilov and Hutter, ICLR 2019, Algorithm 1, with the decay scaled by lr as in torch's AdamW. Arguments
    and state are those of `torch.optim.SGD`.
    """

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update every parameter that has a gradient; see `DEAT.step`."""
        loss = _evaluated(closure)
        for group in self.param_groups:
            params, grads = _with_gradients(group)
            if not params:
                continue
            _decay(params, group)
            buffers = [self.state[param].get("momentum_buffer") for param in params]
            sgd(
                params,
                grads,
                buffers,
                weight_decay=0.0,
                **{key: group[key] for key in _SGD_KEYS},
            )
            if group["momentum"]:
                for param, buffer in zip(params, buffers, strict=True):
                    self.state[param]["momentum_buffer"] = buffer
        return loss


def build(config: OptimizerConfig, params: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer that a resolved config describes.

    On a GPU its learning rate is a tensor there, and SGD and AdamW are torch's fused ones, which take it as that: so a
    step can be captured once and replayed at other rates. AdamW counts its steps there too.

    Args:
        config: of a resolved trial: decoupled_weight_decay is true or false, not none.
        params: the model's parameters, on their device.
    """
    params = list(params)
    optimizer = _built(config, params)
    if params[0].is_cuda and is_capturable(config, optimizer):
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], device=params[0].device)
            if "fused" in group and not config.is_own:
                group["fused"], group["foreach"] = True, False
            if "capturable" in group:
                group["capturable"] = True
        # torch warns of a step that is not captured, as the first of a kind never is
        setattr(optimizer, "_warned_capturable_if_run_uncaptured", True)  # noqa: B010  (mypy's)
    return optimizer


def is_capturable(config: OptimizerConfig, optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step with it can be captured: one of a user's own can where it says so, as torch's `capturable`."""
    return not config.is_own or all(group.get("capturable") is True for group in optimizer.param_groups)


#: What of a group says how its update runs, and not which it is; the learning rate's value apart.
HOW = ("lr", "foreach", "fused", "capturable")

#: What each of the optimizers here keeps of a parameter.
STATE = {
    "sgd": ("momentum_buffer",),
    "deat": ("average", "previous_average"),
    "adamw": ("step", "exp_avg", "exp_avg_sq"),
}


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Gives every group this learning rate, in place where it is a tensor; nothing waits for the device."""
    for group in optimizer.param_groups:
        _set_lr(group, lr)


def _set_lr(group: dict[str, Any], lr: float) -> None:
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(lr)
    else:
        group["lr"] = lr


def restore(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Goes on from a state dict, whatever device it is of: how the update runs here stays as it was built."""
    own = [{key: group[key] for key in HOW if key in group} for group in optimizer.param_groups]
    rates = [float(group["lr"]) for group in state["param_groups"]]
    # the groups first: where AdamW's count of steps is put depends on how its update runs
    groups = [group | kept for group, kept in zip(state["param_groups"], own, strict=True)]
    optimizer.load_state_dict(state | {"param_groups": groups})
    for group, kept, lr in zip(optimizer.param_groups, own, rates, strict=True):
        group["lr"] = kept["lr"]  # the very tensor that a captured step reads, and no copy
        _set_lr(group, lr)


def _built(config: OptimizerConfig, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    if config.is_own:
        return _own(config, params)
    assert config.decoupled_weight_decay is not None, "resolve the trial's config first"
    if config.name == "deat":
        return DEAT(
            params,
            lr=config.lr,
            k1=config.k1,
            k2=config.k2,
            weight_decay=config.weight_decay,
            decoupled_weight_decay=config.decoupled_weight_decay,
        )
    if config.name == "adamw":
        return AdamW(
            params,
            lr=config.lr,
            betas=(config.beta1, config.beta2),
            eps=config.eps,
            weight_decay=config.weight_decay,
        )
    return (SGDW if config.decoupled_weight_decay else SGD)(
        params,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def _own(config: OptimizerConfig, params: list[nn.Parameter]) -> torch.optim.Optimizer:
    """A user's own: Optimizer(params, lr=..., weight_decay=..., **options); on a GPU capturable, where it can be.

    Raises:
        UserError: it is no Optimizer, or takes no weight decay and the config has one.
    """
    target = snapshot.load(config.name, config.code, "optimizer.name")
    decays = options.takes(target, "weight_decay")
    if config.weight_decay and not decays:
        raise UserError(
            f"optimizer.weight_decay: {config.name} takes none, got {config.weight_decay:g}; "
            "set trial.optimizer.weight_decay=0"
        )
    given: dict[str, Any] = {"lr": config.lr, "weight_decay": config.weight_decay}
    if params[0].is_cuda and options.names(target, "capturable") and "capturable" not in config.options:
        given["capturable"] = True
    optimizer = options.call(config, "optimizer", given, params)
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise UserError(
            f"optimizer.name: {config.name}: must give a torch.optim.Optimizer, got {type(optimizer).__name__}"
        )
    return optimizer


def _check(group: dict[str, Any]) -> None:
    for key in ("lr", "k1", "k2", "weight_decay"):
        value = group[key]
        if key == "lr" and isinstance(value, Tensor):
            continue
        upper = 1.0 if key == "k2" else math.inf
        if not (isinstance(value, Real) and 0 <= float(value) < upper):
            bound = "in [0, 1)" if key == "k2" else ">= 0"
            raise ValueError(f"{key}: must be a finite number {bound}, got {value!r}")


def _evaluated(closure: Callable[[], float] | None) -> float | None:
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


def _with_gradients(group: dict[str, Any]) -> tuple[list[Tensor], list[Tensor]]:
    """The group's parameters that have a gradient, and those gradients."""
    pairs = [(param, param.grad) for param in group["params"] if param.grad is not None]
    for param, grad in pairs:
        if grad.is_sparse:
            raise RuntimeError(f"sparse gradients are not supported, got one of shape {tuple(param.shape)}")
    return [param for param, _ in pairs], [grad for _, grad in pairs]


def _coefficients(group: dict[str, Any]) -> tuple[float, float]:
    """lr' (1 + k1), with which h_t is subtracted, and lr' k1, with which h_{t-1} is added."""
    k1 = group["k1"]
    lr = group["lr"] / math.sqrt((1 + k1) ** 2 + k1**2)
    return lr * (1 + k1), lr * k1


def _decay(params: list[Tensor], group: dict[str, Any]) -> None:
    """Decoupled weight decay."""
    if group["weight_decay"]:
        torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])


def _update_of(group: dict[str, Any]) -> Callable[..., None]:
    """How the group is updated."""
    if isinstance(group["lr"], Tensor):
        return _capturable_deat
    return _multi_tensor_deat if group["foreach"] else _single_tensor_deat


def _single_tensor_deat(
    params: list[Tensor],
    grads: list[Tensor],
    refreshed: list[Tensor],
    other: list[Tensor],
    group: dict[str, Any],
) -> None:
    """One update, tensor by tensor. `refreshed` holds h_{t-2} and becomes h_t; `other` holds h_{t-1}.

    Coupled decay joins h_t after the gradient, which is the same by linearity and needs no copy of it.
    """
    plus, minus = _coefficients(group)
    lr, k2, decay = group["lr"], group["k2"], group["weight_decay"]
    for param, grad, average, previous in zip(params, grads, refreshed, other, strict=True):
        average.lerp_(grad, 1 - k2)
        if decay and group["decoupled_weight_decay"]:
            param.mul_(1 - lr * decay)
        elif decay:
            average.add_(param, alpha=(1 - k2) * decay)
        param.add_(average, alpha=-plus).add_(previous, alpha=minus)


def _multi_tensor_deat(
    params: list[Tensor],
    grads: list[Tensor],
    refreshed: list[Tensor],
    other: list[Tensor],
    group: dict[str, Any],
) -> None:
    """The same update with one call for all tensors."""
    plus, minus = _coefficients(group)
    _take(params, grads, refreshed, group)
    torch._foreach_add_(params, refreshed, alpha=-plus)
    torch._foreach_add_(params, other, alpha=minus)


def _capturable_deat(
    params: list[Tensor],
    grads: list[Tensor],
    refreshed: list[Tensor],
    other: list[Tensor],
    group: dict[str, Any],
) -> None:
    """The same with lr as a tensor, which is never read back: h_t + k1 (h_t - h_{t-1}) is a line through the two."""
    k1 = group["k1"]
    _take(params, grads, refreshed, group)
    steps = torch._foreach_lerp(other, refreshed, 1 + k1)
    torch._foreach_mul_(steps, group["lr"] / -math.hypot(1 + k1, k1))
    torch._foreach_add_(params, steps)


def _take(params: list[Tensor], grads: list[Tensor], refreshed: list[Tensor], group: dict[str, Any]) -> None:
    """h_{t-2} becomes h_t, and the weights decay."""
    k2, decay = group["k2"], group["weight_decay"]
    torch._foreach_lerp_(refreshed, grads, 1 - k2)
    if group["decoupled_weight_decay"]:
        _decay(params, group)
    elif decay:
        torch._foreach_add_(refreshed, params, alpha=(1 - k2) * decay)
