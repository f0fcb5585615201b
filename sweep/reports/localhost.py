"""A server that this machine alone reaches, and on it only who has the token that stands in its address.

Another user of the machine can reach the port too, and a page in the browser can be made to ask it by a name of its own
(DNS rebinding): so every request must have the token, and name this machine as its host. All else is not found.
"""

from __future__ import annotations

import errno
import secrets
import sys
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from trainers.errors import UserError

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

HOST = "127.0.0.1"

#: What a request may call this machine. Any port goes with it: a tunnel of ssh has one of its own.
_OWN_NAMES = (HOST, "localhost")


@contextmanager
def listening(app: WSGIApplication, port: int = 0, landing: str | None = None) -> Iterator[str]:
    """A block in which the application answers on 127.0.0.1, each request in a thread of its own.

    Args:
        app: gets nothing but requests that have the token.
        port: 0: one that is free.
        landing: where the address with the token leads, of an application whose own addresses have no token: a cookie
            has it from there on; None: each request has the token in its address.

    Yields:
        The address, with the token.

    Raises:
        UserError: the port is taken, or may not be.
    """
    token = secrets.token_urlsafe(16)
    try:
        server = make_server(HOST, port, app, _Server, _Quiet)
    except OSError as error:
        why = "another program uses it" if error.errno == errno.EADDRINUSE else error.strerror
        raise UserError(f"--port {port}: {why}; give another, or leave --port out") from None
    server.set_app(_Guarded(app, token, None if landing is None else (f"sweep-{server.server_port}", landing)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    try:
        yield f"http://{HOST}:{server.server_port}/?token={token}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a browser that opened a connection ahead and asked nothing, or that went away."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Quiet(WSGIRequestHandler):
    """Writes no line a request, and waits for no request longer than a browser takes."""

    timeout = 30

    def log_message(self, *_: Any) -> None:
        pass


@dataclass(frozen=True)
class _Guarded:
    """The application behind the door."""

    app: WSGIApplication
    token: str
    cookie: tuple[str, str] | None
    """Its name, and where the address with the token leads."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        name = environ.get("HTTP_HOST", "").rpartition(":")[0] or environ.get("HTTP_HOST", "")
        in_address = self._is_token(parse_qs(environ.get("QUERY_STRING", "")).get("token", [""])[-1])
        if name not in _OWN_NAMES or not (in_address or self._is_token(self._in_cookie(environ))):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"not found\n"]
        if in_address and self.cookie is not None:
            name, landing = self.cookie
            set_cookie = f"{name}={self.token}; Path=/; HttpOnly; SameSite=Lax"
            start_response("303 See Other", [("Location", landing), ("Set-Cookie", set_cookie)])
            return []
        return self.app(environ, start_response)

    def _in_cookie(self, environ: WSGIEnvironment) -> str:
        if self.cookie is None:
            return ""
        try:
            morsel = SimpleCookie(environ.get("HTTP_COOKIE", "")).get(self.cookie[0])
        except CookieError:  # another program's, of this machine
            return ""
        return "" if morsel is None else morsel.value

    def _is_token(self, text: str) -> bool:
        return secrets.compare_digest(text.encode(errors="replace"), self.token.encode())
