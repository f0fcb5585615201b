"""The process that feeds one tracker beside a launch; whatever becomes of it, the launch goes on.

It reads the run's records as anybody may, and is told one thing, that the launch is over and how long it may still
take. Where the launch is killed it finds that out by itself. What fails is tried again; the launch is told once.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from pathlib import Path

from sweep.run.bound import deaf
from sweep.run.directory import holders
from sweep.trackers.feed import Feed, lock_folder, named
from trainers.blanked import blanked
from trainers.errors import UserError
from trainers.visible import in_line

#: Between two looks at the records, s; after one that failed, twice as long each time, up to the other.
PAUSE, LONGEST_PAUSE = 1.0, 60.0

#: How long it may take once its launch is gone that has not said so, s.
ORPHANED = 15.0

#: How others are told that it is this that sends.
HOLDER = "a launch's tracker, process"

#: Characters of a reason that is told.
_LONGEST = 300


class _Launch:
    """The launch, as this process hears it: one word at its end, or nothing more where it was killed."""

    def __init__(self, socket: Connection) -> None:
        self.over = threading.Event()
        self._socket, self._told = socket, False
        threading.Thread(target=self._hear, name="launch", daemon=True).start()

    def tell(self, reason: str) -> None:
        """Says what is wrong, the first time."""
        if not self._told:
            self._told = True
            with suppress(OSError):  # it is gone
                self._socket.send(reason)

    def _hear(self) -> None:
        try:
            seconds = float(self._socket.recv())
        except (EOFError, OSError):
            seconds = ORPHANED
        self.over.set()
        time.sleep(seconds)
        os.killpg(os.getpgid(0), signal.SIGKILL)  # it hangs, and so may what it started


def main(socket: int, parent: int, directory: str, name: str) -> None:
    """The process.

    Args:
        socket: number of the one by which the launch is heard.
        parent: the launch's process.
        directory: of the run.
        name: of the tracker.
    """
    deaf()
    os.nice(10)  # what trains comes first
    launch = _Launch(Connection(socket))
    try:
        code = _feed(Path(directory), name, launch)
    except Exception as error:  # whatever a tracker's program raises is no more than a line
        launch.tell(why(error))
        code = 1
    os._exit(code)  # its program may have threads that end when they like


def _feed(directory: Path, name: str, launch: _Launch) -> int:
    """Looks until the launch is over and all is sent; 1 where it is over, and something cannot be sent."""
    with ExitStack() as held:
        feed, pause = _first(directory, name, launch, held), PAUSE
        while feed is not None:
            last = launch.over.is_set()  # asked before the look, which then sees all that there is
            try:
                feed.look()
                pause = PAUSE
            except Exception as error:
                launch.tell(why(error))
                if last:
                    return 1
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if last:
                    return 0
            launch.over.wait(pause)
        return 0


def _first(directory: Path, name: str, launch: _Launch, held: ExitStack) -> Feed | None:
    """The feed, once no other process sends, such as that of another share, and its program answers.

    Returns:
        None: the launch is over before that.

    Raises:
        UserError: the program is not installed, or the disk does not take what it was sent.
    """
    pause = PAUSE
    while True:
        last = launch.over.is_set()
        try:
            return held.enter_context(Feed.opened(directory, named(directory, name), HOLDER))
        except UserError:
            if not holders(lock_folder(directory, name)):
                raise
        except Exception as error:  # a server that is away comes back
            launch.tell(why(error))
            pause = min(2 * pause, LONGEST_PAUSE)
        if last:
            return None
        launch.over.wait(pause)


def why(error: Exception) -> str:
    """What is said of an error, whoever raised it, in a line without secrets."""
    text = str(error).strip() or type(error).__name__
    return in_line(blanked(text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"), _LONGEST)
