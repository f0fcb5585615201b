"""What a launch would do: trials wanted, those already finished, and what the rest will cost."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from analysis.frames.log import read_records
from sweep.config import SweepConfig
from sweep.own_code import changed
from sweep.plan.data_lines import extra_lines, note_lines, size_lines, unseen_lines
from sweep.plan.ended import objective_values, pruned_at
from sweep.plan.fine_tune_lines import fine_tune_lines
from sweep.plan.left import Wanted, longer_trials, to_run, trial_seconds
from sweep.plan.longer import Longer
from sweep.plan.measured import Measured
from sweep.plan.outlook import Outlook, amount_text, bound_text, in_hours, together
from sweep.plan.preset_lines import preset_lines
from sweep.plan.proxy import proxy_lines
from sweep.plan.room import Room, at_once
from sweep.plan.shapes import Left
from sweep.plan.start_from import Known, known_elsewhere
from sweep.plan.stopping import epochs_of, rule_lines, stopping_of
from sweep.plan.too_short import too_short
from sweep.plan.warnings import Warned, warnings
from sweep.progress import Progress, TrialProgress, left_out_lines
from sweep.search.checks import check_trials, examples
from sweep.search.inputs import Unseen, fingerprints, fingerprints_without, own_sources
from sweep.search.optuna_search import OptunaSearch
from sweep.search.trials import FixedPoints, FixedSearch, Search, admitted_points, planned
from sweep.share import Share
from sweep.stopping.decisions import Stopping
from trainers.config import DataConfig
from trainers.data.sources import Shape as DataShape
from trainers.errors import UserError
from trainers.fields import number_text, plural
from trainers.own.source import Source
from trainers.record import record_files


@dataclass(frozen=True, repr=False)
class Plan:
    """A sweep held against what its directory already has."""

    config: SweepConfig
    search: Search
    progress: Progress
    """What the directory's records tell."""
    size: int
    """Trials in all, or in the share."""
    merged: int
    """Points that turned out to be trials already in the list."""
    finished: int
    resumable: int
    """Begun by this code and not finished: they go on from their checkpoints."""
    other_code: dict[str, int]
    """Finished trials by code version, where it is not this one."""
    trial_seconds: float | None
    """Of the unfinished trials, one after another; None until an epoch has been measured."""
    presets: Sequence[str] = ()
    """What differs from the presets, in words."""
    fine_tuned: Sequence[str] = ()
    """From which weights trials start, in words."""
    warnings: tuple[Warned, ...] = ()
    to_run: tuple[Left, ...] = ()
    """What is left to run, for an estimate; examples of what is not known yet."""
    measured: Measured | None = None
    """What the run's own epochs took."""
    shapes: Mapping[DataConfig, DataShape] = field(default_factory=dict)
    """Of their data, as far as known."""
    rule_lines: Sequence[str] = ()
    """What the rule that ends trials early will do, in words."""
    unseen: Mapping[str, Unseen] = field(default_factory=dict)
    """Data that were not looked at, by name."""
    own: Mapping[str, Source] = field(default_factory=dict)
    """The sources of a user's own code, by name."""
    left_out: tuple[str, ...] = ()
    """Ids of those not run again: for want of memory, or because they were cancelled or pruned."""
    share: Share | None = None
    """Of whose trials alone it tells what is finished, left and costs; none: of all."""
    stopping: Stopping | None = None
    """The rules that end trials early, which have seen the records; none: there are none."""
    decided: Sequence[Mapping[str, Any]] = ()
    """Outcome lines that the rules owe: their launch was killed before it wrote them."""
    taken_up: tuple[str, ...] = ()
    """Ids of pruned trials that this launch trains to their end."""
    to_the_end: int = 0
    """Trials left that no rule ends any more: those, and what an earlier launch took up and did not finish."""
    longer: Longer = field(kw_only=True)
    """Which of the new trials go on from the ends of shorter ones."""
    started_from: Mapping[str, list[str]] = field(default_factory=dict)
    """Run of `search.start_from` -> ids of its finished trials that the search knows."""
    chosen: Sequence[str] = ()
    """How its points were chosen, where that is not seen from the config, in words."""
    others: Sequence[TrialProgress] = ()
    """Trials in the records that the sweep does not want, as of seeds that an earlier launch had."""

    def __repr__(self) -> str:
        """Its size; `lines()` says the rest."""
        return f"<Plan {self.config.name}: {plural(self.size, 'trial')}, {self.finished} finished, {self.left} to run>"

    @property
    def left(self) -> int:
        """Trials to run."""
        return self.size - self.finished - len(self.left_out)

    def lines(
        self,
        outlook: Outlook | None = None,
        *,
        launched: bool = False,
        serial: bool = False,
        room: Room | None = None,
        budgeted: bool = False,
        refused: str = "",
    ) -> list[str]:
        """The plan in words, with what is estimated of its cost.

        Args:
            outlook: as estimated; None: it is not, and only what was measured is told.
            launched: by a launch, which estimates nothing.
            serial: one trial after another.
            room: where a launch's trials run; None: not known.
            budgeted: whether a budget, which says what it expects, is told of after it.
            refused: why a launch would be refused where it is planned; empty: it is not.
        """
        size = plural(self.search.size(), "trial")
        which = size if self.share is None else f"share {self.share}, {self.size} of {size}"
        lines = [f"{self.config.name}: {which} ({self._shape()})"]
        if self.config.question:
            lines.append(f"  {self.config.question}")
        lines += [f"  {line}" for line in (*self.chosen, *self.presets, *self.fine_tuned)]
        if self.merged:
            verb = "means" if self.merged == 1 else "mean"
            more = plural(self.merged, "more point")
            lines.append(f"  {more} {verb} a trial that is there already: the keys that differ are not read")
        sizes = size_lines(self.shapes) if outlook else ()
        lines += [f"  {line}" for line in (*sizes, *note_lines(self.shapes), *extra_lines(self.shapes))]
        lines += [f"  {line}" for name, data in self.unseen.items() for line in unseen_lines(name, data, self.shapes)]
        lines.append(f"  finished {self.finished}, to resume {self.resumable}, new {self.left - self.resumable}")
        lines += [f"  {line}" for line in (*self._others_lines(), *self.longer.lines())]
        lines += [f"  {line}" for line in left_out_lines([self.progress.trials[name] for name in self.left_out])]
        if self.taken_up:
            lines.append(f"  {plural(len(self.taken_up), 'pruned trial')} taken up again; no rule ends one any more")
        lines += [f"  {line}" for line in (self.rule_lines if self._may_end_early else ())]
        for version, number in self.other_code.items():
            lines.append(f"  {number} of the finished come from other code ({version}); they are kept")
        lines += [f"  {line}" for line in self._own_lines()]
        if outlook:
            lines += [f"  {line}" for line in outlook.lines()]
        else:
            lines.append(f"  cost: {self._cost(launched, serial, room, budgeted)}")
        odd = [one.line() for one in (*self.warnings, *(outlook.warnings() if outlook else ()))]
        if odd := [*([refused] if refused else []), *odd]:
            lines += ["  warnings:", *(f"    {line}" for line in odd)]
        return lines

    def _others_lines(self) -> Iterator[str]:
        """What else the directory holds, and every reader of it finds."""
        if self.others:
            seeds = sorted({trial.seed for trial in self.others} - set(self.config.seeds))
            whose = f" (seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))})" if seeds else ""
            more = plural(len(self.others), "more trial")
            yield f"the directory has {more}, not of this config{whose}; they stay, and results and claims count them"

    @property
    def _may_end_early(self) -> bool:
        """Whether a rule may yet end some of what is left, or leave it out: not where all of that is taken up again."""
        return self.left > self.to_the_end or not self.left

    def _own_lines(self) -> list[str]:
        """What is to be said of the user's own code."""
        notes = dict.fromkeys(note for source in self.own.values() for note in source.notes)
        return [*changed((trial.config for trial in self.progress.trials.values()), self.own), *notes]

    def _shape(self) -> str:
        axes = ", ".join(f"{key}: {_axis(axis)}" for key, axis in self.config.space.items())
        return f"{self.config.search.name} over {axes}; {plural(len(self.config.seeds), 'seed')}"

    def _cost(self, launched: bool, serial: bool, room: Room | None, budgeted: bool) -> str:
        resources = self.config.resources
        unit = resources.unit
        among = resources.trials_per_process
        each = f"for each {among}" if among > 1 else "each"
        if not self.left:
            return "nothing left to run"
        if self.trial_seconds is None:
            elsewhere = "; `sweep plan` estimates it" if launched else ""
            takes = f"{f'each {among} trials take' if among > 1 else 'each trial takes'} {unit}"
            if budgeted:
                return f"{takes}; how long is estimated with the budget"
            return f"unknown until an epoch of each kind of trial has been measured{elsewhere}; {takes}"
        bound = bound_text(self.config) if self._may_end_early else ""
        amount, word, letter = in_hours(self.trial_seconds)
        most = None if serial else at_once(resources, self.config.max_concurrent, self.left, room)
        wall = f", {amount_text(amount / most, True)} {letter} with {most} at once" if most and most > 1 else ""
        each += together(self.trial_seconds, resources, True)
        return f"{amount_text(amount, True)} trial {word} at {unit} {each}{wall}, from the epochs measured here{bound}"


