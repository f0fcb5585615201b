"""Which method is better: each at its own best cell, compared with a baseline, and the effect of each slot."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.cells import Mode, best_trials, conditions, varying
from analysis.differences import PairedDifference, optimizer_contrast, paired_difference
from analysis.frame import axes
from analysis.seeds import NO_ESTIMATE, Estimate, SeedTable
from analysis.slots import BASELINE, KEYS, S2O, Slots, word
from analysis.words import short
from trainers.errors import UserError, suggestion

Verdict = Literal["baseline", "better", "worse", "undecided", "n/a"]

#: What methods are compared by, at the last epoch.
ROBUST, CLEAN = "last_test_robust", "last_test_clean"


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
    difference: Estimate = NO_ESTIMATE
    """Robust accuracy minus the baseline's."""
    own: Estimate = NO_ESTIMATE
    """The same difference, its interval from these two methods' seeds alone."""
    p_value: float = np.nan
    """Two-sided, of no difference."""
    p_holm: float = np.nan
    """Holm's, over all differences of the comparison."""
    test: str = "none"
    """Where the interval of `difference` and its p come from."""
    verdict: Verdict = "n/a"
    """Supported for all methods together at the comparison's level."""


@dataclass(frozen=True)
class SlotEffect:
    """What one choice in a slot does, averaged over the pairs of methods that differ in it alone."""

    model: str
    conditions: dict[str, Any]
    difference: PairedDifference
    """A cell is a pair of methods."""
    p_holm: float
    """Holm's, over all effects asked for at once."""
    verdict: Verdict


def comparison(
    frame: DataFrame,
    baseline: str | None = None,
    *,
    by: Sequence[str] = (),
    metric: str = "val_robust",
    mode: Mode = "max",
    confidence: float = 0.95,
) -> tuple[MethodResult, ...]:
    """Each method at the cell that validation chose for it, against a baseline.

    The cell is the best one, by the seeds' mean, over every axis that varies and is no slot: the learning rate,
    the batch size, a hyperparameter of the method. Methods with the baseline's seeds (or the commonest ones)
    form a block, over which the noise's variance is pooled: `analysis.blocks` says why and on what assumption.
    Where Bartlett's test refutes it at 5 %, and for methods with other seeds, intervals are the method's own:
    t intervals over its seeds; differences paired by seed where the seeds are the same, else Welch's.

    The intervals are about seeds. They do not hold the sampling error of the test images, which all methods
    share: other images would move them together, and differences too, by less. Nor do they hold the choice of
    the cell, made by validation over the same seeds.

    Args:
        frame: trials, as `analysis.frame.load_trials` gives them.
        baseline: a method's name; none: PGD-AT, if it is there.
        by: axes that tell methods apart too, as in `DEAT, k1 0`, and are no nuisance then: for a question about one
            method's own settings, such as the controls of DEAT's gain.
        metric: of validation; what cells are chosen by, at the last epoch.
        mode: max for an accuracy, min for a loss.
        confidence: of each interval, in (0, 1), and of all verdicts together.

    Returns:
        every method, also one without a cell; models in order of appearance, in each the most robust first.

    Raises:
        UserError: no trial is of the baseline named, or a key of `by` is no axis.
    """
    frame = _told_apart(frame, by)
    base = _baseline(frame, baseline)
    rows: list[MethodResult] = []
    for identity, part, chosen in _tasks(frame, f"last_{metric}", mode):
        rows += _compared(part, chosen, identity, base, by, f"last_{metric}", confidence)
    adjusted = holm(np.array([row.p_value for row in rows]))
    return tuple(
        replace(row, p_holm=float(p), verdict=_verdict(row.difference.value, p, confidence, row.method == base))
        for row, p in zip(rows, adjusted, strict=True)
    )


def slot_effects(
    frame: DataFrame,
    y: str = ROBUST,
    *,
    metric: str = "val_robust",
    mode: Mode = "max",
    confidence: float = 0.95,
) -> tuple[SlotEffect, ...]:
    """The effect of each choice against its slot's plain one (PGD-AT, no S2O, no AWP, SGD), each method at its best.

    A pair is two methods that differ in this slot alone; their difference is that of their seeds' means, in
    which a seed effect cancels. The interval is the t interval over pairs, which assumes that these are a
    sample of pairs, independent and near normal: it holds both the seeds' noise and how much the effect itself
    differs from pair to pair. It says more than any single difference, because its pairs support each other.

    Args:
        frame: trials, as `analysis.frame.load_trials` gives them.
        y: a metric's column.
        metric: as in `comparison`.
        mode: as in `comparison`.
        confidence: as in `comparison`.

    Returns:
        by model; in it by slot, in the order of `analysis.slots.KEYS`. Effects without a pair are left out.
    """
    found: list[SlotEffect] = []
    for identity, _, chosen in _tasks(frame, f"last_{metric}", mode):
        slots = [key for key in KEYS if key in chosen.columns]
        known = chosen[["trial_id", "outcome", "seed", "model.name", *slots, "lr_batch_ratio", y]]
        for key, value, plain in _contrasts(known, slots):
            label = optimizer_contrast(chosen) if value == "deat" else _contrast_label(key, value, plain)
            gain = paired_difference(known, y, key, value, plain, label=label, confidence=confidence)
            if gain.n_cells:
                found.append(SlotEffect(**identity, difference=gain, p_holm=np.nan, verdict="n/a"))
    adjusted = holm(np.array([effect.difference.p_value for effect in found]))
    return tuple(
        replace(effect, p_holm=float(p), verdict=_verdict(effect.difference.estimate, p, confidence))
        for effect, p in zip(found, adjusted, strict=True)
    )


