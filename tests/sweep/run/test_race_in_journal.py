"""A journal whose points race: order, what is written of seeds that are not run, and what a relaunch makes of it."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sweep.config import SweepConfig
from sweep.plan.plan import earlier_records, plan
from sweep.run import launch as runner
from sweep.run.journal import Journal
from sweep.run.signals import FailedAlike, Interrupted
from sweep.search.trials import PlannedTrial
from sweep.share import Share
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, EpochRecord, OutcomeRecord, read

Configs = Callable[..., SweepConfig]
RATES = [0.01, 0.03, 0.1, 0.3, 1.0]
SPACE = {"optimizer.lr": RATES}
#: By learning rate, the metric of seed 0; others differ by some thousandths.
MEANS = {0.01: 0.3, 0.03: 0.7, 0.1: 0.71, 0.3: 0.7, 1.0: 0.1}
#: Of point and seed.
NOISE = [[4, -3, 1, 0], [-2, 0, 5, 1], [1, 3, -4, 2], [0, -1, 2, -5], [3, 2, -2, 1]]


pytestmark = pytest.mark.usefixtures("launched_without_data")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def racing(tiny: Configs, **more: Any) -> SweepConfig:
    return tiny(space=SPACE, **{"seeds": [0, 1, 2, 3], "race": {"alpha": 0.05}} | more)


def value(trial: PlannedTrial) -> float:
    rate = trial.point["optimizer.lr"]
    return MEANS[rate] + NOISE[RATES.index(rate)][trial.seed] / 1000


def messages(trial: PlannedTrial, outcome: Any = "completed", reason: str = "") -> Iterator[dict[str, Any]]:
    yield {"record": "start", "trial_id": trial.id, "host": "h", "device": "cpu", "code_version": "abc"}
    for number in range(1, 4) if outcome == "completed" else ():
        epoch = EpochRecord(trial.id, number, 0.1, val_robust=value(trial), seconds=1.0)
        yield {"record": "epoch", **asdict(epoch)}
    yield {"record": "outcome", **asdict(OutcomeRecord(trial.id, outcome, reason, 3 * (outcome == "completed")))}


def launch(config: SweepConfig, directory: Path, most: int | None = None) -> list[tuple[float, int]]:
    """Runs a sweep's trials one after another, or the first few; learning rate and seed of each."""
    run: list[tuple[float, int]] = []
    books = Journal(directory, plan(config, earlier_records(directory), "abc"))
    with books.open("test"):
        while (most is None or len(run) < most) and (trial := books.next()) is not None:
            for message in messages(trial):
                books.take(message)
            run.append((trial.point["optimizer.lr"], trial.seed))
    return run


def pruned(directory: Path) -> Mapping[tuple[float, int], Any]:
    trials = {one["trial_id"]: one for one in read(directory) if one["record"] == "trial"}
    ends = [one for one in read(directory) if one.get("outcome") == "pruned"]
    return {(trials[one["trial_id"]]["point"]["optimizer.lr"], trials[one["trial_id"]]["seed"]): one for one in ends}


def test_whole_seeds_are_run_one_after_another_and_dropped_points_get_no_more(tiny: Configs, directory: Path) -> None:
    run = launch(racing(tiny), directory)
    assert run[:10] == [(rate, seed) for seed in (0, 1) for rate in RATES]
    assert run[10:] == [(rate, seed) for seed in (2, 3) for rate in (0.03, 0.1, 0.3)]


def test_what_is_not_run_is_pruned_with_no_epoch_and_says_by_what_and_why(tiny: Configs, directory: Path) -> None:
    launch(racing(tiny), directory)
    ends = pruned(directory)
    assert set(ends) == {(rate, seed) for seed in (2, 3) for rate in (0.01, 1.0)}
    assert {(one["epochs"], one["share"], one["by"], one["rank"]) for one in ends.values()} == {(0, 0, "race", None)}
    assert all("of 80 needed (alpha 0.05, 4 other points)" in one["reason"] for one in ends.values())


