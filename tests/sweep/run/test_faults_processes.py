"""Processes are killed, stopped and told to end at any moment: the same command goes on to the same numbers."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from faults_harness import Command, Commands, command_line, numbers, until

SameNumbers = Callable[[Path, Path], None]


@pytest.mark.slow
def test_killed_at_12_moments_nothing_is_lost_and_the_numbers_are_the_same(
    commands: Commands, sweep_file: Callable[..., Path], same_numbers: SameNumbers, tmp_path: Path
) -> None:
    """Every second launch trains in its own process, the others in a second one, which takes seconds to begin."""
    eight = ("--set", "trial.epochs=8", "--set", "trial.checkpoint.every_epochs=1")
    options = ("launch", sweep_file(), "--serial", *eight)
    run, draw = tmp_path / "run", random.Random(0)
    records = run / "records.jsonl"

    def written() -> int:
        return len(records.read_bytes().splitlines()) if records.exists() else 0

    killed = 0
    for number in range(12):
        how = ["--debug"] if number % 2 else []
        launched, wanted = commands(*options, "--out", run, *how), written() + draw.randint(0, 5)
        until(lambda: written() >= wanted or not launched.is_running(), "more records")  # noqa: B023
        time.sleep(draw.uniform(0, 0.04))  # an epoch takes about as long
        launched.signal(signal.SIGKILL)
        killed += launched.code() == -signal.SIGKILL
    assert killed > 5  # the last may come after the end
    commands.finish(*options, "--out", run)
    commands.finish(*options, "--debug", "--out", tmp_path / "whole")
    same_numbers(run, tmp_path / "whole")
    assert numbers(run) == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_a_driver_that_is_stopped_for_a_minute_goes_on(
    commands: Commands, sweep_file: Callable[..., Path], same_numbers: SameNumbers, undisturbed: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    launched = commands("launch", sweep_file(), "--out", run, "--serial")
    launched.wait_for(run, "epoch", 2)
    launched.stop()
    time.sleep(60)  # the seconds themselves are the fault
    launched.signal(signal.SIGCONT)
    assert launched.code() == 0
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGINT], [signal.SIGINT, signal.SIGINT]])
def test_signals_to_a_launch_in_this_process_lose_nothing(
    signals: list[signal.Signals],
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    words = ("launch", sweep_file(), "--out", run, "--serial")
    launched = commands(*words)
    launched.wait_for(run, "start", 2)
    for number in signals:
        launched.signal(number)
    assert launched.code() == 130
    assert "Traceback" not in launched.output
    commands.finish(*words, "--debug")
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)


def workers(launched: Command) -> list[psutil.Process]:
    """The processes of a launch's own Ray that train."""
    return [
        process
        for process in psutil.Process(launched.pid).children(recursive=True)
        if "ImplicitFunc" in command_line(process)
    ]


@pytest.mark.slow
def test_through_ray_drivers_are_killed_a_worker_is_killed_and_one_is_stopped_for_a_minute_and_nothing_is_lost(
    commands: Commands, sweep_file: Callable[..., Path], same_numbers: SameNumbers, tmp_path: Path
) -> None:
    options = ("launch", sweep_file(), "--set", "trial.epochs=8", "--set", "trial.checkpoint.every_epochs=1")
    run = tmp_path / "run"
    for number in (3, 10):
        launched = commands(*options, "--out", run)
        launched.wait_for(run, "epoch", number)
        launched.signal(signal.SIGKILL)
        assert launched.code() == -signal.SIGKILL
    launched = commands(*options, "--out", run)
    launched.wait_for(run, "epoch", 16)
    stopped, *_ = workers(launched)
    stopped.suspend()
    time.sleep(60)  # the seconds themselves are the fault
    stopped.resume()
    launched.wait_for(run, "epoch", 19)
    killed, *_ = workers(launched)
    killed.kill()
    assert launched.code() == 0, launched.output
    commands.finish(*options, "--serial", "--debug", "--out", tmp_path / "whole")
    same_numbers(run, tmp_path / "whole")
    assert numbers(run) == numbers(tmp_path / "whole")
