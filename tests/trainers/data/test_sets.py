from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from trainers.config import DataConfig
from trainers.data import batches, moments, own_set, sets, sources
from trainers.data.batches import Extra, Split
from trainers.data.cutmix import CutMix
from trainers.errors import UserError
from trainers.randomness import generator
from trainers.seeds import stable_seed

CPU = torch.device("cpu")
DIGITS = DataConfig(name="digits", validation_fraction=0.1)


def numbered(count: int, channels: int = 1, height: int = 6, width: int = 6) -> Split:
    """Images of one grey value each, their number; the label is the number too."""
    values = torch.arange(count, dtype=torch.uint8)[:, None, None, None]
    return Split(values.expand(-1, channels, height, width).contiguous(), torch.arange(count))


def labels_in_order(split: Split, batch_size: int, **which: int) -> list[int]:
    drawn = [labels for _, labels in batches.batches(split, batch_size, augment=False, **which)]
    return torch.cat(drawn).tolist()


# Randomness


def test_a_seed_is_the_same_in_every_process_and_version() -> None:
    assert stable_seed(0, 0, "order") == 1032940369555473002


def test_a_generator_repeats_its_numbers_for_one_key_and_changes_them_for_any_other() -> None:
    keys = [(0, 0, "order"), (1, 0, "order"), (0, 1, "order"), (0, 0, "augmentation"), (0, 10, "order")]
    first = [torch.randint(2**60, (1,), generator=generator(CPU, *key)).item() for key in keys]
    again = [torch.randint(2**60, (1,), generator=generator(CPU, *key)).item() for key in keys]
    assert first == again
    assert len(set(first)) == len(keys)


# Order and batches


def test_one_seed_and_epoch_give_one_order_and_others_another() -> None:
    split = numbered(50)
    order = labels_in_order(split, 8, seed=0, epoch=0)
    assert labels_in_order(split, 8, seed=0, epoch=0) == order
    assert labels_in_order(split, 16, seed=0, epoch=0) == order
    assert labels_in_order(split, 8, seed=1, epoch=0) != order
    assert labels_in_order(split, 8, seed=0, epoch=1) != order


def test_an_epoch_draws_every_image_once_with_its_own_label() -> None:
    split = numbered(50)
    drawn = list(batches.batches(split, 8, augment=True, seed=0, epoch=0))
    labels = torch.cat([labels for _, labels in drawn])
    images = torch.cat([images for images, _ in drawn])
    assert sorted(labels.tolist()) == list(range(50))
    torch.testing.assert_close(images, (labels / 255)[:, None, None, None].expand_as(images))


@pytest.mark.parametrize("augment", [False, True])
def test_the_last_short_batch_is_kept(augment: bool) -> None:
    drawn = batches.batches(numbered(50), 16, augment=augment, seed=0, epoch=0)
    assert [len(labels) for _, labels in drawn] == [16, 16, 16, 2]
    assert [len(labels) for _, labels in batches.sequential(numbered(50), 16)] == [16, 16, 16, 2]


def test_batches_are_float32_between_0_and_1_and_leave_the_data_as_they_are() -> None:
    split = Split(torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1), torch.arange(3))
    (images, labels), *_ = batches.sequential(split, 3)
    assert images.dtype == torch.float32
    assert labels.dtype == torch.int64
    torch.testing.assert_close(images.flatten(), torch.tensor([0, 0.2, 1]))
    images.zero_()
    assert split.images.flatten().tolist() == [0, 51, 255]


def test_sequential_batches_are_the_split_in_its_own_order() -> None:
    images = torch.cat([images for images, _ in batches.sequential(numbered(10), 4)])
    assert (images[:, 0, 0, 0] * 255).round().tolist() == list(range(10))


# Augmentation


@pytest.mark.parametrize(
    ("padding", "channels", "height", "width"),
    [
        *((padding, *shape) for padding in ("reflect", "zero") for shape in ((3, 32, 32), (1, 8, 8), (3, 5, 9))),
        ("zero", 1, 3, 4),
    ],
)
def test_crops_equal_torchs_pad_a_slice_and_a_flip(padding: Any, channels: int, height: int, width: int) -> None:
    source = generator(CPU, "test")
    images = torch.randint(0, 256, (20, channels, height, width), generator=source, dtype=torch.uint8)
    chosen = torch.randperm(20, generator=source)[:15]
    crops = batches.random_crops(15, CPU, seed=3, epoch=4)
    for place, result in enumerate(batches.cropped(images[chosen], crops, padding)):
        top, left, flip = crops[:, place].tolist()
        mode = "reflect" if padding == "reflect" else "constant"
        padded = F.pad(images[chosen[place]].float(), (4, 4, 4, 4), mode=mode)
        expected = padded[:, top : top + height, left : left + width]
        assert torch.equal(result, (expected.flip(2) if flip else expected).to(torch.uint8))


