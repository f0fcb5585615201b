"""What claims are judged on: a run's trials and how they came about, or the published study."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pandas import DataFrame

from analysis.claim_effects import BEGAN, EPOCH_SECONDS
from analysis.frame import epochs_of, trials_of
from trainers.record import read


@dataclass(frozen=True)
class Study:
    """Trials and how they came about."""

    trials: DataFrame
    launched: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Claims that launches were to decide, with the trials they wanted: their number of seeds was stopped at."""
    published: bool = False


def load(directory: Path) -> Study:
    """A run, its trials with `EPOCH_SECONDS` and `BEGAN`.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return study_of(read(directory))


def study_of(records: Sequence[Mapping[str, Any]]) -> Study:
    """`load` of records that are at hand."""
    trials, epochs = trials_of(records), epochs_of(records)
    seconds = epochs.groupby("trial_id")["seconds"].median()
    began = {record["trial_id"]: record.get("time") for record in records if record["record"] == "start"}
    added = {EPOCH_SECONDS: trials["trial_id"].map(seconds), BEGAN: trials["trial_id"].map(began)}
    return Study(trials.assign(**{name: column.astype(float) for name, column in added.items()}), _launched(records))


def published() -> Study:
    """The published study: one value a point, no seeds, no times."""
    from analysis import published as study

    return Study(study.load_trials(), published=True)


def _launched(records: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Claims that launches were to decide, by their commands, with the ids they wanted."""
    found: dict[str, frozenset[str]] = {}
    for record in records:
        if record["record"] == "launch" and (name := decided_by(str(record.get("command", "")))):
            found[name] = found.get(name, frozenset()) | frozenset(record["wanted"])
    return found


def decided_by(command: str) -> str | None:
    """The claim that a launch's command was to decide, if any.

    >>> decided_by("sweep launch c.yaml --decide ratio --budget-hours 2")
    'ratio'
    """
    try:
        words = shlex.split(command)
    except ValueError:
        return None
    for before, word in zip(["", *words], words, strict=False):
        name = word if before == "--decide" else word.partition("--decide=")[2]
        if re.fullmatch(r"[a-z0-9_]+", name):
            return name
    return None
