"""A cell: the trials that agree on every axis and differ by their seed alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from analysis.frames.conditions import is_condition
from analysis.frames.failed import failed_line
from analysis.frames.names import UNITS, brief, scale
from analysis.frames.pruned import PRUNED
from analysis.frames.trials import SUPERSEDED, axes
from trainers.errors import UserError, suggestion

Mode = Literal["max", "min"]

#: Columns of `candidate_cells`.
CHOSEN_BY, LEFT_OUT = "chosen_by", "cells_left_out"

#: Columns of `best_cells`: of the cells left out, how many have a better mean over the seeds that they kept, and the
#: best of these means.
BETTER, BEST_LEFT_OUT = "cells_left_out_better", "best_left_out"

#: Column of `weighed_cells`, and what stands there: why a cell is no candidate; nothing of a candidate.
WHY_NOT, DIVERGED, GIVEN_UP = "why_not", "a trial diverged", "a race gave the cell up"
LOST_A_SEED, LACKS_A_SEED = "a seed was pruned", "fewer seeds completed than of the others"

#: What ends the seeds of a cell because of how others of its seeds came out.
_RACES = ("race", "wilcoxon")

#: What is compared, never pooled, unless a function says so.
GROUP: tuple[str, ...] = ("model.name", "method")


def codes(frame: DataFrame, columns: Sequence[str]) -> NDArray[np.int64]:
    """The number of each row's group, from 0 in order of appearance; NaN is a value like any other.

    Returns:
        (n,) integers; all 0 if there are no columns.
    """
    if not len(columns) or len(frame) < 2:  # of a random search there are a thousand groups of one trial
        return np.zeros(len(frame), dtype=np.int64)
    return frame.groupby(list(columns), dropna=False, sort=False).ngroup().to_numpy().astype(np.int64)


def rows_by_number(numbers: NDArray[np.int64]) -> list[NDArray[np.intp]]:
    """The rows of each number that there is, from the least on, each number's in their order."""
    order = np.argsort(numbers, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1) if len(order) else []


def measured(frame: DataFrame, y: str) -> DataFrame:
    """The completed trials with a finite `y`: the only ones that enter an estimate.

    Raises:
        UserError: the frame has no column `y`.
    """
    if y not in frame.columns:
        raise UserError(f"{y}: no such column; {suggestion(y, map(str, frame.columns))}")
    finite = np.isfinite(frame[y].to_numpy(dtype=np.float64))
    usable: DataFrame = frame[finite & (frame["outcome"] == "completed").to_numpy(dtype=bool)]
    return usable


def nothing_completed(trials: DataFrame, what_for: str) -> str:
    """What is the matter with trials of which none is completed, and the way out.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        what_for: a completed one is needed: `to draw`.
    """
    counts = trials["outcome"].value_counts()
    needs = f"needs a completed trial {what_for}"
    if len(trials) and counts.get("diverged", 0) == len(trials):
        rates = brief(sorted({trials["optimizer.lr"].min(), trials["optimizer.lr"].max()}))
        return (
            f"{needs}, and all {len(trials)} diverged ({trials['reason'].iloc[0]}), which stays so when launched "
            "again; add smaller values of optimizer.lr to the config and launch that: tried "
            f"{'was' if len(rates) == 1 else 'were'} {' to '.join(rates)}"
        )
    said = f" ({', '.join(f'{n} {name}' for name, n in counts.items())})" if len(trials) else ""
    failed = trials[trials["outcome"] == "failed"]
    reasons = failed.get("reason", Series("", failed.index))
    if why := failed_line({name: why for name, why in zip(failed["trial_id"], reasons, strict=True) if why}):
        said = said if len(counts) > 1 else ""
        return f"{needs}, got 0 of {len(trials)}{said}: {why}; launch the sweep again once that is mended"
    options = {"--resume-pruned": PRUNED, "--again": "cancelled"}
    how = " and ".join(option for option, outcome in options.items() if counts.get(outcome, 0))
    again = f"launch the sweep again{f' with {how}' if how else ''}: it goes on where it stopped"
    return f"{needs}, got 0 of {len(trials)}{said}; {again}"


def varying(frame: DataFrame) -> list[str]:
    """The axes that take several values; one that only does not apply to some method is not among them."""
    if frame.empty:
        return []
    by_method = frame.groupby("method", dropna=False)
    return [axis for axis in axes(frame) if several(frame[axis]) or by_method[axis].nunique(dropna=False).max() > 1]


