"""`sweep importance`, and what a sweep of several objectives shows: summary, frame, figure."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis import figures
from analysis.plots.pareto import PLAN as PARETO
from sweep.cli import main
from trainers.record import EpochRecord, OutcomeRecord, RecordFile

OBJECTIVES = [{"name": "val_robust", "mode": "max"}, {"name": "seconds", "mode": "min"}]


def run(*words: Any) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def said(result: Result) -> str:
    """The one line on stderr of a command that was given wrong input."""
    assert result.exit_code == 2, (result.output, result.exception)
    assert result.stderr.count("\n") == 1
    return result.stderr.removeprefix("sweep: ").rstrip("\n")


def written(
    directory: Path, outcome: Any = "completed", batches: tuple[int, ...] = (16, 32), strata: tuple[str, ...] = ()
) -> Path:
    """A run of three learning rates and so many batch sizes, two seeds: the lr does more than the batch size."""
    directory.mkdir(exist_ok=True)
    file = RecordFile(directory)
    file.append(
        "launch",
        {"time": 0.0, "size": 0, "wanted": [], "metric": "val_robust", "mode": "max", "objectives": OBJECTIVES}
        | ({"strata": list(strata)} if strata else {}),
    )
    for lr in (0.1, 0.2, 0.3):
        for batch in batches:
            for seed in range(2):
                name, point = f"{lr}-{batch}-{seed}", {"optimizer.lr": lr, "batch_size": batch}
                config = {"model": {"name": "net"}, "optimizer": {"name": "sgd", "lr": lr}, "batch_size": batch}
                known = {"trial_id": name, "number": 0, "config": config | {"epochs": 1}, "point": point, "seed": seed}
                file.append("trial", known)
                file.append("start", {"trial_id": name, "time": 1.0, "host": "h", "device": "cpu", "code_version": "a"})
                value = 0.3 + lr + 0.001 * batch + 0.002 * seed * (batch == 16)
                numbers = {"val_robust": value, "test_robust": value - 0.01, "test_clean": 0.8}
                file.append("epoch", EpochRecord(name, 1, lr, seconds=1.0 + 32 / batch + seed / 100, **numbers))
                file.append("outcome", OutcomeRecord(name, outcome, "", 1))
    file.close()
    return directory


def test_which_axis_matters_is_said_as_a_table_and_as_a_file(tmp_path: Path) -> None:
    directory = written(tmp_path)
    shown = run("importance", directory)
    assert shown.exit_code == 0, (shown.output, shown.exception)
    assert "importance for validation robust accuracy, last" in shown.output
    assert shown.output.index("optimizer.lr") < shown.output.index("batch_size") < shown.output.index("interactions")
    rows = json.loads(run("importance", directory, "--format", "json").output)
    assert [row["axis"] for row in rows] == ["optimizer.lr", "batch_size", "interactions"]
    assert rows[0]["importance"] > 0.9
    assert rows[0]["low"] <= rows[0]["importance"] <= rows[0]["high"]
    test = json.loads(run("importance", directory, "--metric", "last_test_robust", "--format", "json").output)
    assert test[0]["metric"] == "last_test_robust"


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    one = written(tmp_path / "one", batches=(16,))
    lost = written(tmp_path / "lost", outcome="failed")
    (tmp_path / "empty").mkdir()
    assert "needs two axes that vary among completed trials, got optimizer.lr" in said(run("importance", one))
    assert "needs a completed trial with last_val_robust, got 0 of 12 (12 failed)" in said(run("importance", lost))
    assert "empty" in said(run("importance", tmp_path / "empty"))
    assert "'shap' is not one of 'fanova', 'ped-anova'" in said(run("importance", one, "--by", "shap"))
    assert "--within lr: no axis that varies" in said(run("importance", written(tmp_path / "x"), "--within", "lr"))
    assert said(run("results", one, "--summary", "--epochs")) == (
        "--summary: and --epochs are two tables; leave one of the two out"
    )
    assert "--summary: is text" in said(run("results", one, "--summary", "--format", "csv"))


def test_a_file_that_stays_empty_is_explained(tmp_path: Path) -> None:
    done = run("importance", written(tmp_path, batches=(16, 32)), "--within", "batch_size", "--format", "csv")
    assert (done.exit_code, done.stdout.count("\n")) == (0, 1)
    why = "needs 2 hyperparameters that vary between these cells, got optimizer.lr"
    assert done.stderr.splitlines()[0] == f"sweep: batch_size 16: no importance: {why}"


def test_the_summary_shows_front_and_importance_and_no_row_a_trial(tmp_path: Path) -> None:
    answer = run("results", written(tmp_path), "--summary")
    assert answer.exit_code == 0, (answer.output, answer.exception)
    # at both batch sizes the highest rate is best, the larger batch is faster and better too
    assert "Pareto front of val_robust (max), seconds (min), net, PGD-AT: 1 of 6 cells, by validation" in answer.output
    assert "  optimizer.lr 0.3, batch_size 32 (n = 2, on it in 100 %)" in answer.output
    assert "test robust 62.2 %" in answer.output
    assert "interactions" in answer.output
    assert "0.1-16-0" not in answer.output


def test_in_a_pipe_tables_are_as_wide_as_columns_says_and_a_file_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("results", written(tmp_path / "run"))
    wide = max(map(len, run(*words).output.splitlines()))
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, run(*words).output.splitlines())) <= 60 < wide
    assert run(*words, "--output", tmp_path / "text.txt").exit_code == 0
    assert max(map(len, (tmp_path / "text.txt").read_text().splitlines())) == wide


def test_the_frame_says_which_trials_are_on_the_front(tmp_path: Path) -> None:
    written(tmp_path)
    run("results", tmp_path, "--format", "csv", "--output", tmp_path / "trials.csv")
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert set(trials.loc[trials["pareto"], "trial_id"]) == {"0.3-32-0", "0.3-32-1"}
    assert run("results", tmp_path, "--format", "parquet", "--output", tmp_path / "trials.parquet").exit_code == 0
    assert pd.read_parquet(tmp_path / "trials.parquet")["pareto"].sum() == 2


def test_grid_axes_that_the_launch_names_have_a_front_each_as_text_frame_and_figure(tmp_path: Path) -> None:
    run_of = written(tmp_path, strata=("batch_size", "epochs", "model.name"))
    shown = run("results", run_of, "--summary").output
    for batch in (16, 32):
        assert f"net, PGD-AT, batch_size {batch}: 1 of 3 cells, by validation" in shown
    run("results", run_of, "--format", "csv", "--output", tmp_path / "trials.csv")
    trials = pd.read_csv(tmp_path / "trials.csv")
    assert set(trials.loc[trials["pareto"], "trial_id"]) == {
        f"0.3-{batch}-{seed}" for batch in (16, 32) for seed in (0, 1)
    }
    rows = PARETO.frames(figures.load(run_of))["pareto"]
    assert set(rows["stratum"]) == {"batch_size 16", "batch_size 32"}


@pytest.mark.slow
def test_front_and_importance_are_figures_with_their_numbers_and_the_manifest_checks_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    usual = figures._paint
    monkeypatch.setattr(figures, "_paint", lambda p, *to: usual(p, *to) if p.name in ("pareto", "importance") else [])
    assert run("figures", tmp_path).exit_code == 0
    there = {path.name for path in (tmp_path / "figures").iterdir()}
    assert {f"{name}.{kind}" for name in ("pareto", "importance") for kind in ("csv", "png", "pdf")} <= there
    checked = run("figures", tmp_path, "--check").output.splitlines()
    assert {"pareto: same", "importance: same"} <= set(checked)
    manifest = json.loads((tmp_path / "figures" / "manifest.json").read_text())
    assert manifest["trials"]["pareto"]["trials"] == 12


def test_a_sweep_that_ran_says_what_matters(undisturbed: Path) -> None:
    answer = run("importance", undisturbed)
    assert answer.exit_code == 0, (answer.output, answer.exception)
    assert "4 cells, 4 trials, 1 seed; interval: none: one seed a cell" in answer.output


def test_a_sweep_of_several_objectives_that_ran_has_a_front(
    tiny: Callable[..., Any], launch: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    metric = [{"name": "val_robust", "mode": "max"}, {"name": "seconds", "mode": "min"}]
    code, text = launch(tiny(metric=metric, space={"optimizer.lr": [0.1, 0.3]}), tmp_path / "run", serial=True)
    assert code == 0, text
    assert "Pareto front of val_robust (max), seconds (min)" in run("results", tmp_path / "run").output
