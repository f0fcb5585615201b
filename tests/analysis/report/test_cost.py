"""The plan beside what it took: trials, epochs and time, each counted once."""

from __future__ import annotations

from typing import Any

import pytest

from analysis.frames.log import read_log
from analysis.frames.trials import trials_of
from analysis.report.cost import Work, cost, planned_epochs, work_of
from trainers.record import RECORDS_FILE, line


def test_an_epoch_that_was_trained_twice_is_work_twice_and_counts_once(run: Any) -> None:
    run.launch(["a", "b"])
    run.whole("a", [0.1, 0.2])
    run.trial("b")
    run.start("b")
    run.epoch("b", 1, 0.1, seconds=3.0)
    run.start("b")
    run.epoch("b", 1, 0.1, seconds=5.0)
    log = read_log(run.directory)
    assert work_of(log) == Work(trained=4, seconds=12.0, twice=1, twice_seconds=3.0)


def test_epochs_that_a_shorter_trial_handed_on_are_the_shorter_ones(run: Any) -> None:
    run.launch(["a", "b"])
    run.whole("a", [0.1, 0.2])
    run.trial("b", config={"epochs": 3})
    run.start("b")
    run.resume("b", 2, from_trial="a")
    for epoch in (1, 2, 3):
        run.epoch("b", epoch, 0.1)
    run.outcome("b", epochs=3)
    assert work_of(read_log(run.directory)) == Work(trained=3, seconds=6.0, twice=0, twice_seconds=0.0)


def test_trials_that_are_not_known_yet_are_planned_like_the_others(run: Any) -> None:
    run.launch(["a", "b"])
    run.trial("a")
    run.trial("b", config={"epochs": 4})
    log = read_log(run.directory)
    assert planned_epochs(log, 2) == 6
    assert planned_epochs(log, 10) == 30


def test_the_plan_stands_beside_what_was_done_and_each_launch_with_its_command(run: Any) -> None:
    run.launch(["a", "b"], command="sweep launch <c>.yaml")
    run.whole("a", [0.1, 0.2])
    run.trial("b")
    log = read_log(run.directory)
    said = cost(trials_of(log), log)
    assert "<td>2</td>" in said
    assert "1 ended" in said
    assert "8 s at this pace" in said
    assert "sweep launch &lt;c&gt;.yaml" in said


def test_before_an_epoch_was_trained_no_time_is_told(run: Any) -> None:
    run.launch(["a"])
    run.trial("a")
    log = read_log(run.directory)
    said = cost(trials_of(log), log)
    assert "at this pace" not in said
    assert "not known before an epoch is trained" in said


def took(run: Any) -> list[str]:
    """How long each launch took, as the page says it."""
    log = read_log(run.directory)
    rows = cost(trials_of(log), log).partition("<h3>Launches</h3>")[2].split("<tr>")[2:]
    return [row.split("</td><td>")[1] for row in rows]


def test_a_launch_took_as_long_as_until_its_last_line_whatever_is_noted_later(run: Any) -> None:
    run.launch(["a"])
    run.whole("a", [0.1])
    run.start("a", time=50.0)
    with (run.directory / RECORDS_FILE).open("a") as file:
        file.write(line("note", {"trial_id": "a", "note": "odd", "tags": [], "untags": [], "time": 1e6}))
    run.launch(["a"], time=2e6)
    run.start("a", time=2e6 + 7)
    assert took(run) == ["50 s", "7 s"]


def test_a_launch_took_no_longer_because_of_what_is_cancelled_or_to_be_trained_anew_later(run: Any) -> None:
    run.launch(["a", "b"], forecast={"trials": 2, "seconds": 4.0})
    run.whole("a", [0.1])
    run.trial("b")
    run.start("b", time=50.0)
    for name, outcome, time in (("b", "interrupted", 60.0), ("a", "interrupted", 1e6), ("b", "cancelled", 1e6)):
        values = {"trial_id": name, "outcome": outcome, "reason": "", "epochs": 0, "time": time}
        with (run.directory / RECORDS_FILE).open("a") as file:
            file.write(line("outcome", values))
    assert took(run) == ["60 s"]
    assert beside(run)[0][1].startswith("1 trial ended, ")


def test_the_time_of_a_launch_that_was_merged_in_is_its_own(run: Any) -> None:
    run.launch(["a", "b"])
    run.trial("a")
    run.start("a", time=90.0)
    run.launch(["b"], time=30.0, after=90.0)
    run.trial("b")
    run.start("b", time=60.0)
    assert took(run) == ["90 s", "30 s"]


def test_of_shares_that_run_beside_each_other_none_has_the_time_of_another(run: Any) -> None:
    run.launch(["a", "b"], shard="1/2")
    run.launch(["a", "b"], shard="2/2", time=5.0)
    run.trial("a")
    run.start("a", time=90.0)
    assert took(run) == ["", ""]


def beside(run: Any) -> list[list[str]]:
    """Forecast and truth of each launch, as the page says them."""
    log = read_log(run.directory)
    rows = cost(trials_of(log), log).partition("<h3>Launches</h3>")[2].split("<tr>")[2:]
    return [row.split("</td><td>")[3:5] for row in rows]


def test_a_plan_s_forecast_stands_beside_what_its_trials_took(run: Any) -> None:
    run.launch(["a", "b"], forecast={"trials": 2, "seconds": 4.0})
    run.whole("a", [0.1, 0.2])
    run.whole("b", [0.1, 0.2])
    run.launch(["a", "b", "c"], forecast={"trials": 1, "seconds": 9.0})
    run.trial("c")
    run.start("c")
    run.epoch("c", 1, 0.1)
    assert beside(run) == [
        ["2 trials, 4 s", "2 trials ended, 8 s: 2 times the forecast"],
        ["1 trial, 9 s", "0 trials ended, 2 s"],
    ]


def test_without_a_forecast_there_is_no_column_of_it_and_a_launch_without_one_has_none(run: Any) -> None:
    run.launch(["a"])
    run.whole("a", [0.1])
    log = read_log(run.directory)
    assert "forecast" not in cost(trials_of(log), log)
    run.launch(["a"], forecast={"trials": 0, "seconds": 0.0})
    assert beside(run) == [["", ""], ["0 trials, 0 s", "0 trials ended, 0 s"]]


def test_of_shares_no_forecast_is_compared_as_their_lines_are_mixed(run: Any) -> None:
    run.launch(["a", "b"], shard="1/2", forecast={"trials": 1, "seconds": 4.0})
    run.whole("a", [0.1])
    assert beside(run) == [["1 trial, 4 s", ""]]


@pytest.mark.parametrize("trials", [(), ("a",)])
def test_records_without_a_launch_have_no_row_of_one(run: Any, trials: tuple[str, ...]) -> None:
    for name in trials:
        run.trial(name)
    assert took(run) == []
