"""Trials as columns, for the browser: what the table shows, curves, settings, and what happened to each."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pandas import DataFrame, Series, isna

from analysis.frames.cells import several, varying
from analysis.frames.log import Log
from analysis.frames.names import KEYS, label, scale, short
from analysis.frames.overfitting import with_overfitting
from analysis.plots.style import looks
from analysis.tables.export import plain
from analysis.tables.settings import with_settings
from analysis.tables.trials import SHOWN, event

#: Points of all curves of a page together, some five bytes each: of more, each curve has fewer epochs.
MOST_POINTS = 200_000

#: Curves of a trial, in the order they are listed: accuracies, then losses.
CURVES = (
    *("val_robust", "test_robust", "train_robust", "val_clean", "test_clean", "train_clean"),
    *("averaged_val_robust", "averaged_test_robust"),
    *("val_robust_loss", "test_robust_loss", "train_robust_loss"),
)

#: Further columns of a trial that are about where and how it ran.
_RAN = ("host", "device", "code_version", "workers", "arithmetic", "attempts", "from_trial")

_GIB = 2**30


def trials_data(trials: DataFrame, epochs: DataFrame, log: Log | None, metric: str) -> dict[str, Any]:
    """All that the page's scripts are given.

    Args:
        trials: of `analysis.frames.trials.trials_of`.
        epochs: of `analysis.frames.trials.epochs_of`.
        log: that they are of; None: of the published study, which has none.
        metric: what figures and claims are about, and trials are sorted by first.

    Returns:
        ids; columns (name, title, kind, values, and whether it is an axis); methods (name to colour and marker);
        metric (the column's number); curves (metrics, epochs, values, every how many epochs); settings (shared, and
        columns of those that differ); ran (columns); events (texts, and of each trial its moments).
    """
    rows = trials if log is None else with_overfitting(with_settings(trials, log), log)
    columns = [one for one in _columns(rows, metric) if any(value not in (None, "") for value in one["values"])]
    return {
        "ids": list(map(str, rows["trial_id"])),
        "columns": columns,
        "metric": next((n for n, one in enumerate(columns) if one["name"] == metric), None),
        "method": list(map(str, rows["method"])),
        "methods": {name: [one.colour, one.marker] for name, one in looks(rows["method"].astype(str)).items()},
        "curves": _curves(rows, epochs),
        "settings": {} if log is None else _settings(rows, log),
        "ran": [_column(rows, name, name) for name in _RAN if name in rows and rows[name].astype(bool).any()],
        "events": {} if log is None else _events(rows, epochs, log),
    }


def _columns(rows: DataFrame, metric: str) -> Any:
    """What the table shows, left to right."""
    named = several(rows["method"])  # a method's name says what is in its slots
    varied = [axis for axis in varying(rows) if not (named and axis in KEYS)]
    before = ["outcome", *(["method"] if named else [])]
    before += [name for name in ("overfitting", "preset") if name in rows]
    yield _column(rows, "trial_id", "trial")
    for name in before:
        yield {**_column(rows, name, name), **({"axis": True} if name == "method" else {})}
    yield from ({**_column(rows, name, name), "axis": True} for name in varied)
    accuracies = dict.fromkeys([metric, *SHOWN])
    for name in (name for name in accuracies if name in rows and rows[name].notna().any()):
        yield {**_column(rows, name, name.replace("_", " ")), "said": label(name)}
    yield from (_column(rows, name, name) for name in ("seed", "epochs"))
    yield _column(rows, "seconds", "seconds")
    if "memory_bytes" in rows and rows["memory_bytes"].notna().any():
        yield {**_column(rows.assign(memory_bytes=rows["memory_bytes"] / _GIB), "memory_bytes", "GiB"), "digits": 1}
    if (rows["reason"].astype(str) != "").any():
        yield _column(rows, "reason", "reason")


def _column(rows: DataFrame, name: str, title: str) -> dict[str, Any]:
    """One column: numbers if all are, else texts; a fraction in percent."""
    column: dict[str, Any] = {"name": name, "title": title, "kind": "number"}
    if scale(name) == 100:
        return {**column, "title": f"{title} (%)", "digits": 2, "values": _rounded(100 * rows[name], 2)}
    if name == "seconds":
        return {**column, "digits": 0, "values": _rounded(rows[name], 1)}
    values = [_whole(plain(one)) for one in rows[name]]
    if all(one is None or (isinstance(one, int | float) and not isinstance(one, bool)) for one in values):
        return {**column, "values": values}
    return {**column, "kind": "text", "values": ["" if one is None else short(one) for one in values]}


def _whole(value: Any) -> Any:
    """A whole number without its point."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _rounded(values: Series[Any], digits: int) -> list[float | None]:
    return [None if isna(one) or not math.isfinite(one) else round(float(one), digits) for one in values]


