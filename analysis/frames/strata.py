"""Which cells are compared with each other: those of one network and method, and of one combination of grid axes.

A drawn search (random, quasi-random, Optuna's) draws its points at each combination of the axes that it has as a grid,
and a stopping rule compares within it. Its launch names these axes. Cells of different epochs are compared all the
same: what more epochs cost, and bring, is what is asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pandas import DataFrame

from analysis.frames.cells import GROUP, conditions
from analysis.frames.names import readable
from analysis.frames.trials import axes


def grid_axes(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The grid axes that made strata in a run's last launch; none where it named none."""
    last: Mapping[str, Any] = {}
    for record in records:
        if record["record"] == "launch":
            last = record
    return tuple(last.get("strata", ()))


def own_strata(frame: DataFrame, grid: Sequence[str]) -> list[str]:
    """Those of the grid axes that tell more apart than network and method: they vary within one.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        grid: of `grid_axes`.
    """
    known = [axis for axis in grid if axis in axes(frame) and axis not in GROUP]
    if not known or frame.empty:
        return []
    levels = frame.groupby(list(GROUP), dropna=False)[known].nunique(dropna=False).max()
    return [axis for axis in known if levels[axis] > 1]


def strata(frame: DataFrame, grid: Sequence[str] = ()) -> list[str]:
    """The columns by which cells are never compared: network, method, grid axes, and what was measured differently.

    Args:
        frame: likewise.
        grid: likewise.
    """
    return list(dict.fromkeys([*GROUP, *own_strata(frame, grid), *conditions(frame)]))


def stratum_name(keys: Sequence[str], values: Sequence[object], grid: Sequence[str]) -> str:
    """A stratum in words: `net, PGD-AT, batch_size 32`; a grid axis that does not apply to it is left out.

    >>> stratum_name(["model.name", "method", "batch_size"], ["net", "PGD-AT", 32], ["batch_size"])
    'net, PGD-AT, batch_size 32'

    Args:
        keys: of `strata`.
        values: of the stratum, one each.
        grid: the axes that are named.
    """
    texts = [(key in grid, key, readable(value)) for key, value in zip(keys, values, strict=True)]
    return ", ".join(f"{key} {text}" if named else text for named, key, text in texts if text or not named)
