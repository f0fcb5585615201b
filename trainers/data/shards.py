"""Shards: a data set's pixels in files that are mapped into memory, written once by `sweep data prepare`.

    DIR/index.json            what there is: classes, sizes, mean and std, the hash of each chunk, and how it was made
    DIR/train_images.npy      (N, C, H, W) uint8, by class and file name
    DIR/train_labels.npy      (N,) int64, class numbers
    DIR/test_images.npy, test_labels.npy
    DIR/chunks.jsonl          only while it is being written: the chunks that are there

The index is written last, so that a folder with one is whole. A chunk is so many images that stand one behind another;
all chunks of a file but a short last one have as many. Files are NumPy's own, so that others read them without this.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from pydantic import Field, ValidationError

from trainers.data.archives import ByteArray, LabelArray, Source
from trainers.errors import Absent, UserError
from trainers.fields import Frozen, plural

INDEX, JOURNAL = "index.json", "chunks.jsonl"
SPLITS = "train", "test"
LAYOUT = "robustsweep shards 1"

#: Of a chunk, bytes: what a process decodes at a time, and is done again where it was stopped.
CHUNK_BYTES = 2**24
#: Chunks of a split that are held against their hash whenever it is opened: the first, the last, and between them.
CHECKED = 4

_AGAIN = "copy it again, or give the command that prepared it, which mends it"


class Made(Frozen):
    """How shards were made: two folders of the same files, prepared alike, give the same."""

    folder: str
    """That was read, absolute."""
    test: str
    """The folder in it that is the test set: test, or val."""
    image_size: int | None
    """Asked for, pixels; none: images had one size."""
    resize: str
    """How, in words."""
    cropped: bool
    """Whether sides keep their ratio; see `decoding.rgb`."""
    listing: str
    """Hash of the names and sizes of the files."""
    pillow: str
    """Version of the library that decoded."""


class Part(Frozen):
    """A split's files."""

    images: int = Field(ge=1)
    labels: str
    """Hash of its labels."""
    chunks: tuple[str, ...]
    """Hash of each chunk of its images."""


class Index(Frozen):
    """What index.json holds."""

    layout: Literal["robustsweep shards 1"]
    fingerprint: str
    classes: tuple[str, ...] = Field(min_length=1)
    channels: int = Field(ge=1)
    height: int = Field(ge=1)
    width: int = Field(ge=1)
    mean: tuple[float, ...]
    """Of each channel over all training images, in [0, 1] units."""
    std: tuple[float, ...]
    chunk_images: int = Field(ge=1)
    train: Part
    test: Part
    made: Made

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of an image, (C, H, W)."""
        return self.channels, self.height, self.width

    def part(self, split: str) -> Part:
        """Of a split."""
        found: Part = getattr(self, split)
        return found


class Chunk(NamedTuple):
    """A range of a split's images."""

    split: str
    number: int
    first: int
    images: int


def chunks(split: str, images: int, chunk_images: int) -> list[Chunk]:
    """All of a split, in order."""
    starts = range(0, images, chunk_images)
    return [Chunk(split, place, first, min(chunk_images, images - first)) for place, first in enumerate(starts)]


def images_path(folder: Path, split: str) -> Path:
    """The file of a split's images."""
    return folder / f"{split}_images.npy"


def labels_path(folder: Path, split: str) -> Path:
    """The file of a split's labels."""
    return folder / f"{split}_labels.npy"


def digest(content: bytes | memoryview) -> str:
    """32 hexadecimal digits of a SHA-256."""
    return hashlib.sha256(content).hexdigest()[:32]


def fingerprint_of(
    classes: tuple[str, ...], shape: tuple[int, ...], chunk_images: int, parts: Mapping[str, Part]
) -> str:
    """Hash of all that is read: classes, pixels and labels, wherever they came from."""
    content = [classes, shape, chunk_images, {split: part.model_dump() for split, part in parts.items()}]
    return f"shards-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]}"


def exists(folder: Path) -> bool:
    """Whether there are whole shards."""
    return (folder / INDEX).is_file()


def index(folder: Path) -> Index:
    """What there is; no image is read.

    Raises:
        UserError: no shards are there, they are half prepared, or the index is damaged.
    """
    if not folder.is_dir():
        raise (UserError if folder.exists() else Absent)(
            f"data.root: {folder} is not a folder; it must hold shards, which sweep data prepare writes"
        )
    try:
        text = (folder / INDEX).read_bytes()
    except FileNotFoundError:
        raise UserError(_none_there(folder)) from None
    except OSError as error:
        raise UserError(f"data.root: {folder / INDEX} cannot be read ({error.strerror})") from error
    try:
        found = Index.model_validate_json(text)
    except ValidationError as error:
        raise UserError(f"data.root: {folder / INDEX} {_odd(text, error)}") from None
    parts = {split: found.part(split) for split in SPLITS}
    if found.fingerprint != fingerprint_of(found.classes, found.shape, found.chunk_images, parts):
        raise UserError(f"data.root: {folder / INDEX} is damaged: its fingerprint is not its content's; copy it again")
    return found


