"""How often does a race over seeds drop the best point, and how many trials does it save? Simulated sweeps.

    python benchmarks/race_error.py > benchmarks/race_error.json

A sweep of so many points and seeds: the value of a trial is its point's, plus its seed's (which all points share),
plus noise of standard deviation 1, the unit of all that follows. Values are shown one by one to `sweep.stopping.race`,
in the order of a launch: seed after seed over all points for `race`, point after point for `wilcoxon`, which compares
with the best point that has all its seeds; the points' own order is random.

Layouts: `equal`, all points the same; `near`, one is 0.5 better than all others; `clear`, it is 5 better; `spread`, the
points' values are normal of standard deviation 5. Then, all points equal, what the e-process does not assume: `uneven`,
the point that is watched has 3 times the noise of the others; `heavy`, noise is t with 3 degrees of freedom, scaled to
standard deviation 1; `diverging`, of every point one seed in ten is the worst there is, 20 below.

`dropped`: how often the best point (of equal ones the first) was dropped. `any`: any point. `trials`: trials that were
run, of points times seeds. `same`: how often the best of those that kept all seeds is the one that all trials would
have named. `lost`: by how much the true value of the point so named is below the best, on average, and without a race.
Intervals are 95 %: of shares Clopper and Pearson's, of means mean +- 1.96 standard errors.
"""

from __future__ import annotations

import itertools
import json
import math
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from sweep.stopping.race import Evidence, Race, Racer, Rule, Wilcoxon
from sweep.stopping.race_config import RaceConfig
from trainers.provenance import environment

Array = NDArray[np.float64]

#: Of a simulated sweep: the points' true values, the trials' values, and how many seeds each point got.
Run = tuple[Array, Array, NDArray[np.int64]]

RUNS = {"race": 400, "wilcoxon": 100}
POINTS = (2, 5, 10, 20)
SEEDS = (3, 5, 10)
LAYOUTS = ("equal", "near", "clear", "spread", "uneven", "heavy", "diverging")
RULES: dict[str, Rule] = {
    "race": Evidence(RaceConfig(), "val_robust"),
    "wilcoxon": Wilcoxon(0.1, 2, "val_robust"),
}


def sweep(rng: np.random.Generator, layout: str, points: int, seeds: int) -> tuple[Array, Array]:
    """The points' true values, (points,), and the trials' values, (points, seeds); NaN: the seed diverged."""
    truth = np.zeros(points)
    if layout in ("near", "clear"):
        truth[1:] = -0.5 if layout == "near" else -5.0
    if layout == "spread":
        truth = 5 * rng.standard_normal(points)
    noise = rng.standard_normal((points, seeds))
    if layout == "heavy":
        noise = rng.standard_t(3, (points, seeds)) / math.sqrt(3)
    if layout == "uneven":
        noise[0] *= 3
    values = truth[:, None] + rng.standard_normal(seeds) + noise
    if layout == "diverging":
        values[rng.random((points, seeds)) < 0.1] = np.nan
    return truth, values


def race(rng: np.random.Generator, rule: Rule, values: Array) -> NDArray[np.int64]:
    """How many seeds each point got, (points,)."""
    points, seeds = values.shape
    races = Race(rule, range(seeds), "max")
    worst = 20.0  # so far below: an accuracy of 0 where the others are about half
    order = [int(point) for point in rng.permutation(points)]
    for point in order:
        races.enter("", Racer(str(point), {seed: f"{point} {seed}" for seed in range(seeds)}))
    given = np.zeros(points, dtype=np.int64)
    by_seed = ((point, seed) for seed in range(seeds) for point in order)
    by_point = ((point, seed) for point in order for seed in range(seeds))
    for point, seed in by_seed if rule.name == "race" else by_point:
        if races.reason(f"{point} {seed}") is None:
            value = values[point, seed]
            races.ended(f"{point} {seed}", None if math.isnan(value) else value + worst)
            given[point] += 1
    return given


def runs(
    rng: np.random.Generator, name: str, layout: str, points: int, seeds: int
) -> Iterator[tuple[Array, Array, Any]]:
    """Truth, values and how many seeds each point got."""
    for _ in range(RUNS[name]):
        truth, values = sweep(rng, layout, points, seeds)
        yield truth, values, race(rng, RULES[name], values)


def rows(rng: np.random.Generator, name: str, layout: str, points: int) -> Iterator[dict[str, Any]]:
    """Of each number of seeds; a race of more seeds tells what one of fewer had done, for it looks no further ahead."""
    most = list(runs(rng, name, layout, points, max(SEEDS))) if name == "race" else []
    for seeds in SEEDS:
        each = [(truth, values[:, :seeds], np.minimum(given, seeds)) for truth, values, given in most]
        yield {"rule": name, "layout": layout, "points": points, "seeds": seeds} | summary(
            each or list(runs(rng, name, layout, points, seeds)), seeds
        )


def summary(each: list[Run], seeds: int) -> dict[str, Any]:
    """What the module says, of all runs."""
    dropped, any_dropped, trials, same, lost, lost_without = [], [], [], [], [], []
    for truth, values, given in each:
        values = np.nan_to_num(values, nan=-20.0)
        kept, means, best = given == seeds, values.mean(axis=1), int(truth.argmax())
        named = int(np.where(kept, means, -np.inf).argmax())
        dropped.append(not kept[best])
        any_dropped.append(not kept.all())
        trials.append(given.sum() / given.size / seeds)
        same.append(named == means.argmax())
        lost.append(truth.max() - truth[named])
        lost_without.append(truth.max() - truth[means.argmax()])
    return {
        "runs": len(each),
        "dropped": share(dropped),
        "any": share(any_dropped),
        "trials": mean(trials),
        "same": share(same),
        "lost": mean(lost),
        "lost_without": mean(lost_without),
    }


def share(happened: list[bool]) -> dict[str, float]:
    """A share with its 95 % interval [Clopper, Pearson, Biometrika 1934]."""
    bounds = stats.binomtest(int(np.sum(happened)), len(happened)).proportion_ci(0.95)
    return {"share": float(np.mean(happened)), "low": round(bounds.low, 4), "high": round(bounds.high, 4)}


def mean(values: list[float]) -> dict[str, float]:
    """A mean with its 95 % interval."""
    half = 1.96 * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    middle = float(np.mean(values))
    return {"mean": round(middle, 4), "low": round(middle - half, 4), "high": round(middle + half, 4)}


def cell(numbers: tuple[int, int, int]) -> list[dict[str, Any]]:
    """The rows of one rule, layout and number of points, by their places in the lists, which seed its draws."""
    name, layout, points = list(RULES)[numbers[0]], LAYOUTS[numbers[1]], POINTS[numbers[2]]
    return list(rows(np.random.default_rng(numbers), name, layout, points))


def main() -> None:
    """Simulates, in four processes, and prints."""
    cells = list(itertools.product(range(len(RULES)), range(len(LAYOUTS)), range(len(POINTS))))
    with ProcessPoolExecutor(4) as pool:
        made = [row for each in pool.map(cell, cells) for row in each]
    record = {
        "question": "How often does a race over seeds drop the best point, and how many trials does it save?",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "alpha": RaceConfig().alpha,
        "p_threshold": 0.1,
        "rows": made,
    }
    json.dump(record, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
