"""How long until a relaunched sweep of 10,000 trials trains its first missing one, and what does a plan cost?

    python benchmarks/relaunch.py > benchmarks/relaunch.json

A run is made up in which all trials but ten are finished. Each measurement is a command of its own, in rounds:

    relaunch first   seconds from the command to the first start record; nothing is kept beside the log
    relaunch again   the same where the log was read before
    fresh            the same of a sweep of ten trials that begins: Ray's start and its workers' imports
    plan             CPU seconds, of all its threads, of `sweep plan` of 200 trials of which none has run
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from frames import SETTLED, forget, trained

from sweep.config_file import load
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned
from trainers.provenance import environment
from trainers.record import RECORDS_FILE, line

CONFIG = """\
name: NAME
trial:
  data: {name: digits}
  model: {name: small_cnn}
  epochs: EPOCHS
  attack: {radius: 0.15, step_size: 0.05, steps: 1}
space:
  optimizer.lr: LRS
  batch_size: [8, 16, 24, 32, 40, 48, 56, 64, 96, 128]
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""

#: What a command may take to its first start record, s.
PATIENCE = 120.0


def config(folder: Path, name: str, lrs: int, epochs: int) -> Path:
    """Writes the config of a sweep of 100 trials a learning rate."""
    path = folder / f"{name}.yaml"
    values = [round(0.001 * (step + 1), 4) for step in range(lrs)]
    path.write_text(CONFIG.replace("NAME", name).replace("EPOCHS", str(epochs)).replace("LRS", str(values)))
    return path


def make(path: Path, directory: Path, left: int) -> None:
    """Writes the records of a run of the config in which all but `left` trials are finished."""
    sweep, rng = load(path), random.Random(0)
    trials = planned(sweep, fixed_points(sweep), fingerprints(sweep))
    lines = [{**trial.record(number), "time": 0.0} for number, trial in enumerate(trials)]
    launch = {"command": "sweep launch", "metric": sweep.metric, "mode": sweep.mode, "time": 0.0}
    directory.mkdir()
    with (directory / RECORDS_FILE).open("w", encoding="utf-8") as file:
        file.write(line("launch", {**launch, "size": len(trials), "wanted": [trial.id for trial in trials]}))
        file.writelines(line("trial", values) for values in lines)
        for values in lines[:-left]:
            # of the config's axes, `frames.epoch` reads these
            about = values | {"point": {"optimizer.lr": 0.1, "batch_size": 32}}
            file.writelines(trained([about], sweep.trial.epochs, rng))


def until_it_trains(config: Path, directory: Path, size: int) -> float:
    """Seconds from `sweep launch` to the first start record behind the log's first `size` bytes; then it is stopped."""
    command = _sweep("launch", str(config), "--out", str(directory))
    log, started = directory / RECORDS_FILE, time.perf_counter()
    launch = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        while (taken := time.perf_counter() - started) < PATIENCE and launch.poll() is None:
            if log.exists() and log.stat().st_size > size and _begun(log, size):
                return taken
            time.sleep(0.02)
        raise SystemExit(f"{shlex.join(command)}: no trial began in {taken:.0f} s")
    finally:
        os.killpg(launch.pid, signal.SIGINT)
        launch.wait()


def _sweep(*words: str) -> list[str]:
    return [sys.executable, "-c", "from sweep.cli import main; main()", *words]


def _begun(log: Path, size: int) -> bool:
    with log.open("rb") as file:
        file.seek(size)
        return b'"record":"start"' in file.read()


def cpu_seconds(*words: str) -> float:
    """CPU seconds of a command with all of its children."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(_sweep(*words), check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def a_round(folder: Path, run: Path, size: int) -> Iterator[tuple[str, float]]:
    """Every measurement once."""
    for when in ("first", "again"):
        os.truncate(run / RECORDS_FILE, size)
        forget(run)
        if when == "again":
            cpu_seconds("status", str(run))
            time.sleep(SETTLED)
        yield f"relaunch {when}", until_it_trains(folder / "long.yaml", run, size)
    fresh = folder / "fresh"
    yield "fresh", until_it_trains(folder / "short.yaml", fresh, 0)
    shutil.rmtree(fresh)
    yield "plan", cpu_seconds("plan", str(folder / "short.yaml"), "--out", str(folder / "none"))


def main() -> None:
    """Prints the record."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--lrs", type=int, default=100, help="learning rates of the long run, 100 trials each")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    seconds: dict[str, Any] = defaultdict(list)
    with TemporaryDirectory() as name:
        folder = Path(name)
        config(folder, "short", 2, chosen.epochs)
        make(config(folder, "long", chosen.lrs, chosen.epochs), folder / "run", left=10)
        size = (folder / "run" / RECORDS_FILE).stat().st_size
        for number in range(chosen.rounds):
            for what, taken in a_round(folder, folder / "run", size):
                seconds[what].append(round(taken, 3))
                print(f"{number} {what}: {taken:.2f} s", file=sys.stderr, flush=True)
    about = {"question": str(__doc__).partition("\n")[0], "command": shlex.join(["python", *sys.argv]), **environment()}
    sizes = {"trials": 100 * chosen.lrs, "left": 10, "epochs": chosen.epochs, "bytes": size, "rounds": chosen.rounds}
    print(json.dumps({**about, **sizes, "seconds": seconds}, indent=1))


if __name__ == "__main__":
    main()
