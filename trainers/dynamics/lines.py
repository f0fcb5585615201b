"""The loss along straight lines through the weights, in double precision."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainers.dynamics.loss import FixedLoss
from trainers.errors import UserError
from trainers.memory import is_out_of_memory, reason


def check(model: nn.Module, loss: FixedLoss, name: str) -> None:
    """The loss can be had in double precision.

    Args:
        model: in eval mode; stays as it is.
        loss: of a few images.
        name: of the network, for the error.

    Raises:
        UserError: it cannot: the network or the objective has numbers of one precision alone.
    """
    try:
        rises(model, loss, torch.empty(0, 0), [], len(loss))
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"dynamics.every: must be none for {name}: its loss cannot be had in double precision ({reason(error)}); "
            "cast to the type of the weights in place of float(), or leave dynamics out"
        ) from None


@torch.no_grad()
def rises(
    model: nn.Module, loss: FixedLoss, directions: Tensor, places: Sequence[Sequence[float]], size: int
) -> list[tuple[float, ...]]:
    """loss(w + t v) - loss(w) for each direction v and each of its places t.

    Args:
        model: in eval mode; stays as it is.
        loss: of the images.
        directions: (d, q), by the trainable parameters in their order.
        places: for each direction its t, in the weights' unit.
        size: images at a time.
    """
    moved, exact = copy.deepcopy(model).double(), loss.double()
    parameters = [parameter for parameter in moved.parameters() if parameter.requires_grad]
    origin = torch.cat([parameter.flatten() for parameter in parameters])
    level = _mean(moved, exact, size)
    rises_by_line = []
    for direction, line in zip(directions.T.double(), places, strict=True):
        rise = []
        for place in line:
            _put(parameters, origin + place * direction)
            rise.append(_mean(moved, exact, size) - level)
        rises_by_line.append(tuple(rise))
    return rises_by_line


def _put(parameters: Sequence[Tensor], weights: Tensor) -> None:
    parts = torch.split(weights, [parameter.numel() for parameter in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.copy_(part.view_as(parameter))


def _mean(model: nn.Module, loss: FixedLoss, size: int) -> float:
    total = torch.zeros((), dtype=torch.float64, device=loss.labels.device)
    for part in loss.parts(size):
        total += len(part) * loss.outer(model, part).loss
    return total.item() / len(loss)
