"""Theory beside measurement: what it says of a sweep's settings, and what was measured along their training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pandas import DataFrame, concat

from analysis.estimates.differences import paired_difference
from analysis.estimates.intervals import t_test
from analysis.frames.cells import codes
from analysis.frames.dynamics import PRIOR_VARIANCE, dynamics_of
from analysis.frames.identity import at
from analysis.frames.trials import axes, trials_of
from analysis.theory.predictions import KEYS, bound_moves, predictions

#: What is averaged within a trial, and then over trials with a t interval.
MEASURED: tuple[str, ...] = ("sharpness", "lr_curvature", "rate", "width", "bound")

#: What of DEAT is set beside SGD's, and the column that it is measured by.
_COMPARED = {"step_noise": "noise_trace", "spread": "posterior_trace"}

#: What a trial does whose config does not name these.
_UNNAMED = {"weights.name": "none", "averaging.name": "none", "schedule.name": "constant"}


@dataclass(frozen=True, eq=False)
class TheoryCheck:
    """What theory says of a sweep, and what was measured of it."""

    predicted: DataFrame
    """What theory says of each setting, a row each: `analysis.theory.predictions.predictions`."""
    bound: DataFrame
    """How the bound's terms move: `analysis.theory.predictions.bound_moves`."""
    along: DataFrame
    """What was measured of each cell at each learning rate: `along_runs`."""
    beside: DataFrame
    """DEAT's noise and spread over SGD's, as measured: `beside_sgd`."""


def theory_check(records: Sequence[Mapping[str, Any]]) -> TheoryCheck:
    """All of it, of a run's records, or of trial records alone, of which nothing is measured yet."""
    trials, dynamics = predictions(settings(records)), dynamics_of(records)
    cells = trials.drop(columns="trial_id").drop_duplicates(ignore_index=True)
    rows = in_training(dynamics, trials) if len(dynamics) else None
    measured = (DataFrame(), DataFrame()) if rows is None else (along_runs(rows), beside_sgd(rows))
    return TheoryCheck(cells, bound_moves(cells), *measured)


def settings(records: Iterable[Mapping[str, Any]]) -> DataFrame:
    """What theory reads of each trial: trial_id, model.name, method and `KEYS`, NaN where a trial does not read one."""
    records = list(records)
    configs = {record["trial_id"]: record["config"] for record in records if record["record"] == "trial"}
    trials = trials_of(records)[["trial_id", "model.name", "method"]]
    values = {key: [at(configs[name], key) for name in trials["trial_id"]] for key in KEYS}
    return trials.assign(
        **{key: [value if value == value else _UNNAMED.get(key, value) for value in values[key]] for key in KEYS}
    )


def in_training(dynamics: DataFrame, predicted: DataFrame) -> DataFrame:
    """The measurements of completed trials after training began, with what theory says of their trials.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`, not empty.
        predicted: of `analysis.theory.predictions.predictions`, with trial_id.

    Returns:
        dynamics' columns; stability_limit, step_noise and spread as predicted; lr_curvature, lr h with h the largest
        eigenvalue of the Hessian; width, tr(S) / (d lambda_0) of `analysis.theory.predictions.bound_moves`. width and
        bound are NaN where theory does not cover the trial.
    """
    theory = predicted.set_index("trial_id")[["stability_limit", "step_noise", "spread"]]
    rows = dynamics[(dynamics["epoch"] > 0) & (dynamics["outcome"] == "completed")].join(theory, on="trial_id")
    covered = rows["stability_limit"].notna()
    return rows.assign(
        lr_curvature=rows["lr"] * rows["sharpness"],
        width=(rows["posterior_trace"] / rows["eigenpairs"] / PRIOR_VARIANCE).where(covered),
        bound=rows["bound"].where(covered),
    )


