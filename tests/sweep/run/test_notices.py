"""The user's own command at the end of a launch and after failures: what it is told, and that it harms nothing."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import launch as launch_lines
from recorded import run, trials_of
from rich.console import Console

from sweep.config import SweepConfig
from sweep.progress import Progress, TrialProgress
from sweep.run import notices
from sweep.run.notices import Notices
from sweep.run.signals import Interrupted
from sweep.watchers import NotifyConfig
from trainers.errors import UserError

Tiny = Callable[..., SweepConfig]

#: Appends its one argument to a file.
KEEPS = f"{sys.executable} -c 'import sys; open(sys.argv[1], \"a\").write(sys.argv[2] + chr(10))'"


@pytest.fixture
def progress(tiny: Tiny) -> Progress:
    trials = trials_of(tiny())
    return Progress.of([*launch_lines(trials), *run(trials[0], 1), *run(trials[1], 1, "failed")])


def notified(
    notify: NotifyConfig | None, directory: Path, progress: Progress | None, outcomes: tuple[str, ...] = (), **how: Any
) -> str:
    """What a launch with these outcomes says of its notices."""
    text = io.StringIO()
    with Notices(notify, "tiny", directory, Console(file=text, width=200)) as one:
        if progress is not None:
            trial: TrialProgress = next(iter(progress.trials.values()))
            listener = one.heard_by(lambda trial, message: None, progress)
            for outcome in outcomes:
                listener(trial, {"record": "outcome", "trial_id": trial.id, "outcome": outcome})
        one.ended = how.get("ended", one.ended)
    return text.getvalue()


def test_at_the_end_the_command_is_given_one_line_in_one_word(tmp_path: Path, progress: Progress) -> None:
    told = tmp_path / "told"
    assert notified(NotifyConfig(command=f"{KEEPS} {told} {{summary}}"), tmp_path, progress) == ""
    counts = "4 trials: 1 completed, 1 failed, 2 never started"
    assert told.read_text() == f"sweep tiny in {tmp_path}: {counts}; ended\n"


def test_a_launch_that_was_stopped_says_by_what(tmp_path: Path, progress: Progress) -> None:
    told = tmp_path / "told"
    reason = Interrupted("SIGTERM").reason
    notified(NotifyConfig(command=f"{KEEPS} {told} {{summary}}"), tmp_path, progress, ended=reason)
    assert told.read_text().endswith("; stopped by SIGTERM\n")


def test_a_launch_that_ends_by_an_error_says_its_line(tmp_path: Path, progress: Progress) -> None:
    told = tmp_path / "told"
    one = Notices(NotifyConfig(command=f"{KEEPS} {told} {{summary}}"), "tiny", tmp_path, Console())
    one.heard_by(lambda trial, message: None, progress)
    one.__exit__(UserError, UserError("the disk is full"), None)
    assert told.read_text().endswith("; the disk is full\n")


def test_it_is_run_once_more_after_so_many_failures_and_not_again(tmp_path: Path, progress: Progress) -> None:
    told = tmp_path / "told"
    notify = NotifyConfig(command=f"{KEEPS} {told} {{summary}}", after_failures=2)
    notified(notify, tmp_path, progress, ("failed", "completed", "diverged", "out_of_memory", "failed", "failed"))
    lines = told.read_text().splitlines()
    assert len(lines) == 2
    assert sum(line.endswith("; 2 trials failed, and it goes on") for line in lines) == 1


def test_where_no_trial_ran_nothing_is_told(tmp_path: Path, progress: Progress) -> None:
    notify = NotifyConfig(command=f"{KEEPS} {tmp_path / 'told'} {{summary}}")
    assert notified(notify, tmp_path, None) == notified(None, tmp_path, progress) == ""
    assert not (tmp_path / "told").exists()


def test_nothing_in_a_summary_is_obeyed_by_a_shell(tmp_path: Path, progress: Progress) -> None:
    notify = NotifyConfig(command=f"{KEEPS} {tmp_path / 'told'} {{summary}}")
    notified(notify, tmp_path, progress, ended=f"$(touch {tmp_path / 'touched'}); touch {tmp_path / 'touched'}")
    assert "; $(touch" in (tmp_path / "told").read_text()
    assert not (tmp_path / "touched").exists()


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("no-such-program a", "notify: no-such-program cannot be run: No such file or directory\n"),
        ("false", "notify: ended with exit code 1; see {}/logs/notify.log\n"),
        ("sleep 1000", "notify: had not ended 0 s after the launch, and was stopped\n"),
    ],
)
def test_one_that_fails_is_a_line(
    command: str, line: str, tmp_path: Path, progress: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "PATIENCE", 5.0 if command == "false" else 0.2)
    assert notified(NotifyConfig(command=command), tmp_path, progress) == line.format(tmp_path)


def test_a_launch_tells_its_end(tiny: Tiny, launch: Callable[..., tuple[int, str]], tmp_path: Path) -> None:
    told = tmp_path / "told"
    notify = f"{KEEPS} {told} {{summary}}"
    config = tiny(notify=notify, space={"optimizer.lr": [0.1]})
    code, _ = launch(config, tmp_path / "run", serial=True)
    assert code == 0
    assert told.read_text() == f"sweep tiny in {tmp_path / 'run'}: 1 trial: 1 completed; ended\n"
    launch(config, tmp_path / "run", serial=True)
    assert len(told.read_text().splitlines()) == 1  # nothing was left to run
