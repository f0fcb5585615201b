"""The group that all commands are in, in which a user's mistake is one line and exit code 2; how their helps end."""

from __future__ import annotations

import gc
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import click

from sweep.hiding import hiding
from sweep.streams import complain, echo, leave, steady

EXIT_USER_ERROR = 2

#: The variable by which a shell asks for completions: `sweep.completion`.
COMPLETING = "_SWEEP_COMPLETE"

#: Lines that are said of one input.
_SAID = 20


class Cli(click.Group):
    """Says each mistake of a user in one line on stderr and exits with 2; anything else is a bug and shows itself."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Runs the command with streams that end nothing."""
        if COMPLETING in os.environ:  # on a terminal on which somebody types: nothing is said there meanwhile
            return super().main(*args, **{**options, "complete_var": COMPLETING})
        gc.disable()  # until trials run: what is made before is kept; to look through it took a fifth of a plan's CPU
        try:
            with steady(" ".join(["sweep", *sys.argv[1:2]])):
                return self._main(*args, **options)
        finally:
            gc.enable()

    def _main(self, *args: Any, **options: Any) -> Any:
        try:
            return super().main(*args, **options)
        except SystemExit as end:
            signals = sys.modules.get("sweep.run.signals")  # not there where no launch ran
            ends_ray = signals is not None and end.code in (signals.EXIT_RAY_GONE, signals.EXIT_INTERRUPTED)
            if isinstance(end.code, int) and ends_ray:
                # at an orderly end threads of a Ray that has gone, or had not yet come up, can bring the process down
                leave(end.code)
            raise

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Reads the command line."""
        with _mistakes():
            return super().make_context(*args, **options)

    def invoke(self, context: click.Context) -> Any:
        """Runs the command that was asked for, if the packages that it imports are ours."""
        if hides := hiding():
            click.echo(f"sweep: {hides.encode('unicode_escape').decode()}", err=True)
            context.exit(EXIT_USER_ERROR)
        from trainers.errors import NewerRecords, UserError

        try:
            with _mistakes(), warnings.catch_warnings():
                warnings.simplefilter("default", NewerRecords)
                warnings.showwarning = _complaining(NewerRecords, warnings.showwarning)
                return super().invoke(context)
        except UserError as error:
            _refuse(str(error), *error.others)


@contextmanager
def _mistakes() -> Iterator[None]:
    """A block in which what is wrong with the command line, a file or a disk ends the command with one line."""
    try:
        yield
    except click.exceptions.NoArgsIsHelpError as error:
        echo(error.format_message())
        raise click.exceptions.Exit(0) from None
    except click.UsageError as error:  # click's own text is four lines
        path = error.ctx.command_path if error.ctx else "sweep"
        said = error.format_message().rstrip(".").replace("'. Did you", "'; did you")
        _refuse(f"{said}{' ' if said.endswith('?') else '; '}see {path} --help")
    except OSError as error:  # a full disk, a folder that may not be read: not a bug either
        if error.errno is None:
            raise
        _refuse(f"{f'{os.fsdecode(error.filename)}: ' if error.filename else ''}{error.strerror}")


def _refuse(*texts: str) -> NoReturn:
    for text in texts[:_SAID]:
        complain(text)
    if more := texts[_SAID:]:
        complain(f"and {len(more)} more, once these are mended")
    raise click.exceptions.Exit(EXIT_USER_ERROR)


def _complaining(ours: type[Warning], usual: Callable[..., None]) -> Callable[..., None]:
    """`warnings.showwarning` by which warnings of one class are this command's own lines, and others are as usual."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if issubclass(category, ours):
            complain(str(message))
        else:
            usual(message, category, *where, **more)

    return show


def examples(*lines: str) -> str:
    """How a command's help ends: commands as they are typed, with a word on each behind `#`.

    A test parses every one of them.

    Args:
        lines: `sweep ...`, of at most 76 characters, so that a terminal of 80 breaks none.
    """
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])
