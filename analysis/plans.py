"""What a figure is: where its numbers come from, how they are drawn, what they need."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from matplotlib.figure import Figure
from pandas import DataFrame

from analysis.plotted import BY_VAL_ROBUST, ChosenBy

Numbers = Mapping[str, DataFrame]


class Data(NamedTuple):
    """What every figure may be drawn from."""

    trials: DataFrame
    epochs: DataFrame
    metric: str
    chosen_by: ChosenBy = BY_VAL_ROBUST
    dynamics: DataFrame = DataFrame()
    """Of `analysis.dynamics.load_dynamics`; empty where nothing was measured."""


class Plan(NamedTuple):
    """A figure: its name, its numbers, its drawing."""

    name: str
    frames: Callable[[Data], dict[str, DataFrame]]
    """CSV's stem to numbers; the first frame empty: cannot be drawn."""
    render: Callable[[Numbers, str], Figure]
    needs: str
