"""Ctrl-C, SIGTERM and their like: the first stops a sweep at a safe point, the second ends the process at once."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Self

from trainers.files import hurry

#: Of a launch or an evaluation: all is done; some trials failed or are left out; a signal has ended it.
EXIT_DONE, EXIT_SOME_FAILED, EXIT_INTERRUPTED = 0, 1, 130

#: What a user, a terminal that goes away or a scheduler ends a process with; Slurm and its like announce the end of a
#: job with SIGUSR1 or SIGUSR2.
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

#: How long a launch that is stopped waits for its trials' checkpoints, s.
STOPPING = 15.0
#: The Ray that trials ran on is gone: exit code of a launch or an evaluation, which the same command goes on with.
EXIT_RAY_GONE = 3
#: As of any mistake that a line tells the user of.
EXIT_STORAGE_GONE = 2


class Interrupted(KeyboardInterrupt):
    """The user, or the scheduler of the machine, wants the sweep to stop; carries the signal's name."""

    exit_code = EXIT_INTERRUPTED

    @property
    def reason(self) -> str:
        """In words, for the records and the screen."""
        return f"stopped by {self}"


class RayGone(Interrupted):
    """The Ray that trials run on is gone; carries what is known of how."""

    exit_code = EXIT_RAY_GONE

    @property
    def reason(self) -> str:
        """In words, for the records and the screen."""
        return f"Ray is gone: {self}"


class StorageGone(Interrupted):
    """The object store that the run lies in is gone, or another command has taken the run; carries the line for it."""

    exit_code = EXIT_STORAGE_GONE

    @property
    def reason(self) -> str:
        """In words, for the records and the screen."""
        return str(self)


class FailedAlike(Interrupted):
    """The first trials failed alike, and the others would; carries the line for it."""

    exit_code = 1

    @property
    def reason(self) -> str:
        """In words, for the records and the screen."""
        return str(self)


class Interrupts:
    """Catches `SIGNALS` while it is entered.

    What is ignored then stays so but for SIGINT and SIGTERM: `nohup` has SIGHUP ignored. SIGQUIT and SIGXCPU end the
    process at once, as SIGKILL does.

    The first signal raises Interrupted where the program stands or, inside `held()`, at the next `check()` or
    at the end of the block: a record is never cut in two. Storage that is away is then waited for no longer than
    `STOPPING`. A second signal ends the process with 130.
    """

    _ALWAYS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        """Catches nothing yet."""
        self._caught: str | None = None
        self._raised = ""
        self._held = 0
        self._lost: Interrupted | None = None
        self._wakes = 0

    def __enter__(self) -> Self:
        """Starts to catch."""
        before = {number: signal.getsignal(number) for number in SIGNALS}
        self._before = {n: taken for n, taken in before.items() if n in self._ALWAYS or taken != signal.SIG_IGN}
        self.catch()
        return self

    def catch(self) -> None:
        """Catches the signals, again if some library has taken them.

        Raises:
            Interrupted: one came before and was lost: what is raised in a callback of a library in C++ goes no further.
        """
        for number in self._before:
            signal.signal(number, self._catch)
        if self._caught is not None:
            raise Interrupted(self._caught or self._raised)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives the signals back to whoever had them."""
        hurry(math.inf)
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """A block that is not to be cut."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        self.check()

    def check(self) -> None:
        """A safe point, inside `held()` too: raises if a signal has come, or Ray or the run's store has gone.

        Raises:
            Interrupted: a signal has come; once.
            RayGone, StorageGone, FailedAlike: as `lose` was told, and no signal has come, after which nobody wants a
                new one; once.
        """
        if self._caught:
            self._raised, self._caught = self._caught, ""
            raise Interrupted(self._raised)
        if self._lost is not None and self._caught is None:
            lost, self._lost = self._lost, None
            raise lost

    def lose(self, gone: Interrupted) -> None:
        """Raises it in the main thread, as a signal would raise Interrupted; called in any thread.

        Args:
            gone: RayGone, StorageGone or FailedAlike.
        """
        self._lost = gone
        self._wakes += 1
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)  # it may sleep in a call to Ray

    def _catch(self, number: int, frame: FrameType | None) -> None:
        if self._wakes and number == signal.SIGTERM:
            self._wakes -= 1
            if not self._held:
                self.check()
            return
        if self._caught is not None:
            os._exit(EXIT_INTERRUPTED)
        self._caught = signal.Signals(number).name
        hurry(STOPPING)
        if not self._held:
            self.check()


@contextmanager
def signals_kept() -> Iterator[None]:
    """A block in which nobody takes a signal: on SIGTERM Ray would exit with 15, in the middle of its start too, and on
    SIGUSR1 Tune would end its run as if all trials had."""
    take = signal.signal
    signal.signal = lambda number, handler: signal.getsignal(number)  # type: ignore[assignment]
    try:
        yield
    finally:
        signal.signal = take