def _axis(axis: Any) -> str:
    if values := axis.grid or axis.choice:
        return plural(len(values), "value")
    steps = "" if axis.step is None else f" in steps of {number_text(axis.step)}"
    return f"{'uniform' if axis.uniform else 'loguniform'} {list(axis.extremes())}{steps}"


def earlier_records(directory: Path) -> Sequence[Mapping[str, Any]]:
    """The records of an earlier launch; none where the directory has none."""
    return read_records(directory, replays=True) if record_files(directory) else []


def plan(
    config: SweepConfig,
    records: Sequence[Mapping[str, Any]],
    code_version: str,
    data: Literal["needed", "if there", "unseen"] = "needed",
    capacity: float = math.inf,
    again: bool = False,
    cancelled_anew: Collection[str] = (),
    share: Share | None = None,
    resume_pruned: bool = False,
    by_seed: bool = False,
) -> Plan:
    """Holds a sweep against the records of its directory.

    Args:
        config: the sweep; its data are read.
        records: see `earlier_records`.
        code_version: of the trainers that would run.
        data: what of the data must be there. if there: where they are not, what is published of them is planned with.
            unseen: so too where they are there.
        capacity: memory that the largest card, or host, has on which trials would run, bytes: those that ran out of it
            alone where there was no less are left out.
        again: cancelled trials are not left out, but for those that were `cancelled_anew`.
        cancelled_anew: ids of trials that were cancelled since.
        share: whose trials alone a launch would run; none: all.
        resume_pruned: pruned trials are not left out.
        by_seed: trials are given out seed after seed over all points, as they are where points race, but for a rule
            that compares with points which have all their seeds.

    Raises:
        UserError: a share is to be run of a sweep with a rule that compares all trials, or of a search that asks for
            trials as results come; a point whose values do not go together, or data or a network with which no trial
            can run.
    """
    if share is not None:
        _refuse_share(share, config)
    progress = Progress.of(records)
    progress.share = share
    own = own_sources(config)
    marks, unseen = (
        (fingerprints(config, own), {})
        if data == "needed"
        else fingerprints_without(config, records, data == "if there", own)
    )
    _leave_out(progress, capacity, again, cancelled_anew, resume_pruned)
    elsewhere = known_elsewhere(config, records)
    search, listed = _search(config, marks, records, progress, elsewhere.known, share, by_seed)
    points = [json.dumps(point) for point in listed.points]
    wanted = _wanted(search, config, marks, share)
    epochs = epochs_of(config, wanted.every if isinstance(search, FixedSearch) else examples(config, marks))
    stopping = stopping_of(config, epochs, wanted.every, records)
    decided = [] if stopping is None else stopping.due()
    for line in decided:
        progress.add(line)
    _leave_out(progress, capacity, again, cancelled_anew, resume_pruned)
    left, begun = wanted.unfinished(progress), wanted.begun(progress)
    shapes = check_trials(config, left, unseen, own)
    odd = warnings(config, wanted.all_kinds, shapes, not wanted.examples)
    taken_up = tuple(trial.id for trial in begun if trial.pruned) if resume_pruned else ()
    no_more_ended = {*taken_up, *(stopping.whole if stopping else ())}
    finished, measured = [trial for trial in begun if trial.finished], Measured(progress, config)
    longer = longer_trials(wanted.known, progress, code_version)
    trials_left = to_run(wanted, progress, code_version, longer)
    return Plan(
        config=config,
        search=search,
        progress=progress,
        size=wanted.unknown + len(wanted.known),
        merged=len(set(points)) * len(config.seeds) - search.size() if points else 0,
        finished=len(finished),
        resumable=sum(trial.resumes(code_version) and not trial.left_out for trial in begun),
        other_code=_other_code(finished, code_version),
        trial_seconds=trial_seconds(trials_left, wanted.unknown, measured, config),
        presets=preset_lines(wanted.all_kinds, config.space),
        fine_tuned=list(fine_tune_lines([trial.config for trial in left], shapes)),
        warnings=(*_repeated(search, points, config), *too_short(config, search, wanted.every, epochs), *odd),
        to_run=trials_left,
        measured=measured,
        shapes=shapes,
        unseen=unseen,
        own=own,
        left_out=tuple(trial.id for trial in begun if trial.left_out),
        share=share,
        stopping=stopping,
        decided=decided,
        taken_up=taken_up,
        to_the_end=sum(one.id in no_more_ended and not one.finished and not one.left_out for one in begun),
        rule_lines=[*rule_lines(config, epochs), *proxy_lines(config, epochs)],
        longer=longer,
        started_from=elsewhere.finished,
        chosen=listed.lines,
        others=progress.beside({trial.id for trial in wanted.every}),
    )


