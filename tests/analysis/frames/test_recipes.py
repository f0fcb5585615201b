"""What recipes add to a method: its name, and which weights it is judged by."""

from __future__ import annotations

import math
from typing import Any

import pytest
from pandas import DataFrame

from analysis.estimates.methods import comparison
from analysis.estimates.slot_effects import slot_effects
from analysis.frames.cells import conditions
from analysis.frames.recipes import knobs, recipe_names
from analysis.frames.trials import trials_of
from trainers.config import TrialConfig
from trainers.identity import identity, trial_id
from trainers.record import EpochRecord, OutcomeRecord, line

SEEDS = (0, 1, 2)
NO = math.nan


def frame(rows: list[dict[str, Any]], **columns: list[Any]) -> DataFrame:
    """Trials as a run's frame holds them: each row with every seed; a key's column is an axis."""
    keys = list(dict.fromkeys(key for row in rows for key in row if "." in key))
    table = [
        {
            "trial_id": f"{number}-{seed}", "outcome": "completed", "reason": "",
            "method": row.get("method", "PGD-AT"), "seed": seed, "model.name": "small_cnn",
            "optimizer.name": row.get("optimizer", "sgd"), "optimizer.lr": row.get("lr", 0.1), "batch_size": 32,
            **{key: row.get(key, NO) for key in keys}, "lr_batch_ratio": 0.1 / 32,
            "last_val_robust": row.get("val", 0.5), "last_test_robust": row.get("robust", 0.4) + seed / 100,
            "last_test_clean": 0.9,
            "last_averaged_val_robust": row.get("averaged", NO), "last_averaged_test_robust": row.get("averaged", NO),
        }
        for number, row in enumerate(rows)
        for seed in SEEDS
    ]  # fmt: skip
    return DataFrame(table).assign(**columns)


NAMES: list[tuple[dict[str, Any], str]] = [
    ({"model.activation": "silu"}, "PGD-AT, SiLU"),
    ({"objective.label_smoothing": 0.1}, "PGD-AT, label smoothing 0.1"),
    ({"data.policy": "randaugment"}, "PGD-AT, RandAugment"),
    ({"data.policy": "augmix", "method": "TRADES-AWP, DEAT"}, "TRADES-AWP, DEAT, AugMix"),
    ({"data.cutmix": 1.0}, "PGD-AT, CutMix 1"),
    ({"data.extra_fraction": 0.7}, "PGD-AT, extra data 0.7"),
    ({"averaging.name": "ema"}, "PGD-AT, EMA"),
    ({"attack.radius_warmup": 2.0}, "PGD-AT, radius warm-up 2"),
    ({"model.activation": "silu", "method": "FGSM-RS"}, "FGSM-RS, SiLU"),
]
PLAIN: dict[str, Any] = {
    "model.activation": NO, "objective.label_smoothing": 0.0, "data.policy": "none", "data.cutmix": 0.0,
    "data.extra_fraction": 0.0, "averaging.name": "none", "attack.radius_warmup": 0.0,
}  # fmt: skip


@pytest.mark.parametrize(("given", "name"), NAMES, ids=[name for _, name in NAMES])
def test_a_value_that_changes_something_is_named_and_the_plain_one_is_not(given: dict[str, Any], name: str) -> None:
    plain = {key: PLAIN[key] for key in given if key in PLAIN}
    trials = frame([plain, plain | given])
    assert list(recipe_names(trials)) == ["PGD-AT"] * 3 + [name] * 3
    assert set(knobs(trials)) == {key for key in given if key in PLAIN}
    assert not conditions(trials)


def test_a_run_that_differs_in_none_of_them_has_the_names_that_it_had() -> None:
    trials = frame([{"lr": 0.1, "attack.steps": 5}, {"lr": 0.2, "attack.steps": 10, "data.augment": True}])
    assert knobs(trials) == []
    assert list(recipe_names(trials)) == ["PGD-AT"] * 6


def test_each_recipe_is_compared_with_the_plain_method_at_its_own_learning_rate() -> None:
    rows = [{"lr": lr, "val": lr, "robust": lr} for lr in (0.1, 0.2)]
    rows += [{"lr": lr, "val": 1 - lr, "robust": lr + 0.3, "data.policy": "augmix"} for lr in (0.1, 0.2)]
    results = {one.method: one for one in comparison(frame(rows, **{}).fillna({"data.policy": "none"}))}
    assert set(results) == {"PGD-AT", "PGD-AT, AugMix"}
    assert results["PGD-AT"].verdict == "baseline"
    assert results["PGD-AT, AugMix"].cell == {"optimizer.lr": 0.1}
    assert results["PGD-AT, AugMix"].difference.value == pytest.approx(0.2)


def test_where_averaging_is_a_recipe_its_own_weights_are_judged() -> None:
    trials = frame([{"averaging.name": "none"}, {"averaging.name": "ema", "averaged": 0.6}])
    results = {one.method: one for one in comparison(trials)}
    assert results["PGD-AT"].robust.value == pytest.approx(0.41)
    assert results["PGD-AT, EMA"].robust.value == pytest.approx(0.6)
    assert results["PGD-AT, EMA"].difference.value == pytest.approx(0.19)
    alone = comparison(trials[trials["averaging.name"] == "ema"])
    assert alone[0].robust.value == pytest.approx(0.41), "of a run that always averages the raw weights, as before"


def test_a_slots_effect_is_of_the_plain_methods_alone() -> None:
    rows = [{"data.policy": "none"}, {"data.policy": "none", "method": "DEAT", "optimizer": "deat", "robust": 0.5},
            {"data.policy": "augmix", "robust": 0.9}]  # fmt: skip
    trials = frame(rows).assign(**{"objective.name": "pgd_at", "weights.name": "none", "objective.s2o.enabled": False})
    trials.insert(list(trials.columns).index("lr_batch_ratio"), "x", 1)
    (effect,) = slot_effects(trials)
    assert effect.estimate == pytest.approx(0.1)


def test_a_trial_without_extra_images_is_in_no_cell_with_those_that_have_the_default_share() -> None:
    records: list[dict[str, Any]] = []
    for number, data in enumerate(
        ({}, {"extra_fingerprint": "npz-1"}, {"extra_fingerprint": "npz-1", "extra_fraction": 0.3})
    ):
        config = TrialConfig.model_validate({"data": {"name": "digits", "fingerprint": "digits-1", **data}}).resolved()
        name = trial_id(config)
        trial = {"trial_id": name, "number": number, "config": identity(config), "point": {}, "seed": 0}
        start = {"trial_id": name, "time": 0.0, "code_version": "a"}
        epoch = EpochRecord(name, 1, lr=0.1, val_robust=0.5)
        lines = [line("trial", trial), line("start", start), line("epoch", epoch)]
        lines.append(line("outcome", OutcomeRecord(name, "completed", "", 1)))
        records += [dict(one) for one in map(_read, lines)]
    trials = trials_of(records)
    assert trials["data.extra_fraction"].tolist() == [0.0, 0.7, 0.3]
    assert list(recipe_names(trials)) == ["PGD-AT", "PGD-AT, extra data 0.7", "PGD-AT, extra data 0.3"]


def _read(text: str) -> dict[str, Any]:
    import json

    value: dict[str, Any] = json.loads(text)
    return value
