"""What effects are made of: what is asked, the metric by cell and seed without holes, and what comes out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.claims.evidence import Evidence
from analysis.estimates.crossed import contrast_variance
from analysis.frames.cells import Mode, codes, measured, rows_by_number
from analysis.frames.trials import axes

Replicate = Literal["seed", "cell", "network"]

ROBUST = "last_test_robust"

#: Seconds of training in a trial's median epoch, a column that `analysis.claims.study.load_study` adds.
EPOCH_SECONDS = "epoch_seconds"

#: When a trial last began, s since 1970, a column that `analysis.claims.study.load_study` adds.
BEGAN = "began"

#: Under which of the run's launches that was, 0 the first, a column that `analysis.claims.study.load_study` adds.
LAUNCH = "launch"

#: Settings of a trial's optimizer, each with the column in which `analysis.claims.study.load_study` shows it: a base
#: config may set what no axis has.
OWN = {f"optimizer.{key}": f"own_{key}" for key in ("weight_decay", "decoupled_weight_decay", "momentum", "k1")}

OWN_DECAY = OWN["optimizer.weight_decay"]

#: DEAT's and the baseline's settings as published [DEAT, Table 1 and code]; where they are varied, these count.
PUBLISHED = {
    "optimizer.k1": 1.0,
    "optimizer.k2": 0.8,
    "optimizer.decoupled_weight_decay": True,
    "optimizer.weight_decay": 5e-4,
    "optimizer.momentum": 0.0,
    "optimizer.nesterov": False,
}


@dataclass(frozen=True)
class Options:
    """What is asked of every effect."""

    metric: str = "last_val_robust"
    """What best cells are chosen by."""
    mode: Mode = "max"
    sequential: bool = False
    """Whether seeds were added until a claim was decided."""
    y: str = ROBUST
    """What the claims are about, at the test images."""
    choosers: frozenset[int] | None = None
    """Seeds that choose best cells, all others confirm them; None: `choosing_seeds` of the trials."""
    of_means: bool = False
    """Whether each value is a mean over seeds, as published: cells then stand in for seeds, of which there are none."""
    deciding: bool = False
    """Whether launches are to decide this claim: then only their further seeds confirm a best cell, or run the
    optimizers by turns."""


@dataclass(frozen=True)
class Effect:
    """A claim's number in one network, accuracies as fractions, with what is known of its error."""

    evidence: Evidence
    replicate: Replicate
    method: str
    trials: DataFrame
    """Those that it is made of."""
    note: str = ""
    caveat: str = ""
    """What a verdict would not yet say."""
    untested: str = ""
    """Why no verdict can be read from the interval, as `undecided because ...` goes on; empty: one can."""

    @property
    def seconds(self) -> float:
        """Of training and evaluation, of all trials that one seed takes; NaN if not recorded.

        A trial that went on from the end of another of them took over its epochs, which count once.
        """
        if "seconds" not in self.trials:
            return math.nan
        total = self.trials["seconds"].sum(skipna=False)
        if "from_trial" in self.trials:
            own = self.trials.set_index("trial_id")["seconds"]
            total -= own.reindex([name for name in self.trials["from_trial"] if name in own.index]).sum()
        return float(total) / max(self.trials["seed"].nunique(), 1)


@dataclass(frozen=True)
class NotMeasured:
    """Why the trials say nothing of a claim."""

    reason: str


Measure = Callable[[DataFrame, Options], Effect | NotMeasured]

#: Rows of a frame that are compared: those of one side, those of the other.
Pair = tuple[list[int], list[int]]
Pairs = Callable[[DataFrame], list[Pair]]


