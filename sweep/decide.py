"""Launching until a claim of the ledger is decided: seed after seed, looking after each whole one.

    seeds of the config, then the next integers: run the claim's cells with this seed -> look -> decided? stop : go on

The stopping rule is honest: the interval is the confidence sequence of `analysis.claims.evidence`, which holds at
whatever seed one stops, so that one may look after each, start from seeds that are there already, and go on later with
more hours. The claim is decided at 5 %; where it has several lines (networks, methods), Holm over them, all of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame, Series
from rich.console import Console

from analysis.claims import registration
from analysis.claims.blocks import EPOCH_SECONDS, ROBUST, NotMeasured, Options, published_settings
from analysis.claims.ledger import Claim, ledger
from analysis.claims.questions import Question, question
from analysis.claims.study import Study, decided_by, study_of, trained_elsewhere, with_decay
from analysis.frames.cells import best_trials, measured
from analysis.frames.trials import trials_of
from analysis.tables.claims import WIDTH, claims_text, sentence
from sweep.config import SweepConfig
from sweep.plan.measured import Measured, shape_of
from sweep.plan.plan import Plan, earlier_records, plan
from sweep.progress import Progress
from sweep.run.budget import spent_seconds
from sweep.run.directory import refuse_other_sweep
from sweep.run.launch import Launch
from sweep.run.notices import Notices
from sweep.run.screen import say as _say
from sweep.run.signals import EXIT_DONE, EXIT_INTERRUPTED, EXIT_RAY_GONE, EXIT_SOME_FAILED, Interrupted, Interrupts
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned
from trainers.errors import UserError
from trainers.fields import plural
from trainers.provenance import code_version

#: Blocks in a row that may add no replicate before it is given up: their trials diverge.
_PATIENCE = 2

Run = Callable[[SweepConfig], int]


def decide(
    config: SweepConfig,
    directory: Path,
    console: Console,
    *,
    claim: str,
    hours: float,
    command: str,
    address: str | None = None,
    serial: bool = False,
    debug: bool = False,
) -> int:
    """Runs the trials that a claim needs, seed after seed, until it is decided or the hours are used up.

    The hours are trial hours: training and evaluation of the epochs that launches with this --decide recorded, as if
    one after another. A seed is not begun if, by the epochs measured so far, it would take more than is left.

    Args:
        config: the sweep; of its space just the cells that enter the claim are run.
        directory: of the run.
        console: for the looks, a line each, and the verdict.
        claim: a name of `analysis.claims.questions.NAMES`.
        hours: at most.
        command: what the user typed, for the records.
        address: as for `sweep.run.launch.Launch`.
        serial: as for `sweep.run.launch.Launch`.
        debug: as for `sweep.run.launch.Launch`.

    Returns:
        The exit code: 0 decided or out of hours, 1 some trials failed, 3 Ray is gone, 130 interrupted.

    Raises:
        UserError: there is no such claim, or the config does not vary what it needs.
    """
    if config.stopping is not None:
        raise UserError(
            f"--decide {claim}: stopping is {config.stopping.name}, and a claim needs all seeds trained to their end; "
            "leave --decide out, or stopping"
        )
    refuse_other_sweep(directory, config)
    design = Design(config, claim)
    decides = {"claim": claim, "budget_hours": hours, "choosing_seeds": list(design.choosing)}

    with Interrupts():
        try:
            with (
                Notices(config.notify, config.name, directory, console) as notices,
                ExitStack() as up,  # one Ray for all launches: to start it takes longer than many a seed
            ):
                how: dict[str, Any] = {"address": address, "serial": serial, "debug": debug, "command": command}
                how |= {"decides": decides, "up": up, "notices": notices}
                return _seed_after_seed(
                    design, directory, console, hours, lambda part: Launch(part, directory, console, **how).run()
                )
        except Interrupted as stop:
            _say(console, f"stopped by {stop}; the same command goes on")
            return EXIT_INTERRUPTED


class Design:
    """What a claim needs of a sweep: cells of its space, and the seeds in their order."""

    def __init__(self, config: SweepConfig, claim: str) -> None:
        """Rehearses the claim on the sweep's points.

        Raises:
            UserError: there is no such claim, or the config does not vary what it needs.
        """
        asked = question(claim)
        if config.race is not None:
            raise UserError(
                f"--decide {claim}: runs all cells of a claim with each seed, and race: leaves some out; leave race out"
            )
        if config.search.name != "grid":
            raise UserError(f"--decide {claim}: needs search.name: grid, whose cells are the same for every seed")
        if config.search.points:
            raise UserError(f"--decide {claim}: needs a grid alone; leave search.points out, or list their values")
        self.config, self.claim, self.asked = config, claim, asked
        self._points = fixed_points(config)
        self._cells = rehearsed(config)
        if (reason := not_measured(asked, self._cells)) is not None:
            raise UserError(f"--decide {claim}: {reason}; take a config such as {asked.config}")

    @property
    def choosing(self) -> tuple[int, ...]:
        """The seeds that choose each method's best cell, all of the config's; none where no cell is chosen."""
        return self.config.seeds if self.asked.confirms else ()

    def blocks(self, without: frozenset[int] = frozenset()) -> Iterator[tuple[int, ...]]:
        """The seeds after each block, all those before it included; without end.

        Args:
            without: seeds that are passed over.
        """
        own, fewest = self.config.seeds, len(self.choosing) or 1
        for n in itertools.count(fewest):
            seeds = itertools.chain(own, itertools.count(max(own) + 1))
            yield tuple(itertools.islice((seed for seed in seeds if seed not in without), n))

    def passed_over(self, records: Sequence[Mapping[str, Any]]) -> frozenset[int]:
        """Of a claim that goes by turns, the seeds of which other launches trained something, in whatever order."""
        elsewhere = trained_elsewhere(records, self.claim)
        of_trial = {record["trial_id"]: record["seed"] for record in records if record["record"] == "trial"}
        seeds = tuple(sorted({of_trial[trial] for trial in elsewhere if trial in of_trial}))
        if not self.asked.by_turns or not seeds:
            return frozenset()
        part = self._pinned(self.asked.cells(self._cells), seeds)
        trials = planned(part, fixed_points(part), fingerprints(part))
        return frozenset(trial.seed for trial in trials if trial.id in elsewhere)

    def parts(self, seeds: tuple[int, ...], study: Study) -> list[SweepConfig]:
        """The sweeps that a block is made of: the config narrowed to the claim's cells.

        Args:
            seeds: see `blocks`.
            study: what is known so far; best cells are chosen in it, of the config's own seeds.
        """
        cells = self.asked.cells(self._cells)
        if self.choosing and len(seeds) > len(self.choosing):
            chosen = self._chosen(study)
            new = seeds[len(self.choosing) :]
            return [self._pinned(rows, new) for _, rows in chosen.groupby(["model.name", "method"], sort=False)]
        if self.asked.pairs:
            return [self._pinned(rows, seeds) for _, rows in cells.groupby("optimizer.name", sort=False)]
        part = self._pinned(cells, seeds)
        return [_by_turns(part, len(seeds)) if self.asked.by_turns else part]

    def _chosen(self, study: Study) -> DataFrame:
        """The cells that validation chose for each network and method, by the config's own seeds."""
        wanted = planned(self.config, self._points, fingerprints(self.config))
        trials, seeds = study.trials[study.trials["trial_id"].isin({t.id for t in wanted})], self.config.seeds
        primary, chosen = self.config.objectives[0], []
        metric = f"last_{primary.name}"
        for _, part in trials.groupby("model.name", sort=False):
            if measured(part, metric).empty:
                raise UserError(f"--decide {self.claim}: no trial measured {primary.name}, which chooses the cells")
            best = best_trials(published_settings(part), metric, mode=primary.mode, seeds=seeds)
            chosen.append(set(best["trial_id"]))
        ids = set().union(*chosen)
        points = [trial.point for trial in wanted if trial.id in ids]
        here: DataFrame = self._cells[[point in points for point in self._cells["point"]]]
        return here

    def _pinned(self, cells: DataFrame, seeds: tuple[int, ...]) -> SweepConfig:
        """The config with these seeds, each axis with the values that it has in these cells alone."""
        points = list(cells["point"])
        space = {}
        for key, axis in self.config.space.items():
            used = [point[key] for point in points if key in point]
            if kept := tuple(value for value in axis.extremes() if value in used):
                space[key] = axis.model_copy(update={"grid": kept})
        return self.config.model_copy(update={"space": space, "seeds": seeds})


