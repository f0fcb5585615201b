"""A trial's one file: whole at every moment, when it is written beside the training, and which weights it keeps."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from trainers import archive, checkpoint, loop
from trainers.archive import Refused
from trainers.checkpoint import kept_weights
from trainers.config import CheckpointConfig, TrialConfig
from trainers.errors import UserError
from trainers.identity import trial_id
from trainers.loop import train
from trainers.record import DynamicsRecord, EpochRecord

FullDisk = Callable[..., AbstractContextManager[None]]


def config(**values: Any) -> TrialConfig:
    tiny = {
        "data": {"name": "digits", "validation_fraction": 0.2, "train_per_class": 10, "test_per_class": 5},
        "model": {"name": "small_cnn"},
        "batch_size": 32,
        "attack": {"radius": 0.15, "step_size": 0.04, "steps": 1},
        "evaluation": {"steps": 1, "splits": ["val"]},
    }
    return TrialConfig.model_validate(tiny | values)


#: val_robust by epoch: the best inside, met again by a later one, then lost.
SCORES = (0.2, 0.6, 0.4, 0.6, 0.1)
BEST = 2


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Epochs that train nothing: each fills the weights with its number, and is averaged; see `SCORES`."""

    def epoch(trial: Any, number: int) -> EpochRecord:
        for value in trial.model.state_dict().values():  # batch norm's statistics too
            if value.is_floating_point():
                value.fill_(number + 1)
        if trial.averaging is not None:
            trial.averaging.after_epoch(trial.model, number)
        due = (number + 1) % trial.config.evaluation.every == 0
        return EpochRecord(trial.id, number + 1, 0.1, val_robust=SCORES[number] if due else None)

    monkeypatch.setattr(loop, "_epoch", epoch)


class Stopped(Exception):
    """What kills a trial in these tests."""


def run(trial: TrialConfig, path: Path, stop_after: int | None = None) -> None:
    """Trains until the end, or until so many epochs are reported."""

    def report(record: EpochRecord | DynamicsRecord) -> None:
        if record.epoch == stop_after:
            raise Stopped

    try:
        train(trial, report, path)
    except Stopped:
        assert stop_after is not None


def filled(weights: dict[str, Tensor]) -> float:
    """The one number that the scripted epochs have put into every weight."""
    floats = [values for values in weights.values() if torch.is_tensor(values) and values.is_floating_point()]
    (number,) = {value for values in floats for value in values.flatten().tolist()}
    return float(number)


# Which weights are kept


@pytest.mark.parametrize(
    ("keep", "held"), [("none", {}), ("last", {"last": 5}), ("best", {"best": 2}), ("both", {"last": 5, "best": 2})]
)
@pytest.mark.parametrize("stop_after", [None, 1, 2, 3, 4])
def test_the_best_weights_are_those_of_the_earliest_epoch_with_the_highest_val_robust_whenever_it_was_stopped(
    stop_after: int | None, keep: str, held: dict[str, int], scripted: None, tmp_path: Path
) -> None:
    trial, path = config(epochs=len(SCORES), keep=keep), tmp_path / "trial.pt"
    if stop_after:
        run(trial, path, stop_after)
    run(trial, path)
    weights = torch.load(path, weights_only=True)["weights"]
    assert {which: state["epoch"] for which, state in weights.items()} == held
    assert {which: filled(kept_weights(path, which)) for which in held} == held


def test_the_best_averaged_weights_are_the_average_as_it_was_in_the_best_epoch(scripted: None, tmp_path: Path) -> None:
    trial, path = config(epochs=5, keep="both", averaging={"name": "swa", "start": 0}), tmp_path / "trial.pt"
    run(trial, path, stop_after=3)
    run(trial, path)
    assert filled(kept_weights(path, "best", averaged=True)) == (1 + 2) / 2
    assert filled(kept_weights(path, "last", averaged=True)) == (1 + 2 + 3 + 4 + 5) / 5


