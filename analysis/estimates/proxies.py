"""Is the short run a proxy: do cheap settings put the points in the order in which full ones do?

A setting is cheap if it is an earlier epoch of the same trials, or if other trials differ by one key that makes them
shorter (`CHEAP`). Points are compared by the mean of the sweep's validation metric over their seeds, as a choice
between them would. The coefficient is Kendall's tau-b: (1 + tau) / 2 of the pairs of points that are not tied stand in
the same order [Kendall, Biometrika 1938].
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, isna

from analysis.estimates.correlations import ALIKE, NO_WIDTH
from analysis.estimates.resampling import Array, Bootstrap, resampled, t_on_z
from analysis.frames.budgets import one_budget
from analysis.frames.cells import GROUP, Mode, codes, measured
from analysis.frames.conditions import is_condition
from analysis.frames.strata import own_strata
from analysis.frames.trials import axes

#: Keys that make a trial cheaper where they are smaller.
CHEAP = ("planned_epochs", "attack.steps", "data.train_per_class")

#: Fewer points, or seeds a point on average, give no interval; how often one holds: benchmarks/proxy_coverage.py.
FEWEST_POINTS, FEWEST_SEEDS = 8, 3

#: Where the interval comes from.
OVER_SEEDS = "bootstrap of seeds within points (Rao-Wu), t on Fisher's z"
OVER_POINTS = "bootstrap of points alone (one seed each), percentile: it says nothing of other seeds"

#: Splits of the seeds into halves.
_SPLITS = 100

#: Resamples are drawn so many at once that times points squared they are no more than this.
_BLOCK = 4_000_000

#: Digits behind the point at which means count as tied: below that they differ by rounding.
_TIED = 12


class Pairs(NamedTuple):
    """What is compared: of each point some trials at the cheap setting and some at the full one."""

    cheap: Array
    """(n,) the metric."""
    cheap_point: NDArray[np.int64]
    """(n,) each trial's point."""
    full: Array
    full_point: NDArray[np.int64]
    same: bool
    """Whether they are the same trials, in the same order, at an earlier epoch."""


def proxies(
    trials: DataFrame,
    epochs: DataFrame,
    metric: str = "val_robust",
    mode: Mode = "max",
    *,
    by: Sequence[str] = (),
    confidence: float = 0.95,
    resamples: int = 400,
    seed: int = 0,
) -> DataFrame:
    """How well each cheap setting orders the points, one row a stratum and setting.

    A stratum is a network and a method under one data set and evaluation, and what `by` names. Completed trials of one
    budget alone count (`analysis.frames.budgets.one_budget`), but for the keys of `CHEAP`.

    The interval is for other seeds: seeds are redrawn within their point, and it is a t interval on Fisher's z. What it
    holds is the coefficient of such a sweep on average, of so many seeds, not that of noiseless means, which is larger.
    With one seed a point it is over points alone. None where there are fewer than `FEWEST_POINTS` points, two seeds a
    point, of which an interval held in 89-97 % of simulated sweeps, or where the resamples are all alike.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        epochs: likewise of `load_epochs`.
        metric: of validation.
        mode: max for an accuracy, min for a loss.
        by: further columns that tell strata apart.
        confidence: of the interval, in (0, 1).
        resamples: of the bootstrap.
        seed: of the resampling.

    Returns:
        model.name, method, the columns of `by`; setting (`epoch`, or the key), value, full; share (of the full
        setting's seconds; NaN: not known); estimate, low, high, interval_method; other_seeds and ceiling (cheap, and
        full, values of one half of the seeds with the full values of the other half, mean over splits; NaN for one
        seed); same_best (share of the resamples in which both choose the same point); regret (in the metric's unit: how
        much worse, at the full setting, the point is that the cheap one chooses); points, n (trials at the full
        setting), n_left_out (trials of the stratum that are not whole).
    """
    rows = []
    bootstrap, sign = Bootstrap(confidence, resamples, seed), 1.0 if mode == "max" else -1.0
    for stratum, whole, others in _strata(trials, metric, by):
        settings = [*_early(whole, epochs, metric), *_cheaper(whole, others, metric)]
        for (key, value, full, share), pairs in settings:
            signed = pairs._replace(cheap=sign * pairs.cheap, full=sign * pairs.full)
            known = {"setting": key, "value": value, "full": full, "share": share}
            counted = {"n": len(pairs.full), "n_left_out": len(others) - len(whole)}
            rows.append({**stratum, **known, **_compared(signed, bootstrap), **counted})
    columns = [
        *(*GROUP, *by, "setting", "value", "full", "share", "estimate", "low", "high", "interval_method"),
        *("other_seeds", "ceiling", "same_best", "regret", "points", "n", "n_left_out"),
    ]
    return DataFrame(rows, columns=list(dict.fromkeys(columns)))


