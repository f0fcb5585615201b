"""A straight line through points, with its confidence band."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Line:
    """A least-squares line at some places; the band is NaN for fewer than 3 points."""

    at: Array
    """(m,) where."""
    fit: Array
    """(m,) the line."""
    low: Array
    high: Array
    """(m,) pointwise confidence band of the line, not of new points."""
    slope: float
    n: int


def line(x: Array, y: Array, at: Array, confidence: float = 0.95) -> Line:
    """Ordinary least squares of y on x; the band assumes independent residuals of one variance.

    Half-width: t * s * sqrt(1/n + (at - mean)^2 / sum (x - mean)^2), s^2 = residual sum of squares / (n - 2)
    [Draper, Smith, Applied Regression Analysis, 3rd ed., section 3.1].

    Args:
        x: (n,) of at least two values.
        y: (n,).
        at: (m,) where the line is asked for.
        confidence: of the band at one place, in (0, 1).
    """
    n, centre = len(x), x.mean()
    spread = float(((x - centre) ** 2).sum())
    slope = float(((x - centre) * y).sum() / spread)
    fit = y.mean() + slope * (at - centre)
    residual = y - y.mean() - slope * (x - centre)
    scale = np.sqrt((residual**2).sum() / (n - 2)) if n > 2 else np.nan
    width = float(stats.t.ppf((1 + confidence) / 2, max(n - 2, 1))) * scale
    half = width * np.sqrt(1 / n + (at - centre) ** 2 / spread)
    return Line(at, fit, fit - half, fit + half, slope, n)
