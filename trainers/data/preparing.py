"""Writes shards from a folder of image files: in parallel, chunk by chunk, and on from where it was stopped.

A chunk counts as there once a line of chunks.jsonl names its files and its hash, and its bytes have that hash: so a
process may be killed, a disk be full or a machine go down at any moment, and nothing of what is there is trusted
unseen. Which process wrote a chunk, and when, leaves no trace: the files are the same to the byte.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trainers.data import moments, shards
from trainers.data.chunk import NAMED, Done, Work, done
from trainers.data.decoding import BadImage, cores, rgb
from trainers.data.image_folder import File, Listing, labels
from trainers.data.shards import INDEX, JOURNAL, SPLITS, Chunk, Index, Made, Part, chunks, digest, images_path
from trainers.errors import UserError
from trainers.fields import bytes_text, plural
from trainers.files import whole
from trainers.lock import locked

#: What a command that goes on with half-prepared shards must have as the one that began them.
_SAME = {"folder", "image_size", "cropped"}


class Asked(NamedTuple):
    """What is to be prepared, and how.

    Attributes:
        listed: the images.
        image_size: height and width that they are resized to, pixels; none: they have one size.
        cropped: see `decoding.rgb`.
        command: that goes on with it, for whoever finds it half prepared.
        mends: whether shards that are whole are held against their hashes, and mended; else they are taken as they are.
        resizes: what the user does to have images resized, in words.
    """

    listed: Listing
    image_size: int | None
    cropped: bool
    command: str
    mends: bool = True
    resizes: str = "give --size"


class Told(NamedTuple):
    """How far a preparation is."""

    images: int
    """That are there."""
    of: int
    kept: int
    """Of them, found there from before."""


def prepare(asked: Asked, folder: Path, pool: Executor, tell: Callable[[Told], None] = lambda told: None) -> Index:
    """Shards of a folder of images; what of them is there already is held against its hash, and kept.

    Args:
        asked: what, and how.
        folder: to write to; it may be there, empty or half prepared by the same command.
        pool: what decodes.
        tell: called after each chunk.

    Raises:
        UserError: an image cannot be taken, there is no room, or something else lies in the folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            if shards.exists(folder) and not asked.mends:  # by whoever held the lock
                return shards.index(folder)
            return _prepared(asked, folder, pool, tell)
    except BrokenProcessPool:
        raise UserError(
            f"{folder}: a process that decoded was killed, perhaps for want of memory; the same command goes on, with "
            "fewer processes if it happens again"
        ) from None
    except OSError as error:
        there = shards.chunks_there(folder)
        raise UserError(
            f"{error.filename or folder} cannot be written ({error.strerror}); the {plural(there, 'chunk')} that "
            "there are stay: the same command goes on with them"
        ) from error


