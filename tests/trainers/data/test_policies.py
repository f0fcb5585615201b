"""Augmentation policies against torchvision's own, image by image."""

from __future__ import annotations

from collections import Counter
from typing import Any, get_args

import pytest
import torch
from small import TINY, tiny
from torchvision.transforms import v2

from trainers.data import batches
from trainers.data.batches import Split
from trainers.data.policies import Draws, Operation, Policy, augmented, drawn
from trainers.identity import identity, trial_id
from trainers.loop import with_fingerprint
from trainers.training import Training

NAMES: tuple[Policy, ...] = get_args(Policy)
TRANSFORMS = {
    "autoaugment": v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10),
    "randaugment": v2.RandAugment(),
    "trivialaugment": v2.TrivialAugmentWide(),
    "augmix": v2.AugMix(),
}
each_policy = pytest.mark.parametrize("policy", NAMES)


def photos(count: int, channels: int = 3, size: int = 12) -> torch.Tensor:
    """(N, C, size, size) uint8: noise, and a few images of one value, which some operations treat apart."""
    images = torch.randint(0, 256, (count, channels, size, size), dtype=torch.uint8)
    images[::7] = images[::7, :, :1, :1]
    return images


def alone(image: torch.Tensor, codes: list[int], operations: tuple[Operation, ...], transform: Any) -> torch.Tensor:
    """One image (C, H, W) through torchvision's own operations."""
    for code in codes:
        if code >= 0:
            image = transform._apply_image_or_video_transform(
                image, *operations[code], interpolation=transform.interpolation, fill=transform._fill
            )
    return image


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", [name for name in NAMES if name != "augmix"])
def test_each_image_is_what_torchvision_makes_of_it_alone(policy: Policy, channels: int) -> None:
    images, transform = photos(120, channels), TRANSFORMS[policy]
    draws = drawn(policy, "cifar10", 120, (12, 12), 0, 0)
    made = augmented(images, draws, policy)
    for image, given, codes in zip(made, images, draws.steps.T.tolist(), strict=True):
        assert torch.equal(image, alone(given, codes, draws.operations, transform))
    assert made.dtype == torch.uint8
    assert (made != images).flatten(1).any(dim=1).float().mean() > 0.5


@pytest.mark.parametrize("channels", [1, 3])
def test_augmix_is_the_weighted_sum_of_the_image_and_its_chains(channels: int) -> None:
    images = photos(60, channels)
    draws = drawn("augmix", "cifar10", 60, (12, 12), 0, 0)
    assert draws.shares is not None
    torch.testing.assert_close(draws.shares.sum(dim=0), torch.ones(60))
    made = augmented(images, draws, "augmix")
    for number, image in enumerate(made):
        codes, shares = draws.steps[:, number].tolist(), draws.shares[:, number]
        chains = [
            alone(images[number], codes[3 * k : 3 * k + 3], draws.operations, TRANSFORMS["augmix"]) for k in range(3)
        ]
        exact = sum(
            share * part.double() for share, part in zip(shares.double(), [images[number], *chains], strict=True)
        )
        # torchvision cuts off, so that a sum of 254.9999999 in float32 may be 255 in float64
        assert ((exact - image).abs() <= 1 + 1e-4).all()
        assert ((exact - image) >= -1e-4).all()


class Recorder:
    """Stands in for an operation of torchvision's: what was asked for, and nothing done."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, float]] = []

    def __call__(self, image: Any, name: str, magnitude: float, interpolation: Any, fill: Any) -> Any:
        self.asked.append((name, round(magnitude, 4)))
        return image


@each_policy
def test_what_images_get_is_distributed_as_torchvision_draws_it(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 3000
    transform, recorder = TRANSFORMS[policy], Recorder()
    monkeypatch.setattr(transform, "_apply_image_or_video_transform", recorder)
    image = torch.zeros(3, 12, 12, dtype=torch.uint8)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs: Counter[Any] = Counter()
        for _ in range(count):
            recorder.asked = []
            transform(image)
            theirs[_kinds(recorder.asked, policy)] += 1
    draws = drawn(policy, "cifar10", count, (12, 12), 0, 0)
    ours: Counter[Any] = Counter()
    for codes in draws.steps.T.tolist():
        asked = [draws.operations[code] for code in codes if code >= 0]
        ours[_kinds([(one.name, round(one.magnitude, 4)) for one in asked], policy)] += 1
    assert set(ours) ^ set(theirs) <= {kind for kind, seen in (ours + theirs).items() if seen < 12}
    # two samples of one distribution: the sum of (a - b)^2 / (a + b) is chi-squared, of mean the number of kinds
    distance = sum((ours[kind] - theirs[kind]) ** 2 / (ours[kind] + theirs[kind]) for kind in ours | theirs)
    kinds = len(ours | theirs)
    assert distance < kinds + 4 * (2 * kinds) ** 0.5


def _kinds(asked: list[tuple[str, float]], policy: Policy) -> Any:
    """What is compared: whole programs, but of AugMix's nearly endless ones the first operation and the length."""
    return (asked[0], len(asked)) if policy == "augmix" else tuple(asked)


