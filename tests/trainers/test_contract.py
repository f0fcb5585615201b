"""The contract of the four slots: every combination takes a step, gives finite gradients, and resumes to the bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from methods import COMBINATIONS, REFUSED, config

from trainers.checkpoint import kept_weights
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


@pytest.mark.parametrize(("attack", "objective"), sorted(REFUSED))
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
