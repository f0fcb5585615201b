"""Stopping rules while a launch runs: decisions are a function of the records' order, wherever a launch is killed."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from analysis.frames.log import Log
from sweep.config import SweepConfig
from sweep.decide import decide
from sweep.plan.plan import Plan, earlier_records, plan
from sweep.progress import Progress
from sweep.run.journal import Journal
from sweep.share import Share
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, EpochRecord, OutcomeRecord, read

Configs = Callable[..., SweepConfig]
LRS = [0.1, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.07]
EPOCHS = 6

RULES: dict[str, dict[str, Any]] = {
    "asha": {"name": "asha", "reduction_factor": 2},
    "hyperband": {"name": "hyperband", "reduction_factor": 2},
    "median": {"name": "median", "n_startup_trials": 2},
}


pytestmark = pytest.mark.usefixtures("launched_without_data")


@pytest.fixture
def stopped(tiny: Configs) -> Callable[..., SweepConfig]:
    """A sweep of eight trials with a rule."""

    def config(rule: str | None = "asha", **values: Any) -> SweepConfig:
        trial = {"epochs": EPOCHS, "data": {"name": "digits", "validation_fraction": 0.2}}
        stopping = {} if rule is None else {"stopping": RULES[rule]}
        return tiny(trial=trial, space={"optimizer.lr": LRS}, **stopping, **values)

    return config


def planned(config: SweepConfig, directory: Path, **how: Any) -> Plan:
    return plan(config, earlier_records(directory) if directory.exists() else [], "abc", **how)


def journal(config: SweepConfig, directory: Path, **how: Any) -> Journal:
    directory.mkdir(exist_ok=True)
    return Journal(directory, planned(config, directory, **how))


def start(trial: str) -> dict[str, Any]:
    return {"record": "start", "trial_id": trial, "host": "h", "device": "cpu", "code_version": "abc"}


def epoch(trial: str, number: int, value: float, seconds: float = 1.0) -> dict[str, Any]:
    return {"record": "epoch", **asdict(EpochRecord(trial, number, 0.1, val_robust=value, seconds=seconds))}


def outcome(trial: str, what: Any = "completed", epochs: int = EPOCHS) -> dict[str, Any]:
    return {"record": "outcome", **asdict(OutcomeRecord(trial, what, "", epochs))}


def messages(drawn: random.Random, trials: Sequence[str]) -> list[dict[str, Any]]:
    """All that eight trials would say, three at a time, in some order; what one says that has ended is not heeded."""
    waiting = [
        [start(name), *(epoch(name, n, round(drawn.random(), 3)) for n in range(1, EPOCHS + 1)), outcome(name)]
        for name in trials
    ]
    said: list[dict[str, Any]] = []
    running = [waiting.pop(0) for _ in range(3)]
    while running:
        said.append((one := drawn.choice(running)).pop(0))
        if not one:
            running.remove(one)
            running += [waiting.pop(0)] if waiting else []
    return said


def decisions(directory: Path) -> list[dict[str, Any]]:
    """Who was ended and where, in order."""
    ends = [one for one in read(directory) if one.get("outcome") == "pruned"]
    return [{key: one[key] for key in one if key != "time"} for one in ends]


def epochs(directory: Path) -> list[Any]:
    return [(one["trial_id"], one["epoch"]) for one in read(directory) if one["record"] == "epoch"]


def undisturbed(config: SweepConfig, directory: Path, seed: int = 0) -> list[dict[str, Any]]:
    """A launch that is not killed; what its trials said."""
    books = journal(config, directory)
    with books.open("test"):
        said = messages(random.Random(seed), [trial.id for trial in books._plan.search.known()])
        for message in said:
            books.take(message)
    return said


@pytest.mark.parametrize("rule", RULES)
def test_killed_at_any_line_the_relaunched_sweep_decides_what_the_undisturbed_one_did(
    rule: str, stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    config, whole = stopped(rule), tmp_path / "whole"
    said = undisturbed(config, whole)
    lines = (whole / RECORDS_FILE).read_bytes().splitlines(keepends=True)
    first = next(place for place, line in enumerate(lines) if b'"record":"start"' in line)
    assert len(decisions(whole)) > 1
    for kept in range(first, len(lines) + 1):
        run = tmp_path / str(kept)
        run.mkdir()
        half = lines[kept][: len(lines[kept]) // 2] if kept < len(lines) else b""
        (run / RECORDS_FILE).write_bytes(b"".join(lines[:kept]) + half)
        books = journal(config, run)
        with books.open("test"):
            # that of the last epoch, if it decided, is there before anything runs
            assert decisions(run) == decisions(whole)[: len(decisions(run))]
            owed = kept < len(lines) and b'"outcome":"pruned"' in lines[kept]
            assert len(decisions(run)) == sum(b'"outcome":"pruned"' in line for line in lines[: kept + owed])
            for message in said:
                if message["record"] != "start":
                    books.take(message)
        assert decisions(run) == decisions(whole)
        assert epochs(run) == epochs(whole)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_log_replayed_decides_what_was_decided_and_owes_nothing(
    seed: int, stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    """A long log, whose epochs are columns, as well as a list."""
    config, run = stopped("asha"), tmp_path / "run"
    undisturbed(config, run, seed)
    records = read(run)
    for known in (records, Log.of(records)):
        assert plan(config, known, "abc").decided == []
    cut = max(place for place, one in enumerate(records) if one.get("outcome") == "pruned")
    owed = [{key: one[key] for key in one if key != "time"} for one in records[cut : cut + 1]]
    for known in (records[:cut], Log.of(records[:cut])):
        assert plan(config, known, "abc").decided == owed


def test_a_pruned_trial_has_ended_and_what_it_says_later_is_not_taken(
    stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    config, run = stopped("asha"), tmp_path / "run"
    books = journal(config, run)
    ended: list[str] = []
    told: list[Any] = []
    books.ends = ended.append
    books._plan.search.tell = lambda *what: told.append(what)
    with books.open("test"):
        best, worse = books.next(), books.next()
        assert best is not None
        assert worse is not None
        for message in (start(best.id), epoch(best.id, 1, 0.9), start(worse.id), epoch(worse.id, 1, 0.1)):
            books.take(message)
        assert ended == [worse.id]
        assert told == [(worse.id, None, (1, 0.1))]
        size = (run / RECORDS_FILE).stat().st_size
        for message in (epoch(worse.id, 2, 1.0), outcome(worse.id, "pruned", 1), outcome(worse.id, "paused", 2)):
            books.take(message)
        books.cancel(worse.id)
        books.fail(worse.id, "its process died")
        books.preempt([worse.id], "its node went")
        books.interrupt("stopped by SIGINT")
        assert books.progress == Progress.of(read(run))
    end = decisions(run)[0]
    assert (end["epochs"], end["rung"], end["rank"], end["of"], end["by"]) == (1, 1, 2, 2, "asha")
    assert end["share"] == pytest.approx(1 / EPOCHS)
    assert (run / RECORDS_FILE).read_bytes()[size:].count(b"\n") == 1  # that the best one was interrupted
    progress = Progress.of(read(run))
    assert progress.counts(live=False) == {"pruned": 1, "interrupted": 1, "never_started": 6}
    assert progress.trials[worse.id].settled
    again = journal(config, run)
    with again.open("test"):
        given = []
        while (trial := again.next()) is not None:
            given.append(trial.id)
    assert worse.id not in given
    assert len(given) == 7


def test_pruned_trials_that_are_taken_up_are_trained_to_their_end_and_no_rule_is_asked_any_more(
    stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    config, run = stopped("asha"), tmp_path / "run"
    undisturbed(config, run)
    pruned = [one["trial_id"] for one in decisions(run)]
    wanted = planned(config, run, resume_pruned=True)
    assert wanted.taken_up == tuple(trial.id for trial in wanted.search.known() if trial.id in pruned)
    assert wanted.left == len(pruned)
    said = "\n".join(wanted.lines(launched=True))
    assert f"{len(pruned)} pruned trials taken up again; no rule ends one any more" in said
    assert "stopping: asha" not in said
    assert "upper bound" not in said
    with journal(config, run, resume_pruned=True).open("killed before any began"):
        pass
    killed = planned(config, run)
    assert (killed.left, killed.taken_up) == (len(pruned), ())
    assert "stopping: asha" not in (said := "\n".join(killed.lines(launched=True)))
    assert "upper bound" not in said
    books = journal(config, run)
    with books.open("without the option: they are known to have been taken up"):
        given = []
        while (trial := books.next()) is not None:
            given.append(trial.id)
            for number in range(1, EPOCHS + 1):
                books.take(epoch(trial.id, number, 0.0, seconds=2.0))
            books.take(outcome(trial.id))
    assert sorted(given) == sorted(pruned)
    assert [one["trial_id"] for one in decisions(run)] == pruned
    assert Progress.of(read(run)).counts(live=False) == {"completed": 8}


def test_without_the_rule_pruned_trials_stay_so_and_the_plan_says_how_to_take_them_up(
    stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    undisturbed(stopped("asha"), run)
    pruned = decisions(run)
    wanted = planned(stopped(None), run)
    assert (wanted.left, len(wanted.left_out)) == (0, len(pruned))
    said = next(line for line in wanted.lines() if "pruned" in line)
    assert said.startswith(f"  {len(pruned)} trials are pruned: ")
    saved = len(pruned) * EPOCHS - sum(one["epochs"] for one in pruned)
    assert said.endswith(
        f"which saves {saved} of their {len(pruned) * EPOCHS} epochs; "
        "sweep launch --resume-pruned trains them to their end"
    )


def test_a_rule_that_comes_later_ends_no_trial_that_went_on(
    stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    undisturbed(stopped(None), run)
    assert planned(stopped("asha"), run).decided == []
    assert planned(stopped("asha"), run).left == 0


def test_trials_of_another_sweep_in_the_directory_are_not_compared(
    stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    undisturbed(stopped(None), run)
    other = stopped("asha", seeds=[7])
    books = journal(other, run)
    with books.open("test"):
        trial = books.next()
        assert trial is not None
        books.take(start(trial.id))
        books.take(epoch(trial.id, 1, 0.0))  # the first of its own
    assert decisions(run) == []


def test_a_share_and_a_claim_take_no_rule(stopped: Callable[..., SweepConfig], tmp_path: Path) -> None:
    config = stopped("asha")
    with pytest.raises(UserError, match=r"^--shard 1/2: stopping is asha, which compares all trials"):
        planned(config, tmp_path / "run", share=Share(1, 2))
    with pytest.raises(UserError, match=r"^--decide ratio: stopping is asha, and a claim needs all seeds"):
        decide(config, tmp_path / "run", Console(), claim="ratio", hours=1, command="test")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("asha", "stopping: asha on val_robust, among all trials: at epoch 1, 2, 4 the best 1/2 so far go on"),
        (
            "hyperband",
            "stopping: hyperband on val_robust, among all trials: at epoch 1, 2, 4 the best 1/2 so far go on; of other "
            "brackets from epoch 2, 4 on",
        ),
        (
            "median",
            "stopping: median on val_robust, among all trials: after 2 completed trials, from epoch 1 on every 1 epoch "
            "what is not within the best 50 % of completed trials ends",
        ),
    ],
)
def test_the_plan_says_what_the_rule_will_do(
    rule: str, says: str, stopped: Callable[..., SweepConfig], tmp_path: Path
) -> None:
    assert f"  {says}" in planned(stopped(rule), tmp_path / "run").lines()
