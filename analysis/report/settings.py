"""The best settings of each method, as `sweep methods` compares them."""

from __future__ import annotations

from typing import Any

from analysis.claims.ledger import Claim
from analysis.estimates.methods import comparison
from analysis.frames.log import Log
from analysis.plots.plan import Data
from analysis.report.markup import Html, element, joined, prose, table
from analysis.tables.methods import as_judged, notes, results_rows
from analysis.tables.settings import preset_of_each
from analysis.tables.sheet import cells
from trainers.errors import UserError


def best_settings(data: Data, claims: tuple[Claim, ...], log: Log) -> Html | None:
    """A row a method at its own best cell; None where none could be compared."""
    chosen_by = data.chosen_by._asdict()
    asked: dict[str, Any] = {"choosers": data.chose, **chosen_by}
    try:
        results = as_judged(comparison(data.trials, **asked), claims)
    except UserError:
        return None
    if not results:
        return None
    header, rows = cells(results_rows(results, preset_of_each(data.trials, log)))
    items = [element("li", prose(note)) for note in notes(results, "")]
    body: list[list[object]] = [list(row) for row in rows]
    return joined(table(header, body), element("ul", *items, class_="note"))
