"""benchmarks/many_trials.py: it runs both ways, and its arithmetic finds a rate and a growth that are known."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def many_trials() -> ModuleType:
    specification = importlib.util.spec_from_file_location("many_trials", ROOT / "benchmarks" / "many_trials.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_known_rate_and_a_known_growth_are_found(many_trials: ModuleType) -> None:
    ended, now = [], 1000.0
    for number in range(1000):
        now += 0.1 if number < 500 else 0.2
        ended.append(now)
    looked = [1000 + 0.5 * look for look in range(300)]
    memory = [1e8 + 7e4 * sum(end < look for end in ended) for look in looked]
    found = many_trials.measured(ended, 1000, (looked, memory))
    assert found["ended"] == 1000
    for part, seconds in (("start", 0.1), ("end", 0.2)):
        rate = found[f"seconds a trial, {part}"]
        assert (rate["mean"], rate["low"], rate["high"]) == pytest.approx((seconds,) * 3)
        assert rate["n"] == 10
    assert found["memory a trial"]["mean"] == pytest.approx(7e4, rel=1e-3)
    assert found["memory a trial"]["of all"] == pytest.approx(7e4, rel=1e-3)


@pytest.mark.slow
def test_both_ways_of_running_many_trials_are_measured() -> None:
    command = [sys.executable, "benchmarks/many_trials.py", "--sizes", "40"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    runs = json.loads(done.stdout)["runs"]
    assert [(run["way"], run["trials"], run["ended"]) for run in runs] == [("sweep", 40, 40), ("tune", 40, 40)]
    assert all(0 < run["seconds a trial, end"]["mean"] < 60 for run in runs)
    assert all(run["memory, end"] > 1e8 for run in runs)
