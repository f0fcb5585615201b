"""Which search, with which stopping rule, finds the best point at equal cost? Replayed on the open response surface.

    python benchmarks/search_on_surface.py > benchmarks/search_on_surface.json       # some ten minutes on two cores

No network is trained: a trial's curve is drawn from analysis/surface_data, as `sweep launch --surrogate` draws it, from
the surface of the recorded sweeps of configs/stopping_digits.yaml. Searches and rules are those that a launch asks, one
trial at a time, until so many epochs are trained; every repeat has draws and noise of its own. Chosen is the completed
trial with the best last val_robust, as of one seed a point. `regret` is by how much the surface lies lower there than
where it is highest: a fraction, with the 95 % t interval of its mean over repeats.

The surface is smoother than what it was fitted to, so that searches that learn look somewhat better than they are.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from pandas import DataFrame
from scipy import stats

from analysis.surrogate.surface import Surface, Surrogate, value_at
from analysis.surrogate.table import AXES
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.plan.stopping import epochs_of, rules_of
from sweep.search.inputs import fingerprints
from sweep.search.optuna_search import OptunaSearch
from sweep.search.trials import FixedSearch, PlannedTrial, Pruned, Search, fixed_points, planned
from sweep.stopping.decisions import Stopping
from trainers.provenance import environment

CONFIG = Path(__file__).parent.parent / "configs" / "stopping_digits.yaml"
METRIC = "val_robust"

#: What is drawn in place of the grid of the config.
DRAWN: dict[str, Any] = {
    "optimizer.lr": {"loguniform": [0.02, 0.4]},
    "batch_size": {"loguniform": [16, 64]},
    "optimizer.weight_decay": {"loguniform": [5.0e-4, 1.0e-2]},
}

#: Searches, by name: more points than any budget has room for.
SEARCHES: dict[str, dict[str, Any]] = {
    "grid": {"name": "grid"},
    "random": {"name": "random", "n_trials": 200},
    "quasi_random": {"name": "quasi_random", "n_trials": 200},
    "tpe": {"name": "optuna", "sampler": "tpe", "n_trials": 200},
    "gp": {"name": "optuna", "sampler": "gp", "n_trials": 200},
    "cmaes": {"name": "optuna", "sampler": "cmaes", "n_trials": 200},
}

#: Stopping rules, by name, as benchmarks/stopping.py has them.
RULES: dict[str, dict[str, Any] | None] = {
    "none": None,
    "asha, factor 4": {"name": "asha"},
    "asha, factor 2, from epoch 2": {"name": "asha", "reduction_factor": 2, "min_resource": 2},
    "hyperband, factor 3": {"name": "hyperband"},
    "median, from epoch 3": {"name": "median", "n_warmup_steps": 3},
}

#: Epochs that each may train: 10, 20 and 30 whole trials, the last all that the grid has.
BUDGETS = (90, 180, 270)
REPEATS = 20


@cache
def marks() -> dict[str, str]:
    """Of the data."""
    return fingerprints(load(CONFIG))


@cache
def surface() -> Surface:
    """Of the config's trials."""
    config = load(CONFIG)
    return Surrogate.load().of_trial(planned(config, fixed_points(config)[:1], marks())[0].identity)[0]


@cache
def highest() -> tuple[float, dict[str, float]]:
    """Of the surface at the last epoch, on a fine grid in its box; and where on the axes that differ."""
    ranges = surface().box.ranges
    ends = [(key, *ranges[key]) for key in surface().box.axes]
    grids = np.meshgrid(*(np.geomspace(low, high, 21) for _, low, high in ends))
    points = DataFrame({key: grid.ravel() for (key, *_), grid in zip(ends, grids, strict=True)})
    for key, (low, _) in ranges.items():
        points[key] = points.get(key, low)
    told = surface().predict(points.to_dict("records"), METRIC)["estimate"]  # type: ignore[arg-type]
    top = int(told.argmax())
    return float(told[top]), {key: round(float(points[key][top]), 5) for key, *_ in ends}


