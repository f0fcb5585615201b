"""What the ledger asks: each claim, what it holds of, and how it is measured."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from analysis.claims import effects
from analysis.claims.blocks import Measure
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

    def threshold(self, margin: float, time_margin: float) -> float:
        """Of the effect, as it is measured: a logarithm for a ratio."""
        return {"above": 0.0, "within": margin, "below": math.log1p(time_margin) if self.unit == "ratio" else margin}[
            self.region
        ]

    def agrees(self, estimate: float, threshold: float) -> bool:
        """Whether an estimate lies where the claim says."""
        if self.region == "above":
            return estimate > threshold
        return (abs(estimate) if self.region == "within" else estimate) < threshold

    def gap(self, estimate: float, threshold: float) -> float:
        """How far an estimate is from the edge of what the claim says."""
        return abs((abs(estimate) if self.region == "within" else estimate) - threshold)


QUESTIONS: tuple[Question, ...] = (
    Question(
        "ratio",
        "{accuracy} accuracy rises with lr / batch.",
        "above",
        "fraction a decade",
        effects.ratio,
        "configs/ratio.yaml",
        by_method=True,
    ),
    Question(
        "ratio_only",
        "The ratio is all that counts: along a constant lr / batch, {accuracy} accuracy stays the same.",
        "within",
        "fraction a decade",
        effects.ratio_only,
        "configs/ratio.yaml",
        by_method=True,
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
    ),
    Question(
        "not_weight_decay",
        "DEAT beats the SGD that has its effective learning rate and weight decay.",
        "above",
        "fraction",
        effects.not_weight_decay,
        "configs/controls.yaml",
    ),
    Question(
        "k1_k2",
        "k1 and k2 hardly matter: no two settings differ by the margin.",
        "below",
        "fraction",
        effects.k1_k2,
        "configs/paper/k1_k2.yaml",
    ),
    Question(
        "no_extra_time",
        "DEAT costs no extra training time.",
        "below",
        "ratio",
        effects.extra_time,
        "configs/paper/compare.yaml",
    ),
)


def question(name: str) -> Question:
    """The claim of that name.

    Raises:
        UserError: there is none.
    """
    for known in QUESTIONS:
        if known.name == name:
            return known
    raise UserError(f"{name}: no such claim; {suggestion(name, NAMES)}")


NAMES: tuple[str, ...] = tuple(question.name for question in QUESTIONS)
