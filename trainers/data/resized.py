"""Random resized crops and flips, of a whole batch at once, on any device.

A crop has an area uniform in [scale, 1] of the image's and an aspect ratio log-uniform in [3/4, 4/3], lies uniformly
where it fits, and is resized to one size for all: torchvision's `RandomResizedCrop`. Of an image that ten draws do not
fit, the largest part in the middle is taken that has a ratio in that range.

Resizing is linear in the pixels, and down and across by itself: out = R x C^T with R (out, H) and C (out, W). So images
with as many crops are resized by two batched matrix products. The weights are those of bilinear interpolation with
antialiasing: where a crop shrinks by a factor s, a pixel of the result is a triangle 2 s wide, which is Pillow's
`BILINEAR` and torchvision's default. The results differ from Pillow's by its rounding between the two directions, at
most one level of 255; in TF32 (`precision: tf32`) the products are rounded too.

Source: Szegedy et al., "Going deeper with convolutions", CVPR 2015, section 6, for area and ratio.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainers.randomness import generator

#: Of width over height; its inverse is the smallest. [Szegedy; torchvision]
RATIO = 4 / 3
_TRIES = 10  # as torchvision
_AT_ONCE = 2**16  # images whose boxes are drawn together


def random_boxes(
    count: int, size: tuple[int, int], scale: float, device: torch.device, seed: int, epoch: int
) -> Tensor:
    """(5, count) int64: top, left, height and width of each crop in its image; flipped or not, 1 or 0.

    Args:
        count: of images.
        size: height and width of the images, pixels.
        scale: least area of a crop over the image's.
        device: of the draws.
        seed, epoch: of the trial.
    """
    source = generator(device, seed, epoch, "resized crop")
    blocks = (min(_AT_ONCE, count - first) for first in range(0, count, _AT_ONCE))
    return torch.cat([_boxes(block, size, scale, source) for block in blocks], dim=1)


def _boxes(count: int, size: tuple[int, int], scale: float, source: torch.Generator) -> Tensor:
    rows, columns = size
    share, bent = torch.rand((2, _TRIES, count), generator=source, device=source.device)
    area = rows * columns * torch.lerp(torch.full_like(share, scale), torch.ones_like(share), share)
    ratio = torch.exp((2 * bent - 1) * math.log(RATIO))
    heights, widths = (area / ratio).sqrt().round(), (area * ratio).sqrt().round()
    fits = (heights >= 1) & (heights <= rows) & (widths >= 1) & (widths <= columns)
    tries = torch.arange(_TRIES, device=source.device)[:, None]
    first = torch.where(fits, tries, _TRIES).amin(dim=0)
    found, first = first < _TRIES, first.clamp(max=_TRIES - 1)[None]
    middle = _middle(rows, columns)
    height, width = (
        drawn.gather(0, first)[0].where(found, float(whole))
        for drawn, whole in zip((heights, widths), middle, strict=True)
    )
    down, across, flip = torch.rand((3, count), generator=source, device=source.device)
    top = (down * (rows - height + 1)).floor().minimum(rows - height).where(found, float((rows - middle[0]) // 2))
    left = (across * (columns - width + 1)).floor().minimum(columns - width)
    left = left.where(found, float((columns - middle[1]) // 2))
    return torch.stack([top, left, height, width, flip < 0.5]).to(torch.int64)


def _middle(rows: int, columns: int) -> tuple[int, int]:
    """Height and width of the largest crop with a ratio in the range."""
    if columns / rows < 1 / RATIO:
        return round(columns * RATIO), columns
    return rows, min(columns, round(rows * RATIO))


def resized(images: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Each image's crop at one size, flipped left to right where its box says so.

    Args:
        images: (B, C, H, W) uint8.
        boxes: (5, B), as `random_boxes` gives.
        size: height and width of the result, pixels.

    Returns:
        (B, C, *size) uint8.
    """
    channels, rows, columns = images.shape[1:]
    top, left, height, width, flip = boxes
    down = _weights(top, height, rows, size[0])
    across = _weights(left, width, columns, size[1])
    across = torch.where(flip[:, None, None] == 1, across.flip(1), across)
    pixels = images.permute(0, 2, 1, 3).to(torch.float32).reshape(-1, rows, channels * columns)
    shorter = torch.bmm(down, pixels).view(-1, size[0] * channels, columns)
    made = torch.bmm(shorter, across.mT).view(-1, size[0], channels, size[1])
    return made.round_().clamp_(0, 255).to(torch.uint8).permute(0, 2, 1, 3).contiguous()


def _weights(start: Tensor, length: Tensor, there: int, wanted: int) -> Tensor:
    """(B, wanted, there): how much each pixel of an axis has in each pixel of the result; rows sum to 1."""
    start, length = start.float()[:, None, None], length.float()[:, None, None]
    pixel = torch.arange(there, device=start.device) + 0.5 - start
    factor = length / wanted
    centre = (torch.arange(wanted, device=start.device)[:, None] + 0.5) * factor
    weights = (1 - (pixel - centre).abs() / factor.clamp(min=1)).clamp_(min=0)
    weights = weights * ((pixel > 0) & (pixel < length))
    return weights / weights.sum(dim=2, keepdim=True)
