"""How two methods differ, matched on everything else: a frozen value with its interval and its cells."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.intervals import t_interval, t_test
from analysis.estimates.ranges import clipped, possible_difference
from analysis.frames.cells import codes, measured
from analysis.frames.trials import axes

_COMPARED = ("treatment_mean", "control_mean", "difference", "low", "high", "p_value")

_COUNTED = ("n_treatment", "n_control", "test")

#: Of what was not measured: values by seed.
NO_SEEDS = pd.Series(dtype=np.float64)


@dataclass(frozen=True)
class PairedDifference:
    """Treatment minus control in `y`, in y's own unit (a fraction for an accuracy); NaN where undefined."""

    estimate: float
    """Mean over cells of the difference of the seeds' means."""
    low: float
    high: float
    p_value: float
    """Two-sided, of no mean difference."""
    p_wilcoxon: float
    """Two-sided Wilcoxon signed-rank test over cells."""
    test: str
    """Where `low`, `high` and `p_value` come from."""
    n_cells: int
    """In which both sides have a completed trial."""
    trial_ids: frozenset[str] = field(compare=False, repr=False)
    """Trials in those cells."""
    cells: DataFrame = field(compare=False, repr=False)
    """One row a comparison: the axes; cell (its number); treatment_mean, control_mean, difference and its
    low, high, p_value; n_treatment, n_control; test: `paired by seed`, `Welch` or `none`."""

    @property
    def n_trials(self) -> int:
        """Trials in the cells that count."""
        return len(self.trial_ids)


def paired_difference(
    frame: DataFrame,
    y: str = "last_test_robust",
    factor: str = "optimizer.name",
    treatment: Any = "deat",
    control: Any = "sgd",
    *,
    confidence: float = 0.95,
) -> PairedDifference:
    """Mean gain of one method over another, matched on every other axis that both have.

    In a cell, the difference of the seeds' means has a t interval: paired by seed where both sides have the
    same seeds, else Welch's. An axis that applies to one side alone (optimizer.k1, or another of a slot's part
    whose `when` names that side) makes several comparisons in a cell; they count once, by their mean. Over
    cells: the paired two-sided t-test [DEAT, Table 4], which assumes that the cells' differences are independent
    and near normal. A sole comparison gives its test over seeds. Differences without any spread have no test.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        y: a metric's column.
        factor: the axis whose values are compared.
        treatment: the value whose gain is asked for.
        control: the value it is compared with.
        confidence: of the intervals, in (0, 1).

    Returns:
        The mean over cells with its interval and p, and the difference in each cell.

    Raises:
        UserError: the frame has no column `y`.
    """
    trials = frame[frame[factor].isin([treatment, control])]
    others = [axis for axis in axes(frame) if axis != factor]
    trials = trials.assign(
        cell=codes(trials, _shared(trials, factor, (treatment, control), others)),
        variant=codes(trials, others),
    )
    cells = _comparisons(trials, y, factor, (treatment, control), others, confidence)
    within = possible_difference(y)
    overall = _over_cells(cells, confidence)
    overall["low"], overall["high"] = clipped(overall["low"], overall["high"], within)
    cells = cells.assign(low=cells["low"].clip(*within), high=cells["high"].clip(*within))
    complete = cells.loc[cells["difference"].notna(), "cell"]
    used = trials.index.isin(measured(trials, y).index) & trials["cell"].isin(complete)
    return PairedDifference(**overall, trial_ids=frozenset(map(str, trials.loc[used, "trial_id"])), cells=cells)


def differences(
    frame: DataFrame, y: str = "last_test_robust", *, confidence: float = 0.95
) -> dict[str, PairedDifference]:
    """DEAT against SGD for each model trained with both, by the model's name.

    Matched on the other slots too: with several objectives, a cell is one of them at one learning rate, and the
    mean over cells is the optimizer's gain averaged over them.
    """
    return {
        str(model): paired_difference(trials, y, confidence=confidence)
        for model, trials in frame.groupby("model.name", sort=False)
        if {"deat", "sgd"} <= set(trials["optimizer.name"])
    }


def optimizer_contrast(trials: DataFrame) -> str:
    """`DEAT - PGD-AT` where these are the methods, else `DEAT - SGD`: under TRADES, SGD is not PGD-AT."""
    return "DEAT - PGD-AT" if set(trials["method"]) <= {"DEAT", "PGD-AT"} else "DEAT - SGD"


