"""The smooth surface: its mean and standard error against the textbook's formulas, and known surfaces."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from analysis.estimates.smooth_surface import fit_process, smooth_surfaces
from analysis.frames import published

LRS = [0.01, 0.03, 0.1, 0.3]
BATCHES = [16, 32, 64, 128]


def sweep(frame_of, surface, rng, noise=0.002, seeds=2, lrs=LRS, batches=BATCHES):
    rows = []
    for lr in lrs:
        for batch in batches:
            for seed in range(seeds):
                y = surface(np.log2(lr), np.log2(batch)) + noise * rng.standard_normal()
                rows.append({"optimizer.lr": lr, "batch_size": batch, "seed": seed, "last_test_robust": y})
    return frame_of(rows)


def bump(lr, batch):
    return 0.6 - 0.004 * (lr + 5) ** 2 - 0.003 * (batch - 5) ** 2


@pytest.fixture(scope="module")
def trials():
    rng = np.random.default_rng(0)
    at = rng.uniform(-4, 4, (25, 2))
    return at, np.sin(at[:, 0] / 2) + 0.5 * at[:, 1] + 0.1 * rng.standard_normal(25)


def test_mean_and_standard_error_are_those_of_a_gaussian_process_without_a_trials_noise(trials):
    # Mean k' (K + s^2 I)^-1 y, variance k0 - k' (K + s^2 I)^-1 k [Rasmussen, Williams 2006, equations 2.25 and 2.26].
    at, y = trials
    process = fit_process(at, y)
    amplitude, lengths = process.kernel_.k1.constant_value, process.kernel_.k2.length_scale

    def kernel(a, b):
        return amplitude * np.exp(-0.5 * (((a[:, None] - b[None]) / lengths) ** 2).sum(axis=-1))

    places = np.random.default_rng(1).uniform(-4, 4, (10, 2))
    across = kernel(places, at) @ np.linalg.inv(kernel(at, at) + process.alpha * np.eye(25))
    mean, error = process.predict(places, return_std=True)
    np.testing.assert_allclose(mean, y.mean() + across @ (y - y.mean()), rtol=1e-6)
    np.testing.assert_allclose(error, y.std() * np.sqrt(amplitude - (across * kernel(places, at)).sum(1)), rtol=1e-4)


def test_a_known_surface_is_recovered(frame_of):
    (found,) = smooth_surfaces(sweep(frame_of, bump, np.random.default_rng(0)))
    truth = bump(np.log2(found.grid["optimizer.lr"]), np.log2(found.grid["batch"]))
    assert found.reason == ""
    assert np.ptp(truth) > 0.05
    assert np.abs(found.grid["mean"] - truth).max() < 0.004
    assert found.noise == pytest.approx(0.002, rel=0.4)


def test_the_standard_error_grows_away_from_the_data(trials):
    process = fit_process(*trials)
    far = process.predict(np.array([[0.0, 0.0], [8.0, 8.0], [60.0, 60.0]]), return_std=True)[1]
    most = trials[1].std() * np.sqrt(process.kernel_.k1.constant_value)
    assert far[0] < far[1] < far[2] <= most * (1 + 1e-9)


def test_what_the_fit_does_not_see_is_said(frame_of):
    (flat,) = smooth_surfaces(sweep(frame_of, lambda lr, batch: 0.6 - 0.004 * (lr + 4) ** 2, np.random.default_rng(0)))
    assert "no bend along batch size is seen" in flat.notes
    (sure,) = smooth_surfaces(sweep(frame_of, bump, np.random.default_rng(0), noise=0.0))
    assert "no noise is seen" in sure.notes


def test_there_is_no_surface_outside_the_cells_hull(frame_of):
    frame = sweep(frame_of, bump, np.random.default_rng(0))
    ratio = np.log2(frame["optimizer.lr"]) - np.log2(frame["batch_size"])
    (found,) = smooth_surfaces(frame[ratio < ratio.median()])
    shown = found.grid["mean"].notna()
    assert 0.3 < shown.mean() < 0.8
    assert shown.equals(found.grid["se"].notna())


def test_the_same_data_give_the_same_surface_and_nothing_warns(frame_of):
    frame = sweep(frame_of, bump, np.random.default_rng(0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (one,), (other,) = smooth_surfaces(frame), smooth_surfaces(frame)
    assert one.grid.equals(other.grid)


def test_equal_values_have_a_surface_without_noise_and_nothing_warns(frame_of):
    frame = sweep(frame_of, lambda lr, batch: 0.5, np.random.default_rng(0), noise=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (found,) = smooth_surfaces(frame)
    np.testing.assert_allclose(found.grid["mean"], 0.5)
    assert found.noise == 0


def test_one_batch_size_has_no_surface_and_says_so():
    for found in smooth_surfaces(published.load_trials()):
        assert found.reason.startswith("a surface needs 2 of both and 6 cells not in line, got")
        assert "1 batch size," in found.reason
