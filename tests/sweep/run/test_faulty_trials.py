"""Trials that raise, hang, leak or kill their process, by a user's own code: each costs itself alone."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults_harness import Command

from analysis.frames.trials import load_trials
from sweep.config import SweepConfig
from sweep.config_file import load
from trainers.record import read

Driver = Callable[..., Command]
Launch = Callable[..., tuple[int, str]]
SameNumbers = Callable[[Path, Path], None]
PATIENCE = 300  # s, on a machine that is busy with other things
TIMEOUT = 30  # s, for an epoch of a tenth of a second there

#: An objective that in its second epoch has the fault that its option names: once, as a file beside it remembers; one
#: whose name begins with "always" in its first step, but not where a plan tries it, with four images.
FAULTS = """
import ctypes, os, sys, time
from pathlib import Path

import psutil
import torch
from torch.nn import functional as F


class Fault:
    def __init__(self, kind: str, folder: str):
        self.kind, self.calls, self.mark = kind, 0, Path(folder, kind)
        self.always = kind.startswith("always")

    def outer(self, forward, images, adversarial, labels):
        self.calls += 1
        loss = F.cross_entropy(forward(adversarial), labels)
        due = len(images) > 4 if self.always else self.calls > 3 and self.kind != "none" and not self.mark.exists()
        if due:
            if not self.always:
                self.mark.touch()
            print("fault:", self.kind, flush=True)
            loss = loss * (getattr(self, self.kind.removeprefix("always_"))() or 1)
        return loss

    def exit(self):
        sys.exit(3)

    def interrupt(self):
        raise KeyboardInterrupt("the trial's own")

    def secret(self):
        raise ConnectionError("401 of https://me:planted-url@host with " + os.environ["MY_OWN_SECRET"])

    def generator(self):
        raise GeneratorExit

    def memory(self):
        raise MemoryError("Unable to allocate 8.00 GiB for an array")

    def allocator(self):
        torch.empty(2**60, dtype=torch.uint8)

    def nan(self):
        return float("nan")

    def nothing(self):
        return "no number"

    def segv(self):
        ctypes.string_at(0)

    def hang(self):
        time.sleep(1000)

    def hang_with_the_lock(self):
        ctypes.PyDLL(None).sleep(1000)

    def leak(self):
        kept, limit = [], float(os.environ["RAY_memory_usage_threshold"])
        while len(kept) < 60 and psutil.virtual_memory().percent < 100 * limit + 1:
            kept.append(torch.ones(2**23))  # 34 MB, 2 GB in all
            time.sleep(0.02)
        time.sleep(10)
        raise RuntimeError("nobody ended it")
