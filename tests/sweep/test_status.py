"""`sweep status --watch`: on a terminal, in a pipe, and how it ends."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from made_up import append
from processes import started
from rich.text import Text

from sweep.cli import main
from sweep.plain_console import PlainConsole
from sweep.reports import status
from trainers.errors import UserError
from trainers.record import RecordFile

EVIL = "\x1b]0;title\x07"


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, list[float]]]:
    """What is written where these are found one after another, and how long is waited between; then comes Ctrl-C."""
    monkeypatch.setenv("TERM", "xterm")

    def watch(file: io.StringIO, *found: status.Parts) -> tuple[str, list[float]]:
        waits: list[float] = []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == len(found):
                raise KeyboardInterrupt

        looks = iter(found)
        status.follow(lambda: next(looks), PlainConsole(file, 100), wait)
        return file.getvalue(), waits

    return watch


def test_a_terminal_shows_each_look_in_the_place_of_the_one_before(
    watched: Callable[..., tuple[str, list[float]]],
) -> None:
    said, _ = watched(Terminal(), ["running", Text("4 trials: 1 running")], ["running", Text("4 trials: 4 completed")])
    first, second = said.split("4 trials: 1 running")
    assert first.endswith("running\n")
    assert "\x1b[1A" in second  # up again, over what was there
    assert "4 trials: 4 completed" in second


def test_a_terminal_has_its_cursor_back_at_the_end(watched: Callable[..., tuple[str, list[float]]]) -> None:
    said, _ = watched(Terminal(), ["running"])
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l")


def test_elsewhere_what_has_changed_is_printed_anew_with_the_time(
    watched: Callable[..., tuple[str, list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    watched(io.StringIO(), ["1 running"], ["1 running"], ["1 completed"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1::3] == ["1 running", "1 completed"]
    assert len(lines) == 6


def test_a_run_that_cannot_be_read_for_a_while_is_watched_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def look() -> status.Parts:
        if isinstance(found := next(looks), UserError):
            raise found
        return found

    def wait(seconds: float) -> None:
        if not left:
            raise KeyboardInterrupt
        left.pop()

    away, left = UserError("s3://bucket/run: no answer"), [None, None]
    looks: Iterator[status.Parts | UserError] = iter([["1 running"], away, ["1 completed"]])
    status.follow(look, PlainConsole(io.StringIO(), 100), wait)
    assert capsys.readouterr().out.splitlines()[1::3] == [
        "1 running",
        "cannot be read just now: s3://bucket/run: no answer",
        "1 completed",
    ]
    looks = iter([away])
    with pytest.raises(UserError, match="no answer"):
        status.follow(look, PlainConsole(io.StringIO(), 100), wait)


@pytest.mark.parametrize("file", [Terminal, io.StringIO])
def test_no_word_of_others_is_obeyed(
    file: type[io.StringIO], watched: Callable[..., tuple[str, list[float]]], capsys: pytest.CaptureFixture[str]
) -> None:
    said = watched(file(), [EVIL, Text(EVIL)])[0] + capsys.readouterr().out
    assert EVIL not in said
    assert said.count(r"\x1b]0;title") >= 2


def test_where_a_look_takes_long_the_next_comes_later(
    watched: Callable[..., tuple[str, list[float]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.1, 2.0, 12.0])
    monkeypatch.setattr(status.time, "monotonic", lambda: next(clock))
    assert watched(io.StringIO(), ["short"], ["long"])[1] == [status.PAUSE, 10 * status.EASE]


def test_ctrl_c_ends_it_in_a_pipe(sweep_command: list[str], undisturbed: Path) -> None:
    words = [*sweep_command, "status", str(undisturbed), "--watch"]
    with started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[1:] == ["no launch is running\n", "4 trials: 4 completed\n"]
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")


def test_ctrl_c_ends_it_on_a_terminal_and_the_last_look_stays(sweep_command: list[str], undisturbed: Path) -> None:
    ours, theirs = pty.openpty()
    words = [*sweep_command, "status", str(undisturbed), "--watch"]
    environment = os.environ | {"TERM": "xterm"}
    with started(words, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        said = b""
        while b"4 completed" not in said:
            said += os.read(ours, 65536)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=60) == 0
    said += os.read(ours, 65536)
    os.close(ours)
    assert said.rstrip().endswith(b"\x1b[?25h")


@pytest.mark.parametrize("there", [True, False])
def test_a_run_without_records_is_waited_for_and_it_is_said(there: bool, tmp_path: Path) -> None:
    directory = tmp_path if there else tmp_path / "run"
    said = f"{directory}: no launch has written records there yet; waiting for one (Ctrl-C ends it)"
    assert status.standing(directory, wait=True) == [said]
    with pytest.raises(UserError, match="not a run directory"):
        status.standing(directory)
    directory.mkdir(exist_ok=True)
    append(RecordFile(directory), "a1", 0, "sgd", 0.1, 32, 0)
    assert status.standing(directory, wait=True)[0] == "no launch is running"


def test_trials_of_earlier_launches_are_told_of_beside_those_of_the_last(tmp_path: Path) -> None:
    file = RecordFile(tmp_path)
    append(file, "a1", 0, "sgd", 0.1, 32, 0)
    append(file, "b2", 1, "deat", 0.1, 32, 0)
    file.append("launch", {"time": 5.0, "size": 1, "wanted": ["a1"]})
    more = "1 more trial, which the last launch did not want; results and claims count them too"
    assert status.standing(tmp_path)[-1] == more
    assert status.standing(tmp_path, ["optimizer.name == 'deat'"])[-1] == more
    assert more not in status.standing(tmp_path, ["optimizer.name == 'sgd'"])
    file.append("launch", {"time": 6.0, "size": 2, "wanted": ["a1", "b2"]})
    assert more not in status.standing(tmp_path)


def test_what_can_be_no_run_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.touch()
    answer = CliRunner().invoke(main, ["status", str(file), "--watch"])
    assert answer.exit_code == 2
    assert answer.stderr == (
        f"sweep: {file}: not a run directory: it has no records.jsonl; give the --out of a launch\n"
    )
