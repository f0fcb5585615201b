from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from trainers.data import batches
from trainers.data.batches import Extra, Split
from trainers.data.cutmix import CutMix
from trainers.data.mapped import Mapped, mapped
from trainers.errors import UserError
from trainers.ladder import bits
from trainers.workers import Workers

N = 50


@pytest.fixture(scope="module")
def there() -> Tensor:
    return torch.randint(0, 256, (N, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def images(there: Tensor, tmp_path: Path) -> Mapped:
    """Those images in two files, 30 and 20."""
    for name, part in (("a", there[:30]), ("b", there[30:])):
        np.save(tmp_path / f"{name}.npy", part.numpy())
    return Mapped([np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "ab"])


def test_indexing_gives_what_indexing_a_tensor_gives(images: Mapped, there: Tensor) -> None:
    order = torch.randperm(N)
    assert images.shape == there.shape
    assert len(images) == N
    for chosen in (
        order,
        order[:0],
        torch.tensor([3, 3, 49]),
        order > 20,
        slice(25, 35),
        slice(None),
        slice(0, 0),
        7,
        -1,
    ):
        assert torch.equal(images[chosen], there[chosen])
    with pytest.raises(IndexError):
        images[N]
    with pytest.raises(IndexError):
        images[torch.tensor([N])]


def test_a_part_is_its_places_and_no_copy(images: Mapped, there: Tensor) -> None:
    order = torch.randperm(N)
    part = images.at(order).at(torch.arange(40))
    assert part.shape == (40, 3, 8, 8)
    assert torch.equal(part[torch.arange(5)], there[order[:5]])
    assert [one.data_ptr() for one in part._arrays] == [one.data_ptr() for one in images._arrays]


def test_images_are_written_to_a_buffer_that_is_there(images: Mapped, there: Tensor, tmp_path: Path) -> None:
    last = mapped(np.load(tmp_path / "b.npy", mmap_mode="r"))
    joined = images.at(torch.arange(20, 50)).followed_by(there[:5])
    for source, wanted in (
        (images, there),
        (Mapped([last]), there[30:]),
        (Mapped([np.load(tmp_path / "a.npy", mmap_mode="r")[5:]]), there[5:30]),
        (joined, torch.cat([there[20:], there[:5]])),
    ):
        buffer = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
        chosen = torch.tensor([9, 2, 19, 0])
        assert source.take(chosen, buffer).data_ptr() == buffer.data_ptr()
        assert torch.equal(buffer, wanted[chosen])


def test_others_in_memory_stand_behind(images: Mapped, there: Tensor) -> None:
    more = there.flip(0)[:10]
    joined = images.at(torch.arange(0, N, 2)).followed_by(more)
    assert torch.equal(joined[:], torch.cat([there[::2], more]))


def test_an_epoch_of_mapped_images_is_that_of_images_in_memory(images: Mapped, there: Tensor) -> None:
    labels, more = torch.arange(N) % 4, there.flip(0)[:20]
    held, far = Split(there, labels), Split(images, labels)
    pools = [Split(torch.cat([there, more]), torch.cat([labels, labels[:20]]))]
    pools.append(Split(images.followed_by(more), pools[0].labels))
    recipes = (
        {"augment": False},
        {"augment": True, "padding": "zero"},
        {"augment": True, "policy": ("trivialaugment", "image_folder"), "mix": CutMix(0.5, None, 4)},
    )
    for recipe in recipes:
        for extra in (None, 0.5):
            both = [
                batches.batches(
                    split, 16, extra=None if extra is None else Extra(pool, extra), seed=1, epoch=2, **recipe
                )
                for split, pool in zip((held, far), pools, strict=True)
            ]
            for one, other in zip(*both, strict=True):
                assert all(map(torch.equal, one, other))
    for one, other in zip(batches.sequential(held, 16), batches.sequential(far, 16), strict=True):
        assert all(map(torch.equal, one, other))


def test_what_is_recorded_of_each_image_is_the_same(images: Mapped, there: Tensor) -> None:
    labels = torch.arange(N) % 4
    assert bits.places(Split(images, labels)).fingerprint == bits.places(Split(there, labels)).fingerprint


def test_a_part_of_a_split_is_the_same_in_memory_and_mapped(images: Mapped, there: Tensor) -> None:
    labels, chosen = torch.arange(N), torch.tensor([4, 40, 8])
    one, other = Split(there, labels).part(chosen), Split(images, labels).part(chosen)
    assert isinstance(other.images, Mapped)
    assert torch.equal(one.pixels(slice(None)), other.pixels(slice(None)))
    assert torch.equal(one.labels, other.labels)


def test_a_file_that_is_cut_off_or_gone_while_it_is_trained_on_is_one_line(images: Mapped, tmp_path: Path) -> None:
    split, second = Split(images, torch.arange(N) % 4), tmp_path / "b.npy"
    content = second.read_bytes()
    second.write_bytes(content[:-100])
    reads = (
        lambda: list(batches.batches(split, 8, augment=True, seed=0, epoch=0)),
        lambda: bits.places(split),  # as the last epoch of a trial does
        lambda: split.pixels(torch.tensor([0, N - 1])),  # as dynamics and `sweep evaluate` do
    )
    for read in reads:
        with pytest.raises(UserError) as caught:
            read()
        assert str(caught.value) == (
            f"data.root: {second}: image 19 must have 192 bytes and has 92: the file was cut off while it was read; "
            "copy it again"
        )
    second.write_bytes(b"")  # a look at the pages that are gone would end the process
    for read in reads:
        with pytest.raises(UserError, match="the file was cut off while it was read"):
            read()
    second.unlink()
    with pytest.raises(UserError) as caught:
        list(batches.sequential(split, 8))
    with pytest.raises(UserError, match=re.escape(str(caught.value))):
        bits.places(split)
    assert str(caught.value) == (
        f"data.root: {second}: images cannot be read (No such file or directory); look at the disk"
    )


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each gather of mapped ones read."""
    counts, take = list[int](), Mapped.take

    def counted(self: Mapped, chosen: Tensor, out: Tensor) -> Tensor:
        counts.append(len(chosen))
        return take(self, chosen, out)

    monkeypatch.setattr(Mapped, "take", counted)
    return counts


@pytest.mark.parametrize("size", [2, 3])
def test_of_several_workers_each_reads_its_part_of_every_batch_alone(
    size: int, images: Mapped, read: list[int]
) -> None:
    split = Split(images, torch.arange(N) % 4)
    for recipe in ({"augment": True}, {"augment": True, "crop_scale": 0.3}):
        whole = list(batches.batches(split, 12, seed=1, epoch=2, **recipe))
        read.clear()
        own = [
            list(batches.batches(split, 12, seed=1, epoch=2, workers=Workers(rank, size), **recipe))
            for rank in range(size)
        ]
        assert sum(read) == N
        for wanted, *parts in zip(whole, *own, strict=True):
            for one, pieces in zip(wanted, zip(*parts, strict=True), strict=True):
                assert torch.equal(torch.cat(pieces), one)


def test_in_an_evaluation_too_but_all_read_a_batch_of_fewer_images_than_workers(
    images: Mapped, read: list[int]
) -> None:
    split = Split(images, torch.arange(N) % 4)
    *whole, last = batches.sequential(split, 12)
    read.clear()
    own = [list(batches.sequential(split, 12, Workers(rank, 3))) for rank in range(3)]
    assert read == 3 * [4, 4, 4, 4, 2]
    for parts in own:
        assert all(map(torch.equal, parts.pop(), last))
    for wanted, *parts in zip(whole, *own, strict=True):
        for one, pieces in zip(wanted, zip(*parts, strict=True), strict=True):
            assert torch.equal(torch.cat(pieces), one)


@pytest.mark.gpu
def test_on_a_card_batches_of_mapped_images_are_those_of_images_that_lie_there(images: Mapped, there: Tensor) -> None:
    labels = (torch.arange(N) % 4).cuda()
    held, far = Split(there.cuda(), labels), Split(images, labels)
    for recipe in ({"augment": True}, {"augment": True, "crop_scale": 0.3}, {"augment": False}):
        both = (list(batches.batches(split, 16, seed=1, epoch=2, **recipe)) for split in (held, far))
        for one, other in zip(*both, strict=True):
            assert all(map(torch.equal, one, other))
