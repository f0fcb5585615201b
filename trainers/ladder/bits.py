"""What is said of each image of a split, as a record holds it: bits, margins and classes in base64.

`analysis.frames.images` reads it again.
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.weak import WeakIdKeyDictionary

from trainers.data.batches import Split
from trainers.data.sets import Data
from trainers.ladder.trained import order

#: Images hashed at once: of ImageNet's size they take 150 MB.
_AT_ONCE = 1000


class Places(NamedTuple):
    """The images of a split in the order in which they are evaluated, and which images they are."""

    order: NDArray[np.intp]
    """Place in the split of each, (N,)."""
    fingerprint: str
    """16 hexadecimal digits of a SHA-256 of pixels and labels."""
    labels: NDArray[np.int64]
    """In that order, (N,)."""


_known = WeakIdKeyDictionary()  # by the split's images: a process evaluates many networks on the same


def places(split: Split) -> Places:
    """Order, fingerprint and labels of a split."""
    if split.images not in _known:
        labels = split.labels.cpu().numpy()
        first = np.array(order(labels.tolist()), dtype=np.intp)
        _known[split.images] = Places(first, _fingerprint(split, labels), labels[first])
    known: Places = _known[split.images]
    return known


def _fingerprint(split: Split, labels: NDArray[np.int64]) -> str:
    digest = hashlib.sha256(f"{(len(labels), *split.shape)}".encode() + labels.astype("<i8").tobytes())
    for first in range(0, len(labels), _AT_ONCE):
        digest.update(split.pixels(slice(first, first + _AT_ONCE)).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


def packed(right: ArrayLike) -> str:
    """Bits, (N,) bool, as a record's `right` holds them: ceil(N / 8) bytes in base64.

    >>> packed([True, False, True])
    'oA=='
    """
    return _text(np.packbits(np.asarray(right, dtype=np.bool_)))


def halves(margins: ArrayLike) -> str:
    """Numbers, (N,), as a record's `margins` holds them: fp16, those beyond its range at its ends, in base64."""
    most = np.finfo(np.float16).max
    return _text(np.clip(np.asarray(margins), -most, most).astype("<f2"))


def classes(data: Data, name: str) -> dict[str, Any]:
    """Class and place of each image of the split `name` in its fixed order, as a record's `classes` holds them.

    Classes without names are called by their numbers.
    """
    names = data.classes or tuple(map(str, range(data.num_classes)))
    known = places(getattr(data, name))
    labels = known.labels.astype("u1" if len(names) <= 256 else "<u2")
    return {"labels": _text(labels), "places": _text(known.order.astype("<u4")), "names": list(names)}


def _text(values: NDArray[Any]) -> str:
    return base64.b64encode(values.tobytes()).decode()
