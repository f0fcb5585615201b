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
from sweep.search.points import draw, located, one_at_a_time, sobol, strata
from trainers.config import ModelConfig, TrialConfig
from trainers.data import unseen as marks
from trainers.errors import Absent, UserError, validated
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
        fingerprints: canonical JSON of a data config -> fingerprint of its data (see `data_key`).

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
    root = str(Path(config.data.root or "data").expanduser().absolute())
    marks = {"fingerprint": fingerprints[data_key(config)], "root": root}
    if (beside := extra_path(config)) is not None:
        marks |= {"extra_fingerprint": fingerprints[beside], "extra": beside}
    parts = {"data": config.data.model_copy(update=marks), "model": _with_weights(config.model)}
    config = config.model_copy(update=parts).resolved()
    content = identity(config)
    return PlannedTrial(hashed(content), config, point, seed, content)


def _with_weights(model: ModelConfig) -> ModelConfig:
    """The weights that it starts from named by content, too."""
    if model.fine_tune is None and model.weights_fingerprint is None:
        return model
    from trainers.models import fine_tuning  # and with it torch, for which nothing else here waits

    return fine_tuning.with_fingerprint(model)


def check_weights(config: SweepConfig) -> None:
    """The weights that trials are to start from are there.

    Raises:
        UserError: some are not, or are others than `model.weights_fingerprint` says.
    """
    for place in fine_tuned(config):
        try:
            _with_weights(config.trial.model.model_copy(update={"fine_tune": place}))
        except UserError as error:
            raise in_the_config(error, config) from None


def fine_tuned(config: SweepConfig) -> list[str | None]:
    """Each `model.fine_tune` that trials of the sweep may have."""
    axis = config.space.get("model.fine_tune")
    return list(dict.fromkeys([*(axis.extremes() if axis else ()), config.trial.model.fine_tune]))


def data_key(config: TrialConfig) -> str:
    """What decides which files a trial reads: two trials with the same key have the same fingerprint."""
    return config.data.model_dump_json(include={"name", "root", "download"})


def extra_path(config: TrialConfig) -> str | None:
    """Where the images lie that join the trial's batches, absolute; None where none do."""
    data = config.data
    return str(Path(data.extra).expanduser().absolute()) if data.extra is not None and data.reads_extra else None


def distinct_data(config: SweepConfig) -> dict[str, TrialConfig]:
    """One trial for each data set that the sweep touches, by its `data_key`."""
    return {data_key(trial): trial for trial in _with_values_of(config, "data.name")}


def distinct_extra(config: SweepConfig) -> dict[str, TrialConfig]:
    """One trial for each place of extra images that the sweep touches, by that place."""
    shares = config.space.get("data.extra_fraction")
    if config.trial.data.extra_fraction == 0 and (shares is None or not any(shares.extremes())):
        return {}
    trials = _with_values_of(config, "data.extra", {"data.extra_fraction": 0.5})
    return {path: trial for trial in trials if (path := extra_path(trial)) is not None}


def _with_values_of(config: SweepConfig, key: str, beside: Point | None = None) -> list[TrialConfig]:
    """The sweep's own trial with each value of a key that is an axis, and without where the axis may not apply."""
    axis = config.space.get(key)
    points: list[Point] = [{key: value} for value in axis.extremes()] if axis else []
    if axis is None or axis.when:
        points.append({})
    return [validated(TrialConfig, nested(config.given, point | (beside or {})), "space") for point in points]


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
    """The points of every search but Optuna's, a drawn one's strata side by side."""
    base, space, search = config.given, config.space, config.search
    grid, n = strata(space, base), search.n_trials or 0
    match search.name:
        case "grid":
            return grid
        case "one_at_a_time":
            return [point for stratum in grid for point in one_at_a_time(space, base, stratum)]
        case "quasi_random":
            places = sobol(space, search.seed, n)
        case _:
            places = [draw(space, search.seed, index) for index in range(n)]
    return [located(space, base, stratum, place) for place in places for stratum in grid]


