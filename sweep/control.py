"""Commands that change a sweep while it runs, from any machine that sees its directory: set, pause, resume, cancel."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sweep.group import examples
from sweep.reports.filters import trials_where, where_option
from sweep.reports.options import TRIAL, directory_argument
from sweep.streams import tell

if TYPE_CHECKING:
    from sweep.progress import TrialProgress


@click.command(
    "set",
    epilog=examples(
        "sweep set runs/demo max_concurrent=4",
        "sweep set runs/demo resources.epoch_timeout=null",
    ),
)
@directory_argument
@click.argument("settings", metavar="KEY=VALUE...", nargs=-1, required=True)
def set_(directory: Path, settings: tuple[str, ...]) -> None:
    """Change max_concurrent or resources.epoch_timeout while a sweep runs; null takes the config's value again."""
    from sweep.run import requests
    from sweep.storage.asked import carried

    _refuse_no_run(directory)
    asked = [_setting(text) for text in settings]
    with carried(directory):
        for key, value in asked:
            requests.set_to(directory, key, value)
    for key, value in asked:
        tell(f"{key}: {'as in the config' if value is None else value}; {by_whom(directory, 'takes it up')}")


@click.command(epilog=examples("sweep pause runs/demo", "sweep resume runs/demo"))
@directory_argument
def pause(directory: Path) -> None:
    """Stop trials at the end of their epoch and start none, until `sweep resume`; GPUs are free meanwhile."""
    from sweep.run import requests
    from sweep.storage.asked import carried
    from sweep.storage.cache import typed

    _refuse_no_run(directory)
    with carried(directory):
        requests.pause(directory)
    tell(f"paused since {requests.asked(directory).paused}; {by_whom(directory, 'stops at the next epochs')}")
    tell(f"sweep resume {typed(directory)} goes on")


@click.command(epilog=examples("sweep resume runs/demo"))
@directory_argument
def resume(directory: Path) -> None:
    """Go on after `sweep pause`, from the trials' checkpoints."""
    from sweep.run import requests
    from sweep.storage.asked import carried

    _refuse_no_run(directory)
    with carried(directory):
        was = requests.resume(directory)
    tell(f"goes on; {by_whom(directory, 'takes it up')}" if was else "was not paused")


@click.command(
    epilog=examples(
        "sweep cancel runs/demo 3f2a 90bc",
        'sweep cancel runs/demo --where "optimizer.lr > 0.5"',
        "sweep cancel runs/demo --undo 3f2a",
    )
)
@directory_argument
@click.argument("trial_ids", metavar="[TRIAL_ID]...", nargs=-1, type=TRIAL)
@where_option
@click.option("--undo", is_flag=True, help="Let cancelled trials run after all.")
def cancel(directory: Path, trial_ids: tuple[str, ...], where: tuple[str, ...], undo: bool) -> None:
    """End trials now and run them no more; checkpoints stay.

    Trials are named by the first characters of their ids, or chosen by --where, or both. Of those that --where chooses,
    trials that have ended are passed over.
    """
    from analysis.frames.log import read_log, read_records
    from sweep.progress import Progress
    from sweep.run import requests
    from sweep.storage.asked import carried
    from sweep.storage.cache import shown
    from trainers.errors import UserError
    from trainers.record import only_trial

    if not trial_ids and not where:
        raise UserError("cancel: needs --where or a TRIAL_ID, which say what is to end; give one of them")
    log = read_records(directory, replays=True)
    progress = Progress.of(log)
    trials = [progress.trials[only_trial(shown(directory), progress.trials, beginning)] for beginning in trial_ids]
    with carried(directory):
        asked = requests.asked(directory)
        if where:
            among = {trial.id for trial in trials} or progress.trials.keys()
            found = [
                progress.trials[name]
                for name in trials_where(where, read_log(directory, replays=True))
                if name in among
            ]
            trials = [one for one in found if _may_change(one, undo, one.id in asked.cancel)]
        for trial in trials:
            _refuse_ended(directory, trial, undo, trial.id in asked.cancel)
        written = _write(directory, trials, undo, log, progress.latest)
        for trial in () if written else trials:
            requests.cancel(directory, trial.id, undo)
    for trial in trials:
        how = "no launch is running" if written else by_whom(directory, "takes it up", trial.id)
        tell(f"{trial.id} {trial.label()}: {'is to run after all' if undo else 'cancelled'}; {how}")
    if not trials:
        tell("0 trials; nothing is changed")


def _refuse_no_run(directory: Path) -> None:
    from trainers.record import has_records, no_run

    if not has_records(directory):
        raise no_run(directory)


def _setting(text: str) -> tuple[str, Any]:
    """A key and its value; None: the config's.

    Raises:
        UserError: it is none that may be changed, or not a value of its.
    """
    from sweep.run.requests import SETTABLE
    from sweep.yaml_text import parsed
    from trainers.errors import UserError, suggestion
    from trainers.visible import brief

    key, equals, value_text = text.partition("=")
    if not equals:
        raise UserError(f"set: must be KEY=VALUE, such as max_concurrent=2, got {brief(text)}")
    if key not in SETTABLE:
        raise UserError(f"set {key}: may not be changed while trials run; {suggestion(key, SETTABLE)}")
    try:
        value = parsed(value_text)
    except Exception:
        value = value_text
    if value is not None and not SETTABLE[key].holds(value):
        raise UserError(f"set {key}: must be {SETTABLE[key].words}, or null for the config's, got {brief(value)}")
    return key, value


def _may_change(trial: TrialProgress, undo: bool, asked: bool) -> bool:
    """Whether a trial can be cancelled, or that be undone.

    Args:
        trial: of the run.
        undo: whether it is to run after all.
        asked: whether it was asked before that it be cancelled.
    """
    return trial.cancelled or (asked and not trial.is_over) if undo else not trial.is_over


def _refuse_ended(directory: Path, trial: TrialProgress, undo: bool, asked: bool) -> None:
    """Refuses what would change nothing.

    Raises:
        UserError: says why.
    """
    from sweep.storage.cache import shown
    from trainers.errors import UserError

    if undo and not _may_change(trial, undo, asked):
        raise UserError(f"{shown(directory)}: trial {trial.id} is not cancelled ({trial.state(live=False)})")
    if not undo and (trial.finished or trial.pruned):
        raise UserError(f"{shown(directory)}: trial {trial.id} has ended ({trial.outcome}), and its numbers stay")


def _write(
    directory: Path, trials: Sequence[TrialProgress], undo: bool, log: Sequence[Mapping[str, Any]], latest: float
) -> bool:
    """Writes the outcomes down where nobody else holds the run; false where somebody does, who is to be asked."""
    from sweep.run import requests
    from sweep.run.outside import cancelled_outcome, write_down

    ended = [trial for trial in trials if undo and not trial.cancelled]  # of these the request alone is taken back
    records = [{"record": "outcome", **cancelled_outcome(trial, undo)} for trial in trials if trial not in ended]
    if not write_down(directory, "sweep cancel", records, log, latest):
        return False
    for trial in trials:
        for verb in (True, False):
            requests.done(directory, trial.id, undo=verb)
    return True


def by_whom(directory: Path, does: str, trial_id: str = "") -> str:
    """Who does what is asked of a run, or of a trial that only one share may have, in words."""
    from sweep.run.directory import is_live, live_shares

    if (shares := live_shares(directory)) and trial_id and not any(share.has(trial_id) for share in shares):
        return "no launch of its share is running: it holds for the next one"
    return f"the launch that runs {does}" if is_live(directory) else "no launch is running: it holds for the next one"
