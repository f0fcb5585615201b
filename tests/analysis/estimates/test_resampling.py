import numpy as np
import pytest
from scipy import stats

from analysis.estimates.resampling import COEFFICIENTS, resampled

SCIPY = {"pearson": stats.pearsonr, "spearman": stats.spearmanr, "kendall": stats.kendalltau}


def tied_data(n=30, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 6, n).astype(float)
    return x, np.round(x + 2 * rng.standard_normal(n))


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_weights_of_one_give_scipys_coefficient_with_ties(name):
    x, y = tied_data()
    ours = COEFFICIENTS[name](x, y, np.ones((1, len(x))), False)[0]
    assert ours == pytest.approx(SCIPY[name](x, y).statistic, abs=1e-12)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_whole_weights_are_repeated_trials(name):
    x, y = tied_data()
    weights = np.random.default_rng(1).integers(0, 4, (5, len(x)))
    ours = COEFFICIENTS[name](x, y, weights.astype(float), False)
    theirs = [SCIPY[name](np.repeat(x, row), np.repeat(y, row)).statistic for row in weights]
    assert ours == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("name", COEFFICIENTS)
def test_constant_resample_is_nan(name):
    x, y = tied_data()
    weights = np.zeros((1, len(x)))
    weights[0, 3] = len(x)
    assert np.isnan(COEFFICIENTS[name](x, y, weights, False)[0])


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_copies_of_a_seed_do_not_move_the_coefficient_of_separated_cells(name):
    # Every y of a cell lies below every y of the next: no redraw of seeds changes the order of the cells.
    x = np.repeat(np.arange(6.0), 3)
    y = np.arange(18.0)
    weights = resampled(x.astype(int), 200, np.random.default_rng(0))
    expected = SCIPY[name](x, y).statistic
    assert COEFFICIENTS[name](x, y, weights, True) == pytest.approx(np.full(200, expected), abs=2e-3)


def test_weights_of_a_cell_sum_to_its_size():
    cells = np.array([2, 0, 1, 0, 2, 2, 3, 1])
    weights = resampled(cells, 50, np.random.default_rng(0))
    sums = np.stack([weights[:, cells == cell].sum(axis=1) for cell in range(4)], axis=1)
    assert sums == pytest.approx(np.tile([2, 2, 3, 1], (50, 1)).astype(float))


def test_cell_of_one_trial_keeps_it():
    assert (resampled(np.array([0, 1, 2]), 20, np.random.default_rng(0)) == 1).all()


@pytest.mark.parametrize("m", [2, 3, 5])
def test_variance_of_a_cells_mean_is_unbiased_at_few_seeds(m):
    # Rao-Wu: var of the weighted mean = s^2 / m with the unbiased s^2; 20,000 draws give 1 % (one sd).
    values = np.random.default_rng(2).standard_normal(m)
    weights = resampled(np.zeros(m, dtype=int), 20_000, np.random.default_rng(0))
    assert np.var(weights @ values / m) == pytest.approx(values.var(ddof=1) / m, rel=0.05)
