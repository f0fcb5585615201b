"""Fast, early-stopped and rising attacks: each against its algorithm written out image by image."""

from __future__ import annotations

import doctest
from typing import Any

import pytest
import torch
from small import tiny
from torch import Tensor, nn
from torch.nn import functional as F

from trainers.config import AttackConfig, TrialConfig
from trainers.engine import Engine
from trainers.errors import UserError
from trainers.loop import with_fingerprint
from trainers.method import adversary, batch_norm, objectives, weights
from trainers.method.adversary import PGD, Carried, at
from trainers.method.attacks import EarlyStop, Loss, fgsm, one_step, pgd
from trainers.method.objectives import Forward, Inner, cross_entropy
from trainers.method.step import Slots, Strength, Tally, adversarial, training_step
from trainers.training import Training
from trainers.workers import ALONE, Part

CPU = torch.device("cpu")
RADIUS = 0.1


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network() -> nn.Module:
    """Without batch norm, so that no image hangs on another."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 16), nn.Tanh(), nn.Linear(16, 3))


def batch(seed: int = 1, size: int = 40) -> tuple[Tensor, Tensor]:
    """Images with pixels at 0 and 1, and the labels that the network gives most of them."""
    images = (torch.rand(size, 3, 2, 2, generator=seeded(seed)) * 1.2 - 0.1).clamp(0, 1)
    labels = network()(images).argmax(dim=1)
    labels[::7] = (labels[::7] + 1) % 3
    return images, labels


def resolved(attack: dict[str, Any], **parts: Any) -> TrialConfig:
    values = {"radius": RADIUS, "step_size": 0.04, "steps": 5, "start": "clean", **attack}
    return TrialConfig.model_validate({"data": {"name": "digits"}, "attack": values, **parts}).resolved()


def found(attack: dict[str, Any], seed: int = 3) -> Tensor:
    images, labels = batch()
    config, model = resolved(attack).attack, network()
    return adversarial(model, cross_entropy, images, labels, config, model, seeded(seed))


def gradient(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(F.cross_entropy(model(leaf), labels, reduction="sum"), leaf)[0]


# FGSM-RS and N-FGSM


def test_fgsm_rs_is_one_step_of_1_25_radii_from_a_uniform_start_clipped_to_the_ball() -> None:
    """As locuslab/fast_adversarial, CIFAR10/train_fgsm.py, has it, delta by delta."""
    images, labels = batch()
    delta = torch.empty_like(images).uniform_(-RADIUS, RADIUS, generator=seeded(3))
    delta = torch.maximum(torch.minimum(delta, 1 - images), -images)
    stepped = (delta + 1.25 * RADIUS * gradient(network(), images + delta, labels).sign()).clamp(-RADIUS, RADIUS)
    expected = images + torch.maximum(torch.minimum(stepped, 1 - images), -images)
    ours = found({"steps": 1, "step_size": 1.25 * RADIUS, "start": "uniform"})
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


def test_n_fgsm_steps_one_radius_from_noise_of_k_radii_and_is_clipped_to_the_box_alone() -> None:
    """As pdejorge/N-FGSM, train.py, has it with --clip -1."""
    images, labels = batch()
    noise = torch.empty_like(images).uniform_(-2 * RADIUS, 2 * RADIUS, generator=seeded(3))
    noise = torch.maximum(torch.minimum(noise, 1 - images), -images)
    stepped = noise + RADIUS * gradient(network(), images + noise, labels).sign()
    expected = images + torch.maximum(torch.minimum(stepped, 1 - images), -images)
    ours = found({"steps": 1, "step_size": RADIUS, "start": "uniform", "start_scale": 2, "project": False})
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)
    assert (ours - images).abs().max() > 2.5 * RADIUS


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_n_fgsm_without_noise_is_fgsm_to_the_bit(norm: Any) -> None:
    (images, labels), model = batch(), network()
    ours = found({"norm": norm, "steps": 1, "step_size": RADIUS, "project": False})
    expected = fgsm(cross_entropy(model, images, labels), images, radius=RADIUS, norm=norm)
    torch.testing.assert_close(ours, expected, rtol=0, atol=0 if norm == "linf" else 1e-7)


def test_without_projection_the_steps_add_up() -> None:
    images, ours = torch.full((1, 1, 2, 2), 0.5), []
    for project in (True, False):
        x = pgd(torch.sum, images, radius=0.1, step_size=0.1, steps=3, start="clean", project=project)
        ours.append((x - images).max().item())
    assert ours == pytest.approx([0.1, 0.3])


# FAT


def early_stopped(tau: int, steps: int) -> Tensor:
    """PGD-K-tau image by image [FAT, Algorithm 1; earlystop.py]."""
    (images, labels), model, made = batch(), network(), []
    for image, label in zip(images.split(1), labels.split(1), strict=True):
        x, left = image, tau
        for _ in range(steps):
            if model(x).argmax() != label:
                if left == 0:
                    break
                left -= 1
            x = (x + 0.04 * gradient(model, x, label).sign()).clamp(image - RADIUS, image + RADIUS).clamp(0, 1)
        made.append(x)
    return torch.cat(made)


@pytest.mark.parametrize("tau", [0, 1, 2])
def test_fat_is_its_algorithm_image_by_image(tau: int) -> None:
    ours, whole = found({"tau": tau}), found({})
    torch.testing.assert_close(ours, early_stopped(tau, 5), rtol=0, atol=1e-6)
    assert 0 < sum(not torch.equal(*pair) for pair in zip(ours, whole, strict=True)) < len(ours)


@pytest.mark.parametrize("tau", [5, 50])
def test_fat_with_as_many_steps_to_spare_as_the_attack_has_is_pgd_to_the_bit(tau: int) -> None:
    assert torch.equal(found({"tau": tau}), found({}))


def test_an_image_that_stopped_stays_though_a_later_pass_is_right() -> None:
    labels, says = torch.tensor([0, 1]), iter([[0, 0], [1, 1], [0, 1]])
    stop = EarlyStop(labels, 0)
    forward = stop.watching(lambda images: F.one_hot(torch.tensor(next(says)), 2).float())
    candidates, going = torch.zeros(2, requires_grad=True), []
    for _ in range(3):
        forward(candidates)
        going.append(stop().flatten().tolist())
    assert going == [[True, False], [False, False], [False, False]]


def test_the_friendly_attack_on_trades_watches_the_attacked_images() -> None:
    (images, labels), model = batch(), network()
    config = resolved({"tau": 0}, objective={"name": "trades"}).attack
    ours = adversarial(model, objectives.divergence, images, labels, config, model, seeded())
    wrong = model(images).argmax(dim=1) != labels
    moved = (ours != images).flatten(1).any(dim=1)
    assert wrong.any()
    assert not moved[wrong].any()


def clean_after(forward: Forward, images: Tensor, labels: Tensor) -> Loss:
    return lambda candidates: cross_entropy(forward, images, labels)(candidates) + 0 * forward(images).sum()


def clean_before_in_one_pass(forward: Forward, images: Tensor, labels: Tensor) -> Loss:
    def loss(candidates: Tensor) -> Tensor:
        logits = forward(torch.cat([images, candidates]))
        return F.cross_entropy(logits[len(images) :], labels, reduction="sum")

    return loss


@pytest.mark.parametrize("inner", [clean_after, clean_before_in_one_pass])
def test_fat_watches_the_attacked_images_though_an_own_inner_passes_the_clean_ones_too(inner: Inner) -> None:
    (images, _), model = batch(), network()
    with torch.no_grad():
        model[3].bias -= model(images).mean(dim=0)  # no class wins everywhere in the ball
    labels, config = model(images).argmax(dim=1), resolved({"tau": 0}).attack
    expected, ours = (
        adversarial(model, each, images, labels, config, model, seeded()) for each in (cross_entropy, inner)
    )
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)


# What rises


def test_radius_and_step_size_rise_linearly_from_0_and_tau_at_its_milestones() -> None:
    attack = AttackConfig(radius=0.2, step_size=0.1, radius_warmup=4, step_size_warmup=2, tau=0, tau_milestones=(2, 3))
    found = [at(attack, progress) for progress in (0.0, 1.0, 2.0, 3.5, 4.0, 9.0)]
    assert [one.radius for one in found] == pytest.approx([0, 0.05, 0.1, 0.175, 0.2, 0.2])
    assert [one.step_size for one in found] == pytest.approx([0, 0.05, 0.1, 0.1, 0.1, 0.1])
    assert [one.tau for one in found] == [0, 0, 1, 2, 2, 2]


@pytest.mark.parametrize("progress", [0.0, 0.5, 100.0])
def test_a_warm_up_of_0_epochs_is_none(progress: float) -> None:
    assert at(AttackConfig(), progress) == Strength.of(AttackConfig())


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_strengths_in_tensors_are_numbers_to_the_bit_but_for_the_uniform_start_in_linf(norm: Any) -> None:
    (images, labels), model = batch(), network()
    for start in ("clean", "normal", "uniform_radius"):
        config = resolved({"norm": norm, "start": start}).attack
        plain, held = (
            adversarial(model, cross_entropy, images, labels, config, model, seeded(), strength=strength)
            for strength in (None, Strength(torch.tensor(RADIUS), torch.tensor(0.04), None))
        )
        near = 1e-6 if norm == "l2" or config.start == "uniform" else 0
        torch.testing.assert_close(held, plain, rtol=0, atol=near)


def trained_in(training: Training, epoch: int) -> list[float]:
    """How far from its image each of an epoch's steps trains, at most."""
    steps: list[float] = []
    find = training.attack.find

    def watched(model: Any, inner: Any, images: Tensor, *rest: Any) -> Tensor:
        x = find(model, inner, images, *rest)
        steps.append((x - images).abs().max().item())
        return x

    training.attack.find = watched  # type: ignore[method-assign]
    training.epoch(epoch)
    training.attack.find = find  # type: ignore[method-assign]
    return steps


