"""Which hyperparameter matters for a metric: Optuna's two estimators of importance, with an interval over seeds.

A row is a cell: the mean of its seeds. What an estimator says of the cells' means holds the seeds' noise too, which
makes an axis that does nothing look as if it did something. So the noise is taken off by the bootstrap over seeds: both
estimators give each axis a part of a total, and a resample adds to both once more what the noise has added. With a part
A of a total T, of the cells as they are, and A*, T* of a resample,

    share = (2 A - mean A*) / (2 T - mean T*),    its error: the standard deviation of (A* - share T*) / (2 T - mean T*)

[Efron, Tibshirani 1993, section 10.6; the delta method for a ratio]. The interval is about the seeds' noise at the
points that were run: what an estimator itself makes of few points is no part of it. How often it held the truth in
simulated sweeps, and how far the estimators are from the true shares: benchmarks/importance_coverage.py.

fanova: the part of the variance over the space that each axis makes by itself, from a forest of regression trees
[Hutter, Hoos, Leyton-Brown, ICML 2014]. Every axis is uniform over its values, and independent of the others.
ped_anova: how differently the best cells are spread over an axis than all cells are [Watanabe, Bansal, Hutter, IJCAI
2023; of axes that apply to some trials: Conditional PED-ANOVA, KDD 2026]. It is measured against the cells that were
run, so that a search which went to the good ones does not by itself make an axis important.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.evaluator import FEWEST_BEST, By, Column, Evaluator, column_of
from analysis.estimates.intervals import Estimate
from analysis.estimates.resampling import redrawn_seeds
from analysis.frames.budgets import one_budget
from analysis.frames.cells import codes, enough_seeds, measured, nothing_completed, several, varying
from analysis.frames.names import KEYS, short
from trainers.errors import UserError, suggestion

Array = NDArray[np.float64]

#: What no axis makes by itself, of fANOVA's variance.
INTERACTIONS = "interactions"

#: Fewer cells say nothing: of a grid; of points that were drawn, in all and for each axis.
FEWEST_OF_GRID, FEWEST, FEWEST_AN_AXIS = 4, 20, 10

#: Values that are listed are a grid if so much of all combinations is there: some cells diverge.
GRID = 0.75

#: Where the seeds' noise makes more than this of the variance of the cells' means, there is no interval.
MOST_NOISE = 0.5

RESAMPLES = 100

#: Estimators without an interval: which cells are the best jumps with the seeds, and a t interval from resamples held
#: the truth far too seldom (benchmarks/importance_coverage.py).
WITHHELD: tuple[By, ...] = ("ped_anova",)


@dataclass(frozen=True)
class AxisImportance:
    """How much one axis matters."""

    axis: str
    share: Estimate
    """Of the total, in [0, 1], without the seeds' noise where that is known; no bounds where they are withheld."""
    raw: float
    """As the estimator gives it, the seeds' noise in it."""
    over: str
    """What the axis is over, in words: `3 values`, `40 drawn, logarithmic`."""


@dataclass(frozen=True)
class Importance:
    """The importance of every axis in one part of a sweep."""

    where: Mapping[str, Any]
    """Axis to value that the part's trials share; empty: all trials."""
    metric: str
    by: By
    n_cells: int
    n_trials: int
    n_seeds: int
    axes: tuple[AxisImportance, ...] = ()
    """The most important first; empty where there is a `reason`."""
    reason: str = ""
    """Why nothing is said; empty: something is."""
    n_lacking: int = 0
    """Points that there are too few of, where that is why: cells that differ in axes that are averaged over are one."""
    interval: str = ""
    """What the interval is over, or `none: ` and why there is none."""
    noise: float = np.nan
    """The share of the seeds' noise in the variance of the cells' means."""
    averaged: tuple[str, ...] = ()
    """Axes that vary too and apply to some of the trials: averaged over here."""
    n_of_fewer: int = 0
    """Trials of the part that do not enter, as their cells have fewer seeds than others."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Trials of all parts that do not enter, by why."""

    @property
    def name(self) -> str:
        """The part in words: `DEAT`, `batch_size 32`, `all`."""
        parts = [short(v) if axis == "method" else f"{axis} {short(v)}" for axis, v in self.where.items()]
        return ", ".join(parts) or "all"


