"""Does a 95 % interval of analysis.estimates.correlations cover the truth in 95 % of sweeps? Simulated sweeps whose
truth is known.

    python benchmarks/interval_coverage.py > benchmarks/interval_coverage.json

A layout is a grid of lr x batch size with so many seeds a cell; accuracy is a curve in log(lr / batch) plus seed
noise. The truth is the same correlation at 2,000 seeds a cell. Beside each coverage stands that of the plain
percentile interval from the same resamples of seeds within cells (all m of m drawn), which is what one would try
first. Where analysis.estimates.correlations shows no interval (`shown` counts those it does), its share is of those
shown.
"""

from __future__ import annotations

import json
import math
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from pandas import DataFrame
from scipy import stats

from analysis.estimates.correlations import METHODS, correlation
from analysis.estimates.resampling import COEFFICIENTS
from trainers.provenance import environment

REPLICATIONS = 600
RESAMPLES = 1000
TRUTH_SEEDS = 2000


@dataclass(frozen=True)
class Layout:
    """A simulated sweep: its grid, its seeds a cell, its seed noise, and accuracy against log10(lr / batch)."""

    name: str
    lrs: tuple[float, ...]
    batches: tuple[int, ...]
    seeds: int
    noise: Callable[[np.ndarray], np.ndarray]
    accuracy: Callable[[np.ndarray], np.ndarray]

    def sweep(self, rng: np.random.Generator, seeds: int) -> DataFrame:
        """Trials of one such sweep, with the columns that the fits read."""
        cells = [(lr, batch) for lr in self.lrs for batch in self.batches for _ in range(seeds)]
        lr, batch = (np.array(column, dtype=float) for column in zip(*cells, strict=True))
        log = np.log10(lr / batch)
        y = self.accuracy(log) + self.noise(log) * rng.standard_normal(len(lr))
        return DataFrame(
            {
                "trial_id": [str(number) for number in range(len(lr))],
                "outcome": "completed",
                "seed": np.tile(np.arange(seeds), len(self.lrs) * len(self.batches)),
                "optimizer.lr": lr,
                "batch_size": batch,
                "lr_batch_ratio": lr / batch,
                "last_test_robust": y,
            }
        )


def constant(sd: float) -> Callable[[np.ndarray], np.ndarray]:
    """The same seed noise everywhere."""
    return lambda log: np.full_like(log, sd)


LRS, BATCHES = (0.03, 0.1, 0.3), (16, 32, 64)
LAYOUTS = (
    Layout("3 x 3 x 3, rising, noise 2 points", LRS, BATCHES, 3, constant(0.02), lambda log: 0.7 + 0.07 * log),
    Layout("3 x 3 x 2, rising, noise 2 points", LRS, BATCHES, 2, constant(0.02), lambda log: 0.7 + 0.07 * log),
    Layout("3 x 3 x 5, weak rise, noise 3 points", LRS, BATCHES, 5, constant(0.03), lambda log: 0.7 + 0.02 * log),
    Layout("10 x 1 x 3, saturating", tuple(np.geomspace(0.01, 0.5, 10)), (128,), 3, constant(0.01),
           lambda log: 0.5 - 0.02 * (log + 1.5) ** 2),
    Layout("3 x 3 x 3, noise grows with the ratio", LRS, BATCHES, 3, lambda log: 0.01 * (log + 5),
           lambda log: 0.7 + 0.05 * log),
    Layout("3 x 1 x 3, rising, noise 2 points", LRS, BATCHES[:1], 3, constant(0.02), lambda log: 0.7 + 0.07 * log),
    Layout("3 x 2 x 2, rising, noise 2 points", LRS, BATCHES[:2], 2, constant(0.02), lambda log: 0.7 + 0.07 * log),
    Layout("3 x 3 x 2, rising, noise 0.5 points", LRS, BATCHES, 2, constant(0.005), lambda log: 0.7 + 0.07 * log),
    Layout("3 x 3 x 3, rising, noise 0.5 points", LRS, BATCHES, 3, constant(0.005), lambda log: 0.7 + 0.07 * log),
    Layout("6 x 1 x 2, rising, noise 2 points", tuple(np.geomspace(0.03, 0.3, 6)), BATCHES[:1], 2, constant(0.02),
           lambda log: 0.7 + 0.07 * log),
)  # fmt: skip


def truth(layout: Layout, method: str) -> float:
    """The correlation at many seeds a cell; Pearson's has a closed form."""
    frame = layout.sweep(np.random.default_rng(0), TRUTH_SEEDS)
    x, y = frame["lr_batch_ratio"], frame["last_test_robust"]
    if method == "pearson":
        log = np.log10(x)
        mean = layout.accuracy(log)
        variance = np.var(mean) + np.mean(layout.noise(log) ** 2)
        return float(np.mean((x - x.mean()) * (mean - mean.mean())) / math.sqrt(np.var(x) * variance))
    return float({"spearman": stats.spearmanr, "kendall": stats.kendalltau}[method](x, y).statistic)


def percentile(frame: DataFrame, method: str, rng: np.random.Generator) -> tuple[float, float]:
    """The plain bootstrap: all m seeds of every cell redrawn, 2.5 % and 97.5 % quantiles."""
    cells = frame.groupby(["optimizer.lr", "batch_size"], sort=False).ngroup().to_numpy()
    size = int(np.bincount(cells)[0])
    n = len(cells)
    picks = cells * size + rng.integers(size, size=(RESAMPLES, n))
    weights = np.stack([np.bincount(row, minlength=n) for row in picks]).astype(float)
    x, y = (frame[name].to_numpy() for name in ("lr_batch_ratio", "last_test_robust"))
    low, high = np.nanquantile(COEFFICIENTS[method](x, y, weights, False), [0.025, 0.975])
    return float(low), float(high)


def coverages(layout: Layout) -> Iterator[dict[str, Any]]:
    """A row a method: how many of the simulated sweeps' intervals held the truth."""
    for method in METHODS:
        expected = truth(layout, method)
        rng = np.random.default_rng(1)
        held = {"fits": 0, "percentile": 0}
        shown = {"fits": 0, "percentile": REPLICATIONS}
        for number in range(REPLICATIONS):
            frame = layout.sweep(rng, layout.seeds)
            found = correlation(frame, "lr_batch_ratio", "last_test_robust", method, resamples=RESAMPLES, seed=number)
            low, high = percentile(frame, method, rng)
            shown["fits"] += math.isfinite(found.low)
            held["fits"] += found.low <= expected <= found.high
            held["percentile"] += low <= expected <= high
        yield {"layout": layout.name, "method": method, "truth": round(expected, 4)} | {
            kind: {
                "shown": shown[kind],
                "covered": count,
                "share": count / shown[kind],
                "interval": wilson(count, shown[kind]),
            }
            for kind, count in held.items()
        }


def wilson(count: int, shown: int) -> list[float]:
    """95 % Wilson interval of a share."""
    interval = stats.binomtest(count, shown).proportion_ci(method="wilson")
    return [round(float(interval.low), 4), round(float(interval.high), 4)]


def main() -> None:
    """Prints the record."""
    rows = [row for layout in LAYOUTS for row in coverages(layout)]
    command = shlex.join(["python", *sys.argv])
    record = {"command": command, "replications": REPLICATIONS, "resamples": RESAMPLES, **environment(), "rows": rows}
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
