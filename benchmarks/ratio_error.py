"""How often is `analysis.estimates.nested_models` wrong, and do its neighbours' intervals hold the truth?

    python benchmarks/ratio_error.py > benchmarks/ratio_error.json

`ratio`: simulated sweeps over lr and batch size in which the ratio is all that counts. `f` and `chi2` are the shares
with p below 5 % of `ratio only` against `ratio + lr`, `f_full` and `chi2_full` against `full`; `aicc` how often
`ratio only` has the least AICc; `seeds` how often the ledger's 95 % interval of the slope along equal ratio, over the
seeds' own slopes, holds 0. A share of intervals is of those shown.
`decomposition`: how often the interval of a first-order and of a total index holds the truth, the worst axis of four.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats
from scipy.stats import qmc

from analysis.claims.blocks import NotMeasured, Options
from analysis.claims.effects import ratio_only
from analysis.estimates.designs import MODELS
from analysis.estimates.nested_models import ratio_comparisons
from analysis.estimates.sobol_indices import decompositions
from trainers.provenance import environment

Array = NDArray[np.float64]

SWEEPS, DESIGNS = 400, 100
LEVEL = 0.05


@dataclass(frozen=True)
class Layout:
    """A simulated sweep: its grid, what it adds to a function of the ratio, and its noise (standard deviations)."""

    name: str
    lr_steps: int = 3
    batch_steps: int = 3
    seeds: int = 3
    decades: float = 0.5
    """Between two learning rates; two batch sizes are 0.3 apart."""
    seed_effect: float = 0.0
    seed_slope: float = 0.0
    """Of a seed's own slope along equal ratio, per decade."""
    noise: float = 1.0
    low_noise: float = 1.0
    """What noise is multiplied by below the middle ratio."""
    sigmoid: bool = False
    """Whether accuracy is a sigmoid of the ratio's logarithm, which no polynomial is; else a parabola."""

    def table(self, rng: np.random.Generator) -> DataFrame:
        """Trials, y in points."""
        lr, batch, seed = (
            array.ravel()
            for array in np.meshgrid(
                -2 + self.decades * np.arange(self.lr_steps),
                1.2 + 0.301 * np.arange(self.batch_steps),
                np.arange(self.seeds),
                indexing="ij",
            )
        )
        x = lr - batch - (lr - batch).mean()
        mean = 6 / (1 + np.exp(-4 * x)) if self.sigmoid else 5 * x - 2 * x**2
        noise = self.noise * np.where(x < 0, self.low_noise, 1.0) * rng.standard_normal(len(x))
        shift, slope = self.seed_effect * rng.standard_normal(self.seeds), rng.standard_normal(self.seeds)
        y = 60 + mean + shift[seed] + self.seed_slope * slope[seed] * (lr - lr.mean()) + noise
        return trials({"optimizer.lr": 10**lr, "batch_size": 10**batch, "seed": seed, "y": y})


LAYOUTS = (
    Layout("3 x 3 cells, 3 seeds"),
    Layout("3 x 3 cells, 1 seed", seeds=1),
    Layout("3 x 3 cells, 5 seeds", seeds=5),
    Layout("5 x 5 cells, 2 seeds", lr_steps=5, batch_steps=5, seeds=2),
    Layout("3 x 3 cells, 3 seeds, strong seed effect", seed_effect=3.0),
    Layout("3 x 3 cells, 3 seeds, low ratios thrice as noisy", low_noise=3.0),
    Layout("3 x 3 cells, 3 seeds that differ in their slope", seed_slope=2.0),
    Layout("3 x 3 cells, 5 seeds that differ in their slope", seeds=5, seed_slope=2.0),
    Layout("3 x 3 cells, 3 seeds, a sigmoid of the ratio", sigmoid=True),
)


def trials(columns: dict[str, Any]) -> DataFrame:
    """A frame as `analysis.frames.trials` gives it, of one network and method unless told."""
    n = len(columns["y"])
    known = {"trial_id": np.arange(n).astype(str), "outcome": "completed", "method": "PGD-AT", "seed": 0}
    known |= {"model.name": "net", "optimizer.name": "sgd", "optimizer.lr": 0.1, "batch_size": 128}
    columns = {**known, **columns}
    y = columns.pop("y")
    return DataFrame(columns).assign(lr_batch_ratio=lambda f: f["optimizer.lr"] / f["batch_size"], y=y)


