"""What is compared with what, held to its definition seed by seed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pandas import DataFrame

from analysis.claims.blocks import OWN_DECAY, Block, Pairs, rows_of, with_counterpart
from analysis.claims.effects import _family_pairs, _pairs, matched_controls

FrameOf = Callable[[list[dict[str, Any]]], DataFrame]


def holed(frame_of: FrameOf, seed: int) -> DataFrame:
    """Some of the trials of SGD and DEAT at rates that are each other's controls, each seed with holes of its own."""
    rng = np.random.default_rng(seed)
    rows = [
        {"optimizer.name": name, "optimizer.lr": lr, "batch_size": batch, "seed": number}
        | {"objective.name": objective, "last_test_robust": rng.random()}
        for name in ("sgd", "deat")
        for lr in (0.02, 0.0447, 0.1)
        for batch in (32, 64)
        for objective in ("cross_entropy", "trades")
        for number in range(5)
        if rng.random() < 0.4
    ]
    frame = frame_of(rows)
    return frame.assign(**{OWN_DECAY: np.where(frame["optimizer.name"] == "deat", 5e-4, 1.118e-3)})


@pytest.mark.parametrize("pairs", [_pairs, _family_pairs, matched_controls])
@pytest.mark.parametrize("seed", range(4))
def test_a_trial_has_a_counterpart_where_its_seed_alone_has_both_sides(
    frame_of: FrameOf, pairs: Pairs, seed: int
) -> None:
    frame = holed(frame_of, seed)
    frame = frame if pairs is not _pairs else frame.drop(columns=OWN_DECAY)
    own_seed_alone = np.zeros(len(frame), dtype=np.bool_)
    for number in frame["seed"].unique():
        rows = np.flatnonzero(frame["seed"] == number)
        own_seed_alone[rows[rows_of(pairs(frame.iloc[rows]))]] = True
    assert own_seed_alone.any()
    assert with_counterpart(frame, pairs).tolist() == own_seed_alone.tolist()


@pytest.mark.parametrize("most_cells", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_a_block_is_the_largest_without_holes_of_the_seeds_that_have_the_most_cells(
    frame_of: FrameOf, seed: int, most_cells: bool
) -> None:
    frame = holed(frame_of, seed)
    table = Block.of(frame, "last_test_robust", most_cells=most_cells).table
    assert not table.isna().to_numpy().any()
    cell = ["optimizer.name", "optimizer.lr", "batch_size", "objective.name"]
    whole = frame.pivot_table(index=cell, columns="seed", values="last_test_robust")
    by_cells = sorted(whole.columns, key=lambda number: (-whole[number].count(), number))
    shapes = [whole[by_cells[:k]].dropna().shape for k in range(1, 6)]
    if most_cells:
        assert table.shape[0] == max(cells for cells, _ in shapes)
    else:
        assert table.size == max(cells * seeds for cells, seeds in shapes)
