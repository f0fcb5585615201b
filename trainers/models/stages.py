"""Stages of residual blocks: how every residual network here is stacked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from torch import nn

#: A block from its input channels, output channels and stride.
Block = Callable[[int, int, int], nn.Module]


def stages(block: Block, inputs: int, widths: Sequence[int], depth: int) -> nn.Sequential:
    """`depth` blocks of each width in turn; each stage after the first begins by halving height and width.

    Args:
        inputs: channels of the first block's input.
        widths: channels of the stages.
    """
    blocks = []
    for index, (before, width) in enumerate(pairwise((inputs, *widths))):
        blocks.append(block(before, width, 2 if index else 1))
        blocks += [block(width, width, 1) for _ in range(depth - 1)]
    return nn.Sequential(*blocks)