"""


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sweep_file: Callable[..., Path]) -> Callable[..., Path]:
    """Writes a sweep over kinds of fault, and the code that has them."""

    def write(*kinds: str, **values: Any) -> Path:
        monkeypatch.chdir(tmp_path)
        (tmp_path / "faults.py").write_text(FAULTS)
        (tmp_path / "marks").mkdir(exist_ok=True)
        path = sweep_file(space={"objective.kind": list(kinds)}, max_concurrent=2, **values)
        own = f"  objective: {{name: ./faults.py:Fault, folder: {tmp_path / 'marks'}}}\n"
        path.write_text(path.read_text().replace("trial:\n", f"trial:\n{own}"))
        return path

    return write


@pytest.fixture
def swept(faults: Callable[..., Path]) -> Callable[..., SweepConfig]:
    """The same, loaded."""
    return lambda *kinds, **values: load(faults(*kinds, **values))


def ends(directory: Path) -> dict[str, tuple[str, str]]:
    """Outcome and reason by fault."""
    trials = load_trials(directory).set_index("objective.kind")
    return dict(zip(trials.index, zip(trials.outcome, trials.reason, strict=True), strict=True))


def starts(directory: Path) -> dict[str, int]:
    return load_trials(directory).set_index("objective.kind").attempts.to_dict()


RAISING = ("exit", "interrupt", "generator", "memory", "allocator", "nothing")


def test_no_secret_that_a_trial_raises_stands_in_a_file_of_the_run(
    swept: Callable[..., SweepConfig], launch: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_OWN_SECRET", "planted-00000012")
    launch(swept("secret"), tmp_path / "run", serial=True)
    (outcome, reason), *_ = ends(tmp_path / "run").values()
    assert (outcome, reason.split(" (logs/")[0]) == (
        "failed",
        "ConnectionError: 401 of https://me:***@host with ***",
    )
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file() and path.suffix != ".zip"]
    assert [path.name for path in files if re.search(rb"planted-[0u]", path.read_bytes()) is not None] == []


@pytest.mark.slow  # without processes: `test_trial`
def test_whatever_a_trial_raises_is_its_own_outcome_and_launched_again_the_numbers_are_those_of_no_fault(
    swept: Callable[..., SweepConfig], launch: Launch, same_numbers: SameNumbers, tmp_path: Path
) -> None:
    config = swept(*RAISING, "nan", "none")
    assert launch(config, tmp_path / "run", serial=True)[0] == 1
    found = ends(tmp_path / "run")
    assert {kind: outcome for kind, (outcome, _) in found.items()} == {
        **dict.fromkeys(("exit", "interrupt", "generator", "nothing"), "failed"),
        **dict.fromkeys(("memory", "allocator"), "out_of_memory"),
        "nan": "diverged",
        "none": "completed",
    }
    reasons = {kind: reason.split(" (logs/")[0] for kind, (_, reason) in found.items()}
    assert reasons["exit"] == "SystemExit: 3"
    assert reasons["interrupt"] == "KeyboardInterrupt: the trial's own"
    assert reasons["generator"] == "GeneratorExit: without a message"
    assert reasons["nothing"].startswith("TypeError: ")
    assert reasons["nan"] == "train_robust_loss is nan in epoch 2"
    assert all("\n" not in reason for reason in reasons.values())
    assert launch(config, tmp_path / "run", serial=True, again=True)[0] == 0
    (tmp_path / "marks" / "nan").unlink()
    assert launch(config, tmp_path / "whole", serial=True)[0] == 0
    same_numbers(tmp_path / "run", tmp_path / "whole")


def same_after_another_launch(config: SweepConfig, launch: Launch, same: SameNumbers, run: Path, **how: Any) -> None:
    """Launched again, all but what always fails is as in a run without faults."""
    assert launch(config, run, **how)[0] == 1
    assert launch(config, run.parent / "whole", serial=True, debug=False)[0] == 1
    same(run, run.parent / "whole")


@pytest.mark.slow  # processes that are replaced
def test_a_trial_that_kills_its_process_or_hangs_costs_itself_alone_in_a_serial_launch(
    swept: Callable[..., SweepConfig],
    launch: Launch,
    same_numbers: SameNumbers,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    resources, run = {"epoch_timeout": TIMEOUT}, "run"
    config = swept("always_segv", "segv", "hang_with_the_lock", "none", resources=resources)
    assert launch(config, tmp_path / run, serial=True, debug=False)[0] == 1
    found = ends(tmp_path / run)
    assert found["always_segv"] == ("failed", "its process died 4 times: signal SIGSEGV")
    assert found["segv"] == found["none"] == ("completed", "")
    outcome, reason = found["hang_with_the_lock"]
    assert outcome == "failed"
    assert reason.startswith(f"hung: no epoch ended within {TIMEOUT} s; where it stood: logs/")
    log = tmp_path / run / "logs" / reason.rpartition("/")[2]
    assert "in hang_with_the_lock" in log.read_text()
    assert starts(tmp_path / run) == {"always_segv": 4, "segv": 2, "hang_with_the_lock": 1, "none": 1}
    assert "fault: segv" in capfd.readouterr().out  # what a trial prints is seen
    assert not list((tmp_path / run).rglob("*.hung"))
    same_after_another_launch(config, launch, same_numbers, tmp_path / run, serial=True, debug=False)


@pytest.mark.slow
def test_through_ray_a_trial_that_hangs_is_ended_and_the_others_of_its_process_go_on(
    swept: Callable[..., SweepConfig],
    launch: Launch,
    same_numbers: SameNumbers,
    tmp_path: Path,
    local_ray: None,
) -> None:
    shared = {"epoch_timeout": TIMEOUT, "trials_per_process": 2}
    config, run = swept("hang", "none", "always_exit", resources=shared), tmp_path / "run"
    assert launch(config, run)[0] == 1
    found = ends(run)
    assert found["none"] == ("completed", "")
    assert found["hang"][0] == "failed"
    assert found["hang"][1].startswith(f"hung: no epoch ended within {TIMEOUT} s; where it stood: logs/")
    assert found["always_exit"][1].startswith("SystemExit: 3 (logs/")
    same_after_another_launch(config, launch, same_numbers, run)


@pytest.mark.slow
def test_a_trial_that_leaks_is_out_of_memory_by_rays_monitor_and_runs_once_more_alone(
    faults: Callable[..., Path], sweep_command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others use the machine's memory too, so that a try may end before the leak, or without the monitor's notice."""
    config = str(faults("always_leak", "none"))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "100")
    for number in range(3):
        memory = psutil.virtual_memory()
        threshold = (memory.total - memory.available + 2.0e9) / memory.total
        if threshold > 0.9:
            pytest.skip("the machine has no 2 GB to spare")
        monkeypatch.setenv("RAY_memory_usage_threshold", str(threshold))
        run = tmp_path / f"run{number}"
        words = [*sweep_command, "launch", config, "--out", str(run), "--set", "max_concurrent=1"]
        launched = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE)
        assert "Traceback" not in launched.stdout + launched.stderr
        found, begun = ends(run), starts(run)
        if (found["none"][0], found["always_leak"][0], begun["always_leak"]) == ("completed", "out_of_memory", 2):
            break
    assert launched.returncode == 1, launched.stdout
    assert found["none"] == ("completed", "")
    outcome, reason = found["always_leak"]
    assert outcome == "out_of_memory"
    assert reason.startswith("Ray's memory monitor ended its process: Memory usage ")
    assert "; alone on " in reason
    assert "\n" not in reason
    assert begun["always_leak"] == 2
    first = next(record for record in read(run) if record.get("outcome") == "out_of_memory")
    assert first["reason"].endswith("; it runs once more, alone, at the end of the launch")


