"""What becomes of a command whose stdout or stderr fails: nothing, but that less is seen."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sweep import streams
from trainers.record import read


@pytest.fixture
def nobody() -> Iterator[int]:
    """A pipe that is closed at its other end."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture
def run_on(sweep_command: list[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `sweep` on given streams, with given variables."""

    def run(*words: object, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE, **variables: str) -> object:
        command = [*sweep_command, *map(str, words)]
        return subprocess.run(command, stdout=stdout, stderr=stderr, text=True, env={**os.environ, **variables})

    return run  # type: ignore[return-value]


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_a_long_message_goes_on_indented_and_elsewhere_it_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "16")
    for stream, said in (
        (_Terminal(), "one line of\n  several words\n"),
        (io.StringIO(), "one line of several words\n"),
    ):
        monkeypatch.setattr("sys.stdout", stream)
        streams.tell("one line of several words")
        assert stream.getvalue() == said


@pytest.mark.parametrize("words", [["status", "{run}"], ["show", "{run}", "{trial}"], ["schema"], ["--help"]])
def test_a_reader_that_goes_away_is_no_error_of_whoever_reads(
    words: list[str], undisturbed: Path, nobody: int, run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    trial = next(record["trial_id"] for record in read(undisturbed) if record["record"] == "trial")
    words = [word.format(run=undisturbed, trial=trial) for word in words]
    answer = run_on(*words, stdout=nobody)
    assert (answer.returncode, answer.stderr) == (0, "")


def test_a_mistake_still_exits_with_2_where_nobody_reads(
    nobody: int, run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    assert run_on("status", "none", stdout=nobody, stderr=nobody).returncode == 2


@pytest.mark.parametrize("how", [["--serial"], pytest.param([], marks=pytest.mark.slow)])
def test_a_launch_goes_on_without_its_screen_and_ends_as_the_sweep_does(
    how: list[str],
    sweep_file: Callable[..., Path],
    tmp_path: Path,
    nobody: int,
    run_on: Callable[..., subprocess.CompletedProcess[str]],
    same_numbers: Callable[[Path, Path], None],
    undisturbed: Path,
) -> None:
    out = tmp_path / "run"
    answer = run_on("launch", sweep_file(), *how, "--out", out, stdout=nobody, stderr=nobody)
    assert answer.returncode == 0
    same_numbers(out, undisturbed)
    (out / "records.jsonl").unlink()  # and where the screen's disk is full
    with open("/dev/full", "w") as full:
        assert run_on("launch", sweep_file(), "--serial", "--out", out, stdout=full.fileno()).returncode == 0
    same_numbers(out, undisturbed)


@pytest.mark.slow
def test_an_evaluation_goes_on_without_its_screen(
    finished: Path, nobody: int, run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    answer = run_on("evaluate", finished, "--serial", "--attack", "clean", stdout=nobody, stderr=nobody)
    assert answer.returncode == 0
    assert sum(record["record"] == "evaluation" for record in read(finished)) == 4


def test_what_was_written_in_part_does_not_look_whole(
    undisturbed: Path, run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    with open("/dev/full", "w") as full:
        answer = run_on("status", undisturbed, stdout=full.fileno())
    assert (answer.returncode, answer.stderr) == (2, "sweep: stdout: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors_are_no_error_and_no_file_takes_their_place(
    closed: str, undisturbed: Path, sweep_command: list[str]
) -> None:
    script = f'"$@" {closed}'
    answer = subprocess.run(["bash", "-c", script, "bash", *sweep_command, "status", str(undisturbed)])
    assert answer.returncode == 0


def test_a_character_that_stdout_has_no_code_for_is_written_as_its_number(
    tmp_path: Path, undisturbed: Path, run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    folder = tmp_path / "漢"
    folder.symlink_to(undisturbed)
    trial = next(record["trial_id"] for record in read(undisturbed) if record["record"] == "trial")
    answer = run_on("show", folder, trial, PYTHONIOENCODING="ascii")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith(f"trial {trial} of ")
    assert "\\u6f22" in answer.stdout


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], io.TextIOWrapper]:
    monkeypatch.setattr(streams._Stream, "lasting", False)
    return lambda descriptor: streams._wrapped(None, descriptor)


def test_a_stream_drops_what_nobody_reads_also_when_it_is_closed(
    stream: Callable[[int], io.TextIOWrapper], nobody: int
) -> None:
    file = stream(nobody)
    print("a" * 100_000, file=file)
    print("b", file=file)
    file.close()  # raises BrokenPipeError where what is left is not dropped
    assert file.closed


def test_a_stream_raises_once_on_a_full_disk_and_never_after_outlast(
    stream: Callable[[int], io.TextIOWrapper],
) -> None:
    for lasting in (False, True):
        full = os.open("/dev/full", os.O_WRONLY)
        file = stream(full)
        if lasting:
            streams.outlast()
            print("a", file=file, flush=True)
        else:
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                print("a", file=file, flush=True)
        print("b", file=file, flush=True)
        file.close()
        os.close(full)


def test_a_stream_waits_for_a_slow_reader_of_a_pipe_that_does_not_block(
    stream: Callable[[int], io.TextIOWrapper],
) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    text = "x" * 300_000
    got: list[bytes] = []

    def slowly() -> None:
        time.sleep(0.1)
        while part := os.read(reader, 65536):
            got.append(part)

    thread = threading.Thread(target=slowly)
    thread.start()
    with stream(writer) as file:
        file.write(text)
    os.close(writer)
    thread.join()
    os.close(reader)
    assert b"".join(got) == text.encode()


@pytest.fixture
def on_terminal(sweep_command: list[str]) -> Callable[..., str]:
    """Runs `sweep` on a terminal of so many columns; gives what it wrote there, control sequences and all."""

    def run(width: int, *words: object, silence: float = 60.0, code: int = 0) -> str:
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        program = f"from sweep import streams; streams.SILENCE = {silence}; {sweep_command[2]}"
        command = [*sweep_command[:2], program, *map(str, words)]
        environment = {key: value for key, value in os.environ.items() if key != "COLUMNS"} | {"TERM": "xterm"}
        process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
        os.close(theirs)
        said = bytearray()
        with contextlib.suppress(OSError):  # how a terminal says that nobody holds it any more
            while part := os.read(ours, 65536):
                said += part
        os.close(ours)
        assert process.wait() == code
        return said.decode().replace("\r\n", "\n")

    return run


def lines_of(said: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said).splitlines()


def test_a_mistake_is_broken_between_words_on_a_terminal_and_is_one_line_in_a_pipe(
    on_terminal: Callable[..., str], run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (line,) = run_on("status", "no/such/run").stderr.splitlines()
    assert len(line) > 40
    lines = lines_of(on_terminal(40, "status", "no/such/run", code=2))
    assert " ".join(one.strip() for one in lines) == line
    assert all(len(one) <= 40 and (one.startswith("  ") or not place) for place, one in enumerate(lines))


def test_a_silent_command_says_on_a_terminal_that_it_is_at_work_and_wipes_it(
    undisturbed: Path, on_terminal: Callable[..., str], run_on: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    said = on_terminal(80, "status", undisturbed, silence=0.001)
    assert said == "sweep status: at work ...\r\x1b[2Kno launch is running\n4 trials: 4 completed\n"
    assert on_terminal(80, "status", undisturbed) == "no launch is running\n4 trials: 4 completed\n"
    assert run_on("status", undisturbed).stderr == ""


@pytest.mark.parametrize("width", [40, 80])
@pytest.mark.parametrize(
    "words",
    [
        ["results"],
        *(
            pytest.param(words, marks=pytest.mark.slow)
            for words in (["results", "--epochs"], ["methods"], ["claims"], ["ratio"], ["show"])
        ),
    ],
    ids=" ".join,
)
def test_what_is_read_fits_the_terminal(
    words: list[str],
    width: int,
    undisturbed: Path,
    tmp_path: Path,
    on_terminal: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = tmp_path / "r"
    run.symlink_to(undisturbed)
    first = next(record["trial_id"] for record in read(run) if record["record"] == "trial")
    monkeypatch.chdir(tmp_path)
    said = on_terminal(width, *words, "r", *([first] if words == ["show"] else []))
    assert max(map(len, lines_of(said))) <= width
    assert "…" not in said
