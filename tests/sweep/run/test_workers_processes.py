"""Trials on two workers with real processes: whichever is killed, nothing is lost and nothing is left."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
import small
import yaml
from faults_harness import Command, Commands, command_line, is_there, lines, name_of, numbers, until

from analysis.frames.trials import load_trials
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.run.trial import RESTARTS
from trainers.record import read

Launch = Callable[..., tuple[int, str]]
SameNumbers = Callable[[Path, Path], None]
TIMEOUT = 30  # s, for an epoch of a tenth of a second

TWO = ("--set", "resources.workers=2", "--set", "trial.checkpoint.every_epochs=1")

#: An objective whose second worker has the fault that its option names, in its second epoch: once, as a file beside it
#: remembers, or always.
FAULTS = """
import ctypes, os, signal, time
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional as F


class Fault:
    def __init__(self, kind: str, folder: str):
        self.kind, self.calls, self.mark = kind, 0, Path(folder, kind)

    def outer(self, forward, images, adversarial, labels):
        self.calls += 1
        loss = F.cross_entropy(forward(adversarial), labels)
        second = torch.distributed.is_initialized() and torch.distributed.get_rank() == 1
        always = self.kind.startswith("always")
        if second and (always or self.calls > 3) and self.kind != "none" and not self.mark.exists():
            if not always:
                self.mark.touch()
            getattr(self, self.kind.removeprefix("always_"))()
        return loss

    def kill(self):
        os.kill(os.getpid(), signal.SIGKILL)

    def error(self):
        raise ZeroDivisionError("of the worker")

    def memory(self):
        raise MemoryError("Unable to allocate 8.00 GiB for an array")

    def hang(self):
        ctypes.PyDLL(None).sleep(1000)
"""

KINDS = ("kill", "error", "memory", "none")


@pytest.fixture
def swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep_file: Callable[..., Path]
) -> Callable[..., SweepConfig]:
    """Gives a sweep over kinds of fault."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "faults.py").write_text(FAULTS)
    (tmp_path / "marks").mkdir()

    def config(*kinds: str, **resources: Any) -> SweepConfig:
        path = sweep_file(space={"objective.kind": list(kinds)}, resources={"workers": 2, "cpu": 1, **resources})
        own = f"  objective: {{name: ./faults.py:Fault, folder: {tmp_path / 'marks'}}}\n"
        path.write_text(path.read_text().replace("trial:\n", f"trial:\n{own}"))
        return load(path)

    return config


def assert_each_fault_costs_its_trial_alone(run: Path, memory: str) -> None:
    trials = load_trials(run).set_index("objective.kind")
    assert trials.outcome.to_dict() == {"kill": "completed", "error": "failed", "memory": memory, "none": "completed"}
    reasons = {one["trial_id"]: one["reason"] for one in read(run) if one.get("outcome") in ("failed", "out_of_memory")}
    reasons = {kind: reasons.get(trial, "") for kind, trial in trials.trial_id.items()}
    assert reasons["error"].startswith("worker 1 of 2: ZeroDivisionError: of the worker (logs/")
    assert "worker 1" in reasons["memory"]
    assert "Unable to allocate 8.00 GiB" in reasons["memory"]
    assert trials.attempts[["kill", "error", "none"]].to_list() == [2, 1, 1]
    assert set(trials.workers) == {2}
    died = [
        record["died"] for record in read(run) if "died" in record and record["trial_id"] == trials.trial_id["kill"]
    ]
    assert [why.startswith("worker 1 of 2: ") for why in died] == [True]


def children() -> set[psutil.Process]:
    return set(psutil.Process().children(recursive=True))


@pytest.mark.slow
def test_in_a_serial_launch_a_worker_that_dies_or_raises_costs_its_trial_alone(
    swept: Callable[..., SweepConfig], launch: Launch, tmp_path: Path
) -> None:
    before, run = children(), tmp_path / "run"
    assert launch(swept(*KINDS), run, serial=True, debug=False)[0] == 1
    assert_each_fault_costs_its_trial_alone(run, "out_of_memory")
    assert psutil.wait_procs(children() - before, timeout=30)[1] == []


def living() -> list[str]:
    """Actors of the local Ray that train, and placement groups that are there."""
    actors = ray._private.state.actors().values()
    groups = ray.util.placement_group_table().values()
    trains = ("Worker", "ImplicitFunc")
    return [
        *(one["ActorClassName"] for one in actors if one["ActorClassName"] in trains and one["State"] != "DEAD"),
        *(one["placement_group_id"] for one in groups if one["state"] != "REMOVED"),
    ]


@pytest.mark.slow
def test_a_trial_whose_second_worker_dies_time_and_again_has_failed_and_its_reason_names_the_worker(
    swept: Callable[..., SweepConfig], launch: Launch, tmp_path: Path
) -> None:
    assert launch(swept("always_kill"), tmp_path / "run", serial=True, debug=False)[0] == 1
    trials = load_trials(tmp_path / "run")
    assert (trials.outcome.item(), trials.attempts.item()) == ("failed", 1 + RESTARTS)
    named = r"its process died 4 times: worker 1 of 2: its process \(\d+\) ended by signal SIGKILL"
    assert re.fullmatch(named, trials.reason.item())


