"""Does the interval over seeds and test images hold the difference of two methods on other seeds and other images?

    python benchmarks/crossed_coverage.py > benchmarks/crossed_coverage.json

A simulated trial of method m with seed s is right on image i where

    theta[m] + shared[i] + own[m, i] + seed[m, s] + rest[m, s, i] > 0

all normal and independent: how hard an image is for both methods, for one of them, what the seed does to all images,
and what it does to one. Their variances are those of a run on the digits (`CALIBRATED`, made by

    python benchmarks/crossed_coverage.py --calibrate RUN

of three methods and ten seeds each), and of others: no effect of the seed on all images, and methods that are right on
nearly all. The truth, over all seeds and images, is Phi(theta / total).

`difference`: of two methods with the same seeds; `other_seeds`: of two with S and S + 2 seeds of their own, by Welch's
degrees of freedom; `mean`: of one method's accuracy. Each is the share of intervals at 95 % that hold the truth, with
its Wilson interval, without those that are withheld because the seeds' values are equal: `seeds`, Student's over seeds
(Welch's); `crossed`, of `analysis.estimates.crossed`; `satterthwaite`, the same without its bound; `cochran`, the same
variances with Cochran's weighted quantile [Biometrics 1964]; `bootstrap`, the percentiles where seeds and images are
drawn with replacement, each for itself [Owen, Annals of Applied Statistics 2007], of `BOOTSTRAPPED` of the runs and for
up to `BOOTSTRAP_IMAGES` images. `half_widths` are medians, in points.
"""

from __future__ import annotations

import argparse
import itertools
import json
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from analysis.estimates.crossed import half_width, image_variance
from analysis.estimates.intervals import NO_SPREAD
from trainers.provenance import environment

Array = NDArray[np.float64]

ALPHA = 0.05
RUNS, BOOTSTRAPPED, RESAMPLES, BOOTSTRAP_IMAGES = 2000, 400, 200, 1000
SEEDS, IMAGES = (2, 3, 5, 10), (360, 1000, 10_000)


@dataclass(frozen=True)
class Structure:
    """How the bits of two methods vary."""

    name: str
    accuracies: tuple[float, float]
    both_of_method: float
    """Share of images that two seeds of the first method both leave right."""
    both_of_methods: float
    """Share that both methods leave right at different seeds."""
    seed: float
    """Standard deviation over seeds of the accuracy on all images there are, a fraction."""


CALIBRATED = Structure("digits, PGD-AT and TRADES", (0.681, 0.709), 0.652, 0.653, 0.0096)

STRUCTURES = (
    CALIBRATED,
    Structure("no effect of the seed on all images", (0.681, 0.709), 0.652, 0.653, 0.0),
    Structure("nearly all right", (0.95, 0.96), 0.93, 0.926, 0.004),
)


@dataclass(frozen=True)
class Latent:
    """The same as normal variables of total variance 1 without the seed's."""

    theta: Array
    shared: float
    own: float
    rest: float
    seed: float

    @property
    def truth(self) -> Array:
        """(2,) accuracies over all seeds and images."""
        return np.asarray(stats.norm.cdf(self.theta / np.sqrt(1 + self.seed**2)))

    def draw(self, rng: np.random.Generator, seeds: tuple[int, int], images: int) -> list[Array]:
        """Bits of both methods, (seeds, images) each."""
        shared = np.float32(np.sqrt(self.shared)) * rng.standard_normal(images, dtype=np.float32)
        bits = []
        for theta, count in zip(self.theta, seeds, strict=True):
            hardness = shared + np.float32(np.sqrt(self.own)) * rng.standard_normal(images, dtype=np.float32)
            level = np.float32(theta + self.seed * rng.standard_normal((count, 1)))
            rest = np.float32(np.sqrt(self.rest)) * rng.standard_normal((count, images), dtype=np.float32)
            bits.append((rest + (hardness + level) > 0).astype(np.float64))
        return bits


def latent(structure: Structure) -> Latent:
    """The latent variances that give the structure's shares."""
    theta = stats.norm.ppf(structure.accuracies)
    within = _correlation(theta[0], theta[0], structure.both_of_method)
    between = _correlation(theta[0], theta[1], structure.both_of_methods)
    seed = structure.seed / stats.norm.pdf(theta[0])
    return Latent(theta * np.sqrt(1 + seed**2), between, within - between, 1 - within, float(seed))


def _correlation(one: float, other: float, both: float) -> float:
    """Of two standard normal variables below `one` and `other` together with probability `both`."""

    def off(rho: float) -> float:
        return float(stats.multivariate_normal.cdf([one, other], cov=[[1, rho], [rho, 1]])) - both

    return float(optimize.brentq(off, 0.0, 0.9999))


def half_widths(variances: tuple[float, float], freedom: float) -> dict[str, float]:
    """Of each interval by its name, of the variances of seeds and of images."""
    error, images = float(np.sqrt(variances[0])), variances[1]
    if error <= NO_SPREAD:
        return {}
    total = variances[0] + images
    share = variances[0] / total
    t, satterthwaite, z = special.stdtrit([freedom, freedom / share**2, np.inf], 1 - ALPHA / 2)  # of stats.t, but quick
    return {
        "seeds": t * error,
        "crossed": half_width(error, freedom, images, ALPHA),
        "satterthwaite": satterthwaite * np.sqrt(total),
        "cochran": (z + (t - z) * share) * np.sqrt(total),
    }


