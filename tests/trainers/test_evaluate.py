"""Evaluation while training: its restarts, against a loop written out, and where it starts."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainers import evaluate
from trainers.config import TrialConfig
from trainers.data.batches import Split
from trainers.engine import Engine
from trainers.method.attacks import pgd
from trainers.method.objectives import cross_entropy

CPU = torch.device("cpu")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    """So curved that the starts of PGD end in different places."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        layers = nn.Flatten(), nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 3)
        model = nn.Sequential(*layers)
        with torch.no_grad():
            model[1].weight.mul_(12)
        return model.eval()


SPLIT = Split(torch.randint(0, 256, (60, 1, 4, 4), generator=seeded(), dtype=torch.uint8), torch.zeros(60).long())


def config(**evaluation: Any) -> TrialConfig:
    values = {"radius": 0.1, "step_size": 0.05, "steps": 2, "batch_size": 25, **evaluation}
    return TrialConfig.model_validate(
        {"data": {"name": "digits"}, "attack": {"start": "clean"}, "evaluation": values}
    ).resolved()


def labelled(model: nn.Module) -> Split:
    with torch.no_grad():
        return Split(SPLIT.images, model(SPLIT.images / 255).argmax(1))


def ends(model: nn.Module, split: Split, restarts: int) -> tuple[Tensor, Tensor]:
    """(restarts, N): right or not, and the loss, at the end of each start, image by image."""
    start, right, losses = seeded(7), [], []
    for images, labels in zip((split.images / 255).split(25), split.labels.split(25), strict=True):
        rows = []
        for _ in range(restarts):
            loss = cross_entropy(model, images, labels)
            x = pgd(loss, images, radius=0.1, step_size=0.05, steps=2, start="uniform", generator=start)
            rows.append(model(x).detach())
        right.append(torch.stack([row.argmax(1) == labels for row in rows]))
        losses.append(torch.stack([F.cross_entropy(row, labels, reduction="none") for row in rows]))
    return torch.cat(right, 1), torch.cat(losses, 1)


@pytest.mark.parametrize("restarts", [1, 4])
def test_an_image_is_robust_if_no_start_breaks_it_and_its_loss_is_the_largest_of_them(restarts: int) -> None:
    model = network()
    split = labelled(model)
    found = evaluate.robust(model, split, config(restarts=restarts), Engine(CPU), seeded(7))
    right, losses = ends(model, split, restarts)
    assert found.accuracy == pytest.approx(right.all(0).float().mean().item())
    assert found.loss == pytest.approx(losses.amax(0).mean().item(), rel=1e-5)
    if restarts > 1:  # the last start alone would say otherwise
        assert right.all(0).sum() < right[-1].sum()
        assert losses.amax(0).mean() > losses[-1].mean()


@pytest.mark.parametrize(
    ("norm", "given", "start"),
    [("linf", None, "uniform"), ("l2", None, "uniform_radius"), ("l2", "uniform", "uniform"), ("l2", "clean", "clean")],
)
def test_an_evaluation_starts_where_it_is_told_wherever_the_training_attack_does(
    norm: str, given: str | None, start: str
) -> None:
    values = {"attack": {"norm": norm, "start": "normal"}, "evaluation": {"start": given}}
    assert TrialConfig.model_validate(values).resolved().evaluation_attack().start == start


def with_batch_norm() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Tanh(), nn.Flatten(), nn.Linear(16, 3))
        model[1].running_mean.normal_()
        return model.eval()


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_an_evaluation_attacks_in_eval_mode_whatever_mode_the_training_attacks_in(mode: str) -> None:
    model = with_batch_norm()
    before, modes = [buffer.clone() for buffer in model.buffers()], []
    model.register_forward_pre_hook(lambda module, inputs: modes.append(module.training))
    trial = config(restarts=2)
    trial = trial.model_copy(update={"attack": trial.attack.model_copy(update={"batch_norm": mode})})
    evaluate.robust(model, SPLIT, trial, Engine(CPU), seeded(7))
    assert modes == [False] * 3 * 2 * (2 + 1)  # batches, starts, steps and the look at their end
    assert all(torch.equal(buffer, was) for buffer, was in zip(model.buffers(), before, strict=True))


def test_an_evaluation_attacks_by_its_own_strength_in_the_norm_of_the_training_attack() -> None:
    trial = TrialConfig.model_validate(
        {
            "data": {"name": "digits"},
            "attack": {"norm": "l2", "radius": 0.5, "step_size": 0.2, "steps": 3, "start": "normal"},
            "evaluation": {"radius": 0.7, "step_size": 0.1, "steps": 9},
        }
    ).resolved()
    found = trial.evaluation_attack()
    assert (found.norm, found.radius, found.step_size, found.steps) == ("l2", 0.7, 0.1, 9)


def test_the_clean_accuracy_and_loss_are_means_over_the_images_and_not_over_the_batches() -> None:
    model = network()
    split = Split(SPLIT.images, torch.arange(60) % 3)
    with torch.no_grad():
        logits = model(split.images / 255)
    found = evaluate.clean(model, split, 25, Engine(CPU))
    assert found.accuracy == (logits.argmax(1) == split.labels).double().mean().item()
    assert found.loss == pytest.approx(F.cross_entropy(logits, split.labels).item(), rel=1e-6)


def test_a_loss_that_is_nan_stays_nan() -> None:
    """The loop knows by it that training has diverged."""
    model = network()
    with torch.no_grad():
        model[1].weight.fill_(math.nan)
    assert math.isnan(evaluate.clean(model, SPLIT, 25, Engine(CPU)).loss)
    assert math.isnan(evaluate.robust(model, SPLIT, config(restarts=2), Engine(CPU), seeded()).loss)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_attack_runs_in_its_precision_and_what_is_counted_in_fp32(precision: str, device: str) -> None:
    model, where = network().to(device), torch.device(device)
    split = Split(*(part.to(device) for part in labelled(network())[:2]))
    passes: list[tuple[bool, torch.dtype]] = []
    model.register_forward_hook(lambda module, images, out: passes.append((torch.is_grad_enabled(), out.dtype)))
    trial = config(precision=precision, restarts=2)
    evaluate.robust(model, split, trial, Engine(where), torch.Generator(device).manual_seed(7))
    attacking = {dtype for grad, dtype in passes if grad}
    assert attacking == {torch.float32 if precision == "fp32" else torch.bfloat16}
    assert [dtype for grad, dtype in passes if not grad] == 3 * 2 * [torch.float32]


@pytest.mark.parametrize("device", DEVICES)
def test_an_attack_in_bf16_ends_near_the_one_in_fp32(device: str) -> None:
    split = Split(*(part.to(device) for part in labelled(network())[:2]))
    found = [
        evaluate.robust(
            network().to(device), split, config(precision=precision, restarts=4), Engine(torch.device(device)),
            torch.Generator(device).manual_seed(7),
        )
        for precision in ("fp32", "bf16")
    ]  # fmt: skip
    assert found[0] != found[1]
    assert found[1].accuracy == pytest.approx(found[0].accuracy, abs=3 / 60)
    assert found[1].loss == pytest.approx(found[0].loss, rel=0.05)


def test_the_precision_of_training_is_none_of_the_evaluation_s() -> None:
    split, exact = labelled(network()), Engine(CPU)
    found = [evaluate.robust(network(), split, config(), engine, seeded(7)) for engine in (exact, Engine(CPU, "bf16"))]
    assert found[0] == found[1]
