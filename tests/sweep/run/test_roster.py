"""Nodes that come and go: what the looks at them tell the packing and the screen. Ray is played by the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faults_harness import until
from ray.exceptions import GetTimeoutError

from sweep.config import ResourcesConfig
from sweep.run import nodes, ray_packing, roster, waiting
from sweep.run.packing import Packing, Peak
from sweep.run.roster import MOST, Roster
from sweep.run.seats import Node
from sweep.run.signals import RayGone
from trainers.errors import UserError

BAD = "--out run: node bad does not see it; give a folder that all nodes share"


class Cluster:
    """A Ray of nodes by id, which answer at once but for those that are slow; a node's probe is its id."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.up: dict[str, dict[str, Any]] = {}
        self.slow: set[str] = set()
        self.asked: list[str] = []
        self.now = 0.0
        monkeypatch.setattr(roster, "ray", SimpleNamespace(nodes=lambda: list(self.up.values()), wait=self._wait))
        monkeypatch.setattr(roster, "time", SimpleNamespace(monotonic=lambda: self.now))
        monkeypatch.setattr(nodes, "check_probe", self._check)
        monkeypatch.setattr(nodes, "answer", lambda name, reference: reference)
        monkeypatch.setattr(ray_packing, "memory", lambda node, resources: 2**30)
        monkeypatch.setattr(waiting, "given_back", lambda group: None)
        monkeypatch.setattr(waiting, "more", lambda resources, known: frozenset(known))

    def add(self, name: str, host: str = "", cpus: float = 2) -> None:
        has = {"CPU": cpus} if cpus else {}
        self.up[name] = {"NodeID": name, "NodeManagerHostname": host or name, "Alive": True, "Resources": has}

    def _wait(self, tasks: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return [task for task in tasks if task not in self.slow], []

    def _check(self, name: str, directory: Path, inputs: Any, probe: str) -> None:
        if probe.startswith("bad"):
            raise UserError(BAD)
        if probe.startswith("gone"):
            raise nodes.NodeGone("node gone: went away while it was asked")

    def looked(self, watch: Roster, packing: Packing[int], times: int = 1) -> list[str]:
        """What is said after so many looks."""
        for _ in range(times):
            watch._look(lambda node: self.asked.append(node["NodeID"]) or node["NodeID"])
        return list(watch.news(packing))


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster(monkeypatch)
    made.add("first")
    return made


def watch(memory: bool = False, wait: float = 0.0) -> Roster:
    return Roster(Path("run"), {}, ResourcesConfig(cpu=2), ["first"], memory, wait)


def packing() -> Packing[int]:
    trials = iter(range(99))
    return Packing([Node(2, name="first")], 2, 0, lambda: next(trials, None))


def test_a_node_that_joins_is_asked_once_and_gets_trials_once_it_has_answered(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    assert cluster.looked(roster, given) == []
    cluster.add("second")
    cluster.slow.add("second")
    assert cluster.looked(roster, given, 3) == []
    assert given.names() == {"first"}
    cluster.slow.clear()
    assert cluster.looked(roster, given, 3) == ["node second has joined: trials run on 2 nodes now"]
    assert cluster.asked == ["second"]
    assert len(list(iter(given.next, None))) == 2


def test_a_node_that_fails_is_left_out_with_one_line_and_asked_again_only_where_it_joins_anew(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("bad")
    assert cluster.looked(roster, given, 5) == [f"left out, a node that joined: {BAD}"]
    del cluster.up["bad"]
    assert cluster.looked(roster, given, 5) == []
    cluster.add("good", "bad")
    assert cluster.looked(roster, given, 5) == ["node bad has joined: trials run on 2 nodes now"]
    assert given.names() == {"first", "good"}


def test_a_node_that_leaves_is_let_go_and_the_last_one_too(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("second")
    cluster.looked(roster, given)
    cluster.up["first"]["Alive"] = False
    assert cluster.looked(roster, given, 2) == ["node first has left: trials run on 1 node now"]
    cluster.up["second"]["Alive"] = False
    cluster.add("third", cpus=0)  # an answer of Ray in which nobody is up says nothing
    assert cluster.looked(roster, given, 2) == ["node second has left: trials run on no nodes now"]
    assert given.names() == frozenset()


@pytest.mark.parametrize(("wait", "seconds"), [(0.0, 30), (15.0, 900)])
def test_a_share_of_a_card_that_no_node_is_as_large_as_is_waited_for_and_no_longer_than_for_a_node(
    wait: float, seconds: int, cluster: Cluster
) -> None:
    trials, roster, paused = iter(range(1)), watch(wait=wait), [False]
    roster._paused = lambda: paused[0]
    large, small = (Node(2, 1, size * 2**30, name) for name, size in (("first", 80), ("small", 24)))
    given = Packing([large], 2, None, lambda: next(trials, None), peaks={"": Peak(2**34, 2**30)})
    assert given.next() is not None
    given.join(small)
    given.leave("first")
    assert given.next() is None
    waits = f"waiting up to {seconds} s for a node with a card of 80.0 GiB for trials that had one"
    assert list(roster.news(given)) == [waits]
    paused[0], cluster.now = True, 1.0 + seconds
    assert list(roster.news(given)) == []
    paused[0] = False
    assert list(roster.news(given)) == [waits]
    cluster.now += seconds
    assert list(roster.news(given)) == []
    cluster.now += 1
    with pytest.raises(RayGone, match=f"^for {seconds} s no node has been up with a card of 80.0 GiB .*; a new launch"):
        list(roster.news(given))


def test_a_node_that_goes_while_it_is_asked_is_left_out_with_one_line(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("gone")
    cluster.slow.add("gone")
    assert cluster.looked(roster, given) == []
    del cluster.up["gone"]
    assert cluster.looked(roster, given, 3) == ["node gone went away while it was asked: left out"]
    cluster.add("gone-too")
    assert cluster.looked(roster, given) == ["node gone-too went away while it was asked: left out"]


def test_a_node_that_does_not_answer_is_told_of_once_and_waited_for(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("busy")
    cluster.slow.add("busy")
    cluster.looked(roster, given)
    cluster.now = nodes.PATIENCE + 1
    assert cluster.looked(roster, given, 3) == [
        "node busy has not answered for 300 s: no trials run there until it does"
    ]
    cluster.slow.clear()
    assert cluster.looked(roster, given) == ["node busy has joined: trials run on 2 nodes now"]


def test_hosts_of_one_name_are_told_apart_by_id(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("0123456789abcdef", "first")
    assert cluster.looked(roster, given) == ["node first (01234567) has joined: trials run on 2 nodes now"]


def test_a_node_without_cores_is_not_asked_for_it_would_never_answer(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("store", cpus=0)
    assert cluster.looked(roster, given, 3) == []
    assert cluster.asked == []


def test_a_node_is_asked_for_its_memory_where_trials_are_packed_by_it(cluster: Cluster) -> None:
    given, roster = packing(), watch(memory=True)
    cluster.add("second")
    cluster.looked(roster, given)
    assert [node.memory for node in given.room.nodes.values()] == [None, 2**30]


def test_where_no_node_has_room_any_more_it_is_said_what_is_waited_for_and_ray_is_asked_for_it(
    cluster: Cluster,
) -> None:
    given, roster = packing(), watch(wait=10)
    cluster.add("small", cpus=1)
    cluster.looked(roster, given)
    del cluster.up["first"]
    assert cluster.looked(roster, given, 3) == [
        "node first has left: trials run on 1 node now",
        "waiting for a node with 2 CPU, up to 10 min",
    ]
    assert roster._demands == [{"small"}]
    cluster.add("large")
    cluster.looked(roster, given, 3)
    assert roster._demands == []


def test_where_the_nodes_have_no_room_together_for_a_trials_workers_nodes_are_waited_for(cluster: Cluster) -> None:
    given = packing()
    roster = Roster(Path("run"), {}, ResourcesConfig(cpu=2, workers=2), ["first"], False, 10)
    cluster.add("second")
    assert cluster.looked(roster, given, 2) == ["node second has joined: trials run on 2 nodes now"]
    assert roster._demands == []
    del cluster.up["second"]
    assert cluster.looked(roster, given, 2) == [
        "node second has left: trials run on 1 node now",
        "waiting for nodes with room for 2 workers with 2 CPU each, up to 10 min",
    ]
    assert roster._demands == [{"first"}]


def test_an_autoscaler_is_asked_for_as_many_as_would_run_on_nodes_that_are_not_there_yet(cluster: Cluster) -> None:
    given, roster = packing(), watch(wait=10)
    asked = roster._demands
    for number in (3, 5, 1, 0, 1000):
        roster.more = number
        assert cluster.looked(roster, given) == []
        assert asked == [{"first"}] * min(number, MOST)
    cluster.add("second")
    cluster.slow.add("second")
    cluster.looked(roster, given)
    assert asked == []  # until it is known whether the one that came has room
    cluster.slow.clear()
    cluster.looked(roster, given)
    cluster.looked(roster, given)
    assert asked == [{"first", "second"}] * MOST
    del cluster.up["second"]
    cluster.looked(roster, given)
    assert asked == [{"first"}] * MOST


def test_once_paused_and_at_the_end_an_autoscaler_is_asked_for_nothing(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    paused = False
    roster = Roster(Path("run"), {}, ResourcesConfig(cpu=2), ["first"], False, 10, lambda: paused)
    roster.more = 3
    cluster.looked(roster, packing())
    assert len(roster._demands) == 3
    paused = True
    cluster.looked(roster, packing())
    assert roster._demands == []
    paused = False
    cluster.looked(roster, packing())
    monkeypatch.setattr(nodes, "probing", lambda *where: nullcontext())
    with roster.followed():
        assert len(roster._demands) == 3
    assert roster._demands == []


def test_a_call_to_ray_that_fails_once_ends_no_looks(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, joined = list[str](), threading.Event()

    def more(resources: ResourcesConfig, known: Iterable[str]) -> frozenset[str]:
        asked.append("more")
        if len(asked) == 2:
            raise GetTimeoutError("GCS comes up again")
        return frozenset(known)

    monkeypatch.setattr(waiting, "more", more)
    monkeypatch.setattr(nodes, "probing", lambda *where: nullcontext(lambda node: joined.set() or node["NodeID"]))
    monkeypatch.setattr("sweep.run.roster.PAUSE", 0.01)
    roster = watch(wait=10)
    roster.more = 3
    with roster.followed():
        until(lambda: len(roster._demands) == 3, "the call that failed is not made again")
        cluster.add("second")
        assert joined.wait(60)


def test_room_on_a_node_that_failed_is_none(cluster: Cluster) -> None:
    given, roster = packing(), watch(wait=10)
    cluster.add("bad")
    cluster.looked(roster, given)
    del cluster.up["first"]
    assert "waiting for a node with 2 CPU, up to 10 min" in cluster.looked(roster, given, 3)


def test_without_a_wait_nothing_is_asked_of_ray(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("small", cpus=1)
    cluster.looked(roster, given)
    del cluster.up["first"]
    roster.more = 3
    assert cluster.looked(roster, given, 3) == ["node first has left: trials run on 1 node now"]
    assert roster._demands == []


def test_a_node_that_joins_while_the_storage_is_away_is_asked_once_it_is_back(cluster: Cluster) -> None:
    given, roster = packing(), watch()
    cluster.add("second")

    def away(node: object) -> None:
        raise OSError

    roster._look(away)
    assert cluster.looked(roster, given, 2) == ["node second has joined: trials run on 2 nodes now"]
    assert cluster.asked == ["second"]
