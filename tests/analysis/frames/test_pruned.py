"""Pruned trials are shown and counted, and are in no number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from pandas import DataFrame
from pandas.testing import assert_frame_equal

from analysis.claims.ledger import ledger
from analysis.claims.study import Study
from analysis.estimates.correlations import correlations
from analysis.estimates.differences import differences
from analysis.estimates.methods import comparison, results_frame
from analysis.estimates.partial_correlations import partial_correlations
from analysis.estimates.smooth_surface import smooth_surfaces
from analysis.figures import load
from analysis.frames.budgets import one_budget
from analysis.frames.cells import best_cells, candidate_cells, cell_means, measured
from analysis.frames.pruned import BIAS, pruned_line
from analysis.frames.trials import load_epochs, load_trials
from analysis.plots.accuracy_epoch import PLAN as EPOCHS
from analysis.plots.accuracy_lr import PLAN as BY_LR
from analysis.plots.accuracy_ratio import PLAN as BY_RATIO
from analysis.tables.claims import claims_text
from sweep.cli import main

KEYS = {"optimizer__name": "sgd", "optimizer__lr": 0.1, "batch_size": 128}


def test_frame_says_where_a_trial_was_pruned_and_by_what(run):
    run.whole("a", [0.1, 0.2])
    run.pruned("b", [0.1], seed=1)
    columns = ["outcome", "pruned_rung", "pruned_rank", "pruned_share", "pruned_by", "epochs", "last_val_robust"]
    rows = load_trials(run.directory)[columns]
    assert rows.iloc[1].tolist() == ["pruned", 1.0, 3.0, 0.5, "asha", 1, 0.1]
    assert rows.iloc[0][columns[1:5]].isna().all()
    assert load_epochs(run.directory)["outcome"].tolist() == ["completed", "completed", "pruned"]


def test_trial_that_was_taken_up_again_and_completed_is_pruned_no_more(run):
    run.pruned("a", [0.1])
    run.start("a", time=1.0)
    assert load_trials(run.directory)["outcome"].tolist() == ["unfinished"]
    run.epoch("a", 2, 0.2)
    run.outcome("a")
    row = load_trials(run.directory).iloc[0]
    assert row["outcome"] == "completed"
    assert np.isnan(row["pruned_rung"])


@pytest.mark.parametrize("pruned_first", [True, False])
def test_completed_trial_counts_before_a_pruned_one_of_its_cell_and_seed(run, pruned_first):
    kinds = [("p", run.pruned, [0.1]), ("c", run.whole, [0.1, 0.2])]
    for name, write, values in kinds if pruned_first else kinds[::-1]:
        write(name, values, config={"evaluation.every": 1 if name == "p" else 2})
    outcomes = load_trials(run.directory).set_index("trial_id")["outcome"]
    assert outcomes.to_dict() == {"p": "superseded", "c": "completed"}


ESTIMATES: dict[str, Callable[[DataFrame], Any]] = {
    "one_budget": lambda trials: one_budget(trials)[0],
    "measured": lambda trials: measured(trials, "last_test_robust"),
    "cell means": lambda trials: (
        cell_means(trials, ["last_test_robust"])
        .drop(columns="trials")
        .sort_values(["method", "optimizer.lr", "batch_size"])
    ),
    "correlations": lambda trials: correlations(trials, resamples=50).drop(columns="n_left_out"),
    "differences": lambda trials: DataFrame([one.cells.shape for one in differences(trials).values()]),
    "partial": lambda trials: DataFrame([vars(one) for one in partial_correlations(trials, resamples=50)]),
    "surfaces": lambda trials: DataFrame([(one.lengths, one.noise, one.n_trials) for one in smooth_surfaces(trials)]),
    "methods": lambda trials: results_frame(comparison(trials)).drop(columns=["pruned", "cells_left_out"]),
    "ledger": lambda trials: DataFrame(
        [(claim.estimate, claim.low, claim.high, claim.p, claim.n_trials) for claim in ledger(Study(trials))]
    ),
}


@pytest.fixture
def with_pruned(ratio_run, new_run) -> DataFrame:
    """A fourth seed of cells that are not the best, pruned where it looked best of all."""
    run = new_run(ratio_run.directory)
    for number, (name, lr) in enumerate([(name, lr) for name in ("sgd", "deat") for lr in (0.05, 0.1)]):
        run.pruned(f"p{number}", [0.95], seed=3, optimizer__name=name, optimizer__lr=lr, batch_size=256)
    run.close()
    return load_trials(ratio_run.directory)


@pytest.mark.parametrize("name", ESTIMATES)
def test_no_number_changes_by_pruned_trials(with_pruned, name):
    without = with_pruned[with_pruned["outcome"] != "pruned"].reset_index(drop=True)
    assert len(without) == len(with_pruned) - 4
    estimate = ESTIMATES[name]
    assert_frame_equal(estimate(with_pruned).reset_index(drop=True), estimate(without).reset_index(drop=True))


def test_every_claim_counts_the_pruned_trials_and_the_text_says_what_is_biased(with_pruned):
    claims = ledger(Study(with_pruned))
    measured_ones = [claim for claim in claims if claim.verdict != "not measured"]
    assert measured_ones
    assert {claim.left_out["pruned"] for claim in measured_ones} == {4}
    text = " ".join(claims_text(claims).split())
    assert f"where pruned trials are left out, {BIAS}" in text
    assert "4 trials (pruned)" in text
    assert BIAS not in claims_text(ledger(Study(with_pruned[with_pruned["outcome"] != "pruned"])))


def test_cell_that_lost_a_seed_to_pruning_is_chosen_only_where_all_have(frame_of):
    def rows(lr: float, values: list[float], pruned: int) -> list[dict[str, Any]]:
        outcomes = ["completed"] * len(values) + ["pruned"] * pruned
        every = zip([*values, *[0.1] * pruned], outcomes, strict=True)
        return [
            {"optimizer.lr": lr, "seed": seed, "last_val_robust": value, "outcome": outcome}
            for seed, (value, outcome) in enumerate(every)
        ]

    lucky, honest = rows(0.1, [0.9, 0.8], 1), rows(0.2, [0.7, 0.6, 0.8], 0)
    others = [row for lr in (0.3, 0.4) for row in rows(lr, [0.75, 0.74], 1)]
    assert best_cells(frame_of([*lucky, *honest, *others]))["optimizer.lr"].tolist() == [0.2]
    candidates = candidate_cells(frame_of([*lucky, *honest, *others]), "last_val_robust")
    assert candidates["cells_left_out"].tolist() == [3]
    assert best_cells(frame_of([*lucky, *others]))["optimizer.lr"].tolist() == [0.1]


@pytest.mark.parametrize("plan", [EPOCHS, BY_LR, BY_RATIO], ids=lambda plan: plan.name)
def test_no_figure_shows_a_pruned_trial_and_each_says_how_many_there_are(with_pruned, ratio_run, new_run, plan):
    data = load(ratio_run.directory)
    pruned = set(with_pruned.loc[with_pruned["outcome"] == "pruned", "trial_id"])
    frames = plan.frames(data)
    assert not pruned & plan.trial_ids(data, frames.values())
    assert "4 of 58 trials were pruned" in plan.captioned(data, frames)


def test_epoch_curve_is_of_the_seeds_that_ran_to_the_end(run):
    for seed in (0, 1):
        run.whole(f"w{seed}", [0.4, 0.6], seed=seed)
    run.pruned("p", [0.1], seed=2)
    rows = EPOCHS.frames(load(run.directory))["accuracy_epoch"]
    test = rows[rows["split"] == "test"]
    assert test["n"].tolist() == [2, 2]
    assert test["mean"].tolist() == pytest.approx([0.4, 0.6])


@pytest.mark.parametrize(
    ("command", "stream"),
    [(["results"], "stdout"), (["methods"], "stdout"), (["claims"], "stdout"), (["ratio"], "stdout")],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_say_what_is_biased(with_pruned, ratio_run, command, stream):
    ran = CliRunner().invoke(main, [*command, str(ratio_run.directory)])
    assert ran.exit_code == 0, ran.output
    said = " ".join(getattr(ran, stream).split())
    assert BIAS in said
    assert "4 of 58 trials were pruned" in said or "4 trials (pruned)" in said


def test_where_every_trial_was_pruned_it_is_said_and_how_they_go_on(run):
    run.pruned("a", [0.1])
    run.pruned("b", [0.2], optimizer__lr=0.2)
    trials = load_trials(run.directory)
    assert pruned_line(trials) == "2 of 2 trials were pruned and are in no number"
    said = "(2 pruned); launch the sweep again with --resume-pruned: it goes on where it stopped"
    assert said in CliRunner().invoke(main, ["importance", str(run.directory)]).stderr
    assert "2 of 2 trials were pruned" in CliRunner().invoke(main, ["proxy", str(run.directory)]).stdout
