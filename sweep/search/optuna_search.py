"""Bayesian search with Optuna, which learns from what came back.

Nothing is kept on disk: the studies are rebuilt from the run's records, and each draw is seeded by its own number, so
that a relaunch goes on where the last one was.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from typing import TYPE_CHECKING, Any

from sweep.axes import Axis, Point, value_at
from sweep.config import SweepConfig
from sweep.search.points import applies, combinations, draw, drawn_axes, located, refuse_many, strata
from sweep.search.trials import PlannedTrial, Pruned, planned, planned_trial

if TYPE_CHECKING:
    import optuna


@dataclass
class _Asked:
    """A point that Optuna gave out: a value a seed comes back, and their mean is what Optuna is told."""

    ask: optuna.Trial
    study: optuna.Study
    waiting: set[str]
    values: list[tuple[float, ...]] = field(default_factory=list)

    def tell(self, trial_id: str, values: tuple[float, ...] | None) -> None:
        """Adds a seed's value; after the last one Optuna is told the mean, or that the point failed."""
        import optuna

        self.waiting.remove(trial_id)
        if values is not None:
            self.values.append(values)
        if self.waiting:
            return
        if self.values:
            self.study.tell(self.ask, [sum(each) / len(each) for each in zip(*self.values, strict=True)])
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
        self.given: set[frozenset[str]] = set()
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
        values: Mapping[str, tuple[float, ...] | None] | None = None,
    ) -> None:
        """Rebuilds the studies from a run's records.

        Args:
            config: the sweep.
            fingerprints: as for `planned`.
            earlier: the run's `trial` records, in order; those that are not of this sweep are passed over.
            values: trial id -> objectives of the finished ones, None where a trial lacks one.

        Raises:
            UserError: values of the space do not go together.
        """
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config, self._fingerprints = config, fingerprints
        self._base = config.given
        self._strata = self._distinct_strata()
        refuse_many(self.size(), drawn=config.search.n_trials)
        self._asked: dict[str, list[_Asked]] = defaultdict(list)
        self._left: deque[PlannedTrial] = deque()
        self._ended = dict(values or {})
        self._at: dict[Any, list[PlannedTrial]] = {}
        self._take_up(earlier)

    def size(self) -> int:
        """Points of every stratum times seeds; too many by those trials, if any, at which two strata meet."""
        return sum(stratum.limit for stratum in self._strata) * len(self._config.seeds)

    def limits(self) -> list[int]:
        """Points of each stratum: n_trials, or all there are."""
        return [stratum.limit for stratum in self._strata]

    def known(self) -> list[PlannedTrial]:
        """Those that earlier launches asked for; more are certain when Optuna has been asked for them."""
        trials = (trial for stratum in self._strata for point in stratum.earlier for trial in self._planned(point))
        return list({trial.id: trial for trial in trials}.values())

    def next(self) -> PlannedTrial | None:
        """The next seed of a point, or the first seed of a new point."""
        while not self._left and (stratum := self._shortest()) is not None:
            self._ask(stratum)
        return self._left.popleft() if self._left else None

    def tell(self, trial_id: str, values: tuple[float, ...] | None, pruned: Pruned | None = None) -> None:
        """Adds a seed's values; when the point has all of them, Optuna is told the mean of those that are known."""
        self._ended[trial_id] = values
        for asked in self._asked.pop(trial_id, []):
            asked.tell(trial_id, values)

    def _planned(self, point: Point) -> list[PlannedTrial]:
        """The point with every seed; one that was asked for is made once."""
        key = _key(point)
        if key not in self._at:
            self._at[key] = planned(self._config, [point], self._fingerprints)
        return self._at[key]

    def _distinct_strata(self) -> list[_Stratum]:
        """The strata, less those that mean the same trials as one before them (they differ in a key not read)."""
        import optuna

        wanted = self._config.search.n_trials or 0
        kinds = optuna.study.StudyDirection
        directions = [kinds.MAXIMIZE if one.mode == "max" else kinds.MINIMIZE for one in self._config.objectives]
        distinct: dict[frozenset[str], _Stratum] = {}
        for point in strata(self._config.space, self._base):
            seed = self._config.seeds[0]
            most = max(self.LISTED, wanted)
            listed = list(islice(combinations(self._config.space, self._base, point), most))
            trials = {planned_trial(self._base, one, seed, self._fingerprints).id: one for one in reversed(listed)}
            open_ended = any(axis.is_range and key in one for one in listed for key, axis in self._config.space.items())
            study = optuna.create_study(directions=directions)
            limit = wanted if open_ended else min(wanted, len(trials))
            every = None if open_ended else list(trials.values())
            distinct.setdefault(frozenset(trials), _Stratum(len(distinct), point, limit, every, study))
        return list(distinct.values())

    def _shortest(self) -> _Stratum | None:
        """The stratum with the fewest points, so that all advance together; None when all are full."""
        open_ones = [stratum for stratum in self._strata if len(stratum.given) < stratum.limit]
        return min(open_ones, key=lambda stratum: len(stratum.given), default=None)

    def _ask(self, stratum: _Stratum) -> None:
        """Asks one study for a point and puts its seeds in line; the finished ones are told at once."""
        index = len(stratum.given)
        stratum.study.sampler = _sampler(self._config, stratum.number, index)
        ask, trials = self._asked_for(stratum, stratum.earlier[index] if index < len(stratum.earlier) else None)
        if _ids(trials) in stratum.given:
            ask, trials = self._instead(stratum, ask)
        asked = _Asked(ask, stratum.study, {trial.id for trial in trials})
        stratum.given.add(_ids(trials))
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
        return ask, self._planned(_suggest(ask, self._config.space, self._base, stratum.point))

    def _instead(self, stratum: _Stratum, ask: optuna.Trial) -> tuple[optuna.Trial, list[PlannedTrial]]:
        """A new point where Optuna repeats one, which it does in a small space."""
        import optuna

        stratum.study.tell(ask, state=optuna.trial.TrialState.FAIL)
        seed, space, base = self._config.search.seed, self._config.space, self._base
        points: Iterator[Point] = (located(space, base, stratum.point, draw(space, seed, n)) for n in count())
        new = (
            point
            for point in (points if stratum.listed is None else stratum.listed)
            if _ids(self._planned(point)) not in stratum.given
        )
        return self._asked_for(stratum, next(new))

    def _take_up(self, earlier: Iterable[Mapping[str, Any]]) -> None:
        """Sorts earlier trials' points into the strata, each once, in order."""
        taken: list[set[Any]] = [set() for _ in self._strata]
        for record in earlier:
            for stratum, keys in zip(self._strata, taken, strict=True):
                point = self._point_in(stratum, record)
                if point is not None and _key(point) not in keys and self._means(point, record):
                    stratum.earlier.append(point)
                    keys.add(_key(point))
        for stratum in self._strata:
            del stratum.earlier[stratum.limit :]

    def _point_in(self, stratum: _Stratum, record: Mapping[str, Any]) -> Point | None:
        """The point of the stratum that an earlier trial is at; None: it lies in none, or outside a drawn axis."""
        space, point = self._config.space, dict(stratum.point)
        # a stratum's value stands in its point or its config, unless its config reads no such key
        if not all(
            value in (record["point"].get(key), _read_value(record, key, value)) for key, value in point.items()
        ):
            return None
        for key in drawn_axes(space):
            if applies(space[key], point, self._base):
                point[key] = record["point"].get(key, _read_value(record, key))
                if not space[key].admits(point[key]):
                    return None
        return point

    def _means(self, point: Point, record: Mapping[str, Any]) -> bool:
        """Whether the point, with the earlier trial's seed, is that very trial."""
        return bool(self._planned(point)[0].of_seed(record["seed"]).id == record["trial_id"])


def _ids(trials: Iterable[PlannedTrial]) -> frozenset[str]:
    return frozenset(trial.id for trial in trials)


def _key(point: Point) -> frozenset[tuple[str, Any]]:
    """Equal where points are."""
    return frozenset((key, _frozen(value)) for key, value in point.items())


def _frozen(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _key(dict(value))
    return tuple(map(_frozen, value)) if isinstance(value, list | tuple) else value


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