def test_the_steps_of_the_first_epochs_train_in_the_part_of_the_ball_that_they_have_come_to() -> None:
    attack = {"radius": 0.2, "step_size": 0.2, "steps": 2, "start": "clean", "radius_warmup": 2}
    training = Training.begin(with_fingerprint(tiny(attack=attack)))
    trained = [trained_in(training, epoch) for epoch in range(3)]
    steps = len(trained[0])
    for epoch in range(3):
        expected = [0.2 * min(1.0, (epoch + step / steps) / 2) for step in range(steps)]
        assert trained[epoch] == pytest.approx(expected, abs=1e-6)


# Free adversarial training


def free(replays: int = 1, norm: str = "linf") -> Carried:
    made = adversary.build(resolved({"replays": replays, "norm": norm}).attack, torch.empty(40, 3, 2, 2))
    assert isinstance(made, Carried)
    return made


def update(model: nn.Module, attack: Carried, images: Tensor, labels: Tensor, **parts: Any) -> None:
    """One update by SGD, lr 0.1."""
    config = resolved({"replays": 1}, **parts)
    slots = Slots(
        attack,
        objectives.build(config.objective, 3),
        weights.build(config.weights, 0),
        torch.optim.SGD(model.parameters(), lr=0.1),
        Engine(CPU),
        batch_norm.build(config),
    )
    training_step(model.train(), slots, images, labels, seeded(), seeded(), Tally.empty(CPU))


