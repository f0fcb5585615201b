"""Which trials go on from the ends of shorter ones, as the plan tells and as a launch gives them out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from recorded import Records, launch, run, trials_of
from small import TINY

from analysis.frames.history import handed_on
from sweep.config import SweepConfig
from sweep.plan.longer import Shorter
from sweep.plan.plan import Plan, plan
from sweep.progress import Progress
from sweep.search.trials import PlannedTrial

Configs = Callable[..., SweepConfig]
SHORT, LONG = 3, 5


@pytest.fixture(autouse=True)
def without_data(planned_without_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.plan.plan.warnings", lambda *of: ())


@pytest.fixture
def sweep(tiny: Configs) -> Configs:
    """A sweep of two trials of so many epochs, at a constant rate unless told otherwise."""

    def make(epochs: int, space: dict[str, Any] | None = None, **trial: Any) -> SweepConfig:
        values = TINY | {"epochs": epochs, "schedule": {"name": "constant"}, "keep": "state"} | trial
        if space is not None and "epochs" in space:
            del values["epochs"]
        return tiny(trial=values, space=space or {"optimizer.lr": [0.1, 0.3]}, seeds=[0])

    return make


def kept(trial: PlannedTrial, epochs: int = SHORT, code: str = "abc", **end: Any) -> Records:
    *others, outcome = run(trial, epochs, code=code)
    return [*others, {**outcome, "state_kept": True, **end}]


def about_longer(found: Plan) -> list[str]:
    return [line.strip() for line in found.lines() if "shorter" in line]


def test_the_plan_says_which_trials_go_on_from_which_and_costs_the_rest_alone(sweep: Configs) -> None:
    short, long = trials_of(sweep(SHORT)), trials_of(sweep(LONG))
    records = [*launch(short), *kept(short[0]), *kept(short[1])]
    found = plan(sweep(LONG), records, "abc")
    assert about_longer(found) == [
        f"2 of the new go on from the end of a shorter trial, which saves 6 of 10 epochs: {long[0].id} from "
        f"{short[0].id} (3 epochs), {long[1].id} from {short[1].id} (3 epochs)"
    ]
    assert (found.left, found.resumable, found.trial_seconds) == (2, 0, 2 * (LONG - SHORT) * 30.0)
    assert [one.epochs for one in found.to_run] == [LONG - SHORT] * 2


def test_of_several_shorter_ones_the_longest_comes_first(sweep: Configs) -> None:
    one, two, long = (trials_of(sweep(epochs))[0] for epochs in (1, SHORT, LONG))
    progress = Progress.of([*launch([one, two]), *kept(one, 1), *kept(two)])
    assert Shorter(progress.trials.values(), "abc").of(long) == [two.id, one.id]
    assert Shorter(progress.trials.values(), "abc").of(two) == [one.id]
    assert Shorter(progress.trials.values(), "abc").of(one) == []


@pytest.mark.parametrize("name", ["cosine", "linear", "one_cycle"])
def test_a_schedule_whose_beginning_hangs_on_the_epochs_is_named(name: str, sweep: Configs) -> None:
    values = {"schedule": {"name": name}}
    short = trials_of(sweep(SHORT, **values))
    found = plan(sweep(LONG, **values), [*launch(short), *kept(short[0]), *kept(short[1])], "abc")
    assert about_longer(found) == [
        f"2 of the new have a shorter trial and begin afresh: {name}: its beginning depends on epochs"
    ]
    assert found.trial_seconds == 2 * LONG * 30.0


@pytest.mark.parametrize(("milestone", "goes_on"), [(SHORT + 1, True), (SHORT, True), (SHORT - 1, True)])
def test_milestones_of_both_are_counted_from_the_first_epoch(milestone: int, goes_on: bool, sweep: Configs) -> None:
    values = {"schedule": {"name": "piecewise", "milestones": [milestone]}}
    short = trials_of(sweep(SHORT, **values))
    found = plan(sweep(LONG, **values), [*launch(short), *kept(short[0])], "abc")
    assert bool(found.longer and found.longer.goes_on) is goes_on


def test_a_milestone_that_the_shorter_one_had_and_the_longer_one_has_not_makes_it_another_trial(sweep: Configs) -> None:
    early, late = ({"schedule": {"name": "piecewise", "milestones": [epoch]}} for epoch in (SHORT - 1, SHORT))
    short = trials_of(sweep(SHORT, **early))
    found = plan(sweep(LONG, **late), [*launch(short), *kept(short[0])], "abc")
    assert found.longer is not None
    assert found.longer.goes_on == {}
    assert about_longer(found) == []


@pytest.mark.parametrize(
    ("end", "code", "why"),
    [
        ({"state_kept": False}, "abc", "the shorter trial kept no state (trial.keep: state)"),
        ({"outcome": "interrupted"}, "abc", "the shorter trial is not completed"),
        ({"outcome": "diverged"}, "abc", "the shorter trial is not completed"),
        ({}, "old", "other code trained the shorter trial (old)"),
    ],
)
def test_a_shorter_trial_that_cannot_be_gone_on_from_is_said_to_be_such(
    end: dict[str, Any], code: str, why: str, sweep: Configs
) -> None:
    short, long = trials_of(sweep(SHORT))[0], trials_of(sweep(LONG))[0]
    records = [*launch([short]), *kept(short, code=code, **end)]
    found = plan(sweep(LONG), records, "abc")
    if end.get("outcome") == "interrupted":
        assert about_longer(found) == []  # a trial that is not ended is no shorter one yet
    else:
        assert about_longer(found) == [f"1 of the new has a shorter trial and begins afresh: {why}"]
    assert Shorter(Progress.of(records).trials.values(), "abc").of(long) == []


def test_where_a_key_left_out_stands_for_another_value_the_plan_names_it(sweep: Configs) -> None:
    short, values = 8, {"averaging": {"name": "swa"}}
    trials = trials_of(sweep(short, **values))
    records = [*launch(trials), *kept(trials[0], short), *kept(trials[1], short)]
    assert about_longer(plan(sweep(16, **values), records, "abc")) == [
        "2 of the new have a shorter trial and begin afresh: averaging.start stands for other values in a longer "
        "trial; set what the shorter one has"
    ]
    begins = {"averaging": {"name": "swa", "start": 6}}
    assert len(about_longer(plan(sweep(16, **begins), records, "abc"))) == 1
    assert plan(sweep(16, **begins), records, "abc").longer.saved == 2 * short  # type: ignore[union-attr]


def test_trials_that_differ_in_more_than_their_length_are_none_of_each_others(sweep: Configs) -> None:
    short = trials_of(sweep(SHORT))
    found = plan(sweep(LONG, batch_size=16), [*launch(short), *kept(short[0]), *kept(short[1])], "abc")
    assert about_longer(found) == []


def test_epochs_as_an_axis_run_shorter_ones_first_where_their_state_is_kept(sweep: Configs) -> None:
    space = {"epochs": [LONG, SHORT], "optimizer.lr": [0.1, 0.3]}
    found = plan(sweep(SHORT, space), [], "abc")
    given = [trial.config.epochs for trial in iter(found.search.next, None)]
    assert given == [SHORT, SHORT, LONG, LONG]
    assert about_longer(found) == [
        "2 of the new may go on from the end of a shorter trial that is to run too, where that has ended by then; no "
        "epoch is counted as saved"
    ]
    as_listed = plan(sweep(SHORT, space, keep="last"), [], "abc")
    assert [trial.config.epochs for trial in iter(as_listed.search.next, None)] == [LONG, LONG, SHORT, SHORT]
    assert about_longer(as_listed) == []


def test_a_longer_trial_that_is_begun_goes_on_from_its_own_checkpoint(sweep: Configs) -> None:
    short, long = trials_of(sweep(SHORT))[0], trials_of(sweep(LONG))[0]
    records = [*launch([short, long]), *kept(short), *run(long, 4, "interrupted")]
    found = plan(sweep(LONG), records, "abc")
    assert about_longer(found) == []
    assert sum(one.epochs for one in found.to_run) == 1 + LONG


def test_seed_after_seed_shorter_ones_are_first_within_each(sweep: Configs) -> None:
    config = sweep(SHORT, {"epochs": [LONG, SHORT]}).model_copy(update={"seeds": (0, 1)})
    given = iter(plan(config, [], "abc", by_seed=True).search.next, None)
    assert [(one.seed, one.config.epochs) for one in given] == [(0, SHORT), (0, LONG), (1, SHORT), (1, LONG)]


def test_epochs_of_a_shorter_trial_are_in_what_a_run_took_once(sweep: Configs) -> None:
    short, long = trials_of(sweep(SHORT))[0], trials_of(sweep(LONG))[0]
    start, *epochs = run(long, LONG)
    begins = {"record": "resume", "trial_id": long.id, "epoch": SHORT, "reason": "", "from_trial": short.id}
    records = [*launch([short, long]), *kept(short), start, begins, *epochs]
    progress = Progress.of(records)
    assert [trial.trained for trial in progress.trials.values()] == [SHORT, LONG - SHORT]
    assert [trial.seconds for trial in progress.trials.values()] == [90.0, 60.0]
    assert progress.trials[long.id].finished
    again = Progress.of([*records[:-1], {"record": "resume", "trial_id": long.id, "epoch": 0, "reason": "damaged"}])
    assert again.trials[long.id].from_trial is None


def test_what_was_handed_on_is_forgotten_where_the_longer_trial_later_begins_afresh() -> None:
    begins = {"record": "resume", "trial_id": "long", "epoch": SHORT, "reason": "", "from_trial": "short"}
    own = {"record": "resume", "trial_id": "long", "epoch": SHORT + 1, "reason": ""}
    afresh = {"record": "resume", "trial_id": "long", "epoch": 0, "reason": "damaged"}
    assert handed_on([begins]) == handed_on([begins, own]) == {"long": SHORT}
    assert handed_on([begins, own, afresh]) == {"long": 0}
    assert handed_on([own, afresh]) == {}
    assert handed_on([begins, afresh, {**begins, "epoch": 2}]) == {"long": 2}


def test_a_folded_log_counts_them_as_one_that_is_read_line_by_line(sweep: Configs, tmp_path: Any) -> None:
    from analysis.frames.log import read_records
    from sweep.decide import trial_seconds
    from trainers.record import RecordFile

    short, long = trials_of(sweep(SHORT))[0], trials_of(sweep(LONG))[0]
    start, *epochs = run(long, LONG)
    begins = {"record": "resume", "trial_id": long.id, "epoch": SHORT, "reason": "", "from_trial": short.id}
    of_a_claim, *planned = launch([short, long])
    launched = {**of_a_claim, "decides": {"claim": "ratio"}}
    records = [launched, *planned, *kept(short), start, begins, *epochs]
    file = RecordFile(tmp_path)
    for record in records:
        times = {"samples_per_second": 1.0, "peak_memory_bytes": 0, "engine": "eager", "engine_reason": ""}
        values = {**record, **(times if record["record"] == "epoch" else {})}
        file.append(values.pop("record"), values)
    file.close()
    found = Progress.of(read_records(tmp_path))
    assert {name: (one.seconds, one.trained) for name, one in found.trials.items()} == {
        name: (one.seconds, one.trained) for name, one in Progress.of(records).trials.items()
    }
    assert trial_seconds(read_records(tmp_path), "ratio") == LONG * 30.0
