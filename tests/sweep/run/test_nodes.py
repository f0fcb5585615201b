"""What the nodes of a Ray have for trials, and which are refused before anything starts."""

from __future__ import annotations

import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from sweep.config import ResourcesConfig
from sweep.run import nodes
from trainers.errors import UserError
from trainers.provenance import code_version


def test_a_node_that_does_not_see_a_folder_is_named(tmp_path: Path, local_ray: None) -> None:
    probe = nodes.ray.put(([str(tmp_path / "data")], code_version()))
    with pytest.raises(UserError, match=r"^trial.data.root .*data: node n1 does not see it; give a folder"):
        nodes.check_probe("n1", tmp_path, {str(tmp_path / "data"): "trial.data.root"}, probe)
    probe = nodes.ray.put(([str(tmp_path / ".probe-1")], code_version()))
    with pytest.raises(UserError, match=rf"^--out {tmp_path}: node n1 does not see it; give a folder"):
        nodes.check_probe("n1", tmp_path, {}, probe)


def test_a_node_with_other_code_is_named(tmp_path: Path, local_ray: None) -> None:
    with pytest.raises(UserError, match=r"^node n1: has other code \(0123\) than this"):
        nodes.check_probe("n1", tmp_path, {}, nodes.ray.put(([], "0123")))


def test_a_healthy_node_passes_and_leaves_no_probe_behind(tmp_path: Path, local_ray: None) -> None:
    nodes.check_nodes(tmp_path, {str(tmp_path): "trial.data.root", "/nowhere/at/all": "trial.data.extra"})
    assert list(tmp_path.iterdir()) == []


