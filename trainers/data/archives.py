"""Published data sets: scikit-learn's digits, and the archives that torchvision knows."""

from __future__ import annotations

import hashlib
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from trainers.errors import Absent, UserError
from trainers.lock import locked

if TYPE_CHECKING:
    from trainers.data.image_folder import Listing

ByteArray = np.ndarray[tuple[int, ...], np.dtype[np.uint8]]
LabelArray = np.ndarray[tuple[int, ...], np.dtype[np.int64]]
Channels = tuple[float, ...]


class Source(NamedTuple):
    """A whole data set in memory, before any split or selection.

    Attributes:
        train_images, test_images: (N, C, H, W) uint8.
        train_labels, test_labels: (N,) int64.
        classes: names, by class number.
        mean, std: published constants of each channel in [0, 1] units; none: to be measured.
        listed: files that are decoded whenever they are read; for images stand zeros.
    """

    train_images: ByteArray
    train_labels: LabelArray
    test_images: ByteArray
    test_labels: LabelArray
    classes: tuple[str, ...]
    fingerprint: str
    mean: Channels | None = None
    std: Channels | None = None
    listed: Listing | None = None


class Archive(NamedTuple):
    """A data set that torchvision fetches and unpacks; `dataset` is its class there."""

    dataset: str
    unpacked: str
    packed: str | None
    mean: Channels
    std: Channels


ARCHIVES = {
    # mean and std: [DEAT, code]
    "cifar10": Archive(
        "CIFAR10",
        "cifar-10-batches-py",
        "cifar-10-python.tar.gz",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2471, 0.2435, 0.2616),
    ),
    # of the training pixels, as in GitHub weiaicunzai/pytorch-cifar100, conf/global_settings.py
    "cifar100": Archive(
        "CIFAR100",
        "cifar-100-python",
        "cifar-100-python.tar.gz",
        mean=(0.5071, 0.4865, 0.4409),
        std=(0.2673, 0.2564, 0.2762),
    ),
    # of the training pixels, without the extra set; in common use, first publication unknown
    "svhn": Archive(
        "SVHN",
        "train_32x32.mat and test_32x32.mat",
        None,
        mean=(0.4377, 0.4438, 0.4728),
        std=(0.1980, 0.2010, 0.1970),
    ),
}


def digits() -> Source:
    """1,797 handwritten digits of 8 x 8 pixels, grey, 17 levels; the last 360 are the test set.

    They lie in the order of writing, so that most writers of the test set are not in the training set. The file is
    scikit-learn's own, read without importing it, which would take each process of a sweep a second.
    """
    file = distribution("scikit-learn").locate_file("sklearn/datasets/data/digits.csv.gz")
    table = np.loadtxt(str(file), delimiter=",")
    images = np.rint(table[:, :-1] * (255 / 16)).astype(np.uint8).reshape(-1, 1, 8, 8)
    labels = table[:, -1].astype(np.int64)
    content = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    return Source(
        images[:1437],
        labels[:1437],
        images[1437:],
        labels[1437:],
        classes=tuple(str(digit) for digit in range(10)),
        fingerprint=f"digits-{content[:16]}",
    )


def archive_fingerprint(name: str, root: Path, download: bool) -> str:
    """The name and the archive's published MD5, once its files in `root` are seen to be the published ones.

    Raises:
        UserError: files are missing or damaged, and cannot be fetched.
    """
    dataset = _dataset(name)
    _ensure(name, dataset, root, download)
    return published_fingerprint(name)


def published_fingerprint(name: str) -> str:
    """The fingerprint of the published files, whether they are here or not."""
    dataset = _dataset(name)
    if name == "svhn":  # two files, no archive
        return "svhn-" + "".join(dataset.split_list[split][2][:8] for split in ("train", "test"))
    return f"{name}-{dataset.tgz_md5[:16]}"


def archive(name: str, root: Path, download: bool) -> Source:
    """The data set `name` of `ARCHIVES`, read by torchvision from `root`.

    Raises:
        UserError: files are missing or damaged, and cannot be fetched.
    """
    fingerprint, dataset = archive_fingerprint(name, root, download), _dataset(name)
    if name == "svhn":
        train, test = dataset(root, split="train"), dataset(root, split="test")
        # torchvision only turns the axes of an array whose last is the image: each image's pixels would lie far apart
        arrays = np.ascontiguousarray(train.data), train.labels, np.ascontiguousarray(test.data), test.labels
        classes = tuple(str(digit) for digit in range(10))
    else:
        train, test = dataset(root, train=True), dataset(root, train=False)
        arrays = _channels_first(train.data), train.targets, _channels_first(test.data), test.targets
        classes = tuple(train.classes)
    return Source(
        arrays[0],
        np.asarray(arrays[1], np.int64),
        arrays[2],
        np.asarray(arrays[3], np.int64),
        classes=classes,
        fingerprint=fingerprint,
        mean=ARCHIVES[name].mean,
        std=ARCHIVES[name].std,
    )


def _channels_first(images: ByteArray) -> ByteArray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _dataset(name: str) -> Any:
    import torchvision.datasets

    return getattr(torchvision.datasets, ARCHIVES[name].dataset)


def _published(dataset: Any, root: Path) -> list[tuple[Path, str]]:
    """The files that must be in `root`, each with its published MD5."""
    if hasattr(dataset, "split_list"):
        return [(root / dataset.split_list[split][1], dataset.split_list[split][2]) for split in ("train", "test")]
    meta = (dataset.meta["filename"], dataset.meta["md5"])
    return [(root / dataset.base_folder / file, md5) for file, md5 in (*dataset.train_list, *dataset.test_list, meta)]


def _ensure(name: str, dataset: Any, root: Path, download: bool) -> None:
    problem = _problem(name, dataset, root)
    if problem is None:
        return
    if not download:
        there = any(file.exists() for file, _ in _published(dataset, root))
        raise UserError(problem) if there else Absent(problem)
    try:
        root.mkdir(parents=True, exist_ok=True)
        with locked(root / f".{name}.lock"):
            if _problem(name, dataset, root) is not None:
                _download(name, dataset, root)
    except (OSError, RuntimeError) as error:  # no network, no space; or what came has another checksum
        reason = str(error).partition("\n")[0]
        raise Absent(
            f"data.download: {name} cannot be fetched into {root} ({reason}); put {_wanted(name, 'there by hand')}"
        ) from error


def _download(name: str, dataset: Any, root: Path) -> None:
    if name == "svhn":
        for split in ("train", "test"):
            dataset(root, split=split, download=True)
    else:
        dataset(root, download=True)


def _problem(name: str, dataset: Any, root: Path) -> str | None:
    """What is wrong with the files in `root`, and the way out; none if nothing is."""
    from torchvision.datasets.utils import check_integrity

    published = _published(dataset, root)
    if not any(file.exists() for file, _ in published):
        return f"data.root: {name} is not in {root}; put {_wanted(name, 'there')}, or set data.download: true"
    for file, md5 in published:
        if not check_integrity(file, md5):
            state = "damaged: its MD5 is not the published one" if file.exists() else "missing"
            way_out = f"put {_wanted(name, 'there again')}, or set data.download: true"
            return f"data.root: {file} is {state}; {way_out}"
    return None


def _wanted(name: str, where: str) -> str:
    archive = ARCHIVES[name]
    return f"{archive.unpacked} {where}" + (f" (from {archive.packed})" if archive.packed else "")
