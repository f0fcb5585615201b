"""What a process has but once, where several trials share one, each in a thread: see `trainers.side_by_side`."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: Held by the one thread that draws from torch's own generators, loads data, runs a kind of step for the first time,
#: captures one, or waits for the whole device. Steps after the first, replays and evaluations do not take it.
alone = threading.RLock()

#: The way out, for whatever trials of one process cannot have.
WAY_OUT = "set resources.trials_per_process: 1"

_shared = threading.Event()


def shared() -> bool:
    """Whether trials share this process at the moment."""
    return _shared.is_set()


@contextmanager
def sharing() -> Iterator[None]:
    """A block in which they do."""
    _shared.set()
    try:
        yield
    finally:
        _shared.clear()
