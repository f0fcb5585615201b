"""What each trial says of each test image, as a column of its frame: beside an accuracy the bits whose mean it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame, Series

from analysis.frames.images import Bits, bits_of, last_rights
from analysis.frames.log import Log

#: The column, which `with_bits` adds: a `TrialBits`, or None where nothing is recorded.
BITS = "bits"

_RECORDED = {"last_test_robust": "robust", "last_test_clean": "clean"}


@dataclass(frozen=True, eq=False)
class TrialBits:
    """Which test images one trial leaves right, by the column of its accuracy."""

    trial_id: str
    fingerprint: str
    """Equal where the images are."""
    images: int
    right: Mapping[str, str | Bits]
    """As recorded, or unpacked."""

    def of(self, y: str) -> Bits | None:
        """(images,), in the split's fixed order; None: nothing is recorded of this accuracy."""
        known = self.right.get(y)
        return bits_of(known, self.images, {"trial_id": self.trial_id}) if isinstance(known, str) else known


def with_bits(trials: DataFrame, log: Log) -> DataFrame:
    """The frame with `BITS`, of the last epoch of training.

    Args:
        trials: as `analysis.frames.trials.trials_of` gives them.
        log: that they are of.
    """
    known = {trial: right["test"] for trial, right in last_rights(log, trials) if "test" in right}
    column = [_of_training(name, known[name]) if name in known else None for name in map(str, trials["trial_id"])]
    return trials.assign(**{BITS: Series(column, index=trials.index, dtype=object)})


def _of_training(trial: str, said: Mapping[str, str]) -> TrialBits:
    right = {y: said[name] for y, name in _RECORDED.items() if name in said}
    return TrialBits(trial, said["fingerprint"], int(said["images"]), right)


def bits_table(trials: DataFrame, y: str) -> NDArray[np.bool_] | None:
    """The bits of `y` of each of these trials, (trials, images); None where they do not all have those of one test set.

    Bits whose mean is not the trial's `y` are of other weights or images, and are none of it.
    """
    known = [bits for bits in trials[BITS] if bits is not None] if BITS in trials else []
    if not known or len(known) < len(trials) or len({(one.fingerprint, one.images) for one in known}) > 1:
        return None
    rows = [one.of(y) for one in known]
    if any(row is None for row in rows):
        return None
    table = np.stack([row for row in rows if row is not None])
    same = np.isclose(table.mean(axis=1), trials[y].to_numpy(dtype=np.float64), rtol=0, atol=1e-6)
    return table if same.all() else None