def strata_axes(trials: DataFrame, grid: Sequence[str]) -> list[str]:
    """The grid axes by whose values proxies are looked at: those that make strata, and do not make trials cheaper.

    Args:
        trials: likewise.
        grid: of `analysis.frames.strata.grid_axes`.
    """
    return [axis for axis in own_strata(trials, grid) if axis not in CHEAP]


def _strata(trials: DataFrame, metric: str, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], DataFrame, DataFrame]]:
    """The key of each, its whole trials at the full setting, and all of its trials."""
    split = [axis for axis in axes(trials) if is_condition(axis) and axis not in CHEAP and not _of_attack(axis)]
    keys = list(dict.fromkeys([*GROUP, *by, *split]))
    for _, rows in trials[trials["outcome"] != "superseded"].groupby(codes(trials, keys), sort=False):
        full = _at_full(rows)
        whole = measured(one_budget(full)[0], f"last_{metric}") if len(full) else full
        yield {key: rows[key].iloc[0] for key in dict.fromkeys([*GROUP, *by])}, whole, rows


def _of_attack(axis: str) -> bool:
    """Whether it goes with the training attack: the evaluation's steps follow those where nobody sets them."""
    return axis.startswith("evaluation.")


def _at_full(rows: DataFrame) -> DataFrame:
    """The trials at the largest value of every key of `CHEAP` that varies; none is more than any number."""
    for key in CHEAP:
        if key in rows and _differs(rows, key):
            rows = rows[_size(rows, key) == _size(rows, key).max()]
    return rows


def _differs(rows: DataFrame, key: str) -> bool:
    return len(rows[key].drop_duplicates()) > 1


def _size(rows: DataFrame, key: str) -> NDArray[np.float64]:
    return np.where(isna(rows[key]), np.inf, rows[key].to_numpy(dtype=np.float64))


Setting = tuple[str, Any, Any, float]
"""Key, cheap value, full value, share of the cost."""


def _early(whole: DataFrame, epochs: DataFrame, metric: str) -> Iterator[tuple[Setting, Pairs]]:
    """The whole trials at every earlier epoch at which all of them have the metric."""
    if whole.empty:
        return
    points = codes(whole, axes(whole))
    own = epochs[epochs["trial_id"].isin(whole["trial_id"])].dropna(subset=[metric])
    table = own.pivot_table(index="trial_id", columns="epoch", values=metric).reindex(whole["trial_id"])
    took = epochs[epochs["trial_id"].isin(whole["trial_id"])]
    seconds = took["seconds"] + took["preparing_seconds"] + took["evaluation_seconds"] + took["checkpoint_seconds"]
    by_epoch = seconds.groupby(took["epoch"]).sum().cumsum()
    last = int(whole["epochs"].max())
    full = whole[f"last_{metric}"].to_numpy(dtype=np.float64)
    for epoch in table.columns[table.notna().all()].astype(int).tolist():
        if epoch < last:
            share = float(by_epoch[epoch] / by_epoch.iloc[-1]) if by_epoch.iloc[-1] else np.nan
            values = table[epoch].to_numpy(dtype=np.float64)
            yield ("epoch", epoch, last, share), Pairs(values, points, full, points, same=True)


def _cheaper(whole: DataFrame, rows: DataFrame, metric: str) -> Iterator[tuple[Setting, Pairs]]:
    """Trials that differ from whole ones in one key of `CHEAP` alone."""
    y = f"last_{metric}"
    for key in [key for key in CHEAP if key in rows and _differs(rows, key) and len(whole)]:
        moving = [key] if key != "attack.steps" else [key, *filter(_of_attack, axes(rows))]
        rest = [axis for axis in axes(rows) if axis not in moving]
        full = whole[key].iloc[0]
        for value in sorted(set(rows[key].dropna()) - {full}):
            cheap = measured(rows[rows[key] == value], y)
            cheap = cheap[(cheap["epochs"] >= cheap["planned_epochs"]) if "planned_epochs" in cheap else slice(None)]
            both = codes(frame := _stacked(cheap, whole), rest)
            mine, theirs = both[: len(cheap)], both[len(cheap) :]
            shared = np.intersect1d(mine, theirs)
            kept, against = np.isin(mine, shared), np.isin(theirs, shared)
            place = {code: number for number, code in enumerate(shared)}
            values = frame[y].to_numpy(dtype=np.float64)
            pairs = Pairs(
                values[: len(cheap)][kept],
                np.array([place[code] for code in mine[kept]], dtype=np.int64),
                values[len(cheap) :][against],
                np.array([place[code] for code in theirs[against]], dtype=np.int64),
                same=False,
            )
            cost = cheap["seconds"][kept].mean() / whole["seconds"][against].mean() if len(shared) else np.nan
            yield (key, value, full, float(cost)), pairs


