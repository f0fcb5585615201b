"""The other workers of a test's trials: processes that join one after another, and may come to grief in it."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest.mock import patch

import torch

from trainers import loop
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.record import EpochRecord
from trainers.stepper import Stepper
from trainers.workers import Workers, found, joined, opened

#: Seconds after which a worker that waits for another gives up: many, as the machine may be busy.
PATIENCE = 120

_CPU = torch.device("cpu")


class Others:
    """Ranks from 1 on, each in a process that is kept, and begun anew once it was killed."""

    def __init__(self, size: int) -> None:
        """Begins none yet; `size` counts the test's own process."""
        self.size = size
        self.ends: list[str] = []
        """How each has left the last trial: `ended`, what it raised, or `gone`."""
        self._there: dict[int, tuple[BaseProcess, Connection]] = {}

    @contextmanager
    def join(self, config: TrialConfig, fault: str = "") -> Iterator[Workers]:
        """A block in which this process is the worker of rank 0 of a trial.

        Args:
            config: of the trial.
            fault: one of `FAULTS`, which the worker of rank 1 has in its second epoch.
        """
        store = opened("127.0.0.1", self.size)
        pipes = [self._pipe(rank) for rank in range(1, self.size)]
        for rank, pipe in enumerate(pipes, 1):
            pipe.send((rank, self.size, store.port, config, fault if rank == 1 else ""))
        try:
            with joined(store, 0, self.size, _CPU, PATIENCE) as workers:
                yield workers
        finally:
            self.ends = [_end(pipe) for pipe in pipes]

    def _pipe(self, rank: int) -> Connection:
        if rank not in self._there or not self._there[rank][0].is_alive():
            self._there[rank] = begun(_work)
        return self._there[rank][1]

    def end(self) -> None:
        """Ends the processes."""
        for process, pipe in self._there.values():
            pipe.close()
            process.join(10)
            process.kill()


def begun(work: Callable[..., None], *given: object) -> tuple[BaseProcess, Connection]:
    """A new process that does the work, with one end of a pipe and what is given; and the other end."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs, *given), daemon=True)
    process.start()
    theirs.close()
    return process, ours


def _end(pipe: Connection) -> str:
    try:
        return str(pipe.recv())
    except EOFError:
        return "gone"


def _work(pipe: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            rank, size, port, config, fault = pipe.recv()
        except EOFError:  # the tests have ended
            return
        try:
            with joined(found("127.0.0.1", port, size), rank, size, _CPU, PATIENCE) as workers, _with(fault):
                loop.join(config, workers)
            pipe.send("ended")
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {error}")


def lead_and_die(pipe: Connection, config: TrialConfig, path: Path) -> None:
    """Trains as the worker of rank 0 of two, tells where to meet, and is killed once it has reported an epoch."""
    torch.set_num_threads(1)
    store = opened("127.0.0.1", 2)
    pipe.send(store.port)

    def report(record: object) -> None:
        if isinstance(record, EpochRecord):
            os.kill(os.getpid(), signal.SIGKILL)

    with joined(store, 0, 2, _CPU, PATIENCE) as workers:
        loop.train(config, report, path, workers=workers)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise(error: Exception) -> Callable[[], None]:
    def fault() -> None:
        raise error

    return fault


FAULTS: dict[str, Callable[[], None]] = {
    "killed": _die,
    "code": _raise(ValueError("no such class\nat all")),
    "user": _raise(UserError("data.root: must be a folder")),
    "memory": _raise(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")),
}


@contextmanager
def _with(fault: str) -> Iterator[None]:
    """A block in which the fault comes in the middle of an epoch, at the second step of the second one."""
    if not fault:
        yield
        return
    epoch, step, seen = Stepper.epoch, Stepper.step, [0, 0]

    def next_epoch(*given: object) -> object:
        seen[0] += 1
        return epoch(*given)  # type: ignore[arg-type]

    def next_step(*given: object) -> None:
        seen[1] += seen[0] == 2
        if seen[1] == 2:
            FAULTS[fault]()
        step(*given)  # type: ignore[arg-type]

    with patch.object(Stepper, "epoch", next_epoch), patch.object(Stepper, "step", next_step):
        yield
