from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
import torch

from trainers.config import DataConfig
from trainers.data import sets, sources
from trainers.errors import UserError

CPU = torch.device("cpu")


# Missing, damaged or offline


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("cifar10", "cifar-10-batches-py there (from cifar-10-python.tar.gz)"),
        ("cifar100", "cifar-100-python there (from cifar-100-python.tar.gz)"),
        ("svhn", "train_32x32.mat and test_32x32.mat there"),
    ],
)
def test_a_missing_data_set_says_what_to_put_where(name: str, wanted: str, tmp_path: Path) -> None:
    config = DataConfig.model_validate({"name": name, "root": str(tmp_path)})
    for act in (sources.fingerprint, lambda config: sets.load(config, CPU)):
        with pytest.raises(UserError) as error:
            act(config)
        assert str(error.value) == (f"data.root: {name} is not in {tmp_path}; put {wanted}, or set data.download: true")


def test_without_a_root_the_data_are_looked_for_in_data_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f"cifar10 is not in {tmp_path}/data; "):
        sources.fingerprint(DataConfig())


def test_a_download_that_fails_says_why_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    def offline(self: CIFAR10) -> None:
        raise URLError("Name or service not known")

    monkeypatch.setattr(CIFAR10, "download", offline)
    with pytest.raises(UserError) as error:
        sources.fingerprint(DataConfig(name="cifar10", root=str(tmp_path / "new"), download=True))
    assert str(error.value) == (
        f"data.download: cifar10 cannot be fetched into {tmp_path}/new "
        "(<urlopen error Name or service not known>); "
        "put cifar-10-batches-py there by hand (from cifar-10-python.tar.gz)"
    )


