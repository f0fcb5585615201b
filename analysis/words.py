"""Columns and numbers as people read them, in pictures and tables alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from analysis.frame import UNITS
from trainers.fields import number_text

#: Characters of a value that a picture shows in full.
_ROOM = 8

_WORDS = {
    "optimizer.lr": "learning rate",
    "batch_size": "batch size",
    "lr_batch_ratio": "learning rate / batch size",
    "optimizer.k1": "noise enhancement $k_1$",
    "optimizer.k2": "decay $k_2$",
    "last": "last epoch",
    "best": "best epoch by validation",
    "val": "validation",
}


def label(column: str) -> str:
    """A column in words with its unit, as an axis shows it; a pure number has none.

    >>> label("last_test_robust"), label("lr_batch_ratio")
    ('test robust accuracy, last epoch (%)', 'learning rate / batch size (1/image)')
    """
    unit = UNITS.get(column, "1")
    words = _WORDS.get(column) or _metric(column)
    shown = {"fraction": "%", "1": "", "epochs": ""}.get(unit, unit)
    return f"{words} ({shown})" if shown else words


def scale(metric: str) -> float:
    """What a metric is multiplied by to be shown: 100 for a fraction, which becomes percent."""
    return 100.0 if UNITS.get(metric) == "fraction" else 1.0


def short(value: Any, digits: int | None = None) -> str:
    """A value as text, nothing for a missing one: a hyperparameter exactly, a measured number in so many digits.

    Exactly is the shortest text that reads back as the same value, so that two values never look alike.

    >>> short(0.1), short(128), short(0.999999), short(1 / 3), short("fixed"), short(float("nan"))
    ('0.1', '128', '0.999999', '0.3333333333333333', 'fixed', '')
    >>> short(0.000390625, 2), short(1024, 2)
    ('0.00039', '1024')
    """
    if isinstance(value, str | bool | np.bool_):
        return str(value)
    if pd.isna(value):
        return ""
    exact = number_text(value)
    return exact if digits is None or exact.lstrip("-").isdigit() else f"{value:.{digits}g}"


def brief(values: Sequence[Any], digits: int = 3) -> list[str]:
    """Values as a picture or a column has room for: exactly if that is short, else in the digits that tell them apart.

    >>> brief([0.999999, 1.0]), brief([0.1234567891, 0.1234567892, 0.5]), brief([0.0003906250])
    (['0.999999', '1'], ['0.1234567891', '0.1234567892', '0.5'], ['0.000391'])
    """
    exact = [short(value) for value in values]
    for places in range(digits, 17):
        pairs = zip(exact, values, strict=True)
        texts = [text if len(text) <= _ROOM else f"{value:.{places}g}" for text, value in pairs]
        if len(set(texts)) == len(set(exact)):
            return texts
    return exact


def bounds(low: float, high: float) -> str:
    """An interval in brackets, `n/a` for one of NaN.

    >>> bounds(0.1, 0.25), bounds(float("nan"), float("nan"))
    ('[0.10, 0.25]', '[n/a]')
    """
    return "[n/a]" if pd.isna(low) else f"[{low:.2f}, {high:.2f}]"


def of_spread(text: str, drawn: pd.Series[bool], without: str) -> str:
    """What a caption says of bands or bars: what they are where any is drawn, and why the others are not.

    Args:
        text: what they are.
        drawn: whether each has one.
        without: which have none.

    >>> of_spread("band: least to most", pd.Series([True, False]), "none of one seed")
    'band: least to most (none of one seed)'
    >>> of_spread("band: least to most", pd.Series([False]), "no band: one seed")
    'no band: one seed'
    """
    if not drawn.any():
        return without
    return text if drawn.all() else f"{text} ({without})"


def _metric(column: str) -> str:
    """`last_test_robust` as `test robust accuracy, last epoch`; other columns with spaces."""
    which, _, rest = column.partition("_")
    when = f", {_WORDS[which]}" if which in ("last", "best") else ""
    name = rest if when else column
    parts = [_WORDS.get(part, part) for part in name.split("_")]
    accuracy = [] if UNITS.get(column) != "fraction" else ["accuracy"]
    return " ".join([*parts, *accuracy]) + when
