"""Are several workers of a trial one, and what do they cost?

    python benchmarks/workers.py --only equal > benchmarks/workers_equal.json
    python benchmarks/workers.py --only overhead > benchmarks/workers_overhead.json

`equal`: the sweep of configs/scale_digits.yaml, launched through Ray with one worker a trial, with two and with three,
the accuracies of every trial side by side (on stderr, as they come; all of them in the record).

`overhead`: one trial by one worker and by two, one thread each, in turns, in fresh processes: PreActResNet-18 on 32 x
32 images and the small network of the digits. Of the seconds of the epochs after the first, training alone:
`efficiency` is one worker's over twice those of two; `beside` has on top of that, in place of the one worker, two of
them that train the same trial at a time, each for itself, which share the machine and wait for nobody. Both are
geometric means over the rounds, with the 95 % t interval of the mean logarithm.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import yaml
from cpu_step import write_images
from scipy import stats

from sweep.plan.room import cores
from trainers import loop, workers
from trainers.config import TrialConfig
from trainers.provenance import environment
from trainers.record import EpochRecord, read

ROOT = Path(__file__).parents[1]
CONFIG = ROOT / "configs/scale_digits.yaml"
METRICS = ("val_clean", "val_robust", "test_clean", "test_robust")
CPU = torch.device("cpu")

#: How long a worker waits for the others, s.
PATIENCE = 600.0


def launched(numbers: Sequence[int], folder: Path, overrides: Sequence[str]) -> list[dict[str, Any]]:
    """The last accuracies of every trial of the sweep, with so many workers each."""
    by_number = {}
    for number in numbers:
        cpu = min(1.0, cores() * 100 // number / 100)  # more workers than cores share them
        asked = [f"resources.workers={number}", f"resources.cpu={cpu}", *overrides]
        command = [sys.executable, "-m", "sweep", "launch", str(CONFIG), "--out", str(folder / str(number))]
        command += [word for key in asked for word in ("--set", key)]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr, env={**os.environ, "PYTHONPATH": str(ROOT)})
        by_number[number] = accuracies(folder / str(number))
    trials = by_number[numbers[0]]
    assert all(found.keys() == trials.keys() for found in by_number.values()), "trials have other ids"
    return [
        {"trial": name, "metric": metric, **{str(number): by_number[number][name][metric] for number in numbers}}
        for name in trials
        for metric in METRICS
    ]


def accuracies(directory: Path) -> dict[str, Mapping[str, float]]:
    """Of each trial's last epoch."""
    lines = [record for record in read(directory) if record["record"] == "epoch"]
    return {line["trial_id"]: {metric: line[metric] for metric in METRICS} for line in lines}


def side_by_side(rows: Sequence[Mapping[str, Any]], numbers: Sequence[int]) -> bool:
    """Prints the accuracies, and whether those of a row are the same; gives whether all are."""
    heads = [f"{number} worker{'s' * (number > 1)}" for number in numbers]
    print(f"{'trial':14}{'':13}", *(f"{head:>12}" for head in heads), "  difference  equal", file=sys.stderr)
    for row in rows:
        values = [row[str(number)] for number in numbers]
        most = max(values) - min(values)
        cells = " ".join(f"{value:12.6f}" for value in values)
        print(
            f"{row['trial']:14}{row['metric']:13} {cells} {most:12.6f}  {'yes' if not most else 'no'}", file=sys.stderr
        )
    return all(row[str(number)] == row[str(numbers[0])] for row in rows for number in numbers)


def worker(values: dict[str, Any], rank: int, size: int, pipe: Connection) -> None:
    """One worker of a trial, in a process of its own: that of rank 0 sends the port, then its epochs' seconds."""
    torch.set_num_threads(1)
    config = TrialConfig.model_validate(values)
    if size == 1:
        pipe.send(trained(config, workers.ALONE))
    elif rank == 0:
        store = workers.opened("127.0.0.1", size)
        pipe.send(store.port)
        with workers.joined(store, 0, size, CPU, PATIENCE) as ours:
            pipe.send(trained(config, ours))
    else:
        with workers.joined(workers.found("127.0.0.1", pipe.recv(), size), rank, size, CPU, PATIENCE) as ours:
            loop.join(config, ours)


def trained(config: TrialConfig, ours: workers.Workers) -> list[float]:
    """Seconds of training of each epoch after the first, which makes everything ready."""
    records: list[EpochRecord] = []
    outcome = loop.train(config, records.append, workers=ours)  # type: ignore[arg-type]  # dynamics are off
    assert outcome.outcome == "completed", outcome
    return [record.seconds for record in records[1:]]


