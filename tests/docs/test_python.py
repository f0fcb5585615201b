"""What docs/python.md shows runs as it stands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from doc_pages import ROOT, blocks

from analysis import load_trials


@pytest.mark.slow
def test_the_page_launches_two_sweeps_and_reads_one(tmp_path: Path) -> None:
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    text = "\n".join(block.text for block in blocks("python") if block.page.name == "python.md")
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert "{'completed': 18}\nruns/short\n" in done.stdout
    assert "Correlation(estimate=" in done.stdout
    trials = load_trials(tmp_path / "runs" / "radius")
    assert sorted(set(trials["attack.radius"].round(4))) == [0.0157, 0.0314]
    assert list(trials["outcome"]) == ["completed"] * 4
