"""--where, --sort and --columns: which rows are listed, in which order, with which columns."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner, Result

from analysis.frames.trials import load_epochs, load_trials
from sweep.cli import main
from sweep.evaluate.command import _completed
from sweep.reports.filters import Filter
from trainers.record import OutcomeRecord, RecordFile, read


def sweep(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def rows(*words: str | Path) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(sweep(*words, "--format", "csv").stdout))


@pytest.fixture
def run(finished: Path) -> Path:
    """A run one of whose four trials failed, and one is tagged."""
    first, second, *_ = [one["trial_id"] for one in read(finished) if one["record"] == "trial"]
    file = RecordFile(finished)
    file.append("start", {"trial_id": first, "code_version": "abc", "time": 4e9})
    file.append("outcome", {**vars(OutcomeRecord(first, "failed", "RuntimeError: x", 0)), "time": 4e9})
    file.append("note", {"trial_id": second, "tags": ["odd"], "time": 4e9})
    file.close()
    return finished


def test_rows_are_those_for_which_the_expression_holds(run: Path) -> None:
    trials = load_trials(run)
    failed = rows("results", run, "--where", "outcome == 'failed'")
    assert failed.trial_id.tolist() == trials.query("outcome == 'failed'").trial_id.tolist() != []
    both = rows("results", run, "--where", "outcome == 'completed'", "--where", "optimizer.lr > 0.1")
    assert both.trial_id.tolist() == trials.query("outcome == 'completed' and `optimizer.lr` > 0.1").trial_id.tolist()
    assert (
        rows("results", run, "--where", "tag.odd").trial_id.tolist() == trials.query("tags == 'odd'").trial_id.tolist()
    )
    assert len(rows("results", run, "--where", "tag.none")) == 0
    assert len(rows("results", run, "--where", "not tag.odd")) == 3


def test_epochs_evaluations_checks_and_images_are_filtered_too(run: Path) -> None:
    epochs = load_epochs(run)
    best = rows("results", run, "--epochs", "--where", "epoch == 3 and val_robust > 0", "--sort", "-val_robust")
    known = epochs[(epochs["epoch"] == 3) & (epochs["val_robust"] > 0)]
    assert best.val_robust.tolist() == sorted(known["val_robust"], reverse=True)
    images = rows("images", run, "--where", "split == 'test' and attack == 'clean'", "--columns", "trial_id,images")
    assert list(images.columns) == ["trial_id", "images"]
    assert len(images) == 3  # of those that completed
    assert len(rows("results", run, "--evaluations", "--where", "attack == 'pgd'")) == 0
    assert len(rows("results", run, "--checks", "--where", "check == 'steps'")) == 0


def test_columns_and_order_are_those_that_are_asked_for(run: Path) -> None:
    words = ["--columns", "seed, trial_id,optimizer.lr", "--sort", "-optimizer.lr", "--sort", "trial_id"]
    frame = rows("results", run, *words)
    assert list(frame.columns) == ["seed", "trial_id", "optimizer.lr"]
    known = load_trials(run).sort_values(["optimizer.lr", "trial_id"], ascending=[False, True])
    assert frame.trial_id.tolist() == known.trial_id.tolist()
    table = sweep("results", run, "--columns", "trial_id,last_test_robust").stdout
    assert "last_test_robust: in %" in table
    assert table.splitlines()[-1] == "4 rows"
    both = json.loads(sweep("results", run, "--columns", "outcome,outcome", "--format", "json").stdout)
    assert [list(one) for one in both] == [["outcome"]] * 4


def test_a_table_of_some_rows_says_how_many_and_concludes_nothing(run: Path) -> None:
    said = sweep("results", run, "--where", "outcome == 'failed'").stdout
    assert said.splitlines()[-1] == "1 of 4 rows"
    assert "best by" not in said
    assert sweep("results", run, "--where", "seed > 9").stdout == "0 of 4 rows\n"


@pytest.mark.parametrize(("where", "count"), [("seed == 0", 5), ("batch_size == 32", 1)])
def test_settings_that_the_rows_shown_have_in_common_are_shown_with_them(
    where: str, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    study = Path(__file__).parents[2] / "benchmarks" / "study" / "small"
    words = ["--where", "seed == 0 and optimizer.lr < 0.1 and optimizer.name == 'sgd'", "--where", where]
    said = sweep("results", study, *words).stdout
    assert said.splitlines()[-1] == f"{count} of 120 rows"
    assert "optimizer sgd" in " ".join(said.split())
    assert "k1" not in said  # which SGD does not read


def test_without_them_all_is_as_it_was(run: Path) -> None:
    every = sweep("results", run).stdout
    assert "4 trials: 3 completed, 1 failed" in every


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--where", "outcom == 1"], "--where: must be a column of the table, got 'outcom'; did you mean 'outcome'?"),
        (["--where", "outcome = 'failed'"], "--where \"outcome = 'failed'\": must be an expression such as "),
        (["--where", "seed == 'a'"], "compares 0, with text, 'a', where seed = 0; compare alike with alike"),
        (["--where", "seed"], "--where 'seed': is 0 where it must be true or false, where seed = 0; compare alike"),
        (["--where", "__import__('os').system('true')"], "__import__('os').system('true')\", which is not let in"),
        (["--sort", "lr"], "--sort: must be a column of the table, got 'lr'; did you mean 'optimizer.lr'?"),
        (["--sort", "-foo"], "nearest: outcome, from_trial, note; all are in the first line of --format csv"),
        (["--columns", "trial_id,"], "--columns: must be a column of the table, got ''; "),
        (["--summary", "--where", "seed == 0"], "--summary: is of all trials; leave --where, --sort and --columns out"),
    ],
)  # fmt: skip
def test_what_is_no_filter_is_refused_in_one_line(words: list[str], says: str, run: Path) -> None:
    result = sweep("results", run, *words)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert says in result.stderr


@pytest.mark.parametrize("command", ["rerun", "cancel", "status"])
def test_by_a_percentage_no_trial_is_chosen_to_be_changed(run: Path, command: str) -> None:
    known = len(read(run))
    result = sweep(command, run, "--where", "last_test_robust < 50")
    assert result.exit_code == 2
    assert "last_test_robust is a fraction" in str(result.exception or "") + result.stderr
    assert len(read(run)) == known


def test_an_accuracy_that_is_compared_as_a_percentage_is_told_to_be_a_fraction(run: Path) -> None:
    result = sweep("results", run, "--where", "last_test_robust > 50")
    assert result.exit_code == 0
    assert "last_test_robust is a fraction, from 0 to 1, and never over 50; for 50 % write 0.5" in result.stderr
    assert sweep("results", run, "--where", "last_test_robust > 0.5 and batch_size < 64").stderr == ""


def test_status_tells_of_the_trials_that_are_chosen_alone(run: Path) -> None:
    text = sweep("status", run, "--where", "outcome == 'failed'").stdout
    assert "of 4 trials those that --where chooses" in text
    assert "1 trial: 1 failed" in text


def test_an_evaluation_of_chosen_trials_is_of_completed_ones_alone(run: Path) -> None:
    trials = load_trials(run)
    assert _completed(run, (), ("seed >= 0",)) == tuple(trials.query("outcome == 'completed'").trial_id)
    assert _completed(run, (), ("tag.odd",)) == tuple(trials.query("tags == 'odd'").trial_id)
    result = sweep("evaluate", run, "--where", "outcome == 'failed'")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "--where: chooses no completed trial" in result.stderr
    both = sweep("evaluate", run, "--where", "tag.odd", "--best")
    assert "--best: chooses the trials, so that --where says nothing" in both.stderr


def test_a_row_that_lacks_a_value_is_left_out_and_comes_last() -> None:
    frame = pd.DataFrame({"trial_id": ["a", "b", "c"], "x": [0.5, float("nan"), 0.7], "y": [None, "z", 1]})
    assert Filter(("x > 0",)).rows(frame, []).trial_id.tolist() == ["a", "c"]
    assert Filter(("x == none",)).rows(frame, []).trial_id.tolist() == ["b"]
    assert Filter(("y != none",)).rows(frame, []).trial_id.tolist() == ["b", "c"]
    assert Filter((), ("-x",)).rows(frame, []).trial_id.tolist() == ["c", "a", "b"]
    assert Filter((), ("y",)).rows(frame, []).trial_id.tolist() == ["c", "b", "a"]
