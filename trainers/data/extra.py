"""Training images beside the data set's, real or generated: a folder of class folders, or an npz of arrays.

    FOLDER/CLASS/...      images, decoded as those of `image_folder`, beside `imagenet` as its own; the classes are the
                          data set's, or some of them
    FILE.npz              image (N, H, W, C) uint8, and label (N,), class numbers: what is published with [Rebuffi] and
                          [DM-AT]

Each batch takes a fixed share of them, drawn with replacement, and the rest from the data set, whose images an epoch
then takes in part. So an epoch stays as long as without, as in the published codes.

Sources: [Rebuffi] Rebuffi et al., NeurIPS 2021, google-deepmind/deepmind-research,
adversarial_robustness/jax/datasets.py, load_extra; [DM-AT] Wang et al., ICML 2023,
wzekai99/DM-Improves-AT, core/data/semisup.py, SemiSupervisedSampler.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from trainers.config import DataConfig
from trainers.data import image_folder
from trainers.data.archives import ByteArray, LabelArray
from trainers.data.image_folder import Listing
from trainers.errors import Absent, UserError
from trainers.fields import plural

_ARRAYS = "it must hold image, (N, H, W, C) uint8, and label, (N,) whole numbers"


class Images(NamedTuple):
    """Extra training images in memory: (N, C, H, W) uint8, and their class numbers (N,)."""

    images: ByteArray
    labels: LabelArray


def fingerprint(path: str, cropped: bool = False) -> str:
    """Hash of the content of the folder's images, or of the file: a copied or moved one keeps it.

    Args:
        path: `data.extra`.
        cropped: `DataConfig.cropped`; a folder's images are others then, and so is the hash.

    Raises:
        UserError: nothing is there, or it cannot be read.
    """
    place = _place(path)
    if place.is_dir():
        with _of_extra():
            return image_folder.fingerprint(_listing(place, cropped))
    try:
        with place.open("rb") as file:
            return f"npz-{hashlib.file_digest(file, 'sha256').hexdigest()[:16]}"
    except OSError as error:
        raise UserError(f"data.extra: {place} cannot be read ({error.strerror})") from error


def content(config: DataConfig) -> str:
    """The fingerprint of the images that join a trial's batches: the config's, or that of those that are there.

    Raises:
        UserError: the config has a fingerprint alone, or as `fingerprint`.
    """
    if config.extra is None:
        raise UserError("data.extra_fingerprint: is of images that data.extra names; give that too, or neither")
    return config.extra_fingerprint or fingerprint(config.extra, config.cropped)


def read(
    path: str, classes: tuple[str, ...], shape: tuple[int, ...], image_size: int | None, cropped: bool = False
) -> Images:
    """The images, checked against the data set that they join.

    Args:
        path: `data.extra`.
        classes: of the data set, by class number.
        shape: of one of its images, (C, H, W).
        image_size: a folder's images are resized to; none: they have their size.
        cropped: as of `fingerprint`.

    Raises:
        UserError: nothing is there, it cannot be read, or classes or sizes are others than the data set's.
    """
    place = _place(path)
    more = _folder(place, classes, image_size, cropped) if place.is_dir() else _npz(place)
    if not len(more.labels):
        raise UserError(f"data.extra: {place} holds no images; leave data.extra out")
    if place.is_dir() and shape[0] == 1:
        more = more._replace(images=_grey(more.images))
    if more.images.shape[1:] != shape:
        raise UserError(
            f"data.extra: {place}: images must be as the data set's, {_size(shape)}, got "
            f"{_size(more.images.shape[1:])}; convert them"
        )
    low, high = int(more.labels.min()), int(more.labels.max())
    if low < 0 or high >= len(classes):
        raise UserError(
            f"data.extra: {place}: labels must be those of the data set, 0 to {len(classes) - 1}, got {low} to {high}; "
            "renumber them"
        )
    return more


def _grey(images: ByteArray) -> ByteArray:
    """One channel, where all three of every image are equal; else as they are."""
    one = images[:, :1]
    return np.ascontiguousarray(one) if (images == one).all() else images


def _size(shape: tuple[int, ...]) -> str:
    channels, height, width = shape
    return f"{height} x {width} pixels of {plural(channels, 'channel')}"


def _place(path: str) -> Path:
    place = Path(path).expanduser().absolute()
    if not place.exists():
        raise Absent(f"data.extra: {place} is not there; give a folder of class folders, or an npz of image and label")
    return place


@contextmanager
def _of_extra() -> Iterator[None]:
    """A block in which what is said of `data.root` is said of `data.extra`."""
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace("data.root:", "data.extra:", 1)) from None


def _listing(place: Path, cropped: bool) -> Listing:
    with image_folder.listable():
        classes = image_folder.folders(place)
        files = [file for name in classes for file in sorted(image_folder.walk(place, name))]
    if not files:
        raise UserError(f"data.root: {place} must hold a folder of images for each class, and has none")
    named = tuple(one._replace(name=f"extra/{one.path}") for one in files)
    return Listing("imagenet_extra" if cropped else "extra", place, classes, named, ())


def _folder(place: Path, classes: tuple[str, ...], image_size: int | None, cropped: bool) -> Images:
    with _of_extra():
        listed = _listing(place, cropped)
        if others := sorted(set(listed.classes) - set(classes)):
            raise UserError(
                f"data.extra: {place / others[0]}: is no class of the data set; its classes are "
                f"{', '.join(classes[:10])}{', ...' if len(classes) > 10 else ''}"
            )
        source = image_folder.read(listed, image_size)
    number = np.array([classes.index(name) for name in listed.classes], np.int64)
    return Images(source.train_images, number[source.train_labels])


@contextmanager
def _arrays(place: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with np.load(place) as arrays:
            yield arrays
    except (OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        reason = str(error).partition("\n")[0]
        raise UserError(f"data.extra: {place} cannot be read as an npz ({reason}); {_ARRAYS}") from error


def _npz(place: Path) -> Images:
    with _arrays(place) as arrays:
        images, labels = arrays["image"], arrays["label"]
    whole = np.issubdtype(labels.dtype, np.integer)
    if images.dtype != np.uint8 or images.ndim != 4 or not whole or labels.shape != images.shape[:1]:
        got = f"{images.shape} {images.dtype} and {labels.shape} {labels.dtype}"
        raise UserError(f"data.extra: {place}: {_ARRAYS}, got {got}")
    return Images(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64))