@dataclass(frozen=True, eq=False)
class Block:
    """A metric by cell (rows) and seed (columns), without holes."""

    table: DataFrame
    cells: DataFrame
    """The axes of each row of `table`."""
    trials: DataFrame
    pairs: list[Pair]
    """Rows of `table` that are compared."""
    y: str
    """The metric's column."""

    @classmethod
    def of(cls, trials: DataFrame, y: str, *, most_cells: bool = False, pairs: Pairs | None = None) -> Block:
        """A large block without holes; a cell that lacks a seed (it diverged) is out for all seeds.

        The seeds are ranked by how many cells they have, and the block is the largest of those that the first k
        seeds leave, k = 1, 2, ...; another choice of seeds may leave a larger one.

        Args:
            trials: completed ones of one network.
            y: a metric's column.
            most_cells: the seeds that have the most cells, however few they are.
            pairs: what is compared. Only trials with a counterpart at their own seed enter: many seeds of one side
                would else make the largest block, without the other side.
        """
        usable = measured(trials, y)
        usable = usable if pairs is None else usable[with_counterpart(usable, pairs)]
        usable = usable.assign(cell=codes(usable, axes(usable)))
        table = usable.pivot_table(index="cell", columns="seed", values=y)
        seeds = list(table.notna().sum().sort_values(ascending=False, kind="stable").index)
        cells_left = np.logical_and.accumulate(table[seeds].notna().to_numpy(), axis=1).sum(axis=0).tolist()
        blocks = [(k, n, n * k) for k, n in enumerate(cells_left, start=1)]
        k, *_ = max(blocks, key=lambda b: (b[1], b[2]) if most_cells else (b[2], b[0]), default=(0,))
        table = table[seeds[:k]].dropna().sort_index(axis=1)
        inside = usable["cell"].isin(table.index) & usable["seed"].isin(table.columns)
        cells = usable.drop_duplicates("cell").set_index("cell").loc[table.index]
        return cls(table, cells, usable[inside], pairs(cells) if pairs else [], y)

    def image_variance(self, weights: NDArray[np.float64]) -> float:
        """What the test images add to the variance of the mean over seeds of a sum of cells, each with its weight.

        Args:
            weights: (cells,); those of weight 0 need no bits.

        Returns:
            NaN where bits are missing (`analysis.estimates.crossed`).
        """
        of_cell = dict(zip(self.table.index[weights != 0], weights[weights != 0], strict=True))
        used = self.trials[self.trials["cell"].isin(of_cell)]
        return contrast_variance(used, used["cell"].map(of_cell).to_numpy(dtype=np.float64), self.y)

    @property
    def compared(self) -> DataFrame:
        """The trials of `pairs`."""
        return self.trials[self.trials["cell"].isin(self.table.index[rows_of(self.pairs)])]


def rows_of(pairs: Iterable[Pair]) -> list[int]:
    """All rows that are compared, in their order."""
    return sorted({row for pair in pairs for side in pair for row in side})


def with_counterpart(trials: DataFrame, pairs: Pairs) -> NDArray[np.bool_]:
    """Which trials are compared with another one of their seed."""
    compared, seeds = np.zeros(len(trials), dtype=np.bool_), trials["seed"].to_numpy()
    for sides in of_any_seed(trials, pairs):
        for rows, others in (sides, sides[::-1]):
            compared[rows] |= np.isin(seeds[rows], seeds[others])
    return compared


def of_any_seed(trials: DataFrame, pairs: Pairs) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Of cells that are compared the rows of either side, whatever their seeds: a cell is looked at once."""
    own = [name for name in OWN.values() if name in trials]
    of_cell = rows_by_number(codes(trials, ["method", *axes(trials), *own]))
    for one, other in pairs(trials.iloc[[rows[0] for rows in of_cell]]):
        yield np.concatenate([of_cell[cell] for cell in one]), np.concatenate([of_cell[cell] for cell in other])


def published_settings(trials: DataFrame) -> DataFrame:
    """The trials with DEAT's and the baseline's published constants, of each optimizer that was run with them.

    A constant that was never run at its published value stays varied, and the effect is then a mean over it.
    """
    for axis, value in PUBLISHED.items():
        if axis in trials:
            here = trials[axis].map(lambda setting, value=value: _same(setting, value))
            has = trials["optimizer.name"].isin(trials.loc[here, "optimizer.name"].unique())
            trials = trials[here | ~has]
    return trials


def _same(setting: object, value: float | bool) -> bool:
    """Whether it was asked for; a draw that happens to come near was not."""
    return isinstance(setting, int | float | np.generic) and bool(np.isclose(float(setting), float(value), rtol=1e-9))
