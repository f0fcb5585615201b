from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import ArrayLike
from PIL import ExifTags, Image
from PIL.PngImagePlugin import PngInfo

from trainers.config import DataConfig
from trainers.data import image_folder, sets
from trainers.data.archives import ByteArray, Source
from trainers.errors import UserError

FullDisk = Callable[..., AbstractContextManager[None]]

LAYOUT = "it must hold train/ and test/ (or val/), each with one folder a class"


@pytest.fixture(autouse=True)
def personal_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keeps the tests out of the user's own cache folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "robustsweep"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes, three training images and two test images of each, 8 x 8, random."""
    random = np.random.RandomState(0)
    for split, count in (("train", 3), ("test", 2)):
        for name in ("cat", "dog"):
            for number in range(count):
                save(tmp_path / "data" / split / name / f"{number}.png", random.randint(0, 256, (8, 8, 3)))
    return tmp_path / "data"


def save(path: Path, pixels: ArrayLike, mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8), mode=mode).save(path)


def read(root: Path, image_size: int | None = None) -> Source:
    return image_folder.read(image_folder.listing(root), image_size)


def fingerprint(root: Path) -> str:
    return image_folder.fingerprint(image_folder.listing(root))


def read_without_decoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    with monkeypatch.context() as patch:
        patch.setattr(image_folder, "_rgb", lambda *_: pytest.fail("decoded again"))
        return read(root)


def same(one: Source, two: Source) -> bool:
    arrays = ("train_images", "train_labels", "test_images", "test_labels")
    return one[4:] == two[4:] and all(np.array_equal(getattr(one, a), getattr(two, a)) for a in arrays)


# What is read


def test_images_are_read_by_sorted_path_channels_first_with_classes_by_name(root: Path) -> None:
    source = read(root)
    assert source.classes == ("cat", "dog")
    assert source.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.test_labels.tolist() == [0, 0, 1, 1]
    expected = np.asarray(Image.open(root / "train" / "dog" / "0.png")).transpose(2, 0, 1)
    assert np.array_equal(source.train_images[3], expected)


def test_grey_palette_and_transparent_images_become_rgb(root: Path) -> None:
    grey = np.arange(64).reshape(8, 8)
    save(root / "train" / "cat" / "0.png", grey, "L")
    save(root / "train" / "cat" / "1.png", np.dstack([grey, grey, grey, grey * 0]), "RGBA")
    Image.fromarray(grey.astype(np.uint8), mode="L").convert("P").save(root / "train" / "cat" / "2.png")
    for image in read(root).train_images[:3]:
        assert np.array_equal(image, np.stack([grey] * 3))


#: Where in the picture a file's first row and first column are [EXIF 2.3, Orientation].
ORIENTATIONS = {
    1: ("top", "left"),
    2: ("top", "right"),
    3: ("bottom", "right"),
    4: ("bottom", "left"),
    5: ("left", "top"),
    6: ("right", "top"),
    7: ("right", "bottom"),
    8: ("left", "bottom"),
}


def save_turned(path: Path, picture: ArrayLike, orientation: int, **options: Any) -> None:
    row, column = ORIENTATIONS[orientation]
    stored = np.asarray(picture, np.uint8)
    stored = stored.swapaxes(0, 1) if row in ("left", "right") else stored
    stored = stored[::-1] if row in ("bottom", "right") else stored
    stored = stored[:, ::-1] if column in ("bottom", "right") else stored
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)


def turned(root: Path, orientation: int, suffix: str = "png", **options: Any) -> ByteArray:
    """A folder of one oblong image for training, turned so, and one for testing; gives the upright one, (3, 6, 9)."""
    picture = np.linspace(0, 250, 6 * 9 * 3).reshape(6, 9, 3).astype(np.uint8)
    save_turned(root / "train" / "cat" / f"0.{suffix}", picture, orientation, **options)
    save(root / "test" / "cat" / "0.png", picture)
    return picture.transpose(2, 0, 1)


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_an_image_is_read_upright_whatever_its_orientation(tmp_path: Path, orientation: int, suffix: str) -> None:
    upright = turned(tmp_path, orientation, suffix, **({"lossless": True} if suffix == "webp" else {}))
    assert np.array_equal(read(tmp_path).train_images[0], upright)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_photograph_is_read_upright(tmp_path: Path, orientation: int) -> None:
    upright = turned(tmp_path, orientation, "jpg", quality=100, subsampling=0).astype(int)
    assert np.abs(read(tmp_path).train_images[0] - upright).max() <= 8
    assert np.abs(upright - upright[:, ::-1, ::-1]).max() > 200


