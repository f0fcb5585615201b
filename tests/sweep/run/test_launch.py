"""A launch: through Ray and in this process, again, wider, on too small a machine, with trials that fail."""

from __future__ import annotations

import io
import json
import re
import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
from rich.console import Console

from analysis.frames.trials import load_epochs, load_trials
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.plan.room import Room
from sweep.progress import Progress
from sweep.run import launch as runner
from sweep.run import ray_tune
from sweep.run.capacity import refusal_here
from sweep.run.launch import _leaves_some
from sweep.run.signals import Interrupted, RayGone
from sweep.share import Share
from trainers import checkpoint, loop
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.outcome import logged
from trainers.record import read
from trainers.record.linked import LinkedFile

Launch = Callable[..., tuple[int, str]]
Tiny = Callable[..., SweepConfig]
SameNumbers = Callable[[Path, Path], None]


def starts(directory: Path) -> list[str]:
    return [record["trial_id"] for record in read(directory) if record["record"] == "start"]


def test_a_run_says_where_its_numbers_come_from(undisturbed: Path) -> None:
    environment = json.loads((undisturbed / "environment.json").read_text())
    assert environment["command"] == "test"
    assert {"torch", "ray", "optuna", "python"} <= set(environment["versions"])
    assert environment["cpu_cores"] > 0


@pytest.mark.parametrize("again", ["the same command", "the config that the run wrote"])
def test_launched_again_nothing_runs(again: str, tiny: Tiny, launch: Launch, finished: Path) -> None:
    config = tiny() if again == "the same command" else load(finished / "sweep.yaml")
    before = (finished / "records.jsonl").read_bytes()
    code, text = launch(config, finished, serial=True)
    assert code == 0
    assert "nothing left to run" in text
    assert (finished / "records.jsonl").read_bytes() == before


def test_a_widened_config_runs_only_what_is_new(tiny: Tiny, launch: Launch, finished: Path) -> None:
    wider = {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.2, 0.3]}
    code, text = launch(tiny(space=wider), finished, serial=True)
    assert code == 0
    assert "finished 4, to resume 0, new 2" in text
    assert len(starts(finished)) == len(set(starts(finished))) == 6
    assert len(load_trials(finished)) == 6


def test_finished_trials_of_other_code_are_kept_and_told(
    tiny: Tiny, launch: Launch, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "code_version", lambda: "0123456789ab")
    assert "4 of the finished come from other code" in launch(tiny(), finished, serial=True)[1]


