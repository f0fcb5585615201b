"""A page that is shown while a sweep runs: made anew as the records grow, reloaded by its own script.

The address `/` is the page, and `<html data-version="...">` has what `version` answered when it was made; `version`
is one line, another one since the page is another. Both have `?token=...`.
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING

from sweep.reports.follow import Followed, Made, following
from sweep.reports.localhost import listening
from sweep.streams import echo, leave

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

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


#: Shown until the first page is made; a browser loads it anew every two seconds.
_MEANWHILE = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
    "<title>sweep</title><p>The first page is not made yet. It is shown here as soon as it is.</p></html>"
)


def _nothing() -> None:
    """What has to be waited for where all is there."""


def serve(
    page: Callable[[], str], stamp: Callable[[], str], port: int = 0, ready: Callable[[], None] = _nothing
) -> None:
    """Shows a page on this machine until Ctrl-C, and prints its address at once.

    Args:
        page: makes it, as HTML with all that it needs in it.
        stamp: a word that is another one once the page would be: `sweep.reports.follow.stamp_of`.
        port: 0: one that is free.
        ready: returns once the first one can be made.

    Raises:
        UserError: the first page cannot be made, or the port is taken.
    """
    served(showing, page, stamp, port, ready=ready)


def served(
    app_of: Callable[[Followed[Made]], WSGIApplication],
    make: Callable[[], Made],
    stamp: Callable[[], str],
    port: int = 0,
    landing: str | None = None,
    ready: Callable[[], None] = _nothing,
) -> None:
    """Says where a run is shown, and shows it until Ctrl-C; until the first page is made, one that says so.

    Args:
        app_of: answers requests by what was last made.
        make: as for `sweep.reports.follow.Followed`.
        stamp: the same.
        port: as for `sweep.reports.localhost.listening`.
        landing: the same.
        ready: returns once the first one can be made.

    Raises:
        UserError: the first one cannot be made, or the port is taken.
    """
    apps: list[WSGIApplication] = []

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return (apps[0] if apps else _meanwhile)(environ, start_response)

    with suppress(KeyboardInterrupt), listening(answer, port, landing) as address:
        echo(f"{address}\nopen it in a browser of this machine; it follows the run; Ctrl-C ends it")
        ready()
        echo("its first page is being made, which takes some seconds")
        with following(make, stamp) as followed:
            apps.append(app_of(followed))
            threading.Event().wait()
    leave()  # a page that is being made is not waited for


def _meanwhile(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "text/html; charset=utf-8"), *_HEADERS])
    return [_MEANWHILE.encode()]


def showing(followed: Followed[str]) -> WSGIApplication:
    """The page and its version, as an application that answers requests."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        stamp, page = followed.version
        match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
            case "GET" | "HEAD", "/":
                kind, text = "html", page.replace("<html", f'<html data-version="{html.escape(stamp)}"', 1)
            case "GET" | "HEAD", "/version":
                kind, text = "plain", stamp
            case _:
                start_response("404 Not Found", [("Content-Type", "text/plain")])
                return [b"not found\n"]
        content = text.encode()
        about = [("Content-Type", f"text/{kind}; charset=utf-8"), ("Content-Length", str(len(content)))]
        start_response("200 OK", [*about, *_HEADERS])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [content]

    return app
