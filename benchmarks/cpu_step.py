"""How much faster than papers' codes does the package train on a CPU?

    python benchmarks/cpu_step.py > benchmarks/cpu_step.json

Both loops train the same trial in turns, in one process, each after one run that is not counted: the digits trial of
configs/demo.yaml by plain SGD, on one thread, at each of its batch sizes; and PreActResNet-18 with PGD-10 on 32 x 32
images, batch 128, on all threads. The images are CIFAR-10's where `ROBUSTSWEEP_DATA` names a folder that holds
`cifar10_exact_subset.npz`, else noise. The other loop is that of `usual_loop.py`; what it does is told there.

`training` is the ratio of the seconds of the passes over the training images, `trial` that of all seconds of a trial,
its evaluations included: geometric means over the pairs with their 95 % t intervals, which are those of the mean
logarithm. `loss_difference` is the largest difference of two epochs' losses, nats: both train alike, but for rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import numpy as np
import torch
import usual_loop
import yaml
from PIL import Image
from scipy import stats
from usual_loop import Trained

from trainers import loop
from trainers.config import TrialConfig
from trainers.provenance import environment
from trainers.record import EpochRecord

DEMO = Path(__file__).parents[1] / "configs/demo.yaml"

Loop = Callable[[TrialConfig], Trained]


def own_loop(config: TrialConfig) -> Trained:
    """The package's loop, as `sweep launch` runs it in each trial's process; compiling counts as training."""
    records: list[EpochRecord] = []
    started = perf_counter()
    outcome = loop.train(config, records.append)  # type: ignore[arg-type]  # dynamics are off
    assert outcome.outcome == "completed", outcome
    seconds = perf_counter() - started
    losses = [record.train_robust_loss for record in records]
    training = sum(record.seconds + (record.preparing_seconds or 0.0) for record in records)
    return Trained(training, seconds, losses, records[-1].test_robust or 0.0)


def digits(batch_size: int, engine: str, tiny: bool) -> TrialConfig:
    """The trial of configs/demo.yaml, by plain SGD, at one ratio of lr to batch size."""
    trial = yaml.safe_load(DEMO.read_text(encoding="utf-8"))["trial"]
    if tiny:
        trial |= {"epochs": 1, "data": trial["data"] | {"train_per_class": 8, "test_per_class": 2}}
    optimizer = {"name": "sgd", "lr": 0.02 * batch_size / 32}
    chosen = {"batch_size": batch_size, "optimizer": optimizer, "device": "cpu", "engine": engine}
    return loop.with_fingerprint(TrialConfig.model_validate(trial | chosen))


def preact_resnet18(root: Path, batch_size: int, engine: str) -> TrialConfig:
    """The paper's step, on the images that lie in `root`; an epoch, and next to nothing is evaluated."""
    values = {
        "data": {"name": "image_folder", "root": str(root), "validation_fraction": 0, "augment": True},
        "model": {"name": "preact_resnet18"},
        "batch_size": batch_size,
        "epochs": 1,
        "evaluation": {"splits": ["test"], "steps": 1},
        "device": "cpu",
        "engine": engine,
    }
    return loop.with_fingerprint(TrialConfig.model_validate(values))


def write_images(root: Path, count: int, size: int) -> str:
    """Writes `count` training images and one test image a class, as an image folder; says what they are."""
    source = Path(os.environ.get("ROBUSTSWEEP_DATA", "")) / "cifar10_exact_subset.npz"
    if source.is_file() and size == 32:
        found = np.load(source)
        images, labels = found["x_train"], found["y_train"]
    else:
        source, draws = Path(), np.random.default_rng(0)
        images = draws.integers(0, 256, (count + 10, size, size, 3), dtype=np.uint8)
        labels = np.arange(len(images)) % 10
    test = {int(np.flatnonzero(labels == label)[-1]) for label in range(10)}
    train = [place for place in range(len(labels)) if place not in test][:count]
    for split, places in (("train", train), ("test", sorted(test))):
        for place in places:
            folder = root / split / str(labels[place])
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(images[place]).save(folder / f"{place}.png")
    return "CIFAR-10" if source.name else "noise"


def pairs(config: TrialConfig, count: int) -> Iterator[tuple[Trained, Trained]]:
    """Runs of the usual loop and of the package's, in turns, each first in every other pair."""
    loops: list[Loop] = [usual_loop.train, own_loop]
    for each in loops:
        each(config)
    for number in range(count):
        first = number % 2
        found = {index: loops[index](config) for index in (first, 1 - first)}
        yield found[0], found[1]


def ratio(usual: Sequence[float], own: Sequence[float]) -> list[float]:
    """Geometric mean of usual / own over the pairs, and its 95 % t interval."""
    logs = np.log(np.divide(usual, own))
    half = float(stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs))
    return [round(float(np.exp(value)), 3) for value in (logs.mean(), logs.mean() - half, logs.mean() + half)]


def compared(config: TrialConfig, count: int, threads: int) -> dict[str, Any]:
    """A row of the record."""
    torch.set_num_threads(threads)
    found = list(pairs(config, count))
    usual, own = zip(*found, strict=True)
    differences = [abs(a - b) for one, other in found for a, b in zip(one.losses, other.losses, strict=True)]
    row: dict[str, Any] = {
        "model": config.model.name,
        "batch_size": config.batch_size,
        "threads": threads,
        "engine": config.engine,
    }
    row |= {"pairs": count, "training": ratio([one.training for one in usual], [one.training for one in own])}
    if config.data.name == "digits":
        row["trial"] = ratio([one.seconds for one in usual], [one.seconds for one in own])
    for name, runs in (("usual", usual), ("own", own)):
        row[f"{name}_seconds"] = {
            "training": [round(one.training, 4) for one in runs],
            "trial": [round(one.seconds, 4) for one in runs],
        }
    row |= {"losses": {"usual": usual[0].losses, "own": own[0].losses}, "loss_difference": max(differences)}
    row["test_robust"] = {"usual": usual[0].robust, "own": own[0].robust}
    print(f"{row['model']} {row['batch_size']}: {row['training']} {row.get('trial', '')}", file=sys.stderr)
    return row


def main() -> None:
    """Trains and prints."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--pairs", type=int, default=10, help="of the digits trial; of the large network three")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the large network")
    parser.add_argument("--only", choices=["digits", "preact_resnet18"])
    parser.add_argument("--engine", default="auto", help="of the package's loop, as trial.engine")
    parser.add_argument("--tiny", action="store_true", help="a test's size: its numbers say nothing")
    chosen = parser.parse_args()
    tiny, rows = chosen.tiny, []
    if chosen.only != "preact_resnet18":
        for batch_size in (16, 32, 64):
            rows.append(compared(digits(batch_size, chosen.engine, tiny), 2 if tiny else chosen.pairs, 1))
    if chosen.only != "digits":
        with TemporaryDirectory() as folder:
            images = write_images(Path(folder), 10 if tiny else 128, 8 if tiny else 32)
            config = preact_resnet18(Path(folder), 10 if tiny else 128, chosen.engine)
            rows.append(compared(config, 2 if tiny else 3, chosen.threads) | {"images": images})
    question = "How much faster than papers' codes does the package train on a CPU?"
    about = {"question": question, "command": shlex.join(["python", *sys.argv]), **environment()}
    json.dump({**about, "cpu_capability": torch.backends.cpu.get_cpu_capability(), "rows": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
