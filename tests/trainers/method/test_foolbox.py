"""PGD against foolbox's, an independent implementation, on a network trained adversarially on the digits.

Source: Rauber, Zimmermann, Bethge, Brendel, "Foolbox Native", JOSS 2020; version 3.3.4.

Bits. In l_inf both add the same step; they project differently: here clamp(x, x0 - radius, x0 + radius), there
x0 + clip(x - x0, -radius, radius). At the ball's surface both round x0 +- radius once. Inside it foolbox's is x
again if x - x0 is exact, and it is (Sterbenz) where x0 = 0 or x0 / 2 <= x <= 2 x0: always, for digits at 8/255,
whose pixels are 0 or at least 16/255. Elsewhere it is off by two roundings. In l_2 the norms differ: here the
largest entry is divided out first and the norm divides; there its inverse multiplies.
"""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from trainers.config import DataConfig, ModelConfig, OptimizerConfig
from trainers.data import batches, sets
from trainers.method.attacks import Start, pgd
from trainers.method.optimizers import build
from trainers.models import registry

foolbox = pytest.importorskip("foolbox", reason="foolbox is not installed: pip install foolbox")

Norm = Literal["linf", "l2"]
STARTS = 30  # random starts of each side
ROUNDINGS = 5 * 2**-24  # spacings of fp32 below 1
BALLS: list[tuple[Norm, float, float]] = [("linf", 0.15, 0.03), ("l2", 0.6, 0.2)]  # radius and step size, pixel units


class Trained(NamedTuple):
    """A network in eval mode, and the 360 test images (B, 1, 8, 8) with their labels (B,)."""

    model: nn.Module
    images: Tensor
    labels: Tensor

    def loss(self, images: Tensor) -> Tensor:
        return cross_entropy(self.model(images), self.labels, reduction="sum")

    def accuracy(self, images: Tensor) -> float:
        return (self.model(images).argmax(1) == self.labels).double().mean().item()


@pytest.fixture(scope="module")
def trained() -> Trained:
    """PGD-3 adversarial training at radius 0.1, five epochs."""
    digits = sets.load(DataConfig(name="digits"), "cpu")
    shape = {"num_classes": 10, "channels": 1, "image_size": 8, "mean": digits.mean, "std": digits.std}
    model = registry.build(ModelConfig(name="small_cnn"), **shape, seed=0)
    config = OptimizerConfig(lr=0.1, momentum=0.9, decoupled_weight_decay=False)
    optimizer, generator = build(config, model.parameters()), torch.Generator().manual_seed(0)
    for epoch in range(5):
        for images, labels in batches.batches(digits.train, 128, augment=False, seed=0, epoch=epoch):
            now = Trained(model.eval(), images, labels)
            x_adv = pgd(now.loss, images, radius=0.1, step_size=0.05, steps=3, generator=generator)
            model.train()
            optimizer.zero_grad()
            cross_entropy(model(x_adv), labels).backward()
            optimizer.step()
    model.eval().requires_grad_(False)
    return Trained(model, *next(batches.sequential(digits.test, 360)))


def theirs(
    trained: Trained, norm: Norm, start: Tensor | Literal["clean", "uniform"], scale: float = 1.0, **attack: Any
) -> Tensor:
    """Foolbox's PGD on `scale` times the loss; `attack` is radius, step_size and steps."""
    kind = foolbox.attacks.LinfPGD if norm == "linf" else foolbox.attacks.L2PGD

    class PGD(kind):
        def get_random_start(self, x0: Any, epsilon: float) -> Any:
            return type(x0)(start) if isinstance(start, Tensor) else super().get_random_start(x0, epsilon)

        def get_loss_fn(self, model: Any, labels: Any) -> Any:
            loss = super().get_loss_fn(model, labels)
            return loss if scale == 1 else lambda inputs: scale * loss(inputs)

    model = foolbox.PyTorchModel(trained.model, bounds=(0, 1), device="cpu")
    pgd = PGD(
        abs_stepsize=attack["step_size"],
        steps=attack["steps"],
        random_start=isinstance(start, Tensor) or start == "uniform",
    )
    adversarial: Tensor = pgd(model, trained.images, trained.labels, epsilons=attack["radius"])[0]
    return adversarial


def ours(trained: Trained, norm: Norm, **attack: Any) -> list[Tensor]:
    """The points of our PGD, from its start to its result."""
    points: list[Tensor] = []

    def loss(images: Tensor) -> Tensor:
        points.append(images.detach().clone())
        return trained.loss(images)

    last = pgd(loss, trained.images, norm=norm, **attack)
    return [*points, last]


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_the_network_is_trained_and_the_attack_lowers_its_accuracy(trained: Trained) -> None:
    attacked = ours(trained, "linf", radius=0.1, step_size=0.03, steps=10, start="clean")[-1]
    clean, robust = trained.accuracy(trained.images), trained.accuracy(attacked)
    assert clean > 0.9
    assert 0.6 < robust < clean - 0.05


# The same points


AT_8 = {"radius": 8 / 255, "step_size": 2 / 255, "steps": 10}


def test_linf_from_the_clean_images_is_foolboxs_to_the_bit(trained: Trained) -> None:
    result = ours(trained, "linf", start="clean", **AT_8)[-1]
    assert torch.equal(result, theirs(trained, "linf", "clean", **AT_8))
    assert not torch.equal(result, trained.images)


