"""Which trial next: a list that is known beforehand, or Optuna, which learns from what came back.

A search hands out trials and is told what they gave. It keeps nothing on disk: Optuna's study is rebuilt from the
run's records, and each of its draws is seeded by its own number, so that a relaunch goes on where the last one was.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweep.config import SweepConfig
from sweep.space import Axis, Point, applies, draw, drawn_axes, nested, strata
from trainers.config import TrialConfig, identity, trial_id
from trainers.errors import UserError, validated

if TYPE_CHECKING:
    import optuna


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that the sweep wants: its config and where in the space it lies."""

    id: str
    config: TrialConfig
    point: Point
    seed: int

    def record(self, number: int) -> dict[str, Any]:
        """The values of its `trial` line in the records."""
        return {
            "trial_id": self.id,
            "number": number,
            "config": identity(self.config),
            "point": self.point,
            "seed": self.seed,
        }


class Search(Protocol):
    """The one interface of grid, random and Optuna."""

    def size(self) -> int:
        """How many trials the sweep has in all, finished ones included."""

    def known(self) -> list[PlannedTrial]:
        """The trials that are certain already: all of a grid, none of a search that has not asked yet."""

    def next(self) -> PlannedTrial | None:
        """The next trial that is not finished; None when there is no more, now or ever."""

    def tell(self, trial_id: str, value: float | None) -> None:
        """The metric that a trial ended with; None: it has none."""


def planned(config: SweepConfig, points: Iterable[Point], fingerprints: Mapping[str, str]) -> list[PlannedTrial]:
    """Every point with every seed; points that mean the same trial (one differs in a key not read) are one.

    Args:
        config: the sweep.
        points: of its space.
        fingerprints: canonical JSON of a data config -> fingerprint of its data (see `data_key`).

    Raises:
        UserError: a point's values do not go together.
    """
    base = config.trial.model_dump()
    trials: dict[str, PlannedTrial] = {}
    for point in points:
        for seed in config.seeds:
            trial = _trial(base, point, seed, fingerprints)
            trials.setdefault(trial.id, trial)
    return list(trials.values())


def _trial(base: dict[str, Any], point: Point, seed: int, fingerprints: Mapping[str, str]) -> PlannedTrial:
    config = validated(TrialConfig, nested(base, {**point, "seed": seed}), f"the point {json.dumps(point)}: ")
    root = str(Path(config.data.root or "data").expanduser().absolute())
    data = config.data.model_copy(update={"fingerprint": fingerprints[data_key(config)], "root": root})
    config = config.model_copy(update={"data": data}).resolved()
    return PlannedTrial(trial_id(config), config, point, seed)


def data_key(config: TrialConfig) -> str:
    """What decides which files a trial reads: two trials with the same key have the same fingerprint."""
    return config.data.model_dump_json(include={"name", "root", "download"})


def distinct_data(config: SweepConfig) -> dict[str, TrialConfig]:
    """One trial for each data set that the sweep touches, by its `data_key`."""
    base = config.trial.model_dump()
    names = config.space.get("data.name")
    points: list[Point] = [{"data.name": name} for name in names.extremes()] if names else [{}]
    trials = [validated(TrialConfig, nested(base, point), "space") for point in points]
    return {data_key(trial): trial for trial in trials}


@dataclass
class FixedSearch:
    """Grid and random search: every trial is known before the first one runs."""

    trials: list[PlannedTrial]
    finished: frozenset[str]
    _left: deque[PlannedTrial] = field(init=False)

    def __post_init__(self) -> None:
        """Puts the unfinished trials in line."""
        self._left = deque(trial for trial in self.trials if trial.id not in self.finished)

    def size(self) -> int:
        """How many trials there are in all."""
        return len(self.trials)

    def known(self) -> list[PlannedTrial]:
        """All of them."""
        return self.trials

    def next(self) -> PlannedTrial | None:
        """The next in line."""
        return self._left.popleft() if self._left else None

    def tell(self, trial_id: str, value: float | None) -> None:
        """Nothing is learnt."""


@dataclass
class _Asked:
    """A point that Optuna gave out: a value a seed comes back, and their mean is what Optuna is told."""

    ask: optuna.Trial
    study: optuna.Study
    waiting: set[str]
    values: list[float] = field(default_factory=list)


