"""A user's own data: what the function or class of the config gives, as uint8 arrays."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from trainers.config import DataConfig
from trainers.data.archives import ByteArray, LabelArray, Source
from trainers.data.decoding import WIDE_MODES, opaque
from trainers.errors import UserError
from trainers.own import options
from trainers.own.reference import parse

#: Numbers of channels that tell where those of an image stand.
_CHANNELS = (1, 3)

#: Pillow's modes that are grey alone.
_GREY = ("1", "L", "LA")


def read(config: DataConfig, root: Path) -> Source:
    """The data that a user's own code gives, either as

        train_images, train_labels, test_images, test_labels    arrays or tensors
        train, test                                             two torch Datasets of (image, label)

    Images are uint8, or fractions in [0, 1], which are rounded to 255ths; (N, C, H, W), (N, H, W, C) or (N, H, W), and
    those of a Dataset PIL's too, taken as grey or RGB. Labels are 0, 1, ..., each of them among the training images.

    Args:
        config: whose name is the user's own.
        root: data.root, absolute; given to a parameter `root`.

    Raises:
        UserError: what comes is something else; or the code raises, memory for it aside.
    """
    name = parse(config.name).canonical
    with _one_line(name):
        given = options.call(config, "data", {"root": str(root)})
    if not isinstance(given, (tuple, list)) or len(given) not in (2, 4):
        raise UserError(
            f"data.name: {name}: must give (train_images, train_labels, test_images, test_labels) or two Datasets "
            f"(train, test), got {_described(given)}"
        )
    with _one_line(name):
        parts = list(given) if len(given) == 4 else [half for part in given for half in _halves(part, name)]
    train_images, test_images = (_images(parts[at], name) for at in (0, 2))
    train_labels, test_labels = (_labels(parts[at], name) for at in (1, 3))
    for images, labels, split in ((train_images, train_labels, "training"), (test_images, test_labels, "test")):
        if len(images) != len(labels) or not len(images):
            raise UserError(
                f"data.name: {name}: must give a label an image, got {len(images)} {split} images and "
                f"{len(labels)} labels"
            )
    if train_images.shape[1:] != test_images.shape[1:]:
        sizes = train_images.shape[1:], test_images.shape[1:]
        raise UserError(f"data.name: {name}: training and test images must have one shape, got {sizes[0]}, {sizes[1]}")
    classes = _classes(train_labels, test_labels, name)
    mark = _hash(train_images, train_labels, test_images, test_labels)
    return Source(train_images, train_labels, test_images, test_labels, classes, f"{parse(config.name).name}-{mark}")


@contextmanager
def _one_line(name: str) -> Iterator[None]:
    """A block in which the user's own code runs: what it raises is theirs to mend."""
    try:
        yield
    except Exception as error:
        from trainers.memory import is_out_of_memory, reason  # and with it torch, for which no other waits

        if isinstance(error, UserError) or is_out_of_memory(error):
            raise
        raise UserError(f"data.name: {name}: {type(error).__name__}: {reason(error)}{_place(error)}") from error


def _place(error: BaseException) -> str:
    """The innermost line of a snapshot that raised, in words."""
    frames = traceback.extract_tb(error.__traceback__)
    places = [f"{inside}:{one.lineno}" for one in frames if (inside := one.filename.partition(".zip/")[2])]
    return f" ({places[-1]})" if places else ""


def _hash(*arrays: np.ndarray[Any, Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:12]


def _halves(dataset: Any, name: str) -> tuple[Any, Any]:
    """Images and labels of a torch Dataset, item by item."""
    try:
        items = [dataset[place] for place in range(len(dataset))]
        pairs = [(_pixels(image), _number(label)) for image, label in items]
    except (TypeError, KeyError) as error:
        raise UserError(
            f"data.name: {name}: a Dataset must have a length and give (image, label), got {_described(dataset)} "
            f"({error})"
        ) from None
    shapes = {image.shape for image, _ in pairs}
    if len(shapes) > 1:
        raise UserError(f"data.name: {name}: images must have one shape, got {', '.join(map(str, sorted(shapes)[:3]))}")
    return np.stack([image for image, _ in pairs]) if pairs else np.empty((0, 1, 1, 1)), [one for _, one in pairs]


def _pixels(image: Any) -> np.ndarray[Any, Any]:
    """PIL's as grey or RGB; those of more than 8 bits a channel, as all else, as they are."""
    from PIL.Image import Image

    if isinstance(image, Image) and image.mode not in WIDE_MODES:
        image = image.convert("L") if image.mode in _GREY else opaque(image)
    return np.asarray(image)


def _number(label: Any) -> float:
    """A fraction is left one, which `_labels` refuses."""
    return int(label) if float(label).is_integer() else float(label)


def _array(given: Any) -> np.ndarray[Any, Any]:
    """Of a tensor, on whatever device, or of anything else; torch is not loaded for that."""
    return np.asarray(given.cpu() if hasattr(given, "cpu") else given)


def _images(given: Any, name: str) -> ByteArray:
    """As (N, C, H, W) uint8."""
    array = _array(given)
    if array.ndim == 3:
        array = array[:, None]
    if array.ndim != 4:
        raise UserError(f"data.name: {name}: images must be (N, C, H, W) or (N, H, W, C), got shape {array.shape}")
    if _channels_last(array.shape[1:], name):
        array = array.transpose(0, 3, 1, 2)
    if np.issubdtype(array.dtype, np.floating):
        low, high = (float(array.min()), float(array.max())) if array.size else (0.0, 1.0)
        if not (low >= 0 and high <= 1):
            raise UserError(
                f"data.name: {name}: images must be uint8, or fractions in [0, 1]; got {low:.3g} to {high:.3g}: leave "
                "normalisation to the model, which does it inside (model.normalize)"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise UserError(f"data.name: {name}: images must be uint8, or fractions in [0, 1], got {array.dtype}")
    return np.ascontiguousarray(array)


def _channels_last(shape: tuple[int, ...], name: str) -> bool:
    """Whether the channels of an image stand last: 1 or 3 are there alone, or fewer than a square before them has rows.

    Raises:
        UserError: the sizes do not tell.
    """
    first, middle, last = shape
    if first in _CHANNELS or last in _CHANNELS:
        return first not in _CHANNELS
    if last < first and middle not in (first, last):
        raise UserError(
            f"data.name: {name}: images must be (N, C, H, W) or (N, H, W, C), and {shape} may be either; give "
            "(C, H, W) with H = W, or with no more channels than columns"
        )
    return last < first == middle


def _labels(given: Any, name: str) -> LabelArray:
    array = _array(given)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise UserError(f"data.name: {name}: labels must be whole numbers (N,), got {array.dtype} {array.shape}")
    return array.astype(np.int64)


def _classes(train: LabelArray, test: LabelArray, name: str) -> tuple[str, ...]:
    there = np.unique(train)
    if not np.array_equal(there, np.arange(len(there))) or not set(np.unique(test)) <= set(there):
        shown: Sequence[int] = [int(label) for label in np.unique(np.concatenate([train, test]))[:5]]
        raise UserError(
            f"data.name: {name}: labels must be 0, 1, ... and each among the training images, got {shown}...; "
            "number the classes anew"
        )
    return tuple(map(str, there))


def _described(value: Any) -> str:
    many = f" of {len(value)}" if isinstance(value, (tuple, list)) else ""
    return f"{type(value).__name__}{many}"
