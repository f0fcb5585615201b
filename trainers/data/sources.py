"""Data sets as they lie in their files, before a tensor is made of them: what they hold, and which images are whose.

Nothing here loads torch: a plan asks what there is, and trains nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainers.config import DataConfig
from trainers.data import archives, extra, image_folder, large_folder, own_set, shards, tiny_imagenet
from trainers.data.archives import LabelArray, Source
from trainers.errors import UserError
from trainers.seeds import stable_seeds

#: Pixels on each side of an image, before a crop of its own size is cut from it.
PADDING = 4


class Shape(NamedTuple):
    """What of a data set decides whether a network can be trained on it, and what that costs.

    Attributes:
        train_images, val_images, test_images: how many are trained on, held out and tested on.
        classes: how many.
        channels: of an image.
        height, width: of an image, pixels.
        extra_images: further ones that batches are drawn from.
        mapped: whether images stay in files, and so take no memory.
        notes: what is peculiar to the data, in words.
        decodes: pixels that the first trial writes to the disk; None: none.
    """

    train_images: int
    val_images: int
    test_images: int
    classes: int
    channels: int
    height: int
    width: int
    extra_images: int = 0
    mapped: bool = False
    notes: tuple[str, ...] = ()
    decodes: large_folder.Unwritten | None = None

    @property
    def pixels(self) -> int:
        """Numbers in an image."""
        return self.channels * self.height * self.width


#: How a folder of image files is laid out, by `DataConfig.name`.
LAYOUTS = {
    "image_folder": image_folder.listing,
    "tiny_imagenet": tiny_imagenet.listing,
    "imagenet": image_folder.imagenet,
}


class Chosen(NamedTuple):
    """Places in the source's training and test images."""

    train: LabelArray
    val: LabelArray
    test: LabelArray


def fingerprint(config: DataConfig) -> str:
    """Hash of the data's content, wherever they lie; fetches them first if `config.download`.

    Raises:
        UserError: the data are missing, damaged or cannot be fetched.
    """
    if config.is_own:
        return own_set.read(config, _root(config)).fingerprint
    if config.name == "digits":
        return archives.digits().fingerprint
    if config.name in LAYOUTS:
        return image_folder.fingerprint(LAYOUTS[config.name](_root(config)))
    if config.name == "shards":
        return shards.index(_root(config)).fingerprint
    return archives.archive_fingerprint(config.name, _root(config), config.download)


def shapes(configs: Iterable[DataConfig]) -> dict[DataConfig, Shape]:
    """What `sets.load` would give for each, refused where it refuses; each source is read once and none is kept.

    Of images that stay in files none is read: of shards there is an index, and of a large folder a listing.

    Raises:
        UserError: as `sets.load`.
    """
    seen_shapes: dict[DataConfig, Shape] = {}
    for _, group in groupby(sorted(configs, key=_reads), key=_reads):
        alike = list(group)
        source, mapped, notes, decodes = _outline(alike[0])
        others = further(alike[0], source)
        more = 0 if others is None else len(others.labels)
        for config in alike:
            shape = _shape(config, source, more)
            seen_shapes[config] = shape._replace(mapped=mapped, notes=notes, decodes=decodes)
    return seen_shapes


def _shape(config: DataConfig, source: Source, extra_images: int) -> Shape:
    train, val, test = map(len, chosen(config, source))
    channels, *whole = source.train_images.shape[1:]
    height, width = given(config, source) or whole
    return Shape(train, val, test, len(source.classes), channels, height, width, extra_images)


def _outline(config: DataConfig) -> tuple[Source, bool, tuple[str, ...], large_folder.Unwritten | None]:
    """The source, without pixels where they stay in files; whether they do, what is to be said of it, and pixels that
    are still to be written there."""
    if config.name == "shards":
        return shards.read(_root(config), checked=False), True, (), None
    if config.name not in LAYOUTS:
        return read(config), False, (), None
    listed = LAYOUTS[config.name](_root(config))
    decodes = config.decode == "every_epoch"
    most = math.inf if decodes else config.in_memory_gib
    large = decodes or large_folder.is_large(listed, config.image_size, most)
    source = (large_folder.outline if large else image_folder.read)(listed, config.image_size)
    notes = (
        *large_folder.notes(listed, config.image_size, most, source),
        *([large_folder.note_of_decoding(listed)] if decodes else ()),
    )
    writes = large and not decodes
    return source, large, notes, large_folder.to_decode(listed, config.image_size, source) if writes else None


def _reads(config: DataConfig) -> str:
    """What decides which source is read, and how, and which images beside it."""
    beside = config.extra if config.reads_extra else None
    own = {"code", *config.options}
    keys = {"name", "root", "download", "image_size", "in_memory_gib", "decode", *own}
    return config.model_dump_json(include=keys) + str(beside)


def further(config: DataConfig, source: Source) -> extra.Images | None:
    """The images that join the batches, checked; None where there are none, or where only their mark is known."""
    if not config.reads_extra or config.extra is None:
        return None
    if config.extra_fingerprint not in (None, mark := extra.fingerprint(config.extra, config.cropped)):
        raise UserError(
            f"data.extra_fingerprint: the images in {config.extra} are {mark}, not {config.extra_fingerprint}; "
            "point data.extra at those, or leave data.extra_fingerprint out"
        )
    shape = source.train_images.shape[1:]
    return extra.read(config.extra, source.classes, shape, config.image_size, config.cropped)


