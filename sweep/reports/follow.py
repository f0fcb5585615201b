"""What is made of a run, made anew as its records grow: of a page, or of a program that shows one."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from sweep.streams import complain, echo

Made = TypeVar("Made")

#: Seconds between two looks at whether the records grew.
LOOK = 3.0

#: After what took so long to make, this many times as long passes before the next: the sweep needs the processor.
EASE = 4.0


def stamp_of(directory: Path) -> str:
    """A word that is another one as soon as a run's records are, or whether a launch is live.

    Of a run in a store what is new is brought first.
    """
    from sweep.reports.options import bring_run
    from sweep.run.directory import is_live
    from trainers.record import record_files

    bring_run(directory)
    files = [(path.name, path.stat()) for path in record_files(directory)]
    each = [f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in files]
    return " ".join([*each, "live" if is_live(directory) else "ended"])


def awaited(directory: Path) -> str | None:
    """What is said of a run that is waited for, as no launch has written records there yet; None: it can be read.

    Of what can be no run it is None, too: to read it says why.
    """
    from sweep.storage.cache import shown
    from trainers.record import has_records

    if has_records(directory) or directory.is_file():
        return None
    return f"{shown(directory)}: no launch has written records there yet; waiting for one (Ctrl-C ends it)"


def await_records(directory: Path, look: float = LOOK) -> None:
    """Waits until a run has records, and says so.

    Args:
        directory: of the run.
        look: seconds between two looks.
    """
    from sweep.reports.options import bring_run

    said = ""
    while True:
        bring_run(directory)
        if (text := awaited(directory)) is None:
            return
        if text != said:
            echo(text)
            said = text
        time.sleep(look)


class Version(NamedTuple, Generic[Made]):
    """What was made, and of which stamp."""

    stamp: str
    made: Made


class Followed(Generic[Made]):
    """What was last made of a run."""

    def __init__(self, make: Callable[[], Made], stamp: Callable[[], str]) -> None:
        """Makes the first one.

        Args:
            make: makes it.
            stamp: a word that is another one once what is made would be: `stamp_of`.

        Raises:
            UserError: it cannot be made.
        """
        self._make, self._stamp = make, stamp
        self._said = ""
        """What was last said to be wrong."""
        self.version = self._made(stamp())

    def _made(self, stamp: str) -> Version[Made]:
        return Version(stamp, self._make())

    def renew(self) -> None:
        """Makes it anew if it would be another one; where that fails, the old one stays, and why is said once."""
        try:
            if (stamp := self._stamp()) != self.version.stamp:
                self.version = self._made(stamp)
            self._said = ""
        except Exception as error:  # the next one may be well: a store was away, the disk was full
            if (said := f"{type(error).__name__}: {error}") != self._said:
                self._said = said
                complain(f"what is shown stays as it is: {said}")


@contextmanager
def following(make: Callable[[], Made], stamp: Callable[[], str], look: float = LOOK) -> Iterator[Followed[Made]]:
    """A block in which it is made anew in a thread, no sooner than it must and than it eases the machine.

    Args:
        make: as for `Followed`.
        stamp: the same.
        look: seconds between two looks.
    """
    gc.enable()  # which a command puts off
    followed, ended = Followed(make, stamp), threading.Event()

    def follow() -> None:
        took = 0.0
        while not ended.wait(max(look, EASE * took)):
            began = time.monotonic()
            followed.renew()
            took = time.monotonic() - began

    threading.Thread(target=follow, daemon=True).start()
    try:
        yield followed
    finally:
        ended.set()