@pytest.mark.parametrize("start", ["uniform", "normal"])
def test_linf_from_a_common_random_start_is_foolboxs_to_the_bit(trained: Trained, start: Start) -> None:
    first, *_, last = ours(trained, "linf", start=start, generator=seeded(1), **AT_8)
    assert not torch.equal(first, trained.images)
    assert torch.equal(last, theirs(trained, "linf", first, **AT_8))


def test_a_linf_step_differs_only_where_foolboxs_subtraction_rounds_and_by_two_roundings(trained: Trained) -> None:
    """Radius 0.3 is over most pixels. A difference from x0 under 1/2 is rounded by at most 2^-26, the sum as well."""
    ball = {"radius": 0.3, "step_size": 0.05}
    points = ours(trained, "linf", steps=10, generator=seeded(1), **ball)
    clean = trained.images
    inexact = [(clean > 0) & ((point < clean / 2) | (point > 2 * clean)) for point in points[1:]]
    stepped = [theirs(trained, "linf", point, steps=1, **ball) for point in points[:-1]]
    differing = [point != step for point, step in zip(points[1:], stepped, strict=True)]
    assert any(step.any() for step in differing)
    for point, step, where, rounded in zip(points[1:], stepped, differing, inexact, strict=True):
        assert not (where & ~rounded).any()
        assert (point - step).abs().max() <= 2**-25


@pytest.mark.parametrize(("radius", "step_size"), [(0.3, 0.1), (0.6, 0.2), (1.0, 0.2)])
def test_an_l2_step_is_foolboxs_to_a_few_roundings(trained: Trained, radius: float, step_size: float) -> None:
    """Both norms, of 64 squares each, are a few roundings off: 3 spacings measured over 30 starts of 10 steps."""
    ball = {"radius": radius, "step_size": step_size}
    points = ours(trained, "l2", steps=10, generator=seeded(1), **ball)
    for point, after in pairwise(points):
        torch.testing.assert_close(after, theirs(trained, "l2", point, steps=1, **ball), rtol=0, atol=ROUNDINGS)


@pytest.mark.parametrize("start", ["clean", "uniform", "normal"])
def test_l2_in_fp64_is_foolboxs_to_rounding_over_ten_steps(trained: Trained, start: Start) -> None:
    """Measured: 6e-15 over ten starts. In fp32 it is 2e-4, which comes in jumps: a rounding may put an activation
    on the other side of its ReLU's kink, and turn the gradient.
    """
    double = Trained(deepcopy(trained.model).double(), trained.images.double(), trained.labels)
    ball = {"radius": 0.6, "step_size": 0.2, "steps": 10}
    first, *_, last = ours(double, "l2", start=start, generator=seeded(1), **ball)
    torch.testing.assert_close(last, theirs(double, "l2", first, **ball), rtol=0, atol=1e-12)


def test_l2_steps_of_a_tiny_gradient_are_whole_here_and_shortened_in_foolbox(trained: Trained) -> None:
    """Foolbox divides by no less than 1e-12: where the network is confident enough, its images stand still."""
    tiny = {"radius": 0.6, "step_size": 0.2, "steps": 1, "start": "clean"}
    whole = pgd(trained.loss, trained.images, norm="l2", **tiny)
    scaled = pgd(lambda images: 1e-20 * trained.loss(images), trained.images, norm="l2", **tiny)
    torch.testing.assert_close(scaled, whole, rtol=0, atol=ROUNDINGS)
    shortened = theirs(trained, "l2", "clean", scale=1e-20, radius=0.6, step_size=0.2, steps=1)
    assert (shortened - trained.images).abs().max() < 1e-6


# The same robust accuracy


def accuracies(trained: Trained, norm: Norm, **attack: Any) -> list[float]:
    """Ours, from each of `STARTS` random starts."""
    return [
        trained.accuracy(pgd(trained.loss, trained.images, norm=norm, generator=seeded(seed), **attack))
        for seed in range(STARTS)
    ]


def foolbox_accuracies(trained: Trained, norm: Norm, **attack: Any) -> list[float]:
    """Foolbox's, from each of `STARTS` random starts."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [trained.accuracy(theirs(trained, norm, "uniform", **attack)) for _ in range(STARTS)]


@pytest.mark.slow
@pytest.mark.parametrize(("norm", "radius", "step_size"), BALLS)
def test_mean_robust_accuracy_is_foolboxs_within_the_interval_of_the_starts(
    trained: Trained, norm: Norm, radius: float, step_size: float
) -> None:
    """Welch's 99.9 % interval of the difference: were both the same, one choice of seeds in 1,000 would fail.

    Its half-width is under one point, and it tells a radius 10 % larger apart: what passes is no blunt test.
    """
    ball = {"radius": radius, "step_size": step_size, "steps": 5}
    here, there = accuracies(trained, norm, **ball), foolbox_accuracies(trained, norm, **ball)
    low, high = difference(here, there)
    assert low <= 0 <= high
    assert high - low < 0.02
    larger = foolbox_accuracies(trained, norm, **ball | {"radius": 1.1 * radius})
    assert difference(here, larger)[0] > 0


def difference(left: list[float], right: list[float]) -> tuple[float, float]:
    """Of the means, left minus right: Welch's 99.9 % interval."""
    interval = stats.ttest_ind(left, right, equal_var=False).confidence_interval(0.999)
    return float(interval.low), float(interval.high)
