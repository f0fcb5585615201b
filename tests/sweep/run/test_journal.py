"""A run directory: one launch holds it, and writes every message down once."""

from __future__ import annotations

import errno
import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from recorded import ENVIRONMENT

from analysis.frames.log import read_records
from analysis.frames.trials import load_trials
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.plan.plan import earlier_records, plan
from sweep.progress import Progress
from sweep.run.directory import CONFIG_FILE, PROBE, RunLock, is_live, live_shares, refuse_other_sweep
from sweep.run.journal import Journal
from sweep.run.lock import LOCK_FILE
from sweep.search.trials import PlannedTrial
from sweep.share import Share
from trainers.errors import UserError
from trainers.files import whole
from trainers.record import RECORDS_FILE, DynamicsRecord, EpochRecord, OutcomeRecord, read

FullDisk = Callable[..., AbstractContextManager[None]]

Configs = Callable[..., SweepConfig]
HOLD = """
import sys
from pathlib import Path
from sweep.run.directory import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


pytestmark = pytest.mark.usefixtures("launched_without_data")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def journal(config: SweepConfig, directory: Path, share: Share | None = None) -> Journal:
    earlier = earlier_records(directory)
    return Journal(directory, plan(config, earlier, "abc", share=share))


def given(books: Journal) -> PlannedTrial:
    trial = books.next()
    assert trial is not None
    return trial


def start(trial: str) -> dict[str, Any]:
    return {"record": "start", "trial_id": trial, "host": "h", "device": "cpu", "code_version": "abc"}


def epoch(trial: str, number: int, robust: float = 0.5, seconds: float = 1.0) -> dict[str, Any]:
    return {"record": "epoch", **asdict(EpochRecord(trial, number, 0.1, val_robust=robust, seconds=seconds))}


def dynamics(trial: str, number: int, robust: float = 0.5) -> dict[str, Any]:
    rows = {"curvatures": (2.0, None), "batch_sizes": (32,), "variances": ((0.1, 0.2),), "kurtoses": ((0.0, 0.1),)}
    rows |= {"slopes": (0.1, 0.2), "noise_traces": (1.0,), "noise_trace_errors": (0.1,)}
    rows |= {"places": ((1.0,), (1.0,)), "rises": ((0.1,), (0.1,))}
    found: dict[str, Any] = {field.name: rows.get(field.name, 1) for field in fields(DynamicsRecord)}
    values = found | {"trial_id": trial, "epoch": number, "robust": robust}
    return {"record": "dynamics", **asdict(DynamicsRecord(**values))}


def outcome(trial: str, what: Any = "completed", epochs: int = 3) -> dict[str, Any]:
    return {"record": "outcome", **asdict(OutcomeRecord(trial, what, "", epochs))}


def kinds(directory: Path, trial: str) -> list[Any]:
    """What stands in the records of a trial: epochs by number, the rest by kind or outcome."""
    return [
        record.get("epoch") or record.get("outcome") or record["record"]
        for record in read(directory)
        if record.get("trial_id") == trial
    ]


def test_a_launch_writes_the_config_the_environment_and_every_planned_trial(tiny: Configs, directory: Path) -> None:
    config = tiny()
    with journal(config, directory).open("sweep launch tiny.yaml"):
        pass
    assert load(directory / CONFIG_FILE) == config
    environment = yaml.safe_load((directory / "environment.json").read_text())
    assert environment["command"] == "sweep launch tiny.yaml"
    first, *trials = read(directory)
    assert (first["record"], first["size"]) == ("launch", 4)
    assert [trial["record"] for trial in trials] == ["trial"] * 4
    assert [trial["trial_id"] for trial in trials] == first["wanted"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert {path.name for path in directory.iterdir()} == {
        "records.jsonl",
        CONFIG_FILE,
        "environment.json",
        "checkpoints",
    }


def test_the_start_after_a_process_died_says_how_and_no_other(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("sweep launch tiny.yaml"):
        first, other = given(books).id, given(books).id
        books.take(start(first))
        for name in (first, other):  # the other has not begun
            books.died(name, "signal SIGKILL")
        for name in (first, other, first):
            books.take(start(name))
        books.died(first, "exit code 1")
        books.take(outcome(first, "interrupted"))
        books.died(first, "exit code 2")
        books.take(start(first))
    died = [(one["trial_id"], one.get("died")) for one in read(directory) if one["record"] == "start"]
    assert died == [(first, None), (first, "signal SIGKILL"), (other, None), (first, None), (first, None)]


@pytest.mark.parametrize("jump", [-86400.0, 86400.0])
def test_times_of_records_and_the_time_left_follow_no_clock_that_is_set_while_a_launch_runs(
    jump: float, tiny: Configs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next launch goes by the clock as it then is, and counts from its own beginning."""
    clock, steady, real = [1e9], [50.0], time.monotonic
    monkeypatch.setattr("sweep.run.journal.time.time", lambda: clock[0])
    monkeypatch.setattr("sweep.run.journal.time.monotonic", lambda: steady[0])
    books = journal(tiny(), directory)
    with books.open("test"):
        trial = given(books).id
        books.take(start(trial))
        clock[0] += jump
        steady[0] += 8
        books.take(epoch(trial, 1))
    monkeypatch.setattr("sweep.run.journal.time.monotonic", real)
    assert [record["time"] - 1e9 for record in read(directory) if record["record"] in ("launch", "epoch")] == [0, 8]
    assert books.progress.seconds_left() == 8 * (12 - 1)

    clock[0], steady[0] = 1e9 - 3600.0, 5.0
    monkeypatch.setattr("sweep.run.journal.time.monotonic", lambda: steady[0])
    again = journal(tiny(), directory)
    with again.open("test"):
        again.take(start(trial))
        steady[0] += 4
        again.take(epoch(trial, 2))
        left = again.progress.seconds_left()
    monkeypatch.undo()
    assert left == Progress.of(read_records(directory)).seconds_left() == 4 * (12 - 2)


