"""benchmarks/relaunch.py: it runs, and its made-up run is gone on with as one of the package's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_a_relaunch_trains_what_is_missing_and_the_time_until_then_is_measured() -> None:
    command = [sys.executable, "benchmarks/relaunch.py", "--lrs", "1", "--epochs", "2", "--rounds", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert record["seconds"].keys() == {"relaunch first", "relaunch again", "fresh", "plan"}
    assert all(0 < values[0] < 120 for values in record["seconds"].values())
    assert record["trials"] == 100
