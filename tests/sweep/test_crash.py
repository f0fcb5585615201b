"""kill -9 of the driver, and signals to it, at several moments: nothing is lost and nothing runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from analysis.frame import load_trials
from sweep.config import SweepConfig, load
from trainers.record import FINISHED, read

COMMAND = [sys.executable, "-c", "from sweep.cli import main; main()"]
PATIENCE = 120  # s, on a machine that is busy with other things


@pytest.fixture
def driver(sweep_file: Callable[..., Path], tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts `sweep launch` in a process of its own, of which nothing is left after the test."""
    started: list[subprocess.Popen[str]] = []

    def start(*options: str) -> subprocess.Popen[str]:
        command = [*COMMAND, "launch", str(sweep_file()), "--out", str(tmp_path / "run"), *options]
        # Not the process group of the tests: a signal to this one must not reach them.
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_for(directory: Path, kind: str, number: int, process: subprocess.Popen[str]) -> None:
    """Waits until the records hold so many lines of a kind."""
    deadline = time.monotonic() + PATIENCE
    path = directory / "records.jsonl"
    while time.monotonic() < deadline:
        if path.exists() and path.read_text().count(f'{{"record":"{kind}"') >= number:
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.005)
    raise AssertionError(f"no {number} lines of {kind} within {PATIENCE} s")


def assert_no_finished_trial_started_again(directory: Path) -> None:
    finished: set[str] = set()
    for record in read(directory):
        if record["record"] == "start":
            assert record["trial_id"] not in finished
        elif record["record"] == "outcome" and record["outcome"] in FINISHED:
            finished.add(record["trial_id"])
    outcomes = Counter(record["trial_id"] for record in read(directory) if record["record"] == "outcome")
    assert all(outcomes[trial] >= 1 for trial in finished)


@pytest.mark.parametrize(
    ("options", "kind", "number"),
    [
        (["--serial"], "trial", 4),
        (["--serial"], "start", 2),
        (["--serial"], "epoch", 5),
        (["--serial"], "outcome", 3),
        ([], "epoch", 1),
        ([], "outcome", 1),
    ],
)
def test_after_kill_9_the_same_command_ends_with_the_frame_of_an_undisturbed_run(
    options: list[str],
    kind: str,
    number: int,
    driver: Callable[..., subprocess.Popen[str]],
    sweep_file: Callable[..., Path],
    launch: Callable[..., tuple[int, str]],
    same_numbers: Callable[[Path, Path], None],
    tmp_path: Path,
    local_ray: None,
) -> None:
    run = tmp_path / "run"
    process = driver(*options)
    wait_for(run, kind, number, process)
    process.kill()
    process.wait()
    assert launch(load(sweep_file()), run, serial=bool(options))[0] == 0
    launch(load(sweep_file()), tmp_path / "whole", serial=True)
    same_numbers(run, tmp_path / "whole")
    assert_no_finished_trial_started_again(run)


@pytest.mark.parametrize(("signum", "name"), [(signal.SIGINT, "SIGINT"), (signal.SIGTERM, "SIGTERM")])
def test_a_signal_leaves_honest_outcomes_and_exit_130(
    signum: int, name: str, driver: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = driver("--set", "trial.epochs=400")
    wait_for(run, "epoch", 3, process)
    process.send_signal(signum)
    output = process.communicate(timeout=PATIENCE)[0]
    assert process.returncode == 130, output
    assert f"stopped by {name}; the same command goes on" in output
    assert "Traceback" not in output
    trials = load_trials(run)
    assert set(trials.outcome) == {"interrupted", "never_started"}
    assert (trials.reason[trials.outcome == "interrupted"] == f"stopped by {name}").all()
    for trial in trials.trial_id[trials.epochs > 0]:
        assert (run / "checkpoints" / f"{trial}.pt").exists()


def test_a_second_ctrl_c_ends_at_once(driver: Callable[..., subprocess.Popen[str]], tmp_path: Path) -> None:
    process = driver("--serial", "--set", "trial.epochs=400")
    wait_for(tmp_path / "run", "epoch", 1, process)
    process.send_signal(signal.SIGSTOP)  # both are waiting when it wakes
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGCONT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130


def test_a_second_launch_on_the_directory_gets_one_clear_line(
    driver: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    first = driver("--serial", "--set", "trial.epochs=400")
    wait_for(tmp_path / "run", "epoch", 1, first)
    second = driver("--serial")
    output = second.communicate(timeout=PATIENCE)[0]
    assert second.returncode == 2
    assert output.startswith(f"sweep: --out {tmp_path / 'run'}: another launch is running there (process {first.pid}")
    assert output.count("\n") == 1
    assert first.poll() is None


def test_status_tells_of_a_sweep_that_runs_elsewhere(
    driver: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    process = driver("--serial", "--set", "trial.epochs=400")
    wait_for(tmp_path / "run", "epoch", 2, process)
    status = subprocess.run([*COMMAND, "status", str(tmp_path / "run")], capture_output=True, text=True, check=True)
    assert status.stdout.startswith("running\n")
    assert "4 trials: 1 running, 3 waiting" in status.stdout
    assert "/400" in status.stdout


def test_the_config_of_a_run_can_be_launched_itself(
    launch: Callable[..., tuple[int, str]], tiny: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    launch(tiny(), tmp_path / "run", serial=True)
    code, text = launch(load(tmp_path / "run" / "sweep.yaml"), tmp_path / "run", serial=True)
    assert code == 0
    assert "nothing left to run" in text
