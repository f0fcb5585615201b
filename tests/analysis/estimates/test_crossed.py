"""One interval for two errors: its mean squares, Student's where there is one error, and how often it holds."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from analysis.estimates.crossed import contrast_variance, half_width, image_variance, level, methods_variance
from analysis.estimates.intervals import t_test
from analysis.frames.bits import BITS, TrialBits, bits_table

Y = "last_test_robust"


def trials(bits, method="PGD-AT", first_seed=0, fingerprint="f"):
    """A frame of one method's trials with bits (seeds, images)."""
    rows = [
        {"method": method, "seed": first_seed + seed, "outcome": "completed", Y: right.mean(),
         BITS: TrialBits(f"{method}{seed}", fingerprint, len(right), {Y: right})}
        for seed, right in enumerate(bits)
    ]  # fmt: skip
    return pd.DataFrame(rows)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_the_images_variance_is_that_of_the_two_way_layouts_mean_squares(rng):
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    hard = rng.standard_normal(40)
    gains = (hard + 0.3 * rng.standard_normal((3, 40)) > 0).astype(float)
    seed, image = np.indices(gains.shape)
    rows = pd.DataFrame({"g": gains.ravel(), "seed": seed.ravel(), "image": image.ravel()})
    squares = anova_lm(ols("g ~ C(seed) + C(image)", rows).fit())["mean_sq"]
    expected = (squares["C(image)"] - squares["Residual"]) / gains.size
    assert image_variance(gains) == pytest.approx(expected)
    whole = (squares["C(seed)"] + squares["C(image)"] - squares["Residual"]) / gains.size
    assert gains.mean(axis=1).var(ddof=1) / 3 + image_variance(gains) == pytest.approx(whole)


def test_images_that_all_seeds_see_alike_leave_the_binomial_variance(rng):
    right = (rng.random(500) < 0.7).astype(float)
    assert image_variance(np.stack([right, right])) == pytest.approx(right.var(ddof=1) / 500)


def test_equal_methods_and_one_seed_add_nothing_and_say_nothing(rng):
    bits = (rng.random((3, 50)) < 0.5).astype(float)
    assert image_variance(bits - bits) == 0.0
    assert image_variance(bits - bits[::-1]) >= 0.0
    assert np.isnan(image_variance(bits[:1]))
    assert np.isnan(image_variance(bits, -bits[:1]))


def test_seeds_of_their_own_are_two_groups_and_shared_ones_one(rng):
    one, other = rng.random((3, 60)) < 0.6, rng.random((3, 60)) < 0.7
    signs = {"TRADES": 1.0, "PGD-AT": -1.0}
    shared = pd.concat([trials(one), trials(other, "TRADES")], ignore_index=True)
    assert methods_variance(shared, signs, Y) == pytest.approx(image_variance(other.astype(float) - one))
    apart = pd.concat([trials(one), trials(other, "TRADES", first_seed=3)], ignore_index=True)
    assert methods_variance(apart, signs, Y) == pytest.approx(image_variance(other.astype(float), -one.astype(float)))
    assert methods_variance(shared, {"PGD-AT": 1.0}, Y) == pytest.approx(image_variance(one.astype(float)))


def test_bits_that_are_missing_of_other_images_or_of_other_weights_are_no_bits(rng):
    frame = trials(rng.random((3, 60)) < 0.6)
    assert bits_table(frame, Y).shape == (3, 60)
    assert bits_table(frame, "last_test_clean") is None
    assert bits_table(frame.drop(columns=BITS), Y) is None
    lacking = frame.assign(**{BITS: [None, *frame[BITS][1:]]})
    others = pd.concat([frame, trials(rng.random((1, 60)) < 0.6, first_seed=3, fingerprint="g")], ignore_index=True)
    averaged = frame.assign(**{Y: frame[Y] + [0.01, 0, 0]})
    for missing in (lacking, others, averaged):
        assert bits_table(missing, Y) is None
        assert np.isnan(contrast_variance(missing, np.ones(len(missing)), Y))


def test_without_an_error_of_the_images_it_is_students_interval():
    values = np.array([0.1, 0.4, 0.2])
    error, found = stats.sem(values), stats.ttest_1samp(values, 0)
    assert half_width(error, 2, 0.0, 0.05) == pytest.approx(np.ptp(found.confidence_interval(0.95)) / 2)
    assert level(values.mean(), error, 2, 0.0) == pytest.approx(found.pvalue)


@pytest.mark.parametrize("freedom", [1, 2, 7.5])
@pytest.mark.parametrize("images", [1e-3, 0.3, 4.0, 1e6])
def test_p_and_interval_say_the_same_and_both_errors_are_never_less_than_one(freedom, images):
    for alpha in (0.05, 1e-4):
        half = half_width(1.0, freedom, images, alpha)
        assert level(half, 1.0, freedom, images) == pytest.approx(alpha)
        assert half >= half_width(1.0, freedom, 0.0, alpha)
        assert half >= stats.norm.isf(alpha / 2) * np.sqrt(1 + images) * (1 - 1e-9)


def test_a_t_test_with_bits_holds_both_errors(rng):
    gains = 0.3 * rng.standard_normal((4, 200)) + 0.3 * rng.standard_normal(200) + 0.05 * rng.standard_normal((4, 1))
    values, images = gains.mean(axis=1), image_variance(gains)
    mean, low, high, p = t_test(values, 0.95, images)
    assert (high - low) / 2 == pytest.approx(half_width(stats.sem(values), 3, images, 0.05))
    assert p == pytest.approx(level(abs(mean), stats.sem(values), 3, images))
    assert np.isnan(t_test(np.full(3, 0.2), 0.95, images)[1:]).all()  # seeds that do not differ say nothing of theirs


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_it_holds_the_truth_at_its_level_where_an_interval_over_seeds_misses(seeds, share, rng):
    """Of the closed-form coverage over the seeds' chi-squared variance, the images' being known."""
    quantiles = (np.arange(500) + 0.5) / 500
    errors = np.sqrt(share * stats.chi2.ppf(quantiles, seeds - 1) / (seeds - 1))
    both, alone = ([half_width(e, seeds - 1, images, 0.05) for e in errors] for images in (1 - share, 0.0))
    held, missed = (float(np.mean(2 * stats.norm.cdf(halves) - 1)) for halves in (both, alone))
    assert 0.94 < held < (0.98 if seeds == 2 else 0.96)
    assert missed < held
    assert seeds == 2 or share > 0.5 or missed < 0.91
