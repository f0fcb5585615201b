"""The front of several objectives as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pandas import DataFrame, Series

from analysis.estimates.pareto import ALIKE, OWN, POOLED, REPORTED
from analysis.frames.cells import GROUP, WHY_NOT, several
from analysis.frames.names import KEYS, UNITS, bounds, point_text, scale
from analysis.frames.pareto import Objective, unjudged_cells
from analysis.frames.strata import strata, stratum_name
from analysis.frames.trials import axes
from analysis.glossary import GLOSSARY
from trainers.fields import plural

#: Cells of a front that have lines.
MOST = 10


def front_lines(
    trials: DataFrame, rows: DataFrame, objectives: Sequence[Objective], grid: Sequence[str] = ()
) -> list[str]:
    """The front of each stratum, a few lines a cell: where it is, its objectives, how sure it is, its test accuracy.

    Args:
        trials: as `analysis.frames.trials.load_trials` gives them.
        rows: of `analysis.estimates.pareto.front`, of these trials.
        objectives: likewise.
        grid: likewise.
    """
    wanted = ", ".join(f"{one.name} ({one.mode})" for one in objectives)
    keys = strata(trials, grid)
    others = {
        stratum_name(keys, key, grid): part
        for key, part in unjudged_cells(trials, objectives).groupby(keys, dropna=False)
    }
    if rows.empty:
        why = [f"  {name}: {_unjudged(part)}" for name, part in others.items()]
        return [f"no Pareto front of {wanted}: no cell has all of its seeds and every objective", *why]
    lines = []
    for key, part in rows.groupby(keys, sort=False, dropna=False):
        on_it, name = part[part["pareto"]], stratum_name(keys, key, grid)
        said = f"; {_unjudged(others.pop(name))}" if name in others else ""
        cells = f"{len(on_it)} of {plural(len(part), 'cell')}, by validation{said}"
        lines.append(f"Pareto front of {wanted}, {name}: {cells}")
        for _, cell in on_it.head(MOST).iterrows():
            lines += _cell_lines(trials, cell, [one.column for one in objectives])
        if len(on_it) > MOST:
            lines.append(f"  and {len(on_it) - MOST} more: pareto.csv of `sweep figures`")
    lines += [f"no Pareto front of {wanted}, {name}: {_unjudged(part)}" for name, part in others.items()]
    return [*lines, *_notes(rows, objectives)]


def _unjudged(cells: DataFrame) -> str:
    """`3 cells not judged: a seed was pruned (2), a trial diverged (1)`."""
    counts = cells[WHY_NOT].value_counts()
    reasons = ", ".join(f"{why} ({n})" if len(counts) > 1 else str(why) for why, n in counts.items())
    return f"{plural(len(cells), 'cell')} not judged: {reasons}"


def _cell_lines(trials: DataFrame, cell: Series, columns: Sequence[str]) -> Iterator[str]:
    shown = [axis for axis in axes(trials) if axis not in (*GROUP, *KEYS) and several(trials[axis])]
    where = point_text({axis: cell[axis] for axis in shown})
    sure = "" if cell["front_share"] != cell["front_share"] else f", on it in {100 * cell['front_share']:.0f} %"
    yield f"  {where or 'the one cell'} (n = {cell['n']}{sure})"
    yield f"    {', '.join(_value(cell, column) for column in columns)}"
    test = [_value(cell, column) for column in REPORTED if cell[column] == cell[column]]
    yield f"    {', '.join(test) or 'not measured on test'}"


def _value(cell: Series, column: str) -> str:
    """`val robust 45.2 % [44.1, 46.3]`."""
    factor, name = scale(column), column.removeprefix("last_").replace("_", " ")
    unit = {"fraction": " %", "nat": " nat"}.get(UNITS.get(column, ""), "")  # seconds: the name says it
    interval = "" if cell[f"{column}_low"] != cell[f"{column}_low"] else " " + _bounds(cell, column, factor)
    return f"{name} {factor * cell[column]:.{_digits(column)}f}{unit}{interval}"


def _bounds(cell: Series, column: str, factor: float) -> str:
    return bounds(cell[f"{column}_low"], cell[f"{column}_high"], _digits(column), "", factor)


def _digits(column: str) -> int:
    return 3 if UNITS.get(column) == "nat" else 1


def _notes(rows: DataFrame, objectives: Sequence[Objective]) -> Iterator[str]:
    yield f"on the front: no other cell is better in one objective and worse in none; cell: {GLOSSARY['cell']}"
    how = {text for one in objectives for text in rows[f"{one.column}_interval"]}
    if how & {POOLED, OWN}:
        kinds = " or ".join(text.removeprefix("t, ") for text in (POOLED, OWN) if text in how)
        without = "none of one seed, or of seeds that do not differ"
        yield f"means at the last epoch; brackets: 95 % t intervals over seeds ({kinds}), {without}"
    elif ALIKE in how:
        yield "means at the last epoch; no interval: cells have one seed, or seeds that do not differ"
    else:
        yield "means at the last epoch; one seed a cell: no interval, and nothing says how sure the front is"
    if rows["front_share"].notna().any():
        yield (
            "on it in N %: how often a cell is on the front when the seeds are resampled (bootstrap); of cells that "
            "are equally good none is on it always"
        )
