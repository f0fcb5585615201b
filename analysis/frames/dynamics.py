"""Dynamics measured along real runs -> data frames, with what the theory makes of them.

Measured and derived are kept apart: the columns of `load_dynamics` up to `seconds` are what a `DynamicsRecord`
holds, the rest is worked out here from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.identity import numbers
from analysis.frames.log import read_log
from analysis.frames.trials import trials_of
from analysis.theory import deat, pac_bayes
from analysis.theory.predictions import Rule
from trainers.record import FINISHED, DynamicsRecord, begins_anew

Array = NDArray[np.float64]

#: The prior's variance lambda_0 and the bound's delta, unless others are asked for: no paper gives them.
PRIOR_VARIANCE, DELTA = 0.01, 0.05

#: What a row of every long frame begins with.
KEYS: tuple[str, ...] = ("trial_id", "method", "model.name", "seed", "epoch")

_RECORDED = tuple(field.name for field in fields(DynamicsRecord) if field.name not in ("trial_id", "batch_size"))


def load_dynamics(directory: Path, prior_variance: float = PRIOR_VARIANCE, delta: float = DELTA) -> DataFrame:
    """One row a measurement that counts, sorted by the trial's number and the epoch.

    The last line of an epoch counts; of a finished trial no epoch beyond its outcome's does.

    Args:
        directory: a run, as given to `sweep launch --out`.
        prior_variance: lambda_0 of the bound.
        delta: probability with which the bound may fail.

    Returns:
        trial_id, method, seed, the axes, lr_batch_ratio and outcome as in `analysis.frames.trials.load_trials`; the
        columns of `trainers.record.DynamicsRecord`, rows of numbers as tuples; then those of `derived`. Empty where a
        run has measured nothing.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return dynamics_of(read_log(directory), prior_variance, delta)


def dynamics_of(
    records: Sequence[Mapping[str, Any]], prior_variance: float = PRIOR_VARIANCE, delta: float = DELTA
) -> DataFrame:
    """`load_dynamics` of records that are at hand.

    Args:
        records: as `trainers.record.read` gives them.
        prior_variance: lambda_0 of the bound.
        delta: probability with which the bound may fail.
    """
    trials = trials_of(records)
    until = trials["epochs"].where(trials["outcome"].isin(list(FINISHED)), np.inf)
    last = dict(zip(trials["trial_id"], until, strict=True))
    newest: dict[tuple[str, int], Mapping[str, Any]] = {}
    for record in records:
        if record["record"] == "dynamics" and record["epoch"] <= last.get(record["trial_id"], -1):
            newest[record["trial_id"], record["epoch"]] = record
        elif record["record"] == "outcome" and begins_anew(record):
            newest = {key: one for key, one in newest.items() if key[0] != record["trial_id"]}
    columns = list(trials.columns)
    known = trials[[*columns[: columns.index("lr_batch_ratio") + 1]]].drop(columns="reason")
    measured = DataFrame([{"trial_id": trial, **_recorded(record)} for (trial, _), record in newest.items()])
    if measured.empty:
        return known.iloc[:0].reindex(columns=[*known.columns, *_RECORDED])
    order = {trial: number for number, trial in enumerate(trials["trial_id"])}
    frame = known.merge(measured, on="trial_id").sort_values(
        ["trial_id", "epoch"], key=lambda keys: keys.map(order) if keys.name == "trial_id" else keys
    )
    return derived(frame.reset_index(drop=True), prior_variance, delta)


