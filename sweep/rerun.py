"""The command `sweep rerun`: trials that the next launch trains anew, from their first epoch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.filters import trials_where, where_option
from sweep.reports.options import TRIAL, directory_argument
from sweep.streams import complain, echo

if TYPE_CHECKING:
    from analysis.frames.log import Log
    from sweep.progress import Progress, TrialProgress


@click.command(
    epilog=examples(
        "sweep rerun runs/demo --where \"outcome == 'failed'\" --list   # which ones",
        "sweep rerun runs/demo --where \"outcome == 'failed'\"",
        'sweep rerun runs/demo --where "tag.odd"',
        "sweep rerun runs/demo 3f2a 90bc",
        "sweep launch runs/demo/sweep.yaml --out runs/demo     # runs them",
    )
)
@directory_argument
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1, type=TRIAL)
@where_option
@click.option("--list", "only_list", is_flag=True, help="Change nothing; say which trials those are.")
def rerun(directory: Path, trial_ids: tuple[str, ...], where: tuple[str, ...], only_list: bool) -> None:
    """Have trials trained anew by the next launch.

    It begins at their first epoch, of finished ones too. Trials are named by beginnings of their ids, or chosen by
    --where, or both. Their checkpoints are removed, with the weights in them; their records stay, and what is measured
    anew counts in place of what was.
    """
    from analysis.frames.evaluations import KINDS, all_by_key
    from analysis.frames.log import read_log
    from sweep.progress import Progress
    from sweep.storage.cache import typed
    from trainers.fields import plural

    log = read_log(directory, replays=True)
    progress = Progress.of(log)
    trials = _chosen(directory, log, progress, trial_ids, where)
    pruned = _pruned_line(trials)
    if not only_list:
        _refuse(directory, pruned)
        _forget(directory, trials, log, progress.latest)
    for trial in trials:
        echo(f"{trial.id} {trial.label()}: {trial.state(live=False).replace('_', ' ')}")
    if only_list or not trials:
        echo(f"{plural(len(trials), 'trial')}; nothing is changed")
        if pruned:
            complain(f"without --list these are refused: {pruned}")
        return
    evaluated = {chunks[0]["trial_id"] for kind in KINDS for chunks in all_by_key(log, kind).values()}
    if stale := sum(trial.id in evaluated for trial in trials):
        complain(f"{stale} of them were evaluated, which no longer counts: those networks are gone")
    run = typed(directory)
    echo(f"{plural(len(trials), 'trial')} will be trained anew by: sweep launch {run}/sweep.yaml --out {run}")


def _chosen(
    directory: Path, log: Log, progress: Progress, trial_ids: Sequence[str], where: Sequence[str]
) -> list[TrialProgress]:
    """The trials that began and are asked for.

    Raises:
        UserError: nothing says which.
    """
    from sweep.storage.cache import shown
    from trainers.errors import UserError
    from trainers.record import only_trial

    if not trial_ids and not where:
        raise UserError("rerun: needs --where or a TRIAL_ID, which say what is to be trained anew; give one of them")
    names = {only_trial(shown(directory), progress.trials, beginning) for beginning in trial_ids}
    chosen = [name for name in trials_where(where, log) if not names or name in names]
    return [progress.trials[name] for name in chosen if progress.trials[name].begun]


def _pruned_line(trials: Sequence[TrialProgress]) -> str:
    """Why pruned trials are not trained anew, and the way out; empty: none is."""
    pruned = [trial.id for trial in trials if trial.pruned]
    if not pruned:
        return ""
    which = f"{len(pruned)} of the {len(trials)} trials were pruned, such as {pruned[0]}"
    others = "" if len(pruned) == len(trials) else "leave them out with --where \"outcome != 'pruned'\"; "
    return (
        f"{which}, and their rule would end them again; {others}sweep launch --resume-pruned trains such trials to "
        "their end"
    )


def _refuse(directory: Path, pruned: str) -> None:
    """Refuses what cannot be trained anew.

    Args:
        directory: of the run.
        pruned: see `_pruned_line`.

    Raises:
        UserError: says why.
    """
    from sweep.storage.cache import address_of
    from trainers.errors import UserError

    if pruned:
        raise UserError(f"rerun: {pruned}")
    if address_of(directory) is not None:
        raise UserError("rerun: is for a run on this machine's storage, and this one lies in a store; copy it here")


def _forget(directory: Path, trials: Sequence[TrialProgress], log: Log, latest: float) -> None:
    """Removes the checkpoints, and writes down that the trials are to begin again.

    The checkpoints go first: killed in between, the same command finds the same trials.

    Raises:
        UserError: a launch, an evaluation or a merge holds the run.
    """
    from sweep.run.outside import write_down
    from trainers.errors import UserError
    from trainers.files import checkpoint_path, previous_path
    from trainers.record import OutcomeRecord

    def remove() -> None:
        for trial in trials:
            path = checkpoint_path(directory, trial.id)
            for file in (path, previous_path(path)):
                file.unlink(missing_ok=True)

    reason = "to be trained anew, by `sweep rerun`"
    outcomes: list[dict[str, Any]] = [vars(OutcomeRecord(trial.id, "interrupted", reason, 0)) for trial in trials]
    records = [{"record": "outcome", **one} for one in outcomes]
    if not write_down(directory, "sweep rerun", records, log, latest, before=remove):
        raise UserError(f"{directory}: a launch, an evaluation or a merge runs there; rerun trials once it has ended")
