"""What records come to: the same line by line as all at once, with counts that add up."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import pytest

from analysis.frames.log import Log
from analysis.frames.trials import trials_of
from sweep.progress import STATES, Progress, TrialProgress
from sweep.run.screen import event_line
from sweep.share import Share
from trainers.record import DynamicsRecord

Records = list[dict[str, Any]]
EPOCHS = 3


def launch(size: int = 4, time: float = 0.0, wanted: str | None = None) -> dict[str, Any]:
    names = list("abcdef"[:size]) if wanted is None else list(wanted)
    return {"record": "launch", "time": time, "size": size, "wanted": names}


def trial(name: str) -> dict[str, Any]:
    point = {"optimizer.lr": 0.1, "optimizer.name": "sgd"}
    return {"record": "trial", "trial_id": name, "number": 0, "point": point, "seed": 0, "config": {"epochs": EPOCHS}}


def start(name: str, time: float = 0.0) -> dict[str, Any]:
    return {"record": "start", "trial_id": name, "time": time, "code_version": "abc"}


def epoch(name: str, number: int, robust: float = 0.5, time: float = 0.0) -> dict[str, Any]:
    return {"record": "epoch", "trial_id": name, "epoch": number, "lr": 0.1, "val_robust": robust, "seconds": 2.0,
            "evaluation_seconds": 1.0, "time": time}  # fmt: skip


def outcome(name: str, what: str = "completed", epochs: int = EPOCHS, time: float = 0.0) -> dict[str, Any]:
    return {"record": "outcome", "trial_id": name, "outcome": what, "reason": "why", "epochs": epochs, "time": time}


def whole(name: str) -> Records:
    return [start(name), *(epoch(name, number) for number in range(1, EPOCHS + 1)), outcome(name)]


RUN: Records = [
    launch(),
    *map(trial, "abcd"),
    *whole("a"),
    *[start("b"), epoch("b", 1), outcome("b", "interrupted", 1)],
    *[start("c"), epoch("c", 1)],
    # The driver was killed; the same command goes on.
    launch(time=9.0),
    *[start("c", 10.0), epoch("c", 2, time=11.0), epoch("c", 3, time=12.0), outcome("c", time=12.0)],
    *[start("b", 12.0), epoch("b", 1, 0.4, time=13.0), outcome("b", "diverged", 1, time=13.0)],
    *[start("d", 13.0), outcome("d", "failed", 0, time=13.0)],
    # A wider sweep, without a.
    launch(5, 20.0, "bcdef"),
    *map(trial, "ef"),
    *[start("e", 21.0), epoch("e", 1, time=22.0)],
]


def test_folding_line_by_line_is_folding_all_at_once() -> None:
    progress = Progress()
    for number, record in enumerate(RUN, start=1):
        progress.add(record)
        assert progress == Progress.of(RUN[:number])


def test_the_newest_numbers_of_a_trial_that_was_trained_anew_and_diverged_sooner_are_its_own() -> None:
    anew = [outcome("a", "interrupted", 0), start("a"), epoch("a", 1, robust=0.7), outcome("a", "diverged", 1)]
    records = [launch(1), trial("a"), *whole("a"), *anew]
    for made in (records, Log.of(records)):
        last = Progress.of(made).trials["a"].last
        assert (last["epoch"], last["val_robust"]) == (1, 0.7)


@pytest.mark.parametrize("live", [True, False])
def test_counts_add_up_to_size_after_every_line(live: bool) -> None:
    progress = Progress()
    for record in RUN:
        progress.add(record)
        counts = progress.counts(live)
        assert sum(counts.values()) == progress.size
        assert all(number > 0 for number in counts.values())
        assert list(counts) == [state for state in STATES if state in counts]
        assert ("running" in counts) <= live
        assert counts.get("running", 0) == (len(progress.running()) if live else 0)


@pytest.mark.parametrize(
    ("lines", "live", "dead"),
    [
        (0, {}, {}),
        (1, {"waiting": 4}, {"never_started": 4}),
        (6, {"running": 1, "waiting": 3}, {"interrupted": 1, "never_started": 3}),
        (10, {"completed": 1, "waiting": 3}, {"completed": 1, "never_started": 3}),
        (
            13,
            {"completed": 1, "interrupted": 1, "waiting": 2},
            {"completed": 1, "interrupted": 1, "never_started": 2},
        ),
        (
            15,
            {"completed": 1, "interrupted": 1, "running": 1, "waiting": 1},
            {"completed": 1, "interrupted": 2, "never_started": 1},
        ),
        # A live launch will run again what an earlier one left; when none is live, it was interrupted.
        (16, {"completed": 1, "waiting": 3}, {"completed": 1, "interrupted": 2, "never_started": 1}),
        (
            20,
            {"completed": 2, "waiting": 2},
            {"completed": 2, "interrupted": 1, "never_started": 1},
        ),
        (25, {"completed": 2, "diverged": 1, "failed": 1}, {"completed": 2, "diverged": 1, "failed": 1}),
        (
            len(RUN),
            {"completed": 1, "diverged": 1, "running": 1, "waiting": 2},
            {"completed": 1, "diverged": 1, "failed": 1, "interrupted": 1, "never_started": 1},
        ),
    ],
)
def test_counts_say_how_things_stand(lines: int, live: dict[str, int], dead: dict[str, int]) -> None:
    progress = Progress.of(RUN[:lines])
    assert progress.counts(live=True) == live
    assert progress.counts(live=False) == dead


def test_trials_that_a_search_finds_on_the_way_belong_to_the_launch() -> None:
    progress = Progress.of([launch(3, wanted=""), trial("a"), *whole("a"), trial("b")])
    assert [found.id for found in progress.current()] == ["a", "b"]
    assert progress.counts() == {"completed": 1, "waiting": 2}


def test_a_trial_planned_twice_keeps_what_it_has() -> None:
    once = Progress.of([launch(), trial("a"), *whole("a")])
    once.add(trial("a"))
    assert once.trials["a"].finished


def test_a_record_that_stands_there_is_known_and_one_that_differs_is_not() -> None:
    record = epoch("a", 1)
    (found,) = Progress.of([launch(), trial("a"), start("a"), record]).trials.values()
    assert found.has(record)
    assert found.has({**record, "checkpoint_seconds": 3.0})  # the last file holds what it was before it was written
    assert not found.has({**record, "seconds": record["seconds"] + 1e-9})  # trained anew
    assert not found.has({**record, "epoch": 2})


def test_a_trial_that_lost_its_checkpoint_counts_its_epochs_anew() -> None:
    lines = [launch(), trial("a"), start("a"), epoch("a", 1), epoch("a", 2), launch(time=5.0), start("a", 5.0)]
    progress = Progress.of(lines)
    assert progress.trials["a"].epoch == 2
    progress.add(epoch("a", 1, 0.6, time=6.0))
    assert progress.trials["a"].epoch == 1
    for number in (2, 3):
        progress.add(epoch("a", number, 0.6, time=7.0))
    assert progress.trials["a"].last["val_robust"] == 0.6


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_finished_trial_that_misses_an_epoch_is_not_finished_until_it_has_come(lost: int) -> None:
    lines = [line for line in whole("a") if line.get("epoch") != lost]
    progress = Progress.of([launch(1), trial("a"), *lines])
    assert not progress.trials["a"].finished
    for line in (launch(1, 5.0), start("a", 5.0), epoch("a", lost, 0.2, 6.0), outcome("a", time=6.0)):
        progress.add(line)
    assert progress.trials["a"].finished
    assert (progress.trials["a"].epoch, progress.trials["a"].last["epoch"]) == (3, 3)


@pytest.mark.parametrize("epochs", [0, 2])
def test_a_diverged_trial_is_finished_with_the_epochs_before(epochs: int) -> None:
    lines = [start("a"), *(epoch("a", number) for number in range(1, epochs + 1)), outcome("a", "diverged", epochs)]
    assert Progress.of([launch(1), trial("a"), *lines]).trials["a"].finished


def test_records_of_a_trial_whose_own_line_was_deleted_count_for_nothing() -> None:
    assert Progress.of([launch(1), *whole("a")]).counts() == {"waiting": 1}


def test_the_rate_is_that_of_the_last_launch_and_the_time_left_what_it_needs_for_the_rest() -> None:
    progress = Progress.of([launch(2), trial("a"), trial("b"), *whole("a")])
    assert progress.epochs_per_second() is None
    assert progress.seconds_left() is None
    lines = [launch(2, 10.0), start("b", 10.0), epoch("b", 1, time=14.0)]
    for line in lines:
        progress.add(line)
    assert progress.epochs_per_second() == 1 / 4
    assert progress.epochs_left() == 2
    assert progress.seconds_left() == 8


def test_trials_that_are_not_known_yet_count_as_long_as_the_known_ones() -> None:
    progress = Progress.of([launch(4, wanted=""), trial("a"), *whole("a"), trial("b"), start("b"), epoch("b", 1)])
    assert progress.epochs_left() == 2 + 2 * EPOCHS


def test_what_was_interrupted_in_this_launch_goes_on_and_is_left() -> None:
    lines = [launch(1), trial("a"), start("a"), epoch("a", 1), outcome("a", "interrupted", 1)]
    assert Progress.of(lines).epochs_left() == EPOCHS - 1


def test_what_failed_in_this_launch_is_not_left() -> None:
    progress = Progress.of([launch(1), trial("a"), start("a"), outcome("a", "failed", 0)])
    assert progress.epochs_left() == 0
    progress.add(launch(1, 5.0))
    assert progress.epochs_left() == EPOCHS


def test_the_label_is_the_point_and_the_seed() -> None:
    assert Progress.of([launch(), trial("a")]).trials["a"].label() == "optimizer.lr=0.1 optimizer.name=sgd seed=0"
    drawn = trial("a") | {"point": {"optimizer.lr": 0.0123456, "batch_size": 12345}, "seed": 3}
    assert Progress.of([launch(), drawn]).trials["a"].label() == "optimizer.lr=0.0123456 batch_size=12345 seed=3"


def test_a_trial_that_starts_again_has_no_outcome_until_it_ends() -> None:
    for ended in ([start("a"), outcome("a", "failed", 0)], whole("a")):
        progress = Progress.of([launch(1), trial("a"), *ended, launch(1, 5.0), start("a", 5.0)])
        found = progress.trials["a"]
        assert (found.outcome, found.reason, found.finished) == (None, "", False)
        assert progress.counts(live=True) == {"running": 1}
        assert progress.counts(live=False) == {"interrupted": 1}


def test_seconds_are_of_training_evaluation_and_measuring_and_epochs_count_as_often_as_they_were_trained() -> None:
    measured = {"record": "dynamics", "trial_id": "a", "epoch": 0, "seconds": 4.0, "time": 0.0}
    rows = {field.name: () for field in fields(DynamicsRecord)}
    lines = [start("a"), rows | measured, epoch("a", 1), start("a"), epoch("a", 1, 0.6), epoch("a", 2)]
    found = Progress.of([launch(1), trial("a"), *lines]).trials["a"]
    assert (found.seconds, found.trained, found.epoch) == (4 + 3 * (2 + 1), 3, 2)


def test_metric_and_mode_are_those_of_the_last_launch_and_none_where_it_did_not_say() -> None:
    chosen = {"metric": "val_robust_loss", "mode": "min"}
    progress = Progress.of([launch() | chosen])
    assert progress.chosen_by == chosen
    progress.add(launch())
    assert progress.chosen_by == {}


def test_a_clock_that_is_set_back_takes_no_time_away() -> None:
    progress = Progress.of([launch(1, 10.0), trial("a"), start("a", 10.0), epoch("a", 1, time=14.0)])
    progress.add(epoch("a", 2, time=3.0))
    assert progress.epochs_per_second() == 2 / 4


def test_counts_that_are_kept_from_line_to_line_are_those_of_a_look_at_every_trial() -> None:
    kept = Progress()
    for number, record in enumerate(RUN, 1):
        kept.add(record)
        assert kept.counts() == Progress.of(RUN[:number]).counts()
        assert kept.counts(live=False) == Progress.of(RUN[:number]).counts(live=False)


def test_an_ended_trial_costs_no_look_at_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress.of([launch(6), *map(trial, "abcdef")])
    progress.counts()
    looked: list[str] = []
    state = TrialProgress.state
    monkeypatch.setattr(TrialProgress, "state", lambda trial, live: looked.append(trial.id) or state(trial, live))
    for record in whole("c"):
        progress.add(record)
    assert event_line(progress, progress.trials["c"]).startswith("[1/6] completed c ")
    assert set(looked) == {"c"}


ONE, TWO, THREE = (Share(index, 3) for index in (1, 2, 3))  # of a..f: c and f; a and d; b and e


def test_what_a_whole_trial_took_is_the_frames_seconds_however_the_records_are_read() -> None:
    again = [
        launch(6, 30.0, "bcdefa"),
        start("b", 30.0),
        *(epoch("b", n, time=30.0) | {"seconds": 5.0} for n in (1, 2)),
    ]
    records = [{"metric": "val_robust", **one} if one["record"] == "launch" else one for one in [*RUN, *again]]
    frame = trials_of(Log.of(records)).set_index("trial_id")["seconds"]
    for history in (Progress.of(records), Progress.of(Log.of(records))):
        assert {name: one.whole_seconds for name, one in history.trials.items()} == frame.to_dict()
    assert frame["b"] == 12.0 < history.trials["b"].seconds
    one = Progress.of(Log.of(records))
    one.add(epoch("b", 2) | {"seconds": 1.0})
    assert one.trials["b"].whole_seconds == 8.0


SHARES: Records = [
    launch(6, time=0.0) | {"shard": "1/3"},
    *map(trial, "cf"),
    launch(6, time=1.0) | {"shard": "2/3"},
    *map(trial, "ad"),
    *[start("c", 1.0), epoch("c", 1, time=2.0), start("a", 2.0), outcome("a", "failed", 0, time=3.0)],
    *[epoch("c", 2, time=4.0), start("d", 4.0), epoch("d", 1, time=5.0)],
]


def test_live_shares_run_their_own_trials_and_what_no_live_one_has_is_as_it_was_left() -> None:
    progress = Progress.of(SHARES)
    assert progress.counts([ONE, TWO]) == {"failed": 1, "running": 2, "waiting": 1, "never_started": 2}
    assert progress.counts([ONE]) == {"failed": 1, "interrupted": 1, "running": 1, "waiting": 1, "never_started": 2}
    assert progress.counts([THREE]) == {"failed": 1, "interrupted": 2, "waiting": 2, "never_started": 1}
    assert [one.id for one in progress.running([TWO])] == ["d"]


def test_a_launch_of_a_share_begins_its_own_trials_anew_and_no_others() -> None:
    progress = Progress.of([*SHARES, launch(6, 6.0) | {"shard": "2/3", "left_out": ["c"]}])
    assert [one.id for one in progress.running()] == ["c"]
    assert not progress.trials["c"].left_out


def test_each_share_has_its_own_size_rate_and_time_left() -> None:
    progress = Progress.of(SHARES)
    one, two, three = map(progress.of_share, (ONE, TWO, THREE))
    assert [view.size for view in (progress, one, two, three)] == [6, 2, 2, 2]
    assert (one.epochs_per_second(), one.epochs_left(), one.seconds_left()) == (2 / 3, 4, 6)
    assert (two.epochs_per_second(), two.epochs_left()) == (1 / 3, 2)
    assert (three.epochs_per_second(), three.counts(True)) == (None, {"waiting": 2})


@pytest.mark.parametrize("more", [[], [launch(6, 7.0)], [launch(6, 7.0) | {"shard": "1/2"}]])
def test_of_shares_too_all_at_once_and_as_columns_is_line_by_line(more: Records) -> None:
    records = [*SHARES, *more, epoch("c", 3, time=9.0)]
    progress = Progress()
    for record in records:
        progress.add(record)
    assert progress == Progress.of(records)
    assert progress.paces == Progress.of(Log.of(records)).paces


def test_a_foreign_trial_whose_id_is_no_number_is_in_no_share() -> None:
    names = [trial("zz"), start("zz", 2.0), epoch("zz", 1, time=3.0)]
    progress = Progress.of([launch(1, wanted="") | {"shard": "1/1"}, *names])
    assert progress.counts([Share(1, 1)]) == {"interrupted": 1}
