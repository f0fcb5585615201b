from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import write_pictures
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from trainers.config import DataConfig, TrialConfig
from trainers.data import chunk, image_folder, moments, preparing, sets, shards
from trainers.data.mapped import Mapped
from trainers.data.preparing import Asked
from trainers.errors import Absent, UserError, validated
from trainers.identity import trial_id
from trainers.loop import train, with_fingerprint
from trainers.record import EpochRecord

FullDisk = Callable[..., AbstractContextManager[None]]

SIZE = 16
COMMAND = "sweep data prepare FOLDER"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 training and 20 test pictures of 4 classes, of several sizes."""
    return write_pictures(tmp_path_factory.mktemp("pictures"), 60, 20)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of 10 pictures."""
    monkeypatch.setattr(shards, "CHUNK_BYTES", 10 * 3 * SIZE * SIZE)


@pytest.fixture
def pool() -> Iterator[Executor]:
    with ThreadPoolExecutor(2) as threads:
        yield threads


def asked(root: Path, size: int | None = SIZE, cropped: bool = True) -> Asked:
    return Asked(image_folder.listing(root), size, cropped, COMMAND)


@pytest.fixture
def written(pictures: Path, pool: Executor, tmp_path: Path) -> Path:
    """Whole shards."""
    preparing.prepare(asked(pictures), tmp_path / "shards", pool)
    return tmp_path / "shards"


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def refused(act: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        act()
    assert "\n" not in str(error.value)
    return str(error.value)


# What is written


def test_pixels_are_those_of_torchvisions_resize_and_centre_crop(pictures: Path, written: Path) -> None:
    source = shards.read(written)
    paths = sorted((pictures / "train").rglob("*.JPEG"))
    assert source.train_images.shape == (60, 3, SIZE, SIZE)
    for place, path in enumerate(paths):
        with Image.open(path) as image:
            resized = transforms.resize(image.convert("RGB"), [SIZE])
            wanted = transforms.pil_to_tensor(transforms.center_crop(resized, [SIZE]))
        assert np.array_equal(source.train_images[place], wanted.numpy())


def test_labels_classes_and_moments_are_those_of_the_images(written: Path) -> None:
    source = shards.read(written)
    assert source.classes == ("n0000", "n0001", "n0002", "n0003")
    assert source.train_labels.tolist() == sorted(list(range(4)) * 15)
    assert source.test_labels.tolist() == sorted(list(range(4)) * 5)
    assert (source.mean, source.std) == moments.of_images(np.array(source.train_images), np.arange(60))


def test_the_fingerprint_is_that_of_the_content(pictures: Path, written: Path, pool: Executor, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(pictures, moved)
    same = preparing.prepare(asked(moved), tmp_path / "same", pool)
    other = preparing.prepare(asked(pictures, SIZE, cropped=False), tmp_path / "other", pool)
    assert shards.index(written).fingerprint == same.fingerprint != other.fingerprint
    assert re.fullmatch(r"shards-[0-9a-f]{16}", same.fingerprint)


def test_the_index_says_how_they_were_made(pictures: Path, written: Path) -> None:
    made = shards.index(written).made
    assert (made.folder, made.test, made.image_size) == (str(pictures), "val", SIZE)
    assert made.resize == "shorter side to 16, then the middle 16 x 16; bilinear, averaging where it makes smaller"


def test_processes_write_the_same_bytes_as_threads(pictures: Path, written: Path, tmp_path: Path) -> None:
    with chunk.processes(1) as pool:
        preparing.prepare(asked(pictures), tmp_path / "again", pool)
    assert files(tmp_path / "again") == files(written)


# Stopped, and gone on from


def decoded(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are decoded from now on."""
    found, rgb = [], chunk.rgb
    monkeypatch.setattr(chunk, "rgb", lambda path, *how: (found.append(path), rgb(path, *how))[1])
    return found


def test_a_finished_folder_is_verified_and_nothing_is_decoded_again(
    pictures: Path, written: Path, pool: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, again = files(written), decoded(monkeypatch)
    preparing.prepare(asked(pictures), written, pool)
    assert not again
    assert files(written) == before


def test_a_damaged_chunk_alone_is_decoded_again(
    pictures: Path, written: Path, pool: Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, again = files(written), decoded(monkeypatch)
    with (written / "train_images.npy").open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"other")
    preparing.prepare(asked(pictures), written, pool)
    assert len(again) == 10
    assert files(written) == before


def test_a_full_disk_loses_nothing_that_is_there(
    pictures: Path, written: Path, pool: Executor, tmp_path: Path, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, put = tmp_path / "full", chunk._put

    def full(work: chunk.Work, pixels: Any) -> None:
        if work.chunk.number >= 3:
            raise OSError(28, "No space left on device", str(work.path))
        put(work, pixels)

    with monkeypatch.context() as patch:
        patch.setattr(chunk, "_put", full)
        text = refused(lambda: preparing.prepare(asked(pictures), folder, pool))
    there = re.fullmatch(
        rf"{folder}/train_images.npy cannot be written \(No space left on device\); the ([0-9]) chunks? that there are "
        "stay: the same command goes on with them",
        text,
    )
    assert there
    again = decoded(monkeypatch)
    preparing.prepare(asked(pictures), folder, pool)
    assert len(again) <= 80 - 10 * int(there[1])
    assert files(folder) == files(written)
    with full_disk(after=1000):
        text = refused(lambda: preparing.prepare(asked(pictures), tmp_path / "no room", pool))
    assert "no room/train_images.npy cannot be written (File too large)" in text


def test_without_room_nothing_is_begun(
    pictures: Path, pool: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    assert refused(lambda: preparing.prepare(asked(pictures), tmp_path / "no", pool)) == (
        f"{tmp_path}/no: 0.0 GiB more are needed there, and 0.0 GiB are free; make room, or write to another disk"
    )


def test_bad_images_are_named_together_and_mended_ones_are_all_that_is_done_again(
    pictures: Path, written: Path, pool: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, folder = tmp_path / "root", tmp_path / "again"
    shutil.copytree(pictures, root)
    bad = [root / "train" / "n0001" / "00001.JPEG", root / "val" / "n0003" / "00003.JPEG"]
    bad[0].write_bytes(b"not an image")
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(bad[1], format="PNG")
    text = refused(lambda: preparing.prepare(asked(root), folder, pool))
    assert text == (
        f"2 images cannot be taken: {bad[0]} is no readable image (cannot identify image file {str(bad[0])!r}); mend "
        f"it or remove it; {bad[1]} has more than 8 bits a channel (I;16); convert it; then the same command goes on"
    )
    for path in bad:
        shutil.copy(pictures / path.relative_to(root), path)
    again = decoded(monkeypatch)
    preparing.prepare(asked(root), folder, pool)
    assert len(again) == 20
    assert {name: text for name, text in files(folder).items() if name != "index.json"} == {
        name: text for name, text in files(written).items() if name != "index.json"
    }


def test_of_many_bad_images_a_few_are_named(tmp_path: Path, pool: Executor) -> None:
    root = write_pictures(tmp_path / "root", 30, 4)
    for path in (root / "train").rglob("*.JPEG"):
        path.write_bytes(b"")
    text = refused(lambda: preparing.prepare(asked(root), tmp_path / "shards", pool))
    assert text.startswith("30 images cannot be taken: ")
    assert text.count("is no readable image") == 5
    assert text.endswith("; and 25 more; then the same command goes on")


def test_images_of_several_sizes_need_a_size(pictures: Path, pool: Executor, tmp_path: Path) -> None:
    text = refused(lambda: preparing.prepare(asked(pictures, None), tmp_path / "shards", pool))
    assert re.fullmatch(
        rf"images must have one size, but the first is \d+ x \d+ and {pictures}/train/n000\d/\d+.JPEG is \d+ x \d+ "
        "pixels; give --size, or set data.image_size, to resize them",
        text,
    )
    preparing.prepare(asked(pictures), tmp_path / "shards", pool)  # nothing was there yet that another size would lose


def test_what_else_is_in_a_folder_stays(pictures: Path, written: Path, pool: Executor, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("")
    assert refused(lambda: preparing.prepare(asked(pictures), tmp_path / "mine", pool)) == (
        f"{tmp_path}/mine is not empty (thesis.tex); give another folder to write to"
    )
    assert refused(lambda: preparing.prepare(asked(pictures, 8), written, pool)) == (
        f"{written} holds shards of other images, or of another size ({pictures}, 16 x 16); give another folder to "
        "write to, or remove that one"
    )


PREPARE = """
import sys
from pathlib import Path
from trainers.data import chunk, image_folder, preparing, shards

if __name__ == "__main__":
    shards.CHUNK_BYTES = 10 * 3 * 64 * 64
    with chunk.processes(2) as pool:
        asked = preparing.Asked(image_folder.listing(Path(sys.argv[1])), 64, True, "again")
        preparing.prepare(asked, Path(sys.argv[2]), pool)
"""


def started(script: Path, root: Path, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, str(script), str(root), str(folder)])


def children(process: int) -> list[int]:
    listed = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(one) for one in listed]


def until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


def killed(process: subprocess.Popen[bytes], folder: Path, chunks: int) -> None:
    """Kills a preparation once so many chunks are there, and waits for the end of what it started."""
    until(lambda: shards.chunks_there(folder) > chunks or process.poll() is not None)
    assert process.poll() is None, "it ended before it could be killed"
    workers = children(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(Path(f"/proc/{worker}").exists() for worker in workers))


@pytest.mark.slow
def test_a_preparation_that_is_killed_goes_on_to_the_same_bytes_and_leaves_no_process(tmp_path: Path) -> None:
    root, script = write_pictures(tmp_path / "root", 3000, 400), tmp_path / "prepare.py"
    script.write_text(PREPARE)
    assert started(script, root, tmp_path / "whole").wait() == 0
    folder = tmp_path / "killed"
    for _ in range(3):
        killed(started(script, root, folder), folder, shards.chunks_there(folder) + 20)
    assert "is half prepared" in refused(lambda: shards.read(folder))
    assert started(script, root, folder).wait() == 0
    assert files(folder) == files(tmp_path / "whole")


def test_a_line_of_the_journal_that_is_torn_is_a_chunk_that_is_not_there(
    pictures: Path, written: Path, pool: Executor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, whole = tmp_path / "torn", files(written)
    shutil.copytree(written, folder)
    (folder / "index.json").unlink()
    listed, found = image_folder.listing(pictures), json.loads(whole["index.json"])
    first = {"folder": str(pictures), "image_size": SIZE, "cropped": True, "command": COMMAND}
    lines = [
        ["train", place, preparing._key(listed.train[10 * place : 10 * place + 10]), one]
        for place, one in enumerate(found["train"]["chunks"])
    ]
    text = "\n".join(map(json.dumps, [first, *lines]))
    (folder / "chunks.jsonl").write_text(text[:-20])
    again = decoded(monkeypatch)
    preparing.prepare(asked(pictures), folder, pool)
    assert len(again) == 10 + 20
    assert files(folder) == whole


# What is read


def config(root: Path, **more: Any) -> DataConfig:
    return DataConfig(name="shards", root=str(root), validation_fraction=0.2, **more)


def test_a_split_is_mapped_and_its_images_are_those_of_the_file(written: Path) -> None:
    data, source = sets.load(config(written), "cpu"), shards.read(written)
    assert isinstance(data.train.images, Mapped)
    assert isinstance(data.test.images, Mapped)
    assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (48, 12, 20)
    held_out = sets.validation_mask(source.train_labels, 0.2)
    assert np.array_equal(data.val.images[:].numpy(), source.train_images[held_out])
    assert np.array_equal(data.train.images[:].numpy(), source.train_images[~held_out])
    assert (data.mean, data.std, data.image_size, data.channels) == (source.mean, source.std, (SIZE, SIZE), 3)


def test_moments_of_a_part_are_of_that_part(written: Path) -> None:
    source = shards.read(written)
    some = np.sort(np.concatenate([np.flatnonzero(source.train_labels == label)[:3] for label in range(4)]))
    data = sets.load(config(written, train_per_class=3), "cpu")
    assert (data.mean, data.std) == moments.of_images(source.train_images, some)
    assert data.mean != source.mean


def test_a_plan_reads_no_image(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split in ("train", "test"):  # as long as it was, and nothing in it
        path = written / f"{split}_images.npy"
        with path.open("rb") as file:
            header = len(shards.header_bytes(np.lib.format.open_memmap(path, mode="r").shape, np.dtype(np.uint8)))
            start, size = file.read(header), path.stat().st_size
        path.write_bytes(start)
        os.truncate(path, size)
    (shape,) = sets.shapes([config(written)]).values()
    assert shape == sets.Shape(48, 12, 20, 4, 3, SIZE, SIZE, mapped=True)
    assert sets.fingerprint(config(written)) == shards.index(written).fingerprint
    assert "are not what was written" in refused(lambda: sets.load(config(written), "cpu"))


def damage(written: Path, name: str, change: Callable[[bytes], bytes]) -> str:
    path = written / name
    path.write_bytes(change(path.read_bytes()))
    return refused(lambda: shards.read(written))


AGAIN = "copy it again, or give the command that prepared it, which mends it"


def test_what_is_missing_half_there_or_damaged_says_so(written: Path, tmp_path: Path) -> None:
    def fresh() -> Path:
        return shutil.copytree(written, tmp_path / os.urandom(4).hex())

    with pytest.raises(Absent) as absent:
        shards.read(tmp_path / "none")
    assert str(absent.value) == (
        f"data.root: {tmp_path}/none is not a folder; it must hold shards, which sweep data prepare writes"
    )
    (tmp_path / "empty").mkdir()
    assert refused(lambda: shards.read(tmp_path / "empty")) == (
        f"data.root: {tmp_path}/empty holds no shards: it has no index.json; write them with sweep data prepare FOLDER"
    )
    half = fresh()
    (half / "index.json").unlink()
    (half / "chunks.jsonl").write_text(json.dumps({"command": "sweep data prepare X --size 3"}) + "\n[]\n")
    assert refused(lambda: shards.read(half)) == (
        f"data.root: {half} is half prepared (1 chunk there); go on with: sweep data prepare X --size 3"
    )
    one = fresh()
    size = (one / "train_images.npy").stat().st_size
    assert damage(one, "train_images.npy", lambda text: text[:-7]) == (
        f"data.root: {one}/train_images.npy must have {size:,} bytes, as its index.json says, and has {size - 7:,}; "
        + AGAIN
    )
    one = fresh()
    assert damage(one, "train_images.npy", lambda text: text[:-1] + bytes([text[-1] ^ 1])) == (
        f"data.root: {one}/train_images.npy: images 50 to 59 are not what was written; {AGAIN}"
    )
    one = fresh()
    assert damage(one, "test_images.npy", lambda text: text.replace(b"(20, ", b"(02, ")) == (
        f"data.root: {one}/test_images.npy must hold uint8 (20, 3, 16, 16), as its index.json says, and does not; "
        + AGAIN
    )
    one = fresh()
    assert damage(one, "train_labels.npy", lambda text: text[:-8] + b"\3" + text[-7:-1] + b"\1") == (
        f"data.root: {one}/train_labels.npy is damaged: it is not what was written; {AGAIN}"
    )
    one = fresh()
    (one / "test_labels.npy").unlink()
    assert refused(lambda: shards.read(one)) == (
        f"data.root: {one}/test_labels.npy cannot be read (No such file or directory); {AGAIN}"
    )


def test_an_index_that_is_damaged_or_of_another_version_says_so(written: Path) -> None:
    text = (written / "index.json").read_text()
    found = json.loads(text)
    path = written / "index.json"
    again = "copy it again, or remove it and prepare the shards again"
    for content, said in (
        (text[:50], f"is damaged; {again}"),
        (json.dumps(found | {"height": "many"}), f"is damaged (height); {again}"),
        (
            json.dumps(found | {"layout": "robustsweep shards 7"}),
            "is of layout 'robustsweep shards 7', and this version reads 'robustsweep shards 1'; update, or prepare "
            "them again",
        ),
        (
            json.dumps(found | {"classes": ["a", "b", "c", "d"]}),
            "is damaged: its fingerprint is not its content's; copy it again",
        ),
    ):
        path.write_text(content)
        assert refused(lambda: shards.index(written)) == f"data.root: {path} {said}"


def test_labels_of_no_class_are_refused(written: Path) -> None:
    """Of shards that others wrote: the hashes hold."""
    found = shards.index(written)
    path = written / "test_labels.npy"
    labels = np.full(20, 4, np.int64)
    np.save(path, labels)
    part = found.test.model_copy(update={"labels": shards.digest(labels.tobytes())})
    mark = shards.fingerprint_of(found.classes, found.shape, found.chunk_images, {"train": found.train, "test": part})
    other = found.model_copy(update={"test": part, "fingerprint": mark})
    (written / "index.json").write_text(other.model_dump_json())
    assert refused(lambda: shards.read(written)) == (
        f"data.root: {path}: labels must be from 0 to 3, the classes of index.json, got 4 to 4; write it again"
    )


def test_the_config_asks_for_a_folder_and_takes_no_size() -> None:
    assert refused(lambda: validated(DataConfig, {"name": "shards"})) == (
        "root: needed for shards: the folder that holds what sweep data prepare wrote"
    )
    assert refused(lambda: validated(DataConfig, {"name": "shards", "root": "x", "image_size": 64})) == (
        "image_size: shards have the size that they were prepared with (--size); leave it out"
    )


# A trial


TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}


def trained(data: dict[str, Any]) -> tuple[str, list[EpochRecord]]:
    trial = TrialConfig.model_validate(
        {
            "data": {"validation_fraction": 0.2, "policy": "trivialaugment", **data},
            "model": {"name": "small_cnn"},
            "batch_size": 16,
            "epochs": 2,
            "attack": {"radius": 0.1, "step_size": 0.05, "steps": 2},
            "evaluation": {"steps": 1, "splits": ["val", "test"]},
            "dynamics": {"every": 1, "images": 20, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4},
        }
    )
    records: list[Any] = []
    assert train(trial, records.append).outcome == "completed"
    name = trial_id(with_fingerprint(trial))
    return name, [replace(one, **TIMES) for one in records if isinstance(one, EpochRecord)]


def test_a_trial_on_shards_is_the_trial_on_the_same_images_in_memory_to_the_bit(
    pictures: Path, pool: Executor, tmp_path: Path
) -> None:
    preparing.prepare(asked(pictures, SIZE, cropped=False), tmp_path / "shards", pool)
    root = tmp_path / "root"
    shutil.copytree(pictures, root)
    name, far = trained({"name": "shards", "root": str(tmp_path / "shards")})
    other, near = trained({"name": "image_folder", "root": str(root), "image_size": SIZE})
    assert name != other
    assert [replace(one, trial_id="") for one in far] == [replace(one, trial_id="") for one in near]


EPOCH = """
import sys, torch
from torch import nn
from trainers import training
from trainers.config import TrialConfig
from trainers.loop import train

def anonymous():
    lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024

torch.set_num_threads(1)
peak = []
class Watched(nn.Linear):
    def forward(self, x):
        peak.append(anonymous())
        return super().forward(x)
training.fine_tuning.network = lambda *_: nn.Sequential(nn.AvgPool2d(16), nn.Flatten(), Watched(48, 4))
before = anonymous()
trial = TrialConfig.model_validate({
    "data": {"name": sys.argv[1], "root": sys.argv[2], "image_size": int(sys.argv[3]) or None},
    "model": {"name": "small_cnn", "normalize": False}, "objective": {"name": "natural"}, "epochs": 1,
    "evaluation": {"steps": 1, "restarts": 1, "batch_size": 128}, "batch_size": 64, "device": "cpu",
})
assert train(trial, lambda record: None).outcome == "completed"
print(max(peak) - before)
"""


@pytest.mark.slow
def test_a_trial_on_shards_takes_no_memory_for_its_images(tmp_path: Path) -> None:
    root = write_pictures(tmp_path / "root", 6000, 600, suffix="ppm")
    with ThreadPoolExecutor(2) as pool:
        preparing.prepare(asked(root, 64, cropped=False), tmp_path / "shards", pool)
    megabytes = 6600 * 3 * 64 * 64 / 2**20

    def taken(*words: str) -> float:
        done = subprocess.run([sys.executable, "-c", EPOCH, *words], check=True, capture_output=True, text=True)
        return float(done.stdout)

    far = taken("shards", str(tmp_path / "shards"), "0")
    near = taken("image_folder", str(root), "64")
    print(f"anonymous memory of a trial, MB: {far:.0f} mapped, {near:.0f} in memory; the images are {megabytes:.0f}")
    assert near - far > 0.8 * megabytes
