"""configs/imagenet.yaml: a plan needs no images, and counts what its comment says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sweep.config_file import load
from sweep.plan.plan import plan
from trainers.config import DataConfig
from trainers.counting import work
from trainers.data import sets
from trainers.data.unseen import shape
from trainers.errors import UserError, validated

CONFIG = Path(__file__).parents[3] / "configs/imagenet.yaml"
RATE = 25.55e9 * 128 / 18.5e-3  # FLOPs a second: benchmarks/gpu/NOTES.md


@pytest.mark.slow
def test_a_plan_without_the_images_counts_the_three_recipes() -> None:
    found = plan(load(CONFIG), [], "abc", "unseen")
    assert found.size == found.left == 9
    hours, gflop = {}, {}
    for trial in found.to_run:
        config = trial.config
        there = shape(config.data)
        assert there is not None
        assert there[:7] == (1_268_355, 12_812, 50_000, 1000, 3, 224, 224)
        assert there.mapped
        cost = work(config, there)
        recipe = config.model.name, config.attack.steps
        gflop[recipe] = cost.step / 1e9
        hours[recipe] = config.epochs * there.train_images * cost.step / RATE / 3600
    assert gflop == {
        ("torchvision:resnet50", 3): pytest.approx(89.7, abs=0.1),
        ("torchvision:resnet50", 1): pytest.approx(57.0, abs=0.1),
        ("timm:vit_small_patch16_224", 2): pytest.approx(65.7, abs=0.1),
    }
    assert list(hours.values()) == pytest.approx([16, 1.7, 39], rel=0.03)


def test_imagenets_layout_keeps_the_ratio_and_is_cropped_at_the_middle(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in ("n01", "n02"):
            (tmp_path / split / name).mkdir(parents=True)
            pixels = np.zeros((40, 80, 3), np.uint8)
            pixels[:, 30:50] = 255  # of the 20 x 40 that remain the middle 10 columns
            Image.fromarray(pixels).save(tmp_path / split / name / f"{split}.JPEG", format="PNG")
    values = {"name": "imagenet", "root": str(tmp_path), "image_size": 20, "crop_size": 10, "validation_fraction": 0}
    for limit in (4, 1e-9):  # in memory, and mapped
        data = sets.load(DataConfig.model_validate(values | {"in_memory_gib": limit}), "cpu")
        assert data.image_size == (10, 10)
        assert data.fingerprint.startswith("imagenet-")
        pixels = data.test.pixels(slice(None))
        assert pixels.shape == (2, 3, 10, 10)
        assert (pixels[..., 1:-1] == 255).all()  # bilinear: the outermost columns take in a black one


def test_imagenet_needs_a_size() -> None:
    with pytest.raises(UserError) as caught:
        validated(DataConfig, {"name": "imagenet", "root": "/x"}, "a.yaml: data")
    assert str(caught.value).endswith(
        "image_size: needed for imagenet, whose images have many sizes; usual: 256, crop_size: 224"
    )
