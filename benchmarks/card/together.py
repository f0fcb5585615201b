"""side_by_side: one, two and more trials on one card, by processes and by streams of one process."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch

from card.setting import Setting, read
from card.speed import best_engine
from card.starting import answer, job
from card.trials import STEPS, free, images, trial
from trainers.training import Training

#: Values of the trial, side of its images in pixels, batches of an epoch, and how many are tried at once.
SIZES: dict[str, dict[str, Any]] = {
    "large": {"values": {}, "pixels": 32, "steps": 15, "counts": (1, 2)},
    "small": {
        "values": {"model": {"name": "small_cnn"}, "batch_size": 64, "engine": "graph"},
        "pixels": 8,
        "steps": 200,
        "counts": (1, 2, 4),
    },
}
TINY: dict[str, Any] = {"values": {}, "pixels": 8, "steps": 2, "counts": (1, 2)}
WAYS = ("processes", "streams")


def side_by_side(setting: Setting) -> None:
    """Steps a second of all trials together over the same seconds, and their ratio to one alone, way by way."""
    engine = best_engine(setting)
    plan = [("large", "processes"), ("small", "streams"), ("large", "streams"), ("small", "processes")]
    for size, way in setting.pick(plan, [("large", way) for way in WAYS]):
        used = setting.pick(SIZES[size], TINY)["values"].get("engine", engine)
        alone = _alone(setting) if size == "large" else None
        for count in setting.pick(SIZES[size], TINY)["counts"][alone is not None :]:
            name = f"{size}, {count} by {way}"
            if not setting.fits(name, (20 if way == "processes" else 10) + 3 * count):
                continue
            with setting.measuring(name):
                started = time.monotonic()
                measure = by_processes if way == "processes" else by_threads
                found = measure(setting, {"size": size, "engine": engine, "count": count, "way": way})
                rate = sum(found["steps_a_second"])
                alone = rate if count == 1 else alone
                hours = {"trial_epochs_an_hour": 3600 * rate / STEPS} if size == "large" else {}
                about = {"size": size, "way": way, "count": count, "engine": used, **hours}
                ratio = None if alone is None else rate / alone
                took = time.monotonic() - started
                setting.write(name, **about, **found, rate=rate, ratio_to_alone=ratio, took=took)
            free(setting)


def _alone(setting: Setting) -> float | None:
    """Steps a second of the large trial alone, as the section modes measured it in this run."""
    known = [row["ms"] for row in read(setting.out) if row["name"] == "compile bf16" and "ms" in row]
    return 1000 / known[-1] if known else None


def _training(setting: Setting, size: str, engine: str, seed: int) -> tuple[Any, int]:
    """A training past its warm-up, and its steps an epoch."""
    chosen = setting.pick(SIZES[size], TINY)
    config = trial(setting, {"engine": engine, **chosen["values"], "seed": seed})
    data = images(setting, chosen["steps"] * config.batch_size, size=chosen["pixels"])
    training = Training.begin(config, data)
    training.epoch(0)
    training.epoch(1)
    setting.synchronize()
    return training, math.ceil(len(data.train.labels) / config.batch_size)


def _window(setting: Setting) -> float:
    return setting.pick(3.0, 0.2)


def _steps_a_second(epoch: Callable[[int], object], steps: int, until: float) -> float:
    """Trains epochs from now to the end of the window, the last of which goes beyond it and is not counted."""
    began = ended = time.monotonic()
    done = 0
    for number in range(2, 10**9):
        epoch(number)
        now = time.monotonic()
        if now > until and done:
            break
        ended, done = now, done + steps
        if now > until:
            break
    return done / (ended - began)


def by_processes(setting: Setting, how: Mapping[str, Any]) -> dict[str, Any]:
    """Each trial in a process of its own with its share of the memory; all begin once all are ready."""
    count = how["count"]
    arguments = {"size": how["size"], "engine": how["engine"], "share": 0.95 / count}
    processes = [job(setting, "neighbour", **arguments, seed=seed) for seed in range(count)]
    try:
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("a process ended before it was ready")
        until = time.monotonic() + _window(setting)
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{until}\n")
            process.stdin.flush()
        found = [answer(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return {key: [each[key] for each in found] for key in found[0]}


def neighbour(setting: Setting, size: str, engine: str, seed: int, share: float) -> dict[str, Any]:
    """One of the processes: says that it is ready, is told until when, and trains."""
    if setting.device.type == "cuda":
        torch.cuda.set_per_process_memory_fraction(share)
    training, steps = _training(setting, size, engine, seed)
    print("ready", flush=True)
    until = float(sys.stdin.readline())
    rate = _steps_a_second(training.epoch, steps, until)
    memory = torch.cuda.max_memory_reserved() if setting.device.type == "cuda" else None
    return {"steps_a_second": rate, "reserved_bytes": memory}


def by_threads(setting: Setting, how: Mapping[str, Any]) -> dict[str, Any]:
    """Each trial in a thread of this process, on a stream of its own."""
    count = how["count"]
    cuda = setting.device.type == "cuda"
    streams = [torch.cuda.stream(torch.cuda.Stream()) if cuda else nullcontext() for _ in range(count)]
    ready = []
    for seed in range(count):
        with streams[seed]:
            ready.append(_training(setting, how["size"], how["engine"], seed))
    until, rates, errors = time.monotonic() + _window(setting), [0.0] * count, []

    def run(number: int) -> None:
        training, steps = ready[number]
        try:
            with streams[number]:
                rates[number] = _steps_a_second(training.epoch, steps, until)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return {"steps_a_second": rates}
