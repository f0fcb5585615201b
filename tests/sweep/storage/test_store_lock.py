"""One command at a time works on a run in a store, whichever machine it is on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from sweep.storage import lock
from sweep.storage.lock import StoreLock, holder
from sweep.storage.objects import Address, Store
from trainers.errors import UserError

pytestmark = pytest.mark.usefixtures("quick")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "PAUSE", 0.05)
    monkeypatch.setattr(lock, "STALE", 2.0)


@pytest.fixture
def store(bucket: str, machine: Callable[[str], None]) -> Store:
    machine("one")
    return Store(Address("s3", bucket, "run"))


def lost(reason: str) -> None:
    pytest.fail(reason)


def test_a_run_is_held_in_a_block_and_told_of(store: Store) -> None:
    assert holder(store) is None
    with StoreLock(store, "sweep launch, process 1", "a", lost):
        assert holder(store) == "sweep launch, process 1"
        with pytest.raises(UserError, match=r"is in use by another command \(sweep launch, process 1\)"):
            StoreLock(store, "sweep launch, process 2", "b", lost).__enter__()
    assert holder(store) is None
    with StoreLock(store, "sweep launch, process 2", "b", lost):
        assert len(store.list(lock.FOLDER)) == 1


def test_what_a_killed_command_left_is_taken_after_its_time_and_at_once_from_the_same_folder(store: Store) -> None:
    for cache, soonest, latest in (("b", 0.5, 30.0), ("a", 0.0, 0.5 * lock.STALE)):
        left = StoreLock(store, "killed", "a", lost)
        left._take()  # and never writes again
        began = time.monotonic()
        with StoreLock(store, "next", cache, lost):
            assert soonest <= time.monotonic() - began <= latest
            assert holder(store) == "next"


def test_a_lock_of_another_machine_with_the_same_folder_is_not_left_over(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a cache in a home that machines share, on storage that has locks for each machine alone."""
    with StoreLock(store, "lives", "a", lost):
        monkeypatch.setattr(lock, "machine", lambda: "another")
        with pytest.raises(UserError, match=r"is in use by another command \(lives\)"):
            StoreLock(store, "next", "a", lost).__enter__()


def test_a_holder_that_stood_still_for_too_long_is_told_that_the_run_was_taken(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = list[str]()
    stands = threading.Event()
    held = StoreLock(store, "stood", "a", told.append)
    monkeypatch.setattr(held, "_beat", lambda beat=held._beat: (stands.wait(), beat()))
    with held, StoreLock(store, "next", "b", lost):
        stands.set()
        deadline = time.monotonic() + 30
        while not told:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert holder(store) == "next"
    assert told == [f"{store.address}: another command has taken the run, as this one stood still"]


def test_of_many_that_want_a_run_at_once_never_two_hold_it(store: Store) -> None:
    inside, most, ended = list[int](), list[int](), list[str]()

    def want(number: int) -> None:
        own = Store(store.address)
        try:
            with StoreLock(own, f"process {number}", str(number), lost):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.3)
                inside.remove(number)
                ended.append("held")
        except UserError as error:
            ended.append("refused" if "is in use" in str(error) else str(error))

    threads = [threading.Thread(target=want, args=(number,)) for number in range(5)]
    with ExitStack() as all_of_them:
        for thread in threads:
            thread.start()
            all_of_them.callback(thread.join)
    assert set(most) == {1}
    assert "held" in ended
    assert set(ended) <= {"held", "refused"}
    assert len(ended) == 5
