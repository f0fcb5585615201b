"""From where a trial goes on: never from a file that is damaged, another's, or put together by hand."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small import TINY, tiny

from trainers import archive, checkpoint, loop, resuming
from trainers.archive import Refused
from trainers.checkpoint import State
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.files import previous_path
from trainers.identity import trial_id
from trainers.loop import train
from trainers.record import DynamicsRecord, EpochRecord, ResumeRecord
from trainers.training import Training

TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
EVERY_EPOCH = {"every_epochs": 1}
EPOCHS = 4

Records = list[EpochRecord | DynamicsRecord]


def config(**values: Any) -> TrialConfig:
    return tiny(**{"epochs": EPOCHS, "checkpoint": EVERY_EPOCH, "keep": "both"} | values)


class Stopped(Exception):
    """What ends a trial in these tests."""


def run(trial: TrialConfig, path: Path, stop_after: int | None = None) -> tuple[Records, list[ResumeRecord]]:
    """The trial's records without times, up to the epoch after which it is stopped, and what was passed over."""
    records: Records = []
    passed: list[ResumeRecord] = []

    def report(record: EpochRecord | DynamicsRecord | ResumeRecord) -> None:
        if isinstance(record, ResumeRecord):
            passed.append(record)
            return
        records.append(replace(record, **TIMES) if isinstance(record, EpochRecord) else record)
        checkpoint.write_held()
        if record.epoch == stop_after:
            raise Stopped

    try:
        train(trial, report, path)
    except Stopped:
        assert stop_after is not None
    return records, passed


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial that was stopped after three epochs of four, for reading only."""
    folder = tmp_path_factory.mktemp("stopped")
    run(config(), folder / "trial.pt", stop_after=3)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What the trial gives that nothing disturbs."""
    return run(config(), tmp_path_factory.mktemp("undisturbed") / "trial.pt")[0]


@pytest.fixture
def path(stopped: Path, tmp_path: Path) -> Path:
    """The file of the stopped trial, with the one before beside it, to be damaged."""
    shutil.copytree(stopped, tmp_path / "trial")
    return tmp_path / "trial" / "trial.pt"


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(b"junk" * 100)


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def doubled(path: Path) -> None:
    path.write_bytes(2 * path.read_bytes())


def of_something_else(path: Path) -> None:
    archive.write(path, {"model": {}})


def of_no_mapping(path: Path) -> None:
    torch.save([1, 2], path)


def of_older_code(path: Path) -> None:
    torch.save({key: value for key, value in checkpoint.load(path).items() if key != archive.HASH}, path)


def removed(path: Path) -> None:
    path.unlink()


