"""Chosen columns of a frame as a table."""

from __future__ import annotations

from typing import Any

import numpy as np
from pandas import DataFrame, isna
from rich.table import Table

from analysis.frames.names import brief, scale
from analysis.tables.sheet import console_table


def columns_table(frame: DataFrame) -> Table:
    """One line a row, of whatever columns: fractions in percent, everything else as short as tells rows apart."""
    names = [str(name) for name in frame.columns]
    right = [name for name in names if frame[name].dtype.kind in "iuf"]
    percent = [name for name in names if scale(name) == 100]
    caption = f"{', '.join(percent)}: in %" if percent else None
    columns = [_cells(name, frame[name].tolist()) for name in names]
    return console_table(names, zip(*columns, strict=True), caption=caption, right=right, wraps=names, folds=True)


def _cells(name: str, values: list[Any]) -> list[str]:
    if scale(name) == 100:
        return ["" if isna(value) else f"{100 * value:.2f}" for value in values]
    return brief([str(value) if isinstance(value, list | dict | np.ndarray) else value for value in values], 4)
