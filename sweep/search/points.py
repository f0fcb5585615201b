"""Axes -> points: every combination of the grid axes, and draws on the others.

A point is a mapping of dotted keys of the trial to values; an axis whose `when` does not hold is not in it. `base` is
what the config sets of every trial, nested; what it leaves out is the preset's, or the default.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from itertools import count, islice
from typing import Any

import numpy as np

from sweep.axes import Axis, Point, axis_order, nested, value_at
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.presets import beneath

#: Trials, and combinations of values, that a sweep has at most: some thousand times what one takes part in.
MOST = 100_000


def applies(axis: Axis, point: Point, base: Mapping[str, Any]) -> bool:
    """Whether the axis's conditions hold at the point, or in a trial of `base` there for keys that are no axes."""
    return all(
        (point[key] if key in point else standing(base, point, key)) in admitted
        for key, admitted in axis.conditions().items()
    )


def standing(base: Mapping[str, Any], point: Point, key: str) -> Any:
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
    """Every combination of the grid axes that do not hang on a drawn one, in the file's order.

    Raises:
        UserError: they are more than `MOST`.
    """
    listed = _combinations(space, base, [key for key in axis_order(space) if _is_grid(space, key)], {})
    combined = list(islice(listed, MOST + 1))
    refuse_many(len(combined), "combinations of the values that it lists")
    return combined


def refuse_many(number: int, noun: str = "trials, of all its seeds", drawn: int | None = None) -> None:
    """Refuses a sweep whose list of trials alone would fill the memory.

    Args:
        number: of what is counted.
        noun: what that is.
        drawn: the sweep's `search.n_trials`, where it has one.

    Raises:
        UserError: the number is over `MOST`.
    """
    if number > MOST:
        fewer = (
            "list fewer values or seeds, or draw some: {choice: [...]} in place of a list, and search={name: random, "
            "n_trials: 100}"
            if drawn is None
            else f"lower search.n_trials, {drawn}, or list fewer values or seeds"
        )
        raise UserError(f"space: must have at most {MOST:,} {noun}; {fewer}")


def combinations(
    space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point, *, every: bool = False
) -> Iterator[Point]:
    """Every combination of the drawn axes' values within a stratum; a range stands there with its low end.

    One whose values can be counted stands there with both ends, or, if wanted, with `every` value.
    """
    return _combinations(space, base, drawn_axes(space), stratum, every=every)


def one_at_a_time(space: Mapping[str, Axis], base: Mapping[str, Any], stratum: Point) -> Iterator[Point]:
    """The points of a stratum of which at most one choice is not the first of its axis's values; the plain one first.

    A grid axis that hangs on a choice takes each of its values where it applies: what else a value needs beside it.
    """
    return _off_by_one(space, base, drawn_axes(space), stratum, plain=True)


def _off_by_one(
    space: Mapping[str, Axis], base: Mapping[str, Any], keys: Sequence[str], point: Point, *, plain: bool
) -> Iterator[Point]:
    if not keys:
        yield point
        return
    key, axis = keys[0], space[keys[0]]
    if not applies(axis, point, base):
        yield from _off_by_one(space, base, keys[1:], point, plain=plain)
        return
    first, *others = axis.extremes()
    yield from _off_by_one(space, base, keys[1:], {**point, key: first}, plain=plain)
    for value in others if plain or axis.grid else ():
        yield from _off_by_one(space, base, keys[1:], {**point, key: value}, plain=plain and bool(axis.grid))


def corners(space: Mapping[str, Axis], base: Mapping[str, Any]) -> list[Point]:
    """Every combination of what the axes can be, a range standing there with its two ends."""
    return strata({key: Axis(grid=axis.extremes(), when=axis.when) for key, axis in space.items()}, base)


def _combinations(
    space: Mapping[str, Axis], base: Mapping[str, Any], keys: Sequence[str], point: Point, *, every: bool = False
) -> Iterator[Point]:
    if not keys:
        yield point
    elif applies(space[keys[0]], point, base):
        for value in _standing_for(space[keys[0]], every):
            yield from _combinations(space, base, keys[1:], {**point, keys[0]: value}, every=every)
    else:
        yield from _combinations(space, base, keys[1:], point, every=every)


def _standing_for(axis: Axis, every: bool) -> Sequence[Any]:
    if axis.is_continuous:
        return axis.extremes()[:1]
    return axis.values() if every else axis.extremes()


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


def draw(space: Mapping[str, Axis], seed: int, index: int | str) -> dict[str, float]:
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


def places(space: Mapping[str, Axis], seed: int, quasi_random: bool) -> Iterator[dict[str, float]]:
    """What `draw` gives at 0, 1, 2, ..., or `sobol` one after another, without end."""
    if not quasi_random:
        yield from (draw(space, seed, index) for index in count())
    known = 0
    for bits in count(4):
        yield from sobol(space, seed, 2**bits)[known:]
        known = 2**bits


def _generator(*key: Any) -> np.random.Generator:
    return np.random.default_rng(int.from_bytes(hashlib.sha256(repr(key).encode()).digest()[:8]))
