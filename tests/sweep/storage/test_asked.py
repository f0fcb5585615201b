"""What is asked of a launch whose run lies in a store, from its own machine and from others."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from faults_harness import until
from object_store import S3
from pyarrow import fs

from sweep.cli import main
from sweep.run import requests
from sweep.run.requests import Asked
from sweep.storage import cache, mirror
from sweep.storage.asked import FOLDER, Carrier, brought
from sweep.storage.objects import Address, Store
from trainers.errors import UserError
from trainers.record import EpochRecord, NoteRecord, OutcomeRecord, RecordFile

TRIAL = "0123456789ab"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store that is a folder of this disk, of which nothing is asked over a network."""
    (tmp_path / "bucket" / "run" / FOLDER).mkdir(parents=True)
    return Store(Address("s3", "bucket", "run"), fs.SubTreeFileSystem(str(tmp_path), fs.LocalFileSystem()))


def machine(tmp_path: Path, name: str, store: Store) -> tuple[Path, Carrier]:
    (tmp_path / name).mkdir()
    return tmp_path / name, Carrier(tmp_path / name, store)


def test_what_is_asked_or_taken_back_on_one_side_is_on_the_other_after_the_next_look(
    tmp_path: Path, store: Store
) -> None:
    one, carries = machine(tmp_path, "one", store)
    other, asks = machine(tmp_path, "other", store)
    requests.pause(other)
    requests.cancel(other, TRIAL)
    requests.note(other, NoteRecord(TRIAL, 1000 * "\N{PILE OF POO}", 20 * (64 * "a",)))  # the longest that there can be
    asks.carry()
    carries.carry()
    assert requests.asked(one).cancel == {TRIAL}
    assert requests.asked(one).notes == requests.asked(other).notes != {}
    requests.taken(one, *requests.asked(one).notes)
    assert requests.asked(one).paused == requests.asked(other).paused != ""
    requests.done(one, TRIAL, undo=False)  # by the launch
    carries.carry()
    asks.carry()
    requests.resume(other)
    asks.carry()
    carries.carry()
    assert requests.asked(one) == requests.asked(other) == Asked()
    assert store.list(FOLDER) == {}


def test_two_sides_that_ask_at_random_agree_once_both_have_looked(tmp_path: Path, store: Store) -> None:
    rng = random.Random(0)
    both = [machine(tmp_path, name, store) for name in ("one", "other")]
    for _ in range(200):
        folder, carrier = rng.choice(both)
        carrier.carry()
        match rng.randrange(4):
            case 0:
                requests.set_to(folder, "max_concurrent", rng.choice([None, 1, 2, 3]))
            case 1:
                requests.cancel(folder, TRIAL, rng.random() < 0.5)
            case 2:
                requests.done(folder, TRIAL, undo=rng.random() < 0.5)
            case _:
                requests.pause(folder) if rng.random() < 0.5 else requests.resume(folder)
        wanted = requests.asked(folder)
        carrier.carry()
        for _ in range(2):  # the second time for stamps of one second, or less
            for _, each in both:
                each.carry()
        assert requests.asked(both[0][0]) == requests.asked(both[1][0]) == wanted


def test_what_the_store_has_holds_where_a_launch_begins(tmp_path: Path, store: Store) -> None:
    one, carrier = machine(tmp_path, "one", store)
    requests.pause(one)  # of an earlier launch here; it was taken back from elsewhere since
    store.write(f"{FOLDER}/cancel-{TRIAL}", b"")
    carrier.bring()
    assert requests.asked(one) == Asked(cancel=frozenset({TRIAL}))
    assert set(store.list(FOLDER)) == {f"cancel-{TRIAL}"}


