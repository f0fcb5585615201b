"""Would early stopping have chosen the same best cell, and at what share of the epochs? Recorded sweeps, replayed.

    python benchmarks/stopping.py > benchmarks/stopping.json              # minutes on two cores
    python benchmarks/stopping.py --record NAME DIR                       # NAME's curves anew, from a run in DIR

The sweeps are configs/stopping_digits.yaml, under the schedules of `SWEEPS`, every trial of which ran to its end;
their val_robust by epoch lies in benchmarks/stopping_curves.json. A replay gives out the trials in a random order (of
trials; of points where they race over their seeds, given out as a launch does), so many at once, each epoch of random
length, and hands each epoch to the very rules that a launch asks (sweep.plan.stopping), in the order in which it
ends. A trial that a rule ends trains no further, and one that is given up before it begins, not at all. The best cell
is then chosen as every table chooses it (analysis.frames.cells.best_cells), of the trials that were not pruned.

`same` counts the replays whose cell is the one that the whole sweep chooses; `within_noise` those whose cell's mean in
the whole sweep is no more than one standard error of a difference below that one's. Beside the rules stand what else
the same epochs could be spent on: fewer seeds, and every trial shorter (of its own schedule's beginning).
"""

from __future__ import annotations

import heapq
import json
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame
from scipy import stats

from analysis.frames.cells import best_cells, codes
from analysis.frames.trials import axes, load_epochs, load_trials, trials_of
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.plan.stopping import epochs_of, rules_of
from sweep.search.inputs import fingerprints
from sweep.search.trials import PlannedTrial, fixed_points, planned
from sweep.stopping.decisions import Stopping
from trainers.provenance import environment

FOLDER = Path(__file__).parent
CONFIG = FOLDER.parent / "configs" / "stopping_digits.yaml"
CURVES = FOLDER / "stopping_curves.json"
METRIC = "val_robust"

#: The recorded sweeps: what each sets beside its config.
SWEEPS: dict[str, tuple[str, ...]] = {
    "piecewise": (),
    "one_cycle": ("trial.schedule.name=one_cycle", "trial.schedule.milestones=[]"),
}

#: What is replayed, by name: the keys of the config.
SETTINGS: dict[str, dict[str, Any]] = {
    "asha, factor 4 (default)": {"stopping": {"name": "asha"}},
    "asha, factor 2, from epoch 2": {"stopping": {"name": "asha", "reduction_factor": 2, "min_resource": 2}},
    "asha, factor 3, from epoch 3": {"stopping": {"name": "asha", "reduction_factor": 3, "min_resource": 3}},
    "hyperband, factor 3 (default)": {"stopping": {"name": "hyperband"}},
    "median (default)": {"stopping": {"name": "median"}},
    "median, from epoch 3": {"stopping": {"name": "median", "n_warmup_steps": 3}},
    "percentile 25, from epoch 3": {"stopping": {"name": "percentile", "percentile": 25.0, "n_warmup_steps": 3}},
    "wilcoxon (default)": {"stopping": {"name": "wilcoxon"}},
    "race, alpha 0.05 (default)": {"race": {}},
}
CONCURRENCIES = (1, 2, 8)
REPLAYS = 40

#: An epoch's length in a replay, of one on average.
JITTER = (0.8, 1.2)


@dataclass(frozen=True)
class Recorded:
    """A sweep whose every trial ran to its end."""

    config: SweepConfig
    trials: list[PlannedTrial]
    curves: np.ndarray
    """(trials, epochs) of the metric."""
    frame: DataFrame
    """Of the trials."""
    cell: np.ndarray
    """(trials,) each one's cell."""

    @property
    def means(self) -> np.ndarray:
        """(cells,) at the last epoch."""
        return np.bincount(self.cell, self.curves[:, -1]) / np.bincount(self.cell)

    @property
    def error(self) -> float:
        """Standard error of the difference of two cells' means, with one seed noise for all."""
        rest = self.curves[:, -1] - self.means[self.cell]
        seeds = len(self.trials) / len(self.means)
        return float(np.sqrt(2 * (rest**2).sum() / (len(rest) - len(self.means)) / seeds))

    def best(self, outcomes: Sequence[str], values: np.ndarray | None = None) -> int:
        """The cell that is chosen of the completed trials; -1: none."""
        last = self.curves[:, -1] if values is None else values
        frame = self.frame.assign(outcome=list(outcomes), **{f"last_{METRIC}": last})
        chosen = best_cells(frame, f"last_{METRIC}")
        return int(chosen.index[0]) if len(chosen) else -1


