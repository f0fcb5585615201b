"""The commands that show rows: results, images, show. Heavy imports stand inside them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweep.reports.options import FORMATS, TRIAL, directory_argument, format_option, output_option
from sweep.reports.output import chosen_format, console, summary, write_frame

if TYPE_CHECKING:
    import pandas as pd

    from analysis.frames.log import Log


@click.command()
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
) -> None:
    """Show the trials' numbers, or write them as a file."""
    from analysis.frames import arithmetic, trials
    from analysis.frames.log import read_log
    from analysis.frames.overfitting import overfitting_line, with_overfitting
    from analysis.tables.settings import with_settings
    from trainers.errors import UserError

    chosen = {"--summary": summed, "--epochs": epochs, "--evaluations": evaluations, "--checks": checks}
    if len(asked := [option for option, wanted in chosen.items() if wanted]) > 1:
        raise UserError(f"{asked[0]}: and {asked[1]} are two tables; leave one of the two out")
    form, log = chosen_format(form, output, FORMATS), read_log(directory)
    if checks:
        _print_checks(directory, log, form, output)
        return
    if summed:
        _print_summary(log, form, output)
        return
    frame = _evaluations(log) if evaluations else trials.epochs_of(log) if epochs else trials.trials_of(log)
    rows = with_settings(frame, log)
    if not (evaluations or epochs):
        rows = with_overfitting(rows, log)
    if form != "table":
        write_frame(rows, form, output)
        return
    from analysis.tables import trials as tables  # and with it the estimates, for which a file need not wait
    from analysis.tables.evaluations import evaluations_table
    from sweep.run.screen import print_whole, say

    screen = console(output)
    if epochs:
        print_whole(screen, tables.epochs_table(rows))
        return
    if evaluations:
        if rows.empty:
            say(screen, f"no evaluations yet; sweep evaluate {directory} makes them")
        else:
            print_whole(screen, evaluations_table(rows))
        return
    print_whole(screen, tables.trials_table(rows))
    for line in filter(None, (arithmetic.warning(rows), overfitting_line(rows))):
        say(screen, line)
    print_whole(screen, summary(log))


def _print_summary(log: Log, form: str, output: Path | None) -> None:
    """What a launch prints at its end, and the importance of each hyperparameter, where two vary."""
    from sweep.reports.importance import importance_of
    from sweep.run.screen import print_whole
    from trainers.errors import UserError

    if form != "table":
        raise UserError(f"--summary: is text, and --format is {form}; leave one of the two out")
    screen = console(output)
    print_whole(screen, summary(log))
    if (matters := importance_of(log)) is not None:
        print_whole(screen, matters)


def _evaluations(log: Log) -> pd.DataFrame:
    from analysis.estimates.images import with_curve
    from analysis.frames.evaluations import evaluations_of
    from analysis.frames.images import images_of

    return with_curve(evaluations_of(log), images_of(log))


def _print_checks(directory: Path, log: Log, form: str, output: Path | None) -> None:
    """The checks of trained networks, each with its verdict."""
    from analysis.frames.checks import checks_of
    from analysis.tables.settings import with_settings
    from sweep.run.screen import print_whole, say

    frame = checks_of(log)
    if form != "table":
        from analysis.estimates.masking import judged

        write_frame(judged(with_settings(frame, log)), form, output)
    elif frame.empty:
        say(console(output), f"no checks yet; sweep evaluate {directory} --checks makes them")
    else:
        from analysis.tables.checks import checks_view

        print_whole(console(output), checks_view(frame))


@click.command()
@directory_argument
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1, type=TRIAL)
@click.option("--by-class", is_flag=True, help="The accuracy of each class: one row per evaluation and class.")
@click.option("--agreement", is_flag=True, help="On how many images PGD and AutoAttack agree: one row per network.")
@click.option("--bits", is_flag=True, help="Each image's result, for a file: one row per evaluation.")
@format_option(FORMATS)
@output_option
def images(directory: Path, trial_ids: tuple[str, ...], form: str | None, output: Path | None, **views: bool) -> None:
    """Show results image by image: the worst classes, and where PGD and AutoAttack agree.

    They are recorded by `sweep evaluate`, and at the end of training. TRIAL_ID names trials; the first characters of an
    id are enough. Without any, all are shown.
    """
    from analysis.frames.evaluations import evaluations_of
    from analysis.frames.images import classes_of, images_of
    from analysis.frames.log import read_log
    from analysis.tables import images as tables
    from analysis.tables.settings import with_settings
    from sweep.run.screen import print_whole, say
    from trainers.record import only_trial

    view, log = _view(views), read_log(directory)
    form = chosen_format(form, output, FORMATS)
    frame, evaluations, classes = images_of(log), evaluations_of(log), classes_of(log)
    if trial_ids:
        known = [*frame["trial_id"], *evaluations["trial_id"]]
        chosen = {only_trial(directory, known, beginning) for beginning in trial_ids}
        frame, evaluations = (rows[rows["trial_id"].isin(chosen)] for rows in (frame, evaluations))
    if form != "table":
        rows = tables.rows_of(view, frame, classes, text=form != "parquet")
        write_frame(with_settings(rows, log), form, output)
        return
    screen = console(output)
    for table in tables.tables_of(view, frame, classes):
        print_whole(screen, table)
    for line in tables.notes(view, directory, evaluations, frame, classes):
        say(screen, line)


def _view(views: Mapping[str, bool]) -> str:
    """The one table that is asked for; without any, `worst`."""
    from trainers.errors import UserError

    asked = [name for name, wanted in views.items() if wanted]
    if len(asked) > 1:
        first, second = (f"--{name.replace('_', '-')}" for name in asked[:2])
        raise UserError(f"{first}: and {second} are two tables; leave one of the two out")
    return asked[0] if asked else "worst"


@click.command()
@directory_argument
@click.argument("trial_id", type=TRIAL)
def show(directory: Path, trial_id: str) -> None:
    """Show one trial: its config, where and how it ran, its curve. The first characters of its id are enough."""
    from analysis.tables import trials as views
    from sweep.run.screen import print_whole

    print_whole(console(), views.trial_view(directory, trial_id))
