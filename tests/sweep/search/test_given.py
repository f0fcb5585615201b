"""`search.points`: run first, beside what the search finds, each in the strata that suit it."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.config import SweepConfig
from sweep.search.admission import Admission
from sweep.search.given import given_points
from sweep.search.trials import admitted_points, fixed_points
from trainers.errors import UserError

NAMES = {"optimizer.name": ["sgd", "deat"]}
K1 = {"optimizer.k1": {"grid": [1.0, 2.0], "when": {"optimizer.name": "deat"}}}
LR = {"optimizer.lr": {"loguniform": [0.01, 1]}}
SIZES = {"batch_size": {"choice": [16, 32, 64]}}


def sweep(space: dict[str, Any], *points: dict[str, Any], name: str = "random", **values: Any) -> SweepConfig:
    n = {} if name in ("grid", "one_at_a_time") else {"n_trials": 4}
    search = {"name": name, "points": points, **n}
    trial = {"data": {"name": "digits"}}
    return SweepConfig.model_validate({"name": "t", "trial": trial, "space": space, "search": search, **values})


def given(config: SweepConfig) -> list[dict[str, Any]]:
    return given_points(config, Admission.of_sweep(config))


@pytest.mark.parametrize("name", ["random", "quasi_random", "grid", "one_at_a_time"])
def test_given_points_come_first_and_beside_the_others(name: str) -> None:
    space = {"grid": {"batch_size": [16, 32, 64]}, "one_at_a_time": SIZES}.get(name, {**LR, **SIZES})
    config = sweep(space, {"batch_size": 64}, {"batch_size": 32}, name=name)
    free = fixed_points(sweep(space, name=name))
    first, second, *others = fixed_points(config)
    assert (first["batch_size"], second["batch_size"]) == (64, 32)
    assert others == [point for point in free if point not in (first, second)]
    assert admitted_points(config).lines == ("search.points: 2 points first",)


def test_a_point_runs_in_every_stratum_that_it_suits() -> None:
    whole = {"optimizer.lr": 0.1, "batch_size": 32}
    space = {**NAMES, **K1, **LR, **SIZES}
    assert given(sweep(space, whole)) == [
        {"optimizer.name": "sgd", **whole},
        {"optimizer.name": "deat", "optimizer.k1": 1.0, **whole},
        {"optimizer.name": "deat", "optimizer.k1": 2.0, **whole},
    ]
    assert [one["optimizer.name"] for one in given(sweep(space, {**whole, "optimizer.k1": 2.0}))] == ["deat"]


def test_what_a_point_leaves_out_is_drawn_the_same_at_every_launch_and_in_every_stratum() -> None:
    config = sweep({**NAMES, **LR, **SIZES}, {"batch_size": 32}, {"batch_size": 32})
    points = given(config)
    assert points == given(config)
    assert [(one["optimizer.name"], one["batch_size"]) for one in points] == [("sgd", 32), ("deat", 32)] * 2
    assert points[0]["optimizer.lr"] == points[1]["optimizer.lr"] != points[2]["optimizer.lr"]
    assert len({one["optimizer.lr"] for one in [*points, *fixed_points(sweep(LR))]}) == 2 + 4


def test_points_added_at_the_end_leave_those_before_as_they_were() -> None:
    one, two = {"batch_size": 32}, {"batch_size": 16}
    assert given(sweep({**LR, **SIZES}, one, two))[:1] == given(sweep({**LR, **SIZES}, one))
    assert given(sweep({**LR, **SIZES}, two, one))[1:] != given(sweep({**LR, **SIZES}, one))


def test_what_a_point_leaves_out_is_drawn_so_that_what_it_names_applies_and_it_is_admitted() -> None:
    space = {
        "optimizer.name": {"choice": ["sgd", "deat", "adamw"]},
        "optimizer.k1": {"uniform": [0, 2], "when": {"optimizer.name": "deat"}},
        **LR,
    }
    points = given(sweep(space, *[{"optimizer.k1": 1.0}] * 10, where="optimizer.lr > 0.5"))
    assert all(one["optimizer.name"] == "deat" and one["optimizer.lr"] > 0.5 for one in points)
    assert len(points) == 10


def test_of_a_grid_a_point_may_lie_beside_the_listed_values() -> None:
    config = sweep({"batch_size": [16, 32], "optimizer.lr": [0.1, 0.2]}, {"batch_size": 256}, name="grid")
    assert fixed_points(config)[:2] == [{"batch_size": 256, "optimizer.lr": lr} for lr in (0.1, 0.2)]
    assert len(fixed_points(config)) == 6


def test_of_one_at_a_time_the_rest_is_plain() -> None:
    space = {**SIZES, "optimizer.lr": {"choice": [0.1, 0.2]}, "epochs": {"choice": [1, 2]}}
    assert given(sweep(space, {"batch_size": 32, "epochs": 2}, name="one_at_a_time")) == [
        {"batch_size": 32, "optimizer.lr": 0.1, "epochs": 2}
    ]


@pytest.mark.parametrize(
    ("space", "point", "message"),
    [
        (LR, {"optimizer.lr": 2}, "optimizer.lr: must lie in its axis, from 0.01 to 1, got 2; widen the axis"),
        (
            {"batch_size": {"uniform": [16, 64], "step": 16}},
            {"batch_size": 40},
            "batch_size: must lie in its axis, from 16 to 64, 16 apart, got 40; widen the axis",
        ),
        (SIZES, {"batch_size": 40}, "batch_size: must be one of its axis's values, 16, 32, 64; got 40; add it there"),
        (
            {**NAMES, **LR},
            {"optimizer.name": "adamw"},
            "optimizer.name: must be one of its axis's values, 'sgd', 'deat'; got 'adamw'; add it there",
        ),
        (
            {**NAMES, **K1},
            {"optimizer.name": "sgd", "optimizer.k1": 1.0},
            "optimizer.k1: applies only where optimizer.name is deat; leave it out, or give that too",
        ),
    ],
)
def test_a_point_that_lies_nowhere_is_one_line(space: dict[str, Any], point: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        given(sweep(space, point))
    assert str(caught.value) == f"search.points.0.{message}"


def test_a_point_that_where_leaves_out_is_one_line() -> None:
    with pytest.raises(UserError) as caught:
        given(sweep(SIZES, {"batch_size": 64}, where="batch_size < 64"))
    assert str(caught.value) == (
        'search.points.0: where: batch_size < 64: does not hold at {"batch_size": 64}; mend one of the two'
    )
