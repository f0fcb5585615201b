"""On which nodes Ray is asked for room, and that it is asked anew where they change."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from sweep.run import placing, ray_tune
from sweep.run.packing import Packing
from sweep.run.placing import Placing, Request
from sweep.run.ray_tune import TuneController, ray
from sweep.run.seats import Node

GIB = 2**30


def packing(*nodes: Node) -> Packing[int]:
    return Packing(nodes, 1, 0, lambda: None)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """The label selectors of what Ray is asked for, in order."""
    selectors: list[list[dict[str, str]]] = []

    def placement_group(bundles: Any, strategy: str, bundle_label_selector: list[dict[str, str]]) -> Any:
        selectors.append(bundle_label_selector)
        return Mock()

    monkeypatch.setattr(placing, "placement_group", placement_group)
    return selectors


def test_requests_for_the_same_of_the_same_cards_are_equal_on_whatever_nodes() -> None:
    one, other = Request({"CPU": 1.0}, 0), Request({"CPU": 1.0}, 0)
    assert one.on("ab") == other.on("c")
    assert hash(one.on("ab")) == hash(other)
    assert one != Request({"CPU": 1.0}, GIB)
    assert one != Request({"CPU": 2.0}, 0)
    assert one != Request({"CPU": 1.0}, 0, workers=2)


def test_ray_is_asked_for_room_on_the_nodes_whose_cards_are_large_enough(asked: list[Any]) -> None:
    nodes = Node(1, 1, 40 * GIB, "small"), Node(1, 1, 80 * GIB, "large"), Node(1, 1, None, "unknown")
    manager = Placing.on(packing(*nodes))
    for least in (0, 80 * GIB):
        manager.request_resources(Request({"GPU": 1.0}, least))
    assert asked == [[{"ray.io/node-id": "in(large,small,unknown)"}], [{"ray.io/node-id": "in(large,unknown)"}]]


def test_each_worker_of_a_trial_asks_for_a_bundle_on_those_nodes(asked: list[Any]) -> None:
    manager, request = Placing.on(packing(Node(1, name="a"), Node(1, name="b"))), Request({"CPU": 0.5}, 0, workers=3)
    manager.request_resources(request)
    assert asked == [[{"ray.io/node-id": "in(a,b)"}] * 3]
    assert request.bundles == [{"CPU": 0.5}] * 3


@pytest.fixture
def manager(local_ray: None) -> Iterator[Placing]:
    """Of a packing on a node that is none."""
    made = Placing.on(packing(Node(1, name="f" * 56)))
    yield made
    made.clear()


def test_what_waits_for_nodes_that_have_gone_is_asked_for_anew_on_those_that_have_come(manager: Placing) -> None:
    request = Request({"CPU": 1.0}, 0)
    manager.request_resources(request)
    (future,) = manager.get_resource_futures()
    assert ray.wait([future], timeout=1)[0] == []  # there is room, but not on that node
    manager._packing.leave("f" * 56)
    manager._packing.join(Node(1, name=ray.get_runtime_context().get_node_id()))
    (future,) = manager.get_resource_futures()
    assert ray.wait([future], timeout=60)[0] == [future]
    time.sleep(2 * manager.update_interval_s)
    assert manager.has_resources_ready(request)


def test_where_nothing_runs_and_nothing_is_to_start_tune_goes_on_with_its_steps() -> None:
    controller: Any = SimpleNamespace(
        _search_alg=SimpleNamespace(next_trial=lambda: None), is_finished=lambda: pytest.fail("it waits in one step")
    )
    with ray_tune._corrected(packing()):
        assert TuneController._update_trial_queue(controller, blocking=True) is False
