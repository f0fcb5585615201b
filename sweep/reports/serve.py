"""A page that is shown while a sweep runs: made anew as the records grow, reloaded by its own script.

The address `/` is the page, and `<html data-version="...">` has what `version` answered when it was made; `version`
is one line, another one since the page is another. Both have `?token=...`.
"""

from __future__ import annotations

import html
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.reports.localhost import listening, until_interrupted
from sweep.streams import complain, echo, leave

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

#: Seconds between two looks at whether the records grew.
LOOK = 3.0

#: After a page that took so long, this many times as long passes before the next: the sweep needs the processor.
EASE = 4.0

#: The page has all that it needs, and asks nobody but this server; nobody else shows it as a part of theirs.
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [
    ("Cache-Control", "no-store"),
    ("Content-Security-Policy", _POLICY),
    ("Referrer-Policy", "no-referrer"),  # the address has the token
    ("X-Content-Type-Options", "nosniff"),
]


def serve(page: Callable[[], str], stamp: Callable[[], str], port: int = 0) -> None:
    """Shows a page on this machine until Ctrl-C, and prints its address.

    Args:
        page: makes it, as HTML with all that it needs in it.
        stamp: a word that is another one once the page would be: `records_stamp`.
        port: 0: one that is free.

    Raises:
        UserError: the first page cannot be made, or the port is taken.
    """
    with renewed(page, stamp) as shown, listening(shown, port) as address:
        echo(f"{address}\nopen it in a browser of this machine; it follows the run; Ctrl-C ends it")
        until_interrupted()
    leave()  # a page that is being made is not waited for


def records_stamp(directory: Path) -> str:
    """A word that is another one as soon as a run's records are; of a run in a store what is new is brought first."""
    from sweep.reports.options import bring_run
    from trainers.record import record_files

    bring_run(directory)
    files = [(path.name, path.stat()) for path in record_files(directory)]
    return " ".join(f"{name}:{stat.st_size}:{stat.st_mtime_ns}" for name, stat in files)


class Renewed:
    """A page as it was made last, as a WSGI application."""

    def __init__(self, page: Callable[[], str], stamp: Callable[[], str]) -> None:
        """Makes the first one.

        Args:
            page: as for `serve`.
            stamp: the same.

        Raises:
            UserError: it cannot be made.
        """
        self._page, self._stamp = page, stamp
        self._said = ""
        """What was last said to be wrong."""
        self._make(stamp())

    def _make(self, version: str) -> None:
        named = f'<html data-version="{html.escape(version)}"'
        self._version, self._made = version, self._page().replace("<html", named, 1).encode()

    def renew(self) -> None:
        """Makes it anew if it would be another one; where that fails, the old one stays, and why is said once."""
        try:
            if (version := self._stamp()) != self._version:
                self._make(version)
            self._said = ""
        except Exception as error:  # the next one may be well: a line was half written, a store was away
            if (said := f"{type(error).__name__}: {error}") != self._said:
                self._said = said
                complain(f"the page stays as it is: {said}")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answers one request."""
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET" | "HEAD", "/":
                kind, content = "text/html", self._made
            case "GET" | "HEAD", "/version":
                kind, content = "text/plain", self._version.encode()
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"not found\n"]
        typed = ("Content-Type", f"{kind}; charset=utf-8")
        start_response("200 OK", [typed, ("Content-Length", str(len(content))), *_HEADERS])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]


@contextmanager
def renewed(page: Callable[[], str], stamp: Callable[[], str], look: float = LOOK) -> Iterator[Renewed]:
    """A block in which a page is made anew in a thread, no sooner than it must and than it eases the machine.

    Args:
        page: as for `serve`.
        stamp: the same.
        look: seconds between two looks.
    """
    shown, ended = Renewed(page, stamp), threading.Event()

    def follow() -> None:
        took = 0.0
        while not ended.wait(max(look, EASE * took)):
            began = time.monotonic()
            shown.renew()
            took = time.monotonic() - began

    threading.Thread(target=follow, daemon=True).start()
    try:
        yield shown
    finally:
        ended.set()