def test_a_trial_that_raises_is_failed_with_its_reason_and_runs_again(
    tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("the disk is full\nand more")

    with monkeypatch.context() as patch:
        patch.setattr("trainers.loop.train", broken)
        code, text = launch(tiny(), tmp_path, serial=True)
    assert code == 1
    assert text.splitlines()[-1] == "4 trials failed; the same command tries again"
    trials = load_trials(tmp_path)
    assert set(trials.outcome) == {"failed"}
    assert trials.reason[0].startswith("RuntimeError: the disk is full (logs/")
    assert "the disk is full" in next((tmp_path / "logs").glob("*.log")).read_text()
    assert launch(tiny(), tmp_path, serial=True)[0] == 0
    assert set(load_trials(tmp_path).outcome) == {"completed"}


def test_in_this_process_a_gpu_that_answers_no_more_ends_the_launch_and_the_same_command_goes_on(
    tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*args: Any, **options: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with monkeypatch.context() as patch:
        patch.setattr("trainers.loop.train", broken)
        patch.setattr("trainers.cards.freed", lambda device: False)
        code, text = launch(tiny(), tmp_path, serial=True)
    assert code == 1
    trials = load_trials(tmp_path)
    assert list(trials.outcome) == ["failed", "never_started", "never_started", "never_started"]
    assert text.splitlines()[-2] == (
        f"trial {trials.trial_id[0]}: after its error the GPU answers this process no more, which ends here; "
        "the same command goes on in a new one"
    )
    assert launch(tiny(), tmp_path, serial=True)[0] == 0
    assert set(load_trials(tmp_path).outcome) == {"completed"}


def test_a_checkpoint_that_does_not_fit_on_the_disk_is_named_with_what_it_takes_and_nothing_is_left_of_it(
    tiny: Tiny, launch: Launch, tmp_path: Path, full_disk: Callable[..., AbstractContextManager[None]]
) -> None:
    for _ in range(2):
        with full_disk(after=40_000):  # the records fit, a checkpoint does not
            code, text = launch(tiny(), tmp_path, serial=True)
        assert code == 1
        assert text.count("make room, and the same command goes on") == 4
        reason = load_trials(tmp_path).reason[0]
        assert re.search(r"checkpoints/\w+\.pt: cannot be written: File too large: it takes 0\.\d+ MB", reason)
        assert list((tmp_path / "checkpoints").iterdir()) == []
    assert not (tmp_path / "logs").exists()
    assert launch(tiny(), tmp_path, serial=True)[0] == 0


def test_a_traceback_that_does_not_fit_on_the_disk_does_not_hide_the_reason(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("not a folder")
    assert logged(RuntimeError("why"), tmp_path / "logs" / "trial.log") == ""


def test_a_diverged_trial_is_a_result_and_not_a_failure(tiny: Tiny, launch: Launch, tmp_path: Path) -> None:
    config = tiny(space={"optimizer.lr": [0.1, 1e30]})
    code, text = launch(config, tmp_path, serial=True)
    assert code == 0
    assert "] diverged" in text
    trials = load_trials(tmp_path).set_index("optimizer.lr")
    assert trials.outcome[1e30] == "diverged"
    assert "in epoch 1" in trials.reason[1e30]


@pytest.mark.parametrize(("after", "name"), [(1, "SIGINT"), (4, "SIGTERM"), (7, "SIGTERM")])
def test_an_interrupted_run_goes_on_to_the_frame_of_an_undisturbed_one(
    after: int,
    name: str,
    tiny: Tiny,
    launch: Launch,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen = 0
    add = Progress.add

    def count(progress: Progress, record: dict[str, Any]) -> None:
        nonlocal seen
        add(progress, record)
        seen += record["record"] == "epoch"
        if seen == after and record["record"] == "epoch":
            signal.raise_signal(signal.Signals[name])

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "add", count)
        code, text = launch(tiny(), tmp_path, serial=True)
    assert code == 130
    assert f"stopped by {name}" in text
    assert list(load_trials(tmp_path).outcome).count("interrupted") == 1
    assert launch(tiny(), tmp_path, serial=True)[0] == 0
    same_numbers(tmp_path, undisturbed)


def interrupted_after(epochs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal comes with the record of an epoch, counted over all trials."""
    add, seen = Progress.add, 0

    def count(progress: Progress, record: dict[str, Any]) -> None:
        nonlocal seen
        add(progress, record)
        seen += record["record"] == "epoch"
        if seen == epochs and record["record"] == "epoch":
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(Progress, "add", count)


#: Nothing makes a file due but a trial's first epoch and its last.
RARELY = ["trial.checkpoint.every_minutes=null"]


@pytest.mark.parametrize("dies", [False, True])
def test_a_signal_costs_no_epoch_and_a_process_that_dies_those_since_the_last_file(
    dies: bool,
    sweep_file: Callable[..., Path],
    launch: Launch,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, trained, epoch = load(sweep_file(), RARELY), [], loop._epoch
    with monkeypatch.context() as patch:
        interrupted_after(2, patch)
        if dies:
            patch.setattr(checkpoint.Writer, "flush", lambda writer: None)
        assert launch(config, tmp_path, serial=True)[0] == 130
        for thread in threading.enumerate():
            if thread.name == "checkpoint":
                thread.join()
    monkeypatch.setattr(loop, "_epoch", lambda trial, number: (trained.append(number), epoch(trial, number))[1])
    assert launch(config, tmp_path, serial=True)[0] == 0
    assert trained == [*([1, 2] if dies else [2]), *[0, 1, 2] * 3]
    same_numbers(tmp_path, undisturbed)
    first = read(tmp_path)[1]["trial_id"]
    lines = [each["epoch"] for each in read(tmp_path) if each["record"] == "epoch" and each["trial_id"] == first]
    assert lines == ([1, 2, 2, 3] if dies else [1, 2, 3])
    history = torch.load(checkpoint_path(tmp_path, first), weights_only=True)["history"]
    counted = load_epochs(tmp_path).query("trial_id == @first")
    # of an epoch that was trained twice the later, whose weights went on
    assert [each["seconds"] for each in history] == counted.seconds.tolist()


def test_a_run_directory_of_another_sweep_is_refused(tiny: Tiny, launch: Launch, finished: Path) -> None:
    with pytest.raises(UserError, match="holds the sweep 'tiny', not 'other'; give another --out"):
        launch(tiny(name="other"), finished, serial=True)


@pytest.mark.slow
def test_optuna_runs_every_point_with_every_seed_through_ray(
    tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    config = tiny(
        space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": {"loguniform": [0.01, 1]}},
        search={"name": "optuna", "n_trials": 2},
        seeds=[0, 1],
    )
    assert launch(config, tmp_path)[0] == 0
    trials = load_trials(tmp_path)
    assert len(trials) == 8
    assert trials.groupby("optimizer.name")["optimizer.lr"].nunique().to_dict() == {"sgd": 2, "deat": 2}
    code, text = launch(config, tmp_path)
    assert code == 0
    assert "nothing left to run" in text


@pytest.mark.slow
def test_a_deterministic_search_runs_the_same_trials_one_by_one_and_side_by_side_in_two_launches(
    tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    search = {"name": "optuna", "deterministic": True, "batch": 2, "sampler_options": {"n_startup_trials": 1}}

    def config(n: int) -> SweepConfig:
        return tiny(space={"optimizer.lr": {"loguniform": [0.01, 1]}}, search=search | {"n_trials": n})

    assert launch(config(4), tmp_path / "serial", serial=True, debug=True)[0] == 0
    for n in (3, 4):  # the first ends within a batch
        assert launch(config(n), tmp_path / "ray")[0] == 0
    serial, ray = (set(load_trials(tmp_path / name)["trial_id"]) for name in ("serial", "ray"))
    assert len(serial) == 4
    assert serial == ray


def test_a_signal_before_the_first_trial_is_told(
    tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted("SIGINT")

    monkeypatch.setattr("sweep.run.launch.check_resources", interrupted)
    code, said = launch(tiny(), tmp_path / "run")
    assert (code, said.splitlines()[-1]) == (130, "stopped by SIGINT; the same command goes on")


@pytest.mark.parametrize(
    ("serial", "resources", "message"),
    [
        (True, {"gpu": 1}, r"^resources.gpu: a trial asks for 1 GPU, and this machine has 0; set resources.gpu=0 to "),
        (
            False,
            {"gpu": 1},
            r"^resources.gpu: a trial asks for 1 GPU, and this machine has 0; set resources.gpu=0 to train on",
        ),
        (
            False,
            {"cpu": 4096},
            r"^resources.cpu: a trial asks for 4096 CPU, and this machine has \d+; set resources.cpu=\d+$",
        ),
    ],
)
def test_a_trial_that_does_not_fit_on_this_machine_is_refused_before_ray_starts(
    serial: bool,
    resources: dict[str, Any],
    message: str,
    tiny: Tiny,
    launch: Launch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr("sweep.run.cluster.connected", lambda *where: pytest.fail("Ray starts"))
    with pytest.raises(UserError, match=message):
        launch(tiny(resources=resources), tmp_path / "runs" / "tiny", serial=serial)
    assert not (tmp_path / "runs").exists()


def test_a_relaunch_has_ray_come_up_beside_its_plan_where_trials_are_left(
    tiny: Tiny, launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ComesUp(Exception):
        pass

    def ahead(*where: Any) -> None:
        raise ComesUp

    monkeypatch.setattr("sweep.run.cluster.ahead", ahead)
    config, run = tiny(seeds=[0]), tmp_path / "run"
    assert launch(config, run, serial=True)[0] == 0
    assert launch(config, run)[0] == 0
    *before, last = (run / "records.jsonl").read_bytes().splitlines(keepends=True)
    assert b'"completed"' in last
    (run / "records.jsonl").write_bytes(b"".join(before))
    with pytest.raises(ComesUp):
        launch(config, run)
    assert launch(config, run, serial=True)[0] == 0


@pytest.mark.parametrize(
    ("outcomes", "left"),
    [
        ({"a0": "completed", "b1": "diverged"}, False),
        ({"a0": "pruned", "b1": "cancelled"}, False),
        ({"a0": "completed"}, True),
        ({"a0": "completed", "b1": "preempted"}, True),
        ({"a0": "failed", "b1": "completed"}, True),
    ],
)
def test_outcomes_tell_whether_a_launch_left_trials_and_a_share_its_own(outcomes: dict[str, str], left: bool) -> None:
    records = [{"record": "launch", "wanted": ["c2"]}, {"record": "launch", "wanted": ["a0", "b1"]}]
    records += [{"record": "outcome", "trial_id": name, "outcome": outcome} for name, outcome in outcomes.items()]
    assert _leaves_some(records, None) is left
    own = [_leaves_some(records, Share(index, 2)) for index in (1, 2)]
    assert any(own) is left
    assert not all(own)


def test_a_plan_says_that_a_launch_here_would_be_refused(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.run.capacity.this_machine", lambda: Room("this machine", [{"CPU": 2.0, "GPU": 0.0}]))
    monkeypatch.setattr("sweep.run.capacity.cores", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert refusal_here(tiny(resources={"workers": 2})) == ""
    assert refusal_here(tiny(resources={"workers": 12})) == (
        "a launch here is refused without --serial: resources.workers: a trial asks for 12 workers with 1 CPU each, "
        "and this machine has 2 CPU; set resources.workers=2"
    )
    assert refusal_here(tiny(resources={"workers": 2, "gpu": 1})) == (
        "a launch here is refused: resources.gpu: a trial asks for 1 GPU, and this machine has 0; set resources.gpu=0 "
        "to train on the CPU"
    )


def test_through_ray_a_record_that_cannot_be_written_ends_the_launch_in_one_line(
    tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    append, epochs = LinkedFile.append, list[str]()

    def full(file: LinkedFile, kind: str, values: dict[str, Any]) -> None:
        epochs.extend([values["trial_id"]] if kind == "epoch" else [])
        if len(epochs) > 2:
            raise UserError("records.jsonl: cannot be written: No space left on device")
        append(file, kind, values)

    monkeypatch.setattr(LinkedFile, "append", full)
    with pytest.raises(UserError, match=r"^records.jsonl: cannot be written: No space left on device$"):
        launch(tiny(), tmp_path / "run")


def test_what_a_node_of_rays_has_not_is_refused_by_it(
    tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    with pytest.raises(UserError, match=r"^resources.cpu: a trial asks for 64 CPU, and no node has more than 2; lower"):
        launch(tiny(resources={"cpu": 64}), tmp_path / "runs" / "tiny")
    assert not (tmp_path / "runs").exists()


def test_through_ray_a_worker_that_dies_goes_on_and_the_frame_is_that_of_this_process(
    tiny: Tiny, launch: Launch, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path, local_ray: None
) -> None:
    killed: list[str] = []
    add = Progress.add

    def kill_once(progress: Progress, record: dict[str, Any]) -> None:
        add(progress, record)
        if record["record"] == "epoch" and not killed:
            killed.append(record["trial_id"])
            ray.get(_kill_workers.remote())

    Progress.add = kill_once  # type: ignore[method-assign]
    try:
        code, said = launch(tiny(), tmp_path)
    finally:
        Progress.add = add  # type: ignore[method-assign]
    assert code == 0
    died = rf"^trial {killed[0]}: its process died in epoch 2 \(.+\); another goes on from its newest checkpoint$"
    assert re.search(died, said, re.M)
    same_numbers(tmp_path, undisturbed)
    assert (load_trials(tmp_path).outcome == "completed").all()
    assert starts(tmp_path).count(killed[0]) == 2


def test_through_ray_a_worker_that_dies_between_two_trials_costs_neither_of_them(
    tiny: Tiny, launch: Launch, same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path, local_ray: None
) -> None:
    """Tune hands the next trial to the process that it keeps, and learns only then that it is gone."""
    killed: list[str] = []
    complete = ray_tune._JournalSearcher.on_trial_complete

    def kill_once(searcher: Any, trial_id: str, *words: Any, **more: Any) -> None:
        if not killed:
            killed.append(trial_id)
            ray.get(_kill_workers.remote())
        complete(searcher, trial_id, *words, **more)

    ray_tune._JournalSearcher.on_trial_complete = kill_once  # type: ignore[method-assign]
    try:
        code, _ = launch(tiny(max_concurrent=1), tmp_path)
    finally:
        ray_tune._JournalSearcher.on_trial_complete = complete  # type: ignore[method-assign]
    assert (code, len(killed)) == (0, 1)
    same_numbers(tmp_path, undisturbed)
    assert (load_trials(tmp_path).outcome == "completed").all()


@ray.remote(num_cpus=0)
def _kill_workers() -> None:
    """Kills every process of this Ray that trains, as an out-of-memory killer would."""
    import psutil

    trains = [
        each for each in psutil.Process().parent().children() if any("ImplicitFunc" in word for word in each.cmdline())
    ]
    for process in trains:
        process.kill()
    psutil.wait_procs(trains)


@pytest.mark.parametrize(("gone", "address", "tries"), [(2, None, 3), (9, None, 1 + runner.NEW_RAYS), (9, "h:1", 1)])
def test_a_local_ray_that_goes_is_started_again_three_times_and_a_cluster_is_not(
    gone: int, address: str | None, tries: int
) -> None:
    """What is done on it returns its exit code, or is at last told that Ray is gone."""
    text, up, closed, done = io.StringIO(), ExitStack(), list[int](), list[int]()

    def once() -> int:
        done.append(len(done))
        up.callback(closed.append, len(done))
        if len(done) <= gone:
            raise RayGone("it ended")
        return 7

    if gone < tries:
        assert runner.kept_up(once, Console(file=text, width=200), address, up) == 7
    else:
        with pytest.raises(RayGone, match="it ended"):
            runner.kept_up(once, Console(file=text, width=200), address, up)
    assert len(done) == tries
    assert closed == list(range(1, tries))  # the one that has gone is let go of before the next
    last = ["after 3 new ones, no more; the same command goes on"] * (address is None and gone >= tries)
    last += ["once the cluster is up again, the same command goes on"] * (address is not None)
    said = ["going on with a new one"] * (tries - 1) + last
    assert text.getvalue().splitlines() == [f"Ray is gone: it ended; {what}" for what in said]
