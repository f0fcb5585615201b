"""Data sets as uint8 tensors on the device, or in mapped files.

Nothing here waits for the GPU inside an epoch: the whole epoch's order and crops are drawn at once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from trainers import process
from trainers.config import DataConfig
from trainers.data import decoded, extra, moments, sources
from trainers.data.archives import ByteArray, Channels, LabelArray, Source
from trainers.data.batches import Extra, Split
from trainers.data.decoded import Decoded
from trainers.data.mapped import Mapped


class Data(NamedTuple):
    """A data set on one device; images in files stay on the host.

    Attributes:
        mean, std: of each channel, in [0, 1] units; for the model's normalisation.
        fingerprint: hash of the whole data set's content, before any split or selection.
        classes: names, by class number; empty: nobody says.
        extra: further images that are trained on, or none.
    """

    train: Split
    val: Split
    test: Split
    num_classes: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    name: str
    fingerprint: str
    classes: tuple[str, ...] = ()
    extra: Extra | None = None

    @property
    def channels(self) -> int:
        """Channels of an image: 1 or 3."""
        return self.train.shape[0]

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of an image, pixels."""
        return self.train.shape[1:]


_last: dict[tuple[DataConfig, str], Data] = {}  # the one data set that this process holds


def load(config: DataConfig, device: torch.device | str) -> Data:
    """The data set, all of it on `device`. The last one stays in memory, so that the next trial finds it.

    Raises:
        UserError: the data are missing, damaged, fewer than asked for, or not those of `config.fingerprint`.
    """
    # what is done to batches is the same data's
    plain = {"download": False, "policy": "none", "cutmix": 0.0, "cutmix_window": None, "crop_scale": 0.08}
    key = (config.model_copy(update=plain), str(torch.device(device)))
    with process.alone:
        if key not in _last:
            _last.clear()
            _last[key] = _loaded(config, device)
        return _last[key]


def _loaded(config: DataConfig, device: torch.device | str) -> Data:
    source = sources.read(config)
    if isinstance(source.train_images, np.memmap) and config.train_per_class:
        source = source._replace(mean=None, std=None)  # which are of all its images
    chosen = sources.chosen(config, source)
    images, tests = _images(config, source)
    labels, both = source.train_labels, np.sort(np.concatenate([chosen.train, chosen.val]))
    mean, std = (source.mean, source.std) if source.mean and source.std else _moments(config, source, images, both)
    size = sources.given(config, source)
    train = _on_device(images, labels, chosen.train, device)._replace(size=size)
    others = None
    if (more := sources.further(config, source)) is not None:
        train, others = _joined(train, more, config.extra_fraction)
    return Data(
        train=train,
        val=_on_device(images, labels, chosen.val, device)._replace(size=size),
        test=_on_device(tests, source.test_labels, chosen.test, device)._replace(size=size),
        num_classes=len(source.classes),
        mean=mean,
        std=std,
        name=config.name,
        fingerprint=source.fingerprint,
        classes=source.classes,
        extra=others,
    )


def _images(config: DataConfig, source: Source) -> tuple[ByteArray, ByteArray] | tuple[Decoded, Decoded]:
    """The training and the test images, decoded or as they will be."""
    if source.listed is None:
        return source.train_images, source.test_images
    channels, height, width = source.train_images.shape[1:]
    return decoded.splits(source.listed, (channels, height, width), config.image_size)


def _moments(
    config: DataConfig, source: Source, images: ByteArray | Decoded, chosen: LabelArray
) -> tuple[Channels, Channels]:
    if source.listed is None or not isinstance(images, Decoded):
        return moments.of_images(source.train_images, chosen)
    name = f"{source.fingerprint}-{config.image_size}-{config.train_per_class}.moments"
    return decoded.moments_of(images, chosen, source.listed, name)


def _joined(train: Split, more: extra.Images, fraction: float) -> tuple[Split, Extra]:
    """The split, now a part of a pool that holds the others behind it, so that no image is there twice."""
    own, device = len(train.labels), train.labels.device
    labels = torch.cat([train.labels, torch.from_numpy(more.labels).to(device)])
    images = torch.from_numpy(more.images)
    if not isinstance(train.images, torch.Tensor):
        return train, Extra(Split(train.images.followed_by(images), labels, train.size), fraction)
    pool = torch.cat([train.images, images.to(device)])
    return Split(pool[:own], labels[:own], train.size), Extra(Split(pool, labels, train.size), fraction)


def _on_device(
    images: ByteArray | Decoded, labels: LabelArray, chosen: LabelArray, device: torch.device | str
) -> Split:
    mine = torch.from_numpy(labels[chosen]).to(device)
    if isinstance(images, Decoded):
        return Split(images.at(torch.from_numpy(chosen)), mine)
    if isinstance(images, np.memmap):
        return Split(Mapped([images], torch.from_numpy(chosen)), mine)
    return Split(torch.from_numpy(images[chosen]).to(device), mine)
