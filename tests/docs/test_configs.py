"""Every config in the documentation is one: it is read and planned, and each piece of one goes into a whole."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from doc_pages import ROOT, Block, blocks

from sweep.cli import main
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.yaml_text import parsed
from trainers.config import TrialConfig

BLOCKS = [block for block in blocks("yaml") if "./" not in block.text]  # tests/docs/test_own_code.py has the others
WHOLE = [block for block in BLOCKS if block.text.startswith(("name:", "# "))]
PIECES = [block for block in BLOCKS if block not in WHOLE and not block.mark]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))
CONFIGS = [path for path in FILES if "cluster" not in path.parts]


def alternatives(text: str) -> Iterator[str]:
    """A piece as it stands, or where it names a key twice each of its lines: one or the other is meant."""
    keys = re.findall(r"^(\w+):", text, re.MULTILINE)
    yield from text.splitlines() if len(set(keys)) < len(keys) else [text]


def completed(piece: dict[str, Any]) -> dict[str, Any]:
    """The piece with what else a sweep needs; its keys are a sweep's, or a trial's."""
    sweep = {key: value for key, value in piece.items() if key in SweepConfig.model_fields}
    trial = {key: value for key, value in piece.items() if key not in sweep and key in TrialConfig.model_fields}
    assert sweep | trial == piece
    whole = {
        "name": "piece",
        "space": {"optimizer.lr": {"loguniform": [1e-3, 1]}, "batch_size": {"choice": [64, 128]}},
        "search": {"name": "random", "n_trials": 4},
        "seeds": [0, 1, 2],
    }
    return whole | ({"trial": trial} if trial else {}) | sweep


@pytest.mark.parametrize("block", PIECES, ids=str)
def test_a_piece_of_a_config_goes_into_a_whole_one(block: Block, tmp_path: Path) -> None:
    for text in alternatives(block.text):
        (tmp_path / "sweep.yaml").write_text(yaml.safe_dump(completed(dict(parsed(text)))))
        load(tmp_path / "sweep.yaml", ())


@pytest.mark.parametrize("block", WHOLE, ids=str)
def test_a_whole_config_is_read(block: Block, tmp_path: Path) -> None:
    (tmp_path / "sweep.yaml").write_text(block.text)
    load(tmp_path / "sweep.yaml", ())


def test_the_config_that_is_shown_as_the_demo_is_the_demo() -> None:
    (shown,) = (block for block in WHOLE if block.mark == "configs/demo.yaml")
    assert shown.text in (ROOT / "configs" / "demo.yaml").read_text()


def test_the_ready_questions_are_all_listed() -> None:
    listed = set(re.findall(r"^\| `([\w/]+\.yaml)` \|", (ROOT / "docs" / "configs.md").read_text(), re.MULTILINE))
    there = {path.relative_to(ROOT / "configs").as_posix() for path in CONFIGS}
    twins = {name for name in there if name.replace("_digits", "") in listed and "_digits" in name}
    assert there - twins == listed - twins


@pytest.mark.slow
@pytest.mark.parametrize("block", WHOLE, ids=str)
def test_a_whole_config_is_planned(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sweep.yaml").write_text(block.text)
    planned("sweep.yaml")


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_ready_question_is_planned(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    planned(str(path))


def planned(path: str) -> None:
    done = CliRunner().invoke(main, ["plan", path, "--no-data", "--rate", "1", "--out", "run"])
    assert done.exit_code == 0, done.output
    assert re.search(r"\d+ trials", done.output)
