"""The contract of the four slots: every combination takes a step, gives finite gradients, and resumes to the bit."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from trainers.checkpoint import kept_weights
from trainers.config import TrialConfig
from trainers.data import batches, sets
from trainers.engine import Engine
from trainers.loop import train
from trainers.method import adversary, batch_norm, objectives, optimizers, weights
from trainers.method.step import Slots, Tally, training_step
from trainers.models import registry
from trainers.randomness import generator
from trainers.record import EpochRecord

CPU = torch.device("cpu")
TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}

ATTACKS: dict[str, Any] = {
    "linf": {"norm": "linf", "radius": 0.15, "step_size": 0.1, "steps": 2},
    "l2": {"norm": "l2", "radius": 0.8, "step_size": 0.5, "steps": 2, "start": "normal", "batch_norm": "train"},
}
#: PGD's kin, what rises and what is carried; in fewer combinations, each with all of the other slots at once.
OTHER_ATTACKS: dict[str, Any] = {
    "fgsm_rs": {"radius": 0.15, "step_size": 0.19, "steps": 1, "batch_norm": "train"},
    "n_fgsm": {"radius": 0.1, "step_size": 0.1, "steps": 1, "start": "uniform", "start_scale": 2, "project": False},
    "fat": {"radius": 0.15, "step_size": 0.1, "steps": 2, "tau": 0, "tau_milestones": [1]},
    "rising": {"radius": 0.15, "step_size": 0.1, "steps": 2, "radius_warmup": 1.5, "step_size_warmup": 0.5},
    "free": {"radius": 0.15, "step_size": 0.15, "replays": 2},
    "free, rising in l2": {"norm": "l2", "radius": 0.8, "step_size": 0.8, "replays": 3, "radius_warmup": 1.5},
}
#: A smooth one in half of the combinations, so that there are no more of them.
ACTIVATIONS = {"linf": "relu", "l2": "silu"}
OBJECTIVES = ("natural", "pgd_at", "trades", "mart", "avmixup")
OPTIMIZERS: dict[str, Any] = {
    "sgd": {"name": "sgd", "lr": 0.1, "momentum": 0.9},
    "deat": {"name": "deat", "lr": 0.1},
    "adamw": {"name": "adamw", "lr": 0.01},
}
_REFUSED = {(attack, objective) for attack in OTHER_ATTACKS for objective in ("trades", "avmixup") if "free" in attack}
_EXTREMES = ((False, "none", "sgd"), (True, "awp", "adamw"), (True, "awp", "deat"))
COMBINATIONS = [
    *itertools.product(ATTACKS, OBJECTIVES, (False, True), ("none", "awp"), OPTIMIZERS),
    *(
        (attack, objective, *others)
        for attack, objective, others in itertools.product(OTHER_ATTACKS, OBJECTIVES[1:], _EXTREMES)
        if (attack, objective) not in _REFUSED
    ),
]


def config(attack: str, objective: str, s2o: bool, perturbation: str, optimizer: str) -> TrialConfig:
    """Two epochs of two steps; AWP begins in the second. Labels are smoothed where S2O is, and they may be."""
    smoothing = 0.1 if s2o and objective in ("natural", "pgd_at", "trades") else 0
    return TrialConfig.model_validate(
        {
            "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 4, "test_per_class": 2},
            "model": {"name": "small_cnn", "activation": ACTIVATIONS.get(attack)},
            "batch_size": 20,
            "epochs": 2,
            "attack": (ATTACKS | OTHER_ATTACKS)[attack],
            "objective": {"name": objective, "label_smoothing": smoothing, "s2o": {"enabled": s2o}},
            "weights": {"name": perturbation, "warmup": 1},
            "optimizer": OPTIMIZERS[optimizer],
            "averaging": {"name": "ema", "decay": 0.5, "ema_warmup": s2o, "start": int(s2o)},
            "evaluation": {"splits": ["val"], "steps": 1},
        }
    ).resolved()


combinations = pytest.mark.parametrize(("attack", "objective", "s2o", "perturbation", "optimizer"), COMBINATIONS)


@combinations
def test_a_step_gives_every_parameter_a_finite_gradient_and_moves_it(
    attack: str, objective: str, s2o: bool, perturbation: str, optimizer: str
) -> None:
    trial = config(attack, objective, s2o, perturbation, optimizer)
    digits = sets.load(trial.data, CPU)
    model = registry.build(
        trial.model, num_classes=10, channels=1, image_size=8, mean=digits.mean, std=digits.std, seed=0
    ).train()
    before = [parameter.detach().clone() for parameter in model.parameters()]
    images, labels = next(iter(batches.batches(digits.train, 20, augment=False, seed=0, epoch=0)))
    slots = Slots(
        adversary.build(trial.attack, images),
        objectives.build(trial.objective, 10),
        weights.build(trial.weights, epoch=1),
        optimizers.build(trial.optimizer, model.parameters()),
        Engine(CPU),
        batch_norm.build(trial),
    )
    tally = Tally.empty(CPU)
    slots.attack.set_progress(1.0)
    training_step(model, slots, images, labels, generator(CPU, 0), generator(CPU, 1), tally)
    assert torch.isfinite(tally.loss)
    assert tally.images == 20
    for parameter, was in zip(model.parameters(), before, strict=True):
        assert parameter.requires_grad
        assert torch.isfinite(parameter.grad).all()
        assert not torch.equal(parameter, was)


@pytest.mark.parametrize(("attack", "objective"), sorted(_REFUSED))
def test_what_free_training_does_not_go_with_is_refused_in_a_line(attack: str, objective: str) -> None:
    with pytest.raises(ValueError, match=rf"attack\.replays: goes with pgd_at and mart, not with {objective}: .*out"):
        config(attack, objective, False, "none", "sgd")


@combinations
def test_a_stopped_trial_goes_on_to_the_same_records_and_weights(
    attack: str, objective: str, s2o: bool, perturbation: str, optimizer: str, tmp_path: Path
) -> None:
    trial = config(attack, objective, s2o, perturbation, optimizer)
    found: dict[str, list[EpochRecord]] = {"whole": [], "stopped": []}

    def stop(record: EpochRecord) -> None:
        raise KeyboardInterrupt

    train(trial, found["whole"].append, tmp_path / "whole.pt")
    with pytest.raises(KeyboardInterrupt):
        train(trial, stop, tmp_path / "stopped.pt")
    train(trial, found["stopped"].append, tmp_path / "stopped.pt")
    whole, stopped = ([replace(record, **TIMES) for record in records] for records in found.values())
    assert whole == stopped
    assert len(whole) == 2
    for averaged in (False, True):
        first, second = (kept_weights(tmp_path / f"{name}.pt", "last", averaged=averaged) for name in found)
        assert all(torch.equal(first[name], second[name]) for name in first)
