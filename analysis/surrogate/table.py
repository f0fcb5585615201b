"""What runs measured, as one table that is open to reuse: a row an epoch of a trial, each training once.

A trial's config is its place on `AXES`, its seed, and its setting, which is all the rest that can change its numbers.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd
from pandas import DataFrame

from analysis.frames.log import read_log
from analysis.frames.trials import epochs_of, trials_of

#: What a surface answers to: keys of a trial's config.
AXES = (
    *("optimizer.lr", "batch_size", "optimizer.k1", "optimizer.k2"),
    *("optimizer.weight_decay", "attack.steps"),
)

#: What it tells: accuracies, fractions.
METRICS = ("val_clean", "val_robust", "test_clean", "test_robust")

#: What of a config changes no accuracy: what is measured, and how often.
_MEASURED = ("evaluation.every", "evaluation.splits", "evaluation.batch_size", "dynamics")

#: Where and with what a trial was trained.
PROVENANCE = ("code_version", "device", "arithmetic")

COLUMNS = ("study", "trial_id", "setting", *AXES, "seed", "epoch", *METRICS, *PROVENANCE)

#: What a training is told by: a trial that is evaluated at another pace has another id, and the same numbers.
_TRAINING = ["setting", *AXES, "seed"]

_FOLDER = files("analysis").joinpath("surface_data")


def value_at(config: Mapping[str, Any], key: str) -> Any:
    """Of a dotted key of a trial's config; None: the trial does not read it."""
    value: Any = config
    for part in key.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def setting_of(config: Mapping[str, Any]) -> str:
    """A trial's config without its place on the axes, its seed and how it is measured, as canonical JSON.

    Args:
        config: as a `trial` record has it.
    """
    rest = deepcopy(dict(config))
    for key in (*AXES, *_MEASURED, "seed"):
        *parts, last = key.split(".")
        part = value_at(rest, ".".join(parts)) if parts else rest
        if isinstance(part, dict):
            part.pop(last, None)
    return json.dumps(rest, sort_keys=True, separators=(",", ":"))


def name_of(setting: str) -> str:
    """A short name of a setting: 12 hex digits of its SHA-256."""
    return sha256(setting.encode()).hexdigest()[:12]


def rows(
    study: str, configs: Mapping[str, Mapping[str, Any]], epochs: DataFrame, trials: DataFrame | None = None
) -> DataFrame:
    """The table's rows of a study's completed trials.

    Args:
        study: its name.
        configs: of its trials, by id, as `trial` records have them.
        epochs: trial_id, epoch and those of `METRICS` that were measured.
        trials: trial_id and `PROVENANCE`; None: in `epochs`.
    """
    about = {
        name: {"setting": setting_of(one), "seed": one["seed"], **{key: value_at(one, key) for key in AXES}}
        for name, one in configs.items()
    }
    place = DataFrame.from_dict(about, orient="index").rename_axis("trial_id").reset_index()
    frame = epochs.merge(place, on="trial_id")
    if trials is not None:
        frame = frame.merge(trials[["trial_id", *PROVENANCE]], on="trial_id")
    frame = frame.assign(study=study).reindex(columns=list(COLUMNS)).dropna(subset=list(METRICS), how="all")
    return frame.astype({**dict.fromkeys((*AXES, *METRICS), "float64"), "seed": "int64", "epoch": "int64"})


def rows_of_run(directory: Path, study: str | None = None) -> DataFrame:
    """`rows` of a run's records.

    Args:
        directory: of the run.
        study: its name [the directory's].

    Raises:
        UserError: it is no run, or was replayed on a surface.
    """
    log = read_log(directory)
    trials, epochs = trials_of(log), epochs_of(log)
    completed = trials.loc[trials["outcome"] == "completed", ["trial_id", *PROVENANCE]]
    configs = {one["trial_id"]: one["config"] for one in log if one["record"] == "trial"}
    kept = epochs.loc[epochs["trial_id"].isin(completed["trial_id"]), ["trial_id", "epoch", *METRICS]]
    return rows(study or directory.name, configs, kept, completed)


def table(parts: Iterable[DataFrame]) -> DataFrame:
    """The rows of several studies, in an order of their content alone; of a training that two have, the longer curve.

    Args:
        parts: as `rows` gives them.
    """
    every = pd.concat(list(parts), ignore_index=True)
    measured = every[list(METRICS)].notna().sum(axis=1).groupby(every["trial_id"]).sum()
    order = every.assign(measured=every["trial_id"].map(measured)).sort_values(
        ["measured", "study", "trial_id"], ascending=[False, True, True], kind="stable"
    )
    first = order.groupby(_TRAINING, dropna=False, sort=False)["trial_id"].transform("first")
    kept = every.loc[order.index[order["trial_id"] == first]]
    kept = kept.drop_duplicates(["trial_id", "epoch"])
    return kept.sort_values(["study", "trial_id", "epoch"]).reset_index(drop=True)


def write_table(frame: DataFrame, path: Path) -> None:
    """Writes the Parquet file: the same bytes of the same rows."""
    texts = ["study", "trial_id", "setting", *PROVENANCE]
    frame.assign(**{name: frame[name].astype("category") for name in texts}).to_parquet(
        path, index=False, compression="zstd"
    )


def read_table(path: Path) -> DataFrame:
    """The table of a file that `write_table` wrote."""
    frame = pd.read_parquet(path)
    return frame.astype({name: "str" for name in frame.columns if frame[name].dtype == "category"})


@cache
def committed() -> tuple[DataFrame, dict[str, Any]]:
    """The table and the fits that come with the package."""
    with_fits = json.loads(_FOLDER.joinpath("fits.json").read_text(encoding="utf-8"))
    return read_table(Path(str(_FOLDER.joinpath("surface.parquet")))), with_fits
