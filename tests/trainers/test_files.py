"""A file is the old one until the new one is whole."""

from __future__ import annotations

import errno
import fcntl
import math
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from locks import without_flock

from trainers import files
from trainers.files import _PART, ABANDONED, PASSING, _owner, hurry, patiently, remove_parts, whole, write
from trainers.machine import machine

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


def test_what_torch_makes_of_a_full_disk_is_that_again(tmp_path: Path, full_disk: FullDisk) -> None:
    path = tmp_path / "weights.pt"
    with (
        full_disk(after=1000),
        pytest.raises(OSError, match="File too large") as caught,
        whole(path) as part,
        part.open("wb") as file,
    ):
        torch.save({"weights": torch.zeros(10_000)}, file)
    assert caught.value.filename == str(path)
    assert list(tmp_path.iterdir()) == []


def test_a_part_is_a_new_file_and_never_the_end_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = iter(["0" * 8, "1" * 8])
    monkeypatch.setattr(secrets, "token_hex", lambda size: next(names))
    (tmp_path / "victim").write_text("mine")
    (tmp_path / f".a-{_owner()}-00000000.part").symlink_to("victim")
    with pytest.raises(FileExistsError) as caught, whole(tmp_path / "a") as part:
        part.write_text("theirs")
    assert caught.value.filename == str(tmp_path / "a")
    with whole(tmp_path / "a") as part:
        part.write_text("new")
    assert (tmp_path / "victim").read_text() == "mine"


def test_a_part_that_cannot_be_removed_when_its_attempt_fails_is_removed_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "unlink", away)
    with pytest.raises(OSError, match="Stale"), whole(tmp_path / "a"):
        raise OSError(errno.ESTALE, "Stale file handle")
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.undo()
    with whole(tmp_path / "b") as part:
        part.write_text("b")
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


WRITER = """
import sys
from pathlib import Path
from trainers.files import whole
with whole(Path(sys.argv[1])) as part:
    print("writes", flush=True)
    sys.stdin.readline()
    part.write_text("whole")
"""


