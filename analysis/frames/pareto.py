"""Several objectives: which cells no other one beats in all of them, judged on validation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series, concat

from analysis.frames.cells import (
    WHY_NOT,
    Mode,
    candidate_cells,
    cell_means,
    codes,
    weighed_cells,
)
from analysis.frames.strata import strata
from analysis.frames.trials import axes

Array = NDArray[np.float64]

#: The column of a frame of trials.
PARETO = "pareto"

#: Further reasons why a cell is not judged.
NOT_MEASURED, NONE_COMPLETED = "an objective was not measured", "no seed completed"


class Objective(NamedTuple):
    """What a sweep wants more, or less, of."""

    name: str
    """A validation metric, or `seconds` of the whole trial."""
    mode: Mode

    @property
    def column(self) -> str:
        """Of a frame of trials: of a metric at the last evaluated epoch."""
        return self.name if self.name == "seconds" else f"last_{self.name}"


def objectives_of(records: Iterable[Mapping[str, Any]]) -> tuple[Objective, ...]:
    """The objectives of a run's last launch; nothing where it had one alone."""
    last: Mapping[str, Any] = {}
    for record in records:
        if record["record"] == "launch":
            last = record
    return tuple(Objective(one["name"], one["mode"]) for one in last.get("objectives", ()))


def losses(values: Array, objectives: Sequence[Objective]) -> Array:
    """The values with less being better in every column.

    Args:
        values: (..., objectives).
        objectives: of the columns.
    """
    return np.asarray(values * np.array([-1.0 if one.mode == "max" else 1.0 for one in objectives]))


def nondominated(losses: Array) -> NDArray[np.bool_]:
    """Which rows no other row dominates: is no worse in every column, and better in one. Equal rows stand together.

    >>> nondominated(np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0], [0.0, 1.0]])).tolist()
    [True, True, False, True]

    Args:
        losses: (n, objectives), less being better; a row with NaN is not on the front, and dominates none.
    """
    known = np.asarray(np.isfinite(losses).all(axis=1))
    front = known.copy()
    for row in np.flatnonzero(known):
        no_worse = (losses[known] <= losses[row]).all(axis=1)
        front[row] = not (no_worse & (losses[known] < losses[row]).any(axis=1)).any()
    return front


def judged_cells(
    frame: DataFrame, objectives: Sequence[Objective], report: Sequence[str] = (), *, grid: Sequence[str] = ()
) -> DataFrame:
    """The cells that may be on a front, each with its mean objectives and whether it is on that of its stratum.

    They are those among which a best cell may be chosen (`analysis.frames.cells.candidate_cells`): no trial of them
    diverged, and they have all their seeds. A cell that lacks an objective is none of them.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        objectives: of the sweep, the first being the one that chooses best cells.
        report: further metrics to carry along.
        grid: of `analysis.frames.strata.grid_axes`: those that make strata.

    Returns:
        rows of `candidate_cells` with `PARETO`.
    """
    columns = [one.column for one in objectives]
    cells: DataFrame = candidate_cells(frame, columns[0], [*columns, *report])
    cells = cells.loc[np.isfinite(cells[columns].to_numpy(dtype=np.float64)).all(axis=1)]
    cells = cells.assign(**{PARETO: False})
    for _, part in cells.groupby(strata(frame, grid), sort=False, dropna=False):
        cells.loc[part.index, PARETO] = nondominated(losses(part[columns].to_numpy(dtype=np.float64), objectives))
    return cells


def unjudged_cells(frame: DataFrame, objectives: Sequence[Objective], report: Sequence[str] = ()) -> DataFrame:
    """The cells that are none of `judged_cells`, and why: those that completed a seed first.

    Args:
        frame: likewise.
        objectives: likewise.
        report: likewise.

    Returns:
        rows of `cell_means`, over the seeds that completed, with `analysis.frames.cells.WHY_NOT`.
    """
    columns = list(dict.fromkeys([*(one.column for one in objectives), *report]))
    cells = weighed_cells(frame, columns[0], columns)
    lacking = ~np.isfinite(cells[[one.column for one in objectives]].to_numpy(dtype=np.float64)).all(axis=1)
    cells.loc[lacking & (cells[WHY_NOT] == ""), WHY_NOT] = NOT_MEASURED
    every = cell_means(frame, columns)
    never = every[(every["n"] == 0) & (every["trials"] > 0)].assign(**{WHY_NOT: NONE_COMPLETED})
    return concat([cells[cells[WHY_NOT] != ""], never])[[*every.columns, WHY_NOT]]


def with_pareto(frame: DataFrame, objectives: Sequence[Objective], grid: Sequence[str] = ()) -> DataFrame:
    """The frame with the column `pareto` last, of a sweep of several objectives; another's as it is.

    True: the trial's cell is on the front of its stratum, judged by its means on validation. False: another cell
    dominates it. None: the trial did not complete, or its cell cannot be judged.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        objectives: of `objectives_of`.
        grid: of `analysis.frames.strata.grid_axes`: those that make strata.
    """
    if not objectives:
        return frame
    on_front: Series[Any] = Series(codes(frame, axes(frame)), index=frame.index).map(
        judged_cells(frame, objectives, grid=grid)[PARETO].to_dict()
    )
    judged = on_front.notna() & (frame["outcome"] == "completed")
    values = [bool(value) if there else None for value, there in zip(on_front, judged, strict=True)]
    return frame.assign(**{PARETO: Series(values, index=frame.index, dtype=object)})
