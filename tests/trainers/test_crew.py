"""A trial on two workers: its records are those of one, and both leave together, whatever ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from joining import PATIENCE, Others, begun, lead_and_die
from small import tiny

from trainers import checkpoint, loop
from trainers.config import TrialConfig
from trainers.crew import WorkerFailed, WorkerLost
from trainers.engine import Engine
from trainers.errors import UserError
from trainers.loop import Report, join, train, with_fingerprint
from trainers.record import DynamicsRecord, EpochRecord, OutcomeRecord
from trainers.workers import Workers, found, joined, opened

TIMES = ("seconds", "preparing_seconds", "evaluation_seconds", "checkpoint_seconds", "samples_per_second")


@pytest.fixture(scope="module")
def others() -> Iterator[Others]:
    two = Others(2)
    yield two
    two.end()


class Stopped(Exception):
    """What ends a trial in these tests."""


class Kept:
    """Keeps what is reported; raises once it has so many epochs."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.epochs: list[EpochRecord] = []
        self.dynamics: list[DynamicsRecord] = []
        self._stop_after = stop_after

    def __call__(self, record: Any) -> None:
        {EpochRecord: self.epochs, DynamicsRecord: self.dynamics}[type(record)].append(record)
        if len(self.epochs) == self._stop_after:
            raise Stopped

    @property
    def numbers(self) -> list[dict[str, Any]]:
        """Of the epochs, without times."""
        left_out = {*TIMES, "peak_memory_bytes"}
        return [{key: value for key, value in asdict(one).items() if key not in left_out} for one in self.epochs]


def by_two(
    others: Others, config: TrialConfig, report: Report, path: Path | None = None, fault: str = ""
) -> OutcomeRecord:
    with others.join(config, fault) as workers:
        return train(config, report, path, workers=workers)