def _shared(trials: DataFrame, factor: str, sides: tuple[str, str], others: Sequence[str]) -> list[str]:
    """The axes that apply to both sides, the frame having NaN where not: those a cell is matched on."""
    applies = [trials.loc[trials[factor] == side, list(others)].notna().any() for side in sides]
    return [axis for axis in others if applies[0][axis] and applies[1][axis]]


def _comparisons(
    trials: DataFrame, y: str, factor: str, sides: tuple[str, str], others: Sequence[str], confidence: float
) -> DataFrame:
    """One row for each treatment and control variant that share a cell, NaN where a side is missing."""
    seeds = {key: part.set_index("seed")[y] for key, part in measured(trials, y).groupby([factor, "variant"])}
    variants = trials.drop_duplicates([factor, "variant"])[list(dict.fromkeys([factor, "variant", "cell", *others]))]
    rows: list[dict[str, Any]] = []
    members: dict[tuple[int, Any], list[dict[Any, Any]]] = {}
    for known in variants.to_dict("records"):
        members.setdefault((known["cell"], known[factor]), []).append(known)
    for cell in sorted({cell for cell, _ in members}):
        of_sides = [members.get((cell, side), [{}]) for side in sides]
        for pair in itertools.product(*of_sides):
            keys = [(side, known.get("variant")) for side, known in zip(sides, pair, strict=True)]
            treated, controlled = (seeds.get(key, NO_SEEDS).astype(np.float64) for key in keys)
            rows.append({**_merged(pair, others), "cell": cell, **compared(treated, controlled, confidence)})
    return DataFrame(rows, columns=[*others, "cell", *_COMPARED, *_COUNTED])


def _merged(pair: Sequence[dict[Any, Any]], others: Sequence[str]) -> dict[str, Any]:
    """Each axis from the side that has it."""
    return {axis: next((side[axis] for side in pair if pd.notna(side.get(axis))), np.nan) for axis in others}


def compared(
    treated: pd.Series[float], control: pd.Series[float], confidence: float, images: float = np.nan
) -> dict[str, Any]:
    """Difference of the seeds' means with its t interval: one comparison of `PairedDifference.cells`.

    Args:
        treated: values by seed.
        control: values by seed.
        confidence: of the interval, in (0, 1).
        images: variance that the test images add to the difference; NaN: the interval is over seeds alone.
    """
    estimate = treated.mean() - control.mean()
    same = treated.index.is_unique and set(treated.index) == set(control.index) and control.index.is_unique
    if same:
        interval = t_test(np.asarray(treated - control), confidence, images)[1:]
    else:
        interval = _welch(treated, control, estimate, confidence, images)
    test = ("paired by seed" if same else "Welch") if np.isfinite(interval[0]) else "none"
    values = (treated.mean(), control.mean(), estimate, *interval)
    return dict(zip([*_COMPARED, *_COUNTED], [*values, len(treated), len(control), test], strict=True))


def _welch(
    treated: pd.Series[float], control: pd.Series[float], estimate: float, confidence: float, images: float
) -> tuple[float, float, float]:
    """Welch's t interval and p [Welch, Biometrika 1947]; NaN unless both sides have two seeds."""
    from statsmodels.stats.weightstats import CompareMeans

    if min(len(treated), len(control)) < 2:
        return np.nan, np.nan, np.nan
    sides = CompareMeans.from_data(treated, control)
    with np.errstate(invalid="ignore"):  # two sides of equal values have no degrees of freedom, and no interval
        error, freedom = float(sides.std_meandiff_separatevar), float(sides.dof_satt())
        return t_interval(estimate, error, freedom, confidence, images)


def _over_cells(cells: DataFrame, confidence: float) -> dict[str, Any]:
    complete = cells[cells["difference"].notna()]
    gains = complete.groupby("cell")["difference"].mean().to_numpy(dtype=np.float64)
    estimate, low, high, p_value = t_test(gains, confidence)
    test = "paired t-test over cells" if np.isfinite(low) else "none"
    if len(complete) == 1:
        low, high, p_value, test = (complete.iloc[0][name] for name in ("low", "high", "p_value", "test"))
        test = test if test == "none" else f"t-test over seeds, {test}, in the only cell"
    return {
        "estimate": estimate,
        "low": float(low),
        "high": float(high),
        "p_value": float(p_value),
        "p_wilcoxon": _wilcoxon(gains),
        "test": str(test),
        "n_cells": len(gains),
    }


def _wilcoxon(gains: NDArray[np.float64]) -> float:
    if len(gains) < 2 or not gains.any():
        return np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scipy warns that n is small; n stands beside the p
        return float(stats.wilcoxon(gains).pvalue)
