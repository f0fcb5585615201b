"""What is kept beside a long log changes no answer: every reading command says the same with it as without."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from analysis import figures
from analysis.frames import companion, log
from sweep.cli import main
from trainers.record import RECORDS_FILE, EpochRecord, EvaluationRecord, OutcomeRecord, RecordFile

COMMANDS = [
    *(["status"], ["results"], ["results", "--epochs"], ["results", "--evaluations"], ["results", "--format", "csv"]),
    *(["results", "--epochs", "--format", "json"], ["methods"], ["claims", "--json"], ["ratio"], ["show"]),
    *(["images"], ["images", "--by-class"], ["images", "--bits", "--format", "csv"]),
]
RIGHT = {"test": {"images": 8, "fingerprint": "f", "clean": "/w==", "robust": "Dw=="}}
RIGHT["test"]["classes"] = {"labels": "AAABAQAAAQE=", "places": "AAAAAA" + 37 * "A" + "=", "names": ["a", "b"]}
CHUNK = EvaluationRecord(
    *("sgd160.10", "last", False, "clean", {}, "test", 9, 0, 9, 8, 8, 1.0, "h", "cpu", "abc", {}, "/wA="),
    fingerprint="g",
)


def append(file: RecordFile, name: str, number: int, optimizer: str, lr: float, batch_size: int, seed: int) -> None:
    point = {"optimizer.name": optimizer, "optimizer.lr": lr, "batch_size": batch_size}
    values = {"model": {"name": "vgg19"}, "optimizer": {"name": optimizer, "lr": lr}, "batch_size": batch_size}
    config = {**values, "epochs": 2, "data": {"name": "digits"}, "seed": seed}
    file.append("trial", {"trial_id": name, "number": number, "config": config, "point": point, "seed": seed})
    file.append("start", {"trial_id": name, "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
    for epoch in (1, 2):
        robust = 0.4 + 0.01 * epoch + lr / batch_size + 0.001 * seed
        numbers = {"val_robust": robust, "test_robust": robust - 0.01, "train_robust": robust, "test_clean": 0.7}
        right = RIGHT if epoch == 2 else None
        file.append("epoch", EpochRecord(name, epoch, lr, seconds=2.0 + number, right=right, **numbers))
    file.append("outcome", {**vars(OutcomeRecord(name, "completed", "", 2)), "time": 3.0})


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
    monkeypatch.setattr(figures, "_paint", lambda product, output: [])
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