def fingerprints(config: SweepConfig) -> dict[str, str]:
    """The fingerprint of every data set that the sweep touches, by `data_key`, and of extra images, by their place;
    reads the data.

    Raises:
        UserError: the data are not there, or not what `data.fingerprint` says; or so of weights to start from.
    """
    check_weights(config)
    own = {key: _fingerprint(config, trial, look=True) for key, trial in distinct_data(config).items()}
    return own | {path: _extra_fingerprint(config, trial, look=True) for path, trial in distinct_extra(config).items()}


def _extra_fingerprint(config: SweepConfig, trial: TrialConfig, look: bool) -> str:
    from trainers.data.extra import fingerprint

    if not look:
        raise Absent("--no-data")
    try:
        content = fingerprint(extra_path(trial) or "")
    except UserError as error:
        raise in_the_config(error, config) from None
    if trial.data.extra_fingerprint not in (None, content):
        raise UserError(
            f"trial.data.extra_fingerprint: the images are {content}, not {trial.data.extra_fingerprint}; "
            "point trial.data.extra at those, or leave trial.data.extra_fingerprint out"
        )
    return content


def _fingerprint(config: SweepConfig, trial: TrialConfig, look: bool) -> str:
    from trainers.data.sets import fingerprint

    if not look and trial.data.name != "digits":
        raise Absent("--no-data")
    try:
        content = fingerprint(trial.data)
    except UserError as error:
        raise in_the_config(error, config) from None
    if trial.data.fingerprint not in (None, content):
        raise UserError(
            f"trial.data.fingerprint: the data are {content}, not {trial.data.fingerprint}; "
            "point trial.data.root at those, or leave trial.data.fingerprint out"
        )
    return content


class Unseen(NamedTuple):
    """Data that are planned with and were not looked at."""

    reason: str
    sure: bool
    """Whether the trials' ids are those that they will have."""


def fingerprints_without(
    config: SweepConfig, records: Iterable[Mapping[str, Any]], look: bool
) -> tuple[dict[str, str], dict[str, Unseen]]:
    """`fingerprints` as far as the data are there, and of the others, by name, what stands for them.

    Where a mark is the content's, that of the run's own records is taken, or else a made-up one.

    Args:
        config: the sweep.
        records: of its run.
        look: false: at no data but those inside the package.

    Raises:
        UserError: data that are there are not as they must be, or weights to start from are not there.
    """
    check_weights(config)
    recorded = {
        data["name"]: data["fingerprint"]
        for data in (record["config"].get("data", {}) for record in records if record["record"] == "trial")
        if "fingerprint" in data and "name" in data
    }
    fingerprints: dict[str, str] = {}
    unseen: dict[str, Unseen] = {}
    for key, trial in distinct_data(config).items():
        try:
            fingerprints[key] = _fingerprint(config, trial, look)
        except Absent as error:
            name = trial.data.name
            mark = marks.fingerprint(trial.data) or recorded.get(name)
            fingerprints[key] = mark or f"{name}-unseen"
            unseen[name] = Unseen(str(error), mark is not None)
    for path, trial in distinct_extra(config).items():
        try:
            fingerprints[path] = _extra_fingerprint(config, trial, look)
        except Absent as error:
            fingerprints[path] = trial.data.extra_fingerprint or "extra-unseen"
            unseen[path] = Unseen(str(error), trial.data.extra_fingerprint is not None)
    return fingerprints, unseen


def in_the_config(error: UserError, config: SweepConfig) -> UserError:
    """The error with its key as the sweep's file has it: under space if it is an axis, else under trial."""
    key = str(error).partition(":")[0]
    if key not in leaf_keys():
        return type(error)(str(error))
    return type(error)(f"{'space' if key in config.space else 'trial'}.{error}")


def weight_files(config: SweepConfig) -> set[str]:
    """The files of weights from which trials start."""
    if not (places := [place for place in fine_tuned(config) if place is not None]):
        return set()
    from trainers.models.fine_tuning import source

    return {str(source(place).file) for place in places}


def data_folders(config: SweepConfig) -> set[str]:
    """The folders and files that trials read their images from; digits has none."""
    sets = [trial.data for trial in distinct_data(config).values() if trial.data.name != "digits"]
    return {str(Path(data.root or "data").expanduser().absolute()) for data in sets} | set(distinct_extra(config))
