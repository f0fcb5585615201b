"""Two steps and an evaluation batch on random images, and the arithmetic that makes an epoch of them."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from trainers.config import TrialConfig
from trainers.data.sources import Shape
from trainers.probe import _epoch_seconds, _random, probe

DIGITS = Shape(train_images=100, val_images=20, test_images=50, classes=10, channels=1, height=8, width=8)


def trial(**values: Any) -> TrialConfig:
    plain = {"data": {"name": "digits"}, "model": {"name": "small_cnn"}, "epochs": 6, "batch_size": 16}
    return TrialConfig.model_validate(plain | {"attack": {"steps": 1}, "evaluation": {"steps": 1}} | values).resolved()


@pytest.mark.parametrize(
    ("values", "steps", "clean", "robust"),
    [
        ({}, 7, 70, 70),
        ({"evaluation": {"splits": ["train", "val", "test"]}}, 7, 170, 70),
        ({"evaluation": {"splits": ["test"], "every": 4}}, 7, 50 / 3, 50 / 3),  # after epochs 4 and 6 of 6
        ({"averaging": {"name": "ema"}}, 7, 140, 140),
        ({"attack": {"replays": 4}}, 28, 70, 70),
        ({"batch_size": 100}, 1, 70, 70),
    ],
)
def test_an_epoch_is_its_steps_and_its_share_of_the_evaluations(
    values: dict[str, Any], steps: int, clean: float, robust: float
) -> None:
    seconds = _epoch_seconds(trial(**values), DIGITS, 100.0, 1.0, 0.001)
    splits = values.get("evaluation", {}).get("splits", trial().evaluation.splits)
    if "train" in splits and "evaluation" not in values:
        clean += 100
    assert seconds == pytest.approx(100 * steps + clean + 0.001 * robust)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"objective": {"name": "trades"}, "weights": {"name": "awp", "warmup": 0}, "optimizer": {"name": "deat"}},
        {"attack": {"replays": 2}},
        {"averaging": {"name": "ema"}, "precision": "bf16", "data": {"name": "digits", "cutmix": 1.0}},
    ],
    ids=str,
)
def test_a_trial_s_own_steps_are_made_and_timed(values: dict[str, Any]) -> None:
    threads = torch.get_num_threads()
    try:
        seconds, memory = probe(trial(**values), DIGITS, threads, gpu=False)
    finally:
        torch.set_num_threads(threads)
    assert 0 < seconds < 60
    assert math.isfinite(memory)
    assert memory > 50e6  # torch alone takes more


def test_no_more_images_are_made_than_the_steps_take() -> None:
    data = _random(trial(batch_size=64, evaluation={"batch_size": 30}), DIGITS, torch.device("cpu"))
    assert (len(data.train.labels), len(data.val.labels)) == (128, 30)
    large = _random(trial(batch_size=512), DIGITS, torch.device("cpu"))
    assert len(large.train.labels) == 200  # two steps of all there are
    assert data.train.images.shape[1:] == (1, 8, 8)
    assert int(data.train.labels.max()) == 9
