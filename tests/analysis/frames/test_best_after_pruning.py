"""What is said of a best cell where cells that look better lost a seed, and that a race's cells are never chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from pandas import DataFrame

from analysis.estimates.methods import comparison
from analysis.figures import load
from analysis.frames.cells import best_cells, candidate_cells, weighed_cells
from analysis.plots.accuracy_epoch import PLAN as EPOCHS
from analysis.tables.methods import notes
from analysis.tables.trials import best_lines


def cell(lr: float, values: list[float], pruned_by: str = "", loss: float = 1.0) -> list[dict[str, Any]]:
    """A trial a value, and one more that a rule ended."""
    rows = [
        {
            "optimizer.lr": lr,
            "seed": seed,
            "outcome": "completed",
            "last_val_robust": value,
            "last_val_robust_loss": loss,
            "pruned_by": None,
        }
        for seed, value in enumerate(values)
    ]
    last = {**rows[-1], "seed": len(values), "outcome": "pruned", "pruned_by": pruned_by}
    return [*rows, last] if pruned_by else rows


@pytest.fixture
def trials_of(frame_of: Callable[..., DataFrame]) -> Callable[..., DataFrame]:
    """`frame_of` with the column pruned_by, which is no axis."""

    def build(rows: list[dict[str, Any]]) -> DataFrame:
        frame = frame_of([{key: row[key] for key in row if key != "pruned_by"} for row in rows])
        return frame.assign(pruned_by=[row["pruned_by"] for row in rows])

    return build


#: The first cell alone kept its seeds: it came when there was nobody to compare with.
CELLS = [
    *cell(0.1, [0.6, 0.62]),
    *cell(0.2, [0.7], "asha", loss=0.9),
    *cell(0.3, [0.775], "asha", loss=0.8),
    *cell(0.4, [0.5], "asha", loss=1.2),
]
DOUBT = (
    "of the cells left out, 2 have a higher mean val robust over the seeds that they kept, up to 77.50 % (to run the "
    "missing seeds: `sweep launch`, with --resume-pruned where they were pruned)"
)


def test_cells_left_out_that_look_better_than_the_best_are_counted(trials_of):
    (best,) = best_cells(trials_of(CELLS)).to_dict("records")
    assert (best["optimizer.lr"], best["cells_left_out"]) == (0.1, 3)
    assert (best["cells_left_out_better"], best["best_left_out"]) == (2, 0.775)
    (by_loss,) = best_cells(trials_of(CELLS), "last_val_robust_loss", mode="min").to_dict("records")
    assert (by_loss["cells_left_out_better"], by_loss["best_left_out"]) == (2, 0.8)
    (sure,) = best_cells(trials_of([*CELLS[:2], *CELLS[-2:]])).to_dict("records")
    assert (sure["cells_left_out"], sure["cells_left_out_better"]) == (1, 0)


def test_where_a_best_cell_is_named_it_is_said_that_others_look_better(trials_of):
    frame = trials_of(CELLS)
    assert best_lines(frame)[1] == f"  perhaps not the best: {DOUBT}"
    assert f"perhaps not the best of PGD-AT: {DOUBT}" in notes(comparison(frame))
    assert len(best_lines(trials_of(CELLS[:2]))) == 1


@pytest.mark.parametrize("rule", ["race", "wilcoxon"])
def test_a_cell_that_a_race_gave_up_is_never_the_best(trials_of, rule):
    given_up = cell(0.2, [0.9, 0.9], rule)
    assert best_cells(trials_of(given_up)).empty
    frame = trials_of([*cell(0.1, [0.6]), *given_up])
    assert best_cells(frame)["optimizer.lr"].tolist() == [0.1]
    assert candidate_cells(frame, "last_val_robust")["cells_left_out"].tolist() == [1]
    assert "a race ended a seed" in best_lines(trials_of(given_up))[0]


def test_why_a_cell_is_no_candidate_is_known(trials_of):
    diverged = [{**row, "outcome": "diverged" if row["seed"] else "completed"} for row in cell(0.5, [0.6, 0.6])]
    frame = trials_of([*CELLS[:4], *cell(0.6, [0.9], "race"), *diverged])
    why = weighed_cells(frame, "last_val_robust").set_index("optimizer.lr")["why_not"]
    assert why.to_dict() == {
        0.1: "",
        0.2: "a seed was pruned",
        0.5: "a trial diverged",
        0.6: "a race gave the cell up",
    }


def test_caption_of_curves_calls_no_cell_the_best_of_all_where_some_were_left_out(run):
    for seed in (0, 1):
        run.whole(f"w{seed}", [0.3, 0.4], seed=seed)
    for number, value in enumerate([0.5, 0.6, 0.2]):
        lr = 0.2 + 0.1 * number
        run.whole(f"k{number}", [0.1, value], optimizer__lr=lr)
        run.pruned(f"p{number}", [0.1], seed=1, optimizer__lr=lr)
    data = load(run.directory)
    rows = EPOCHS.frames(data)["accuracy_epoch"]
    assert set(zip(rows["cells_left_out"], rows["cells_left_out_better"], strict=True)) == {(3, 2)}
    caption = EPOCHS.captioned(data, {"accuracy_epoch": rows})
    assert "3 left out of the choice, 2 of them better over the seeds that they kept: perhaps not the best" in caption
