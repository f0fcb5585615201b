"""How often do seeds that chose the best cells also find a difference between them, where there is none?

    python benchmarks/best_cell_error.py > benchmarks/best_cell_error.json

`pairs`: two methods whose best cells are equally accurate. Of one every cell is as good (flat), of the other one cell
is (peaked); each method's cell is chosen by validation accuracy, mean over the seeds, and the methods are compared
there on test accuracy. `same` is the share of comparisons with p below 5 % where the seeds that chose are compared,
paired by seed; `other` where as many other seeds of the chosen cells are. A trial's noise has standard deviation 1 on
the test images, and its validation noise correlates with it by `correlation`, training being common to both.
`families`: the share of comparisons of a peaked baseline with 15 flat methods, by `analysis.estimates.seed_table` and
the same seeds, that find a difference (Holm's p below 5 %). `effects`: that of a t-test over seeds of the mean over 16
pairs of a flat method with a peaked one, as a slot's effect is tested.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.estimates.intervals import holm
from analysis.estimates.seed_table import SeedTable
from trainers.provenance import environment

Array = NDArray[np.float64]

RUNS, COMPARISONS = 20_000, 400
LEVEL = 0.05
METHODS = PAIRS = 16

CELLS, SEEDS, CORRELATIONS = (4, 9, 18), (3, 6), (0.5, 0.8, 1.0)

#: How far the other cells of a peaked method lie below its best one: beyond what noise can make up for.
_BELOW = 20.0


def chosen(rng: np.random.Generator, runs: int, cells: int, seeds: int, correlation: float, peaked: bool) -> Array:
    """(runs, 2, seeds) test accuracies of the cell that validation chose: at the seeds that chose, and at others."""
    mean = np.full(cells, -_BELOW * peaked)
    mean[0] = 0.0
    test = rng.standard_normal((runs, cells, seeds))
    validation = correlation * test + np.sqrt(1 - correlation**2) * rng.standard_normal(test.shape)
    best = (validation.mean(axis=2) + mean).argmax(axis=1)
    same = test[np.arange(runs), best]
    return mean[best][:, None, None] + np.stack([same, rng.standard_normal(same.shape)], axis=1)


def of_pair(cells: int, seeds: int, correlation: float) -> dict[str, Any]:
    """Shares of rejections, each with its 95 % interval, of a flat method against a peaked one."""
    rng = np.random.default_rng([2026, cells, seeds, int(10 * correlation)])
    flat, peaked = (chosen(rng, RUNS, cells, seeds, correlation, peaked) for peaked in (False, True))
    p = stats.ttest_1samp(flat - peaked, 0, axis=2).pvalue
    shares = {name: _share(p[:, place] < LEVEL) for place, name in enumerate(("same", "other"))}
    return {"cells": cells, "seeds": seeds, "correlation": correlation, **shares}


def of_family(cells: int, seeds: int, correlation: float) -> dict[str, Any]:
    """The share of comparisons of flat methods with a peaked baseline that find any difference."""
    rng = np.random.default_rng([2027, cells, seeds, int(10 * correlation)])
    values = [chosen(rng, COMPARISONS, cells, seeds, correlation, method == 0)[:, 0] for method in range(METHODS)]
    found = [_any_verdict(table) for table in np.stack(values, axis=1)]
    return {"cells": cells, "seeds": seeds, "correlation": correlation, "same": _share(np.array(found))}


def of_effect(cells: int, seeds: int, correlation: float) -> dict[str, Any]:
    """The share of rejections of the mean over pairs, averaged within each seed, at the seeds that chose."""
    rng = np.random.default_rng([2028, cells, seeds, int(10 * correlation)])
    layout = (RUNS // 5, cells, seeds, correlation)
    gains = [chosen(rng, *layout, False)[:, 0] - chosen(rng, *layout, True)[:, 0] for _ in range(PAIRS)]
    p = stats.ttest_1samp(np.mean(gains, axis=0), 0, axis=1).pvalue
    return {"cells": cells, "seeds": seeds, "correlation": correlation, "same": _share(p < LEVEL)}


def _any_verdict(table: Array) -> bool:
    """Whether a comparison of the first of these methods (rows) with the others finds a difference."""
    names = list(map(str, range(len(table))))
    columns = {"method": np.repeat(names, table.shape[1]), "seed": np.tile(np.arange(table.shape[1]), len(table))}
    seeds = SeedTable.of(DataFrame({**columns, "outcome": "completed", "y": table.ravel()}), "y", names[0])
    p_values = [seeds.difference(name, names[0], 1 - LEVEL)["p_value"] for name in names[1:]]
    return bool((holm(np.array(p_values)) < LEVEL).any())


def _share(found: NDArray[np.bool_]) -> list[float]:
    low, high = stats.binomtest(int(found.sum()), len(found)).proportion_ci(method="wilson")
    return [round(float(value), 4) for value in (found.mean(), low, high)]


def main() -> None:
    """Prints the record."""
    record = {
        "question": "How often do seeds that chose the best cells find a difference between them, where there is none?",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "level": LEVEL,
        "runs": RUNS,
        "comparisons": COMPARISONS,
        "methods": METHODS,
        "pairs_of_an_effect": PAIRS,
        "pairs": [of_pair(*layout) for layout in itertools.product(CELLS, SEEDS, CORRELATIONS)],
        "families": [of_family(*layout) for layout in itertools.product(CELLS, SEEDS, CORRELATIONS[:2])],
        "effects": [of_effect(*layout) for layout in itertools.product(CELLS[:2], SEEDS, CORRELATIONS[:2])],
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
