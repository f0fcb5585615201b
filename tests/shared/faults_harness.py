"""Real processes of `sweep` to break: started in their own process groups, waited for, hit, and started again.

A test asks for the fixture `commands` (tests/sweep/conftest.py), which ends at last whatever it started:

    launched = commands("launch", sweep_file(), "--out", run, "--serial")
    launched.wait_for(run, "epoch", 3)          # lines of that kind in its records.jsonl
    launched.signal(signal.SIGKILL)             # to its whole process group
    assert launched.code() == -signal.SIGKILL   # and .output is all that it printed
    commands.finish("launch", sweep_file(), "--out", run, "--serial")
    same_numbers(run, undisturbed)              # the frames; and `numbers(run)` of both are the records' own

A process is forked from one that has imported torch and `sweep`, so that it starts in a tenth of a second; all else is
as on the command line. Nothing is slept for: `wait_for` and `until` have a generous deadline, and look often.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from multiprocessing.context import ForkServerContext, ForkServerProcess
from operator import itemgetter
from pathlib import Path
from typing import Any

import psutil

PATIENCE = 300.0  # s, on a machine that is busy with other things

_IMPORTED = [
    "sweep.cli",
    "sweep.run.launch",
    "sweep.run.ray_tune",
    "sweep.evaluate.run",
    "trainers.loop",
    "torch._dynamo",
]

#: Keys of a record that differ between two runs of the same trial.
_INCIDENTAL = {
    *("time", "crc", "host", "device", "code_version"),
    *("seconds", "preparing_seconds", "evaluation_seconds", "checkpoint_seconds", "samples_per_second"),
    *("peak_memory_bytes", "capacity_bytes", "alone", "memory_bytes", "cuda_bytes", "classes"),
}


def _main(words: list[str], output: str, environment: dict[str, str], folder: str, values: dict[str, Any]) -> None:
    """The command, in the process that is its own."""
    os.setsid()
    for place, value in values.items():
        module, _, name = place.rpartition(".")
        setattr(importlib.import_module(module), name, value)
    os.environ.update(environment)
    os.chdir(folder)
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.argv = ["sweep", *words]
    from sweep.cli import main

    try:
        main()
    finally:
        atexit._run_exitfuncs()  # Ray's too; a process that multiprocessing started leaves them out


@functools.cache
def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def until(true: Callable[[], Any], what: str, patience: float = PATIENCE) -> None:
    """Returns once it is true; fails, and says what was waited for, after so many seconds."""
    deadline = time.monotonic() + patience
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {patience:.0f} s"
        time.sleep(0.005)


def lines(directory: Path, kind: str) -> int:
    """How many records of a kind stand in a run's files; torn ones too."""
    return sum(path.read_bytes().count(f'{{"record":"{kind}"'.encode()) for path in directory.glob("records*.jsonl"))


