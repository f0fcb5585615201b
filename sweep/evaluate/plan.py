"""What an evaluation has to do: which trials, which attacks, which images, and what of it is recorded already."""

from __future__ import annotations

import functools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, ClassVar, Literal, NamedTuple, TypeAlias

from analysis.estimates.methods import told_apart
from analysis.frames.cells import (
    BEST_LEFT_OUT,
    BETTER,
    LEFT_OUT,
    best_trials,
    better_text,
    left_out_text,
    nothing_completed,
)
from analysis.frames.evaluations import Key, all_by_key, disjoint, drawn_by_image, key
from analysis.frames.trials import trials_of
from analysis.tables.evaluations import attack_name
from sweep.axes import leaf_keys, nested
from sweep.config import SweepConfig
from sweep.progress import Progress
from sweep.storage import checkpoints
from sweep.storage.cache import shown
from trainers.checkpoint import DamagedCheckpoint, kept_weights
from trainers.config import DataConfig, TrialConfig, check_length
from trainers.data.sets import load
from trainers.errors import UserError, validated, written_out
from trainers.fields import plural
from trainers.files import checkpoint_path
from trainers.ladder.rungs import CHECKS, AttackName, CheckName, LadderAttack, Strength, ladder_attack
from trainers.ladder.survivors import check
from trainers.own import snapshot
from trainers.record import only_trial

Records: TypeAlias = Sequence[Mapping[str, Any]]
Done: TypeAlias = Mapping[Key, Sequence[Mapping[str, Any]]]
"""The evaluation records of a run, by `analysis.frames.evaluations.all_by_key`."""

#: Images in a chunk: what a killed evaluation loses at most, and what runs in parallel. On a GPU a chunk of the two
#: slow attacks takes minutes, of the others seconds.
CHUNK, SLOW_CHUNK = 1000, 250

#: Images of a check: of as many that all are right, 7 that only the weaker of two attacks breaks make it fail.
CHECKED = 200


@dataclass(frozen=True)
class Asked:
    """What a user wants evaluated."""

    attacks: tuple[AttackName, ...]
    trial_ids: tuple[str, ...] = ()
    """Beginnings of ids; none: every completed trial."""
    best: Literal["overall", "each"] | None = None
    """In place of all, the trials of the best cell by validation, or of each model's and method's, as `sweep methods`
    tells them apart."""
    weights: Literal["last", "best"] = "last"
    averaged: bool = False
    split: Literal["test", "val"] = "test"
    images: int | None = None
    """At most so many; None: all of the split."""
    strength: Strength = field(default_factory=Strength)
    checks: bool = False
    """Whether the gradients are checked too, on the first `CHECKED` images where `images` says nothing."""
    radii: tuple[float, ...] = ()
    """Each attack that reads a radius at each of these; none: at the one of `strength`."""
    needs: tuple[Literal["right", "margins"], ...] = ()
    """Fields of an EvaluationRecord without which a chunk that is recorded counts as none: it is run again."""


class Chunk(NamedTuple):
    """Some images of a split, in its fixed order."""

    first: int
    images: int


@dataclass(frozen=True)
class Evaluation:
    """One trial's weights under one attack on the first `asked` images of a split."""

    kind: ClassVar[Literal["evaluation", "check"]] = "evaluation"
    """Of its records."""

    trial_id: str
    config: TrialConfig
    weights: Literal["last", "best"]
    averaged: bool
    attack: LadderAttack
    split: Literal["test", "val"]
    asked: int
    left_out: str = ""
    """Of the cells that were no candidates when validation chose the trial's (`analysis.frames.cells.best_cells`)."""
    needs: tuple[Literal["right", "margins"], ...] = ()
    """Of `Asked`."""

    def named(self) -> dict[str, Any]:
        """The keys of its records that tell it from other evaluations, and how many images are asked for."""
        names = ("trial_id", "weights", "averaged", "split", "asked")
        attack = {"attack": self.attack.name, "parameters": self.attack.parameters()}
        return {**{name: getattr(self, name) for name in names}, **attack}

    @property
    def title(self) -> str:
        """The attack in words."""
        return attack_name(self.attack.model_dump(mode="json") | {"attack": self.attack.name})

    def recorded(self, done: Done) -> Sequence[Mapping[str, Any]]:
        """Its chunks that are recorded with all that it needs.

        Of older code, whose draws were seeded by chunk, all or none: none is added to such an evaluation.
        """
        chunks = self.kept(done)
        older = [chunk for chunk in chunks if not drawn_by_image(chunk)]
        return older if older and not gaps(older, self.asked, self.asked) else list(filter(drawn_by_image, chunks))

    def kept(self, done: Done) -> list[Mapping[str, Any]]:
        """Its chunks, of older code too, that hold what it needs."""
        known = done.get(key(self.named()), ())
        return [chunk for chunk in known if all(chunk.get(name) is not None for name in self.needs)]

    def missing(self, done: Done) -> list[Chunk]:
        """Its chunks that are not."""
        size = SLOW_CHUNK if self.attack.name in ("apgd", "autoattack") else CHUNK
        return gaps(self.recorded(done), self.asked, size)


