"""Axes as Optuna's parameters, and points as their values."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from sweep.axes import Axis, Point
from sweep.search.points import applies, drawn_axes


def distribution(axis: Axis) -> BaseDistribution:
    """What Optuna is to draw of an axis: a range, or one of its values, which it knows by their JSON."""
    if not axis.is_range:
        return CategoricalDistribution([json.dumps(value) for value in axis.extremes()])
    low, high = axis.extremes()
    if axis.integer:
        return IntDistribution(low, high, log=axis.loguniform is not None, step=round(axis.apart))
    return FloatDistribution(low, high, log=axis.loguniform is not None, step=axis.step)


def distributions(space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point) -> dict[str, BaseDistribution]:
    """Those of the drawn axes that apply at some point of a stratum, by key."""
    drawn = drawn_axes(space)
    never = {key for key in drawn if not hangs(space, key) and not applies(space[key], stratum, base)}
    return {key: distribution(space[key]) for key in drawn if key not in never}


def hangs(space: Mapping[str, Axis], key: str) -> bool:
    """Whether an axis applies at some points of a stratum and not at others: its `when` names a drawn axis."""
    return not set(drawn_axes(space)).isdisjoint(space[key].conditions())


def parameters(space: Mapping[str, Axis], point: Point) -> dict[str, Any]:
    """The point's drawn values as Optuna knows them."""
    drawn = {key: point[key] for key in drawn_axes(space) if key in point}
    return {
        key: _parameter(space[key], value) if space[key].is_range else json.dumps(value) for key, value in drawn.items()
    }


def _parameter(axis: Axis, value: float) -> float:
    """A range's value with the digits that Optuna's own sums of steps have: studies are the same once rebuilt."""
    if axis.is_continuous or axis.integer:
        return value
    low, high = axis.extremes()
    return float(min(low + round((value - low) / axis.apart) * axis.apart, high))


def suggested(ask: Trial, space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point) -> Point:
    """The point that Optuna asks for: it is asked for the value of each axis that applies, in their order."""
    point = dict(stratum)
    for key in drawn_axes(space):
        if applies(space[key], point, base):
            value = _suggest(ask, key, distribution(space[key]))
            point[key] = _value(space[key], value)
    return point


def _value(axis: Axis, suggestion: Any) -> Any:
    """What Optuna suggests, as the axis has it: of steps its sums end in other digits."""
    if not axis.is_range:
        return json.loads(suggestion)
    return suggestion if axis.is_continuous else axis.snapped(suggestion)


def _suggest(ask: Trial, key: str, of: BaseDistribution) -> Any:
    match of:
        case FloatDistribution():
            return ask.suggest_float(key, of.low, of.high, step=of.step, log=of.log)
        case IntDistribution():
            return ask.suggest_int(key, of.low, of.high, step=of.step, log=of.log)
        case CategoricalDistribution():
            return ask.suggest_categorical(key, of.choices)
    raise AssertionError(of)
