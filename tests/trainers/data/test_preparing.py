from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import Executor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pictures import write_pictures
from PIL import Image
from prepared import COMMAND, SIZE, asked, files, refused
from torchvision.transforms.v2 import functional as transforms

from trainers.data import chunk, image_folder, moments, preparing, shards

FullDisk = Callable[..., AbstractContextManager[None]]

pytestmark = pytest.mark.usefixtures("small_chunks")


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
        f"{tmp_path}/no: 52.0 KiB more are needed there, and 1,000 bytes are free; make room, or write to another disk"
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
        "2 images cannot be taken; once they are mended the same command goes on:\n"
        f"{bad[0]} is no readable image (cannot identify image file); mend it or remove it\n"
        f"{bad[1]} has more than 8 bits a channel (I;16); convert it"
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
    assert text.startswith("30 images cannot be taken; once they are mended the same command goes on:\n")
    assert text.count("is no readable image") == 5
    assert text.endswith("\nand 25 more")


def test_images_of_several_sizes_need_a_size(pictures: Path, pool: Executor, tmp_path: Path) -> None:
    text = refused(lambda: preparing.prepare(asked(pictures, None), tmp_path / "shards", pool))
    assert re.fullmatch(
        rf"images must have one size, but the first is \d+ x \d+ and {pictures}/train/n000\d/\d+.JPEG is \d+ x \d+ "
        "pixels; give --size to resize them",
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
