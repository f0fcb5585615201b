"""Numbers as files that give each of them back exactly: CSV, JSON, parquet."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame, Series
from pandas.api.types import is_numeric_dtype

from trainers.visible import encodable

#: How a formula begins; a number, with its interval in brackets behind it (`+3.52 [1.53, 5.51]`), and a sign alone, are
#: none.
_FORMULA = re.compile(r"[=@\t\r]|[-+](?!([\d.]*(e[-+]?\d+)?|inf)($| \[))", re.IGNORECASE)


def csv_text(frame: DataFrame) -> str:
    """The frame as CSV: each number in the fewest digits that read back as the same one, `inf` and nothing for NaN.

    pandas 2 needs `float_precision="round_trip"` to read it back to the last bit. A text that a spreadsheet would take
    for a formula, such as `=1+1`, stands behind an apostrophe. [OWASP, CSV Injection]
    """
    safe = frame.apply(lambda column: column if is_numeric_dtype(column) else column.map(_no_formula))
    return encodable(safe.rename(columns=_no_formula).to_csv(index=False, lineterminator="\n"))


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def json_text(value: Any) -> str:
    """Any value as strict JSON, each number in the fewest digits that read back as the same one.

    JSON has neither NaN nor an infinity: both are null. No measured number is lost so: a loss that is not finite ends
    its trial as `diverged`, and `reason` names the loss and which of the two it is. pandas needs
    `precise_float=True` to read it back to the last bit.

    Args:
        value: a frame, which becomes a mapping a row, or what `plain` takes.
    """
    return json.dumps(plain(value), indent=2, allow_nan=False) + "\n"


def write_parquet(frame: DataFrame, path: Path) -> None:
    """The frame as parquet. A column of several kinds, which parquet has not, holds its values' JSON text."""
    with path.open("wb") as file:  # a path whose bytes are no UTF-8 is none to pyarrow
        frame.apply(_of_one_kind).to_parquet(file, index=False)


def plain(value: Any) -> Any:
    """Frames, frozen values and numpy's numbers as what JSON has; null for what is missing or not finite."""
    if isinstance(value, DataFrame):
        rows = zip(*(value[name] for name in value.columns), strict=True)
        return [dict(zip(map(str, value.columns), map(plain, row), strict=True)) for row in rows]
    if is_dataclass(value) and not isinstance(value, type):
        return {key: plain(getattr(value, key)) for key in value.__dataclass_fields__}
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Sequence | np.ndarray) and not isinstance(value, str):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _of_one_kind(column: Series[Any]) -> Series[Any]:
    kinds = {type(plain(value)) for value in column} - {type(None)}
    if column.dtype != object or len(kinds) < 2:
        return column
    return column.map(lambda value: None if plain(value) is None else json.dumps(plain(value)))
