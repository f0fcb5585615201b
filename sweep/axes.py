"""What is varied: the axes of a sweep, and the points that they span."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Self

from pydantic import BaseModel, Field, model_validator

from trainers.config import TrialConfig
from trainers.fields import Frozen, Number
from trainers.own.reference import PARTS, is_reference

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
    **dict.fromkeys(
        (
            *("data.fingerprint", "data.extra_fingerprint", "model.weights_fingerprint"),
            *(f"{part}.code" for part in PARTS),
        ),
        "is filled in by the sweep and cannot be an axis",
    ),
}


class Axis(Frozen):
    """What one key is varied over; a plain list is short for grid."""

    grid: tuple[Any, ...] | None = Field(None, min_length=1, max_length=10_000, description="Each of these is run.")
    choice: tuple[Any, ...] | None = Field(None, min_length=1, max_length=10_000, description="One of these is drawn.")
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


def own_names(part: str, trial: TrialConfig, space: Mapping[str, Axis]) -> list[str]:
    """The names of a user's own code that fill a part of some trial: the trial's own, and those of the axis."""
    if part not in PARTS:
        return []
    axis = space.get(f"{part}.name")
    names = [*(axis.extremes() if axis else ()), *([] if axis and not axis.when else [getattr(trial, part).name])]
    return [name for name in dict.fromkeys(names) if is_reference(name)]


def option_of(key: str, trial: TrialConfig, space: Mapping[str, Axis]) -> bool:
    """Whether a dotted key can be an option of a user's own code: that has what options it likes."""
    part, dot, option = key.partition(".")
    return part in PARTS and dot == "." and option.isidentifier() and bool(own_names(part, trial, space))


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


def holds(values: Mapping[str, Any], key: str) -> bool:
    """Whether there is a value at a dotted key: a user's own code has none of the keys of built-in choices."""
    try:
        value_at(values, key)
    except KeyError:
        return False
    return True


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
