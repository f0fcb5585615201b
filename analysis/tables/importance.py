"""The importance of hyperparameters as text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from analysis.estimates.evaluator import By
from analysis.estimates.importance import AxisImportance, Importance
from analysis.frames.budgets import trials_left_out
from analysis.frames.names import bounds, label
from analysis.glossary import GLOSSARY
from analysis.tables.sheet import console_table
from trainers.fields import plural
from trainers.visible import hanging

_CELL = f"A cell is {GLOSSARY['cell']}"

#: What a share is one of, and what another command's shares are.
MEANING: dict[By, str] = {
    "fanova": "fANOVA: share of the variance between cells, in %, that a hyperparameter explains by itself, each of "
    f"its values counting alike; interactions: what only several together explain. {_CELL}. `sweep ratio` asks another "
    "question: shares of a test metric's variance by a polynomial, within one method",
    "ped_anova": "PED-ANOVA: how much the best cells differ in a hyperparameter from all that were run, in %, all "
    f"hyperparameters together 100; these are not shares of variance. {_CELL}",
}

_PRUNED = (
    "pruned trials are left out, so that better cells are over-represented: importance is of what was left to run; "
    "`sweep launch --resume-pruned` trains them to their end"
)


def importance_view(found: Sequence[Importance]) -> RenderableType:
    """A table of all parts, with what it needs to be read.

    Args:
        found: of `analysis.estimates.importance.importances`.
    """
    several = len(found) > 1
    header = [*(["part"] if several else []), "hyperparameter", "%", "95 %", "over"]
    rows = [
        [*([one.name] if several else []), axis.axis, _percent(axis.share.value), _bounds(axis), axis.over]
        for one in found
        for axis in one.axes
    ]
    title = f"importance for {label(found[0].metric).partition(' (')[0]}"
    table = [console_table(header, rows, title=title, right=["%", "95 %"], wraps=header)] if rows else []
    return Group(*table, *map(_Note, notes(found)))


class _Note:
    """A line that is broken between its words where the screen is narrower; what goes on is indented."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(hanging(self._text, options.max_width))


def notes(found: Sequence[Importance]) -> Iterator[str]:
    """What stands below the table, a line each."""
    if any(one.axes for one in found):
        yield MEANING[found[0].by]
    for one in found:
        size = f"{plural(one.n_cells, 'cell')}, {plural(one.n_trials, 'trial')}, {plural(one.n_seeds, 'seed')}"
        said = f"no importance: {one.reason}" if one.reason else f"interval: {one.interval}"
        fewer = f" ({plural(one.n_of_fewer, 'trial')} of cells with fewer seeds left out)" if one.n_of_fewer else ""
        yield f"{one.name}: {size}{fewer}; {said}"
        if one.averaged:
            yield f"{one.name}: averaged over {', '.join(one.averaged)}, which not all of these trials have"
    left_out = dict(found[0].left_out)
    if left_out:
        yield trials_left_out(left_out)
    if "pruned" in left_out:
        yield _PRUNED


def _bounds(axis: AxisImportance) -> str:
    return bounds(axis.share.low, axis.share.high, 1, factor=100)


def _percent(share: float) -> str:
    return "none" if share != share else f"{100 * share:.1f}"
