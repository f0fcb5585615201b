"""CutMix against its definition: pixels of two images, labels by their shares."""

from __future__ import annotations

import pytest
import torch
from small import TINY, tiny

from trainers.config import TrialConfig
from trainers.data import batches
from trainers.data.batches import Split
from trainers.data.cutmix import CutMix, mixed, random_windows
from trainers.identity import identity
from trainers.loop import with_fingerprint
from trainers.training import Training

CPU = torch.device("cpu")


def numbered(count: int, height: int = 12, width: int = 10) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of one value each, their number, which is the label too."""
    labels = torch.arange(count)
    return labels[:, None, None, None].expand(-1, 3, height, width).to(torch.float32), labels


@pytest.mark.parametrize("window", [None, 0.6])
def test_labels_are_the_shares_of_the_two_images_pixels(window: float | None) -> None:
    images, labels = numbered(40)
    made, targets = mixed(images, labels, random_windows(40, CPU, 0, 0), CutMix(1.0, window, 40))
    shares = torch.stack([(made == value).flatten(1).float().mean(dim=1) for value in range(40)], dim=1)
    torch.testing.assert_close(targets, shares)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(40))
    assert ((targets > 0).sum(dim=1) <= 2).all()
    assert (targets > 0).any(dim=0).all(), "every image stands in the batch: partners are a permutation"


def test_a_window_is_a_rectangle_at_the_same_place_in_all_channels_and_its_pixels_keep_theirs() -> None:
    images = torch.rand(30, 3, 9, 9)
    made, _ = mixed(images, torch.arange(30), random_windows(30, CPU, 1, 0), CutMix(1.0, 4 / 9, 30))
    for each, own in zip(made, images, strict=True):
        changed = (each != own).any(dim=0)
        assert torch.equal(changed, changed.any(dim=1, keepdim=True) & changed.any(dim=0, keepdim=True))
        others = [other for other in images if torch.equal(each[:, changed], other[:, changed])]
        assert others
        assert (each == own)[:, ~changed].all()


def test_a_fixed_window_is_whole_unless_the_border_cuts_it_and_its_centre_is_everywhere() -> None:
    draws = random_windows(60_000, CPU, 0, 0)
    images = torch.zeros(60_000, 1, 4, 4)
    made, _ = mixed(images, torch.zeros(60_000, dtype=torch.long), draws, CutMix(1.0, 0.5, 2))
    assert torch.equal(made, images)
    _, targets = mixed(images, torch.arange(60_000) % 2, draws, CutMix(1.0, 0.5, 2))
    # a side of 2 reaches 1 pixel before its centre: along an axis of 4 pixels it is 1, 2, 2 or 2 long
    areas = torch.tensor([a * b for a in (1, 2, 2, 2) for b in (1, 2, 2, 2)]) / 16
    taken = targets.min(dim=1).values[targets.min(dim=1).values > 0]
    values, counts = taken.unique(return_counts=True)
    expected, weights = areas.unique(return_counts=True)
    torch.testing.assert_close(values, expected)
    torch.testing.assert_close(counts / counts.sum(), weights / 16, atol=0.01, rtol=0)


def test_a_drawn_windows_square_is_uniform() -> None:
    """On images so large that hardly a window is cut by rounding; the uncut area is the side's square."""
    draws = random_windows(20_000, CPU, 0, 0)
    draws[1:3] = 0.5
    images, labels = torch.zeros(20_000, 1, 64, 64), torch.arange(20_000) % 2
    _, targets = mixed(images, labels, draws, CutMix(1.0, None, 2))
    other = labels[draws[4].argsort()] != labels
    taken = 1 - targets.gather(1, labels[:, None]).squeeze(1)[other]
    quantiles = torch.linspace(0.05, 0.95, 19)
    torch.testing.assert_close(taken.quantile(quantiles), quantiles, atol=0.02, rtol=0)


def test_the_share_is_of_images_and_the_others_stay() -> None:
    images, labels = numbered(4000, 4, 4)
    made, targets = mixed(images, labels, random_windows(4000, CPU, 3, 0), CutMix(0.25, 0.5, 4000))
    same = (made == images).flatten(1).all(dim=1)
    assert abs((~same).float().mean() - 0.25) < 0.03
    assert torch.equal(targets[same].argmax(dim=1), labels[same])
    assert (targets[same].max(dim=1).values == 1).all()