@cache
def recorded(name: str) -> Recorded:
    """One of `SWEEPS`, as its curves lie beside this file."""
    config = load(CONFIG, SWEEPS[name])
    trials = planned(config, fixed_points(config), fingerprints(config))
    curves = json.loads(CURVES.read_text())[name]
    if {trial.id for trial in trials} != curves.keys():
        raise SystemExit(f"{CURVES}: {name}: is of other trials; record it anew")
    frame = trials_of([{"record": "trial", **trial.record(n), "time": 0.0} for n, trial in enumerate(trials)])
    cell = codes(frame, axes(frame))
    return Recorded(config, trials, np.array([curves[trial.id] for trial in trials]), frame, cell)


def _order(sweep: Recorded, rng: np.random.Generator, setting: dict[str, Any]) -> list[int]:
    """In which order trials are given out: a race's seed after seed, and Wilcoxon's point after point."""
    wilcoxon = setting.get("stopping", {}).get("name") == "wilcoxon"
    if not wilcoxon and "race" not in setting:
        return [int(place) for place in rng.permutation(len(sweep.trials))]
    points = rng.permutation(int(sweep.cell.max()) + 1)
    seeds = sorted({trial.seed for trial in sweep.trials})
    place = {(int(cell), trial.seed): n for n, (cell, trial) in enumerate(zip(sweep.cell, sweep.trials, strict=True))}
    if wilcoxon:
        return [place[int(point), seed] for point in points for seed in seeds]
    return [place[int(point), seed] for seed in seeds for point in points]


def replay(sweep: Recorded, setting: dict[str, Any], at_once: int, rng: np.random.Generator) -> tuple[int, float]:
    """The cell that is chosen, and the share of the epochs that was trained."""
    config = SweepConfig.model_validate({**sweep.config.model_dump(exclude_unset=True), **setting})
    stopping = Stopping(rules_of(config, epochs_of(config, sweep.trials)))
    records = [trial.record(number) for number, trial in enumerate(sweep.trials)]
    for record in records:
        stopping.plan(record)
    waiting, epochs = _order(sweep, rng, setting)[::-1], sweep.curves.shape[1]
    pruned: set[int] = set()
    number_of = {trial.id: number for number, trial in enumerate(sweep.trials)}
    running: list[tuple[float, int, int]] = []
    trained = 0

    def begin(now: float) -> None:
        while waiting:
            if (trial := waiting.pop()) not in pruned:
                stopping.add({"record": "start", "trial_id": sweep.trials[trial].id})
                heapq.heappush(running, (now + rng.uniform(*JITTER), trial, 1))
                return

    for _ in range(at_once):
        begin(0.0)
    while running:
        now, trial, epoch = heapq.heappop(running)
        name, value = sweep.trials[trial].id, float(sweep.curves[trial, epoch - 1])
        trained += 1
        stopping.add({"record": "epoch", "trial_id": name, "epoch": epoch, METRIC: value})
        pruned |= _carried_out(stopping, number_of)
        if trial not in pruned and epoch == epochs:
            stopping.add({"record": "outcome", "trial_id": name, "outcome": "completed", "epochs": epochs})
            pruned |= _carried_out(stopping, number_of)
        if trial in pruned or epoch == epochs:
            begin(now)
        else:
            heapq.heappush(running, (now + rng.uniform(*JITTER), trial, epoch + 1))
    outcomes = ["pruned" if number in pruned else "completed" for number in range(len(sweep.trials))]
    return sweep.best(outcomes), trained / sweep.curves.size


def _carried_out(stopping: Stopping, number_of: dict[str, int]) -> set[int]:
    """Trials that end now; their outcomes are written, as a launch does."""
    ended = set()
    while due := stopping.due():
        for outcome in due:
            stopping.add(outcome)
            ended.add(number_of[outcome["trial_id"]])
    return ended


def row(name: str, setting: str, at_once: int) -> dict[str, Any]:
    """How often the best cell comes out, over random orders."""
    sweep = recorded(name)
    chosen = []
    for number in range(REPLAYS):
        chosen.append(replay(sweep, SETTINGS[setting], at_once, np.random.default_rng([number, at_once])))
    return {
        "sweep": name,
        "setting": setting,
        "at_once": at_once,
        **_counted(sweep, *map(np.array, zip(*chosen, strict=True))),
    }