class OptunaSearch:
    """Bayesian search, one study for each combination of the grid axes; seeds are replicates of one point."""

    def __init__(
        self,
        config: SweepConfig,
        fingerprints: Mapping[str, str],
        earlier: Iterable[Mapping[str, Any]] = (),
        values: Mapping[str, float | None] | None = None,
    ) -> None:
        """Rebuilds the studies from a run's records.

        Args:
            config: the sweep.
            fingerprints: as for `planned`.
            earlier: the run's `trial` records, in order.
            values: trial id -> metric of the finished ones, None where a trial has none (it diverged).
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config, self._fingerprints = config, fingerprints
        self._base = config.trial.model_dump()
        self._strata = strata(config.space, self._base)
        direction = {"max": "maximize", "min": "minimize"}[config.mode]
        self._studies = [optuna.create_study(direction=direction) for _ in self._strata]
        self._asked: dict[str, _Asked] = {}
        self._left: deque[PlannedTrial] = deque()
        self._finished = dict(values or {})
        self._earlier = self._points_by_stratum(earlier)

    def size(self) -> int:
        """Points of every stratum times seeds."""
        return len(self._strata) * (self._config.search.n_trials or 0) * len(self._config.seeds)

    def known(self) -> list[PlannedTrial]:
        """None: a point is certain when Optuna has been asked for it."""
        return []

    def next(self) -> PlannedTrial | None:
        """The next seed of a point, or the first seed of a new point."""
        while not self._left and (stratum := self._shortest()) is not None:
            self._ask(stratum)
        return self._left.popleft() if self._left else None

    def tell(self, trial_id: str, value: float | None) -> None:
        """Adds a seed's value; when the point has all of them, Optuna is told their mean.

        A point all of whose seeds diverged counts as the worst there is: accuracy 0. For a loss there is
        no worst value, and Optuna is told that the point failed.
        """
        import optuna

        asked = self._asked.pop(trial_id, None)
        if asked is None:
            return
        asked.waiting.discard(trial_id)
        if value is not None:
            asked.values.append(value)
        elif self._config.mode == "max":
            asked.values.append(0.0)
        if asked.waiting:
            return
        if asked.values:
            asked.study.tell(asked.ask, sum(asked.values) / len(asked.values))
        else:
            asked.study.tell(asked.ask, state=optuna.trial.TrialState.FAIL)

    def _shortest(self) -> int | None:
        """The stratum with the fewest points, so that all advance together; None when all are full."""
        counts = [len(study.trials) for study in self._studies]
        stratum = min(range(len(counts)), key=counts.__getitem__)
        return stratum if counts[stratum] < (self._config.search.n_trials or 0) else None

    def _ask(self, stratum: int) -> None:
        """Asks one study for a point and puts its seeds in line; the finished ones are told at once."""
        study = self._studies[stratum]
        index = len(study.trials)
        study.sampler = _sampler(self._config, stratum, index)
        earlier = self._earlier[stratum]
        if index < len(earlier):
            study.enqueue_trial(_parameters(self._config.space, earlier[index]))
        ask = study.ask()
        point = _suggest(ask, self._config.space, self._base, self._strata[stratum])
        trials = planned(self._config, [point], self._fingerprints)
        asked = _Asked(ask, study, {trial.id for trial in trials})
        self._asked |= {trial.id: asked for trial in trials}
        for trial in trials:
            if trial.id in self._finished:
                self.tell(trial.id, self._finished[trial.id])
            else:
                self._left.append(trial)

    def _points_by_stratum(self, earlier: Iterable[Mapping[str, Any]]) -> dict[int, list[Point]]:
        """The points already asked for, by stratum, each once, in order."""
        points: dict[int, list[Point]] = defaultdict(list)
        for record in earlier:
            point = dict(record["point"])
            for number, stratum in enumerate(self._strata):
                if stratum.items() <= point.items() and point not in points[number]:
                    points[number].append(point)
        return points


def _sampler(config: SweepConfig, stratum: int, index: int) -> optuna.samplers.BaseSampler:
    """A fresh sampler for each draw, seeded by the draw's place: nothing of its state has to survive a crash."""
    import warnings

    import optuna

    digest = hashlib.sha256(repr((config.search.seed, stratum, index)).encode()).digest()
    seed = int.from_bytes(digest[:4])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if config.search.sampler == "gp":
            return optuna.samplers.GPSampler(seed=seed)
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True)


def _suggest(ask: optuna.Trial, space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point) -> Point:
    point = dict(stratum)
    for key in drawn_axes(space):
        axis = space[key]
        if not applies(axis, point, base):
            continue
        if bounds := axis.uniform or axis.loguniform:
            point[key] = ask.suggest_float(key, *bounds, log=axis.loguniform is not None)
        else:
            point[key] = json.loads(ask.suggest_categorical(key, [json.dumps(v) for v in axis.extremes()]))
    return point


def _parameters(space: Mapping[str, Axis], point: Point) -> dict[str, Any]:
    """The point as Optuna's parameters: lists of values are categories named by their JSON."""
    drawn = {key: point[key] for key in drawn_axes(space) if key in point}
    return {
        key: value if space[key].uniform or space[key].loguniform else json.dumps(value)
        for key, value in drawn.items()
    }


def fixed_points(config: SweepConfig) -> list[Point]:
    """The points of a grid or random search, a random one's strata side by side."""
    base = config.trial.model_dump()
    grid = strata(config.space, base)
    if config.search.name == "grid":
        return grid
    draws = range(config.search.n_trials or 0)
    return [draw(config.space, base, stratum, config.search.seed, index) for index in draws for stratum in grid]


def fingerprints(config: SweepConfig) -> dict[str, str]:
    """The fingerprint of every data set that the sweep touches, by `data_key`; reads the data.

    Raises:
        UserError: the data are not there, or not what `data.fingerprint` says.
    """
    from trainers.data import fingerprint

    found = {}
    for key, trial in distinct_data(config).items():
        try:
            found[key] = fingerprint(trial.data)
        except UserError as error:
            raise UserError(f"trial.{error}" if str(error).startswith("data.") else str(error)) from None
    return found
