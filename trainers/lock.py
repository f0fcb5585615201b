"""One process at a time, on one machine or on a file system that several share."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from trainers.plain_file import plain


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`; wait for whoever holds it. A process that dies lets go of it.

    Some network file systems have no locks: there all go on at once, so what they write is written whole.
    """
    with open(path, "a", opener=plain) as file:
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