def varying_in(rows: DataFrame, of: DataFrame) -> list[str]:
    """The axes that vary in the whole frame, as far as these of its rows have a value of them."""
    return [axis for axis in varying(of) if rows[axis].notna().any()]


def conditions(frame: DataFrame) -> list[str]:
    """The axes across which accuracies are not comparable, and no best cell is chosen: other data, another attack."""
    return [axis for axis in varying(frame) if is_condition(axis)]


def several(values: Series[Any]) -> bool:
    """Whether the values differ; NaN is none."""
    return len(values.dropna().unique()) > 1


def cell_means(frame: DataFrame, metrics: Sequence[str]) -> DataFrame:
    """One row a cell, in order of appearance: how many trials, and their mean metrics.

    Returns:
        method, the axes, lr_batch_ratio, n (completed trials), diverged (trials), trials (of any outcome but
        superseded), and each
        metric as the mean over the completed trials in which it was measured, NaN if there is none.
    """
    completed, known = frame["outcome"] == "completed", ["method", *axes(frame), "lr_batch_ratio"]
    columns = frame[known].assign(
        n=completed.astype(np.int64),
        diverged=(frame["outcome"] == "diverged").astype(np.int64),
        trials=(frame["outcome"] != SUPERSEDED).astype(np.int64),
        **{metric: frame[metric].where(completed).astype(np.float64) for metric in metrics},
    )
    how = dict.fromkeys(known, "first") | dict.fromkeys(metrics, "mean")
    how |= dict.fromkeys(("n", "diverged", "trials"), "sum")
    return columns.groupby(codes(frame, axes(frame)), sort=True).agg(how)[list(columns.columns)]


def best_cells(
    frame: DataFrame,
    metric: str = "last_val_robust",
    report: Sequence[str] = (),
    *,
    mode: Mode = "max",
    seeds: Collection[int] | None = None,
) -> DataFrame:
    """The cell with the best mean `metric` of each model, condition and method; the earliest of equals.

    Choose by a validation metric: the best of many cells by a test metric overstates the test accuracy. Which cells
    are candidates: `weighed_cells`. Where the metric was not measured, a sole cell still is chosen.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        metric: what the choice is by, such as last_val_robust.
        report: further metrics to carry along.
        mode: max for an accuracy, min for a loss.
        seeds: that choose; none: all.

    Returns:
        rows of `candidate_cells` with BETTER and BEST_LEFT_OUT, at most one a model, condition and method, in order of
        appearance.
    """
    chosen: list[Series[Any]] = []
    cells = weighed_cells(frame, metric, report, seeds=seeds)
    sign = 1.0 if mode == "max" else -1.0
    for _, group in cells.groupby([*GROUP, *conditions(frame)], sort=False, dropna=False):
        candidates, left_out = group[group[WHY_NOT] == ""], group[~group[WHY_NOT].isin(["", DIVERGED])]
        if candidates[CHOSEN_BY].notna().any():
            best = candidates.iloc[int(np.nanargmax(sign * candidates[CHOSEN_BY].to_numpy(dtype=np.float64)))]
        elif len(candidates) == 1 and left_out.empty:
            best = candidates.iloc[0]
        else:
            continue
        better = sign * left_out.loc[sign * left_out[CHOSEN_BY] > sign * best[CHOSEN_BY], CHOSEN_BY]
        chosen.append(Series({BETTER: len(better), BEST_LEFT_OUT: sign * better.max()}, name=best.name))
    known = DataFrame(chosen, columns=[BETTER, BEST_LEFT_OUT]).astype({BETTER: int, BEST_LEFT_OUT: float})
    return _candidates(cells, frame).loc[known.index].join(known)


def candidate_cells(
    frame: DataFrame, metric: str, report: Sequence[str] = (), *, seeds: Collection[int] | None = None
) -> DataFrame:
    """The cells among which a best one may be chosen, of `weighed_cells`; the arguments are those of `best_cells`.

    Returns:
        rows of `cell_means` with CHOSEN_BY, the mean metric over the seeds that choose, and LEFT_OUT, how many cells of
        the same model, condition and method are none for lack of seeds.
    """
    return _candidates(weighed_cells(frame, metric, report, seeds=seeds), frame)


def _candidates(cells: DataFrame, frame: DataFrame) -> DataFrame:
    lacking = (~cells[WHY_NOT].isin(["", DIVERGED])).astype(np.int64)
    left_out = lacking.groupby(codes(cells, [*GROUP, *conditions(frame)])).transform("sum")
    kept: DataFrame = cells.assign(**{LEFT_OUT: left_out})[cells[WHY_NOT] == ""].drop(columns=WHY_NOT)
    return kept


