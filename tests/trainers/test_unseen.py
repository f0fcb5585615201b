"""Data that are not here: what is published of them is what the data would say."""

from __future__ import annotations

from typing import Any

import pytest

from trainers.config import DataConfig
from trainers.data import unseen
from trainers.data.sources import Shape
from trainers.errors import UserError


def of(name: str, **values: Any) -> DataConfig:
    return DataConfig.model_validate({"name": name, "root": "/none", **values})


def test_the_published_files_have_their_published_marks() -> None:
    assert unseen.fingerprint(of("cifar10")) == "cifar10-c58f30108f718f92"  # the archive's MD5, from CIFAR's page
    assert unseen.fingerprint(of("cifar100")) == "cifar100-eb9058c3a382ffc7"
    assert str(unseen.fingerprint(of("svhn"))).startswith("svhn-")


@pytest.mark.parametrize("name", ["image_folder", "tiny_imagenet"])
def test_the_mark_of_a_folder_is_known_only_if_given(name: str) -> None:
    assert unseen.fingerprint(of(name)) is None
    assert unseen.fingerprint(of(name, fingerprint="a-1")) == "a-1"


@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (of("cifar10"), (49_000, 1_000, 10_000, 10, 3, 32, 32)),
        (of("cifar100", validation_fraction=0), (50_000, 0, 10_000, 100, 3, 32, 32)),
        (of("cifar10", train_per_class=30, validation_fraction=0.1, test_per_class=5), (270, 30, 50, 10, 3, 32, 32)),
        (of("svhn", validation_fraction=0.1), (65_931, 7_326, 26_032, 10, 3, 32, 32)),
        (of("tiny_imagenet", image_size=32, validation_fraction=0), (100_000, 0, 10_000, 200, 3, 32, 32)),
        (of("image_folder"), None),
    ],
)
def test_the_sizes_are_the_published_ones(config: DataConfig, shape: tuple[int, ...] | None) -> None:
    assert unseen.shape(config) == (None if shape is None else Shape(*shape))


def test_data_of_which_nothing_is_left_to_train_on_are_refused() -> None:
    with pytest.raises(UserError, match=r"^data\.validation_fraction: 0\.999 leaves no image to train on"):
        unseen.shape(of("cifar10", train_per_class=1, validation_fraction=0.999))
