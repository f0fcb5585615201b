"""Each sampler searches as its method does, also after a relaunch; what it cannot search is refused in one line."""

from __future__ import annotations

import inspect
import statistics
from typing import Any

import numpy as np
import optuna
import pytest
from scipy.stats import qmc
from searches import PLANE, Run, in_unit, optuna_sweep

from sweep.search.samplers import SAMPLERS, made, sampler_class
from sweep.search.trials import PlannedTrial, Pruned
from trainers.errors import UserError

TWO = [{"name": "val_robust", "mode": "max"}, {"name": "val_clean", "mode": "max"}]
KIND = {"optimizer.name": {"choice": ["sgd", "deat"]}}
HANGS = {**KIND, **PLANE, "optimizer.k1": {"uniform": [0, 2], "when": {"optimizer.name": "deat"}}}
SPACES: dict[str, dict[str, Any]] = {
    "ranges": dict(PLANE),
    "a choice": {**KIND, **PLANE},
    "a conditional axis": HANGS,
    "an axis that hangs on a grid": {**HANGS, "optimizer.name": {"grid": ["sgd", "deat"]}},
    "a choice of one": {**PLANE, "batch_size": {"choice": [32]}},
}
CAN = {
    "ranges": {*SAMPLERS, "auto"},
    "a choice": {*SAMPLERS, "auto"} - {"cmaes"},
    "a conditional axis": {"auto", "tpe", "qmc", "random"},
    "an axis that hangs on a grid": {*SAMPLERS, "auto"},
    "a choice of one": {*SAMPLERS, "auto"},
}


def sphere(trial: PlannedTrial) -> tuple[tuple[float, ...] | None, Pruned | None]:
    """Best, 1, at (0.7, 0.4) of the unit square."""
    x, y = in_unit(trial.point)
    return (1 - (x - 0.7) ** 2 - (y - 0.4) ** 2,), None


def trade_off(trial: PlannedTrial) -> tuple[tuple[float, ...] | None, Pruned | None]:
    """Two objectives; best where y is 0, and there one is had for the other [like ZDT1]."""
    x, y = in_unit(trial.point)
    return (x * (1 - y) ** 5, (1 - x**2) * (1 - y) ** 5), None


def both(trial: PlannedTrial) -> tuple[tuple[float, ...] | None, Pruned | None]:
    (value,) = sphere(trial)[0] or (0.0,)
    return (value, 1 - value), None


@pytest.mark.parametrize("objectives", [1, 2])
@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("sampler", [*SAMPLERS, "auto"])
def test_a_sampler_runs_every_trial_of_a_space_or_is_refused_in_one_line(
    sampler: str, space: str, objectives: int
) -> None:
    options = {"n_startup_trials": 5} if sampler in ("gp", "tpe") else {}
    metric = TWO if objectives == 2 else "val_robust"
    config = optuna_sweep(SPACES[space], 7, metric=metric, sampler=sampler, sampler_options=options)
    run = Run(config, both if objectives == 2 else sphere)
    if sampler in CAN[space] and (sampler, objectives) != ("cmaes", 2):
        run.launch(at_once=2, most=5)
        run.launch(at_once=2)
        assert len(run.values) == 7 * (2 if "grid" in space else 1)
    else:
        with pytest.raises(UserError, match=rf"^search\.sampler: {sampler} [^\n]*; [^\n]*take [^\n]*$"):
            run.search()


def test_auto_is_what_optuna_takes_by_itself_for_one_objective_and_for_several() -> None:
    for metric in ("val_robust", TWO):
        config = optuna_sweep(metric=metric, sampler="auto")
        directions = ["maximize"] * len(config.objectives)
        assert sampler_class(config) is type(optuna.create_study(directions=directions).sampler)
        assert sampler_class(config) is sampler_class(optuna_sweep(metric=metric)) is optuna.samplers.TPESampler


