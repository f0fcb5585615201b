"""Records that a command writes while no launch, evaluation or merge holds the run, and a launch before it plans."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from analysis.frames.log import read_records
from sweep.progress import Progress, TrialProgress
from sweep.run import requests
from sweep.run.directory import RunLock
from sweep.run.lock import Held
from sweep.share import Share
from sweep.storage.cache import address_of
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, OutcomeName, OutcomeRecord
from trainers.record.linked import LinkedFile, refuse_lost

#: By how much a line is later than all that is known, s: times are written to the millisecond.
_LATER = 0.001


def write_down(
    directory: Path,
    holder: str,
    records: Sequence[Mapping[str, Any]],
    earlier: Sequence[Mapping[str, Any]],
    latest: float,
    before: Callable[[], None] = lambda: None,
) -> bool:
    """Appends records, if nobody else holds the run.

    They are later than all that is known, whatever the clock says: shares have a records file each.

    Args:
        directory: of the run.
        holder: how the command names itself in the lock meanwhile, such as `sweep cancel`.
        records: each with its kind under `record`.
        earlier: all records of the run that are known.
        latest: how late the latest of these is, s since 1970.
        before: what is done first, while the run is held.

    Returns:
        False where somebody holds it, who is to be asked, or the run lies in a store, whose next launch is: nothing is
        written then.

    Raises:
        UserError: something was written there since `earlier` was read, which might change what is asked for; the run
            cannot be written; or it was registered, and its registration is gone.
    """
    if address_of(directory) is not None:
        return False
    try:
        lock = RunLock(directory, f"{holder}, process")
    except Held:
        return False
    with lock:
        if Progress.of(read_records(directory, replays=True)).latest != latest:
            raise UserError(f"{directory}: another command wrote there in this moment; give this one once more")
        refuse_lost(directory, earlier)
        before()
        _append(directory, RECORDS_FILE, records, latest)
    return True


def take_in(directory: Path, share: Share | None, earlier: Sequence[Mapping[str, Any]]) -> bool:
    """Writes down what was asked of trials while none ran, for a launch that holds the run and has not planned: it may
    be that none is left to run.

    Args:
        directory: of the run.
        share: whose trials the launch has; None: all.
        earlier: all records of the run.

    Returns:
        Whether anything was written.
    """
    asked = requests.asked(directory)
    if not (asked.cancel or asked.undo or asked.notes):
        return False
    progress = Progress.of(earlier)
    ours = {name: trial for name, trial in progress.trials.items() if share is None or share.has(name)}
    verbs = [(ours[name], False) for name in sorted(asked.cancel & ours.keys())]
    verbs += [(ours[name], True) for name in sorted(asked.undo & ours.keys())]
    changed = [(trial, undo) for trial, undo in verbs if (trial.cancelled if undo else not trial.is_over)]
    notes = {name: note for name, note in asked.notes.items() if note["trial_id"] in ours}
    records: list[dict[str, Any]] = [{"record": "note", **note} for note in notes.values()]
    records += [{"record": "outcome", **cancelled_outcome(trial, undo)} for trial, undo in changed]
    if records:
        _append(directory, share.named(RECORDS_FILE) if share else RECORDS_FILE, records, progress.latest)
    for trial, undo in verbs:
        requests.done(directory, trial.id, undo)
    for name in notes:
        requests.taken(directory, name)
    return bool(records)


def _append(directory: Path, file: str, records: Sequence[Mapping[str, Any]], latest: float) -> None:
    with closing(LinkedFile(directory, file)) as opened:
        for record in records:
            values = {key: value for key, value in record.items() if key != "record"}
            opened.append(record["record"], {**values, "time": round(max(time.time(), latest + _LATER), 3)})


def cancelled_outcome(trial: TrialProgress, undo: bool = False) -> dict[str, Any]:
    """The values of an outcome line of a trial that a user has cancelled.

    Args:
        trial: as its records tell.
        undo: that it is no longer cancelled.
    """
    kind: tuple[OutcomeName, str] = (
        ("interrupted", "cancelled, and taken back by `sweep cancel --undo`")
        if undo
        else ("cancelled", "by `sweep cancel`")
    )
    return {**vars(OutcomeRecord(trial.id, *kind, trial.epoch)), "time": round(time.time(), 3)}
