"""What a launch asks of a cluster before anything starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from sweep import ray_tune
from sweep.config import ResourcesConfig
from trainers.errors import UserError
from trainers.provenance import code_version


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but it does not listen
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(UserError, match=rf"^--address {address}: nothing answers: .*; start a cluster with"):
            ray_tune._check_address(address)


@pytest.mark.parametrize("address", [None, "auto", "local"])
def test_an_address_that_ray_has_to_find_is_left_to_ray(address: str | None) -> None:
    assert ray_tune._check_address(address) is None


def test_a_node_that_does_not_see_a_folder_is_named(tmp_path: Path, local_ray: None) -> None:
    probe = ray_tune.ray.put(([str(tmp_path / "data")], code_version()))
    with pytest.raises(UserError, match=r"^trial.data.root .*data: node n1 does not see it; give a folder"):
        ray_tune._check_probe("n1", tmp_path, probe)
    probe = ray_tune.ray.put(([str(tmp_path / ".probe-1")], code_version()))
    with pytest.raises(UserError, match=rf"^--out {tmp_path}: node n1 does not see it; give a folder"):
        ray_tune._check_probe("n1", tmp_path, probe)


def test_a_node_with_other_code_is_named(tmp_path: Path, local_ray: None) -> None:
    with pytest.raises(UserError, match=r"^node n1: has other code \(0123\) than this"):
        ray_tune._check_probe("n1", tmp_path, ray_tune.ray.put(([], "0123")))


def test_a_healthy_node_passes_and_leaves_no_probe_behind(tmp_path: Path, local_ray: None) -> None:
    ray_tune.check_nodes(tmp_path, [str(tmp_path), "/nowhere/at/all"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("resources", "wanted", "expected"),
    [({"cpu": 1}, None, 2), ({"cpu": 1}, 1, 1), ({"cpu": 0.5}, None, 4), ({"cpu": 2}, 8, 1)],
)
def test_as_many_trials_run_at_once_as_fit(
    resources: dict[str, float], wanted: int | None, expected: int, local_ray: None
) -> None:
    assert ray_tune.most_at_once(ResourcesConfig.model_validate(resources), wanted) == expected