def assert_near(numbers: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    """Losses to rounding; all else, accuracies and which images are right among it, to the bit."""
    for own, other in zip(numbers, expected, strict=True):
        for key, value in other.items():
            assert own[key] == (pytest.approx(value, rel=1e-5) if "loss" in key and value else value), key


VARIANTS: dict[str, dict[str, Any]] = {
    # one image is left over for the last batch of an evaluation, one more than for the last of training
    "starts, a short batch": {"evaluation": {"steps": 2, "restarts": 2, "batch_size": 49}, "batch_size": 30},
    "averaged, AWP": {"averaging": {"name": "ema", "decay": 0.5}, "weights": {"name": "awp", "warmup": 1}},
    "carried on": {"attack": {"radius": 0.15, "step_size": 0.15, "replays": 2}, "batch_size": 30},
    # beside the image, where TRADES starts else, its gradient is so small that the sign is rounding's
    "TRADES": {"objective": {"name": "trades"}, "attack": {"start": "uniform", "radius": 0.15, "step_size": 0.04}},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_two_workers_give_the_records_of_one(name: str, others: Others) -> None:
    config, alone, both = tiny(**VARIANTS[name]), Kept(), Kept()
    assert by_two(others, config, both) == train(config, alone)
    assert_near(both.numbers, alone.numbers)
    assert both.epochs[-1].right == alone.epochs[-1].right
    assert others.ends == ["ended"]


def test_the_peak_of_memory_is_that_of_the_worker_that_held_most() -> None:
    workers: Any = SimpleNamespace(alone=False, gathered=lambda own: torch.cat([own, own + 5]))
    alone = loop._peak_memory(Engine(torch.device("cpu")))
    assert loop._peak_memory(Engine(torch.device("cpu"), workers=workers)) >= alone + 5


def test_workers_meet_after_others_of_theirs_have_not_come(others: Others) -> None:
    with pytest.raises(RuntimeError), joined(opened("127.0.0.1", 2), 0, 2, torch.device("cpu"), 0.1):
        pytest.fail("it trains alone")
    kept = Kept()
    by_two(others, tiny(epochs=1), kept)
    assert len(kept.epochs) == 1


@pytest.mark.parametrize("size", [1, 3])
def test_parts_that_are_in_a_trials_id_are_its_workers(size: int) -> None:
    config = tiny(batch_norm="local", workers=2)
    with pytest.raises(UserError) as refused:
        loop._begin(config, Workers(0, size))
    assert str(refused.value) == (
        f"workers: must be how many processes train the trial where batch_norm is local, got 2, and it has {size}; "
        "set resources.workers=2, or batch_norm=sync"
    )


def test_a_stopped_trial_on_two_workers_goes_on_to_the_bit(others: Others, tmp_path: Path) -> None:
    config, whole, rest = tiny(**VARIANTS["carried on"]), Kept(), Kept()
    by_two(others, config, whole)
    with pytest.raises(Stopped):
        by_two(others, config, Kept(stop_after=2), tmp_path / "trial.pt")
    assert others.ends == ["ended"]
    by_two(others, config, rest, tmp_path / "trial.pt")
    assert rest.numbers == whole.numbers
    again = Kept()
    assert by_two(others, config, again, tmp_path / "trial.pt").outcome == "completed"
    assert again.numbers == whole.numbers


@pytest.mark.parametrize("first", ["one", "two"])
def test_a_trial_goes_on_with_another_number_of_workers(first: str, others: Others, tmp_path: Path) -> None:
    config = tiny(**VARIANTS["carried on"], averaging={"name": "ema", "decay": 0.5}, keep="both")
    path, alone, rest = tmp_path / "trial.pt", Kept(), Kept()
    train(config, alone, tmp_path / "alone.pt")
    one, two = train, partial(by_two, others)
    before, after = (one, two) if first == "one" else (two, one)
    with pytest.raises(Stopped):
        before(config, Kept(stop_after=2), path)
    after(config, rest, path)
    assert_near(rest.numbers, alone.numbers)
    for which in ("last", "best"):
        for averaged in (False, True):
            own, expected = (
                checkpoint.kept_weights(file, which, averaged=averaged) for file in (path, tmp_path / "alone.pt")
            )
            torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)


def test_a_longer_trial_goes_on_from_the_end_of_one_on_two_workers(others: Others, tmp_path: Path) -> None:
    short = with_fingerprint(tiny(epochs=2, keep="state", schedule={"milestones": [1]}))
    long, whole, rest = short.model_copy(update={"epochs": 3}), Kept(), []
    assert by_two(others, short, Kept(), tmp_path / "short.pt").state_kept
    train(long, whole)
    with others.join(long) as workers:
        train(long, rest.append, tmp_path / "long.pt", [tmp_path / "short.pt"], workers)
    begun_from, *epochs = rest
    assert begun_from.epoch == 2
    assert_near(
        [{"val_robust": one.val_robust, "lr": one.lr} for one in epochs[2:]],
        [{"val_robust": one.val_robust, "lr": one.lr} for one in whole.epochs[2:]],
    )


@pytest.mark.slow
def test_dynamics_on_two_workers_are_those_on_one(others: Others) -> None:
    settings = {"every": 3, "images": 40, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4}
    config, alone, both = tiny(epochs=2, dynamics=settings), Kept(), Kept()
    train(config, alone)
    by_two(others, config, both)
    assert [one.epoch for one in both.dynamics] == [0, 2]
    before, after = ([kept.dynamics[place] for kept in (both, alone)] for place in (0, 1))
    assert before[0].curvatures == before[1].curvatures
    assert after[0].curvatures == pytest.approx(after[1].curvatures, rel=1e-2)


def test_both_leave_when_a_loss_is_not_finite(others: Others) -> None:
    config, alone, both = tiny(optimizer={"lr": 1e30}), Kept(), Kept()
    outcome = by_two(others, config, both)
    assert outcome.outcome == "diverged"
    assert outcome == train(config, alone)
    assert others.ends == ["ended"]
    assert len(both.epochs) == len(alone.epochs)


def test_the_other_leaves_when_the_first_raises_before_they_have_begun(others: Others, tmp_path: Path) -> None:
    (tmp_path / "trial.pt").mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        by_two(others, tiny(), Kept(), tmp_path / "trial.pt")
    assert others.ends == ["ended"]


def test_the_other_leaves_when_the_first_raises_within_an_epoch(
    others: Others, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("trainers.loop._evaluation", fails)
    with pytest.raises(ZeroDivisionError):
        by_two(others, tiny(), Kept())
    assert others.ends == ["ended"]


def test_what_another_worker_raises_is_the_trials_outcome(others: Others) -> None:
    kept = Kept()
    with pytest.raises(WorkerFailed) as failed:
        by_two(others, tiny(), kept, fault="code")
    assert (str(failed.value), len(kept.epochs)) == ("worker 1: ValueError: no such class", 1)
    assert others.ends == ["ValueError: no such class\nat all"]
    with pytest.raises(UserError) as refused:
        by_two(others, tiny(), kept, fault="user")
    assert str(refused.value) == "worker 1: data.root: must be a folder"
    outcome = by_two(others, tiny(), kept, fault="memory")
    assert (outcome.outcome, outcome.reason) == (
        "out_of_memory",
        "worker 1: CUDA out of memory. Tried to allocate 2 GiB",
    )


@pytest.mark.slow
def test_a_trial_whose_worker_is_killed_says_so_and_goes_on_with_a_new_one(others: Others, tmp_path: Path) -> None:
    config, whole, kept, rest = tiny(), Kept(), Kept(), Kept()
    by_two(others, config, whole)
    with pytest.raises(WorkerLost, match="another worker of the trial is gone"):
        by_two(others, config, kept, tmp_path / "trial.pt", fault="killed")
    assert others.ends == ["gone"]
    assert len(checkpoint.load(tmp_path / "trial.pt")["history"]) == len(kept.epochs) == 1
    by_two(others, config, rest, tmp_path / "trial.pt")
    assert rest.numbers == whole.numbers


@pytest.mark.slow
def test_a_worker_whose_first_is_killed_says_so(tmp_path: Path) -> None:
    config = tiny()
    process, pipe = begun(lead_and_die, config, tmp_path / "trial.pt")
    store = found("127.0.0.1", pipe.recv(), 2)
    with joined(store, 1, 2, torch.device("cpu"), PATIENCE) as workers, pytest.raises(WorkerLost):
        join(config, workers)
    process.join(PATIENCE)
    assert process.exitcode == -9
