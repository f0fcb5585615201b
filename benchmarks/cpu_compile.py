"""Where does `engine: compile` pay on a CPU?

    python benchmarks/cpu_compile.py > benchmarks/cpu_compile.json

The digits trial of `cpu_step.py`, on one thread, eager and compiled epochs in turns, in one process: `ms`, the median
time of a step by engine, with the quartiles over `EPOCHS` epochs. `preparing`, the seconds that compiling took: cold
where torch's cache on the disk was empty, warm in a second process, which finds there what the first has compiled.
`pays_after` steps of that batch size in one process the compiled engine has won back what it cost; null: never.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from cpu_step import digits

from trainers.provenance import environment
from trainers.training import Training

EPOCHS = 12


def measured(batch_size: int) -> dict[str, Any]:
    """What this process finds, with the cache as it is."""
    torch.set_num_threads(1)
    both = {engine: Training.begin(digits(batch_size, engine, False)) for engine in ("eager", "compile")}
    preparing = sum(both["compile"].epoch(number).preparing for number in range(2))
    both["eager"].epoch(0)
    steps = -(-len(both["eager"].data.train.labels) // batch_size)
    found: dict[str, list[float]] = {engine: [] for engine in both}
    for number in range(EPOCHS):
        for engine, training in both.items():
            found[engine].append(1000 * training.epoch(number % training.config.epochs).seconds / steps)
    ms = {engine: np.percentile(times, (50, 25, 75)).round(3).tolist() for engine, times in found.items()}
    return {"engine": both["compile"].engine.mode, "ms": ms, "preparing": preparing}


def pays_after(row: dict[str, Any]) -> int | None:
    """Steps after which compiling has won back its seconds."""
    gain = (row["ms"]["eager"][0] - row["ms"]["compile"][0]) / 1000
    return round(row["preparing"] / gain) if gain > 0 else None


def main() -> None:
    """Measures each batch size in two processes, one after the other, and prints."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--one", type=int, help="measure one batch size in this process")
    chosen = parser.parse_args()
    if chosen.one:
        print(json.dumps(measured(chosen.one)))
        return
    rows = []
    for batch_size in (16, 32, 64):
        with TemporaryDirectory() as cache:
            for state in ("cold", "warm"):
                command = [sys.executable, __file__, "--one", str(batch_size)]
                variables = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
                done = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, check=True)
                row = json.loads(done.stdout)
                rows.append({"batch_size": batch_size, "cache": state, **row, "pays_after": pays_after(row)})
                print(rows[-1], file=sys.stderr)
    about = {"question": "Where does engine: compile pay on a CPU?", "command": shlex.join(["python", *sys.argv])}
    json.dump({**about, **environment(), "epochs": EPOCHS, "rows": rows}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
