"""Batches of a split: their order, crops and flips, a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainers.randomness import generator

PADDING = 4  # pixels on each side, before the crop

#: Pixels of images that are augmented at once, in bytes; the numbers of their places are some three times as many.
_AT_ONCE = 2**25


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
    held = _reflected if padding == "reflect" else _clamped
    pixels = (held(down, height)[:, :, None] * width + held(across, width)[:, None, :]).flatten(1)
    pixels = pixels[:, None].expand(-1, channels, -1)
    made = images[chosen].flatten(2).gather(2, pixels).view(-1, channels, height, width)
    if padding == "reflect":
        return made
    inside = _inside(down, height)[:, None, :, None] & _inside(across, width)[:, None, None, :]
    return made.masked_fill_(~inside, 0)


def _reflected(position: Tensor, size: int) -> Tensor:
    """Where a position beside the image lies in it: folded at its first and last pixel."""
    return (size - 1) - ((size - 1) - position.abs()).abs()


def _clamped(position: Tensor, size: int) -> Tensor:
    """The nearest position within the image."""
    return position.clamp(0, size - 1)


def _inside(position: Tensor, size: int) -> Tensor:
    return (position >= 0) & (position < size)


class Split(NamedTuple):
    """Images with their labels.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64, class numbers.
    """

    images: Tensor
    labels: Tensor


def batches(
    split: Split,
    batch_size: int,
    *,
    augment: bool,
    padding: Literal["reflect", "zero"] = "reflect",
    seed: int,
    epoch: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: every image once, in the order of (seed, epoch); the last, short batch is kept.

    Many batches are cropped and flipped at once, since a GPU takes as long for the operations of one.

    Yields:
        images: (B, C, H, W) float32 in [0, 1]; labels: (B,) int64.
    """
    device, count = split.images.device, len(split.labels)
    order = torch.randperm(count, generator=generator(device, seed, epoch, "order"), device=device)
    crops = random_crops(count, device, seed, epoch) if augment else None
    together = batch_size * max(1, _AT_ONCE // (batch_size * split.images[0].numel()))
    for start in range(0, count, together):
        part = slice(start, start + together)
        chosen = order[part]
        images = split.images[chosen] if crops is None else cropped(split.images, chosen, crops[:, part], padding)
        both = zip(torch.split(images, batch_size), torch.split(split.labels[chosen], batch_size), strict=True)
        yield from ((some.to(torch.float32).div_(255), labels) for some, labels in both)


def sequential(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, as it is and in its place: for evaluation. Yields what `batches` does."""
    for start in range(0, len(split.labels), batch_size):
        part = slice(start, start + batch_size)
        yield split.images[part].to(torch.float32).div_(255), split.labels[part]
