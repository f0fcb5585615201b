"""The variance decomposition: exact on polynomials, Sobol's indices of functions that have them in closed form."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from pandas import DataFrame
from scipy.stats import qmc

from analysis.estimates.sobol_indices import basis, decompositions, scaled, terms


def design(function, points=64, seeds=1, noise=0.0, axes=("optimizer.lr", "batch_size", "k"), seed=0):
    """A sweep of points of a Sobol sequence; `function` of the axes on [-1, 1]."""
    rng = np.random.default_rng(seed)
    z = 2 * qmc.Sobol(len(axes), rng=rng).random(128)[:points] - 1
    z = 2 * (z - z.min(axis=0)) / np.ptp(z, axis=0) - 1
    columns = {"optimizer.lr": 10 ** (z[:, 0] - 1), "batch_size": 2 ** (6 + 2 * z[:, 1])}
    columns |= {axis: 1.5 + z[:, i] for i, axis in enumerate(axes) if i > 1}
    y = function(*z.T)
    frame = DataFrame({"seed": 0, **columns, "y": y}).loc[np.repeat(np.arange(points), seeds)].reset_index(drop=True)
    frame["seed"] = np.tile(np.arange(seeds), points)
    frame["y"] += noise * rng.standard_normal(len(frame))
    known = {"trial_id": frame.index.astype(str), "outcome": "completed", "method": "DEAT", "model.name": "net"}
    frame.insert(len(frame.columns) - 1, "lr_batch_ratio", frame["optimizer.lr"] / frame["batch_size"])
    return DataFrame({**known, **frame})[["trial_id", "outcome", "method", "seed", "model.name", *frame.columns[1:]]]


def of(frame, **options):
    (found,) = decompositions(frame, "y", resamples=100, **options)
    return found


def firsts(found):
    return [share.first.value for share in found.shares]


def totals(found):
    return [share.total.value for share in found.shares]


def test_the_basis_is_orthonormal_over_the_box():
    nodes, weights = np.polynomial.legendre.leggauss(4)
    points = np.stack(np.meshgrid(nodes, nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 3)
    mass = np.einsum("i,j,k->ijk", *[weights / 2] * 3).ravel()
    columns = basis(points, terms(3))
    np.testing.assert_allclose(columns.T @ (mass[:, None] * columns), np.eye(10), atol=1e-12)


def test_terms_are_all_of_degree_two_at_most_the_constant_first():
    assert terms(2) == [(0, 0), (1, 0), (0, 1), (2, 0), (1, 1), (0, 2)]
    assert len(terms(4)) == 15


def test_an_axis_is_scaled_by_its_logarithm_if_asked_for():
    np.testing.assert_allclose(scaled(np.array([0.01, 0.1, 1.0]), True), [-1, 0, 1])
    np.testing.assert_allclose(scaled(np.array([1.0, 2.0, 5.0]), False), [-1, -0.5, 1])


def test_a_quadratic_has_its_indices_in_closed_form_exactly():
    # Variances over the box: z is 1/3, z^2 is 4/45, z1 z2 is 1/9.
    found = of(design(lambda a, b, c: 2 * a + 3 * b**2 + 1.5 * a * b))
    parts = np.array([4 / 3, 9 * 4 / 45, 0]), 2.25 / 9
    variance = parts[0].sum() + parts[1]
    assert firsts(found) == pytest.approx(list(parts[0] / variance), abs=1e-9)
    assert totals(found) == pytest.approx([(4 / 3 + 0.25) / variance, (0.8 + 0.25) / variance, 0], abs=1e-9)
    assert found.interactions == pytest.approx(0.25 / variance)
    assert found.deviation == pytest.approx(np.sqrt(variance))
    assert found.held_out_r2 == pytest.approx(1)
    assert [share.axis for share in found.shares] == ["optimizer.lr", "batch_size", "k"]


def test_noise_is_taken_off_the_squares():
    # Of 80 designs, the mean share of an axis that does nothing: 0 within the Monte-Carlo error, as it is not clipped
    # by more than that; without the correction it would be about 0.015.
    found = [of(design(lambda a, b, c: a - b, points=32, noise=0.5, seed=seed)) for seed in range(80)]
    error = np.std([firsts(one) for one in found], axis=0) / np.sqrt(80)
    assert np.mean([one.deviation**2 for one in found]) == pytest.approx(2 / 3, abs=0.05)
    np.testing.assert_array_less(
        np.abs(np.mean([firsts(one)[:2] for one in found], axis=0) - 0.5), 3.3 * error[:2] + 0.01
    )


def test_the_noise_share_is_that_of_one_trial_what_the_polynomial_misses_included():
    frame = design(lambda a, b, c: a - b + 4 * a**3 * b, points=40, seeds=2, noise=0.3)
    found = of(frame)
    noise = frame.groupby("optimizer.lr")["y"].var().mean()
    means = frame.groupby("optimizer.lr", sort=False)["y"].mean().to_numpy()
    points = frame.drop_duplicates("optimizer.lr")
    logs = {"optimizer.lr": True, "batch_size": True, "k": False}
    columns = basis(np.column_stack([scaled(points[axis].to_numpy(), log) for axis, log in logs.items()]), terms(3))
    missed = np.linalg.lstsq(columns, means, rcond=None)[1].item() / (40 - 10) - noise / 2
    assert missed > 2 * noise
    assert found.noise == pytest.approx(np.sqrt(noise))
    assert found.noise_share == pytest.approx(noise / (noise + found.deviation**2 + missed))
    assert np.isnan(of(design(lambda a, b, c: a - b)).noise_share)


def test_the_interval_is_a_normal_one_about_the_estimate():
    frame = design(lambda a, b, c: 2 * a - 2 * b + c * a + 2 * c, points=64, noise=0.3)
    inner, outer = (of(frame, confidence=level) for level in (0.5, 0.95))
    for one, other in zip(inner.shares, outer.shares, strict=True):
        for few, most in ((one.first, other.first), (one.total, other.total)):
            assert (most.low + most.high) / 2 == pytest.approx(most.value)
            assert (most.high - most.low) / (few.high - few.low) == pytest.approx(1.959964 / 0.674490, rel=1e-6)
    assert of(frame).shares == outer.shares


def test_intervals_hold_the_truth():
    truth = np.array([0.8, 0.2, 0.0])
    held = []
    for seed in range(60):
        found = of(design(lambda a, b, c: 2 * a - b, points=32, seeds=2, noise=0.7, seed=seed))
        held.append([share.first.low <= t <= share.first.high for share, t in zip(found.shares, truth, strict=True)])
    # 60 designs at 95 %: Monte-Carlo sd 2.8 points.
    assert np.mean(held, axis=0).min() > 0.95 - 3.3 * 0.028


def test_held_out_r2_is_that_of_refits_without_the_point():
    frame = design(lambda a, b, c: a + b * c, points=24, noise=0.3)
    z = np.column_stack(
        [
            scaled(frame[axis].to_numpy(), log)
            for axis, log in (("optimizer.lr", True), ("batch_size", True), ("k", False))
        ]
    )
    columns, y = basis(z, terms(3)), frame["y"].to_numpy()
    press = about = 0.0
    for i in range(24):
        rest = np.arange(24) != i
        press += (y[i] - columns[i] @ np.linalg.lstsq(columns[rest], y[rest], rcond=None)[0]) ** 2
        about += (y[i] - y[rest].mean()) ** 2
    assert of(frame).held_out_r2 == pytest.approx(1 - press / about)


def test_what_the_design_cannot_tell_is_said():
    frame = design(lambda a, b, c: a, points=8)
    assert of(frame).reason == "10 terms need 13 points, got 8"
    assert of(frame.assign(k=1.0, batch_size=64)).reason == "fewer than 2 numeric axes vary: optimizer.lr"
    two = design(lambda a, b, c: a).assign(k=lambda f: np.sign(f["k"] - 1.5))
    assert of(two).reason == "too few values of an axis: the 10 terms cannot be told apart"
    words = design(lambda a, b, c: a).assign(k=lambda f: np.where(f["k"] > 1.5, "a", "b"))
    assert of(words).reason == "k varies too, and is no number"
    assert of(frame).shares == ()


def test_points_without_a_completed_trial_are_counted():
    frame = design(lambda a, b, c: a + b, seeds=2)
    assert of(frame).note == ""
    # One seed of a point may diverge, and the point is still there.
    lost = (frame["optimizer.lr"] > 0.5) | ((frame["seed"] == 0) & (frame["optimizer.lr"] > 0.3))
    n = frame.loc[frame["optimizer.lr"] > 0.5, "optimizer.lr"].nunique()
    found = of(frame.assign(outcome=frame["outcome"].mask(lost, "diverged")))
    assert 0 < n < 30
    said = f"{n} of 64 points without a completed, measured trial: the shares are over the box of the others"
    assert (found.note, found.n_points, found.reason) == (said, 64 - n, "")


def test_a_design_that_does_nothing_has_no_shares_and_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [of(design(lambda a, b, c: 0 * a, points=16, noise=1.0, seed=seed)) for seed in range(6)]
    nothing = [one for one in found if one.reason]
    assert nothing  # about half: the estimate of a variance of 0 is as often below 0
    assert {one.reason for one in nothing} == {"the hyperparameters explain no more variance than the noise of the fit"}
    assert all(one.shares == () and one.deviation == 0 for one in nothing)


def test_an_interval_needs_two_points_a_term():
    bounds = [of(design(lambda a, b, c: a, points=points, noise=0.1)).shares[0].first for points in (19, 20)]
    assert np.isfinite(bounds[0].value)
    assert np.isnan([bounds[0].low, bounds[0].high]).all()
    assert np.isfinite(bounds[1]).all()


@pytest.mark.parametrize("value", [0.0, 0.1, 0.5])
def test_equal_points_have_no_variance_to_share_out(value):
    found = of(design(lambda *z: 0 * z[0] + value, seeds=2))
    assert (found.reason, found.shares) == ("all points have the same mean", ())
