"""The verdicts: exact tests, and how often chance alone fails a network whose gradients are honest."""

from __future__ import annotations

import numpy as np
import pytest
from pandas import DataFrame
from scipy.stats import binom, binomtest

from analysis.estimates.masking import FAILED, LEVEL, PASSED, TOLERATED, TOO_FEW, judged
from trainers.ladder.rungs import CHECKS


def rows(check: str, against: list[int], in_favour: int = 0, images: int = 100) -> DataFrame:
    return DataFrame({"check": check, "against": against, "in_favour": in_favour, "clean_correct": images})


def test_each_check_has_a_rule() -> None:
    assert tuple(TOLERATED) == CHECKS


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("in_favour", [0, 3, 20])
def test_a_check_fails_where_its_exact_test_does(check: str, in_favour: int) -> None:
    frame = judged(rows(check, list(range(61)), in_favour))
    share = TOLERATED[check]
    tests = [
        binomtest(k, k + in_favour, 0.5, "greater").pvalue
        if share is None and k + in_favour
        else binomtest(k, 100, share or 0.5, "greater").pvalue
        for k in range(61)
    ]
    np.testing.assert_allclose(frame["p"], tests, rtol=1e-9)
    assert list(frame["verdict"] == FAILED) == [p <= LEVEL / 6 for p in tests]
    assert (frame["fails_from"] == (frame["verdict"] == FAILED).to_numpy().argmax()).all()


@pytest.mark.parametrize("images", [7, 30, 50])
def test_chance_alone_fails_any_of_the_six_in_five_percent_at_most(images: int) -> None:
    """Exactly, at the edge of what each check asks: as many for as against, of any number that one attack breaks."""
    total = 0.0
    for check, share in TOLERATED.items():
        chances = []
        for discordant in range(images + 1) if share is None else [images]:
            k = np.arange(discordant + 1)
            favours = discordant - k if share is None else np.zeros_like(k)
            each = DataFrame({"check": check, "against": k, "in_favour": favours, "clean_correct": images})
            failed = (judged(each)["verdict"] == FAILED).to_numpy()
            chances.append(binom.pmf(k, discordant, share or 0.5)[failed].sum())
        total += max(chances)
    assert total <= LEVEL


def test_a_check_that_could_not_fail_says_that_the_images_are_too_few() -> None:
    assert list(judged(rows("steps", [0, 6], images=6))["verdict"]) == [TOO_FEW, TOO_FEW]
    assert list(judged(rows("steps", [0, 7], images=7))["verdict"]) == [PASSED, FAILED]
    assert list(judged(rows("ascent", [0], images=0))["verdict"]) == [TOO_FEW]