def _recorded(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record's own columns; a number that is missing is NaN."""
    values = {name: _plain(record.get(name)) for name in _RECORDED}
    return {name: np.nan if value is None else value for name, value in values.items()}


def _plain(value: Any) -> Any:
    return tuple(map(_plain, value)) if isinstance(value, list) else value


def derived(frame: DataFrame, prior_variance: float = PRIOR_VARIANCE, delta: float = DELTA) -> DataFrame:
    """The frame with what follows from the measurements.

    The posterior is Gaussian around the weights: along the measured eigenvectors its variance is the stationary one
    of the trial's update on a quadratic (`stationary`), in all other directions the prior's, lambda_0, of which no
    measurement says anything. The prior is N(w_0, lambda_0 I), w_0 the weights before training.

    Three surprises. The gradient's noise is that of the objective's loss at the weights themselves: of AWP, whose
    update takes the gradient elsewhere, S is that of SGD on its loss. Noise is measured in the batch-norm mode of
    `dynamics.batch_norm` (train, as the update's) and curvature in eval mode, in which the loss is a mean over images;
    the choice matters (trace of the noise 4.75 and 0.75: small_cnn, digits, batch 16, epoch 2, one trial). And the
    empirical risk is the objective's loss, in nats, which is not bounded by 1 as the theorem wants, so that the bound
    is a number to compare trials by, and guarantees nothing.

    Args:
        frame: with the columns of a `DynamicsRecord`.
        prior_variance: lambda_0.
        delta: probability with which the bound may fail.

    Returns:
        The frame with sharpness, the largest eigenvalue; noise_trace, of the mini-batch gradient's covariance in
        training; sample_noise_trace, the same of one sample, b times as much; rate and rate_error, the slope of log
        noise on log batch size (see `noise_rate`); posterior_trace, the sum of the stationary variances, NaN where a
        direction has none; risk_increase, tr(H S) / 2; kl; complexity, the bound's square root; and bound.
    """
    rows = [_derived(row, prior_variance, delta) for row in frame.to_dict("records")]
    return pd.concat([frame, DataFrame(rows, index=frame.index)], axis=1)


def _derived(row: Mapping[Any, Any], prior_variance: float, delta: float) -> dict[str, float]:
    count = int(row["eigenpairs"])
    curvatures = numbers(row["curvatures"])[:count]
    variances = stationary(row)[:count]
    settled = count > 0 and bool(np.isfinite(variances).all()) and bool((variances > 0).all())
    rest = pac_bayes.Complement(row["parameters"] - count, row["trace"] - curvatures.sum(), prior_variance)
    bound = pac_bayes.Bound(np.nan, np.nan, np.nan, np.nan, np.nan)
    if settled:
        n, distance = int(row["training_images"]), float(np.sqrt(row["distance_squared"]))
        bound = pac_bayes.diagonal_bound(row["loss"], curvatures, variances, rest, distance, prior_variance, n, delta)
    noise = numbers(row["noise_traces"])[0] * in_training(row)
    slope, error = noise_rate(row)
    return {
        "sharpness": curvatures[0] if count else np.nan,
        "noise_trace": noise,
        "sample_noise_trace": row["batch_sizes"][0] * numbers(row["noise_traces"])[0] * with_replacement(row)[0],
        "rate": slope,
        "rate_error": error,
        "posterior_trace": variances.sum() if settled else np.nan,
        "risk_increase": bound.curvature,
        "kl": bound.kl,
        "complexity": bound.complexity,
        "bound": bound.total,
    }


def with_replacement(row: Mapping[Any, Any]) -> Array:
    """What turns a variance over batches drawn from the m images without replacement into C / b, by size: (s,)."""
    factors: Array = 1 / (1 - numbers(row["batch_sizes"]) / row["images"])
    return factors


def in_training(row: Mapping[Any, Any]) -> float:
    """What turns it into that of a training batch, drawn without replacement from all n training images.

    Batches of one epoch share no image, which makes them a little more unlike each other than independent ones: of
    that the theory, and this, take no account.
    """
    return float((1 - row["batch_sizes"][0] / row["training_images"]) * with_replacement(row)[0])


def stationary(row: Mapping[Any, Any]) -> Array:
    """Stationary variance S_i of the weights along each measured direction, were the loss its quadratic: (q,).

    Of SGD with momentum S_i = lr c_i (1 + mu) / [(1 - mu) h_i (2 (1 + mu) - lr h_i)], of DEAT that of its own
    recursion; infinity where there is none. Without weight decay, and with the learning rate of the moment. NaN for
    another optimizer, such as AdamW, of which this theory says nothing.
    """
    if row.get("optimizer.name", "sgd") not in ("sgd", "deat"):
        return np.full(len(row["curvatures"]), np.nan)
    curvatures = numbers(row["curvatures"])
    noises = numbers(row["variances"][0]) * in_training(row)
    return Rule(row["k1"], row["k2"], row["momentum"]).stationary_variance(row["lr"], curvatures, noises)


def noise_rate(row: Mapping[Any, Any]) -> tuple[float, float]:
    """Slope of log noise trace on log batch size, and its standard error; -1 where noise falls as 1 / batch.

    Weighted least squares with the traces' own Monte-Carlo errors, after the finite population's factor is taken
    out; NaN for fewer than two sizes.
    """
    sizes, traces, errors = (numbers(row[key]) for key in ("batch_sizes", "noise_traces", "noise_trace_errors"))
    if len(sizes) < 2 or not (traces > 0).all() or not (errors > 0).all():
        return np.nan, np.nan
    weights, x = (traces / errors) ** 2, np.log(sizes)
    centred = x - np.average(x, weights=weights)
    spread = (weights * centred**2).sum()
    slope = (weights * centred * np.log(traces * with_replacement(row))).sum() / spread
    return float(slope), float(spread**-0.5)


def directions(frame: DataFrame) -> DataFrame:
    """One row a measurement and direction.

    Args:
        frame: of `load_dynamics`.

    Returns:
        `KEYS`, kind (eigenvector, random), direction (from 0 within its kind), curvature h, slope g, variance c of a
        training batch's gradient with its standard error (from the fourth moment), and stationary, S; infinity where
        there is none.
    """

    def rows(row: Mapping[Any, Any]) -> Mapping[str, Any]:
        variances, kurtoses = numbers(row["variances"][0]), numbers(row["kurtoses"][0])
        batches, factor = row["batches"], in_training(row)
        return _named(row) | {
            "curvature": numbers(row["curvatures"]),
            "slope": numbers(row["slopes"]),
            "variance": factor * variances,
            "variance_error": factor * variances * np.sqrt(2 / (batches - 1) + kurtoses / batches),
            "stationary": stationary(row),
        }

    return _long(frame, rows)


def gaussianity(frame: DataFrame) -> DataFrame:
    """One row a measurement, batch size and direction.

    Args:
        frame: of `load_dynamics`.

    Returns:
        `KEYS`, batch_size, share (of the images measured on that are in a batch: above about a fifth, a few outlying
        images make the kurtosis negative, because they are mostly in the batch or mostly out of it), kind, direction,
        kurtosis (excess, of the projections of mini-batch gradients), batches (how many gave it) and error, its
        standard error were the noise Gaussian: near sqrt(24 / batches).
    """

    def rows(row: Mapping[Any, Any]) -> Mapping[str, Any]:
        sizes, kurtoses = row["batch_sizes"], [numbers(each) for each in row["kurtoses"]]
        named = {key: np.tile(values, len(sizes)) for key, values in _named(row).items()}
        n = row["batches"]
        error = np.sqrt(24 * n * (n - 1) ** 2 / ((n - 3) * (n - 2) * (n + 3) * (n + 5)))
        return named | {
            "batch_size": np.repeat(sizes, len(row["curvatures"])),
            "share": np.repeat(numbers(sizes) / row["images"], len(row["curvatures"])),
            "kurtosis": np.concatenate(kurtoses),
            "batches": n,
            "error": error,
        }

    return _long(frame, rows)


def lines(frame: DataFrame) -> DataFrame:
    """One row a measurement, direction and place on it: the loss beside its quadratic.

    Args:
        frame: of `load_dynamics`.

    Returns:
        `KEYS`, kind, direction, t; scale, sqrt(lr c / (2 (1 - mu) h)) with the lr of the mean step, which is the
        noise's stationary standard deviation as lr h goes to 0, NaN where the loss does not curve up; multiple,
        t / scale; settled, t / sqrt(S), NaN where no S; rise, loss(w + t v) - loss(w); quadratic, g t + h t^2 / 2;
        height, h scale^2 / 2, the quadratic's own part at the scale; deviation, (rise - quadratic) / (h t^2 / 2).
    """

    def rows(row: Mapping[Any, Any]) -> Mapping[str, Any]:
        places, rises = (np.array([numbers(line) for line in row[key]]) for key in ("places", "rises"))
        slopes, curvatures = (numbers(row[key])[:, None] for key in ("slopes", "curvatures"))
        noises, variances = numbers(row["variances"][0])[:, None], stationary(row)[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            scales = np.sqrt(_mean_lr(row) * noises / (2 * (1 - row["momentum"]) * curvatures))
            scales = np.where(curvatures > 0, scales, np.nan) + 0 * places
            bends = curvatures * places**2 / 2
            values = {
                "t": places,
                "scale": scales,
                "multiple": places / scales,
                "settled": np.where(np.isfinite(variances), places / np.sqrt(variances), np.nan),
                "rise": rises,
                "quadratic": slopes * places + bends,
                "height": curvatures * scales**2 / 2,
                "deviation": (rises - slopes * places - bends) / bends,
            }
        named = {key: np.repeat(each, places.shape[1]) for key, each in _named(row).items()}
        return named | {key: each.ravel() for key, each in values.items()}

    return _long(frame, rows)


def _mean_lr(row: Mapping[Any, Any]) -> float:
    """The learning rate of the mean step."""
    return float(row["lr"] / (deat.normaliser(row["k1"]) if pd.notna(row["k1"]) else 1))


def _named(row: Mapping[Any, Any]) -> dict[str, Array]:
    """Kind and number of each of a measurement's directions."""
    total, count = len(row["curvatures"]), int(row["eigenpairs"])
    kinds = np.where(np.arange(total) < count, "eigenvector", "random")
    return {"kind": kinds, "direction": np.r_[np.arange(count), np.arange(total - count)]}


def _long(frame: DataFrame, rows: Callable[[Mapping[Any, Any]], Mapping[str, Any]]) -> DataFrame:
    parts = [DataFrame({**{key: row[key] for key in KEYS}, **rows(row)}) for row in frame.to_dict("records")]
    return pd.concat(parts, ignore_index=True) if parts else DataFrame(columns=list(KEYS))
