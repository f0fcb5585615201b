"""SGD and DEAT: which update, slot 4 of the training step.

    optimizer = build(config.optimizer, model.parameters())

Source: [DEAT] Sun, Sinha, Zhang, "Enhance Diffusion to Improve Robust Generalization", KDD 2023, Algorithm 2
and the authors' code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT
from torch.optim.sgd import sgd

from trainers.config import OptimizerConfig


class DEAT(torch.optim.Optimizer):
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
        lr: learning rate, >= 0; read at every step, so that schedulers act at once.
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
        for group in self.param_groups:
            params, grads = _with_gradients(group)
            if params:
                update = _multi_tensor_deat if group["foreach"] else _single_tensor_deat
                refreshed, other = self._averages(params)
                update(params, grads, refreshed, other, group)
        return loss

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


_SGD_KEYS = ("lr", "momentum", "dampening", "nesterov", "maximize", "foreach")


class SGDW(torch.optim.SGD):
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
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
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


def build(config: OptimizerConfig, params: ParamsT) -> torch.optim.Optimizer:
    """The optimizer that a resolved config describes.

    Args:
        config: of a resolved trial: decoupled_weight_decay is true or false, not none.
        params: the model's parameters, or groups of them.
    """
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
    return (SGDW if config.decoupled_weight_decay else torch.optim.SGD)(
        params,
        lr=config.lr,
        momentum=config.momentum,
        nesterov=config.nesterov,
        weight_decay=config.weight_decay,
    )


def _check(group: dict[str, Any]) -> None:
    for key in ("lr", "k1", "k2", "weight_decay"):
        value = group[key]
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
    lr, k2, decay = group["lr"], group["k2"], group["weight_decay"]
    torch._foreach_lerp_(refreshed, grads, 1 - k2)
    if decay and group["decoupled_weight_decay"]:
        torch._foreach_mul_(params, 1 - lr * decay)
    elif decay:
        torch._foreach_add_(refreshed, params, alpha=(1 - k2) * decay)
    torch._foreach_add_(params, refreshed, alpha=-plus)
    torch._foreach_add_(params, other, alpha=minus)
