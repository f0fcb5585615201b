"""Which method is better: each at its own best cell, compared with a baseline."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.estimates.intervals import NO_ESTIMATE, Estimate, holm
from analysis.estimates.seed_table import SeedTable
from analysis.frames.cells import BEST_LEFT_OUT, BETTER, LEFT_OUT, Mode, OwnBest, codes, conditions, own_best, varying
from analysis.frames.names import BASELINE, KEYS, short
from analysis.frames.pruned import number_pruned
from analysis.frames.recipes import averaged_where_named, knobs, recipe_names
from analysis.frames.trials import axes
from trainers.errors import UserError, suggestion

Verdict = Literal["baseline", "better", "worse", "undecided", "n/a"]

#: How `MethodResult.test` begins where there is no test: seeds that chose a cell among several flatter the method that
#: has more of them near its best: in up to 16 % of simulated pairs and 78 % of slots' effects, where 5 % are nominal
#: (benchmarks/best_cell_error.json).
SELF_CHOSEN = "none: the same seeds chose the cells"

_NO_OTHER = "no seed was run at its best cell but those that chose it"

_LIKE_ALONE = "methods are compared only on the same data under the same attack"

#: What methods are compared by, at the last epoch.
ROBUST, CLEAN = "last_test_robust", "last_test_clean"

#: Stands behind a best learning rate beyond which there may be a better one.
EDGE = "*"

#: Of a run in which no trial was set from one.
NO_PRESETS: Mapping[str, str] = {}


@dataclass(frozen=True)
class MethodResult:
    """One method at its best cell. Accuracies are fractions, at the last epoch, means over `n` seeds."""

    model: str
    conditions: dict[str, Any]
    """The data and the evaluation, where they vary: only under the same ones are methods compared."""
    method: str
    cell: dict[str, Any]
    """The best cell's value on every other axis that varies; empty: no cell could be chosen."""
    edge: Literal["", "lowest", "highest", "only"]
    """Which of the learning rates tried the best one is; anything but "": a better one may lie beyond."""
    n: int
    """Completed trials in the cell."""
    validation: float
    """Mean of the metric that the cell was chosen by."""
    robust: Estimate = NO_ESTIMATE
    clean: Estimate = NO_ESTIMATE
    robust_interval: str = ""
    """Whose error the interval of `robust` holds, and whose variance it takes (`SeedTable.interval`)."""
    clean_interval: str = ""
    """Likewise of `clean`."""
    difference: Estimate = NO_ESTIMATE
    """Robust accuracy minus the baseline's."""
    own: Estimate = NO_ESTIMATE
    """The same difference, its interval from these two methods' seeds alone: for other seeds, on these test images."""
    p_value: float = np.nan
    """Two-sided, of no difference."""
    p_holm: float = np.nan
    """Holm's, over all differences of the comparison: another family than the ledger's."""
    test: str = "none"
    """Where the interval of `difference` and its p come from; after `SELF_CHOSEN`, the interval, and there is no p."""
    verdict: Verdict = "n/a"
    """Supported for all methods together at the comparison's level."""
    diverged: int = 0
    """Compared trials in the cell that diverged, and are in no mean: only where other seeds chose it."""
    left_out: int = 0
    """Cells that were no candidates, fewer of their seeds having completed than of the others."""
    left_out_better: int = 0
    """Of them, those with a better mean of the metric that chose, over the seeds that they kept."""
    best_left_out: float = np.nan
    """The best of these means."""
    chosen_by: str = ""
    """The metric that chose, such as last_val_robust."""
    trials: int = 0
    """Of the method, in any cell and of any outcome."""
    pruned: int = 0
    """Of them, those that early stopping ended, which are in no number."""
    reason: str = ""
    """Why no cell could be chosen, no trial compared, or no verdict read; empty: nothing is to be explained."""
    seeds: tuple[int, ...] = ()
    """Those compared, of completed trials."""
    choosers: tuple[int, ...] = ()
    """Seeds that chose the cell and are not compared; empty: the compared ones chose it."""

    @property
    def self_chosen(self) -> bool:
        """Whether it is undecided because the seeds that chose the cells are those compared."""
        return self.test.startswith(SELF_CHOSEN)


