"""The commands that show rows: results, images. Heavy imports stand inside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.filters import Filter, row_options
from sweep.reports.options import FORMATS, TRIAL, directory_argument, format_option, output_option
from sweep.reports.output import chosen_format, console, summary, write_frame

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console, RenderableType

    from analysis.frames.log import Log


@click.command(
    epilog=examples(
        "sweep results runs/demo",
        "sweep results runs/demo --where \"outcome == 'failed'\" --columns seed,reason",
        'sweep results runs/demo --where "batch_size <= 32" --sort -last_test_robust',
        "sweep results runs/demo --epochs --output epochs.parquet",
        "sweep results runs/demo --summary",
    )
)
@directory_argument
@click.option(
    "--summary",
    "summed",
    is_flag=True,
    help="A summary in place of the rows: what they say, and which hyperparameter matters.",
)
@click.option("--epochs", is_flag=True, help="One row per epoch, not one per trial.")
@click.option("--evaluations", is_flag=True, help="One row per attack that `sweep evaluate` ran.")
@click.option("--checks", is_flag=True, help="One row per check that `sweep evaluate --checks` ran.")
@row_options
@format_option(FORMATS)
@output_option
def results(
    directory: Path,
    summed: bool,
    epochs: bool,
    evaluations: bool,
    checks: bool,
    form: str | None,
    output: Path | None,
    **rows: Any,
) -> None:
    """Show the trials' numbers, or write them as a file."""
    from analysis.frames import arithmetic, trials
    from analysis.frames.log import read_log
    from analysis.frames.overfitting import overfitting_line, with_overfitting
    from analysis.frames.replayed import refuse_replay, replay_line, surrogate_of
    from analysis.tables.settings import with_settings
    from trainers.errors import UserError

    chosen = {"--summary": summed, "--epochs": epochs, "--evaluations": evaluations, "--checks": checks}
    if len(asked := [option for option, wanted in chosen.items() if wanted]) > 1:
        raise UserError(f"{asked[0]}: and {asked[1]} are two tables; leave one of the two out")
    replayed = surrogate_of(directory)
    if replayed is not None and (asked and not epochs):
        refuse_replay(directory)
    if replayed is not None and rows["columns"] is not None:
        rows["columns"] += ",surrogate"  # whatever is asked for, a file says that its numbers are drawn
    form, asked_rows = chosen_format(form, output, FORMATS), Filter(**rows)
    log = read_log(directory, replays=replayed is not None)
    if checks:
        _print_checks(directory, log, form, output, asked_rows)
        return
    if summed:
        if asked_rows:
            raise UserError("--summary: is of all trials; leave --where, --sort and --columns out")
        _print_summary(log, directory, form, output)
        return
    frame = _evaluations(log) if evaluations else trials.epochs_of(log) if epochs else trials.trials_of(log)
    every = with_settings(frame, log)
    if replayed is not None:
        every = every.assign(surrogate=replayed)
    elif not (evaluations or epochs):
        every = with_overfitting(every, log)
    shown = asked_rows.rows(every, log)
    if form != "table":
        write_frame(asked_rows.chosen(shown), form, output)
        return
    from analysis.tables import trials as tables  # and with it the estimates, for which a file need not wait
    from analysis.tables.evaluations import evaluations_table
    from sweep.run.screen import print_whole, say
    from sweep.storage.cache import typed

    screen = console(output)
    if replayed is not None:
        say(screen, replay_line(replayed))
    if evaluations and every.empty:
        say(screen, f"no evaluations yet; sweep evaluate {typed(directory)} makes them")
        return
    trials_or = partial(evaluations_table, some=True) if evaluations else tables.trials_table
    table = tables.epochs_table if epochs else partial(trials_or, of=every)
    _print_asked(screen, asked_rows, shown, len(every), table)
    if not (asked_rows or epochs or evaluations or replayed):
        for line in filter(None, (arithmetic.warning(every), overfitting_line(every))):
            say(screen, line)
        print_whole(screen, summary(log, directory))


def _print_asked(
    screen: Console, asked: Filter, rows: pd.DataFrame, of: int, table: Callable[[pd.DataFrame], RenderableType]
) -> None:
    """The rows that are asked for, and how many they are of how many."""
    from analysis.tables.columns import columns_table
    from sweep.run.screen import print_whole, say

    if asked.columns is not None:
        print_whole(screen, columns_table(asked.chosen(rows)))
    elif len(rows) or not asked:
        print_whole(screen, table(rows))
    if asked:
        say(screen, f"{len(rows)} of {of} rows" if asked.where else f"{of} rows")