def test_an_epoch_that_was_not_evaluated_is_not_the_best(scripted: None, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    run(config(epochs=5, keep="best", evaluation={"every": 3, "steps": 1}), path)
    assert filled(kept_weights(path, "best")) == 3


def test_without_an_evaluation_there_are_no_best_weights(scripted: None, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    run(config(epochs=3, keep="both", evaluation={"every": 9, "steps": 1}), path)
    assert set(torch.load(path, weights_only=True)["weights"]) == {"last"}


@pytest.mark.parametrize(
    ("before", "begins_afresh"), [("last", True), ("none", True), ("best", False), ("both", False)]
)
@pytest.mark.parametrize("keep", ["best", "both"])
def test_a_trial_whose_best_weights_were_not_kept_before_it_stopped_begins_afresh_where_they_are_wanted(
    keep: str, before: str, begins_afresh: bool, scripted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, trained, epoch = tmp_path / "trial.pt", [], loop._epoch
    run(config(epochs=5, keep=before), path, stop_after=3)
    monkeypatch.setattr(loop, "_epoch", lambda trial, number: (trained.append(number), epoch(trial, number))[1])
    run(config(epochs=5, keep=keep), path)
    assert trained == ([0, 1, 2, 3, 4] if begins_afresh else [3, 4])
    assert filled(kept_weights(path, "best")) == BEST


def test_a_trial_that_has_ended_does_not_run_again_for_weights_that_were_not_to_be_kept(
    scripted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"
    run(config(epochs=5, keep="last"), path)
    monkeypatch.setattr(loop, "_epoch", lambda trial, number: pytest.fail("trained again"))
    run(config(epochs=5, keep="best"), path)
    assert set(torch.load(path, weights_only=True)["weights"]) == {"last"}


def test_a_trial_of_which_the_last_weights_are_wanted_goes_on_whatever_was_kept_before(
    scripted: None, tmp_path: Path
) -> None:
    path = tmp_path / "trial.pt"
    run(config(epochs=5, keep="best"), path, stop_after=3)
    run(config(epochs=5, keep="last"), path)
    assert set(torch.load(path, weights_only=True)["weights"]) == {"last"}


def test_while_it_trains_the_file_holds_what_the_rest_needs_and_at_its_end_only_what_is_kept(
    scripted: None, tmp_path: Path
) -> None:
    trial, path = config(epochs=5, keep="both", averaging={"name": "swa", "start": 0}), tmp_path / "trial.pt"
    run(trial, path, stop_after=3)
    before = torch.load(path, weights_only=True)
    assert set(before["running"]) == {"epoch", "model", "optimizer", "averaging", "attack"}
    assert set(before["weights"]) == {"best"}
    run(trial, path)
    ended = torch.load(path, weights_only=True)
    assert set(ended) == {"hash", "code_version", "trial_id", "network", "history", "dynamics", "weights"}
    assert len(ended["history"]) == 5


def test_weights_that_are_not_there_are_asked_for_in_vain_with_a_way_out(scripted: None, tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    with pytest.raises(
        UserError, match=r"trial\.pt: no such checkpoint; launch into another --out with --set trial\.keep=last"
    ):
        kept_weights(path, "last")
    run(config(epochs=1), path)
    with pytest.raises(
        UserError, match="must hold the best weights, and holds last; choose of those, or launch into another"
    ):
        kept_weights(path, "best")
    with pytest.raises(
        UserError, match=r"its last weights, of epoch 1, have no average; take the raw ones, or a trial"
    ):
        kept_weights(path, "last", averaged=True)
    path.write_bytes(b"junk")
    with pytest.raises(UserError, match="is damaged"):
        kept_weights(path, "last")


# When it is written


def epochs_in(path: Path) -> list[int]:
    """The epochs of a checkpoint's history; none where there is no file."""
    state = checkpoint.load(path) if path.exists() else {"history": []}
    return [epoch["epoch"] for epoch in state["history"]]


#: Nothing makes a file due but the first epoch and the last.
RARELY = {"every_epochs": None, "every_minutes": None}


def test_what_is_reported_is_in_the_checkpoint_as_soon_as_a_signal_wants_it(scripted: None, tmp_path: Path) -> None:
    path, held = tmp_path / "trial.pt", []

    def report(record: EpochRecord | DynamicsRecord) -> None:
        checkpoint.write_held()
        held.append((record.epoch, epochs_in(path)))

    train(config(epochs=3, checkpoint=RARELY), report, path)
    assert held == [(1, [1]), (2, [1, 2]), (3, [1, 2, 3])]
    path.unlink()
    checkpoint.write_held()
    assert not path.exists()  # the trial has ended


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The epochs of every file, in the order in which their writing began."""
    found: list[int] = []
    save = checkpoint.save
    monkeypatch.setattr(
        checkpoint, "save", lambda path, state: (found.append(len(state["history"])), save(path, state))
    )
    return found


def idle() -> None:
    """Waits until no file is being written."""
    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (RARELY, [1, 5]),
        ({"every_epochs": 1, "every_minutes": None}, [1, 2, 3, 4, 5]),
        ({"every_epochs": 2, "every_minutes": None}, [1, 3, 5]),
        ({"every_epochs": 3, "every_minutes": None}, [1, 4, 5]),
        ({"every_epochs": None, "every_minutes": 1}, [1, 3, 5]),
        ({"every_epochs": None, "every_minutes": 1.5}, [1, 4, 5]),
        ({"every_epochs": 2, "every_minutes": 1.5}, [1, 3, 5]),
        ({"every_epochs": 3, "every_minutes": 1}, [1, 3, 5]),
        ({"every_epochs": None, "every_minutes": 0}, [1, 2, 3, 4, 5]),
        ({}, [1, 3, 5]),
    ],
)
def test_a_file_is_written_after_the_first_epoch_whenever_either_count_is_full_and_after_the_last(
    every: dict[str, Any],
    expected: list[int],
    scripted: None,
    written: list[int],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """An epoch takes 30 s."""
    clock, epoch = [0.0], loop._epoch

    def timed(trial: Any, number: int) -> EpochRecord:
        clock[0] += 30
        return epoch(trial, number)

    monkeypatch.setattr(loop, "_epoch", timed)
    monkeypatch.setattr(checkpoint, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    train(config(epochs=5, checkpoint=every), lambda record: idle(), tmp_path / "trial.pt")
    assert written == expected


def test_when_files_are_written_is_no_part_of_a_trial() -> None:
    named = config(data=config().data.model_dump() | {"fingerprint": "digits-0000"})
    often = named.model_copy(update={"checkpoint": CheckpointConfig(every_epochs=1, every_minutes=None)})
    assert trial_id(named) == trial_id(often)


@pytest.mark.parametrize("every", [{"every_epochs": 1}, {"every_epochs": 3, "every_minutes": None}, RARELY])
@pytest.mark.parametrize("crash", [1, 3, 5])
def test_a_process_that_dies_between_two_files_costs_the_epochs_since_and_no_number_changes(
    every: dict[str, Any], crash: int, written: list[int], tmp_path: Path
) -> None:
    trial, path, left = config(epochs=6, checkpoint=every, keep="both"), tmp_path / "trial.pt", tmp_path / "left.pt"
    whole: list[EpochRecord | DynamicsRecord] = []

    def report(record: EpochRecord | DynamicsRecord) -> None:
        whole.append(timeless(record))
        idle()
        if record.epoch == crash:
            shutil.copy(path, left)  # what a process that died here leaves

    train(trial, report, path)
    files = list(written)
    newest = max(epoch for epoch in files if epoch <= crash)
    again: list[EpochRecord | DynamicsRecord] = []
    train(trial, lambda record: again.append(timeless(record)), left)
    assert again == whole
    assert written[len(files)] == newest + 1
    for which in ("last", "best"):
        one, other = kept_weights(path, which), kept_weights(left, which)
        assert all(torch.equal(one[name], other[name]) for name in one)


def timeless(record: EpochRecord | DynamicsRecord) -> EpochRecord | DynamicsRecord:
    times = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
    return replace(record, **times) if isinstance(record, EpochRecord) else record


@pytest.mark.parametrize("stop_after", [1, 2, 4])
def test_a_trial_that_is_stopped_leaves_the_last_epoch_that_it_reported(
    stop_after: int, scripted: None, tmp_path: Path
) -> None:
    run(config(epochs=5, checkpoint=RARELY), tmp_path / "trial.pt", stop_after)
    assert epochs_in(tmp_path / "trial.pt") == list(range(1, stop_after + 1))


def test_a_slow_disk_does_not_stop_the_training_and_what_waits_for_it_is_replaced(
    scripted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, save, seen, began = tmp_path / "trial.pt", checkpoint.save, [], []
    begun, free = threading.Event(), threading.Event()

    def slow(at: Path, state: checkpoint.State) -> None:
        began.append(len(state["history"]))
        begun.set()
        assert free.wait(timeout=60)
        save(at, state)

    def report(record: EpochRecord | DynamicsRecord) -> None:
        seen.append((record.epoch, epochs_in(path)))
        assert begun.wait(timeout=60)
        if record.epoch == 4:
            free.set()

    monkeypatch.setattr(checkpoint, "save", slow)
    train(config(epochs=5, checkpoint={"every_epochs": 1}), report, path)
    assert seen == [(1, []), (2, []), (3, []), (4, []), (5, [1, 2, 3, 4, 5])]
    assert began[0] == 1
    assert began[-1] == 5
    assert set(began) <= {1, 4, 5}  # what came while the first was written took each other's place


def test_who_ends_the_process_waits_for_a_trials_last_file_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path, save, begun, free = tmp_path / "trial.pt", checkpoint.save, threading.Event(), threading.Event()

    def slow(at: Path, state: checkpoint.State) -> None:
        begun.set()
        assert free.wait(timeout=60)
        save(at, state)

    def train() -> None:
        with checkpoint.Writer(path, CheckpointConfig()) as writer:
            writer.hold({"epoch": 1})

    monkeypatch.setattr(checkpoint, "save", slow)
    threads = [threading.Thread(target=each) for each in (train, checkpoint.write_held)]
    threads[0].start()
    assert begun.wait(timeout=60)
    time.sleep(0.2)  # the block has ended, and waits for its file
    threads[1].start()
    threads[1].join(0.2)
    assert threads[1].is_alive()
    free.set()
    for thread in threads:
        thread.join(60)
    assert checkpoint.load(path)["epoch"] == 1


def test_where_no_thread_can_start_a_trial_does_not_wait_for_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(threading.Thread, "start", Mock(side_effect=RuntimeError("can't start new thread")))
    with (
        pytest.raises(RuntimeError, match="can't start new thread"),
        checkpoint.Writer(tmp_path / "trial.pt", CheckpointConfig()) as writer,
    ):
        writer.hold({"epoch": 1})
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_writing_ends_the_trial_at_its_next_epoch(
    scripted: None, full_disk: FullDisk, tmp_path: Path
) -> None:
    path, reported = tmp_path / "trial.pt", []

    def report(record: EpochRecord | DynamicsRecord) -> None:
        reported.append(record.epoch)
        idle()

    with full_disk(after=1000), pytest.raises(UserError, match=r"trial\.pt: cannot be written: File too large"):
        train(config(epochs=5, checkpoint=RARELY), report, path)
    assert reported == [1]
    assert list(tmp_path.iterdir()) == []


def test_a_last_file_that_cannot_be_written_is_an_error_and_its_epoch_is_not_reported(
    scripted: None, full_disk: FullDisk, tmp_path: Path
) -> None:
    reported: list[int] = []
    with full_disk(after=1000), pytest.raises(UserError, match=r"trial\.pt: cannot be written: File too large"):
        train(config(epochs=1), lambda record: reported.append(record.epoch), tmp_path / "trial.pt")
    assert reported == []


def test_a_trial_that_is_stopped_and_cannot_write_is_stopped_all_the_same_and_the_log_says_so(
    scripted: None, full_disk: FullDisk, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with full_disk(after=1000):
        run(config(epochs=5, checkpoint=RARELY), tmp_path / "trial.pt", stop_after=1)
    (line,) = caplog.records
    assert "trial.pt: cannot be written: File too large" in line.getMessage()


def test_the_seconds_of_a_checkpoint_are_its_own_epochs_and_at_the_last_the_files_too(
    scripted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A copy takes 1 s, a file 10 s."""
    clock, state, save, seconds = [0.0], loop.checkpoint_state, checkpoint.save, []

    def took(amount: float, value: Any) -> Any:
        clock[0] += amount
        return value

    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    monkeypatch.setattr(loop, "checkpoint_state", lambda trial: took(1, state(trial)))
    monkeypatch.setattr(checkpoint, "save", lambda path, state: took(10, save(path, state)))

    def report(record: EpochRecord | DynamicsRecord) -> None:
        assert isinstance(record, EpochRecord)
        seconds.append(record.checkpoint_seconds)
        idle()

    path = tmp_path / "trial.pt"
    train(config(epochs=3, checkpoint=RARELY), report, path)
    assert seconds == [1, 1, 11]
    kept = checkpoint.load(path)
    assert [epoch["checkpoint_seconds"] for epoch in kept["history"]] == [1, 1, 1]


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.mark.parametrize("device", DEVICES)
def test_training_that_goes_on_does_not_change_what_was_copied(device: str) -> None:
    model = torch.nn.Conv2d(512, 512, 3, device=device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = checkpoint.copied({"model": model.state_dict(), "steps": [torch.ones(3, device=device)], "epoch": 7})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1)
    assert all(each.device.type == "cpu" for each in found["model"].values())
    assert all(torch.equal(value.cpu(), found["model"][name]) for name, value in before.items())
    assert found["model"]["weight"].is_contiguous(memory_format=torch.channels_last)
    assert found["steps"][0].tolist() == [1, 1, 1]
    assert found["epoch"] == 7


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", [{"name": "deat"}, {"name": "sgd", "momentum": 0.9}])
def test_the_file_holds_the_state_of_its_epoch_though_training_goes_on(
    optimizer: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The file of epoch 1 is written when epoch 2 has been trained."""
    trial, path = config(epochs=2, device=device, optimizer=optimizer, checkpoint=RARELY), tmp_path / "trial.pt"
    expected, found, epoch, save = {}, {}, loop._epoch, checkpoint.save
    begun, go = threading.Event(), threading.Event()

    def watched(running: Any, number: int) -> EpochRecord:
        if number == 1:
            assert begun.wait(timeout=60)
            expected.update({name: value.clone() for name, value in running.model.state_dict().items()})
        record = epoch(running, number)
        if number == 1:
            go.set()
        return record

    def late(at: Path, state: checkpoint.State) -> None:
        if len(state["history"]) == 1:
            begun.set()
            assert go.wait(timeout=60)
            found.update(state["running"]["model"])
        save(at, state)

    monkeypatch.setattr(loop, "_epoch", watched)
    monkeypatch.setattr(checkpoint, "save", late)
    train(trial, lambda record: None, path)
    assert expected.keys() == found.keys()
    assert all(torch.equal(value.cpu(), found[name]) for name, value in expected.items())
    last = kept_weights(path, "last")
    assert any(not torch.equal(last[name], found[name]) for name in last)


def test_dynamics_are_in_the_checkpoint_before_their_epoch_is_reported_and_come_after_it(
    scripted: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, seen = tmp_path / "trial.pt", []
    monkeypatch.setattr(loop.measurement, "check", lambda *_: None)
    monkeypatch.setattr(loop.measurement, "measure", lambda trial, epoch, lr, *_: measured(trial, epoch, lr))

    def report(record: EpochRecord | DynamicsRecord) -> None:
        checkpoint.write_held()
        state = checkpoint.load(path) if path.exists() else {"dynamics": []}
        seen.append((type(record).__name__, record.epoch, [each["epoch"] for each in state["dynamics"]]))

    trial = config(epochs=3, dynamics={"every": 2}, schedule={"name": "constant", "warmup_epochs": 1})
    train(trial, report, path)
    assert seen == [
        ("DynamicsRecord", 0, []),  # nothing is trained yet that could be lost
        ("EpochRecord", 1, [0]),
        ("EpochRecord", 2, [0, 2]),
        ("DynamicsRecord", 2, [0, 2]),
        ("EpochRecord", 3, [0, 2, 3]),
        ("DynamicsRecord", 3, [0, 2, 3]),
    ]
    state = checkpoint.load(path)
    assert [each["lr"] for each in state["dynamics"]] == [0.0, 0.1, 0.1]
    order = [each[:2] for each in seen]
    seen.clear()
    train(trial, report, path)
    assert [each[:2] for each in seen] == order


def measured(config: TrialConfig, epoch: int, lr: float) -> DynamicsRecord:
    """Of one batch size, along no direction."""
    lists = ("Row", "tuple")
    least: dict[str, Any] = {each.name: () if each.type.startswith(lists) else 1 for each in fields(DynamicsRecord)}
    sizes = {"batch_sizes": (1,), "noise_traces": (0.0,), "noise_trace_errors": (0.0,)}
    none = {"eigenpairs": 0, "variances": ((),), "kurtoses": ((),)}
    return DynamicsRecord(**(least | sizes | none | {"trial_id": trial_id(config), "epoch": epoch, "lr": lr}))


# How it is written


def numbered(number: int) -> dict[str, Any]:
    return {"number": number, "weights": torch.full((1000,), float(number))}


def number_in(path: Path) -> int:
    state = checkpoint.load(path)
    return int(state["number"])


def test_the_first_checkpoint_of_a_run_makes_its_folder(tmp_path: Path) -> None:
    with checkpoint.Writer(tmp_path / "run" / "checkpoints" / "trial.pt", CheckpointConfig()) as writer:
        writer.hold(numbered(1))
    assert number_in(tmp_path / "run" / "checkpoints" / "trial.pt") == 1


class Program:
    """An object whose unpickling runs something."""

    ran: list[str] = []  # noqa: RUF012

    def __reduce__(self) -> tuple[Any, ...]:
        return self.ran.append, ("ran",)


def test_a_file_that_would_run_something_when_it_is_read_is_an_unreadable_checkpoint(tmp_path: Path) -> None:
    archive.write(tmp_path / "trial.pt", {"code_version": checkpoint.code_version(), "weights": Program()})
    with pytest.raises(Refused, match=r"torch\.load does not read it with weights_only=True \(UnpicklingError\)"):
        checkpoint.load(tmp_path / "trial.pt")
    with pytest.raises(UserError, match="is damaged"):
        checkpoint.kept_weights(tmp_path / "trial.pt", "last")
    assert Program.ran == []


def test_where_memory_runs_out_a_checkpoint_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise MemoryError

    checkpoint.save(tmp_path / "trial.pt", numbered(1))
    monkeypatch.setattr(torch, "load", full)
    with pytest.raises(MemoryError):
        checkpoint.load(tmp_path / "trial.pt")


def test_a_write_that_fails_in_the_middle_leaves_the_old_checkpoint_whole(tmp_path: Path, full_disk: FullDisk) -> None:
    path = tmp_path / "trial.pt"
    checkpoint.save(path, numbered(1))
    before = path.read_bytes()
    free = shutil.disk_usage(tmp_path).free / 1e6
    with full_disk(after=1000), pytest.raises(UserError) as caught:
        checkpoint.save(path, numbered(2))
    said = re.fullmatch(
        rf"{path}: cannot be written: File too large: it takes (\S+) MB, beside those of before, and "
        r"(\S+) MB are free; make room, and the same command goes on",
        str(caught.value),
    )
    assert said is not None
    assert float(said[1]) == pytest.approx(len(before) / 1e6, rel=0.01)
    assert float(said[2]) == pytest.approx(free, rel=0.2)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    checkpoint.save(path, numbered(3))
    assert number_in(path) == 3


def test_at_every_moment_the_newest_or_the_one_before_is_whole_and_the_new_one_on_the_disk_before_it_is_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a process leaves that is killed before one of these calls, or at their end."""
    path, before, seen = tmp_path / "trial.pt", tmp_path / "trial.previous.pt", []
    fsync, replace = os.fsync, os.replace

    def numbers() -> tuple[int, ...]:
        return tuple(number_in(each) if each.exists() else 0 for each in (path, before))

    def forced(file: int) -> None:
        seen.append(("fsync", *numbers(), os.fstat(file).st_size))
        fsync(file)

    def moved(source: Path, target: Path) -> None:
        seen.append(("replace", *numbers(), number_in(Path(source))))
        replace(source, target)

    for number in (1, 2):
        checkpoint.save(path, numbered(number))
    monkeypatch.setattr(os, "fsync", forced)
    monkeypatch.setattr(os, "replace", moved)
    checkpoint.save(path, numbered(3))
    size = path.stat().st_size
    assert seen == [("fsync", 2, 1, size), ("replace", 2, 1, 2), ("fsync", 0, 2, size), ("replace", 0, 2, 3)]
    assert numbers() == (3, 2)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["trial.previous.pt", "trial.pt"]