def _by_turns(config: SweepConfig, block: int) -> SweepConfig:
    """The config whose optimizers go by turns, trial by trial, and each of which is the first in every other block.

    Args:
        config: of a grid.
        block: how many blocks there are with it.
    """
    names = "optimizer.name" if "optimizer.name" in config.space else "preset"
    space = {key: axis for key, axis in config.space.items() if key != names}
    optimizers = config.space[names]
    turned = optimizers.model_copy(update={"grid": optimizers.extremes()[:: 1 if block % 2 else -1]})
    return config.model_copy(update={"space": {**space, names: turned}})


def rehearsed(config: SweepConfig) -> DataFrame:
    """The sweep's cells with two seeds, as `not_measured` takes them; made-up numbers stand in place of results."""
    return _cells(config.model_copy(update={"seeds": (0, 1)}))


def not_measured(asked: Question, cells: DataFrame) -> str | None:
    """Why the cells of a sweep say nothing of a claim; None: they can measure it."""
    networks = [part for _, part in cells.groupby("model.name", sort=False)]
    effects = [asked.measure(rows, Options()) for part in networks for _, rows in asked.tasks(part)]
    reasons = [effect.reason for effect in effects if isinstance(effect, NotMeasured)]
    return reasons[0] if len(reasons) == len(effects) else None


