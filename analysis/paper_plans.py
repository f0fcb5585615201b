"""The paper's figures and tables as plans: what `analysis.figures` draws and writes."""

from __future__ import annotations

from collections.abc import Callable

from pandas import DataFrame

from analysis import paper, paper_panels, paper_tables, paper_text
from analysis.plans import Data, Plan, Table

_BOTH = "completed trials of PGD-AT and DEAT of one network and batch size"
_CHOICE = "the sweep's metric of validation, to choose PGD-AT's learning rate without looking at the test set"


def _figure4(data: Data) -> dict[str, DataFrame]:
    rows = paper.figure4(data)
    return {"figure4": rows, "figure4_shift": paper_tables.shifts(data, shown=True) if len(rows) else rows}


def _single(name: str, function: Callable[[Data], DataFrame]) -> Callable[[Data], dict[str, DataFrame]]:
    return lambda data: {name: function(data)}


PLANS: tuple[Plan, ...] = (
    Plan(
        "figure2",
        _single("figure2", paper.figure2),
        lambda frames, metric: paper_panels.figure2(frames["figure2"], metric),
        f"needs completed trials of PGD-AT with test_clean and test_robust by epoch, and {_CHOICE}",
    ),
    Plan(
        "figure4",
        _figure4,
        lambda frames, metric: paper_panels.figure4(frames["figure4"], frames["figure4_shift"], metric),
        f"needs {_BOTH} at two learning rates",
    ),
    Plan(
        "figure5",
        _single("figure5", paper.figure5),
        lambda frames, metric: paper_panels.figure5(frames["figure5"], metric),
        f"needs {_BOTH} with train_robust and test_robust by epoch, both at PGD-AT's best learning rate, and {_CHOICE}",
    ),
)

TABLES: tuple[Table, ...] = (
    Table("table2", paper_tables.table2, f"needs {_BOTH}", paper_text.written(paper_text.table2, apart=True)),
    Table("table3", paper_tables.table3, f"needs {_BOTH}", paper_text.written(paper_text.table3)),
    Table("table4", paper_tables.table4, f"needs {_BOTH} at one learning rate", paper_text.written(paper_text.table4)),
    Table("shift", paper_tables.shifts, f"needs {_BOTH}", paper_text.written(paper_text.shifts)),
    Table("own_best", paper_tables.own_best, f"needs {_BOTH}, and {_CHOICE}", paper_text.written(paper_text.own_best)),
)
