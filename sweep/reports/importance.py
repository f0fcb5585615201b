"""The command `sweep importance`. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.options import FORMATS, directory_argument, format_option, output_option
from sweep.reports.output import chosen_format, console, metric_of, write_frame
from sweep.streams import complain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from analysis.frames.log import Log

#: Validation metrics, by which a sweep chooses; those of the test set are reported where they are asked for.
_METRICS = tuple(
    f"{which}_{split}_{metric}"
    for split in ("val", "test")
    for which in ("last", "best")
    for metric in ("robust", "clean", "robust_loss", "clean_loss")
)


@click.command(
    epilog=examples(
        "sweep importance runs/demo",
        "sweep importance runs/demo --within method --metric last_test_robust",
        "sweep importance runs/demo --by ped-anova --output importance.csv",
    )
)
@directory_argument
@click.option(
    "--by",
    type=click.Choice(("fanova", "ped-anova")),
    default="fanova",
    help="What is measured. fanova: the share of the variance that a hyperparameter explains. ped-anova: how much the "
    "best configurations differ in it from all that were run [default: fanova].",
)
@click.option(
    "--metric",
    type=click.Choice((*_METRICS, "seconds")),
    help="What the hyperparameters matter for [default: the metric that the sweep chooses by].",
)
@click.option(
    "--within",
    metavar="AXIS",
    multiple=True,
    help="Hyperparameter each value of which has a table of its own. May be given several times.",
)
@format_option(FORMATS)
@output_option
def importance(
    directory: Path, by: str, metric: str | None, within: tuple[str, ...], form: str | None, output: Path | None
) -> None:
    """Show how much each hyperparameter matters, with an interval over seeds.

    First over all completed trials, where the method counts as a hyperparameter too; then within each method that has
    hyperparameters of its own.
    """
    from analysis.estimates.importance import importance_frame, importances
    from analysis.frames.log import read_log
    from analysis.frames.trials import trials_of
    from analysis.tables.importance import importance_view
    from sweep.run.screen import print_whole
    from sweep.search.optuna_importance import optuna_importance

    form, log = chosen_format(form, output, FORMATS), read_log(directory)
    metric = metric or f"last_{metric_of(log).get('metric', 'val_robust')}"
    asked: dict[str, Any] = {"by": by.replace("-", "_"), "within": within}
    found = importances(trials_of(log), optuna_importance, metric, **asked)
    if form == "table":
        print_whole(console(output), importance_view(found))
        return
    for one in found:
        if one.reason:
            complain(f"{one.name}: no importance: {one.reason}")
    write_frame(importance_frame(found), form, output)


def importance_of(log: Log) -> RenderableType | None:
    """The importance of each hyperparameter for what the sweep chooses by; None: fewer than two vary."""
    from analysis.estimates.importance import importances
    from analysis.frames.trials import trials_of
    from analysis.tables.importance import importance_view
    from sweep.search.optuna_importance import optuna_importance
    from trainers.errors import UserError

    metric = f"last_{metric_of(log).get('metric', 'val_robust')}"
    try:
        return importance_view(importances(trials_of(log), optuna_importance, metric))
    except UserError:
        return None
