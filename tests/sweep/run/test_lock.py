"""The lock of a run directory where storage has flock: launches for themselves, and shares together."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest
from locks import come_and_go, holding, refusal

from sweep.run import lock
from sweep.run.directory import EVALUATION, RunLock, is_live
from sweep.run.lock import in_the_way
from sweep.share import Share


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sweep.run.lock.PATIENCE", 0.1)
    return tmp_path / "run"


def test_shares_of_one_number_hold_a_directory_together_and_leave_nothing(directory: Path) -> None:
    shares = [Share(index, 3) for index in (1, 2, 3)]
    locks = [RunLock(directory, share=share) for share in shares]
    for held in locks:
        assert is_live(directory)
        with held:
            pass
    assert not is_live(directory)
    assert list(directory.iterdir()) == []


def test_a_share_is_held_once_and_its_holder_is_named(directory: Path) -> None:
    with RunLock(directory, share=Share(1, 2)), RunLock(directory, share=Share(2, 2)):
        told = refusal(lambda: RunLock(directory, share=Share(2, 2)))
    name = rf"sweep launch --shard 2/2, process {os.getpid()} on "
    assert told.startswith(f"{directory}: is in use by another command ({name}")
    assert told.endswith("; wait for it, or take another directory")


def test_another_number_of_shares_is_told_which_would_do(directory: Path) -> None:
    with RunLock(directory, share=Share(1, 4)):
        told = refusal(lambda: RunLock(directory, share=Share(1, 2)))
    assert "(sweep launch --shard 1/4, process " in told
    assert told.endswith("; wait for it, or give --shard i/4, which runs beside it")


@pytest.mark.parametrize("holder", ["sweep launch, process", EVALUATION])
def test_who_wants_all_and_shares_exclude_each_other(holder: str, directory: Path) -> None:
    with RunLock(directory, share=Share(1, 4)):
        assert "(sweep launch --shard 1/4, process " in refusal(lambda: RunLock(directory, holder))
    with RunLock(directory, holder):
        assert f"({holder} {os.getpid()} on " in refusal(lambda: RunLock(directory, share=Share(1, 4)))


def test_a_killed_share_is_free_and_what_it_left_goes_with_the_last(directory: Path) -> None:
    with holding(directory, "1/2") as holder:
        assert is_live(directory)
        holder.kill()
        holder.wait()
        assert not is_live(directory)
    assert (directory / ".lock-1of2").exists()
    with RunLock(directory, share=Share(1, 2)):
        assert is_live(directory)
    assert list(directory.iterdir()) == []


def test_a_killed_launch_is_not_named_where_shares_run(directory: Path) -> None:
    with holding(directory) as holder:
        holder.kill()
        holder.wait()
    with RunLock(directory, share=Share(1, 2)):
        assert "(sweep launch --shard 1/2, process " in refusal(lambda: RunLock(directory))


def test_an_array_that_starts_at_once_holds_all_its_shares(directory: Path) -> None:
    with ThreadPoolExecutor(64) as pool:
        locks = list(pool.map(lambda index: RunLock(directory, share=Share(index, 64)), range(1, 65)))
        assert is_live(directory)
        list(pool.map(lambda lock: lock.__exit__(None, None, None), locks))
    assert not directory.exists() or list(directory.iterdir()) == []


def test_of_processes_that_come_and_go_at_once_none_meets_one_that_excludes_it(tmp_path: Path) -> None:
    held = come_and_go(tmp_path)
    assert sum(held) >= 20, held
    assert not (tmp_path / "run").exists() or list((tmp_path / "run").iterdir()) == []


def test_a_folder_that_goes_with_others_is_made_again(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    openings = iter(range(10))

    def gone_at_first(path: Path) -> IO[str]:
        if next(openings) < 5:
            directory.rmdir()
        return opened(path)

    opened = lock._open
    monkeypatch.setattr(lock, "_open", gone_at_first)
    with RunLock(directory):
        assert is_live(directory)
    assert next(openings) == 6


def test_a_file_in_the_place_of_the_folder_is_refused(directory: Path) -> None:
    directory.touch()
    assert "cannot be written: File exists; give a folder that can" in refusal(lambda: RunLock(directory))


def test_a_share_waits_at_the_door_for_those_before_it(directory: Path) -> None:
    import fcntl

    with RunLock(directory, share=Share(1, 2)), (directory / ".lock-door").open("a") as door:
        fcntl.flock(door, fcntl.LOCK_EX)
        threading.Timer(1.5, fcntl.flock, (door, fcntl.LOCK_UN)).start()
        began = time.monotonic()
        with RunLock(directory, share=Share(2, 2)):
            assert time.monotonic() - began > 1


def test_who_excludes_whom() -> None:
    shares = [None, *(Share(i, n) for n in (1, 2, 3) for i in range(1, n + 1))]
    for own in shares:
        for other in shares:
            beside = own is not None and other is not None and own.count == other.count and own != other
            assert (in_the_way(own, [("one", other)]) is None) == beside
    assert in_the_way(None, []) is None
