"""Tiny-ImageNet-200 as unpacked: 200 classes of 64 x 64 pixels; its val/ is the test set, as test/ has no labels.

    train/CLASS/images/*.JPEG     500 a class; the boxes beside them are not read
    val/images/*.JPEG             50 a class, their classes in val/val_annotations.txt: file, class, box
    wnids.txt                     the classes; may be missing

A val/ whose images were sorted into val/CLASS/ is the same data, and has the same fingerprint.

Source: Le, Yang, "Tiny ImageNet Visual Recognition Challenge", Stanford CS 231N, 2015.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from trainers.data.image_folder import File, Listing, check_same_classes, class_names, folders, images, listable, walk
from trainers.errors import UserError

LAYOUT = "it must hold train/ and val/, as in tiny-imagenet-200.zip"
WAY_OUT = "unpack tiny-imagenet-200.zip again"


def listing(root: Path) -> Listing:
    """The images under `root`, by class and file name: the classes are the folders in train/.

    Raises:
        UserError: a folder, an annotation or its image is missing, a class is unknown, or something cannot be read.
    """
    with listable():
        classes = class_names(root, "val", LAYOUT)
        if (known := root / "wnids.txt").exists():
            check_same_classes(root, classes, "wnids.txt", known.read_text("utf-8", "replace").split())
        train = _named((file, file.path.split("/")[1]) for file in images(root, "train", classes))
        return Listing("tiny_imagenet", root, classes, train, _test(root, classes))


def _test(root: Path, classes: tuple[str, ...]) -> tuple[File, ...]:
    """The images of val/, still in one folder or sorted into a folder for each class."""
    annotated = tuple(walk(root, "val/images")) if (root / "val" / "images").is_dir() else ()
    if annotated:
        return _annotated(root, classes, annotated)
    if not any((root / "val" / name).is_dir() for name in classes):
        raise UserError(
            f"data.root: {root / 'val'} has images neither in images/ nor in a folder for each class; {WAY_OUT}"
        )
    in_val = [name for name in folders(root / "val") if name != "images"]
    check_same_classes(root, classes, "val/", in_val)
    return _named((file, file.path.split("/")[1]) for file in images(root, "val", classes))


def _annotated(root: Path, classes: tuple[str, ...], files: tuple[File, ...]) -> tuple[File, ...]:
    path = root / "val" / "val_annotations.txt"
    if not path.exists():
        raise UserError(f"data.root: {path} is missing: it must name the class of each image in val/images; {WAY_OUT}")
    labels = _labels(path, classes, {file.path.rpartition("/")[2] for file in files})
    for file in sorted(files):
        if file.path.rpartition("/")[2] not in labels:
            raise UserError(f"data.root: {root / file.path} has no line in {path}; remove it, or {WAY_OUT}")
    check_same_classes(root, classes, "val/", labels.values())
    return _named((file, labels[file.path.rpartition("/")[2]]) for file in files)


def _labels(path: Path, classes: tuple[str, ...], there: set[str]) -> dict[str, str]:
    """The class of each file name, as annotated."""
    labels: dict[str, str] = {}
    for number, line in enumerate(path.read_text("utf-8", "surrogateescape").split("\n"), 1):
        if not line.strip():
            continue
        name, _, rest = line.partition("\t")
        label = rest.partition("\t")[0].strip()
        if label not in classes:
            raise UserError(f"data.root: {path}:{number}: class {label!r} of {name} has no folder in train/; {WAY_OUT}")
        if name not in there:
            raise UserError(f"data.root: {path}:{number}: {name} is not in {path.parent / 'images'}; {WAY_OUT}")
        if labels.setdefault(name, label) != label:
            raise UserError(f"data.root: {path}:{number}: {name} is of {label}, but was of {labels[name]}; {WAY_OUT}")
    return labels


def _named(files: Iterable[tuple[File, str]]) -> tuple[File, ...]:
    """The files, each with its class, named SPLIT/CLASS/FILE whatever folders they lie in, by class and name."""
    labelled = [(label, file._replace(name=_name(file.path, label))) for file, label in files]
    return tuple(file for _, file in sorted(labelled))


def _name(path: str, label: str) -> str:
    return f"{path.partition('/')[0]}/{label}/{path.rpartition('/')[2]}"
