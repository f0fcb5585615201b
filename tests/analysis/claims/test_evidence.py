from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from analysis.claims.evidence import MOST_FURTHER, POWER, Evidence, half_width, of_range, of_regression, of_values

SEEDS = np.array([1.2, 0.4, 2.1, 0.9])


def test_evidence_of_values_is_scipys_t_test():
    found, expected = of_values(SEEDS), stats.ttest_1samp(SEEDS, 0)
    assert found.interval(0.05) == pytest.approx(tuple(expected.confidence_interval(0.95)))
    assert found.level(found.estimate) == pytest.approx(expected.pvalue)
    assert of_values(-SEEDS).interval(0.05) == pytest.approx(tuple(-end for end in found.interval(0.05)[::-1]))


def test_the_range_of_two_cells_has_the_paired_t_interval():
    table = np.array([SEEDS, [0.1, 0.5, 0.3, -0.2]])
    found = of_range(table)
    difference = stats.ttest_rel(*table)
    low, high = difference.confidence_interval(0.95)
    assert found.interval(0.05) == pytest.approx((max(low, 0), high))
    assert found.error == pytest.approx(stats.sem(table[0] - table[1]))
    assert found.level(found.estimate) == pytest.approx(difference.pvalue, rel=1e-4)


def test_a_seed_that_moves_all_cells_alike_is_no_noise_of_the_range():
    table = np.random.default_rng(0).standard_normal((5, 4))
    moved = table + np.array([10.0, -3.0, 0.0, 5.0])
    assert of_range(moved).spread == pytest.approx(of_range(table).spread)
    assert of_range(moved).estimate == pytest.approx(of_range(table).estimate)


@pytest.mark.parametrize("sequential", [False, True])
def test_the_interval_of_a_range_holds_the_truth_in_95_percent(sequential):
    rng, means, held = np.random.default_rng(0), np.array([0.0, 0.5, 1.0, 3.0]), 0
    for _ in range(400):
        found = of_range(means[:, None] + rng.standard_normal((4, 6)), sequential=sequential)
        half = found.half_width(0.05) if sequential else HALF * found.spread
        held += abs(found.estimate - 3.0) <= half
    assert stats.binomtest(held, 400).proportion_ci(0.999).high > 0.95


HALF = float(stats.studentized_range.ppf(0.95, 4, 15)) / np.sqrt(6)


def test_the_slope_of_a_regression_is_scipys():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 12))
    found = of_regression(np.column_stack([x, np.ones(12)]), y, 0)
    expected = stats.linregress(x, y)
    assert (found.estimate, found.error) == pytest.approx((expected.slope, expected.stderr))
    assert found.level(abs(found.estimate)) == pytest.approx(expected.pvalue)
    twice = of_regression(np.column_stack([x, np.ones(12), np.ones(12)]), y, 0)
    assert twice.interval(0.05) == pytest.approx(found.interval(0.05))


def test_the_sequence_of_a_range_shares_alpha_among_all_pairs_of_cells():
    found = of_range(np.random.default_rng(0).standard_normal((5, 9)), sequential=True)
    assert found.half_width(0.05) == pytest.approx(half_width(found.spread * np.sqrt(2 / 9), 9, 4 * 8, 0.05 / 10))


@pytest.mark.parametrize(
    "evidence",
    [
        of_values(SEEDS),
        of_values(SEEDS, sequential=True),
        Evidence(0.5, 0.2, 4, "range", 5, is_range=True),
        Evidence(0.5, 0.2, 4, "sequence", 5, is_range=True),
    ],
    ids=["t", "sequence", "range", "sequence of a range"],
)
def test_level_is_the_inverse_of_half_width_under_every_law(evidence):
    for alpha in (0.2, 0.05, 0.01):
        if np.isfinite(half := evidence.half_width(alpha)):
            assert evidence.level(half) == pytest.approx(alpha, rel=1e-3)


def test_one_replicate_or_equal_ones_have_no_interval():
    for values in (SEEDS[:1], np.ones(4), SEEDS[:0]):
        found = of_values(values)
        assert not found.known
        assert np.isnan([*found.interval(0.05), found.level(1.0)]).all()
        assert found.further(1.0, 0.05) is None