class Command:
    """One `sweep ...` in a process, and a process group, of its own."""

    def __init__(self, words: list[str], output: Path, *rest: Any) -> None:
        """Starts it."""
        self._output, self.words = output, words
        args = (words, str(output), *rest)
        self.process: ForkServerProcess = _context().Process(target=_main, args=args)
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    @property
    def output(self) -> str:
        """What it has printed until now, on both streams."""
        return self._output.read_text() if self._output.exists() else ""

    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self.process.is_alive()

    def code(self, patience: float = PATIENCE) -> int:
        """Its exit code, once it has ended; that of a signal is negative."""
        self.process.join(patience)
        assert self.process.exitcode is not None, f"{self.words}: still runs after {patience:.0f} s:\n{self.output}"
        return self.process.exitcode

    def wait_for(self, directory: Path, kind: str, number: int) -> None:
        """Returns once the records of a run hold so many lines of a kind."""
        self.until(lambda: lines(directory, kind) >= number, f"{number} lines of {kind}")

    def says(self, words: str) -> None:
        """Returns once it has printed these words."""
        self.until(lambda: words in self.output, repr(words))

    def until(self, true: Callable[[], Any], what: str) -> None:
        """Returns once it is true, while the command runs."""

        def seen() -> bool:
            running = self.is_running()
            if true():
                return True
            assert running, f"{what}: never, and {self.words} has ended:\n{self.output}"
            return False

        until(seen, what)

    def signal(self, number: int) -> None:
        """To its whole process group, as a terminal, `timeout` and Slurm do; none there is no matter."""
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:  # it has ended, or has not come to begin its group
            if self.is_running():
                os.kill(self.pid, number)

    def kill(self) -> None:
        """SIGKILL, to it alone; returns once it has ended."""
        self.process.kill()
        self.process.join()

    def stop(self) -> None:
        """SIGSTOP, and returns once all its threads stand still; SIGCONT wakes it.

        A thread that starts a process waits for that to begin, and stands still only then: where that was stopped
        before it began, both are woken, and stopped once more.
        """
        tasks = Path(f"/proc/{self.pid}/task")

        def stands() -> bool:
            states = [(task / "stat").read_text().rpartition(")")[2].split()[0] for task in tasks.iterdir()]
            return set(states) <= {"T", "Z", "X"}

        def stopped() -> bool:
            self.signal(signal.SIGSTOP)
            deadline = time.monotonic() + 1
            while not (still := stands()) and time.monotonic() < deadline:
                time.sleep(0.005)
            if not still:
                self.signal(signal.SIGCONT)
            return still

        self.until(stopped, "a process that stands still")


def command_line(process: psutil.Process) -> str:
    """Of a process that others may end meanwhile; empty, where they have."""
    with suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def name_of(process: psutil.Process) -> str:
    """The same of its name: of a process of Ray's, which calls itself by what it does."""
    with suppress(psutil.Error):
        return process.name()
    return ""


def is_there(process: psutil.Process) -> bool:
    """Whether it runs yet. One that has ended, and that its parent has not waited for, does not."""
    with suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


class Commands:
    """Starts commands of `sweep`; `close` kills those that run yet."""

    def __init__(self, folder: Path) -> None:
        """Starts none; what they print lies in the folder, and it is where they run."""
        self._folder, self._started = folder, list[Command]()

    def __call__(
        self,
        *words: str | Path,
        environment: Mapping[str, str] | None = None,
        values: Mapping[str, Any] | None = None,
    ) -> Command:
        """Starts `sweep WORDS`.

        Args:
            words: of the command line.
            environment: further variables.
            values: of module attributes, such as {"trainers.files.PATIENCE": 1}; in this process alone, not in Ray's.
        """
        output = self._folder / f"output-{len(self._started)}"
        rest = dict(environment or {}), str(self._folder), dict(values or {})
        command = Command([str(word) for word in words], output, *rest)
        self._started.append(command)
        return command

    def finish(self, *words: str | Path, launches: int = 1) -> str:
        """Runs the command until its exit code is 0, at most so many times; gives what the last one printed."""
        for _ in range(launches):
            command = self(*words)
            if command.code() == 0:
                return command.output
        raise AssertionError(f"exit {command.code()} after {launches} launches:\n{command.output}")

    def close(self) -> None:
        """Leaves no process behind."""
        for command in self._started:
            if command.is_running():
                command.signal(signal.SIGKILL)
                command.process.join(PATIENCE)


def numbers(directory: Path) -> dict[tuple[Any, ...], dict[str, Any]]:
    """What the records say of each trial: each epoch's, dynamics' and outcome's last line, but for times and host."""
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    texts = [line for path in directory.glob("records*.jsonl") for line in path.read_bytes().splitlines()]
    for record in sorted(map(json.loads, texts), key=itemgetter("time")):  # of one machine, with one clock
        if record["record"] in ("epoch", "dynamics", "outcome"):
            known[record["record"], record["trial_id"], record.get("epoch")] = _plain(record)
    return known


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items() if key not in _INCIDENTAL}
    return value