def weighed_cells(
    frame: DataFrame, metric: str, report: Sequence[str] = (), *, seeds: Collection[int] | None = None
) -> DataFrame:
    """Every cell with a completed trial, and why none may be chosen as best: of too few seeds a lucky one would win.

    No candidate is a cell in which a trial diverged, nor one that a race gave up; nor, where at least half of its
    model's, condition's and method's others are whole, one that lacks a seed it was wanted with (where seeds are named,
    one of these); nor, where any other has lost none so, one of which a seed was pruned, for what is left of it was
    kept by how it looked; nor one of fewer than `enough_seeds`. Where seeds are named, what became of the others has no
    part in it: they are compared in the cell, and a cell chosen by how they ended would be chosen by them.

    The arguments are those of `best_cells`.

    Returns:
        rows of `cell_means` with CHOSEN_BY, the mean metric over the seeds that choose, and WHY_NOT.
    """
    cells = cell_means(frame, list(dict.fromkeys([metric, *report])))
    places = Series(codes(frame, axes(frame)), index=frame.index)
    counts = _choosing(frame if seeds is None else frame[frame["seed"].isin(seeds)], metric, places)
    cells = cells.join(counts)[cells["n"] > 0].fillna(dict.fromkeys(counts.columns.drop(CHOSEN_BY), 0))
    why = Series("", index=cells.index, dtype=object)
    why[cells["_raced"] > 0] = GIVEN_UP
    why[cells["_diverged"] > 0] = DIVERGED
    for _, group in cells[why == ""].groupby([*GROUP, *conditions(frame)], sort=False, dropna=False):
        whole = group[group["_seeds"] >= (group["_wanted"] if seeds is None else len(seeds))]
        unpruned = group[~(group["_pruned"] > 0)]
        pool = whole if 2 * len(whole) >= len(group) else unpruned if len(unpruned) else group
        pool = pool[pool["_seeds"] >= enough_seeds(pool["_seeds"].to_numpy())]
        rest = group.drop(index=pool.index)
        why[rest.index] = np.where(rest["_pruned"] > 0, LOST_A_SEED, LACKS_A_SEED)
    return cells.drop(columns=counts.columns.drop(CHOSEN_BY)).assign(**{WHY_NOT: why})


def _choosing(trials: DataFrame, metric: str, places: Series[Any]) -> DataFrame:
    """Of each cell the mean metric, how many seeds have it (of none: completed), were wanted, and were lost, by how."""
    usable = measured(trials, metric)
    usable = usable if len(usable) else trials[trials["outcome"] == "completed"]
    by_cell = usable.groupby(places.loc[usable.index])
    lost = {f"_{name}": trials["outcome"] == name for name in ("diverged", PRUNED)}
    by = trials["pruned_by"] if "pruned_by" in trials else Series(index=trials.index, dtype=object)
    lost["_raced"] = lost[f"_{PRUNED}"] & by.isin(_RACES)
    all_of_cell = trials.assign(**lost).groupby(places.loc[trials.index])
    means = by_cell[metric].mean().astype(np.float64)
    counts = {"_wanted": all_of_cell["seed"].nunique(), **{name: all_of_cell[name].sum() for name in lost}}
    return DataFrame({CHOSEN_BY: means, "_seeds": by_cell["seed"].nunique(), **counts})


def enough_seeds(counts: NDArray[Any]) -> int:
    """The fewest seeds k of a candidate: those for which cells * (1 - 1 / k) is largest.

    1 - 1 / k is the share of a seed's noise variance that a mean over k is rid of. So single seeds never stand beside
    replicated cells, while many more seeds of a few cells do not rule out the others, which have two.

    Args:
        counts: seeds of each cell.

    >>> [enough_seeds(np.array(counts)) for counts in ([2, 1, 1, 1, 1], [12, 3, 3, 3], [4, 4, 4, 2], [1, 1])]
    [2, 3, 4, 1]
    """
    return max(sorted(map(int, counts)), key=lambda k: (1 - 1 / k if k else 0) * int((counts >= k).sum()), default=0)


def left_out_text(cells: int) -> str:
    """What a reader of a best cell has to know of those that were no candidates; nothing for none.

    >>> left_out_text(2), left_out_text(0)
    ('2 cells left out of the choice: not all of their seeds completed, or fewer than of the others', '')
    """
    if not cells:
        return ""
    count = f"{cells} cell{'s' * (cells > 1)}"
    return f"{count} left out of the choice: not all of their seeds completed, or fewer than of the others"