def test_every_offset_and_flip_is_drawn_equally_often() -> None:
    count = 16200  # 100 of each of the 9 * 9 * 2
    top, left, flip = batches.random_crops(count, CPU, seed=0, epoch=0)
    drawn = torch.bincount((top * 9 + left) * 2 + flip, minlength=162).double()
    chi_squared = ((drawn - 100) ** 2 / 100).sum().item()
    assert 100 < chi_squared < 240  # 161 degrees of freedom: mean 161, standard deviation 18


def test_augmentation_repeats_for_one_seed_and_epoch_and_leaves_the_order_alone() -> None:
    split = sets.load(DIGITS, CPU).train
    one, two = (list(batches.batches(split, 64, augment=True, seed=0, epoch=1)) for _ in range(2))
    plain = list(batches.batches(split, 64, augment=False, seed=0, epoch=1))
    assert all(torch.equal(a[0], b[0]) for a, b in zip(one, two, strict=True))
    assert all(torch.equal(a[1], b[1]) for a, b in zip(one, plain, strict=True))
    assert not torch.equal(one[0][0], plain[0][0])


@pytest.mark.gpu
@pytest.mark.parametrize("mixed", [False, True])
def test_no_batch_waits_for_the_gpu(mixed: bool) -> None:
    split = Split(*(tensor.cuda() for tensor in numbered(100, 3, 32, 32)))
    extra = Extra(Split(split.images.repeat(2, 1, 1, 1), split.labels.repeat(2)), 0.5)
    how: dict[str, Any] = {"mix": CutMix(0.5, None, 100), "extra": extra} if mixed else {}
    epoch = batches.batches(split, 16, augment=True, seed=0, epoch=0, **how)
    next(epoch)
    torch.cuda.set_sync_debug_mode("error")
    try:
        images = sum(len(labels) for _, labels in epoch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert images == 100 - 16


def test_one_class_is_nothing_to_learn(tmp_path: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(tmp_path / split / "a" / "0.png")
    with pytest.raises(UserError) as error:
        sets.load(DataConfig(name="image_folder", root=str(tmp_path)), CPU)
    assert str(error.value) == f"data.root: {tmp_path} must hold at least 2 classes, got 1 (a); add one"


def test_images_smaller_than_the_padding_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    for place in ("train/a", "train/b", "test/a", "test/b"):
        (tmp_path / place).mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / place / "0.png")
    config = DataConfig(name="image_folder", root=str(tmp_path), validation_fraction=0)
    with pytest.raises(UserError) as error:
        sets.load(config, CPU)
    assert str(error.value) == (
        "data.augment: a 4-pixel reflect pad needs images over 4 x 4 pixels, got 4 x 4; set data.augment: false, "
        "or data.padding: zero"
    )
    assert sets.load(config.model_copy(update={"augment": False}), CPU).image_size == (4, 4)


# Validation split and selection


def test_validation_and_training_images_are_disjoint_and_together_all() -> None:
    whole = sets.load(DIGITS.model_copy(update={"validation_fraction": 0.0}), CPU)
    parts = sets.load(DIGITS, CPU)
    assert (len(whole.val.labels), len(parts.val.labels)) == (0, 144)
    together = torch.cat([parts.train.images, parts.val.images]).flatten(1).tolist()
    assert sorted(together) == sorted(whole.train.images.flatten(1).tolist())


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ((5000, 5000), 0.02, [100, 100]),
        ((30, 10), 0.1, [3, 1]),
        ((15, 15, 10), 0.1, [2, 1, 1]),
        ((3, 3), 0.01, [1, 0]),
    ],
    ids=["equal", "unequal", "rounded to the total", "never none"],
)
def test_each_class_gives_its_share_to_the_validation_set(
    counts: tuple[int, ...], fraction: float, expected: list[int]
) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    assert np.bincount(labels[sources.validation_mask(labels, fraction)], minlength=len(counts)).tolist() == expected


