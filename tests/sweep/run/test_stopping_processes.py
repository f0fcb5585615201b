"""Stopping rules with real processes: kill -9 of launches, and trials that run through Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from faults_harness import Command

from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.plan.stopping import epochs_of, rules_of
from sweep.run.trial import RESTARTS
from sweep.stopping.decisions import Stopping
from trainers.checkpoint import load as loaded
from trainers.files import checkpoint_path
from trainers.record import read

Driver = Callable[..., Command]

EIGHT = (
    *("--set", "space.optimizer.lr=[0.3, 0.001, 0.1, 0.0001]", "--set", "trial.epochs=6"),
    *("--set", "stopping.name=asha", "--set", "stopping.reduction_factor=2"),
)

#: How each launch runs, and after how many more lines of a kind it is killed.
KILLS = ((("--serial",), "epoch", 7), ((), "epoch", 5))


def replayed(config: SweepConfig, records: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What the rules say of a log that is read once, from its first line to its last."""
    stopping, decided = Stopping(rules_of(config, epochs_of(config, []))), []
    for record in records:
        if record["record"] == "trial":
            stopping.plan(record)
        stopping.add(record)
        decided += stopping.due()
    return [place(one) for one in decided]


def place(end: Mapping[str, Any]) -> list[Any]:
    return [end[key] for key in ("trial_id", "epochs", "rung", "rank", "of", "share", "by")]


def test_a_trial_ends_with_the_epoch_that_decided_and_its_checkpoint_is_of_that_epoch(
    sweep_file: Callable[..., Path], launch: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    options = ["space.optimizer.lr=[0.3, 0.0001]", "space.optimizer.name=[sgd]", "stopping.name=asha"]
    code, said = launch(load(sweep_file(), options), tmp_path / "run", serial=True)
    records = read(tmp_path / "run")
    (end,) = (one for one in records if one.get("outcome") == "pruned")
    assert (code, end["epochs"], end["rung"], end["rank"], end["of"]) == (0, 1, 1, 2, 2)
    assert records[-1] == end  # nothing of it comes after
    assert len(loaded(checkpoint_path(tmp_path / "run", end["trial_id"]))["history"]) == 1
    assert "1 trial is pruned: " in said


@pytest.mark.slow
def test_killed_over_and_over_and_with_several_trials_at_once_decisions_are_those_of_the_log_read_once(
    driver: Driver,
    sweep_file: Callable[..., Path],
    launch: Callable[..., tuple[int, str]],
    tmp_path: Path,
    local_ray: None,
) -> None:
    run = tmp_path / "run"
    for options, kind, more in KILLS:
        before = sum(one["record"] == kind for one in read(run)) if run.exists() else 0
        process = driver(*EIGHT, *options)
        process.wait_for(run, kind, before + more)
        process.kill()
    config = load(sweep_file(), [value for value in EIGHT if value != "--set"])
    assert launch(config, run)[0] == 0
    records = read(run)
    ends = [one for one in records if one.get("outcome") == "pruned"]
    assert len(ends) > 1
    assert [place(one) for one in ends] == replayed(config, records)
    for end in ends:
        own = [one["record"] for one in records[records.index(end) + 1 :] if one.get("trial_id") == end["trial_id"]]
        assert set(own) <= {"trial"}  # nothing of it after its end
        kept = len(loaded(checkpoint_path(run, end["trial_id"]))["history"])
        assert 1 <= kept <= end["epochs"]  # less where it was killed before the file was written
        starts = sum(one["record"] == "start" and one["trial_id"] == end["trial_id"] for one in records)
        assert starts <= 1 + len(KILLS) < 1 + len(KILLS) + RESTARTS
    assert {one["outcome"] for one in records if one["record"] == "outcome"} <= {"completed", "pruned"}

    assert launch(config, run, resume_pruned=True, serial=True)[0] == 0
    last = {one["trial_id"]: one["outcome"] for one in read(run) if one["record"] == "outcome"}
    assert set(last.values()) == {"completed"}
