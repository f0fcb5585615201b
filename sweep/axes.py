"""What is varied: the axes of a sweep, and the points that they span."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Self, get_args

from pydantic import BaseModel, Field, model_validator

from trainers.config import TrialConfig
from trainers.fields import Frozen, Number, Truth, number_text
from trainers.own.reference import PARTS, is_reference

Point = dict[str, Any]

#: Values that a range with a step has at most.
MOST_STEPS = 1_000_000

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
    "data.in_memory_gib": "does not change a trial's numbers and so cannot be an axis",
    "data.decode": "does not change a trial's numbers and so cannot be an axis",
    **dict.fromkeys(
        (
            *("data.fingerprint", "data.extra_fingerprint", "model.weights_fingerprint", "workers"),
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
    step: Number | None = Field(
        None, gt=0, description="Of uniform: low, low + step, low + 2 step, ..., high, drawn evenly. none: all between."
    )
    integer: Truth | None = Field(
        None,
        description="Of a range: whole numbers alone, high among them. none: where the key takes nothing else, such as "
        "batch_size.",
    )
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
            twice = next(value for value in values if values.count(value) > 1)
            raise ValueError(f"each value once, got {twice} more than once: [{', '.join(values)}]")
        _check_range(self)
        for key, admitted in self.conditions().items():
            if not admitted:
                raise ValueError(f"when.{key}: must not be empty, got []")
        return self

    def conditions(self) -> dict[str, list[Any]]:
        """`when` with every right-hand side as the list of admitted values."""
        return {key: value if isinstance(value, list) else [value] for key, value in (self.when or {}).items()}

    def extremes(self) -> tuple[Any, ...]:
        """The values that decide whether the axis is valid: all of a list, the ends of a range."""
        ends = self.uniform or self.loguniform or ()
        return self.grid or self.choice or (tuple(map(int, ends)) if self.integer else ends)

    @property
    def is_range(self) -> bool:
        """Whether its values are all those between two ends, or those of them that are whole or steps apart."""
        return bool(self.uniform or self.loguniform)

    @property
    def is_continuous(self) -> bool:
        """Whether its values cannot be counted."""
        return self.is_range and not self.integer and self.step is None

    @property
    def size(self) -> int:
        """How many values it has, if they can be counted."""
        if not self.is_range:
            return len(self.extremes())
        low, high = self.extremes()
        steps: float = (high - low) / self.apart
        return round(steps) + 1

    @property
    def apart(self) -> float:
        """How far the values of a range that can be counted lie apart."""
        return self.step or 1

    def values(self) -> Sequence[Any]:
        """All its values, if they can be counted; they are worked out as they are asked for."""
        return Steps(self) if self.is_range else self.extremes()

    def at(self, u: float) -> Any:
        """The value at u in [0, 1), for draws."""
        if self.loguniform:
            low, high = self.extremes()
            if not self.integer:
                return math.exp(math.log(low) + u * (math.log(high) - math.log(low)))
            # each whole number has what rounds to it, as in Optuna's IntDistribution
            low, high = math.log(low - 0.5), math.log(high + 0.5)
            return self.snapped(math.exp(low + u * (high - low)))
        if self.is_continuous:
            low, high = self.extremes()
            return low + u * (high - low)
        values = self.values()
        return values[int(u * len(values))]

    def snapped(self, value: float) -> Any:
        """The value of a range that can be counted which is nearest to a number."""
        low = self.extremes()[0]
        return self.values()[min(max(round((value - low) / self.apart), 0), self.size - 1)]

    def admits(self, value: Any) -> bool:
        """Whether the value is one of the axis's."""
        if not self.is_range:
            return value in self.extremes()
        low, high = self.extremes()
        between = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
        return between and (self.is_continuous or bool(value == self.snapped(value)))


@dataclass(frozen=True)
class Steps(Sequence[Any]):
    """The values of a range that can be counted."""

    axis: Axis

    def __len__(self) -> int:
        """As many as there are."""
        return self.axis.size

    def __getitem__(self, number: Any) -> Any:
        """The value, in 12 digits: 0.1 + 2 * 0.1 is 0.3, as one would list it, and -0.3 + 3 * 0.1 is 0."""
        if isinstance(number, slice):
            return [self[one] for one in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        value = Decimal(repr(self.axis.extremes()[0])) + int(number) * Decimal(repr(self.axis.apart))
        return round(value) if self.axis.integer else float(f"{value:.12g}")


def _check_range(axis: Axis) -> None:
    """The ends of a range, and what its values are between them.

    Raises:
        ValueError: they do not go together.
    """
    kind, bounds = ("uniform", axis.uniform) if axis.uniform else ("loguniform", axis.loguniform)
    for name, given in (("step", axis.step), ("integer", axis.integer)):
        if given is not None and not bounds:
            raise ValueError(f"{name}: is of a range; leave it out beside a list, which has the values that it lists")
    if not bounds:
        return
    low, high = bounds
    if not low < high:
        raise ValueError(f"must be [low, high] with low < high, got {list(bounds)}")
    if axis.loguniform and low <= 0:
        raise ValueError(f"loguniform: low must be > 0, got {low}")
    if axis.integer and not (low.is_integer() and high.is_integer()):
        raise ValueError(f"{kind}: must have whole ends, as its values are whole, got {list(bounds)}")
    if axis.step is not None:
        _check_step(axis, axis.step)


def _check_step(axis: Axis, step: float) -> None:
    if axis.loguniform:
        raise ValueError("step: goes with uniform; list the values instead: {choice: [16, 32, 64]}")
    if axis.integer and not step.is_integer():
        raise ValueError(f"step: must be whole, as the values are, got {number_text(step)}")
    low, high = axis.uniform or (0.0, 0.0)
    steps = (high - low) / step
    if steps > MOST_STEPS:
        raise ValueError(f"step: must leave at most {MOST_STEPS:,} values, got {steps:.3g}; leave it out")
    if round(steps) < 1 or abs(steps - round(steps)) > 1e-9 * steps:
        whole = max(1, math.floor(steps + 1e-9))
        way_out = number_text(float(f"{low + whole * step:.12g}"))
        raise ValueError(
            f"step: high must be a whole number of steps from low, got uniform: [{number_text(low)}, "
            f"{number_text(high)}], step: {number_text(step)}; such as [{number_text(low)}, {way_out}]"
        )


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


@functools.cache
def integer_keys() -> frozenset[str]:
    """The dotted keys of a trial that take whole numbers and no others."""
    return frozenset(key for key in leaf_keys() if _kinds(_annotation(key)) - {type(None)} == {int})


def _annotation(key: str) -> Any:
    model: Any = TrialConfig
    for part in key.split("."):
        model = model.model_fields[part].annotation
    return model


def _kinds(annotation: Any) -> set[Any]:
    """The types that an annotation lets in: `Whole | None` is int and NoneType."""
    if hasattr(annotation, "__metadata__"):  # Annotated
        return _kinds(get_args(annotation)[0])
    inner = get_args(annotation) if not isinstance(annotation, type) else ()
    return set().union(*map(_kinds, inner)) if inner else {annotation}


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
