"""Which points are clearly worse: the pooled spread by plain least squares, and what is dropped and what is not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sweep.stopping.one_sided import critical
from sweep.stopping.seed_race import Worse, clearly_worse, residual

Array = NDArray[np.float64]


def worse(values: Array, alpha: float = 0.01, odd: tuple[int, ...] = (), **how: float) -> list[Worse]:
    rows = np.arange(len(values))
    return list(clearly_worse(values, np.isin(rows, odd), np.ones(len(values), bool), alpha=alpha, **how))


def sweep(*means: float, seeds: int = 3, noise: float = 1.0) -> Array:
    """Points of these means, and noise that is the same for each test."""
    rng = np.random.default_rng(3)
    return np.array(means)[:, None] + rng.normal(size=seeds) + noise * rng.normal(size=(len(means), seeds))


@pytest.mark.parametrize("whole", [True, False])
def test_the_residual_is_that_of_a_dummy_for_each_point_and_each_seed(whole: bool) -> None:
    values = np.random.default_rng(0).normal(size=(10, 4))
    if not whole:  # points that were dropped have fewer seeds, one failed
        values[3:, 3], values[7:, 2], values[9, 1], values[1, 0] = (np.nan,) * 4
    points, seeds = np.nonzero(~np.isnan(values))
    design = np.zeros((len(points), 14))
    design[np.arange(len(points)), points] = design[np.arange(len(points)), 10 + seeds] = 1
    y = values[points, seeds]
    fitted, _, rank, _ = np.linalg.lstsq(design, y)
    freedom = len(y) - rank
    expected = np.sqrt(((y - design @ fitted) ** 2).sum() / freedom)
    assert residual(values) == (pytest.approx(expected), freedom)


def test_a_point_far_below_is_dropped_and_the_best_are_not() -> None:
    one = worse(sweep(0, 0, 0, -30))
    assert [(row.row, row.seeds) for row in one] == [(3, 3)]
    assert one[0].gap == pytest.approx(30, abs=3)


def test_it_is_dropped_exactly_where_its_t_is_critical() -> None:
    values = sweep(0, 0, 0, 0)
    spread, freedom = residual(values)
    gap = critical(3, freedom, 0.01) * spread * np.sqrt(2 / 3)
    values -= values.mean(axis=1, keepdims=True)  # all means equal, residuals as they were
    for factor, rows in ((0.999, []), (1.001, [3])):
        lower = values.copy()
        lower[3] -= factor * gap
        pairs = [np.std(lower[k] - lower[3], ddof=1) / np.sqrt(2) for k in range(3)]
        assert min(pairs) < spread  # with one of them the pooled spread is the larger, and counts
        assert [one.row for one in worse(lower)] == rows


def test_of_many_points_those_are_dropped_whose_t_with_another_is_critical() -> None:
    rng = np.random.default_rng(7)
    values = rng.normal(scale=0.3, size=(60, 1)) + rng.normal(scale=0.2, size=(60, 5))
    spread, freedom = residual(values)
    needed = critical(5, freedom, 0.01)
    dropped = []
    for row, own in enumerate(values):
        pairs = (values - own).std(axis=1, ddof=1) / np.sqrt(2)
        t = (values.mean(axis=1) - own.mean()) / (np.maximum(spread, pairs) * np.sqrt(2 / 5))
        dropped += [row] if t.max() >= needed else []
    assert [one.row for one in worse(values)] == dropped
    assert 10 < len(dropped) < 50


def test_points_that_can_be_worse_than_none_are_compared_with_none(monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[object] = []
    monkeypatch.setattr(np, "maximum", lambda *values: looked.append(1) or np.fmax(*values))
    assert [one.row for one in worse(sweep(0, 0, 0, -30))] == [3]
    assert len(looked) == 2


def test_a_margin_keeps_points_that_are_worse_by_less() -> None:
    values = sweep(0, 0, 0, -10, noise=0.1)
    assert [one.row for one in worse(values, margin=5.0)] == [3]
    assert worse(values, margin=15.0) == []


def test_nothing_is_dropped_after_fewer_seeds_than_asked_for() -> None:
    assert worse(sweep(0, 0, 0, -30), least=4) == []
    assert worse(sweep(0, 0, 0, -30, seeds=1)) == []


def test_equal_values_without_any_spread_are_no_evidence() -> None:
    assert worse(np.array([[0.5, 0.5], [0.5, 0.5], [0.4, 0.4]])) == []


def test_a_point_that_scatters_more_is_held_against_its_own_spread() -> None:
    values = sweep(0, 0, 0, 0, 0, -8, noise=0.5)
    assert [one.row for one in worse(values)] == [5]
    values[5] = [-24, 0, 0]  # the same mean, by one seed alone
    assert worse(values, odd=(5,)) == []


def test_points_are_compared_over_the_seeds_of_both() -> None:
    values = sweep(0, 0, 0, 0, -30, -30, noise=0.1)
    values[4, 2] = np.nan
    assert {one.row: one.seeds for one in worse(values)} == {4: 2, 5: 3}


@pytest.mark.parametrize("points", [2, 6])
def test_the_best_of_equal_points_is_dropped_no_more_often_than_alpha(points: int) -> None:
    """500 sweeps of six seeds, looked at after each; the exact binomial chance of more than 40 at 5 % is 0.1 %."""
    rng, dropped = np.random.default_rng(1), 0
    for _ in range(500):
        values = rng.normal(size=(points, 6)) + rng.normal(size=6)
        looks = (values[:, :seeds] for seeds in range(2, 7))
        dropped += any(one.row == 0 for look in looks for one in worse(look, 0.05 / (points - 1)))
    assert dropped <= 40