def test_what_is_no_request_is_left_where_it_is(tmp_path: Path, store: Store) -> None:
    one, carrier = machine(tmp_path, "one", store)
    for name in ("set-../x", "cancel-", "other", f"cancel-{TRIAL}.part"):
        if "/" not in name:
            store.write(f"{FOLDER}/{name}", b"1")
    store.write(f"{FOLDER}/paused", b"x" * 20_000)
    (one / FOLDER).mkdir()
    (one / FOLDER / "cancel-ab").symlink_to("/dev/zero")
    (one / FOLDER / ".paused-n1.1-x.part").touch()
    carrier.carry()
    assert requests.asked(one).paused == ""
    assert len(store.list(FOLDER)) == 4


def test_commands_on_another_machine_ask_the_launch_that_holds_the_run(
    s3: S3, bucket: str, machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "EVERY", 0.0)
    monkeypatch.setattr(mirror, "PAUSE", 0.01)
    run = f"s3://{bucket}/run"

    def sweep(*words: str) -> str:
        done = CliRunner().invoke(main, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    machine("one")
    address = Address.of(run)
    assert address is not None
    one = cache.folder(address)
    with mirror.held(one, "sweep launch"):
        file = RecordFile(one)
        launched = {"time": 1.0, "command": "c", "code_version": "v", "size": 1, "wanted": [TRIAL], "decides": None}
        file.append("launch", {**launched, "metric": "val_robust", "mode": "max"})
        file.close()
        until(lambda: s3.records(f"{bucket}/run"), "records")
        machine("other")
        assert "the launch that runs stops at the next epochs" in sweep("pause", run)
        assert "the launch that runs takes it up" in sweep("set", run, "max_concurrent=3")
        until(lambda: requests.asked(one).settings == {"max_concurrent": 3} and requests.asked(one).paused, "both")
        assert f"sweep resume {run} goes on" in sweep("pause", run)  # a second time
        assert "paused since" in sweep("status", run)
        assert "the launch that runs takes it up" in sweep("resume", run)
        until(lambda: not requests.asked(one).paused, "resumed")
        machine("one")
    machine("third")
    assert "no launch is running: it holds for the next one" in sweep("set", run, "max_concurrent=null")
    machine("one")
    brought(one)
    assert requests.asked(one) == Asked()


def test_of_a_run_in_a_store_messages_name_the_address_and_audit_refuses_it(
    bucket: str, machine: Callable[[str], None]
) -> None:
    machine("one")
    run = f"s3://{bucket}/run"
    address = Address.of(run)
    assert address is not None
    one = cache.folder(address)
    with mirror.held(one, "sweep launch"):
        file = RecordFile(one)
        file.append("launch", {"time": 1.0, "size": 1, "wanted": [TRIAL], "metric": "val_robust", "mode": "max"})
        config = {"model": {"name": "small_cnn"}, "optimizer": {"name": "sgd", "lr": 0.1}, "epochs": 1}
        file.append("trial", {"trial_id": TRIAL, "number": 0, "config": config, "point": {}, "seed": 0})
        file.append("epoch", EpochRecord(TRIAL, 1, 0.1, val_robust=0.5, seconds=2.0))
        file.append("outcome", OutcomeRecord(TRIAL, "completed", "", 1))
        file.close()
    for words, says in {
        ("cancel", run, TRIAL): f"sweep: {run}: trial {TRIAL} has ended",
        ("note", run, "f", "x"): f"sweep: {run}: no trial begins with 'f'; `sweep results {run}` lists their ids",
        ("show", run, "f"): f"sweep: {run}: no trial begins with 'f'; `sweep results {run}` lists their ids",
        ("sync", run): f"sweep: {run}: its config has no trackers; name one: sweep sync {run} tensorboard",
        ("audit", run): f"sweep: Invalid value for 'DIR': '{run}': must be a path of this machine here",
    }.items():
        assert CliRunner().invoke(main, list(words)).stderr.startswith(says)


def test_of_an_ordinary_directory_nothing_is_brought(tmp_path: Path) -> None:
    brought(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_while_the_run_is_brought_for_too_long_is_refused_and_not_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_PATIENCE", 0.2)
    with cache.claimed(tmp_path) as reader:
        assert reader is None
        with pytest.raises(UserError, match="another command is still bringing the run here; give this one again"):
            cache.claimed(tmp_path).__enter__()
