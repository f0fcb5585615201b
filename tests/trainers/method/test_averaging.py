"""Averaged weights: the recursions, when they begin, and that training does not notice them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from small import tiny
from torch import nn

from trainers.checkpoint import kept_weights
from trainers.config import AveragingConfig, TrialConfig
from trainers.errors import UserError, validated
from trainers.loop import train
from trainers.method.averaging import Averaging
from trainers.record import METRICS, EpochRecord

AVERAGED = [name for name in METRICS if name.startswith("averaged_")]


def moved(model: nn.Linear, value: float) -> nn.Linear:
    with torch.no_grad():
        model.weight.fill_(value)
    return model


def test_ema_is_its_recursion_from_the_weights_at_its_beginning() -> None:
    model = moved(nn.Linear(1, 1), 1.0)
    averaging = Averaging(AveragingConfig(name="ema", decay=0.9, start=1), model)
    for epoch, value in enumerate((1.0, 2.0, 4.0, 8.0)):
        averaging.after_step(moved(model, value), epoch)
    assert averaging.model.weight.item() == pytest.approx(0.9 * (0.9 * 2 + 0.1 * 4) + 0.1 * 8)


@pytest.mark.parametrize("decay", [0.5, 0.15])
def test_ema_with_warm_up_is_its_closed_form_from_the_weights_before_its_first_step(decay: float) -> None:
    """sum_t (1 - d_t) w_t prod_{s > t} d_s + w_-1 prod_t d_t,   d_t = min(decay, (1 + t) / (10 + t))."""
    averaging = Averaging(
        AveragingConfig(name="ema", decay=decay, start=0, ema_warmup=True), moved(nn.Linear(1, 1), 7.0)
    )
    values, d = [2.0, 4.0, 8.0, -3.0, 5.0], [min(decay, (1 + t) / (10 + t)) for t in range(5)]
    for value in values:
        averaging.after_step(moved(nn.Linear(1, 1), value), 0)
    expected = 7.0 * math.prod(d) + sum((1 - d[t]) * w * math.prod(d[t + 1 :]) for t, w in enumerate(values))
    assert averaging.model.weight.item() == pytest.approx(expected)


def test_with_warm_up_the_first_weights_are_gone_after_few_steps_and_after_many_the_decay_is_as_told() -> None:
    averaging = Averaging(
        AveragingConfig(name="ema", decay=0.995, start=0, ema_warmup=True), moved(nn.Linear(1, 1), 1.0)
    )
    for _ in range(100):
        averaging.after_step(moved(nn.Linear(1, 1), 0.0), 0)
    assert 0 < averaging.model.weight.item() < 1e-6  # 100! 9! / 109!; without a warm-up 0.995^99, which is 0.61
    assert [averaging._decay(t) for t in (0, 1789, 1790, 5000)] == pytest.approx([0.1, 1790 / 1799, 0.995, 0.995])


def test_a_warm_up_that_begins_later_begins_with_the_weights_of_the_epoch_before() -> None:
    averaging = Averaging(AveragingConfig(name="ema", decay=0.5, start=2, ema_warmup=True), nn.Linear(1, 1))
    for epoch, value in enumerate((1.0, 3.0)):
        averaging.after_step(moved(nn.Linear(1, 1), -9.0), epoch)
        averaging.after_epoch(moved(nn.Linear(1, 1), value), epoch)
    assert averaging.model is None
    averaging.after_step(moved(nn.Linear(1, 1), 5.0), 2)
    assert averaging.model.weight.item() == pytest.approx(0.1 * 3 + 0.9 * 5)


def test_with_warm_up_batch_norms_statistics_are_those_of_the_raw_model() -> None:
    model = nn.BatchNorm1d(1)
    averaging = Averaging(AveragingConfig(name="ema", decay=0.5, start=0, ema_warmup=True), model)
    for value in (1, 3):
        model.running_mean.fill_(value)
        with torch.no_grad():
            model.weight.fill_(value)
        averaging.after_step(model, 0)
    assert averaging.model.running_mean.item() == 3
    assert averaging.model.weight.item() == pytest.approx(2 / 11 * 1 + 9 / 11 * 3)


def test_the_model_may_be_another_object_at_each_step() -> None:
    averaging = Averaging(AveragingConfig(name="ema", decay=0.5, start=0), nn.Linear(1, 1))
    models = nn.Linear(1, 1), nn.Linear(1, 1)
    for model, value in ((models[0], 4.0), (models[1], 8.0), (models[0], 2.0)):
        averaging.after_step(moved(model, value), 0)
    assert averaging.model.weight.item() == 0.5 * (0.5 * 4 + 0.5 * 8) + 0.5 * 2


def test_swa_is_the_mean_of_the_epochs_from_its_beginning() -> None:
    model = nn.Linear(1, 1)
    averaging = Averaging(AveragingConfig(name="swa", start=1), model)
    for epoch, value in enumerate((1.0, 2.0, 4.0, 9.0)):
        averaging.after_step(moved(model, -1.0), epoch)
        averaging.after_epoch(moved(model, value), epoch)
    assert averaging.model.weight.item() == pytest.approx((2 + 4 + 9) / 3)


def test_there_is_no_average_before_its_beginning() -> None:
    averaging = Averaging(AveragingConfig(name="ema", start=1), nn.Linear(1, 1))
    averaging.after_step(nn.Linear(1, 1), 0)
    assert averaging.model is None


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_batch_norms_statistics_are_averaged_and_its_count_is_the_newest(name: str) -> None:
    model = nn.BatchNorm1d(1)
    averaging = Averaging(AveragingConfig(name=name, decay=0.5, start=0), model)
    for epoch, value in enumerate((1, 3)):
        model.running_mean.fill_(value)
        model.num_batches_tracked.fill_(value)
        averaging.after_step(model, epoch)
        averaging.after_epoch(model, epoch)
    assert averaging.model.running_mean.item() == 2
    assert averaging.model.num_batches_tracked.item() == 3


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_a_buffer_that_is_given_a_new_tensor_is_averaged_as_one_that_is_changed(name: str) -> None:
    model = nn.Module()
    model.register_buffer("level", torch.zeros(()))
    averaging = Averaging(AveragingConfig(name=name, decay=0.5, start=0), model)
    for epoch, value in enumerate((1.0, 3.0)):
        model.level = torch.tensor(value)
        averaging.after_step(model, epoch)
        averaging.after_epoch(model, epoch)
    assert averaging.model.level.item() == 2


def test_the_average_shares_no_memory_with_the_model_and_needs_no_gradient() -> None:
    model = moved(nn.Linear(1, 1), 1.0)
    averaging = Averaging(AveragingConfig(name="ema", start=0), model)
    averaging.after_step(model, 0)
    moved(model, 5.0)
    assert averaging.model.weight.item() == 1.0
    assert not averaging.model.weight.requires_grad
    assert model.weight.requires_grad


def config(**values: Any) -> TrialConfig:
    return tiny(**{"epochs": 4} | values)


def records(trial: TrialConfig, checkpoint: Path | None = None) -> list[EpochRecord]:
    found: list[EpochRecord] = []
    assert train(trial, found.append, checkpoint).outcome == "completed"
    return found


@pytest.mark.parametrize("chosen", [{"name": "ema"}, {"name": "ema", "ema_warmup": True}, {"name": "swa"}])
def test_training_is_the_same_with_and_without_an_average(chosen: dict[str, Any]) -> None:
    plain, averaged = records(config()), records(config(averaging={**chosen, "start": 2}))
    for one, other in zip(plain, averaged, strict=True):
        for metric in set(METRICS) - set(AVERAGED):
            assert getattr(one, metric) == getattr(other, metric), metric
    last = averaged[-1]
    assert [getattr(averaged[1], metric) for metric in AVERAGED] == [None] * len(AVERAGED)
    assert all(getattr(last, metric) is not None for metric in AVERAGED)
    assert last.averaged_test_robust_loss != last.test_robust_loss


def test_an_average_of_one_epoch_is_that_epoch(tmp_path: Path) -> None:
    last = records(config(averaging={"name": "swa", "start": 3}), tmp_path / "trial.pt")[-1]
    assert last.averaged_test_robust_loss == last.test_robust_loss
    raw = kept_weights(tmp_path / "trial.pt", "last")
    averaged = kept_weights(tmp_path / "trial.pt", "last", averaged=True)
    assert all(torch.equal(raw[name], averaged[name]) for name in raw)


def test_swa_begins_after_three_quarters_of_the_epochs_unless_told() -> None:
    assert config(epochs=10, averaging={"name": "swa"}).resolved().averaging.start == 8
    assert config(epochs=10, averaging={"name": "ema"}).resolved().averaging.start == 0


def test_an_average_that_would_never_begin_is_refused() -> None:
    values = config().model_dump() | {"averaging": {"name": "ema", "start": 4}}
    with pytest.raises(UserError, match=r"averaging\.start: must be below epochs, 4, or nothing is averaged; got 4"):
        validated(TrialConfig, values)
