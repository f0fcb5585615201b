"""How long a launch waits for nodes, what it says of it, and which clusters are taken to autoscale."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.config import ResourcesConfig
from sweep.run import nodes, waiting
from trainers.errors import UserError


def report(*kinds: str) -> str:
    return json.dumps({"autoscaler_report": {"active_nodes": dict.fromkeys(kinds, 1)}})


@pytest.mark.parametrize(
    ("groups", "status", "expected"),
    [
        (None, None, False),  # as a Ray of `ray start` is in its first seconds
        (None, report("node_0123"), False),  # and later
        (None, json.dumps({"autoscaler_report": None}), False),
        (None, report("ray.head.default"), True),  # of `ray up`
        ([SimpleNamespace(max_count=0)], None, False),
        ([SimpleNamespace(max_count=0), SimpleNamespace(max_count=4)], None, True),  # of KubeRay
    ],
)
def test_a_cluster_autoscales_where_it_may_start_nodes_or_knows_kinds_of_them(
    groups: Any, status: str | None, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = None if groups is None else SimpleNamespace(node_group_configs=groups)
    monkeypatch.setattr(waiting, "state", SimpleNamespace(get_cluster_config=lambda: config))
    monkeypatch.setattr(waiting, "_internal_kv_get", lambda key: status)
    assert waiting.autoscales() is expected


@pytest.mark.parametrize(
    ("given", "least", "scales", "expected"),
    [(None, None, False, 0), (None, None, True, 15), (None, 3, False, 15), (0, None, True, 0), (2.5, 3, True, 2.5)],
)
def test_a_launch_waits_as_long_as_it_is_told_else_where_a_node_may_come(
    given: float | None, least: int | None, scales: bool, expected: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "autoscales", lambda: scales)
    assert waiting.minutes(ResourcesConfig(wait_minutes=given), least) == expected


class Clock:
    """Nodes with so many GPUs come up, one a look; an hour is over after so many looks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *gpus: int) -> None:
        self.looks, self.events = 0, []
        self.gpus = gpus
        monkeypatch.setattr(nodes, "nodes_up", self._up)
        monkeypatch.setattr(waiting, "time", SimpleNamespace(monotonic=lambda: 60.0 * self.looks, sleep=lambda s: None))
        monkeypatch.setattr(waiting, "demand", lambda resources, number: self.events.append(number))
        monkeypatch.setattr(waiting, "given_back", lambda group: self.events.append("given back"))

    def _up(self) -> list[dict[str, Any]]:
        self.looks += 1
        return [{"Resources": {"CPU": 8, "GPU": gpus}} for gpus in self.gpus[: self.looks]]


ASKED = ResourcesConfig(cpu=4, gpu=1)


def test_a_node_that_comes_is_waited_for_and_what_was_asked_of_ray_is_given_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, said = Clock(monkeypatch, 0, 0, 2), []
    waiting.await_nodes(ASKED, None, 10, said.append)
    assert said == ["waiting for a node with 4 CPU and 1 GPU, up to 10 min"]
    assert (clock.looks, clock.events) == (3, [1, "given back"])


def test_nothing_is_asked_where_there_is_room_or_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    for gpus, wait in ((1, 10.0), (0, 0.0)):
        clock = Clock(monkeypatch, gpus)
        waiting.await_nodes(ASKED, None, wait, pytest.fail)
        assert clock.events == []


def test_after_the_wait_the_launch_goes_on_to_say_what_no_node_has(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, 0)
    waiting.await_nodes(ASKED, None, 5, lambda line: None)
    assert clock.events == [1, "given back"]
    with pytest.raises(UserError, match=r"^resources.gpu: a trial asks for 1 GPU, and no node has more than 0; "):
        nodes.most_at_once(ASKED, None)


def test_so_many_nodes_as_are_asked_for_are_waited_for_and_too_few_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, said = Clock(monkeypatch, 1, 0, 1, 1), []
    waiting.await_nodes(ASKED, 3, 10, said.append)
    assert said == ["waiting for 3 nodes with 4 CPU and 1 GPU, up to 10 min"]
    assert clock.events == [3, "given back"]
    Clock(monkeypatch, 1, 0)
    with pytest.raises(
        UserError,
        match=r"^--min-nodes 2: after 5 min 1 node with room for a trial is up; start more, ask for fewer, or ",
    ):
        waiting.await_nodes(ASKED, 2, 5, said.append)


def test_room_for_all_workers_of_a_trial_is_waited_for_on_whatever_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, said = ResourcesConfig(cpu=4, gpu=1, workers=3), []
    clock = Clock(monkeypatch, 1, 1, 0, 1)
    waiting.await_nodes(asked, None, 10, said.append)
    assert said == ["waiting for nodes with room for 3 workers with 4 CPU and 1 GPU each, up to 10 min"]
    assert (clock.looks, clock.events) == (4, [1, "given back"])


def test_with_min_nodes_so_many_are_waited_for_and_then_room_for_all_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, said = ResourcesConfig(cpu=4, gpu=1, workers=3), []
    clock = Clock(monkeypatch, 1, 1, 1, 1)
    waiting.await_nodes(asked, 2, 10, said.append)
    assert said == ["waiting for 2 nodes with 4 CPU and 1 GPU, up to 10 min"]
    assert clock.events == [2, "given back"]
    clock = Clock(monkeypatch, 1, 1)
    waiting.await_nodes(asked, 2, 5, said.append)
    assert said[2:] == ["waiting for nodes with room for 3 workers with 4 CPU and 1 GPU each, up to 5 min"]
    assert clock.events == [2, "given back", 1, "given back"]
    with pytest.raises(UserError, match=r"^resources.workers: .* and the nodes hold 2 at once; lower it "):
        nodes.most_at_once(asked, None)
    Clock(monkeypatch, 1, 0)
    with pytest.raises(UserError, match=r"^--min-nodes 2: after 5 min 1 node with room for a worker is up; start more"):
        waiting.await_nodes(asked, 2, 5, said.append)


def test_ray_is_asked_for_a_bundle_for_each_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[Any] = []
    monkeypatch.setattr(waiting, "placement_group", lambda *asked, **on: groups.append((*asked, *on.values())))
    asked, bundle = ResourcesConfig(cpu=4, gpu=1, workers=2), {"CPU": 4, "GPU": 1}
    waiting.demand(asked, 1)
    waiting.demand(asked, 3)
    waiting.more(asked, ["b", "a"])
    new = ([bundle] * 2, "PACK", [{"ray.io/node-id": "!in(a,b)"}] * 2)
    assert groups == [([bundle] * 2, "PACK"), ([bundle] * 3, "STRICT_SPREAD"), new]
