"""Dynamics as frames: what counts, what is derived, and what the figures are drawn from."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import NDArray
from pandas import DataFrame
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import kurtosis

from analysis.frames import dynamics
from analysis.frames.dynamics import directions, gaussianity, lines, load_dynamics, noise_rate, stationary
from analysis.frames.trials import load_epochs, load_trials
from analysis.plots import dynamics as dynamics_plotted
from analysis.plots.dynamics import PLANS
from analysis.plots.plan import Data
from trainers.record import DynamicsRecord, OutcomeRecord, RecordFile

LINE = (-2.0, -1.0, 1.0, 2.0)


def record(trial: str = "a", epoch: int = 0, **values: Any) -> DynamicsRecord:
    """Two eigenvectors and a random direction, of a loss that is its quadratic."""
    known: dict[str, Any] = {
        "trial_id": trial,
        "epoch": epoch,
        "lr": 0.1,
        "batch_size": 20,
        "momentum": 0.0,
        "k1": None,
        "k2": None,
        "parameters": 1000,
        "training_images": 200,
        "images": 100,
        "robust": 0.5,
        "loss": 1.25,
        "gradient_squared": 0.5,
        "distance_squared": 4.0,
        "eigenpairs": 2,
        "trace": 30.0,
        "trace_error": 1.0,
        "curvatures": (8.0, 5.0, 0.1),
        "slopes": (0.3, -0.1, 0.0),
        "batches": 100,
        "batch_sizes": (20, 5, 50),
        "noise_traces": tuple(6.0 / b * (1 - b / 100) for b in (20, 5, 50)),
        "noise_trace_errors": (0.01, 0.1, 0.003),
        "variances": ((0.4, 0.2, 0.01), (1.6, 0.8, 0.04), (0.16, 0.08, 0.004)),
        "kurtoses": ((1.0, 2.0, 0.0), (4.0, 5.0, 0.5), (0.4, 0.8, None)),
        "seconds": 2.0,
    } | values
    scales = [
        np.sqrt(known["lr"] * c / (2 * (1 - known["momentum"]) * h)) if h > 0 else 1.0
        for c, h in zip(known["variances"][0], known["curvatures"], strict=True)
    ]
    places = tuple(tuple(step * scale for step in LINE) for scale in scales)
    of_direction = zip(places, known["slopes"], known["curvatures"], strict=True)
    rises = tuple(tuple(g * t + h * t**2 / 2 for t in line) for line, g, h in of_direction)
    return DynamicsRecord(**({"places": places, "rises": rises} | known))


def written(run: Any, *records: DynamicsRecord) -> Path:
    run.close()
    file = RecordFile(run.directory)
    for each in records:
        file.append("dynamics", each)
    file.close()
    directory: Path = run.directory
    return directory


@pytest.fixture
def directory(run: Any) -> Path:
    """Two seeds of PGD-AT and two of DEAT, each measured three times."""
    run.launch()
    records = []
    for number, (name, seed) in enumerate([("sgd", 0), ("sgd", 1), ("deat", 0), ("deat", 1)]):
        trial, ks = f"t{number}", {"k1": 1.0, "k2": 0.8} if name == "deat" else {}
        run.whole(trial, [0.2, 0.3, 0.4, 0.35], seed=seed, optimizer__name=name)
        rows = (trial, 0), (trial, 2), (trial, 4)
        records += [record(*row, **ks, kurtoses=((1.0 + seed,) * 3, (4.0,) * 3, (0.5,) * 3)) for row in rows]
    return written(run, *records)


def test_a_row_a_measurement_with_method_axes_and_what_was_recorded(directory: Path) -> None:
    frame = load_dynamics(directory)
    assert frame["trial_id"].tolist() == [f"t{number}" for number in range(4) for _ in range(3)]
    assert frame["epoch"].tolist() == [0, 2, 4] * 4
    assert frame["method"].tolist() == ["PGD-AT"] * 6 + ["DEAT"] * 6
    assert frame["curvatures"].iloc[0] == (8.0, 5.0, 0.1)
    assert (frame["sharpness"] == 8.0).all()
    assert not any(column.endswith(("_x", "_y")) for column in frame)


def test_the_last_line_of_an_epoch_counts_and_none_beyond_the_outcome(run: Any) -> None:
    run.trial("a")
    run.start("a")
    run.epoch("a", 1, 0.5)
    run.outcome("a", "diverged", epochs=1, reason="loss is nan")
    records = [record("a", 0, loss=9.0), record("a", 0), record("a", 1), record("a", 2), record("unknown", 0)]
    frame = load_dynamics(written(run, *records))
    assert frame["epoch"].tolist() == [0, 1]
    assert frame["loss"].tolist() == [1.25, 1.25]


def test_what_was_measured_before_a_trial_is_trained_anew_counts_no_longer(directory: Path) -> None:
    with closing(RecordFile(directory)) as file:
        file.append("outcome", OutcomeRecord("t0", "interrupted", "is trained anew", 0))
    assert sorted(set(load_dynamics(directory)["trial_id"])) == ["t1", "t2", "t3"]
    assert load_trials(directory).set_index("trial_id")["seconds"]["t0"] == 0
    with closing(RecordFile(directory)) as file:
        file.append("dynamics", record("t0", 0, loss=9.0))
    frame = load_dynamics(directory)
    assert frame["loss"][frame["trial_id"] == "t0"].tolist() == [9.0]


def test_a_run_without_measurements_gives_an_empty_frame_and_figures_that_cannot_be_drawn(ratio_run: Any) -> None:
    frame = load_dynamics(ratio_run.directory)
    assert frame.empty
    data = Data(load_trials(ratio_run.directory), load_epochs(ratio_run.directory), "m", dynamics=frame)
    for plan in PLANS:
        assert next(iter(plan.frames(data).values())).empty
    for plan in PLANS:
        assert next(iter(plan.frames(data._replace(dynamics=DataFrame())).values())).empty


def row(**values: Any) -> dict[str, Any]:
    found = record(**values)
    return {name: np.nan if value is None else value for name, value in vars(found).items()}


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgds_stationary_variance_solves_its_own_lyapunov_equation(momentum: float) -> None:
    given = row(momentum=momentum, images=200)
    found = stationary(given)
    for h, c, variance in zip(given["curvatures"], given["variances"][0], found, strict=True):
        step = np.array([[1 + momentum - 0.1 * h, -momentum], [1, 0]])
        exact = solve_discrete_lyapunov(step, np.diag([0.1**2 * c, 0]))[0, 0]
        assert variance == pytest.approx(exact, rel=1e-9)


def test_deats_stationary_variance_solves_its_own_lyapunov_equation() -> None:
    given = row(k1=1.0, k2=0.8, images=200)
    step_length = 0.1 / np.sqrt(5)
    for h, c, variance in zip(given["curvatures"], given["variances"][0], stationary(given), strict=True):
        # state (theta, h_{t-1}, h_{t-2}), h_t = 0.8 h_{t-2} + 0.2 (h theta + noise), theta -= lr' (2 h_t - h_{t-1})
        step = np.array([[1 - step_length * 0.4 * h, step_length, -step_length * 1.6], [0.2 * h, 0, 0.8], [0, 1, 0]])
        kick = np.array([-step_length * 0.4, 0.2, 0.0])
        assert variance == pytest.approx(solve_discrete_lyapunov(step, c * np.outer(kick, kick))[0, 0], rel=1e-6)


def test_of_another_optimizer_than_sgd_and_deat_there_is_no_posterior_and_no_bound() -> None:
    found = dynamics.derived(DataFrame([row(), row()]).assign(**{"optimizer.name": ["sgd", "adamw"]}))
    assert np.isfinite(found["bound"].iloc[0])
    assert found[["posterior_trace", "kl", "bound"]].iloc[1].isna().all()
    assert np.isfinite(found["sharpness"]).all()


def test_beyond_the_quadratics_limit_there_is_no_posterior_and_no_bound() -> None:
    frame = DataFrame([row(lr=0.24), row(lr=0.26)])  # lr h_1 = 1.92 and 2.08
    found = dynamics.derived(frame)
    assert np.isfinite(found["bound"].iloc[0])
    assert found[["posterior_trace", "kl", "bound"]].iloc[1].isna().all()


def test_the_bound_is_the_sum_of_its_terms_and_the_unmeasured_directions_cost_only_curvature() -> None:
    found = dynamics.derived(DataFrame([row(images=200)]), prior_variance=0.01, delta=0.05).iloc[0]
    h, c = np.array([8.0, 5.0]), np.array([0.4, 0.2])
    s = 0.1 * c / (h * (2 - 0.1 * h))
    kl = 4.0 / 0.02 + 0.5 * (s / 0.01 - 1 - np.log(s / 0.01)).sum()
    assert found["posterior_trace"] == pytest.approx(s.sum())
    assert found["risk_increase"] == pytest.approx(((h * s).sum() + (30 - 13) * 0.01) / 2)
    assert found["kl"] == pytest.approx(kl)
    complexity = np.sqrt((kl + np.log(200 / 0.05)) / 400)
    assert found["bound"] == pytest.approx(1.25 + found["risk_increase"] + complexity)


def test_noise_of_a_training_batch_and_of_one_sample_have_the_finite_factors_of_their_populations() -> None:
    found = dynamics.derived(DataFrame([row()])).iloc[0]
    assert found["sample_noise_trace"] == pytest.approx(6.0)
    assert found["noise_trace"] == pytest.approx(6.0 / 20 * (1 - 20 / 200))


def test_the_rate_is_minus_one_where_noise_falls_as_one_over_the_batch() -> None:
    assert noise_rate(row())[0] == pytest.approx(-1, abs=1e-12)
    assert np.isnan(noise_rate(row(batch_sizes=(20,), noise_traces=(1.0,), noise_trace_errors=(0.1,)))).all()


def test_the_rates_error_is_that_of_simulated_traces() -> None:
    rng, sizes = np.random.default_rng(0), np.array([5, 20, 50])
    exact, errors = 6.0 / sizes * (1 - sizes / 100), np.array([0.05, 0.01, 0.002])
    slopes: list[tuple[float, float]] = []
    for traces in rng.normal(exact, errors, size=(4000, 3)):
        given = row(batch_sizes=tuple(sizes), noise_traces=tuple(traces), noise_trace_errors=tuple(errors))
        slopes.append(noise_rate(given))
    drawn: NDArray[np.float64] = np.array(slopes)
    assert drawn[:, 0].std() == pytest.approx(drawn[:, 1].mean(), rel=0.06)
    assert abs(drawn[:, 0].mean() + 1) < 3.3 * drawn[:, 0].std() / 4000**0.5 + 1e-4


def test_directions_are_numbered_within_their_kind(directory: Path) -> None:
    frame = directions(load_dynamics(directory).head(1))
    assert frame["kind"].tolist() == ["eigenvector", "eigenvector", "random"]
    assert frame["direction"].tolist() == [0, 1, 0]
    assert frame["variance"].tolist() == pytest.approx([v * 0.9 / 0.8 for v in (0.4, 0.2, 0.01)])


def test_gaussianity_has_a_row_a_batch_size_and_direction_with_the_error_of_a_gaussian() -> None:
    found = gaussianity(DataFrame([{**row(), "method": "PGD-AT", "model.name": "m", "seed": 0}]))
    assert found["batch_size"].tolist() == [20] * 3 + [5] * 3 + [50] * 3
    assert found["kurtosis"].tolist()[:8] == [1.0, 2.0, 0.0, 4.0, 5.0, 0.5, 0.4, 0.8]
    rng = np.random.default_rng(0)
    draws = rng.standard_normal((100, 20_000))
    assert found["error"].iloc[0] == pytest.approx(kurtosis(draws, bias=False).std(), rel=0.05)


def test_a_quadratic_loss_deviates_nowhere(directory: Path) -> None:
    found = lines(load_dynamics(directory))
    assert found["deviation"].abs().max() < 1e-9
    assert found["multiple"].tolist()[:4] == pytest.approx(LINE)
    drawn = dynamics_plotted.against_quadratic(load_dynamics(directory))
    assert drawn["median"].tolist() == pytest.approx((drawn["multiple"] ** 2).tolist())
    assert drawn["lines"].tolist() == [8] * 4 + [4] * 4 + [8] * 4 + [4] * 4  # 2 measurements, 2 trials a method
    assert drawn["n"].tolist() == [2] * 16


def test_a_direction_that_curves_down_has_no_scale_and_is_not_drawn() -> None:
    frame = DataFrame([{**row(curvatures=(8.0, 5.0, -0.1)), "epoch": 2, "method": "PGD-AT"}])
    frame = frame.assign(**{"model.name": "m", "seed": 0})
    assert set(dynamics_plotted.against_quadratic(frame)["kind"]) == {"eigenvector"}


def test_a_cubic_term_is_seen_as_a_deviation_that_grows_with_the_distance() -> None:
    base = record()
    bent = tuple(
        tuple(rise + 0.5 * place**3 for rise, place in zip(line, places, strict=True))
        for line, places in zip(base.rises, base.places, strict=True)
    )
    frame = DataFrame([{**row(rises=bent), "method": "PGD-AT", "model.name": "m", "seed": 0}])
    found = lines(frame)
    expected = 0.5 * found["t"] ** 3 / (np.repeat([8.0, 5.0, 0.1], 4) * found["t"] ** 2 / 2)
    assert found["deviation"].tolist() == pytest.approx(expected.tolist(), rel=1e-6)


def test_around_the_decay_stand_mean_and_range_over_the_seeds_and_untrained_epochs_of_the_dynamics(
    directory: Path,
) -> None:
    epochs, measured = load_epochs(directory), load_dynamics(directory)
    found = dynamics_plotted.around_decay(measured, epochs)
    test = found[(found["method"] == "DEAT") & (found["split"] == "test")]
    assert test["epoch"].tolist() == [1, 2, 3, 4]
    assert test["mean"].tolist() == pytest.approx([0.2, 0.3, 0.4, 0.35])
    assert set(found["n"]) == {2}
    sharp = found[(found["method"] == "DEAT") & (found["quantity"] == "sharpness")]
    assert sharp["epoch"].tolist() == [0, 2, 4]


def test_a_number_that_one_seed_lacks_is_not_the_mean_of_the_others(directory: Path) -> None:
    epochs, measured = load_epochs(directory), load_dynamics(directory)
    measured.loc[(measured["trial_id"] == "t0") & (measured["epoch"] == 2), "bound"] = np.nan
    found = dynamics_plotted.around_decay(measured, epochs)
    bound = found[(found["method"] == "PGD-AT") & (found["quantity"] == "bound")]
    assert bound["mean"].isna().tolist() == [False, True, False]


def test_a_decay_stands_at_the_last_epoch_before_it_and_a_cosine_has_none(directory: Path) -> None:
    epochs, measured = load_epochs(directory), load_dynamics(directory)
    assert dynamics_plotted.decays(measured, epochs).empty
    stepped = epochs.assign(lr=np.where(epochs["epoch"] > 2, 0.01, 0.1))
    assert dynamics_plotted.decays(measured, stepped)["epoch"].tolist() == [2, 2]
    many = epochs.loc[epochs["trial_id"] == "t0"].head(1)
    turning = DataFrame([{**many.iloc[0].to_dict(), "epoch": e, "lr": 0.1 / e} for e in range(1, 9)])
    assert dynamics_plotted.decays(measured, turning).empty


def test_kurtosis_is_averaged_within_a_trial_before_its_interval_is_taken(directory: Path) -> None:
    found = dynamics_plotted.kurtosis_by_batch(load_dynamics(directory)).set_index(["kind", "batch_size"])
    own = found.loc[("eigenvector", 20)]
    assert own["mean"] == pytest.approx(1.5)  # trials 1, 2, 1, 2
    assert (own["low"], own["high"]) == pytest.approx((1.5 - 3.182446 * 0.57735 / 2, 1.5 + 3.182446 * 0.57735 / 2))
    assert (own["n"], own["estimates"], own["batches"]) == (4, 16, 100)


def test_every_figure_is_drawn(directory: Path, tmp_path: Path) -> None:
    data = Data(load_trials(directory), load_epochs(directory), "last_test_robust", dynamics=load_dynamics(directory))
    for plan in PLANS:
        figure = plan.render(plan.frames(data), data.metric)
        assert isinstance(figure, Figure)
        figure.savefig(tmp_path / f"{plan.name}.png")