def config_of(search: str, rule: str, repeat: int) -> SweepConfig:
    """The sweep of one repeat: its seed is the trials', so that their noise is its own."""
    values = load(CONFIG).model_dump(exclude_unset=True, mode="json")
    values |= {"seeds": [repeat], "search": dict(SEARCHES[search]), "stopping": RULES[rule]}
    if search != "grid":
        values |= {"space": DRAWN}
        values["search"]["seed"] = repeat
    return SweepConfig.model_validate(values)


def search_of(config: SweepConfig, repeat: int) -> Search:
    """As a launch has it; a grid's points in a random order."""
    if config.search.name == "optuna":
        return OptunaSearch(config, marks())
    trials = planned(config, fixed_points(config), marks())
    if config.search.name == "grid":
        trials = [trials[place] for place in np.random.default_rng(repeat).permutation(len(trials))]
    return FixedSearch(trials, frozenset())


def place(trial: PlannedTrial) -> dict[str, Any]:
    """Of a trial on the surface."""
    return {key: value for key in AXES if (value := value_at(trial.identity, key)) is not None}


def replay(search: str, rule: str, repeat: int) -> Iterator[tuple[int, float]]:
    """After each trial: epochs trained, and the regret of what would be chosen then."""
    config = config_of(search, rule, repeat)
    asked = search_of(config, repeat)
    examples = planned(load(CONFIG), fixed_points(load(CONFIG))[:1], marks())
    stopping = Stopping(rules_of(config, epochs_of(config, examples)))
    trained, best, regret = 0, -1.0, float("nan")
    while trained < max(BUDGETS) and (trial := asked.next()) is not None:
        stopping.plan(trial.record(0))
        stopping.add({"record": "start", "trial_id": trial.id})
        curve = surface().drawn(place(trial), int(trial.id, 16))
        for epoch in range(1, trial.config.epochs + 1):
            value, trained = curve[METRIC, epoch], trained + 1
            stopping.add({"record": "epoch", "trial_id": trial.id, "epoch": epoch, METRIC: value})
            if due := stopping.due():
                stopping.add(due[0])
                asked.tell(trial.id, None, Pruned(epoch, value))
                break
        else:
            stopping.add({"record": "outcome", "trial_id": trial.id, "outcome": "completed", "epochs": epoch})
            asked.tell(trial.id, (value,))
            if value > best:
                best = value
                regret = highest()[0] - surface().expected(place(trial))[METRIC, epoch]
        yield trained, regret


def row(search: str, rule: str, repeats: int) -> list[dict[str, Any]]:
    """The regret at each budget, over repeats; a search that ends before a budget is left out there."""
    found: dict[int, list[float]] = {budget: [] for budget in BUDGETS}
    for repeat in range(repeats):
        steps = list(replay(search, rule, repeat))
        for budget in BUDGETS:
            within = [regret for trained, regret in steps if trained <= budget]
            if steps[-1][0] >= budget and within:
                found[budget].append(within[-1])
    return [_summed(search, rule, budget, np.array(values)) for budget, values in found.items() if values]


def _summed(search: str, rule: str, budget: int, regrets: np.ndarray) -> dict[str, Any]:
    half = stats.t.ppf(0.975, len(regrets) - 1) * regrets.std(ddof=1) / np.sqrt(len(regrets))
    ends = [round(float(regrets.mean() + sign * half), 5) for sign in (-1, 1)]
    known = {"search": search, "rule": rule, "epochs": budget, "repeats": len(regrets)}
    return {**known, "regret": round(float(regrets.mean()), 5), "interval": ends}


def main() -> None:
    """Prints the record; with --repeats N of fewer or more repeats."""
    repeats = int(sys.argv[2]) if sys.argv[1:2] == ["--repeats"] else REPEATS
    asked = [(search, rule) for search in SEARCHES for rule in RULES if rule == "none" or search in ("random", "tpe")]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        rows = [one for part in pool.map(row, *zip(*asked, strict=True), [repeats] * len(asked)) for one in part]
    about = {"command": shlex.join(["python", *sys.argv]), **environment(), "surrogate": Surrogate.load().version}
    value, where = highest()
    about |= {"setting": surface().fits["title"], "highest": round(value, 5), "highest_at": where, "repeats": repeats}
    print(json.dumps({**about, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()
