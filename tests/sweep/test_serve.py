"""A page that follows a run, and who reaches it."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
from made_up import append
from processes import started

from sweep.reports import follow, localhost
from sweep.reports.follow import Followed, following, stamp_of
from sweep.reports.localhost import HOST, listening
from sweep.reports.serve import serve, showing
from sweep.run.directory import RunLock
from trainers.errors import UserError
from trainers.record import RecordFile


class Run:
    """A stand-in for a run: what its page says, how often it was made, and its stamp."""

    def __init__(self) -> None:
        self.text, self.made, self.changed = "<html><p>one</p></html>", 0, threading.Condition()

    def page(self) -> str:
        with self.changed:
            self.made += 1
            self.changed.notify_all()
        if "broken" in self.text:
            raise UserError("records.jsonl:3: damaged line")
        return self.text

    def stamp(self) -> str:
        return str(hash(self.text))

    def wait_for(self, made: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.made >= made, timeout=30)


@pytest.fixture
def run() -> Run:
    return Run()


def asked(address: str, path: str = "/", **headers: str) -> tuple[int, str, Message]:
    """Status, text and headers of what is at a path of the server, the token in its address."""
    base, _, query = address.partition("/?")
    request = urllib.request.Request(f"{base}{path}?{query}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.read().decode(), answer.headers
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), error.headers


def shown(run: Run) -> Any:
    return showing(Followed(run.page, run.stamp))


@pytest.fixture
def address(run: Run) -> Iterator[str]:
    with following(run.page, run.stamp, look=0.01) as followed, listening(showing(followed)) as where:
        yield where


def test_the_page_is_at_the_address_with_its_version(address: str) -> None:
    status, page, headers = asked(address)
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert page == f'<html data-version="{asked(address, "/version")[1]}"><p>one</p></html>'


def test_no_browser_keeps_the_page_or_tells_others_its_address(address: str) -> None:
    _, _, headers = asked(address)
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert "default-src 'none'" in headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "/version"])
@pytest.mark.parametrize("token", ["", "token=", "token=guess", "token=%ff%fe", "token=\xe9"])
def test_without_the_token_there_is_nothing(path: str, token: str, address: str) -> None:
    base = address.partition("/?")[0]
    assert asked(f"{base}/?{urllib.parse.quote(token, safe='=%')}", path)[:2] == (404, "not found\n")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[::1]:80", ""])
def test_who_calls_the_machine_by_another_name_finds_nothing(host: str, address: str) -> None:
    assert asked(address, Host=host)[0] == 404


@pytest.mark.parametrize("host", ["localhost", "localhost:8000", "127.0.0.1:1"])
def test_a_tunnel_may_have_a_port_of_its_own(host: str, address: str) -> None:
    assert asked(address, Host=host)[0] == 200


def port_of(address: str) -> int:
    return int(re.findall(r":(\d+)/", address)[0])


def test_another_path_is_not_found(address: str) -> None:
    assert asked(address, "/etc/passwd")[0] == 404


def test_each_server_has_a_token_of_its_own(run: Run) -> None:
    with listening(shown(run)) as one, listening(shown(run)) as other:
        tokens = [re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=([\w-]{22})", address) for address in (one, other)]
        assert None not in tokens
        assert tokens[0][1] != tokens[1][1]  # type: ignore[index]


def test_a_port_that_is_taken_is_refused(run: Run) -> None:
    with listening(shown(run)) as address:
        port = port_of(address)
        with (
            pytest.raises(
                UserError, match=f"--port {port}: another program uses it; give another, or leave --port out"
            ),
            listening(shown(run), port),
        ):
            pass


def test_the_page_and_its_version_are_others_once_the_run_is(run: Run, address: str) -> None:
    before = asked(address, "/version")[1]
    run.text = "<html><p>two</p></html>"
    run.wait_for(2)
    while asked(address, "/version")[1] == before:  # the page was made, and is about to be shown
        pass
    assert "<p>two</p>" in asked(address)[1]


def test_a_page_that_is_the_same_is_not_made_anew(run: Run) -> None:
    Followed(run.page, run.stamp).renew()
    assert run.made == 1


def test_where_the_page_cannot_be_made_the_old_one_stays_and_it_is_said_once(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    followed, good = Followed(run.page, run.stamp), run.text
    with listening(showing(followed)) as address:
        run.text = "broken"
        followed.renew()
        followed.renew()
        assert "<p>one</p>" in asked(address)[1]
        assert (
            capsys.readouterr().err == "sweep: what is shown stays as it is: UserError: records.jsonl:3: damaged line\n"
        )
        run.text = good + "<!-- three -->"
        followed.renew()
        assert "three" in asked(address)[1]


def test_a_first_page_that_cannot_be_made_is_the_commands_error(run: Run) -> None:
    run.text = "broken"
    with pytest.raises(UserError, match="damaged line"):
        serve(run.page, run.stamp)


def test_the_stamp_is_another_once_records_grew(tmp_path: Path) -> None:
    file = RecordFile(tmp_path)
    append(file, "a1", 0, "sgd", 0.1, 32, 0)
    before = stamp_of(tmp_path)
    assert stamp_of(tmp_path) == before
    append(file, "a2", 1, "sgd", 0.2, 32, 0)
    assert stamp_of(tmp_path) != before


def test_the_stamp_is_another_once_a_launch_begins_or_ends(tmp_path: Path) -> None:
    append(RecordFile(tmp_path), "a1", 0, "sgd", 0.1, 32, 0)
    before = stamp_of(tmp_path)
    with RunLock(tmp_path):
        assert stamp_of(tmp_path) != before
    assert stamp_of(tmp_path) == before


def test_of_a_connection_that_asks_nothing_nothing_is_said(
    run: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(localhost._Quiet, "timeout", 0.05)
    with listening(shown(run)) as address, socket.create_connection((HOST, port_of(address))) as ahead:
        assert ahead.recv(1) == b""  # the server has ended it, and said what it says
    assert capfd.readouterr().err == ""


def test_ctrl_c_ends_it_without_a_word() -> None:
    script = "from sweep.reports.serve import serve; serve(lambda: '<html>shown', lambda: '1')"
    with started([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().decode().strip()
        while "shown" not in asked(address)[1]:  # the first page is being made
            pass
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=30), process.stderr.read()) == (0, b"")


def test_the_address_is_said_before_the_page_is_made_and_shows_that_it_is_not(
    capsys: pytest.CaptureFixture[str],
) -> None:
    seen = []

    def page() -> str:
        said = capsys.readouterr().out.splitlines()
        seen.extend([said[1:], asked(said[0])])
        raise KeyboardInterrupt

    serve(page, lambda: "1")
    lines, (status, text, headers) = seen
    assert lines == [
        "open it in a browser of this machine; it follows the run; Ctrl-C ends it",
        "its first page is being made, which takes some seconds",
    ]
    assert status == 200
    assert '<meta http-equiv="refresh" content="2">' in text
    assert "The first page is not made yet." in text
    assert headers["Cache-Control"] == "no-store"


def test_a_run_without_records_is_waited_for_until_it_has_some(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            append(RecordFile(tmp_path), "a1", 0, "sgd", 0.1, 32, 0)

    looks: list[float] = []
    monkeypatch.setattr(follow.time, "sleep", look)
    follow.await_records(tmp_path)
    assert looks == [follow.LOOK] * 2
    assert capsys.readouterr().out == (
        f"{tmp_path}: no launch has written records there yet; waiting for one (Ctrl-C ends it)\n"
    )
    follow.await_records(tmp_path)
    assert capsys.readouterr().out == ""


@pytest.fixture
def behind_a_cookie() -> Iterator[str]:
    def app(environ: dict[str, str], start_response: Callable[..., object]) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [environ["PATH_INFO"].encode()]

    with listening(app, landing="/dashboard") as address:
        yield address


def test_a_cookie_has_the_token_where_an_applications_own_addresses_have_none(behind_a_cookie: str) -> None:
    base = behind_a_cookie.partition("/?")[0]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    assert browser.open(behind_a_cookie, timeout=30).read() == b"/dashboard"
    assert browser.open(f"{base}/api/studies", timeout=30).read() == b"/api/studies"


@pytest.mark.parametrize("cookie", ["", "sweep=guess", "a=b; sweep-{port}=guess", "\x01;=;"])
def test_without_its_cookie_there_is_nothing(cookie: str, behind_a_cookie: str) -> None:
    port = port_of(behind_a_cookie)
    base = behind_a_cookie.partition("?")[0]
    assert asked(f"{base}?", "/api/studies", Cookie=cookie.format(port=port))[0] == 404
