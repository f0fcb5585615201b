"""What a tracker is sent: all that the records say of trials that have begun, and nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import append, launch, run, trials_of

from sweep.config import SweepConfig
from sweep.run.directory import CONFIG_FILE, RunLock
from sweep.search.trials import PlannedTrial
from sweep.trackers import feed
from sweep.trackers.cursor import cursor_path
from sweep.trackers.feed import Count, Feed, configured, lock_folder, named
from sweep.trackers.updates import Update
from sweep.watchers import TrackerConfig
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, OutcomeRecord, line

Tiny = Callable[..., SweepConfig]


class Shown:
    """A tracker that remembers what it was sent, and refuses what a test wants refused."""

    def __init__(self) -> None:
        self.updates: list[Update] = []
        self.refuses: Callable[[Update], bool] = lambda update: False

    def send(self, update: Update) -> str:
        if self.refuses(update):
            raise ConnectionError("no route")
        self.updates.append(update)
        return update.run or f"run-{update.trial}"

    def close(self) -> None:
        pass

    def epochs(self, trial: str) -> list[int]:
        return [epoch["epoch"] for update in self.updates if update.trial == trial for epoch in update.epochs]


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    tracker = Shown()
    monkeypatch.setattr(feed, "tracker", lambda config, directory, sweep: tracker)
    return tracker


def sync(directory: Path) -> Count:
    with Feed.opened(directory, TrackerConfig(name="mlflow"), "test") as one:
        return one.look()


def test_a_finished_trial_is_sent_with_its_axes_epochs_and_outcome(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[1], 3)])
    assert sync(tmp_path) == Count(1, 3)
    (update,) = shown.updates
    assert update.trial == trials[1].id
    assert update.params == {"optimizer.name": "deat", "optimizer.lr": 0.1, "seed": 0}
    assert [epoch["val_robust"] for epoch in update.epochs] == [0.1, 0.2, 0.3]
    assert update.outcome == update.tags["outcome"] == "completed"


def test_what_was_sent_is_not_sent_again_and_what_came_since_is(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 2, None)])
    assert sync(tmp_path) == Count(1, 2)
    assert sync(tmp_path) == Count(0, 0)
    append(tmp_path, run(trials[0], 3)[2:])
    assert sync(tmp_path) == Count(1, 1)
    assert shown.epochs(trials[0].id) == [1, 2, 3]
    assert [update.run for update in shown.updates] == ["", f"run-{trials[0].id}"]
    assert [update.outcome for update in shown.updates] == ["", "completed"]


def test_a_trial_that_goes_on_runs_again_for_the_tracker_too(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, "interrupted")])
    sync(tmp_path)
    again, *epochs = run(trials[0], 2, None)
    append(tmp_path, [*launch(trials), {**again, "time": 9.0}, *epochs])
    sync(tmp_path)
    assert [update.outcome for update in shown.updates] == ["interrupted", ""]
    assert [update.tags["outcome"] for update in shown.updates] == ["interrupted", ""]
    assert shown.epochs(trials[0].id) == [1, 2]


def rerun(trial: PlannedTrial) -> dict[str, Any]:
    reason = "to be trained anew, by `sweep rerun`"
    return {"record": "outcome", **vars(OutcomeRecord(trial.id, "interrupted", reason, 0)), "time": 9.0}


@pytest.mark.parametrize("looks", [1, 2, 3])
def test_a_trial_that_was_trained_anew_is_another_run_with_its_new_numbers(
    looks: int, tiny: Tiny, shown: Shown, tmp_path: Path
) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 2)])
    sync(tmp_path)
    start, *epochs = run(trials[0], 2)
    anew = [rerun(trials[0]), {**start, "time": 9.0}, *[{**one, "seconds": 5.0, "val_robust": 0.9} for one in epochs]]
    for place in range(looks):  # all at once, or in parts
        append(tmp_path, anew[place : place + 1 if place < looks - 1 else None])
        sync(tmp_path)
    first, last = shown.updates[0].own, shown.updates[-1].own
    assert first != last
    before = [update for update in shown.updates if update.own == first]
    after = [update for update in shown.updates if update.own == last]
    assert [update.outcome for update in before] == ["completed", "interrupted"]
    assert "sweep rerun" in before[-1].tags["reason"]
    assert [epoch["val_robust"] for update in after for epoch in update.epochs] == [0.9, 0.9]
    assert (after[0].run, after[-1].outcome) == ("", "completed")
    assert sync(tmp_path) == Count(0, 0)


def test_a_tracker_that_comes_later_has_the_new_numbers_alone(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    start, *epochs = run(trials[0], 2)
    anew = [{**start, "time": 9.0}, *[{**one, "seconds": 5.0, "val_robust": 0.9} for one in epochs]]
    append(tmp_path, [*launch(trials), *run(trials[0], 3), rerun(trials[0]), *anew])
    assert sync(tmp_path) == Count(1, 2)
    assert [epoch["val_robust"] for epoch in shown.updates[0].epochs] == [0.9, 0.9]


def test_a_trial_that_was_interrupted_before_its_first_epoch_is_one_run(
    tiny: Tiny, shown: Shown, tmp_path: Path
) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), run(trials[0], 1)[0], rerun(trials[0]), *run(trials[0], 1)])
    sync(tmp_path)
    assert {update.begun for update in shown.updates} == {0}


def test_what_a_tracker_refuses_is_sent_the_next_time_and_only_that(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 2), *run(trials[1], 2)])
    shown.refuses = lambda update: update.trial == trials[1].id
    with Feed.opened(tmp_path, TrackerConfig(name="mlflow"), "test") as one:
        for _ in range(2):
            with pytest.raises(ConnectionError):
                one.look()
        shown.refuses = lambda update: False
        assert one.look() == Count(1, 2)
    assert shown.epochs(trials[0].id) == shown.epochs(trials[1].id) == [1, 2]


def test_a_trial_of_which_only_the_plan_is_known_is_no_run_yet(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    append(tmp_path, launch(trials_of(tiny())))
    assert sync(tmp_path) == Count(0, 0)


def test_half_a_line_is_waited_for(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, None)])
    whole = line("epoch", {k: v for k, v in run(trials[0], 2, None)[-1].items() if k != "record"})
    with Feed.opened(tmp_path, TrackerConfig(name="mlflow"), "test") as one:
        for part, count in ((whole[:30], Count(1, 1)), (whole[30:], Count(1, 1)), ("", Count(0, 0))):
            with open(tmp_path / RECORDS_FILE, "a") as log:
                log.write(part)
            assert one.look() == count


def test_files_of_shares_and_of_all_are_one_log_and_a_trial_in_two_of_them_is_one_run(
    tiny: Tiny, shown: Shown, tmp_path: Path
) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, "interrupted")])
    append(tmp_path, run(trials[0], 2)[2:], "records.1of2.jsonl")
    append(tmp_path, run(trials[1], 1), "records.2of2.jsonl")
    assert sync(tmp_path) == Count(2, 3)
    assert shown.epochs(trials[0].id) == [1, 2]


def test_a_line_that_was_taken_out_by_hand_has_nothing_sent_twice(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 3)])
    with Feed.opened(tmp_path, TrackerConfig(name="mlflow"), "test") as one:
        one.look()
        lines = (tmp_path / RECORDS_FILE).read_text().splitlines(keepends=True)
        (tmp_path / RECORDS_FILE).write_text("".join(lines[:6] + lines[7:]))
        assert one.look() == Count(0, 0)
        append(tmp_path, run(trials[1], 1))
        assert one.look() == Count(1, 1)
    assert shown.epochs(trials[0].id) == [1, 2, 3]


def test_a_damaged_line_is_named(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1)])
    text = (tmp_path / RECORDS_FILE).read_text().replace('"epoch":1', '"epoch":2')
    (tmp_path / RECORDS_FILE).write_text(text)
    with pytest.raises(UserError, match=r"records\.jsonl:7: damaged line"):
        sync(tmp_path)


def test_what_was_sent_is_known_though_its_last_line_is_torn(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, None)])
    sync(tmp_path)
    with open(cursor_path(tmp_path, "mlflow"), "a") as cursor:
        cursor.write('{"trial":"abc","ru')
    append(tmp_path, run(trials[0], 2)[2:])
    assert sync(tmp_path) == Count(1, 1)
    assert [json.loads(text)["trial"] for text in cursor_path(tmp_path, "mlflow").read_text().splitlines()[1:]] == [
        trials[0].id,
        trials[0].id,
    ]


@pytest.mark.parametrize("text", ["[1]\n", "no\n", '{"trial":1}\n', '{"token":"a"}\n{"trial":"b","run":1}\n'])
def test_a_damaged_list_of_what_was_sent_is_refused(text: str, tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    append(tmp_path, launch(trials_of(tiny())))
    cursor_path(tmp_path, "mlflow").parent.mkdir()
    cursor_path(tmp_path, "mlflow").write_text(text)
    with pytest.raises(UserError, match=r"mlflow\.jsonl: is damaged; remove it"):
        sync(tmp_path)


def test_two_never_send_at_once(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    append(tmp_path, launch(trials_of(tiny())))
    (tmp_path / "trackers").mkdir()
    with RunLock(lock_folder(tmp_path, "mlflow"), "another, process"), pytest.raises(UserError, match="in use"):
        sync(tmp_path)


def test_trackers_are_read_from_the_runs_config_and_one_that_is_not_there_has_nothing_set(tmp_path: Path) -> None:
    assert configured(tmp_path) == {}
    (tmp_path / CONFIG_FILE).write_text("name: a\ntrackers:\n- {name: wandb, project: b}\n")
    assert named(tmp_path, "wandb").project == "b"
    assert named(tmp_path, "trackio") == TrackerConfig(name="trackio")
    with pytest.raises(UserError, match="aim: is no tracker; give one of tensorboard, mlflow, wandb, trackio"):
        named(tmp_path, "aim")


def test_what_is_asked_of_values_is_plain(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    """A reason that others wrote is one tag's value, whatever is in it."""
    trials: Any = trials_of(tiny())
    records = run(trials[0], 0, "failed")
    records[-1]["reason"] = "<b>\x1b[31m\nfrom: me"
    append(tmp_path, [*launch(trials), *records])
    sync(tmp_path)
    assert shown.updates[0].tags["reason"] == "<b>\\x1b[31m\\nfrom: me"


def test_a_note_is_sent_when_it_is_written(tiny: Tiny, shown: Shown, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1)])
    sync(tmp_path)
    append(tmp_path, [{"record": "note", "trial_id": trials[0].id, "note": "odd", "tags": ["a", "b"], "untags": []}])
    assert sync(tmp_path) == Count(1, 0)
    assert (shown.updates[1].tags["note"], shown.updates[1].tags["tags"]) == ("odd", "a, b")
    append(tmp_path, [{"record": "note", "trial_id": trials[0].id, "note": "", "tags": [], "untags": ["a", "b"]}])
    assert sync(tmp_path) == Count(1, 0)
    assert (shown.updates[2].tags["note"], shown.updates[2].tags["tags"]) == ("", "")
