"""`sweep launch --surrogate`: the driver's own path in seconds, and nothing of it can be taken for measured."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from analysis.claims.study import load_study
from analysis.frames.log import read_log
from analysis.frames.trials import load_epochs, load_trials, trials_of
from analysis.surrogate.surface import Surrogate
from analysis.surrogate.table import rows_of_run
from sweep.cli import main
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, read
from trainers.record.linked import REGISTRATION_FILE

CONFIG = Path(__file__).parents[3] / "configs" / "stopping_digits.yaml"
FEW = ["--set", "space.optimizer.lr=[0.05, 0.2]", "--set", "space.batch_size=[16, 48]", "--set", "seeds=[0, 1]"]


def sweep(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def launched(out: Path, *words: str) -> Result:
    return sweep("launch", CONFIG, "--surrogate", "--out", out, *FEW, *words)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "replay"
    result = launched(out)
    assert result.exit_code == 0, result.output
    assert "REPLAYED, NOT MEASURED: no network was trained" in result.stdout
    assert "R2 " in result.stdout
    return out


def test_every_trial_is_there_with_its_curve_and_no_checkpoint(replayed: Path) -> None:
    trials = trials_of(read_log(replayed, replays=True))
    assert len(trials) == 16
    assert set(trials["outcome"]) == {"completed"}
    assert trials["last_val_robust"].between(0.2, 0.95).all()
    assert trials["last_test_robust"].isna().all()  # its config does not ask for it
    epochs = [one for one in read(replayed) if one["record"] == "epoch"]
    assert len(epochs) == 16 * 9
    assert list((replayed / "checkpoints").iterdir()) == []


def test_the_launch_and_every_start_are_marked(replayed: Path) -> None:
    version = Surrogate.load().version
    records = read(replayed)
    assert records[0]["surrogate"] == version
    starts = [one for one in records if one["record"] == "start"]
    assert {(one["code_version"], one["device"]) for one in starts} == {(f"surrogate {version}", "none")}


def test_a_trial_lies_where_the_surface_says_and_is_the_same_each_time(replayed: Path, tmp_path: Path) -> None:
    assert launched(tmp_path / "again").exit_code == 0
    one, other = (
        trials_of(read_log(run, replays=True)).set_index("trial_id")["last_val_robust"]
        for run in (replayed, tmp_path / "again")
    )
    assert one.equals(other)


def test_what_shows_rows_says_what_they_are(replayed: Path) -> None:
    mark = "REPLAYED, NOT MEASURED: no network was trained; every number is drawn from response surface "
    mark += Surrogate.load().version
    name = next(one["trial_id"] for one in read(replayed) if one["record"] == "trial")
    for words in (["results", replayed], ["status", replayed], ["show", replayed, name]):
        result = sweep(*words)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(mark)
    header, *lines = sweep("results", replayed, "--format", "csv").stdout.splitlines()
    assert header.split(",")[-1] == "surrogate"
    assert all(line.endswith(f",{Surrogate.load().version}") for line in lines)
    few = sweep("results", replayed, "--format", "csv", "--columns", "trial_id,last_val_robust").stdout.splitlines()
    assert few[0] == "trial_id,last_val_robust,surrogate"
    assert few[1].endswith(f",{Surrogate.load().version}")


def test_a_replay_s_trials_are_chosen_by_an_expression_as_trained_ones_are(replayed: Path) -> None:
    shown = sweep("status", replayed, "--where", "optimizer.lr == 0.05")
    assert shown.exit_code == 0, shown.output
    assert "of 16 trials those that --where chooses" in " ".join(shown.stdout.split())
    ended = sweep("cancel", replayed, "--where", "optimizer.lr == 0.05")
    assert "was replayed" not in ended.stderr


@pytest.mark.parametrize(
    "words",
    [
        *(
            ["claims"],
            ["figures"],
            ["methods"],
            ["ratio"],
            ["importance"],
            ["proxy"],
            ["images"],
            ["report"],
            ["theory"],
            ["dashboard"],
            ["audit"],
        ),
        *(["evaluate"], ["sync", "tensorboard"], ["results", "--summary"], ["export", "0", "--torch"]),
    ],
)
def test_what_judges_or_passes_on_refuses(replayed: Path, words: list[str]) -> None:
    result = sweep(words[0], replayed, *words[1:])
    assert result.exit_code == 2, result.output
    assert f"{replayed}: was replayed on response surface" in result.stderr
    assert "and no network was trained: it supports no claim" in result.stderr
    assert result.stderr.count("\n") == 1


def test_python_readers_refuse_too(replayed: Path) -> None:
    for reads in (load_trials, load_epochs, load_study, rows_of_run):
        with pytest.raises(UserError, match="was replayed on response surface"):
            reads(replayed)


def test_a_merge_takes_none_of_it_and_puts_nothing_into_it(replayed: Path, tmp_path: Path) -> None:
    for words in (
        ["merge", tmp_path / "all", replayed],
        ["merge", tmp_path / "all", replayed / RECORDS_FILE],
        ["merge", replayed, tmp_path],
    ):
        result = sweep(*words)
        assert result.exit_code == 2
        assert "was replayed on response surface" in result.stderr


def test_trained_and_replayed_trials_are_never_in_one_run(replayed: Path, tmp_path: Path) -> None:
    trained = sweep("launch", CONFIG, "--serial", "--out", replayed, *FEW)
    assert trained.exit_code == 2
    assert "holds a replay on response surface" in trained.stderr
    assert "give another --out, or --surrogate" in trained.stderr
    lines = (replayed / RECORDS_FILE).read_text().splitlines()
    (tmp_path / "run").mkdir()
    first = {key: value for key, value in json.loads(lines[0]).items() if key not in ("surrogate", "crc")}
    (tmp_path / "run" / RECORDS_FILE).write_text(json.dumps(first) + "\n")
    other = launched(tmp_path / "run")
    assert other.exit_code == 2
    assert "holds trained trials, beside which none is replayed; give another --out" in other.stderr


def test_nothing_is_replayed_where_trained_trials_are_registered(tmp_path: Path) -> None:
    (tmp_path / REGISTRATION_FILE).write_text("{}")
    other = launched(tmp_path)
    assert other.exit_code == 2
    assert f"--out {tmp_path}: is registered, for trials that are trained; give another --out" in other.stderr
    assert not (tmp_path / RECORDS_FILE).exists()


def test_a_search_that_learns_and_a_stopping_rule_run_as_they_do_on_trained_trials(tmp_path: Path) -> None:
    words = [
        "search={name: optuna, sampler: tpe, n_trials: 12}",
        "stopping={name: asha, reduction_factor: 2}",
        "seeds=[0]",
    ]
    words += ["space={optimizer.lr: {loguniform: [0.02, 0.4]}, batch_size: [16, 64]}"]
    result = sweep(
        "launch", CONFIG, "--surrogate", "--out", tmp_path / "run", *(part for one in words for part in ("--set", one))
    )
    assert result.exit_code == 0, result.output
    trials = trials_of(read_log(tmp_path / "run", replays=True))
    assert set(trials["outcome"]) == {"completed", "pruned"}
    assert trials.loc[trials["outcome"] == "pruned", "epochs"].lt(9).all()


@pytest.mark.parametrize(("low", "code"), [(0.02, 0), (0.001, 2)])
def test_a_where_that_holds_at_no_corner_is_judged_by_draws(low: float, code: int, tmp_path: Path) -> None:
    words = ["search={name: optuna, sampler: random, n_trials: 3}", "seeds=[0]", "stopping=null"]
    words += [
        f"space={{optimizer.lr: {{loguniform: [{low}, 0.4]}}, batch_size: [16]}}",
        f"where={2 * low} <= optimizer.lr <= {4 * low}",
    ]
    result = sweep(
        "launch", CONFIG, "--surrogate", "--out", tmp_path / "run", *(part for one in words for part in ("--set", one))
    )
    assert result.exit_code == code, result.output
    assert code == 0 or "the data lie from 0.02 to 0.4" in result.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ["--set", "space.optimizer.lr=[0.05, 2.0]"],
            "surrogate: optimizer.lr: the data lie from 0.02 to 0.4, got 2; it says",
        ),
        (["--set", "trial.epochs=12"], "surrogate: has no data of such trials: the nearest (digits, small_cnn"),
        (["--set", "metric=val_clean"], "surrogate: val_clean: is not in the data of digits, small_cnn"),
        (
            ["--set", "metric=[{name: val_robust, mode: max}, {name: seconds, mode: min}]"],
            "metric: a replay takes no time",
        ),
        (["--serial"], "--surrogate: trains nothing, so that --serial says nothing; leave one of the two out"),
        (
            ["--budget-hours", "1"],
            "--surrogate: trains nothing, so that --budget-hours says nothing; leave one of the two",
        ),
    ],
)
def test_what_the_surface_does_not_know_is_one_line_before_anything_is_written(
    tmp_path: Path, words: list[str], says: str
) -> None:
    result = launched(tmp_path / "run", *words)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(f"sweep: {says}")
    assert result.stdout == ""
    assert not (tmp_path / "run").exists()


def test_the_config_that_a_refusal_names_can_be_replayed(tmp_path: Path) -> None:
    refused = launched(tmp_path / "run", "--set", "trial.epochs=12").stderr
    (named,) = re.findall(r"configs/\S+\.yaml", refused)
    (page,) = re.findall(r"docs/\S+\.md", refused)
    root = CONFIG.parents[1]
    assert (root / page).exists()
    words = ("--surrogate", "--set", "seeds=[0]")
    assert sweep("launch", root / named, "--out", tmp_path / "run", *words).exit_code == 0
