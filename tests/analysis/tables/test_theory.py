"""What `sweep theory` prints: a row a rule, exact numbers in JSON, what theory does not cover in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from analysis.estimates.theory_check import TheoryCheck, theory_check
from analysis.tables.theory import notes, tables, theory_text
from trainers.record import read


@pytest.fixture
def check(measured_run: Callable[..., Path]) -> TheoryCheck:
    return theory_check(read(measured_run({"sgd": 8.0, "deat": 12.0})))


def rows(check: TheoryCheck, table: str) -> list[dict[str, str]]:
    sheet = tables(check)[table]
    return [dict(zip(sheet.header, row, strict=True)) for row in sheet.rows]


def test_without_dynamics_there_are_the_predicted_tables_alone_and_a_line_says_why(ratio_run: Any) -> None:
    check = theory_check(read(ratio_run.directory))
    assert list(tables(check)) == ["update", "settings", "bound"]
    assert notes(check)[-1].endswith("stands beside it: that takes completed trials with trial.dynamics.every")


def test_of_awp_the_notes_say_what_is_left_out(measured_run: Callable[..., Path]) -> None:
    check = theory_check(read(measured_run({"sgd awp": 8.0, "deat": 8.0})))
    first = rows(check, "stability")[0]
    assert [first[name] for name in ("limit", "beyond", "stable to")] == ["", "", ""]
    assert any(note.startswith("PGD-AT-AWP: AWP takes") for note in notes(check))


def test_methods_of_one_rule_share_a_row_and_those_of_another_do_not(run: Any) -> None:
    run.launch()
    for number, (name, k1) in enumerate([("pgd_at", 0.0), ("trades", 0.0), ("mart", 0.0), ("mart", 1.0)]):
        config = {"objective.name": name, "optimizer.k1": k1, "optimizer.k2": 0.0}
        run.trial(f"t{number}", optimizer__name="deat", config=config)
    run.close()
    shown = rows(theory_check(read(run.directory)), "update")
    assert [(row["method"], row["k1"]) for row in shown] == [("DEAT and 2 more", "0"), ("MART, DEAT", "1")]


def test_many_settings_of_a_method_are_one_row_of_ranges(run: Any) -> None:
    run.launch()
    for number in range(50):
        run.trial(f"t{number}", optimizer__name="deat", optimizer__k1=number / 10, config={"optimizer.k2": 0.8})
    run.close()
    (row,) = rows(theory_check(read(run.directory)), "update")
    assert (row["k1"], row["k2"], row["noise"]) == ("0 to 4.9", "0.8", "0.111")
    assert row["mean step"] == f"{1 / np.hypot(5.9, 4.9):.3g} to 1"


def test_json_has_every_number_as_it_is_and_null_for_none(check: TheoryCheck) -> None:
    read_back = json.loads(theory_text(check, "json"))
    assert read_back["predicted"][1]["mean_step"] == check.predicted["mean_step"][1]
    assert read_back["predicted"][0]["optimizer.k1"] is None
    assert [row["sharpness_low"] for row in read_back["along"]] == check.along["sharpness_low"].tolist()
    assert set(read_back) == {"predicted", "bound", "along", "beside"}


def test_markdown_says_what_the_words_mean_then_has_each_table_with_what_its_columns_are(check: TheoryCheck) -> None:
    text = theory_text(check, "markdown")
    assert text.startswith("- The theory assumes that the loss near a minimum is quadratic")
    assert text.count("\n| --- |") == 6
    assert "| DEAT | 1 | 0.8 | 0.447 | 0.111 | 0.556 | 1.49 | 0.228 |\n\n- plain SGD: without momentum" in text
