"""How long does it take to read a long run, and how much memory?

    python benchmarks/frames.py > benchmarks/frames.json

A run of many trials is made up, its records as the package writes them. Each measurement is a process of its own, in
rounds: `seconds` are those of the call without imports, of a command those of the whole process; `cpu` those of all its
threads, which other work on the machine changes less; `peak_mb` is the most memory that the process held. `first`:
nothing is kept beside the log. `again`: it was read before. `more`: it was read before, and a trial's lines have come
since. Ratios are within a round, their geometric means over the rounds with 95 % t intervals, those of the mean
logarithm: to `pandas.read_parquet` of the same frame, and, of a first reading, to parsing the JSON alone, all of it in
memory at the end, by each parser that is installed.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import importlib.util
import json
import math
import os
import random
import shlex
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import stats

from analysis.frames.trials import load_epochs, load_trials
from trainers.config import TrialConfig
from trainers.identity import identity
from trainers.provenance import environment
from trainers.record import RECORDS_FILE, EpochRecord, OutcomeRecord, line

#: What a file system's clock may be behind, s: until then a changed log is compared with what is kept of it.
SETTLED = 2.5

COMMANDS = {
    "status": ("status",),
    "results": ("results",),
    "results --format csv": ("results", "--format", "csv"),
}

ARITHMETIC = {"precision": "fp32", "engine": "auto", "deterministic": False, "torch": "2.15.0", "cudnn": None}
ARITHMETIC |= {"processor": "AVX512", "threads": 1}


def make(directory: Path, trials: int, epochs: int) -> None:
    """Writes the records of a run: two optimizers, learning rates, batch sizes and seeds, two trials at a time."""
    rng = random.Random(0)
    points = [
        {"optimizer.name": name, "optimizer.lr": 0.01 * 2 ** (step / 4), "batch_size": batch_size}
        for name in ("sgd", "deat")
        for step in range(25)
        for batch_size in (16, 32, 64, 128)
    ]
    planned = [
        planned_trial(number, points[number % len(points)], number // len(points), epochs) for number in range(trials)
    ]
    ids = [trial["trial_id"] for trial in planned]
    launch = {"command": "sweep launch", "code_version": "03991d07f100", "metric": "val_robust", "mode": "max"}
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / RECORDS_FILE).open("w", encoding="utf-8") as file:
        file.write(line("launch", {**launch, "size": trials, "wanted": ids, "time": 0.0}))
        file.writelines(line("trial", {**trial, "time": 0.0}) for trial in planned)
        for first in range(0, trials, 2):
            file.writelines(trained(planned[first : first + 2], epochs, rng))


def planned_trial(number: int, point: Mapping[str, Any], seed: int, epochs: int) -> dict[str, Any]:
    """The values of a trial's line."""
    optimizer = {"name": point["optimizer.name"], "lr": point["optimizer.lr"]}
    values = {
        "data": {"name": "digits", "fingerprint": "digits-0"},
        "model": {"name": "small_cnn"},
        "optimizer": optimizer,
    }
    config = identity(
        TrialConfig.model_validate(
            {**values, "batch_size": point["batch_size"], "seed": seed, "epochs": epochs}
        ).resolved()
    )
    name = hashlib.sha256(json.dumps(config).encode()).hexdigest()[:12]
    return {"trial_id": name, "number": number, "config": config, "point": point, "seed": seed}


def trained(trials: Sequence[Mapping[str, Any]], epochs: int, rng: random.Random) -> Iterator[str]:
    """The lines of trials that are trained side by side; every fifth epoch is evaluated."""
    where = {"host": "vm", "device": "cpu", "code_version": "03991d07f100", "arithmetic": ARITHMETIC}
    for trial in trials:
        yield line("start", {"trial_id": trial["trial_id"], **where, "time": 0.0})
    for number in range(1, epochs + 1):
        for trial in trials:
            record = asdict(epoch(trial, number, number % 5 == 0 or number == epochs, rng))
            yield line("epoch", {**record, "time": round(1.79e9 + rng.random(), 3)})
    for trial in trials:
        yield line("outcome", {**asdict(OutcomeRecord(trial["trial_id"], "completed", "", epochs)), "time": 0.0})


