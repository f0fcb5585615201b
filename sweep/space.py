"""Axes -> points: every combination of the grid axes, and draws on the others.

A point is a mapping of dotted keys of the trial to values; an axis whose `when` does not hold is not in it. `base` is
what the config sets of every trial, nested; what it leaves out is the preset's, or the default.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import numpy as np
from pydantic import BaseModel, Field, model_validator

from trainers.config import TrialConfig
from trainers.fields import Frozen, Number
from trainers.presets import beneath

Point = dict[str, Any]

#: Keys that cannot be axes, and why.
INERT_AXES = {
    "seed": "seeds are replicates, not an axis; list them under seeds",
    "engine": "does not change what a trial is, and so cannot be an axis",
    "device": "does not change a trial's numbers and so cannot be an axis",
    "keep": "does not change a trial's numbers and so cannot be an axis",
    "checkpoint.every_epochs": "does not change a trial's numbers and so cannot be an axis",
    "checkpoint.every_minutes": "does not change a trial's numbers and so cannot be an axis",
    "data.root": "does not change a trial's numbers and so cannot be an axis",
    "data.download": "does not change a trial's numbers and so cannot be an axis",
    "data.fingerprint": "is filled in by the sweep and cannot be an axis",
}


class Axis(Frozen):
    """What one key is varied over; a plain list is short for grid."""

    grid: tuple[Any, ...] | None = Field(None, min_length=1, description="Each of these is run.")
    choice: tuple[Any, ...] | None = Field(None, min_length=1, description="One of these is drawn.")
    uniform: tuple[Number, Number] | None = Field(None, description="Drawn evenly from [low, high].")
    loguniform: tuple[Number, Number] | None = Field(None, description="Its logarithm drawn evenly; low > 0.")
    when: dict[str, Any] | None = Field(
        None, description="The axis applies only where these keys have this value, or one of this list."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        given = [name for name in ("grid", "choice", "uniform", "loguniform") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"must have one of grid, choice, uniform, loguniform; got {given or 'none'}")
        values = [json.dumps(value, default=str) for value in self.grid or self.choice or ()]
        if len(set(values)) != len(values):
            raise ValueError(f"each value once, got [{', '.join(values)}]")
        bounds = self.uniform or self.loguniform
        if bounds and not bounds[0] < bounds[1]:
            raise ValueError(f"must be [low, high] with low < high, got {list(bounds)}")
        if self.loguniform and self.loguniform[0] <= 0:
            raise ValueError(f"loguniform: low must be > 0, got {self.loguniform[0]}")
        for key, admitted in self.conditions().items():
            if not admitted:
                raise ValueError(f"when.{key}: must not be empty, got []")
        return self

    def conditions(self) -> dict[str, list[Any]]:
        """`when` with every right-hand side as the list of admitted values."""
        return {key: value if isinstance(value, list) else [value] for key, value in (self.when or {}).items()}

    def extremes(self) -> tuple[Any, ...]:
        """The values that decide whether the axis is valid: all of a list, the ends of a range."""
        return self.grid or self.choice or self.uniform or self.loguniform or ()

    @property
    def is_range(self) -> bool:
        """Whether its values are all those between two ends."""
        return bool(self.uniform or self.loguniform)

    def at(self, u: float) -> Any:
        """The value at u in [0, 1), for draws."""
        if self.uniform:
            low, high = self.uniform
            return low + u * (high - low)
        if self.loguniform:
            low, high = (math.log(bound) for bound in self.loguniform)
            return math.exp(low + u * (high - low))
        values = self.extremes()
        return values[int(u * len(values))]

    def admits(self, value: Any) -> bool:
        """Whether the value is one of the axis's."""
        if not self.is_range:
            return value in self.extremes()
        low, high = self.extremes()
        return isinstance(value, (int, float)) and low <= value <= high


@functools.cache
def leaf_keys() -> tuple[str, ...]:
    """Every dotted key of a trial."""

    def walk(model: type[BaseModel], front: str) -> Iterator[str]:
        for name, field in model.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, f"{front}{name}.")
            else:
                yield f"{front}{name}"

    return tuple(walk(TrialConfig, ""))


def nested(base: Mapping[str, Any], point: Point) -> dict[str, Any]:
    """`base` with the point's values put at their dotted keys; base is left as it is.

    >>> nested({"a": {"b": 1}}, {"a.b": 2, "c": 3})
    {'a': {'b': 2}, 'c': 3}
    """
    values = dict(base)
    for key, value in point.items():
        head, dot, rest = key.partition(".")
        values[head] = nested(values.get(head, {}), {rest: value}) if dot else value
    return values


