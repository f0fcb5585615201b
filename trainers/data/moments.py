"""Mean and standard deviation of each channel, exact: from how many pixels have each of the 256 values."""

from __future__ import annotations

from typing import Any

import numpy as np

from trainers.data.archives import ByteArray, Channels, LabelArray

#: (C, 256) int64: of each channel how many pixels have each value.
Counts = np.ndarray[Any, np.dtype[np.int64]]


def counts(images: ByteArray) -> Counts:
    """Of (N, C, H, W) uint8."""
    return np.stack([np.bincount(images[:, channel].ravel(), minlength=256) for channel in range(images.shape[1])])


def of_counts(counted: Counts) -> tuple[Channels, Channels]:
    """Mean and standard deviation in [0, 1] units."""
    values = np.arange(256) / 255
    means, stds = [], []
    for one in counted:
        mean = float(np.average(values, weights=one))
        variance = float(np.average((values - mean) ** 2, weights=one))
        means.append(mean)
        stds.append(max(variance**0.5, 1 / 255))  # a channel of one value must not divide by zero
    return tuple(means), tuple(stds)


def of_images(images: ByteArray, chosen: LabelArray) -> tuple[Channels, Channels]:
    """Those of the images of these numbers, of which a few thousand are looked at at a time."""
    parts = np.array_split(chosen, -(-len(chosen) // 4096))
    return of_counts(np.sum([counts(images[part]) for part in parts], axis=0))
