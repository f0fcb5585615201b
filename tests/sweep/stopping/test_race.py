"""A race over records: decisions are a function of their order, within strata; Optuna's rule decides as Optuna does."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import optuna
import pytest

from sweep.stopping.decisions import Decision
from sweep.stopping.race import Evidence, Race, Racer, Rule, Wilcoxon
from sweep.stopping.race_config import RaceConfig

RACE = Evidence(RaceConfig(), "val_robust")
VALUES = np.random.default_rng(5).normal([[0.8], [0.8], [0.3], [0.5], [0.8]], 0.01, (5, 4))


def race(rule: Rule = RACE, mode: str = "max", seeds: int = 4, axes: Sequence[str] = ()) -> Race:
    return Race(rule, range(seeds), mode, metric="val_robust", axes=axes)


def planned(points: int = 5, seeds: int = 4, **more: Any) -> list[dict[str, Any]]:
    return [
        {
            "record": "trial",
            "trial_id": f"{point}-{seed}",
            "config": {"batch_size": point, "seed": seed, **more},
            "point": {"batch_size": point, **more},
            "seed": seed,
        }
        for point in range(points)
        for seed in range(seeds)
    ]


def ran(trial: str, value: float | None, outcome: str = "completed") -> list[dict[str, Any]]:
    return [
        {"record": "start", "trial_id": trial},
        {"record": "epoch", "trial_id": trial, "epoch": 1, "val_robust": value},
        {"record": "outcome", "trial_id": trial, "outcome": outcome},
    ]


def by_seed(values: Any = VALUES) -> list[dict[str, Any]]:
    order = itertools.product(range(values.shape[1]), range(values.shape[0]))
    return [record for seed, point in order for record in ran(f"{point}-{seed}", values[point, seed])]


def decisions(rule: Race, records: Iterable[dict[str, Any]]) -> list[Decision]:
    return [one for record in records for one in rule.add(record)]


def test_seeds_of_a_point_that_is_clearly_worse_are_not_run_and_its_others_stay() -> None:
    records = [*planned(), *by_seed()[: 3 * 10]]  # two seeds of each point
    given = decisions(race(), records)
    assert [one.trial_id for one in given] == ["2-2", "2-3", "3-2", "3-3"]
    assert {one.by for one in given} == {"race"}
    assert {one.epochs for one in given} == {0}


def test_the_reason_has_the_numbers_in_words() -> None:
    (first, *_) = decisions(race(), [*planned(), *by_seed()])
    assert first.why.startswith("val_robust is 0.4943 worse than of batch_size=1 over")
    assert "over the 2 seeds of both, standard error 0.0" in first.why
    assert "of 80 needed (alpha 0.05, 4 other points)" in first.why


def test_a_trial_that_runs_already_is_not_stopped() -> None:
    records = [*planned(), {"record": "start", "trial_id": "2-2"}, *by_seed()[: 3 * 10]]
    assert [one.trial_id for one in decisions(race(), records)] == ["2-3", "3-2", "3-3"]


@pytest.mark.parametrize("cut", range(0, 81, 7))
def test_records_cut_anywhere_and_read_again_give_the_same_decisions(cut: int) -> None:
    records = [*planned(), *by_seed()]
    again = race()
    before, after = decisions(again, records[:cut]), decisions(again, records[cut:])
    anew = decisions(race(), records[:cut])
    assert anew == before
    assert before + after == decisions(race(), records)


def test_a_point_that_is_asked_for_later_gets_no_seed_that_was_not_planned_when_it_was_dropped() -> None:
    """Optuna's trials are planned one by one."""
    early = [record for record in planned() if record["seed"] < 2]
    rule = race()
    assert decisions(rule, [*early, *by_seed()[: 3 * 10]]) == []
    later = decisions(rule, [record for record in planned() if record["seed"] == 2])
    assert [one.trial_id for one in later] == ["2-2", "3-2"]


def test_points_race_within_their_stratum_alone() -> None:
    records = [*planned(), *by_seed()]
    assert decisions(race(axes=["batch_size"]), records) == []


def test_a_loss_is_better_the_smaller_it_is() -> None:
    records = [*planned(), *by_seed(1 - VALUES)]
    assert {one.trial_id[0] for one in decisions(race(mode="min"), records)} == {"2", "3"}


@pytest.mark.parametrize("mode", ["max", "min"])
def test_a_point_that_always_diverges_is_dropped_and_of_others_the_spread_is_theirs(mode: str) -> None:
    values = VALUES if mode == "max" else 1 - VALUES
    records = planned()
    for seed, point in itertools.product(range(3), range(5)):
        records += ran(f"{point}-{seed}", *((None, "diverged") if point == 3 else (values[point, seed],)))
    dropped = {one.trial_id[0] for one in decisions(race(mode=mode), records)}
    assert dropped == {"2", "3"}


def test_a_failed_seed_says_nothing_and_others_of_its_point_are_compared() -> None:
    records = planned()
    for seed, point in itertools.product(range(3), range(5)):
        failed = (point, seed) == (2, 0)
        records += ran(f"{point}-{seed}", VALUES[point, seed], "failed" if failed else "completed")
    assert [one.trial_id for one in decisions(race(), records)] == ["3-3", "2-3"]


def test_a_seed_that_begins_anew_has_no_value_and_diverged_no_more() -> None:
    never = [*planned(), *by_seed()[3:15]]  # the first seed of all points but one
    anew = {"record": "outcome", "trial_id": "0-0", "outcome": "interrupted", "epochs": 0}
    rest = by_seed()[15:45]
    diverged = [*never, *ran("0-0", None, "diverged"), anew, *rest]
    assert decisions(race(), diverged) == decisions(race(), [*never, *rest]) != []


def test_a_point_alone_has_nothing_to_lose_against() -> None:
    assert decisions(race(), [*planned(1), *by_seed(VALUES[:1])]) == []


def finished(rule: Rule, values: Any, order: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Trials that were run, point and seed, of a race in a certain order."""
    races, run = race(rule, seeds=values.shape[1]), []
    for point in range(len(values)):
        races.enter("", Racer(str(point), {seed: f"{point}-{seed}" for seed in range(values.shape[1])}))
    for point, seed in order:
        if races.reason(f"{point}-{seed}") is None:
            races.ended(f"{point}-{seed}", values[point, seed])
            run.append((point, seed))
    return run


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("startup", [2, 6])
def test_wilcoxon_runs_the_trials_that_a_study_of_optunas_own_runs(startup: int) -> None:
    values = np.random.default_rng(2).normal(size=(6, 8)) + np.linspace(1, -2, 6)[:, None]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.WilcoxonPruner(n_startup_steps=startup))
    expected = []
    for point in range(6):
        trial = study.ask()
        for seed in range(8):
            expected.append((point, seed))
            trial.report(values[point, seed], seed)
            if trial.should_prune() and seed < 7:
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(values[point].mean()))
    order = itertools.product(range(6), range(8))
    assert finished(Wilcoxon(0.1, startup, "val_robust"), values, order) == expected
    assert len(expected) < 48