def trial_seconds(records: Iterable[Mapping[str, Any]], claim: str) -> float:
    """Training, evaluation and checkpoints of the epochs that launches to decide the claim recorded, s."""
    return spent_seconds(records, lambda launched: decided_by(launched).get("claim") == claim)


def _seed_after_seed(design: Design, directory: Path, console: Console, hours: float, run: Run) -> int:
    """Block after block; see `decide`."""
    idle = 0
    known: dict[tuple[str, str], int] = {}
    claims: tuple[Claim, ...] = ()
    if without := design.passed_over(earlier_records(directory)):
        _say(console, f"passed over, other launches having trained them: seeds {', '.join(map(str, sorted(without)))}")
    for seeds in design.blocks(without):
        records, plans = _planned(design, directory, seeds)
        while (needed := _hours_left(plans)) is None and trial_seconds(records, design.claim) <= 3600 * hours:
            _say(console, "one trial first: without an epoch measured nobody knows what the others cost")
            if (code := run(_unmeasured(plans, records))) != EXIT_DONE:
                return _not_whole(console, code, seeds)
            records, plans = _planned(design, directory, seeds)
        used = trial_seconds(records, design.claim) / 3600
        if any(one.left for one in plans) and (needed is None or used + needed > hours):
            cost = "a time not known yet" if needed is None else f"{needed:.3g} h"
            _say(console, f"stopped: seed {seeds[-1]} would take {cost}, and {max(hours - used, 0):.3g} h are left")
            return _close(console, claims)
        for part in (one.config for one in plans if one.left):
            if (code := run(part)) != EXIT_DONE:
                return _not_whole(console, code, seeds)
        records = earlier_records(directory)
        claims = _look(design, directory, records, plans)
        spent = f"{trial_seconds(records, design.claim) / 3600:.3g} of {hours:g} h"
        for claim in claims:
            _say(console, f"seed {seeds[-1]}: {sentence(claim)}; {spent}")
        undecided = [claim for claim in claims if claim.verdict not in ("supported", "contradicted")]
        if not undecided:
            _say(console, f"decided after seed {seeds[-1]}")
            return _close(console, claims)
        grew = any(claim.n > known.get((claim.network, claim.of), 0) for claim in undecided)
        idle, known = (0 if grew else idle + 1), {(claim.network, claim.of): claim.n for claim in claims}
        if idle > _PATIENCE:
            _say(console, f"stopped: {idle} seeds in a row added nothing, their trials being left out of the claim")
            return _close(console, claims)
    raise AssertionError("blocks have no end")


