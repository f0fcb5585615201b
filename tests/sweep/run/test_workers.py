"""The other workers of a trial: what becomes of it when one of them raises, dies or does not come."""

from __future__ import annotations

import os
import queue
import socket
import threading
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest
import torch

from sweep.run import worker_processes, workers
from sweep.run.workers import Death, Reply, Team, TrialEnded, WorkerDied
from trainers.record import OutcomeRecord
from trainers.workers import Workers, found, opened

PATIENCE = 60  # s, on a machine that is busy with other things

ENDED = Reply(None, (None, None))
RAISED = Reply(OutcomeRecord("t", "failed", "worker 1 of 2: why", 0), (None, None))


class Said:
    """Other workers that do nothing, and end as they are told."""

    def __init__(self, number: int = 1) -> None:
        self.number, self.host = number, "127.0.0.1"
        self.ends = queue.SimpleQueue[tuple[int, Reply | Death]]()
        self.killed: list[str] = []

    def begin(self, work: Mapping[str, Any]) -> None:
        """Nothing begins."""

    def ended(self) -> tuple[int, Reply | Death]:
        return self.ends.get()

    def end(self) -> None:
        self.killed.append("all")
        for rank in range(1, self.number + 1):
            self.ends.put((rank, Death("killed")))


def watched(others: Said, acts: list[Exception]) -> tuple[Team, threading.Thread]:
    team = Team(Workers(0, others.number + 1))
    thread = threading.Thread(target=team.watch, args=(others, "t", acts.append), daemon=True)
    thread.start()
    return team, thread


def test_a_worker_whose_process_died_is_acted_upon_at_once_and_named() -> None:
    others, acts = Said(2), list[Exception]()
    team, thread = watched(others, acts)
    others.ends.put((2, Death("its process (7) ended by signal SIGKILL")))
    assert team.wait(PATIENCE, failed=True)
    others.ends.put((1, Death("of no more interest")))
    thread.join(PATIENCE)
    (died,) = acts
    assert str(died) == "worker 2 of 3: its process (7) ended by signal SIGKILL"
    assert team.failure is died


def test_a_worker_that_was_killed_for_want_of_memory_ends_the_trial_as_out_of_memory() -> None:
    others = Said()
    team, _ = watched(others, [])
    others.ends.put((1, Death("the system killed its process for want of memory", of_memory=True)))
    assert team.wait(PATIENCE, failed=True)
    assert isinstance(team.failure, TrialEnded)
    outcome = team.failure.outcome
    assert (outcome.outcome, outcome.reason) == (
        "out_of_memory",
        "worker 1 of 2: the system killed its process for want of memory",
    )


def test_a_worker_that_raised_is_acted_upon_only_where_the_first_does_not_see_it_by_itself(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for seen in (True, False):
        others, acts = Said(), list[Exception]()
        monkeypatch.setattr(workers, "_SEES", PATIENCE if seen else 0)
        team, thread = watched(others, acts)
        others.ends.put((1, RAISED))
        assert team.wait(PATIENCE, failed=True)
        if seen:
            team.over()
        thread.join(PATIENCE)
        assert [str(type(act).__name__) for act in acts] == ([] if seen else ["TrialEnded"])
        assert isinstance(team.failure, TrialEnded)
        assert team.failure.outcome == RAISED.outcome


def test_how_a_worker_ends_after_the_training_is_of_no_matter() -> None:
    others, acts = Said(), list[Exception]()
    team, thread = watched(others, acts)
    team.over()
    others.ends.put((1, Death("it was killed")))
    thread.join(PATIENCE)
    assert (acts, team.failure) == ([], None)


@pytest.mark.parametrize(
    ("end", "kind", "words"),
    [(RAISED, TrialEnded, "OutcomeRecord"), (Death("gone"), WorkerDied, "worker 1 of 2: gone")],
)
def test_a_worker_that_fails_before_it_is_there_ends_the_waiting(
    end: Reply | Death, kind: type[Exception], words: str
) -> None:
    others = Said()
    others.ends.put((1, end))
    with pytest.raises(kind, match=words), workers.beside(others, {"name": "t"}, torch.device("cpu"), lambda why: None):
        pytest.fail("it trains")


def test_workers_that_do_not_end_with_the_training_are_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "STOPPING", 0.0)
    monkeypatch.setattr(workers, "_await", lambda store, team, size: (_ for _ in ()).throw(KeyError("the trial's own")))
    others = Said(3)
    with pytest.raises(KeyError), workers.beside(others, {"name": "t"}, torch.device("cpu"), lambda why: None):
        pytest.fail("it trains")
    assert others.killed == ["all"]


