"""Points of a space: counted, conditional, drawn by number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from scipy import stats

from sweep.axes import INERT_AXES, Axis, axis_order, leaf_keys, nested, value_at
from sweep.search.points import applies, combinations, corners, draw, drawn_axes, located, one_at_a_time, sobol, strata
from trainers.config import TrialConfig

PLAIN = TrialConfig().model_dump()


def axes(**given: Any) -> dict[str, Axis]:
    """A space by keys with `__` for the dot; a list is a grid."""
    return {
        key.replace("__", "."): Axis.model_validate({"grid": axis} if isinstance(axis, list) else axis)
        for key, axis in given.items()
    }


def when(values: list[Any], kind: str = "grid", **conditions: Any) -> dict[str, Any]:
    return {kind: values, "when": {key.replace("__", "."): value for key, value in conditions.items()}}


@pytest.mark.parametrize(
    ("space", "size"),
    [
        ({"batch_size": [1, 2, 3]}, 3),
        ({"batch_size": [1, 2, 3], "epochs": [1, 2], "optimizer__lr": [1, 2, 3, 4]}, 3 * 2 * 4),
        ({"optimizer__name": ["sgd", "deat"], "optimizer__k1": when([1, 2, 3], optimizer__name="deat")}, 1 + 3),
        (
            {
                "optimizer__name": ["sgd", "deat"],
                "optimizer__k1": when([1, 2, 3], optimizer__name="deat"),
                "optimizer__momentum": when([0, 0.9], optimizer__name="sgd"),
                "batch_size": [1, 2],
            },
            2 * (2 + 3),
        ),
        ({"batch_size": [1, 2, 3, 4], "epochs": when([5, 6], batch_size=[1, 3])}, 2 * 2 + 2),
        ({"batch_size": [1, 2], "epochs": when([5, 6], batch_size=1), "seed": when([0, 1], epochs=5)}, 2 + 1 + 1),
        ({"epochs": when([5, 6], optimizer__name="sgd")}, 2),
        ({"epochs": when([5, 6], optimizer__name="deat")}, 1),
        ({"epochs": when([5, 6], optimizer__name="sgd", batch_size=128)}, 2),
        ({"epochs": when([5, 6], optimizer__name="sgd", batch_size=64)}, 1),
    ],
)
def test_the_size_of_a_grid_is_that_of_the_product(space: Mapping[str, Any], size: int) -> None:
    points = strata(axes(**space), PLAIN)
    assert len(points) == size
    assert len({str(sorted(point.items(), key=str)) for point in points}) == size


def test_a_grid_is_in_the_order_of_the_file_its_first_axis_slowest() -> None:
    points = strata(axes(epochs=[2, 1], batch_size=[8, 4]), PLAIN)
    assert [(point["epochs"], point["batch_size"]) for point in points] == [(2, 8), (2, 4), (1, 8), (1, 4)]


def test_an_axis_comes_after_those_that_its_when_names() -> None:
    space = axes(seed=when([1], epochs=1), epochs=when([1], batch_size=1), batch_size=[1])
    assert axis_order(space) == ["batch_size", "epochs", "seed"]


def test_conditions_in_a_circle_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^space: the when of epochs, batch_size depend on each other in a circle$"):
        axis_order(axes(epochs=when([1], batch_size=1), batch_size=when([1], epochs=1)))


def test_what_hangs_on_a_drawn_axis_is_drawn_also_by_a_chain() -> None:
    space = axes(
        optimizer__name={"choice": ["sgd", "deat"]},
        optimizer__momentum=when([0.0, 0.9], optimizer__name="sgd"),
        optimizer__nesterov=when([True, False], optimizer__momentum=0.9),
        batch_size=[1, 2],
    )
    assert strata(space, PLAIN) == [{"batch_size": 1}, {"batch_size": 2}]
    assert drawn_axes(space) == ["optimizer.name", "optimizer.momentum", "optimizer.nesterov"]
    for index in range(50):
        point = located(space, PLAIN, {}, draw(space, 0, index))
        assert ("optimizer.momentum" in point) == (point["optimizer.name"] == "sgd")
        assert ("optimizer.nesterov" in point) == (point.get("optimizer.momentum") == 0.9)


def test_an_axis_applies_where_its_when_holds_in_the_point_or_else_in_the_base() -> None:
    axis = axes(optimizer__k1=when([1], optimizer__name=["deat"]))["optimizer.k1"]
    deat = nested(PLAIN, {"optimizer.name": "deat"})
    assert applies(axis, {}, deat)
    assert not applies(axis, {}, PLAIN)
    assert applies(axis, {"optimizer.name": "deat"}, PLAIN)
    assert not applies(axis, {"optimizer.name": "sgd"}, deat)


MIXED = axes(
    optimizer__lr={"loguniform": [1e-4, 1]},
    optimizer__weight_decay={"uniform": [0, 1]},
    batch_size={"choice": [16, 32, 64]},
)


def test_a_draw_is_a_function_of_seed_index_and_key_alone() -> None:
    alone = axes(batch_size={"choice": [16, 32, 64]})
    for index in range(20):
        point = located(MIXED, PLAIN, {"epochs": 1}, draw(MIXED, 7, index))
        assert point == located(MIXED, PLAIN, {"epochs": 1}, draw(MIXED, 7, index))
        assert located(alone, PLAIN, {}, draw(alone, 7, index))["batch_size"] == point["batch_size"]


def test_strata_share_their_draws() -> None:
    for index in range(10):
        one, other = (
            located(MIXED, PLAIN, {"optimizer.name": name}, draw(MIXED, 0, index)) for name in ("sgd", "deat")
        )
        assert {**one, "optimizer.name": "deat"} == other


def test_seeds_indices_and_keys_give_different_draws() -> None:
    pair = axes(optimizer__k1={"uniform": [0, 1]}, optimizer__k2={"uniform": [0, 1]})
    values = [value for seed in range(3) for i in range(50) for value in draw(pair, seed, i).values()]
    assert len(set(values)) == len(values)


@pytest.mark.parametrize("kind", ["uniform", "loguniform"])
def test_a_range_is_drawn_evenly(kind: str) -> None:
    space = axes(optimizer__lr={kind: [0.01, 10]})
    drawn = [located(space, PLAIN, {}, draw(space, 0, index))["optimizer.lr"] for index in range(2000)]
    assert min(drawn) >= 0.01
    assert max(drawn) <= 10
    if kind == "uniform":
        expected = stats.uniform(0.01, 10 - 0.01)
    else:
        drawn, expected = [math.log(value) for value in drawn], stats.uniform(math.log(0.01), math.log(1000))
    assert stats.kstest(drawn, expected.cdf).pvalue > 0.01


def test_every_choice_is_drawn_equally_often() -> None:
    drawn = [located(MIXED, PLAIN, {}, draw(MIXED, 0, index))["batch_size"] for index in range(3000)]
    assert stats.chisquare([drawn.count(value) for value in (16, 32, 64)]).pvalue > 0.01


def test_two_keys_are_drawn_independently() -> None:
    pair = axes(optimizer__k1={"uniform": [0, 1]}, optimizer__k2={"uniform": [0, 1]})
    points = [located(pair, PLAIN, {}, draw(pair, 0, index)) for index in range(500)]
    assert stats.pearsonr(*([point[key] for point in points] for key in pair)).pvalue > 0.01


def test_combinations_are_the_product_of_lists_with_ranges_at_their_low_end() -> None:
    found = list(combinations(MIXED, PLAIN, {"epochs": 3}))
    assert [point["batch_size"] for point in found] == [16, 32, 64]
    assert all(point["optimizer.lr"] == 1e-4 and point["epochs"] == 3 for point in found)


@pytest.mark.parametrize(
    ("axis", "inside", "outside"),
    [
        ({"uniform": [1, 2]}, [1, 1.5, 2], [0.99, 2.01, "1.5", None]),
        ({"loguniform": [1, 2]}, [1, 1.5, 2], [0.99, 2.01]),
        ({"choice": ["a", None, [1]]}, ["a", None, [1]], ["b", [2], 1]),
        ({"grid": [1, 2]}, [1, 2, 2.0], [3, "1"]),
    ],
)
def test_an_axis_knows_its_values(axis: Any, inside: list[Any], outside: list[Any]) -> None:
    given = Axis.model_validate(axis)
    assert all(map(given.admits, inside))
    assert not any(map(given.admits, outside))


def test_nested_and_value_at_are_inverse_for_every_key_and_leave_the_base_alone() -> None:
    before = TrialConfig().model_dump()
    for key in leaf_keys():
        assert value_at(nested(PLAIN, {key: "mark"}), key) == "mark"
    assert before == PLAIN


def test_the_keys_that_cannot_be_axes_are_keys_of_a_trial() -> None:
    assert set(INERT_AXES) < set(leaf_keys())


@pytest.mark.parametrize("seed", [0, 1])
def test_each_sixteenth_of_an_axis_holds_one_of_sixteen_sobol_points(seed: int) -> None:
    keys = ("optimizer.lr", "optimizer.k1", "optimizer.k2")
    space = {key: Axis(uniform=(0.1, 0.9)) for key in keys}
    places = sobol(space, seed, 16)
    for key in keys:
        assert sorted(int(16 * place[key]) for place in places) == list(range(16))


def test_sobol_points_of_other_seeds_are_others_and_any_number_is_given() -> None:
    space = {"optimizer.lr": Axis(uniform=(0.1, 0.9))}
    assert sobol(space, 0, 5) != sobol(space, 1, 5)
    assert [len(sobol(space, 0, n)) for n in (1, 2, 3, 9)] == [1, 2, 3, 9]
    assert sobol({"batch_size": Axis(grid=(16,))}, 0, 2) == [{}, {}]


def test_corners_are_every_choice_and_the_ends_of_each_range_where_the_axis_applies() -> None:
    space = axes(
        optimizer__name={"choice": ["sgd", "deat"]},
        optimizer__lr={"loguniform": [0.01, 1.0]},
        optimizer__k1=when([0.0, 2.0], "uniform", optimizer__name="deat"),
    )
    points = corners(space, {})
    assert len(points) == 2 + 2 * 2
    assert {point.get("optimizer.k1") for point in points if point["optimizer.name"] == "sgd"} == {None}
    assert {
        (point["optimizer.lr"], point["optimizer.k1"]) for point in points if point["optimizer.name"] == "deat"
    } == {(lr, k1) for lr in (0.01, 1.0) for k1 in (0.0, 2.0)}


def one_by_one(**given: Any) -> list[dict[str, Any]]:
    space = axes(**given)
    return [point for stratum in strata(space, PLAIN) for point in one_at_a_time(space, PLAIN, stratum)]


def test_one_at_a_time_is_the_first_of_all_and_each_other_value_alone() -> None:
    found = one_by_one(
        epochs={"choice": [5, 6, 7]}, batch_size={"choice": [16, 32]}, optimizer__name={"choice": ["sgd", "deat"]}
    )
    plain = {"epochs": 5, "batch_size": 16, "optimizer.name": "sgd"}
    assert found[0] == plain
    others = [{"epochs": 6}, {"epochs": 7}, {"batch_size": 32}, {"optimizer.name": "deat"}]
    assert sorted(map(str, found[1:])) == sorted(str(plain | other) for other in others)


def test_one_at_a_time_is_at_every_combination_of_the_grid_axes() -> None:
    found = one_by_one(epochs=[1, 2], batch_size={"choice": [16, 32]}, optimizer__lr=[0.1, 0.2])
    assert len(found) == 2 * 2 * 2
    assert {(point["epochs"], point["optimizer.lr"]) for point in found} == {
        (e, lr) for e in (1, 2) for lr in (0.1, 0.2)
    }


def test_what_hangs_on_a_value_is_tried_where_it_applies_and_takes_other_keys_along() -> None:
    found = one_by_one(
        attack__steps={"choice": [10, 1]},
        attack__step_size=when([0.1, 0.2], attack__steps=1),
        attack__start=when(["clean"], attack__step_size=0.2),
        batch_size={"choice": [16, 32]},
    )
    assert found == [
        {"attack.steps": 10, "batch_size": 16},
        {"attack.steps": 10, "batch_size": 32},
        {"attack.steps": 1, "attack.step_size": 0.1, "batch_size": 16},
        {"attack.steps": 1, "attack.step_size": 0.2, "batch_size": 16, "attack.start": "clean"},
    ]


def test_one_at_a_time_of_lists_that_nothing_hangs_on_is_one_more_than_their_further_values() -> None:
    assert (
        len(one_by_one(**{f"evaluation__{key}": {"choice": [1, 2, 3]} for key in ("every", "steps", "restarts")})) == 7
    )