class _Rows(NamedTuple):
    """The trials of a part."""

    y: Array
    """(n,) of the metric."""
    cells: NDArray[np.int64]
    """(n,) the number of each one's cell."""
    points: NDArray[np.int64]
    """(n,) the number of its point on the axes that are assessed: of several cells where others are averaged over."""
    seeds: NDArray[Any]

    def means(self, weights: Array) -> Array:
        """(resamples, points): means over the cells of each point, of means over their seeds.

        Args:
            weights: (resamples, n).
        """
        means = weights * self.y @ _member(self.cells) / (weights @ _member(self.cells))
        of_cell = _member(self.points[np.unique(self.cells, return_index=True)[1]])
        return np.asarray(means @ of_cell / of_cell.sum(axis=0))


def _member(groups: NDArray[np.int64]) -> Array:
    """(n, groups): 1 where a row is of the group."""
    return np.asarray(groups[:, None] == np.arange(groups.max() + 1), dtype=np.float64)


def importances(
    trials: DataFrame,
    evaluator: Evaluator,
    metric: str = "last_val_robust",
    *,
    by: By = "fanova",
    within: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> tuple[Importance, ...]:
    """How much each hyperparameter matters for a metric: over all trials, and within methods that have own axes.

    The first answer is over all completed trials of one budget, the method being an axis like the others. Axes that
    only some methods have (k1 and k2 of DEAT) have no value in the others: fANOVA averages over them there and has a
    further answer within each method that has such axes; PED-ANOVA takes them in at once.

    The interval is a t interval, its error from a bootstrap over seeds: of seeds as blocks where all cells have the
    same, else within cells (`analysis.estimates.resampling.redrawn_seeds`), with one degree of freedom less than the
    seeds of a cell; cut at 0 and 1. There is none with one seed a cell, or where the seeds' noise makes more than
    `MOST_NOISE` of the cells' variance.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        evaluator: of importance on given cells, as `sweep.search.optuna_importance` has it.
        metric: a metric's column.
        by: what the evaluator is asked for.
        within: axes; one answer for each of their values, in place of those over all.
        confidence: of each interval, in (0, 1).
        resamples: bootstrap resamples.
        seed: of the forest and of the resampling.

    Raises:
        UserError: no such column or axis, no completed trial, or not two axes that vary.
    """
    usable, left_out = one_budget(trials)
    left_out = dict(left_out)
    if lacking := len(usable) - len(usable := measured(usable, metric)):
        left_out[f"without {metric}"] = lacking
    if usable.empty:
        raise UserError(f"importance: {nothing_completed(trials, 'with ' + metric)}")
    names = _axes(usable)
    if unknown := sorted(set(within) - set(names)):
        raise UserError(f"--within {unknown[0]}: no axis that varies; {suggestion(unknown[0], names)}")
    if len(names) < 2:
        raise UserError(
            f"importance: needs two axes that vary among completed trials, got {names[0] if names else 'none'}"
        )
    asked = _Asked(evaluator, metric, by, confidence, resamples, seed)
    found = (_with_way_out(one, trials) for one in _parts(usable, names, within, asked))
    return tuple(replace(one, left_out=left_out) for one in found)


def importance_frame(found: Sequence[Importance]) -> DataFrame:
    """A row an axis and part, for a file; numbers as fractions.

    Returns:
        part, axis, importance, low, high, raw, over, n_cells, n_trials, n_seeds, noise, metric, by, interval_method.
    """
    names = ("n_cells", "n_trials", "n_seeds", "noise", "metric", "by")
    rows = [
        {
            "part": one.name,
            "axis": axis.axis,
            **dict(zip(("importance", "low", "high"), axis.share, strict=True)),
            "raw": axis.raw,
            "over": axis.over,
            **{name: getattr(one, name) for name in names},
            "interval_method": one.interval,
        }
        for one in found
        for axis in one.axes
    ]
    columns = ["part", "axis", "importance", "low", "high", "raw", "over", *names, "interval_method"]
    return DataFrame(rows, columns=columns)


class _Evaluated(NamedTuple):
    """An evaluator on the cells of a part, asked again and again with other means."""

    by: By
    columns: Mapping[str, Column]
    shares: Callable[[Array], Array]
    """(cells,) means to (axes,) importances."""

    @property
    def names(self) -> list[str]:
        """The axes, and what is left to them together."""
        return [*self.columns, *([INTERACTIONS] if self.by == "fanova" else [])]

    def parts(self, means: Array) -> Array:
        """Each name's part of the total, and last the total, in the unit of the evaluator.

        Args:
            means: (cells,) of the metric.
        """
        shares = self.shares(means)
        if self.by == "ped_anova":
            return np.array([*shares, shares.sum()])
        return np.array([*shares, 1 - shares.sum(), 1.0]) * float(means.var())


class _Asked(NamedTuple):
    evaluator: Evaluator
    metric: str
    by: By
    confidence: float
    resamples: int
    seed: int


def _axes(trials: DataFrame) -> list[str]:
    """The method, then every axis that varies and is not settled by the method, as its slots are."""
    methods = ["method"] if several(trials["method"]) else []
    by_method = trials.groupby("method", dropna=False)
    free = [axis for axis in varying(trials) if axis not in KEYS and by_method[axis].nunique().max() > 1]
    return [*methods, *free]


def _parts(trials: DataFrame, names: Sequence[str], within: Sequence[str], asked: _Asked) -> Iterator[Importance]:
    if within:
        for key, part in trials.groupby(list(within), sort=False, dropna=False):
            yield _importance(part, dict(zip(within, key, strict=True)), asked)
        return
    yield _importance(trials, {}, asked)
    own = [axis for axis in names if axis != "method" and trials[axis].isna().any()]
    for name, part in trials.groupby("method", sort=False) if asked.by == "fanova" else ():
        if any(several(part[axis]) and part[axis].notna().all() for axis in own):
            yield _importance(part, {"method": name}, asked)


def _importance(trials: DataFrame, where: Mapping[str, Any], asked: _Asked) -> Importance:
    """Of one part; cells of fewer seeds than `enough_seeds` are left out."""
    names = [axis for axis in _axes(trials) if axis not in where]
    whole = [axis for axis in names if trials[axis].notna().all()]
    taken = whole if asked.by == "fanova" else names
    cells = codes(trials, _every_axis(trials))
    enough = np.bincount(cells)[cells] >= enough_seeds(np.bincount(cells))
    trials, cells = trials[enough], codes(trials[enough], _every_axis(trials))
    points = codes(trials, taken)
    first = trials.iloc[np.unique(points, return_index=True)[1]]
    counts = int(cells.max()) + 1, len(trials), int(trials["seed"].nunique())
    averaged, n_of_fewer = tuple(axis for axis in names if axis not in taken), int((~enough).sum())
    known = Importance(where, asked.metric, asked.by, *counts, averaged=averaged, n_of_fewer=n_of_fewer)
    rows = _Rows(trials[asked.metric].to_numpy(dtype=np.float64), cells, points, trials["seed"].to_numpy())
    means = rows.means(np.ones((1, len(trials))))[0]
    columns = {axis: column_of(first[axis], means, axis) for axis in taken if several(first[axis]) or axis not in whole}
    reason, n_lacking = _lacking(columns, len(first), means, asked.by)
    if reason:
        return replace(known, reason=reason, n_lacking=n_lacking)
    less = asked.metric.endswith(("loss", "seconds"))
    shares = asked.evaluator(asked.by, columns, minimise=less, seed=asked.seed)
    return _with_interval(known, _Evaluated(asked.by, columns, shares), rows, asked)


def _every_axis(trials: DataFrame) -> list[str]:
    return ["method", *varying(trials)]


def _lacking(columns: Mapping[str, Column], n: int, means: Array, by: By) -> tuple[str, int]:
    """Why nothing is said of these cells, and how many more points would do; empty: something may be."""
    if len(columns) < 2:
        return f"needs 2 hyperparameters that vary between these cells, got {', '.join(columns) or 'none'}", 0
    if np.ptp(means) <= 1e-12:
        return "all points have the same mean", 0
    combinations = float(np.prod([float(column.levels or np.inf) for column in columns.values()]))
    if n >= GRID * combinations and by == "fanova":
        few = n < FEWEST_OF_GRID
        return (f"needs {FEWEST_OF_GRID} points of a grid, got {n}", FEWEST_OF_GRID - n) if few else ("", 0)
    needed = max(FEWEST, FEWEST_AN_AXIS * len(columns)) if by == "fanova" else FEWEST_BEST * 4
    if n >= needed:
        return "", 0
    if by == "fanova" and GRID * combinations <= needed:
        of_grid = max(FEWEST_OF_GRID, math.ceil(GRID * combinations))
        text = f"needs at least {of_grid} of its grid's {combinations:.0f} points ({100 * GRID:.0f} %), got {n}"
        return text, of_grid - n
    text = f"needs {needed} points for {len(columns)} axes, got {n}"
    return f"{text}; run {needed - n} more to their end, by more values or a larger search.n_trials", needed - n


def _with_way_out(found: Importance, trials: DataFrame) -> Importance:
    """Where points lack and trials were pruned: how many there are once those are trained to their end."""
    rows = trials[trials["outcome"].isin(("completed", "pruned"))]
    for axis, value in found.where.items():
        rows = rows[rows[axis] == value]
    if not found.n_lacking or not (rows["outcome"] == "pruned").any():
        return found
    names = [axis for axis in _every_axis(rows) if axis not in found.averaged]
    most = len(np.unique(codes(rows, names)))
    return replace(found, reason=f"{found.reason}; `sweep launch --resume-pruned` gives {most} points at most")


def _with_interval(known: Importance, study: _Evaluated, rows: _Rows, asked: _Asked) -> Importance:
    """The shares, rid of the noise, with their bounds; as the estimator gives them where the noise is not known."""
    means = rows.means(np.ones((1, len(rows.y))))[0]
    parts = study.parts(means)
    raw = parts[:-1] / parts[-1] if parts[-1] > 0 else np.full(len(study.names), np.nan)
    without = np.full(len(raw), np.nan)
    if known.by in WITHHELD:
        why = "none: which cells are the best jumps with the seeds, and simulated intervals were wrong too often"
        return _ranked(known, study, raw, raw, without, why)
    fewest = int(np.bincount(rows.cells).min())
    if fewest < 2:
        return _ranked(known, study, raw, raw, without, "none: one seed a cell, which says nothing of the noise")
    weights, how = redrawn_seeds(rows.cells, rows.seeds, asked.resamples, np.random.default_rng(asked.seed))
    distinct, counts = np.unique(weights, axis=0, return_counts=True)
    drawn_means = rows.means(distinct)
    noise = float(np.average(drawn_means.var(axis=1), weights=counts)) / float(means.var()) - 1
    known = replace(known, noise=max(noise, 0.0))
    if noise > MOST_NOISE:
        why = f"none: the seeds' noise makes {100 * noise:.0f} % of the variance of the cells' means"
        return _ranked(known, study, raw, raw, without, why)
    drawn = np.array([study.parts(row) for row in drawn_means])
    share, error = shares_without_noise(parts, drawn, counts.astype(np.float64))
    half = float(stats.t.ppf((1 + asked.confidence) / 2, fewest - 1)) * error
    return _ranked(known, study, raw, share, half, f"{100 * asked.confidence:g} % t, bootstrap {how}")


def shares_without_noise(parts: Array, drawn: Array, counts: Array) -> tuple[Array, Array]:
    """Shares of a total without what the noise adds to them, and their standard errors: the module's formula.

    Args:
        parts: (names + 1,) of the data, the total last.
        drawn: (resamples, names + 1) of the resamples.
        counts: (resamples,) how often each was drawn.

    Returns:
        (names,) each; NaN where the noise makes all of the total.
    """
    rid = 2 * parts - np.average(drawn, axis=0, weights=counts)
    if rid[-1] <= 0:
        return np.full(len(parts) - 1, np.nan), np.full(len(parts) - 1, np.nan)
    share = rid[:-1] / rid[-1]
    rest = drawn[:, :-1] - np.clip(share, 0, 1) * drawn[:, -1:]
    centred = rest - np.average(rest, axis=0, weights=counts)
    return share, np.sqrt(np.average(centred**2, axis=0, weights=counts)) / rid[-1]


def _ranked(known: Importance, study: _Evaluated, raw: Array, share: Array, half: Array, interval: str) -> Importance:
    """The axes from the most important to the least, the interactions last."""
    bounds = np.clip([share, share - half, share + half], 0, 1).T
    over = {axis: column.words for axis, column in study.columns.items()}
    each = [
        AxisImportance(name, Estimate(*map(float, values)), float(own), over.get(name, ""))
        for name, values, own in zip(study.names, bounds, raw, strict=True)
    ]
    ranked = sorted(each, key=lambda one: (one.axis == INTERACTIONS, -one.share.value))
    return replace(known, axes=tuple(ranked), interval=interval)