@pytest.mark.parametrize("effect", [0.4, 0.8, 1.5])
def test_further_seeds_give_a_t_test_its_power(effect):
    found = Evidence(effect, 1.0, 3)
    n = 3 + found.further(effect, 0.05)
    power = [
        stats.nct.sf(stats.t.ppf(0.975, number - 1), number - 1, effect * np.sqrt(number)) for number in (n - 2, n)
    ]
    assert power[0] < 0.8 + 0.03
    assert power[1] > 0.8 - 0.03


def test_further_seeds_are_the_fewest_after_which_the_interval_is_short_enough():
    for law in ("t", "sequence"):
        found = Evidence(0.8, 1.0, 4, law)
        n = 4 + found.further(0.8, 0.05)
        widths = [replace(found, n=number) for number in (n - 1, n)]
        short = [e.half_width(0.05) + stats.t.ppf(POWER, e.freedom) * e.error <= 0.8 for e in widths]
        assert short == [False, True]


def test_an_effect_at_the_threshold_needs_more_seeds_than_are_counted():
    assert Evidence(0.001, 1.0, 3).further(0.001, 0.05) is None
    # Of many, ((1.960 + 0.842) / 0.0802)^2 = 1220 are needed in all: 50 beyond these are counted.
    assert Evidence(0.0802, 1.0, 1190).further(0.0802, 0.05) == pytest.approx(30, abs=3)
    assert Evidence(0.0802, 1.0, 1160).further(0.0802, 0.05) is None


@pytest.mark.parametrize(("n", "effect"), [(2, 1.5), (4, 0.8), (6, 1.5)])
def test_the_interval_of_further_seeds_holds_what_the_truth_asks_for_in_95_percent(n, effect):
    # At least: whole numbers of seeds hold the end of more intervals than those of a continuous one.
    rng, held, truth = np.random.default_rng(0), 0, Evidence(effect, 1.0, n).further(effect, 0.01)
    for _ in range(200):
        found = of_values(effect + rng.standard_normal(n))
        low, high = found.further_interval(abs(found.estimate), 0.01)
        held += (low or 51) <= truth <= (high or 51)
    assert stats.binomtest(held, 200).proportion_ci(0.999).high > 0.95
    assert held < 200


def test_the_interval_of_further_seeds_is_that_of_the_effect_in_standard_deviations():
    # Of t with v degrees of freedom, the noncentralities at which t is their 2.5th and 97.5th percentile.
    found, ends = Evidence(2.0, 1.0, 9), (9.4333, 2.4595)
    assert found.error == pytest.approx(1 / 3)
    assert stats.nct.cdf(6.0, 8, ends) == pytest.approx([0.025, 0.975], abs=1e-4)
    assert found.further_interval(2.0, 1e-3) == tuple(found.further(end / 3, 1e-3) for end in ends)
    assert None not in found.further_interval(2.0, 1e-3)


@pytest.mark.parametrize("freedom", [60, 87, 145, 300])
def test_the_interval_of_further_seeds_is_there_at_any_degrees_of_freedom(freedom):
    # scipy's noncentral t is NaN at some of these t where the noncentrality is below 0.
    for t in np.linspace(4.2, 6.4, 23):
        found = Evidence(t, np.sqrt(freedom + 1), freedom + 1)
        numbers = [number or MOST_FURTHER + 1 for number in (found.further(t, 1e-5), *found.further_interval(t, 1e-5))]
        assert numbers[1] <= numbers[0] <= numbers[2]


def test_what_says_next_to_nothing_leaves_nothing_out():
    assert of_values(np.array([1.0, 1.1])).further_interval(0.0, 0.05)[1] is None
    assert of_values(np.array([1.0, 1.0])).further_interval(1.0, 0.05) == (None, None)
    assert of_values(np.array([1.0, 1.0 + 1e-9])).further_interval(1.0, 0.05) == (1, 2)


def test_a_fit_with_as_many_parameters_as_replicates_has_an_estimate_and_no_interval():
    found = of_regression(np.array([[1.0, 1.0], [2.0, 1.0]]), np.array([3.0, 5.0]), 0)
    assert found.estimate == pytest.approx(2)
    assert np.isnan(found.spread)
    assert np.isnan(found.interval(0.05)).all()
