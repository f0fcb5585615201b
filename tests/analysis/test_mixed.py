"""Mixed models: against statsmodels, against variances that were put in, and on the published study."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest
from scipy import stats

from analysis import published
from analysis.differences import t_test
from analysis.mixed import network_effects, random_intercept, variance_components


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


@pytest.mark.parametrize("spreads", [(1.0, 0.5), (0.0, 2.0), (0.0, 0.0)])
def test_variance_components_are_statsmodels_restricted_maximum_likelihood(spreads):
    from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

    rng = np.random.default_rng(0)
    row, column = np.divmod(np.arange(40), 8)
    effects = {"row": row, "column": column}
    design = np.column_stack([np.ones(40), rng.standard_normal(40)])
    y = spreads[0] * rng.standard_normal(5)[row] + spreads[1] * rng.standard_normal(8)[column]
    y = y + rng.standard_normal(40)
    matrices = [np.eye(5)[row], np.eye(8)[column]]
    labels = [[[str(i) for i in range(matrix.shape[1])]] for matrix in matrices]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = VCSpec(list(effects), labels, [[matrix] for matrix in matrices])
        oracle = MixedLM(y, design, np.zeros(40), exog_vc=spec).fit(reml=True, method="powell")
    found = variance_components(design, y, effects)
    assert found.log_likelihood == pytest.approx(oracle.llf, abs=1e-4)
    assert list(found.variances.values()) == pytest.approx(oracle.vcomp, abs=1e-2)
    np.testing.assert_allclose(found.coefficients, oracle.fe_params, atol=1e-3)
    covariance = oracle.scale * np.eye(40)
    for matrix, variance in zip(matrices, oracle.vcomp, strict=True):
        covariance += variance * matrix @ matrix.T
    known = np.linalg.inv(design.T @ np.linalg.inv(covariance) @ design)
    np.testing.assert_allclose(found.errors, np.sqrt(np.diag(known)), rtol=1e-2)


def test_balanced_variance_components_are_those_of_the_analysis_of_variance():
    # One-way, 6 groups of 5: (MS_between - MS_within) / 5 and MS_within, where that is positive.
    rng = np.random.default_rng(1)
    labels = np.repeat(np.arange(6), 5)
    y = 2 * rng.standard_normal(6)[labels] + rng.standard_normal(30)
    means = y.reshape(6, 5).mean(axis=1)
    between, within = 5 * means.var(ddof=1), y.reshape(6, 5).var(axis=1, ddof=1).mean()
    found = variance_components(np.ones((30, 1)), y, {"group": labels})
    assert found.variance == pytest.approx(within, rel=1e-4)
    assert found.variances["group"] == pytest.approx((between - within) / 5, rel=1e-3)
    assert found.errors[0] == pytest.approx(np.sqrt(between / 30), rel=1e-3)


def networks(frame_of, rng, n_networks=3, seeds=3, gain=0.02, along=0.0, spread=0.05, seed_spread=0.01):
    rows = []
    for network in range(n_networks):
        own = spread * rng.standard_normal()
        shift = seed_spread * rng.standard_normal(seeds)
        for lr in (0.05, 0.1, 0.2):
            for batch in (32, 64, 128):
                cell = 0.01 * rng.standard_normal()
                for seed in range(seeds):
                    for name in ("sgd", "deat"):
                        y = 0.5 + own + shift[seed] + cell + 0.05 * np.log10(lr / batch) + along * np.log10(lr)
                        y += gain * (name == "deat") + 0.005 * rng.standard_normal()
                        point = {"optimizer.lr": lr, "batch_size": batch, "optimizer.name": name, "seed": seed}
                        rows.append({**point, "model.name": f"net{network}", "last_test_robust": y})
    return frame_of(rows)


def test_every_random_effect_and_the_gain_are_recovered(frame_of):
    found = network_effects(networks(frame_of, np.random.default_rng(1), n_networks=8))
    assert found.difference.low < 0.02 < found.difference.high
    assert found.difference.high - found.difference.low < 0.004
    assert found.deviations["noise"] == pytest.approx(0.005, rel=0.15)
    assert found.deviations["cell"] == pytest.approx(0.01, rel=0.4)
    assert found.deviations["network"] == pytest.approx(0.05, rel=0.6)
    assert found.deviations["seed"] == pytest.approx(0.01, rel=0.5)
    assert (found.n_networks, found.n_seeds, found.n_cells, found.n_trials) == (8, 3, 72, 432)


def test_the_slope_along_equal_ratio_is_in_the_interval(frame_of):
    found = network_effects(networks(frame_of, np.random.default_rng(2), along=-0.05))
    assert found.along.low < -0.05 < found.along.high < 0


def test_what_the_frame_cannot_tell_is_said_and_nothing_warns(frame_of):
    frame = networks(frame_of, np.random.default_rng(3), n_networks=1, seeds=1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = network_effects(frame)
    assert "one network: its own effect cannot be told" in found.notes
    assert "one seed: its own effect cannot be told" in found.notes
    assert set(found.deviations) == {"cell", "noise"}
    assert np.isnan(found.difference_over_networks.low)
    one_batch = network_effects(frame[frame["batch_size"] == 64])
    assert one_batch.notes[0].startswith("needs trials of DEAT and PGD-AT in at least")
    assert np.isnan(one_batch.difference).all()


def test_ratios_that_differ_by_rounding_alone_are_one(frame_of):
    # 0.3 / 96 and 0.1 / 32 differ in the last digit: of 4 cells there are 3 ratios.
    rng, rows = np.random.default_rng(0), []
    for network, name, lr, batch, seed in itertools.product("ab", ("sgd", "deat"), (0.1, 0.3), (32, 96), range(3)):
        y = 0.5 + 0.05 * np.log10(lr / batch) + 0.02 * (name == "deat") + 0.003 * rng.standard_normal()
        point = {"model.name": network, "optimizer.name": name, "optimizer.lr": lr, "batch_size": batch}
        rows.append({**point, "seed": seed, "last_test_robust": y})
    frame = frame_of(rows)
    assert frame["lr_batch_ratio"].nunique() == 4
    found = network_effects(frame)
    assert found.degree == 2
    assert found.difference.low < 0.02 < found.difference.high


def test_settings_of_a_method_are_not_pooled(frame_of):
    rows = networks(frame_of, np.random.default_rng(3), seeds=1).to_dict("records")
    frame = frame_of([{**row, "optimizer.k1": k1} for row in rows for k1 in (0.0, 1.0)])
    found = network_effects(frame)
    assert found.notes == ("settings of optimizer.k1 would be pooled: choose one of each",)
    assert np.isnan(found.difference.value)


def test_balanced_gain_is_the_mean_of_paired_differences(frame_of):
    frame = networks(frame_of, np.random.default_rng(4))
    by_cell = frame.pivot_table(
        index=["model.name", "optimizer.lr", "batch_size"], columns="method", values="last_test_robust"
    )
    gains = by_cell["DEAT"] - by_cell["PGD-AT"]
    found = network_effects(frame)
    assert found.difference.value == pytest.approx(gains.mean(), abs=1e-6)
    # A mean over 27 cells of the difference of two methods, each with noise of its own in the cell and of 3 seeds.
    error = np.sqrt(2 * (found.deviations["method in a cell"] ** 2 + found.deviations["noise"] ** 2 / 3) / 27)
    half = 1.959964 * error
    bounds = (found.difference.value - half, found.difference.value + half)
    assert (found.difference.low, found.difference.high) == pytest.approx(bounds, rel=1e-5)
    assert found.p == pytest.approx(2 * stats.norm.sf(found.difference.value / error), rel=1e-3)
    means = gains.groupby("model.name").mean().to_numpy()
    assert (*found.difference_over_networks, found.p_over_networks) == pytest.approx(t_test(means, 0.95))


def test_deat_gains_a_point_over_the_published_networks():
    # Table 4 has 1.22, 1.21 and 1.11 points at lr >= 0.006, printed.
    trials = published.load_trials()
    found = network_effects(trials[trials["optimizer.lr"] >= 0.006])
    assert 100 * found.difference_over_networks.value == pytest.approx((1.22 + 1.21 + 1.11) / 3, abs=0.03)
    assert 100 * found.difference.value == pytest.approx(1.18, abs=0.03)
    assert found.difference.low > 0.009
    assert found.difference_over_networks.low > 0
    assert (found.n_networks, found.n_seeds) == (3, 1)
    assert np.isnan(found.along.value)
    assert any(note.startswith("one batch size") for note in found.notes)
