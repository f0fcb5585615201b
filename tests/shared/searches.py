"""A search by Optuna, driven without a trial trained: several at once, ending in any order, killed at any place."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.search.inputs import distinct_data
from sweep.search.optuna_search import OptunaSearch
from sweep.search.trials import PlannedTrial, Pruned

Ends = tuple[tuple[float, ...] | None, Pruned | None]

#: Two ranges of which the tests' functions are of.
PLANE = {"optimizer.lr": {"loguniform": [1e-4, 1]}, "optimizer.weight_decay": {"uniform": [0, 0.1]}}


def optuna_sweep(
    space: Mapping[str, Any] = PLANE, n: int = 12, *, metric: Any = "val_robust", **search: Any
) -> SweepConfig:
    """A sweep of digits by Optuna."""
    seeds = search.pop("seeds", (0,))
    values = {
        "name": "t",
        "trial": {"data": {"name": "digits"}},
        "space": dict(space),
        "metric": metric,
        "seeds": seeds,
    }
    return SweepConfig.model_validate(values | {"search": {"name": "optuna", "n_trials": n, **search}})


def in_unit(point: Point) -> tuple[float, float]:
    """Where a point of PLANE lies in [0, 1]^2."""
    from math import log10

    return (log10(point["optimizer.lr"]) + 4) / 4, point["optimizer.weight_decay"] / 0.1


class Run:
    """What launches of one run would have written down, and what they gave out, in order."""

    def __init__(self, config: SweepConfig, end: Callable[[PlannedTrial], Ends]) -> None:
        """Nothing has run."""
        self.config, self._end = config, end
        self.records: list[dict[str, Any]] = []
        self.values: dict[str, tuple[float, ...] | None] = {}
        self.pruned: dict[str, Pruned] = {}

    def search(self) -> OptunaSearch:
        """That of a launch which begins now."""
        marks = {key: f"{trial.data.name}-0" for key, trial in distinct_data(self.config).items()}
        return OptunaSearch(self.config, marks, self.records, self.values, self.pruned)

    def launch(self, at_once: int = 1, most: int | None = None, shuffled: int | None = None) -> OptunaSearch:
        """Runs trials until none is left, or so many have been given out: what runs then is killed.

        Args:
            at_once: trials that run at a time.
            most: trials given out.
            shuffled: seed of the order in which they end; None: that in which they began.
        """
        search, dice, running, given = self.search(), random.Random(shuffled), list[PlannedTrial](), 0
        while True:
            while len(running) < at_once and (most is None or given < most) and (trial := search.next()) is not None:
                given += 1
                running.append(trial)
                if trial.id not in {record["trial_id"] for record in self.records}:
                    self.records.append(trial.record(len(self.records)))
            if not running or (most is not None and given == most and dice.random() < 0.3):
                assert most is not None or not search.waits()
                return search
            ended = running.pop(0 if shuffled is None else dice.randrange(len(running)))
            values, pruned = self._end(ended)
            self.values |= {ended.id: values} if pruned is None else {}
            self.pruned |= {ended.id: pruned} if pruned is not None else {}
            search.tell(ended.id, values, pruned)

    @property
    def points(self) -> list[Point]:
        """Those that were given out, each once."""
        points: list[Point] = []
        for record in self.records:
            if record["point"] not in points:
                points.append(record["point"])
        return points
