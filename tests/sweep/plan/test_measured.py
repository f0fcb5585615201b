"""Which epochs that were measured tell what a trial's epoch will take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sweep.config import SweepConfig
from sweep.plan.measured import Measured, kind_of, shape_of
from sweep.progress import Progress
from sweep.search.inputs import data_key
from sweep.search.trials import PlannedTrial, fixed_points, planned
from trainers.config import TrialConfig
from trainers.identity import identity

Configs = Callable[..., SweepConfig]


def kind(**values: Any) -> str:
    return kind_of(identity(TrialConfig.model_validate(values)))


@pytest.mark.parametrize(
    "other",
    [
        {"model": {"name": "vit_small"}},
        {"model": {"name": "small_cnn", "activation": "silu"}},
        {"data": {"name": "cifar10"}},
        {"data": {"name": "digits", "train_per_class": 10}},
        {"attack": {"steps": 7}},
        {"attack": {"replays": 8}},
        {"evaluation": {"steps": 7}},
        {"evaluation": {"restarts": 2}},
        {"precision": "bf16"},
        {"deterministic": True},
        {"objective": {"name": "trades"}},
        {"objective": {"s2o": {"enabled": True}}},
        {"weights": {"name": "awp"}},
        {"averaging": {"name": "ema"}},
        {"dynamics": {"every": 1}},
    ],
    ids=str,
)
def test_what_changes_the_work_of_an_epoch_changes_the_kind(other: dict[str, Any]) -> None:
    plain = {"data": {"name": "digits"}, "model": {"name": "small_cnn"}}
    assert kind(**plain | other) != kind(**plain)


@pytest.mark.parametrize(
    "other",
    [
        {"seed": 3, "epochs": 7, "batch_size": 16},
        {"optimizer": {"name": "deat", "lr": 0.3}},
        {"attack": {"radius": 0.1, "step_size": 0.02}},
        {"schedule": {"name": "constant"}},
        {"data": {"name": "digits", "fingerprint": "digits-1"}},
        {"model": {"name": "small_cnn", "weights_fingerprint": "0123456789abcdef"}},
    ],
    ids=str,
)
def test_what_changes_only_the_numbers_leaves_the_kind(other: dict[str, Any]) -> None:
    plain = {"data": {"name": "digits"}, "model": {"name": "small_cnn"}}
    assert kind(**plain | other) == kind(**plain)


def planned_by(config: SweepConfig) -> list[PlannedTrial]:
    return planned(config, fixed_points(config), {data_key(config.trial): "digits-0"})


def ran(trial: PlannedTrial, seconds: float, device: str | None = "cpu", **epoch: Any) -> list[dict[str, Any]]:
    """The records of one epoch of a trial."""
    name = {"trial_id": trial.id, "time": 0.0}
    where = {} if device is None else {"device": device}
    return [
        {"record": "trial", **trial.record(0)},
        {"record": "start", **name, "code_version": "abc", **where},
        {"record": "epoch", **name, "epoch": 1, "lr": 0.1, "seconds": seconds, "evaluation_seconds": 0.0, **epoch},
    ]


GPU = {"resources": {"gpu": 1}}


@pytest.mark.parametrize(
    ("values", "device", "epoch", "counts"),
    [
        ({}, "cpu", {"engine": "eager"}, True),
        ({}, None, {}, True),  # of older code
        ({}, "NVIDIA H100", {"engine": "graph"}, False),
        ({"engine": "compile"}, "cpu", {"engine": "eager"}, False),
        ({"engine": "compile"}, "cpu", {"engine": "compile"}, True),
        ({"engine": "graph"}, "cpu", {"engine": "eager", "engine_reason": "no GPU"}, True),
        (GPU, "cpu", {"engine": "eager"}, False),
        (GPU, "NVIDIA H100", {"engine": "graph"}, True),
        (GPU, "NVIDIA H100", {"engine": "eager"}, False),
        (GPU, "NVIDIA H100", {"engine": "eager", "engine_reason": "dropout"}, True),
        ({**GPU, "engine": "eager"}, "NVIDIA H100", {"engine": "eager"}, True),
        ({**GPU, "engine": "eager"}, "NVIDIA H100", {"engine": "graph"}, False),
    ],
)
def test_epochs_count_where_they_ran_on_the_kind_of_device_and_in_the_engine_of_the_sweep(
    values: dict[str, Any], device: str | None, epoch: dict[str, Any], counts: bool, tiny: Configs
) -> None:
    resources = {"resources": values["resources"]} if "resources" in values else {}
    config = tiny(**resources)
    engine = {"engine": values.get("engine", "auto")}
    config = config.model_copy(update={"trial": config.trial.model_copy(update=engine)})
    one, *_ = planned_by(config)
    measured = Measured(Progress.of(ran(one, 4.0, device, **epoch)), config)
    assert measured.epoch(shape_of(one)) == (4.0 if counts else None)
    assert measured.any() == (4.0 if counts else None)


def test_an_epoch_takes_the_mean_of_its_batch_size_or_where_there_is_none_of_any(tiny: Configs) -> None:
    trial = {"data": {"name": "digits"}, "epochs": 4}
    config = tiny(space={"batch_size": [16, 32, 64]}, trial=trial, seeds=[0, 1])
    small, other, large, _, unmeasured, _ = planned_by(config)
    records = [*ran(small, 1.0), *ran(other, 2.0), *ran(large, 9.0)]
    measured = Measured(Progress.of(records), config)
    assert [measured.epoch(shape_of(one)) for one in (small, large, unmeasured)] == [1.5, 9.0, 4.0]
