"""Which trial next: the interface of every search, and those whose list is known beforehand."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from sweep.axes import Point, leaf_keys, nested
from sweep.config import SweepConfig
from sweep.own_code import in_own_process, sources, with_code
from sweep.search.points import corners, draw, located, sobol, strata
from trainers.config import TrialConfig
from trainers.data import unseen as marks
from trainers.errors import Absent, UserError, validated
from trainers.identity import hashed, identity
from trainers.own.reference import COMMON, PARTS, is_reference
from trainers.own.source import Source


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
        }


class Search(Protocol):
    """The one interface of grid, random, quasi-random and Optuna."""

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
    """A point of the space with a seed, its data named by content.

    Args:
        base: the sweep's own trial, as plain values; the others as for `planned`.
    """
    config = validated(TrialConfig, nested(base, {**point, "seed": seed}), f"the point {json.dumps(point)}: ")
    config = with_code(config, fingerprints)
    root = str(Path(config.data.root or "data").expanduser().absolute())
    data = config.data.model_copy(update={"fingerprint": fingerprints[data_key(config)], "root": root})
    config = config.model_copy(update={"data": data}).resolved()
    content = identity(config)
    return PlannedTrial(hashed(content), config, point, seed, content)


def data_key(config: TrialConfig) -> str:
    """What decides which files a trial reads: two trials with the same key have the same fingerprint."""
    return config.data.model_dump_json(include={"name", "root", "download", *config.data.options})


def distinct_data(config: SweepConfig) -> dict[str, TrialConfig]:
    """One trial for each data set that the sweep touches, by its `data_key`."""
    base = config.given
    points = _own_data_points(config)
    names = config.space.get("data.name")
    points += [{"data.name": name} for name in names.extremes() if not is_reference(name)] if names else []
    if names is None or names.when:
        points.append({})
    trials = [validated(TrialConfig, nested(base, point), "space") for point in points]
    return {data_key(trial): trial for trial in trials}


def _own_data_points(config: SweepConfig) -> list[Point]:
    """Every combination of the axes that say which data of a user's own are read, and with which options."""
    space, wanted = config.space, [key for key in config.space if key.startswith("data.") and key not in leaf_keys()]
    if "data.name" in space and any(map(is_reference, space["data.name"].extremes())):
        wanted.append("data.name")
    for key in wanted:  # and, as it grows, of what their `when` names
        wanted += [name for name in space[key].conditions() if name in space and name not in wanted]
    return corners({key: space[key] for key in dict.fromkeys(wanted)}, config.given) if wanted else []


@dataclass
class FixedSearch:
    """Grid, random and quasi-random search: every trial is known before the first one runs."""

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


def fixed_points(config: SweepConfig) -> list[Point]:
    """The points of a grid, random or quasi-random search, a drawn one's strata side by side."""
    base, space, search = config.given, config.space, config.search
    grid, n = strata(space, base), search.n_trials or 0
    match search.name:
        case "grid":
            return grid
        case "quasi_random":
            places = sobol(space, search.seed, n)
        case _:
            places = [draw(space, search.seed, index) for index in range(n)]
    return [located(space, base, stratum, place) for place in places for stratum in grid]


def fingerprints(config: SweepConfig, own: Mapping[str, Source] | None = None) -> dict[str, str]:
    """The fingerprint of every data set that the sweep touches, by `data_key`; reads the data.

    Args:
        config: the sweep.
        own: the sources of a user's own code, whose hashes are put beside, by name; None: they are read.

    Raises:
        UserError: the data are not there, or not what `data.fingerprint` says; or the user's own code is not.
    """
    own = own_sources(config) if own is None else own
    trials = distinct_data(config)
    return {**_hashes(own), **{key: _fingerprint(config, trial, own, look=True) for key, trial in trials.items()}}


def own_sources(config: SweepConfig) -> dict[str, Source]:
    """`sweep.own_code.sources`, with errors that name the sweep's key."""
    try:
        return sources(config)
    except UserError as error:
        raise in_the_config(error, config) from None


def _hashes(own: Mapping[str, Source]) -> dict[str, str]:
    return {name: source.hash for name, source in own.items()}


def _fingerprint(config: SweepConfig, trial: TrialConfig, own: Mapping[str, Source], look: bool) -> str:
    from trainers.data.sets import fingerprint

    if not look and trial.data.name != "digits":
        raise Absent("--no-data")
    content: str
    try:
        if trial.data.is_own:
            data = with_code(trial, _hashes(own)).data
            (content,) = in_own_process("trainers.rehearsal:marks", [data], found=own.values())
        else:
            content = fingerprint(trial.data)
    except UserError as error:
        raise in_the_config(error, config) from None
    if trial.data.fingerprint not in (None, content):
        raise UserError(
            f"trial.data.fingerprint: the data are {content}, not {trial.data.fingerprint}; "
            "point trial.data.root at those, or leave trial.data.fingerprint out"
        )
    return content


def _content(data: Mapping[str, Any]) -> str:
    """What of recorded data decides which they are: the name, and of a user's own its source and options."""
    if not is_reference(name := data["name"]):
        return str(name)
    return json.dumps({key: value for key, value in data.items() if key not in COMMON["data"]}, sort_keys=True)


class Unseen(NamedTuple):
    """Data that are planned with and were not looked at."""

    reason: str
    sure: bool
    """Whether the trials' ids are those that they will have."""


def fingerprints_without(
    config: SweepConfig, records: Iterable[Mapping[str, Any]], look: bool, own: Mapping[str, Source] | None = None
) -> tuple[dict[str, str], dict[str, Unseen]]:
    """`fingerprints` as far as the data are there, and of the others, by name, what stands for them.

    Where a mark is the content's, that of the run's own records is taken, or else a made-up one.

    Args:
        config: the sweep.
        records: of its run.
        look: false: at no data but those inside the package.
        own: as of `fingerprints`.

    Raises:
        UserError: data that are there are not as they must be.
    """
    recorded = {
        _content(data): data["fingerprint"]
        for data in (record["config"].get("data", {}) for record in records if record["record"] == "trial")
        if "fingerprint" in data and "name" in data
    }
    own = own_sources(config) if own is None else own
    codes = _hashes(own)
    fingerprints = dict(codes)
    unseen: dict[str, Unseen] = {}
    for key, trial in distinct_data(config).items():
        try:
            fingerprints[key] = _fingerprint(config, trial, own, look)
        except Absent as error:
            name = trial.data.name
            mark = marks.fingerprint(trial.data) or recorded.get(_content(identity(with_code(trial, codes))["data"]))
            fingerprints[key] = mark or f"{name}-unseen"
            unseen[name] = Unseen(str(error), mark is not None and (name not in unseen or unseen[name].sure))
    return fingerprints, unseen


def in_the_config(error: UserError, config: SweepConfig) -> UserError:
    """The error with its key as the sweep's file has it: under space if it is an axis, else under trial."""
    key = str(error).partition(":")[0]
    if key not in leaf_keys() and key.partition(".")[0] not in PARTS:
        return type(error)(str(error))
    return type(error)(f"{'space' if key in config.space else 'trial'}.{error}")


def data_folders(config: SweepConfig) -> set[str]:
    """The folders that trials read their images from; digits has none."""
    sets = [trial.data for trial in distinct_data(config).values() if trial.data.name != "digits"]
    return {str(Path(data.root or "data").expanduser().absolute()) for data in sets}
