"""Several processes that train one trial together on CPUs, kept for all tests of a file: they take seconds to begin."""

from __future__ import annotations

import copy
import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from trainers.workers import Workers, found, joined, opened

Crew = Callable[..., list[Any]]
"""How many of them, a function of a module that they can import, and what it is given beside the workers, to what each
makes of it, by rank."""

#: Seconds after which a worker that waits for another gives up: many, as the machine may be busy.
_PATIENCE = 120


@contextmanager
def crew(most: int) -> Iterator[Crew]:
    """A block in which so many processes, or some of them, do what they are called with as the workers of a trial."""
    context = multiprocessing.get_context("spawn")
    pipes = [context.Pipe() for _ in range(most)]
    processes = [context.Process(target=_work, args=(theirs,), daemon=True) for _, theirs in pipes]
    for process in processes:
        process.start()
    for _, theirs in pipes:
        theirs.close()

    def call(size: int, function: Callable[..., Any], *given: Any) -> list[Any]:
        store = opened("127.0.0.1", size)
        for rank, (ours, _) in enumerate(pipes[:size]):
            ours.send((rank, size, store.port, function, given))
        answers = [ours.recv() for ours, _ in pipes[:size]]
        failed = [answer for worked, answer in answers if not worked]
        assert not failed, failed[0]
        return [answer for _, answer in answers]

    try:
        yield call
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in processes:
            process.kill()
            process.join()


def _work(calls: Connection) -> None:
    torch.set_num_threads(1)
    while True:
        try:
            rank, size, port, function, given = calls.recv()
        except EOFError:  # the test process has ended
            return
        with joined(found("127.0.0.1", port, size), rank, size, torch.device("cpu"), _PATIENCE) as workers:
            answer = _answer(function, workers, given)
        calls.send(answer)


def _answer(function: Callable[..., Any], workers: Workers, given: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether it worked, and what it gave or why it did not."""
    try:
        return True, function(workers, *copy.deepcopy(given))  # tensors come in memory that they all share
    except Exception:
        return False, traceback.format_exc()
