"""`sweep figures`: of a run, of the published study, of both, and whether they come out the same again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis import figures
from sweep.cli import main
from trainers.record import EpochRecord, OutcomeRecord, RecordFile

PAPER = [*("figure2", "figure4", "figure5"), *("table2", "table3", "table4", "shift", "own_best")]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(main, ["figures", *map(str, words)])


def append(run: Path, optimizer: str, lr: float) -> None:
    """One completed trial."""
    name = f"{optimizer}{lr}"
    file = RecordFile(run)
    config = {"model": {"name": "vgg19"}, "optimizer": {"name": optimizer, "lr": lr}, "batch_size": 128, "epochs": 1}
    point = {"optimizer.name": optimizer, "optimizer.lr": lr}
    trial = {"trial_id": name, "number": 0, "config": config | {"data": {"name": "digits"}}, "point": point, "seed": 0}
    file.append("launch", {"time": 0.0, "size": 1, "wanted": [name]})
    file.append("trial", trial)
    file.append("start", {"trial_id": name, "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
    numbers = {"val_robust": 0.4 + lr / 10, "test_robust": 0.4 + lr / 10, "train_robust": 0.5, "test_clean": 0.7}
    file.append("epoch", EpochRecord(name, 1, lr, seconds=2.0, **numbers))
    file.append("outcome", OutcomeRecord(name, "completed", "", 1))
    file.close()


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    for optimizer in ("sgd", "deat"):
        for lr in (0.1, 0.2):
            append(directory, optimizer, lr)
    return directory


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers alone are written: pictures take most of the time."""
    monkeypatch.setattr(figures, "_paint", lambda *given: [])


def said(result: Result) -> str:
    """The one line on stderr of a command that was given wrong input."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("sweep: ").rstrip("\n")


@pytest.mark.slow
def test_the_published_study_alone_is_drawn_and_comes_out_the_same(cli: Callable[..., Result], tmp_path: Path) -> None:
    answer = cli("--published", "--output", "out")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert answer.stderr == ""
    assert answer.stdout == (
        "out: 9 csv, 5 md, 5 tex, 3 png, 3 pdf; "
        "manifest.json there lists them, with their captions and what they came from\n"
    )
    made = {path.name for path in (tmp_path / "out").iterdir()}
    expected = {f"{name}.{ending}" for name in PAPER[:3] for ending in ("png", "pdf", "csv")}
    expected |= {f"{name}.{ending}" for name in PAPER[3:] for ending in ("csv", "md", "tex")}
    assert made == expected | {"figure4_shift.csv", "manifest.json"}
    checked = cli("--published", "--output", "out", "--check")
    assert checked.exit_code == 0
    assert sorted(checked.stdout.splitlines()) == sorted(f"{name}: same" for name in PAPER)


@pytest.mark.slow
@pytest.mark.usefixtures("no_pictures")
def test_an_overlay_is_checked_as_one_and_a_further_trial_is_told(cli: Callable[..., Result], run: Path) -> None:
    answer = cli(run, "--published")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert {line.split(",")[0] for line in (run / "figures" / "figure4.csv").read_text().splitlines()} == {
        "study",
        "own",
        "published",
    }
    assert cli(run, "--check").exit_code == 0
    append(run, "sgd", 0.4)
    changed = cli(run, "--check")
    assert changed.exit_code == 1
    assert "figure4: differs: its trials changed, +1" in changed.stdout.splitlines()


@pytest.mark.usefixtures("no_pictures")
def test_what_was_edited_by_hand_is_told_and_exits_with_1(cli: Callable[..., Result], run: Path) -> None:
    assert cli(run, "--output", "out").exit_code == 0
    Path("out/table4.md").write_text("better")
    answer = cli(run, "--check", "--output", "out")
    assert answer.exit_code == 1
    assert "table4: edited by hand: table4.md" in answer.stdout.splitlines()


def test_nothing_to_draw_is_said_in_one_line(cli: Callable[..., Result], run: Path) -> None:
    assert said(cli()) == "figures: needs a run's DIR, or --published for the published study; give one or both"
    assert said(cli("--published")) == "--output: needs a folder where there is no DIR; give one"
    assert said(cli("--check")) == "--output: needs a folder where there is no DIR; give one"
    for name in ("r.xlsx", "figure.PDF"):
        suffix = Path(name).suffix
        assert said(cli(run, "--output", name)) == (
            f"--output {name}: must be a folder, for many files; got the name of a {suffix} file"
        )
    assert "no such file; draw the figures first, without --check" in said(cli(run, "--check"))


def test_tables_are_named_by_the_accuracy_they_are_about(
    cli: Callable[..., Result], run: Path, no_pictures: None
) -> None:
    assert cli(run, "--metric", "last_test_clean").exit_code == 0
    captions = [(run / "figures" / f"{name}.md").read_text().split("\n")[0] for name in ("table2", "table3", "table4")]
    assert captions[0].startswith("**Clean test accuracy (%) by learning rate")
    assert captions[1].startswith("**Correlation of clean test accuracy with")
    assert captions[2].startswith("**Mean gain of DEAT over PGD-AT in clean test accuracy")
    assert "70.00" in (run / "figures" / "table2.md").read_text()


def test_an_accuracy_that_was_not_published_is_refused(cli: Callable[..., Result], run: Path) -> None:
    for words in ((run, "--published"), ("--published", "--output", "out")):
        answer = said(cli(*words, "--metric", "last_test_clean"))
        assert "the published study has last_test_robust alone; leave --metric or --published out" in answer
    for command in ("claims", "ratio"):
        result = CliRunner().invoke(main, [command, "--published", "--metric", "best_test_clean"])
        assert "the published study has last_test_robust alone" in said(result)
