"""benchmarks/workers.py: it runs, the sweep's trials keep their ids on any number of workers, and ratios are ratios."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its module."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return importlib.import_module("workers")


@pytest.mark.slow
def test_accuracies_stand_side_by_side() -> None:
    command = [sys.executable, "benchmarks/workers.py", "--tiny", "--only", "equal", "--workers", "1", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert len(record["equal"]["accuracies"]) == 4 * 4  # trials, metrics
    assert record["equal"]["all"] is all(row["1"] == row["2"] for row in record["equal"]["accuracies"])


@pytest.mark.slow
@pytest.mark.parametrize("way", [(1, 1), (1, 2), (2, 1)], ids=["one", "two alone", "two"])
def test_a_trial_is_timed_in_processes_of_its_own(way: tuple[int, int], benchmark: Any) -> None:
    assert benchmark.seconds(benchmark.digits(tiny=True), *way) > 0


@pytest.mark.slow
def test_the_cost_of_two_workers_is_that_of_its_seconds(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The trial is trained once, here; the seconds are given."""
    given = {"one": [6.0, 24.0], "two_alone": [8.0, 8.0], "two": [2.0, 2.0]}
    ways, left, trained = {(1, 1): "one", (1, 2): "two_alone", (2, 1): "two"}, dict[Any, list[float]](), list[str]()

    def seconds(config: Any, size: int, together: int = 1) -> float:
        if config.model.name not in trained:
            assert min(benchmark.trained(config, benchmark.workers.ALONE)) > 0
            trained.append(config.model.name)
        return left.setdefault((config.model.name, size, together), list(given[ways[size, together]])).pop(0)

    monkeypatch.setattr(benchmark, "seconds", seconds)
    monkeypatch.setattr(sys, "argv", ["workers.py", "--tiny", "--only", "overhead"])
    benchmark.main()
    rows = json.loads(capsys.readouterr().out)["overhead"]
    assert [row["model"] for row in rows] == trained == ["small_cnn"]
    half = 12.706205 * math.log(2)  # t of 1 degree of freedom; the mean logarithm's error is log 2
    for row in rows:
        assert row["epoch_seconds"] == given
        middle, low, high = row["efficiency"]  # of 1.5 and 6
        assert (middle, low) == (3, pytest.approx(3 * math.exp(-half), abs=1e-3))
        assert high == pytest.approx(3 * math.exp(half), rel=1e-5)
        assert row["beside"] == [2, 2, 2]
