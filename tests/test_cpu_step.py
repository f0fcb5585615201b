"""The benchmark of a step on the CPU: both of its loops train alike."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def record() -> dict:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("ROBUSTSWEEP_DATA", None)
    command = [sys.executable, "benchmarks/cpu_step.py", "--tiny", "--threads", "1"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_usual_loop_and_the_packages_train_alike_on_the_same_images_and_starts(record):
    for row in record["rows"]:
        assert row["loss_difference"] < 1e-3, row
        assert row["losses"]["own"][0] > 0.1


def test_a_row_holds_the_ratios_of_its_own_seconds_and_their_intervals(record):
    assert [(row["model"], row["batch_size"]) for row in record["rows"]] == [
        *(("small_cnn", size) for size in (16, 32, 64)),
        ("preact_resnet18", 10),
    ]
    for row in record["rows"]:
        for key in ("training", "trial") if row["model"] == "small_cnn" else ("training",):
            usual, own = (row[f"{name}_seconds"][key] for name in ("usual", "own"))
            between = [a / b for a, b in zip(usual, own, strict=True)]
            middle, low, high = row[key]
            assert low <= middle <= high
            assert min(between) - 0.05 < middle < max(between) + 0.05
