"""The contract of what is done to training images: with every objective that takes it, a trial resumes to the bit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from trainers.checkpoint import kept_weights
from trainers.config import TrialConfig
from trainers.data.policies import Policy
from trainers.loop import train
from trainers.record import EpochRecord

TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
ONE_CLASS = ("mart", "avmixup")  # objectives that are not published for mixed labels

RECIPES: dict[str, dict[str, Any]] = {
    **{policy: {"policy": policy} for policy in get_args(Policy)},
    "resized": {"augment": True, "crop": "random_resized"},
    "cutmix": {"cutmix": 0.5},
    "cutmix, fixed": {"cutmix": 1, "cutmix_window": "20/32"},
    "extra": {"extra": "EXTRA", "extra_fraction": 0.3},
    "all": {"policy": "augmix", "cutmix": 1, "extra": "EXTRA", "augment": True, "padding": "zero"},
}
COMBINATIONS = [
    (recipe, objective, perturbation)
    for recipe, objective, perturbation in itertools.product(
        RECIPES, ("natural", "pgd_at", "trades", "mart", "avmixup"), ("none", "awp")
    )
    if "cutmix" not in RECIPES[recipe] or objective not in ONE_CLASS
]


@pytest.fixture(scope="module")
def extra(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("extra") / "extra.npz"
    random = np.random.default_rng(0)
    np.savez(path, image=random.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8), label=random.integers(0, 10, 30))
    return str(path)


def config(recipe: str, objective: str, perturbation: str, extra: str) -> TrialConfig:
    """Two epochs of two steps; AWP begins in the second."""
    own = {key: extra if value == "EXTRA" else value for key, value in RECIPES[recipe].items()}
    return TrialConfig.model_validate(
        {
            "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 4, "test_per_class": 2, **own},
            "model": {"name": "small_cnn"},
            "batch_size": 20,
            "epochs": 2,
            "attack": {"radius": 0.15, "step_size": 0.1, "steps": 2},
            "objective": {"name": objective},
            "weights": {"name": perturbation, "warmup": 1},
            "optimizer": {"momentum": 0.9},
            "evaluation": {"splits": ["val"], "steps": 1},
        }
    ).resolved()


@pytest.mark.parametrize(("recipe", "objective", "perturbation"), COMBINATIONS)
def test_a_stopped_trial_goes_on_to_the_same_records_and_weights(
    recipe: str, objective: str, perturbation: str, extra: str, tmp_path: Path
) -> None:
    trial = config(recipe, objective, perturbation, extra)
    found: dict[str, list[EpochRecord]] = {"whole": [], "stopped": []}

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    state = torch.get_rng_state()
    assert train(trial, found["whole"].append, tmp_path / "whole.pt").outcome == "completed"
    assert torch.equal(torch.get_rng_state(), state), "torch's own generator was moved"
    with pytest.raises(KeyboardInterrupt):
        train(trial, stop, tmp_path / "stopped.pt")
    train(trial, found["stopped"].append, tmp_path / "stopped.pt")
    whole, stopped = ([replace(record, **TIMES) for record in records] for records in found.values())
    assert whole == stopped
    first, second = (kept_weights(tmp_path / f"{name}.pt", "last", averaged=False) for name in found)
    assert all(torch.equal(first[name], second[name]) for name in first)
