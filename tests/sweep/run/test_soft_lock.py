"""The lock of a run directory on storage that has no flock; other machines are processes that say they are."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from faults_harness import Commands, numbers
from locks import come_and_go, elsewhere, holding, refusal, without_flock

from sweep.run import soft_lock
from sweep.run.directory import EVALUATION, RunLock, is_live
from sweep.run.lock import LOCK_FILE
from sweep.run.soft_lock import FOLDER, SoftLock
from sweep.share import Share
from trainers import machine
from trainers.stint import Stint
from trainers.trial_list import TrialList

SHARED = Path(__file__).parents[2] / "shared"

#: In a process: storage without flock, short times, and a machine of one's own.
WITHOUT = f"""
import fcntl, sys
sys.path.insert(0, {str(SHARED)!r})
from locks import elsewhere, without_flock
from sweep.run import soft_lock
fcntl.flock = without_flock
soft_lock.BEAT, soft_lock.STALE = 0.1, 2.0
"""
ELSEWHERE = WITHOUT + "soft_lock.machine = elsewhere\n"


@pytest.fixture(params=[errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP], ids=["NFS", "Lustre", "another"])
def code(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fcntl, "flock", without_flock)
    monkeypatch.setattr(soft_lock, "PATIENCE", 0.1)
    monkeypatch.setattr(soft_lock, "BEAT", 0.1)
    monkeypatch.setattr(soft_lock, "STALE", 1.0)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run"


def test_whatever_is_said_of_flock_that_is_not_there_a_directory_is_held_by_one(
    code: int, directory: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: Any, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", flock)
    with RunLock(directory) as lock:
        assert is_live(directory)
        told = refusal(lambda: RunLock(directory))
        lock.check()
    assert told.startswith(f"{directory}: is in use by another command (sweep launch, process {os.getpid()} on ")
    assert not is_live(directory)
    with RunLock(directory, EVALUATION):
        assert not is_live(directory)
        assert f"({EVALUATION} {os.getpid()} on " in refusal(lambda: RunLock(directory))


def test_shares_hold_it_together_and_exclude_what_flock_would(directory: Path, no_flock: None) -> None:
    with RunLock(directory, share=Share(1, 2)), RunLock(directory, share=Share(2, 2)):
        assert is_live(directory)
        assert "(sweep launch --shard 2/2, process " in refusal(lambda: RunLock(directory, share=Share(2, 2)))
        assert "give --shard i/2, which runs beside it" in refusal(lambda: RunLock(directory, share=Share(1, 3)))
        assert "(sweep launch --shard 1/2, process " in refusal(lambda: RunLock(directory))
    with RunLock(directory):
        assert "(sweep launch, process " in refusal(lambda: RunLock(directory, share=Share(1, 2)))


def test_a_stint_is_refused_beside_who_holds_it_and_leaves_nothing(directory: Path, tmp_path: Path) -> None:
    stint = Stint(TrialList("none", {}, 1, ()), directory / "there.jsonl", say=lambda line: None)
    for code in (WITHOUT, ELSEWHERE):
        with holding(directory, code=code):
            assert "is in use by another command (sweep launch, process" in refusal(stint.run)
            assert not (directory / LOCK_FILE).exists()
        for beat in (directory / FOLDER).glob("?" * 16):
            os.utime(beat, (0, 0))
        assert stint.run() == []


def test_what_is_left_of_it_is_one_small_file(directory: Path, no_flock: None) -> None:
    for _ in range(3):
        with RunLock(directory):
            pass
    assert [path.name for path in directory.iterdir()] == [FOLDER]
    (left,) = (directory / FOLDER).iterdir()
    assert left.read_text() == "[]"


def test_of_processes_that_come_and_go_at_once_none_meets_one_that_excludes_it(tmp_path: Path) -> None:
    assert sum(come_and_go(tmp_path, WITHOUT)) >= 10


def test_a_killed_process_of_this_machine_holds_nothing_at_once(directory: Path, no_flock: None) -> None:
    with holding(directory, code=WITHOUT) as holder:
        assert is_live(directory)
        refusal(lambda: RunLock(directory))
        holder.kill()
        assert os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)  # not even a zombie holds it
        assert not is_live(directory)
        began = time.monotonic()
        with RunLock(directory):
            assert time.monotonic() - began < soft_lock.STALE / 2
    assert len(list((directory / FOLDER).iterdir())) == 1


def test_a_process_of_another_number_space_is_not_judged_by_its_number(directory: Path, no_flock: None) -> None:
    assert machine.started(os.getpid()) is not None
    assert machine.started(2**22 + 1) is None
    with holding(directory, code=ELSEWHERE) as holder:
        said = json.loads(next((directory / FOLDER).glob("0000*")).read_text())
        assert (said[0]["machine"], said[0]["process"]) == ("elsewhere", holder.pid)
        holder.kill()
        holder.wait()
        assert is_live(directory)  # it may live: its last sign of life is not old


def test_the_lock_of_a_dead_node_is_taken_over_once_it_gave_no_sign_of_life(
    directory: Path, no_flock: None, caplog: pytest.LogCaptureFixture
) -> None:
    with holding(directory, code=ELSEWHERE) as holder:
        holder.kill()
        holder.wait()
        began = time.monotonic()
        with RunLock(directory):
            assert time.monotonic() - began >= soft_lock.STALE
        assert not is_live(directory)
    assert [record.getMessage() for record in caplog.records] == [
        f"{directory}: is held by sweep launch, process {holder.pid} on {os.uname().nodename} since "
        + caplog.records[0].getMessage().partition(" since ")[2].partition(",")[0]
        + ", which gives no sign of life; after 1 s of that it is taken over"
    ]


def test_a_live_holder_of_another_node_is_seen_by_its_sign_of_life(directory: Path, no_flock: None) -> None:
    with holding(directory, code=ELSEWHERE) as holder:
        time.sleep(soft_lock.STALE)
        told = refusal(lambda: RunLock(directory))
        assert f"process {holder.pid} on " in told


def test_times_of_files_that_are_far_from_this_machines_clock_mislead_nobody(
    directory: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with holding(directory, code=ELSEWHERE):
        for now in (0.0, 1e10):
            monkeypatch.setattr(time, "time", lambda now=now: now)
            assert is_live(directory)
            refusal(lambda: RunLock(directory))


STOPPED = (
    ELSEWHERE
    + """