def test_the_validation_images_are_the_same_on_every_machine() -> None:
    mask = sources.validation_mask(np.repeat(np.arange(3), 20), 0.1)
    assert np.flatnonzero(mask).tolist() == [6, 12, 36, 39, 48, 52]


def test_a_class_that_gives_more_images_gives_those_and_more_and_may_give_one_less_to_a_larger_fraction() -> None:
    labels, less = np.repeat(np.arange(3), (60, 60, 20)), 0
    masks = [sources.validation_mask(labels, total / 140) for total in range(1, 60)]
    for small, large in pairwise(masks):
        for label in range(3):
            one, other = small[labels == label], large[labels == label]
            assert other.sum() >= one.sum() - 1
            assert (one <= other).all() or (other <= one).all()
            less += other.sum() < one.sum()
    assert less


def test_holding_out_everything_is_refused() -> None:
    with pytest.raises(UserError) as error:
        sources.validation_mask(np.zeros(10, np.int64), 0.99)
    assert str(error.value) == (
        "data.validation_fraction: 0.99 of 10 training images leaves none to train on; hold out less"
    )


def test_the_first_images_of_each_class_are_taken_before_the_validation_split() -> None:
    whole = sets.load(DIGITS.model_copy(update={"validation_fraction": 0.0}), CPU)
    few = sets.load(DIGITS.model_copy(update={"train_per_class": 20, "test_per_class": 5}), CPU)
    assert few.train.labels.bincount().tolist() == [18] * 10
    assert few.val.labels.bincount().tolist() == [2] * 10
    assert few.test.labels.bincount().tolist() == [5] * 10
    first = torch.cat([(whole.train.labels == digit).nonzero()[:20, 0] for digit in range(10)])
    taken = torch.cat([few.train.images, few.val.images]).flatten(1).tolist()
    assert sorted(taken) == sorted(whole.train.images[first].flatten(1).tolist())


def test_asking_for_more_images_than_there_are_says_how_many_there_are() -> None:
    with pytest.raises(UserError) as error:
        sets.load(DIGITS.model_copy(update={"test_per_class": 100}), CPU)
    assert str(error.value) == (
        "data.test_per_class: 100 asked for, but class '8' has only 33 test images; ask for at most 33"
    )


# Loading


def test_digits_are_1437_training_and_360_test_images_with_all_17_levels() -> None:
    digits = sets.load(DIGITS, CPU)
    assert len(digits.train.labels) + len(digits.val.labels) == 1437
    assert digits.test.images.shape == (360, 1, 8, 8)
    assert digits.test.images.unique().tolist() == np.rint(np.arange(17) * 255 / 16).tolist()
    assert (digits.num_classes, digits.channels, digits.image_size) == (10, 1, (8, 8))
    assert digits.fingerprint == sources.fingerprint(DIGITS) == "digits-0b7e9c3202d7bcd2"


def test_measured_mean_and_std_are_those_of_the_training_images_before_the_split() -> None:
    digits = sets.load(DIGITS, CPU)
    pixels = torch.cat([digits.train.images, digits.val.images]).double() / 255
    assert digits.mean == pytest.approx([pixels.mean().item()])
    assert digits.std == pytest.approx([pixels.std(correction=0).item()])
    assert sets.load(DIGITS.model_copy(update={"validation_fraction": 0.3}), CPU).mean == digits.mean


def test_a_channel_of_one_value_has_a_std_that_can_be_divided_by() -> None:
    images = np.zeros((2, 2, 4, 4), np.uint8)
    images[1, 1] = 255
    mean, std = moments.of_images(images, np.arange(len(images)))
    assert mean == (0, 0.5)
    assert std == (1 / 255, 0.5)


def test_shapes_are_those_of_what_load_gives_and_the_source_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    configs = [
        DIGITS.model_copy(update={"validation_fraction": fraction, "train_per_class": count})
        for fraction in (0.0, 0.1, 0.3)
        for count in (None, 7)
    ]
    loaded = {config: sets.load(config, CPU) for config in configs}
    reads: list[str] = []
    digits = sources.archives.digits
    monkeypatch.setattr(sources.archives, "digits", lambda: (reads.append("digits"), digits())[1])
    found = sources.shapes(configs)
    for config, one in loaded.items():
        sizes = [len(split.labels) for split in (one.train, one.val, one.test)]
        assert found[config] == sources.Shape(*sizes, one.num_classes, one.channels, *one.image_size)
        assert found[config].pixels == one.train.images[0].numel()
    assert reads == ["digits"]


