"""What recipes add to a method, by name: `PGD-AT, SiLU`, `FGSM-RS, label smoothing 0.1`.

Such a key is no slot, and no nuisance either: where it varies, it is what is asked about, and no best value of it is
chosen by validation. At the value that changes nothing it has no name, so that the plain method keeps its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pandas as pd
from pandas import DataFrame, Series

from analysis.frames.names import short
from analysis.frames.trials import axes

_POLICIES = {
    "autoaugment": "AutoAugment",
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugment",
    "augmix": "AugMix",
}
_ACTIVATIONS = {"relu": "", "silu": "SiLU", "gelu": "GELU"}


def _amount(name: str) -> Callable[[Any], str]:
    return lambda value: f"{name} {short(value)}" if value else ""


def _of(names: dict[str, str]) -> Callable[[Any], str]:
    return lambda value: names.get(value, "" if value == "none" else str(value))


#: How a key's value is named; one that changes nothing is empty.
_NAMED: dict[str, Callable[[Any], str]] = {
    "model.activation": _of(_ACTIVATIONS),
    "objective.label_smoothing": _amount("label smoothing"),
    "attack.radius_warmup": _amount("radius warm-up"),
    "attack.step_size_warmup": _amount("step warm-up"),
    "averaging.name": _of({"ema": "EMA", "swa": "SWA"}),
    "data.policy": _of(_POLICIES),
    "data.cutmix": _amount("CutMix"),
    "data.extra_fraction": _amount("extra data"),
}


def knobs(frame: DataFrame) -> list[str]:
    """The axes of a frame of trials that name its methods: those of recipes by which the trials differ."""
    there = axes(frame)
    return [key for key in _NAMED if key in there and len(_words(frame, key).unique()) > 1]


def recipe_names(frame: DataFrame) -> Series[str]:
    """Each trial's method with what its recipe adds; the method alone where the trials differ in no such key."""
    names = frame["method"].astype(str)
    for key in knobs(frame):
        words = _words(frame, key)
        names = names + words.where(words == "", ", " + words)
    return names


#: A word that a recipe adds to a method's name, as `_NAMED` writes it.
_WORD = re.compile(
    "|".join(word for words in (_ACTIVATIONS, _POLICIES) for word in words.values() if word)
    + r"|EMA|SWA|(label smoothing|radius warm-up|step warm-up|CutMix|extra data) \S+"
)


def bare(name: str) -> str:
    """The method alone of a name that `recipe_names` gives.

    >>> bare("PGD-AT, DEAT, SiLU, label smoothing 0.1")
    'PGD-AT, DEAT'
    """
    return ", ".join(word for word in name.split(", ") if not _WORD.fullmatch(word))


def judged_averaged(frame: DataFrame) -> Series[bool] | None:
    """Which trials are judged by their averaged weights; None: averaging names no method, and no trial is."""
    return _words(frame, "averaging.name") != "" if "averaging.name" in knobs(frame) else None


def averaged_where_named(frame: DataFrame) -> DataFrame:
    """The frame with the averaged weights' accuracies in place of the raw ones', where averaging names a method.

    Averaging leaves the training as it is: what it does shows in its own weights alone.
    """
    if (averages := judged_averaged(frame)) is None:
        return frame
    pairs = {f"last_{name}": f"last_averaged_{name}" for name in frame.columns.str.removeprefix("last_averaged_")}
    columns = {raw: own for raw, own in pairs.items() if raw in frame.columns and own in frame.columns}
    return frame.assign(**{raw: frame[raw].where(~averages, frame[own]) for raw, own in columns.items()})


def _words(frame: DataFrame, key: str) -> Series[str]:
    return frame[key].map(lambda value: "" if pd.isna(value) else _NAMED[key](value)).astype(str)
