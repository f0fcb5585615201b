"""No interval of an accuracy leaves what an accuracy can be, and none holds the truth less often for that."""

from __future__ import annotations

import doctest
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from pandas import DataFrame

from analysis.claims.ledger import ledger
from analysis.claims.study import Study
from analysis.estimates import ranges
from analysis.estimates.differences import differences
from analysis.estimates.methods import comparison
from analysis.estimates.ranges import clipped, possible, possible_difference
from analysis.estimates.slot_effects import slot_effects
from analysis.paper.parts import parts
from analysis.paper.tables import own_best
from analysis.plots.accuracy_lr import accuracy_by_lr
from analysis.plots.accuracy_ratio import ratio_lines
from analysis.plots.plan import Data

ROBUST = "last_test_robust"


@pytest.fixture
def frame(frame_of: Callable[..., DataFrame]) -> DataFrame:
    """Three methods, three learning rates and two seeds, accuracies near 0 and 1, seeds far apart."""
    values = {"sgd": ((0.02, 0.3), (0.1, 0.7), (0.25, 0.99)), "deat": ((0.9, 0.3), (0.98, 0.4), (0.99, 0.5))}
    rows = [
        {"optimizer.name": name, "optimizer.lr": lr, "objective.name": loss, "seed": seed}
        | {ROBUST: value, "last_val_robust": value, "last_test_clean": value}
        for name, loss in (("sgd", "pgd_at"), ("deat", "pgd_at"), ("sgd", "trades"))
        for lr, pair in zip((0.1, 0.2, 0.4), values[name], strict=True)
        for seed, value in enumerate(pair)
    ]
    return frame_of(rows)


def plain(frame: DataFrame) -> DataFrame:
    return frame[frame["objective.name"] == "pgd_at"]


def shown(frame: DataFrame) -> Iterator[tuple[str, tuple[float, float], float, float]]:
    """Every interval that is shown of these trials: what it is of, what is possible, low and high."""
    one, gain = possible(ROBUST), possible_difference(ROBUST)
    for result in comparison(frame):
        yield "robust", one, *result.robust[1:]
        yield "clean", one, *result.clean[1:]
        yield "difference", gain, *result.difference[1:]
        yield "own", gain, *result.own[1:]
    for effect in slot_effects(frame):
        yield "slot", gain, effect.low, effect.high
    for found in (*differences(frame).values(), *differences(plain(frame).query("`optimizer.lr` < 0.4")).values()):
        yield "paired", gain, found.low, found.high
        for low, high in found.cells[["low", "high"]].to_numpy():
            yield "cell", gain, low, high
    for low, high in accuracy_by_lr(frame, ROBUST)[["low", "high"]].to_numpy():
        yield "accuracy_lr", one, low, high
    for low, high in ratio_lines(frame, ROBUST)[["low", "high"]].to_numpy():
        yield "accuracy_ratio", one, low, high
    for low, high in own_best(Data(plain(frame), DataFrame(), ROBUST))[["low", "high"]].to_numpy():
        yield "own_best", gain, low, high
    for claim in ledger(Study(plain(frame))):
        if claim.unit == "fraction":
            yield "claim", gain, claim.low, claim.high


def test_no_interval_of_an_accuracy_says_what_cannot_be(frame: DataFrame) -> None:
    found = list(shown(frame))
    assert parts(Data(plain(frame), DataFrame(), ROBUST))
    for name, (least, most), low, high in found:
        assert np.isnan(low) or least <= low <= high <= most, name
    at_an_end = {name for name, (least, most), low, high in found if low == least or high == most}
    # each would have said more: 0.025 +- 1.78 and the like
    assert at_an_end >= {"robust", "clean", "difference", "own", "slot", "paired", "cell", "accuracy_lr", "claim"}
    assert at_an_end >= {"accuracy_ratio", "own_best"}


def test_coverage_is_that_of_the_whole_interval() -> None:
    rng = np.random.default_rng(0)
    for (least, most), truth in itertools.product(((0.0, 1.0), (-1.0, 1.0)), rng.uniform(size=20)):
        low, high = np.sort(rng.normal(truth, 1.0, size=(200, 2))).T
        cut = [clipped(*pair, (least, most)) for pair in zip(low, high, strict=True)]
        holds = [(a <= truth) & (truth <= b) for a, b in cut]
        assert holds == ((low <= truth) & (truth <= high)).tolist()


def test_neither_p_nor_verdict_is_another_for_what_is_cut(frame: DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    def judged() -> list[object]:
        rows = [(row.p_value, row.p_holm, row.verdict) for row in comparison(frame)]
        rows += [(effect.p, effect.p_holm, effect.verdict) for effect in slot_effects(frame)]
        return [*rows, *((c.p, c.p_holm, c.verdict, c.further) for c in ledger(Study(plain(frame))))]

    cut = judged()
    monkeypatch.setattr(ranges, "_POSSIBLE", {})
    np.testing.assert_equal(cut, judged())


def test_examples_hold() -> None:
    assert doctest.testmod(ranges).failed == 0
