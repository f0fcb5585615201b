"""What a figure or a table is: where its numbers come from, how they are drawn or written, what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from pandas import DataFrame

from analysis.claims.ledger import Claim
from analysis.frames.cells import Mode

Numbers = Mapping[str, DataFrame]

#: The two studies that a figure of the paper may show.
OWN, PUBLISHED = "own", "published"


class ChosenBy(NamedTuple):
    """What a method's cell is chosen by, at the last epoch; of validation, never of test."""

    metric: str = "val_robust"
    mode: Mode = "max"
    """max for an accuracy, min for a loss."""


#: As a sweep chooses unless its config says otherwise.
BY_VAL_ROBUST = ChosenBy()


class Data(NamedTuple):
    """What every figure may be drawn from."""

    trials: DataFrame
    """Of `analysis.frames.trials.load_trials`."""
    epochs: DataFrame
    metric: str
    chosen_by: ChosenBy = BY_VAL_ROBUST
    dynamics: DataFrame = DataFrame()
    """Of `analysis.frames.dynamics.load_dynamics`; empty where nothing was measured."""
    study: str = OWN
    claims: tuple[Claim, ...] = ()
    """The ledger of the trials, of this metric: the answers to what figures and tables show."""
    chose: frozenset[int] = frozenset()
    """Seeds that chose the best cells at which the others are compared (`analysis.claims.study.Study`); empty: all."""
    beside: Data | None = None
    """Another study, shown beside this one in the figures and tables of the paper."""


class Plan(NamedTuple):
    """A figure: its name, its numbers, its drawing."""

    name: str
    frames: Callable[[Data], dict[str, DataFrame]]
    """CSV's stem to numbers; the first frame empty: cannot be drawn."""
    render: Callable[[Numbers, str], Figure]
    needs: str


class Table(NamedTuple):
    """A table: its name, its numbers, and the same as text."""

    name: str
    frame: Callable[[Data], DataFrame]
    """What its CSV holds; empty: the data do not allow the table."""
    needs: str
    texts: Mapping[str, Callable[[DataFrame], str]] = {}
    """Ending of a further file (md, tex) to its text."""


class Product(NamedTuple):
    """A figure or a table that the data allow, before anything is written."""

    name: str
    texts: dict[str, str]
    """File name to content: the CSVs, and of a table what else it is written as."""
    picture: Callable[[], Any] | None = None
    """Draws the figure; none: a table, or a figure of too many curves."""
    trials: frozenset[str] = frozenset()
    """Ids of those that it is made of: `analysis.uses`."""
