"""A deterministic search: the same points at any concurrency, in whatever order trials end, however often killed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from searches import PLANE, Ends, Run, in_unit, optuna_sweep

from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.run.packing import Packing
from sweep.run.seats import Node
from sweep.search.trials import PlannedTrial, Pruned
from trainers.errors import UserError, validated

GRID = {"optimizer.name": {"grid": ["sgd", "deat"]}}
TWO = [{"name": "val_robust", "mode": "max"}, {"name": "val_clean", "mode": "max"}]
#: Of each sampler that learns a search whose batches it would tell from asking one by one.
SEARCHES: dict[str, dict[str, Any]] = {
    "tpe": {"sampler": "tpe", "sampler_options": {"n_startup_trials": 3}, "batch": 4},
    "tpe, several objectives": {"sampler_options": {"n_startup_trials": 3}, "batch": 4, "metric": TWO},
    "tpe, several seeds": {"sampler_options": {"n_startup_trials": 3}, "batch": 3, "seeds": (0, 1)},
    "cmaes": {"sampler": "cmaes"},
    "cmaes, a batch that is no generation": {"sampler": "cmaes", "batch": 4},
    "nsgaii": {"sampler": "nsgaii", "sampler_options": {"population_size": 4}, "metric": TWO},
    "nsgaii, a batch over its generation": {
        "sampler": "nsgaii", "sampler_options": {"population_size": 3}, "batch": 5, "metric": TWO
    },
    "qmc": {"sampler": "qmc"},
}  # fmt: skip


def ended(trial: PlannedTrial) -> Ends:
    """Differs by point and seed; in a corner no trial has a value, and in another a rule ends it."""
    x, y = in_unit(trial.point)
    if x > 0.9:
        return None, None
    if y > 0.9:
        return None, Pruned(1 + trial.seed, x / 2)
    value = 1 - (x - 0.7) ** 2 - (y - 0.4) ** 2 + 0.1 * trial.seed
    return (value, x * y), None


def of(name: str, n: int = 14) -> SweepConfig:
    values = dict(SEARCHES[name])
    return optuna_sweep({**GRID, **PLANE}, n, deterministic=True, **values)


def run_of(config: SweepConfig) -> Run:
    several = len(config.objectives) > 1

    def end(trial: PlannedTrial) -> Ends:
        values, pruned = ended(trial)
        return values if values is None or several else values[:1], pruned

    return Run(config, end)


def by_stratum(run: Run) -> dict[str, list[Point]]:
    """The points in the order that they were given out, of each study."""
    return {name: [point for point in run.points if point["optimizer.name"] == name] for name in ("sgd", "deat")}


def undisturbed(config: SweepConfig) -> dict[str, list[Point]]:
    run = run_of(config)
    run.launch()
    return by_stratum(run)


@pytest.mark.parametrize("name", SEARCHES)
def test_points_are_the_same_at_any_concurrency_and_in_any_order_of_ends(name: str) -> None:
    config = of(name)
    expected = undisturbed(config)
    assert [len(points) for points in expected.values()] == [14, 14]
    for at_once, seed in [(2, 0), (4, 1), (40, 0)]:
        run = run_of(config)
        run.launch(at_once, shuffled=seed)
        assert by_stratum(run) == expected


@pytest.mark.parametrize("name", SEARCHES)
def test_points_are_the_same_after_a_kill_at_any_place_and_after_many(name: str) -> None:
    config = of(name)
    expected = undisturbed(config)
    every = len(config.seeds) * 28
    cuts: Sequence[Sequence[int | None]] = [*([at, None] for at in range(1, every, every // 4)), [5, 4, 3, 9, 2, None]]
    for number, launches in enumerate(cuts):
        run = run_of(config)
        for most in launches:
            run.launch(1 + number % 4, most, shuffled=number)
        assert by_stratum(run) == expected


def test_without_it_points_hang_on_the_order_of_ends() -> None:
    runs = [run_of(of("tpe").model_copy(update={"search": _asking_at_once()})) for _ in range(2)]
    for at_once, run in zip((1, 4), runs, strict=True):
        run.launch(at_once, shuffled=0)
    assert by_stratum(runs[0]) != by_stratum(runs[1])


def _asking_at_once() -> Any:
    return of("tpe").search.model_copy(update={"deterministic": False, "batch": None})


def test_more_points_go_on_behind_those_of_fewer() -> None:
    run = run_of(of("tpe", 10))
    run.launch(3, shuffled=1)
    run.config = of("tpe", 18)
    run.launch(2, shuffled=2)
    assert by_stratum(run) == undisturbed(of("tpe", 18))


def test_a_batch_is_asked_for_once_the_last_one_has_ended_and_the_search_says_that_it_waits() -> None:
    config = optuna_sweep(PLANE, 8, deterministic=True, batch=4)
    search = run_of(config).search()
    first = [search.next() for _ in range(5)]
    assert (None in first[:4], first[4], search.waits()) == (False, None, True)
    for trial in first[:3]:
        search.tell(trial.id, (0.5,))  # type: ignore[union-attr]
        assert search.next() is None
    search.tell(first[3].id, None)  # type: ignore[union-attr]
    assert search.next() is not None
    assert not search.waits()
    rest = [search.next() for _ in range(3)]
    assert (None in rest, search.next(), search.waits()) == (False, None, False)


@pytest.mark.parametrize(("search", "size"), [({}, 10), ({"sampler": "cmaes"}, 6), ({"sampler": "nsgaii"}, 50)])
def test_a_batch_is_a_generation_where_the_sampler_has_some_else_what_tpe_draws_at_random(
    search: dict[str, Any], size: int
) -> None:
    (stratum,) = run_of(optuna_sweep(PLANE, 60, deterministic=True, **search)).search()._strata
    assert stratum.batch == size


def test_seconds_refuse_a_deterministic_search_in_one_line() -> None:
    metric = [TWO[0], {"name": "seconds", "mode": "min"}]
    values = optuna_sweep(metric=metric).model_dump(exclude={"mode"}) | {"search": {"name": "optuna", "n_trials": 3}}
    values["search"]["deterministic"] = True
    with pytest.raises(UserError) as caught:
        validated(SweepConfig, values)
    assert str(caught.value) == (
        "search.deterministic: seconds differ each time, and with them the points; leave one out"
    )


# What places trials


def packed(waits: list[bool], gives: list[str | None]) -> Packing[str]:
    """A packing with room for two, of what `pull` gives and `waits` says."""
    node = Node(cpus=2)
    return Packing([node], 1, 0, lambda: gives.pop(0), waits=lambda: waits.pop(0))


def test_where_nothing_is_given_out_now_what_runs_ends_first_and_then_there_is_more() -> None:
    packing = packed([True, False], ["a", None, "b", None])
    first = packing.next()
    assert first is not None
    assert (packing.next(), packing.done) == (None, False)
    packing.ended(first)
    second = packing.next()
    assert second is not None
    assert second.trials == ("b",)
    assert (packing.next(), packing.done) == (None, False)
    packing.ended(second)
    assert packing.done


def test_a_trial_that_runs_again_at_the_end_runs_where_all_else_waits_for_it() -> None:
    packing = packed([True, True, False], ["a", None, None, "b", None])
    first = packing.next()
    assert first is not None
    assert packing.again("a")
    assert packing.next() is None
    packing.ended(first)
    again = packing.next()
    assert again is not None
    assert again.trials == ("a",)
