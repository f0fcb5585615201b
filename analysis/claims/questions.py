"""What the ledger asks: each claim before anything is measured, with the cells and trials that it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from pandas import DataFrame, concat

from analysis.claims import effects
from analysis.claims.blocks import Measure, Pairs, published_settings, rows_of
from trainers.errors import UserError, suggestion

#: Where a claim says that its effect is: above its threshold, below it, or no further than it from 0.
Region = Literal["above", "below", "within"]

Unit = Literal["fraction", "fraction a decade", "ratio"]


@dataclass(frozen=True)
class Question:
    """A claim before anything is measured."""

    name: str
    statement: str
    region: Region
    unit: Unit
    measure: Measure
    config: str
    """That would measure it."""
    by_method: bool = False
    """Whether it is asked of PGD-AT and of DEAT: their opposite effects must not pass for none."""
    cells: Callable[[DataFrame], DataFrame] = published_settings
    """Of a sweep's cells, those that enter it."""
    pairs: Pairs | None = None
    """What it compares with what, where a launch runs the two sides apart, each with settings of its own."""
    confirms: bool = False
    """Whether all of a config's seeds choose best cells, which only further ones are then compared in."""
    by_turns: bool = False
    """Whether only seeds count all of whose trials launches to decide it trained: they run the optimizers by turns."""
    command: Literal["", "ratio", "methods"] = ""
    """That is asked the same, and shows its answer first."""

    def threshold(self, margin: float, time_margin: float) -> float:
        """What the effect is held against, in the claim's unit."""
        if self.region == "above":
            return 0.0
        return self.shown(math.log1p(time_margin)) if self.unit == "ratio" else margin

    def shown(self, effect: float) -> float:
        """A measured value in the claim's unit: of a logarithm its exponential."""
        return math.exp(effect) if self.unit == "ratio" else effect

    def measured(self, shown: float) -> float:
        """A value in the claim's unit as it is measured: of a ratio its logarithm."""
        return math.log(shown) if self.unit == "ratio" else shown

    def agrees(self, estimate: float, threshold: float) -> bool:
        """Whether an estimate lies where the claim says."""
        if self.region == "above":
            return estimate > threshold
        return (abs(estimate) if self.region == "within" else estimate) < threshold

    def gap(self, estimate: float, threshold: float) -> float:
        """How far an estimate is from the edge of what the claim says."""
        return abs((abs(estimate) if self.region == "within" else estimate) - threshold)

    def tasks(self, trials: DataFrame) -> list[tuple[str, DataFrame]]:
        """What it is asked of by itself, with its trials: a method, or `` for all of them.

        Args:
            trials: of one network.
        """
        return (methods_of(trials) if self.by_method else []) or [("", trials)]

    def asked_in(self, text: str) -> str:
        """The statement, of the accuracy that a column such as `last_test_robust` holds."""
        word = text.rpartition("_")[2]
        return self.statement.format(accuracy=word.capitalize() if self.statement.startswith("{") else word)


def methods_of(trials: DataFrame) -> list[tuple[str, DataFrame]]:
    """PGD-AT and DEAT with their published constants; of a run without either, every method."""
    by_name = [(str(name), rows) for name, rows in published_settings(trials).groupby("method", sort=False)]
    return [(name, rows) for name, rows in by_name if name in ("PGD-AT", "DEAT")] or by_name


def _of_methods(cells: DataFrame) -> DataFrame:
    parts = [rows for _, part in cells.groupby("model.name", sort=False) for _, rows in methods_of(part)]
    asked: DataFrame = cells.loc[cells.index.isin(concat(parts).index)]
    return asked


def _of_deat(cells: DataFrame) -> DataFrame:
    deat: DataFrame = cells[cells["optimizer.name"] == "deat"]
    return deat


def _with_controls(cells: DataFrame) -> DataFrame:
    return cells.iloc[rows_of(effects.matched_controls(cells))]


def _at_one_lr(cells: DataFrame) -> DataFrame:
    """An epoch's time does not depend on the learning rate."""
    cells = published_settings(cells)
    first: DataFrame = cells[cells["optimizer.lr"] == cells["optimizer.lr"].iloc[0]]
    return first


QUESTIONS: tuple[Question, ...] = (
    Question(
        "ratio",
        "{accuracy} accuracy rises with lr / batch.",
        "above",
        "fraction a decade",
        effects.ratio,
        "configs/ratio.yaml",
        by_method=True,
        cells=_of_methods,
        command="ratio",
    ),
    Question(
        "ratio_only",
        "The ratio is all that counts: along a constant lr / batch, {accuracy} accuracy stays the same.",
        "within",
        "fraction a decade",
        effects.ratio_only,
        "configs/ratio.yaml",
        by_method=True,
        cells=_of_methods,
        command="ratio",
    ),
    Question(
        "deat_equal_lr",
        "DEAT beats SGD at equal hyperparameters.",
        "above",
        "fraction",
        effects.equal_lr,
        "configs/paper/compare.yaml",
    ),
    Question(
        "deat_own_best",
        "DEAT beats SGD, each at its own best learning rate and batch size.",
        "above",
        "fraction",
        effects.own_best,
        "configs/paper/compare.yaml",
        confirms=True,
        command="methods",
    ),
    Question(
        "not_weight_decay",
        "DEAT beats the SGD that has its effective learning rate and weight decay.",
        "above",
        "fraction",
        effects.not_weight_decay,
        "configs/controls.yaml",
        cells=_with_controls,
        pairs=effects.matched_controls,
    ),
    Question(
        "k1_k2",
        "k1 and k2 hardly matter: no two settings differ by the margin.",
        "below",
        "fraction",
        effects.k1_k2,
        "configs/paper/k1_k2.yaml",
        cells=_of_deat,
    ),
    Question(
        "no_extra_time",
        "DEAT costs no extra training time.",
        "below",
        "ratio",
        effects.extra_time,
        "configs/paper/compare.yaml",
        cells=_at_one_lr,
        by_turns=True,
    ),
)

NAMES: tuple[str, ...] = tuple(asked.name for asked in QUESTIONS)


def question(name: str) -> Question:
    """The claim of that name.

    Raises:
        UserError: there is none.
    """
    for known in QUESTIONS:
        if known.name == name:
            return known
    raise UserError(f"{name}: no such claim; {suggestion(name, NAMES)}")


def asked_by(command: str) -> tuple[str, ...]:
    """The names of the claims that a command is asked, too."""
    return tuple(asked.name for asked in QUESTIONS if asked.command == command)
