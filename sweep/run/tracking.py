"""The trackers of a launch: a process each, which the launch starts, leaves alone, and ends.

Nothing here waits for them but the end of the launch, and that for seconds. What a tracker was not sent by then is
sent by the next launch, or by `sweep sync`.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sweep.run.bound import how, started
from sweep.run.directory import log_folder
from sweep.run.signals import Interrupted
from sweep.storage.cache import typed
from sweep.watchers import TrackerConfig
from trainers.plain_file import plain

_log = logging.getLogger(__name__)

#: How long trackers may take, s: once the launch has ended; and once it was stopped, whose machine may go any moment.
ENDING, STOPPED = 20.0, 5.0

#: What is said of one that was ended.
_LATE = "hangs, or has more to send than there was time for"

#: How long a process that was told to end has for that, s.
_GRACE = 1.0


class Trackers:
    """The trackers of a launch, in a block in which they are sent what the records say.

    What goes wrong with one is a line in the log, and nothing else.
    """

    def __init__(self, directory: Path, trackers: Sequence[TrackerConfig]) -> None:
        """Starts nothing yet.

        Args:
            directory: of the run, whose config is written when the block begins.
            trackers: of the config.
        """
        self._directory, self._trackers = directory, trackers
        self.seconds = ENDING
        """How long they may take at the end, s."""

    def __enter__(self) -> Self:
        """Starts them."""
        each = [_started(self._directory, config.name) for config in self._trackers]
        self._running = [tracker for tracker in each if tracker is not None]
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends them."""
        deadline = time.monotonic() + self.seconds + _GRACE
        try:
            for tracker in self._running:
                tracker.end(self.seconds)
            for tracker in self._running:
                tracker.await_end(deadline)
        except Interrupted:  # nobody wants to wait for them
            pass
        finally:
            for tracker in self._running:
                tracker.kill()


class _Tracker:
    """The process of one tracker, as the launch sees it."""

    def __init__(self, directory: Path, name: str) -> None:
        """Starts it; what it prints goes into DIR/logs/tracker-NAME.log."""
        self._directory, self._name = directory, name
        self._told = self._ending = False
        path = log_folder(directory) / f"tracker-{name}.log"
        path.parent.mkdir(exist_ok=True)
        with open(path, "a", opener=plain) as log:
            where: dict[str, Any] = {"stdout": log, "stderr": log, "start_new_session": True}
            self._process, self._socket = started("sweep.trackers.process", str(directory.absolute()), name, **where)
        self._thread = threading.Thread(target=self._hear, name=f"tracker-{name}", daemon=True)
        self._thread.start()

    def end(self, seconds: float) -> None:
        """Tells it that the launch is over, and how long it may take."""
        self._ending = True
        with suppress(OSError):  # it is gone
            self._socket.send(seconds)

    def await_end(self, deadline: float) -> None:
        """Waits until it has ended, or the deadline, by `time.monotonic`, is there."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(max(0.0, deadline - time.monotonic()))

    def kill(self) -> None:
        """Ends it, and what it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._thread.join(_GRACE)
        self._socket.close()

    def _hear(self) -> None:
        """Says what it says, and that it is gone; in a thread, so that the launch never waits for it."""
        with suppress(EOFError, OSError):
            while True:
                self._tell(str(self._socket.recv()))
        if code := self._process.wait():
            late = self._ending and code == -signal.SIGKILL
            self._tell(_LATE if late else f"its process has ended: {how(code)}")

    def _tell(self, why: str) -> None:
        if not self._told:
            self._told = True
            what = f"sweep sync {typed(self._directory)} {self._name} sends what is missing"
            _log.warning("tracker %s: %s; the sweep goes on without it: %s", self._name, why, what)


def _started(directory: Path, name: str) -> _Tracker | None:
    try:
        return _Tracker(directory, name)
    except OSError as error:  # no memory for a process, no room for its log
        _log.warning("tracker %s: cannot be started: %s", name, error.strerror)
        return None