def epoch(trial: Mapping[str, Any], number: int, evaluated: bool, rng: random.Random) -> EpochRecord:
    """An epoch of made-up numbers in as many digits as measured ones have."""
    point = trial["point"]
    robust = 0.6 + 0.05 * math.log10(point["optimizer.lr"] / point["batch_size"]) - 0.1 * math.exp(-number / 10)
    names = [
        f"{split}_{what}" for split in ("val", "test") for what in ("clean", "robust", "clean_loss", "robust_loss")
    ]
    return EpochRecord(
        trial["trial_id"],
        number,
        point["optimizer.lr"],
        train_robust=robust + rng.gauss(0, 0.01),
        train_robust_loss=1 - robust + rng.gauss(0, 0.01),
        **({name: robust + rng.gauss(0, 0.01) for name in names} if evaluated else {}),
        seconds=0.3 + rng.random(),
        evaluation_seconds=rng.random() / 100,
        checkpoint_seconds=rng.random() / 1000,
        samples_per_second=3000 + rng.random(),
        engine="eager",
        peak_memory_bytes=975618048,
    )


def parsers() -> dict[str, Callable[[Path], object]]:
    """Ways to parse the JSON alone, all of it in memory at the end: those that are installed."""

    def by_lines(parse: Callable[[bytes], object], path: Path) -> object:
        with path.open("rb") as file:
            return [parse(text) for text in file]

    by_name: dict[str, Callable[[Path], object]] = {"json": functools.partial(by_lines, json.loads)}
    from pyarrow.json import read_json

    by_name["pyarrow"] = read_json
    if importlib.util.find_spec("orjson"):
        import orjson

        by_name["orjson"] = functools.partial(by_lines, orjson.loads)
    if importlib.util.find_spec("msgspec"):
        import msgspec

        by_name["msgspec"] = lambda path: msgspec.json.Decoder().decode_lines(path.read_bytes())
    if importlib.util.find_spec("polars"):
        import polars

        by_name["polars"] = polars.read_ndjson
    return by_name


def task(name: str, directory: Path) -> tuple[float, float]:
    """Seconds and CPU seconds of one call in this process."""
    import pandas as pd

    kind, _, what = name.partition(" ")
    calls: dict[str, Callable[[], object]] = {
        "load_trials": lambda: load_trials(directory),
        "load_epochs": lambda: load_epochs(directory),
        "read_parquet": lambda: pd.read_parquet(directory.with_name(f"{what}.parquet")),
        "parse": lambda: parsers()[what](directory / RECORDS_FILE),
    }
    if kind == "parse":
        parsers()  # imports
    started, worked = time.perf_counter(), time.process_time()
    kept = calls[kind]()
    seconds = time.perf_counter() - started, time.process_time() - worked
    del kept
    return seconds


#: Ends a process with its CPU seconds and the most memory that it held, kB, as the last words on stderr.
_PEAK = """
import atexit, re, sys, time
peak = lambda: re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]
atexit.register(lambda: print(time.process_time(), peak(), file=sys.stderr))
"""


def measured(name: str, directory: Path) -> tuple[float, float, float]:
    """Seconds, CPU seconds and MB of a call or command in a process of its own."""
    command = COMMANDS.get(name)
    if command is None:
        code, words = f"import runpy; runpy.run_path({__file__!r}, run_name='__main__')", ["--task", name]
        words += ["--directory", str(directory)]
    else:
        code, words = "from sweep.cli import main; main()", [command[0], str(directory), *command[1:]]
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", _PEAK + code, *words], capture_output=True, text=True, check=True)
    seconds = time.perf_counter() - started
    cpu, peak = map(float, done.stderr.split()[-2:])
    seconds, cpu = (seconds, cpu) if command else map(float, done.stdout.split())
    return seconds, cpu, peak / 1000


