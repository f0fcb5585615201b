"""A folder of image files that is too large for memory: its pixels as shards, in the folder's cache.

They are prepared by the first process that trains on them, and are those that `image_folder.read` gives: so the trial,
its id and its numbers are the same in memory and mapped.
"""

from __future__ import annotations

import logging
import shlex
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainers.data import image_folder, preparing, shards
from trainers.data.archives import ByteArray, Source
from trainers.data.decoding import cores
from trainers.data.image_folder import Listing
from trainers.errors import UserError
from trainers.fields import bytes_text

_log = logging.getLogger(__name__)

#: Between two lines of how far it is, s.
EVERY = 60.0


class Unwritten(NamedTuple):
    """Pixels that are still to be written.

    Attributes:
        folder: that takes them.
        size: of all, bytes.
    """

    folder: Path
    size: int


def is_large(listed: Listing, image_size: int | None, most: float) -> bool:
    """Whether all images take more than so many GiB as uint8.

    Where they are not resized, all are taken to be as large as the first.

    Raises:
        UserError: the first cannot be read.
    """
    return _bytes(listed, image_size) / 2**30 > most


def notes(listed: Listing, image_size: int | None, most: float, source: Source) -> Iterator[str]:
    """What a plan says of a folder of image files, whatever its size."""
    name = listed.layout
    if name == "image_folder" and listed.test[0].name.startswith("val/"):
        yield f"{name}: val/ is the test set, as there is no test/ with classes in it"
    if image_folder.SAMPLED in source.fingerprint:
        yield (
            f"{name}: known by all names and sizes and by what {image_folder.SAMPLE:,} of the files hold; a change of "
            "the others that keeps their size goes unseen"
        )
    if is_large(listed, image_size, most):
        size = f"{name}: {bytes_text(_bytes(listed, image_size))} of pixels, over data.in_memory_gib ({most:g})"
        folder = _folder(listed, image_size, source.fingerprint)
        if shards.exists(folder):
            yield f"{size}: mapped from {folder}"
        else:
            yield f"{size}: the first trial decodes them to {folder}, and finds images that are damaged"


def to_decode(listed: Listing, image_size: int | None, source: Source) -> Unwritten | None:
    """What the first trial on a large folder writes; None where that is there."""
    folder = _folder(listed, image_size, source.fingerprint)
    return None if shards.exists(folder) else Unwritten(folder, _bytes(listed, image_size))


def _bytes(listed: Listing, image_size: int | None) -> int:
    return (len(listed.train) + len(listed.test)) * int(np.prod(_shape(listed, image_size)))


def outline(listed: Listing, image_size: int | None) -> Source:
    """The data set as a plan needs it: of files no more is read than a fingerprint needs; for images stand zeros.

    Raises:
        UserError: an image cannot be read.
    """
    shape = _shape(listed, image_size)
    return Source(
        _blank(len(listed.train), shape),
        image_folder.labels(listed.train, listed),
        _blank(len(listed.test), shape),
        image_folder.labels(listed.test, listed),
        listed.classes,
        fingerprint=image_folder.fingerprint(listed),
    )


def read(listed: Listing, image_size: int | None) -> Source:
    """All images, mapped; prepared first where they are not yet.

    Raises:
        UserError: an image cannot be read or has another size, or there is no room for the pixels.
    """
    content = image_folder.fingerprint(listed)
    folder = _folder(listed, image_size, content)
    if not shards.exists(folder):
        _prepare(listed, image_size, folder)
    return shards.read(folder)._replace(fingerprint=content)


def _folder(listed: Listing, image_size: int | None, content: str) -> Path:
    name = content + (f"-{image_size}" if image_size else "") + ".shards"
    there = [folder / name for folder in image_folder.cache_folders(listed.root) if shards.exists(folder / name)]
    return there[0] if there else image_folder.writable(listed.root) / name


def _prepare(listed: Listing, image_size: int | None, folder: Path) -> None:
    # what the user does where it was stopped is to launch again; a trial's process starts threads, not processes
    command = f"a trial, or remove {shlex.quote(str(folder))}"
    asked = preparing.Asked(listed, image_size, listed.cropped, command, mends=False, resizes="set data.image_size")
    _log.warning("%s: its images are larger than data.in_memory_gib: they are written to %s once", listed.root, folder)
    try:
        with ThreadPoolExecutor(cores()) as pool:
            preparing.prepare(asked, folder, pool, _telling(listed.root))
    except UserError as error:
        raise UserError(f"data.root: {error} {'; '.join(error.others)}".rstrip()) from None


def _telling(root: Path) -> Callable[[preparing.Told], None]:
    last = time.monotonic()

    def tell(told: preparing.Told) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= EVERY:
            last = now
            _log.warning("%s: %s of %s images are written", root, f"{told.images:,}", f"{told.of:,}")

    return tell


def _shape(listed: Listing, image_size: int | None) -> tuple[int, int, int]:
    try:
        return preparing.shape_of(listed, image_size)
    except UserError as error:
        raise UserError(f"data.root: {error}") from None


def _blank(count: int, shape: tuple[int, int, int]) -> ByteArray:
    return np.broadcast_to(np.uint8(0), (count, *shape))


def note_of_decoding(listed: Listing) -> str:
    """What a plan says of a folder whose images are decoded every epoch."""
    return (
        f"{listed.layout}: images are decoded whenever they are read, by each trial's own cores (resources.cpu), and "
        "damaged ones are found then"
    )