@pytest.mark.parametrize("cut", range(0, 16, 3))
def test_a_launch_that_was_ended_anywhere_goes_on_to_the_same_trials(cut: int, tiny: Configs, directory: Path) -> None:
    whole = directory.parent / "whole"
    whole.mkdir()
    config = racing(tiny)
    run = launch(config, whole)
    assert launch(config, directory, cut) + launch(config, directory) == run
    assert set(pruned(directory)) == set(pruned(whole))


def test_a_decision_whose_lines_a_killed_launch_did_not_write_is_written_at_once(
    tiny: Configs, directory: Path
) -> None:
    config = racing(tiny)
    run = launch(config, directory)
    lines = (directory / RECORDS_FILE).read_text().splitlines(keepends=True)
    ten = [n for n, line in enumerate(lines) if '"completed"' in line][9]
    (directory / RECORDS_FILE).write_text("".join(lines[: ten + 1]))
    assert not pruned(directory)
    with Journal(directory, plan(config, earlier_records(directory), "abc")).open("test"):
        assert set(pruned(directory)) == {(rate, seed) for seed in (2, 3) for rate in (0.01, 1.0)}
    assert launch(config, directory) == run[10:]


def test_without_a_race_every_point_runs_all_its_seeds_at_once(tiny: Configs, directory: Path) -> None:
    assert launch(racing(tiny, race=None), directory) == [(rate, seed) for rate in RATES for seed in range(4)]


def test_wilcoxon_goes_point_after_point_and_compares_with_one_that_has_all_seeds(
    tiny: Configs, directory: Path
) -> None:
    rule = {"stopping": {"name": "wilcoxon", "p_threshold": 0.2}, "race": None, "seeds": [3, 2, 1, 0]}
    run = launch(racing(tiny, **rule), directory)
    worse = {(0.3, 0), (1.0, 0)}  # than 0.1, in each of three seeds
    assert run == [(rate, seed) for rate in RATES for seed in (3, 2, 1, 0) if (rate, seed) not in worse]
    assert set(pruned(directory)) == worse
    for end in pruned(directory).values():
        assert end["by"] == "wilcoxon"
        assert "worse than of optimizer.lr=0.1, the best that has all seeds, over the 3 seeds of both" in end["reason"]


def test_optuna_is_told_the_mean_of_the_seeds_that_ran_and_again_by_a_relaunch(tiny: Configs, directory: Path) -> None:
    space = {"optimizer.lr": {"choice": RATES}}
    config = tiny(space=space, seeds=[0, 1, 2, 3], race={}, search={"name": "optuna", "n_trials": 5})
    for most in (7, None, None):
        made = plan(config, earlier_records(directory), "abc")
        books, run = Journal(directory, made), 0
        with books.open("test"):
            while run != most and (trial := books.next()) is not None:
                for message in messages(trial):
                    books.take(message)
                run += 1
    assert run == 0
    left_out = pruned(directory)
    means = {
        rate: [MEANS[rate] + NOISE[RATES.index(rate)][seed] / 1000 for seed in range(4) if (rate, seed) not in left_out]
        for rate in RATES
    }
    assert left_out
    (stratum,) = made.search._strata  # type: ignore[attr-defined]
    expected = sorted(sum(values) / len(values) for values in means.values())
    assert sorted(one.value for one in stratum.study.study.trials) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ({"race": {"alpha": 0}}, "race.alpha: "),
        ({"race": {"alpha": 1}}, "race.alpha: "),
        ({"race": {"min_seeds": 1}}, "race.min_seeds: "),
        ({"seeds": [0]}, "race: a point has 2 seeds before it gets no more, so it needs at least 3, and seeds has 1"),
        ({"stopping": {"name": "asha"}}, "race: .*stopping: asha leaves some out; leave one of the two out"),
        ({"race": None, "stopping": {"name": "wilcoxon"}, "seeds": [0, 1]}, "stopping: wilcoxon: .*needs at least 3"),
        ({"race": None, "fail_fast": 0}, "fail_fast: "),
    ],
)
def test_what_cannot_race_is_refused_in_one_line(more: dict[str, Any], text: str, tiny: Configs) -> None:
    with pytest.raises(UserError, match=rf"^[^\n]*{text}[^\n]*$"):
        racing(tiny, **more)


