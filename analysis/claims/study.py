"""What claims are judged on: a run's trials and how they came about, or the published study."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pandas import DataFrame

from analysis.claims.blocks import BEGAN, EPOCH_SECONDS, LAUNCH, OWN, rows_of
from analysis.claims.questions import QUESTIONS, Question, question
from analysis.claims.registration import Registration, beforehand, read
from analysis.frames.bits import with_bits
from analysis.frames.history import handed_on
from analysis.frames.log import Log, read_log
from analysis.frames.trials import epochs_of, trials_of
from trainers.errors import UserError

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
    registration: Registration | None = None
    """Of the run; None: it has none."""
    late: bool = False
    """Whether a trial began before the registration was there."""

    @property
    def chose(self) -> frozenset[int]:
        """The `choosers`, where other seeds completed and are compared; else none of them, for all choose."""
        completed = set(self.trials.loc[self.trials["outcome"] == "completed", "seed"])
        return self.choosers if self.choosers and not completed <= self.choosers else frozenset()


def load_study(directory: Path) -> Study:
    """A run as claims are judged on it.

    Args:
        directory: a run, as given to `sweep launch --out`.

    Returns:
        Its trials, with `EPOCH_SECONDS`, `BEGAN`, `LAUNCH`, the columns of `OWN` and `analysis.frames.bits.BITS`.

    Raises:
        UserError: the directory is not a run, or a line or its registration is damaged.
    """
    return study_of(read_log(directory), read(directory))


def chosen_by(study: Study, seeds: Collection[int]) -> Study:
    """The study in which these seeds choose each method's best cell, and the others are compared there.

    Raises:
        UserError: a seed is no trial's, or none is left to compare.
    """
    if not seeds:
        return study
    known = set(map(int, study.trials["seed"]))
    if unknown := sorted(set(seeds) - known):
        there = ", ".join(map(str, sorted(known)))
        raise UserError(f"--chosen-by-seed {unknown[0]}: no trial has it; must be one of {there}")
    if known <= set(seeds):
        raise UserError("--chosen-by-seed: leaves no other seed to compare; give fewer")
    return replace(study, choosers=frozenset(seeds))


def study_of(records: Sequence[Mapping[str, Any]], registration: Registration | None = None) -> Study:
    """`load_study` of records that are at hand, and of the registration that their run has."""
    records = Log.of(records)
    trials, epochs = with_bits(trials_of(records), records), epochs_of(records)
    if shorter := handed_on(records):  # a shorter trial's epochs ran at another time
        epochs = epochs[epochs["epoch"].to_numpy(float) > epochs["trial_id"].map(shorter).fillna(0).to_numpy(float)]
    seconds = epochs.groupby("trial_id")["seconds"].median()
    began, launch = _began(records)
    ids = trials["trial_id"]
    added = {EPOCH_SECONDS: ids.map(seconds), BEGAN: ids.map(began), LAUNCH: ids.map(launch)}
    trials = with_decay(trials.assign(**{name: column.astype(float) for name, column in added.items()}), records)
    launched = {name: _counted(question(name), trials, ids, records) for name, ids in _launched(records).items()}
    choosers, late = _choosers(trials, records), False
    if registration is not None:
        choosers, late = choosers or frozenset(registration.choosers) or None, not beforehand(registration, records)
    return Study(trials, launched, choosers=choosers, registration=registration, late=late)


def _began(records: Iterable[Mapping[str, Any]]) -> tuple[dict[str, float | None], dict[str, int]]:
    """By the id of each trial when it last began, and under which launch."""
    launches = -1
    began: dict[str, float | None] = {}
    launch: dict[str, int] = {}
    for record in records:
        launches += record["record"] == "launch"
        if record["record"] == "start":
            began[record["trial_id"]], launch[record["trial_id"]] = record.get("time"), launches
    return began, launch


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
    deciding, begun = False, set()
    for record in records:
        if record["record"] == "launch":
            deciding = decided_by(record).get("claim") == claim
        elif record["record"] == "start" and not deciding:
            begun.add(record["trial_id"])
    return frozenset(begun)


def published() -> Study:
    """The published study: one value a point, no seeds, no times."""
    from analysis.frames import published as study

    return Study(study.load_trials(), published=True)


def _launched(records: Iterable[Mapping[str, Any]]) -> dict[str, frozenset[str]]:
    """Claims that launches were to decide, with the ids they wanted."""
    wanted: dict[str, frozenset[str]] = {}
    for record in records:
        if record["record"] == "launch" and (claim := decided_by(record).get("claim")):
            wanted[claim] = wanted.get(claim, frozenset()) | frozenset(record["wanted"])
    return wanted


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
    """Seeds that chose the cells of launches to decide between best cells.

    Launches of older code do not say: theirs are those that they wanted with both optimizers at once, or else did not
    want at all, for they ran all cells together while they chose, and then each method's best cell by itself.
    """
    launches = [one for one in records if one["record"] == "launch" and decided_by(one).get("claim") in _CONFIRMED]
    chose = {seed for one in launches for seed in decided_by(one).get("choosing_seeds", ())}
    known = trials.set_index("trial_id")
    older = [known.loc[known.index.isin(one["wanted"])] for one in launches if "decides" not in one]
    chose |= {seed for one in older if {"sgd", "deat"} <= set(one["optimizer.name"]) for seed in map(int, one["seed"])}
    if older and not chose:
        chose = set(map(int, trials["seed"])) - {int(seed) for one in older for seed in one["seed"]}
    return frozenset(chose) or None


def decided_by(launch: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a launch was to decide, as its record says; empty: nothing.

    Of older code, which recorded its command alone, the claim is known.

    >>> decided_by({"decides": {"claim": "ratio", "budget_hours": 2.0}})
    {'claim': 'ratio', 'budget_hours': 2.0}
    >>> decided_by({"command": "sweep launch c.yaml --decide ratio --budget-hours 2"})
    {'claim': 'ratio'}
    """
    if "decides" in launch:
        return launch["decides"] or {}
    claim = re.search(r" --decide[ =]([a-z0-9_]+)", str(launch.get("command", "")))
    return {"claim": claim[1]} if claim else {}
