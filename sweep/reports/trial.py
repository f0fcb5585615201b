"""The commands that show one trial, or two beside each other: show, compare. Heavy imports stand inside them."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.group import examples
from sweep.reports.options import TRIAL, directory_argument
from sweep.reports.output import console


@click.command(
    epilog=examples(
        "sweep show runs/demo 3f2a                 # the first characters of an id",
        "sweep show runs/demo 3f2a | less",
    )
)
@directory_argument
@click.argument("trial_id", type=TRIAL)
def show(directory: Path, trial_id: str) -> None:
    """Show one trial: its config, where and how it ran, its curve and its log. A beginning of its id is enough."""
    from analysis.frames.log import read_log
    from analysis.frames.replayed import replay_line, surrogate_of
    from analysis.tables import trials as views
    from sweep.run.directory import log_path
    from sweep.run.screen import print_whole, say
    from sweep.storage.cache import shown
    from trainers.record import only_trial

    screen, log = console(), read_log(directory, replays=True)
    if (version := surrogate_of(directory)) is not None:
        say(screen, replay_line(version))
    name = only_trial(shown(directory), (one["trial_id"] for one in log if one["record"] == "trial"), trial_id)
    print_whole(screen, views.trial_view(log, shown(directory), name))
    path = log_path(directory, name)
    say(screen, f"log: {path}" if path.exists() else f"log: none; a trial that raises an error leaves one, {path}")


@click.command(
    epilog=examples(
        "sweep compare runs/demo 3f2a 90bc         # what differs, curves, accuracies",
        'sweep results runs/demo --where "seed == 0" --columns trial_id,method',
    )
)
@directory_argument
@click.argument("one", metavar="A", type=TRIAL)
@click.argument("other", metavar="B", type=TRIAL)
def compare(directory: Path, one: str, other: str) -> None:
    """Set two trials beside each other.

    What differs in their configs, their curves and accuracies, and on how many images they agree. A and B are
    beginnings of trials' ids. It is one training each: whether two methods differ, `sweep methods` says.
    """
    from analysis.frames.history import History, TrialHistory
    from analysis.frames.log import read_log
    from analysis.frames.trials import trials_of
    from analysis.tables.comparison import comparison_view
    from sweep.run.screen import print_whole
    from sweep.storage.cache import shown
    from trainers.errors import UserError
    from trainers.record import only_trial

    log = read_log(directory)
    known = list(trials_of(log)["trial_id"])
    names = [only_trial(shown(directory), known, beginning) for beginning in (one, other)]
    if names[0] == names[1]:
        raise UserError(f"compare: A and B are both trial {names[0]}; give two trials")
    history: History[TrialHistory] = History.of(log)
    print_whole(console(), comparison_view(log, *(history.trials[name] for name in names)))