@pytest.mark.slow
def test_through_ray_a_worker_that_dies_or_raises_costs_its_trial_alone_and_no_actor_or_group_is_left(
    swept: Callable[..., SweepConfig], launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    assert launch(swept(*KINDS), tmp_path / "run")[0] == 1
    assert_each_fault_costs_its_trial_alone(tmp_path / "run", "completed")  # once more, alone
    until(lambda: not living(), "no actor and no placement group", 30)


@pytest.mark.slow
@pytest.mark.parametrize("serial", [True, False], ids=["serial", "ray"])
def test_a_trial_whose_second_worker_hangs_is_ended_with_all_of_its_workers(
    serial: bool, swept: Callable[..., SweepConfig], launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    before, run = children(), tmp_path / "run"
    assert launch(swept("hang", epoch_timeout=TIMEOUT), run, serial=serial, debug=False)[0] == 1
    trials = load_trials(run)
    assert trials.outcome.item() == "failed"
    assert trials.reason.item().startswith(f"hung: no epoch ended within {TIMEOUT} s; where it stood: logs/")
    if serial:
        assert psutil.wait_procs(children() - before, timeout=30)[1] == []
    until(lambda: not living(), "no actor and no placement group", 30)
    hanging = [each for each in children() - before if name(each) == "Worker"]
    assert psutil.wait_procs(hanging, timeout=30)[1] == []  # it gives Python's lock to nobody


def second_workers(launched: Command) -> list[psutil.Process]:
    """Processes of a launch that train along."""
    return [each for each in all_of(launched) if "worker_processes" in command_line(each) or name(each) == "Worker"]


def first_workers(launched: Command) -> list[psutil.Process]:
    """Those that report."""
    return [each for each in all_of(launched) if "run.child" in command_line(each) or name(each) == "ImplicitFunc"]


def all_of(launched: Command) -> list[psutil.Process]:
    return [each for each in psutil.Process(launched.pid).children(recursive=True) if is_there(each)]


def name(process: psutil.Process) -> str:
    """Of the class of a Ray actor."""
    return name_of(process).removeprefix("ray::").partition(".")[0]


def ended(processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=60)[1] == []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The undisturbed run of twelve epochs on two workers."""
    folder = tmp_path_factory.mktemp("whole")
    space = {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.3]}
    (folder / "tiny.yaml").write_text(yaml.safe_dump({"name": "tiny", "trial": small.TINY, "space": space}))
    started = Commands(folder)
    started.finish(
        "launch", folder / "tiny.yaml", *TWO, "--set", "trial.epochs=12", "--serial", "--out", folder / "run"
    )
    yield folder / "run"
    started.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--serial",), ()], ids=["serial", "ray"])
def test_whichever_is_killed_the_launch_goes_on_and_the_numbers_are_the_same(
    how: tuple[str, ...],
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    whole: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    options = ("launch", sweep_file(), *TWO, "--set", "trial.epochs=12", "--out", run, *how)
    launched = commands(*options)
    launched.wait_for(run, "epoch", 2)
    killed = all_of(launched)
    launched.signal(signal.SIGKILL)
    ended(killed)
    launched = commands(*options)
    for find in (second_workers, first_workers):
        launched.wait_for(run, "epoch", lines(run, "epoch") + 1)  # in the midst of the first trial
        victim, *_ = find(launched)
        trains = [*first_workers(launched), *second_workers(launched)]
        victim.kill()
        ended(trains)  # the others of its trial with it
    assert launched.code() == 0, launched.output
    same_numbers(run, whole)
    assert numbers(run) == numbers(whole)


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--serial",), ("--serial", "--debug"), ()], ids=["serial", "debug", "ray"])
def test_a_launch_that_is_told_to_end_leaves_no_worker_and_goes_on(
    how: tuple[str, ...],
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    whole: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    options = ("launch", sweep_file(), *TWO, "--set", "trial.epochs=12", "--out", run, *how)
    for number in (signal.SIGTERM, signal.SIGINT):
        launched = commands(*options)
        launched.wait_for(run, "epoch", lines(run, "epoch") + 2)
        left = all_of(launched)
        assert second_workers(launched)
        launched.signal(number)
        assert launched.code() == 130, launched.output
        assert "Traceback" not in launched.output
        ended(left)
    commands.finish(*options)
    same_numbers(run, whole)
    assert numbers(run) == numbers(whole)


@pytest.mark.slow
@pytest.mark.parametrize("how", [("--serial",), ()], ids=["serial", "ray"])
def test_a_paused_and_a_cancelled_trial_leave_no_worker(
    how: tuple[str, ...],
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    whole: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    options = ("launch", sweep_file(), *TWO, "--set", "trial.epochs=12", "--out", run, *how)
    launched = commands(*options)
    launched.wait_for(run, "epoch", 2)
    commands.finish("pause", run)
    launched.until(lambda: not second_workers(launched), "no worker while all is paused")
    assert launched.is_running()
    before = lines(run, "start")
    commands.finish("resume", run)
    launched.wait_for(run, "start", before + 1)
    launched.wait_for(run, "epoch", lines(run, "epoch") + 1)
    along = second_workers(launched)
    for each in along:  # so that the trial does not end before the command is there
        each.suspend()
    running = next(one["trial_id"] for one in reversed(read(run)) if one["record"] == "start")
    commands.finish("cancel", run, running)
    for each in along:
        with suppress(psutil.NoSuchProcess):
            each.resume()
    launched.wait_for(run, "outcome", lines(run, "outcome") + 1)
    ended(along)
    launched.code()
    commands.finish("cancel", run, running, "--undo")
    commands.finish(*options)
    same_numbers(run, whole)
