"""Which trial next: the interface of every search, and those whose list is known beforehand."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, Protocol

from sweep.axes import Point, nested
from sweep.config import SweepConfig
from sweep.search.admission import Admission, Shared, first_admitted, left_out_lines
from sweep.search.given import given_points
from sweep.search.inputs import named
from sweep.search.points import MOST, one_at_a_time, places, refuse_many, strata
from sweep.share import Share
from trainers.config import TrialConfig
from trainers.errors import validated
from trainers.fields import plural
from trainers.identity import hashed, identity


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that the sweep wants: its config, and where in the space it lies."""

    id: str
    config: TrialConfig
    point: Point
    seed: int
    identity: Mapping[str, Any]
    """Of the config: what its id is a hash of, and its kind is told by."""

    def of_seed(self, seed: int) -> PlannedTrial:
        """The same point with another seed."""
        config, content = self.config.model_copy(update={"seed": seed}), {**self.identity, "seed": seed}
        return PlannedTrial(hashed(content), config, self.point, seed, content)

    def record(self, number: int) -> dict[str, Any]:
        """The values of its `trial` line in the records."""
        return {
            "trial_id": self.id,
            "number": number,
            "config": self.identity,
            "point": self.point,
            "seed": self.seed,
            **({"preset": self.config.preset} if self.config.preset else {}),
            **({"fine_tune": self.config.model.fine_tune} if self.config.model.fine_tune else {}),
        }


class Pruned(NamedTuple):
    """That a stopping rule ended a trial: what is known of it."""

    epoch: int
    """Epochs trained."""
    value: float
    """Of the primary objective there."""


class Search(Protocol):
    """The one interface of grid, random, quasi-random and Optuna."""

    def size(self) -> int:
        """How many trials the sweep has in all, finished ones included."""

    def known(self) -> list[PlannedTrial]:
        """The trials that are certain already: all of a grid; of Optuna's, those asked for by earlier launches."""

    def next(self) -> PlannedTrial | None:
        """The next trial that is not finished; None when there is no more, or none now: see `waits`."""

    def waits(self) -> bool:
        """Where `next` gives None: whether it will give more once trials that run have ended."""

    def tell(self, trial_id: str, values: tuple[float, ...] | None, pruned: Pruned | None = None) -> None:
        """What a trial ended with.

        Args:
            trial_id: of the trial.
            values: of the sweep's objectives, in their order; None: it failed, and nobody knows.
            pruned: where a stopping rule ended it; values are None then.
        """


def planned(config: SweepConfig, points: Iterable[Point], fingerprints: Mapping[str, str]) -> list[PlannedTrial]:
    """Every point with every seed; points that mean the same trial (one differs in a key not read) are one.

    Args:
        config: the sweep.
        points: of its space.
        fingerprints: canonical JSON of a data config -> fingerprint of its data (see `data_key`); the name of a
            user's own code -> the hash of its source.

    Raises:
        UserError: a point's values do not go together.
    """
    base, (first, *others) = config.given, config.seeds
    trials: dict[str, PlannedTrial] = {}
    for point in points:
        trial = planned_trial(base, point, first, fingerprints)
        for one in (trial, *map(trial.of_seed, others)):
            trials.setdefault(one.id, one)
    return list(trials.values())


def planned_trial(base: dict[str, Any], point: Point, seed: int, fingerprints: Mapping[str, str]) -> PlannedTrial:
    """A point of the space with a seed, what it reads named by content.

    Args:
        base: the sweep's own trial, as plain values; the others as for `planned`.
    """
    config = validated(TrialConfig, nested(base, {**point, "seed": seed}), f"the point {json.dumps(point)}: ")
    config = named(config, fingerprints).resolved()
    content = identity(config)
    return PlannedTrial(hashed(content), config, point, seed, content)


