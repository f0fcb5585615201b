"""The numbers of the dynamics' figures: frames of `analysis.frames.dynamics` -> rows as they are drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from pandas import DataFrame

from analysis.estimates.intervals import interval
from analysis.frames.dynamics import gaussianity, lines

#: What is drawn against the epoch, in the order of its panels, with its name and unit; accuracies are fractions.
QUANTITIES: dict[str, str] = {
    "robust": "robust accuracy (%)",
    "sharpness": "sharpness $h_1$",
    "trace": "trace of the Hessian",
    "noise_trace": "trace of the gradient noise",
    "posterior_trace": "posterior trace",
    "bound": "bound (nats)",
}

#: A learning rate that changes more often than this is no piecewise one, and its changes are not marked.
_MOST_DECAYS = 4


def around_decay(dynamics: DataFrame, epochs: DataFrame) -> DataFrame:
    """Accuracy, curvature, noise and the bound against the epoch.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`, one cell a method.
        epochs: of `analysis.frames.trials`.

    Returns:
        One row a model, method, quantity (`QUANTITIES`; of robust one for each split, train and test) and epoch: mean,
        low and high, the least and most over the n trials. NaN where a trial has no such number: the posterior's
        trace does not exist where the learning rate is beyond the quadratic's limit. Empty where nothing was measured.
    """
    if dynamics.empty:
        return DataFrame(columns=["model.name", "method", "quantity", "split", "epoch", "mean", "low", "high", "n"])
    rows = epochs[epochs["trial_id"].isin(dynamics["trial_id"])]
    parts = [_long(rows, "robust", f"{split}_robust", split).dropna(subset=["value"]) for split in ("train", "test")]
    parts += [_long(dynamics, quantity, quantity, "") for quantity in QUANTITIES if quantity != "robust"]
    grouped = pd.concat(parts).groupby(["model.name", "method", "quantity", "split", "epoch"], sort=False)["value"]
    found = grouped.agg(mean="mean", low="min", high="max", n="size", known="count").reset_index()
    lacking = found.pop("known") < found["n"]
    found.loc[lacking, ["mean", "low", "high"]] = np.nan
    return found


def decays(dynamics: DataFrame, epochs: DataFrame) -> DataFrame:
    """Where the learning rate changed in trials whose dynamics were measured: model.name, method and the last epoch
    before; nothing for a learning rate that keeps changing."""
    rows = epochs[epochs["trial_id"].isin(set(dynamics.get("trial_id", [])))].sort_values(["trial_id", "epoch"])
    before = rows.groupby("trial_id")["lr"].shift()
    changed = rows[before.notna() & ~np.isclose(rows["lr"], before)]
    often = changed.groupby("trial_id")["epoch"].transform("size") > _MOST_DECAYS
    found = changed.loc[~often, ["model.name", "method", "epoch"]]
    return found.assign(epoch=found["epoch"] - 1).drop_duplicates().reset_index(drop=True)


def kurtosis_by_batch(dynamics: DataFrame) -> DataFrame:
    """Excess kurtosis of the gradient noise's projections against the batch size, once training has begun.

    A trial's value is the mean over its measurements and directions; the interval is a t interval over trials, which
    are independent where those means are not.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`.

    Returns:
        One row a model, kind of direction and batch size: mean, low, high (95 %), n (trials), estimates (kurtoses
        behind the mean), batches, from which each of those was made, and share, of the images in a batch at most.
    """
    columns = ["model.name", "kind", "batch_size", "mean", "low", "high", "n", "estimates", "batches", "share"]
    long = gaussianity(dynamics[dynamics["epoch"] > 0]) if len(dynamics) else DataFrame()
    if long.empty:
        return DataFrame(columns=columns)
    rows = []
    for (model, kind, size), group in long.groupby(["model.name", "kind", "batch_size"]):
        mean, low, high, n = interval(group.groupby("trial_id")["kurtosis"].mean())
        estimates, batches = int(group["kurtosis"].notna().sum()), int(group["batches"].iloc[0])
        rows.append((model, kind, size, mean, low, high, n, estimates, batches, group["share"].max()))
    return DataFrame(rows, columns=columns)


def against_quadratic(dynamics: DataFrame) -> DataFrame:
    """The loss along directions beside its quadratic, once training has begun, in units that all directions share.

    With s the noise's own scale along a direction, x = t / s and y = (loss(w + t v) - loss(w) - g t) / (h s^2 / 2), a
    quadratic is y = x^2 for every direction, and deviation = (y - x^2) / x^2. Directions in which the loss does not
    curve up have no s, and are left out.

    Args:
        dynamics: of `analysis.frames.dynamics.load_dynamics`.

    Returns:
        One row a model, method, kind and multiple x: median, low and high (the middle 80 %) of y over lines,
        deviation, deviation_low and deviation_high alike; lines (a direction of a measurement), n (trials) and, to
        be seen beside them, settled, the median of t / sqrt(S) where there is a stationary variance S.
    """
    keys = ["model.name", "method", "kind", "multiple"]
    spread = ["median", "low", "high", "deviation", "deviation_low", "deviation_high"]
    long = lines(dynamics[dynamics["epoch"] > 0]) if len(dynamics) else DataFrame()
    if long.empty:
        return DataFrame(columns=[*keys, *spread, "lines", "n", "settled"])
    long = long.dropna(subset=["multiple", "rise"]).assign(multiple=lambda rows: rows["multiple"].round(3))
    long = long.assign(y=long["multiple"] ** 2 * (1 + long["deviation"]))
    grouped = long.groupby(keys)
    found = {
        "median": grouped["y"].median(),
        "low": grouped["y"].quantile(0.1),
        "high": grouped["y"].quantile(0.9),
        "deviation": grouped["deviation"].median(),
        "deviation_low": grouped["deviation"].quantile(0.1),
        "deviation_high": grouped["deviation"].quantile(0.9),
        "lines": grouped.size(),
        "n": grouped["trial_id"].nunique(),
        "settled": grouped["settled"].median(),
    }
    return DataFrame(found).reset_index()


def _long(rows: DataFrame, quantity: str, column: str, split: str) -> DataFrame:
    return rows[["model.name", "method", "epoch"]].assign(quantity=quantity, split=split, value=rows[column])
