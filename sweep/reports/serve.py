"""A page that is shown while a sweep runs: made anew as the records grow, reloaded by its own script.

The address `/` is the page, and `<html data-version="...">` has what `version` answered when it was made; `version`
is one line, another one since the page is another. Both have `?token=...`.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from sweep.reports.follow import Followed, following
from sweep.reports.localhost import listening, until_interrupted
from sweep.streams import leave

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


def serve(page: Callable[[], str], stamp: Callable[[], str], port: int = 0) -> None:
    """Shows a page on this machine until Ctrl-C, and prints its address.

    Args:
        page: makes it, as HTML with all that it needs in it.
        stamp: a word that is another one once the page would be: `sweep.reports.follow.stamp_of`.
        port: 0: one that is free.

    Raises:
        UserError: the first page cannot be made, or the port is taken.
    """
    with following(page, stamp) as followed, listening(showing(followed), port) as address:
        until_interrupted(address)
    leave()  # a page that is being made is not waited for


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