def test_augmix_mixes_by_a_beta_and_a_dirichlet() -> None:
    draws = drawn("augmix", "cifar10", 40_000, (12, 12), 0, 0)
    assert draws.shares is not None
    own, chains = draws.shares[0], draws.shares[1:] / (1 - draws.shares[0])
    quantiles = torch.linspace(0.1, 0.9, 9)
    torch.testing.assert_close(own.quantile(quantiles), quantiles, atol=0.01, rtol=0)
    # a part of Dirichlet(1, 1, 1) is Beta(1, 2), whose quantile function is 1 - sqrt(1 - q)
    for part in chains:
        torch.testing.assert_close(part.quantile(quantiles), 1 - (1 - quantiles).sqrt(), atol=0.01, rtol=0)
    assert abs(torch.corrcoef(torch.stack([own, chains[0]]))[0, 1]) < 0.02


@pytest.mark.parametrize(
    ("data", "found_on"),
    [
        ("cifar100", "CIFAR10"),
        ("svhn", "SVHN"),
        ("digits", "SVHN"),
        ("tiny_imagenet", "IMAGENET"),
        ("image_folder", "IMAGENET"),
    ],
)
def test_autoaugment_takes_the_policy_that_was_found_on_such_data(data: str, found_on: str) -> None:
    pairs = v2.AutoAugment(v2.AutoAugmentPolicy[found_on])._policies
    names = {name for pair in pairs for name, *_ in pair}
    assert {one.name for one in drawn("autoaugment", data, 10, (32, 32), 0, 0).operations} == names


@each_policy
def test_neither_images_nor_torchs_own_generator_are_moved_and_a_seed_and_epoch_repeat(policy: Policy) -> None:
    images = photos(30)
    before, state = images.clone(), torch.get_rng_state()
    made = [augmented(images, drawn(policy, "cifar10", 30, (12, 12), 0, epoch), policy) for epoch in (0, 0, 1)]
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


@each_policy
def test_where_chunks_are_cut_changes_nothing(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    split = Split(photos(50), torch.arange(50))
    whole = list(batches.batches(split, 8, augment=True, policy=(policy, "cifar10"), seed=0, epoch=0))
    monkeypatch.setattr(batches, "_AT_ONCE", 1)
    cut = list(batches.batches(split, 8, augment=True, policy=(policy, "cifar10"), seed=0, epoch=0))
    for (images, labels), (others, same) in zip(whole, cut, strict=True):
        assert torch.equal(images, others)
        assert torch.equal(labels, same)


def test_nothing_drawn_leaves_the_images_as_they_are() -> None:
    images = photos(9)
    nothing = Draws(torch.full((3, 9), -1), (Operation("Invert", 0.0),))
    assert torch.equal(augmented(images, nothing, "randaugment"), images)
    assert torch.equal(
        augmented(images, nothing._replace(steps=torch.zeros(1, 9, dtype=torch.long)), "randaugment"), 255 - images
    )


def test_a_policy_of_none_is_the_trial_without_to_the_bit_and_each_policy_another() -> None:
    plain = with_fingerprint(tiny())
    none = with_fingerprint(tiny(data=TINY["data"] | {"policy": "none"}))
    assert identity(none) == identity(plain)
    assert "policy" not in identity(plain)["data"]
    assert Training.begin(none).epoch(0)[:3] == Training.begin(plain).epoch(0)[:3]
    ids = {trial_id(with_fingerprint(tiny(data=TINY["data"] | {"policy": name}))) for name in ("none", *NAMES)}
    assert len(ids) == 1 + len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_trial_trains_with_it_and_its_images_are_still_pixels(name: str) -> None:
    training = Training.begin(with_fingerprint(tiny(data=TINY["data"] | {"policy": name})))
    images = torch.cat([batch for batch, _ in training._batches(0)])
    assert images.min() >= 0
    assert images.max() <= 1
    assert training.epoch(0).loss > 0