def test_free_training_is_its_algorithm_over_batches_and_replays() -> None:
    """[Free, Algorithm 1], as locuslab/fast_adversarial, CIFAR10/train_free.py, has it, but for the clipping."""
    ours, theirs, attack = network(), network(), free()
    delta = torch.zeros(40, 3, 2, 2)
    for images, labels in (batch(1), batch(1), batch(2, size=30), batch(2, size=30), batch(3)):
        update(ours, attack, images, labels)
        n = len(images)
        leaf = (images + delta[:n]).clamp(0, 1).requires_grad_()
        theirs.zero_grad()
        F.cross_entropy(theirs(leaf), labels).backward()
        climbed = (leaf.detach() + 0.04 * leaf.grad.sign() - images).clamp(-RADIUS, RADIUS)
        delta[:n] = torch.maximum(torch.minimum(climbed, 1 - images), -images)
        with torch.no_grad():
            for parameter in theirs.parameters():
                parameter -= 0.1 * parameter.grad
        torch.testing.assert_close(attack.state_dict()["delta"], delta, rtol=0, atol=1e-6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_an_objective_that_does_not_hang_on_the_perturbation_is_refused() -> None:
    (images, labels), model, attack = batch(), network(), free()
    gradient, part = torch.autograd.grad, Part(ALONE, len(images))
    x = attack.find(model, cross_entropy, images, labels, model, seeded(), gradient, part)  # type: ignore[arg-type]
    F.cross_entropy(model(x.detach()), labels).backward()
    with pytest.raises(UserError, match=r"^attack.replays: needs an outer loss that hangs on the adversarial images"):
        attack.updated(images, x, part)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_update_moves_the_perturbation_by_fgsm_from_the_carried_one(norm: Any) -> None:
    (images, labels), model, attack = batch(), network(), free(norm=norm)
    first = fgsm(cross_entropy(model, images, labels), images, radius=0.04, norm=norm)
    update(model, attack, images, labels)
    began = images + attack.state_dict()["delta"]
    torch.testing.assert_close(began, first, rtol=0, atol=1e-6)
    ascent = gradient(model, began, labels)
    update(model, attack, images, labels)
    second = one_step(images, began, ascent, radius=RADIUS, step_size=0.04, norm=norm)
    torch.testing.assert_close(images + attack.state_dict()["delta"], second, rtol=0, atol=1e-6)


def test_with_one_replay_the_weights_of_the_first_batch_are_those_of_natural_training() -> None:
    ours, plain, attack = network(), network(), free()
    images, labels = batch()
    update(ours, attack, images, labels)
    F.cross_entropy(plain(images), labels).backward()
    for one, other in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other - 0.1 * other.grad)


