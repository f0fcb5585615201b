from __future__ import annotations

import numpy as np
import pytest
import torch

from trainers.config import ScheduleConfig
from trainers.method.schedules import lr_factor


def torch_factors(scheduler: type, epochs: int, **arguments: object) -> list[float]:
    """The learning rate of every epoch under one of torch's schedulers, from lr 1."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = scheduler(optimizer, **arguments)
    factors = []
    for _ in range(epochs):
        factors.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return factors


def test_constant_is_one() -> None:
    schedule = ScheduleConfig(name="constant")
    assert {lr_factor(schedule, progress, 7) for progress in (0.0, 3.3, 7.0)} == {1.0}


def test_piecewise_without_a_reached_milestone_is_constant() -> None:
    schedule = ScheduleConfig(milestones=(100, 105))
    assert {lr_factor(schedule, progress, 30) for progress in (0.0, 12.5, 30.0)} == {1.0}


def test_piecewise_holds_within_an_epoch() -> None:
    schedule = ScheduleConfig(milestones=(2, 4), factor=0.3)
    for epoch in range(6):
        within = {lr_factor(schedule, epoch + fraction, 6) for fraction in (0.0, 0.25, 1 - 1e-9)}
        assert len(within) == 1


def test_piecewise_default_drops_at_epochs_100_and_105_of_110() -> None:
    factors = [lr_factor(ScheduleConfig(), epoch, 110) for epoch in (0, 99, 100, 104, 105, 109)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-12)


def test_piecewise_is_torch_multi_step_lr() -> None:
    schedule = ScheduleConfig(milestones=(3, 4, 9), factor=0.2)
    oracle = torch_factors(torch.optim.lr_scheduler.MultiStepLR, 12, milestones=[3, 4, 9], gamma=0.2)
    assert [lr_factor(schedule, epoch, 12) for epoch in range(12)] == pytest.approx(oracle, rel=1e-12)


def test_piecewise_is_deats_own_one_step_later() -> None:
    """Theirs, by the rule in train_cifar_DEAT.py, looks at the epoch where a step ends."""
    steps, epochs = 7, 110
    ours = [lr_factor(ScheduleConfig(), step / steps, epochs) for step in range(steps * epochs)]
    ends = [epoch + (step + 1) / steps for epoch in range(epochs) for step in range(steps)]
    theirs = [1 if end < 100 else 0.1 if end < 105 else 0.01 for end in ends]
    assert ours[1:] == pytest.approx(theirs[:-1])
    assert ours != pytest.approx(theirs)


@pytest.mark.parametrize("epochs", [1, 7, 110])
def test_cosine_is_torch_cosine_annealing_lr(epochs: int) -> None:
    schedule = ScheduleConfig(name="cosine")
    oracle = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, epochs, T_max=epochs)
    factors = [lr_factor(schedule, epoch, epochs) for epoch in range(epochs)]
    assert factors == pytest.approx(oracle, rel=1e-9, abs=1e-12)


def test_cosine_per_step_is_torch_cosine_annealing_lr_counted_in_steps() -> None:
    epochs, steps = 3, 8
    oracle = torch_factors(torch.optim.lr_scheduler.CosineAnnealingLR, epochs * steps, T_max=epochs * steps)
    schedule = ScheduleConfig(name="cosine")
    factors = [lr_factor(schedule, step / steps, epochs) for step in range(epochs * steps)]
    assert factors == pytest.approx(oracle, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.1, 0.4, 0.9])
def test_one_cycle_interpolates_zero_one_zero(warmup: float) -> None:
    schedule = ScheduleConfig(name="one_cycle", warmup=warmup)
    progress = np.linspace(0, 20, 201)
    oracle = np.interp(progress, [0, warmup * 20, 20], [0, 1, 0])
    factors = [lr_factor(schedule, point, 20) for point in progress.tolist()]
    np.testing.assert_allclose(factors, oracle, atol=1e-12)


def test_one_cycle_starts_and_ends_at_zero_and_peaks_at_the_end_of_warmup() -> None:
    schedule = ScheduleConfig(name="one_cycle", warmup=0.5)
    assert [lr_factor(schedule, progress, 8) for progress in (0.0, 4.0, 8.0)] == [0.0, 1.0, 0.0]


@pytest.mark.parametrize("progress", [-0.1, 10.1])
def test_progress_outside_the_training_is_a_bug(progress: float) -> None:
    with pytest.raises(AssertionError, match="must be in"):
        lr_factor(ScheduleConfig(), progress, 10)


@pytest.mark.parametrize("epochs", [1, 7])
def test_linear_is_a_line_from_1_to_0(epochs: int) -> None:
    schedule = ScheduleConfig(name="linear")
    places = np.linspace(0, epochs, 11)
    factors = [lr_factor(schedule, float(place), epochs) for place in places]
    assert factors == pytest.approx(np.interp(places, [0, epochs], [1, 0]).tolist(), abs=1e-12)


@pytest.mark.parametrize("name", ["piecewise", "cosine", "linear", "constant"])
def test_a_warm_up_multiplies_the_curve_by_a_line_from_0_to_1(name: str) -> None:
    curve = ScheduleConfig(name=name, milestones=(1, 5))
    warmed = curve.model_copy(update={"warmup_epochs": 2.5})
    for place in np.linspace(0, 8, 33):
        rise = float(np.interp(place, [0, 2.5], [0, 1]))
        assert lr_factor(warmed, float(place), 8) == pytest.approx(rise * lr_factor(curve, float(place), 8), abs=1e-12)


def test_one_cycle_has_a_warm_up_of_its_own() -> None:
    schedule = ScheduleConfig(name="one_cycle", warmup_epochs=5)
    assert [lr_factor(schedule, place, 8) for place in (1.0, 3.2)] == pytest.approx([1 / 3.2, 1])
