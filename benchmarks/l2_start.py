"""Which random start of PGD in the l_2 ball finds more? Robust accuracy of trained networks by start, radius and steps.

    python benchmarks/l2_start.py > benchmarks/l2_start.json

`NETWORKS` small_cnn are trained on the digits by PGD-AT in the l_2 ball, one a seed, half of them from each random
start, and attacked on all test images by the loop's own evaluation; `normal` stands for starting at the clean image,
from which it is 0.001 a pixel away. For each radius (pixel units), number of steps, step size (in units of
radius / steps) and number of restarts: `accuracy`, the robust accuracy by start in percent, mean over the networks with
its 95 % t interval; `less`, how many points less than from `uniform` it is from the others, with its 95 % t interval,
networks being paired.
"""

from __future__ import annotations

import itertools
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from scipy import stats

from trainers import evaluate
from trainers.config import TrialConfig
from trainers.engine import Engine
from trainers.ladder.trained import trained
from trainers.loop import train, with_fingerprint
from trainers.method.attacks import Start
from trainers.provenance import environment
from trainers.randomness import generator

NETWORKS = 6
RADII = (0.3, 0.6, 0.9, 1.2)
STEPS = (5, 10, 20)
STEP_SIZES = (1.0, 2.5)  # in units of radius / steps
#: (radius, steps, step size, restarts)
CONDITIONS = (
    *itertools.product(RADII, STEPS, STEP_SIZES, (1,)),
    *itertools.product(RADII, (10,), (2.5,), (5,)),
)
STARTS: tuple[Start, ...] = ("uniform", "uniform_radius", "normal")
RANDOM: tuple[Start, ...] = ("uniform", "uniform_radius")


def config(seed: int, start: Start) -> TrialConfig:
    """PGD-AT at radius 0.6."""
    return with_fingerprint(
        TrialConfig.model_validate(
            {
                "data": {"name": "digits", "validation_fraction": 0.1},
                "model": {"name": "small_cnn"},
                "batch_size": 32,
                "epochs": 20,
                "schedule": {"milestones": [14, 18]},
                "attack": {"norm": "l2", "radius": 0.6, "step_size": 0.15, "steps": 10, "start": start},
                "evaluation": {"splits": ["test"], "every": 20},
                "seed": seed,
                "device": "cpu",
            }
        )
    )


def accuracy(one: TrialConfig, checkpoint: Path, attack: dict[str, Any]) -> float:
    """Percent of the test images that stay right."""
    network = trained(one, checkpoint, "last")
    trial = one.model_copy(update={"evaluation": one.evaluation.model_copy(update=attack)})
    draws = generator("cpu", one.seed, "starts")
    found = evaluate.robust(network.model, network.data.test, trial, Engine(torch.device("cpu")), draws)
    return 100 * found.accuracy


def interval(values: Sequence[float]) -> list[float]:
    """Mean and its 95 % t interval over the networks."""
    mean, error = float(np.mean(values)), float(stats.sem(values))
    half = float(stats.t.ppf(0.975, len(values) - 1)) * error
    return [round(value, 2) for value in (mean, mean - half, mean + half)]


def main() -> None:
    """Trains, attacks and prints."""
    torch.set_num_threads(1)
    rows = []
    with TemporaryDirectory() as folder:
        trials = [config(seed, RANDOM[seed % 2]) for seed in range(NETWORKS)]
        paths = [Path(folder) / f"{one.seed}.pt" for one in trials]
        for one, path in zip(trials, paths, strict=True):
            train(one, lambda record: None, path)
            print(f"trained {one.seed}", file=sys.stderr)
        found: dict[Any, dict[str, list[float]]] = {one: {start: [] for start in STARTS} for one in CONDITIONS}
        for one, path in zip(trials, paths, strict=True):
            for condition, start in itertools.product(found, STARTS):
                radius, steps, size, restarts = condition
                attack = {"radius": radius, "steps": steps, "step_size": size * radius / steps}
                value = accuracy(one, path, attack | {"restarts": restarts, "start": start})
                found[condition][start].append(value)
            print(f"attacked {one.seed}", file=sys.stderr)
    for (radius, steps, size, restarts), values in found.items():
        less = {
            start: interval([a - b for a, b in zip(values["uniform"], values[start], strict=True)])
            for start in STARTS[1:]
        }
        names = {"radius": radius, "steps": steps, "step_size": size, "restarts": restarts}
        rows.append({**names, "accuracy": {start: interval(values[start]) for start in STARTS}, "less": less})
    question = "Which random start of PGD in the l_2 ball finds more?"
    about = {"question": question, "command": shlex.join(["python", *sys.argv]), **environment(), "networks": NETWORKS}
    json.dump({**about, "rows": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
