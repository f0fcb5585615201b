"""What a metric can be: no interval says more.

An interval that holds the truth with 95 % holds it as often without the part in which the truth cannot lie: coverage
stays. Only what is shown is cut, never a p or a verdict, nor the estimate, which an interval wholly outside would miss.
"""

from __future__ import annotations

import numpy as np

from analysis.frames.names import UNITS

#: By unit: an accuracy is a share of the images, a cross-entropy is not negative.
_POSSIBLE = {"fraction": (0.0, 1.0), "nat": (0.0, np.inf)}

_ANY = (-np.inf, np.inf)


def possible(metric: str) -> tuple[float, float]:
    """The least and the greatest mean that a metric can have, in its own unit.

    >>> possible("last_test_robust"), possible("last_val_robust_loss")
    ((0.0, 1.0), (0.0, inf))
    """
    return _POSSIBLE.get(UNITS.get(metric, ""), _ANY)


def possible_difference(metric: str) -> tuple[float, float]:
    """The same of the difference of two means.

    >>> possible_difference("last_test_robust"), possible_difference("last_val_robust_loss")
    ((-1.0, 1.0), (-inf, inf))
    """
    low, high = possible(metric)
    return low - high, high - low


def clipped(low: float, high: float, within: tuple[float, float]) -> tuple[float, float]:
    """An interval without what lies outside the possible; NaN and infinite bounds, which are none, stay.

    >>> clipped(-0.07, 1.05, (0.0, 1.0)), clipped(-float("inf"), 0.5, (-1.0, 1.0))
    ((0.0, 1.0), (-inf, 0.5))
    """
    ends = [float(np.clip(end, *within)) if np.isfinite(end) else end for end in (low, high)]
    return ends[0], ends[1]
