"""The user's own command that tells somebody how a launch goes: at its end, and once after so many failures."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console

from sweep.progress import Progress, TrialProgress
from sweep.run.bound import how
from sweep.run.directory import log_folder
from sweep.run.screen import counts_line, say
from sweep.run.signals import Interrupted
from sweep.run.trial import Message
from sweep.storage.cache import shown
from sweep.watchers import NotifyConfig
from trainers.errors import UserError
from trainers.fields import plural
from trainers.plain_file import plain
from trainers.visible import in_line

#: How long a launch that is over waits for the command, s.
PATIENCE = 15.0

Listener = Callable[[TrialProgress, Message], None]


class Notices:
    """A block in which the command is run: at its end, if trials ran in it, and once after so many failures."""

    def __init__(self, notify: NotifyConfig | None, name: str, directory: Path, console: Console) -> None:
        """Runs nothing yet.

        Args:
            notify: the command, if there is one.
            name: of the sweep.
            directory: of the run.
            console: told, in a line, what goes wrong with it.
        """
        self._notify, self._name, self._directory, self._console = notify, name, directory, console
        self._progress: Progress | None = None
        self._failed = 0
        self._running: list[subprocess.Popen[bytes]] = []
        self.ended = "ended"
        """How the launch has, in words."""

    def heard_by(self, listener: Listener, progress: Progress) -> Listener:
        """The listener, which also counts failures; trials run from now on.

        Args:
            listener: of a journal.
            progress: of the same.
        """
        self._progress = progress
        return listener if self._notify is None else lambda trial, message: self._hear(listener, trial, message)

    def _hear(self, listener: Listener, trial: TrialProgress, message: Message) -> None:
        listener(trial, message)
        if message["record"] == "outcome" and message["outcome"] in ("failed", "out_of_memory"):
            self._failed += 1
            if self._notify is not None and self._failed == self._notify.after_failures:
                self._run(self._notify, live=True, what=f"{plural(self._failed, 'trial')} failed, and it goes on")

    def __enter__(self) -> Self:
        """Nothing is run yet."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Runs the command, if trials ran, and waits for it a while."""
        if self._notify is None or self._progress is None:
            return
        if error is not None:
            self.ended = str(error) if isinstance(error, UserError) else type(error).__name__
        self._run(self._notify, live=False, what=self.ended)
        deadline = time.monotonic() + PATIENCE
        with suppress(Interrupted):  # nobody wants to wait for it, and it may go on
            for process in self._running:
                self._await_end(process, deadline)

    def _run(self, notify: NotifyConfig, live: bool, what: str) -> None:
        assert self._progress is not None
        counts = counts_line(self._progress, live)
        summary = in_line(f"sweep {self._name} in {shown(self._directory)}: {counts}; {what}")
        own: dict[str, Any] = {"stdin": subprocess.DEVNULL, "start_new_session": True}
        path = log_folder(self._directory) / "notify.log"
        try:
            path.parent.mkdir(exist_ok=True)
            with open(path, "a", opener=plain) as log:
                self._running.append(subprocess.Popen(notify.words(summary), stdout=log, stderr=log, **own))
        except (OSError, ValueError) as error:  # no such program; a NUL in a reason
            self._say(f"{notify.words('')[0]} cannot be run: {getattr(error, 'strerror', None) or error}")

    def _await_end(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        try:
            if code := process.wait(max(0.0, deadline - time.monotonic())):
                self._say(f"ended with {how(code)}; see {log_folder(self._directory) / 'notify.log'}")
        except subprocess.TimeoutExpired:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            self._say(f"had not ended {PATIENCE:.0f} s after the launch, and was stopped")

    def _say(self, what: str) -> None:
        say(self._console, f"notify: {in_line(what)}")
