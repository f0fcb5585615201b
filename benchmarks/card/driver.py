"""Sections as subprocesses, one after another, each within its limit and all within the budget."""

from __future__ import annotations

import argparse
import math
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from card.report import table
from card.setting import append, read

LOG_FILE = "log.txt"
#: Less is not worth a start, s.
SHORTEST = 10.0
#: Lines of the table that is printed last.
LINES = 60


class Driver:
    """Runs sections.

    Args:
        chosen: of the command line.
        sections: where each is, and what it may take, s.
        script: that runs one of them.
    """

    def __init__(self, chosen: argparse.Namespace, sections: Mapping[str, tuple[str, float]], script: Path) -> None:
        self._chosen, self._script, self._started = chosen, script, time.monotonic()
        given = (part.split("=") for part in chosen.limits.split(",") if part)
        self._limits = {name: limit for name, (_, limit) in sections.items()} | {k: float(v) for k, v in given}
        self._out: Path = chosen.out
        self._commit = chosen.commit or _commit(script.parent)
        self._command = shlex.join(["python", *sys.argv])

    def run(self, names: Sequence[str]) -> int:
        """Runs them in their order, and prints the table; 0 if all ran and their checks held."""
        self._out.mkdir(parents=True, exist_ok=True)
        before = len(read(self._out))
        usual = signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that what runs is killed on the way out
        with tempfile.TemporaryDirectory() as cache, (self._out / LOG_FILE).open("a") as log:
            for name in names:
                if name not in self._chosen.without.split(","):
                    self._one(name, log, cache)
        signal.signal(signal.SIGTERM, usual)
        found = read(self._out)[before:]
        lines = table(found)
        print("\n".join(lines if len(lines) <= LINES else [*lines[: LINES - 1], f"... {self._out}/results.jsonl"]))
        return int(any(row.get("ok") is False or "skipped" in row for row in found))

    def _one(self, name: str, log: IO[str], cache: str) -> None:
        left = self._chosen.budget - (time.monotonic() - self._started)
        limit = min(self._limits[name], left)
        if limit < SHORTEST and not self._chosen.tiny:
            self._write(name, skipped=f"{max(0.0, left):.0f} s of the budget left")
            return
        print(f"== {name}, at most {limit:.0f} s, {time.strftime('%T')}", file=log, flush=True)
        started = time.monotonic()
        code = self._process(name, limit, log, cache)
        seconds = time.monotonic() - started
        told = {None: f"killed at its limit of {limit:.0f} s", 0: None}.get(code, f"ended with {code}; see {LOG_FILE}")
        self._write("section", section=name, seconds=seconds, ok=code == 0, **({"error": told} if told else {}))
        print(f"{name}: {seconds:.0f} s{', ' + told if told else ''}", flush=True)

    def _process(self, name: str, limit: float, log: IO[str], cache: str) -> int | None:
        """The exit status of a section; None: it was killed at its limit, and its children with it."""
        command = [sys.executable, str(self._script), "--section", name, "--out", str(self._out)]
        command += ["--seconds", str(limit - 2), "--command", self._command]
        for option in ("commit", "data"):
            value = self._commit if option == "commit" else self._chosen.data
            command += [f"--{option}", str(value)] if value is not None else []
        command += ["--tiny"] if self._chosen.tiny else []
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
            env=_environment(f"{cache}/{name if name == 'tests' else 'all'}", self._chosen.tiny),
        )
        try:
            return process.wait(None if limit == math.inf else limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _kill(process)

    def _write(self, name: str, **values: Any) -> None:
        about = {"commit": self._commit, "command": self._command, "time": time.strftime("%F %T")}
        append(self._out, {"section": name, "name": name, **values, **about, "tiny": self._chosen.tiny})


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the process and all of its group."""
    with suppress(ProcessLookupError):  # it and its children have ended by themselves
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(cache: str, tiny: bool) -> dict[str, str]:
    """A folder of compiled code, empty at first unless it is given; at toy size one thread."""
    path = os.pathsep.join(part for part in (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")) if part)
    own = {
        "TORCHINDUCTOR_CACHE_DIR": os.environ.get("TORCHINDUCTOR_CACHE_DIR") or cache,
        "PYTHONPATH": path,
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **own, **({"OMP_NUM_THREADS": "1"} if tiny else {})}


def _commit(folder: Path) -> str | None:
    """What git says; None where there is none."""
    try:
        command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude", "*"]
        answer = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
