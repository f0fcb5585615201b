"""A folder of image files: train/CLASS/... and test/CLASS/..., decoded once and kept as one array file.

Where there is no test/, or no class in it, val/CLASS/... is the test set: so ImageNet is unpacked.

The array file is named by the hash of the folder's content, and lies in ROOT/.robustsweep; or, where that
cannot be written, in the user's cache folder. Beside it lies the index, which spares reading every file
again: it holds the content's hash next to that of the files' names, sizes and times.

An image is read upright, as its EXIF orientation says. One that is turned so counts as other content than its bytes
alone: arrays and trials of code that read it lying on its side are not taken for those of this.

Another layout of the same kind gives a `Listing` of its own to `fingerprint` and `read`.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from trainers.data.archives import ByteArray, LabelArray, Source
from trainers.data.decoding import BadImage, cores, is_turned, rgb
from trainers.errors import Absent, UserError
from trainers.files import whole
from trainers.lock import locked

SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
CHUNK = 500  # files that a thread takes at once
#: Bytes of files from which on a folder is known by a sample of them: all names and sizes, and the bytes of so many.
SAMPLED_FROM, SAMPLE = 16 * 2**30, 1000
SAMPLED = "sampled-"  # what such a folder's fingerprint says
#: What a file holds that may say how it is turned, EXIF or XMP, in JPEG, PNG and WebP; TIFFs begin with two letters.
TURNING = (b"Exif", b"exif", b"eXIf", b"EXIF", b"/xap/", b"adobe.xmp", b"XMP ")


class File(NamedTuple):
    """An image file as the folder lists it.

    Attributes:
        name: SPLIT/CLASS/..., which gives the image its place, its label and its share of the fingerprint; two
            layouts that give the same names to the same bytes are the same data.
        path: where it is, relative to the root, with forward slashes.
        size: bytes.
        modified_ns, changed_ns: times, nanoseconds.
    """

    name: str
    path: str
    size: int
    modified_ns: int
    changed_ns: int


class Listing(NamedTuple):
    """The images under a root, by class and name; and the class names, sorted: a class's number is its place there.

    Attributes:
        layout: `data.name`; the fingerprint begins with it.
    """

    layout: str
    root: Path
    classes: tuple[str, ...]
    train: tuple[File, ...]
    test: tuple[File, ...]

    @property
    def cropped(self) -> bool:
        """Whether images keep their ratio where they are resized, and lose what is beside the middle."""
        return self.layout in ("imagenet", "imagenet_extra")


def read(listed: Listing, image_size: int | None) -> Source:
    """All images as RGB: from the array file if there is one, else decoded and the array file written.

    Args:
        image_size: resize to this height and width in pixels; none: all images have one size already.

    Raises:
        UserError: an image cannot be read or has another size.
    """
    content = fingerprint(listed)
    train, test = _arrays(listed, image_size, content + (f"-{image_size}" if image_size else "") + ".npz")
    return Source(
        train,
        labels(listed.train, listed),
        test,
        labels(listed.test, listed),
        listed.classes,
        fingerprint=content,
    )


def imagenet(root: Path) -> Listing:
    """ImageNet as unpacked: train/CLASS/*.JPEG, val/CLASS/*.JPEG. Raises as `listing`."""
    return listing(root)._replace(layout="imagenet")


def listing(root: Path) -> Listing:
    """What lies under `root`: every class once in train/ and in test/, and at least one image in each.

    Raises:
        UserError: the root, a split, a class or its images are missing, or cannot be listed.
    """
    with listable():
        test = _test_folder(root)
        classes = class_names(root, test, "it must hold train/ and test/ (or val/), each with one folder a class")
        check_same_classes(root, classes, f"{test}/", folders(root / test))
        return Listing("image_folder", root, classes, images(root, "train", classes), images(root, test, classes))


def _test_folder(root: Path) -> str:
    """test; but val where test/ has no classes and val/ does, as in ImageNet."""
    there = {name for name in ("test", "val") if (root / name).is_dir() and folders(root / name)}
    return "val" if there == {"val"} else "test"


@contextmanager
def listable() -> Iterator[None]:
    """A folder or file that cannot be read is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(f"data.root: {error.filename} cannot be read ({error.strerror})") from error


def class_names(root: Path, test: str, layout: str) -> tuple[str, ...]:
    """The folders in train/, sorted; the folder `test` must be there too. `layout` says what the root must hold."""
    if not root.is_dir():
        raise (UserError if root.exists() else Absent)(f"data.root: {root} is not a folder; {layout}")
    for split in ("train", test):
        if not (root / split).is_dir():
            raise UserError(f"data.root: {root} has no folder {split}; {layout}")
    classes = folders(root / "train")
    if not classes:
        raise UserError(f"data.root: {root / 'train'} has no folders; {layout}")
    return classes


def check_same_classes(root: Path, classes: tuple[str, ...], where: str, others: Iterable[str]) -> None:
    """The classes of train/ are those `others` in `where`."""
    if differing := sorted(set(classes).symmetric_difference(others)):
        raise UserError(
            f"data.root: {root}: train/ and {where} must have the same classes, but "
            f"{differing[0]!r} is only in {'train/' if differing[0] in classes else where}"
        )


def folders(folder: Path) -> tuple[str, ...]:
    """The names of the folders in it, sorted, without hidden ones."""
    with os.scandir(folder) as entries:
        return tuple(sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith(".")))


def images(root: Path, split: str, classes: tuple[str, ...]) -> tuple[File, ...]:
    """The images of SPLIT/CLASS/, at any depth, by class and path."""
    files: list[File] = []
    for name in classes:
        before = len(files)
        files += sorted(walk(root, f"{split}/{name}"))
        if len(files) == before:
            raise UserError(f"data.root: {root / split / name} holds no images ({' '.join(SUFFIXES)})")
    return tuple(files)


def walk(root: Path, folder: str) -> Iterator[File]:
    """The images of a folder, at any depth and in any order; their names are their paths."""
    with os.scandir(f"{root}/{folder}") as entries:
        for entry in entries:
            path = f"{folder}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                yield from walk(root, path)
            elif entry.name.lower().endswith(SUFFIXES):
                status = entry.stat()
                yield File(path, path, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def labels(files: tuple[File, ...], listed: Listing) -> LabelArray:
    """Their class numbers, (N,)."""
    number = {name: place for place, name in enumerate(listed.classes)}
    return np.array([number[file.name.split("/")[1]] for file in files], np.int64)


def fingerprint(listed: Listing) -> str:
    """Hash of the names and bytes of all images: a copied or moved folder keeps it.

    Of a folder of `SAMPLED_FROM` bytes and more it is that of all names and sizes, and of the bytes of `SAMPLE` images,
    those of the first names by their own hash; and it says so.

    Raises:
        UserError: an image cannot be read.
    """
    signature = hashlib.sha256(f"upright {listed!r}".encode("utf-8", "surrogateescape")).hexdigest()
    for folder in cache_folders(listed.root):
        if (known := _index(folder).get(str(listed.root))) and known[0] == signature:
            return known[1]
    folder = writable(listed.root)
    with locked(folder / "lock"):
        index = _index(folder)
        if (known := index.get(str(listed.root))) is None or known[0] != signature:
            known = index[str(listed.root)] = (signature, _content(listed))
            text = json.dumps(index).encode()
            _write_whole(folder / "index.json", lambda file: file.write(text))
    return known[1]


def _index(folder: Path) -> dict[str, tuple[str, str]]:
    """Signature and fingerprint of each root that was hashed before; a damaged index is as good as none."""
    try:
        read = json.loads((folder / "index.json").read_bytes())
        return {root: (signature, content) for root, (signature, content) in read.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _content(listed: Listing) -> str:
    files = listed.train + listed.test
    total = hashlib.sha256()
    sampled = sum(file.size for file in files) >= SAMPLED_FROM
    if sampled:
        total.update(repr([(file.name, file.size) for file in files]).encode("utf-8", "surrogateescape"))
        files = tuple(sorted(files, key=lambda file: hashlib.sha256(os.fsencode(file.name)).digest())[:SAMPLE])

    def digests(start: int) -> list[bytes]:
        return [_digest(listed.root / file.path) for file in files[start : start + CHUNK]]

    with ThreadPoolExecutor(cores()) as pool:
        for start, chunk in zip(_starts(files), pool.map(digests, _starts(files)), strict=True):
            for file, digest in zip(files[start:], chunk, strict=False):
                total.update(os.fsencode(file.name) + b"\0" + digest)
    return f"{listed.layout}-{SAMPLED if sampled else ''}{total.hexdigest()[:16]}"


def _digest(path: Path) -> bytes:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"data.root: {path} cannot be read ({error.strerror})") from error
    return hashlib.sha256(content).digest() + (b"\0turned" if _says_turned(content) else b"")


def _says_turned(content: bytes) -> bool:
    """Whether the image's EXIF turns it; most have none, and are not opened to see that."""
    from PIL import Image

    if content[:2] not in (b"II", b"MM") and not any(mark in content for mark in TURNING):
        return False
    try:
        with Image.open(io.BytesIO(content)) as image:
            return is_turned(image)
    except Exception:  # no readable image, which decoding it tells
        return False


def _arrays(listed: Listing, image_size: int | None, name: str) -> tuple[ByteArray, ByteArray]:
    for folder in cache_folders(listed.root):
        if (kept := _kept(folder / name)) is not None:
            return kept
    folder = writable(listed.root)
    with locked(folder / "lock"):
        if (kept := _kept(folder / name)) is not None:  # another process was first
            return kept
        images = _decoded(listed, image_size)
        train, test = images[: len(listed.train)], images[len(listed.train) :]
        _write_whole(folder / name, lambda file: np.savez(file, train=train, test=test))
        return train, test


def _kept(path: Path) -> tuple[ByteArray, ByteArray] | None:
    """The arrays in the file; none if it is not there or damaged."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return arrays["train"], arrays["test"]
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None


def _decoded(listed: Listing, image_size: int | None) -> ByteArray:
    """(N, 3, H, W): the training images, then the test images."""
    files = listed.train + listed.test
    first = _rgb(listed.root / files[0].path, image_size, listed.cropped)
    images = np.empty((len(files), 3, *first.shape[:2]), np.uint8)

    def decode(start: int) -> None:
        for place, file in enumerate(files[start : start + CHUNK], start):
            image = _rgb(listed.root / file.path, image_size, listed.cropped)
            if image.shape != first.shape:
                raise UserError(
                    f"data.image_size: images must have one size, but {listed.root / files[0].path} is "
                    f"{first.shape[0]} x {first.shape[1]} and {listed.root / file.path} is "
                    f"{image.shape[0]} x {image.shape[1]} pixels; set data.image_size to resize them"
                )
            images[place] = image.transpose(2, 0, 1)

    with ThreadPoolExecutor(cores()) as pool:
        for _ in pool.map(decode, _starts(files)):
            pass  # a failure in a thread is raised here
    return images


def _rgb(path: Path, image_size: int | None, cropped: bool) -> ByteArray:
    try:
        return rgb(path, image_size, cropped)
    except BadImage as error:
        raise UserError(f"data.root: {path} {error}") from error


def cache_folders(root: Path) -> tuple[Path, Path]:
    """Where decoded images of a root may be kept: beside them, and in the user's cache folder."""
    personal = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return root / ".robustsweep", Path(personal) / "robustsweep"


def writable(root: Path) -> Path:
    """The first of the cache folders that can be written."""
    folders = cache_folders(root)
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError:
            continue
        return folder
    raise UserError(
        f"data.root: decoded images can be kept neither in {folders[0]} nor in {folders[1]}; "
        "make one of them writable, or set XDG_CACHE_HOME"
    )


def _write_whole(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    try:
        with whole(path) as part, part.open("wb") as file:
            write(file)
            os.fchmod(file.fileno(), 0o644)  # whoever shares the folder may read it, whatever the umask
    except OSError as error:
        raise UserError(f"data.root: {path} cannot be written ({error.strerror})") from error


def _starts(files: tuple[File, ...]) -> range:
    return range(0, len(files), CHUNK)