def _counted(sweep: Recorded, cells: np.ndarray, shares: np.ndarray) -> dict[str, Any]:
    best = sweep.best(["completed"] * len(sweep.trials))
    regret = np.where(cells < 0, np.nan, sweep.means[best] - sweep.means[cells])
    counts = {"same": int((cells == best).sum()), "within_noise": int((regret <= sweep.error).sum())}
    shown = {key: {"count": n, "interval": _wilson(n, len(cells))} for key, n in counts.items()}
    return {
        "replays": len(cells),
        **shown,
        "regret": round(float(np.nanmean(regret)), 5),
        "largest_regret": round(float(np.nanmax(regret)), 5),
        "share": round(float(shares.mean()), 4),
        "share_interval": [round(float(end), 4) for end in np.quantile(shares, [0.025, 0.975])],
    }


def otherwise(name: str) -> Iterator[dict[str, Any]]:
    """What the same epochs give that are spent in another way."""
    sweep, rng = recorded(name), np.random.default_rng(0)
    seeds, epochs = sorted({trial.seed for trial in sweep.trials}), sweep.curves.shape[1]
    of = np.array([trial.seed for trial in sweep.trials])
    for fewer in range(1, len(seeds)):
        cells = []
        for _ in range(REPLAYS):  # each cell's own draw of seeds: they are independent of each other's
            rank = rng.random((int(sweep.cell.max()) + 1, len(seeds))).argsort(axis=1).argsort(axis=1)
            kept = rank[sweep.cell, np.searchsorted(seeds, of)] < fewer
            cells.append(sweep.best(np.where(kept, "completed", "never_started")))
        share = np.full(REPLAYS, fewer / len(seeds))
        setting = f"{fewer} of {len(seeds)} seeds, drawn for each cell"
        yield {"sweep": name, "setting": setting, "at_once": None, **_counted(sweep, np.array(cells), share)}
    for epoch in range(1, epochs):
        chosen = sweep.best(["completed"] * len(sweep.trials), sweep.curves[:, epoch - 1])
        counted = _counted(sweep, np.array([chosen]), np.array([epoch / epochs]))
        yield {"sweep": name, "setting": f"all trials, chosen at epoch {epoch}", "at_once": None, **counted}


def _wilson(count: int, shown: int) -> list[float]:
    interval = stats.binomtest(count, shown).proportion_ci(method="wilson")
    return [round(float(interval.low), 4), round(float(interval.high), 4)]


def record(name: str, directory: str) -> None:
    """Takes a run's curves."""
    trials, epochs = load_trials(directory), load_epochs(directory)
    completed = epochs[epochs["trial_id"].isin(trials.loc[trials["outcome"] == "completed", "trial_id"])]
    known = json.loads(CURVES.read_text()) if CURVES.exists() else {}
    known[name] = {key: [round(v, 6) for v in part[METRIC]] for key, part in completed.groupby("trial_id", sort=False)}
    lines = (
        f" {json.dumps(sweep)}: {{\n"
        + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in curves.items())
        + "}"
        for sweep, curves in known.items()
    )
    CURVES.write_text("{\n" + ",\n".join(lines) + "}\n")


def main() -> None:
    """Prints the record; with --record NAME DIR, takes curves."""
    if sys.argv[1:2] == ["--record"]:
        record(*sys.argv[2:])
        return
    asked = [(name, setting, at_once) for name in SWEEPS for setting in SETTINGS for at_once in CONCURRENCIES]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = list(pool.map(row, *zip(*asked, strict=True)))
    rows += [one for name in SWEEPS for one in otherwise(name)]
    about = {
        name: {
            "trials": len(sweep.trials),
            "cells": len(sweep.means),
            "best_mean": round(float(sweep.means.max()), 5),
            "error_of_a_difference": round(sweep.error, 5),
        }
        for name, sweep in ((name, recorded(name)) for name in SWEEPS)
    }
    command = shlex.join(["python", *sys.argv])
    print(
        json.dumps({"command": command, "replays": REPLAYS, **environment(), "sweeps": about, "rows": rows}, indent=1)
    )


if __name__ == "__main__":
    main()
