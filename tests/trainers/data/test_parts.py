"""The parts that several workers take of each batch: put together they are the batch, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from trainers.data import batches
from trainers.data.batches import Extra, Split, cropped
from trainers.data.cutmix import CutMix
from trainers.workers import Workers

DRAWN = torch.Generator().manual_seed(0)
SPLIT = Split(torch.randint(256, (50, 3, 8, 8), generator=DRAWN, dtype=torch.uint8), torch.arange(50))
POOL = Split(torch.cat([SPLIT.images, SPLIT.images.flip(3)]), torch.arange(100) % 50)
WAYS: dict[str, dict[str, Any]] = {
    "plain": {"augment": False},
    "cropped": {"augment": True, "padding": "zero"},
    "a policy": {"augment": True, "policy": ("trivialaugment", "cifar10")},
    "extra": {"augment": True, "extra": Extra(POOL, 0.3)},
    "cutmix": {"augment": True, "mix": CutMix(0.7, None, 50)},
    "all": {"augment": True, "policy": ("augmix", "cifar10"), "extra": Extra(POOL, 0.3), "mix": CutMix(0.7, 0.5, 50)},
}


@pytest.mark.parametrize("at_once", [2**25, 1])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("way", WAYS)
def test_parts_of_batches_put_together_are_the_batches(
    way: str, size: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_AT_ONCE", at_once)
    whole = list(batches.batches(SPLIT, 16, **WAYS[way], seed=0, epoch=1))
    parts = [
        list(batches.batches(SPLIT, 16, **WAYS[way], seed=0, epoch=1, workers=Workers(rank, size)))
        for rank in range(size)
    ]
    assert [len(labels) for _, labels in whole] == [16, 16, 16, 2]
    for batch, *shares in zip(whole, *parts, strict=True):
        for one, others in zip(batch, zip(*shares, strict=True), strict=True):
            assert torch.equal(torch.cat(others), one)


def test_a_worker_crops_its_own_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counted(images: Tensor, *how: Any) -> Tensor:
        made.append(len(images))
        return cropped(images, *how)

    monkeypatch.setattr(batches, "cropped", counted)
    own = list(batches.batches(SPLIT, 16, augment=True, seed=0, epoch=0, workers=Workers(1, 2)))
    assert sum(made) == sum(len(labels) for _, labels in own) == 25
