from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prepared import SIZE, asked, refused

from trainers.config import DataConfig, TrialConfig
from trainers.data import moments, preparing, sets, shards, sources
from trainers.data.mapped import Mapped
from trainers.errors import Absent, validated
from trainers.identity import trial_id
from trainers.loop import train, with_fingerprint
from trainers.record import EpochRecord

FullDisk = Callable[..., AbstractContextManager[None]]

pytestmark = pytest.mark.usefixtures("small_chunks")


# What is read


def config(root: Path, **more: Any) -> DataConfig:
    return DataConfig(name="shards", root=str(root), validation_fraction=0.2, **more)


def test_a_split_is_mapped_and_its_images_are_those_of_the_file(written: Path) -> None:
    data, source = sets.load(config(written), "cpu"), shards.read(written)
    assert isinstance(data.train.images, Mapped)
    assert isinstance(data.test.images, Mapped)
    assert (len(data.train.labels), len(data.val.labels), len(data.test.labels)) == (48, 12, 20)
    held_out = sources.validation_mask(source.train_labels, 0.2)
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
    (shape,) = sources.shapes([config(written)]).values()
    assert shape == sources.Shape(48, 12, 20, 4, 3, SIZE, SIZE, mapped=True)
    assert sources.fingerprint(config(written)) == shards.index(written).fingerprint
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
import sys, threading, torch
from torch import nn
from trainers import training
from trainers.config import TrialConfig
from trainers.loop import train

def anonymous():
    lines = dict(line.split(":") for line in open("/proc/self/status").read().splitlines())
    return int(lines["RssAnon"].split()[0]) / 1024

torch.set_num_threads(1)
peak, ended = [anonymous()], threading.Event()
def watch():
    while not ended.wait(0.01):
        peak.append(anonymous())
training.fine_tuning.network = lambda *_: nn.Sequential(nn.AvgPool2d(64), nn.Flatten(), nn.Linear(48, 4))
threading.Thread(target=watch, daemon=True).start()
trial = TrialConfig.model_validate({
    "data": {"name": "shards", "root": sys.argv[1], "validation_fraction": 0.01, "train_per_class": 40},
    "model": {"name": "small_cnn", "normalize": False}, "objective": {"name": "natural"}, "epochs": 1,
    "evaluation": {"steps": 1, "restarts": 1, "batch_size": 16}, "batch_size": 16, "device": "cpu",
})
assert train(trial, lambda record: None).outcome == "completed"
ended.set()
print(max(peak) - peak[0])
"""


def black(folder: Path, train: int, test: int, size: int) -> None:
    """Shards of black images, which take no room on the disk."""
    folder.mkdir()
    shape, chunk_images = (3, size, size), 64
    pixels = int(np.prod(shape))
    parts = {}
    for split, count in (("train", train), ("test", test)):
        labels, header = np.arange(count) % 4, shards.header_bytes((count, *shape), np.dtype(np.uint8))
        np.save(shards.labels_path(folder, split), labels)
        with shards.images_path(folder, split).open("wb") as file:
            file.write(header)
            file.truncate(len(header) + count * pixels)
        known = {of: shards.digest(bytes(of * pixels)) for of in {chunk_images, count % chunk_images}}
        hashes = tuple(known[chunk.images] for chunk in shards.chunks(split, count, chunk_images))
        parts[split] = shards.Part(images=count, labels=shards.digest(labels.tobytes()), chunks=hashes)
    classes = tuple("abcd")
    known_by = shards.fingerprint_of(classes, shape, chunk_images, parts)
    made = shards.Made(folder="", test="test", image_size=None, resize="", cropped=False, listing="", pillow="")
    numbers = {"channels": 3, "height": size, "width": size, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    index = shards.Index(
        layout=shards.LAYOUT,
        fingerprint=known_by,
        classes=classes,
        **numbers,
        chunk_images=chunk_images,
        **parts,
        made=made,
    )
    (folder / shards.INDEX).write_text(index.model_dump_json())


@pytest.mark.slow
def test_a_trial_on_shards_holds_a_small_part_of_its_images(tmp_path: Path) -> None:
    """Sparse files, of which few steps read a small part: all of them would be there where they are not mapped."""
    black(tmp_path / "shards", 10_600, 200, 256)
    megabytes = 10_800 * 3 * 256 * 256 / 2**20
    done = subprocess.run(
        [sys.executable, "-c", EPOCH, str(tmp_path / "shards")], check=True, capture_output=True, text=True
    )
    print(f"anonymous memory of a trial, MB: {float(done.stdout):.0f}; its images are {megabytes:.0f}")
    assert float(done.stdout) < megabytes / 4