def a_round(directory: Path, more: str) -> Iterator[tuple[str, float, float, float]]:
    """Every measurement once: its name, seconds, CPU seconds and MB."""
    log, loads = directory / RECORDS_FILE, ("load_trials", "load_epochs")
    for parser in parsers():
        yield f"parse {parser}", *measured(f"parse {parser}", directory)
    for load in loads:
        forget(directory)
        yield f"{load} first", *measured(load, directory)
    size = log.stat().st_size
    with log.open("a", encoding="utf-8") as file:
        file.write(more)
    for load in loads:
        yield f"{load} more", *measured(load, directory)
    os.truncate(log, size)
    time.sleep(SETTLED)
    for load in loads:
        measured(load, directory)
        yield f"read_parquet {load}", *measured(f"read_parquet {load}", directory)
        yield f"{load} again", *measured(load, directory)
    for command in COMMANDS:
        yield command, *measured(command, directory)


def forget(directory: Path) -> None:
    """Removes all that is beside the log."""
    for path in directory.iterdir():
        if path.is_dir():
            shutil.rmtree(path)


def ratio(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Geometric mean of one / other over the rounds, and its 95 % t interval."""
    logs = np.log(np.divide(one, other))
    half = float(stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs)) if len(logs) > 1 else math.nan
    values = (logs.mean(), logs.mean() - half, logs.mean() + half)
    return [round(float(np.exp(value)), 3) for value in values if not math.isnan(value)]


def ratios(seconds: Mapping[str, Sequence[float]]) -> dict[str, list[float]]:
    """Of each reading to `read_parquet` of its frame; of a first one to each parser, too."""
    by_name = {}
    for load in ("load_trials", "load_epochs"):
        for when in ("again", "more", "first"):
            by_name[f"{load} {when} / read_parquet"] = ratio(seconds[f"{load} {when}"], seconds[f"read_parquet {load}"])
        for parser in parsers():
            by_name[f"{load} first / {parser}"] = ratio(seconds[f"{load} first"], seconds[f"parse {parser}"])
    return by_name


def benchmark(directory: Path, trials: int, epochs: int, rounds: int) -> dict[str, Any]:
    """Makes the run and measures."""
    make(directory, trials, epochs)
    for load, frame in (("load_trials", load_trials(directory)), ("load_epochs", load_epochs(directory))):
        frame.to_parquet(directory.with_name(f"{load}.parquet"), index=False)
        del frame
    known = planned_trial(trials, {"optimizer.name": "sgd", "optimizer.lr": 1.0, "batch_size": 16}, 0, epochs)
    more = line("trial", {**known, "time": 0.0}) + "".join(trained([known], epochs, random.Random(1)))
    seconds, cpus, peaks = defaultdict(list), defaultdict(list), defaultdict(list)
    for number in range(rounds):
        for name, taken, cpu, peak in a_round(directory, more):
            seconds[name].append(round(taken, 4))
            cpus[name].append(round(cpu, 4))
            peaks[name].append(round(peak))
            print(f"{number} {name}: {taken:.3f} s, CPU {cpu:.3f} s, {peak:.0f} MB", file=sys.stderr, flush=True)
    size = (directory / RECORDS_FILE).stat().st_size
    about = {"trials": trials, "epochs": epochs, "bytes": size, "rounds": rounds}
    return {
        **about,
        "ratios": ratios(seconds),
        "cpu_ratios": ratios(cpus),
        "seconds": seconds,
        "cpu": cpus,
        "peak_mb": peaks,
    }


def main() -> None:
    """Prints the record."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--trials", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--task", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.task:
        print(*task(chosen.task, chosen.directory))
        return
    with TemporaryDirectory() as folder:
        measurements = benchmark(Path(folder) / "run", chosen.trials, chosen.epochs, chosen.rounds)
    question = "How long does it take to read a long run, and how much memory?"
    about = {"question": question, "command": shlex.join(["python", *sys.argv]), **environment()}
    print(json.dumps({**about, **measurements}, indent=1))


if __name__ == "__main__":
    main()