def better_text(better: int, best: float, metric: str, of_method: str = "") -> str:
    """That a cell called best may be none, for cells left out of the choice look better; nothing for none.

    >>> better_text(2, 0.775, "last_val_robust")[:95]
    'perhaps not the best: of the cells left out, 2 have a higher mean val robust over the seeds tha'
    >>> better_text(0, float("nan"), "last_val_robust")
    ''

    Args:
        better: cells left out with a better mean over the seeds that they kept.
        best: the best of these means.
        metric: what chooses, such as last_val_robust; in a loss the lower is better.
        of_method: whose cells they are, where that is not said before.
    """
    if not better:
        return ""
    name, word = metric.partition("_")[2].replace("_", " "), "lower" if metric.endswith("_loss") else "higher"
    value = f"{100 * best:.2f} %" if scale(metric) == 100 else f"{best:.3g} {UNITS.get(metric, '')}".rstrip()
    whose, end = f" of {of_method}" if of_method else "", "down" if word == "lower" else "up"
    verb, they = ("has", "it") if better == 1 else ("have", "they")
    return (
        f"perhaps not the best{whose}: of the cells left out, {better} {verb} a {word} mean {name} over the seeds that "
        f"{they} kept, {end} to {value} (to run the missing seeds: `sweep launch`, with --resume-pruned where they "
        "were pruned)"
    )


def choice_note(rows: DataFrame, keys: Sequence[str]) -> str:
    """What a caption says of how the cells of these rows were chosen.

    Args:
        rows: with LEFT_OUT and BETTER.
        keys: columns that tell apart what has a cell each.
    """
    each = rows.drop_duplicates([*keys, LEFT_OUT])
    left_out, better = int(each[LEFT_OUT].sum()), int(each[BETTER].sum())
    if not left_out:
        return "each method at the setting that is best for it on validation images"
    doubt = f", {better} of them better over the seeds that they kept: perhaps not the best" if better else ""
    return (
        "each method at the setting that is best for it on validation images, of the settings with enough seeds "
        f"({left_out} left out of the choice{doubt})"
    )


class OwnBest(NamedTuple):
    """The trials of each method's own best cell, of any outcome but superseded, in the frame's order."""

    trials: DataFrame
    """All of them; with LEFT_OUT, as `best_trials` gives them."""
    chose: DataFrame
    """Those of the seeds that chose the cells."""
    compared: DataFrame
    """Those of the other seeds; where no seeds were named, all, for then the compared ones chose."""


def own_best(
    frame: DataFrame, metric: str = "last_val_robust", *, mode: Mode = "max", choosers: Collection[int] = ()
) -> OwnBest:
    """Each method at its own best cell: the seeds named choose it, all others are compared there.

    What chose a cell flatters it, so that seeds that chose are no evidence of a difference.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        metric: as in `best_cells`.
        mode: as in `best_cells`.
        choosers: seeds that choose; none: all choose, and all are compared.
    """
    best = best_trials(frame, metric, mode=mode, seeds=choosers or None)
    chose = best["seed"].isin(choosers)
    return OwnBest(best, best[chose] if choosers else best, best[~chose])


def best_trials(
    frame: DataFrame,
    metric: str = "last_val_robust",
    *,
    mode: Mode = "max",
    overall: bool = False,
    seeds: Collection[int] | None = None,
) -> DataFrame:
    """The trials of the `best_cells`, of any outcome but superseded, in the frame's order.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        metric: as in `best_cells`.
        mode: as in `best_cells`.
        overall: of these cells only the best one.
        seeds: as in `best_cells`.

    Returns:
        the trials, with `best_cells`'s LEFT_OUT, BETTER and BEST_LEFT_OUT last.
    """
    cells = best_cells(frame, metric, mode=mode, seeds=seeds)
    if overall and len(cells) > 1:
        cells = cells.sort_values(metric, ascending=mode == "min", kind="stable").head(1)
    places = codes(frame, axes(frame))
    of_cell = Series(places, index=frame.index)
    trials = frame.assign(**{name: of_cell.map(cells[name]) for name in (LEFT_OUT, BETTER, BEST_LEFT_OUT)})
    kept: DataFrame = trials[np.isin(places, cells.index) & (frame["outcome"] != SUPERSEDED)]
    return kept
