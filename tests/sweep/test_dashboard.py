"""A run as Optuna's studies, and the dashboard that shows them."""

from __future__ import annotations

import json
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import optuna
import pytest
from click.testing import CliRunner
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import TrialState
from processes import started
from recorded import Records, launch, run, trials_of

from analysis.frames.log import Log, read_log
from sweep.cli import main
from sweep.config import SweepConfig
from sweep.reports.optuna_storage import distribution, storage_of

HOSTILE = "<script>alert(1)</script>"


def studies(records: Records | Log, name: str = "a run", live: bool = False) -> dict[str, Study]:
    storage = storage_of(Log.of(records), name, live)
    return {
        study.study_name: optuna.load_study(study_name=study.study_name, storage=storage)
        for study in storage.get_all_studies()
    }


@pytest.fixture
def space() -> SweepConfig:
    values = {"name": "s", "trial": {"data": {"name": "digits"}}, "metric": "val_robust"}
    return SweepConfig.model_validate(values | {"space": {"optimizer.lr": [0.01, 0.1, 1.0], "batch_size": [32, 64]}})


def test_a_completed_trial_has_its_values_its_curve_and_what_varies(undisturbed: Path) -> None:
    (study,) = studies(read_log(undisturbed), "tiny").values()
    assert (study.study_name, study.directions, study.metric_names) == (
        "tiny",
        [StudyDirection.MAXIMIZE],
        ["last_val_robust"],
    )
    assert len(study.trials) == 4
    for trial in study.trials:
        assert trial.state is TrialState.COMPLETE
        assert set(trial.params) == {"optimizer.lr", "optimizer.name"}
        assert trial.value == trial.intermediate_values[3] == trial.user_attrs["last_val_robust"]
        assert trial.user_attrs["seed"] == 0
    best = max(study.trials, key=lambda trial: trial.user_attrs["last_val_robust"])
    assert study.best_trial.user_attrs["trial_id"] == best.user_attrs["trial_id"]


def test_every_end_of_a_trial_is_one_of_optunas_words(space: SweepConfig) -> None:
    trials = trials_of(space)
    ends = ["completed", "pruned", "diverged", "failed", None]
    records = launch(trials)
    for trial, end in zip(trials, ends, strict=False):
        records += run(trial, 2, end)
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.FAIL]
    for live, last in ((True, TrialState.RUNNING), (False, TrialState.FAIL)):
        (study,) = studies(records, live=live).values()
        assert [trial.state for trial in study.trials] == [*states, last, TrialState.WAITING]
        assert [trial.value for trial in study.trials[:3]] == [0.2, 0.2, None]
        outcomes = [*ends[:4], "unfinished", "never_started"]
        assert [trial.user_attrs["outcome"] for trial in study.trials] == outcomes


def test_what_has_no_value_is_no_completed_trial(space: SweepConfig) -> None:
    (trial,) = trials_of(space)[:1]
    records = [{**record, "val_robust": None} for record in launch([trial]) + run(trial, 2)]
    (study,) = studies(records).values()
    assert [trial.state for trial in study.trials] == [TrialState.FAIL]


def test_several_objectives_are_as_many_values(space: SweepConfig) -> None:
    records = launch(trials_of(space)[:1]) + run(trials_of(space)[0], 2)
    records[0] |= {"objectives": [{"name": "val_robust", "mode": "max"}, {"name": "seconds", "mode": "min"}]}
    (study,) = studies(records).values()
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert study.trials[0].values == [0.2, 60.0]


def test_each_combination_of_grid_axes_of_a_drawn_search_has_a_study_too(space: SweepConfig) -> None:
    trials = trials_of(space)
    records = launch(trials) + [line for trial in trials for line in run(trial, 2)]
    assert list(studies(records)) == ["a run"]
    records[0]["strata"] = ["batch_size"]
    made = studies(records)
    assert list(made) == ["a run", "a run: batch_size 32", "a run: batch_size 64"]
    assert [len(study.trials) for study in made.values()] == [6, 3, 3]


def test_trials_that_were_measured_differently_share_no_study() -> None:
    values = {"name": "s", "trial": {"data": {"name": "digits"}}, "space": {"evaluation.steps": [2, 20]}}
    trials = trials_of(SweepConfig.model_validate(values))
    made = studies(launch(trials) + [line for trial in trials for line in run(trial, 2)])
    assert list(made) == ["a run: evaluation.steps 2", "a run: evaluation.steps 20"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([0.01, 0.1, 1.0], FloatDistribution(0.01, 1.0, log=True)),
        ([0.1, 0.2], FloatDistribution(0.1, 0.2)),
        ([0.0, 0.5], FloatDistribution(0.0, 0.5)),
        ([16, 32], IntDistribution(16, 32)),
        ([8.0, 512.0], IntDistribution(8, 512, log=True)),
        (["sgd", "deat", "sgd"], CategoricalDistribution(["sgd", "deat"])),
        ([True, False], CategoricalDistribution([True, False])),
        (["[1, 2]", 3], CategoricalDistribution(["[1, 2]", 3])),
    ],
)
def test_numbers_are_a_range_and_what_spans_a_decade_is_logarithmic(
    values: list[Any], expected: BaseDistribution
) -> None:
    assert distribution(values) == expected


def test_a_trial_lasts_from_its_last_start_to_its_end(space: SweepConfig) -> None:
    (trial,) = trials_of(space)[:1]
    records = launch([trial]) + run(trial, 2)
    records[-1]["time"] = 90.0
    (study,) = studies(records).values()
    assert study.trials[0].duration is not None
    assert study.trials[0].duration.total_seconds() == 90.0


def test_without_the_extra_it_is_said_how_to_install_it(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "optuna_dashboard", None)
    answer = CliRunner().invoke(main, ["dashboard", str(undisturbed)])
    assert answer.exit_code == 2
    assert answer.stderr == (
        'sweep: dashboard: needs optuna-dashboard, which is not installed; pip install "robustsweep[dashboard]"\n'
    )


@pytest.mark.slow
def test_the_dashboard_shows_the_run_and_follows_it(finished: Path, sweep_command: list[str], tmp_path: Path) -> None:
    words = [*sweep_command, "dashboard", str(finished)]
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        address = process.stdout.readline().strip()
        while b"Optuna Dashboard" not in browser.open(address, timeout=30).read():  # it is being made
            assert process.poll() is None
        api = address.partition("?")[0] + "api/studies"
        (study,) = json.load(browser.open(api, timeout=30))["study_summaries"]
        assert study["study_name"] == "tiny"

        def trials() -> list[dict[str, Any]]:
            answer = json.load(browser.open(f"{api}/{study['study_id']}", timeout=30))
            return list(answer["trials"])

        assert [trial["state"] for trial in trials()] == ["Complete"] * 4
        lines = (finished / "records.jsonl").read_bytes().splitlines(keepends=True)
        outcome = max(place for place, line in enumerate(lines) if b'"record":"outcome"' in line)
        (finished / "records.jsonl").write_bytes(b"".join(lines[:outcome]))
        while [trial["state"] for trial in trials()] != ["Complete"] * 3 + ["Fail"]:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert (process.wait(timeout=30), process.stderr.read()) == (0, "")