def along_runs(rows: DataFrame) -> DataFrame:
    """What was measured of each cell while its learning rate was the same, beside the limit of stability.

    Args:
        rows: of `in_training`.

    Returns:
        One row a cell and learning rate (lr, which a schedule changes): method, the axes, lr; first_epoch, last_epoch;
        n, trials, which are seeds; measurements; beyond, those whose lr h passes the limit; stability_limit;
        largest_lr, the limit over the mean h; and each of `MEASURED` with _low and _high, a 95 % t interval over
        trials of their means; NaN where a measurement has none, as width and bound beyond the limit.
    """
    keys = ["method", *axes(rows), "lr"]
    cells = rows.groupby(keys, sort=False, dropna=False)
    return DataFrame([_summed(dict(zip(keys, cell, strict=True)), part) for cell, part in cells])


def _summed(key: Mapping[str, Any], part: DataFrame) -> dict[str, Any]:
    limit = float(part["stability_limit"].iloc[0])
    by_trial = _mean_of_each(part, MEASURED)
    estimates: dict[str, Any] = {}
    for name in MEASURED:
        *estimate, _ = t_test(by_trial[name].to_numpy(dtype=np.float64), 0.95)  # NaN where a trial has none
        estimates |= zip((name, f"{name}_low", f"{name}_high"), estimate, strict=True)
    return {
        **key,
        "first_epoch": int(part["epoch"].min()),
        "last_epoch": int(part["epoch"].max()),
        "n": len(by_trial),
        "measurements": len(part),
        "beyond": int((part["lr_curvature"] >= limit).sum()) if limit == limit else np.nan,
        "stability_limit": limit,
        "largest_lr": limit / estimates["sharpness"],
        **estimates,
    }


def beside_sgd(rows: DataFrame) -> DataFrame:
    """DEAT's noise and spread over SGD's as measured, beside the prediction, which takes their gradients to be alike.

    Each method's are those at the weights that it came to. Ratios are geometric means over seeds, from the logarithms
    of the trials' own means (`analysis.estimates.differences.paired_difference`).

    Args:
        rows: of `in_training`.

    Returns:
        One row a quantity (step_noise; spread, of the posterior's trace, which is theory with the measured h and c),
        cell and learning rate: quantity, the axes, lr, predicted, measured, measured_low, measured_high (95 %),
        n_treatment, n_control (seeds) and test.
    """
    known = [*rows.columns[: list(rows.columns).index("lr_batch_ratio") + 1]]
    parts = [
        _ratios(part[[*known, quantity, column]], quantity, column).assign(lr=lr)
        for lr, part in rows[(rows["momentum"] == 0) & rows["spread"].notna()].groupby("lr", sort=False)
        for quantity, column in _COMPARED.items()
    ]
    ratios = concat(parts, ignore_index=True).dropna(subset=["predicted", "measured"]) if parts else DataFrame()
    return ratios.reset_index(drop=True)


def _ratios(rows: DataFrame, quantity: str, column: str) -> DataFrame:
    """`beside_sgd` of one quantity at one learning rate, NaN in a cell of which a trial lacks it."""
    trials = rows.drop_duplicates("trial_id").drop(columns=column)
    values = trials["trial_id"].map(_mean_of_each(rows, [column])[column])
    values *= trials[quantity] if quantity == "step_noise" else 1
    lacking = values.isna().groupby(codes(trials, axes(trials))).transform("any")
    trials = trials.assign(measured=np.log(values.mask(lacking)), predicted=np.log(trials[quantity]))
    cells, theory = (paired_difference(trials, y).cells for y in ("measured", "predicted"))
    return DataFrame(
        {
            "quantity": quantity,
            **{axis: cells[axis] for axis in axes(trials) if axis != "optimizer.name"},
            "predicted": np.exp(theory["difference"]),
            "measured": np.exp(cells["difference"]),
            **{f"measured_{end}": np.exp(cells[end]) for end in ("low", "high")},
            **{name: cells[name] for name in ("n_treatment", "n_control", "test")},
        }
    )


def _mean_of_each(rows: DataFrame, columns: Sequence[str]) -> DataFrame:
    """Of each trial the mean over its measurements; NaN where one of them has none."""
    measured = rows.groupby("trial_id")[list(columns)]
    return measured.mean().where(measured.count().eq(measured.size(), axis=0))
