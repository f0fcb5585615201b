"""Several processes that train one trial together on CPUs, kept for all tests of a file: they take seconds to begin."""

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from trainers.workers import Workers, found, joined, opened

Crew = Callable[..., list[Any]]
"""A function of this module's neighbours and what it is given beside the workers, to what it gives, by rank."""

#: Seconds after which a worker that waits for another gives up: many, as the machine may be busy.
_PATIENCE = 120


@contextmanager
def crew(size: int) -> Iterator[Crew]:
    """A block in which so many processes do what they are called with, each as one of the workers."""
    context, store = multiprocessing.get_context("spawn"), opened("127.0.0.1", size)
    pipes = [context.Pipe() for _ in range(size)]
    processes = [
        context.Process(target=_work, args=(theirs, rank, size, store.port), daemon=True)
        for rank, (_, theirs) in enumerate(pipes)
    ]
    for process in processes:
        process.start()
    for _, theirs in pipes:
        theirs.close()

    def call(function: Callable[..., Any], *given: Any) -> list[Any]:
        for ours, _ in pipes:
            ours.send((function, given))
        answers = [ours.recv() for ours, _ in pipes]
        failed = [answer for worked, answer in answers if not worked]
        assert not failed, failed[0]
        return [answer for _, answer in answers]

    try:
        yield call
    finally:
        for ours, _ in pipes:
            ours.close()
        for process in processes:
            process.join(10)
            process.kill()


def _work(calls: Connection, rank: int, size: int, port: int) -> None:
    torch.set_num_threads(1)
    with joined(found("127.0.0.1", port, size), rank, size, torch.device("cpu"), _PATIENCE) as workers:
        while True:
            try:
                function, given = calls.recv()
            except EOFError:  # the tests have ended
                return
            calls.send(_answer(function, workers, given))


def _answer(function: Callable[..., Any], workers: Workers, given: tuple[Any, ...]) -> tuple[bool, Any]:
    """Whether it worked, and what it gave or why it did not."""
    try:
        return True, function(workers, *given)
    except Exception:
        return False, traceback.format_exc()