from pathlib import Path
from sweep.run.directory import RunLock
from trainers.errors import UserError
with RunLock(Path(sys.argv[1])) as lock:
    lock.check()
    print("held", flush=True)
    sys.stdin.readline()
    try:
        lock.check()
    except UserError as error:
        print(error)
    else:
        print("still held")
"""
)


@contextmanager
def stopped(directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A holder on another machine, which stands still."""
    command = [sys.executable, "-c", STOPPED, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        yield holder
        holder.kill()


def woken(holder: subprocess.Popen[str]) -> str:
    holder.send_signal(signal.SIGCONT)
    return holder.communicate("\n", timeout=60)[0].strip()


def test_who_was_stopped_for_too_long_is_told_before_its_next_record_and_takes_nothing_with_it(
    directory: Path, no_flock: None
) -> None:
    with stopped(directory) as holder, RunLock(directory) as lock:
        answer = woken(holder)
        assert answer.startswith(f"{directory}: another command took it over (sweep launch, process {os.getpid()} on ")
        assert "as this process gave no sign of life for over 2 s; nothing was written since" in answer
        assert "\n" not in answer
        lock.check()
        assert is_live(directory)


def test_who_was_stopped_for_long_and_found_nobody_there_goes_on(directory: Path, no_flock: None) -> None:
    with stopped(directory) as holder:
        time.sleep(2.5)
        assert woken(holder) == "still held"


def test_a_listing_without_any_number_is_believed_by_no_holder(
    directory: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large folder it may miss both the number that goes and the one that comes, and one is always there."""
    with RunLock(directory) as held:
        assert isinstance(held._lock, SoftLock)
        with monkeypatch.context() as patched:
            patched.setattr(soft_lock, "_latest", lambda folder: (0, []))
            held._lock._beat()
        held.check()
    assert not is_live(directory)


def test_of_many_who_see_a_dead_holder_one_gets_the_directory(directory: Path, no_flock: None) -> None:
    with holding(directory, code=ELSEWHERE) as holder:
        holder.kill()
    got, refused = list[RunLock](), list[str]()

    def take() -> None:
        try:
            got.append(RunLock(directory))
        except Exception as error:
            refused.append(str(error))

    waiting = [threading.Thread(target=take) for _ in range(8)]
    for thread in waiting:
        thread.start()
    for thread in waiting:
        thread.join()
    assert len(got) == 1
    assert len(refused) == 7
    assert all("is in use by another command" in one for one in refused)


def test_a_number_that_was_free_again_is_no_lock(directory: Path, no_flock: None) -> None:
    """One that was stopped between its look and its link finds a log that has gone on."""
    locks = [SoftLock(directory) for _ in range(4)]
    directory.mkdir()
    for lock in locks[:3]:
        lock.take("one")
        lock.release()
    locks[3].take("last")
    number = soft_lock._latest(directory / FOLDER)[0]
    soft_lock._put(directory / FOLDER, "late", number - 3, [])
    assert [name for name, _ in soft_lock.holders(directory)] == ["last"]
    assert sorted(path.name for path in (directory / FOLDER).glob("0000*")) == [f"{number:012d}"]
    locks[3].release()


def test_flock_here_and_none_there_exclude_each_other(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with holding(directory, code=ELSEWHERE):
        assert is_live(directory)
        assert "is in use by another command (sweep launch, process " in refusal(lambda: RunLock(directory))
    real = fcntl.flock
    with RunLock(directory / "flocked"):
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOLCK, "No locks")))
        told = refusal(lambda: RunLock(directory / "flocked"))
        monkeypatch.setattr(fcntl, "flock", real)
    assert told.endswith(f"once it has ended, delete {directory}/flocked/.lock")


def test_storage_that_has_neither_flock_nor_hard_links_is_refused(
    directory: Path, no_flock: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*_: Any, **__: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    assert refusal(lambda: RunLock(directory)) == (
        f"--out {directory}: cannot be locked: Operation not permitted; give a folder whose file system has flock, or "
        "hard links"
    )


def test_what_is_not_as_it_was_written_is_named(directory: Path, no_flock: None) -> None:
    (directory / FOLDER).mkdir(parents=True)
    for text in ("", "[", "[{}]", "[1]"):
        (directory / FOLDER / "000000000001").write_text(text)
        told = refusal(lambda: RunLock(directory))
        assert told == (
            f"{directory}/{FOLDER}/000000000001: is not as it was written; if no launch runs there, delete "
            f"{directory}/{FOLDER}"
        )


def test_a_launch_that_stood_still_while_another_took_its_directory_over_ends_with_one_line(
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: Callable[[Path, Path], None],
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    values = {"fcntl.flock": without_flock, "sweep.run.soft_lock.BEAT": 0.1, "sweep.run.soft_lock.STALE": 2.0}
    words = ("launch", sweep_file(), "--out", tmp_path / "run", "--serial")
    first = commands(*words, values=values | {"sweep.run.soft_lock.machine": elsewhere})
    first.wait_for(tmp_path / "run", "epoch", 3)
    first.stop()
    second = commands(*words, values=values)
    assert second.code() == 0, second.output
    records = (tmp_path / "run" / "records.jsonl").read_bytes()
    first.signal(signal.SIGCONT)
    assert first.code() == 2
    told = [line for line in first.output.splitlines() if "another command took it over" in line]
    assert len(told) == 1, first.output
    assert "Traceback" not in first.output
    assert (tmp_path / "run" / "records.jsonl").read_bytes() == records
    same_numbers(tmp_path / "run", undisturbed)
    assert numbers(tmp_path / "run") == numbers(undisturbed)
