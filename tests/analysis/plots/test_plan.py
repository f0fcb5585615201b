"""Which trials a figure or table is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pandas import DataFrame

from analysis import figures
from analysis.claims.ledger import ledger
from analysis.claims.study import Study
from analysis.plots.plan import Data
from analysis.tables.claims import claims_frame

PLANS = {plan.name: plan for plan in (*figures.PLANS, *figures.TABLES)}

Frames = Callable[[list[dict[str, Any]]], DataFrame]


def sides(lr: float, seed: int, **more: Any) -> list[dict[str, Any]]:
    """A trial of SGD and one of DEAT."""
    accuracy = 0.5 + 0.1 * lr + 0.01 * seed
    numbers = {"last_test_robust": accuracy, "last_val_robust": accuracy}
    return [{"optimizer.name": n, "optimizer.lr": lr, "seed": seed, **numbers, **more} for n in ("sgd", "deat")]


def test_claims_are_of_the_commonest_budget_of_each_network_by_itself(frame_of: Frames) -> None:
    grid = [(lr, seed) for lr in (0.1, 0.2) for seed in range(2)]
    rows = [row for lr, seed in grid for row in sides(lr, seed, **{"model.name": "a", "planned_epochs": 2})]
    rows += [row for lr, seed in grid[:3] for row in sides(lr, seed, **{"model.name": "b", "planned_epochs": 3})]
    rows += sides(0.1, 0, **{"model.name": "b", "planned_epochs": 1})
    rows += sides(0.1, 1, **{"model.name": "b", "planned_epochs": 3, "outcome": "diverged"})
    frame = frame_of(rows)
    counted = frame[(frame["outcome"] == "completed") & (frame["planned_epochs"] > 1)]
    data = Data(frame, DataFrame(), "last_test_robust", claims=ledger(Study(frame)))
    assert {claim.network for claim in data.claims} >= {"a", "b"}
    assert PLANS["claims"].trial_ids(data, [claims_frame(data.claims)]) == set(counted["trial_id"])


def test_methods_are_of_the_seeds_that_are_compared_at_the_cells_that_others_chose(frame_of: Frames) -> None:
    frame = frame_of([row for lr in (0.1, 0.2) for seed in range(4) for row in sides(lr, seed)])
    compared = frame[(frame["optimizer.lr"] == 0.2) & (frame["seed"] > 1)]
    data = Data(frame, DataFrame(), "last_test_robust", chose=frozenset({0, 1}))
    assert PLANS["methods"].trial_ids(data, [DataFrame()]) == set(compared["trial_id"])
