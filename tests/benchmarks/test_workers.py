"""benchmarks/workers.py: it runs, the sweep's trials keep their ids on any number of workers, and ratios are ratios."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_accuracies_stand_side_by_side_and_the_cost_of_two_workers_is_that_of_its_seconds() -> None:
    command = [sys.executable, "benchmarks/workers.py", "--tiny", "--workers", "1", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    record = json.loads(done.stdout)
    assert len(record["equal"]["accuracies"]) == 4 * 4  # trials, metrics
    assert record["equal"]["all"] is all(row["1"] == row["2"] for row in record["equal"]["accuracies"])
    for row in record["overhead"]:
        one, two = (row["epoch_seconds"][way] for way in ("one", "two"))
        between = [a / (2 * b) for a, b in zip(one, two, strict=True)]
        middle, low, high = row["efficiency"]
        assert low <= middle <= high
        assert min(between) - 1e-2 < middle < max(between) + 1e-2
