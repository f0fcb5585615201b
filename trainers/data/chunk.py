"""A chunk of shards: decoded and written to its place, by processes of their own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainers.data import moments
from trainers.data.archives import ByteArray
from trainers.data.decoding import BadImage, cores, rgb
from trainers.data.image_folder import File
from trainers.data.shards import Chunk, digest
from trainers.errors import UserError

#: Bad images that are named, of a chunk and in all.
NAMED = 5


class Work(NamedTuple):
    """One chunk for a process: what to decode, where to write it, and the hash of what may be there already."""

    chunk: Chunk
    root: Path
    files: tuple[File, ...]
    path: Path
    offset: int
    shape: tuple[int, int, int]
    image_size: int | None
    cropped: bool
    resizes: str
    """What the user does to have images resized, in words."""
    known: str | None


class Done(NamedTuple):
    """A chunk as it is in the file, or the images that cannot be taken."""

    chunk: Chunk
    hash: str
    kept: bool
    counts: moments.Counts | None
    """Of each channel how many pixels have each value, (C, 256); of training images."""
    bad: tuple[str, ...]
    """The first few, in words."""
    bad_images: int


def done(work: Work) -> Done:
    """Decodes a chunk and writes it to its place, unless it is there."""
    pixels, kept = _there(work), True
    if pixels is None:
        kept = False
        pixels = np.empty((work.chunk.images, *work.shape), np.uint8)
        if bad := list(_decode(work, pixels)):
            return Done(work.chunk, "", False, None, tuple(bad[:NAMED]), len(bad))
        _put(work, pixels)
    counts = moments.counts(pixels) if work.chunk.split == "train" else None
    return Done(work.chunk, digest(pixels.data.cast("B")), kept, counts, (), 0)


def _there(work: Work) -> ByteArray | None:
    """The chunk as it is in the file, if that is what was written there."""
    if work.known is None:
        return None
    size = work.chunk.images * int(np.prod(work.shape))
    with work.path.open("rb") as file:
        content = os.pread(file.fileno(), size, work.offset)
    if len(content) != size or digest(content) != work.known:
        return None
    return np.frombuffer(content, np.uint8).reshape(work.chunk.images, *work.shape)


def _decode(work: Work, pixels: ByteArray) -> Iterator[str]:
    """Fills (B, C, H, W); gives the images that cannot be taken, in words."""
    for place, file in enumerate(work.files):
        path = work.root / file.path
        try:
            image = rgb(path, work.image_size, work.cropped)
        except BadImage as error:
            yield f"{path} {error}"
            continue
        if image.shape[:2] != work.shape[1:]:
            raise UserError(
                f"images must have one size, but the first is {work.shape[1]} x {work.shape[2]} and {path} is "
                f"{image.shape[0]} x {image.shape[1]} pixels; {work.resizes} to resize them"
            )
        pixels[place] = image.transpose(2, 0, 1)


def _put(work: Work, pixels: ByteArray) -> None:
    content, offset = memoryview(pixels.data.cast("B")), work.offset
    descriptor = os.open(work.path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        while content:
            written = os.pwrite(descriptor, content, offset)
            content, offset = content[written:], offset + written
    except OSError as error:
        error.filename = str(work.path)
        raise
    finally:
        os.close(descriptor)


@contextmanager
def processes(count: int | None = None) -> Iterator[Executor]:
    """Processes that decode; they end with this one, however it ends.

    Args:
        count: how many; none: as many as this process may use cores.
    """
    pool = ProcessPoolExecutor(count or cores(), mp_context=get_context("spawn"), initializer=_begin_process)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the one that leads ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
