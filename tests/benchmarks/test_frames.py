"""benchmarks/frames.py: it runs, and its run is read as the package reads its own."""

from __future__ import annotations

import importlib
import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_each_reading_is_measured_in_seconds_and_memory() -> None:
    command = [sys.executable, "benchmarks/frames.py", "--trials", "6", "--epochs", "3", "--rounds", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    loads = {f"{load} {when}" for load in ("load_trials", "load_epochs") for when in ("first", "again", "more")}
    assert loads | {"status", "results", "results --format csv", "parse json"} <= set(record["seconds"])
    assert all(len(values) == 1 and min(values) > 0 for values in record["seconds"].values())
    assert all(value > 10 for values in record["peak_mb"].values() for value in values)
    assert record["seconds"].keys() == record["cpu"].keys() == record["peak_mb"].keys()
    assert {f"{load} / read_parquet" for load in loads} <= set(record["ratios"])


def test_a_ratio_over_rounds_is_their_geometric_mean_with_a_t_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    ratio = importlib.import_module("frames").ratio
    half = 12.706205 * math.log(2)  # t of 1 degree of freedom; the mean logarithm's error is log 2
    mean, low, high = ratio([2.0, 8.0], [1.0, 1.0])
    assert mean == 4
    assert (low, high) == pytest.approx((4 * math.exp(-half), 4 * math.exp(half)), abs=1e-3, rel=1e-5)
    assert ratio([3.0], [2.0]) == [1.5]
