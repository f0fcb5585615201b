"""What is kept beside a long log changes no answer: every reading command says the same with it as without."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up import CHUNK, append

from analysis import figures
from analysis.frames import companion, log
from sweep.cli import main
from trainers.record import RECORDS_FILE, RecordFile

COMMANDS = [
    *(["status"], ["results"], ["results", "--epochs"], ["results", "--evaluations"], ["results", "--format", "csv"]),
    *(["results", "--epochs", "--format", "json"], ["methods"], ["claims", "--json"], ["ratio"], ["show"]),
    *(["images"], ["images", "--by-class"], ["images", "--bits", "--format", "csv"]),
]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    file = RecordFile(directory)
    file.append("launch", {"time": 0.0, "size": 16, "wanted": [], "metric": "val_robust", "mode": "max"})
    points = itertools.product(("sgd", "deat"), (16, 32), (0.1, 0.2), (0, 1))
    for number, (name, size, lr, seed) in enumerate(points):
        append(file, f"{name}{size}{lr}{seed}", number, name, lr, size, seed)
    file.append("evaluation", CHUNK)
    file.close()
    return directory


@pytest.fixture
def kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Whether anything is kept beside the log."""
    return lambda yes: monkeypatch.setattr(log, "LONG", 1 if yes else 1 << 40)


def says(words: list[str]) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, words)
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_command_says_the_same(command: list[str], run: Path, kept: Callable[[bool], None]) -> None:
    words = [command[0], str(run), *(["sgd160.10"] if command == ["show"] else command[1:])]
    kept(False)
    expected = says(words)
    kept(True)
    assert [says(words), says(words)] == [expected] * 2
    assert (run / companion.FOLDER / "epochs.arrow").exists()
    assert expected[0] == 0


def test_figures_come_out_the_same_with_the_same_manifest(
    run: Path, kept: Callable[[bool], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "_paint", lambda *given: [])
    written = []
    for number, yes in enumerate((False, True, True)):
        kept(yes)
        assert says(["figures", str(run), "--output", str(tmp_path / str(number))])[0] == 0
        assert says(["figures", str(run), "--output", str(tmp_path / str(number)), "--check"])[0] in (0, 1)
        written.append({path.name: path.read_bytes() for path in (tmp_path / str(number)).iterdir()})
    assert written[0] == written[1] == written[2]
    assert "manifest.json" in written[0]


@pytest.mark.parametrize("command", [["status"], ["results"]])
def test_a_damaged_line_is_named_the_same(command: list[str], run: Path, kept: Callable[[bool], None]) -> None:
    texts = (run / RECORDS_FILE).read_text().splitlines(keepends=True)
    (run / RECORDS_FILE).write_text("".join([*texts[:20], texts[20][:30] + "\n", *texts[21:]]))
    kept(False)
    expected = says([*command, str(run)])
    kept(True)
    assert says([*command, str(run)]) == expected
    assert "records.jsonl:21: damaged line" in expected[2]
