"""A file is the old one until the new one is whole."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from trainers.files import whole

FullDisk = Callable[..., AbstractContextManager[None]]


def test_a_file_is_the_old_one_until_the_block_ends_and_its_name_keeps_its_ending(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_text("old")
    with whole(path) as part:
        part.write_text("new")
        assert (part.parent, part.suffix) == (tmp_path, ".png")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "figure.png"
    path.write_text("old")

    def interrupted() -> None:
        with whole(path) as part:
            part.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_of_a_full_disk_names_the_file(tmp_path: Path, full_disk: FullDisk) -> None:
    path = tmp_path / "figure.png"
    with full_disk(after=10), pytest.raises(OSError, match="File too large") as caught, whole(path) as part:
        part.write_bytes(bytes(1000))
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_at_once_do_not_share_a_part(tmp_path: Path) -> None:
    with whole(tmp_path / "a") as one, whole(tmp_path / "a") as other:
        one.write_text("1")
        other.write_text("2")
    assert (tmp_path / "a").read_text() == "1"


def test_what_is_written_is_on_the_disk_before_it_is_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: order.append(("fsync", os.fstat(file).st_size)) or fsync(file))
    monkeypatch.setattr(os, "replace", lambda *paths: order.append(("replace",)) or replace(*paths))
    with whole(tmp_path / "a") as part:
        part.write_text("abc")
    assert order == [("fsync", 3), ("replace",)]
