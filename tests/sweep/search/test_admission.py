"""`where` in every search whose points are known beforehand, and axes of whole numbers and of steps."""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import stats

from sweep.axes import Axis
from sweep.config import SweepConfig
from sweep.search.admission import Admission
from sweep.search.checks import examples
from sweep.search.inputs import distinct_data
from sweep.search.trials import admitted_points, fixed_points
from trainers.errors import UserError


def sweep(space: dict[str, Any], name: str = "grid", n: int | None = None, **values: Any) -> SweepConfig:
    search = {"name": name, "seed": 3} | ({} if n is None else {"n_trials": n})
    trial = {"data": {"name": "digits"}} | values.pop("trial", {})
    return SweepConfig.model_validate({"name": "t", "trial": trial, "space": space, "search": search, **values})


def lines(config: SweepConfig) -> tuple[str, ...]:
    return admitted_points(config).lines


SIZES, RATES = [32, 64, 128], [0.05, 0.1, 0.2]
GRID = {"batch_size": SIZES, "optimizer.lr": RATES}
WHERE = "batch_size * optimizer.lr <= 10"


def test_a_grid_keeps_its_order_and_loses_what_is_not_admitted() -> None:
    config = sweep(GRID, where=WHERE)
    assert [(point["batch_size"], point["optimizer.lr"]) for point in fixed_points(config)] == [
        (size, rate) for size in SIZES for rate in RATES if size * rate <= 10
    ]
    assert lines(config) == ("where leaves out 3 of 9 points",)


def test_all_constraints_must_hold() -> None:
    config = sweep(GRID, where=["batch_size > 32", "optimizer.lr == 0.1", WHERE])
    assert fixed_points(config) == [{"batch_size": 64, "optimizer.lr": 0.1}]


def test_the_trials_that_are_left_are_those_from_before() -> None:
    from sweep.search.trials import planned

    marks = {key: "digits-0" for key in distinct_data(sweep(GRID))}
    every, some = (planned(config, fixed_points(config), marks) for config in (sweep(GRID), sweep(GRID, where=WHERE)))
    assert {one.id for one in some} < {one.id for one in every}


@pytest.mark.parametrize(
    ("where", "space", "trial", "expected"),
    [
        ("optimizer.name == 'sgd' or optimizer.k1 > 1", {"optimizer.name": ["sgd", "deat"]}, {}, ["sgd"]),
        (
            "optimizer.name == 'sgd' or optimizer.k1 > 1",
            {"optimizer.name": ["sgd", "deat"]},
            {"optimizer": {"k1": 2}},
            ["sgd", "deat"],
        ),
        ("objective.name == 'mart'", {"preset": ["trades", "mart"]}, {}, ["mart"]),
        ("evaluation.radius == none", {"optimizer.name": ["sgd"]}, {}, ["sgd"]),
    ],
)
def test_a_key_that_a_point_lacks_is_the_bases_the_presets_or_the_default(
    where: str, space: dict[str, Any], trial: dict[str, Any], expected: list[str]
) -> None:
    (key,) = space
    assert [point[key] for point in fixed_points(sweep(space, where=where, trial=trial))] == expected


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (
            "batch_size > 500",
            "where: batch_size > 500: none of the 9 points meets it; the first is "
            '{"batch_size": 32, "optimizer.lr": 0.05}; mend the expression, or widen the axes of space',
        ),
        (
            "batch_size > 'a'",
            "where: batch_size > 'a': asks which is larger of text, 'a' and 32, at the point "
            '{"batch_size": 32, "optimizer.lr": 0.05}; decide it there, as in: KEY == none or ...',
        ),
    ],
)
def test_a_constraint_that_says_nothing_is_one_line(where: str, message: str) -> None:
    with pytest.raises(UserError) as caught:
        fixed_points(sweep(GRID, where=where))
    assert str(caught.value) == message


DRAWN = {"batch_size": {"uniform": [16, 256]}, "optimizer.lr": {"loguniform": [0.001, 1]}}


@pytest.mark.parametrize("name", ["random", "quasi_random"])
def test_draws_are_the_first_that_are_admitted_of_those_without_constraints(name: str) -> None:
    config = sweep(DRAWN, name, 20, where=WHERE)
    free = fixed_points(sweep(DRAWN, name, 200))
    admitted = [point for point in free if point["batch_size"] * point["optimizer.lr"] <= 10]
    assert fixed_points(config) == admitted[:20]
    assert fixed_points(sweep(DRAWN, name, 30, where=WHERE))[:20] == admitted[:20]
    refused = free.index(admitted[19]) - 19
    assert lines(config) == (f"where leaves out {refused} of {20 + refused} draws; further ones stand in for them",)


@pytest.mark.parametrize("name", ["random", "quasi_random"])
def test_a_constraint_that_always_holds_changes_nothing(name: str) -> None:
    space = {"optimizer.name": ["sgd", "deat"], **DRAWN}
    config = sweep(space, name, 9, where="batch_size > 0")
    assert fixed_points(config) == fixed_points(sweep(space, name, 9))
    assert lines(config) == ()


