"""--budget-hours: whole seeds in time, at what trials take, and words for what is left out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from sweep.config import SweepConfig
from sweep.plan.plan import earlier_records, plan
from sweep.run import budget as module
from sweep.run.budget import budget_of, spent_seconds
from sweep.run.journal import Journal
from sweep.run.packing import Packing
from sweep.run.seats import Node
from sweep.search.trials import PlannedTrial
from trainers.record import EpochRecord, OutcomeRecord, read

Configs = Callable[..., SweepConfig]
#: Three points of three epochs; an epoch takes this long, s.
SPACE, EPOCH = {"optimizer.lr": [0.1, 0.2, 0.3]}, 100.0
TRIAL = 3 * EPOCH / 3600  # h


@pytest.fixture(autouse=True)
def without_data(launched_without_data: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sweep.run.journal.code_version", lambda: "abc")
    monkeypatch.setattr(module, "code_version", lambda: "abc")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "run"
    path.mkdir()
    return path


def start(trial: PlannedTrial) -> dict[str, Any]:
    return {"record": "start", "trial_id": trial.id, "host": "h", "device": "cpu", "code_version": "abc"}


def epoch(trial: PlannedTrial, number: int, seconds: float = EPOCH) -> dict[str, Any]:
    return {"record": "epoch", **asdict(EpochRecord(trial.id, number, 0.1, val_robust=0.5, seconds=seconds))}


def completed(trial: PlannedTrial) -> dict[str, Any]:
    return {"record": "outcome", **asdict(OutcomeRecord(trial.id, "completed", "", 3))}


def messages(trial: PlannedTrial, seconds: float = EPOCH) -> Iterator[dict[str, Any]]:
    yield start(trial)
    yield from (epoch(trial, number, seconds) for number in (1, 2, 3))
    yield completed(trial)


def books_of(config: SweepConfig, directory: Path, hours: float, estimate: float | None = EPOCH) -> Journal:
    """A journal with a budget; before anything was measured each shape's epoch is estimated so."""
    records = earlier_records(directory)
    made = plan(config, records, "abc", by_seed=True)
    books = Journal(directory, made)
    books.budget = budget_of(hours, made, records)
    if estimate is not None:
        books.budget._estimates = {one.shape: estimate for one in made.to_run}
    return books


def launch(
    config: SweepConfig, directory: Path, hours: float, seconds: float = EPOCH, estimate: float | None = EPOCH
) -> tuple[list[tuple[float, int]], str]:
    """Runs what there is room for, one after another; learning rate and seed of each, and what is said at the end."""
    run, books = [], books_of(config, directory, hours, estimate)
    assert books.budget is not None
    with books.open("test"):
        while (trial := books.next()) is not None:
            for message in messages(trial, seconds):
                books.take(message)
            run.append((trial.point["optimizer.lr"], trial.seed))
    return run, books.budget.closing()


@pytest.mark.parametrize(
    ("trials", "seeds", "left_out", "needed"),
    [
        (3.5, 1, "seeds 1, 2 of all 3 points", "0.5"),
        (5.9, 1, "seeds 1, 2 of all 3 points", "0.5"),
        (6.1, 2, "seed 2 of all 3 points", "0.75"),
    ],
)
def test_a_seed_is_begun_only_if_all_points_fit_with_it(
    trials: float, seeds: int, left_out: str, needed: str, tiny: Configs, directory: Path
) -> None:
    run, said = launch(tiny(space=SPACE, seeds=[0, 1, 2]), directory, trials * TRIAL)
    assert run == [(rate, seed) for seed in range(seeds) for rate in (0.1, 0.2, 0.3)]
    more = f"the same command with --budget-hours {needed} or more, or without, goes on"
    assert said.endswith(f"left out: {left_out}; {more}")