@pytest.mark.parametrize("name", [pytest.param("SIGHUP", marks=pytest.mark.slow), "SIGUSR1"])
def test_a_serial_launch_that_is_told_to_end_writes_the_last_epoch_first(
    name: str, driver: Driver, tmp_path: Path
) -> None:
    """To its whole group, as a terminal that goes away does, and to each process, as Slurm does."""
    import torch

    run = tmp_path / "run"
    process = driver("--serial", "--set", "trial.epochs=400", "--set", "trial.checkpoint.every_minutes=null")
    process.wait_for(run, "epoch", 3)
    (child,) = psutil.Process(process.pid).children()
    os.kill(child.pid, signal.Signals[name])
    os.killpg(process.pid, signal.Signals[name])
    code, output = process.code(PATIENCE), process.output
    assert code == 130, output
    assert f"stopped by {name}; the same command goes on" in output
    assert "Traceback" not in output
    trials = load_trials(run).set_index("trial_id")
    (stopped,) = trials.index[trials.outcome == "interrupted"]
    assert trials.reason[stopped] == f"stopped by {name}"
    written = torch.load(run / "checkpoints" / f"{stopped}.pt", weights_only=True)["history"]
    assert len(written) >= trials.epochs[stopped] >= 3
    assert not child.is_running()


def test_no_process_of_a_serial_launch_outlives_one_that_is_killed(driver: Driver, tmp_path: Path) -> None:
    process = driver("--serial", "--set", "trial.epochs=400")
    process.wait_for(tmp_path / "run", "epoch", 1)
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    assert psutil.wait_procs([child], timeout=PATIENCE)[1] == []


@pytest.mark.slow
def test_a_process_of_a_serial_launch_that_is_killed_is_replaced_and_its_trial_goes_on(
    driver: Driver, undisturbed: Path, same_numbers: SameNumbers, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = driver("--serial")
    process.wait_for(run, "epoch", 2)
    (child,) = psutil.Process(process.pid).children()
    child.kill()
    code, output = process.code(PATIENCE), process.output
    assert code == 0, output
    same_numbers(run, undisturbed)
    starts = sorted(record["record"] for record in read(run)).count("start")
    assert starts in (4, 5)  # it may have ended just then
    assert output.count(": its process died in epoch ") == starts - 4