def seconds(config: TrialConfig, size: int, together: int = 1) -> float:
    """Of an epoch of a trial on so many workers; the mean of as many such trials at a time."""
    context, values = multiprocessing.get_context("spawn"), config.model_dump(mode="json")
    started, pipes = [], []
    for _ in range(together):
        ours, theirs = zip(*(context.Pipe() for _ in range(size)), strict=True)
        each = [context.Process(target=worker, args=(values, rank, size, theirs[rank])) for rank in range(size)]
        for process, pipe in zip(each, theirs, strict=True):
            process.start()
            pipe.close()  # so that the end of one that fails is seen here
        if size > 1:
            port = ours[0].recv()
            for pipe in ours[1:]:
                pipe.send(port)
        started += each
        pipes.append(ours[0])
    found = [float(np.mean(pipe.recv())) for pipe in pipes]
    for process in started:
        process.join()
    return float(np.mean(found))


def ratio(logs: Sequence[float]) -> list[float]:
    """Geometric mean and its 95 % t interval, of logarithms."""
    half = float(stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs))
    return [round(float(np.exp(np.mean(logs) + part)), 3) for part in (0.0, -half, half)]


def overhead(config: TrialConfig, rounds: int) -> dict[str, Any]:
    """A row of the record."""
    ways = {"one": (1, 1), "two_alone": (1, 2), "two": (2, 1)}
    times: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds):
        for way in sorted(ways, reverse=bool(number % 2)):
            times[way].append(seconds(config, *ways[way]))
    one, alone, two = (np.log(times[way]) for way in ways)
    row = {
        "model": config.model.name,
        "batch_size": config.batch_size,
        "attack_steps": config.attack.steps,
        "rounds": rounds,
        "efficiency": ratio(one - two - np.log(2)),
        "beside": ratio(alone - two - np.log(2)),
        "epoch_seconds": {way: [round(value, 4) for value in values] for way, values in times.items()},
    }
    print(f"{row['model']}: efficiency {row['efficiency']}, beside {row['beside']}", file=sys.stderr)
    return row


def digits(tiny: bool) -> TrialConfig:
    """The trial of configs/scale_digits.yaml."""
    trial = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["trial"]
    data = trial["data"] | ({"train_per_class": 12, "test_per_class": 2} if tiny else {})
    return prepared(trial | {"data": data, "epochs": 2 if tiny else 4})


def preact_resnet18(root: Path) -> TrialConfig:
    """A few steps of a network whose gradients weigh 45 MB; next to nothing is evaluated."""
    return prepared(
        {
            "data": {"name": "image_folder", "root": str(root), "validation_fraction": 0},
            "model": {"name": "preact_resnet18"},
            "batch_size": 64,
            "epochs": 2,
            "schedule": {"name": "constant"},
            "attack": {"steps": 4},
        }
    )


def prepared(trial: Mapping[str, Any]) -> TrialConfig:
    """A trial on the CPU that is evaluated at its end alone, by one step."""
    splits = ["test"] if trial["data"].get("validation_fraction") == 0 else ["val"]
    evaluation = {"splits": splits, "every": trial["epochs"], "steps": 1, "step_size": 0.01}
    return loop.with_fingerprint(TrialConfig.model_validate({**trial, "evaluation": evaluation, "device": "cpu"}))


def main() -> None:
    """Launches, trains and prints."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--only", choices=["equal", "overhead"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3], help="a trial's, the first of them 1")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--tiny", action="store_true", help="a test's size: its numbers say nothing")
    chosen = parser.parse_args()
    tiny, record = chosen.tiny, dict[str, Any]()
    with TemporaryDirectory() as folder:
        if chosen.only != "overhead":
            less = ["trial.epochs=1", "trial.evaluation.every=1", "seeds=[0]"] if tiny else []
            rows = launched(chosen.workers, Path(folder), less)
            record["equal"] = {"all": side_by_side(rows, chosen.workers), "accuracies": rows}
        if chosen.only != "equal":
            record["overhead"] = [overhead(digits(tiny), 2 if tiny else chosen.rounds)]
        if chosen.only != "equal" and not tiny:
            images = write_images(Path(folder) / "images", 256, 32)
            large = preact_resnet18(Path(folder) / "images")
            record["overhead"].append(overhead(large, chosen.rounds) | {"images": images})
    question = "Are several workers of a trial one, and what do they cost?"
    about = {"question": question, "command": shlex.join(["python", *sys.argv]), **environment()}
    json.dump({**about, "cpu_capability": torch.backends.cpu.get_cpu_capability(), **record}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
