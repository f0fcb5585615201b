"""How often is `analysis.estimates.methods` wrong? Simulated comparisons in which no method differs from the baseline.

    python benchmarks/methods_error.py > benchmarks/methods_error.json

A table is methods x seeds: a seed effect that all methods share, one that only those of a group (an objective) share,
plus noise. `family` is the share of tables with a
verdict (Holm's p below 5 %) though there is nothing to find, `difference` and `mean` how often a 95 % interval holds
the truth; `pooled` how often one variance was taken for all methods, Bartlett's test not having refuted it.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from pandas import DataFrame
from scipy import stats

from analysis.estimates.intervals import Estimate, holm
from analysis.estimates.seed_table import SeedTable
from trainers.provenance import environment

TABLES = 1000
CONFIDENCE = 0.95
BASELINE = "0"


@dataclass(frozen=True)
class Layout:
    """A simulated comparison: its size, and the standard deviations of its seed effects and of its noise."""

    name: str
    methods: int
    seeds: int
    seed_effect: float = 0.0
    groups: int = 1
    """Of equally many methods, next to each other; the baseline is in the first."""
    interaction: float = 0.0
    """Of a seed's effect on one group."""
    baseline_noise: float = 1.0
    last_noise: float = 1.0

    def table(self, rng: np.random.Generator) -> DataFrame:
        """Trials as `SeedTable.of` reads them; the first method is the baseline, every mean is 0."""
        scale = np.ones((self.methods, 1))
        scale[0], scale[-1] = self.baseline_noise, self.last_noise
        noise = scale * rng.standard_normal((self.methods, self.seeds))
        by_group = self.interaction * rng.standard_normal((self.groups, self.seeds))
        suits = np.repeat(by_group, self.methods // self.groups, axis=0)
        values = self.seed_effect * rng.standard_normal((1, self.seeds)) + suits + noise
        return DataFrame(
            {
                "method": np.repeat([str(number) for number in range(self.methods)], self.seeds),
                "seed": np.tile(np.arange(self.seeds), self.methods),
                "outcome": "completed",
                "y": values.ravel(),
            }
        )


LAYOUTS = (
    Layout("3 methods", 3, 3),
    Layout("16 methods", 16, 3),
    Layout("32 methods", 32, 3),
    Layout("16 methods, 5 seeds", 16, 5),
    Layout("16 methods, strong seed effect", 16, 3, seed_effect=2.0),
    Layout("16 methods in 4 groups that seeds suit differently", 16, 3, groups=4, interaction=0.87),
    Layout("16 methods, one thrice as noisy", 16, 3, last_noise=3.0),
    Layout("16 methods, the baseline thrice as noisy", 16, 3, baseline_noise=3.0),
)


def measured(layout: Layout) -> dict[str, Any]:
    """The shares of one layout, each as (share, low, high) with its 95 % interval over tables."""
    rng = np.random.default_rng([2026, LAYOUTS.index(layout)])
    shares: dict[str, list[float]] = {name: [] for name in ("family", "difference", "mean", "pooled")}
    for _ in range(TABLES):
        table = SeedTable.of(layout.table(rng), "y", BASELINE)
        others = [str(number) for number in range(1, layout.methods)]
        found = [table.difference(name, BASELINE, CONFIDENCE) for name in others]
        p_values = np.array([difference["p_value"] for difference in found])
        means = [table.mean(name, CONFIDENCE) for name in (BASELINE, *others)]
        shares["family"].append(bool((holm(p_values) < 1 - CONFIDENCE).any()))
        shares["difference"].append(_held(difference["difference"] for difference in found))
        shares["mean"].append(_held(means))
        shares["pooled"].append(table.pooled)
    return {"name": layout.name, **{name: _interval(values) for name, values in shares.items()}}


def _held(estimates: Iterable[Estimate]) -> float:
    """The share of intervals that hold the truth, 0."""
    return float(np.mean([estimate.low <= 0 <= estimate.high for estimate in estimates]))


def _interval(values: list[float]) -> list[float]:
    """Wilson's of a share of tables; of a mean of shares, which in one table are not independent, the normal one."""
    if set(values) <= {0, 1}:
        low, high = stats.binomtest(int(sum(values)), len(values)).proportion_ci(method="wilson")
    else:
        low, high = stats.norm.interval(0.95, np.mean(values), np.std(values, ddof=1) / np.sqrt(len(values)))
    return [round(float(value), 4) for value in (np.mean(values), low, high)]


def main() -> None:
    """Prints the record."""
    record = {
        "question": "How often is analysis.estimates.methods wrong where no method differs from the baseline?",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "tables": TABLES,
        "confidence": CONFIDENCE,
        "layouts": [measured(layout) for layout in LAYOUTS],
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
