"""What trials were set to, for people to read: their presets, and each setting that they read."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pandas import DataFrame, isna

from analysis.frames.identity import at
from analysis.frames.names import RENAMED
from analysis.frames.trials import axes


def with_settings(frame: DataFrame, records: Sequence[Mapping[str, Any]]) -> DataFrame:
    """The frame as it is shown and written: an axis has its value in every trial that reads the key.

    Analysis takes the frame as it is, in which an axis is NaN for a method within which it does not vary: values that
    only tell methods apart must not keep them from being compared. To be read, the values are needed.

    Args:
        frame: trials, epochs or evaluations, as `analysis.frames.trials` and `analysis.frames.evaluations` give them.
        records: those that it is of.

    Returns:
        The same rows; NaN where the trial does not read the key; where trials were set from a preset, a column `preset`
        behind `method`, which is no axis: the preset's values are there.
    """
    configs = {record["trial_id"]: record["config"] for record in records if record["record"] == "trial"}
    shown = frame.copy()
    for axis in axes(frame):
        if frame[axis].isna().any():
            key = next((key for key, name in RENAMED.items() if name == axis), axis)
            pairs = zip(frame[axis], frame["trial_id"], strict=True)
            shown[axis] = [at(configs[name], key) if isna(value) else value for value, name in pairs]
    known = presets(records)
    if known:
        named = [known.get(name) for name in frame["trial_id"]]
        shown.insert(list(frame.columns).index("method") + 1, "preset", named)
    return shown


def presets(records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The preset of each trial that was set from one, by the trial's id."""
    trials = (record for record in records if record["record"] == "trial")
    names = {trial["trial_id"]: trial.get("preset") or trial["point"].get("preset") for trial in trials}
    return {name: preset for name, preset in names.items() if preset}


def preset_of_each(frame: DataFrame, records: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """The preset of each method, by its name; nothing unless each has one that all its trials were set from.

    Args:
        frame: trials, as `analysis.frames.trials.load_trials` gives them.
        records: those that it is of.
    """
    known = presets(records)
    of_method: defaultdict[str, set[str]] = defaultdict(set)
    for name, method in zip(frame["trial_id"], frame["method"], strict=True):
        of_method[method].add(known.get(name, ""))
    if any(len(names) > 1 or "" in names for names in of_method.values()):
        return {}
    return {method: names.pop() for method, names in of_method.items()}
