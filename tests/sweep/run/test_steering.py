"""A launch that is paused, resumed, and has trials cancelled, ends with the numbers of one that nobody touched."""

from __future__ import annotations

import json
import math
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pandas as pd
import pytest
import small
from faults_harness import Commands, numbers

from analysis.frames.budgets import one_budget
from analysis.frames.cells import measured
from analysis.frames.trials import load_epochs, load_trials
from sweep.config import SweepConfig
from sweep.progress import Progress
from sweep.run import launch as launches
from sweep.run import requests
from sweep.run.signals import RayGone
from sweep.run.steering import Steering
from trainers.files import checkpoint_path
from trainers.record import METRICS, NoteRecord, read

Launch = Callable[..., tuple[int, str]]
Tiny = Callable[..., SweepConfig]
SameNumbers = Callable[[Path, Path], None]
Act = Callable[[dict[str, Any]], None]

#: How trials of these launches run: in a process of their own, in this one, through the Ray of all tests.
WAYS = [
    {"serial": True, "debug": False},
    {"serial": True, "debug": True},
    pytest.param({}, marks=pytest.mark.slow),
]


@pytest.fixture
def when(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Callable[[str, Act], None]:
    """Has something done with each record of a kind that a launch in this process writes; the launch looks at once."""
    monkeypatch.setattr(requests, "PAUSE", 0.0)
    acts: list[tuple[str, Act]] = []
    add = Progress.add

    def heard(progress: Progress, record: dict[str, Any], place: int = 0) -> None:
        add(progress, record, place)
        for kind, act in acts:
            if kind == record["record"] and not place:  # else it was read
                act(record)

    monkeypatch.setattr(Progress, "add", heard)
    return lambda kind, act: acts.append((kind, act))


def ray_if_needed(how: dict[str, Any], request: pytest.FixtureRequest) -> None:
    if not how:
        request.getfixturevalue("local_ray")


def outcomes(run: Path) -> list[str]:
    return [record["outcome"] for record in read(run) if record["record"] == "outcome"]


def starts(run: Path) -> Counter[str]:
    return Counter(record["trial_id"] for record in read(run) if record["record"] == "start")


@pytest.mark.parametrize("how", WAYS)
def test_a_pause_stops_trials_at_an_epochs_end_and_a_resume_goes_on_there(
    how: dict[str, Any],
    when: Callable[[str, Act], None],
    request: pytest.FixtureRequest,
    tiny: Tiny,
    launch: Launch,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    ray_if_needed(how, request)
    run = tmp_path / "run"
    when(
        "start", lambda record: requests.pause(run) if len(starts(run)) == 3 and "paused" not in outcomes(run) else None
    )
    when("outcome", lambda record: requests.resume(run) if record["outcome"] == "paused" else None)
    code, text = launch(tiny(), run, **how)
    assert code == 0
    assert "trials that run stop at their next epoch, none starts" in text
    assert "goes on after the pause" in text
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)
    assert 1 <= outcomes(run).count("paused") <= 2  # no more run at once
    assert starts(run).total() == 4 + outcomes(run).count("paused")
    epochs = Counter((r["trial_id"], r["epoch"]) for r in read(run) if r["record"] == "epoch")
    assert set(epochs.values()) == {1}  # none was trained twice


@pytest.mark.parametrize("how", WAYS)
def test_a_cancelled_trial_ends_in_the_midst_of_its_epoch_keeps_its_checkpoint_and_is_no_result(
    how: dict[str, Any],
    when: Callable[[str, Act], None],
    request: pytest.FixtureRequest,
    tiny: Tiny,
    launch: Launch,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    ray_if_needed(how, request)
    run = tmp_path / "run"
    first, *_, last = (trial["trial_id"] for trial in read(undisturbed) if trial["record"] == "trial")

    def cancel(record: dict[str, Any]) -> None:
        if record["trial_id"] == first and record["epoch"] == 1:
            requests.cancel(run, first)

    def cancel_waiting(record: dict[str, Any]) -> None:
        if record["trial_id"] == first:
            requests.cancel(run, last)

    when("epoch", cancel)
    when("start", cancel_waiting)
    code, text = launch(tiny(), run, **how)
    assert code == 0
    assert "2 trials are cancelled" in text
    trials = load_trials(run).set_index("trial_id")
    assert trials.outcome[[first, last]].tolist() == ["cancelled"] * 2
    assert trials.reason[first] == "by `sweep cancel`"
    assert trials.epochs[first] in (1, 2)
    assert trials.attempts[last] == 0
    assert checkpoint_path(run, first).exists()
    assert not list((run / requests.FOLDER).iterdir())
    frame = load_trials(run)
    assert set(measured(frame, "last_test_robust").trial_id) == set(trials.index) - {first, last}
    assert one_budget(frame)[1] == {"cancelled": 2}
    # nothing runs it again but who asks for it
    assert "nothing left to run" in launch(tiny(), run, **how)[1]
    # which may be cancelled once more while it waits to be run again
    assert launch(tiny(), run, again=True, **how)[0] == 0
    if how:  # else both run at once
        assert load_trials(run).set_index("trial_id").outcome[[first, last]].tolist() == ["completed", "cancelled"]
    assert launch(tiny(), run, again=True, **how)[0] == 0
    same_numbers(run, undisturbed)


def test_what_is_cancelled_under_again_is_not_run_by_the_next_ray_of_the_launch(
    when: Callable[[str, Act], None],
    tiny: Tiny,
    launch: Launch,
    undisturbed: Path,
    same_numbers: SameNumbers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launches, "through_ray", launches.in_this_process)
    monkeypatch.setattr(launches.Launch, "_ray_ahead", lambda *words: nullcontext())
    run, gone = tmp_path / "run", list[int]()
    *_, last = (trial["trial_id"] for trial in read(undisturbed) if trial["record"] == "trial")

    def lose_ray(record: dict[str, Any]) -> None:
        if "cancelled" in outcomes(run) and not gone:
            gone.append(record["epoch"])
            raise RayGone("its raylet ended")

    when("start", lambda record: None if outcomes(run) else requests.cancel(run, last))
    when("epoch", lose_ray)
    code, text = launch(tiny(), run, again=True)
    assert code == 0
    assert "going on with a new one" in text
    assert len(gone) == 1
    outcome = load_trials(run).set_index("trial_id").outcome
    assert outcome[last] == "cancelled"
    assert outcome.value_counts().to_dict() == {"completed": 3, "cancelled": 1}
    assert launch(tiny(), run, serial=True, again=True)[0] == 0
    same_numbers(run, undisturbed)


def test_a_cancel_that_is_taken_back_while_the_launch_runs_has_the_trial_run_by_it(
    when: Callable[[str, Act], None],
    tiny: Tiny,
    launch: Launch,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    when("epoch", lambda record: requests.cancel(run, record["trial_id"]) if not outcomes(run) else None)
    undo = {"cancelled": True, "completed": False}  # the latter comes too late
    when(
        "outcome",
        lambda record: (
            requests.cancel(run, record["trial_id"], undo[record["outcome"]]) if record["outcome"] in undo else None
        ),
    )
    assert launch(tiny(), run, serial=True, debug=False)[0] == 0
    assert outcomes(run)[:2] == ["cancelled", "interrupted"]
    same_numbers(run, undisturbed)
    assert not list((run / requests.FOLDER).iterdir())


def test_of_a_cancel_and_its_opposite_within_one_look_the_later_holds(
    tiny: Tiny, launch: Launch, undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, look, undone = tmp_path / "run", requests.Requests.look, list[str]()
    last = [one["trial_id"] for one in read(undisturbed) if one["record"] == "trial"][-1]

    def looked(self: requests.Requests) -> requests.Asked:
        if not undone and outcomes(run):
            requests.cancel(run, last)
            self._looked = -math.inf
            asked = look(self)
            requests.cancel(run, last, undo=True)  # before the launch does what it has just read
            undone.append(last)
            return asked
        return look(self)

    monkeypatch.setattr(requests.Requests, "look", looked)
    assert launch(tiny(), run, serial=True)[0] == 0
    own = [one["outcome"] for one in read(run) if one["record"] == "outcome" and one["trial_id"] == last]
    assert own == ["cancelled", "interrupted", "completed"]
    assert not list((run / requests.FOLDER).iterdir())


@pytest.mark.parametrize("how", WAYS)
def test_a_note_that_is_asked_for_while_trials_run_is_written_down_once(
    how: dict[str, Any],
    when: Callable[[str, Act], None],
    request: pytest.FixtureRequest,
    tiny: Tiny,
    launch: Launch,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    ray_if_needed(how, request)
    run, trials = tmp_path / "run", [one["trial_id"] for one in read(undisturbed) if one["record"] == "trial"]

    def note(record: dict[str, Any]) -> None:
        if (record["trial_id"], record["epoch"]) == (trials[0], 1):
            requests.note(run, NoteRecord(trials[0], "spikes", ("odd",)))
            requests.note(run, NoteRecord(trials[-1], tags=("odd",)))

    when("epoch", note)
    assert launch(tiny(), run, **how)[0] == 0
    written = {one["trial_id"]: one["note"] for one in read(run) if one["record"] == "note"}
    assert written == {trials[0]: "spikes", trials[-1]: None}
    assert [one["record"] for one in read(run)].count("note") == 2
    frame = load_trials(run).set_index("trial_id")
    assert frame.tags[trials].tolist() == ["odd", "", "", "odd"]
    assert not list((run / requests.FOLDER).iterdir())
    pd.testing.assert_frame_equal(load_epochs(run)[[*METRICS]], load_epochs(undisturbed)[[*METRICS]])


def test_a_note_whose_file_does_not_go_is_written_down_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAUSE", 0.0)
    monkeypatch.setattr(requests, "_remove", Mock(side_effect=PermissionError))
    journal = Mock(directory=tmp_path)
    steering = Steering(journal, Mock(), MagicMock())
    steering.steer(Mock())
    requests.note(tmp_path, NoteRecord("a" * 12, "spikes"))
    for _ in range(3):
        steering.look()
    journal.note.assert_called_once()


def test_fewer_at_once_lets_those_that_run_end_and_starts_no_more(
    when: Callable[[str, Act], None], tiny: Tiny, launch: Launch, tmp_path: Path, local_ray: None
) -> None:
    run = tmp_path / "run"
    running: list[int] = []

    def count(record: dict[str, Any]) -> None:
        running.append(starts(run).total() - len(outcomes(run)))
        if running[-1] == 2:  # not before: a second worker may take as long to come up as two trials
            requests.set_to(run, "max_concurrent", 1)

    when("start", count)
    rates = [round(0.05 * n, 2) for n in range(1, 9)]
    code, text = launch(tiny(space={"optimizer.name": ["sgd", "deat"], "optimizer.lr": rates}), run)
    assert code == 0
    assert "max_concurrent: 1" in text
    assert set(running[running.index(2) + 1 :]) == {1}
    assert outcomes(run) == ["completed"] * 16


#: Epochs enough to be paused in.
LONGER = {"trial": small.TINY | {"epochs": 12}}


@pytest.mark.slow
def test_a_launch_that_was_killed_while_paused_is_paused_when_it_comes_again_and_then_goes_on(
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    tmp_path: Path,
    tiny: Tiny,
    launch: Launch,
) -> None:
    run, words = tmp_path / "run", ("launch", sweep_file(**LONGER), "--out", tmp_path / "run", "--serial")
    launched = commands(*words)
    launched.wait_for(run, "epoch", 2)
    requests.pause(run)
    launched.says("paused since")
    launched.signal(signal.SIGKILL)
    launched.code()
    again = commands(*words)
    again.says("paused since")
    before = starts(run)
    time.sleep(3 * requests.PAUSE)
    assert starts(run) == before
    assert "paused since" in commands.finish("status", run)
    commands.finish("resume", run)
    assert again.code() == 0
    assert launch(tiny(**LONGER), tmp_path / "other", serial=True)[0] == 0
    same_numbers(run, tmp_path / "other")


@pytest.mark.slow
def test_whatever_is_asked_at_whatever_moment_no_trial_is_lost_or_run_twice(
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    draw, run = random.Random(0), tmp_path / "run"
    words = ("launch", sweep_file(), "--out", run, "--serial")
    names = [json.loads(text)["trial_id"] for text in lines_of(undisturbed, "trial")]
    launched = commands(*words)
    launched.wait_for(run, "start", 1)
    for _ in range(10):
        name = draw.choice(names)
        match draw.choice(["pause", "resume", "cancel", "undo", "set", "kill", "stop"]):
            case "pause":
                requests.pause(run)
            case "resume":
                requests.resume(run)
            case "cancel" | "undo" as verb:
                requests.cancel(run, name, undo=verb == "undo")
            case "set":
                requests.set_to(run, "max_concurrent", draw.randint(1, 2))
            case "kill":
                launched.signal(signal.SIGKILL)
            case _:
                launched.signal(signal.SIGTERM)
        time.sleep(draw.uniform(0, 2 * requests.PAUSE))
        if not launched.is_running():
            launched = commands(*words)
    requests.resume(run)
    launched.code()
    for name in names:  # what was asked of a launch that was about to end holds for the next
        for undo in (True, False):
            requests.done(run, name, undo)
    commands.finish(*words, "--again", launches=2)
    same_numbers(run, undisturbed)
    assert numbers(run) == numbers(undisturbed)


def lines_of(run: Path, kind: str) -> list[str]:
    return [text for text in (run / "records.jsonl").read_text().splitlines() if f'{{"record":"{kind}"' in text]


@pytest.mark.slow
def test_every_share_that_is_live_stops_for_a_pause_and_a_trial_is_cancelled_by_its_own(
    commands: Commands,
    sweep_file: Callable[..., Path],
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
) -> None:
    run, names = tmp_path / "run", [json.loads(text)["trial_id"] for text in lines_of(undisturbed, "trial")]
    words = ("launch", sweep_file(), "--out", run, "--serial", "--shard")
    run.mkdir()
    requests.pause(run)
    shares = [commands(*words, f"{index}/2") for index in (1, 2)]
    for share in shares:
        share.says("paused since")
    assert not starts(run)
    for name in names[:2]:
        commands.finish("cancel", run, name)
    shares[0].until(lambda: sorted(outcomes(run)) == ["cancelled"] * 2, "two cancelled trials")
    commands.finish("cancel", run, "--undo", names[0])
    commands.finish("resume", run)
    assert [share.code() for share in shares] == [0, 0]
    assert sorted(load_trials(run).outcome) == ["cancelled", *["completed"] * 3]
    assert starts(run).total() == 3
    commands.finish("cancel", run, "--undo", names[1])
    commands.finish("launch", sweep_file(), "--out", run, "--serial")
    same_numbers(run, undisturbed)
