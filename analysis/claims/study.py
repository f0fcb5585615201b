"""What claims are judged on: a run's trials and how they came about, or the published study."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pandas import DataFrame

from analysis.claims.blocks import BEGAN, EPOCH_SECONDS, OWN, rows_of
from analysis.claims.questions import QUESTIONS, Question, question
from analysis.frames.trials import epochs_of, trials_of
from trainers.errors import UserError
from trainers.record import read

_CONFIRMED = frozenset(asked.name for asked in QUESTIONS if asked.confirms)


@dataclass(frozen=True)
class Study:
    """Trials and how they came about."""

    trials: DataFrame
    launched: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Claims that launches were to decide, with the trials they wanted: their number of seeds was stopped at."""
    published: bool = False
    choosers: frozenset[int] | None = None
    """Seeds by which launches to decide deat_own_best chose the cells, or a user has them chosen; None: not told."""

    @property
    def chose(self) -> frozenset[int]:
        """The `choosers`, where other seeds completed and are compared; else none of them, for all choose."""
        completed = set(self.trials.loc[self.trials["outcome"] == "completed", "seed"])
        return self.choosers if self.choosers and not completed <= self.choosers else frozenset()


def load_study(directory: Path) -> Study:
    """A run, its trials with `EPOCH_SECONDS`, `BEGAN` and the columns of `OWN`.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return study_of(read(directory))


def chosen_by(study: Study, seeds: Collection[int]) -> Study:
    """The study in which these seeds choose each method's best cell, and the others are compared there.

    Raises:
        UserError: a seed is no trial's, or none is left to compare.
    """
    known = set(map(int, study.trials["seed"]))
    if unknown := sorted(set(seeds) - known):
        there = ", ".join(map(str, sorted(known)))
        raise UserError(f"--chosen-by-seed {unknown[0]}: no trial has it; must be one of {there}")
    if known <= set(seeds):
        raise UserError("--chosen-by-seed: leaves no other seed to compare; give fewer")
    return replace(study, choosers=frozenset(seeds)) if seeds else study


def study_of(records: Sequence[Mapping[str, Any]]) -> Study:
    """`load_study` of records that are at hand."""
    trials, epochs = trials_of(records), epochs_of(records)
    seconds = epochs.groupby("trial_id")["seconds"].median()
    began = {record["trial_id"]: record.get("time") for record in records if record["record"] == "start"}
    added = {EPOCH_SECONDS: trials["trial_id"].map(seconds), BEGAN: trials["trial_id"].map(began)}
    trials = with_decay(trials.assign(**{name: column.astype(float) for name, column in added.items()}), records)
    launched = {name: _counted(question(name), trials, ids, records) for name, ids in _launched(records).items()}
    return Study(trials, launched, choosers=_choosers(trials, records))


def with_decay(trials: DataFrame, records: Iterable[Mapping[str, Any]]) -> DataFrame:
    """The frame with the columns of `OWN`, of each trial's config, whether or not an axis shows them.

    NaN where the trial's optimizer does not read the setting, or its record lacks it.

    Args:
        trials: as `analysis.frames.trials.trials_of` gives them.
        records: those that they are of.
    """
    optimizers = {
        record["trial_id"]: record["config"].get("optimizer", {}) for record in records if record["record"] == "trial"
    }
    settings = DataFrame([optimizers.get(name, {}) for name in trials["trial_id"]], index=trials.index)
    settings = settings.reindex(columns=[key.partition(".")[2] for key in OWN]).astype(float)
    return trials.assign(**{column: settings[key.partition(".")[2]] for key, column in OWN.items()})


def trained_elsewhere(records: Iterable[Mapping[str, Any]], claim: str) -> frozenset[str]:
    """The ids of trials that a launch began which was not to decide the claim."""
    deciding, found = False, set()
    for record in records:
        if record["record"] == "launch":
            deciding = decided_by(str(record.get("command", ""))) == claim
        elif record["record"] == "start" and not deciding:
            found.add(record["trial_id"])
    return frozenset(found)


def published() -> Study:
    """The published study: one value a point, no seeds, no times."""
    from analysis.frames import published as study

    return Study(study.load_trials(), published=True)


def _launched(records: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Claims that launches were to decide, by their commands, with the ids they wanted."""
    found: dict[str, frozenset[str]] = {}
    for record in records:
        if record["record"] == "launch" and (name := decided_by(str(record.get("command", "")))):
            found[name] = found.get(name, frozenset()) | frozenset(record["wanted"])
    return found


def _counted(
    asked: Question, trials: DataFrame, wanted: frozenset[str], records: Sequence[Mapping[str, Any]]
) -> frozenset[str]:
    """The ids that count of those that launches wanted to decide a claim.

    Where the sides are launched apart, what a wanted trial is matched with counts at its seed too: a part that was
    there already was not launched again. Of what goes by turns, only the seeds that those launches trained alone.
    """
    here, ids = trials[trials["trial_id"].isin(wanted)], trials["trial_id"].to_numpy()
    if asked.by_turns:
        others = here.loc[here["trial_id"].isin(trained_elsewhere(records, asked.name)), "seed"]
        return frozenset(here.loc[~here["seed"].isin(others), "trial_id"])
    sides = [set(ids[rows_of([pair])]) for pair in (asked.pairs(trials) if asked.pairs else [])]
    matched = set().union(*(pair for pair in sides if pair & wanted))
    there = trials["trial_id"].isin(matched) & trials["seed"].isin(here["seed"])
    return wanted | frozenset(trials.loc[there, "trial_id"])


def _choosers(trials: DataFrame, records: Iterable[Mapping[str, Any]]) -> frozenset[int] | None:
    """Seeds that launches to decide between best cells wanted with both optimizers at once, or else not at all.

    Such a launch runs all cells together while they choose, and then each method's best cell by itself.
    """
    known = trials.set_index("trial_id")
    launches = [
        known.loc[known.index.isin(record["wanted"])]
        for record in records
        if record["record"] == "launch" and decided_by(str(record.get("command", ""))) in _CONFIRMED
    ]
    if not launches:
        return None
    choosing = [wanted["seed"] for wanted in launches if {"sgd", "deat"} <= set(wanted["optimizer.name"])]
    if choosing:
        return frozenset(int(seed) for seeds in choosing for seed in seeds)
    added = {int(seed) for wanted in launches for seed in wanted["seed"]}
    return frozenset(map(int, trials["seed"])) - added or None


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