def test_shares_do_not_race(tiny: Configs) -> None:
    with pytest.raises(UserError, match=r"--shard 1/2: race compares the points of all shares"):
        plan(racing(tiny), [], "abc", share=Share(1, 2))


def failing(config: SweepConfig, directory: Path, reasons: list[str]) -> list[Interrupted]:
    """Has trials fail for these reasons; what the launch is told."""
    ends: list[Interrupted] = []
    books = Journal(directory, plan(config, earlier_records(directory), "abc"))
    books.stop = ends.append
    with books.open("test"):
        for reason in reasons:
            trial = books.next()
            assert trial is not None
            for message in messages(trial, "failed" if reason else "completed", reason):
                books.take(message)
    return ends


def test_a_sweep_ends_whose_first_trials_fail_alike_and_the_same_command_tries_again(
    tiny: Configs, directory: Path
) -> None:
    config = tiny(space=SPACE, seeds=[0, 1], fail_fast=3)
    for _ in range(2):
        (end,) = failing(config, directory, ["KeyError: 'x'"] * 3)
        assert isinstance(end, FailedAlike)
        assert (end.exit_code, end.reason) == (1, "fail_fast: the first 3 trials failed alike: KeyError: 'x'")
    assert failing(config, directory, ["", *["KeyError: 'x'"] * 3]) == []


def test_without_it_no_number_of_failures_ends_a_sweep(tiny: Configs, directory: Path) -> None:
    assert failing(tiny(space=SPACE), directory, ["KeyError: 'x'"] * 5) == []


def test_a_launch_whose_first_trials_fail_alike_exits_with_1_and_leaves_the_rest(
    tiny: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str, *how: Any, **more: Any) -> bool:
        send = how[3]
        send({"record": "start", "trial_id": name, "host": "h", "device": "cpu", "code_version": "abc"})
        send({"record": "outcome", **asdict(OutcomeRecord(name, "failed", "KeyError: 'x'", 0))})
        return True

    monkeypatch.setattr("sweep.run.ways.run_trial", fails)
    text = io.StringIO()
    console = Console(file=text, width=200)
    config = tiny(space=SPACE, fail_fast=2)
    assert runner.Launch(config, tmp_path / "run", console, command="test", serial=True, debug=True).run() == 1
    assert "fail_fast: the first 2 trials failed alike: KeyError: 'x'; the same command goes on" in text.getvalue()
    assert [one["outcome"] for one in read(tmp_path / "run") if one["record"] == "outcome"] == ["failed"] * 2


def test_a_launch_with_a_budget_that_is_used_up_exits_with_1_and_says_what_is_left_out(
    tiny: Configs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trains(name: str, *how: Any, **more: Any) -> bool:
        send = how[3]
        send({"record": "start", "trial_id": name, "host": "h", "device": "cpu", "code_version": "abc"})
        for number in (1, 2, 3):
            send({"record": "epoch", **asdict(EpochRecord(name, number, 0.1, val_robust=0.5, seconds=60.0))})
        send({"record": "outcome", **asdict(OutcomeRecord(name, "completed", "", 3))})
        return True

    monkeypatch.setattr("sweep.run.ways.run_trial", trains)
    monkeypatch.setattr("sweep.plan.cost.cost_of", lambda *values: (None, []))  # its rate is timed
    text = io.StringIO()
    console = Console(file=text, width=200)
    config = tiny(space=SPACE, seeds=[0, 1])
    how: dict[str, Any] = {"command": "test", "serial": True, "debug": True}
    assert runner.Launch(config, tmp_path / "run", console, **how, budget_hours=0.3).run() == 1
    assert "--budget-hours 0.3: 0.25 trial hours used; left out: seed 1 of all 5 points" in text.getvalue()
    (launched,) = (one for one in read(tmp_path / "run") if one["record"] == "launch")
    assert launched["budget_hours"] == 0.3
    assert runner.Launch(config, tmp_path / "run", console, **how).run() == 0
