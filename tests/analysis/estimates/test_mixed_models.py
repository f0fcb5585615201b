"""The mixed model's likelihood: against statsmodels, and against the normal density."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy import stats

from analysis.estimates.mixed_models import random_intercept


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
    assert found == pytest.approx(oracle.llf, abs=1e-4)


def test_without_groups_it_is_that_of_least_squares():
    design, y, _ = simulated(np.random.default_rng(0))
    left = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
    normal = stats.norm(0, np.sqrt(np.mean(left**2)))
    assert random_intercept(design, y, None) == pytest.approx(normal.logpdf(left).sum())


def test_where_nothing_is_left_to_explain_there_is_none():
    design, _, labels = simulated(np.random.default_rng(0))
    assert np.isnan(random_intercept(design, design @ [1.0, 0.5], labels))