def test_parts_of_dead_processes_are_removed_and_what_a_living_one_writes_is_not(tmp_path: Path) -> None:
    for name in (".a-0123abcd.part", ".sweep-00000000.part.yaml", ".mine-0123.part", "a-01234567.part", ".x.part"):
        (tmp_path / name).write_text("half")
    command = [sys.executable, "-c", WRITER, str(tmp_path / "w")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdin
        assert writer.stdout
        writer.stdout.readline()
        (part,) = tmp_path.glob(".w-*")
        remove_parts(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted(
            tmp_path / name for name in (".mine-0123.part", ".x.part", "a-01234567.part", part.name)
        )
        print(file=writer.stdin, flush=True)
        assert writer.wait() == 0
    assert (tmp_path / "w").read_text() == "whole"
    remove_parts(tmp_path / "none")


def test_a_part_is_removed_while_it_is_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else whoever has just made it locks it in that moment, and then loses it."""
    (part := tmp_path / ".a-0123abcd.part").touch()
    unlink = Path.unlink

    def locked(path: Path, missing_ok: bool = False) -> None:
        with path.open() as other, pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlink(path, missing_ok)

    monkeypatch.setattr(Path, "unlink", locked)
    remove_parts(tmp_path)
    assert not part.exists()


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock)


def test_without_flock_a_part_of_this_machine_goes_once_its_process_is_gone(tmp_path: Path, no_flock: None) -> None:
    command = [sys.executable, "-c", WRITER, str(tmp_path / "w")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        writer.stdout.readline()
        (part,) = tmp_path.glob(".w-*")
        assert f".{writer.pid}.{machine()}-" in part.name
        with whole(tmp_path / "own") as own:
            remove_parts(tmp_path)
            assert sorted(tmp_path.iterdir()) == sorted([part, own])
            own.touch()
        writer.kill()
        writer.wait()
        remove_parts(tmp_path)
        assert list(tmp_path.iterdir()) == [tmp_path / "own"]


@pytest.mark.parametrize("flock", [True, False])
def test_a_part_of_another_machine_goes_once_it_has_not_changed_for_long(
    flock: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if not flock:
        request.getfixturevalue("no_flock")
    for name, age in (("young", ABANDONED - 60), ("old", ABANDONED + 60)):
        part = tmp_path / f".{name}-node-7.12.{'a' * 16}-0123abcd.part.pt"
        part.touch()
        os.utime(part, (time.time() - age,) * 2)
    remove_parts(tmp_path)
    assert [path.name[:6] for path in tmp_path.iterdir()] == [".young"]


def test_a_file_of_the_longest_name_can_be_written_and_its_part_is_known(tmp_path: Path) -> None:
    path = tmp_path / f"{chr(0x1F600) * 60}.pt"
    with whole(path) as part:
        part.touch()
        assert _PART.fullmatch(part.name)
    assert path.exists()


# Patience


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time that passes by sleeping alone; the one value is now, s."""
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", sleep)
    return now


def failing(number: int, until: float, clock: list[float]) -> Callable[[], str]:
    def act() -> str:
        if clock[0] < until:
            raise OSError(number, os.strerror(number))
        return "done"

    return act


@pytest.mark.parametrize("number", sorted(PASSING))
def test_storage_that_is_away_for_ten_seconds_is_waited_for_and_one_line_says_so(
    number: int, clock: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert patiently(tmp_path / "a", failing(number, 10, clock)) == "done"
    assert 10 <= clock[0] < 11.1
    assert caplog.messages == [
        f"{tmp_path / 'a'}: cannot be written: {os.strerror(number)}; waiting for it, up to 60 s"
    ]


def test_for_a_second_it_is_waited_for_in_silence(
    clock: list[float], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert patiently(tmp_path / "a", failing(errno.EIO, 1, clock)) == "done"
    assert caplog.messages == []


@pytest.mark.parametrize(("number", "waited"), [(errno.ENOSPC, 60), (errno.EACCES, 0), (errno.EFBIG, 0)])
def test_what_stays_away_is_given_up_after_a_minute_and_what_no_waiting_mends_at_once(
    number: int, waited: float, clock: list[float], tmp_path: Path
) -> None:
    with pytest.raises(OSError, match=os.strerror(number)):
        patiently(tmp_path / "a", failing(number, 1e9, clock))
    assert clock[0] == pytest.approx(waited)


def test_what_was_waited_for_in_vain_is_not_waited_for_again_until_it_is_back(
    clock: list[float], tmp_path: Path
) -> None:
    for again in range(2):
        with pytest.raises(OSError, match="Stale"):
            patiently(tmp_path / f"{again}", failing(errno.ESTALE, 1e9, clock))
        assert clock[0] == 60
    assert patiently(tmp_path / "a", failing(errno.ESTALE, 0, clock)) == "done"
    assert patiently(tmp_path / "a", failing(errno.ESTALE, 70, clock)) == "done"
    assert clock[0] >= 70


def test_a_process_that_is_to_end_waits_no_longer_than_it_was_given_and_then_as_ever(
    clock: list[float], tmp_path: Path
) -> None:
    clock[0] = 100.0
    hurry(15)
    with pytest.raises(OSError, match="No space"):
        patiently(tmp_path / "a" / "b", failing(errno.ENOSPC, 1e9, clock))
    assert clock[0] == pytest.approx(115, abs=1)
    hurry(math.inf)
    assert patiently(tmp_path / "c" / "d", failing(errno.ENOSPC, 160, clock)) == "done"


def test_a_file_whose_forcing_to_the_disk_fails_is_written_anew(
    clock: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def fsync(descriptor: int) -> None:
        asked.append(os.fstat(descriptor).st_ino)
        if len(asked) < 3:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    path, times = tmp_path / "a", []

    def content(part: Path) -> None:
        times.append(part)
        part.write_text("new")

    write(path, content)
    assert len(asked) == len(set(times)) == 3
    assert path.read_text() == "new"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_no_inodes_are_told_from_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    assert files.why(full, tmp_path / "none" / "a") == "cannot be written: No space left on device"
    monkeypatch.setattr(os, "statvfs", lambda path: SimpleNamespace(f_files=20, f_favail=0))
    assert files.why(full, tmp_path / "a") == "cannot be written: No space left on device: no inodes are left there"


def test_a_file_takes_the_place_of_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    with pytest.raises(OSError, match="is not a regular file"), whole(pipe):
        pass
    assert pipe.is_fifo()
    assert list(tmp_path.iterdir()) == [pipe]
