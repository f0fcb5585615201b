"""Trials as columns: what the table shows, curves, settings and events are those of the records."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from analysis.frames.log import read_log
from analysis.frames.trials import epochs_of, load_epochs, load_trials, trials_of
from analysis.report import columns
from analysis.report.columns import trials_data

METRIC = "last_test_robust"


def data_of(directory: Path) -> dict[str, Any]:
    log = read_log(directory)
    return trials_data(trials_of(log), epochs_of(log), log, METRIC)


def named(made: dict[str, Any]) -> dict[str, list[Any]]:
    return {one["name"]: one["values"] for one in made["columns"]}


def test_the_table_has_the_axes_that_vary_and_accuracies_in_percent(ratio_run: Any) -> None:
    made, frame = data_of(ratio_run.directory), load_trials(ratio_run.directory)
    assert made["ids"] == list(frame["trial_id"])
    axes = [one["name"] for one in made["columns"] if one.get("axis")]
    assert axes == ["method", "optimizer.lr", "batch_size"]
    values = named(made)
    assert values["optimizer.lr"] == list(frame["optimizer.lr"])
    accuracies = [None if one != one else pytest.approx(100 * one, abs=0.005) for one in frame[METRIC]]
    assert values[METRIC] == accuracies
    assert made["columns"][made["metric"]]["name"] == METRIC
    assert set(values["outcome"]) == {"completed", "diverged"}
    assert set(values["reason"]) == {"", "loss is nan"}


def test_curves_are_the_epochs_to_a_hundredth_of_a_percent(ratio_run: Any) -> None:
    made, frame = data_of(ratio_run.directory), load_epochs(ratio_run.directory)
    curves = made["curves"]
    assert curves["every"] == 1
    for place, name in enumerate(made["ids"]):
        own = frame[frame["trial_id"] == name]
        assert curves["values"]["epoch"][place] == list(own["epoch"])
        assert [one / 1e4 for one in curves["values"]["test_robust"][place]] == pytest.approx(
            list(own["test_robust"]), abs=5e-5
        )
    assert "test_robust_loss" not in curves["metrics"]


def test_of_too_many_points_each_curve_keeps_its_last_and_every_second(
    ratio_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = data_of(ratio_run.directory)["curves"]
    monkeypatch.setattr(columns, "MOST_POINTS", len(load_epochs(ratio_run.directory)) * len(whole["metrics"]) - 1)
    thinned = data_of(ratio_run.directory)["curves"]
    assert thinned["every"] == 2
    for before, after in zip(whole["values"]["epoch"], thinned["values"]["epoch"], strict=True):
        assert after == before[::-1][::2][::-1]


def test_settings_that_all_share_stand_once_and_every_trial_has_its_own(ratio_run: Any) -> None:
    log = read_log(ratio_run.directory)
    made = data_of(ratio_run.directory)
    settings = made["settings"]
    configs = {one["trial_id"]: one["config"] for one in log if one["record"] == "trial"}
    assert settings["shared"] == {"model.name": "small_cnn", "epochs": "2"}
    for place, name in enumerate(made["ids"]):
        own = {key: one["words"][one["of"][place]] for key, one in settings["differing"].items()}
        optimizer = configs[name]["optimizer"]
        assert own["optimizer.name"] == optimizer["name"]
        assert float(own["optimizer.lr"]) == optimizer["lr"]


def test_what_happened_to_a_trial_is_told_as_sweep_show_tells_it(run: Any) -> None:
    run.launch(["a"])
    run.trial("a")
    run.start("a", died="by SIGKILL")
    run.epoch("a", 1, 0.5)
    run.outcome("a", "failed", epochs=1, reason="no <b>memory</b>")
    made = data_of(run.directory)
    told = [made["events"]["texts"][text] for _, text in made["events"]["of"][0]]
    assert told == [
        "start on h (cpu), code abc; the process before it died: by SIGKILL",
        "failed after 1 epoch: no <b>memory</b>",
    ]
