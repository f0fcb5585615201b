"""What the runs of `search.start_from` know: their finished trials, with the sweep's objectives."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from analysis.frames.log import read_records
from sweep.config import SweepConfig
from sweep.plan.ended import objective_values
from sweep.progress import Progress
from trainers.errors import UserError
from trainers.record import record_files
from trainers.visible import encodable

#: A trial's `trial` record, and its objectives; None where it has not ended with them.
Known: TypeAlias = tuple[Mapping[str, Any], tuple[float, ...] | None]


@dataclass
class Elsewhere:
    """What other runs know, as this run's first launch with them saw it."""

    known: list[Known] = field(default_factory=list)
    """Every trial, in their order; one that several have, as the first with numbers has it."""
    finished: dict[str, list[str]] = field(default_factory=dict)
    """Directory -> ids of its finished trials, which later launches take in, and no others."""


def known_elsewhere(config: SweepConfig, records: Iterable[Mapping[str, Any]] = ()) -> Elsewhere:
    """Reads the runs of `search.start_from`.

    Args:
        config: the sweep.
        records: of this run: what its last launch took in of a run is taken in again, whatever has ended there since,
            lest a relaunch propose other points.

    Raises:
        UserError: a folder is no run.
    """
    launches = [record for record in records if record["record"] == "launch"]
    before: Mapping[str, list[str]] = launches[-1].get("start_from", {}) if launches else {}
    known: dict[str, Known] = {}
    finished: dict[str, list[str]] = {}
    for place in config.search.start_from:
        directory = Path(place)
        if not directory.is_dir() or not record_files(directory):
            raise UserError(f"search.start_from: {directory} is no run: it has no records; name a run's directory")
        there = read_records(directory)
        progress = Progress.of(there).trials
        ended = {name for name, trial in progress.items() if trial.finished}
        named = encodable(place)  # as a launch's record names it
        finished[named] = before[named] if named in before else sorted(ended)
        taken = ended.intersection(finished[named])
        for record in (record for record in there if record["record"] == "trial"):
            name = record["trial_id"]
            if name not in known or known[name][1] is None:
                known[name] = record, objective_values(progress[name], config) if name in taken else None
    return Elsewhere(list(known.values()), finished)
