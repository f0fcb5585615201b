"""What a figure or a table is: its numbers, how they are drawn or written, the trials behind them, what it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from pandas import DataFrame, concat

from analysis.claims.ledger import Claim
from analysis.estimates.evaluator import Evaluator
from analysis.frames.budgets import network_budgets, one_budget
from analysis.frames.cells import GROUP, Mode, OwnBest, measured, own_best
from analysis.frames.pareto import Objective
from analysis.frames.pruned import pruned_line
from analysis.plots.page import PAGE, Page
from analysis.plots.setting import ATTACK, setting
from analysis.plots.style import STYLE

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
    curves: DataFrame = DataFrame()
    """Of `analysis.estimates.images.curve_rows`; empty where nothing was evaluated at several radii."""
    objectives: tuple[Objective, ...] = ()
    """Of the sweep, where there are several."""
    grid: tuple[str, ...] = ()
    """Of `analysis.frames.strata.grid_axes`."""
    evaluator: Evaluator | None = None
    """Of the importance of hyperparameters; None: nothing is said of it."""
    beside: Data | None = None
    """Another study, shown beside this one in the figures and tables of the paper."""

    def own_best(self, choosers: frozenset[int] = frozenset()) -> OwnBest:
        """Each network's and method's best cell by validation; none named: all seeds choose."""
        metric, mode = self.chosen_by
        return own_best(self.trials, f"last_{metric}", mode=mode, choosers=choosers)


Frames = DataFrame | dict[str, DataFrame]


@dataclass(frozen=True)
class Plan:
    """A figure or a table, in one place: its name, its numbers, its picture or its text."""

    name: str
    numbers: Callable[[Data], Frames]
    """The frame of `NAME.csv`, or CSV's stem to frame; the first one empty: the data do not allow it."""
    needs: str
    """What the data lack where they do not allow it."""
    caption: Callable[..., str]
    """Sentences on what is drawn, of the frames in their order, and the metric."""
    draw: Callable[..., Figure] | None = None
    """Of the frames, in their order, the metric and the page; none: a table."""
    texts: Mapping[str, Callable[[DataFrame], str]] = field(default_factory=dict)
    """Ending of a further file (md, tex) to its text."""
    overlays: bool = False
    """Whether another study is shown beside it."""
    trials: Callable[[Data], Iterable[str]] | None = None
    """The ids that its numbers are worked out from, where they name none; none: `in_an_estimate`."""

    def frames(self, data: Data) -> dict[str, DataFrame]:
        """CSV's stem to numbers."""
        numbers = self.numbers(data)
        return {self.name: numbers} if isinstance(numbers, DataFrame) else numbers

    def render(self, frames: Mapping[str, DataFrame], metric: str, page: Page = PAGE) -> Figure:
        """The picture of these numbers, without its caption.

        Args:
            frames: of `frames`.
            metric: theirs, for the labels.
            page: for what it is drawn.
        """
        assert self.draw is not None, "a table has no picture"
        with mpl.rc_context(STYLE | {"font.size": page.font_size}):
            figure = self.draw(*frames.values(), metric=metric, page=page)
            page.written(figure)
        return figure

    def captioned(self, data: Data, frames: Mapping[str, DataFrame]) -> str:
        """What a reader has to know of it: what is drawn, of which data, under which attack, what is left out.

        Args:
            data: what it was made from.
            frames: its numbers.
        """
        said = [self.caption(*frames.values(), metric=data.metric)]
        studies = [data] if data.beside is None or not self.overlays else [data, data.beside]
        lost = [] if "robust" in said[0].lower() else [ATTACK]  # of clean accuracy or a time no attack is named
        for study in studies:
            whose = f"{study.study.capitalize()} data" if len(studies) > 1 else "Data"
            said.append(setting(study.trials.drop(columns=lost, errors="ignore"), whose))
        said += [f"{pruned[0].upper()}{pruned[1:]}." for pruned in [pruned_line(data.trials)] if pruned]
        return " ".join(filter(None, said))

    def trial_ids(self, data: Data, frames: Iterable[DataFrame]) -> frozenset[str]:
        """The ids of the trials that it is made of, as the manifest counts them.

        A trial that only took part in a choice, of a cell or a budget, is none of them.

        Args:
            data: what it was made from.
            frames: its numbers.
        """
        frames = list(frames)
        if named := [frame["trial_id"] for frame in frames if "trial_id" in frame]:
            return frozenset(map(str, concat(named)))
        return frozenset(map(str, self.trials(data) if self.trials else in_an_estimate(data, frames[0])))


def that_choose(data: Data) -> Iterable[str]:
    """The completed trials of one budget that have the metric by which the sweep chooses."""
    return measured(one_budget(data.trials)[0], f"last_{data.chosen_by.metric}")["trial_id"]


class Product(NamedTuple):
    """A figure or a table that the data allow, before anything is written."""

    name: str
    texts: dict[str, str]
    """File name to content: the CSVs, and of a table what else it is written as."""
    picture: Callable[..., Figure] | None = None
    """Draws the figure, without its caption, for a `page`; none: a table, or a figure of too many curves."""
    trials: frozenset[str] = frozenset()
    """Ids of those that it is made of."""
    caption: str = ""
    """What is drawn, what bands and marks are, n, data set and radius."""


def in_an_estimate(data: Data, rows: DataFrame) -> Iterable[str]:
    """Completed trials of each network's budget, where the rows name networks and methods only theirs."""
    usable = measured(network_budgets(data.trials)[0], data.metric)
    if set(GROUP) <= set(rows.columns) and "all" not in set(rows["method"]):
        pairs = usable[list(GROUP)].merge(rows[list(GROUP)].drop_duplicates(), how="left", indicator=True)
        usable = usable[(pairs["_merge"] == "both").to_numpy()]
    return usable["trial_id"]
