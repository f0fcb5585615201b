"""Batches of a split: their order, crops and flips, a whole batch at once."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trainers.data import cutmix, loader, policies, resized
from trainers.data.sources import PADDING
from trainers.data.stored import Stored
from trainers.randomness import generator
from trainers.workers import ALONE, Part, Workers

#: Pixels of images that are augmented at once, in bytes; the numbers of their places are some three times as many.
_AT_ONCE = 2**25


def random_crops(count: int, device: torch.device, seed: int, epoch: int) -> Tensor:
    """(3, count) int64: top and left of the crop in the padded image, 0 to 8; flipped or not, 1 or 0."""
    source = generator(device, seed, epoch, "augmentation")
    corner = torch.randint(0, 2 * PADDING + 1, (2, count), generator=source, device=device)
    flip = torch.randint(0, 2, (1, count), generator=source, device=device)
    return torch.cat([corner, flip])


def cropped(images: Tensor, crops: Tensor, padding: Literal["reflect", "zero"] = "reflect") -> Tensor:
    """Pad, crop to the old size, flip left to right: as one gather, with no padded copy.

    Args:
        images: (B, C, H, W), any type.
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
    made = images.flatten(2).gather(2, pixels).view(-1, channels, height, width)
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
        images: (N, C, H, W) uint8, on the trial's device; or on the host, in files.
        labels: (N,) int64, class numbers, on the trial's device.
        size: height and width that networks are given, pixels: the middle of larger images; None: the images as they
            are.
    """

    images: Tensor | Stored
    labels: Tensor
    size: tuple[int, int] | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what networks are given."""
        channels, *whole = self.images.shape[1:]
        height, width = self.size or whole
        return channels, height, width

    def pixels(self, chosen: Tensor | slice) -> Tensor:
        """Images of these numbers, (B, *shape) uint8, on the trial's device.

        Raises:
            UserError: one cannot be read.
        """
        images = self.images[chosen] if isinstance(self.images, Tensor) else loader.read(self.images, chosen)
        return self.middle(images.to(self.labels.device))

    def middle(self, images: Tensor) -> Tensor:
        """What networks are given of images as they are kept: (B, C, H, W) to (B, *shape)."""
        _, height, width = self.shape
        top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
        return images[:, :, top : top + height, left : left + width]

    def gathered(self, order: Tensor, parts: Sequence[slice | list[int]]) -> Generator[Tensor]:
        """The images at each part of an order of numbers, as they are kept, on the trial's device; close it at its end.

        Those on the host are read ahead, by `trainers.data.loader`; what is given is good until the next is asked for.
        """
        if isinstance(self.images, Tensor):
            for part in parts:
                yield self.images[order[part]]
        else:
            host = order.cpu()  # once: a part by itself would wait for a GPU each time
            yield from loader.gathered(self.images, [host[part] for part in parts], self.labels.device)

    def part(self, chosen: Tensor) -> Split:
        """The images of these numbers, (B,), with their labels; those in files stay there."""
        images = self.images[chosen] if isinstance(self.images, Tensor) else self.images.at(chosen)
        return Split(images, self.labels[chosen.to(self.labels.device)], self.size)


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


class _Changes(NamedTuple):
    """What is done to the images of an epoch, drawn for each place in it beforehand.

    Attributes:
        split: of the images.
        crops: as `random_crops` gives, and what lies around the images; none: not padded.
        boxes: as `resized.random_boxes` gives; none: not resized.
        policy: and what it drew; none: no policy.
    """

    split: Split
    crops: tuple[Tensor, Literal["reflect", "zero"]] | None = None
    boxes: Tensor | None = None
    policy: tuple[policies.Policy, policies.Draws] | None = None

    def made(self, images: Tensor, part: slice | list[int]) -> Tensor:
        """The images of some places, (B, C, H, W) as they are kept, as networks are given them: (B, *split.shape)."""
        if self.boxes is None:
            images = self.split.middle(images)
        else:
            images = resized.resized(images, self.boxes[:, part], self.split.shape[1:])
        if self.crops is not None:
            crops, padding = self.crops
            images = cropped(images, crops[:, part], padding)
        if self.policy is not None:
            policy, draws = self.policy
            images = policies.augmented(images, draws.part(part), policy)
        return images


def _changes(
    pool: Split,
    count: int,
    augment: bool,
    padding: Literal["reflect", "zero"],
    crop_scale: float | None,
    policy: tuple[policies.Policy, str] | None,
    seed: int,
    epoch: int,
) -> _Changes:
    device, height, width = pool.labels.device, *pool.images.shape[2:]
    change = _Changes(pool)
    if augment and crop_scale is not None:
        change = _Changes(pool, boxes=resized.random_boxes(count, (height, width), crop_scale, device, seed, epoch))
    elif augment:
        change = _Changes(pool, (random_crops(count, device, seed, epoch), padding))
    if policy is None:
        return change
    return change._replace(policy=(policy[0], policies.drawn(*policy, count, pool.shape[1:], seed, epoch)))