def test_a_damaged_or_incomplete_archive_names_the_file(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    (folder / "data_batch_1").write_bytes(b"half a")
    config = DataConfig(name="cifar10", root=str(tmp_path))
    again = "put cifar-10-batches-py there again (from cifar-10-python.tar.gz), or set data.download: true"
    with pytest.raises(UserError) as error:
        sources.fingerprint(config)
    damaged = "damaged: its MD5 is not the published one"
    assert str(error.value) == f"data.root: {folder}/data_batch_1 is {damaged}; {again}"
    (folder / "data_batch_1").rename(folder / "data_batch_2")
    with pytest.raises(UserError) as error:
        sources.fingerprint(config)
    assert str(error.value) == f"data.root: {folder}/data_batch_1 is missing; {again}"


# Small archives that stand in for the published ones


def md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def cifar(kind: Any, files: list[str], labels: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four random images a file, of the classes b, a, a, b, as `kind` of torchvision unpacks them, and its MD5s."""
    folder, random = root / kind.base_folder, np.random.RandomState(0)
    folder.mkdir()
    for name in files:
        batch = {"data": random.randint(0, 256, (4, 3072), dtype=np.uint8), labels: [1, 0, 0, 1]}
        (folder / name).write_bytes(pickle.dumps(batch | {"coarse_labels": [9, 9, 9, 9]}))
    (folder / kind.meta["filename"]).write_bytes(pickle.dumps({kind.meta["key"]: ["a", "b"]}))
    sums = [[name, md5(folder / name)] for name in files]
    monkeypatch.setattr(kind, "train_list", sums[:-1])
    monkeypatch.setattr(kind, "test_list", sums[-1:])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5(folder / kind.meta["filename"])})


def cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR10

    names = [name for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list)]
    cifar(CIFAR10, names, "labels", root, monkeypatch)


def cifar100(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CIFAR100

    cifar(CIFAR100, ["train", "test"], "fine_labels", root, monkeypatch)


def svhn(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty random images a split, of the classes 10, which stands for 0, 9, 8 ... 1, twice."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN

    random, sums = np.random.RandomState(0), {}
    for split in ("train", "test"):
        file = root / f"{split}_32x32.mat"
        pixels = random.randint(0, 256, (32, 32, 3, 20), dtype=np.uint8)
        savemat(file, {"X": pixels, "y": np.arange(20, dtype=np.uint8)[::-1, None] % 10 + 1})
        sums[split] = ["", file.name, md5(file)]
    monkeypatch.setattr(SVHN, "split_list", sums)


ARCHIVES: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "cifar10": cifar10,
    "cifar100": cifar100,
    "svhn": svhn,
}

each_archive = pytest.mark.parametrize("name", ARCHIVES)


def stand_in(name: str, root: Path, monkeypatch: pytest.MonkeyPatch, **more: Any) -> DataConfig:
    ARCHIVES[name](root, monkeypatch)
    return DataConfig.model_validate({"name": name, "root": str(root), "validation_fraction": 0, **more})


def torchvisions(name: str, root: Path, train: bool) -> list[tuple[Any, int]]:
    """Each image (H, W, C) and its class, one by one as torchvision's data set gives them."""
    from torchvision import datasets

    if name == "svhn":
        found = datasets.SVHN(str(root), split="train" if train else "test")
    else:
        found = getattr(datasets, name.upper())(str(root), train=train)
    return [(np.asarray(image), label) for image, label in found]


@each_archive
def test_images_and_labels_are_those_of_torchvision_channels_first(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = sets.load(stand_in(name, tmp_path, monkeypatch), CPU)
    for split, train in ((loaded.train, True), (loaded.test, False)):
        images, labels = zip(*torchvisions(name, tmp_path, train), strict=True)
        assert np.array_equal(split.images.permute(0, 2, 3, 1).numpy(), np.stack(images))
        assert split.labels.tolist() == list(labels)
        assert split.images.is_contiguous()


@each_archive
def test_the_first_images_of_each_class_can_be_taken(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stand_in(name, tmp_path, monkeypatch)
    whole = sets.load(config, CPU)
    few = sets.load(config.model_copy(update={"train_per_class": 2, "test_per_class": 1}), CPU)
    for split, taken, count in ((whole.train, few.train, 2), (whole.test, few.test, 1)):
        first = [(split.labels == label).nonzero()[:count, 0] for label in range(whole.num_classes)]
        places = torch.cat(first).sort().values
        assert torch.equal(taken.images, split.images[places])
        assert torch.equal(taken.labels, split.labels[places])


@pytest.mark.parametrize(
    ("name", "classes", "mean", "std"),
    [
        ("cifar10", 2, (0.4914, 0.4822, 0.4465), (0.2471, 0.2435, 0.2616)),
        ("cifar100", 2, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
        ("svhn", 10, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970)),
    ],
)
def test_classes_are_the_archives_and_mean_and_std_the_published(
    name: str, classes: int, mean: Any, std: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = sets.load(stand_in(name, tmp_path, monkeypatch), CPU)
    assert (loaded.num_classes, loaded.mean, loaded.std) == (classes, mean, std)


@pytest.mark.parametrize(("name", "md5s"), [("cifar10", "c58f30108f718f92"), ("cifar100", "eb9058c3a382ffc7")])
def test_the_fingerprint_is_the_archives_published_md5(
    name: str, md5s: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = stand_in(name, tmp_path, monkeypatch)
    assert sources.fingerprint(config) == sets.load(config, CPU).fingerprint == f"{name}-{md5s}"


def test_the_fingerprint_of_svhn_is_of_both_files_md5s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stand_in("svhn", tmp_path, monkeypatch)
    train, test = (md5(tmp_path / f"{split}_32x32.mat")[:8] for split in ("train", "test"))
    assert sources.fingerprint(config) == sets.load(config, CPU).fingerprint == f"svhn-{train}{test}"


def test_svhns_class_10_is_the_digit_0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = sets.load(stand_in("svhn", tmp_path, monkeypatch), CPU).train.labels
    assert labels.tolist() == [0, 9, 8, 7, 6, 5, 4, 3, 2, 1] * 2


def test_an_archive_changed_after_unpacking_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = stand_in("cifar100", tmp_path, monkeypatch)
    file = tmp_path / "cifar-100-python" / "test"
    file.write_bytes(file.read_bytes() + b"more")
    with pytest.raises(UserError) as error:
        sets.load(config, CPU)
    assert str(error.value) == (
        f"data.root: {file} is damaged: its MD5 is not the published one; put cifar-100-python there again "
        "(from cifar-100-python.tar.gz), or set data.download: true"
    )