def _prepared(asked: Asked, folder: Path, pool: Executor, tell: Callable[[Told], None]) -> Index:
    listed, shape = asked.listed, shape_of(asked.listed, asked.image_size)
    made, size = _made(asked), max(1, shards.CHUNK_BYTES // int(np.prod(shape)))
    known = _known(folder, made, size)
    if shards.begun_by(folder) is None:
        _begin(folder, asked, made)
    files = {"train": listed.train, "test": listed.test}
    for split in SPLITS:
        _lay_out(folder, split, files[split], listed, shape)
    _refuse_without_room(folder, files, shape)
    work = list(_work(asked, folder, files, shape, size, known))
    hashes, counts = _through(pool, work, folder, tell)
    parts = {split: _part(folder, split, len(files[split]), hashes[split]) for split in SPLITS}
    fingerprint = shards.fingerprint_of(listed.classes, shape, size, parts)
    if shards.exists(folder) and (there := shards.index(folder)).fingerprint == fingerprint:
        (folder / JOURNAL).unlink()
        return there
    mean, std = moments.of_counts(counts)
    found = Index(
        layout=shards.LAYOUT,
        fingerprint=fingerprint,
        classes=listed.classes,
        **dict(zip(("channels", "height", "width"), shape, strict=True)),
        mean=mean,
        std=std,
        chunk_images=size,
        **parts,
        made=made,
    )
    _write(folder / INDEX, found.model_dump_json(indent=1).encode() + b"\n")
    (folder / JOURNAL).unlink(missing_ok=True)
    return found


def shape_of(listed: Listing, image_size: int | None) -> tuple[int, int, int]:
    """(C, H, W) that all images are to have; where they are not resized, the first one's.

    Raises:
        UserError: that cannot be read.
    """
    if image_size is not None:
        return 3, image_size, image_size
    path = listed.root / listed.train[0].path
    try:
        height, width = rgb(path, None).shape[:2]
    except BadImage as error:
        raise UserError(f"{path} {error}") from None
    return 3, height, width


def _made(asked: Asked) -> Made:
    from PIL import __version__

    size, listed = asked.image_size, asked.listed
    if size is None:
        resize = "none: images have one size"
    elif asked.cropped:
        resize = f"shorter side to {size}, then the middle {size} x {size}; bilinear, averaging where it makes smaller"
    else:
        resize = f"both sides to {size}; bilinear, averaging where it makes smaller"
    names = [(file.name, file.size) for file in listed.train + listed.test]
    return Made(
        folder=str(listed.root),
        test=listed.test[0].name.partition("/")[0],
        image_size=size,
        resize=resize,
        cropped=asked.cropped,
        listing=digest(repr(names).encode("utf-8", "surrogateescape")),
        pillow=__version__,
    )


#: Of a chunk that is there: what it was made of (None: of the same files as ever), and its hash.
_Known = Mapping[tuple[str, int], tuple[str | None, str]]


def _known(folder: Path, made: Made, size: int) -> _Known:
    """The chunks that are there.

    Raises:
        UserError: something else is.
    """
    if not shards.exists(folder):
        return _of_journal(folder, made)
    there = shards.index(folder)
    if there.made.model_copy(update={"pillow": made.pillow, "folder": made.folder}) != made:
        raise UserError(
            f"{folder} holds shards of other images, or of another size ({there.made.folder}, "
            f"{there.height} x {there.width}); give another folder to write to, or remove that one"
        )
    if there.chunk_images != size:  # of a version that cut them elsewhere
        return {}
    return {(split, place): (None, one) for split in SPLITS for place, one in enumerate(there.part(split).chunks)}


def _of_journal(folder: Path, made: Made) -> _Known:
    command = shards.begun_by(folder)
    if command is None:
        if others := sorted(one.name for one in folder.iterdir() if one.name != "lock" and one.name[0] != "."):
            raise UserError(f"{folder} is not empty ({others[0]}); give another folder to write to")
        return {}
    first, *lines = (folder / JOURNAL).read_text(encoding="utf-8", errors="replace").splitlines()
    if not lines:  # nothing is lost
        (folder / JOURNAL).unlink()
        return {}
    if {**json.loads(first), **made.model_dump(include=_SAME)} != json.loads(first):
        raise UserError(
            f"{folder} is half prepared by another command: {command}; go on with that, give another folder to write "
            "to, or remove that one"
        )
    known = {}
    for line in lines:
        with suppress(ValueError):  # the last, torn as the process was killed
            split, number, key, found = json.loads(line)
            known[split, number] = key, found
    return known


def _begin(folder: Path, asked: Asked, made: Made) -> None:
    first = made.model_dump(include=_SAME) | {"command": asked.command}
    _write(folder / JOURNAL, json.dumps(first).encode() + b"\n")


def _write(path: Path, content: bytes) -> None:
    with whole(path) as part:
        part.write_bytes(content)
        part.chmod(0o644)  # whoever shares the folder may read it, whatever the umask


def _lay_out(folder: Path, split: str, files: Sequence[File], listed: Listing, shape: tuple[int, ...]) -> None:
    """A split's labels, and the file of its images, of its full length, with nothing in it yet but its header."""
    own = labels(tuple(files), listed)
    labels_path = shards.labels_path(folder, split)
    content = shards.header_bytes(own.shape, own.dtype) + own.tobytes()
    if not labels_path.exists() or labels_path.read_bytes() != content:
        _write(labels_path, content)
    header = shards.header_bytes((len(files), *shape), np.dtype(np.uint8))
    path = images_path(folder, split)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        os.pwrite(descriptor, header, 0)
        os.truncate(descriptor, len(header) + len(files) * int(np.prod(shape)))
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        os.close(descriptor)


def _refuse_without_room(folder: Path, files: Mapping[str, Sequence[File]], shape: tuple[int, ...]) -> None:
    wanted = sum(map(len, files.values())) * int(np.prod(shape))
    there = sum(images_path(folder, split).stat().st_blocks * 512 for split in SPLITS)
    free = shutil.disk_usage(folder).free
    if wanted - there > free:
        raise UserError(
            f"{folder}: {bytes_text(wanted - there)} more are needed there, and {bytes_text(free)} are free; make "
            "room, or write to another disk"
        )


def _work(
    asked: Asked,
    folder: Path,
    files: Mapping[str, Sequence[File]],
    shape: tuple[int, int, int],
    size: int,
    known: _Known,
) -> Iterator[Work]:
    for split in SPLITS:
        start = len(shards.header_bytes((len(files[split]), *shape), np.dtype(np.uint8)))
        for chunk in chunks(split, len(files[split]), size):
            own = tuple(files[split][chunk.first : chunk.first + chunk.images])
            key, found = known.get((split, chunk.number), ("", ""))
            yield Work(
                chunk=chunk,
                root=asked.listed.root,
                files=own,
                path=images_path(folder, split),
                offset=start + chunk.first * int(np.prod(shape)),
                shape=shape,
                image_size=asked.image_size,
                cropped=asked.cropped,
                resizes=asked.resizes,
                known=found if key in (None, _key(own)) else None,
            )


def _key(files: Iterable[File]) -> str:
    """What tells whether files are still those that a chunk was made of."""
    content = repr([(file.name, file.size, file.modified_ns) for file in files])
    return hashlib.sha256(content.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _through(
    pool: Executor, work: Sequence[Work], folder: Path, tell: Callable[[Told], None]
) -> tuple[dict[str, list[str]], moments.Counts]:
    """Has all chunks done; gives their hashes, and how many training pixels have each value, (C, 256)."""
    hashes = {split: [""] * sum(one.chunk.split == split for one in work) for split in SPLITS}
    counts = np.zeros((work[0].shape[0], 256), np.int64)
    bad, bad_images, images, kept = dict[Chunk, tuple[str, ...]](), 0, 0, 0
    total = sum(one.chunk.images for one in work)
    torn = not (folder / JOURNAL).read_bytes().endswith(b"\n")
    with (folder / JOURNAL).open("a", encoding="utf-8") as journal:
        journal.write("\n" if torn else "")
        for one, result in _results(pool, work):
            if result.bad:
                bad[result.chunk] = result.bad
                bad_images += result.bad_images
                continue
            hashes[result.chunk.split][result.chunk.number] = result.hash
            counts += 0 if result.counts is None else result.counts
            if not result.kept:
                journal.write(
                    json.dumps([result.chunk.split, result.chunk.number, _key(one.files), result.hash]) + "\n"
                )
                journal.flush()
            images += result.chunk.images
            kept += result.chunk.images if result.kept else 0
            tell(Told(images, total, kept))
    if bad:
        named = [text for one in work for text in bad.get(one.chunk, ())]
        raise UserError.of(_bad_texts(named[:NAMED], bad_images))
    return hashes, counts


def _bad_texts(bad: Sequence[str], count: int) -> list[str]:
    if count == 1:
        return [f"{bad[0]}; then the same command goes on"]
    more = [f"and {count - len(bad):,} more"] if count > len(bad) else []
    return [f"{count:,} images cannot be taken; once they are mended the same command goes on:", *bad, *more]


def _results(pool: Executor, work: Sequence[Work]) -> Iterator[tuple[Work, Done]]:
    """Each chunk as it is done; only so many wait in the pool as keep it busy."""
    left = iter(work)
    running: dict[Future[Done], Work] = {}
    try:
        while True:
            for one in left:
                running[pool.submit(done, one)] = one
                if len(running) >= 2 * cores() + 2:
                    break
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(future), future.result()
    finally:
        for future in running:
            future.cancel()
        wait(running)  # nobody writes once the lock is given back


def _part(folder: Path, split: str, images: int, hashes: Sequence[str]) -> Part:
    """A split whose files are on the disk, which its index will say."""
    for path in (images_path(folder, split), labels_path := shards.labels_path(folder, split)):
        with path.open("rb+") as file:
            os.fsync(file.fileno())
    start = len(shards.header_bytes((images,), np.dtype(np.int64)))
    return Part(images=images, labels=digest(labels_path.read_bytes()[start:]), chunks=tuple(hashes))
