"""Does a 95 % interval of analysis.estimates.importance cover the truth in 95 % of sweeps? Simulated sweeps whose
shares are known.

    python benchmarks/importance_coverage.py > benchmarks/importance_coverage.json

The metric of a cell is a known function of its axes, and each seed adds normal noise. `truth` is what the estimator
says of the function itself at the cells that were run, which is what many seeds would show; `closed_form` are the
shares of fANOVA's decomposition over the space, where the function has them in closed form: how far `truth` is from
them is the estimator's own error, of which no interval tells. Where `importances` shows no interval (`shown` counts
those it does), its share is of those shown.
"""

from __future__ import annotations

import itertools
import json
import math
import multiprocessing
import shlex
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from interval_coverage import wilson
from pandas import DataFrame

from analysis.estimates import importance
from analysis.estimates.evaluator import By
from analysis.estimates.importance import INTERACTIONS, importances
from sweep.search.optuna_importance import optuna_importance
from trainers.provenance import environment

REPLICATIONS = 60
PROCESSES = 5
LR, BATCH, METHOD = "optimizer.lr", "batch_size", "method"

Points = list[dict[str, Any]]
Function = Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Layout:
    """A simulated sweep: its points, its seeds a cell, its noise, its function, and the shares that this has."""

    name: str
    points: Points
    function: Function
    noise: float
    seeds: tuple[int, ...]
    closed_form: dict[str, float]
    shared: bool = True
    """Whether all cells have the same seeds."""
    by: tuple[By, ...] = ("fanova",)
    replications: int = REPLICATIONS

    def sweep(self, rng: np.random.Generator | None) -> DataFrame:
        """Trials of one such sweep; None: without noise."""
        rows = []
        for n, point in enumerate(self.points):
            for seed in self.seeds:
                noise = 0.0 if rng is None else self.noise * rng.standard_normal()
                known = {"optimizer.name": "sgd", "lr_batch_ratio": 1.0, "model.name": "net"} | point
                number = seed if self.shared else 100 * n + seed
                rows.append({**known, "seed": number, "outcome": "completed", "y": self.function(point) + noise})
        first = ["outcome", METHOD, "seed", "model.name", "optimizer.name"]
        last = ["lr_batch_ratio", "y"]
        axes = [name for name in rows[0] if name not in (*first, *last)]
        frame = DataFrame(rows)[[*first, *axes, *last]]
        return frame.assign(trial_id=[str(n) for n in range(len(frame))])


def grid(**levels: tuple[Any, ...]) -> Points:
    """Every combination; `optimizer__lr` is optimizer.lr."""
    names = [name.replace("__", ".") for name in levels]
    return [dict(zip(names, one, strict=True)) for one in itertools.product(*levels.values())]


def drawn(n: int) -> Points:
    """So many draws of lr and batch size at each of two methods, the same at both."""
    rng = np.random.default_rng(3)
    draws = [(10 ** (2 * a - 3), round(2 ** (5 + 3 * b))) for a, b in rng.random((n, 2))]
    return [{METHOD: name, LR: lr, BATCH: batch} for name in ("PGD-AT", "DEAT") for lr, batch in draws]


def shares(**variances: float) -> dict[str, float]:
    """Variances as shares of their sum."""
    total = sum(variances.values())
    return {name.replace("__", "."): part / total for name, part in variances.items()}


GRID = grid(method=("PGD-AT", "DEAT", "TRADES"), optimizer__lr=(0.01, 0.03, 0.1, 0.3), batch_size=(32, 64))
EFFECT = {"PGD-AT": 0.0, "DEAT": 1.0, "TRADES": 0.4}
STEP = {0.01: 0.0, 0.03: 1 / 3, 0.1: 2 / 3, 0.3: 1.0}


def additive(point: dict[str, Any]) -> float:
    """Method and lr, twice as much; the batch size does nothing."""
    return EFFECT[point[METHOD]] + 2 * STEP[point[LR]]


def crossed(point: dict[str, Any]) -> float:
    """The same, a little of the batch size, and an interaction of method and lr."""
    interaction = 3 * (STEP[point[LR]] - 0.5) * (EFFECT[point[METHOD]] - EFFECT["TRADES"])
    return additive(point) + 0.3 * (point[BATCH] == 64) + interaction


def smooth(point: dict[str, Any]) -> float:
    """Of drawn points: lr on its logarithm, the batch size half as much, and the method."""
    return 2 * (math.log10(point[LR]) + 3) / 2 + (math.log2(point[BATCH]) - 5) / 3 + 0.5 * (point[METHOD] == "DEAT")


