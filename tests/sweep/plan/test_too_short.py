"""A sampler that never learns, and a rule that never ends a trial, are warned of, and the key ends the warning."""

from __future__ import annotations

from typing import Any

import pytest

from sweep.config import SweepConfig
from sweep.plan.plan import plan

TRIAL = {
    "data": {"name": "digits", "train_per_class": 20, "validation_fraction": 0.2},
    "model": {"name": "small_cnn"},
    "epochs": 6,
    "schedule": {"name": "constant"},
}
RANGE = {"optimizer.lr": {"uniform": [0.01, 0.2]}}
SEVEN = {"optimizer.lr": [0.01 * k for k in range(1, 8)]}


def values(**more: Any) -> dict[str, Any]:
    return {"name": "t", "trial": TRIAL, "space": RANGE, **more}


def optuna(**more: Any) -> dict[str, Any]:
    return {"search": {"name": "optuna", "n_trials": 8, **more}}


def warned(of: dict[str, Any]) -> list[str]:
    return [one.line() for one in plan(SweepConfig.model_validate(of), [], "abc").warnings]


AT_RANDOM = "and search.n_trials is 8: all points are drawn at random; set search."

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "gp": (
        optuna(sampler="gp"),
        f"gp learns from point 11 on, {AT_RANDOM}sampler_options.n_startup_trials=4, or search.n_trials=20",
    ),
    "the sampler that nobody named": (
        optuna(),
        f"tpe learns from point 11 on, {AT_RANDOM}sampler_options.n_startup_trials=4, or search.n_trials=20",
    ),
    "exactly the start-up's points": (
        optuna(sampler="tpe", sampler_options={"n_startup_trials": 8}),
        f"tpe learns from point 9 on, {AT_RANDOM}sampler_options.n_startup_trials=4, or search.n_trials=16",
    ),
    "nsgaii": (
        optuna(sampler="nsgaii"),
        f"nsgaii learns from point 51 on, {AT_RANDOM}sampler_options.population_size=4, or search.n_trials=100",
    ),
    "cmaes": (
        optuna(sampler="cmaes", sampler_options={"popsize": 8}),
        f"cmaes learns from point 9 on, {AT_RANDOM}sampler_options.popsize=4, or search.n_trials=16",
    ),
    "one batch": (
        optuna(sampler="tpe", deterministic=True, sampler_options={"n_startup_trials": 4}),
        f"tpe learns from point 11 on, {AT_RANDOM}batch=4, or search.n_trials=20",
    ),
    "warm-up after the end": (
        {"space": SEVEN, "stopping": {"name": "median", "n_warmup_steps": 60}},
        "stopping: median ends no trial: it looks at none before its last epoch, 6; set stopping.n_warmup_steps=2",
    ),
    "rungs after the end": (
        {"space": SEVEN, "stopping": {"name": "asha", "min_resource": 6}},
        "stopping: asha ends no trial: it looks at none before its last epoch, 6; set stopping.min_resource=1",
    ),
    "rungs that are left out": (
        {"space": SEVEN, "stopping": {"name": "asha", "min_early_stopping_rate": 2}},
        "stopping: asha ends no trial: it looks at none before its last epoch, 6; "
        "set stopping.min_early_stopping_rate=0",
    ),
    "more start-up trials than there are": (
        {"space": SEVEN, "stopping": {"name": "median", "n_startup_trials": 7}},
        "stopping: median ends no trial: n_startup_trials is 7, and the sweep has 7 trials; "
        "set stopping.n_startup_trials=3",
    ),
    "more start-up trials than a stratum has": (
        {
            "space": {"batch_size": [16, 32], **RANGE},
            "search": {"name": "random", "n_trials": 5},
            "stopping": {"name": "median"},
        },
        "stopping: median ends no trial: n_startup_trials is 5, and a combination of the grid axes has 5 trials; "
        "set stopping.n_startup_trials=2",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("more", "line"), CASES.values(), ids=CASES.keys())
def test_what_a_sweep_is_too_short_for_is_said_and_the_key_ends_it(more: dict[str, Any], line: str) -> None:
    of = values(**more)
    assert warned(of) == [line]
    mended = line.partition("; set ")[2].partition(", or ")[0].split(" and ")
    assert warned(_with(of, mended)) == []


def _with(of: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    for setting in settings:
        key, _, value = setting.partition("=")
        *parts, last = key.split(".")
        of = {**of}
        inner = of
        for part in parts:
            inner[part] = dict(inner.get(part, {}))
            inner = inner[part]
        inner[last] = int(value)
    return of


@pytest.mark.parametrize(
    "more",
    [
        optuna(n_trials=11),
        optuna(sampler="qmc"),
        optuna(sampler="random"),
        optuna(sampler="cmaes"),  # a range: 4 points a generation
        {"space": {"batch_size": {"choice": [16, 32]}}, **optuna(n_trials=2)},  # every point there is
        {"space": SEVEN, "stopping": {"name": "median"}},
        {"space": SEVEN, "stopping": {"name": "asha"}},
    ],
)
def test_a_sweep_that_is_long_enough_is_not_warned(more: dict[str, Any]) -> None:
    assert warned(values(**more)) == []
