"""Which points a sweep's `where` lets in."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sweep.axes import Axis, Point
from sweep.config import SweepConfig
from sweep.search.points import located, standing
from sweep.where import Constraint, Undefined, constraint
from trainers.errors import UserError
from trainers.fields import plural
from trainers.visible import shortened


@dataclass(frozen=True)
class Admission:
    """Decides which points of a space may be run. Of a key that a point lacks the base's value counts, else its
    preset's, else the default."""

    base: Mapping[str, Any]
    constraints: tuple[Constraint, ...]

    @classmethod
    def of_sweep(cls, config: SweepConfig) -> Admission:
        """That of a sweep; one without `where` lets all points in."""
        return cls(config.given, tuple(map(constraint, config.where)))

    def admits(self, point: Point) -> bool:
        """Whether every constraint holds at the point.

        Raises:
            UserError: one is neither true nor false there.
        """
        return self.refusing(point) is None

    def admitted(self, point: Point) -> bool:
        """Whether every constraint holds at the point; where one is neither true nor false it does not hold."""
        try:
            return self.admits(point)
        except UserError:
            return False

    def refusing(self, point: Point) -> Constraint | None:
        """The first constraint that does not hold at the point; None: all do.

        Raises:
            UserError: it is neither true nor false there.
        """
        for one in self.constraints:
            try:
                if not one.holds(lambda key: point[key] if key in point else self._standing(point, key)):
                    return one
            except Undefined as error:
                text = f"where: {one.text}: {error}, at the point {shown(point)}"
                raise UserError(f"{text}; decide it there, as in: KEY == none or ...") from None
        return None

    def may_admit(self, point: Point, space: Mapping[str, Axis]) -> bool:
        """Whether a point may be let in whose ranges stand there with one of their ends for all that is between."""
        return any(key in point and axis.is_range for key, axis in space.items()) or self.admitted(point)

    def kept(self, points: Iterable[Point]) -> list[Point]:
        """Those points that are let in, of which there must be one.

        Raises:
            UserError: none is, and there are some.
        """
        points = list(points)
        refused = [self.refusing(point) for point in points] if self.constraints else []
        if refused and all(refused):
            raise self.nothing(points, f"none of the {len(points):,} points meets it")
        return [point for point, why in zip(points, refused, strict=True) if why is None] if refused else points

    def nothing(self, points: Iterable[Point], what: str) -> UserError:
        """Of points none of which is let in: a line that names a constraint that refuses the first of them."""
        first = next(iter(points))
        refusing = self.refusing(first) or self.constraints[0]
        all_of = f" (with the others of where, {len(self.constraints)} in all)" if len(self.constraints) > 1 else ""
        return UserError(
            f"where: {refusing.text}: {what}{all_of}; the first is {shown(first)}; mend the expression, or widen the "
            "axes of space"
        )

    def _standing(self, point: Point, key: str) -> Any:
        try:
            return standing(self.base, point, key)
        except KeyError:  # an option of a user's own code, at a point that has none
            return None


@dataclass
class Shared:
    """A sequence without end that several read from its start; each of its values is worked out once."""

    source: Iterator[dict[str, float]]
    known: list[dict[str, float]] = field(default_factory=list)

    def first(self, n: int) -> Iterator[dict[str, float]]:
        """Its first n values."""
        for index in range(n):
            if index == len(self.known):
                self.known.append(next(self.source))
            yield self.known[index]


@dataclass(frozen=True)
class Drawn:
    """The draws of a stratum that are admitted, and how many were looked at for them."""

    stratum: Point
    points: list[Point]
    looked_at: int
    first: Point
    constraints: tuple[Constraint, ...]

    def too_few(self, wanted: int) -> UserError:
        """That fewer than the wanted ones are among those that were looked at."""
        text = "; ".join(one.text for one in self.constraints)
        return UserError(
            f"where: {text}: only {len(self.points)} of {self.looked_at:,} draws{at_stratum(self.stratum)} meet it, "
            f"and search.n_trials is {wanted}: narrow the axes of space to where it holds, or set "
            f"search.n_trials={len(self.points)}"
        )


def looked_at_most(wanted: int) -> int:
    """Draws that are looked at for the wanted ones: 100 for each, and at least 1,000, but some 20,000 at most, which
    take seconds."""
    return wanted + min(max(1000, 100 * wanted), 20_000)


def first_admitted(
    drawn: Shared, space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point, admission: Admission, n: int
) -> Drawn:
    """The first n draws that are admitted in a stratum: so each sees the same ones, and more keep those of fewer."""
    points: list[Point] = []
    first, looked_at = stratum, 0
    for looked_at, place in enumerate(drawn.first(looked_at_most(n)), start=1):
        point = located(space, base, stratum, place)
        first = point if looked_at == 1 else first
        if admission.admits(point):
            points.append(point)
        if len(points) == n:
            break
    return Drawn(stratum, points, looked_at, first, admission.constraints)


def left_out_lines(found: Sequence[Drawn], n: int) -> Iterator[str]:
    """What is to be said of the draws that were not admitted."""
    full, empty = [one for one in found if one.points], [one for one in found if not one.points]
    looked_at, more = sum(one.looked_at for one in full), sum(one.looked_at - n for one in full)
    if more:
        yield f"where leaves out {more:,} of {looked_at:,} draws; further ones stand in for them"
    if empty:
        others = "" if len(empty) == 1 else f" and {len(empty) - 1} more"
        yield f"where leaves out all of {plural(empty[0].looked_at, 'draw')}{at_stratum(empty[0].stratum)}{others}"


def at_stratum(stratum: Point) -> str:
    """Where a stratum lies, in words; nothing where it is the whole space."""
    return f" at {shown(stratum)}" if stratum else ""


def shown(point: Point) -> str:
    """A point for a message, no longer than one reads."""
    return shortened(json.dumps(point, default=str))