def test_each_stratum_has_its_n_and_one_that_has_none_is_left_out_and_said() -> None:
    space = {"optimizer.name": ["sgd", "deat", "adamw"], "optimizer.lr": {"uniform": [0, 1]}}
    where = "optimizer.name == 'sgd' or (optimizer.name == 'deat' and optimizer.lr < 0.5)"
    config = sweep(space, "random", 8, where=where)
    assert Counter(point["optimizer.name"] for point in fixed_points(config)) == {"sgd": 8, "deat": 8}
    assert lines(config)[-1] == 'where leaves out all of 1008 draws at {"optimizer.name": "adamw"}'


def test_too_few_draws_are_one_line_and_soon() -> None:
    with pytest.raises(UserError, match=r"^where: optimizer\.lr > 0\.999: only \d+ of 2,020 draws meet it, and search"):
        fixed_points(sweep({"optimizer.lr": {"uniform": [0, 1]}}, "random", 20, where="optimizer.lr > 0.999"))
    with pytest.raises(UserError, match=r"^where: optimizer\.lr > 2: none of 2,020 draws meets it; the first is"):
        fixed_points(sweep({"optimizer.lr": {"uniform": [0, 1]}}, "random", 20, where="optimizer.lr > 2"))


def test_one_at_a_time_loses_the_points_that_are_not_admitted() -> None:
    space = {"batch_size": {"choice": SIZES}, "optimizer.lr": {"choice": RATES}}
    found = fixed_points(sweep(space, "one_at_a_time", where="batch_size < 128"))
    assert found == [point for point in fixed_points(sweep(space, "one_at_a_time")) if point["batch_size"] < 128]
    assert len(found) == 4


def test_trials_that_stand_for_a_space_are_admitted_where_that_can_be_told() -> None:
    config = sweep({"batch_size": {"choice": SIZES}}, "optuna", 3, where="batch_size < 100")
    marks = {key: "digits-0" for key in distinct_data(config)}
    assert [one.point["batch_size"] for one in examples(config, marks)] == [32, 64]


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 3), st.sampled_from(["random", "quasi_random", "grid"]))
def test_every_point_of_every_search_meets_its_constraints(limit: float, name: str) -> None:
    space, n = (GRID, None) if name == "grid" else ({"optimizer.name": ["sgd", "deat"], **DRAWN}, 5)
    config = sweep(space, name, n, where=f"batch_size * optimizer.lr <= {limit}")
    admission = Admission.of_sweep(config)
    try:
        points = fixed_points(config)
    except UserError:
        return
    assert points
    assert all(admission.admits(point) for point in points)


# Whole numbers and steps


@pytest.mark.parametrize(
    ("axis", "values"),
    [
        ({"uniform": [2, 20], "step": 2}, list(range(2, 21, 2))),
        ({"uniform": [2, 5]}, [2, 3, 4, 5]),
        ({"loguniform": [2, 5]}, [2, 3, 4, 5]),
    ],
)
def test_a_range_of_an_integer_key_has_whole_numbers_with_both_ends(axis: dict[str, Any], values: list[int]) -> None:
    config = sweep({"batch_size": axis}, "random", 300)
    drawn = [point["batch_size"] for point in fixed_points(config)]
    assert sorted(set(drawn)) == values == list(config.space["batch_size"].values())
    assert {type(value) for value in drawn} == {int}
    if "uniform" in axis:
        assert stats.chisquare(list(Counter(drawn).values())).pvalue > 0.01


def test_a_logarithmic_whole_number_has_what_rounds_to_it() -> None:
    axis = Axis(loguniform=(1, 64), integer=True)
    drawn = Counter(axis.at((i + 0.5) / 100_000) for i in range(100_000))
    whole = math.log(64.5 / 0.5)
    for value in (1, 2, 10, 64):
        assert drawn[value] / 100_000 == pytest.approx(math.log((value + 0.5) / (value - 0.5)) / whole, abs=2e-5)


@example(-19, 19, 0.1)
@given(st.integers(-50, 50), st.integers(1, 40), st.sampled_from([0.1, 0.25, 0.05, 1.0, 0.001]))
def test_steps_are_as_one_would_list_them_and_known_again(low: int, steps: int, step: float) -> None:
    low_end = float(f"{low * step:.12g}")
    axis = Axis(uniform=(low_end, float(f"{(low + steps) * step:.12g}")), step=step)
    values = list(axis.values())
    assert len(values) == axis.size == steps + 1
    assert all(len(f"{value:.12g}") >= len(repr(value).removesuffix(".0")) for value in values)
    assert [axis.at((i + 0.5) / axis.size) for i in range(axis.size)] == values
    assert all(axis.admits(value) and axis.admits(json.loads(json.dumps(value))) for value in values)
    assert not any(axis.admits(value + step / 3) for value in values)
    assert not axis.admits(values[-1] + step)


def test_examples_hold_both_ends_of_whole_numbers() -> None:
    config = sweep({"batch_size": {"uniform": [16, 512], "step": 16}}, "optuna", 3)
    marks = {key: "digits-0" for key in distinct_data(config)}
    assert [one.point["batch_size"] for one in examples(config, marks)] == [16, 512]
