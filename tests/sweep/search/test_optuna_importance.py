"""Optuna's evaluators of importance, asked again and again about the same cells."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest

from analysis.estimates.evaluator import By, Column
from sweep.search.optuna_importance import optuna_importance

#: A grid of four by four cells.
COLUMNS = {
    axis: Column(np.array(places, dtype=np.float64), 4, False, "4 values")
    for axis, places in {"lr": np.repeat(range(4), 4), "batch_size": np.tile(range(4), 4)}.items()
}


@pytest.mark.parametrize("by", get_args(By))
@pytest.mark.parametrize("minimise", [False, True])
def test_an_answer_is_of_its_own_means_whatever_was_asked_before(by: By, minimise: bool) -> None:
    means = np.random.default_rng(0).random((2, 16))
    asked, fresh = (optuna_importance(by, COLUMNS, minimise=minimise, seed=0) for _ in range(2))
    asked(means[0])
    assert asked(means[1]).tolist() == fresh(means[1]).tolist() != fresh(means[0]).tolist()


def test_an_axis_that_makes_all_of_the_variance_has_all_of_it() -> None:
    shares = optuna_importance("fanova", COLUMNS, minimise=False, seed=0)
    assert shares(COLUMNS["lr"].numbers) == pytest.approx([1.0, 0.0])
    assert shares(COLUMNS["batch_size"].numbers) == pytest.approx([0.0, 1.0])
