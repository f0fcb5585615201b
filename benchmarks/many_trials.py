"""What does a trial cost besides its training, at the start of a long sweep and at its end, beside plain Ray Tune?

    python benchmarks/many_trials.py > benchmarks/many_trials.json

Each sweep has so many trials of one epoch on 20 images. They are run by `sweep launch`, with its records and
checkpoints, and by Ray Tune alone, whose trainable calls the same `trainers.loop.train` and reports the epoch: workers
reused, all else as Tune has it, its loggers too. The two take turns. Measured, from the times at which trials end and
the resident memory of the driver's process:

    start, end    seconds a trial in the second and in the last tenth of the sweep: mean of ten blocks, and its 95 %
                  interval (t)
    memory        bytes of the driver after a tenth of the trials and at the end, and bytes a trial between: the slope
                  of a least-squares line, and its 95 % interval by ten blocks
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from scipy import stats

from sweep.config_file import load
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned
from trainers.provenance import environment
from trainers.record import RECORDS_FILE

CONFIG = """\
name: many
trial:
  data: {name: digits, train_per_class: 2, test_per_class: 2, validation_fraction: 0.01}
  model: {name: small_cnn}
  epochs: 1
  batch_size: 20
  attack: {radius: 0.15, step_size: 0.15, steps: 1}
  evaluation: {steps: 1, splits: [val, test]}
  schedule: {name: constant}
space:
  optimizer.lr: LRS
seeds: SEEDS
"""

#: Between two looks at a driver's memory, s.
LOOKS = 0.5

#: Seeds of a learning rate, at most.
SEEDS = 100

#: Parts of a tenth of the trials, and of all, whose spread makes the intervals.
BLOCKS = 10


def config(folder: Path, trials: int) -> Path:
    """Writes the config of a sweep of so many trials."""
    seeds = min(trials, SEEDS)
    path = folder / f"many-{trials}.yaml"
    lrs = [round(0.001 * (step + 1), 4) for step in range(trials // seeds)]
    path.write_text(CONFIG.replace("LRS", str(lrs)).replace("SEEDS", str(list(range(seeds)))))
    return path


def watched(command: Sequence[str], most: float, log: Path) -> tuple[list[float], list[float]]:
    """Runs a command, no longer than `most` seconds; times since 1970 and bytes of its memory then."""
    with log.open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=said, start_new_session=True, env=_environment())
    times, memory, began = [], [], time.monotonic()
    try:
        while process.poll() is None and time.monotonic() - began < most:
            times.append(time.time())
            memory.append(_resident(process.pid))
            time.sleep(LOOKS)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return times, memory


def _environment() -> dict[str, str]:
    """PYTHONPATH with this checkout first, as Ray's workers need it too."""
    ours = str(Path(__file__).resolve().parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH")]))}


def _resident(process: int) -> float:
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return float("nan")
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def by_sweep(path: Path, folder: Path, most: float) -> tuple[list[float], tuple[list[float], list[float]]]:
    """When the trials of `sweep launch` ended, and its driver's memory."""
    run = folder / "run"
    words = ["launch", str(path), "--out", str(run)]
    seen = watched([sys.executable, "-c", "from sweep.cli import main; main()", *words], most, folder / "log")
    if not (run / RECORDS_FILE).exists():
        raise SystemExit((folder / "log").read_text()[-2000:])
    lines = (run / RECORDS_FILE).read_text().splitlines()
    ended = [json.loads(line)["time"] for line in lines if line.startswith('{"record":"outcome"')]
    shutil.rmtree(run)
    return ended, seen


def by_tune(path: Path, folder: Path, most: float) -> tuple[list[float], tuple[list[float], list[float]]]:
    """The same of Ray Tune alone."""
    out = folder / "plain"
    out.mkdir()
    sweep = load(path)
    trials = planned(sweep, fixed_points(sweep), fingerprints(sweep))
    (out / "configs.json").write_text(json.dumps([trial.config.model_dump(mode="json") for trial in trials]))
    seen = watched([sys.executable, str(Path(__file__).resolve()), "--plain", str(out)], most, folder / "log")
    if not (out / "ended").exists():
        raise SystemExit((folder / "log").read_text()[-2000:])
    ended = [float(line) for line in (out / "ended").read_text().split()]
    shutil.rmtree(out)
    return ended, seen


def plain(out: Path) -> None:
    """Ray Tune alone, with the trials of a file; writes down when each ended."""
    import ray
    from ray import tune

    class Ended(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
            with (out / "ended").open("a") as file:
                file.write(f"{time.time()}\n")

    def trainable(values: dict[str, Any], configs: list[dict[str, Any]]) -> None:
        import torch

        from trainers.config import TrialConfig
        from trainers.loop import train
        from trainers.record import EpochRecord

        torch.set_num_threads(1)

        def report(record: Any) -> None:
            if isinstance(record, EpochRecord):
                tune.report({"val_robust": record.val_robust, "test_robust": record.test_robust, "lr": record.lr})

        train(TrialConfig.model_validate({**configs[values["trial"]], "device": "cpu"}), report)

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    configs = json.loads((out / "configs.json").read_text())
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, configs=configs), {"cpu": 1}),
        # numbers, for of a grid of mappings Tune copies the whole for each trial, which takes hours
        param_space={"trial": tune.grid_search(list(range(len(configs))))},
        tune_config=tune.TuneConfig(reuse_actors=True, max_concurrent_trials=os.cpu_count()),
        run_config=tune.RunConfig(storage_path=str((out / "storage").absolute()), callbacks=[Ended()], verbose=0),
    )
    tuner.fit()


