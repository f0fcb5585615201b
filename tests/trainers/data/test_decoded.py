from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pictures import write_pictures
from PIL import Image

from trainers.config import DataConfig, TrialConfig
from trainers.data import batches, decoded, sets, sources
from trainers.data.decoded import Decoded
from trainers.errors import UserError
from trainers.identity import trial_id
from trainers.loop import train, with_fingerprint

SIZE = 16


@pytest.fixture(autouse=True)
def personal_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "root", 60, 20)


def config(root: Path, decode: str = "every_epoch", **more: Any) -> DataConfig:
    own = {"name": "image_folder", "image_size": SIZE, "validation_fraction": 0.2, **more}
    return DataConfig(root=str(root), decode=decode, **own)


def trained(data: DataConfig) -> tuple[str, list[Any]]:
    trial = TrialConfig.model_validate(
        {
            "data": data.model_dump(),
            "model": {"name": "small_cnn"},
            "batch_size": 16,
            "epochs": 1,
            "attack": {"radius": 0.1, "step_size": 0.05, "steps": 1},
            "evaluation": {"steps": 1},
        }
    )
    records: list[Any] = []
    train(trial, records.append)
    times = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
    return trial_id(with_fingerprint(trial)), [replace(one, **times) for one in records]


@pytest.mark.parametrize(
    "more", [{}, {"name": "imagenet", "crop_size": 8}, {"train_per_class": 5, "test_per_class": 2}]
)
def test_it_is_the_same_data_to_the_byte_and_no_pixels_are_kept(root: Path, more: dict[str, Any]) -> None:
    far = sets.load(config(root, **more), "cpu")
    assert [path.suffix for path in (root / ".robustsweep").iterdir() if path.suffix in (".npz", ".shards")] == []
    near = sets.load(config(root, "ahead", **more), "cpu")
    for name in ("train", "val", "test"):
        one, other = getattr(far, name), getattr(near, name)
        assert isinstance(one.images, Decoded)
        assert isinstance(other.images, torch.Tensor)
        assert torch.equal(one.images[:], other.images)
        assert torch.equal(one.images[2], other.images[2])
        assert torch.equal(one.images[other.labels == 1], other.images[other.labels == 1])
        assert torch.equal(one.labels, other.labels)
    assert far[3:9] == near[3:9]


def test_the_trial_and_its_id_are_the_same(root: Path) -> None:
    assert trained(config(root)) == trained(config(root, "ahead"))


def test_extra_images_join_it(root: Path, tmp_path: Path) -> None:
    more = write_pictures(tmp_path / "more", 8, 0, seed=1) / "train"
    far, near = (sets.load(config(root, way, extra=str(more)), "cpu") for way in ("every_epoch", "ahead"))
    assert far.extra is not None
    assert near.extra is not None
    assert torch.equal(far.extra.pool.images[:], near.extra.pool.images[:])


def test_a_trials_threads_decode(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[int]()
    monkeypatch.setattr(
        decoded, "ThreadPoolExecutor", lambda count: (asked.append(count), ThreadPoolExecutor(count))[1]
    )
    images, before = sets.load(config(root), "cpu").test, torch.get_num_threads()
    asked.clear()
    torch.set_num_threads(3)
    try:
        assert len(list(batches.sequential(images, 20))) == 1
    finally:
        torch.set_num_threads(before)
    assert asked == [3]  # of the loader's thread


def test_the_moments_take_one_pass_which_is_said_and_kept(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        before = sets.load(config(root), "cpu")
        sets._last.clear()
        again = sets.load(config(root), "cpu")
    path = root / ".robustsweep" / f"{before.fingerprint}-{SIZE}-None.moments.json"
    said = f"{root}: all training images are decoded once for their mean and deviation: {path}"
    assert caplog.messages == [said]
    assert (again.mean, again.std) == (before.mean, before.std)
    path.write_text("[")
    sets._last.clear()
    assert sets.load(config(root), "cpu").mean == before.mean


def test_an_image_that_is_damaged_in_the_middle_of_training_is_named(root: Path) -> None:
    data = sets.load(config(root), "cpu")
    for split, folder in ((data.train, "train"), (data.test, "val")):
        paths = list((root / folder).rglob("*.JPEG"))
        for path in paths:
            path.write_bytes(b"")
        with pytest.raises(UserError) as error:
            list(batches.batches(split, 8, augment=True, seed=0, epoch=0))
        assert str(error.value) in {
            f"data.root: {path} is no readable image (cannot identify image file); mend it or remove it"
            for path in paths
        }


def test_images_of_several_sizes_need_a_size(root: Path) -> None:
    path = max((root / "train").rglob("*.JPEG"))
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"^data.image_size: images must have one size, but the first is .* to resize"):
        sets.load(config(root, image_size=None), "cpu")


def test_a_plan_decodes_nothing_and_says_so(root: Path) -> None:
    (shape,) = sources.shapes([config(root)]).values()
    assert shape == sources.Shape(
        *(48, 12, 20, 4, 3, SIZE, SIZE),
        mapped=True,
        notes=(
            "image_folder: val/ is the test set, as there is no test/ with classes in it",
            "image_folder: images are decoded whenever they are read, by each trial's own cores (resources.cpu), and "
            "damaged ones are found then",
        ),
    )
    assert not list((root / ".robustsweep").glob("*.moments.json"))


def test_other_data_than_folders_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"decode: only image_folder and .* are decoded, and name is 'digits'; leave"):
        DataConfig(name="digits", decode="every_epoch")
