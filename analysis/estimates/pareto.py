"""The front of several objectives with intervals over seeds, and how sure a cell's place on it is.

A cell is on the front of its stratum if no other one is at least as good in every objective and better in one, by means
over seeds of the validation metrics. As the means move with the seeds, so does the front: `front_share` is the share of
bootstrap resamples of seeds in which the cell is on it. That is no test: of many cells that are equal in truth, each is
on the front of some resamples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Index, Series, concat
from scipy import stats

from analysis.estimates.intervals import NO_SPREAD, mean_error, t_interval
from analysis.estimates.ranges import clipped, possible
from analysis.estimates.resampling import redrawn_seeds
from analysis.frames.cells import codes
from analysis.frames.pareto import Objective, judged_cells, losses, nondominated
from analysis.frames.strata import strata
from analysis.frames.trials import axes

Array = NDArray[np.float64]

#: What is reported of each cell, and chooses nothing.
REPORTED = ("last_test_robust", "last_test_clean")

#: Below this p of Bartlett's test the cells of a stratum have a variance each.
_UNEQUAL = 0.05

POOLED, OWN = "t, variance pooled over the stratum's cells", "t, variance of the cell's own seeds"
NO_SEED, ONE_SEED, ALIKE = "none: not measured", "none: one seed", "none: the seeds do not differ"


def front(
    trials: DataFrame,
    objectives: Sequence[Objective],
    *,
    grid: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 1000,
    seed: int = 0,
) -> DataFrame:
    """Every cell that may be on a front, those on it first, the best in the first objective before others.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        objectives: of `analysis.frames.pareto.objectives_of`.
        grid: of `analysis.frames.strata.grid_axes`: those that make strata.
        confidence: of each interval, in (0, 1).
        resamples: bootstrap resamples, of seeds (`analysis.estimates.resampling.redrawn_seeds`).
        seed: of the resampling.

    Returns:
        method, the axes, n, pareto, front_share (NaN where a cell of the stratum has one seed), then each objective and
        test metric with NAME_low, NAME_high and NAME_interval, what the bounds are: over seeds. NaN: not measured.
    """
    columns = list(dict.fromkeys([*(one.column for one in objectives), *REPORTED]))
    cells = judged_cells(trials, objectives, REPORTED, grid=grid)
    places = Series(codes(trials, axes(trials)), index=trials.index)
    rows = trials.assign(_cell=places)[(trials["outcome"] == "completed") & places.isin(cells.index)]
    parts = []
    for _, part in cells.groupby(strata(trials, grid), sort=False, dropna=False):
        own = rows[rows["_cell"].isin(part.index)].dropna(subset=[one.column for one in objectives])
        share = _front_share(own, part, objectives, resamples, np.random.default_rng(seed))
        bounds: dict[str, Any] = {}
        for y in columns:
            bounds |= _bounds(own, part, y, confidence)
        known = part[["method", *axes(trials), "n", "pareto"]]
        upwards = [False, objectives[0].mode == "min"]
        ordered = known.assign(front_share=share, **bounds).sort_values(
            ["pareto", columns[0]], ascending=upwards, kind="stable"
        )
        parts.append(ordered)
    return concat(parts, ignore_index=True) if parts else DataFrame()


def _front_share(
    rows: DataFrame, cells: DataFrame, objectives: Sequence[Objective], resamples: int, rng: np.random.Generator
) -> Array:
    """(cells,): in what share of the resamples each is on the front."""
    place = cells.index.get_indexer(Index(rows["_cell"]))
    if np.bincount(place, minlength=len(cells)).min() < 2:
        return np.full(len(cells), np.nan)
    weights, _ = redrawn_seeds(place.astype(np.int64), rows["seed"].to_numpy(), resamples, rng)
    distinct, counts = np.unique(weights, axis=0, return_counts=True)
    member = np.asarray(place[:, None] == np.arange(len(cells)), dtype=np.float64)
    y = losses(rows[[one.column for one in objectives]].to_numpy(dtype=np.float64), objectives)
    on_it = [nondominated((w[:, None] * member).T @ y / (w @ member)[:, None]) for w in distinct]
    return np.average(np.array(on_it, dtype=np.float64), axis=0, weights=counts)


def _bounds(rows: DataFrame, cells: DataFrame, y: str, confidence: float) -> dict[str, list[Any]]:
    """The mean of each cell with its interval, over its seeds."""
    table = rows.pivot_table(index="_cell", columns="seed", values=y).reindex(cells.index).to_numpy(dtype=np.float64)
    each = [one[~np.isnan(one)] for one in table]
    several = [one for one in each if len(one) > 1]
    pooled = _equal(several)
    square = sum(float(((one - one.mean()) ** 2).sum()) for one in several)
    freedom = float(sum(len(one) - 1 for one in several))
    common = square / freedom if pooled else np.nan
    if pooled and not np.isnan(table).any():  # a seed that moves all cells alike says less of the noise
        freedom = mean_error(table).freedom
    found = []
    for one in each:
        own = len(one) - 1
        variance, df = (common, freedom) if pooled else (one.var(ddof=1) if own > 0 else np.nan, own)
        mean = float(one.mean()) if len(one) else np.nan
        low, high, _ = t_interval(mean, float(np.sqrt(variance / max(len(one), 1))), df, confidence)
        how = (POOLED if pooled else OWN) if low == low else ALIKE if own > 0 else ONE_SEED if len(one) else NO_SEED
        found.append((mean, *clipped(low, high, possible(y)), how))
    return dict(zip((y, f"{y}_low", f"{y}_high", f"{y}_interval"), map(list, zip(*found, strict=True)), strict=True))


def _equal(each: Sequence[Array]) -> bool:
    """Whether the seeds of several cells may have one variance; no cell with two seeds: no."""
    if not each:
        return False
    varies = [one for one in each if one.std() > NO_SPREAD]
    if len(varies) < len(each):
        return not varies
    return len(each) == 1 or not float(stats.bartlett(*each).pvalue) < _UNEQUAL