@pytest.mark.parametrize(
    ("sampler", "given", "message"),
    [
        ("tpe", {"n_startup": 3}, "n_startup: Optuna's TPESampler has no such option; did you mean "
         "'n_startup_trials'?"),
        ("tpe", {"n_startup_trials": "many"}, "n_startup_trials: must be int, got 'many'"),
        ("tpe", {"n_startup_trials": 2.5}, "n_startup_trials: must be int, got 2.5"),
        ("tpe", {"multivariate": 1}, "multivariate: must be bool or null, got 1"),
        ("cmaes", {"popsize": True}, "popsize: must be int or null, got True"),
        ("tpe", {"gamma": 3}, "gamma: takes an object of Python's, which a config cannot hold; leave it out"),
        ("random", {"seed": 3}, "seed: each draw's is worked out of search.seed, so that a relaunch goes on where the "
         "last one was; leave it out"),
        ("cmaes", {"with_margin": True}, "with_margin: what it keeps of each draw is lost with the process; list fewer "
         "values, or take tpe; leave it out"),
    ],
)  # fmt: skip
def test_a_mistaken_option_of_a_sampler_is_named(sampler: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        Run(optuna_sweep(sampler=sampler, sampler_options=given), sphere).search()
    assert str(caught.value) == f"search.sampler_options.{message}"


@pytest.mark.parametrize(
    ("sampler", "given"),
    [
        ("nsgaii", {"population_size": 1}),
        ("qmc", {"qmc_type": "faure"}),
        ("cmaes", {"popsize": 3}),
        ("cmaes", {"popsize": -1}),
        ("tpe", {"group": True, "multivariate": False}),
        ("tpe", {"n_ei_candidates": 0}),  # which shows only once it no longer draws at random
        ("tpe", {"n_ei_candidates": 0, "n_startup_trials": 20}),
        ("cmaes", {"x0": {"optimizer.lr": 0.1}}),  # and not of the other axis
    ],
)
def test_options_with_which_optuna_draws_nothing_are_refused_before_anything_runs(
    sampler: str, given: dict[str, Any]
) -> None:
    with pytest.raises(UserError, match=r"^search\.sampler_options: Optuna's \w+ draws nothing with these: [^\n]+$"):
        Run(optuna_sweep(sampler=sampler, sampler_options=given), sphere).search()


def test_cmaes_starts_where_the_config_says() -> None:
    start = {"optimizer.lr": 0.01, "optimizer.weight_decay": 0.08}
    config = optuna_sweep(n=4, sampler="cmaes", sampler_options={"x0": start, "sigma0": 1e-3})
    run = Run(config, sphere)
    run.launch()
    for point in run.points[1:]:  # the first is drawn at random
        assert in_unit(point) == pytest.approx(in_unit(start), abs=0.05)


def test_options_reach_the_sampler_as_numbers() -> None:
    config = optuna_sweep(sampler="nsgaii", sampler_options={"population_size": 6, "crossover_prob": "5e-1"})
    sampler = made(sampler_class(config), config, 0, 0, {})
    assert isinstance(sampler, optuna.samplers.NSGAIISampler)
    assert (sampler.population_size, config.search.sampler_options["crossover_prob"]) == (6, 0.5)


@pytest.mark.parametrize("name", SAMPLERS)
def test_every_option_of_a_sampler_is_known_by_a_type_that_is_checked_or_refused(name: str) -> None:
    annotations = [str(one.annotation) for one in inspect.signature(SAMPLERS[name]).parameters.values()]
    assert all(annotation != "<class 'inspect._empty'>" for annotation in annotations)


# What each method is for


def cut(run: Run, at: int) -> Run:
    run.launch(most=at)
    run.launch()
    return run


def test_cmaes_comes_nearer_to_the_best_of_a_sphere_than_random_search_also_when_relaunched() -> None:
    def last(sampler: str, seed: int) -> float:
        run = cut(Run(optuna_sweep(n=60, sampler=sampler, **{"seed": seed}), sphere), 23)
        values = [1 - (sphere(PlannedTrial("", None, point, 0, {}))[0] or (0.0,))[0] for point in run.points]  # type: ignore[arg-type]
        return statistics.mean(values[-12:])

    for seed in range(3):
        assert last("cmaes", seed) < 0.1 * last("random", seed)


@pytest.mark.parametrize("options", [{}, {"qmc_type": "halton"}, {"scramble": True}])
def test_qmc_draws_optunas_own_sequence_from_its_first_point_on_also_when_relaunched(options: dict[str, Any]) -> None:
    names = optuna_sweep(
        {"optimizer.name": {"grid": ["sgd", "deat"]}, **PLANE}, 16, sampler="qmc", sampler_options=options
    )
    run = cut(Run(names, sphere), 13)
    sides = [[in_unit(p) for p in run.points if p["optimizer.name"] == name] for name in ("sgd", "deat")]
    assert sides[0] == sides[1]
    drawn = np.array(sides[0])
    if options == {}:
        np.testing.assert_allclose(drawn, qmc.Sobol(2, scramble=False).random(16), atol=1e-12)
    elif options == {"qmc_type": "halton"}:
        np.testing.assert_allclose(drawn, qmc.Halton(2, scramble=False).random(16), atol=1e-12)
    random = [qmc.discrepancy(np.random.default_rng(seed).random((16, 2))) for seed in range(20)]
    assert qmc.discrepancy(np.clip(drawn, 0, 1)) < min(random)


def test_nsgaiis_front_dominates_more_than_random_searchs_also_when_relaunched() -> None:
    def dominated(sampler: str, seed: int) -> float:
        options = {"population_size": 10} if sampler == "nsgaii" else {}
        config = optuna_sweep(n=120, metric=TWO, sampler=sampler, sampler_options=options, **{"seed": seed})
        return area(list(cut(Run(config, trade_off), 40).values.values()))

    gains = [dominated("nsgaii", seed) - dominated("random", seed) for seed in range(4)]
    assert statistics.mean(gains) > 2 * statistics.stdev(gains) / len(gains) ** 0.5


def area(values: list[tuple[float, ...] | None]) -> float:
    """The hypervolume of two objectives above (0, 0)."""
    total, best = 0.0, 0.0
    for first, second in sorted((value for value in values if value is not None), reverse=True):
        total += first * max(0.0, second - best)
        best = max(best, second)
    return total


# What a search is told of points that a stopping rule ended


@pytest.mark.parametrize(
    ("seeds", "told"),
    [
        ([((0.4,), None), ((0.6,), None)], ("COMPLETE", [0.5], {})),
        ([((0.4,), None), (None, None)], ("COMPLETE", [0.4], {})),
        ([((0.4,), None), (None, Pruned(0, 0.0))], ("COMPLETE", [0.4], {})),
        ([((0.9,), None), (None, Pruned(3, 0.2))], ("PRUNED", [0.2], {3: 0.2})),
        ([(None, Pruned(3, 0.2)), (None, Pruned(3, 0.4))], ("PRUNED", [0.3], {3: pytest.approx(0.3)})),
        ([(None, Pruned(5, 0.2)), (None, Pruned(3, 0.4))], ("PRUNED", [0.2], {3: 0.4, 5: 0.2})),
        ([(None, None), (None, None)], ("FAIL", None, {})),
    ],
)
@pytest.mark.parametrize("relaunched", [False, True])
def test_a_point_of_which_a_rule_ended_a_seed_is_pruned_and_seeds_without_an_end_are_left_out(
    seeds: list[Any], told: tuple[str, list[float] | None, dict[int, float]], relaunched: bool
) -> None:
    config = optuna_sweep(PLANE, 2, seeds=(0, 1))
    run = Run(config, lambda trial: seeds[trial.seed])
    search = run.launch(most=4)
    if relaunched:
        search = run.search()
        search.next()
    (stratum,) = search._strata
    first = stratum.study.study.get_trials(deepcopy=False)[0]
    values = None if told[1] is None else pytest.approx(told[1])
    assert (first.state.name, first.values, dict(first.intermediate_values)) == (told[0], values, told[2])


@pytest.mark.parametrize("relaunched", [False, True])
@pytest.mark.parametrize(("sampler", "state"), [("tpe", "COMPLETE"), ("nsgaii", "COMPLETE"), ("gp", "FAIL")])
def test_of_several_objectives_a_pruned_point_breaks_a_constraint_by_the_less_the_farther_it_came(
    sampler: str, state: str, relaunched: bool
) -> None:
    ends = iter([Pruned(1, 0.2), Pruned(3, 0.2), Pruned(3, 0.6)])
    run = Run(optuna_sweep(PLANE, 3, metric=TWO, sampler=sampler), lambda trial: (None, next(ends)))
    search = run.launch()
    if relaunched:
        search = run.search()
        search.next()
    (stratum,) = search._strata
    every = stratum.study.study.get_trials(deepcopy=False)
    assert {one.state.name for one in every} == {state}
    if state == "COMPLETE":
        assert [one.constraints["untrained"] for one in every] == pytest.approx([1 / 1.2, 1 / 3.2, 1 / 3.6])
        assert {tuple(one.values) for one in every} == {(0.0, 0.0)}


@pytest.mark.parametrize("several", [False, True])
def test_tpe_keeps_away_from_where_points_were_pruned(several: bool) -> None:
    def share_of_bad(as_pruned: bool) -> float:
        def end(trial: PlannedTrial) -> tuple[tuple[float, ...] | None, Pruned | None]:
            bad = in_unit(trial.point)[0] > 0.3
            return (None, Pruned(1, 0.1) if as_pruned else None) if bad else ((0.5, 0.5)[: 1 + several], None)

        run = Run(optuna_sweep(n=60, **({"metric": TWO} if several else {})), end)
        run.launch()
        return statistics.mean(in_unit(point)[0] > 0.3 for point in run.points[30:])

    assert share_of_bad(as_pruned=True) < share_of_bad(as_pruned=False) - 0.2


@pytest.mark.parametrize("sampler", ["tpe", "cmaes", "nsgaii", "qmc"])
def test_a_worst_value_without_bound_stops_no_search(sampler: str) -> None:
    metric: Any = [TWO[0], {"name": "val_clean_loss", "mode": "min"}] if sampler != "cmaes" else "val_robust"
    worst = (0.0, float("inf")) if sampler != "cmaes" else (0.0,)

    def end(trial: PlannedTrial) -> tuple[tuple[float, ...] | None, Pruned | None]:
        bad = in_unit(trial.point)[0] > 0.5
        return (worst if bad else both(trial)[0]) if sampler != "cmaes" else (worst if bad else sphere(trial)[0]), None

    options = {"population_size": 8} if sampler == "nsgaii" else {}
    run = Run(optuna_sweep(n=25, metric=metric, sampler=sampler, sampler_options=options), end)
    cut(run, 17)
    assert len(run.values) == 25
