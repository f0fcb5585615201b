from __future__ import annotations

import logging
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
import torch
from pictures import write_pictures
from PIL import Image

from trainers.config import DataConfig, TrialConfig
from trainers.data import chunk, image_folder, large_folder, preparing, sets, shards, sources
from trainers.data.mapped import Mapped
from trainers.errors import UserError
from trainers.identity import trial_id
from trainers.loop import train, with_fingerprint

SIZE = 16
#: Of 80 pictures of 16 x 16, in GiB: they are large, and they are not.
LARGE, SMALL = 1e-5, 1


@pytest.fixture(autouse=True)
def personal_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_pictures(tmp_path / "root", 60, 20)


def config(root: Path, most: float, **more: Any) -> DataConfig:
    own = {"image_size": SIZE, "validation_fraction": 0.2, **more}
    return DataConfig(name="image_folder", root=str(root), in_memory_gib=most, **own)


@pytest.mark.parametrize("more", [{}, {"train_per_class": 5, "test_per_class": 2}])
def test_a_large_folder_is_mapped_and_is_the_same_data(root: Path, more: dict[str, Any]) -> None:
    far, near = (sets.load(config(root, most, **more), "cpu") for most in (LARGE, SMALL))
    for name in ("train", "val", "test"):
        one, other = getattr(far, name), getattr(near, name)
        assert isinstance(one.images, Mapped)
        assert isinstance(other.images, torch.Tensor)
        assert torch.equal(one.images[:], other.images)
        assert torch.equal(one.labels, other.labels)
    assert far[3:9] == near[3:9]
    assert (root / ".robustsweep" / f"{near.fingerprint}-{SIZE}.shards" / "index.json").is_file()


