"""What was measured stands beside what theory says: per cell and learning rate, over seeds."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from analysis.estimates.theory_check import TheoryCheck, settings, theory_check
from analysis.frames.dynamics import PRIOR_VARIANCE, load_dynamics
from analysis.theory.deat import variance_ratio
from trainers.record import read

#: Of DEAT's gradient noise over SGD's, by seed, in `measured_run`.
NOISIER = np.array([1.8, 2.0, 2.4])


@pytest.fixture
def check(measured_run: Callable[..., Path]) -> TheoryCheck:
    return theory_check(read(measured_run({"sgd": 8.0, "deat": 12.0})))


def test_a_setting_of_several_seeds_is_one_row(check: TheoryCheck) -> None:
    assert check.predicted["method"].tolist() == ["PGD-AT", "DEAT"]
    assert "trial_id" not in check.predicted


def test_settings_are_read_from_each_trials_config_and_what_it_lacks_is_what_it_did(run: Any) -> None:
    run.launch()
    run.trial("a", optimizer__lr=0.2, config={"optimizer.momentum": 0.9, "optimizer.nesterov": True})
    run.close()
    row = settings(read(run.directory)).iloc[0]
    assert (row["optimizer.lr"], row["optimizer.momentum"], row["optimizer.nesterov"]) == (0.2, 0.9, True)
    assert (row["weights.name"], row["averaging.name"], row["schedule.name"]) == ("none", "none", "constant")
    assert np.isnan(row["optimizer.k1"])


def test_curvature_is_averaged_within_a_trial_then_over_seeds_while_the_learning_rate_stays(check: TheoryCheck) -> None:
    along = check.along.set_index(["method", "lr"])
    assert along.index.tolist() == [("PGD-AT", 0.1), ("PGD-AT", 0.01), ("DEAT", 0.1), ("DEAT", 0.01)]
    row = along.loc[("PGD-AT", 0.1)]
    half = stats.t.ppf(0.975, 2) * 1 / 3**0.5  # of 8, 9, 10
    assert [row["sharpness"], row["sharpness_low"], row["sharpness_high"]] == pytest.approx([9, 9 - half, 9 + half])
    assert row["lr_curvature"] == pytest.approx(0.9)
    assert (row["first_epoch"], row["last_epoch"], row["n"], row["measurements"]) == (1, 2, 3, 6)
    assert row["rate"] == pytest.approx(-1, abs=1e-4)


def test_measurements_beyond_the_limit_are_counted_and_leave_no_posterior(measured_run: Callable[..., Path]) -> None:
    check = theory_check(read(measured_run({"sgd": 18.5, "deat": 14.0})))  # lr h: 1.85, 1.95, 2.05 and 1.4, 1.5, 1.6
    along = check.along.set_index(["method", "lr"])
    assert along.loc[("PGD-AT", 0.1), "beyond"] == 2
    assert along.loc[("DEAT", 0.1), "beyond"] == 4
    assert along.loc[("DEAT", 0.1), "largest_lr"] == pytest.approx(2 * 5**0.5 / 3 / 15)
    assert np.isnan(along.loc[("DEAT", 0.1), ["width", "bound"]].tolist()).all()
    assert np.isfinite(along.loc[("DEAT", 0.01), ["width", "bound"]].tolist()).all()
    assert check.beside.set_index(["quantity", "lr"]).index.tolist() == [
        ("step_noise", 0.1), ("step_noise", 0.01), ("spread", 0.01),
    ]  # fmt: skip


def test_the_width_is_the_posteriors_variance_over_the_priors(measured_run: Callable[..., Path]) -> None:
    directory = measured_run({"sgd": 8.0})
    dynamics, check = load_dynamics(directory), theory_check(read(directory))
    row = check.along.set_index(["method", "lr"]).loc[("PGD-AT", 0.01)]
    measured = dynamics[(dynamics["method"] == "PGD-AT") & (dynamics["lr"] == 0.01)]
    assert row["width"] == pytest.approx(measured["posterior_trace"].mean() / PRIOR_VARIANCE)
    assert row["bound"] == pytest.approx(measured["bound"].mean())


def test_deats_step_noise_over_sgds_is_the_prediction_times_what_its_gradients_are_noisier(check: TheoryCheck) -> None:
    found = check.beside.set_index(["quantity", "lr"]).loc[("step_noise", 0.1)]
    logs = np.log(NOISIER)
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / 3**0.5
    assert found["predicted"] == pytest.approx(1 / 9)
    assert found["measured"] == pytest.approx(np.exp(logs.mean()) / 9)
    assert found["measured_low"] == pytest.approx(np.exp(logs.mean() - half) / 9)
    assert (found["n_treatment"], found["n_control"], found["test"]) == (3, 3, "paired by seed")


def test_gradients_and_curvature_that_are_alike_give_the_recursions_spread(measured_run: Callable[..., Path]) -> None:
    check = theory_check(read(measured_run({"sgd": 0.8, "deat": 0.8}, noisier=(1, 1, 1))))
    found = check.beside.set_index(["quantity", "lr"]).loc[("spread", 0.01)]
    of_each_seed = variance_ratio([0.008, 0.018, 0.028])
    assert found["measured"] == pytest.approx(np.exp(np.log(of_each_seed).mean()))
    assert found["predicted"] == pytest.approx(variance_ratio(1e-6))


def test_of_awp_nothing_is_said_but_its_step_and_what_was_measured(measured_run: Callable[..., Path]) -> None:
    check = theory_check(read(measured_run({"sgd awp": 8.0, "deat awp": 8.0})))
    assert check.beside.empty
    assert check.along[["stability_limit", "beyond", "largest_lr", "width", "bound"]].isna().all(axis=None)
    assert check.along["sharpness"].notna().all()


def test_without_dynamics_there_is_only_what_theory_says(ratio_run: Any) -> None:
    check = theory_check(read(ratio_run.directory))
    assert check.along.empty
    assert check.beside.empty