@pytest.mark.parametrize("parts", [{"objective": {"name": "mart"}}, {"weights": {"name": "awp"}}], ids=str)
def test_the_perturbation_climbs_whatever_loss_the_update_descends(parts: dict[str, Any]) -> None:
    (images, labels), model, attack = batch(), network(), free()
    update(model, attack, images, labels, **parts)
    inside = (images > 0.05) & (images < 0.95)
    moved = attack.state_dict()["delta"][inside].abs()
    torch.testing.assert_close(moved, torch.full_like(moved, 0.04), rtol=0, atol=1e-6)


def test_each_batch_is_trained_on_m_times_in_a_row_and_the_rate_falls_from_update_to_update() -> None:
    attack = {"radius": 0.15, "step_size": 0.15, "replays": 3}
    training = Training.begin(with_fingerprint(tiny(attack=attack, schedule={"name": "linear"}, epochs=2)))
    seen: list[tuple[float, float]] = []
    step = training.stepper.step

    def watched(images: Tensor, labels: Tensor, batch: int) -> None:
        seen.append((images.sum().item(), training.optimizer.param_groups[0]["lr"]))
        step(images, labels, batch)

    training.stepper.step = watched  # type: ignore[method-assign]
    training.epoch(0)
    sums, rates = zip(*seen, strict=True)
    assert sums[0::3] == sums[1::3] == sums[2::3]
    assert len(set(sums)) == len(sums) / 3
    assert rates == pytest.approx([0.1 * (1 - n / (2 * len(rates))) for n in range(len(rates))])


def test_what_is_carried_is_in_the_state_and_pgd_carries_nothing() -> None:
    assert PGD(resolved({}).attack, CPU).state_dict() == {}
    attack, other = free(), free()
    update(network(), attack, *batch())
    other.load_state_dict(attack.state_dict())
    assert torch.equal(other.state_dict()["delta"], attack.state_dict()["delta"])
    assert other.state_dict()["delta"].abs().max() > 0


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(adversary).failed == 0