def test_every_node_that_can_run_a_trial_is_asked_whether_it_sees_the_run_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without CPUs would never answer."""
    found = [("a", {"CPU": 4.0}), ("b", {"CPU": 0.0}), ("c", {"GPU": 1.0}), ("d", {"CPU": 1.0})]
    asked: dict[str, list[str]] = {}

    def on_node(scheduling_strategy: Any) -> Any:
        return SimpleNamespace(remote=lambda paths: (scheduling_strategy.node_id, paths))

    monkeypatch.setattr(
        nodes,
        "nodes_up",
        lambda: [{"NodeManagerHostname": name, "NodeID": name * 56, "Resources": has} for name, has in found],
    )
    monkeypatch.setattr(nodes, "_probe", SimpleNamespace(options=on_node))
    monkeypatch.setattr(nodes, "check_probe", lambda name, directory, inputs, probe: asked.update({name: probe}))
    nodes.check_nodes(tmp_path, {str(tmp_path): "trial.data.root"})
    assert {name: node for name, (node, _) in asked.items()} == {"a": "a" * 56, "d": "d" * 56}
    for _, (token, *data) in asked.values():
        assert Path(token).parent == tmp_path
        assert data == [str(tmp_path)]


@pytest.mark.parametrize(
    ("resources", "wanted", "expected"),
    [({"cpu": 1}, None, 2), ({"cpu": 1}, 1, 1), ({"cpu": 0.5}, None, 4), ({"cpu": 2}, 8, 1)],
)
def test_as_many_trials_run_at_once_as_fit(
    resources: dict[str, float], wanted: int | None, expected: int, local_ray: None
) -> None:
    assert nodes.most_at_once(ResourcesConfig.model_validate(resources), wanted) == expected


def up(monkeypatch: pytest.MonkeyPatch, *found: dict[str, float]) -> None:
    monkeypatch.setattr(nodes, "nodes_up", lambda: [{"Resources": node} for node in found])


@pytest.mark.parametrize(
    ("found", "resources", "expected"),
    [
        ([{"CPU": 8, "GPU": 1}], {"cpu": 1, "gpu": 1}, 1),
        ([{"CPU": 2, "GPU": 8}], {"cpu": 1, "gpu": 1}, 2),
        # of each node what is scarce there: together they have room for ten
        ([{"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 4}], {"cpu": 1, "gpu": 0.5}, 2 + 2),
        ([{"CPU": 3}, {"CPU": 3}], {"cpu": 2}, 1 + 1),  # no trial lies on two nodes
        ([{"CPU": 8}, {"CPU": 8, "GPU": 2}], {"cpu": 1, "gpu": 1}, 2),
        ([{"CPU": 8}, {"GPU": 8, "CPU": 0}, {"CPU": 4, "GPU": 3}], {"cpu": 2, "gpu": 1}, 2),
    ],
)
def test_a_node_has_room_for_as_many_trials_as_its_scarcest_resource(
    found: list[dict[str, float]], resources: dict[str, float], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(monkeypatch, *found)
    asked = ResourcesConfig.model_validate(resources)
    assert nodes.most_at_once(asked, None) == expected
    assert nodes.most_at_once(asked, expected + 1) == expected
    assert nodes.most_at_once(asked, 1) == 1


@pytest.mark.parametrize("tenths", [1, 2, 3, 4, 7])
def test_so_many_parts_of_a_gpu_fit_as_each_card_has_room_for_whatever_floats_make_of_the_quotient(
    tenths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node has whole cards alone, or Ray does not start on it; 3 * 0.1 is above 0.3 in floats."""
    for share in (tenths / 10, tenths * 0.1):
        asked = ResourcesConfig.model_validate({"cpu": 1, "gpu": share})
        for cards in range(1, 5):
            up(monkeypatch, {"CPU": 64, "GPU": cards})
            assert nodes.most_at_once(asked, None) == cards * (10 // tenths), (share, cards)


def test_each_process_that_fits_has_room_for_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    up(monkeypatch, {"CPU": 8, "GPU": 2})
    asked = ResourcesConfig.model_validate({"cpu": 1, "gpu": 0.5, "trials_per_process": 3})
    assert [nodes.most_at_once(asked, wanted, 3) for wanted in (None, 20, 5)] == [12, 12, 5]


def test_a_node_that_is_down_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    up, down = ({"Alive": alive, "Resources": {"CPU": 4.0}} for alive in (True, False))
    monkeypatch.setattr(nodes.ray, "nodes", lambda: [down, up, down])
    assert nodes.most_at_once(ResourcesConfig.model_validate({"cpu": 1}), None) == 4


def test_more_than_any_one_node_has_is_refused_with_what_the_largest_has(monkeypatch: pytest.MonkeyPatch) -> None:
    up(monkeypatch, {"CPU": 2}, {"CPU": 4})
    with pytest.raises(UserError, match=r"^resources.cpu: a trial asks for 5 CPU, and no node .* more than 4; lower"):
        nodes.most_at_once(ResourcesConfig.model_validate({"cpu": 5}), None)


def test_one_resource_on_each_of_two_nodes_is_no_room_and_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    up(monkeypatch, {"CPU": 8}, {"CPU": 1, "GPU": 2})
    with pytest.raises(UserError, match=r"^resources: no one node has 2 CPU and 1 GPU together; lower one of them, "):
        nodes.most_at_once(ResourcesConfig.model_validate({"cpu": 2, "gpu": 1}), None)


@pytest.mark.parametrize(
    ("found", "resources", "expected"),
    [
        ([{"CPU": 8}], {"cpu": 1, "workers": 4}, 2),
        ([{"CPU": 2}, {"CPU": 2}], {"cpu": 1, "workers": 3}, 1),  # on two nodes, of which none has room for three
        ([{"CPU": 3}, {"CPU": 3}], {"cpu": 2, "workers": 2}, 1),
        ([{"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 4}], {"cpu": 1, "gpu": 1, "workers": 3}, 1),
        ([{"CPU": 8, "GPU": 4}], {"cpu": 1, "gpu": "auto", "workers": 2}, 2),  # whole cards
    ],
)
def test_trials_fit_whose_workers_have_room_on_all_nodes_together(
    found: list[dict[str, float]], resources: dict[str, Any], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    up(monkeypatch, *found)
    assert nodes.most_at_once(ResourcesConfig.model_validate(resources), None) == expected


def test_more_workers_than_all_nodes_have_room_for_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    up(monkeypatch, {"CPU": 8, "GPU": 1}, {"CPU": 2, "GPU": 1})
    asked = ResourcesConfig.model_validate({"cpu": 2, "gpu": 1, "workers": 3})
    with pytest.raises(
        UserError,
        match=r"^resources.workers: a trial asks for 3 workers with 2 CPU and 1 GPU each, and the nodes hold 2 at "
        r"once; lower it \(--set resources.workers=2\), or add nodes$",
    ):
        nodes.most_at_once(asked, None)
    up(monkeypatch, {"CPU": 2}, {"CPU": 2})
    with pytest.raises(UserError, match=r"^resources.cpu: a worker asks for 3 CPU, and no node has more than 2; "):
        nodes.most_at_once(ResourcesConfig(cpu=3, workers=2), None)


def test_a_cluster_says_what_its_nodes_have_and_what_is_free(local_ray: None) -> None:
    said = io.StringIO()
    room = nodes.room("auto", Console(file=said))
    assert [node["CPU"] for node in room.nodes] == [2.0]
    assert room.words().startswith("the cluster at auto: 2 CPU, no GPU, free now ")
    assert room.processes(ResourcesConfig(cpu=1)) == 2
    assert room.processes(ResourcesConfig(cpu=1, gpu=1)) == 0