@dataclass(frozen=True)
class Check(Evaluation):
    """One trial's weights under one check of `trainers.ladder.checks`; `attack` has the ball."""

    kind: ClassVar[Literal["evaluation", "check"]] = "check"
    check: CheckName = "steps"

    def named(self) -> dict[str, Any]:
        """The keys of its records that tell it from other checks, and how many images are asked for."""
        named = super().named()
        del named["attack"]
        return {**named, "check": self.check}

    @property
    def title(self) -> str:
        """The check's name."""
        return f"check {self.check}"

    def recorded(self, done: Done) -> Sequence[Mapping[str, Any]]:
        """Its chunks that are recorded."""
        return done.get(key(self.named()), ())

    def missing(self, done: Done) -> list[Chunk]:
        """Its chunks that are not."""
        return gaps(self.recorded(done), self.asked, SLOW_CHUNK)


def recorded(records: Records) -> Done:
    """What of evaluations and checks is recorded."""
    return {**all_by_key(records), **all_by_key(records, "check")}


def gaps(done: Iterable[Mapping[str, Any]], images: int, size: int) -> list[Chunk]:
    """The first `images` images without those of the chunks that are done, cut at the multiples of `size`.

    >>> gaps([{"first": 0, "images": 100}], 600, 250)
    [Chunk(first=100, images=150), Chunk(first=250, images=250), Chunk(first=500, images=100)]
    """
    chunks, position = [], 0
    for chunk in [*disjoint(done), {"first": images, "images": 0}]:
        while position < (end := min(chunk["first"], images)):
            stop = min(end, (position // size + 1) * size)
            chunks.append(Chunk(position, stop - position))
            position = stop
        position = max(position, chunk["first"] + chunk["images"])
    return chunks


def plan(directory: Path, records: Records, sweep: SweepConfig, asked: Asked) -> list[Evaluation]:
    """The evaluations that are asked for, the weakest attack first, checked as far as it goes without attacking.

    Args:
        directory: of the run.
        records: of the run.
        sweep: the run's config: where the data lie.
        asked: what the user wants.

    Raises:
        UserError: a trial, its weights or its data are not as they must be, or an attack cannot be run.
    """
    trials = {record["trial_id"]: record for record in records if record["record"] == "trial"}
    snapshot.look_in(directory / snapshot.FOLDER)
    chosen = _chosen(directory, records, asked)
    configs = {name: _config(directory, trials[name], sweep) for name in chosen}
    evaluations = [
        Evaluation(name, config, asked.weights, asked.averaged, attack, asked.split, number, chosen[name], asked.needs)
        for name, config, number in _sized(configs, asked)
        for attack in _attacks(asked, config)
    ]
    evaluations.sort(key=lambda one: asked.attacks.index(one.attack.name))
    evaluations += _checks(configs, asked, chosen)
    done = recorded(records)
    for name in dict.fromkeys(one.trial_id for one in evaluations if one.missing(done)):
        checkpoints.fetch(directory, name)
        with suppress(DamagedCheckpoint):  # whose trial is skipped once it is read, and the others go on
            kept_weights(checkpoint_path(directory, name), asked.weights, averaged=asked.averaged, mapped=True)
    return evaluations


def _checks(configs: Mapping[str, TrialConfig], asked: Asked, left_out: Mapping[str, str]) -> list[Evaluation]:
    """The checks of each trial, those left out that cannot be run on it."""
    if not asked.checks:
        return []
    sized = _sized(configs, replace(asked, images=asked.images or CHECKED))
    checks: list[Evaluation] = []
    for name, config, number in sized:
        runs = [check for check in CHECKS if check != "black_box" or not cannot_run(*_kind(config))]
        for ball in _attacks(replace(asked, attacks=("fgsm",)), config):
            if not ball.radius:
                raise UserError(
                    f"--checks: trial {name} is evaluated at radius 0, which no attack leaves; give --radius"
                )
            values = (name, config, asked.weights, asked.averaged, ball, asked.split, number, left_out[name])
            checks += [Check(*values, check=check) for check in runs]
    return checks


@functools.lru_cache(maxsize=8)
def cannot_run(data: DataConfig, norm: Literal["linf", "l2"]) -> str:
    """Why the check of black and white box cannot be run on such data; empty: it can."""
    images = load(data, "cpu")
    try:
        check(LadderAttack(name="autoattack", norm=norm), images.num_classes, *images.image_size)
    except UserError as error:
        return str(error).partition(": ")[2].partition("; ")[0]
    return ""


def _attacks(asked: Asked, config: TrialConfig) -> list[LadderAttack]:
    """Each attack at each radius; one that reads no radius once."""
    wanted = product(asked.attacks, _strengths(asked))
    return list(dict.fromkeys(ladder_attack(name, strength, config) for name, strength in wanted))


def _strengths(asked: Asked) -> list[Strength]:
    return [asked.strength._replace(radius=radius) for radius in asked.radii] or [asked.strength]


def _chosen(directory: Path, records: Records, asked: Asked) -> dict[str, str]:
    """The ids of the trials to evaluate, each with what to know of the cells left out where its own was chosen."""
    progress = Progress.of(records)
    completed = [trial.id for trial in progress.trials.values() if trial.finished and trial.outcome == "completed"]
    left_out: dict[str, str] = {}
    if asked.trial_ids:
        return {_named(directory, progress, beginning): "" for beginning in asked.trial_ids}
    trials = trials_of(records)
    if not completed:
        raise UserError(f"{shown(directory)}: {nothing_completed(trials, 'to attack')}")
    if asked.best:
        by = {"metric": "val_robust", "mode": "max"} | dict(progress.chosen_by)
        overall = asked.best == "overall"
        among = trials if overall else told_apart(trials, ())
        best = best_trials(among, f"last_{by['metric']}", mode=by["mode"], overall=overall)
        left_out = {row["trial_id"]: _left_out(row, f"last_{by['metric']}") for row in best.to_dict("records")}
        completed = [name for name in left_out if name in completed]
        if not completed:
            raise UserError(
                f"{shown(directory)}: no cell can be chosen by {by['metric']}; name the trials in place of --best"
            )
    return {name: left_out.get(name, "") for name in completed}


def _left_out(trial: Mapping[Any, Any], metric: str) -> str:
    """What to know of the cells that were left out where this trial's was chosen, in words."""
    doubt = better_text(int(trial[BETTER]), trial[BEST_LEFT_OUT], metric, trial["method"])
    return "; ".join(filter(None, [left_out_text(int(trial[LEFT_OUT])), doubt]))


def _named(directory: Path, progress: Progress, beginning: str) -> str:
    """The one completed trial whose id begins so."""
    trial = progress.trials[only_trial(shown(directory), progress.trials, beginning)]
    if trial.outcome != "completed" or not trial.finished:
        state = trial.state(live=False)
        raise UserError(f"{shown(directory)}: trial {trial.id} must be completed, and is {state}; choose another")
    return trial.id


def _config(directory: Path, trial: Mapping[str, Any], sweep: SweepConfig) -> TrialConfig:
    """The trial's config from its record; where its data lie, and on what it runs, from the sweep's.

    The sweep's config may have been widened since, and is no source of a trial's hyperparameters.
    """
    data = sweep.trial.data
    root = str(Path(data.root or "data").expanduser().absolute())
    elsewhere: dict[str, Any] = {"data.root": root, "data.download": data.download, "device": sweep.trial.device}
    elsewhere |= {"data.in_memory_gib": data.in_memory_gib, "data.decode": data.decode}
    try:
        return validated(TrialConfig, nested(trial["config"], elsewhere)).resolved()
    except UserError as error:
        raise UserError(
            f"{shown(directory)}: trial {trial['trial_id']}: {error}; other code trained it: evaluate it with that "
            "code, or train it again"
        ) from None


def _sized(configs: Mapping[str, TrialConfig], asked: Asked) -> list[tuple[str, TrialConfig, int]]:
    """Each trial with how many images of the split are asked for; reads each data set once."""
    there: dict[tuple[DataConfig, Literal["linf", "l2"]], int] = {}
    for name, config in sorted(configs.items(), key=lambda pair: pair[1].data.model_dump_json()):
        if _kind(config) not in there:
            there[_kind(config)] = _images(name, config, asked)
    sizes = {name: there[_kind(config)] for name, config in configs.items()}
    return [(name, config, min(sizes[name], asked.images or sizes[name])) for name, config in configs.items()]


def _kind(config: TrialConfig) -> tuple[DataConfig, Literal["linf", "l2"]]:
    """What decides whether an attack can be run on a trial: its data, and the norm."""
    return config.data, config.attack.norm


def _images(name: str, config: TrialConfig, asked: Asked) -> int:
    """How many images the split has, on which each attack can be run."""
    try:
        data = load(config.data, "cpu")
    except UserError as error:
        if not str(error).startswith("data."):
            raise UserError(str(error)) from None
        raise UserError(f"trial {name}: {written_out(str(error), leaf_keys(), lambda _: 'trial.')}") from None
    images = len(getattr(data, asked.split).labels)
    if images == 0:
        raise UserError(f"--split {asked.split}: trial {name} holds no images out; take --split test")
    for strength, option in product(_strengths(asked), ("radius", "step_size")):
        try:
            length = getattr(strength, option) or 0.0
            check_length(f"--{option}".replace("_", "-"), length, config.attack.norm, math.prod(data.train.shape))
        except ValueError as error:
            raise UserError(str(error)) from None
    for attack in asked.attacks:
        check(LadderAttack(name=attack, norm=config.attack.norm), data.num_classes, *data.image_size)
    return images


def fewer(evaluations: Sequence[Evaluation], images: int | None) -> list[str]:
    """That a split has fewer images than are asked for, in words; nothing where each has as many."""
    sizes = {one.asked for one in evaluations if images is not None and one.asked < images}
    split = evaluations[0].split
    return [f"  --images {images}: of {split} there are {size}, all of which are taken" for size in sorted(sizes)]


def described(evaluations: Sequence[Evaluation], done: Done) -> list[str]:
    """The plan in words."""
    trials = len({one.trial_id for one in evaluations})
    names = [one.attack.name if one.kind == "evaluation" else "checks" for one in evaluations]
    attacks = ", ".join(dict.fromkeys(names))
    of_one = Counter(one.title for one in evaluations if one.trial_id == evaluations[0].trial_id)
    radii = f" at {most} radii" if (most := max(of_one.values())) > 1 else ""
    sizes = sorted({one.asked for one in evaluations})
    images = f"{sizes[0]}" if len(sizes) == 1 else f"{sizes[0]} to {sizes[-1]}"
    first = evaluations[0]
    weights = f"{first.weights}{', averaged' if first.averaged else ''}"
    there = sum(len(one.recorded(done)) for one in evaluations)
    left = sum(len(one.missing(done)) for one in evaluations)
    older = sum(bool(one.kept(done)) and not one.recorded(done) for one in evaluations)
    reasons = {cannot_run(*_kind(one.config)) for one in evaluations if one.kind == "check"} - {""}
    return [
        f"{plural(trials, 'trial')}: {attacks}{radii} on {images} {first.split} images each (weights: {weights})",
        *(f"  {why}" for why in dict.fromkeys(one.left_out for one in evaluations) if why),
        *(f"  check black_box is not run: {reason}" for reason in sorted(reasons)),
        *([f"  {older} begun by older code are begun anew: its draws depended on the chunk"] if older else []),
        f"  chunks of images: {there} recorded already, {left} to run",
    ]
