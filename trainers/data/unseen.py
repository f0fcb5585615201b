"""What is known of data that are not here: how many published images there are, and the mark of their files."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from trainers.config import DataConfig
from trainers.data import archives, image_folder, sources
from trainers.data.large_folder import Unwritten
from trainers.data.sources import Shape
from trainers.errors import UserError


class _Published(NamedTuple):
    """Numbers of images and classes; images are square and RGB."""

    train: int
    test: int
    classes: int
    size: int


#: CIFAR: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, chapter 3, and
#: https://www.cs.toronto.edu/~kriz/cifar.html. SVHN: http://ufldl.stanford.edu/housenumbers, format 2, no extra set.
#: ImageNet: Russakovsky et al., "ImageNet Large Scale Visual Recognition Challenge", IJCV 2015, table 2. Tiny-ImageNet:
#: http://cs231n.stanford.edu/tiny-imagenet-200.zip. Of both the validation images are the test set here.
_PUBLISHED = {
    "cifar10": _Published(50_000, 10_000, 10, 32),
    "cifar100": _Published(50_000, 10_000, 100, 32),
    "svhn": _Published(73_257, 26_032, 10, 32),
    "tiny_imagenet": _Published(100_000, 10_000, 200, 64),
    "imagenet": _Published(1_281_167, 50_000, 1000, 256),
}


def fingerprint(config: DataConfig) -> str | None:
    """The mark of data that are not looked at; None: it is their content's, which nobody knows here."""
    if config.fingerprint is not None:
        return config.fingerprint
    return archives.published_fingerprint(config.name) if config.name in archives.ARCHIVES else None


def shape(config: DataConfig) -> Shape | None:
    """What `trainers.data.sources.shapes` would give of the published images; None: of a user's own folder.

    Raises:
        UserError: nothing would be left to train on.
    """
    if config.name not in _PUBLISHED:
        return None
    there = _PUBLISHED[config.name]
    train = there.classes * config.train_per_class if config.train_per_class else there.train
    test = there.classes * config.test_per_class if config.test_per_class else there.test
    held_out = max(1, round(config.validation_fraction * train)) if config.validation_fraction else 0
    if held_out >= train:
        raise UserError(
            f"data.validation_fraction: {config.validation_fraction} leaves no image to train on; hold out less"
        )
    kept = config.image_size or there.size
    size = config.crop_size or kept
    pixels = (there.train + there.test) * 3 * kept**2
    every_epoch, large = config.decode == "every_epoch", pixels > config.in_memory_gib * 2**30
    folder, _ = image_folder.cache_folders(Path(config.root or "data").expanduser().absolute())
    mapped = config.name in sources.LAYOUTS and (large or every_epoch)
    decodes = Unwritten(folder, pixels) if mapped and not every_epoch else None
    return Shape(train - held_out, held_out, test, there.classes, 3, size, size, mapped=mapped, decodes=decodes)