def measured(ended: Sequence[float], wanted: int, seen: tuple[list[float], list[float]]) -> dict[str, Any]:
    """What the times and the memory tell."""
    times, tenth = np.sort(np.asarray(ended)), len(ended) // 10
    looked, memory = (np.asarray(values) for values in seen)
    done = np.searchsorted(times, looked)  # trials ended at each look
    inside = (done >= tenth) & (done < len(times)) & np.isfinite(memory)
    record: dict[str, Any] = {"trials": wanted, "ended": len(times), "seconds": round(float(times[-1] - times[0]), 2)}
    record["seconds a trial, start"] = _a_trial(times[tenth : 2 * tenth + 1])
    record["seconds a trial, end"] = _a_trial(times[-tenth - 1 :])
    record["memory, start"], record["memory, end"] = (float(memory[inside][place]) for place in (0, -1))
    record["memory a trial"] = _growth(done[inside], memory[inside])
    return record


def _a_trial(times: np.ndarray[Any, Any]) -> dict[str, float]:
    """Mean seconds between two ends, over blocks of them."""
    steps = (len(times) - 1) // BLOCKS
    ends = times[:: max(steps, 1)]
    return _interval(np.diff(ends)[:BLOCKS] / max(steps, 1))


def _growth(done: np.ndarray[Any, Any], memory: np.ndarray[Any, Any]) -> dict[str, float]:
    """Bytes a trial: the slopes of blocks of looks."""
    parts = np.array_split(np.arange(len(done)), BLOCKS)
    slopes = [np.polyfit(done[part], memory[part], 1)[0] for part in parts if len(np.unique(done[part])) > 1]
    return {**_interval(np.asarray(slopes)), "of all": float(np.polyfit(done, memory, 1)[0])}


def _interval(values: np.ndarray[Any, Any]) -> dict[str, float]:
    half = (
        stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    )
    mean = float(values.mean())
    return {"mean": mean, "low": mean - float(half), "high": mean + float(half), "n": len(values)}


def rounds(sizes: Sequence[int], number: int, most: float) -> Iterator[dict[str, Any]]:
    """Every measurement, the two ways in turn."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        for size in sizes:
            path = config(folder, size)
            for turn in range(number):
                for way, run in sorted({"sweep": by_sweep, "tune": by_tune}.items(), reverse=bool(turn % 2)):
                    load_before = os.getloadavg()[0]
                    ended, memory = run(path, folder, most)
                    record = measured(ended, size, memory)
                    yield {"way": way, "turn": turn, "load average before": load_before, **record}


def main() -> None:
    """Prints the record."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2000, 10_000], help="trials of each sweep")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--most-seconds", type=float, default=720.0, help="of one sweep, which is then stopped")
    parser.add_argument("--plain", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.plain:
        plain(chosen.plain)
        return
    runs = []
    for record in rounds(chosen.sizes, chosen.rounds, chosen.most_seconds):
        runs.append(record)
        print(json.dumps(record), file=sys.stderr, flush=True)
    about = {"question": str(__doc__).partition("\n")[0], "command": shlex.join(["python", *sys.argv]), **environment()}
    print(json.dumps({**about, "memory_unit": "bytes", "runs": runs}, indent=1))


if __name__ == "__main__":
    main()