def batches(
    split: Split,
    batch_size: int,
    *,
    augment: bool,
    padding: Literal["reflect", "zero"] = "reflect",
    crop_scale: float | None = None,
    policy: tuple[policies.Policy, str] | None = None,
    mix: cutmix.CutMix | None = None,
    extra: Extra | None = None,
    seed: int,
    epoch: int,
    workers: Workers = ALONE,
) -> Generator[tuple[Tensor, Tensor]]:
    """One epoch: every image once, in the order of (seed, epoch); the last, short batch is kept.

    Many batches are cropped and flipped at once, since a GPU takes as long for the operations of one. What each of the
    arguments draws, it draws from a generator of its own, so that none changes what the others drew.

    Args:
        split: of the trial.
        batch_size: of all batches but a short last one.
        augment, padding: whether images are cropped and flipped, and what lies around them.
        crop_scale: least area of random resized crops over the image's; none: crops are padded ones.
        policy: done to each image after that, and the data's name; none: no policy.
        mix: windows of other images of the batch, at last; none: no windows.
        extra: images that join each batch in place of as many of the split's.
        seed, epoch: of the trial.
        workers: of which this one takes its part of each batch. What an image gets is what it gets in the whole batch,
            and it alone is worked on; but with `mix`, which takes windows from the others, the batch is, and then cut.

    Yields:
        images: (B, C, H, W) float32 in [0, 1]; labels: (B,) int64, or with `mix` probabilities (B, classes) float32.
    """
    device, count = split.labels.device, len(split.labels)
    pool = split if extra is None else extra.pool
    order = epoch_order(count, batch_size, extra, device, seed, epoch)
    change = _changes(pool, count, augment, padding, crop_scale, policy, seed, epoch)
    windows = None if mix is None else cutmix.random_windows(count, device, seed, epoch)
    together = batch_size * max(1, _AT_ONCE // (batch_size * pool.images.shape[1:].numel()))
    starts, takers = range(0, count, together), ALONE if mix is not None else workers
    taken = [_taken(start, min(start + together, count), batch_size, takers) for start in starts]
    with closing(pool.gathered(order, [part for part, _ in taken])) as gathered:
        for start, (part, sizes), kept in zip(starts, taken, gathered, strict=True):
            images, labels = change.made(kept, part), pool.labels[order[part]]
            both = zip(torch.split(images, sizes), torch.split(labels, sizes), strict=True)
            for first, (some, theirs) in zip(range(start, count, batch_size), both, strict=False):
                pixels = some.to(torch.float32).div_(255)
                if mix is None or windows is None:
                    yield pixels, theirs
                else:
                    pixels, theirs = cutmix.mixed(pixels, theirs, windows[:, first : first + len(theirs)], mix)
                    own = workers.part(len(theirs))
                    yield pixels[own], theirs[own]


def _taken(start: int, stop: int, batch_size: int, workers: Workers) -> tuple[slice | list[int], list[int]]:
    """Which places from `start` to `stop` are a worker's, and how many of each batch."""
    batches = [range(first, min(first + batch_size, stop)) for first in range(start, stop, batch_size)]
    own = [batch[workers.part(len(batch))] for batch in batches]
    sizes = [len(each) for each in own]
    return slice(start, stop) if workers.alone else [place for each in own for place in each], sizes


def shares(count: int, batch_size: int, workers: Workers) -> list[Part]:
    """Of each batch of an evaluation what is a worker's: all of one that has fewer images than there are workers."""
    wholes = (min(batch_size, count - start) for start in range(0, count, batch_size))
    return [Part(workers if whole >= workers.size else ALONE, whole) for whole in wholes]


def sequential(split: Split, batch_size: int, workers: Workers = ALONE) -> Generator[tuple[Tensor, Tensor]]:
    """Every image once, as it is and in its place: for evaluation. Yields what `batches` does.

    Of several workers each reads its `shares` of the batches alone.
    """
    own = [each.images for each in shares(len(split.labels), batch_size, workers)]
    starts = range(0, len(split.labels), batch_size)
    parts = [slice(start + part.start, start + part.stop) for start, part in zip(starts, own, strict=True)]
    with closing(split.gathered(torch.arange(len(split.labels), device=split.labels.device), parts)) as gathered:
        for part, images in zip(parts, gathered, strict=True):
            yield split.middle(images).to(torch.float32).div_(255), split.labels[part]
