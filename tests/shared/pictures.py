"""A folder of small random pictures, as cheap to make as they are to read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_pictures(
    root: Path, train: int, test: int, *, classes: int = 4, test_name: str = "val", suffix: str = "JPEG", seed: int = 0
) -> Path:
    """ROOT/train/CLASS/... and ROOT/val/CLASS/..., each so many pictures in all, of several sizes, some grey."""
    random = np.random.default_rng(seed)
    for split, count in (("train", train), (test_name, test)):
        for number in range(count):
            height, width = random.integers(8, 14, 2)
            shape = (height, width) if number % 7 == 6 else (height, width, 3)
            picture = Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8))
            path = root / split / f"n{number % classes:04d}" / f"{number:05d}.{suffix}"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)
    return root
