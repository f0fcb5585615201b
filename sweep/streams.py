"""stdout and stderr that end no command: readers that go away, characters that have no code, a second of silence."""

from __future__ import annotations

import errno
import io
import os
import select
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

import click

#: Seconds after which a command that has said nothing yet says that it is at work.
SILENCE = 1.0


_NAMES = {1: "stdout", 2: "stderr"}


class _Stream(io.FileIO):
    """A file descriptor to write to; once nobody reads it, what is written is dropped.

    A stream that fails in another way, on a full disk, raises once: a file cut off must not look whole. After
    `outlast` it raises never.
    """

    lasting = False

    def write(self, data: Any) -> int:
        """As of any raw stream, but that it waits where a pipe is full and does not block."""
        _notice.end()
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if error.errno != errno.EPIPE and not _Stream.lasting:
                raise OSError(error.errno, error.strerror, _NAMES.get(self.fileno())) from None
            return len(data)
        return written


class _Notice:
    """One line on a terminal while a command is silent; wiped by the first thing that it says."""

    def __init__(self) -> None:
        self._lock, self._timer, self._shown = threading.Lock(), threading.Timer(0, lambda: None), False

    def begin(self, line: str) -> None:
        self._timer = threading.Timer(SILENCE, self._show, (line,))
        self._timer.daemon = True
        self._timer.start()

    def _show(self, line: str) -> None:
        with self._lock, suppress(OSError):
            if not self._timer.finished.is_set():
                self._shown = os.write(2, line.encode()) > 0

    def end(self) -> None:
        with self._lock, suppress(OSError):
            self._timer.cancel()
            if self._shown:
                self._shown = False
                os.write(2, b"\r\x1b[2K")


_notice = _Notice()


def echo(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Prints text, of which a terminal obeys nothing: the one way out beside `sweep.plain_console`.

    Args:
        text: of any length.
        err: to stderr, and not to stdout.
        nl: whether a line end follows.
    """
    from trainers.visible import visible  # once it is known to be ours: see `sweep.hiding`

    click.echo(visible(str(text)), err=err, nl=nl, color=True)  # click itself would drop colours, and then half a word


def complain(text: str) -> None:
    """Says on stderr, in one line of bounded length, what is wrong; a terminal's lines end between its words."""
    from trainers.visible import in_line

    tell(f"sweep: {in_line(text)}", err=True)


def tell(text: str, *, err: bool = False) -> None:
    """Says what may be longer than a terminal's line, which then ends between words, what goes on indented."""
    from trainers.visible import hanging

    stream = sys.stderr if err else sys.stdout
    if stream.isatty():
        text = "\n".join(hanging(line, _columns(stream)) for line in text.split("\n"))
    echo(text, err=err)


def _columns(stream: TextIO) -> int:
    """Of the terminal; `COLUMNS` has the last word, as it has for tables."""
    if (asked := os.environ.get("COLUMNS", "")).isdecimal() and int(asked):
        return int(asked)
    with suppress(OSError, ValueError):
        if columns := os.get_terminal_size(stream.fileno()).columns:
            return columns
    return 80


@contextmanager
def steady(command: str) -> Iterator[None]:
    """A block, the whole of a command, in which stdout and stderr end nothing.

    A pipe that is closed swallows the rest, and the exit code is that of the work; a character that the encoding lacks
    is written as its number; a descriptor that is closed is the null device. Streams that are not the process's own,
    as in tests, stay as they are.

    Args:
        command: as it is said, on a terminal alone, that it is at work.
    """
    _fill()
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if (stream := getattr(sys, name)) is getattr(sys, f"__{name}__"):
            setattr(sys, name, _wrapped(stream, descriptor))
    if os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb" and isinstance(sys.stderr, io.TextIOWrapper):
        _notice.begin(f"{command[:80].encode('unicode_escape').decode()}: at work ...")
    try:
        yield
    finally:
        _notice.end()


def outlast() -> None:
    """From now on no failure to write stops the command: its work is in files, and the screen only shows it."""
    _Stream.lasting = True


def leave(code: int = 0) -> None:
    """Ends the process at once: to take apart all that torch has imported takes a second.

    Where stdout is not the process's own, as in tests, it returns.

    Args:
        code: its exit code.
    """
    if isinstance(getattr(getattr(sys.stdout, "buffer", None), "raw", None), _Stream):
        sys.stdout.flush()
        sys.stderr.flush()
        _notice.end()
        os._exit(code)


def _fill() -> None:
    """Gives descriptors 0 to 2 that are closed to the null device, lest a file of ours be opened as stdout."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def _wrapped(stream: TextIO | None, descriptor: int) -> io.TextIOWrapper:
    line_buffering = descriptor == 2 or os.isatty(descriptor)
    if stream is not None:
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Stream(descriptor, "w", closefd=False)),
        encoding=getattr(stream, "encoding", "utf-8"),
        errors="backslashreplace",
        line_buffering=line_buffering,
    )