def test_what_killed_processes_left_half_written_is_gone_with_the_next_launch(
    tiny: Configs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "unlink", lambda path, missing_ok: None)  # as if killed: a part stays
    monkeypatch.setattr(os, "replace", lambda part, path: None)
    (directory / "checkpoints").mkdir()
    for path in (directory / CONFIG_FILE, directory / "checkpoints" / "0123.pt"):
        with whole(path) as part:
            part.write_text("half")
    (directory / "checkpoints" / "4567.pt").write_text("whole")
    monkeypatch.undo()
    with journal(tiny(), directory).open("test"):
        pass
    assert [path.name for path in (directory / "checkpoints").iterdir()] == ["4567.pt"]
    assert not [path for path in directory.iterdir() if "part" in path.name]


@pytest.mark.parametrize("name", [CONFIG_FILE, "environment.json"])
def test_a_file_of_the_run_that_fails_in_the_middle_stays_the_old_one(
    name: str, tiny: Configs, directory: Path, full_disk: FullDisk, monkeypatch: pytest.MonkeyPatch
) -> None:
    with journal(tiny(), directory).open("one"):
        pass
    old = (directory / name).read_bytes()
    fits = (directory / CONFIG_FILE).stat().st_size + 100 if name != CONFIG_FILE else 100
    monkeypatch.setattr("sweep.run.journal.environment", lambda: {**ENVIRONMENT, "cpu": "x" * 10_000})
    books = journal(tiny(), directory)
    with full_disk(after=fits), pytest.raises(UserError) as caught, books.open("two"):
        raise AssertionError("a trial would run")
    assert str(caught.value) == (
        f"{directory / name}: cannot be written: File too large; mend that: the same command goes on"
    )
    assert (directory / name).read_bytes() == old
    assert [record["command"] for record in read(directory) if record["record"] == "launch"] == ["one"]