def comparison(
    frame: DataFrame,
    baseline: str | None = None,
    *,
    by: Sequence[str] = (),
    choosers: Collection[int] = (),
    metric: str = "val_robust",
    mode: Mode = "max",
    confidence: float = 0.95,
) -> tuple[MethodResult, ...]:
    """Each method at the cell that validation chose for it, against a baseline.

    The cell is the best one, by the seeds' mean, over every axis that varies and is no slot: the learning rate,
    the batch size, a hyperparameter of the method. Methods with the baseline's seeds (or the commonest ones)
    form a block, over which the noise's variance is pooled: `analysis.estimates.intervals` says why and on what
    assumption. Where Bartlett's test refutes it at 5 %, of two methods alone, and for methods with other seeds,
    intervals are the method's own: t intervals over its seeds; differences paired by seed where the seeds are the
    same, else Welch's.

    Where the trials' records have a bit an image (`analysis.frames.bits`), intervals and p are for other seeds and
    other test images (`analysis.estimates.crossed`). Without, they are for other seeds alone: other images would move
    all methods together, and differences too, by less. Nor do they hold the choice of the cell: where it was made
    among several by the same seeds, there is no p and no verdict (`SELF_CHOSEN`).

    What recipes add (`analysis.frames.recipes`) tells methods apart wherever it varies: no best value of it is chosen.
    A method whose weights are averaged is compared by its averaged ones then.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        baseline: a method's name; none: PGD-AT, if it is there.
        by: axes that tell methods apart too, as in `DEAT, k1 0`, and are no nuisance then: for a question about one
            method's own settings, such as the controls of DEAT's gain.
        choosers: seeds whose validation chooses the cells, all others being compared there; none: all choose.
        metric: of validation; what cells are chosen by, at the last epoch.
        mode: max for an accuracy, min for a loss.
        confidence: of each interval, in (0, 1), and of all verdicts together.

    Returns:
        every method, also one without a cell; models in order of appearance, in each the most robust first.

    Raises:
        UserError: no trial is of the baseline named, or a key of `by` is no axis.
    """
    by, frame = (*by, *knobs(frame)), told_apart(frame, by)
    base = _baseline(frame, baseline)
    rows: list[MethodResult] = []
    for task in tasks(frame, f"last_{metric}", mode, choosers):
        rows += _compared(task, base, by=by, chooser=f"last_{metric}", choosers=choosers, confidence=confidence)
    adjusted = holm(np.array([row.p_value for row in rows]))
    judged = [
        replace(row, p_holm=float(p), verdict=verdict(row.difference.value, p, confidence, row.method == base))
        if not row.self_chosen
        else row
        for row, p in zip(rows, adjusted, strict=True)
    ]
    return tuple(replace(row, reason=row.reason or _without_verdict(row, base, judged)) for row in judged)


