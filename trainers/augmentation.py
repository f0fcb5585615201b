"""Random crop and flip of a whole batch at once, on its device. [DEAT, code: the same three transforms]"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainers.randomness import generator

PADDING = 4  # pixels on each side, before the crop


def random_crops(count: int, device: torch.device, seed: int, epoch: int) -> Tensor:
    """(3, count) int64: top and left of the crop in the padded image, 0 to 8; flipped or not, 1 or 0."""
    source = generator(device, seed, epoch, "augmentation")
    corner = torch.randint(0, 2 * PADDING + 1, (2, count), generator=source, device=device)
    flip = torch.randint(0, 2, (1, count), generator=source, device=device)
    return torch.cat([corner, flip])


def cropped(images: Tensor, chosen: Tensor, crops: Tensor, padding: Literal["reflect", "zero"] = "reflect") -> Tensor:
    """Pad, crop to the old size, flip left to right: as one gather, with no padded copy.

    Args:
        images: (N, C, H, W), any type.
        chosen: (B,) which of them.
        crops: (3, B), as `random_crops` gives.
        padding: what lies around the images: their reflection, or zeros.

    Returns:
        (B, C, H, W).
    """
    channels, height, width = images.shape[1:]
    top, left, flip = crops
    across = torch.arange(width, device=images.device)
    across = torch.where(flip[:, None] == 1, width - 1 - across, across)
    down = top[:, None] + torch.arange(height, device=images.device) - PADDING
    across = left[:, None] + across - PADDING
    held = _reflected if padding == "reflect" else _nearest
    pixels = (held(down, height)[:, :, None] * width + held(across, width)[:, None, :]).flatten(1)
    pixels = pixels[:, None].expand(-1, channels, -1)
    found = images[chosen].flatten(2).gather(2, pixels).view(-1, channels, height, width)
    if padding == "reflect":
        return found
    inside = _inside(down, height)[:, None, :, None] & _inside(across, width)[:, None, None, :]
    return found.masked_fill_(~inside, 0)


def _reflected(position: Tensor, size: int) -> Tensor:
    """Where a position beside the image lies in it: folded at its first and last pixel."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _nearest(position: Tensor, size: int) -> Tensor:
    return position.clamp(0, size - 1)


def _inside(position: Tensor, size: int) -> Tensor:
    return (position >= 0) & (position < size)
