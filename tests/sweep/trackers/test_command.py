"""`sweep sync`: what it says, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import Mock

import pytest
from click.testing import CliRunner

from sweep.cli import main
from sweep.run.directory import RunLock
from sweep.trackers import feed
from sweep.trackers.feed import lock_folder


def sync(*words: str | Path) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["sync", *map(str, words)])
    return done.exit_code, done.output


def test_a_finished_run_is_sent_once_to_a_tracker_that_its_config_has_not(finished: Path) -> None:
    pytest.importorskip("tensorboard")
    assert sync(finished, "tensorboard") == (0, "tensorboard: 12 epochs of 4 trials sent\n")
    assert sync(finished, "tensorboard") == (0, "tensorboard: has all\n")


def test_a_run_without_trackers_needs_a_name(finished: Path) -> None:
    line = f"sweep: {finished}: its config has no trackers; name one: sweep sync {finished} tensorboard\n"
    assert sync(finished) == (2, line)


def test_a_name_that_is_none_is_refused_with_those_that_are(finished: Path) -> None:
    assert sync(finished, "aim") == (2, "sweep: aim: is no tracker; give one of tensorboard, mlflow, wandb, trackio\n")


def test_a_tracker_that_a_launch_feeds_is_left_to_it(finished: Path) -> None:
    (finished / "trackers").mkdir()
    with RunLock(lock_folder(finished, "mlflow"), "a launch's tracker, process"):
        code, said = sync(finished, "mlflow")
    assert code == 2
    assert said.startswith("sweep: mlflow: is being sent to by another process (a launch's tracker, process ")
    assert said.endswith("; wait for that\n")


def test_what_a_trackers_program_raises_is_one_line_without_secrets(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raises = Mock(side_effect=ConnectionError("no route\nto http://me:hunter22@host"))
    monkeypatch.setattr(feed, "tracker", lambda config, directory, sweep: Mock(send=raises))
    said = "mlflow: ConnectionError: no route\\nto http://me:***@host; the same command sends what is missing"
    assert sync(finished, "mlflow") == (2, f"sweep: {said}\n")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    code, said = sync(tmp_path, "tensorboard")
    assert code == 2
    assert "not a run" in said
    assert list(tmp_path.iterdir()) == []
