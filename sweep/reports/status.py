"""The command `status`: how far a run is, once or again and again."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import click

from sweep.group import examples
from sweep.reports.filters import trials_where, where_option
from sweep.reports.options import RUN, bring_run, registered_only
from sweep.reports.output import console
from sweep.streams import echo

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    Parts: TypeAlias = Sequence[str | RenderableType]
    """What is shown, one under the other; a text is a line."""

#: Seconds between two looks at a run; and, where a look takes long, how many times as long that is.
PAUSE, EASE = 2.0, 4.0


@click.command(
    epilog=examples(
        "sweep status runs/demo            # once",
        "sweep status runs/demo --watch    # again and again, until Ctrl-C",
        "sweep status runs/demo --where \"method == 'DEAT'\"",
    )
)
@click.argument("directory", metavar="DIR", type=RUN)
@click.option("--watch", is_flag=True, help="Keep showing it, until Ctrl-C.")
@where_option
def status(directory: Path, watch: bool, where: tuple[str, ...]) -> None:
    """Show how far a run is, also while it is running."""
    screen = console()
    if watch:
        follow(lambda: standing(directory, where, wait=True), screen)
    else:
        _print(screen, standing(directory, where))


def standing(directory: Path, where: Sequence[str] = (), *, wait: bool = False) -> Parts:
    """Where a run stands, from its records and from who holds it.

    Args:
        directory: of the run.
        where: expressions; only the trials are told of for which all of them hold.
        wait: whether a run without records, which a launch may be about to begin, is waited for and not refused.

    Raises:
        UserError: it is no run, or an expression is none.
    """
    from analysis.frames.failed import failed_line
    from analysis.frames.log import read_log, read_records
    from analysis.frames.replayed import replay_line, surrogate_of
    from sweep.progress import Progress, left_out_lines
    from sweep.reports.follow import awaited
    from sweep.run.directory import is_live, is_starting, live_shares
    from sweep.run.requests import asked_line
    from sweep.run.screen import table
    from sweep.storage.asked import brought
    from sweep.storage.cache import typed
    from trainers.fields import plural
    from trainers.record import has_records
    from trainers.record.linked import REGISTRATION_FILE

    bring_run(directory, new=wait)
    brought(directory)
    if is_starting(directory):
        return ["a launch is starting: its trials are being planned, or Ray starts; none has begun yet"]
    if not wait and (directory / REGISTRATION_FILE).exists() and not has_records(directory):
        return [registered_only(directory)]
    if wait and (waiting := awaited(directory)) is not None:
        return [waiting]
    progress = Progress.of(read_records(directory, replays=True))
    version = surrogate_of(directory)
    shares = live_shares(directory)
    live = shares or is_live(directory)
    running = f"running: {plural(len(shares), 'share')}" if shares else "running" if live else "no launch is running"
    others = progress.beside(progress.wanted)
    if where:
        running += f"; of {plural(progress.size, 'trial')} those that --where chooses"
        chosen = trials_where(where, read_log(directory, replays=True))
        progress, others = progress.among(chosen), [trial for trial in others if trial.id in chosen]
    why = failed_line(progress.failed(live), typed(directory))
    lines = [asked_line(directory), why, *left_out_lines(progress.left_out())]
    if others:
        more = plural(len(others), "more trial")
        lines.append(f"{more}, which the last launch did not want; results and claims count them too")
    return [*([] if version is None else [replay_line(version)]), running, table(progress, live), *filter(None, lines)]


def follow(look: Callable[[], Parts], screen: Console, wait: Callable[[float], None] = time.sleep) -> None:
    """Shows what a look finds, again and again, until Ctrl-C.

    A terminal shows it in one place. Elsewhere, as in a log, it is printed anew with the time, once it has changed.

    Args:
        look: at the run.
        screen: where it is shown.
        wait: so many seconds, before the next look.
    """
    gc.enable()  # which a command puts off
    with suppress(KeyboardInterrupt):
        (_in_place if screen.is_terminal else _one_after_another)(_looks(look, wait), screen)


def _looks(look: Callable[[], Parts], wait: Callable[[float], None]) -> Iterator[Parts]:
    """What each look finds, the first raising what it raises: at a later one a store may be away for a while."""
    from trainers.errors import UserError

    seen = False
    while True:
        began = time.monotonic()
        try:
            found = look()
        except UserError as error:
            if not seen:
                raise
            found = [f"cannot be read just now: {error}"]
        yield found
        seen = True
        wait(max(PAUSE, EASE * (time.monotonic() - began)))


def _in_place(looks: Iterator[Parts], screen: Console) -> None:
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    from trainers.visible import hanging

    with Live(console=screen, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
        for parts in looks:
            shown = [Text(hanging(part, screen.width)) if isinstance(part, str) else part for part in parts]
            live.update(Group(*shown), refresh=True)


def _one_after_another(looks: Iterator[Parts], screen: Console) -> None:
    before = ""
    for parts in looks:
        with screen.capture() as said:
            _print(screen, parts)
        if (text := said.get()) != before:
            echo(f"{time.strftime('%F %T')}\n{text}")
            before = text


def _print(screen: Console, parts: Parts) -> None:
    from sweep.run.screen import say

    for part in parts:
        say(screen, part) if isinstance(part, str) else screen.print(part)
