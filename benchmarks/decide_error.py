"""How often is `sweep launch --decide` wrong, and how many seeds does it take? Simulated effects, looked at after each.

    python benchmarks/decide_error.py > benchmarks/decide_error.json

`null`: seeds without effect, looked at after every one up to `SEEDS`. `anytime` is the share of runs ever decided by
`analysis.claims.evidence`, `t` that of whoever looks at the 95 % t interval in the same way; `coverage` the share of
runs in which all intervals of the confidence sequence hold the truth. `cells`: the same of the largest of the pairwise
differences of several equal cells, seeds as blocks. `effects`: with an effect of so many standard deviations of a
seed, the mean number of seeds until it is decided (a run that never is counts with `SEEDS`) and its 80th percentile,
the share decided, the share decided the wrong way, and how many seeds a t-test of a number fixed beforehand would
need for a power of 80 %. `scale` is the standard deviation of the prior; the one in use is
`analysis.claims.evidence.SCALE`.
"""

from __future__ import annotations

import json
import shlex
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from analysis.claims.evidence import POWER, SCALE, half_width
from trainers.provenance import environment

Array = NDArray[np.float64]

RUNS = 20_000
SEEDS = 200
ALPHA = 0.05
SCALES = (0.5, 1.0, 1.5, 2.0, 3.0, 5.0)
EFFECTS = (0.5, 1.0, 1.5, 2.0, 3.0)
CELLS = (2, 4, 9)


def running(values: Array) -> tuple[Array, Array]:
    """Mean and its standard error after each seed.

    Args:
        values: (runs, seeds).

    Returns:
        two arrays (runs, seeds); the error of one seed, which there is not, is 0.
    """
    n = np.arange(1, values.shape[1] + 1)
    mean = values.cumsum(axis=1) / n
    squares = np.maximum((values**2).cumsum(axis=1) - n * mean**2, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        return mean, np.where(n > 1, np.sqrt(squares / (n - 1) / n), 0.0)


def widths(seeds: int, scale: float, cells: int = 2) -> Array:
    """Half the width in standard errors after each seed; infinite after the first."""
    alpha = ALPHA / (cells * (cells - 1) // 2)
    return np.array([half_width(1.0, n, (cells - 1) * (n - 1), alpha, scale) for n in range(1, seeds + 1)])


def beyond(mean: Array, error: Array, width: Array, null: float = 0.0) -> NDArray[np.bool_]:
    """Whether the interval after each seed excludes a value."""
    finite = np.isfinite(width)
    return np.asarray((np.abs(mean - null) > np.where(finite, width, 0) * error) & finite)


def null(rng: np.random.Generator) -> dict[str, Any]:
    """The error rates without an effect, and what looking at t intervals does."""
    mean, error = running(rng.standard_normal((RUNS, SEEDS)))
    with_t = np.array([np.inf, *stats.t.ppf(1 - ALPHA / 2, np.arange(1, SEEDS))])
    anytime = {f"{scale:g}": share(beyond(mean, error, widths(SEEDS, scale)).any(axis=1)) for scale in SCALES}
    own = beyond(mean, error, widths(SEEDS, SCALE))
    return {
        "anytime": anytime,
        "t": share(beyond(mean, error, with_t).any(axis=1)),
        "coverage": share(~own.any(axis=1)),
        "anytime_by_15_seeds": share(own[:, :15].any(axis=1)),
    }


def cells(rng: np.random.Generator, number: int) -> dict[str, Any]:
    """How often any pair of equal cells is ever told apart, by Bonferroni over the pairs."""
    runs, seeds = RUNS // 10, SEEDS // 4
    values = rng.standard_normal((runs, number, seeds))
    n = np.arange(1, seeds + 1)
    means = values.cumsum(axis=2) / n
    blocks = values - values.mean(axis=1, keepdims=True)
    centred = means - means.mean(axis=1, keepdims=True)
    residual = (blocks**2).sum(axis=1).cumsum(axis=1) - n * (centred**2).sum(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.sqrt(np.maximum(residual, 0) / ((number - 1) * (n - 1)))
    error = np.where(n > 1, spread * np.sqrt(2 / n), 0.0)
    return {"cells": number, **share(beyond(np.ptp(means, axis=1), error, widths(seeds, SCALE, number)).any(axis=1))}


def effect(rng: np.random.Generator, size: float) -> list[dict[str, Any]]:
    """Seeds until an effect is decided, by scale."""
    mean, error = running(size + rng.standard_normal((RUNS, SEEDS)))
    rows = []
    for scale in SCALES:
        out = beyond(mean, error, widths(SEEDS, scale))
        first = np.where(out.any(axis=1), out.argmax(axis=1), SEEDS - 1)
        wrong = out.any(axis=1) & (mean[np.arange(RUNS), first] < 0)
        seeds = first + 1
        rows.append(
            {
                "effect": size,
                "scale": scale,
                "seeds": round(float(seeds.mean()), 2),
                "seeds_80": int(np.quantile(seeds, 0.8)),
                "decided": round(float(out.any(axis=1).mean()), 4),
                "wrong": round(float(wrong.mean()), 5),
                "fixed_n": fixed(size),
            }
        )
    return rows


def fixed(size: float) -> int:
    """Seeds that a two-sided t-test of a number fixed beforehand needs."""
    for n in range(2, SEEDS):
        if stats.nct.sf(stats.t.ppf(1 - ALPHA / 2, n - 1), n - 1, size * np.sqrt(n)) >= POWER:
            return n
    return SEEDS


def share(happened: NDArray[np.bool_]) -> dict[str, float]:
    """A share with its 99.9 % interval [Clopper, Pearson, Biometrika 1934]."""
    bounds = stats.binomtest(int(happened.sum()), len(happened)).proportion_ci(0.999)
    return {"share": float(happened.mean()), "low": round(bounds.low, 4), "high": round(bounds.high, 4)}


def main() -> None:
    """Simulates and prints."""
    rng = np.random.default_rng(0)
    found = {
        "question": "How often is `sweep launch --decide` wrong, and how many seeds does it take?",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "runs": RUNS,
        "seeds": SEEDS,
        "alpha": ALPHA,
        "scale": SCALE,
        "null": null(rng),
        "cells": [cells(rng, number) for number in CELLS],
        "effects": [row for size in EFFECTS for row in effect(rng, size)],
    }
    json.dump(found, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
