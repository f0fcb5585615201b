"""Mixed models: against statsmodels, against variances that were put in, and on the published study."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from analysis.mixed import random_intercept


def simulated(rng, groups=5, size=8, spread=2.0):
    labels = np.repeat(np.arange(groups), size)
    x = rng.standard_normal(groups * size)
    y = 1 + 0.5 * x + spread * rng.standard_normal(groups)[labels] + rng.standard_normal(groups * size)
    return np.column_stack([np.ones_like(x), x]), y, labels


@pytest.mark.parametrize("spread", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_random_intercept_is_statsmodels_maximum_likelihood(seed, spread):
    from statsmodels.regression.mixed_linear_model import MixedLM

    design, y, labels = simulated(np.random.default_rng(seed), spread=spread)
    keep = np.random.default_rng(seed).random(len(y)) < 0.8  # groups of different sizes
    design, y, labels = design[keep], y[keep], labels[keep]
    found = random_intercept(design, y, labels)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle = MixedLM(y, design, labels).fit(reml=False, method="powell")
    assert found.log_likelihood == pytest.approx(oracle.llf, abs=1e-4)
    np.testing.assert_allclose(found.coefficients, oracle.fe_params, atol=1e-3)
    assert found.variance == pytest.approx(oracle.scale, rel=1e-2)
    assert found.group_variance == pytest.approx(float(oracle.cov_re[0, 0]), abs=1e-2)


def test_random_intercept_recovers_the_variances_put_in():
    # 400 groups of 8: the group variance of 4 has a standard error of 4 sqrt(2 / 400) = 0.28, the noise's 0.027.
    found = random_intercept(*simulated(np.random.default_rng(0), groups=400))
    assert found.group_variance == pytest.approx(4, abs=3.3 * 0.29)
    assert found.variance == pytest.approx(1, abs=3.3 * 0.027)
    assert found.coefficients == pytest.approx([1, 0.5], abs=0.35)


def test_without_groups_it_is_least_squares():
    design, y, _ = simulated(np.random.default_rng(0))
    found = random_intercept(design, y, None)
    np.testing.assert_allclose(found.coefficients, np.linalg.lstsq(design, y, rcond=None)[0])
    assert found.group_variance == 0