def _print_summary(log: Log, directory: Path, form: str, output: Path | None) -> None:
    """What a launch prints at its end, and the importance of each hyperparameter, where two vary."""
    from sweep.reports.importance import importance_of
    from sweep.run.screen import print_whole
    from trainers.errors import UserError

    if form != "table":
        raise UserError(f"--summary: is text, and --format is {form}; leave one of the two out")
    screen = console(output)
    print_whole(screen, summary(log, directory))
    if (matters := importance_of(log)) is not None:
        print_whole(screen, matters)


def _evaluations(log: Log) -> pd.DataFrame:
    from analysis.estimates.images import with_curve
    from analysis.frames.evaluations import evaluations_of
    from analysis.frames.images import images_of

    return with_curve(evaluations_of(log), images_of(log))


def _print_checks(directory: Path, log: Log, form: str, output: Path | None, asked: Filter) -> None:
    """The checks of trained networks, each with its verdict."""
    from analysis.estimates.masking import judged
    from analysis.frames.checks import checks_of
    from analysis.tables.settings import with_settings
    from sweep.run.screen import print_whole, say
    from sweep.storage.cache import typed

    frame = checks_of(log)
    if form != "table":
        write_frame(asked.chosen(asked.rows(judged(with_settings(frame, log)), log)), form, output)
    elif asked and len(frame):
        from analysis.tables.checks import checks_view

        rows = asked.rows(judged(with_settings(frame, log)), log)
        _print_asked(console(output), asked, rows, len(frame), lambda some: checks_view(frame.loc[some.index]))
    elif frame.empty:
        say(console(output), f"no checks yet; sweep evaluate {typed(directory)} --checks makes them")
    else:
        from analysis.tables.checks import checks_view

        print_whole(console(output), checks_view(frame))


@click.command(
    epilog=examples(
        "sweep images runs/demo                           # worst classes",
        "sweep images runs/demo 3f2a --by-class",
        "sweep images runs/demo --where \"attack == 'pgd'\" --sort worst_accuracy",
        "sweep images runs/demo --bits --output bits.csv",
    )
)
@directory_argument
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1, type=TRIAL)
@click.option("--by-class", is_flag=True, help="The accuracy of each class: one row per evaluation and class.")
@click.option("--agreement", is_flag=True, help="On how many images PGD and AutoAttack agree: one row per network.")
@click.option("--bits", is_flag=True, help="Each image's result, for a file: one row per evaluation.")
@row_options
@format_option(FORMATS)
@output_option
def images(directory: Path, trial_ids: tuple[str, ...], form: str | None, output: Path | None, **asked: Any) -> None:
    """Show results image by image: the worst classes, and where PGD and AutoAttack agree.

    They are recorded by `sweep evaluate`, and at the end of training. TRIAL_ID names trials; the first characters of an
    id are enough. Without any, all are shown.
    --where chooses among the evaluations; --sort and --columns are of what is made of them.
    """
    from analysis.frames.evaluations import evaluations_of
    from analysis.frames.images import classes_of, images_of
    from analysis.frames.log import read_log
    from analysis.tables import images as tables
    from analysis.tables.columns import columns_table
    from analysis.tables.settings import with_settings
    from sweep.run.screen import print_whole, say
    from sweep.storage.cache import shown, typed
    from trainers.record import only_trial

    rows_asked = Filter(**{name: asked.pop(name) for name in ("where", "sort", "columns")})
    view, log = _view(asked), read_log(directory)
    form = chosen_format(form, output, FORMATS)
    frame, evaluations, classes = images_of(log), evaluations_of(log), classes_of(log)
    if trial_ids:
        known = [*frame["trial_id"], *evaluations["trial_id"]]
        chosen = {only_trial(shown(directory), known, beginning) for beginning in trial_ids}
        frame, evaluations = (rows[rows["trial_id"].isin(chosen)] for rows in (frame, evaluations))
    frame = frame.loc[Filter(rows_asked.where).rows(with_settings(frame, log), log).index]
    ordered = Filter((), rows_asked.sort, rows_asked.columns)
    if form != "table" or ordered:
        rows = ordered.rows(with_settings(tables.rows_of(view, frame, classes, text=form != "parquet"), log), log)
        if form != "table":
            write_frame(ordered.chosen(rows), form, output)
        else:
            _print_asked(console(output), ordered, rows, len(rows), columns_table)
        return
    screen = console(output)
    for table in tables.tables_of(view, frame, classes):
        print_whole(screen, table)
    for line in tables.notes(view, typed(directory), evaluations, frame, classes):
        say(screen, line)


def _view(views: Mapping[str, bool]) -> str:
    """The one table that is asked for; without any, `worst`."""
    from trainers.errors import UserError

    asked = [name for name, wanted in views.items() if wanted]
    if len(asked) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in asked[:2])
        raise UserError(f"{first}: and {second} are two tables; leave one of the two out")
    return asked[0] if asked else "worst"
