"""Where the answers of the commands that read runs go: the terminal, or a file in the format asked for."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.streams import echo

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType

    from analysis.frames.log import Log

#: The ending of --output that means a format, where it is not the format's name.
_ENDINGS = {"table": "txt", "markdown": "md"}


def chosen_format(form: str | None, output: Path | None, formats: Sequence[str]) -> str:
    """The format that is asked for: by name, else by the ending of the file, else the table.

    Raises:
        UserError: the ending means none of the formats, or another one than the name.
    """
    from trainers.errors import UserError

    ending = "" if output is None else output.suffix.removeprefix(".").lower()
    meant = {_ENDINGS.get(name, name): name for name in formats}
    if form is None and ending and ending not in meant:
        known = ", ".join(f".{name}" for name in meant)
        raise UserError(f"--output {output}: must end in one of {known}, got .{ending}; or name the --format")
    if form is not None and meant.get(ending, form) != form:
        raise UserError(f"--output {output}: ends in .{ending} and --format is {form}; leave one of the two out")
    return form or meant.get(ending, "table")


def write_frame(rows: pd.DataFrame, form: str, output: Path | None) -> None:
    """Writes a frame as csv, json or parquet to a file, of which stderr has the path, or to stdout."""
    from analysis.tables.export import csv_text, json_text, write_parquet
    from trainers.errors import UserError

    if form == "parquet":
        if output is None:
            raise UserError("--output: parquet is binary and is not written to a terminal; give a file")
        write_parquet(rows, opened(output))
        echo(output, err=True)
        return
    write_text(csv_text(rows) if form == "csv" else json_text(rows), output, exact=form == "csv")


def write_text(text: str, output: Path | None, *, exact: bool = False) -> None:
    """Writes a text to a file, of which stderr has the path, or to stdout.

    Args:
        text: for a person, to whom it is made visible.
        output: the file; None: stdout.
        exact: for a program, which reads what is there; a terminal gets it visibly all the same.
    """
    from trainers.visible import visible

    text = text if exact else visible(text)
    if output is not None:
        opened(output).write_text(text, encoding="utf-8")
        echo(output, err=True)
    elif sys.stdout.isatty():
        echo(text, nl=False)
    else:
        click.echo(text, nl=False, color=True)


def opened(output: Path) -> Path:
    """The path, if it can be written; its folder is made, and none above that, whose name may be a slip.

    Raises:
        UserError: it cannot.
    """
    from trainers.errors import UserError

    try:
        output.parent.mkdir(exist_ok=True)
        os.close(os.open(output, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o666))  # of a pipe, no wait
    except OSError as error:
        raise UserError(f"--output {output}: cannot be written: {error.strerror}; give a path that can") from None
    return output


def console(output: Path | None = None) -> Console:
    """A console bound to today's stdout, or to a file, of which stderr has the path.

    It is wide where nobody sets its width: in a pipe, COLUMNS does.
    """
    from sweep.narrow import width_is_set
    from sweep.plain_console import PlainConsole

    file = sys.stdout if output is None else opened(output).open("w", encoding="utf-8")
    if output is not None:
        echo(output, err=True)
    return PlainConsole(file, None if file.isatty() or (output is None and width_is_set()) else 200)


def summary(log: Log, directory: Path) -> RenderableType:
    """What the trials say, the best cells chosen by the sweep's own metric; of several objectives the front; and why
    trials failed."""
    from rich.console import Group
    from rich.text import Text

    from analysis.claims import registration
    from analysis.claims.study import study_of
    from analysis.frames.failed import failed_line
    from analysis.frames.pareto import objectives_of
    from analysis.frames.strata import grid_axes
    from analysis.tables import trials as tables
    from sweep.storage.cache import typed

    study = study_of(log, registration.read(directory))
    failed = study.trials[study.trials["outcome"] == "failed"]
    why = failed_line(dict(zip(failed["trial_id"], failed["reason"], strict=True)), typed(directory))
    said = Group(tables.summary(study, **metric_of(log)), *map(Text, filter(None, [why])))
    if not (objectives := objectives_of(log)):
        return said
    from analysis.estimates.pareto import front
    from analysis.tables.pareto import front_lines

    grid = grid_axes(log)
    lines = front_lines(study.trials, front(study.trials, objectives, grid=grid), objectives, grid)
    return Group(said, *map(Text, ["", *lines]))


def metric_of_run(directory: Path) -> Mapping[str, Any]:
    """metric and mode of the run's last launch."""
    from analysis.frames.log import read_log

    return metric_of(read_log(directory))


def metric_of(log: Log) -> Mapping[str, Any]:
    """metric and mode of the last launch in a run's records."""
    from sweep.progress import Progress

    return Progress.of(record for record in log if record["record"] == "launch").chosen_by