def test_images_of_one_size_are_mapped_as_they_are(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for number in range(4):
            path = tmp_path / split / f"{number % 2}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(random.integers(0, 256, (9, 7, 3), dtype=np.uint8)).save(path)
    far, near = (sets.load(config(tmp_path, most, image_size=None), "cpu") for most in (1e-9, 1))
    assert torch.equal(far.train.images[:], near.train.images[:])
    assert far.image_size == (9, 7)


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


def test_the_trial_and_its_id_are_the_same_mapped_and_in_memory(root: Path) -> None:
    assert trained(config(root, LARGE)) == trained(config(root, SMALL))


def test_extra_images_join_mapped_ones(root: Path, tmp_path: Path) -> None:
    more = write_pictures(tmp_path / "more", 8, 0, seed=1) / "train"
    far, near = (sets.load(config(root, most, extra=str(more)), "cpu") for most in (LARGE, SMALL))
    assert far.extra is not None
    assert near.extra is not None
    assert isinstance(far.extra.pool.images, Mapped)
    assert torch.equal(far.extra.pool.images[:], near.extra.pool.images[:])
    assert torch.equal(far.extra.pool.labels, near.extra.pool.labels)


def test_a_plan_decodes_nothing_and_says_what_will_be(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_rgb", "read"):
        monkeypatch.setattr(image_folder, name, lambda *_: pytest.fail("decoded"))
    large = config(root, LARGE)
    (before,) = sources.shapes([large]).values()
    mark = sources.fingerprint(large)
    folder = root / ".robustsweep" / f"{mark}-{SIZE}.shards"
    size = "image_folder: 60.0 KiB of pixels, over data.in_memory_gib (1e-05)"
    val = "image_folder: val/ is the test set, as there is no test/ with classes in it"
    assert before == sources.Shape(
        *(48, 12, 20, 4, 3, SIZE, SIZE),
        mapped=True,
        notes=(val, f"{size}: the first trial decodes them to {folder}, and finds images that are damaged"),
        decodes=large_folder.Unwritten(folder, 80 * 3 * SIZE**2),
    )
    assert not folder.exists()
    sets.load(large, "cpu")
    (after,) = sources.shapes([large]).values()
    assert after.notes == (val, f"{size}: mapped from {folder}")
    assert after.decodes is None


def test_the_first_load_writes_and_says_so_and_the_next_reads(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        for padding in ("zero", "reflect"):
            sets.load(config(root, LARGE, padding=padding), "cpu")
    assert len(caplog.messages) == 1
    assert "its images are larger than data.in_memory_gib: they are written to " in caplog.messages[0]


def test_how_far_it_is_is_said(root: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large_folder, "EVERY", 0.0)
    with caplog.at_level(logging.WARNING):
        sets.load(config(root, LARGE), "cpu")
    assert caplog.messages[-1] == f"{root}: 80 of 80 images are written"


def test_of_two_that_begin_at_once_one_decodes_and_the_other_takes_what_it_wrote(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed, decoded, both = image_folder.listing(root), list[Path](), Barrier(2)
    image_folder.fingerprint(listed)
    prepare, rgb, there = preparing.prepare, chunk.rgb, chunk._there
    monkeypatch.setattr(chunk, "rgb", lambda path, *how: (decoded.append(path), rgb(path, *how))[1])
    monkeypatch.setattr(
        chunk, "_there", lambda work: pytest.fail("held against its hash") if work.known else there(work)
    )

    def at_once(*what: Any) -> shards.Index:
        both.wait(60)  # neither has found shards
        return prepare(*what)

    monkeypatch.setattr(preparing, "prepare", at_once)
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(lambda _: large_folder.read(listed, SIZE), range(2))
    assert len(decoded) == len(listed.train) + len(listed.test)
    assert np.array_equal(one.train_images, other.train_images)


def test_a_changed_folder_is_decoded_anew(root: Path) -> None:
    before = sets.load(config(root, LARGE), "cpu").fingerprint
    path = next((root / "train").rglob("*.JPEG"))
    Image.fromarray(np.full((9, 9, 3), 7, np.uint8)).save(path)
    sets._last.clear()
    after = sets.load(config(root, LARGE), "cpu")
    assert after.fingerprint != before
    assert (shards.read(root / ".robustsweep" / f"{after.fingerprint}-{SIZE}.shards").train_images == 7).any()


def test_a_damaged_image_is_named(root: Path) -> None:
    path = next((root / "val").rglob("*.JPEG"))
    path.write_bytes(b"")
    with pytest.raises(UserError) as error:
        sets.load(config(root, LARGE), "cpu")
    assert str(error.value) == (
        f"data.root: {path} is no readable image (cannot identify image file); mend it or remove it; then the "
        "same command goes on"
    )
    other = next((root / "train").rglob("*.JPEG"))
    other.write_bytes(b"")
    with pytest.raises(UserError) as error:
        sets.load(config(root, LARGE), "cpu")
    says = "is no readable image (cannot identify image file); mend it or remove it"
    first = "data.root: 2 images cannot be taken; once they are mended the same command goes on:"
    assert str(error.value) == f"{first} {other} {says}; {path} {says}"


def test_a_damaged_first_image_whose_size_is_wanted_is_named_once_by_a_plan_and_by_a_preparation(root: Path) -> None:
    listed = image_folder.listing(root)
    path = root / listed.train[0].path
    path.write_bytes(b"no picture")
    said = f"{path} is no readable image (cannot identify image file); mend it or remove it"
    for act, text in (
        (lambda: large_folder.outline(listed, None), f"data.root: {said}"),
        (lambda: large_folder.is_large(listed, None, LARGE), f"data.root: {said}"),
        (lambda: preparing.shape_of(listed, None), said),
    ):
        with pytest.raises(UserError) as caught:
            act()
        assert str(caught.value) == text
    assert preparing.shape_of(listed, 7) == (3, 7, 7)


def test_images_of_several_sizes_need_a_size(root: Path) -> None:
    with pytest.raises(
        UserError, match=r"^data.root: images must have one size, .* pixels; set data.image_size to resize them$"
    ):
        sets.load(config(root, 1e-6, image_size=None), "cpu")


# What is known of a folder without looking at all of it


def test_a_huge_folder_is_known_by_names_sizes_and_a_sample(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = sources.fingerprint(config(root, SMALL))
    monkeypatch.setattr(image_folder, "SAMPLED_FROM", 1)
    monkeypatch.setattr(image_folder, "SAMPLE", 5)
    assert sources.fingerprint(config(root, SMALL)) == whole  # which is known from before
    (root / ".robustsweep" / "index.json").unlink()
    read, digest = list[Path](), image_folder._digest
    monkeypatch.setattr(image_folder, "_digest", lambda path: (read.append(path), digest(path))[1])
    sampled = sources.fingerprint(config(root, SMALL))
    assert len(read) == 5
    assert re.fullmatch("image_folder-sampled-[0-9a-f]{16}", sampled)
    (shape,) = sources.shapes([config(root, SMALL)]).values()
    assert shape.notes[1] == (
        "image_folder: known by all names and sizes and by what 5 of the files hold; a change of the others that keeps "
        "their size goes unseen"
    )

    def changed(path: Path, content: bytes) -> str:
        before = path.read_bytes()
        path.write_bytes(content)
        found = sources.fingerprint(config(root, SMALL))
        path.write_bytes(before)
        return found

    chosen, others = read[0], [path for path in root.rglob("*.JPEG") if path not in read]
    assert changed(chosen, chosen.read_bytes()[:-1] + b"x") != sampled
    assert changed(others[0], others[0].read_bytes()[:-1] + b"x") == sampled
    assert changed(others[0], others[0].read_bytes() + b"x") != sampled
    others[0].rename(others[0].with_name("renamed.JPEG"))
    assert sources.fingerprint(config(root, SMALL)) != sampled


def test_val_is_the_test_set_only_where_test_holds_no_classes(root: Path) -> None:
    names = {file.name.split("/")[0] for file in image_folder.listing(root).test}
    assert names == {"val"}
    (root / "test").mkdir()
    (root / "test" / "unlabelled.JPEG").write_bytes(b"")
    assert {file.name.split("/")[0] for file in image_folder.listing(root).test} == {"val"}
    write_pictures(root, 0, 4, test_name="test")
    assert {file.name.split("/")[0] for file in image_folder.listing(root).test} == {"test"}
