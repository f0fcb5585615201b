"""Search with Optuna, which learns from what came back.

Nothing is kept on disk: the studies are rebuilt from the run's records, and each draw is seeded by its own number, so
that a relaunch goes on where the last one was. With `search.deterministic` points are asked for in batches, the next
one once all of the last have ended, so that none depends on which trial ends first.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sweep.axes import Point, value_at
from sweep.config import SweepConfig
from sweep.search.admission import Admission, Drawn, Shared, first_admitted, left_out_lines, looked_at_most
from sweep.search.given import given_points
from sweep.search.listed import Listed, examples, listed
from sweep.search.passed_over import PassedOver
from sweep.search.points import MOST, applies, draw, drawn_axes, located, places, refuse_many, strata
from sweep.search.stratum import Asked, Stratum
from sweep.search.trials import PlannedTrial, Pruned, planned, planned_trial
from trainers.fields import plural

if TYPE_CHECKING:
    import optuna

    from sweep.search.study import PointEnd


class OptunaSearch:
    """Search by a sampler of Optuna's, a study for each combination of the grid axes; a point has several seeds."""

    #: Combinations of drawn values that are looked at, at most, to learn how many points there are.
    LISTED = 1000

    def __init__(
        self,
        config: SweepConfig,
        fingerprints: Mapping[str, str],
        earlier: Iterable[Mapping[str, Any]] = (),
        values: Mapping[str, tuple[float, ...] | None] | None = None,
        pruned: Mapping[str, Pruned] | None = None,
        elsewhere: Sequence[tuple[Mapping[str, Any], tuple[float, ...] | None]] = (),
    ) -> None:
        """Rebuilds the studies from a run's records.

        Args:
            config: the sweep.
            fingerprints: as for `planned`.
            earlier: the run's `trial` records, in order; those that are not of this sweep are passed over.
            values: trial id -> objectives of the finished ones, None where a trial lacks one.
            pruned: trial id -> of those that a stopping rule ended, and that are not run again.
            elsewhere: `trial` records of other runs that the studies start from, each once, with their objectives.

        Raises:
            UserError: values of the space do not go together, or the sampler cannot search it.
        """
        import optuna

        from sweep.search.samplers import check_sampler

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._config, self._fingerprints = config, fingerprints
        self._base = config.given
        self._admission = Admission.of_sweep(config)
        self._empty: list[Drawn] = []
        self._given = given_points(config, self._admission)
        check_sampler(config, strata(config.space, self._base))
        self._strata = self._distinct_strata()
        self._asked: dict[str, list[tuple[Stratum, Asked]]] = defaultdict(list)
        self._left: deque[PlannedTrial] = deque()
        self._ended: dict[str, tuple[tuple[float, ...] | None, Pruned | None]] = {
            **{name: (known, None) for name, known in (values or {}).items()},
            **{name: (None, known) for name, known in (pruned or {}).items()},
        }
        self._at: dict[Any, list[PlannedTrial]] = {}
        self._passed_over = PassedOver()
        self._started_from = self._start_from(elsewhere)
        self._take_up(earlier)
        refuse_many(self.size(), drawn=config.search.n_trials)

    def size(self) -> int:
        """Points of every stratum times seeds; too many by those trials, if any, at which two strata meet."""
        return sum(stratum.limit for stratum in self._strata) * len(self._config.seeds)

    def lines(self) -> tuple[str, ...]:
        """What is to be said of how its points are chosen."""
        first = [*self._started_from]
        first += [f"search.points: {plural(len(self._given), 'point')} first"] if self._given else []
        return (*first, *left_out_lines(self._empty, self._config.search.n_trials or 0))

    def limits(self) -> list[int]:
        """Points of each stratum: n_trials, or all there are."""
        return [stratum.limit for stratum in self._strata]

    def of_which_some_run(self) -> list[tuple[Point, int]]:
        """The strata of whose points not all are run, each with the number of points that other runs know of it."""
        some = [one for one in self._strata if one.listed is None or one.limit < len(one.listed)]
        return [(one.point, one.from_others) for one in some]

    def known(self) -> list[PlannedTrial]:
        """Those that earlier launches asked for; more are certain when Optuna has been asked for them."""
        trials = (trial for stratum in self._strata for point in stratum.earlier for trial in self._planned(point))
        return list({trial.id: trial for trial in trials}.values())

    def next(self) -> PlannedTrial | None:
        """The next seed of a point, or the first seed of a new point."""
        while not self._left and (stratum := self._shortest()) is not None:
            self._ask(stratum)
        return self._left.popleft() if self._left else None

    def waits(self) -> bool:
        """Whether there are further points, which are asked for once those that run have ended."""
        return any(stratum.waits and len(stratum.given) < stratum.limit for stratum in self._strata)

    def tell(self, trial_id: str, values: tuple[float, ...] | None, pruned: Pruned | None = None) -> None:
        """What a seed ended with; when its point has all of them, or its batch has, Optuna is told."""
        self._ended[trial_id] = values, pruned
        for stratum, asked in self._asked.pop(trial_id, []):
            asked.waiting.remove(trial_id)
            self._tell_study(stratum)

    def _tell_study(self, stratum: Stratum) -> None:
        """Tells a study of each point that has ended; of a batch once all of it has, in the order of its points."""
        ended = [asked for asked in stratum.open if not asked.waiting]
        if stratum.batch is not None:
            whole = len(ended) == len(stratum.open) and stratum.waits
            ended = ended if whole else []
        for asked in ended:
            stratum.study.tell(asked.ask, self._end(asked.trials))
            stratum.open.remove(asked)
        if stratum.batch is not None and ended:
            stratum.study.settle()

    def _end(self, trials: list[PlannedTrial]) -> PointEnd:
        from sweep.search.study import PointEnd

        return PointEnd.of_seeds(self._ended[trial.id] for trial in trials)

    def _planned(self, point: Point) -> list[PlannedTrial]:
        """The point with every seed; one that was asked for is made once."""
        key = _key(point)
        if key not in self._at:
            self._at[key] = planned(self._config, [point], self._fingerprints)
        return self._at[key]

    def _distinct_strata(self) -> list[Stratum]:
        """The strata, less those that mean the same trials as one before them (they differ in a key not read)."""
        from sweep.search.study import PointStudy

        wanted, seeds, total = self._config.search.n_trials or 0, len(self._config.seeds), 0
        drawn = Shared(places(self._config.space, self._config.search.seed, quasi_random=False))
        every, distinct = strata(self._config.space, self._base), dict[frozenset[str], Stratum]()
        for point in every:
            found = listed(self._config, self._admission, point, min(max(self.LISTED, wanted), MOST + 1))
            refuse_many((wanted if found.open_ended else min(wanted, len(found.points))) * seeds, drawn=wanted)
            points, beside = found.points, []
            refused = bool(self._config.where) and self._refuses(drawn, point, found)
            if refused and not (points := [given for given in self._given if self._stratum_of(given) == point]):
                continue
            if found.more and not refused:
                beside = examples(self._config, self._admission, point, self.LISTED)
            trials = self._by_id(reversed(points))
            ids = frozenset([*trials, *self._by_id(beside)])
            if (same := distinct.get(ids)) is not None:
                same.same.append(point)
                continue
            short = found.more and len(trials) < wanted
            open_ended = found.open_ended or (short and bool(self._looked_at(drawn, point).points))
            limit = 0 if refused else wanted if open_ended else min(wanted, len(trials))
            whole = None if refused or open_ended else list(trials.values())
            distinct[ids] = Stratum(point, limit, whole, PointStudy(self._config, len(distinct), point))
            total += limit
            refuse_many(total * seeds, drawn=wanted)
        if len(self._empty) == len(every):
            first = self._empty[0]
            raise self._admission.nothing((first.first,), f"none of {first.looked_at:,} points meets it")
        return list(distinct.values())

    def _by_id(self, points: Iterable[Point]) -> dict[str, Point]:
        """Points by the ids of their trials of the first seed; of those that mean the same trial the last one."""
        seed = self._config.seeds[0]
        return {planned_trial(self._base, one, seed, self._fingerprints).id: one for one in points}

    def _refuses(self, drawn: Shared, stratum: Point, found: Listed) -> bool:
        """Whether nothing that is looked at in a stratum is admitted, which is said."""
        if (not found.open_ended and found.points) or (looked_at := self._looked_at(drawn, stratum)).points:
            return False
        self._empty.append(looked_at)
        return True

    def _looked_at(self, drawn: Shared, stratum: Point) -> Drawn:
        """The first draw that is admitted in a stratum, if there is one."""
        return first_admitted(drawn, self._config.space, self._base, stratum, self._admission, 1)

    def _shortest(self) -> Stratum | None:
        """The stratum with the fewest points, so that all advance together; None when all are full, or wait."""
        open_ones = [stratum for stratum in self._strata if len(stratum.given) < stratum.limit and not stratum.waits]
        return min(open_ones, key=lambda stratum: len(stratum.given), default=None)

    def _ask(self, stratum: Stratum) -> None:
        """Takes a point of one study, and puts its seeds in line."""
        index = len(stratum.given)
        point = stratum.earlier[index] if index < len(stratum.earlier) else None
        if point is not None and self._add(stratum, index, point):
            return
        ask, trials = self._asked_for(stratum, index, point)
        if ask is None or _ids(trials) in stratum.given:
            ask, trials = self._instead(stratum, index, ask)
        if ask is None:
            stratum.limit = index  # nothing else is there, or found
            return
        asked = Asked(ask, trials, {trial.id for trial in trials if trial.id not in self._ended})
        stratum.given.add(_ids(trials))
        stratum.open.append(asked)
        for trial in trials:
            if trial.id in asked.waiting:
                if trial.id not in self._asked:
                    self._left.append(trial)
                self._asked[trial.id].append((stratum, asked))
        self._tell_study(stratum)

    def _add(self, stratum: Stratum, index: int, point: Point) -> bool:
        """Adds an earlier point that has ended to its study; false where it, or another of its batch, has not."""
        trials, batch = self._planned(point), stratum.of_batch(index)
        if batch is None or _ids(trials) in stratum.given:
            return False
        if any(trial.id not in self._ended for one in batch for trial in self._planned(one)):
            return False
        stratum.study.add(index, point, self._end(trials))
        stratum.given.add(_ids(trials))
        if len(batch) == 1:
            stratum.study.settle()
        return True

    def _asked_for(
        self, stratum: Stratum, index: int, point: Point | None = None
    ) -> tuple[optuna.Trial | None, list[PlannedTrial]]:
        """Optuna's next point, or the one that it is given, and its trials; None where it proposes none that is let in.

        What is not let in counts as running while the sampler is asked again, which keeps tpe and gp away from it, and
        is forgotten then: the next draw, after a relaunch too, knows nothing of it.
        """
        refused: list[optuna.Trial] = []
        for attempt in range(1 if point is not None else stratum.study.attempts):
            ask, drawn = stratum.study.ask(index, point, attempt)
            if point is not None or self._admission.admitted(drawn):
                break
            refused.append(ask)
        for one in refused:
            stratum.study.forget(one)
        return (None, []) if ask in refused else (ask, self._planned(drawn))

    def _instead(
        self, stratum: Stratum, index: int, ask: optuna.Trial | None
    ) -> tuple[optuna.Trial | None, list[PlannedTrial]]:
        """A new point where Optuna repeats one, which it does in a small space, or finds none that is let in."""
        if ask is not None:
            stratum.study.forget(ask)
        seed, space, base = self._config.search.seed, self._config.space, self._base
        most = looked_at_most(self._config.search.n_trials or 0) if stratum.listed is None else len(stratum.listed)
        while stratum.passed < most:
            if stratum.listed is None:
                point = located(space, base, stratum.point, draw(space, seed, stratum.passed))
            else:
                point = stratum.listed[stratum.passed]
            if self._admission.admitted(point) and _ids(self._planned(point)) not in stratum.given:
                return self._asked_for(stratum, index, point)
            stratum.passed += 1
        return None, []

    def _take_up(self, earlier: Iterable[Mapping[str, Any]]) -> None:
        """Sorts given points, and then those of earlier trials, into the strata, each once, in order."""
        for stratum in self._strata:
            stratum.earlier = list(self._given_in(stratum))
            beside = len({_ids(self._planned(point)) for point in stratum.earlier})
            stratum.limit += beside if stratum.listed is None else min(beside, len(stratum.listed) - stratum.limit)
        taken: list[set[Any]] = [set(map(_key, stratum.earlier)) for stratum in self._strata]
        for record in earlier:
            for stratum, keys in zip(self._strata, taken, strict=True):
                point = self._point_in(stratum, record)
                if point is not None and _key(point) not in keys and self._means(point, record):
                    stratum.earlier.append(point)
                    keys.add(_key(point))
        for stratum in self._strata:
            del stratum.earlier[stratum.limit :]

    def _start_from(self, elsewhere: Sequence[tuple[Mapping[str, Any], tuple[float, ...] | None]]) -> list[str]:
        """Tells each study the means over seeds of what other runs know of its points; gives what is said of it."""
        points: dict[tuple[int, Any], tuple[Point, list[tuple[float, ...]]]] = {}
        taken = 0
        for record, values in elsewhere:
            homes = [
                (number, point)
                for number, stratum in enumerate(self._strata)
                if (point := self._point_in(stratum, record)) is not None and self._means(point, record)
            ]
            taken += bool(homes and values)
            if not homes or not values:
                self._pass_over(record, bool(homes))
            for number, point in homes if values else ():
                points.setdefault((number, _key(point)), (point, []))[1].append(values or ())
        for (number, _), (point, each) in points.items():
            self._strata[number].from_others += 1
            self._strata[number].study.start_from(point, tuple(sum(one) / len(each) for one in zip(*each, strict=True)))
        if not self._config.search.start_from:
            return []
        text = f"search.start_from: {plural(taken, 'finished trial')} taken in, at {plural(len(points), 'point')}"
        return ["; ".join([text, *self._passed_over.reasons()])]

    def _pass_over(self, record: Mapping[str, Any], unfinished: bool) -> None:
        """Counts a trial of another run that is not taken in."""
        if unfinished:
            return self._passed_over.not_finished()
        points = (point for stratum in self._strata if (point := self._point_in(stratum, record)) is not None)
        if (point := next(points, None)) is not None:
            here = self._planned(point)[0].of_seed(record["seed"]).identity
            return self._passed_over.of_other_keys(here, record["config"])
        space = self._config.space
        values = {key: record["point"].get(key, _read_value(record, key)) for key in space}
        return self._passed_over.outside(space, values)

    def started_from_none(self) -> str | None:
        """Where other runs are named and no trial of theirs is taken in: the settings that end that; None: it is not.

        They are those with which most would be taken in, where one key decides.
        """
        if not self._config.search.start_from or any(stratum.from_others for stratum in self._strata):
            return None
        return " or ".join([*(key for key, _ in self._passed_over.alone.most_common(1)), "search.start_from=[]"])

    def _stratum_of(self, given: Point) -> Point:
        drawn = drawn_axes(self._config.space)
        return {key: value for key, value in given.items() if key not in drawn}

    def _given_in(self, stratum: Stratum) -> Iterator[Point]:
        """The given points that lie in a stratum, or in one that means the same trials; of one trial once."""
        drawn, seen = drawn_axes(self._config.space), set[frozenset[str]]()
        for given in self._given:
            point = {**stratum.point, **{key: value for key, value in given.items() if key in drawn}}
            if self._stratum_of(given) in stratum.same and (ids := _ids(self._planned(point))) not in seen:
                seen.add(ids)
                yield point

    def _point_in(self, stratum: Stratum, record: Mapping[str, Any]) -> Point | None:
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
        return point if self._admission.admitted(point) else None

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
