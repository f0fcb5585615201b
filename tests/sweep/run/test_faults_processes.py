"""Processes are killed, stopped and told to end at any moment: the same command goes on to the same numbers."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from faults_harness import Commands, numbers, until

SameNumbers = Callable[[Path, Path], None]


@pytest.mark.slow
def test_killed_at_24_moments_nothing_is_lost_and_the_numbers_are_the_same(
    commands: Commands, sweep_file: Callable[..., Path], same_numbers: SameNumbers, tmp_path: Path
) -> None:
    options = (
        "launch",
        sweep_file(),
        "--serial",
        "--set",
        "trial.epochs=8",
        "--set",
        "trial.checkpoint.every_epochs=1",
    )
    run, draw = tmp_path / "run", random.Random(0)
    records = run / "records.jsonl"

    def written() -> int:
        return len(records.read_bytes().splitlines()) if records.exists() else 0

    killed = 0
    for _ in range(24):
        launched, wanted = commands(*options, "--out", run), written() + draw.randint(0, 5)
        until(lambda: written() >= wanted or not launched.is_running(), "more records")  # noqa: B023
        time.sleep(draw.uniform(0, 0.04))  # an epoch takes about as long
        launched.signal(signal.SIGKILL)
        killed += launched.code() == -signal.SIGKILL
    assert killed > 12  # the last may come after the end
    commands.finish(*options, "--out", run)
    commands.finish(*options, "--out", tmp_path / "whole")
    same_numbers(run, tmp_path / "whole")
    assert numbers(run) == numbers(tmp_path / "whole")
