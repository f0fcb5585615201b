"""Writes the tables of docs/surrogate.md anew, from analysis/surface_data/fits.json and search_on_surface.json.

python benchmarks/surface_page.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parent
PAGE = BENCHMARKS.parent / "docs" / "surrogate.md"
FITS = BENCHMARKS.parent / "analysis" / "surface_data" / "fits.json"
SEARCHES = BENCHMARKS / "search_on_surface.json"


#: What stands above the table of searches, and below it.
ABOVE = """\
## Searches and stopping rules at equal cost

`python benchmarks/search_on_surface.py` lets each search, with each rule, train so many epochs on the surface of
`configs/stopping_digits.yaml` (learning rate, batch size, weight decay; 9 epochs a trial), one trial at a time and one
seed a point, and looks at what it would choose: the regret is by how many percentage points of robust validation
accuracy the surface lies lower there than where it is highest.
"""
BELOW = """
The highest place lies on an edge of the box, where the batches are smallest and the weight decay is largest: samplers
that draw from a distribution come near to it and do not hit it. It is one surface of three axes, smoother than trained
networks are. On the recorded sweeps themselves, without any surface, the rules are compared in
[stopping](stopping.md#does-the-same-best-point-come-out)."""


def surface_lines(fits: dict[str, Any]) -> Iterator[str]:
    """A row a setting and metric: how well held-out points are told."""
    columns = ("R2 of points", "rmse, percentage points", "a seed's noise", "held, of 95 %")
    yield f"| setting | axes | metric | trials | points | {' | '.join(columns)} |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for one in fits["settings"].values():
        axes = ", ".join(key.rpartition(".")[2] for key, (low, high) in one["ranges"].items() if low < high)
        for metric, held in one["held_out"].items():
            low, high = (f"{100 * end:.0f}" for end in held["coverage_interval"])
            told = f"{held['r2_points']:.2f} | {100 * held['rmse_points']:.1f} | {100 * held['noise']:.1f}"
            known = f"{one['title']} | {axes} | {metric} | {held['trials']} | {held['points']}"
            yield f"| {known} | {told} | {100 * held['coverage']:.0f} % [{low}, {high}] |"
    yield ""
    yield f"{fits['trials']:,} trials. {_by(fits)}"


def search_lines(record: dict[str, Any]) -> Iterator[str]:
    """A row a search and rule: the regret at each budget."""
    budgets = sorted({row["epochs"] for row in record["rows"]})
    yield ABOVE
    yield "| search | rule | " + " | ".join(f"{budget} epochs" for budget in budgets) + " |"
    yield "|---|---|" + "---|" * len(budgets)
    found = {(row["search"], row["rule"], row["epochs"]): row for row in record["rows"]}
    for search, rule in dict.fromkeys((row["search"], row["rule"]) for row in record["rows"]):
        cells = [_regret(found.get((search, rule, budget)), record["repeats"]) for budget in budgets]
        yield f"| {search} | {rule} | {' | '.join(cells)} |"
    where = ", ".join(f"{key.rpartition('.')[2]} {value:g}" for key, value in record["highest_at"].items())
    yield ""
    yield (
        f"Mean regret in percentage points, with its 95 % t interval over {record['repeats']} repeats; the surface's "
        f"highest is {100 * record['highest']:.1f} %, at {where}. {_by(record)}"
    )
    yield BELOW


def _regret(row: dict[str, Any] | None, repeats: int) -> str:
    if row is None:
        return "too few trials"
    low, high = (f"{100 * end:.2f}" for end in row["interval"])
    fewer = f" (n = {row['repeats']})" if row["repeats"] < repeats else ""
    return f"{100 * row['regret']:.2f} [{low}, {high}]{fewer}"


def _by(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {record['versions'][name]}" for name in ("python", "scikit-learn", "optuna"))
    return f"{record['cpu_cores']} cores of {record['cpu']}, {versions}, commit {record['commit'][:8]}."


def page(text: str) -> str:
    """The page with what the records say; without the searches where they were not recorded."""
    blocks = {"surface": list(surface_lines(json.loads(FITS.read_text())))}
    blocks["search"] = list(search_lines(json.loads(SEARCHES.read_text()))) if SEARCHES.exists() else []
    for name, lines in blocks.items():
        block = "\n".join([f"<!-- {name} -->", *lines, "<!-- end -->"])
        text = re.sub(rf"<!-- {name} -->\n.*?<!-- end -->", lambda _, block=block: block, text, flags=re.DOTALL)
    return text


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
