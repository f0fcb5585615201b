"""Processes that end with the one that starts them, however that ends, and are told what to do over a socket."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

from sweep.run.signals import SIGNALS

#: How long a process may take to be gone once the system has counted that it kills it, s: what it held is freed first.
#: [own choice]
DYING = 15.0

_BEGIN = "import sys; sys.path[:] = {path!r}; from {module} import main; main(*{told})"


def started(module: str, *more: Any, **options: Any) -> tuple[subprocess.Popen[str], Connection]:
    """Starts a process that runs `main` of a module, and the socket by which it is spoken to.

    On Linux it is killed where the thread that started it ends. Its `main` calls `bind`.

    Args:
        module: its `main` takes the number of the socket, this process's id, and `more`.
        more: numbers and texts.
        options: of subprocess.Popen.
    """
    ours, its = Pipe()
    words = _BEGIN.format(path=sys.path, module=module, told=(its.fileno(), os.getpid(), *more))
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", words], pass_fds=[its.fileno()], stdin=subprocess.DEVNULL, text=True, **options
    )
    its.close()
    return process, ours


def bind(parent: int) -> None:
    """Has the system kill this process when its parent ends, also where Python's lock is never given up; see `deaf`."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)
    deaf()


def deaf() -> None:
    """Has this process pass over what a terminal or a scheduler signals to every process.

    It is for the launch alone, which has the trial's checkpoint written. It is not ignored here, which what this
    process starts would inherit.
    """
    own = os.getpid()

    def passed_over(number: int, frame: Any) -> None:
        if os.getpid() != own:
            os._exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, passed_over)


def listen(socket: Connection, take: Callable[[Any], None]) -> None:
    """Hands on what is said over the socket; at the end of that, which is its starter's, this process ends."""
    while True:
        try:
            words = socket.recv()
        except (EOFError, OSError):  # the starter was killed: the next one may begin any moment
            os._exit(1)
        take(words)


def system_kills() -> int:
    """How many processes the system, since it began, has killed for want of memory; 0 where it does not tell."""
    try:
        counts = dict(line.split() for line in Path("/proc/vmstat").read_text().splitlines())
    except OSError:
        return 0
    return int(counts.get("oom_kill", 0))


class Kills:
    """Whether the system has just killed a process for want of memory: which one it does not tell, and others run here.

    One that was killed long ago, or before this looks, is none of ours.
    """

    def __init__(self) -> None:
        """Counts from now on."""
        self._before = self._newest = system_kills()
        self._looked = time.monotonic()

    def look(self) -> None:
        """To be called while nothing has died: what was killed over `DYING` seconds ago counts no more."""
        if (now := time.monotonic()) - self._looked > DYING:
            self._before, self._newest, self._looked = self._newest, system_kills(), now

    @property
    def just(self) -> bool:
        """Whether there was one in the last one or two times `DYING` seconds."""
        return system_kills() > self._before


def how(code: int) -> str:
    """How a process has ended, in words."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
