"""What docs/own_code.md shows is trained as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis.frames.trials import load_trials
from sweep.cli import main

PAGE = (Path(__file__).parents[2] / "docs" / "own_code.md").read_text(encoding="utf-8")
BLOCKS = {text.split()[1]: text for text in re.findall(r"^```\w+\n(# .*?)^```", PAGE, re.MULTILINE | re.DOTALL)}


def sweep(*words: str) -> str:
    done = CliRunner().invoke(main, list(words))
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with all files of the page."""
    monkeypatch.chdir(tmp_path)
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.slow
def test_the_files_of_the_page_are_a_sweep_that_runs(page: Path) -> None:
    assert set(BLOCKS) == {
        *("nets.py", "losses.py", "stripes.py", "updates.py", "curves.py", "sweep.yaml"),
    }
    assert "mine: 2 trials" in sweep("plan", "sweep.yaml")
    sweep("launch", "sweep.yaml", "--serial")
    assert "LogitPairing, SignSGD" in sweep("methods", "runs/mine")
    trials = load_trials(Path("runs/mine"))
    assert trials["outcome"].tolist() == ["completed"] * 2
    assert trials["last_test_clean"].min() > 0.9
    for file in page.glob("*.py"):
        file.unlink()
    assert "PGD-20" in sweep("evaluate", "runs/mine", "--attack", "pgd", "--serial")


@pytest.mark.slow
def test_an_error_in_a_file_is_the_line_that_the_page_shows(page: Path) -> None:
    text = (page / "nets.py").read_text()
    (page / "nets.py").write_text(text.replace("height, wide = image_size", "height, wide = heigth"))
    done = CliRunner().invoke(main, ["plan", "sweep.yaml"])
    assert done.exit_code == 2
    (line,) = re.findall(r"^(sweep: nets.py:.*)$", PAGE, re.MULTILINE)
    assert done.output.strip() == line