def _odd(text: bytes, error: ValidationError) -> str:
    """What is wrong with an index, and the way out."""
    try:
        layout = json.loads(text).get("layout")
    except (ValueError, AttributeError):
        layout = None
    if isinstance(layout, str) and layout != LAYOUT:
        return f"is of layout {layout!r}, and this version reads {LAYOUT!r}; update, or prepare them again"
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))
    return f"is damaged{f' ({where})' if where else ''}; copy it again, or remove it and prepare the shards again"


def _none_there(folder: Path) -> str:
    """Why a folder has no index, and the way out."""
    begun, there = begun_by(folder), chunks_there(folder)
    if begun is None:
        return f"data.root: {folder} holds no shards: it has no {INDEX}; write them with sweep data prepare FOLDER"
    return f"data.root: {folder} is half prepared ({plural(there, 'chunk')} there); go on with: {begun}"


def begun_by(folder: Path) -> str | None:
    """The command that goes on with half-prepared shards; none where nothing was begun."""
    try:
        with (folder / JOURNAL).open(encoding="utf-8") as journal:
            command = json.loads(journal.readline())["command"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(command)


def chunks_there(folder: Path) -> int:
    """How many chunks half-prepared shards have."""
    try:
        return max((folder / JOURNAL).read_bytes().count(b"\n") - 1, 0)
    except OSError:
        return 0


def read(folder: Path, checked: bool = True) -> Source:
    """The data set, its images mapped: what is read of them now is a few chunks, held against their hashes.

    Args:
        folder: of the shards.
        checked: false: no image is read, as for a plan.

    Raises:
        UserError: as `index`; or a file is missing, of another size, or not what was written.
    """
    found = index(folder)
    labels = [_labels(folder, found, split) for split in SPLITS]
    images = [_images(folder, found, split) for split in SPLITS]
    for split, array in zip(SPLITS, images, strict=True) if checked else ():
        every = chunks(split, found.part(split).images, found.chunk_images)
        places = {round(place) for place in np.linspace(0, len(every) - 1, CHECKED)}
        for chunk in (every[place] for place in sorted(places)):
            if is_other(array, chunk, found):
                raise UserError(f"data.root: {described(folder, chunk)} are not what was written; {_AGAIN}")
    moments = found.mean, found.std
    return Source(images[0], labels[0], images[1], labels[1], found.classes, found.fingerprint, *moments)


def described(folder: Path, chunk: Chunk) -> str:
    """Where a chunk's images are, in words."""
    return f"{images_path(folder, chunk.split)}: images {chunk.first} to {chunk.first + chunk.images - 1}"


def is_other(images: ByteArray, chunk: Chunk, found: Index) -> bool:
    """Whether a chunk is not what was written."""
    pixels = np.ascontiguousarray(images[chunk.first : chunk.first + chunk.images])
    return digest(pixels.data.cast("B")) != found.part(chunk.split).chunks[chunk.number]


def damaged(folder: Path) -> Iterator[tuple[Chunk, bool]]:
    """Every chunk, and whether it is damaged, one after another.

    Raises:
        UserError: as `read`.
    """
    found = index(folder)
    for split in SPLITS:
        _labels(folder, found, split)
    for split in SPLITS:
        images = _images(folder, found, split)
        for chunk in chunks(split, found.part(split).images, found.chunk_images):
            yield chunk, is_other(images, chunk, found)


def _images(folder: Path, found: Index, split: str) -> ByteArray:
    return _mapped(images_path(folder, split), (found.part(split).images, *found.shape), np.dtype(np.uint8))


def _labels(folder: Path, found: Index, split: str) -> LabelArray:
    path = labels_path(folder, split)
    labels = np.array(_mapped(path, (found.part(split).images,), np.dtype(np.int64)))
    if digest(labels.tobytes()) != found.part(split).labels:
        raise UserError(f"data.root: {path} is damaged: it is not what was written; {_AGAIN}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(found.classes):
        raise UserError(
            f"data.root: {path}: labels must be from 0 to {len(found.classes) - 1}, the classes of {INDEX}, got {low} "
            f"to {high}; write it again"
        )
    return labels


def _mapped(path: Path, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.memmap[Any, Any]:
    """An array in its file, of which nothing is read but the header."""
    try:
        size = os.path.getsize(path)
        with path.open("rb") as file:
            start = header_bytes(shape, dtype)
            same = file.read(len(start)) == start
    except OSError as error:
        raise UserError(f"data.root: {path} cannot be read ({error.strerror}); {_AGAIN}") from error
    whole = len(start) + int(np.prod(shape)) * dtype.itemsize
    if size != whole:
        raise UserError(f"data.root: {path} must have {whole:,} bytes, as its {INDEX} says, and has {size:,}; {_AGAIN}")
    if not same:
        raise UserError(f"data.root: {path} must hold {dtype} {shape}, as its {INDEX} says, and does not; {_AGAIN}")
    return np.memmap(path, dtype, "r", len(start), shape)


def header_bytes(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """What a .npy file of such an array begins with."""
    buffer = io.BytesIO()
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, described)
    return buffer.getvalue()
