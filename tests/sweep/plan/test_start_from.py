"""What other runs know is read from their records: each trial once, with its objectives where it ended with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from recorded import launch, run, trials_of

from sweep.config import SweepConfig
from sweep.plan.plan import plan
from sweep.plan.start_from import known_elsewhere
from trainers.errors import UserError


def from_runs(*places: Path) -> SweepConfig:
    search = {"name": "optuna", "n_trials": 3, "start_from": tuple(map(str, places))}
    trial = {"data": {"name": "digits"}, "epochs": 2}
    return SweepConfig.model_validate(
        {"name": "t", "trial": trial, "space": {"optimizer.lr": {"choice": [0.1, 0.2, 0.3]}}, "search": search}
    )


def test_each_trial_is_known_once_with_its_objectives_if_it_has_them(tmp_path: Path) -> None:
    grid = from_runs().model_dump() | {"space": {"optimizer.lr": [0.1, 0.2, 0.3]}, "search": {"name": "grid"}}
    trials = trials_of(SweepConfig.model_validate(grid))
    ended = run(trials[0], 2), run(trials[1], 1, None)
    for place, some in (("a", launch(trials)), ("b", [*launch(trials), *ended[0], *ended[1]])):
        (tmp_path / place).mkdir()
        (tmp_path / place / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in some))
    config = from_runs(tmp_path / "a", tmp_path / "b")
    known = known_elsewhere(config).known
    assert [record["trial_id"] for record, _ in known] == [trial.id for trial in trials]
    assert known[0][1] == (ended[0][-2]["val_robust"],)
    assert [values for _, values in known[1:]] == [None, None]


def test_what_has_ended_in_another_run_since_is_not_known_to_a_relaunch(tmp_path: Path) -> None:
    grid = from_runs().model_dump() | {"space": {"optimizer.lr": [0.1, 0.2, 0.3]}, "search": {"name": "grid"}}
    trials = trials_of(SweepConfig.model_validate(grid))
    log, config = tmp_path / "records.jsonl", from_runs(tmp_path)
    lines = [*launch(trials), *run(trials[0], 2)]
    log.write_text("".join(json.dumps(one) + "\n" for one in lines))
    first = known_elsewhere(config)
    assert first.finished == {str(tmp_path): [trials[0].id]} == plan(config, [], "v").started_from
    log.write_text("".join(json.dumps(one) + "\n" for one in [*lines, *run(trials[1], 2)]))
    again = [{"record": "launch"}, {"record": "launch", "start_from": first.finished}]
    assert known_elsewhere(config, again) == first
    assert known_elsewhere(config, again[:1]).finished == {str(tmp_path): sorted(trial.id for trial in trials[:2])}


def test_a_folder_that_is_no_run_is_one_line(tmp_path: Path) -> None:
    for place in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError) as caught:
            known_elsewhere(from_runs(place))
        assert str(caught.value) == (f"search.start_from: {place} is no run: it has no records; name a run's directory")


def test_a_plan_warns_where_nothing_of_other_runs_is_taken_in(tmp_path: Path) -> None:
    grid = from_runs().model_dump() | {"space": {"optimizer.lr": [0.1, 0.2, 0.3]}, "search": {"name": "grid"}}
    trials = trials_of(SweepConfig.model_validate(grid))
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(one) + "\n" for one in launch(trials)))
    config = from_runs(tmp_path)
    longer = config.model_copy(update={"trial": config.trial.model_copy(update={"batch_size": 64})})
    assert [one.line() for one in plan(longer, [], "abc").warnings if "start_from" in one.text] == [
        "search.start_from: no trial of those runs is taken in; set trial.batch_size=128 or search.start_from=[]"
    ]
