"""Records that a command writes while no launch, evaluation or merge holds the run."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from analysis.frames.log import read_records
from sweep.progress import Progress
from sweep.run.directory import RunLock
from sweep.run.lock import Held
from sweep.storage.cache import address_of
from trainers.errors import UserError
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
        file = LinkedFile(directory)
        for record in records:
            values = {key: value for key, value in record.items() if key != "record"}
            file.append(record["record"], {**values, "time": round(max(time.time(), latest + _LATER), 3)})
        file.close()
    return True