class Process:
    """Of a worker, as its first one knows it."""

    pid = 7

    def __init__(self) -> None:
        self.code: int | None = None

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.code = -9

    def wait(self) -> int | None:
        return self.code


def test_processes_that_began_where_another_could_not_are_ended_and_their_replies_no_later_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    theirs, begun = list[Connection](), list[Process]()

    def started(module: str) -> tuple[Process, Connection]:
        ours, other = Pipe()
        theirs.append(other)
        begun.append(Process())
        return begun[-1], ours

    monkeypatch.setattr(worker_processes, "started", started)
    others = worker_processes.Processes(2)
    others._each[2][1].close()
    with pytest.raises(OSError, match="closed"):
        others.begin({"name": "old"})
    assert [one.code for one in begun] == [-9, -9]
    with pytest.raises(OSError, match=r"Broken|reset"):  # who replies late speaks to nobody
        theirs[0].send((RAISED, True))
    others.begin({"name": "new"})
    assert [each.recv()["name"] for each in theirs[2:]] == ["new", "new"]
    theirs[2].send((ENDED, True))
    assert others.ended() == (1, ENDED)


def test_actors_that_began_where_another_could_not_are_ended_and_their_replies_no_later_trials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from sweep.run import ray_workers

    class Actor:
        """Takes part, unless it cannot be told to."""

        def __init__(self, fails: bool) -> None:
            self.fails, self.take_part = fails, self

        def remote(self, place: str, work: Mapping[str, Any]) -> tuple[Actor, str]:
            if self.fails:
                raise ValueError("it cannot be sent")
            return self, work["name"]

    ends = list[Actor]()

    def start(actors: ray_workers.Actors, rank: int) -> None:
        actors._each[rank] = Actor(fails=rank == 2 and not ends)

    monkeypatch.setattr(ray_workers, "_address", lambda: "127.0.0.1")
    monkeypatch.setattr(ray_workers.Actors, "_start", start)
    monkeypatch.setattr(ray_workers.ray, "kill", ends.append)
    others = ray_workers.Actors(None, 2, "there")  # type: ignore[arg-type]
    first = others._each[1]
    with pytest.raises(ValueError, match="sent"):
        others.begin({"name": "old"})
    assert ends == [first]
    others._each[2].fails = False
    others.begin({"name": "new"})
    assert [name for _, name in others._busy] == ["new", "new"]


def test_a_trial_without_others_has_itself_alone_and_takes_the_memory_that_it_takes() -> None:
    with workers.beside(None, {}, torch.device("cpu"), lambda why: None) as team:
        assert team.workers.alone
        assert team.taken((5, 2)) == (5, 2)
        assert team.taken((None, None)) == (None, None)


def test_a_trial_takes_the_memory_of_the_worker_that_took_most() -> None:
    others = Said(3)
    team, thread = watched(others, [])
    for rank, memory in enumerate([(7, 1), (4, 3), (None, None)], start=1):
        others.ends.put((rank, Reply(None, memory)))  # type: ignore[arg-type]
    thread.join(PATIENCE)
    assert team.taken((5, 2)) == (7, 3)


def test_gloo_takes_the_network_of_the_address_unless_somebody_chose_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    with workers.on_network("127.0.0.1"):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    with workers.on_network("192.0.2.1"):  # of no machine, as RFC 5737 says
        assert "GLOO_SOCKET_IFNAME" not in os.environ
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    with workers.on_network("127.0.0.1"):
        assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"
    assert os.environ["GLOO_SOCKET_IFNAME"] == "ib0"


def test_workers_meet_at_one_address_of_the_machine_alone() -> None:
    store = opened("127.0.0.1", 2)
    found("127.0.0.1", store.port, 2).set("here", "1")
    assert store.get("here") == b"1"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", store.port))