@pytest.mark.parametrize(
    "wrong", [{"train_per_class": 10_000}, {"test_per_class": 10_000}, {"fingerprint": "digits-0"},
              {"validation_fraction": 0.9999}]
)  # fmt: skip
def test_shapes_refuse_what_load_refuses_in_the_same_words(wrong: dict[str, Any]) -> None:
    config = DIGITS.model_copy(update=wrong)
    with pytest.raises(UserError) as loading:
        sets.load(config, CPU)
    with pytest.raises(UserError) as looking:
        sources.shapes([DIGITS, config])
    assert str(looking.value) == str(loading.value)


def test_the_last_data_set_stays_in_memory_until_another_is_loaded() -> None:
    first = sets.load(DIGITS, CPU)
    assert sets.load(DIGITS.model_copy(update={"download": True}), "cpu") is first
    sets.load(DIGITS.model_copy(update={"test_per_class": 3}), CPU)
    assert sets.load(DIGITS, CPU) is not first


def test_other_data_than_the_fingerprints_are_refused(tmp_path: Path) -> None:
    here = DIGITS.model_copy(update={"root": str(tmp_path)})
    sets.load(here, CPU)  # what lies in memory is asked for its fingerprint too
    with pytest.raises(UserError) as error:
        sets.load(here.model_copy(update={"fingerprint": "digits-0000"}), CPU)
    assert str(error.value) == (
        f"data.fingerprint: the data in {tmp_path} are digits-0b7e9c3202d7bcd2, not digits-0000; "
        "point data.root at those, or leave data.fingerprint out"
    )


# A user's own


def own(given: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The source of data that a user's own code gives so."""
    monkeypatch.setattr("trainers.own.options.call", lambda *_: given)
    return own_set.read(DataConfig(name="./mine.py:mine"), Path())


@pytest.mark.parametrize(
    ("shape", "taken"),
    [((32, 32, 4), (4, 32, 32)), ((4, 32, 32), (4, 32, 32)), ((4, 32, 24), (4, 32, 24)), ((12, 8, 8), (12, 8, 8)),
     ((32, 24, 3), (3, 32, 24)), ((3, 8, 3), (3, 8, 3)), ((8, 8, 8), (8, 8, 8))],
)  # fmt: skip
def test_where_channels_stand_is_told_by_their_number_or_by_the_square_beside_them(
    shape: tuple[int, ...], taken: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    images, labels = np.zeros((2, *shape), np.uint8), np.arange(2)
    assert own((images, labels, images, labels), monkeypatch).train_images.shape[1:] == taken


def test_images_whose_channels_may_stand_in_either_place_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = np.zeros((2, 32, 24, 4), np.uint8), np.arange(2)
    with pytest.raises(UserError) as caught:
        own((images, labels, images, labels), monkeypatch)
    assert str(caught.value) == (
        "data.name: ./mine.py:mine: images must be (N, C, H, W) or (N, H, W, C), and (32, 24, 4) may be either; give "
        "(C, H, W) with H = W, or with no more channels than columns"
    )


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_images_of_pil_are_grey_or_rgb_whatever_their_mode(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    image = Image.new("RGB", (6, 5), (255, 0, 0)).convert(mode)
    half = [(image, 0), (image, 1)]
    pixels = own((half, half), monkeypatch).train_images[0]
    assert pixels.shape == (1 if mode in ("1", "L", "LA") else 3, 5, 6)
    if len(pixels) == 3:
        assert pixels[:, 0, 0].tolist() == [255, 0, 0]


def test_labels_of_a_dataset_are_whole_numbers_as_those_of_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    half = [(np.zeros((5, 6), np.uint8), 0.7 * label) for label in range(4)]
    with pytest.raises(UserError, match=r"labels must be whole numbers \(N,\), got float64 \(4,\)$"):
        own((half, half), monkeypatch)
    same = [(image, torch.tensor(float(number))) for number, (image, _) in enumerate(half)]
    assert own((same, same), monkeypatch).train_labels.tolist() == [0, 1, 2, 3]
