"""One combination of the grid axes in a search by Optuna: which points were given out, and which are still to end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep.axes import Point
from sweep.search.trials import PlannedTrial

if TYPE_CHECKING:
    import optuna

    from sweep.search.study import PointStudy


@dataclass
class Asked:
    """A point that Optuna gave out, of which seeds are still to end."""

    ask: optuna.Trial
    trials: list[PlannedTrial]
    waiting: set[str]


class Stratum:
    """One combination of the grid axes: its own study, and the points asked for by earlier launches."""

    def __init__(self, point: Point, limit: int, listed: list[Point] | None, study: PointStudy) -> None:
        self.point, self.study = point, study
        self.same = [point]
        """Its point, and those of strata that mean the same trials."""
        self.limit = limit
        """Points to give out: n_trials, or all there are."""
        self.listed = listed
        """All there are, one for each trial that they mean; None where an axis is a range."""
        self.passed = 0
        """Draws, or listed points, that can stand in for none any more: not admitted, or given out."""
        self.batch = study.batch
        """Points that are asked for before the study is told of any of them; None: it is told at once."""
        self.from_others = 0
        """Points that its study knows from other runs."""
        self.earlier: list[Point] = []
        self.given: set[frozenset[str]] = set()
        """Ids of the trials of every point given out."""
        self.open: list[Asked] = []
        """Those that the study is still to be told of, in their order."""

    @property
    def waits(self) -> bool:
        """Whether the next point is asked for only when others have ended."""
        return self.batch is not None and len(self.given) % self.batch == 0 and bool(self.open)

    def of_batch(self, index: int) -> list[Point] | None:
        """The points of earlier launches from this one to the end of its batch, if they are whole; else None."""
        if self.batch is None:
            return self.earlier[index : index + 1]
        end = (index // self.batch + 1) * self.batch
        return self.earlier[index:end] if end <= len(self.earlier) and not self.open else None