def _stacked(first: DataFrame, second: DataFrame) -> DataFrame:
    from pandas import concat

    return concat([first, second], ignore_index=True)


def _compared(pairs: Pairs, bootstrap: Bootstrap) -> dict[str, Any]:
    """All that is said of one cheap setting; larger is better."""
    points = len(np.unique(pairs.full_point))
    nothing = dict.fromkeys(("estimate", "low", "high", "other_seeds", "ceiling", "same_best", "regret"), np.nan)
    if points < 3:
        return {**nothing, "interval_method": "none: fewer than 3 points", "points": points}
    cheap, full = (_means(*side, np.ones((1, len(side[0])))) for side in _sides(pairs))
    estimate = float(kendall_of(cheap, full)[0])
    if np.isnan(estimate):
        return {**nothing, "interval_method": "none: all points have the same value", "points": points}
    drawn = _drawn(pairs, bootstrap)
    low, high, how = _interval(estimate, drawn, pairs, bootstrap)
    chosen = int(np.argmax(cheap[0]))
    other_seeds, ceiling = _halves(pairs, bootstrap.seed)
    return {
        "estimate": estimate,
        "low": low,
        "high": high,
        "interval_method": how,
        "other_seeds": other_seeds,
        "ceiling": ceiling,
        "same_best": float(np.mean(drawn.same)) if drawn.seeds else float(chosen == int(np.argmax(full[0]))),
        "regret": float(full[0].max() - full[0][chosen]),
        "points": points,
    }


class _Drawn(NamedTuple):
    """Of resamples."""

    taus: Array
    same: NDArray[np.bool_]
    seeds: bool
    """Whether seeds were redrawn; else points."""


def _sides(pairs: Pairs) -> tuple[tuple[Array, NDArray[np.int64]], tuple[Array, NDArray[np.int64]]]:
    return (pairs.cheap, pairs.cheap_point), (pairs.full, pairs.full_point)


def _freedom(pairs: Pairs) -> int:
    """Trials at the full setting beyond one a point."""
    return len(pairs.full) - len(np.unique(pairs.full_point))


def _drawn(pairs: Pairs, bootstrap: Bootstrap) -> _Drawn:
    rng, points = np.random.default_rng(bootstrap.seed), int(pairs.full_point.max()) + 1
    block = max(1, _BLOCK // points**2)
    taus, same, seeds = [], [], _freedom(pairs) > 0
    means = [] if seeds else [_means(*side, np.ones((1, len(side[0]))))[0] for side in _sides(pairs)]
    for start in range(0, bootstrap.resamples, block):
        count = min(block, bootstrap.resamples - start)
        if seeds:
            weights = resampled(pairs.full_point, count, rng)
            other = weights if pairs.same else resampled(pairs.cheap_point, count, rng)
            full = _means(pairs.full, pairs.full_point, weights)
            cheap = _means(pairs.cheap, pairs.cheap_point, other)
        else:
            picks = rng.integers(points, size=(count, points))
            cheap, full = (values[picks] for values in means)
        taus.append(kendall_of(cheap, full))
        same.append(cheap.argmax(axis=1) == full.argmax(axis=1))
    return _Drawn(np.concatenate(taus), np.concatenate(same), seeds)


def _interval(estimate: float, drawn: _Drawn, pairs: Pairs, bootstrap: Bootstrap) -> tuple[float, float, str]:
    """The bounds and where they come from; NaN and why not."""
    points, freedom = len(np.unique(pairs.full_point)), _freedom(pairs)
    if points < FEWEST_POINTS:
        return np.nan, np.nan, f"none: fewer than {FEWEST_POINTS} points"
    if freedom and len(pairs.full) < FEWEST_SEEDS * points:
        return np.nan, np.nan, f"none: fewer than {FEWEST_SEEDS} seeds a point"
    if drawn.seeds:
        low, high = t_on_z(estimate, drawn.taus, freedom, bootstrap.confidence)
    else:
        tail = (1 - bootstrap.confidence) / 2
        low, high = map(float, np.nanquantile(drawn.taus, [tail, 1 - tail]))
    if not high - low >= NO_WIDTH:
        return np.nan, np.nan, ALIKE
    return low, high, OVER_SEEDS if drawn.seeds else OVER_POINTS


def _halves(pairs: Pairs, seed: int) -> tuple[float, float]:
    """tau of cheap and of full means over one half of each point's seeds with full means over the other half."""
    rng, sizes = np.random.default_rng(seed), np.bincount(pairs.full_point)
    cheap_sizes = np.bincount(pairs.cheap_point, minlength=len(sizes))
    kept = (sizes > 1) & (cheap_sizes > 0)
    if kept.sum() < 3:
        return np.nan, np.nan
    first = _first_halves(pairs.full_point, rng)
    own = first if pairs.same else _first_halves(pairs.cheap_point, rng)
    one = _means(pairs.full, pairs.full_point, first)[:, kept]
    other = _means(pairs.full, pairs.full_point, ~first)[:, kept]
    cheap = _means(pairs.cheap, pairs.cheap_point, own)[:, kept]
    return _mean_of_known(kendall_of(cheap, other)), _mean_of_known(kendall_of(one, other))


def _mean_of_known(taus: Array) -> float:
    known = taus[np.isfinite(taus)]
    return float(known.mean()) if len(known) else np.nan


def _first_halves(points: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.bool_]:
    """(splits, n): which trials are in the first half of their point's; of an odd number the half may be either one."""
    halves = np.zeros((_SPLITS, len(points)), dtype=bool)
    for split in halves:
        order = np.lexsort((rng.random(len(points)), points))
        rank = np.empty(len(points), dtype=np.int64)
        rank[order] = np.arange(len(points)) - np.searchsorted(points[order], points[order])
        sizes = np.bincount(points)
        larger = (sizes + rng.integers(2, size=len(sizes))) // 2
        split[:] = rank < np.maximum(larger, 1)[points]
    return halves


def _means(values: Array, points: NDArray[np.int64], weights: NDArray[Any]) -> Array:
    """(resamples, points) weighted means over each point's trials, equal where they differ by rounding alone."""
    belongs = np.eye(int(points.max()) + 1)[points]
    total = weights @ belongs
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.round((weights * values) @ belongs / total, _TIED))