def of_ratio(layout: Layout) -> dict[str, Any]:
    """The shares of one layout, each as (share, low, high) with its 95 % interval over sweeps."""
    rng = np.random.default_rng([2026, LAYOUTS.index(layout)])
    names = ("f", "chi2", "f_full", "chi2_full", "aicc", "seeds")
    shares: dict[str, list[bool]] = {name: [] for name in names}
    for _ in range(SWEEPS):
        table = layout.table(rng)
        (found,) = ratio_comparisons(table, "y")
        lr, full = found.tests[:2]
        ps = (lr.p, lr.p_chi2, full.p, full.p_chi2)
        for name, p in zip(names, ps, strict=False):
            shares[name].append(p < LEVEL)
        shares["aicc"].append(min(found.fits, key=lambda fit: fit.aicc).name == MODELS[0])
        along = ratio_only(table, Options(y="y"))
        if not isinstance(along, NotMeasured) and along.replicate == "seed":
            low, high = along.evidence.interval(LEVEL)
            shares["seeds"].append(low <= 0 <= high)
    return {"name": layout.name, "degree": found.degree, **{name: _share(held) for name, held in shares.items()}}


def of_decomposition(points: int, noise: float) -> dict[str, Any]:
    """A quadratic of 4 axes with an interaction, 2 seeds a point, at points of a Sobol sequence."""
    rng = np.random.default_rng([2026, 200, points, int(10 * noise)])
    parts = np.array([4 / 3, 1 / 3, 0.49 * 4 / 45, 0.64 / 9])
    first = np.array([*parts[:3], 0]) / parts.sum()
    total = first + np.array([1, 1, 0, 0]) * parts[3] / parts.sum()
    held: list[tuple[list[bool], list[bool]]] = []
    for _ in range(DESIGNS):
        z = 2 * qmc.Sobol(4, rng=rng).random(64)[:points] - 1
        mean = 2 * z[:, 0] - z[:, 1] + 0.7 * z[:, 2] ** 2 + 0.8 * z[:, 0] * z[:, 1]
        y = np.repeat(mean, 2) + noise * rng.standard_normal(2 * points)
        columns = {"optimizer.lr": 10 ** (z[:, 0] - 1), "batch_size": 2 ** (7 + 2 * z[:, 1])}
        columns |= {"optimizer.k1": z[:, 2], "optimizer.k2": z[:, 3]}
        columns = {key: np.repeat(values, 2) for key, values in columns.items()}
        (found,) = decompositions(trials({**columns, "seed": np.tile([0, 1], points), "y": y}), "y", resamples=300)
        if found.reason:
            continue
        ones, all_of = ([getattr(share, name) for share in found.shares] for name in ("first", "total"))
        held.append((_held(ones, first), _held(all_of, total)))
    worst = {
        name: min((_share([one[which][axis] for one in held]) for axis in range(4)), key=lambda share: share[0])
        for which, name in enumerate(("first", "total"))
    }
    name = f"{points} points, noise {noise:g} a trial, 1.33 over the design"
    return {"name": name, "shown": len(held), **worst}


def _held(estimates: Sequence[Any], truth: Array) -> list[bool]:
    return [bool(one.low <= value <= one.high) for one, value in zip(estimates, truth, strict=True)]


def _share(held: Sequence[bool]) -> list[float]:
    """With Wilson's 95 % interval; nothing where nothing was shown."""
    if not held:
        return []
    low, high = stats.binomtest(int(sum(held)), len(held)).proportion_ci(method="wilson")
    return [round(float(value), 4) for value in (np.mean(held), low, high)]


def main() -> None:
    """Prints the record."""
    record = {
        "question": "How often do the nested models err, and do its neighbours' intervals hold the truth?",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "level": LEVEL,
        "sweeps": SWEEPS,
        "designs": DESIGNS,
        "ratio": [of_ratio(layout) for layout in LAYOUTS],
        "decomposition": [of_decomposition(points, noise) for points in (30, 48) for noise in (0.5, 1.5)],
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
