"""Curves over epochs in plain characters, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, zip_longest
from typing import TypeAlias

from pandas import DataFrame

Points: TypeAlias = Sequence[tuple[int, float]]
"""Epoch and accuracy, a fraction, by epoch."""

#: Columns of the screen, and lines of a drawing without its axis.
WIDTH, HEIGHT = 80, 12

#: Where two curves meet, and what joins the epochs of one.
_BOTH, _BETWEEN = "*", "."

#: Columns that the axis of accuracies takes.
_AXIS = 7


def curves(lines: Mapping[str, Points], title: str = "", width: int = WIDTH, height: int = HEIGHT) -> list[str]:
    """Draws several curves in one frame: accuracies in percent over epochs.

    >>> print("\\n".join(curves({"v": [(1, 0.2), (3, 0.6)]}, width=18, height=3)))
     60.0 |         v
     40.0 |    .....
     20.0 |v...
          +----------
           1        3

    Args:
        lines: by the character that marks an epoch of it; `.` joins epochs, `*` is where two curves meet.
        title: above it; empty: none.
        width: columns of the screen.
        height: lines of the drawing.

    Returns:
        Lines of at most `width` characters; none where there is no point.
    """
    points = [point for line in lines.values() for point in line]
    if not points:
        return []
    first, last = min(epoch for epoch, _ in points), max(epoch for epoch, _ in points)
    low, high = min(value for _, value in points), max(value for _, value in points)
    room = width - _AXIS - 1
    grid = [[" "] * room for _ in range(height)]
    for mark, line in lines.items():
        places = [(_place(epoch, first, last, room), _place(value, low, high, height)) for epoch, value in line]
        for column, row in _between(places):
            if grid[row][column] == " ":
                grid[row][column] = _BETWEEN
        for column, row in places:
            taken = grid[row][column] not in (" ", _BETWEEN, mark)
            grid[row][column] = _BOTH if taken else mark
    values = [low + (high - low) * row / max(height - 1, 1) for row in range(height)]
    rows = [f"{100 * value:5.1f} |{''.join(cells)}".rstrip() for value, cells in zip(values, grid, strict=True)]
    ends = f"{first}{last:>{room - len(str(first))}}" if last > first else f"{first}"
    return [
        *([f"{'':{_AXIS}}{title[:room]}"] if title else []),
        *reversed(rows),
        f"{'+':>{_AXIS}}{'-' * room}",
        f"{'':{_AXIS}}{ends}",
    ]


def points(epochs: DataFrame, metric: str) -> Points:
    """The epochs of one trial at which a metric was measured, with its values."""
    measured = epochs[epochs[metric].notna()]
    return list(zip(measured["epoch"].tolist(), measured[metric].tolist(), strict=True))


def beside(left: Sequence[str], right: Sequence[str], width: int = WIDTH) -> list[str]:
    """Two drawings side by side, each of half the width at most."""
    half = width // 2
    return [f"{one:<{half}}{other}".rstrip() for one, other in zip_longest(left, right, fillvalue="")]


def _place(value: float, low: float, high: float, room: int) -> int:
    """Which of so many places, from 0."""
    return round((value - low) / (high - low) * (room - 1)) if high > low else 0


def _between(places: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The places on the straight lines from one to the next."""
    for (column, row), (end, last) in pairwise(places):
        for step in range(1, end - column):
            yield column + step, round(row + (last - row) * step / (end - column))
