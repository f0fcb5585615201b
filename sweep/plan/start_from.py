"""What the runs of `search.start_from` know: their finished trials, with the sweep's objectives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from analysis.frames.log import read_records
from sweep.config import SweepConfig
from sweep.progress import Progress, TrialProgress
from trainers.errors import UserError
from trainers.record import record_files

#: A trial's `trial` record, and its objectives; None where it has not ended with them.
Known: TypeAlias = tuple[Mapping[str, Any], tuple[float, ...] | None]


def known_elsewhere(
    config: SweepConfig, values: Callable[[TrialProgress, SweepConfig], tuple[float, ...] | None]
) -> list[Known]:
    """Every trial of those runs, in their order; one that several have, as the first with numbers has it.

    Raises:
        UserError: a folder is no run.
    """
    known: dict[str, Known] = {}
    for directory in map(Path, config.search.start_from):
        if not directory.is_dir() or not record_files(directory):
            raise UserError(f"search.start_from: {directory} is no run: it has no records; name a run's directory")
        records = read_records(directory)
        progress = Progress.of(records).trials
        for record in (record for record in records if record["record"] == "trial"):
            name = record["trial_id"]
            ended = values(progress[name], config) if progress[name].finished else None
            if name not in known or known[name][1] is None:
                known[name] = record, ended
    return list(known.values())
