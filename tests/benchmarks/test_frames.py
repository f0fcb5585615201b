"""benchmarks/frames.py: it runs, and its run is read as the package reads its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_each_reading_is_measured_in_seconds_and_memory() -> None:
    command = [sys.executable, "benchmarks/frames.py", "--trials", "6", "--epochs", "3", "--rounds", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    loads = {f"{load} {when}" for load in ("load_trials", "load_epochs") for when in ("first", "again", "more")}
    assert loads | {"status", "results", "results --format csv", "parse json"} <= set(record["seconds"])
    assert all(len(values) == 2 and min(values) > 0 for values in record["seconds"].values())
    assert all(value > 10 for values in record["peak_mb"].values() for value in values)
    assert record["seconds"].keys() == record["cpu"].keys() == record["peak_mb"].keys()
    assert len(record["ratios"]["load_trials again / read_parquet"]) == 3
