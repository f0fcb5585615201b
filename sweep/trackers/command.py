"""The command `sweep sync`."""

from __future__ import annotations

from pathlib import Path

import click

from sweep.group import examples
from sweep.reports.options import directory_argument
from sweep.streams import echo


@click.command(epilog=examples("sweep sync runs/demo", "sweep sync runs/demo mlflow tensorboard"))
@directory_argument
@click.argument("names", metavar="[NAME...]", nargs=-1)
def sync(directory: Path, names: tuple[str, ...]) -> None:
    """Send trackers what they were not sent while the sweep ran, and nothing twice.

    NAME is tensorboard, mlflow, wandb or trackio, in the run's config or not [default: all of its config].
    """
    from analysis.frames.replayed import refuse_replay
    from sweep.run.directory import holders
    from sweep.storage.cache import shown, typed
    from sweep.trackers.feed import Feed, configured, lock_folder, named
    from sweep.trackers.process import why
    from trainers.errors import UserError
    from trainers.fields import plural
    from trainers.record import has_records, no_run

    if not has_records(directory):
        raise no_run(directory)
    refuse_replay(directory)
    names = names or tuple(configured(directory))
    if not names:
        raise UserError(
            f"{shown(directory)}: its config has no trackers; name one: sweep sync {typed(directory)} tensorboard"
        )
    for name in names:
        config = named(directory, name)
        if others := holders(lock_folder(directory, name)):
            raise UserError(f"{name}: is being sent to by another process ({others[0]}); wait for that")
        try:
            with Feed.opened(directory, config, "sweep sync, process") as feed:
                sent = feed.look()
        except UserError:
            raise
        except Exception as error:  # whatever a tracker's program raises
            raise UserError(f"{name}: {why(error)}; the same command sends what is missing") from None
        what = f"{plural(sent.epochs, 'epoch')} of {plural(sent.trials, 'trial')} sent" if sent.trials else "has all"
        echo(f"{name}: {what}")
