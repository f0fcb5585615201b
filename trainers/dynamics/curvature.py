"""The Hessian of the adversarial loss: its largest eigenvalues with their directions, and its trace.

Sources: [Lanczos] Golub, Van Loan, Matrix Computations, 4th ed., Section 10.1, by ARPACK's implicitly restarted
form; [Hutchinson] Hutchinson, Communications in Statistics 19, 1990; [deflation] Gambhir, Stathopoulos, Orginos,
SIAM J. Sci. Comput. 39, 2017, Section 2.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from scipy.sparse.linalg import ArpackError, ArpackNoConvergence, eigsh
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from trainers.dynamics.loss import FixedLoss
from trainers.errors import UserError
from trainers.memory import is_out_of_memory, reason

if TYPE_CHECKING:
    from curvlinops import HessianLinearOperator

#: Relative accuracy of the eigenvalues: far below what one more or less image changes.
TOLERANCE = 1e-3


class Eigenpairs(NamedTuple):
    """The largest eigenvalues of a Hessian, largest first, (k,), and their unit directions, (d, k)."""

    values: tuple[float, ...]
    directions: Tensor


class Estimate(NamedTuple):
    """A mean over draws, with its standard error."""

    value: float
    error: float


#: What torch cannot differentiate twice, by what it can: mobilenet_v3's; efficientnet's and maxvit's.
_WRITTEN_OUT: dict[Any, Callable[[Tensor], Tensor]] = {
    F.hardsigmoid: lambda x: (x + 3).clamp(0, 6) / 6,
    F.silu: lambda x: x * torch.sigmoid(x),
}


class _WrittenOut(TorchFunctionMode):
    """Layers whose kernel has no second derivative, as the same function of operations that have one."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _WRITTEN_OUT:
            return _WRITTEN_OUT[func](args[0])
        return func(*args, **(kwargs or {}))


class _Loss(nn.Module):
    """Numbers of images, (B,), to their mean loss: what curvlinops takes for a prediction."""

    def __init__(self, model: nn.Module, loss: FixedLoss) -> None:
        super().__init__()
        self.model, self._loss = model, loss

    def forward(self, chosen: Tensor) -> Tensor:
        # nor have the fused kernels of attention, torchvision's vit's
        with sdpa_kernel(SDPBackend.MATH), _WrittenOut():
            return self._loss.outer(self.model, chosen).loss


class _Itself(nn.Module):
    """The loss that the prediction already is."""

    reduction = "mean"

    def forward(self, prediction: Tensor, unused: Tensor) -> Tensor:
        return prediction


def hessian(model: nn.Module, loss: FixedLoss, size: int) -> HessianLinearOperator:
    """The Hessian of the mean loss by the model's trainable parameters, in their order, as (d, d).

    Args:
        model: in eval mode, so that the loss is a mean over images.
        loss: of the images.
        size: images at a time.
    """
    with warnings.catch_warnings():  # its import takes a while, which only who measures needs, and warns of torch's own
        warnings.simplefilter("ignore", FutureWarning)
        import torch._decomp.decompositions_for_jvp  # noqa: F401  which the first product would import, and warn
        from curvlinops import HessianLinearOperator
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    parts = [(part, part) for part in loss.parts(size)]
    return HessianLinearOperator(
        _Loss(model, loss), _Itself(), parameters, parts, check_deterministic=False, num_data=len(loss)
    )


def eigenpairs(operator: HessianLinearOperator, count: int, start: Tensor) -> Eigenpairs:
    """The largest eigenvalues by Lanczos [Lanczos]; fewer where it does not converge, none where it breaks down.

    Each value is the Rayleigh quotient of its direction, the directions being orthonormal.

    Args:
        operator: (d, d), symmetric.
        count: how many, below d.
        start: the first vector, (d,).
    """
    try:
        values, vectors = eigsh(
            operator.to_scipy(), k=count, which="LA", v0=start.numpy(force=True), tol=TOLERANCE, maxiter=30 * count
        )
    except ArpackNoConvergence as stopped:
        values, vectors = stopped.eigenvalues, stopped.eigenvectors
    except ArpackError:  # the loss has derivatives that are not finite
        values, vectors = np.empty(0), np.empty((len(start), 0))
    order = np.argsort(-values, kind="stable")
    directions = torch.from_numpy(np.ascontiguousarray(vectors[:, order])).to(start)
    return Eigenpairs(tuple(float(value) for value in values[order]), directions)


def trace(operator: HessianLinearOperator, known: Eigenpairs, probes: int, generator: torch.Generator) -> Estimate:
    """The trace by signs as probes [Hutchinson], what is known being taken out of it first [deflation].

        tr H = sum_i h_i + E (P z)^T H (P z),    P = I - V V^T,  z uniform in {-1, 1}^d

    Exact for any orthonormal V whose Rayleigh quotients are the h_i; the large eigenvalues, from which most of
    the estimator's variance comes, are then no part of what is estimated.

    Args:
        operator: (d, d).
        known: eigenpairs that were found.
        probes: at least 2.
        generator: of the probes, on the operator's device.

    Returns:
        The trace, and its standard error over the probes.
    """
    directions = known.directions
    signs = torch.empty(len(directions), device=directions.device, dtype=directions.dtype)
    samples = []
    for _ in range(probes):
        signs.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
        probe = signs - directions @ (directions.T @ signs)
        samples.append(float(probe @ (operator @ probe)))
    return Estimate(sum(known.values) + float(np.mean(samples)), float(np.std(samples, ddof=1) / probes**0.5))


def check(model: nn.Module, loss: FixedLoss, name: str) -> None:
    """The network can be differentiated twice.

    Args:
        model: in eval mode.
        loss: of a few images.
        name: of the network, for the error.

    Raises:
        UserError: it cannot: torch has no second derivative of one of its operations.
    """
    operator = hessian(model, loss, len(loss))
    direction = torch.ones(operator.shape[1], device=operator.device, dtype=operator.dtype)
    try:
        operator @ direction
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"dynamics.every: must be none for {name}: torch cannot differentiate it twice ({reason(error)}); "
            "leave dynamics out, or take another model.name"
        ) from None
