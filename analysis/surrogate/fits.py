"""Which settings of a table have a surface, its hyperparameters, and how well it tells cells that it has not seen."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.surrogate.process import fitted
from analysis.surrogate.surface import Box, measured
from analysis.surrogate.table import AXES, METRICS, name_of

Array = NDArray[np.float64]

#: Fewer points, or fewer with several seeds, have no surface.
FEWEST, FEWEST_REPEATED = 12, 6

#: Parts that the points are held out in, each part once.
PARTS = 10


def fits_of(rows: DataFrame) -> dict[str, Any]:
    """By a setting's name: title, trials, points, ranges, studies, theta by metric and epoch, and held_out by metric.

    Args:
        rows: as `analysis.surrogate.table.table` gives them.
    """
    found = {}
    for setting, own in rows.groupby("setting", sort=True):
        last = own[own["epoch"] == own["epoch"].max()]
        whole = {metric: part for metric in METRICS if _enough(part := last[last[metric].notna()])}
        if not whole:
            continue
        found[name_of(str(setting))] = {
            "title": title(str(setting)),
            "trials": int(last["trial_id"].nunique()),
            "points": len(np.unique(points_of(last))),
            "studies": sorted(own["study"].unique()),
            "ranges": {key: list(ends) for key, ends in Box.of(last).ranges.items()},
            "theta": {metric: _thetas(own, metric) for metric in whole},
            "held_out": {metric: held_out(part, metric) for metric, part in whole.items()},
        }
    return found


def title(setting: str) -> str:
    """A setting in words: data, network, objective, optimizer, epochs and what else is not plain."""
    values = json.loads(setting)
    parts = [values["data"]["name"], values["model"]["name"], values["objective"]["name"]]
    parts += [values["weights"]["name"]] if values["weights"]["name"] != "none" else []
    parts += ["s2o"] if values["objective"].get("s2o", {}).get("enabled") else []
    own = values["optimizer"]
    coupled = own["name"] == "deat" and own.get("decoupled_weight_decay") is False
    parts += [f"{own['name']} (coupled weight decay)" if coupled else own["name"]]
    schedule = values["schedule"]
    many = values["data"].get("train_per_class")
    parts += [f"{many} images a class"] if many else []
    parts += [f"{values['epochs']} epochs {schedule['name']}"]
    return ", ".join(parts)


def points_of(rows: DataFrame) -> NDArray[np.intp]:
    """(n,) the number of each trial's point."""
    codes: NDArray[np.intp] = np.asarray(rows.groupby(list(AXES), dropna=False).ngroup(), dtype=np.intp)
    return codes


def _enough(part: DataFrame) -> bool:
    sizes = part.groupby(list(AXES), dropna=False).size()
    return len(sizes) >= FEWEST and int((sizes > 1).sum()) >= FEWEST_REPEATED and bool(Box.of(part).axes)


def _thetas(own: DataFrame, metric: str) -> dict[str, list[float]]:
    found = {}
    for epoch in sorted(own["epoch"].unique()):
        part = measured(own, metric, int(epoch))
        if _enough(part):
            places, y = Box.of(part).places(part), part[metric].to_numpy(np.float64)
            found[str(epoch)] = list(fitted(places, y).theta)
    return found


def held_out(part: DataFrame, metric: str) -> dict[str, Any]:
    """How well trials at points are told that the process has not seen, each point in one of `PARTS` parts.

    Hyperparameters are found anew without each part. R2 of trials is bounded by the seeds' noise, which no surface
    tells; R2 of points is of the means over their seeds.

    Args:
        part: trials of one setting at one epoch.
        metric: that they have.

    Returns:
        trials, points, r2_trials, r2_points, rmse_points (a fraction), coverage, of 95 % intervals for a trial, with
        its own 95 % interval over points, and noise, of the process of all.
    """
    box, point = Box.of(part), points_of(part)
    places, y = box.places(part), part[metric].to_numpy(np.float64)
    fold = np.random.default_rng(0).permutation(int(point.max()) + 1)[point] % PARTS
    estimate, spread = np.empty(len(y)), np.empty(len(y))
    whole = fitted(places, y)
    for number in range(min(PARTS, int(point.max()) + 1)):
        out = fold == number
        process = fitted(places[~out], y[~out], start=whole.theta)
        mean, error = process.predict(places[out])
        estimate[out], spread[out] = mean, np.hypot(error, process.noise)
    held = np.abs(y - estimate) <= stats.norm.ppf(0.975) * spread
    size = np.bincount(point)
    means, told = (np.bincount(point, values) / size for values in (y, estimate))
    return {
        "trials": len(y),
        "points": len(size),
        "r2_trials": _r2(y, estimate),
        "r2_points": _r2(means, told),
        "rmse_points": round(float(np.sqrt(np.mean((means - told) ** 2))), 4),
        **_coverage(np.bincount(point, held) / size),
        "noise": round(whole.noise, 4),
    }


def _r2(y: Array, told: Array) -> float:
    return round(1 - float(((y - told) ** 2).sum() / ((y - y.mean()) ** 2).sum()), 3)


def _coverage(shares: Array) -> Mapping[str, Any]:
    """The mean share over points, with a bootstrap interval: the seeds of a point are held or missed together."""
    draws = np.random.default_rng(0).integers(len(shares), size=(2000, len(shares)))
    low, high = np.quantile(shares[draws].mean(axis=1), [0.025, 0.975])
    return {"coverage": round(float(shares.mean()), 3), "coverage_interval": [round(low, 3), round(high, 3)]}
