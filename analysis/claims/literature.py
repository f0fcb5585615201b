"""What others published that bears on the claims: PGD-AT and TRADES in other recipes, one run a value, no verdicts.

Sources: [Rice] Rice, Wong, Kolter, "Overfitting in adversarially robust deep learning", ICML 2020 (arXiv 2002.11569);
[Pang] Pang, Yang, Dong, Su, Zhu, "Bag of Tricks for Adversarial Training", ICLR 2021 (arXiv 2010.00467). Which file and
row of which commit each number was read from, and what could not be read, stands in published_numbers/PROVENANCE.md.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from pandas import DataFrame

from analysis.claims.evidence import of_regression
from analysis.claims.ledger import CONFIDENCE, Verdict
from analysis.frames.published import numbers

RICE, PANG = "Rice, Wong, Kolter 2020", "Pang et al. 2021"

#: Of ten classes, in percent: a run that ends here has learned nothing.
_CHANCE = 10.0

_RICE_SETTING = (
    "PreActResNet-18, PGD-AT, CIFAR-10, PGD-10 at 8/255, batch 128, SGD with momentum 0.9, whose steps are as long as "
    "plain SGD's at ten times the learning rate"
)
_BEST = "best epoch"


@dataclass(frozen=True)
class Finding:
    """Robust accuracy by one setting, the others held, as others published it."""

    name: str
    """The claim that it bears on."""
    source: str
    setting: str
    """What was held, in words."""
    varied: str
    """In words."""
    at: str
    """The epoch of the accuracies."""
    values: Mapping[float, float]
    """Setting -> accuracy, a fraction."""
    verdict: Verdict
    reason: str
    """Why it is no more than that."""
    unit: str = "fraction a decade"
    estimate: float = math.nan
    """The slope on the setting's logarithm."""
    low: float = math.nan
    """Of its interval at 95 %, by least squares over the values; NaN where there are two."""
    high: float = math.nan
    n: int = 0
    """Values; each is one run."""
    left_out: int = 0
    """Values at which the run learned nothing."""
    threshold: None = None
    """A line of the ledger has one."""

    @property
    def highest(self) -> float:
        """The setting at which the accuracy is highest."""
        return max(self.values, key=lambda value: self.values[value])


def findings() -> tuple[Finding, ...]:
    """Every set of published runs that differ in one setting alone, an epoch after the other."""
    return (*_of_rice(), _of_pang())


def twins() -> dict[int, float]:
    """How far the only two runs that are nearly alike lie apart: what one more run of the same may bring.

    They differ in whether batch norm and biases decay, at a weight decay of 0.0005 and a learning rate of 0.1 [Rice].

    Returns:
        Epoch -> difference of robust accuracy, a fraction.
    """
    runs = numbers("others/rice2020")
    alike = runs[(runs["weight_decay"] == 0.0005) & (runs["lr"] == 0.1) & (runs["lr_after_100"] == 0.01)]
    return {n: float(np.ptp(alike[f"robust_{n}"])) / 100 for n in (110, 150, 200)}


def _of_rice() -> Iterator[Finding]:
    runs = numbers("others/rice2020")
    all_decay = runs["decays"] == "all"
    at_start = runs[all_decay & (runs["lr_after_100"] == 0.01)]
    after = runs[all_decay & (runs["lr"] == 0.1)]
    asked = (
        ("ratio", "learning rate of the first 100 epochs", "lr", at_start, "lr 0.01 from then on", (110, 150)),
        ("ratio", "learning rate after 100 epochs", "lr_after_100", after, "lr 0.1 until then", (110, 150)),
        (
            "not_weight_decay",
            "weight decay, of all but batch norm and biases",
            "weight_decay",
            runs[~all_decay],
            "lr 0.1, divided by 10 after 100 and 150 epochs",
            (110, 200),
        ),
    )
    for name, varied, column, rows, held, epochs in asked:
        for at, accuracy in [*((f"epoch {n}", f"robust_{n}") for n in epochs), (_BEST, "robust_best")]:
            yield _finding(name, RICE, f"{_RICE_SETTING}; {held}", varied, at, rows, column, accuracy)


def _of_pang() -> Finding:
    setting = (
        "TRADES, WRN-34-10, CIFAR-10, AutoAttack at 0.031; the run of the higher decay has another length and schedule "
        "too"
    )
    rows = numbers("others/pang2021")
    return _finding(
        "not_weight_decay", PANG, setting, "weight decay", "published model", rows, "weight_decay", "autoattack"
    )


def _finding(
    name: str, source: str, setting: str, varied: str, at: str, rows: DataFrame, column: str, accuracy: str
) -> Finding:
    """The runs that learned something, and their slope: the estimate that the ledger takes of cells of one seed."""
    rows = rows.sort_values(column)
    learned = rows[rows.filter(regex="^robust_[0-9]").fillna(np.inf).ne(_CHANCE).all(axis=1)]
    x, y = (learned[key].to_numpy(dtype=np.float64) for key in (column, accuracy))
    design = np.column_stack([np.log10(x), np.ones(len(x))])
    evidence = of_regression(design, y / 100, 0)
    low, high = evidence.interval(1 - CONFIDENCE) if evidence.known else (math.nan, math.nan)
    of_deat = name == "not_weight_decay"
    return Finding(
        name=name,
        source=source,
        setting=setting,
        varied=varied,
        at=at,
        values=dict(zip(map(float, x), map(float, y / 100), strict=True)),
        verdict="not measured" if of_deat else "undecided",
        reason="DEAT was not trained, each value is one run" if of_deat else "each value is one run",
        estimate=evidence.estimate,
        low=low,
        high=high,
        n=len(x),
        left_out=len(rows) - len(learned),
    )
