"""The published study in the layout of a run: the paper's own statistics come out of it."""

from __future__ import annotations

import numpy as np
import pytest
from pandas import DataFrame

from analysis.estimates.correlations import METHODS, correlation
from analysis.estimates.differences import differences
from analysis.frames import published
from analysis.frames.trials import axes


@pytest.fixture(scope="module")
def trials() -> DataFrame:
    return published.load_trials()


def test_every_point_of_figure_4_is_a_completed_trial(trials: DataFrame) -> None:
    table = published.numbers("figure4")
    assert len(trials) == table.drop(columns="lr").notna().to_numpy().sum() == 158
    assert (trials["outcome"] == "completed").all()
    assert axes(trials) == ["model.name", "optimizer.name", "optimizer.lr", "batch_size"]


def test_points_agree_with_the_printed_table_but_for_one(trials: DataFrame) -> None:
    printed = published.numbers("table2").melt(["model.name", "lr"], ["pgd_at", "deat"], "method", "printed")
    printed["method"] = printed["method"].map({"pgd_at": "PGD-AT", "deat": "DEAT"})
    both = printed.merge(trials.rename(columns={"optimizer.lr": "lr"}), on=["model.name", "lr", "method"])
    off = both[(100 * both["last_test_robust"] - both["printed"]).abs() > 0.011]
    assert len(both) == 84
    assert off[["model.name", "method", "lr"]].to_numpy().tolist() == [["vgg19", "DEAT", 0.02]]


@pytest.mark.parametrize(("method", "expected"), [("PGD-AT", (0.711, 0.998, 0.982)), ("DEAT", (0.762, 0.982, 0.927))])
def test_senet_has_the_printed_correlations(trials: DataFrame, method: str, expected: tuple[float, ...]) -> None:
    chosen = (trials["model.name"] == "senet18") & (trials["method"] == method) & (trials["optimizer.lr"] >= 0.006)
    fits = [correlation(trials[chosen], "optimizer.lr", "last_test_robust", name, resamples=10) for name in METHODS]
    assert [round(fit.estimate, 3) for fit in fits] == list(expected)
    assert {fit.n for fit in fits} == {23}


def test_senet_has_the_printed_gain_and_p(trials: DataFrame) -> None:
    gain = differences(trials[trials["optimizer.lr"] >= 0.006])["senet18"]
    assert (round(100 * gain.estimate, 3), f"{gain.p_value:.2e}", gain.n_cells) == (1.213, "2.11e-09", 23)


def test_curves_end_at_their_points() -> None:
    trials, epochs = published.load_trials(), published.load_epochs()
    counts = epochs["trial_id"].value_counts()
    curves = counts[counts > 1]
    assert set(curves) == {110}
    assert len(curves) == 8  # six of Figure 5, two of Figure 2
    last = epochs[epochs["epoch"] == 110].set_index("trial_id")["test_robust"]
    np.testing.assert_array_equal(last[trials["trial_id"]], trials["last_test_robust"])
    drawn = published.numbers("figure4").set_index("lr")
    assert last["vgg19-sgd-0.3"] == pytest.approx(drawn.loc[0.3, "VGG_PGD"] / 100)
    assert last["senet18-deat-0.2"] == pytest.approx(drawn.loc[0.2, "SENet_DEAT"] / 100)


def test_what_is_not_published_is_nan() -> None:
    trials, epochs = published.load_trials(), published.load_epochs()
    assert trials[["seconds", "last_val_robust", "last_train_clean"]].isna().all(axis=None)
    assert epochs["seconds"].isna().all()