def told_apart(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    """The frame with what recipes add, and the values of these axes, in its methods' names."""
    names, frame = recipe_names(frame), averaged_where_named(frame)
    for key in by:
        if key not in (known := axes(frame)):
            raise UserError(f"--by {key}: must be an axis of the run; {suggestion(key, known)}")
        if key in knobs(frame):
            continue
        word_of_key = key.rpartition(".")[2]
        names += [f", {word_of_key} {short(value)}" if pd.notna(value) else "" for value in frame[key]]
    return frame.assign(method=names)


def _baseline(frame: DataFrame, name: str | None) -> str | None:
    known = list(map(str, frame["method"].unique()))
    if name is None or name in known:
        return name or (BASELINE if BASELINE in known else None)
    raise UserError(f"--baseline {name}: no trial is of this method; {suggestion(name, known)}")


class Task(NamedTuple):
    """What is compared only within itself: the methods of one model under one condition."""

    identity: dict[str, Any]
    """`model` and `conditions` of its results."""
    trials: DataFrame
    best: OwnBest
    free: frozenset[str]
    """The methods that have several cells, of which the compared seeds chose one: none where others did."""


def tasks(frame: DataFrame, chooser: str, mode: Mode, choosers: Collection[int]) -> Iterator[Task]:
    """The trials by model and condition, with the best cell of each method there.

    Args:
        frame: trials, whose methods are told apart.
        chooser: the column that chooses cells.
        mode, choosers: as in `comparison`.
    """
    others = conditions(frame)
    best = own_best(frame, chooser, mode=mode, choosers=choosers)
    for (model, *values), part in frame.groupby(["model.name", *others], sort=False, dropna=False):
        identity = {"model": str(model), "conditions": dict(zip(others, values, strict=True))}
        cells = part.assign(cell=codes(part, axes(part))).groupby("method")["cell"].nunique()
        free = frozenset() if choosers else frozenset(map(str, cells.index[cells > 1]))
        yield Task(identity, part, OwnBest(*(rows[rows.index.isin(part.index)] for rows in best)), free)


def _compared(
    task: Task,
    base: str | None,
    *,
    by: Sequence[str],
    chooser: str,
    choosers: Collection[int],
    confidence: float,
) -> list[MethodResult]:
    """The rows of one task, the most robust first, those without a cell last."""
    robust, clean = (SeedTable.of(task.best.compared, y, base) for y in (ROBUST, CLEAN))
    aside = ("model.name", *task.identity["conditions"], *KEYS, *by)
    shown = [axis for axis in varying(task.trials) if axis not in aside]
    results = []
    for name, trials in task.trials.groupby("method", sort=False):
        method, (whole, chose, cell) = str(name), (rows[rows["method"] == name] for rows in task.best)
        gain = robust.difference(method, base, confidence) if base not in (None, method) else {}
        if {method, base} & task.free and np.isfinite(gain.get("p_value", np.nan)):
            how = f"{SELF_CHOSEN}; interval: {gain['test']}"
            gain |= {"p_value": np.nan, "test": how, "verdict": "undecided"}
        result = MethodResult(
            **task.identity,
            method=method,
            cell=_values(whole, shown),
            edge=_edge(trials, whole),
            n=int((cell["outcome"] == "completed").sum()),
            diverged=int((cell["outcome"] == "diverged").sum()),
            validation=float(chose.loc[chose["outcome"] == "completed", chooser].astype(np.float64).mean()),
            robust=robust.mean(method, confidence),
            clean=clean.mean(method, confidence),
            robust_interval=robust.interval(method),
            clean_interval=clean.interval(method),
            seeds=tuple(sorted({int(seed) for seed in cell.loc[cell["outcome"] == "completed", "seed"]})),
            choosers=tuple(sorted(map(int, choosers))),
            left_out=int(whole[LEFT_OUT].max()) if len(whole) else 0,
            left_out_better=int(whole[BETTER].max()) if len(whole) else 0,
            best_left_out=float(whole[BEST_LEFT_OUT].max()),
            chosen_by=chooser,
            trials=len(trials),
            pruned=number_pruned(trials),
            reason=without_cell(trials, chooser) if whole.empty else _NO_OTHER if cell.empty else "",
            **gain,
        )
        results.append(result)
    return sorted(results, key=lambda result: -np.nan_to_num(result.robust.value, nan=-1.0))


def _without_verdict(row: MethodResult, base: str | None, rows: Sequence[MethodResult]) -> str:
    """Why a method that is compared has no verdict; empty: it has one."""
    if row.verdict != "n/a":
        return ""
    like = [other for other in rows if (other.model, other.conditions) == (row.model, row.conditions)]
    here = ", ".join([row.model, *(f"{key} {short(value)}" for key, value in row.conditions.items())])
    if base is None:
        names = ", ".join(shlex.quote(other.method) for other in like)
        way = f"; --baseline NAME compares with another, one of {names}"
        way = way if len(like) > 1 else f", nor any other method with {here}; {_LIKE_ALONE}"
        return f"the baseline {BASELINE} is not there{way}"
    control = next((other for other in like if other.method == base), None)
    if control is None:
        return f"{base} was not run with {here}; {_LIKE_ALONE}"
    if np.isnan(row.difference.value):
        return f"{base if np.isnan(control.robust.value) else row.method} has no robust test accuracy"
    if control.n < 2 <= row.n:
        return f"the baseline {base} has one seed, which gives no interval; run a further one of it"
    if control.n < 2:
        return f"one seed, of the baseline {base} as well, gives no interval; run a further one of each"
    if row.n < 2:
        return "one seed gives no interval; run a further one"
    return "the seeds' differences are equal, which gives no interval"


def without_cell(trials: DataFrame, chooser: str) -> str:
    """Why no cell of a method's trials could be chosen (`analysis.frames.cells.best_cells`)."""
    counts = trials["outcome"].value_counts()
    if not counts.get("completed", 0):
        return f"no trial completed: {', '.join(f'{n} {name}' for name, n in counts.items())}"
    if trials.loc[trials["outcome"] == "completed", chooser].isna().all():
        metric = chooser.removeprefix("last_")
        return f"{metric}, which chooses the best cell, was not measured: trial.evaluation.splits needs val"
    if "pruned_by" in trials and trials["pruned_by"].notna().any():
        return "a trial diverged, or a race ended a seed, in every cell that has the metric which chooses"
    return "a trial diverged in every cell that has the metric which chooses"


def _values(cell: DataFrame, shown: Sequence[str]) -> dict[str, Any]:
    """The cell's value on each of these axes that applies to it."""
    return {axis: cell[axis].iloc[0] for axis in shown if len(cell) and pd.notna(cell[axis].iloc[0])}


def _edge(trials: DataFrame, cell: DataFrame) -> Literal["", "lowest", "highest", "only"]:
    """Where the cell's learning rate lies among those that the method was tried at, divergence being an answer."""
    if cell.empty:
        return ""
    tried = trials.loc[trials["outcome"].isin(["completed", "diverged"]), "optimizer.lr"]
    best = cell["optimizer.lr"].iloc[0]
    low, high = tried.min(), tried.max()
    if low == high:
        return "only"
    return "lowest" if best == low else "highest" if best == high else ""


def verdict(difference: float, p_holm: float, confidence: float, is_baseline: bool = False) -> Verdict:
    """What is said of a difference whose p, adjusted by Holm, is this."""
    if is_baseline:
        return "baseline"
    if not np.isfinite(p_holm):
        return "n/a"
    if p_holm >= 1 - confidence:
        return "undecided"
    return "better" if difference > 0 else "worse"


def results_frame(results: Sequence[MethodResult], presets: Mapping[str, str] = NO_PRESETS) -> DataFrame:
    """One row a method: what `analysis.estimates.methods.MethodResult` holds, accuracies as fractions.

    Args:
        results: of `analysis.estimates.methods.comparison`.
        presets: of `analysis.tables.settings.preset_of_each`.

    Returns:
        model.name, the conditions, method, preset where each has one, the cell's axes, lr_edge, n, validation, then
        robust, clean, difference and own each with _low and _high, robust_interval and clean_interval (whose
        error and variance), p_methods, p_methods_holm, test, verdict, reason (why there is no cell or no verdict),
        cells_left_out, cells_left_out_better and best_left_out (those with a better mean over the seeds that they
        kept, and the best of these means), diverged, pruned, seeds (those compared) and chosen_by_seeds, each as
        `0, 1`; empty: chosen by those compared.
    """
    return DataFrame([_flat(result, presets) for result in results])


def _flat(result: MethodResult, presets: Mapping[str, str]) -> dict[str, Any]:
    estimates = {
        f"{name}{ending}": number
        for name in ("robust", "clean", "difference", "own")
        for ending, number in zip(("", "_low", "_high"), getattr(result, name), strict=True)
    }
    return {
        "model.name": result.model,
        **result.conditions,
        "method": result.method,
        **({"preset": presets.get(result.method)} if presets else {}),
        **result.cell,
        "lr_edge": result.edge,
        "n": result.n,
        "validation": result.validation,
        **estimates,
        "robust_interval": result.robust_interval,
        "clean_interval": result.clean_interval,
        "p_methods": result.p_value,
        "p_methods_holm": result.p_holm,
        "test": result.test,
        "verdict": result.verdict,
        "reason": result.reason,
        LEFT_OUT: result.left_out,
        BETTER: result.left_out_better,
        BEST_LEFT_OUT: result.best_left_out,
        "diverged": result.diverged,
        "pruned": result.pruned,
        "seeds": ", ".join(map(str, result.seeds)),
        "chosen_by_seeds": ", ".join(map(str, result.choosers)),
    }
