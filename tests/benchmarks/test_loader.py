"""benchmarks/loader.py runs at toy size and says what it found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_it_measures_rates_and_memory_of_trials_that_read_the_same_file() -> None:
    command = [sys.executable, str(ROOT / "benchmarks/loader.py"), "--tiny"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["tiny"]
    for rate in found["rates"].values():
        mean, low, high = rate["images_a_second"]
        assert low <= mean <= high
        assert mean > 0
    for trials, held in found["memory"].items():
        for stage in held.values():
            # what is mapped is not a process's own, and is shared between them
            assert stage["Pss of all"] <= int(trials) * (stage["RssAnon"] + stage["RssFile"]) + 1
    assert found["memory"]["1"]["mapping"]["RssFile"] > found["memory"]["1"]["loader"]["RssFile"]
