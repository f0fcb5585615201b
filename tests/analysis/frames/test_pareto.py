"""The front against a slow oracle, and the column of the frame."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.frames.pareto import Objective, losses, nondominated, objectives_of
from analysis.frames.trials import axes, load_trials
from trainers.record import read

OBJECTIVES = [{"name": "val_robust", "mode": "max"}, {"name": "val_clean", "mode": "max"}]


def oracle(rows: list[list[float]]) -> list[bool]:
    """Pair by pair, in plain Python."""

    def beats(a: list[float], b: list[float]) -> bool:
        return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))

    return [not any(beats(other, row) for other in rows) for row in rows]


@given(st.lists(st.lists(st.integers(0, 4).map(float), min_size=3, max_size=3), min_size=1, max_size=25))
def test_a_front_is_what_comparing_every_pair_gives(rows: list[list[float]]) -> None:
    assert nondominated(np.array(rows)).tolist() == oracle(rows)


@given(st.lists(st.lists(st.floats(-1, 1), min_size=2, max_size=2), min_size=2, max_size=10))
def test_a_row_that_lacks_a_value_is_not_on_the_front_and_takes_nothing_off_it(rows: list[list[float]]) -> None:
    lacking = np.vstack([rows, [-9.0, np.nan]])
    assert nondominated(lacking).tolist() == [*oracle(rows), False]


def test_less_is_better_once_directions_are_taken_in() -> None:
    both = (Objective("val_robust", "max"), Objective("seconds", "min"))
    assert losses(np.array([[0.5, 10.0]]), both).tolist() == [[-0.5, 10.0]]
    assert [one.column for one in both] == ["last_val_robust", "seconds"]


def written(run: Any, cells: dict[str, tuple[float, float]], seeds: int = 2, objectives: Any = OBJECTIVES) -> Any:
    """A run of PGD-AT whose cells have these robust and clean accuracies."""
    launch = {"time": 0.0, "size": 0, "wanted": [], "metric": "val_robust", "mode": "max", "code_version": "abc"}
    run._file.append("launch", launch | ({"objectives": objectives} if objectives else {}))
    for (n, (name, (robust, clean))), seed in itertools.product(enumerate(cells.items()), range(seeds)):
        known = f"{name}{seed}"
        run.trial(known, seed=seed, optimizer__lr=0.1 * (n + 1))
        run.start(known)
        run.epoch(known, 1, 0.1, val_clean=0.1)
        run.epoch(known, 2, robust + 0.001 * seed, val_clean=clean, test_clean=clean)
    return run


def test_the_column_says_which_trials_are_of_cells_that_no_other_dominates(run: Any) -> None:
    cells = {"a": (0.5, 0.7), "b": (0.4, 0.8), "c": (0.4, 0.7), "e": (0.5, 0.7), "d": (0.9, 0.9), "f": (0.2, 0.1)}
    written(run, cells)
    for name in cells:
        for seed in range(2):
            run.outcome(f"{name}{seed}", "diverged" if (name, seed) == ("d", 0) else "completed")
    frame = load_trials(run.directory)
    column = dict(zip(frame["trial_id"], frame["pareto"], strict=True))
    on_it = {"a": True, "b": True, "c": False, "e": True, "f": False, "d": None}  # a and e are equal; d diverged once
    assert column == {f"{name}{seed}": on_it[name] for name in cells for seed in range(2)}
    assert "pareto" not in axes(frame)
    again = load_trials(run.directory)
    assert again["pareto"].tolist() == frame["pareto"].tolist()


def test_a_sweep_of_one_objective_has_no_such_column(run: Any) -> None:
    written(run, {"a": (0.5, 0.7)}, objectives=None)
    assert "pareto" not in load_trials(run.directory)
    assert objectives_of(read(run.directory)) == ()


@pytest.mark.parametrize("outcome", ["failed", "diverged"])
def test_without_a_completed_trial_nothing_is_on_the_front(run: Any, outcome: str) -> None:
    written(run, {"a": (0.5, 0.7)}, seeds=1)
    run.outcome("a0", outcome)
    assert load_trials(run.directory)["pareto"].tolist() == [None]