@dataclass
class FixedSearch:
    """Grid, random and quasi-random search: every trial is known before the first one runs."""

    trials: list[PlannedTrial]
    finished: frozenset[str]
    share: Share | None = None
    """Whose trials are given out; none: all are."""
    by_seed: bool = False
    """Whether all points run their first seed, then all their second, and so on; else each point all its seeds."""
    _left: deque[PlannedTrial] = field(init=False)

    def __post_init__(self) -> None:
        """Puts the unfinished trials in line."""
        left = [trial for trial in self.trials if trial.id not in self.finished]
        if any(trial.config.keep == "state" for trial in left):  # a longer one may go on from a shorter one's end
            left.sort(key=lambda trial: trial.config.epochs)
        if self.by_seed:
            order = {seed: place for place, seed in enumerate(dict.fromkeys(trial.seed for trial in self.trials))}
            left.sort(key=lambda trial: order[trial.seed])
        self._left = deque(trial for trial in left if self.share is None or self.share.has(trial.id))

    def size(self) -> int:
        """How many trials there are in all, those of other shares too."""
        return len(self.trials)

    def known(self) -> list[PlannedTrial]:
        """All of them."""
        return self.trials

    def next(self) -> PlannedTrial | None:
        """The next in line."""
        return self._left.popleft() if self._left else None

    def waits(self) -> bool:
        """Never: it learns nothing from them."""
        return False

    def tell(self, trial_id: str, values: tuple[float, ...] | None, pruned: Pruned | None = None) -> None:
        """Nothing is learnt."""


class FixedPoints(NamedTuple):
    """The points of a search that knows them beforehand, and what `where` left out of them."""

    points: list[Point]
    lines: tuple[str, ...] = ()


def fixed_points(config: SweepConfig) -> list[Point]:
    """The points of every search but Optuna's, a drawn one's strata side by side.

    Raises:
        UserError: they are too many, or `where` leaves too few.
    """
    return admitted_points(config).points


def admitted_points(config: SweepConfig) -> FixedPoints:
    """The same, with what is to be said of those that `where` leaves out; see `fixed_points`."""
    admission = Admission.of_sweep(config)
    given, found = given_points(config, admission), _found_points(config, admission)
    if not given:
        return found
    points = [*given, *(point for point in found.points if point not in given)]
    refuse_many(len(points) * len(config.seeds))
    return FixedPoints(points, (f"search.points: {plural(len(given), 'point')} first", *found.lines))


def _found_points(config: SweepConfig, admission: Admission) -> FixedPoints:
    base, space, search = config.given, config.space, config.search
    grid, n = strata(space, base), search.n_trials or 0
    refuse_many(len(grid) * max(n, 1) * len(config.seeds), drawn=search.n_trials)
    match search.name:
        case "grid":
            listed = grid
        case "one_at_a_time":
            each = (point for stratum in grid for point in one_at_a_time(space, base, stratum))
            listed = list(islice(each, MOST + 1))
            refuse_many(len(listed) * len(config.seeds))
        case _:
            return _drawn_points(config, grid, admission)
    kept = admission.kept(listed)
    out = len(listed) - len(kept)
    return FixedPoints(kept, (f"where leaves out {out:,} of {plural(len(listed), 'point')}",) if out else ())


def _drawn_points(config: SweepConfig, grid: list[Point], admission: Admission) -> FixedPoints:
    """The first n draws of each stratum that are admitted there; without constraints all strata share theirs."""
    space, base, n = config.space, config.given, config.search.n_trials or 0
    drawn = Shared(places(space, config.search.seed, config.search.name == "quasi_random"))
    found = [first_admitted(drawn, space, base, stratum, admission, n) for stratum in grid]
    if short := [draws for draws in found if 0 < len(draws.points) < n]:
        raise short[0].too_few(n)
    if not any(draws.points for draws in found):
        raise admission.nothing((found[0].first,), f"none of {found[0].looked_at:,} draws meets it")
    side_by_side = zip(*(one.points for one in found if one.points), strict=True)
    return FixedPoints([point for beside in side_by_side for point in beside], tuple(left_out_lines(found, n)))