def value_at(values: Mapping[str, Any], key: str) -> Any:
    """The value at a dotted key of nested mappings."""
    for part in key.split("."):
        values = values[part]
    return values


def axis_order(space: Mapping[str, Axis]) -> list[str]:
    """The axes with each after those that its `when` names, and after the preset that may decide a key named there.

    Raises:
        ValueError: conditions that run in a circle.
    """
    left, ordered = list(space), list[str]()
    while left:
        ready = [key for key in left if not _before(space, key) & set(left)]
        if not ready:
            raise ValueError(f"space: the when of {', '.join(left)} depend on each other in a circle")
        ordered.append(ready[0])
        left.remove(ready[0])
    return ordered


def _before(space: Mapping[str, Axis], key: str) -> set[str]:
    named = set(space[key].conditions())
    return named if key == "preset" or named <= set(space) else {*named, "preset"}


def applies(axis: Axis, point: Point, base: Mapping[str, Any]) -> bool:
    """Whether the axis's conditions hold at the point, or in a trial of `base` there for keys that are no axes."""
    return all(
        (point[key] if key in point else _standing(base, point, key)) in admitted
        for key, admitted in axis.conditions().items()
    )


def _standing(base: Mapping[str, Any], point: Point, key: str) -> Any:
    """The value of a key that is not in the point: what `base` sets, else the preset's, else the default."""
    value: Any = beneath(nested(base, point))
    for part in key.split("."):
        if part not in value:
            return value_at(_defaults(), key)
        value = value[part]
    return value


@functools.cache
def _defaults() -> dict[str, Any]:
    return TrialConfig().model_dump()


def strata(space: Mapping[str, Axis], base: Mapping[str, Any]) -> list[Point]:
    """Every combination of the grid axes that do not hang on a drawn one, in the file's order."""
    return list(_combinations(space, base, [key for key in axis_order(space) if _is_grid(space, key)], {}))


def combinations(space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point) -> Iterator[Point]:
    """Every combination of the drawn axes' values within a stratum; a range stands there with its low end."""
    return _combinations(space, base, drawn_axes(space), stratum)


def _combinations(
    space: Mapping[str, Axis], base: Mapping[str, Any], keys: Sequence[str], point: Point
) -> Iterator[Point]:
    if not keys:
        yield point
    elif applies(space[keys[0]], point, base):
        axis = space[keys[0]]
        for value in axis.extremes()[:1] if axis.is_range else axis.extremes():
            yield from _combinations(space, base, keys[1:], {**point, keys[0]: value})
    else:
        yield from _combinations(space, base, keys[1:], point)


def _is_grid(space: Mapping[str, Axis], key: str) -> bool:
    conditions = [name for name in space[key].conditions() if name in space]
    return space[key].grid is not None and all(_is_grid(space, name) for name in conditions)


def drawn_axes(space: Mapping[str, Axis]) -> list[str]:
    """The axes that are drawn within a stratum, each after those that its `when` names."""
    return [key for key in axis_order(space) if not _is_grid(space, key)]


def located(space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point, at: Mapping[str, float]) -> Point:
    """The point of a stratum whose drawn axes lie at these places of [0, 1)."""
    point = dict(stratum)
    for key in drawn_axes(space):
        if applies(space[key], point, base):
            point[key] = space[key].at(at[key])
    return point


def draw(space: Mapping[str, Axis], seed: int, index: int) -> dict[str, float]:
    """Where the drawn axes of the point number `index` lie in [0, 1), at random.

    The draw of an axis is a function of (seed, index, key) alone: strata share their draws, so that methods
    are compared at the same points, and a larger n_trials keeps the points of a smaller one.
    """
    return {key: _generator(seed, index, key).random() for key in drawn_axes(space)}


def sobol(space: Mapping[str, Axis], seed: int, n: int) -> list[dict[str, float]]:
    """Where the drawn axes of `n` points lie in [0, 1): the start of a scrambled Sobol sequence, a dimension an axis.

    They fill the space more evenly than draws; of 2, 4, 8, ... points each half, quarter, ... of an axis holds
    its share. As for `draw`, strata share them and a larger n keeps the points of a smaller one.
    [Sobol 1967; scrambling: Matousek, J. Complexity 1998]
    """
    from scipy.stats import qmc  # takes a second to import, which the other searches need not wait for

    keys = drawn_axes(space)
    if not keys:
        return [{} for _ in range(n)]
    points = qmc.Sobol(len(keys), rng=seed).random_base2(max(n - 1, 0).bit_length())
    return [dict(zip(keys, map(float, row), strict=True)) for row in points[:n]]


def _generator(*key: Any) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8]))
