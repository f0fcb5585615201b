"""Does a 95 % interval of analysis.estimates.proxies cover the truth in 95 % of sweeps? Simulated sweeps whose truth is
known.

    python benchmarks/proxy_coverage.py > benchmarks/proxy_coverage.json

A layout is a number of points with so many seeds each. The points' means at the full setting are standard normal
quantiles; those at the cheap one go with them by `agreement`. A seed's noise has the same spread at every point, and
half of its variance is common to both settings, as of one trial at two epochs. The truth is what the interval is for:
the mean coefficient over the simulated sweeps. Beside it stands the coefficient of the means without noise, which is
larger. Intervals that are withheld for want of points or seeds are made here all the same, and marked so; `shown`
counts the sweeps that have one.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from analysis.estimates import proxies
from analysis.estimates.proxies import Pairs, _compared, kendall_of
from analysis.estimates.resampling import Bootstrap
from trainers.provenance import environment

REPLICATIONS = 400
RESAMPLES = 400


@dataclass(frozen=True)
class Layout:
    """A simulated sweep."""

    points: int
    seeds: int
    noise: float
    """A seed's standard deviation, where that of the points' means is about 1."""
    agreement: float
    """Correlation of the points' means at the two settings."""

    def means(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the points, at the cheap and the full setting."""
        full = stats.norm.ppf((np.arange(self.points) + 0.5) / self.points)
        other = np.random.default_rng(0).permutation(full)
        return self.agreement * full + math.sqrt(1 - self.agreement**2) * other, full

    def sweep(self, rng: np.random.Generator) -> Pairs:
        """One such sweep."""
        point = np.repeat(np.arange(self.points), self.seeds)
        common, own, other = rng.standard_normal((3, len(point))) * self.noise / math.sqrt(2)
        cheap, full = self.means()
        return Pairs(cheap[point] + common + own, point, full[point] + common + other, point, same=True)


POINTS, SEEDS = proxies.FEWEST_POINTS, proxies.FEWEST_SEEDS

LAYOUTS = tuple(
    Layout(points, seeds, noise, agreement)
    for points, seeds in ((6, 3), (8, 2), (30, 2), (8, 3), (16, 3), (30, 3), (8, 5), (30, 4))
    for noise, agreement in ((1.0, 0.5), (0.5, 0.9), (0.2, 0.95))
)


def rows() -> Iterator[dict[str, Any]]:
    """A row a layout."""
    proxies.FEWEST_POINTS = proxies.FEWEST_SEEDS = 0
    for layout in LAYOUTS:
        rng = np.random.default_rng(1)
        found = [_compared(layout.sweep(rng), Bootstrap(0.95, RESAMPLES, number)) for number in range(REPLICATIONS)]
        truth = float(np.mean([one["estimate"] for one in found]))
        shown = [one for one in found if math.isfinite(one["low"])]
        held = sum(one["low"] <= truth <= one["high"] for one in shown)
        below = sum(one["low"] > truth for one in shown)
        without_noise = float(kendall_of(*(means[None] for means in layout.means()))[0])
        yield {
            **vars(layout),
            "withheld": layout.points < POINTS or layout.seeds < SEEDS,
            "truth": round(truth, 4),
            "without_noise": round(without_noise, 4),
            "shown": len(shown),
            "covered": held,
            "share": round(held / len(shown), 4) if shown else None,
            "interval": _wilson(held, len(shown)) if shown else None,
            "too_high": below,
        }


def _wilson(count: int, shown: int) -> list[float]:
    interval = stats.binomtest(count, shown).proportion_ci(method="wilson")
    return [round(float(interval.low), 4), round(float(interval.high), 4)]


def main() -> None:
    """Prints the record."""
    command = shlex.join(["python", *sys.argv])
    record = {"command": command, "replications": REPLICATIONS, "resamples": RESAMPLES, **environment()}
    print(json.dumps({**record, "rows": list(rows())}, indent=1))


if __name__ == "__main__":
    main()