def holm(p_values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Holm's adjusted p [Holm, Scandinavian Journal of Statistics 1979]: below 0.05, it holds at 5 % for all together.

    Whatever the dependence of the tests. NaN is no test and stays NaN.

    >>> holm(np.array([0.01, 0.04, 0.03])).round(3).tolist()
    [0.03, 0.06, 0.06]
    """
    adjusted = np.full(len(p_values), np.nan)
    tests = np.flatnonzero(np.isfinite(p_values))
    order = tests[np.argsort(p_values[tests], kind="stable")]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p_values[order]), 1)
    return adjusted


def _told_apart(frame: DataFrame, by: Sequence[str]) -> DataFrame:
    """The frame with the values of these axes in its methods' names."""
    names = frame["method"].astype(str)
    for key in by:
        if key not in (known := axes(frame)):
            raise UserError(f"--by {key}: must be an axis of the run; {suggestion(key, known)}")
        word_of_key = key.rpartition(".")[2]
        names += [f", {word_of_key} {short(value, 4)}" if pd.notna(value) else "" for value in frame[key]]
    return frame.assign(method=names)


def _baseline(frame: DataFrame, name: str | None) -> str | None:
    known = list(map(str, frame["method"].unique()))
    if name is None or name in known:
        return name or (BASELINE if BASELINE in known else None)
    raise UserError(f"--baseline {name}: no trial is of this method; {suggestion(name, known)}")


def _tasks(frame: DataFrame, chooser: str, mode: Mode) -> Iterator[tuple[dict[str, Any], DataFrame, DataFrame]]:
    """(model and conditions, all trials, those of the best cells) of what is compared only within itself."""
    chosen, others = best_trials(frame, chooser, mode=mode), conditions(frame)
    for (model, *values), part in frame.groupby(["model.name", *others], sort=False, dropna=False):
        identity = {"model": str(model), "conditions": dict(zip(others, values, strict=True))}
        yield identity, part, chosen[chosen.index.isin(part.index)]


def _compared(
    part: DataFrame,
    chosen: DataFrame,
    identity: dict[str, Any],
    base: str | None,
    by: Sequence[str],
    chooser: str,
    confidence: float,
) -> list[MethodResult]:
    """The rows of one model and condition, the most robust first, those without a cell last."""
    robust, clean = (SeedTable.of(chosen, y, base) for y in (ROBUST, CLEAN))
    shown = [axis for axis in varying(part) if axis not in ("model.name", *identity["conditions"], *KEYS, *by)]
    rows = []
    for name, trials in part.groupby("method", sort=False):
        method, cell = str(name), chosen[chosen["method"] == name]
        gain = robust.difference(method, base, confidence) if base not in (None, method) else {}
        row = MethodResult(
            **identity,
            method=method,
            cell=_values(cell, shown),
            edge=_edge(trials, cell),
            n=int((cell["outcome"] == "completed").sum()),
            validation=float(cell.loc[cell["outcome"] == "completed", chooser].astype(np.float64).mean()),
            robust=robust.mean(method, confidence),
            clean=clean.mean(method, confidence),
            **gain,
        )
        rows.append(row)
    return sorted(rows, key=lambda row: -np.nan_to_num(row.robust.value, nan=-1.0))


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


def _contrasts(trials: DataFrame, slots: Sequence[str]) -> Iterator[tuple[str, Any, Any]]:
    """(slot, value, plain value), where both were trained."""
    for key in slots:
        plain, values = Slots()[KEYS.index(key)], list(trials[key].unique())
        yield from ((key, value, plain) for value in values if value != plain and plain in values)


def _contrast_label(key: str, value: Any, plain: Any) -> str:
    if key in (S2O, "weights.name"):
        name = "S2O" if key == S2O else word(value)
        return f"with {name} - without"
    return f"{word(value)} - {word(plain)}"


def _verdict(difference: float, p_holm: float, confidence: float, is_baseline: bool = False) -> Verdict:
    if is_baseline:
        return "baseline"
    if not np.isfinite(p_holm):
        return "n/a"
    if p_holm >= 1 - confidence:
        return "undecided"
    return "better" if difference > 0 else "worse"
