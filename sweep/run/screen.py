"""What a person sees while a sweep runs: a live table, or plain lines where there is no terminal."""

from __future__ import annotations

import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from itertools import chain
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from analysis.frames.conditions import is_condition
from sweep.narrow import WIDEST, Fitted, fitted, width_is_set
from sweep.progress import TO_COME, Progress, TrialProgress
from sweep.progress import Live as Launched
from sweep.run.trial import Message
from trainers.fields import plural
from trainers.visible import hanging, in_line

#: Seconds between two drawings of the live table.
REFRESH = 0.5
#: Running trials shown at most.
ROWS = 20
#: Characters of a reason in one line; the records have it whole.
REASON = 500
#: Rows of a table that is printed at once.
LONG = 500


def print_whole(console: Console, shown: RenderableType) -> None:
    """Prints tables so that no name or number is cut off: in a terminal's width, elsewhere as wide as they are.

    A pipe is as wide as COLUMNS says, if it does.
    """
    if _is_bounded(console):
        console.print(fitted(shown))
        return
    if isinstance(shown, Group):
        for part in shown.renderables:
            print_whole(console, part)
        return
    if isinstance(shown, Table) and shown.row_count >= LONG and (text := _long(console, shown)):
        console.file.write(text)
        return
    width = console.width
    if isinstance(shown, Table):
        needed = Measurement.get(console, console.options.update(width=WIDEST), shown).maximum
        console.width = max(width, needed)
    console.print(shown)
    console.width = width


def _is_bounded(console: Console) -> bool:
    return console.is_terminal or (console.file is sys.stdout and width_is_set())


def _long(console: Console, table: Table) -> str:
    """A table as rich prints it, which takes a millisecond a row: rich prints one row, in whose place all are put.

    Nothing where cells are not plain words, or that one row does not come out as expected.
    """
    columns = [list(column.cells) for column in table.columns]
    if not all(isinstance(cell, str) and cell.isascii() and _is_plain(cell) for cell in chain(*columns)):
        return ""
    widest = [max(map(str, cells), key=len) for cells in columns]
    short = copy(table)
    short.columns, short.rows = [column.copy() for column in table.columns], []
    short.add_row(*widest)
    with console.capture() as printed:
        print_whole(console, short)
    box = table.box.substitute(console.options) if table.box else None
    left, between, right = (box.mid_left, box.mid_vertical, box.mid_right) if box else ("", "", "")
    sides = ["<" if column.justify == "left" else ">" for column in table.columns]
    widths = [max(len(str(column.header)), len(cell)) for column, cell in zip(table.columns, widest, strict=True)]
    row = left + between.join(f" {{:{side}{width}}} " for side, width in zip(sides, widths, strict=True)) + right
    before, own, after = printed.get().partition(row.format(*widest))
    return before + "\n".join(row.format(*cells) for cells in zip(*columns, strict=True)) + after if own else ""


def _is_plain(cell: str) -> bool:
    return cell.isprintable() and "[" not in cell


def say(console: Console, text: str) -> None:
    """Prints plain text: in a terminal's width, broken between its words, what goes on indented; elsewhere as it is."""
    if _is_bounded(console):
        text = "\n".join(hanging(line, console.width) for line in text.split("\n"))
    console.print(text, markup=False, highlight=False, soft_wrap=True)


