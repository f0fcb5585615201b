"""`sweep report`: where the page is written, what it is asked for by mistake, and that it can be served."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from analysis import figures
from sweep.cli import main
from trainers.record import EpochRecord, OutcomeRecord, RecordFile

QUESTION = "Is 1 < 2 & so on?"


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs the command in an empty folder; its pages have no figures, which take most of the time."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(figures, "products", lambda data: ([], {}))
    return lambda *words: CliRunner().invoke(main, ["report", *map(str, words)])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "sweep.yaml").write_text(f"name: run\nquestion: {QUESTION}\n")
    file = RecordFile(directory)
    file.append("launch", {"time": 0.0, "size": 1, "wanted": ["a"], "metric": "val_robust", "mode": "max"})
    config = {"model": {"name": "vgg19"}, "optimizer": {"name": "sgd", "lr": 0.1}, "batch_size": 128, "epochs": 1}
    file.append("trial", {"trial_id": "a", "number": 0, "config": config, "point": {"optimizer.lr": 0.1}, "seed": 0})
    file.append("start", {"trial_id": "a", "time": 1.0, "host": "h", "device": "cpu", "code_version": "abc"})
    file.append("epoch", EpochRecord("a", 1, 0.1, seconds=2.0, val_robust=0.4, test_robust=0.4, test_clean=0.7))
    file.append("outcome", OutcomeRecord("a", "completed", "", 1))
    file.close()
    return directory


def said(result: Result) -> str:
    """The one line on stderr of a command that was given wrong input."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("sweep: ").rstrip("\n")


def test_a_page_is_written_beside_the_records_or_where_it_is_asked_for(cli: Callable[..., Result], run: Path) -> None:
    answer = cli("run")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    size = (run / "report.html").stat().st_size
    assert answer.stdout == (
        f"run/report.html: {size / 1e6:.1f} MB; open it in a browser, or send it: it needs nothing else\n"
    )
    assert cli("run", "--output", "new/page.html").exit_code == 0
    assert Path("new/page.html").read_bytes() == (run / "report.html").read_bytes()


def test_the_question_is_the_config_s_and_a_config_that_cannot_be_read_asks_none(
    cli: Callable[..., Result], run: Path
) -> None:
    assert cli("run").exit_code == 0
    assert '<p class="question">Is 1 &lt; 2 &amp; so on?</p>' in (run / "report.html").read_text()
    (run / "sweep.yaml").write_text("[")
    assert cli("run").exit_code == 0
    assert 'class="question"' not in (run / "report.html").read_text()


def test_what_cannot_be_shown_is_said_in_one_line(cli: Callable[..., Result], run: Path) -> None:
    assert said(cli()) == "report: needs a run's DIR, or --published for the published study; give one or both"
    assert said(cli("--published")) == "--output: needs a file where there is no DIR; give one"
    assert said(cli("run", "--output", "run")) == "--output run: must be a file, and is a folder; give run/report.html"
    assert "not a run" in said(cli("elsewhere"))
    assert said(cli("--serve", "--published")) == "--serve: follows a run, and there is none; give its DIR"
    assert said(cli("run", "--serve", "--output", "a.html")) == (
        "--serve: writes no file, so that --output says nothing; leave one of the two out"
    )
    assert not (run / "report.html").exists()


def test_a_served_page_is_made_anew_and_asks_for_its_version(
    cli: Callable[..., Result], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[Any] = []
    monkeypatch.setattr("sweep.reports.serve.serve", lambda *given: served.append(given))
    assert cli("run", "--serve", "--port", "8080").exit_code == 0
    ((page, stamp, port, ready),) = served
    assert port == 8080
    ready()  # at once, as there are records
    assert "fetch(`version" in page()
    before, text = stamp(), page()
    file = RecordFile(run)
    file.append("outcome", OutcomeRecord("a", "diverged", "loss is nan", 1))
    file.close()
    assert stamp() != before
    assert page() != text
