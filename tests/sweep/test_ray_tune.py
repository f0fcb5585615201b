"""What a launch asks of a cluster before anything starts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from analysis.frame import load_trials
from sweep import ray_tune
from sweep.config import ResourcesConfig, SweepConfig
from trainers.errors import UserError
from trainers.provenance import code_version
from trainers.record import read


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


def test_every_node_that_can_run_a_trial_is_asked_whether_it_sees_the_run_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node without CPUs would never answer."""
    found = [("a", {"CPU": 4.0}), ("b", {"CPU": 0.0}), ("c", {"GPU": 1.0}), ("d", {"CPU": 1.0})]
    asked: dict[str, list[str]] = {}

    def on_node(scheduling_strategy: Any) -> Any:
        return SimpleNamespace(remote=lambda paths: (scheduling_strategy.node_id, paths))

    monkeypatch.setattr(
        ray_tune,
        "_nodes",
        lambda: [{"NodeManagerHostname": name, "NodeID": name * 56, "Resources": has} for name, has in found],
    )
    monkeypatch.setattr(ray_tune, "_probe", SimpleNamespace(options=on_node))
    monkeypatch.setattr(ray_tune, "_check_probe", lambda name, directory, probe: asked.update({name: probe}))
    ray_tune.check_nodes(tmp_path, [str(tmp_path)])
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
    assert ray_tune.most_at_once(ResourcesConfig.model_validate(resources), wanted) == expected


def test_a_trial_whose_worker_died_too_often_has_failed_with_the_last_line_of_its_error(tmp_path: Path) -> None:
    failed: list[tuple[str, str]] = []
    journal = SimpleNamespace(fail=lambda *words: failed.append(words))
    callback = ray_tune._JournalCallback(journal, SimpleNamespace(names={"tune-1": "0123456789ab"}), lambda: None)
    (tmp_path / "error.txt").write_text("Traceback\n  ...\nray.exceptions.ActorDiedError: it was killed\n\n")
    for file in (str(tmp_path / "error.txt"), None):
        callback.on_trial_error(1, [], SimpleNamespace(trial_id="tune-1", error_file=file))
    died = f"its process died {1 + ray_tune.RESTARTS} times: "
    assert failed == [
        ("0123456789ab", f"{died}ray.exceptions.ActorDiedError: it was killed"),
        ("0123456789ab", f"{died}no error file"),
    ]


def nodes(monkeypatch: pytest.MonkeyPatch, *found: dict[str, float]) -> None:
    monkeypatch.setattr(ray_tune, "_nodes", lambda: [{"Resources": node} for node in found])


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
    nodes(monkeypatch, *found)
    asked = ResourcesConfig.model_validate(resources)
    assert ray_tune.most_at_once(asked, None) == expected
    assert ray_tune.most_at_once(asked, expected + 1) == expected
    assert ray_tune.most_at_once(asked, 1) == 1


@pytest.mark.parametrize("tenths", [1, 2, 3, 4, 7])
def test_so_many_parts_of_a_gpu_fit_as_there_are_whatever_floats_make_of_the_quotient(
    tenths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0.3 / 0.1 is below 3 in floats, and so are 0.6 / 0.2 and 1.2 / 0.4."""
    share = tenths / 10
    asked = ResourcesConfig.model_validate({"cpu": 1, "gpu": share})
    for fit in range(1, 12):
        for room, expected in ((tenths * fit / 10, fit), (share * fit, fit), (tenths * (fit + 1) / 10 - 1e-4, fit)):
            nodes(monkeypatch, {"CPU": 64, "GPU": room})
            assert ray_tune.most_at_once(asked, None) == expected, room


def test_a_node_that_is_down_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    up, down = ({"Alive": alive, "Resources": {"CPU": 4.0}} for alive in (True, False))
    monkeypatch.setattr(ray_tune.ray, "nodes", lambda: [down, up, down])
    assert ray_tune.most_at_once(ResourcesConfig.model_validate({"cpu": 1}), None) == 4


def test_more_than_any_one_node_has_is_refused_with_what_the_largest_has(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"CPU": 2}, {"CPU": 4})
    with pytest.raises(UserError, match=r"^resources.cpu: a trial asks for 5 CPU, and no node .* more than 4; lower"):
        ray_tune.most_at_once(ResourcesConfig.model_validate({"cpu": 5}), None)


def test_one_resource_on_each_of_two_nodes_is_no_room_and_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"CPU": 8}, {"CPU": 1, "GPU": 2})
    with pytest.raises(UserError, match=r"^resources: no one node has 2 CPU and 1 GPU together; lower one of them, "):
        ray_tune.most_at_once(ResourcesConfig.model_validate({"cpu": 2, "gpu": 1}), None)


def _in_a_process_that_lr_0_1_poisons(values: dict[str, Any], bell: Any) -> None:
    """A trial through Ray, in a process that can compute no more once it has met lr 0.1; writes down which it was."""
    from trainers import cards, loop

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    lr = values["trial"]["optimizer"]["lr"]
    with Path(values["directory"], "processes").open("a") as file:
        file.write(f"{lr} {os.getpid()}\n")
    if lr == 0.1:
        loop.train, cards.freed = broken, lambda device: False
    ray_tune._trainable(values, bell)


def bells() -> set[psutil.Process]:
    """The processes of `sweep.bell` that are there."""
    return {each for each in psutil.Process().children(recursive=True) if each.name().startswith("ray::Bell")}


def test_a_process_whose_gpu_answers_no_more_ends_with_its_trial_and_the_next_trials_get_a_new_one(
    tiny: Callable[..., SweepConfig],
    launch: Callable[..., tuple[int, str]],
    tmp_path: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_tune, "_trainable", _in_a_process_that_lr_0_1_poisons)
    config, before = tiny(space={"optimizer.lr": [0.2, 0.1, 0.3]}, max_concurrent=1), bells()
    code, text = launch(config, tmp_path)
    assert code == 1
    trials = load_trials(tmp_path).set_index("optimizer.lr")
    assert trials["outcome"].to_dict() == {0.1: "failed", 0.2: "completed", 0.3: "completed"}
    assert trials["reason"][0.1].startswith("RuntimeError: CUDA error: an illegal memory access was encountered (logs/")
    assert text.count("failed") == 1
    began = [line.split() for line in (tmp_path / "processes").read_text().splitlines()]
    assert [lr for lr, _ in began] == ["0.2", "0.1", "0.3"]  # the failed one has ended, and is not started again
    first, poisoned, third = (process for _, process in began)
    assert first == poisoned != third
    assert [record["record"] for record in read(tmp_path)].count("outcome") == 3
    # The bell has ended too: a launch to decide makes many on one Ray.
    assert psutil.wait_procs(bells() - before, timeout=30)[1] == []