def test_where_not_even_one_seed_fits_single_points_do_and_are_named(tiny: Configs, directory: Path) -> None:
    run, said = launch(tiny(space=SPACE, seeds=[0, 1]), directory, 2.5 * TRIAL)
    assert run == [(0.1, 0), (0.2, 0)]
    assert "left out: seed 1 of all 3 points; seed 0 of 1 of 3 points: optimizer.lr=0.3" in said


@pytest.mark.parametrize(
    ("trials", "search", "said"),
    [
        (3.5, {}, "nothing fits in what is left; the next seed needs --budget-hours 0.5 at least"),
        (0.5, {}, "nothing fits in what is left; the next trial needs --budget-hours 0.0834 at least"),
        (
            2.5,
            {"name": "optuna", "n_trials": 3},
            "nothing fits in what is left; the next point needs --budget-hours 0.334 at least",
        ),
    ],
)
def test_hours_in_which_nothing_fits_say_so_before_anything_starts_and_those_it_names_go_on(
    trials: float, search: dict[str, Any], said: str, tiny: Configs, directory: Path
) -> None:
    space = {"optimizer.lr": {"choice": [0.1, 0.2, 0.3]}} if search else SPACE
    config = tiny(space=space, seeds=[0, 1], **({"search": search} if search else {}))
    launch(config, directory, trials * TRIAL)
    budget = books_of(config, directory, trials * TRIAL).budget
    assert budget is not None
    assert budget.check() == said
    needed = float(said.split()[-3])
    budget = books_of(config, directory, needed).budget
    assert budget is not None
    assert budget.check() is None
    assert launch(config, directory, needed)[0]


def test_with_hours_enough_nothing_is_left_out(tiny: Configs, directory: Path) -> None:
    run, said = launch(tiny(space=SPACE, seeds=[0, 1]), directory, 6.1 * TRIAL)
    assert len(run) == 6
    assert said == f"--budget-hours {6.1 * TRIAL:g}: 0.5 trial hours used"


def test_hours_are_those_of_all_launches_with_a_budget_and_more_of_them_go_on(tiny: Configs, directory: Path) -> None:
    config = tiny(space=SPACE, seeds=[0, 1, 2])
    launch(config, directory, 3.5 * TRIAL)
    assert launch(config, directory, 3.5 * TRIAL)[0] == []
    run, said = launch(config, directory, 6.5 * TRIAL)
    assert run == [(rate, 1) for rate in (0.1, 0.2, 0.3)]
    assert "0.5 trial hours used" in said


def test_what_launches_without_a_budget_took_is_not_counted(tiny: Configs, directory: Path) -> None:
    config = tiny(space=SPACE, seeds=[0, 1])
    books = Journal(directory, plan(config, [], "abc", by_seed=True))
    with books.open("test"):
        for message in messages(books.next()):  # type: ignore[arg-type]
            books.take(message)
    run, _ = launch(config, directory, 5.1 * TRIAL)
    assert len(run) == 5
    assert spent_seconds(read(directory), lambda launched: "budget_hours" in launched) == 15 * EPOCH


def test_what_was_measured_counts_and_no_estimate_any_more(tiny: Configs, directory: Path) -> None:
    """Estimated at a quarter of what they take: the second seed is not begun."""
    run, _ = launch(tiny(space=SPACE, seeds=[0, 1]), directory, 4 * TRIAL, estimate=EPOCH / 4)
    assert [seed for _, seed in run] == [0, 0, 0]


def test_no_trial_is_given_out_that_would_end_too_late_beside_those_that_run(tiny: Configs, directory: Path) -> None:
    books = books_of(tiny(space=SPACE, seeds=[0, 1]), directory, 3.5 * TRIAL)
    with books.open("test"):
        trials = [books.next() for _ in range(4)]
        assert [one is not None for one in trials] == [True, True, True, False]
        assert books.waits()