def kendall_of(x: Array, y: Array) -> Array:
    """Kendall's tau-b of each row of x with that of y.

    Args:
        x: (rows, n).
        y: (rows, n).

    Returns:
        (rows,), NaN where a row is constant.

    >>> kendall_of(np.array([[1.0, 2, 3, 4]]), np.array([[1.0, 2, 4, 3]])).round(3).tolist()
    [0.667]
    """
    n = x.shape[1]
    order = np.lexsort((y, x), axis=-1)
    first, second = (np.take_along_axis(values, order, axis=1) for values in (x, y))
    pairs = n * (n - 1) // 2
    untied = [pairs - _tied(values) for values in (first, np.sort(y, axis=1))]
    tied_in_both = _tied(first, second)
    both = untied[0] + untied[1] - pairs + tied_in_both - 2 * _inversions(second)
    known = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1) & (untied[0] > 0) & (untied[1] > 0)
    return np.asarray(both / np.where(known, np.sqrt(untied[0].astype(np.float64) * untied[1]), np.nan))


def _tied(*ordered: Array) -> NDArray[np.int64]:
    """(rows,) how many pairs of each row are equal in all of these; equal ones stand beside each other."""
    rows, n = ordered[0].shape
    begins = np.ones((rows, n), dtype=bool)
    begins[:, 1:] = np.any([values[:, 1:] != values[:, :-1] for values in ordered], axis=0)
    places = np.arange(n)
    before = places - np.maximum.accumulate(np.where(begins, places, 0), axis=1)  # equal ones to the left
    return np.asarray(before.sum(axis=1))


def _inversions(values: Array) -> NDArray[np.int64]:
    """(rows,) how many pairs of each row stand with the larger one first, counted while a merge sort sorts them.

    As n log n, not n^2 [Knight, JASA 1966]: 1,000 points are compared in 400 resamples.
    """
    rows, n = values.shape
    found, half = np.zeros(rows, dtype=np.int64), 1
    values = np.pad(values, ((0, 0), (0, (1 << max(n - 1, 0).bit_length()) - n)), constant_values=np.inf)
    while half < values.shape[1]:
        blocks = values.reshape(rows, values.shape[1] // (2 * half), 2 * half)
        order = np.argsort(blocks, axis=-1, kind="stable")
        # a value of the right half comes behind all of the left one that are not larger
        behind = np.where(order >= half, np.arange(2 * half), 0).sum(axis=-1) - half * (half - 1) // 2
        found += (half * half - behind).sum(axis=1)
        values = np.take_along_axis(blocks, order, axis=-1).reshape(values.shape)
        half *= 2
    return found
