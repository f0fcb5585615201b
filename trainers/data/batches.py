"""Batches of a split: their order, crops and flips, a whole batch at once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainers.data import cutmix, policies
from trainers.randomness import generator
from trainers.workers import ALONE, Workers

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


class Extra(NamedTuple):
    """Images beside a split's that join its batches.

    Attributes:
        pool: the split's own images, and after them the others.
        fraction: of the others in a batch, in [0, 1).
    """

    pool: Split
    fraction: float


def epoch_order(
    count: int, batch_size: int, extra: Extra | None, device: torch.device, seed: int, epoch: int
) -> Tensor:
    """(count,) int64: places in the split, each once; or with others, in the pool, in each batch its own before them.

    An epoch takes so many of the split's own as its batches have room for, the first of its order, each once at most;
    the others are drawn with replacement [DM-AT, core/data/semisup.py, SemiSupervisedSampler].
    """
    order = torch.randperm(count, generator=generator(device, seed, epoch, "order"), device=device)
    if extra is None:
        return order
    draws = generator(device, seed, epoch, "extra")
    others = torch.randint(count, len(extra.pool.labels), (count,), generator=draws, device=device)
    place = torch.arange(count, device=device)
    start = place - place % batch_size
    size = (count - start).clamp(max=batch_size)
    own = place - start < size - (size * extra.fraction).round()
    return torch.where(own, order[own.cumsum(0) - 1], others)


def batches(
    split: Split,
    batch_size: int,
    *,
    augment: bool,
    padding: Literal["reflect", "zero"] = "reflect",
    policy: tuple[policies.Policy, str] | None = None,
    mix: cutmix.CutMix | None = None,
    extra: Extra | None = None,
    seed: int,
    epoch: int,
    workers: Workers = ALONE,
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch: every image once, in the order of (seed, epoch); the last, short batch is kept.

    Many batches are cropped and flipped at once, since a GPU takes as long for the operations of one. What each of the
    arguments draws, it draws from a generator of its own, so that none changes what the others drew.

    Args:
        split: of the trial.
        batch_size: of all batches but a short last one.
        augment, padding: whether images are cropped and flipped, and what lies around them.
        policy: done to each image after that, and the data's name; none: no policy.
        mix: windows of other images of the batch, at last; none: no windows.
        extra: images that join each batch in place of as many of the split's.
        seed, epoch: of the trial.
        workers: of which this one takes its part of each batch. What an image gets is what it gets in the whole batch,
            and it alone is worked on; but with `mix`, which takes windows from the others, the batch is, and then cut.

    Yields:
        images: (B, C, H, W) float32 in [0, 1]; labels: (B,) int64, or with `mix` probabilities (B, classes) float32.
    """
    device, count = split.images.device, len(split.labels)
    pool = split if extra is None else extra.pool
    order = epoch_order(count, batch_size, extra, device, seed, epoch)
    crops = random_crops(count, device, seed, epoch) if augment else None
    size = pool.images.shape[2], pool.images.shape[3]
    draws = None if policy is None else policies.drawn(*policy, count, size, seed, epoch)
    windows = None if mix is None else cutmix.random_windows(count, device, seed, epoch)
    together = batch_size * max(1, _AT_ONCE // (batch_size * pool.images[0].numel()))
    takers = ALONE if mix is not None else workers
    for start in range(0, count, together):
        part, sizes = _taken(start, min(start + together, count), batch_size, takers)
        chosen = order[part]
        images = pool.images[chosen] if crops is None else cropped(pool.images, chosen, crops[:, part], padding)
        if policy is not None and draws is not None:
            images = policies.augmented(images, draws.part(part), policy[0])
        both = zip(torch.split(images, sizes), torch.split(pool.labels[chosen], sizes), strict=True)
        for first, (some, labels) in zip(range(start, count, batch_size), both, strict=False):
            some = some.to(torch.float32).div_(255)
            if mix is None or windows is None:
                yield some, labels
            else:
                some, labels = cutmix.mixed(some, labels, windows[:, first : first + len(labels)], mix)
                own = workers.part(len(labels))
                yield some[own], labels[own]


def _taken(start: int, stop: int, batch_size: int, workers: Workers) -> tuple[slice | list[int], list[int]]:
    """Which places from `start` to `stop` are a worker's, and how many of each batch."""
    batches = [range(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]
    own = [batch[workers.part(len(batch))] for batch in batches]
    sizes = [len(each) for each in own]
    return slice(start, stop) if workers.alone else [place for each in own for place in each], sizes


def sequential(split: Split, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Every image once, as it is and in its place: for evaluation. Yields what `batches` does."""
    for start in range(0, len(split.labels), batch_size):
        part = slice(start, start + batch_size)
        yield split.images[part].to(torch.float32).div_(255), split.labels[part]
