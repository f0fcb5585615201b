from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from trainers.config import DataConfig
from trainers.data import image_folder, sets, sources, tiny_imagenet
from trainers.data.archives import Source
from trainers.errors import UserError

CPU = torch.device("cpu")
AGAIN = "unpack tiny-imagenet-200.zip again"
BOX = "0\t0\t7\t7"

#: The test images as annotated: neither by class nor by name.
TEST = {"val_3.JPEG": "n02", "val_0.JPEG": "n02", "val_10.JPEG": "n01", "val_1.JPEG": "n01"}


@pytest.fixture(autouse=True)
def personal_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the tests out of the user's own cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of 8 x 8 JPEGs, three training images and two test images of each; one image is grey."""
    root, random = tmp_path / "tiny", np.random.RandomState(0)
    for name in ("n02", "n01"):
        for number in range(3):
            save(root / "train" / name / "images" / f"{name}_{number}.JPEG", random.randint(0, 256, (8, 8, 3)))
        (root / "train" / name / f"{name}_boxes.txt").write_text(f"{name}_0.JPEG\t{BOX}\n")
    save(root / "train" / "n01" / "images" / "n01_1.JPEG", random.randint(0, 256, (8, 8)))
    for name in TEST:
        save(root / "val" / "images" / name, random.randint(0, 256, (8, 8, 3)))
    save(root / "test" / "images" / "test_0.JPEG", random.randint(0, 256, (8, 8, 3)))
    annotate(root, TEST)
    (root / "wnids.txt").write_text("n02\nn01\n")
    return root


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def annotate(root: Path, labels: dict[str, str], *lines: str) -> Path:
    path = root / "val" / "val_annotations.txt"
    path.write_text("".join(f"{line}\n" for line in (*(f"{name}\t{of}\t{BOX}" for name, of in labels.items()), *lines)))
    return path


def rearrange(root: Path, folder: str) -> None:
    """Sort the test images into val/CLASS/; `folder` is "images" to keep that level."""
    for name, label in TEST.items():
        (root / "val" / label / folder).mkdir(parents=True, exist_ok=True)
        (root / "val" / "images" / name).rename(root / "val" / label / folder / name)


def read(root: Path, image_size: int | None = None) -> Source:
    return image_folder.read(tiny_imagenet.listing(root), image_size)


def fingerprint(root: Path) -> str:
    return image_folder.fingerprint(tiny_imagenet.listing(root))


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1)


def same(one: Source, two: Source) -> bool:
    arrays = ("train_images", "train_labels", "test_images", "test_labels")
    return one[4:] == two[4:] and all(np.array_equal(getattr(one, a), getattr(two, a)) for a in arrays)


# What is read


def test_val_is_the_test_set_by_class_and_name_with_its_annotated_labels(root: Path) -> None:
    source = read(root)
    assert source.classes == ("n01", "n02")
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 0, 1, 1]
    for place, name in enumerate(("val_1.JPEG", "val_10.JPEG", "val_0.JPEG", "val_3.JPEG")):
        assert np.array_equal(source.test_images[place], pixels(root / "val" / "images" / name))
    assert np.array_equal(source.train_images[5], pixels(root / "train" / "n02" / "images" / "n02_2.JPEG"))


def test_grey_images_become_rgb(root: Path) -> None:
    grey = root / "train" / "n01" / "images" / "n01_1.JPEG"
    assert Image.open(grey).mode == "L"
    assert np.array_equal(read(root).train_images[1], np.stack([np.asarray(Image.open(grey))] * 3))


@pytest.mark.parametrize("folder", ["", "images"], ids=["val/CLASS", "val/CLASS/images"])
@pytest.mark.parametrize("left", ["everything", "nothing"])
def test_images_sorted_into_class_folders_are_the_same_data(root: Path, folder: str, left: str) -> None:
    before = read(root)
    shutil.rmtree(root / ".robustsweep")
    rearrange(root, folder)
    if left == "nothing":
        (root / "val" / "images").rmdir()
        (root / "val" / "val_annotations.txt").unlink()
        (root / "wnids.txt").unlink()
    assert same(before, read(root))


def test_where_the_images_were_copied_into_class_folders_the_annotations_count(root: Path) -> None:
    before = read(root)
    for name, label in TEST.items():
        (root / "val" / label).mkdir(exist_ok=True)
        shutil.copy(root / "val" / "images" / name, root / "val" / label)
    assert same(before, read(root))


def test_an_image_size_resizes(root: Path) -> None:
    assert read(root, 4).test_images.shape == (4, 3, 4, 4)


def test_a_second_read_decodes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(root)
    monkeypatch.setattr(image_folder, "_rgb", lambda *_: pytest.fail("decoded again"))
    assert same(before, read(root))


# The fingerprint


def test_a_changed_label_or_image_changes_the_fingerprint_and_a_box_or_the_order_of_lines_does_not(root: Path) -> None:
    before = fingerprint(root)
    assert before.startswith("tiny_imagenet-")
    annotate(root, dict(reversed(TEST.items())))
    assert fingerprint(root) == before
    annotate(root, {**TEST, "val_0.JPEG": "n01"})
    relabelled = fingerprint(root)
    annotate(root, TEST)
    save(root / "val" / "images" / "val_0.JPEG", np.zeros((8, 8, 3)))
    assert len({before, relabelled, fingerprint(root)}) == 3


