"""What the workers of a trial tell each other besides sums: to go on, that it has ended, and what one of them raised.

It goes by the store where they met (`trainers.workers.opened`), which answers on any device as long as the process of
rank 0 lives. A sum would not do: the others are to hear of the end wherever that one stands, and on GPUs a sum that
lacks a worker never returns.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store
from torch.distributed import DistError, distributed_c10d

from trainers.errors import UserError
from trainers.memory import is_out_of_memory, reason
from trainers.workers import Workers


class WorkerLost(RuntimeError):
    """Another worker of the trial is gone, or does not answer; with new ones the trial goes on from its checkpoint."""


class WorkerFailed(RuntimeError):
    """Another worker of the trial raised what would end a trial that has one alone."""


@contextmanager
def leading(workers: Workers) -> Iterator[Callable[[], None]]:
    """A block in which the worker of rank 0 trains; at its end, however it ends, the others hear that.

    Yields:
        What it calls before all that all of them do together: the others, who wait for that, go on.
    """
    if workers.alone:
        yield lambda: None
        return
    words = _Words()
    try:
        yield words.go_on
    finally:
        words.end()


@contextmanager
def heeding(workers: Workers) -> Iterator[None]:
    """A block of the worker of rank 0 in which a sum that fails is what became of another worker.

    Raises:
        UserError, MemoryError, WorkerFailed: as `failure` gives it.
        WorkerLost: it said nothing.
    """
    try:
        yield
    except Exception as error:
        if workers.alone or not _is_of_others(error):
            raise
        raise failure(_store(), workers.size) or _lost(error) from error


@contextmanager
def following(workers: Workers) -> Iterator[Callable[[], bool]]:
    """A block in which another worker trains along; what it raises is told to the one of rank 0.

    Yields:
        What it calls before all that all of them do together: it waits for that one, and says whether it goes on. The
        block ends by itself where that one leaves elsewhere.

    Raises:
        WorkerLost: the process of another has ended.
    """
    words = _Words()
    try:
        yield words.goes_on
    except (Exception, SystemExit) as error:
        if not _is_of_others(error):
            _tell(workers.rank, error)
            raise
        if not words.ended():
            raise _lost(error) from error


def failure(store: Store, size: int) -> Exception | None:
    """What a worker has raised, as the one of rank 0 raises it in its place; None: none has said so.

    Args:
        store: where they met.
        size: how many they are.

    Returns:
        A UserError, a MemoryError where its memory ran out, else a WorkerFailed.
    """
    kinds: dict[str, type[Exception]] = {"user": UserError, "memory": MemoryError}
    for rank in range(1, size):
        if store.check([_raised(rank)]):
            kind, text = json.loads(store.get(_raised(rank)))
            return kinds.get(kind, WorkerFailed)(f"worker {rank}: {text}")
    return None


class _Words:
    """The word of rank 0 before each thing that all do together; each is said and heard once, in order."""

    def __init__(self) -> None:
        self._store, self._next = _store().clone(), 0  # by a connection of its own: torch's threads ask by the other

    def go_on(self) -> None:
        """Says so."""
        _put(self._store, _word(self._next), "on")
        self._next += 1

    def end(self) -> None:
        """Says that the trial has ended here."""
        with suppress(DistError):
            _put(self._store, _word(self._next), "end")

    def goes_on(self) -> bool:
        """The next word, once it is said: that one may measure long, or wait for its storage."""
        self._store.wait([_word(self._next)], _PATIENCE)
        on = self._store.get(_word(self._next)) == b"on"
        self._next += on
        return on

    def ended(self) -> bool:
        """Whether the next word is said already, and is that."""
        with suppress(DistError):
            return self._store.check([_word(self._next)]) and not self.goes_on()
        return False


#: For a word: as long as it takes. The end of the process that says it ends the wait, and torch warns of each that is
#: given up.
_PATIENCE = timedelta(days=365)


def _word(number: int) -> str:
    return f"robustsweep/word/{number}"


def _raised(rank: int) -> str:
    return f"robustsweep/raised/{rank}"


def _store() -> Store:
    """Where the workers met."""
    store = distributed_c10d._get_default_store()
    while isinstance(store, PrefixStore):  # torch's own, around what it was given
        store = store.underlying_store
    return store


def _tell(rank: int, error: BaseException) -> None:
    kind = "memory" if is_out_of_memory(error) else "user" if isinstance(error, UserError) else "other"
    text = reason(error) if kind != "other" else f"{type(error).__name__}: {reason(error)}"
    with suppress(DistError):
        _put(_store(), _raised(rank), json.dumps([kind, text]))


def _put(store: Store, key: str, value: str) -> None:
    """Returns once it is there, so that nobody who sees this worker leave comes too early to read it."""
    store.set(key, value)
    store.wait([key])


def _is_of_others(error: BaseException) -> bool:
    """Whether a sum or the store raised it, because another worker is not there; gloo's errors have no type of their
    own."""
    if isinstance(error, DistError):
        return True
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    summed = any(frame.f_globals.get("__name__") == distributed_c10d.__name__ for frame in frames)
    return isinstance(error, RuntimeError) and summed and not is_out_of_memory(error)


def _lost(error: BaseException) -> WorkerLost:
    return WorkerLost(f"another worker of the trial is gone, or does not answer: {reason(error)}")
