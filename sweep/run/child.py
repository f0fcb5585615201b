"""The process in which a serial launch trains: one for all its trials, and a new one in place of one that dies.

It is told what to do over a socket and sends a trial's messages over it; each waits until the launch has written it
down. It has a session of its own, so that a terminal's signals reach the launch alone, and ends with the launch.
"""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from functools import partial
from multiprocessing.connection import Connection
from typing import IO, Any

from sweep.run.bound import Kills, bind, how, listen, started
from sweep.run.signals import STOPPING
from sweep.run.trial import RESTARTS, Message, never, run_trial
from sweep.run.worker_processes import Processes
from sweep.run.workers import TrialEnded, WorkerDied
from trainers.record import OutcomeName

#: How long the launch waits for a message before it looks at its screen, s.
_PAUSE = 0.25

#: What is said over the socket beside trials and their messages.
_TAKEN, _PAUSE_IT, _PRUNED, _STOP = "taken", "pause", "pruned", "stop"


class _Died(Exception):
    """The process is gone."""


class Child:
    """A process that trains one trial after another, as the launch sees it."""

    def __init__(self, workers: int = 1) -> None:
        """Starts it, so that it has imported torch by the time it is needed.

        Args:
            workers: of each trial: it is the first, and starts the others.
        """
        self.workers = workers
        self.stopped = self._trains = False
        self._why = ""
        self._start()

    def train(
        self,
        trial: Mapping[str, Any],
        take: Callable[[Message], None],
        each_step: Callable[[], None],
        paused: Callable[[], bool] = never,
        pruned: Callable[[], bool] = never,
        died: Callable[[str], None] = lambda why: None,
    ) -> tuple[OutcomeName, str] | None:
        """Trains one trial, in a new process where the one before died.

        Args:
            trial: keywords of `sweep.run.trial.run_trial`, but for `send`.
            take: writes a message down.
            each_step: called several times a second.
            paused: asked with each message, once it is taken: see `sweep.run.trial.run_trial`.
            pruned: likewise.
            died: told, in words, how the process has ended in whose place another trains.

        What these raise, as a signal does anywhere, stops the process.

        Returns:
            The outcome and its reason where the trial sent none: its process died once more than it may be started
            again, or the system killed it for want of memory.
        """
        self._trains = True
        try:
            return self._train(trial, take, each_step, paused, pruned, died)
        except BaseException:
            self.stop()
            raise
        finally:
            self._trains = False

    def _train(
        self,
        trial: Mapping[str, Any],
        take: Callable[[Message], None],
        each_step: Callable[[], None],
        paused: Callable[[], bool],
        pruned: Callable[[], bool],
        died: Callable[[str], None],
    ) -> tuple[OutcomeName, str] | None:
        for _ in range(RESTARTS + 1):
            self._why, self._kills = "", Kills()
            try:
                self._say(trial)
                self._follow(take, each_step, paused, pruned)
            except _Died:
                code, short = self._end(), self._kills.just
                self._start()
                if short and code == -signal.SIGKILL:
                    return "out_of_memory", "the system killed its process for want of memory"
                died(self._why or how(code))
            else:
                return None
        return "failed", f"its process died {RESTARTS + 1} times: {self._why or how(code)}"

    def _start(self) -> None:
        own = {"start_new_session": True, "errors": "replace"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self._process, self._socket = started("sweep.run.child", self.workers, **own, **pipes)
        self._shows = [
            threading.Thread(target=_show, args=(pipe, name), name="child", daemon=True)
            for pipe, name in ((self._process.stdout, "stdout"), (self._process.stderr, "stderr"))
        ]
        for thread in self._shows:
            thread.start()

    def _follow(
        self,
        take: Callable[[Message], None],
        each_step: Callable[[], None],
        paused: Callable[[], bool],
        pruned: Callable[[], bool],
    ) -> None:
        """Takes the messages of a trial until it has ended."""
        ended = False
        try:
            while True:
                each_step()
                self._kills.look()
                if not self._socket.poll(_PAUSE):
                    continue
                message = self._heard()
                if isinstance(message, bool):
                    break
                if isinstance(message, str):
                    self._why = message
                    continue
                take(message)
                ended = ended or message["record"] == "outcome"
                self._say(_PRUNED if pruned() else _PAUSE_IT if paused() else _TAKEN)
        except _Died:
            if not ended and not pruned():
                raise
            message = False
        if not message:  # its GPU answers no more
            self._end()
            self._start()

    def _say(self, words: Any) -> None:
        try:
            self._socket.send(words)
        except ConnectionError:
            raise _Died from None

    def _heard(self) -> Any:
        try:
            return self._socket.recv()
        except (EOFError, ConnectionError):
            raise _Died from None

    def _end(self) -> int:
        """Ends it if need be, and what it has started that is in its group; its exit code."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_PAUSE)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        code = self._process.wait()
        self._socket.close()
        for thread in self._shows:
            thread.join(_PAUSE)
        return code

    def stop(self) -> None:
        """Ends it for good, once the trial that it trains, if any, has written its newest checkpoint."""
        if self.stopped:
            return
        self.stopped = True
        if self._trains:
            with suppress(_Died, OSError, subprocess.TimeoutExpired):
                self._say(_STOP)
                self._process.wait(STOPPING)
        else:
            self._process.kill()
        self._end()


#: The one of this process.
_here: Child | None = None


def here(up: ExitStack | None = None, workers: int = 1) -> Child:
    """The process in which this one has its trials trained; started where there is none.

    Args:
        up: by whose end one that is started is stopped.
        workers: of each trial.
    """
    global _here
    if _here is not None and _here.workers != workers:
        _here.stop()
    if _here is None or _here.stopped:
        _here = Child(workers)
        if up is not None:
            up.callback(_here.stop)
    return _here


def _show(pipe: IO[str], name: str) -> None:
    """What a trial prints, as if it were printed here: while the table is on the screen it comes above that."""
    with pipe:
        for line in pipe:
            with suppress(OSError, ValueError):  # nobody reads it
                stream = getattr(sys, name)
                stream.write(line)
                stream.flush()


def main(socket: int, parent: int, workers: int) -> None:
    """The process."""
    bind(parent)
    others = Processes(workers - 1) if workers > 1 else None
    launch, told = Connection(socket), queue.SimpleQueue[Any]()
    speaking = threading.Lock()

    def hear(words: Any) -> None:
        if words == _STOP:
            from trainers import checkpoint

            checkpoint.write_held()
            os._exit(0)
        told.put(words)

    def say(words: Any) -> None:
        with speaking:
            launch.send(words)

    threading.Thread(target=listen, args=(launch, hear), name="launch", daemon=True).start()
    import trainers.loop  # noqa: F401  # and torch, while the launch plans

    answers = [_TAKEN]

    def send(message: Message) -> None:
        say(message)
        answers[0] = told.get()

    while True:
        trial = told.get()
        asked: dict[str, Any] = {"paused": lambda: answers[0] == _PAUSE_IT, "pruned": lambda: answers[0] == _PRUNED}
        say(run_trial(**trial, send=send, **asked, others=others, died=partial(_end, say)))


def _end(say: Callable[[str], None], why: TrialEnded | WorkerDied) -> None:
    """Ends this process, with the newest state of its trial on the disk, for the trial lacks a worker."""
    from trainers import checkpoint

    checkpoint.write_held()
    say(str(why))
    os._exit(1)
