"""Random resized crops: closed forms, torchvision's results box by box, and the draws' distribution."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from scipy import stats
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from trainers.config import DataConfig
from trainers.data import batches, sets, sources
from trainers.data.resized import RATIO, random_boxes, resized
from trainers.errors import UserError

CPU = torch.device("cpu")


def noise(count: int, *size: int) -> torch.Tensor:
    return torch.randint(256, (count, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def boxes(*rows: tuple[int, ...]) -> torch.Tensor:
    """(5, B) of (top, left, height, width, flip)."""
    return torch.tensor(rows).T


def test_the_whole_image_at_its_own_size_is_the_image_and_flipped_its_mirror_image() -> None:
    images = noise(2, 9, 7)
    made = resized(images, boxes((0, 0, 9, 7, 0), (0, 0, 9, 7, 1)), (9, 7))
    assert torch.equal(made[0], images[0])
    assert torch.equal(made[1], images[1].flip(-1))


def test_a_crop_of_the_size_that_is_wanted_is_cut_out() -> None:
    images = noise(1, 9, 7)
    assert torch.equal(resized(images, boxes((2, 1, 5, 4, 0)), (5, 4))[0], images[0, :, 2:7, 1:5])


def test_a_plain_image_stays_plain_whatever_its_crop() -> None:
    images = torch.full((30, 3, 11, 13), 77, dtype=torch.uint8)
    drawn = random_boxes(30, (11, 13), 0.08, CPU, seed=0, epoch=0)
    assert (resized(images, drawn, (6, 17)) == 77).all()


def test_an_image_of_half_the_size_has_the_triangles_weights() -> None:
    row = torch.tensor([0, 80, 160, 240], dtype=torch.uint8).expand(1, 1, 4, 4)
    (left, right), *_ = resized(row, boxes((0, 0, 4, 4, 0)), (2, 2))[0, 0].tolist()
    # weights 3/4, 3/4, 1/4 of the three nearest pixels over their sum
    assert left == round((0 * 3 + 80 * 3 + 160 * 1) / 7)
    assert right == round((80 * 1 + 160 * 3 + 240 * 3) / 7)


@pytest.mark.parametrize("size", [(24, 24), (8, 20), (70, 50)])
def test_it_is_torchvisions_resized_crop_box_by_box_to_one_level(size: tuple[int, int]) -> None:
    images = noise(40, 48, 40)
    drawn = random_boxes(40, (48, 40), 0.08, CPU, seed=1, epoch=2)
    made = resized(images, drawn, size).int()
    for image, result, (top, left, height, width, flip) in zip(images, made, drawn.T.tolist(), strict=True):
        exact = functional.resized_crop(image.float(), top, left, height, width, list(size), antialias=True)
        whole = functional.resized_crop(image, top, left, height, width, list(size), antialias=True)
        exact, whole = (each.flip(-1) if flip else each for each in (exact, whole))
        assert (result - exact.clamp(0, 255)).abs().max() < 0.501
        assert (result - whole.int()).abs().max() <= 1


def test_areas_and_ratios_are_distributed_as_torchvisions() -> None:
    count, size = 4000, (512, 512)
    _, _, height, width, flip = random_boxes(count, size, 0.08, CPU, seed=0, epoch=0).double()
    theirs = v2.RandomResizedCrop(64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [theirs.make_params([torch.empty(3, *size)]) for _ in range(count)]
    for own, of in ((height * width, lambda one: one["height"] * one["width"]), (width / height, _ratio)):
        assert stats.ks_2samp(own.numpy(), [of(one) for one in drawn]).pvalue > 0.01
    assert abs(flip.mean() - 0.5) < 4 * math.sqrt(0.25 / count)


def _ratio(one: dict[str, int]) -> float:
    return one["width"] / one["height"]


def test_places_are_uniform_where_a_crop_fits() -> None:
    top, left, height, width, _ = random_boxes(4000, (64, 64), 0.25, CPU, seed=0, epoch=0)
    for start, length in ((top, height), (left, width)):
        assert (start >= 0).all()
        assert (start + length <= 64).all()
        free = 64 - length
        some = free >= 8
        share = (start[some] + 0.5) / (free[some] + 1)
        assert stats.kstest(share.numpy(), "uniform").pvalue > 0.01


def test_the_least_area_is_the_scale_and_at_1_the_whole_of_a_square_or_the_middle_of_a_strip() -> None:
    _, _, height, width, _ = random_boxes(2000, (100, 100), 0.25, CPU, seed=0, epoch=0).double()
    assert 0.24 < (height * width / 100**2).min() < 0.27
    assert (width / height).max() <= RATIO * 1.05
    for size, middle in (((10, 40), [0, 13, 10, 13]), ((40, 10), [13, 0, 13, 10])):
        strip = random_boxes(50, size, 1.0, CPU, seed=0, epoch=0)
        assert strip[:4].T.tolist() == 50 * [middle]


def test_draws_are_those_of_seed_and_epoch_alone() -> None:
    one, again = (random_boxes(100, (32, 32), 0.08, CPU, seed=1, epoch=2) for _ in range(2))
    assert torch.equal(one, again)
    for seed, epoch in ((2, 2), (1, 3)):
        assert not torch.equal(one, random_boxes(100, (32, 32), 0.08, CPU, seed=seed, epoch=epoch))


def folder(tmp_path: Path, size: int) -> str:
    """Three classes of two training images and a test image."""
    for place, pixels in enumerate(noise(9, size, size + 2)):
        split = "test" if place < 3 else "train"
        (tmp_path / split / str(place % 3)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(tmp_path / split / str(place % 3) / f"{place}.png")
    return str(tmp_path)


def test_networks_are_given_the_crops_and_evaluations_the_middle(tmp_path: Path) -> None:
    plain = {"name": "image_folder", "root": folder(tmp_path, 12), "validation_fraction": 0, "augment": True}
    whole = sets.load(DataConfig.model_validate(plain), CPU)
    values = plain | {"crop": "random_resized", "crop_size": 8}
    config = DataConfig.model_validate(values)
    data = sets.load(config, CPU)
    assert (data.channels, data.image_size) == (3, (8, 8))
    assert sources.shapes([config])[config][4:7] == (3, 8, 8)
    for split in ("train", "test"):
        one, other = getattr(data, split), getattr(whole, split)
        (images, labels), *none = batches.sequential(one, 100)
        assert not none
        assert torch.equal(images, other.images[:, :, 2:10, 3:11].float() / 255)
        assert torch.equal(images, one.pixels(slice(None)).float() / 255)
        assert torch.equal(labels, other.labels)
    # an epoch's crops are those of their places, whatever the batch size
    order = batches.epoch_order(6, 4, None, CPU, 1, 2)
    drawn = random_boxes(6, (12, 14), 0.3, CPU, seed=1, epoch=2)
    wanted = resized(whole.train.images[order], drawn, (8, 8)).float() / 255
    for size in (4, 6):
        given = batches.batches(data.train, size, augment=True, crop_scale=0.3, seed=1, epoch=2)
        assert torch.equal(torch.cat([images for images, _ in given]), wanted)
    padded = list(batches.batches(data.train, 6, augment=True, seed=1, epoch=2))
    assert padded[0][0].shape == (6, 3, 8, 8)


def test_a_crop_that_is_larger_than_the_images_is_refused(tmp_path: Path) -> None:
    values = {"name": "image_folder", "root": folder(tmp_path, 12), "validation_fraction": 0, "crop_size": 13}
    with pytest.raises(UserError) as caught:
        sets.load(DataConfig.model_validate(values), CPU)
    assert str(caught.value) == (
        "data.crop_size: must be at most the images' 12 x 14 pixels, got 13; lower it, or keep larger images"
    )
