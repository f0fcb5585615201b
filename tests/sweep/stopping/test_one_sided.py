"""The one-sided e-process: an integral of densities, a supermartingale, and never more often wrong than it says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate, stats

from analysis.claims.evidence import SCALE, log_evidence
from sweep.stopping.one_sided import critical, log_evidence_above


@pytest.mark.parametrize(("n", "freedom", "t"), [(3, 2, 4.0), (2, 9, 5.3), (5, 36, -1.0), (4, 3, 0.0), (5, 4, 30.0)])
def test_it_is_the_ratio_of_densities_of_t_mixed_over_half_a_normal(n: int, freedom: int, t: float) -> None:
    def mixed(effect: float) -> float:
        prior = 2 * stats.norm.pdf(effect, scale=SCALE)
        return float(prior * stats.nct.pdf(t, freedom, effect * math.sqrt(n)) / stats.t.pdf(t, freedom))

    expected, _ = integrate.quad(mixed, 0, math.inf, limit=200)
    assert log_evidence_above(t, n, freedom) == pytest.approx(math.log(expected), rel=1e-6)


def test_the_halves_of_both_sides_are_the_two_sided_evidence() -> None:
    halves = [math.exp(log_evidence_above(t, 4, 12)) for t in (2.5, -2.5)]
    assert sum(halves) / 2 == pytest.approx(math.exp(log_evidence(2.5, 4, 12)))


def test_it_rises_with_t_so_that_a_point_that_is_no_better_has_less() -> None:
    values = [log_evidence_above(t, 3, 10) for t in np.linspace(-30, 30, 200)]
    assert np.all(np.diff(values) > 0)


@pytest.mark.parametrize(("n", "freedom"), [(2, 1), (2, 9), (3, 18), (5, 4)])
def test_its_expectation_without_an_effect_is_1(n: int, freedom: int) -> None:
    def weighed(t: float) -> float:
        return float(math.exp(log_evidence_above(t, n, freedom)) * stats.t.pdf(t, freedom))

    expectation, _ = integrate.quad(weighed, -math.inf, math.inf, limit=500)
    assert expectation == pytest.approx(1, abs=2e-3)


def test_one_replicate_says_nothing_and_few_never_enough() -> None:
    assert log_evidence_above(100.0, 1, 0) == 0
    assert math.isinf(critical(3, 2, 1 / 27))  # at most 13^(2/2) x 2 = 26
    assert critical(3, 2, 1 / 25) < math.inf


def test_the_critical_t_is_where_the_evidence_is_one_over_alpha() -> None:
    assert log_evidence_above(critical(4, 12, 0.001), 4, 12) == pytest.approx(math.log(1000))
