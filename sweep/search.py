"""Which trial next: a list that is known beforehand, or Optuna, which learns from what came back.

A search hands out trials and is told what they gave. It keeps nothing on disk: Optuna's study is rebuilt from the
run's records, and each of its draws is seeded by its own number, so that a relaunch goes on where the last one was.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from sweep.config import SweepConfig
from sweep.space import Axis, Point, applies, combinations, draw, drawn_axes, nested, strata, value_at
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
        """The trials that are certain already: all of a grid; of Optuna's, those asked for by earlier launches."""

    def next(self) -> PlannedTrial | None:
        """The next trial that is not finished; None when there is no more, now or ever."""

    def tell(self, trial_id: str, value: float | None) -> None:
        """The metric that a trial ended with; None: it failed, and nobody knows."""


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
    points: list[Point] = [{"data.name": name} for name in names.extremes()] if names else []
    if names is None or names.when:
        points.append({})
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

    def tell(self, trial_id: str, value: float | None) -> None:
        """Adds a seed's value; after the last one Optuna is told the mean, or that the point failed."""
        import optuna

        self.waiting.remove(trial_id)
        if value is not None:
            self.values.append(value)
        if self.waiting:
            return
        if self.values:
            self.study.tell(self.ask, sum(self.values) / len(self.values))
        else:
            self.study.tell(self.ask, state=optuna.trial.TrialState.FAIL)


class _Stratum:
    """One combination of the grid axes: its own study, and the points asked for by earlier launches."""

    def __init__(self, number: int, point: Point, limit: int, listed: list[Point] | None, study: optuna.Study) -> None:
        self.number, self.point, self.study = number, point, study
        self.limit = limit
        """Points to give out: n_trials, or all there are."""
        self.listed = listed
        """All there are, one for each trial that they mean; None where an axis is a range."""
        self.earlier: list[Point] = []
        self.given: list[set[str]] = []
        """Ids of the trials of every point given out."""


