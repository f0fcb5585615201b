"""Points that the config gives out by hand, `search.points`, which run before those that the search finds.

A given point names some axes. Of the grid axes that it leaves out every value is run, as everywhere; of the others one
is drawn, by the draws that every search has (`sweep.search.points.draw`), at an index of the point's own; where axes
are varied one at a time, it is the plain one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from sweep.axes import Axis, Point
from sweep.config import SweepConfig
from sweep.search.admission import Admission, shown
from sweep.search.points import draw, drawn_axes, located, strata
from trainers.errors import UserError
from trainers.fields import number_text
from trainers.visible import brief

#: Draws that are looked at for the rest of a given point, at most, until it is admitted and all it names applies.
TRIED = 1000


def given_points(config: SweepConfig, admission: Admission) -> list[Point]:
    """Every point that `search.points` means, in its order, each once.

    Raises:
        UserError: one lies outside of an axis, where one of its axes does not apply, or where `where` does not hold.
    """
    points: list[Point] = []
    for number, wanted in enumerate(config.search.points):
        found = list(_meant(config, admission, number, wanted))
        points += [point for point in found if point not in points]
    return points


def _meant(config: SweepConfig, admission: Admission, number: int, wanted: Mapping[str, Any]) -> Iterator[Point]:
    """The points that one line means: one for each combination of the grid axes left out that suits it."""
    where, base = f"search.points.{number}", config.given
    for key, value in wanted.items():
        _check_value(config, key, value, f"{where}.{key}")
    space = {key: _pinned(config, key, axis, wanted) for key, axis in config.space.items()}
    refused: Point = {}
    found = False
    for stratum in strata(space, base):
        for attempt in range(TRIED if drawn_axes(space) else 1):
            at = draw(space, config.search.seed, f"point {number}, {attempt}") if drawn_axes(space) else {}
            point = located(space, base, stratum, at)
            if wanted.keys() <= point.keys() and admission.admits(point):
                found = True
                yield point
                break
            refused = refused or point
    if not found:
        raise _nowhere(config, admission, where, wanted, refused)


def _pinned(config: SweepConfig, key: str, axis: Axis, wanted: Mapping[str, Any]) -> Axis:
    """The axis as the rest of a given point has it."""
    if key in wanted:
        return Axis(grid=(wanted[key],), when=axis.when)
    if config.search.name == "one_at_a_time" and axis.choice:
        return Axis(grid=axis.choice[:1], when=axis.when)
    return axis


def _check_value(config: SweepConfig, key: str, value: Any, where: str) -> None:
    axis = config.space[key]
    if axis.admits(value) or (axis.grid and config.search.name == "grid"):
        return
    if axis.is_range:
        low, high = map(number_text, axis.extremes())
        kind = "" if axis.is_continuous else f", {number_text(axis.apart)} apart"
        raise UserError(
            f"{where}: must lie in its axis, from {low} to {high}{kind}, got {brief(value)}; widen the axis"
        )
    raise UserError(
        f"{where}: must be one of its axis's values, {', '.join(map(brief, axis.extremes()))}; got {brief(value)}; add "
        "it there"
    )


def _nowhere(
    config: SweepConfig, admission: Admission, where: str, wanted: Mapping[str, Any], refused: Point
) -> UserError:
    """Why a given point lies nowhere: a key that does not apply, or a constraint."""
    for key in (key for key in wanted if key not in refused):
        conditions = config.space[key].conditions()
        text = ", ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in conditions.items())
        return UserError(f"{where}.{key}: applies only where {text}; leave it out, or give that too")
    refusing = admission.refusing(refused)
    text = refusing.text if refusing else ""
    return UserError(f"{where}: where: {text}: does not hold at {shown(refused)}; mend one of the two")