def test_trials_that_take_less_than_was_estimated_make_room_while_others_still_run(
    tiny: Configs, directory: Path
) -> None:
    """Estimated at twice what they take. Four trials fit, so three are one seed, and then the others."""
    books = books_of(tiny(space=SPACE, seeds=[0, 1]), directory, 7 * TRIAL, estimate=2 * EPOCH)
    packing = Packing([Node(8)], 1, 0, books.next, name=lambda trial: trial.id, listed=False, waits=books.waits)
    with books.open("test"):
        starts = [packing.next() for _ in range(5)]
        assert [one is not None for one in starts] == [True, True, True, False, False]
        for message in messages(starts[0].trials[0]):  # type: ignore[union-attr]
            books.take(message)
        packing.ended(starts[0])  # type: ignore[arg-type]
        assert [packing.next() is not None for _ in range(4)] == [True, True, True, False]
        assert not books.waits()


def test_a_trial_that_was_begun_counts_with_the_epochs_that_it_has_left(tiny: Configs, directory: Path) -> None:
    config = tiny(space=SPACE, seeds=[0])
    books = books_of(config, directory, 10.0)
    with books.open("test"):
        trial = books.next()
        assert trial is not None
        books.take(start(trial))
        for number in (1, 2):
            books.take(epoch(trial, number))
        books.interrupt("stopped by SIGTERM")
    run, _ = launch(config, directory, 3.01 * TRIAL)
    assert len(run) == 3


def test_what_a_pruned_trial_had_left_is_there_for_others(tiny: Configs, directory: Path) -> None:
    """All but the first end with their first epoch of three: so there is room for the second seed."""
    trial = {"epochs": 3, "data": {"name": "digits", "validation_fraction": 0.2}}
    config = tiny(space=SPACE, seeds=[0, 1], stopping={"name": "asha", "reduction_factor": 3}, trial=trial)
    books = books_of(config, directory, 14.1 * EPOCH / 3600)
    assert books.budget is not None
    run = []
    with books.open("test"):
        while (one := books.next()) is not None:
            run.append(one.id)
            for message in messages(one):
                books.take({**message, "val_robust": 1 / len(run)} if message["record"] == "epoch" else message)
    assert len(run) == 6
    assert books.budget.left == pytest.approx(6.1 * EPOCH)


def test_a_longer_trial_counts_with_the_epochs_that_no_shorter_one_has(tiny: Configs, directory: Path) -> None:
    def config(epochs: int) -> SweepConfig:
        trial = {"epochs": epochs, "keep": "state", "schedule": {"name": "constant"}}
        return tiny(space=SPACE, seeds=[0], trial=trial)

    books = books_of(config(3), directory, 3 * TRIAL)
    with books.open("test"):
        while (short := books.next()) is not None:
            for message in messages(short):
                books.take(message | {"state_kept": True} if message["record"] == "outcome" else message)
    books = books_of(config(5), directory, 5.1 * TRIAL)
    assert books.budget is not None
    with books.open("test"):
        longer = [books.next() for _ in range(4)]
        assert [one is not None for one in longer] == [True, True, True, False]
        assert longer[0] is not None
        books.take(start(longer[0]))
        (shorter,) = books.shorter(longer[0])
        books.take({"record": "resume", "trial_id": longer[0].id, "epoch": 3, "reason": "", "from_trial": shorter})
        for number in (1, 2, 3, 4):
            books.take(epoch(longer[0], number))
        assert books.budget.left == pytest.approx((5.1 * 3 - 9 - 6) * EPOCH)


def test_a_point_that_optuna_asks_for_is_begun_only_with_all_its_seeds(tiny: Configs, directory: Path) -> None:
    space = {"optimizer.lr": {"loguniform": [0.01, 1]}}
    config = tiny(space=space, seeds=[0, 1], search={"name": "optuna", "n_trials": 4})
    run, said = launch(config, directory, 5.5 * TRIAL)
    assert [seed for _, seed in run] == [0, 1, 0, 1]
    assert "left out: " in said
    assert len({one["point"]["optimizer.lr"] for one in read(directory) if one["record"] == "trial"}) == 2
    assert len(launch(config, directory, 8.5 * TRIAL)[0]) == 4