def _wanted(search: Search, config: SweepConfig, marks: Mapping[str, str], share: Share | None) -> Wanted:
    every = search.known()
    known = every if share is None else [trial for trial in every if share.has(trial.id)]
    unknown = search.size() - len(every)
    return Wanted(every, known, unknown, examples(config, marks) if unknown > 0 else [])


def _refuse_share(share: Share, config: SweepConfig) -> None:
    """No share is run of what looks at all trials."""
    if config.search.name == "optuna":
        raise UserError(
            f"--shard {share}: search.name is optuna, whose next point depends on all results, so that one launch runs "
            "it; leave --shard out, or take a search whose trials are known beforehand, such as quasi_random"
        )
    if config.race is not None:
        raise UserError(
            f"--shard {share}: race compares the points of all shares, so that one launch runs it; leave one out"
        )
    if config.stopping is not None:
        raise UserError(
            f"--shard {share}: stopping is {config.stopping.name}, which compares all trials, so that one launch runs "
            "them; leave --shard out, or stopping"
        )


def _leave_out(
    progress: Progress, capacity: float, again: bool, cancelled_anew: Collection[str], resume_pruned: bool
) -> None:
    """Marks the trials that are not run again."""
    for trial in progress.trials.values():
        is_asked_for = again and trial.id not in cancelled_anew
        trial.left_out = (
            trial.needs_more_than(capacity)
            or (trial.cancelled and not is_asked_for)
            or (trial.pruned and not resume_pruned)
        )