def test_an_orientation_in_xmp_counts_and_damaged_exif_does_not(tmp_path: Path) -> None:
    upright = turned(tmp_path, 1)
    text = PngInfo()
    text.add_itxt("XML:com.adobe.xmp", '<rdf:Description tiff:Orientation="3"/>')
    Image.fromarray(upright.transpose(1, 2, 0)).save(tmp_path / "train" / "cat" / "0.png", pnginfo=text)
    assert np.array_equal(read(tmp_path).train_images[0], upright[:, ::-1, ::-1])
    Image.fromarray(upright.transpose(1, 2, 0)).save(tmp_path / "train" / "cat" / "0.png", exif=b"Exif\0\0damaged")
    assert np.array_equal(read(tmp_path).train_images[0], upright)


def of_the_bytes(root: Path) -> str:
    """The fingerprint as it was before orientations were read."""
    total = hashlib.sha256()
    for split in ("train", "test"):
        for path in sorted((root / split).rglob("*.*")):
            total.update(str(path.relative_to(root)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return f"image_folder-{total.hexdigest()[:16]}"


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_fingerprint_is_another_than_that_of_the_bytes_only_where_an_image_is_turned(
    tmp_path: Path, orientation: int
) -> None:
    turned(tmp_path, orientation, "jpg")
    assert (fingerprint(tmp_path) == of_the_bytes(tmp_path)) == (orientation == 1)


def test_arrays_that_were_decoded_lying_on_their_side_are_not_read(tmp_path: Path) -> None:
    upright = turned(tmp_path, 6)
    listed, before = image_folder.listing(tmp_path), of_the_bytes(tmp_path)
    folder = tmp_path / ".robustsweep"
    folder.mkdir()
    signature = hashlib.sha256(repr(listed).encode()).hexdigest()
    (folder / "index.json").write_text(json.dumps({str(tmp_path): [signature, before]}))
    lying = upright.swapaxes(1, 2)[None]
    np.savez(folder / f"{before}.npz", train=lying, test=lying)
    assert np.array_equal(read(tmp_path).train_images[0], upright)


def test_hidden_files_and_other_files_are_not_images_and_nested_folders_belong_to_their_class(
    root: Path,
) -> None:
    save(root / "test" / "dog" / "more" / "9.PNG", np.zeros((8, 8, 3)))
    (root / "test" / "dog" / "notes.txt").write_text("not an image")
    (root / "test" / "dog" / "._0.png").write_text("not an image")
    assert read(root).test_labels.tolist() == [0, 0, 1, 1, 1]


def test_images_of_several_sizes_are_resized_when_a_size_is_set(root: Path) -> None:
    save(root / "train" / "cat" / "0.png", np.full((20, 10, 3), 77))
    images = read(root, 4).train_images
    assert images.shape == (6, 3, 4, 4)
    assert (images[0] == 77).all()


def test_the_first_images_of_each_class_can_be_taken(root: Path) -> None:
    config = DataConfig(name="image_folder", root=str(root), validation_fraction=0, train_per_class=2, test_per_class=1)
    few, source = sets.load(config, "cpu"), read(root)
    assert few.train.labels.tolist() == [0, 0, 1, 1]
    assert np.array_equal(few.train.images.numpy(), source.train_images[[0, 1, 3, 4]])
    assert np.array_equal(few.test.images.numpy(), source.test_images[[0, 2]])


# The array file and the fingerprint


def test_the_fingerprint_of_given_bytes_never_changes(tmp_path: Path) -> None:
    """Trials are found again by it."""
    for split in ("train", "test"):
        path = tmp_path / split / "cat" / "0.ppm"
        path.parent.mkdir(parents=True)
        path.write_bytes(b"P6 1 1 255 " + split[:3].encode())
    assert fingerprint(tmp_path) == "image_folder-ad92b730117eac95"


def test_a_second_read_gives_the_same_arrays_without_decoding(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert same(read(root), read_without_decoding(root, monkeypatch))


def test_the_array_file_lies_in_the_root_named_by_content_and_size_and_nothing_else_is_left(
    root: Path,
) -> None:
    content = read(root).fingerprint
    read(root, 4)
    files = {file.name for file in (root / ".robustsweep").iterdir()}
    assert files == {"lock", "index.json", f"{content}.npz", f"{content}-4.npz"}


def test_a_moved_or_copied_folder_keeps_its_fingerprint_and_array_file(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = read(root)
    moved = root.rename(root.parent / "moved")
    assert same(before, read_without_decoding(moved, monkeypatch))


def test_changed_renamed_added_and_removed_images_change_the_fingerprint(root: Path) -> None:
    prints = [fingerprint(root)]
    image = root / "train" / "cat" / "0.png"
    save(image, np.zeros((8, 8, 3)))
    prints.append(fingerprint(root))
    image.rename(image.with_name("3.png"))
    prints.append(fingerprint(root))
    save(image, np.ones((8, 8, 3)))
    prints.append(fingerprint(root))
    image.unlink()
    assert fingerprint(root) == prints[2]
    assert len(set(prints)) == 4


def test_changed_images_are_decoded_again(root: Path) -> None:
    read(root)
    save(root / "train" / "cat" / "0.png", np.full((8, 8, 3), 7))
    assert (read(root).train_images[0] == 7).all()


def test_an_unchanged_folder_is_not_hashed_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = fingerprint(root)
    monkeypatch.setattr(image_folder, "_digest", lambda _: pytest.fail("hashed again"))
    assert fingerprint(root) == before


def test_a_file_touched_but_not_changed_keeps_the_fingerprint(root: Path) -> None:
    before = fingerprint(root)
    os.utime(root / "train" / "cat" / "0.png", (1, 1))
    assert fingerprint(root) == before


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 half a file"], ids=["empty", "torn"])
def test_a_damaged_array_file_or_index_is_made_anew(root: Path, damage: bytes) -> None:
    before = read(root)
    for file in (root / ".robustsweep").iterdir():
        file.write_bytes(damage)
    assert same(before, read(root))
    assert np.load(root / ".robustsweep" / f"{before.fingerprint}.npz")["train"].shape == (6, 3, 8, 8)


def test_where_the_root_cannot_be_written_the_array_file_lies_in_the_users_cache(
    root: Path, personal_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / ".robustsweep").write_text("a file where the folder would be")
    before = read(root)
    assert (personal_cache / f"{before.fingerprint}.npz").is_file()
    assert same(before, read_without_decoding(root, monkeypatch))


def test_folders_that_share_the_users_cache_are_each_hashed_once(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = root.parent / "other"
    shutil.copytree(root, other)
    save(other / "train" / "cat" / "0.png", np.zeros((8, 8, 3)))
    for each in (root, other):
        (each / ".robustsweep").write_text("a file where the folder would be")
    before = fingerprint(root), fingerprint(other)
    monkeypatch.setattr(image_folder, "_digest", lambda _: pytest.fail("hashed again"))
    assert (fingerprint(root), fingerprint(other)) == before
    assert before[0] != before[1]


def test_what_is_kept_can_be_read_by_whoever_shares_the_folder(root: Path) -> None:
    read(root)
    modes = {file.name: file.stat().st_mode & 0o777 for file in (root / ".robustsweep").iterdir()}
    assert {mode for name, mode in modes.items() if name != "lock"} == {0o644}


def test_where_nothing_can_be_written_both_places_are_named(root: Path, personal_cache: Path) -> None:
    (root / ".robustsweep").write_text("")
    personal_cache.parent.write_text("")
    with pytest.raises(UserError) as error:
        read(root)
    assert str(error.value) == (
        f"data.root: decoded images can be kept neither in {root}/.robustsweep nor in {personal_cache}; "
        "make one of them writable, or set XDG_CACHE_HOME"
    )


def cannot_be_written(root: Path, full_disk: FullDisk) -> None:
    with full_disk(after=100), pytest.raises(UserError) as error:
        read(root)
    assert re.fullmatch(
        rf"data\.root: {root}/\.robustsweep/[\w.-]+\.(npz|json) cannot be written \(File too large\)", str(error.value)
    )


def test_an_array_file_that_fails_in_the_middle_leaves_nothing_behind(root: Path, full_disk: FullDisk) -> None:
    before = fingerprint(root)
    cannot_be_written(root, full_disk)
    assert {file.name for file in (root / ".robustsweep").iterdir()} == {"lock", "index.json"}
    assert fingerprint(root) == before


def test_an_index_that_fails_in_the_middle_leaves_the_old_one_whole(root: Path, full_disk: FullDisk) -> None:
    before = read(root)
    files = {file: file.read_bytes() for file in (root / ".robustsweep").iterdir()}
    os.utime(root / "train" / "cat" / "0.png", (1, 1))
    cannot_be_written(root, full_disk)
    assert {file: file.read_bytes() for file in (root / ".robustsweep").iterdir()} == files
    assert same(before, read(root))


def test_the_array_file_and_the_index_take_their_places_whole(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace, moved = os.replace, {}

    def spied(source: str, target: Path) -> None:
        assert not target.exists()
        moved[target.name] = Path(source).read_bytes()
        replace(source, target)

    monkeypatch.setattr(os, "replace", spied)
    read(root)
    assert moved == {file.name: file.read_bytes() for file in (root / ".robustsweep").iterdir() if file.name != "lock"}
    assert len(moved) == 2


SLOW_READ = """
import sys, time
from pathlib import Path
from trainers.data import image_folder

decoded = image_folder._decoded

def slowly(*arguments):
    print("decoded")
    time.sleep(1)
    return decoded(*arguments)

image_folder._decoded = slowly
source = image_folder.read(image_folder.listing(Path(sys.argv[1])), None)
print(source.fingerprint, source.train_images.sum(), source.test_images.sum())
"""


@pytest.mark.slow
def test_of_two_processes_at_once_one_decodes_and_both_read_the_same(root: Path) -> None:
    command = [sys.executable, "-c", SLOW_READ, str(root)]
    repository = Path(__file__).parents[3]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=repository) for _ in range(2)]
    lines = [process.communicate(timeout=60)[0].splitlines() for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert lines[0][-1] == lines[1][-1]
    assert sorted(len(output) for output in lines) == [1, 2]


# What is wrong with it


def refused(root: Path, image_size: int | None = None) -> str:
    with pytest.raises(UserError) as error:
        read(root, image_size)
    return str(error.value)


def test_a_missing_root_split_class_or_image_says_what_must_be_there(tmp_path: Path) -> None:
    root = tmp_path / "data"
    assert refused(root) == f"data.root: {root} is not a folder; {LAYOUT}"
    root.mkdir()
    assert refused(root) == f"data.root: {root} has no folder train; {LAYOUT}"
    (root / "train").mkdir()
    assert refused(root) == f"data.root: {root} has no folder test; {LAYOUT}"
    (root / "test").mkdir()
    assert refused(root) == f"data.root: {root}/train has no folders; {LAYOUT}"
    (root / "train" / "cat").mkdir()
    (root / "test" / "cat").mkdir()
    suffixes = ".bmp .jpeg .jpg .pgm .png .ppm .tif .tiff .webp"
    assert refused(root) == f"data.root: {root}/train/cat holds no images ({suffixes})"


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_class_in_one_split_only_is_named(root: Path, split: str) -> None:
    save(root / split / "emu" / "0.png", np.zeros((8, 8, 3)))
    assert refused(root) == (
        f"data.root: {root}: train/ and test/ must have the same classes, but 'emu' is only in {split}/"
    )


def test_an_unreadable_image_is_named(root: Path) -> None:
    image = root / "train" / "dog" / "1.png"
    image.write_bytes(image.read_bytes()[:60])
    assert refused(root).startswith(f"data.root: {image} is no readable image (")
    image.write_text("not an image")
    assert refused(root) == (
        f"data.root: {image} is no readable image (cannot identify image file); mend it or remove it"
    )


def test_an_image_of_16_bits_is_refused_rather_than_clipped(root: Path) -> None:
    image = root / "train" / "dog" / "1.png"
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(image)
    assert refused(root) == f"data.root: {image} has more than 8 bits a channel (I;16); convert it"


def test_images_of_two_sizes_are_named_with_their_sizes(root: Path) -> None:
    save(root / "test" / "cat" / "1.png", np.zeros((9, 7, 3)))
    assert refused(root) == (
        f"data.image_size: images must have one size, but {root}/train/cat/0.png is 8 x 8 and "
        f"{root}/test/cat/1.png is 9 x 7 pixels; set data.image_size to resize them"
    )


# Real images


def measuring_data() -> Path:
    beside = Path(__file__).parents[4] / "shared" / "data"
    folder = Path(os.environ.get("ROBUSTSWEEP_DATA", beside))
    if not (folder / "cifar10_jpeg75.tar.xz").exists() or not (folder / "cifar10_exact_subset.npz").exists():
        pytest.skip(f"no cifar10_jpeg75.tar.xz and cifar10_exact_subset.npz in {folder}; set ROBUSTSWEEP_DATA")
    return folder


@pytest.mark.slow
def test_cifar10_as_jpeg_files_is_close_to_the_exact_pixels(tmp_path: Path) -> None:
    folder = measuring_data()
    with tarfile.open(folder / "cifar10_jpeg75.tar.xz") as archive:
        for member in archive:
            if member.name.endswith(("/0000.jpg", "/0001.jpg", "/0002.jpg")):
                archive.extract(member, tmp_path, filter="data")
    source = read(tmp_path / "jpeg")
    exact = np.load(folder / "cifar10_exact_subset.npz")
    pixels, labels = exact["x_test"].transpose(0, 3, 1, 2), exact["y_test"]
    first = np.concatenate([np.flatnonzero(labels == label)[:3] for label in range(10)])
    assert source.test_labels.tolist() == labels[first].tolist()
    difference = np.abs(source.test_images.astype(int) - pixels[first])
    assert difference.mean() == pytest.approx(5.8, abs=1.5)  # of 255; 5.8 over all images
