"""The trial that most tests train: scikit-learn's digits, about a tenth of a second an epoch."""

from __future__ import annotations

from typing import Any

from trainers.config import TrialConfig

TINY: dict[str, Any] = {
    "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 10, "test_per_class": 5},
    "model": {"name": "small_cnn"},
    "batch_size": 32,
    "epochs": 3,
    "attack": {"radius": 0.15, "step_size": 0.04, "steps": 2},
    "evaluation": {"steps": 2},
}


def tiny(**parts: Any) -> TrialConfig:
    """Such a trial, with these keys of the config in place of its own."""
    return TrialConfig.model_validate(TINY | parts)