def read(config: DataConfig) -> Source:
    """The data set in the host's memory, or where its images stay in files, their place.

    Raises:
        UserError: the data are missing or damaged.
    """
    if config.is_own:
        return own_set.read(config, _root(config))
    if config.name == "digits":
        return archives.digits()
    if config.name == "shards":
        return shards.read(_root(config))
    if config.name in LAYOUTS:
        listed = LAYOUTS[config.name](_root(config))
        if config.decode == "every_epoch":
            return large_folder.outline(listed, config.image_size)._replace(listed=listed)
        large = large_folder.is_large(listed, config.image_size, config.in_memory_gib)
        return (large_folder.read if large else image_folder.read)(listed, config.image_size)
    return archives.archive(config.name, _root(config), config.download)


def _root(config: DataConfig) -> Path:
    return Path(config.root or "data").expanduser().resolve()


def given(config: DataConfig, source: Source) -> tuple[int, int] | None:
    """Height and width that networks are given of larger images; none: those of the images."""
    whole: tuple[int, ...] = source.train_images.shape[2:]
    return None if config.crop_size is None or set(whole) == {config.crop_size} else (config.crop_size,) * 2


def chosen(config: DataConfig, source: Source) -> Chosen:
    """Which images are trained on, held out and tested on.

    Raises:
        UserError: they are fewer than asked for, or not those of `config.fingerprint`.
    """
    _check(config, source)
    train = _first(source.train_labels, config.train_per_class, source, "train")
    test = _first(source.test_labels, config.test_per_class, source, "test")
    held_out = validation_mask(source.train_labels[train], config.validation_fraction)
    return Chosen(train[~held_out], train[held_out], test)


def _other_content(config: DataConfig, source: Source) -> str:
    """That the data are not those of the fingerprint, in words, and the way out."""
    if config.is_own:
        return (
            f"data.name: {config.name} gave {config.fingerprint} and now {source.fingerprint}: seed what it draws at "
            "random, so that two readings are the same; or its files have changed meanwhile"
        )
    return (
        f"data.fingerprint: the data in {_root(config)} are {source.fingerprint}, not {config.fingerprint}; point "
        "data.root at those, or leave data.fingerprint out"
    )


def _check(config: DataConfig, source: Source) -> None:
    if config.fingerprint not in (None, source.fingerprint):
        raise UserError(_other_content(config, source))
    if len(source.classes) < 2:
        raise UserError(
            f"data.root: {_root(config)} must hold at least 2 classes, got 1 ({source.classes[0]}); add one"
        )
    height, width = source.train_images.shape[2:]
    if config.crop_size is not None:
        if config.crop_size > min(height, width):
            raise UserError(
                f"data.crop_size: must be at most the images' {height} x {width} pixels, got {config.crop_size}; "
                "lower it, or keep larger images"
            )
        height = width = config.crop_size
    augment = config.name != "digits" if config.augment is None else config.augment
    if augment and config.crop == "pad" and config.padding == "reflect" and min(height, width) <= PADDING:
        raise UserError(
            f"data.augment: a {PADDING}-pixel reflect pad needs images over {PADDING} x {PADDING} pixels, "
            f"got {height} x {width}; set data.augment: false, or data.padding: zero"
        )


def _first(labels: LabelArray, count: int | None, source: Source, split: str) -> LabelArray:
    """Where the first `count` images of each class are, in their order; all of them if `count` is none."""
    if count is None:
        return np.arange(len(labels))
    there = np.bincount(labels, minlength=len(source.classes))
    fewest = int(there.argmin())
    if there[fewest] < count:
        raise UserError(
            f"data.{split}_per_class: {count} asked for, but class {source.classes[fewest]!r} has only "
            f"{there[fewest]} {split} images; ask for at most {there[fewest]}"
        )
    return np.sort(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(len(there))]))


def validation_mask(labels: LabelArray, fraction: float) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Which training images are held out: the same for every seed, so that trials are compared fairly.

    Each class gives its share, rounded by largest remainders so that the total is round(fraction * N), and at
    least 1: the first ones of an order that is the same for every fraction. So a class that gives more gives those and
    more; but by the rounding it may give one less to a larger fraction.

    Args:
        labels: (N,) class numbers.
        fraction: share held out, in [0, 1).

    Returns:
        (N,), true where held out.

    Raises:
        UserError: nothing would be left to train on.
    """
    mask = np.zeros(len(labels), dtype=bool)
    if fraction == 0:
        return mask
    total = max(1, round(fraction * len(labels)))
    if total >= len(labels):
        raise UserError(
            f"data.validation_fraction: {fraction} of {len(labels)} training images leaves none to train on; "
            "hold out less"
        )
    counts = np.bincount(labels)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
    for label, quota in enumerate(_quotas(counts, fraction, total)):
        # ordered by a hash, not by a generator, whose numbers a later version may change
        order = np.argsort(stable_seeds("validation", label, count=counts[label]), kind="stable")
        mask[by_class[label][order[:quota]]] = True
    return mask


def _quotas(counts: LabelArray, fraction: float, total: int) -> list[int]:
    shares = counts * (total / counts.sum())
    quotas = np.floor(shares).astype(int)
    largest = np.argsort(quotas - shares, kind="stable")
    quotas[largest[: total - quotas.sum()]] += 1
    return [int(quota) for quota in quotas]
