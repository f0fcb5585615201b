"""The answers as text: every number with its n, what was left out, and why a thing cannot be told."""

from __future__ import annotations

import io
import json

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from analysis.claims import study as claim_study
from analysis.claims.ledger import ledger
from analysis.claims.study import Study
from analysis.estimates.correlations import correlations
from analysis.frames import published
from analysis.frames.pruned import pruned_text
from analysis.plots.plan import Data
from analysis.plots.ratio import PLANS
from analysis.tables.claims import answer
from analysis.tables.ratio import lacking_lines, ratio_answers, ratio_models_view, ratio_text, statements, tables


@pytest.fixture
def sweep(frame_of):
    rng = np.random.default_rng(0)
    rows = []
    for name in ("sgd", "deat"):
        for lr in (0.05, 0.1, 0.2):
            for batch in (32, 64, 128):
                for seed in range(3):
                    y = 0.5 + 0.05 * np.log10(lr / batch) - 0.05 * np.log10(lr) + 0.004 * rng.standard_normal()
                    point = {"optimizer.name": name, "optimizer.lr": lr, "batch_size": batch, "seed": seed}
                    rows.append({**point, "last_test_robust": y, "last_train_robust": y + 0.02 * rng.standard_normal()})
    rows.append({**rows[0], "outcome": "pruned", "last_test_robust": 0.1})
    return frame_of(rows)


@pytest.fixture
def answers(sweep):
    return ratio_answers(Study(sweep), resamples=50)


def test_the_first_lines_say_what_entered_and_what_the_ledger_says(answers, sweep):
    lines = statements(answers)
    assert lines[0] == "test robust accuracy, last epoch (%): 54 of 55 trials; 1 trial left out: 1 pruned"
    assert lines[1] == pruned_text(1, 55)
    claims = ledger(Study(sweep))
    assert lines[2].startswith(
        "claims, as `sweep claims` judges them (95 % intervals without the error of the test set; 5 lines are tested"
    )
    said = [f"  small_cnn, {claim.of}: {answer(claim)}" for claim in claims if claim.name in ("ratio", "ratio_only")]
    assert [line for line in lines if line.startswith("  ")] == said
    assert lines[-1].startswith("Other views of the same trials follow. They describe these trials and test nothing")


def test_every_table_has_the_values_of_both_methods_in_points(answers):
    found = tables(answers)
    assert {name: len(rows) for name, rows in found.items()} == {
        "models": 6, "tests": 6, "partial": 4, "surface": 2, "variance": 4,
    }  # fmt: skip
    held_out = answers.comparisons[0].tests[0].held_out.value
    assert found["tests"][0]["held out"].startswith(f"{100 * held_out:+.2f} [")


def test_json_holds_every_value_and_no_nan(answers):
    record = json.loads(ratio_text(answers, "json"), parse_constant=pytest.fail)
    assert record["left_out"] == {"pruned": 1}
    test = record["comparisons"][0]["tests"][0]
    assert test["p_holm"] == answers.comparisons[0].tests[0].p_holm
    assert record["surfaces"][0]["lengths"] == list(answers.surfaces[0].lengths)
    (own_best,) = [line for line in record["claims"] if line["name"] == "deat_own_best"]
    assert own_best["p_holm"] is None


def test_markdown_rows_have_as_many_cells_as_their_header(answers):
    lines = [line for line in ratio_text(answers, "markdown").splitlines() if line.startswith("|")]
    assert len(lines) == 22 + 2 * 5
    assert "| --- |" in "\n".join(lines)


def test_the_view_names_every_table_and_shows_brackets(answers):
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(ratio_models_view(answers))
    text = console.export_text()
    for title in ("nested models", "larger models against smaller ones", "smooth surface", "partial correlation"):
        assert title in text
    assert "[no interval]" in text


def test_the_published_study_is_told_apart_by_nothing_and_says_why():
    answers = ratio_answers(claim_study.published(), resamples=50)
    text = ratio_text(answers, "markdown")
    assert "supported; at one batch size this is the learning rate, not yet the ratio" in text
    assert "one batch size (128): the ratio cannot be told from the learning rate" in text
    assert [name for name, rows in tables(answers).items() if rows] == []


def test_what_is_left_of_a_design_is_said(sweep):
    lost = (sweep["optimizer.lr"] == 0.2) & (sweep["batch_size"] == 32)
    answers = ratio_answers(Study(sweep.assign(outcome=sweep["outcome"].mask(lost, "diverged"))), resamples=50)
    assert "1 of 9 points without a completed, measured trial" in ratio_text(answers, "markdown")
    assert {row["cells"] for row in tables(answers)["partial"]} == {"8"}


def test_figures_are_drawn_from_their_numbers_and_published_ones_are_empty(sweep):
    data = Data(sweep, sweep.iloc[:0], "last_test_robust")
    study = Data(published.load_trials(), published.load_epochs(), "last_test_robust")
    for plan in PLANS:
        frames = plan.frames(data)
        assert next(iter(frames)) == plan.name
        figure = plan.render(frames, data.metric)
        assert isinstance(figure, Figure)
        with mpl.rc_context({"font.size": 9}):
            figure.draw_without_rendering()
        assert next(iter(plan.frames(study).values())).empty


def test_the_surfaces_figure_has_two_panels_a_method(sweep):
    plan = PLANS[0]
    frames = plan.frames(Data(sweep, sweep.iloc[:0], "last_test_robust"))
    figure = plan.render(frames, "last_test_robust")
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert len(titles) == 4
    assert titles[0] == "small_cnn, PGD-AT\nn = 27 trials"
    shown = frames["ratio_surface"][["mean", "se"]]
    assert shown.notna().all(axis=None)


def test_a_network_of_other_epochs_is_in_every_view_as_in_the_verdicts(sweep):
    other = sweep.assign(**{"model.name": "resnet"})
    frame = pd.concat([sweep, other], ignore_index=True)
    frame.insert(5, "planned_epochs", [10] * len(sweep) + [30] * len(other))
    answers = ratio_answers(Study(frame), resamples=20)
    assert (answers.n_trials, answers.left_out) == (110, {"pruned": 2})
    for views in (answers.comparisons, answers.partial, answers.surfaces, answers.decompositions):
        assert {one.model for one in views} == {"small_cnn", "resnet"}
        assert not any(getattr(one, "note", "") for one in views)
    assert set(correlations(frame, resamples=20)["model.name"]) == {"small_cnn", "resnet"}


def test_equal_trials_have_no_nan_in_any_table(sweep):
    answers = ratio_answers(Study(sweep.assign(last_test_robust=0.1)), resamples=20)
    assert "nan" not in ratio_text(answers, "markdown")
    assert any(line.startswith("explained variance: all points have the same mean") for line in lacking_lines(answers))