def test_a_changed_label_is_read_after_the_array_file_was_written(root: Path) -> None:
    read(root)
    annotate(root, {**TEST, "val_0.JPEG": "n01"})
    assert read(root).test_labels.tolist() == [0, 0, 0, 1]
    assert np.array_equal(read(root).test_images[0], pixels(root / "val" / "images" / "val_0.JPEG"))


# As a trial's data


def config(root: Path, **more: object) -> DataConfig:
    return DataConfig.model_validate({"name": "tiny_imagenet", "root": str(root), "validation_fraction": 0, **more})


def test_data_loads_it_with_measured_moments_and_its_fingerprint(root: Path) -> None:
    tiny = sets.load(config(root), CPU)
    assert (len(tiny.train.labels), len(tiny.test.labels), tiny.num_classes) == (6, 4, 2)
    assert (tiny.channels, tiny.image_size) == (3, (8, 8))
    assert tiny.fingerprint == sources.fingerprint(config(root)) == fingerprint(root)
    mean = (tiny.train.images.double() / 255).mean(dim=(0, 2, 3))
    assert tiny.mean == pytest.approx(mean.tolist())
    assert sources.shapes([config(root)]) == {config(root): sources.Shape(6, 0, 4, 2, 3, 8, 8)}


def test_the_first_images_of_each_class_can_be_taken(root: Path) -> None:
    tiny = sets.load(config(root, train_per_class=2, test_per_class=1), CPU)
    assert tiny.train.labels.tolist() == [0, 0, 1, 1]
    assert tiny.test.labels.tolist() == [0, 1]
    source = read(root)
    assert np.array_equal(tiny.train.images.numpy(), source.train_images[[0, 1, 3, 4]])
    assert np.array_equal(tiny.test.images.numpy(), source.test_images[[0, 2]])


# What is wrong with it


def refused(root: Path) -> str:
    with pytest.raises(UserError) as error:
        read(root)
    return str(error.value)


def test_a_missing_root_or_split_says_what_must_be_there(tmp_path: Path) -> None:
    root, layout = tmp_path / "none", "it must hold train/ and val/, as in tiny-imagenet-200.zip"
    assert refused(root) == f"data.root: {root} is not a folder; {layout}"
    (root / "train").mkdir(parents=True)
    assert refused(root) == f"data.root: {root} has no folder val; {layout}"
    (root / "val").mkdir()
    assert refused(root) == f"data.root: {root}/train has no folders; {layout}"


def test_missing_annotations_are_named(root: Path) -> None:
    path = root / "val" / "val_annotations.txt"
    path.unlink()
    assert refused(root) == (
        f"data.root: {path} is missing: it must name the class of each image in val/images; {AGAIN}"
    )


def test_an_annotation_of_a_missing_file_is_named_with_its_line(root: Path) -> None:
    path = annotate(root, {**TEST, "val_9.JPEG": "n01"})
    assert refused(root) == f"data.root: {path}:5: val_9.JPEG is not in {root}/val/images; {AGAIN}"


def test_an_image_without_annotation_is_named(root: Path) -> None:
    path = annotate(root, {name: label for name, label in TEST.items() if name != "val_1.JPEG"})
    assert refused(root) == (f"data.root: {root}/val/images/val_1.JPEG has no line in {path}; remove it, or {AGAIN}")


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        (f"val_0.JPEG\tn77\t{BOX}", "class 'n77' of val_0.JPEG has no folder in train/"),
        ("val_0.JPEG", "class '' of val_0.JPEG has no folder in train/"),
        (f"val_0.JPEG\tn01\t{BOX}", "val_0.JPEG is of n01, but was of n02"),
    ],
    ids=["unknown class", "no class", "two classes"],
)
def test_a_wrong_annotation_is_named_with_its_line(root: Path, line: str, wrong: str) -> None:
    path = annotate(root, TEST, line)
    assert refused(root) == f"data.root: {path}:5: {wrong}; {AGAIN}"


def test_a_class_without_test_images_is_named(root: Path) -> None:
    save(root / "train" / "n03" / "images" / "n03_0.JPEG", np.zeros((8, 8, 3)))
    (root / "wnids.txt").unlink()
    assert refused(root) == (
        f"data.root: {root}: train/ and val/ must have the same classes, but 'n03' is only in train/"
    )
    rearrange(root, "")
    assert refused(root) == (
        f"data.root: {root}: train/ and val/ must have the same classes, but 'n03' is only in train/"
    )


def test_a_class_of_wnids_without_training_images_is_named(root: Path) -> None:
    (root / "wnids.txt").write_text("n01\nn02\nn03\n")
    assert refused(root) == (
        f"data.root: {root}: train/ and wnids.txt must have the same classes, but 'n03' is only in wnids.txt"
    )


def test_a_val_without_images_says_where_they_belong(root: Path) -> None:
    shutil.rmtree(root / "val" / "images")
    assert refused(root) == (
        f"data.root: {root}/val has images neither in images/ nor in a folder for each class; {AGAIN}"
    )


def test_images_half_moved_into_class_folders_are_refused(root: Path) -> None:
    (root / "val" / "n02").mkdir()
    (root / "val" / "images" / "val_3.JPEG").rename(root / "val" / "n02" / "val_3.JPEG")
    path = root / "val" / "val_annotations.txt"
    assert refused(root) == f"data.root: {path}:1: val_3.JPEG is not in {root}/val/images; {AGAIN}"