def _curves(rows: DataFrame, epochs: DataFrame) -> dict[str, Any]:
    """Of each trial the epochs at which anything was measured, and what, accuracies in hundredths of a percent."""
    names = [name for name in CURVES if name in epochs and epochs[name].notna().any()]
    known = epochs.loc[epochs[names].notna().any(axis=1), ["trial_id", "epoch", *names]] if names else epochs.iloc[:0]
    every = max(1, math.ceil(len(known) * len(names) / MOST_POINTS))
    values: dict[str, list[list[float | None]]] = {name: [] for name in ("epoch", *names)}
    parts = {str(name): part for name, part in known.groupby("trial_id", sort=False)}
    for trial_id in map(str, rows["trial_id"]):
        part = _thinned(parts.get(trial_id, known.iloc[:0]), every)
        values["epoch"].append([int(one) for one in part["epoch"]])
        for name in names:
            values[name].append(_points(part[name], name))
    titles = {name: label(f"last_{name}").partition(", last epoch")[0] for name in names}
    return {"metrics": names, "titles": titles, "values": values, "every": every}


def _thinned(part: DataFrame, every: int) -> DataFrame:
    """Every so many rows, counted from the last one."""
    return part.iloc[(len(part) - 1) % every :: every] if len(part) else part


def _points(values: Series[Any], name: str) -> list[float | None]:
    if name.endswith("loss"):
        return [float(f"{one:.4g}") if np.isfinite(one) else None for one in values.astype(float)]
    return [round(10_000 * one) if np.isfinite(one) else None for one in values.astype(float)]


def _settings(rows: DataFrame, log: Log) -> dict[str, Any]:
    """Each trial's config by dotted key: what all share once, and columns of the rest, a value once in each."""
    configs = {one["trial_id"]: _flat(one["config"]) for one in log if one["record"] == "trial"}
    own = [configs.get(name, {}) for name in rows["trial_id"]]
    keys = dict.fromkeys(key for config in own for key in config)
    shared, differing = {}, {}
    for key in keys:
        texts = [config.get(key, "") for config in own]
        words = list(dict.fromkeys(texts))
        if len(words) == 1:
            shared[key] = words[0]
        else:
            place = {word: n for n, word in enumerate(words)}
            differing[key] = {"words": words, "of": [place[one] for one in texts]}
    return {"shared": shared, "differing": differing}


def _flat(config: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Dotted keys to their values as text, without what is not set."""
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{before}{key}.")
        elif value is not None:
            plain_text = isinstance(value, str | int | float) and not isinstance(value, bool)
            flat[f"{before}{key}"] = short(value) if plain_text else json.dumps(value)
    return flat


def _events(rows: DataFrame, epochs: DataFrame, log: Log) -> dict[str, Any]:
    """What happened to each trial and when, as `sweep show` says it; a text that many have stands once."""
    engines = epochs.groupby("trial_id")["engine"].last().to_dict() if "engine" in epochs else {}
    happened: defaultdict[str, list[Sequence[str]]] = defaultdict(list)
    for record in log:
        if record["record"] in ("start", "resume", "outcome"):
            following = {"record": "epoch", "engine": str(engines.get(record["trial_id"], ""))}
            when, _, what = event([record, following]).partition("  ")
            happened[record["trial_id"]].append((when, what))
    texts: dict[str, int] = {}
    return {
        "of": [
            [[when, texts.setdefault(what, len(texts))] for when, what in happened[name]] for name in rows["trial_id"]
        ],
        "texts": list(texts),
    }