def test_the_files_of_a_run_are_the_old_ones_until_the_new_ones_are_whole(
    tiny: Configs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, moved = os.replace, {}

    def spied(source: Path, target: Path) -> None:
        moved[target.name] = (target.read_text(), source.read_text())
        replace(source, target)

    def texts() -> list[str]:
        return [(directory / name).read_text() for name in (CONFIG_FILE, "environment.json")]

    with journal(tiny(), directory).open("one"):
        old = texts()
    monkeypatch.setattr(os, "replace", spied)
    with journal(tiny(seeds=[1]), directory).open("two"):
        assert moved == dict(zip((CONFIG_FILE, "environment.json"), zip(old, texts(), strict=True), strict=True))
    assert not set(old) & set(texts())


def test_each_launch_says_which_code_and_versions_it_ran(tiny: Configs, directory: Path) -> None:
    for _ in range(2):
        with journal(tiny(), directory).open("test"):
            pass
    launches = [record for record in read(directory) if record["record"] == "launch"]
    assert [{key: launch[key] for key in ENVIRONMENT} for launch in launches] == [ENVIRONMENT] * 2


def test_a_launch_says_by_what_it_chooses_and_how_many_trials_there_are_of_which_some_may_be_finished(
    tiny: Configs, directory: Path
) -> None:
    config = tiny(metric="val_robust_loss", mode="min")
    for _ in range(2):
        books = journal(config, directory)
        with books.open("test"):
            trial = given(books).id
            for message in (start(trial), *(epoch(trial, n) for n in (1, 2, 3)), outcome(trial)):
                books.take(message)
    launches = [record for record in read(directory) if record["record"] == "launch"]
    assert [(record["metric"], record["mode"], record["size"]) for record in launches] == [
        ("val_robust_loss", "min", 4)
    ] * 2
    assert not any("objectives" in record for record in launches)


def test_a_journal_that_is_closed_takes_nothing_more(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with pytest.raises(RuntimeError, match="inside"), books.open("test"):
        raise RuntimeError("inside")
    before = (directory / RECORDS_FILE).read_bytes()
    with pytest.raises(ValueError, match="closed file"):
        books.take(start(next(iter(books.progress.trials))))
    assert (directory / RECORDS_FILE).read_bytes() == before


def test_a_trial_that_a_search_finds_again_belongs_to_the_launch(tiny: Configs, directory: Path) -> None:
    with journal(tiny(), directory).open("one"):
        pass
    books = journal(tiny(), directory)
    search, found = books._plan.search, books._plan.search.known()[2]
    search.known, search.next = lambda: [], iter([found, None]).__next__
    with books.open("two"):
        assert given(books) == found
        assert books.progress.wanted == {found.id}
        assert books.next() is None
    assert Progress.of(read(directory)).wanted == {found.id}


def test_what_the_journal_holds_in_memory_is_what_its_file_tells(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("test"):
        while (trial := books.next()) is not None:
            measured = (dynamics(trial.id, 0), epoch(trial.id, 1), dynamics(trial.id, 1), epoch(trial.id, 1, 0.6))
            for message in (start(trial.id), *measured, outcome(trial.id, epochs=1)):
                books.take(message)
                assert books.progress == Progress.of(read(directory))


def test_dynamics_that_come_again_are_not_written_twice_and_changed_ones_are(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("test"):
        trial = given(books).id
        for message in (start(trial), dynamics(trial, 0), epoch(trial, 1), dynamics(trial, 1)):
            books.take(message)
    again = journal(tiny(), directory)
    with again.open("test"):
        for message in (dynamics(trial, 0), epoch(trial, 1), dynamics(trial, 1), dynamics(trial, 1) | {"seconds": 1.5}):
            again.take(message)
    found = [(r["record"], r["epoch"]) for r in read(directory) if r["record"] in ("epoch", "dynamics")]
    assert found == [("dynamics", 0), ("epoch", 1), ("dynamics", 1), ("dynamics", 1)]


def test_an_epoch_that_comes_again_is_not_written_twice_and_a_changed_one_is(tiny: Configs, directory: Path) -> None:
    config = tiny()
    books = journal(config, directory)
    with books.open("test"):
        trial = given(books)
        for message in (start(trial.id), epoch(trial.id, 1), epoch(trial.id, 2), epoch(trial.id, 1)):
            books.take(message)
    assert kinds(directory, trial.id) == ["trial", "start", 1, 2]
    again = journal(config, directory)
    with again.open("test"):
        assert again.next() == trial
        messages = [start(trial.id), epoch(trial.id, 1), epoch(trial.id, 2, seconds=1.5), epoch(trial.id, 3)]
        for message in (*messages, outcome(trial.id)):
            again.take(message)
    assert kinds(directory, trial.id) == ["trial", "start", 1, 2, "start", 2, 3, "completed"]
    assert again.progress.trials[trial.id].finished


def test_a_relaunch_plans_no_trial_twice_and_runs_no_finished_one(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("test"):
        trial = given(books)
        for message in (start(trial.id), *(epoch(trial.id, n) for n in (1, 2, 3)), outcome(trial.id)):
            books.take(message)
    again = journal(tiny(seeds=[0, 1]), directory)
    with again.open("test"):
        handed = []
        while (found := again.next()) is not None:
            handed.append(found.id)
    planned = [record["trial_id"] for record in read(directory) if record["record"] == "trial"]
    assert len(planned) == len(set(planned)) == 8
    assert set(handed) == set(planned) - {trial.id}


def test_an_interrupt_writes_outcomes_for_running_trials_only(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("test"):
        done, begun, at_once, waiting = (given(books) for _ in range(4))
        for message in (start(done.id), *(epoch(done.id, n) for n in (1, 2, 3)), outcome(done.id)):
            books.take(message)
        for message in (start(begun.id), epoch(begun.id, 1), start(at_once.id)):
            books.take(message)
        books.interrupt("stopped by SIGINT")
        books.interrupt("stopped by SIGTERM")
    assert kinds(directory, done.id)[-1] == "completed"
    assert kinds(directory, begun.id) == ["trial", "start", 1, "interrupted"]
    assert kinds(directory, at_once.id) == ["trial", "start", "interrupted"]
    assert kinds(directory, waiting.id) == ["trial"]
    ended = [record for record in read(directory) if record.get("outcome") == "interrupted"]
    assert [(record["epochs"], record["reason"]) for record in ended] == [
        (1, "stopped by SIGINT"),
        (0, "stopped by SIGINT"),
    ]
    assert books.progress.counts(live=False) == {"completed": 1, "interrupted": 2, "never_started": 1}


def test_a_preempted_trial_waits_until_its_launch_runs_it_again(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("test"):
        moved, beside, waiting = (given(books) for _ in range(3))
        for message in (start(moved.id), epoch(moved.id, 1), start(beside.id)):
            books.take(message)
        books.preempt({moved.id, waiting.id}, "Ray says so")
        assert books.progress.counts() == {"running": 1, "waiting": 3}
        assert books.progress.counts(live=False) == {"preempted": 1, "interrupted": 1, "never_started": 2}
        books.take({**start(moved.id), "host": "n2"})
        assert books.progress.counts() == {"running": 2, "waiting": 2}
        books.interrupt("stopped by SIGINT")
    assert kinds(directory, moved.id) == ["trial", "start", 1, "preempted", "start", "interrupted"]
    assert kinds(directory, waiting.id) == ["trial"]
    assert Progress.of(read(directory)).counts(live=False) == {"interrupted": 2, "never_started": 2}


def test_a_trial_whose_process_is_gone_failed(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    with books.open("test"):
        trial = given(books)
        books.take(start(trial.id))
        books.fail(trial.id, "its process died 4 times")
    assert books.progress.counts(live=False) == {"failed": 1, "never_started": 3}
    assert books.progress.trials[trial.id].reason == "its process died 4 times"
    assert (read(directory)[-1]["outcome"], read(directory)[-1]["epochs"]) == ("failed", 0)


def test_the_search_is_told_the_metric_of_what_ended(
    tiny: Configs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = journal(tiny(), directory)
    told = []
    monkeypatch.setattr(books._plan.search, "tell", lambda *values: told.append(values[1]))
    with books.open("test"):
        for what in ("completed", "diverged", "failed", "out_of_memory"):
            trial = given(books)
            for message in (start(trial.id), epoch(trial.id, 1, 0.25), outcome(trial.id, what, 1)):
                books.take(message)
    assert told == [(0.25,), (0.0,), None, None]


SEVERAL = [{"name": "val_robust", "mode": "max"}, {"name": "seconds", "mode": "min"}]


def test_of_several_objectives_a_launch_names_all_and_the_search_is_told_each(
    tiny: Configs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = journal(tiny(metric=SEVERAL), directory)
    told = []
    monkeypatch.setattr(books._plan.search, "tell", lambda *values: told.append(values[1]))
    with books.open("test"):
        for what in ("completed", "diverged"):
            trial = given(books)
            for message in (start(trial.id), epoch(trial.id, 1, 0.25), outcome(trial.id, what, 1)):
                books.take(message)
    (launch,) = [record for record in read(directory) if record["record"] == "launch"]
    assert (launch["metric"], launch["mode"], launch["objectives"]) == ("val_robust", "max", SEVERAL)
    assert told == [(0.25, load_trials(directory)["seconds"][0]), (0.0, math.inf)]


@pytest.mark.parametrize(("search", "strata"), [("quasi_random", ["optimizer.weight_decay"]), ("grid", None)])
def test_a_launch_names_the_grid_axes_within_which_its_points_are_drawn(
    tiny: Configs, directory: Path, search: str, strata: list[str] | None
) -> None:
    drawn = {"optimizer.lr": {"uniform": [0.1, 0.2]}} if strata else {}
    searched = {"name": search, **({"n_trials": 2} if strata else {})}
    books = journal(tiny(space={"optimizer.weight_decay": [0.0, 0.1], **drawn}, search=searched), directory)
    with books.open("test"):
        pass
    (launch,) = [record for record in read(directory) if record["record"] == "launch"]
    assert launch.get("strata") == strata


def test_the_listener_hears_every_message_that_was_written(tiny: Configs, directory: Path) -> None:
    books = journal(tiny(), directory)
    heard: list[str] = []
    books.listener = lambda trial, message: heard.append(message["record"])
    with books.open("test"):
        trial = given(books)
        for message in (start(trial.id), epoch(trial.id, 1), epoch(trial.id, 1), outcome(trial.id, epochs=1)):
            books.take(message)
    assert heard == ["start", "epoch", "outcome"]


def test_points_that_optuna_asks_for_belong_to_the_launch(tiny: Configs, directory: Path) -> None:
    space = {"optimizer.lr": {"loguniform": [0.01, 1]}}
    for n, wanted in ((3, 0), (5, 3), (2, 2)):
        books = journal(tiny(space=space, search={"name": "optuna", "n_trials": n}), directory)
        with books.open("test"):
            while (trial := books.next()) is not None:
                for message in (start(trial.id), epoch(trial.id, 1), outcome(trial.id, epochs=1)):
                    books.take(message)
        launches = [record for record in read(directory) if record["record"] == "launch"]
        assert len(launches[-1]["wanted"]) == wanted
        assert books.progress.counts(live=False) == {"completed": n}
        assert Progress.of(read(directory)) == books.progress


def test_a_wider_space_writes_a_trial_down_again_with_its_new_keys_and_the_same_space_does_not(
    tiny: Configs, directory: Path
) -> None:
    lr = {"optimizer.lr": [0.1, 0.3]}
    wider = {**lr, "optimizer.weight_decay": [5.0e-4]}
    for space, lines in ((lr, 2), (lr, 0), (wider, 2), (wider, 0)):
        before = earlier_records(directory)
        books = journal(tiny(space=space), directory)
        with books.open("test"):
            while (trial := books.next()) is not None:
                assert books.progress.trials[trial.id].point == trial.point
        written = [record for record in read(directory)[len(before) :] if record["record"] == "trial"]
        assert [record["point"].keys() for record in written] == [space.keys()] * lines
    assert len(books.progress.trials) == 2


def test_a_torn_last_line_is_cut_off_and_the_next_launch_goes_on_behind_it(tiny: Configs, directory: Path) -> None:
    with journal(tiny(), directory).open("one"):
        pass
    with (directory / RECORDS_FILE).open("ab") as file:
        file.write(b'{"record":"start","trial_id":"')
    with journal(tiny(), directory).open("two"):
        pass
    assert [record["command"] for record in read(directory) if record["record"] == "launch"] == ["one", "two"]
    assert len(read(directory)) == 6


# The lock


def test_a_directory_is_held_by_one_launch(directory: Path) -> None:
    lock = RunLock(directory)
    with lock:
        assert is_live(directory)
        with pytest.raises(UserError) as caught:
            RunLock(directory)
        message = str(caught.value)
    assert message.startswith(f"{directory}: is in use by another command (sweep launch, process {os.getpid()} on ")
    assert message.endswith("; wait for it, or take another directory")
    assert not is_live(directory)
    with RunLock(directory):
        assert is_live(directory)


def test_the_lock_of_a_killed_launch_is_free_and_its_name_is_forgotten(directory: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        assert is_live(directory)
        with pytest.raises(UserError, match=rf"is in use by another command \(sweep launch, process {holder.pid} on "):
            RunLock(directory)
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    assert not is_live(directory)
    with RunLock(directory), pytest.raises(UserError, match=rf"\(sweep launch, process {os.getpid()} on "):
        RunLock(directory)


def test_whoever_only_asks_whether_a_run_is_live_does_not_stop_a_launch(directory: Path) -> None:
    with (directory / LOCK_FILE).open("a") as asking:
        fcntl.flock(asking, fcntl.LOCK_SH)
        threading.Timer(0.2, fcntl.flock, (asking, fcntl.LOCK_UN)).start()
        with RunLock(directory):
            assert is_live(directory)


def test_on_a_full_disk_a_directory_is_held_too(directory: Path, full_disk: FullDisk) -> None:
    with full_disk(after=0), RunLock(directory):
        assert is_live(directory)
        with pytest.raises(UserError, match=r"is in use by another command \(unknown\)"):
            RunLock(directory)


def test_a_run_directory_is_made_with_its_parents(tmp_path: Path) -> None:
    with RunLock(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()


def test_a_lock_goes_with_the_folders_that_were_made_for_it_and_leaves_what_else_is_there(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    with RunLock(tmp_path / "runs" / "a" / "b"):
        pass
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert list((tmp_path / "runs").iterdir()) == []
    with RunLock(tmp_path / "runs" / "a" / "b"):
        (tmp_path / "runs" / "a" / "b" / "log").write_text("why")
    assert [path.name for path in (tmp_path / "runs" / "a" / "b").iterdir()] == ["log"]


def test_who_waited_for_a_lock_that_was_removed_holds_the_directory_all_the_same(directory: Path) -> None:
    first, got = RunLock(directory), []
    waiting = threading.Thread(target=lambda: got.append(RunLock(directory)))
    waiting.start()
    time.sleep(0.1)  # it has opened the file that now goes
    with first:
        pass
    waiting.join()
    assert is_live(directory)
    with pytest.raises(UserError, match="is in use by another command"):
        RunLock(directory)
    with got[0]:
        pass
    assert list(directory.iterdir()) == []


def test_what_cannot_be_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, reason in ((tmp_path / "file", "File exists"), (tmp_path / "file" / "run", "Not a directory")):
        with pytest.raises(UserError) as caught:
            RunLock(path)
        assert str(caught.value) == f"--out {path}: cannot be written: {reason}; give a folder that can"


def test_a_file_system_whose_locks_fail_is_not_taken_for_another_launch(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def flock(file: Any, operation: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UserError) as caught:
        RunLock(directory)
    assert str(caught.value) == (
        f"--out {directory}: cannot be locked: Input/output error; give a folder whose file system has flock, or "
        "hard links"
    )
    assert not is_live(directory)


def test_what_no_launch_has_touched_is_not_live(tmp_path: Path) -> None:
    assert not is_live(tmp_path)
    assert not is_live(tmp_path / "none")


# One sweep a directory


def test_another_sweep_is_refused(tiny: Configs, directory: Path) -> None:
    refuse_other_sweep(directory, tiny())
    with journal(tiny(), directory).open("test"):
        pass
    refuse_other_sweep(directory, tiny(seeds=[3]))
    with pytest.raises(UserError) as caught:
        refuse_other_sweep(directory, tiny(name="other"))
    assert str(caught.value) == f"--out {directory}: holds the sweep 'tiny', not 'other'; give another --out"


@pytest.mark.parametrize("text", [b"", b"[", b"- a", b"question: why", b"name: \xff", b"\0"])
def test_a_damaged_config_in_the_directory_is_named(text: bytes, tiny: Configs, directory: Path) -> None:
    (directory / CONFIG_FILE).write_bytes(text)
    with pytest.raises(UserError) as caught:
        refuse_other_sweep(directory, tiny())
    assert str(caught.value) == (
        f"{directory}/sweep.yaml: is not the config of a sweep; delete it: the next launch writes it anew"
    )


def test_a_config_that_is_a_folder_is_refused(tiny: Configs, directory: Path) -> None:
    (directory / CONFIG_FILE).mkdir()
    with pytest.raises(UserError) as caught:
        refuse_other_sweep(directory, tiny())
    assert str(caught.value) == f"{directory}/sweep.yaml: must be a file that you may read: Is a directory; mend that"


def test_a_directory_that_goes_before_its_lock_is_opened_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, real = list[str](), os.open

    def gone(path: str, *args: Any, **options: Any) -> int:
        opened.append(path)
        if len(opened) == 1:
            Path(path).parent.rmdir()
        return real(path, *args, **options)

    monkeypatch.setattr(os, "open", gone)
    with RunLock(tmp_path / "run"):
        assert (tmp_path / "run" / LOCK_FILE).exists()
    assert len(opened) == 2


def planned_in(directory: Path) -> dict[str, int]:
    return {one["trial_id"]: one["number"] for one in read(directory) if one["record"] == "trial"}


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 1, 2)])
@pytest.mark.parametrize("at_once", [True, False])
def test_trials_have_the_numbers_of_one_launch_in_whatever_order_shares_begin(
    order: tuple[int, ...], at_once: bool, tiny: Configs, directory: Path, tmp_path: Path
) -> None:
    """Also where none has seen what the others wrote, and where the space is widened then."""
    (alone := tmp_path / "alone").mkdir()
    shares = [Share(index, 3) for index in order]
    for config in (tiny(), tiny(seeds=[0, 1])):
        with journal(config, alone).open("test"):
            pass
        books = [journal(config, directory, share) for share in shares] if at_once else []
        for place, share in enumerate(shares):
            with (books[place] if at_once else journal(config, directory, share)).open("test"):
                pass
    assert planned_in(directory) == planned_in(alone)
    for index in range(1, 4):
        own = [one["trial_id"] for one in map(json.loads, (directory / f"records.{index}of3.jsonl").open())
               if one["record"] == "trial"]  # fmt: skip
        assert own == [one for one in planned_in(alone) if Share(index, 3).has(one)]


def test_a_launch_among_several_files_says_after_what_it_comes_whatever_its_clock_says(
    tiny: Configs, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what it writes counts, though an hour earlier by its clock: a trial goes from share to share."""
    name = ""
    for hour, share in enumerate((Share(1, 1), Share(1, 2), Share(2, 2), None)):
        now = 1e9 - 3600.0 * hour
        monkeypatch.setattr("sweep.run.journal.time.time", lambda now=now: now)
        books = journal(tiny(), directory, share)
        with books.open("test"):
            for trial in iter(books.next, None):
                name = name or trial.id
                if trial.id == name:
                    books.take(start(name))
                    books.take(epoch(name, 1, robust=hour / 10, seconds=hour + 1.0))
                    books.take(outcome(name, "failed", 1))
    launches = [record for record in read(directory) if record["record"] == "launch"]
    assert [record.get("shard") for record in launches] == ["1/1", "1/2", "2/2", None]
    assert launches[0]["after"] == 0.001
    assert all(earlier["after"] < later["after"] for earlier, later in pairwise(launches))
    robust = [record["val_robust"] for record in read(directory) if record["record"] == "epoch"]
    assert robust == sorted(robust)
    assert len(robust) == 3  # of one of the two halves, and of both others
    assert "after" not in next(iter(read(alone_in(directory, tiny))))


def alone_in(directory: Path, tiny: Configs) -> Path:
    (folder := directory / "alone").mkdir()
    with journal(tiny(), folder).open("test"):
        pass
    return folder


def test_a_share_leaves_the_probes_of_others_that_are_young(tiny: Configs, directory: Path) -> None:
    young, old = (directory / f"{PROBE}{name}" for name in ("young", "old"))
    for path in (young, old):
        path.touch()
    os.utime(old, (0, 0))
    with journal(tiny(), directory, Share(1, 2)).open("test"):
        pass
    assert (young.exists(), old.exists()) == (True, False)
    with journal(tiny(), directory).open("test"):
        pass
    assert not young.exists()


def test_the_shares_that_are_live_are_known(directory: Path) -> None:
    assert live_shares(directory) == []
    with RunLock(directory, share=Share(3, 3)), RunLock(directory, share=Share(1, 3)):
        assert live_shares(directory) == [Share(1, 3), Share(3, 3)]
        assert is_live(directory)
    with RunLock(directory):
        assert live_shares(directory) == []