def test_windows_change_neither_order_nor_crops_and_repeat_for_a_seed_and_epoch() -> None:
    split = Split(torch.randint(0, 256, (50, 3, 8, 8), dtype=torch.uint8), torch.arange(50) % 10)
    mix = CutMix(1.0, 0.5, 10)
    plain = list(batches.batches(split, 16, augment=True, seed=0, epoch=0))
    once = list(batches.batches(split, 16, augment=True, mix=mix, seed=0, epoch=0))
    again = list(batches.batches(split, 16, augment=True, mix=mix, seed=0, epoch=0))
    other = list(batches.batches(split, 16, augment=True, mix=mix, seed=0, epoch=1))
    for (images, labels), (made, targets), (made_again, targets_again) in zip(plain, once, again, strict=True):
        assert torch.equal(made, made_again)
        assert torch.equal(targets, targets_again)
        kept = (made == images).all(dim=1)
        assert kept.any(), "what is not window is the image that it was"
        assert (targets.gather(1, labels[:, None]) > 0).all()
    assert not torch.equal(once[0][0], other[0][0])


def cut(**parts: object) -> TrialConfig:
    return with_fingerprint(tiny(data=TINY["data"] | {"cutmix": 1.0, "cutmix_window": 0.5}, **parts))


@pytest.mark.parametrize("objective", ["natural", "pgd_at", "trades"])
def test_windows_without_pixels_train_as_none_do(objective: str) -> None:
    """Probabilities of 0 and 1 are labels: the same losses and, but for rounding, the same weights."""
    config = cut(objective={"name": objective})
    plain = with_fingerprint(tiny(objective={"name": objective}))
    none = config.model_copy(update={"data": config.data.model_copy(update={"cutmix_window": 1e-6})})
    ours, theirs = Training.begin(none), Training.begin(plain)
    for epoch in range(2):
        found, expected = ours.epoch(epoch), theirs.epoch(epoch)
        assert found.accuracy == pytest.approx(expected.accuracy, abs=0.02)
        assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    for one, other in zip(ours.model.state_dict().values(), theirs.model.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_no_share_is_the_trial_without_to_the_bit() -> None:
    none = tiny(data=TINY["data"] | {"cutmix": 0, "cutmix_window": 0.5})
    assert identity(with_fingerprint(none)) == identity(with_fingerprint(tiny()))
    assert "cutmix" not in identity(with_fingerprint(tiny()))["data"]
    ours, theirs = Training.begin(with_fingerprint(none)), Training.begin(with_fingerprint(tiny()))
    assert ours.epoch(0)[:3] == theirs.epoch(0)[:3]


def test_an_image_counts_as_right_at_the_class_of_most_of_its_pixels() -> None:
    training = Training.begin(cut(objective={"name": "natural"}))
    images, targets = next(training._batches(0))
    right = (training.model.train()(images).argmax(dim=1) == targets.argmax(dim=1)).sum()
    training.stepper.tally.clear()
    with training.stepper.epoch(training._method(0), 0, 32):
        training.stepper.step(images, targets)
    assert training.stepper.tally.correct == right


@pytest.mark.parametrize(
    ("parts", "who"),
    [
        ({"objective": {"name": "mart"}}, "MART"),
        ({"objective": {"name": "avmixup"}}, "AVmixup"),
        ({"objective": {"name": "pgd_at", "s2o": {"enabled": True}}}, "S2O"),
        ({"attack": {"tau": 0}}, r"FAT \(attack.tau\)"),
    ],
)
def test_what_is_published_for_one_class_an_image_is_refused(parts: dict[str, object], who: str) -> None:
    with pytest.raises(ValueError, match=f"data.cutmix: gives an image two classes, and {who} is published for one"):
        cut(**parts)


def test_labels_of_windows_are_smoothed_like_others() -> None:
    """Cross-entropy at probabilities, smoothed: 1 - a of them, a spread over the classes."""
    training = Training.begin(cut(objective={"name": "natural", "label_smoothing": 0.2}))
    images, targets = next(training._batches(0))
    assert torch.equal(targets.sum(dim=1).round(decimals=5), torch.ones(len(targets)))
    loss = training._method(0).objective.outer(training.model, images, images, targets, torch.Generator())().loss
    log_p = training.model(images).log_softmax(dim=1)
    torch.testing.assert_close(loss, -((0.8 * targets + 0.02) * log_p).sum(dim=1).mean())