def _search(
    config: SweepConfig,
    marks: Mapping[str, str],
    records: Sequence[Mapping[str, Any]],
    progress: Progress,
    elsewhere: Sequence[Known],
    share: Share | None,
    by_seed: bool,
) -> tuple[Search, FixedPoints]:
    """The search, and the points that it was made of; none where they are not known yet."""
    finished = {name for name, trial in progress.trials.items() if trial.finished}
    if config.search.name == "optuna":
        trial_records = [record for record in records if record["record"] == "trial"]
        values = {name: objective_values(progress.trials[name], config) for name in finished}
        left_out = {name: pruned_at(trial, config) for name, trial in progress.trials.items() if trial.left_out}
        pruned = {name: one for name, one in left_out.items() if one is not None}
        search = OptunaSearch(config, marks, trial_records, values, pruned, elsewhere)
        return search, FixedPoints([], search.lines())
    listed = admitted_points(config)
    trials = planned(config, listed.points, marks)
    by_seed = config.race is not None or (by_seed and not config.races)
    return FixedSearch(trials, frozenset(finished), share, by_seed), listed


def _repeated(search: Search, points: Sequence[str], config: SweepConfig) -> Iterator[Warned]:
    """Draws that repeat a point, Optuna's points that are fewer than asked for, other runs that tell it nothing."""
    if isinstance(search, OptunaSearch):
        limits, asked = search.limits(), config.search.n_trials or 0
        if way_out := search.started_from_none():
            yield Warned("search.start_from: no trial of those runs is taken in", way_out)
        if max(limits) < asked:
            where = "the space" if len(limits) == 1 else "a combination of the grid axes"
            text = (
                f"search.n_trials is {asked}, and {where} has {plural(max(limits), 'distinct point')}: each is run once"
            )
            yield Warned(text, f"search.n_trials={max(limits)}")
    elif len(distinct := set(points)) < len(points):
        verb = "is" if len(distinct) == 1 else "are"
        text = f"of the {len(points)} points drawn {len(distinct)} {verb} distinct, and each is run once"
        yield Warned(text, "search.name=optuna, which repeats none, or list the values as {grid: [...]}")


def _other_code(finished: Sequence[TrialProgress], code_version: str) -> dict[str, int]:
    versions = Counter(trial.code_version or "unknown" for trial in finished)
    return {version: number for version, number in versions.items() if version != code_version}