@contextmanager
def heard(console: Console) -> Iterator[None]:
    """A block in which what this process waits for, such as a disk or a store, is a line on the screen.

    Else it would be one on stderr, which a live table overwrites and Ray's part of a launch does not show.
    """
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: say(console, record.getMessage())  # type: ignore[method-assign]
    loggers = [logging.getLogger(name) for name in ("trainers", "sweep")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


def duration(seconds: float | None) -> str:
    """Seconds as a person says them.

    >>> duration(3725), duration(42), duration(None)
    ('1 h 02 min', '42 s', 'unknown')
    """
    if seconds is None:
        return "unknown"
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def percent(fraction: float | None) -> str:
    """A fraction as percent; `-` where it was not measured."""
    return "-" if fraction is None else f"{100 * fraction:.1f} %"


def counts_line(progress: Progress, live: Launched) -> str:
    """Trials by outcome: `54 trials: 12 completed, 2 running, 40 waiting`."""
    counts = ", ".join(
        f"{number} {outcome.replace('never_started', 'never started')}"
        for outcome, number in progress.counts(live).items()
    )
    return f"{plural(progress.size, 'trial')}: {counts}" if counts else plural(0, "trial")


def rate_line(progress: Progress) -> str:
    """How fast it goes and how long it will take; where it is paused, only that."""
    counts = progress.counts()
    if counts.get("paused") and not counts.get("running"):
        return "nothing runs while it is paused"
    rate = progress.epochs_per_second()
    per_minute = "unknown" if rate is None else f"{60 * rate:.1f} epochs a minute"
    return f"rate {per_minute}, time left {duration(progress.seconds_left())}"


def best_line(progress: Progress) -> str:
    """The best point so far by the sweep's own metric, of those of which the most seeds have completed.

    Nothing before two points have: a sweep of one has no best. Nor where they were measured differently, on other
    images or by another attack: the summary compares within each condition alone.
    """
    metric, by_point = progress.chosen_by.get("metric", ""), defaultdict(list)
    conditions = set()
    for trial in progress.current():
        if trial.outcome == "completed" and (value := trial.last.get(metric)) is not None:
            by_point[trial.where()].append(value)
            conditions.add(str({key: trial.point[key] for key in sorted(filter(is_condition, trial.point))}))
    if len(by_point) < 2 or len(conditions) > 1:
        return ""
    seeds = max(map(len, by_point.values()))
    means = {where: sum(values) / seeds for where, values in by_point.items() if len(values) == seeds}
    best = (min if progress.chosen_by.get("mode") == "min" else max)(means, key=means.__getitem__)
    value = f"{means[best]:.4g}" if metric.endswith("loss") else percent(means[best])
    return f"best so far: {metric.replace('_', ' ')} {value}, {plural(seeds, 'seed')}, {best}"


def table(progress: Progress, live: Launched = True, best: str | None = None) -> RenderableType:
    """Counts, running trials and the time left; of live shares the counts and time left of each.

    Args:
        progress: of the run.
        live: which launches are.
        best: the line of the best point; none: worked out anew, which of many trials takes its time.
    """
    running = progress.running(live)
    rows = Table(box=None, pad_edge=False)
    for name in ("trial", "epoch", "val robust", "test robust", "point"):
        rows.add_column(name, justify="left" if name in ("trial", "point") else "right")
    for trial in running[:ROWS]:
        last = trial.last
        rows.add_row(
            trial.id,
            f"{trial.epoch}/{trial.epochs_wanted}",
            percent(last.get("val_robust")),
            percent(last.get("test_robust")),
            trial.label(),
        )
    parts: list[RenderableType] = [Text(counts_line(progress, live))]
    if running:
        parts.append(Fitted(rows, share=False))
    if len(running) > ROWS:
        parts.append(Text(f"and {len(running) - ROWS} more"))
    for share in () if isinstance(live, bool) else live:
        one = progress.of_share(share)
        parts.append(Text(f"share {share}: {counts_line(one, live=True)}; {rate_line(one)}"))
    if live and (best := best_line(progress) if best is None else best):
        parts.append(Text(best))
    if live is True and progress.paces:
        parts.append(Text(rate_line(progress)))
    return Group(*parts)


def event_line(progress: Progress, trial: TrialProgress) -> str:
    """One ended trial in one line."""
    counts = progress.counts()
    done = progress.size - sum(counts.get(state, 0) for state in TO_COME)
    last = trial.last
    robust = f"val robust {percent(last.get('val_robust'))}, test robust {percent(last.get('test_robust'))}"
    what = robust if trial.outcome == "completed" else in_line(trial.reason, REASON)
    return f"[{done}/{progress.size}] {trial.outcome} {trial.id} {trial.label()}: {what}, {duration(trial.seconds)}"


def resume_line(trial: TrialProgress, message: Message) -> str:
    """That a trial's newest checkpoint, or a shorter trial's, was passed over, why, and what is lost with it."""
    kept = message["epoch"]
    lost = max(trial.seen, default=0) - kept
    again = f", {plural(lost, 'epoch')} trained again" if lost > 0 else ""
    of = f" of the shorter trial {shorter}" if (shorter := message.get("from_trial")) else ""
    how = f"goes on from epoch {kept}{of}" if kept else "begins afresh"
    return f"trial {trial.id} {how}{again}: {message['reason']}"


def begun_again_line(trial: TrialProgress, start: Message) -> str:
    """That a trial's process died, how, and what becomes of the trial, which has started once more."""
    what = "goes on from its newest checkpoint" if trial.epoch else "begins it anew"
    how = f" ({in_line(why, REASON)})" if (why := start.get("died")) else ""
    when = f"in epoch {trial.epoch + 1}" if trial.epoch < trial.epochs_wanted else "after its last epoch"
    return f"trial {trial.id}: its process died {when}{how}; another {what}"


class Screen:
    """Shows a run's progress on a console."""

    def __init__(self, console: Console, progress: Progress) -> None:
        """Shows nothing until it is entered."""
        self._progress, self._console = progress, console
        live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False, redirect_stderr=False)
        self._live = live if console.is_terminal else None
        self._drawn = 0.0
        self._best: str | None = None
        """The line of the best point; none: it may have changed since it was worked out."""
        self._reasons: set[str] = set()
        self._begun: set[str] = set()
        """Ids of trials that have started and not ended."""

    def __enter__(self) -> Self:
        """Starts the live table."""
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Gives the terminal back."""
        if self._live:
            self._live.stop()

    def show(self, trial: TrialProgress, message: Message) -> None:
        """Takes note of a message: an ended trial is a line; a slower engine is one, once; and each checkpoint that was
        passed over, and each death of a process that is not its trial's end."""
        if message["record"] == "start" and trial.id in self._begun:
            say(self._console, begun_again_line(trial, message))
        if message["record"] in ("start", "outcome"):
            (self._begun.add if message["record"] == "start" else self._begun.discard)(trial.id)
        if (why := message.get("engine_reason")) and why not in self._reasons:
            self._reasons.add(why)
            said = f"trial {trial.id} runs with engine {message['engine']}: {why} (others that do so are not named)"
            say(self._console, said)
        if message["record"] == "resume" and message["reason"]:
            say(self._console, resume_line(trial, message))
        if message["record"] == "outcome":
            self._best = None
            say(self._console, event_line(self._progress, trial))
        self.refresh()

    def refresh(self) -> None:
        """Draws the table anew if its time has come."""
        if self._live and time.monotonic() - self._drawn > REFRESH:
            if self._best is None:
                self._best = best_line(self._progress)
            self._live.update(table(self._progress, best=self._best), refresh=True)
            self._drawn = time.monotonic()
