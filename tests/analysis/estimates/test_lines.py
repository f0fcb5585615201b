import numpy as np
import pytest
from scipy import stats

from analysis.estimates.intervals import line


def test_exact_line_is_found_with_no_band():
    x = np.array([0.0, 1.0, 2.0, 5.0])
    found = line(x, 3 - 2 * x, np.array([-1.0, 10.0]))
    assert found.fit == pytest.approx([5.0, -17.0])
    assert found.high - found.low == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found.slope == pytest.approx(-2.0)


def test_band_at_zero_is_the_interval_of_scipys_intercept():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(12)
    y = 1 + x + rng.standard_normal(12)
    oracle = stats.linregress(x, y)
    half = stats.t.ppf(0.975, 10) * oracle.intercept_stderr
    found = line(x, y, np.array([0.0]))
    assert (found.low[0], found.high[0]) == pytest.approx((oracle.intercept - half, oracle.intercept + half))


def test_two_points_have_a_line_but_no_band():
    found = line(np.array([0.0, 1.0]), np.array([0.0, 1.0]), np.array([0.5]))
    assert found.fit == pytest.approx([0.5])
    assert np.isnan(found.low).all()
