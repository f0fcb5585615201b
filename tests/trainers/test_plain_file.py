"""Files that are nothing but files."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from trainers import plain_file
from trainers.plain_file import bounded, is_plain, plain


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """A file that is not the run's."""
    path = tmp_path / "other"
    path.write_text("other\n")
    return path


def append(path: Path) -> None:
    with open(path, "a", opener=plain) as file:
        file.write("ours")


@pytest.mark.parametrize("kind", ["symlink", "link", "dangling"])
def test_what_is_written_in_place_goes_into_no_other_file(kind: str, other: Path, tmp_path: Path) -> None:
    path = tmp_path / "ours"
    {"symlink": path.symlink_to, "link": path.hardlink_to, "dangling": lambda _: path.symlink_to(tmp_path / "none")}[
        kind
    ](other)
    with pytest.raises(OSError, match=r"is a (symbolic|hard) link, and is written to in place") as caught:
        append(path)
    assert caught.value.filename == str(path)
    assert other.read_text() == "other\n"
    assert not (tmp_path / "none").exists()


def test_a_link_is_read(other: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").symlink_to(other)
    with open(tmp_path / "ours", opener=plain) as file:
        assert file.read() == "other\n"


def test_a_folder_that_is_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "big").mkdir()
    (tmp_path / "run").symlink_to(tmp_path / "big")
    append(tmp_path / "run" / "ours")
    assert (tmp_path / "big" / "ours").read_text() == "ours"


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR | os.O_CREAT | os.O_APPEND])
def test_a_pipe_is_refused_and_not_waited_for(flags: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a regular file"):
        plain(str(tmp_path / "pipe"), flags)


def test_a_folder_is_called_one(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=os.strerror(errno.EISDIR)):
        plain(str(tmp_path), os.O_RDONLY)


def test_a_pipe_that_somebody_writes_is_read_to_its_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=(b"x" * 200_000,))
    writer.start()
    assert bounded(tmp_path / "pipe", 10**6) == b"x" * 200_000
    writer.join()


def test_a_pipe_that_nobody_writes_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_file, "PATIENCE", 0.1)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"nothing came within 0\.1 s"):
        bounded(tmp_path / "pipe", 10)


def test_a_file_is_read_up_to_its_bound_and_a_device_without_end_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert bounded(tmp_path / "file", 4) == b"1234"
    for path in (tmp_path / "file", Path("/dev/zero")):
        with pytest.raises(OSError, match="is longer than 3 bytes"):
            bounded(path, 3)


def test_a_file_takes_the_place_of_a_file_alone(other: Path, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(other)
    assert [is_plain(path) for path in (other, tmp_path / "new")] == [True, True]
    assert not any(is_plain(path) for path in (tmp_path, tmp_path / "pipe", tmp_path / "link", Path("/dev/null")))
