"""Logarithmic axes: ticks at values that were run, in plain numbers; marks of one value side by side."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.names import brief, short
from analysis.plots.page import PAGE, Page, inches

#: More values than this are those of a drawn axis: round numbers are its ticks.
MOST_VALUES = 32

#: Inches of a tick's letter, and between two ticks, at the size for which panels are made.
_LETTER, _GAP = 0.082, 0.1

#: Marks of one value take this share of the way to the next one, and at most and at least these of the whole axis.
_SPREAD, _MOST, _LEAST = 0.33, 0.03, 0.004


def plain(text: str) -> str:
    """A number's text without an exponent.

    >>> plain("7.8e-05"), plain("0.001"), plain("128")
    ('0.000078', '0.001', '128')
    """
    return np.format_float_positional(float(text), trim="-") if "e" in text else text


def log_axis(axis: Axis, values: Iterable[float], page: Page = PAGE, digits: int = 3) -> None:
    """A logarithmic axis whose ticks are values that were run, as many as can be read.

    Of an axis whose values were drawn the ticks are 1, 2 and 5 of each decade.

    Args:
        axis: x or y of a panel.
        values: positive.
        page: for what it is drawn.
        digits: significant ones of a tick.
    """
    axes, known = axis.axes, sorted(set(values))
    across = axis is axes.xaxis
    (axes.set_xscale if across else axes.set_yscale)("log")
    axis.set_minor_locator(NullLocator())
    if len(known) <= MOST_VALUES:
        texts = [plain(text) for text in brief(known, digits)]
        length = inches(axes) if across else inches(axes, up=True)
        room = _GAP + (_LETTER * max(map(len, texts)) if across else 2 * _LETTER)
        shown = apart(known, room * page.larger / length)
        axis.set_ticks(shown, [texts[known.index(value)] for value in shown])
        return
    plain_decades(axis)


def leaning(texts: Sequence[str], axes: Axes, page: Page = PAGE) -> float:
    """By how many degrees the labels of as many equal fields across a panel lean: by none where they have room."""
    room = _GAP + _LETTER * max(map(len, texts))
    return 45.0 if len(texts) * room * page.larger > inches(axes) else 0.0


def plain_decades(axis: Axis) -> None:
    """Ticks at 1, 2 and 5 of each decade, of many decades at 1 alone, without exponents."""
    low, high = axis.get_data_interval()
    wide = low <= 0 or high >= 500 * low
    axis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: plain(short(value, 3))))
    axis.set_minor_formatter(NullFormatter())


def whole_epochs(axes: Axes) -> None:
    """Ticks at whole epochs along x, once all is drawn; at one alone where there is no other, of which matplotlib
    would show fractions.
    """
    low, high = axes.get_xlim()
    alone = np.floor(high) - np.ceil(low) < 1
    axes.locator_params(axis="x", integer=True, min_n_ticks=1 if alone else 2)


def apart(values: Sequence[float], least: float = 0.14) -> list[float]:
    """Those that can be labelled on a logarithmic axis: first and last, and of the others what is far enough from all.

    >>> apart([0.025, 0.0313, 0.0862, 0.366, 0.389, 0.667])
    [0.025, 0.0862, 0.366, 0.667]

    Args:
        values: positive, sorted.
        least: distance of two labels, as a share of the axis.
    """
    shares = np.log(np.asarray(values) / values[0]) / max(float(np.log(values[-1] / values[0])), np.finfo(float).tiny)
    kept = [0]
    for place in range(1, len(values) - 1):
        if shares[place] - shares[kept[-1]] >= least and 1 - shares[place] >= least:
            kept.append(place)
    return [values[place] for place in sorted({*kept, len(values) - 1})]


def side_by_side(rows: DataFrame, x: str, order: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Where marks are drawn on a logarithmic axis: those of one value beside each other, none upon another.

    Args:
        rows: a mark each.
        x: the column along the picture, positive.
        order: of the marks of one value, from left to right; the last one counts most, as `numpy.lexsort` has it.
    """
    at = np.log(rows[x].to_numpy(dtype=np.float64))
    known, group = np.unique(at, return_inverse=True)
    span = max(float(known[-1] - known[0]), 0.1)
    half = float(np.clip(_SPREAD * np.diff(known).min(initial=span), _LEAST * span, _MOST * span))
    places = np.empty(len(at))
    for one in range(len(known)):
        marks = np.flatnonzero(group == one)
        ranked = marks[np.lexsort([keys[marks] for keys in order])]
        places[ranked] = (np.arange(len(marks)) + 0.5) / len(marks) * 2 - 1
    return np.asarray(np.exp(at + half * places))
