"""What each question says of itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from pandas import DataFrame

from analysis.claims.questions import NAMES, QUESTIONS, asked_by, question
from trainers.errors import UserError

Frames = Callable[[list[dict[str, Any]]], DataFrame]


@pytest.fixture
def cells(frame_of: Frames) -> DataFrame:
    """SGD and DEAT at two learning rates, DEAT with two k1 and, once, SGD as its control; and TRADES."""
    root = math.sqrt(5)
    rows: list[dict[str, Any]] = [
        {"optimizer.name": "sgd", "optimizer.lr": 0.1},
        {"optimizer.name": "sgd", "optimizer.lr": 0.2},
        {"optimizer.name": "sgd", "optimizer.lr": 0.1 / root},
        {"optimizer.name": "deat", "optimizer.lr": 0.1, "optimizer.k1": 1.0},
        {"optimizer.name": "deat", "optimizer.lr": 0.2, "optimizer.k1": 0.0},
        {"optimizer.name": "sgd", "optimizer.lr": 0.1, "objective.name": "trades"},
    ]
    decays = {"own_weight_decay": [5e-4 * (root if number == 2 else 1) for number in range(len(rows))]}
    return frame_of([{"objective.name": "pgd_at", **row} for row in rows]).assign(**decays)


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        ("ratio", [0, 1, 2, 3]),
        ("k1_k2", [3, 4]),
        ("not_weight_decay", [2, 3]),
        ("no_extra_time", [0, 3, 5]),
        ("deat_equal_lr", [0, 1, 2, 3, 5]),
    ],
)
def test_a_question_names_the_cells_that_enter_it(cells: DataFrame, name: str, kept: list[int]) -> None:
    assert question(name).cells(cells)["trial_id"].tolist() == [f"t{number}" for number in kept]


def test_only_what_is_asked_of_a_method_is_asked_of_pgd_at_and_deat_apart(cells: DataFrame) -> None:
    assert [name for name, _ in question("ratio").tasks(cells)] == ["PGD-AT", "DEAT"]
    ((name, rows),) = question("deat_own_best").tasks(cells)
    assert (name, len(rows)) == ("", len(cells))
    assert [name for name, _ in question("ratio").tasks(cells.iloc[:0])] == [""]


def test_a_ratio_is_measured_as_a_logarithm_and_held_against_its_margin_in_its_own_unit() -> None:
    time = question("no_extra_time")
    assert time.threshold(0.01, 0.05) == pytest.approx(1.05)
    assert time.measured(time.shown(0.3)) == pytest.approx(0.3)
    assert question("ratio_only").threshold(0.01, 0.05) == 0.01
    assert question("ratio").threshold(0.01, 0.05) == 0.0


def test_the_commands_that_are_asked_the_same_know_their_questions() -> None:
    assert asked_by("ratio") == ("ratio", "ratio_only")
    assert asked_by("methods") == ("deat_own_best",)
    assert set(NAMES) == {asked.name for asked in QUESTIONS}


def test_a_question_that_is_none_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match="ratios: no such claim; did you mean 'ratio'"):
        question("ratios")
