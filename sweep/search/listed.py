"""The points of one combination of the grid axes as far as they can be listed, and examples of those that cannot."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import NamedTuple

from sweep.axes import Axis, Point
from sweep.config import SweepConfig
from sweep.search.admission import Admission
from sweep.search.points import MOST, combinations, draw, located

#: Draws by which strata are compared that are not listed whole. [own]
DRAWS = 20


class Listed(NamedTuple):
    """Points of a stratum."""

    points: list[Point]
    """Those that are admitted, or examples where an axis is a range."""
    open_ended: bool
    """Whether an axis is a range of more values than are listed."""
    more: bool
    """Whether there are others."""


def listed(config: SweepConfig, admission: Admission, stratum: Point, most: int) -> Listed:
    """The first points of a stratum, `most` of them at most, of `MOST` combinations that are looked at."""
    space = config.space
    combined = partial(combinations, space, config.given, stratum, every=True)
    every = combined()
    first = list(islice(every, most))
    more = next(every, None) is not None
    ranges = [axis for key, axis in space.items() if axis.is_range and any(key in one for one in first)]
    if any(axis.is_continuous for axis in ranges) or (ranges and len(first) == most):
        return Listed(list(islice(combinations(space, config.given, stratum), most)), True, True)
    if config.where:
        every = combined()
        first = list(islice(filter(admission.admits, islice(every, MOST)), most))
        more = next(every, None) is not None
    return Listed(first, False, more)


def examples(config: SweepConfig, admission: Admission, stratum: Point, most: int) -> list[Point]:
    """Admitted points between the ends of ranges: each combination of the other axes at one place, and draws."""
    space, base = config.space, config.given
    at, *others = (draw(space, config.search.seed, number) for number in range(DRAWS))
    inside = {
        key: Axis(choice=(axis.at(at[key]),), when=axis.when) if axis.is_range else axis for key, axis in space.items()
    }
    points = list(islice(combinations(inside, base, stratum), most))
    points += [located(space, base, stratum, one) for one in others]
    return list(filter(admission.admitted, points))