class OptunaSearch:
    """Bayesian search, one study for each combination of the grid axes; seeds are replicates of one point."""

    #: Combinations of drawn values that are looked at, at most, to learn how many points there are.
    LISTED = 1000

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
            earlier: the run's `trial` records, in order; those that are not of this sweep are passed over.
            values: trial id -> metric of the finished ones, None where a trial has none.

        Raises:
            UserError: values of the space do not go together.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config, self._fingerprints = config, fingerprints
        self._base = config.trial.model_dump()
        self._strata = self._distinct_strata()
        self._asked: dict[str, list[_Asked]] = defaultdict(list)
        self._left: deque[PlannedTrial] = deque()
        self._ended = dict(values or {})
        self._take_up(earlier)

    def size(self) -> int:
        """Points of every stratum times seeds."""
        return sum(stratum.limit for stratum in self._strata) * len(self._config.seeds)

    def known(self) -> list[PlannedTrial]:
        """Those that earlier launches asked for; more are certain when Optuna has been asked for them."""
        return self._planned(point for stratum in self._strata for point in stratum.earlier)

    def next(self) -> PlannedTrial | None:
        """The next seed of a point, or the first seed of a new point."""
        while not self._left and (stratum := self._shortest()) is not None:
            self._ask(stratum)
        return self._left.popleft() if self._left else None

    def tell(self, trial_id: str, value: float | None) -> None:
        """Adds a seed's value; when the point has all of them, Optuna is told the mean of those that are known."""
        self._ended[trial_id] = value
        for asked in self._asked.pop(trial_id, []):
            asked.tell(trial_id, value)

    def _planned(self, points: Iterable[Point]) -> list[PlannedTrial]:
        return planned(self._config, points, self._fingerprints)

    def _distinct_strata(self) -> list[_Stratum]:
        """The strata, less those that mean the same trials as one before them (they differ in a key not read)."""
        import optuna

        wanted = self._config.search.n_trials or 0
        direction = {"max": "maximize", "min": "minimize"}[self._config.mode]
        found: dict[frozenset[str], _Stratum] = {}
        for point in strata(self._config.space, self._base):
            seed = self._config.seeds[0]
            most = max(self.LISTED, wanted)
            listed = list(islice(combinations(self._config.space, self._base, point), most))
            trials = {_trial(self._base, one, seed, self._fingerprints).id: one for one in reversed(listed)}
            open_ended = any(axis.is_range and key in one for one in listed for key, axis in self._config.space.items())
            study = optuna.create_study(direction=direction)
            limit = wanted if open_ended else min(wanted, len(trials))
            every = None if open_ended else list(trials.values())
            found.setdefault(frozenset(trials), _Stratum(len(found), point, limit, every, study))
        return list(found.values())

    def _shortest(self) -> _Stratum | None:
        """The stratum with the fewest points, so that all advance together; None when all are full."""
        open_ones = [stratum for stratum in self._strata if len(stratum.given) < stratum.limit]
        return min(open_ones, key=lambda stratum: len(stratum.given), default=None)

    def _ask(self, stratum: _Stratum) -> None:
        """Asks one study for a point and puts its seeds in line; the finished ones are told at once."""
        index = len(stratum.given)
        stratum.study.sampler = _sampler(self._config, stratum.number, index)
        ask, trials = self._asked_for(stratum, stratum.earlier[index] if index < len(stratum.earlier) else None)
        if {trial.id for trial in trials} in stratum.given:
            ask, trials = self._instead(stratum, ask)
        asked = _Asked(ask, stratum.study, {trial.id for trial in trials})
        stratum.given.append({trial.id for trial in trials})
        for trial in trials:
            in_line = trial.id in self._asked
            self._asked[trial.id].append(asked)
            if trial.id in self._ended:
                self.tell(trial.id, self._ended[trial.id])
            elif not in_line:
                self._left.append(trial)

    def _asked_for(self, stratum: _Stratum, point: Point | None = None) -> tuple[optuna.Trial, list[PlannedTrial]]:
        """Optuna's next point, or the one that it is given, and its trials."""
        if point is not None:
            stratum.study.enqueue_trial(_parameters(self._config.space, point))
        ask = stratum.study.ask()
        return ask, self._planned([_suggest(ask, self._config.space, self._base, stratum.point)])

    def _instead(self, stratum: _Stratum, ask: optuna.Trial) -> tuple[optuna.Trial, list[PlannedTrial]]:
        """A new point where Optuna repeats one, which it does in a small space."""
        import optuna

        stratum.study.tell(ask, state=optuna.trial.TrialState.FAIL)
        seed = self._config.search.seed
        points: Iterator[Point] = (draw(self._config.space, self._base, stratum.point, seed, n) for n in count())
        new = (
            point
            for point in (points if stratum.listed is None else stratum.listed)
            if {trial.id for trial in self._planned([point])} not in stratum.given
        )
        return self._asked_for(stratum, next(new))

    def _take_up(self, earlier: Iterable[Mapping[str, Any]]) -> None:
        """Sorts earlier trials' points into the strata, each once, in order."""
        for record in earlier:
            for stratum in self._strata:
                point = self._point_in(stratum, record)
                if point is not None and point not in stratum.earlier and self._means(point, record):
                    stratum.earlier.append(point)
        for stratum in self._strata:
            del stratum.earlier[stratum.limit :]

    def _point_in(self, stratum: _Stratum, record: Mapping[str, Any]) -> Point | None:
        """The point of the stratum that an earlier trial is at; None: it lies in none, or outside a drawn axis."""
        space, point = self._config.space, dict(stratum.point)
        if not all(_is_at(record, key, value) for key, value in point.items()):
            return None
        for key in drawn_axes(space):
            if applies(space[key], point, self._base):
                point[key] = record["point"].get(key, _read_value(record, key))
                if not space[key].admits(point[key]):
                    return None
        return point

    def _means(self, point: Point, record: Mapping[str, Any]) -> bool:
        """Whether the point, with the earlier trial's seed, is that very trial."""
        return _trial(self._base, point, record["seed"], self._fingerprints).id == record["trial_id"]


def _is_at(record: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether an earlier trial may have this value: in its point or its config, or its config reads no such key."""
    return value in (record["point"].get(key), _read_value(record, key, value))


def _read_value(record: Mapping[str, Any], key: str, default: Any = None) -> Any:
    try:
        return value_at(record["config"], key)
    except KeyError:
        return default


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
        if axis.is_range:
            low, high = axis.extremes()
            point[key] = ask.suggest_float(key, low, high, log=axis.loguniform is not None)
        else:
            point[key] = json.loads(ask.suggest_categorical(key, [json.dumps(v) for v in axis.extremes()]))
    return point


def _parameters(space: Mapping[str, Axis], point: Point) -> dict[str, Any]:
    """The point as Optuna's parameters: lists of values are categories named by their JSON."""
    drawn = {key: point[key] for key in drawn_axes(space) if key in point}
    return {key: value if space[key].is_range else json.dumps(value) for key, value in drawn.items()}


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
        if trial.data.fingerprint not in (None, found[key]):
            raise UserError(
                f"trial.data.fingerprint: the data are {found[key]}, not {trial.data.fingerprint}; "
                "point trial.data.root at those, or leave trial.data.fingerprint out"
            )
    return found
