"""The horizontal shift: recovered where it is known, withheld where it is not to be had."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pandas import DataFrame
from scipy import stats
from scipy.interpolate import PchipInterpolator

from analysis.estimates.resampling import resampled
from analysis.estimates.shift import FURTHEST, _vertex, shift
from analysis.frames import published


def curves(
    c: float,
    rates: Any,
    *,
    noise: float = 0.0,
    seeds: int = 1,
    gain: float = 0.0,
    rng: np.random.Generator | None = None,
) -> DataFrame:
    """PGD-AT on a curve that bends, DEAT on the same at c times the learning rate, and `gain` above it."""
    rng = rng or np.random.default_rng(0)
    rows = [
        {
            "method": method,
            "optimizer.lr": lr,
            "outcome": "completed",
            "last_test_robust": 0.4
            + 0.05 * np.tanh(np.log(factor * lr / 0.07))
            + extra
            + noise * rng.standard_normal(),
        }
        for method, factor, extra in (("PGD-AT", 1.0, 0.0), ("DEAT", c, gain))
        for lr in rates
        for _ in range(seeds)
    ]
    return DataFrame(rows)


@pytest.mark.parametrize("c", [0.6, 1.0, 2.2])
def test_without_noise_c_is_that_of_the_curves_and_nothing_is_left(c: float) -> None:
    found = shift(curves(c, np.geomspace(0.005, 0.5, 41)), resamples=20)
    assert found.c == pytest.approx(c, rel=2e-3)
    assert found.residual == pytest.approx(0, abs=1e-4)
    assert found.rmse < 1e-4
    rates = np.geomspace(0.005, 0.5, 41)
    assert found.n == ((c * rates <= 0.505) & (c * rates >= 0.00495)).sum()
    assert (found.n_rates, found.n_trials) == (41, 82)
    assert np.sign(found.gain) == (0 if c == 1 else np.sign(c - 1)) or abs(found.gain) < 1e-9


def test_a_gain_that_is_the_same_everywhere_fits_better_as_one_and_a_shift_as_a_shift() -> None:
    rates = np.geomspace(0.005, 0.5, 41)
    gained, shifted = (shift(curves(c, rates, gain=gain), resamples=20) for c, gain in ((1.0, 0.02), (2.0, 0.0)))
    assert gained.constant_rmse == pytest.approx(0, abs=1e-6)
    assert gained.rmse > 0.003
    assert shifted.rmse < 5e-4
    assert shifted.constant_rmse > 0.003


def test_shift_of_a_power_of_the_spacing_meets_the_points_themselves() -> None:
    rates = 0.01 * 2.0 ** np.arange(7)
    found = shift(curves(2.0, rates), resamples=20)
    assert found.c == pytest.approx(2, rel=1e-2)
    assert found.n == 6


@pytest.mark.parametrize(("rates", "noise", "seeds"), [(20, 0.002, 1), (8, 0.004, 3)])
def test_interval_holds_the_true_c_as_often_as_it_says_and_c_is_unbiased(rates: int, noise: float, seeds: int) -> None:
    rng = np.random.default_rng(1)
    grid = np.geomspace(0.01, 0.5, rates)
    found = [shift(curves(1.8, grid, noise=noise, seeds=seeds, rng=rng), resamples=60) for _ in range(40)]
    logs = np.log([one.c for one in found])
    error = logs.std(ddof=1) / np.sqrt(len(logs))
    assert abs(logs.mean() - np.log(1.8)) < 4 * error + 0.02
    held = sum(one.low <= 1.8 <= one.high for one in found)
    assert held >= 31  # of 40; 31 or more with p 0.999 if the interval holds in 90 %


def of_resamples(frame: DataFrame, cells: list[Any], resamples: int) -> tuple[Any, Any]:
    """log c and what is left of each resample, drawn as trials: whole multiples of one weight are repeated rows."""
    rng = np.random.default_rng(0)
    weights = np.hstack([resampled(np.asarray(of), resamples, rng) for of in cells])
    sides = [frame[frame["method"] == name].index for name in ("DEAT", "PGD-AT")]
    order = np.concatenate(sides)
    drawn = []
    for row in weights:
        counts = np.round(row / row[row > 0].min()).astype(int)
        drawn.append(shift(frame.loc[np.repeat(order, counts)], resamples=2))
    return np.log([one.c for one in drawn]), np.array([one.residual for one in drawn])


def test_of_replicates_it_is_a_t_interval_on_log_c_with_trials_minus_cells_degrees_of_freedom() -> None:
    frame = curves(1.8, np.geomspace(0.01, 0.5, 8), noise=0.002, seeds=2)
    found = shift(frame, resamples=20)
    logs, left = of_resamples(frame, [np.repeat(np.arange(8), 2)] * 2, 20)
    half = stats.t.ppf(0.975, 32 - 16) * logs.std(ddof=1)
    assert (np.log(found.low), np.log(found.high)) == pytest.approx((np.log(found.c) - half, np.log(found.c) + half))
    half = stats.t.ppf(0.975, 32 - 16) * left.std(ddof=1)
    bounds = found.residual_low, found.residual_high
    assert bounds == pytest.approx((found.residual - half, found.residual + half))
    assert found.interval_method == "bootstrap of seeds within cells (Rao-Wu), t on log c"


def test_of_one_trial_a_rate_its_bounds_are_percentiles_over_redrawn_learning_rates() -> None:
    frame = curves(1.8, np.geomspace(0.01, 0.5, 40), noise=0.001)
    found = shift(frame, resamples=20)
    logs, left = of_resamples(frame, [np.zeros(40, dtype=int)] * 2, 20)
    assert (np.log(found.low), np.log(found.high)) == pytest.approx(tuple(np.quantile(logs, [0.025, 0.975])))
    assert (found.residual_low, found.residual_high) == pytest.approx(tuple(np.quantile(left, [0.025, 0.975])))
    assert found.interval_method == "bootstrap of learning rates (one trial each), percentile"


def test_gain_is_that_at_equal_learning_rates() -> None:
    found = shift(curves(1.0, np.geomspace(0.005, 0.5, 21), gain=0.02), resamples=20)
    assert found.gain == pytest.approx(0.02, abs=1e-6)
    assert found.c > 1.1


def test_learning_rates_below_the_least_do_not_count_for_the_treatment_alone() -> None:
    rates = np.geomspace(0.005, 0.5, 21)
    found = shift(curves(1.5, rates), lr_from=0.05, resamples=20)
    assert found.n_rates == (rates >= 0.05).sum()
    assert found.c == pytest.approx(1.5, rel=1e-2)


@pytest.mark.parametrize(
    ("frame", "why"),
    [
        (curves(1.5, [0.1, 0.2]), "fewer than 3 learning rates of a method"),
        (curves(1.5, [0.1, 0.2, 0.4]), "at the edge of what the learning rates allow"),
        (curves(2 * FURTHEST, np.geomspace(1e-4, 10, 60)), "at the edge of what the learning rates allow"),
        # Of 20 learning rates over a factor of 4, c = 2.6 leaves 6 inside: less than half.
        (curves(2.6, np.geomspace(0.04, 0.16, 20)), "at the edge of what the learning rates allow"),
    ],
)
def test_what_the_learning_rates_do_not_allow_is_withheld(frame: DataFrame, why: str) -> None:
    found = shift(frame)
    assert np.isnan([found.c, found.low, found.residual]).all()
    assert found.interval_method.startswith("none: ")
    assert why in found.interval_method


def test_few_points_of_one_trial_have_a_c_without_an_interval() -> None:
    found = shift(curves(2.0, 0.01 * 2.0 ** np.arange(7)))
    assert found.c > 1
    assert np.isnan(found.low)
    assert found.interval_method == "none: fewer than 8 learning rates of a method, one trial each"


def test_of_few_learning_rates_of_one_method_alone_there_is_no_interval_either() -> None:
    found = shift(curves(0.7, np.geomspace(0.005, 0.5, 41)), lr_from=0.245)
    assert (found.n_rates, found.interval_method) == (
        7, "none: fewer than 8 learning rates of a method, one trial each",
    )  # fmt: skip


@pytest.mark.parametrize(("spare", "shown"), [(5, False), (6, True)])
def test_an_interval_needs_6_trials_beyond_one_a_learning_rate(spare: int, shown: bool) -> None:
    frame = curves(1.5, np.geomspace(0.005, 0.5, 12), noise=0.001, seeds=2)
    first = ~frame.duplicated(["method", "optimizer.lr"])
    found = shift(frame[first | (frame.index.isin(frame.index[~first][:spare]))], resamples=20)
    assert np.isfinite(found.low) == shown
    assert found.interval_method.startswith("bootstrap" if shown else "none: fewer than 6 degrees of freedom")


def test_where_many_resamples_have_no_c_there_is_no_interval() -> None:
    found = shift(curves(1.8, np.geomspace(0.01, 0.5, 10), noise=0.002))
    lost = int(found.interval_method.split()[1])
    assert found.interval_method == f"none: {lost} of 200 resamples have no c"
    assert 10 < lost < 190
    assert found.c == pytest.approx(1.8, rel=0.1)


@pytest.mark.parametrize(("noise", "seed"), [(0.01, 3), (0.05, 18)])
def test_every_learning_rate_weighs_by_its_trials_and_c_leaves_the_least_mean_square(noise: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates = np.geomspace(0.005, 0.5, 15)
    frame = curves(1.8, rates, noise=noise, seeds=4, gain=0.01, rng=rng)
    frame = frame[rng.random(len(frame)) < 0.6]
    found = shift(frame, resamples=2)
    means = frame.groupby(["method", "optimizer.lr"])["last_test_robust"].agg(["mean", "count"])
    deat, sgd = means.loc["DEAT"], means.loc["PGD-AT"]
    curve = PchipInterpolator(np.log(sgd.index), sgd["mean"])

    def left(c: float) -> tuple[Any, Any]:
        inside = (c * deat.index >= 0.99 * sgd.index.min()) & (c * deat.index <= 1.01 * sgd.index.max())
        return (deat["mean"] - curve(np.log(c * deat.index)))[inside], deat["count"][inside]

    after, weights = left(found.c)
    before = (deat["mean"] - curve(np.log(deat.index)))[after.index]
    mean = float(np.average(before, weights=weights))
    assert found.gain == pytest.approx(mean)
    assert found.residual == pytest.approx(np.average(after, weights=weights))
    assert found.rmse == pytest.approx(np.sqrt(np.average(after**2, weights=weights)))
    assert found.constant_rmse == pytest.approx(np.sqrt(np.average((before - mean) ** 2, weights=weights)))
    others = [left(c) for c in np.geomspace(1 / FURTHEST, FURTHEST, 200)]
    squares = [np.average(rest**2, weights=of) for rest, of in others if of.sum() >= deat["count"].sum() / 2]
    assert found.rmse**2 <= min(squares) + 1e-5


def test_between_steps_c_is_at_the_vertex_of_a_parabola_if_the_same_learning_rates_count() -> None:
    squares = (np.array([-1.0, 0.0, 1.0]) - 0.3) ** 2 + 2
    assert _vertex(squares, np.ones(3)) == pytest.approx(0.3 * 0.02)
    assert _vertex(squares, np.array([1.0, 1.0, 0.9])) == 0
    assert _vertex(np.full(3, 2.0), np.ones(3)) == 0


def test_diverged_trials_do_not_count() -> None:
    frame = curves(1.5, np.geomspace(0.005, 0.5, 21))
    lost = frame["optimizer.lr"] > 0.3
    diverged = frame.assign(outcome=frame["outcome"].mask(lost, "diverged"))
    assert shift(diverged, resamples=20) == shift(frame[~lost], resamples=20)


@pytest.mark.parametrize(("model", "c"), [("preact_resnet18", 2.2), ("senet18", 1.8), ("vgg19", 1.5)])
def test_published_shift_is_that_read_off_the_curves(model: str, c: float) -> None:
    trials = published.load_trials()
    found = shift(trials[trials["model.name"] == model], lr_from=0.01)
    assert round(found.c, 1) == c
    assert found.low < c < found.high