DAMAGE = [
    *(flipped, truncated, emptied, overwritten, appended, doubled, of_something_else, of_no_mapping),
    *(of_older_code, removed),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_gone_on_from_and_gives_the_numbers_of_a_trial_never_stopped(
    damage: Callable[[Path], None], path: Path, undisturbed: Records
) -> None:
    damage(path)
    records, passed = run(config(), path)
    assert records == undisturbed
    assert [(each.epoch, each.reason.startswith("trial.pt is ")) for each in passed] == [(2, True)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["trial.pt"]


@pytest.mark.parametrize("damage", DAMAGE[:-1])
def test_where_both_are_damaged_the_trial_begins_afresh_and_gives_the_same_numbers(
    damage: Callable[[Path], None], path: Path, undisturbed: Records
) -> None:
    damage(path)
    damage(previous_path(path))
    records, passed = run(config(), path)
    assert records == undisturbed
    assert [each.epoch for each in passed] == [0]
    assert passed[0].reason.startswith("trial.pt and trial.previous.pt is ")
    assert run(config(), path) == (undisturbed, [])


def test_nothing_is_said_of_checkpoints_that_are_not_damaged_nor_where_there_are_none(
    path: Path, undisturbed: Records, tmp_path: Path
) -> None:
    assert run(config(), path) == (undisturbed, [])
    assert run(config(), tmp_path / "new.pt") == (undisturbed, [])


def test_a_trial_that_was_killed_between_the_two_moves_of_a_write_goes_on_from_the_one_before(
    path: Path, undisturbed: Records
) -> None:
    os.replace(path, previous_path(path))
    records, passed = run(config(), path)
    assert records == undisturbed
    assert [(each.epoch, each.reason) for each in passed] == [(3, "trial.pt is not there")]


@pytest.mark.parametrize("moment", range(18))
def test_whenever_a_write_ends_in_the_middle_the_trial_goes_on_to_the_same_numbers(
    moment: int, undisturbed: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of the calls that move, remove or force to the disk; nothing after it is done, as after kill -9."""
    path, calls = tmp_path / "trial.pt", [0]

    def ending(call: Callable[..., Any]) -> Callable[..., Any]:
        def once(*args: Any, **options: Any) -> Any:
            calls[0] += 1
            if calls[0] > moment:
                raise Stopped
            return call(*args, **options)

        return once

    with monkeypatch.context() as broken:
        for name in ("replace", "fsync"):
            broken.setattr(os, name, ending(getattr(os, name)))
        broken.setattr(Path, "unlink", ending(Path.unlink))
        with pytest.raises(Stopped) if moment < 17 else nullcontext():
            train(config(), lambda record: checkpoint.write_held(), path)  # each, however slow the disk
    left = moment >= 4  # the first file was there
    assert [file.exists() for file in (path, previous_path(path))].count(True) >= left
    records, passed = run(config(), path)
    assert records == undisturbed
    assert [each.epoch for each in passed] == ([moment // 4] if moment % 4 > 1 and 4 < moment < 16 else [])
    assert [file.name for file in tmp_path.iterdir() if not file.name.startswith(".")] == ["trial.pt"]


def test_while_it_trains_two_files_are_kept_and_when_it_has_ended_one(path: Path) -> None:
    epochs = [len(checkpoint.load(file)["history"]) for file in (path, previous_path(path))]
    assert epochs == [3, 2]
    run(config(), path)
    assert [file.name for file in path.parent.iterdir()] == ["trial.pt"]


@pytest.mark.parametrize("keep", ["none", "last", "best", "both"])
def test_whatever_is_kept_nothing_is_left_of_the_checkpoint_before_when_a_trial_has_ended(
    keep: str, tmp_path: Path
) -> None:
    run(config(keep=keep), tmp_path / "trial.pt", stop_after=3)
    assert len(list(tmp_path.iterdir())) == 2
    run(config(keep=keep), tmp_path / "trial.pt")
    assert [file.name for file in tmp_path.iterdir()] == ["trial.pt"]


def diverging(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop.schedules, "lr_factor", lambda schedule, progress, epochs: 1e30 if progress >= 3 else 1.0)


def test_a_diverged_trial_keeps_one_file_and_one_that_failed_both(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(trial: Any, number: int) -> EpochRecord:
        raise RuntimeError

    with monkeypatch.context() as broken:
        broken.setattr(loop, "_epoch", failing)
        with pytest.raises(RuntimeError):
            train(config(), lambda record: None, path)
    assert len(list(path.parent.iterdir())) == 2
    diverging(monkeypatch)
    assert train(config(), lambda record: None, path).outcome == "diverged"
    assert [file.name for file in path.parent.iterdir()] == ["trial.pt"]


def test_a_state_with_numbers_that_are_not_finite_is_gone_on_from_and_diverges_as_it_would_have(
    path: Path, tmp_path: Path
) -> None:
    state = checkpoint.load(path)
    state["running"]["model"]["1.conv1.weight"].fill_(float("inf"))
    rewrite(path, state)
    passed: list[Any] = []
    outcome = train(config(), passed.append, path)
    assert (outcome.outcome, outcome.epochs) == ("diverged", 3)
    assert not any(isinstance(each, ResumeRecord) for each in passed)


# What is whole, and yet none to go on from


def rewrite(path: Path, state: State) -> None:
    """A file of that state, with a right hash."""
    archive.write(path, {key: value for key, value in state.items() if key != archive.HASH})


def without(*keys: str) -> Callable[[State], None]:
    """A change: the value at the end of these keys is gone."""

    def change(state: State) -> None:
        for key in keys[:-1]:
            state = state[key]
        del state[keys[-1]]

    return change


def with_(value: Any, *keys: Any) -> Callable[[State], None]:
    """A change: another value at the end of these keys."""

    def change(state: State) -> None:
        for key in keys[:-1]:
            state = state[key]
        state[keys[-1]] = value

    return change


def first(tensors: State) -> str:
    return next(iter(tensors))


def reshaped(state: State) -> None:
    model = state["running"]["model"]
    model[first(model)] = model[first(model)].flatten()


def of_halves(state: State) -> None:
    state["running"]["model"] = {name: each.half() for name, each in state["running"]["model"].items()}


def on_meta(state: State) -> None:
    state["running"]["model"] = {name: each.to("meta") for name, each in state["running"]["model"].items()}


def with_a_gap(state: State) -> None:
    del state["history"][1]


def doubled_epoch(state: State) -> None:
    state["history"].insert(1, state["history"][0])


def too_long(state: State) -> None:
    for number in (4, 5):
        state["history"].append(state["history"][-1] | {"epoch": number})


def shortened(state: State) -> None:
    del state["history"][-1]


def of_another_optimizer(state: State) -> None:
    for kept in state["running"]["optimizer"]["state"].values():
        kept["momentum_buffer"] = kept.pop("average")
        del kept["previous_average"]


def renamed(state: State) -> None:
    model = state["running"]["model"]
    state["running"]["model"] = {f"module.{name}": each for name, each in model.items()}


WRONG = {
    "another trial's": with_("0" * 12, "trial_id"),
    "other code's": with_("0" * 12, "code_version"),
    "no code's": without("code_version"),
    "no network": without("network"),
    "another network": with_(11, "network", "num_classes"),
    "no history": without("history"),
    "a number as history": with_(5, "history"),
    "an empty history": with_([], "history"),
    "a gap": with_a_gap,
    "an epoch twice": doubled_epoch,
    "more epochs than the trial": too_long,
    "less epochs than its state": shortened,
    "a negative epoch": with_(-1, "history", 0, "epoch"),
    "text as a number": with_("0.1", "history", 0, "lr"),
    "a loss that is not finite": with_(float("nan"), "history", 0, "train_robust_loss"),
    "records of another trial": with_("0" * 12, "history", 1, "trial_id"),
    "a record without its keys": with_({"epoch": 2, "trial_id": "0"}, "history", 1),
    "dynamics of a trial that measures none": with_([{"epoch": 1}], "dynamics"),
    "no weights": without("weights"),
    "weights of no epoch": without("weights", "best", "epoch"),
    "weights of another epoch": with_(99, "weights", "best", "epoch"),
    "last weights before the end": with_({"epoch": 4, "raw": {}}, "weights", "last"),
    "an average that the trial has not": with_({}, "weights", "best", "averaged"),
    "other weights": with_({}, "weights", "best", "raw"),
    "further keys": with_(1, "more"),
    "no running state": without("running"),
    "an unknown part": with_(1, "running", "more"),
    "the state of another epoch": with_(2, "running", "epoch"),
    "a lost parameter": lambda state: without("running", "model", first(state["running"]["model"]))(state),
    "another shape": reshaped,
    "another type": of_halves,
    "tensors without numbers": on_meta,
    "other names": renamed,
    "no tensors": with_([1, 2], "running", "model"),
    "no optimizer": with_(None, "running", "optimizer"),
    "another optimizer's state": of_another_optimizer,
    "an optimizer's state of a parameter that is not": with_({"average": 1}, "running", "optimizer", "state", 99),
    "an optimizer without state": with_({}, "running", "optimizer", "state"),
    "other settings": with_(0.5, "running", "optimizer", "param_groups", 0, "k2"),
    "other groups": with_([], "running", "optimizer", "param_groups"),
    "an average of the training": with_({"count": 1, "model": {}}, "running", "averaging"),
    "a perturbation": with_({"delta": torch.zeros(2)}, "running", "attack"),
}


@pytest.fixture(scope="module")
def deat(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Records]:
    """The folder of a trial with DEAT that was stopped after three epochs of four, and what one gives that was not."""
    folder = tmp_path_factory.mktemp("deat")
    trial = config(optimizer={"name": "deat"})
    whole = run(trial, folder / "whole" / "trial.pt")[0]
    run(trial, folder / "stopped" / "trial.pt", stop_after=3)
    return folder / "stopped", whole


@pytest.fixture(scope="module")
def check() -> Callable[[State], None]:
    """The check of the trial with DEAT."""
    trial = loop.with_fingerprint(config(optimizer={"name": "deat"}))
    return partial(resuming.check, config=trial, trial_id=trial_id(trial), training=Training.begin(trial))


@pytest.mark.parametrize("name", WRONG)
def test_a_readable_checkpoint_that_is_wrong_is_passed_over_for_the_one_before(
    name: str, deat: tuple[Path, Records], check: Callable[[State], None], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(deat[0], tmp_path / "trial")) / "trial.pt"
    state = checkpoint.load(path)
    check(state)
    WRONG[name](state)
    rewrite(path, state)
    taken, passed = resuming.newest(path, check)
    assert taken is not None
    assert len(taken["history"]) == 2
    assert passed.startswith("trial.pt ")
    assert "\n" not in passed


@pytest.mark.parametrize("name", ["another trial's", "more epochs than the trial", "another shape"])
def test_after_a_readable_checkpoint_that_is_wrong_a_trial_gives_the_numbers_of_one_never_stopped(
    name: str, deat: tuple[Path, Records], tmp_path: Path
) -> None:
    path = Path(shutil.copytree(deat[0], tmp_path / "trial")) / "trial.pt"
    state = checkpoint.load(path)
    WRONG[name](state)
    rewrite(path, state)
    records, passed = run(config(optimizer={"name": "deat"}), path)
    assert records == deat[1]
    assert [each.epoch for each in passed] == [2]


OTHERS: dict[str, tuple[dict[str, Any], dict[str, Callable[[State], None]]]] = {
    "adamw": (
        {"optimizer": {"name": "adamw"}},
        {"a step of another shape": with_(torch.zeros(2), "running", "optimizer", "state", 0, "step")},
    ),
    "momentum and ema": (
        {"optimizer": {"momentum": 0.9}, "averaging": {"name": "ema"}},
        {
            "no average": with_(None, "running", "averaging"),
            "a negative count": with_(-1, "running", "averaging", "count"),
            "other averaged weights": with_({}, "running", "averaging", "model"),
            "no momentum": with_({}, "running", "optimizer", "state"),
        },
    ),
    "sgd": (
        {"optimizer": {"momentum": 0.0}},
        {"momentum": with_({0: {"momentum_buffer": None}}, "running", "optimizer")},
    ),
    "free": ({"attack": {"radius": 0.15, "replays": 2}}, {"no perturbation": with_({}, "running", "attack")}),
    "free, cropped": (
        {"attack": {"radius": 0.15, "replays": 2}, "data": TINY["data"] | {"crop_size": 6}},
        {"the perturbation of whole images": with_({"delta": torch.zeros(32, 1, 8, 8)}, "running", "attack")},
    ),
    "a user's own": (
        {"optimizer": {"name": "torch.optim:RMSprop", "code": "torch", "lr": 0.001}},
        {"no groups": with_([], "running", "optimizer", "param_groups")},
    ),
    "measured": (
        {"dynamics": {"every": 2, "images": 64, "eigenpairs": 1, "directions": 1, "probes": 2, "batches": 4}},
        {"a measurement lost": with_([], "dynamics"), "one without a value": without("dynamics", 0, "trace")},
    ),
}


def is_refused(path: Path, own: TrialConfig) -> bool:
    try:
        resuming.check(checkpoint.load(path), own, trial_id(own), Training.begin(own))
    except Refused:
        return True
    return False


@pytest.mark.parametrize("name", OTHERS)
def test_each_kind_of_trial_goes_on_from_its_own_state_and_from_none_that_lacks_a_part(
    name: str, tmp_path: Path
) -> None:
    values, changes = OTHERS[name]
    trial, path = config(**values), tmp_path / "trial.pt"
    run(trial, path, stop_after=2)
    state = checkpoint.load(path)
    for what, change in changes.items():
        damaged = copy.deepcopy(state)
        change(damaged)
        rewrite(path, damaged)
        own = loop.with_fingerprint(trial)
        assert is_refused(path, own), what
    rewrite(path, state)
    assert run(trial, path)[1] == []


def test_swapped_files_of_two_trials_are_gone_on_from_by_neither(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "other.pt"
    run(config(seed=5), other, stop_after=3)
    for file in (path, other):
        previous_path(file).unlink()
    held = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(held)
    for trial, file in ((config(), path), (config(seed=5), other)):
        records, passed = run(trial, file)
        assert [each.epoch for each in passed] == [0]
        assert " is of another trial, " in passed[0].reason
        assert records == run(trial, tmp_path / "new" / file.name)[0]


def test_a_checkpoint_of_other_code_is_not_gone_on_from(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (checkpoint, resuming):
        monkeypatch.setattr(module, "code_version", lambda: "0123456789ab")
    passed = run(config(), path)[1]
    assert [each.epoch for each in passed] == [0]
    assert passed[0].reason.startswith("trial.pt and trial.previous.pt is of other code (")
    assert run(config(), path)[1] == []


def test_a_file_that_cannot_be_read_now_lets_no_trial_begin_afresh(path: Path, undisturbed: Records) -> None:
    previous_path(path).unlink()
    held = path.read_bytes()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=r"trial\.pt: cannot be read: it is no file; mend that, or remove it: the tr"):
        run(config(), path)
    path.rmdir()
    path.write_bytes(held)
    assert run(config(), path) == (undisturbed, [])


def test_a_folder_in_the_place_of_the_newest_is_moved_aside_and_the_one_before_gone_on_from(
    path: Path, undisturbed: Records
) -> None:
    path.unlink()
    (path / "kept").mkdir(parents=True)
    records, (resumed,) = run(config(), path)
    assert (records, resumed.reason) == (undisturbed, "trial.pt cannot be read: it is no file")
    assert resumed.epoch > 0
    assert (path.parent / "trial.pt.folder" / "kept").is_dir()


def test_storage_that_goes_away_while_data_are_loaded_lets_no_trial_begin_afresh(
    path: Path, undisturbed: Records, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, away, begin = tmp_path / "run", tmp_path / "away", Training.begin
    (folder / "checkpoints").mkdir(parents=True)
    moved = shutil.copy(path, folder / "checkpoints")

    def unmounted(*args: Any, **options: Any) -> Training:
        folder.rename(away)
        return begin(*args, **options)

    monkeypatch.setattr(Training, "begin", unmounted)
    monkeypatch.setattr("trainers.files.time.sleep", lambda seconds: away.exists() and away.rename(folder))
    assert run(config(), Path(moved)) == (undisturbed, [])
    assert not away.exists()


def test_best_weights_that_were_kept_before_and_not_since_are_not_taken_for_the_best(tmp_path: Path) -> None:
    path = tmp_path / "trial.pt"
    run(config(keep="best"), path, stop_after=1)
    run(config(keep="last"), path, stop_after=3)
    assert checkpoint.load(path)["weights"] == {}
    passed = run(config(keep="best"), path)[1]
    assert [each.epoch for each in passed] == [0]
    assert passed[0].reason.endswith("lacks the best weights so far, which keep: best needs")


# Whatever somebody puts in its place


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
    st.just(torch.zeros(3)),
    st.just(torch.tensor(float("nan"))),
)


def places(value: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Of every value within, the keys that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [*([above] if above else []), *(place for key, each in inner for place in places(each, (*above, key)))]


def gone_on_or_refused(path: Path, folder: Path, where: float, junk: Any) -> None:
    state = checkpoint.load(folder / "trial.pt")
    known = places(state)
    with_(junk, *known[int(where * (len(known) - 1))])(state)
    path.parent.mkdir(exist_ok=True)
    rewrite(path, state)
    previous_path(path).unlink(missing_ok=True)
    reported: list[Any] = []
    outcome = train(config(optimizer={"name": "deat"}, epochs=EPOCHS), reported.append, path)
    assert outcome.outcome in ("completed", "diverged")


@settings(max_examples=10, derandomize=True, database=None, deadline=None)
@given(where=st.floats(0, 1), junk=JUNK)
def test_whatever_stands_in_a_checkpoint_the_trial_ends_with_an_outcome(
    where: float, junk: Any, deat: tuple[Path, Records], tmp_path_factory: Any
) -> None:
    gone_on_or_refused(Path(tmp_path_factory.getbasetemp()) / "junk" / "trial.pt", deat[0], where, junk)


@pytest.mark.slow
@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(where=st.floats(0, 1), junk=JUNK)
def test_whatever_stands_in_a_checkpoint_the_trial_ends_with_an_outcome_many_times(
    where: float, junk: Any, deat: tuple[Path, Records], tmp_path_factory: Any
) -> None:
    gone_on_or_refused(Path(tmp_path_factory.getbasetemp()) / "junk" / "trial.pt", deat[0], where, junk)