def _planned(design: Design, directory: Path, seeds: tuple[int, ...]) -> tuple[Sequence[Mapping[str, Any]], list[Plan]]:
    """The records, and the plans of a block's parts held against them.

    Raises:
        UserError: a trial of theirs was pruned.
    """
    records = earlier_records(directory)
    plans = [plan(part, records, code_version()) for part in design.parts(seeds, study_of(records))]
    pruned = {name for one in plans for name in one.left_out if one.progress.trials[name].pruned}
    if pruned:
        raise UserError(
            f"{directory}: {plural(len(pruned), 'trial')} that the claim needs {'was' if len(pruned) == 1 else 'were'} "
            f"pruned, and which seeds are compared may not depend on how they came out: {sorted(pruned)[0]}; take them "
            "up again by `sweep launch --resume-pruned`, or give another --out"
        )
    return records, plans


def _unmeasured(plans: Sequence[Plan], records: Sequence[Mapping[str, Any]]) -> SweepConfig:
    """A sweep of one trial to run: the first of a kind of which no epoch was measured."""
    progress = Progress.of(records)
    finished = {trial.id for trial in progress.trials.values() if trial.finished}
    for one in plans:
        measured = Measured(progress, one.config)
        for trial in one.search.known():
            to_run = trial.id not in finished and trial.id not in one.left_out
            if to_run and measured.epoch(shape_of(trial)) is None:
                axes = {key: axis for key, axis in one.config.space.items() if key in trial.point}
                space = {key: axis.model_copy(update={"grid": (trial.point[key],)}) for key, axis in axes.items()}
                return one.config.model_copy(update={"space": space, "seeds": (trial.seed,)})
    raise AssertionError("every kind of trial was measured")


def _not_whole(console: Console, code: int, seeds: tuple[int, ...]) -> int:
    why = {EXIT_SOME_FAILED: "a trial failed or lacks memory", EXIT_RAY_GONE: "Ray is gone"}
    _say(console, f"{why.get(code, 'interrupted')}: seed {seeds[-1]} is not whole; the same command goes on")
    return code


def _look(
    design: Design, directory: Path, records: Sequence[Mapping[str, Any]], plans: Sequence[Plan]
) -> tuple[Claim, ...]:
    """The claim's lines in what the records hold of its trials."""
    wanted = frozenset(trial.id for one in plans for trial in one.search.known())
    primary = design.config.objectives[0]
    choosers, known = frozenset(design.choosing) or None, study_of(records, registration.read(directory))
    study = replace(known, launched={design.claim: wanted}, choosers=choosers)
    return ledger(study, metric=primary.name, mode=primary.mode, only=design.claim)


def _hours_left(plans: Sequence[Plan]) -> float | None:
    """What the unfinished trials will take, by the epochs measured; None where those say nothing of some."""
    seconds = [one.trial_seconds for one in plans if one.left]
    known = [value for value in seconds if value is not None]
    return sum(known) / 3600 if len(known) == len(seconds) else None


def _close(console: Console, claims: tuple[Claim, ...]) -> int:
    if claims:
        _say(console, claims_text(claims, min(WIDTH, console.width)))
    return EXIT_DONE


def _cells(config: SweepConfig) -> DataFrame:
    """The sweep's trials in the frame that effects read, made-up numbers in place of results; and their points."""
    trials = planned(config, fixed_points(config), fingerprints(config))
    records = [{"record": "trial", **trial.record(number)} for number, trial in enumerate(trials)]
    frame = with_decay(trials_of(records), records)
    made_up = np.random.default_rng(0).uniform(0.1, 0.9, (3, len(frame)))
    names = ("last_val_robust", ROBUST, EPOCH_SECONDS)
    results = dict(zip(names, made_up, strict=True))
    points = Series([trial.point for trial in trials], index=frame.index, dtype=object)
    return frame.assign(outcome="completed", point=points, **results)
