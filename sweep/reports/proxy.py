"""The command `sweep proxy`. Heavy imports stand inside it."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.group import examples
from sweep.reports.options import FORMATS, directory_argument, format_option, output_option
from sweep.reports.output import chosen_format, console, metric_of, write_frame


@click.command(epilog=examples("sweep proxy runs/demo", "sweep proxy runs/demo --by batch_size --output proxy.csv"))
@directory_argument
@click.option(
    "--by",
    metavar="KEY",
    multiple=True,
    help="Hyperparameter each value of which has a table of its own, as each grid value of the config has.",
)
@format_option(FORMATS)
@output_option
def proxy(directory: Path, by: tuple[str, ...], form: str | None, output: Path | None) -> None:
    """Show whether short runs rank the configurations as full ones do.

    A short run is a trial at an earlier epoch, where the sweep's metric was measured, or a trial that differs from
    another only in epochs, attack.steps or data.train_per_class. Shown are the rank correlation with full runs, its
    interval over seeds, and how much accuracy is lost by choosing from short runs.
    """
    from analysis.estimates.proxies import proxies, strata_axes
    from analysis.frames.log import read_log
    from analysis.frames.pruned import pruned_line
    from analysis.frames.strata import grid_axes
    from analysis.frames.trials import axes, epochs_of, trials_of
    from sweep.run.screen import print_whole, say
    from trainers.errors import UserError, suggestion

    form, log = chosen_format(form, output, FORMATS), read_log(directory)
    trials, chosen_by = trials_of(log), metric_of(log)
    for key in by:
        if key not in axes(trials):
            raise UserError(f"--by {key}: must be an axis of the sweep; {suggestion(key, axes(trials))}")
    own = [key for key in strata_axes(trials, grid_axes(log)) if key not in by]
    rows = proxies(trials, epochs_of(log), **chosen_by, by=[*own, *by])
    if form != "table":
        write_frame(rows, form, output)
        return
    metric = chosen_by.get("metric", "val_robust")
    if rows.empty:
        lacking = (
            f"no short runs to compare with full ones: no whole trial has {metric} before its last epoch (set "
            "trial.evaluation.every=1), and none differs from another in epochs, attack.steps or data.train_per_class"
        )
        say(console(output), "\n".join(filter(None, [lacking, pruned_line(trials)])))
        return
    from analysis.tables.proxies import proxies_view

    print_whole(console(output), proxies_view(rows, trials, metric))
