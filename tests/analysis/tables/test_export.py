"""Every number comes back as it went in, from every format, to the last bit."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from analysis.tables.export import csv_text, json_text, plain, write_parquet

#: Ratios of small numbers, a denormal, what no decimal is, the largest and the smallest steps.
FLOATS = [3.975001798549015e-09, 1e-320, 0.1 + 0.2, math.nan, math.inf, -math.inf, -0.0, 0.999999, 1 / 3, 2.0**1023]
INTEGERS = [2**53 + 1, 2**63 - 1, -(2**63), 0, 1, -1, 10**15, 7, 8, 9]
TEXTS = ["ü → 漢", "a,b", "two\nlines", 'a "quote"', "[0.1, 0.2]", "x", " y ", "0.10", "1e3", "lr=0.1;k1=2"]


def hostile() -> DataFrame:
    return DataFrame(
        {
            "float": FLOATS,
            "integer": INTEGERS,
            "unsigned": np.array([2**63 + 1, *range(9)], dtype=np.uint64),
            "nullable": pd.array([2**53 + 1, None, *range(8)], dtype="Int64"),
            "flag": [True, False] * 5,
            "flag or nothing": [True, None, *[False] * 8],
            "text": TEXTS,
            "text or nothing": ["", None, *["z"] * 8],
            "several kinds": ["auto", 0.1 + 0.2, 2**53 + 1, True, None, *["a"] * 5],
        }
    )


def same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return one == other and math.copysign(1, one) == math.copysign(1, other)


def test_every_number_comes_back_from_csv() -> None:
    kinds = {"float": np.float64, "integer": np.int64, "unsigned": np.uint64, "nullable": "Int64", "text": "str"}
    text = csv_text(hostile())
    back = pd.read_csv(io.StringIO(text), dtype=kinds)
    assert all(map(same, back["float"], FLOATS))
    assert back["integer"].tolist() == INTEGERS
    assert back["unsigned"].tolist() == [2**63 + 1, *range(9)]
    assert back["nullable"].tolist()[0] == 2**53 + 1
    assert back["nullable"].isna().tolist() == [False, True, *[False] * 8]
    assert back["flag"].tolist() == [True, False] * 5
    assert back["text"].tolist() == TEXTS
    assert back["several kinds"].tolist()[:4] == ["auto", "0.30000000000000004", "9007199254740993", "True"]


def test_every_number_comes_back_from_json_and_what_is_not_finite_is_null() -> None:
    def refused(constant: str) -> None:
        raise AssertionError(f"{constant} is no JSON")

    rows = json.loads(json_text(hostile()), parse_constant=refused)
    finite = [value if math.isfinite(value) else None for value in FLOATS]
    assert [row["float"] for row in rows] == finite
    assert [row["integer"] for row in rows] == INTEGERS
    assert rows[0]["unsigned"] == 2**63 + 1
    assert [row["nullable"] for row in rows] == [2**53 + 1, None, *range(8)]
    assert [row["flag or nothing"] for row in rows] == [True, None, *[False] * 8]
    assert [row["text"] for row in rows] == TEXTS
    assert [row["text or nothing"] for row in rows][:2] == ["", None]
    assert [row["several kinds"] for row in rows] == hostile()["several kinds"].tolist()


def test_every_number_comes_back_from_parquet(tmp_path: Path) -> None:
    write_parquet(hostile(), tmp_path / "t.parquet")
    back = pd.read_parquet(tmp_path / "t.parquet")
    assert all(map(same, back["float"], FLOATS))
    for name in ("integer", "unsigned", "nullable", "flag", "text"):
        pd.testing.assert_series_equal(back[name], hostile()[name], check_exact=True)
    assert [value if value is not None else None for value in back["flag or nothing"]][:2] == [True, None]
    assert back["several kinds"].tolist()[:4] == ['"auto"', "0.30000000000000004", "9007199254740993", "true"]
    assert back["several kinds"].isna()[4]


@pytest.mark.parametrize("rows", [0, 1])
def test_a_frame_without_rows_is_a_file_too(rows: int, tmp_path: Path) -> None:
    frame = hostile().head(rows)
    assert len(json.loads(json_text(frame))) == rows
    assert len(csv_text(frame.drop(columns="text")).splitlines()) == 1 + rows
    write_parquet(frame, tmp_path / "t.parquet")
    assert len(pd.read_parquet(tmp_path / "t.parquet")) == rows


def test_frozen_values_arrays_and_frames_within_are_plain() -> None:
    value = {"a": np.array([1.5, np.nan]), 2: (np.int64(2**62), pd.NaT), "rows": DataFrame({"x": [np.float32(0.5)]})}
    assert plain(value) == {"a": [1.5, None], "2": [2**62, None], "rows": [{"x": 0.5}]}