def paired(gains: Array) -> tuple[float, dict[str, float]]:
    """Mean and half widths of (seeds, images): differences at the same seeds, or one method's bits."""
    values = gains.mean(axis=1)
    return float(values.mean()), half_widths((values.var(ddof=1) / len(values), image_variance(gains)), len(values) - 1)


def other_seeds(one: Array, other: Array) -> tuple[float, dict[str, float]]:
    """Mean difference and half widths where no seed is shared [Welch 1947]."""
    sides = [bits.mean(axis=1) for bits in (one, other)]
    parts = np.array([side.var(ddof=1) / len(side) for side in sides])
    below = (parts**2 / [len(side) - 1 for side in sides]).sum()
    freedom = parts.sum() ** 2 / below if below else 1.0
    return float(sides[0].mean() - sides[1].mean()), half_widths((parts.sum(), image_variance(one, -other)), freedom)


def bootstrap(rng: np.random.Generator, gains: Array) -> tuple[float, float]:
    """Percentile interval of the mean where seeds and images are drawn with replacement, each for itself."""
    seeds, images = (rng.multinomial(n, np.full(n, 1 / n), RESAMPLES) / n for n in gains.shape)
    means = ((seeds @ gains) * images).sum(axis=1)
    low, high = np.quantile(means, [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def of_layout(structure: Structure, seeds: int, images: int) -> dict[str, Any]:
    """Coverage of each interval in one layout."""
    rng, law = np.random.default_rng([2026, STRUCTURES.index(structure), seeds, images]), latent(structure)
    gain = float(law.truth[1] - law.truth[0])
    held: dict[str, dict[str, list[bool]]] = {"difference": {}, "other_seeds": {}, "mean": {}}
    widths: dict[str, list[float]] = {}
    for run in range(RUNS):
        one, other = law.draw(rng, (seeds, seeds + 2), images)
        cases = {
            "difference": (paired(other[:seeds] - one), gain),
            "other_seeds": (other_seeds(other, one), gain),
            "mean": (paired(one), float(law.truth[0])),
        }
        for case, ((estimate, halves), truth) in cases.items():
            for name, half in halves.items():
                held[case].setdefault(name, []).append(abs(estimate - truth) <= half)
        for name, half in cases["difference"][0][1].items():
            widths.setdefault(name, []).append(half)
        if run < BOOTSTRAPPED and images <= BOOTSTRAP_IMAGES:
            low, high = bootstrap(rng, other[:seeds] - one)
            held["difference"].setdefault("bootstrap", []).append(low <= gain <= high)
    shares = {case: {name: _share(np.array(each)) for name, each in names.items()} for case, names in held.items()}
    points = {name: round(100 * float(np.median(each)), 2) for name, each in widths.items()}
    return {"structure": structure.name, "seeds": seeds, "images": images, **shares, "half_widths": points}


def _share(held: NDArray[np.bool_]) -> list[float]:
    low, high = stats.binomtest(int(held.sum()), len(held)).proportion_ci(method="wilson")
    return [round(float(value), 4) for value in (held.mean(), low, high)]


def calibrate(run: Path) -> list[dict[str, Any]]:
    """What a run's bits under its own PGD say of each pair of methods."""
    from analysis.frames.images import load_images

    frame = load_images(run)
    tested = frame[(frame["split"] == "test") & (frame["attack"] == "pgd")]
    bits = {str(name): np.stack(list(rows["right"])).astype(np.float64) for name, rows in tested.groupby("method")}
    rows = []
    for (name, one), (other_name, other) in itertools.combinations(bits.items(), 2):
        means, sums = one.mean(axis=1), one.sum(axis=0)
        both = float((sums**2 - sums).mean()) / len(one) / (len(one) - 1)
        apart = one.sum(axis=0) * other.sum(axis=0) - (one * other).sum(axis=0)
        seeds = means.var(ddof=1) - (means.mean() - both) / one.shape[1]
        structure = Structure(
            f"{name} and {other_name}",
            (float(means.mean()), float(other.mean())),
            both,
            float(apart.mean()) / len(one) / (len(one) - 1),
            float(np.sqrt(max(0.0, seeds))),
        )
        rows.append({**asdict(structure), "seeds": len(one), "images": one.shape[1]})
    return rows


def main() -> None:
    """Prints the record."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calibrate", type=Path, metavar="RUN", help="print what the bits of a run say, and end")
    asked = parser.parse_args()
    if asked.calibrate:
        print(json.dumps(calibrate(asked.calibrate), indent=2))
        return
    record = {
        "question": "Does a 95 % interval over seeds and test images hold the difference on other seeds and images?",
        "command": shlex.join(["python", *sys.argv]),
        **environment(),
        "level": 1 - ALPHA,
        "runs": RUNS,
        "bootstrapped": BOOTSTRAPPED,
        "resamples": RESAMPLES,
        "structures": [asdict(structure) for structure in STRUCTURES],
        "layouts": [of_layout(*layout) for layout in itertools.product(STRUCTURES, SEEDS, IMAGES)],
    }
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