def decomposed(function: Function, points: Points) -> dict[str, float]:
    """The shares of a full grid: variances of the means over all other axes."""
    values = DataFrame(points).assign(y=[function(point) for point in points])
    total = values["y"].var(ddof=0)
    own = {axis: values.groupby(axis)["y"].mean().var(ddof=0) / total for axis in points[0]}
    return own | {INTERACTIONS: 1 - sum(own.values())}


_SMOOTH = shares(optimizer__lr=4 / 12, batch_size=1 / 12, method=0.25 / 4) | {INTERACTIONS: 0.0}
LAYOUTS = (
    Layout("grid 3 x 4 x 2, additive, 3 seeds, noise 0.1", GRID, additive, 0.1, (0, 1, 2),
           decomposed(additive, GRID), by=("fanova", "ped_anova")),
    Layout("grid 3 x 4 x 2, additive, 3 seeds, noise 0.6", GRID, additive, 0.6, (0, 1, 2),
           decomposed(additive, GRID), by=("fanova", "ped_anova")),
    Layout("grid 3 x 4 x 2, interaction, 3 seeds, noise 0.3", GRID, crossed, 0.3, (0, 1, 2),
           decomposed(crossed, GRID), by=("fanova", "ped_anova")),
    Layout("grid 3 x 4 x 2, interaction, 2 seeds, noise 0.3", GRID, crossed, 0.3, (0, 1), decomposed(crossed, GRID)),
    Layout("grid 3 x 4 x 2, interaction, 3 seeds, noise 1.5", GRID, crossed, 1.5, (0, 1, 2), decomposed(crossed, GRID)),
    Layout("grid 3 x 4 x 2, interaction, 5 seeds, noise 0.3", GRID, crossed, 0.3, (0, 1, 2, 3, 4),
           decomposed(crossed, GRID), by=("fanova", "ped_anova"), replications=20),
    Layout("grid 3 x 4 x 2, interaction, 3 seeds of its own each, noise 0.3", GRID, crossed, 0.3, (0, 1, 2),
           decomposed(crossed, GRID), shared=False, replications=20),
    Layout("20 draws x 2 methods, additive, 3 seeds, noise 0.3", drawn(20), smooth, 0.3, (0, 1, 2), _SMOOTH,
           by=("fanova", "ped_anova")),
    Layout("60 draws x 2 methods, additive, 3 seeds, noise 0.3", drawn(60), smooth, 0.3, (0, 1, 2), _SMOOTH,
           by=("fanova", "ped_anova"), replications=20),
)  # fmt: skip


def coverages(layout: Layout, by: By) -> Iterator[dict[str, Any]]:
    """A row an axis: how many of the simulated sweeps' intervals held the truth."""
    (known,) = importances(layout.sweep(None), optuna_importance, "y", by=by, resamples=1)
    truth = {one.axis: one.raw for one in known.axes}
    rng, held = np.random.default_rng(1), {axis: {"shown": 0, "covered": 0} for axis in truth}
    widths: dict[str, list[float]] = {axis: [] for axis in truth}
    for number in range(layout.replications):
        (found,) = importances(layout.sweep(rng), optuna_importance, "y", by=by, seed=number)
        for one in found.axes if math.isfinite(found.axes[0].share.low) else ():
            held[one.axis]["shown"] += 1
            held[one.axis]["covered"] += one.share.low - 1e-9 <= truth[one.axis] <= one.share.high + 1e-9
            widths[one.axis].append(one.share.high - one.share.low)
    for axis, counts in held.items():
        n = counts["shown"]
        yield {"layout": layout.name, "by": by, "axis": axis, "truth": round(truth[axis], 4)} | {
            "closed_form": round(layout.closed_form[axis], 4) if by == "fanova" else None,
            **{"replications": layout.replications, "shown": n},
            **({"share": counts["covered"] / n, "interval": wilson(counts["covered"], n)} if n else {}),
            **({"width": round(float(np.mean(widths[axis])), 3)} if n else {}),
        }


def measured(task: tuple[Layout, By]) -> list[dict[str, Any]]:
    """The rows of one layout and estimator, also of one whose intervals the package withholds."""
    importance.WITHHELD = ()
    rows = list(coverages(*task))
    print(task[0].name, task[1], *[(row["axis"], row.get("share")) for row in rows], file=sys.stderr, flush=True)
    return rows


def main() -> None:
    """Prints the record."""
    tasks = [(layout, by) for layout in LAYOUTS for by in layout.by]
    with ProcessPoolExecutor(PROCESSES, multiprocessing.get_context("spawn")) as pool:
        rows = [row for rows in pool.map(measured, tasks) for row in rows]
    record = {"command": shlex.join(["python", *sys.argv]), **environment(), "rows": rows}
    print(json.dumps(record, indent=1))


if __name__ == "__main__":
    main()
