"""What a launch asks of a cluster before anything starts."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from analysis.frames.trials import load_trials
from sweep.config import ResourcesConfig, SweepConfig
from sweep.run import cluster, ray_tune
from sweep.run.packing import Node, Packing
from sweep.run.trial import RESTARTS
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.provenance import code_version
from trainers.record import read


def test_a_node_that_does_not_see_a_folder_is_named(tmp_path: Path, local_ray: None) -> None:
    probe = ray_tune.ray.put(([str(tmp_path / "data")], code_version()))
    with pytest.raises(UserError, match=r"^trial.data.root .*data: node n1 does not see it; give a folder"):
        cluster._check_probe("n1", tmp_path, {str(tmp_path / "data"): "trial.data.root"}, probe)
    probe = ray_tune.ray.put(([str(tmp_path / ".probe-1")], code_version()))
    with pytest.raises(UserError, match=rf"^--out {tmp_path}: node n1 does not see it; give a folder"):
        cluster._check_probe("n1", tmp_path, {}, probe)


def test_a_node_with_other_code_is_named(tmp_path: Path, local_ray: None) -> None:
    with pytest.raises(UserError, match=r"^node n1: has other code \(0123\) than this"):
        cluster._check_probe("n1", tmp_path, {}, ray_tune.ray.put(([], "0123")))


def test_a_healthy_node_passes_and_leaves_no_probe_behind(tmp_path: Path, local_ray: None) -> None:
    cluster.check_nodes(tmp_path, {str(tmp_path): "trial.data.root", "/nowhere/at/all": "trial.data.extra"})
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
        cluster,
        "_nodes",
        lambda: [{"NodeManagerHostname": name, "NodeID": name * 56, "Resources": has} for name, has in found],
    )
    monkeypatch.setattr(cluster, "_probe", SimpleNamespace(options=on_node))
    monkeypatch.setattr(cluster, "_check_probe", lambda name, directory, inputs, probe: asked.update({name: probe}))
    cluster.check_nodes(tmp_path, {str(tmp_path): "trial.data.root"})
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
    assert cluster.most_at_once(ResourcesConfig.model_validate(resources), wanted) == expected


#: What gives out trials, where none runs out of memory.
SEARCHER = SimpleNamespace(again=lambda *words: pytest.fail("again"), largest=None)


def test_a_trial_whose_worker_died_too_often_has_failed_with_the_last_line_of_its_error(tmp_path: Path) -> None:
    failed: list[tuple[str, str]] = []
    journal = SimpleNamespace(fail=lambda *words: failed.append(words))
    callback = ray_tune._JournalCallback(journal, SEARCHER, lambda: None)
    config = {"trials": {"0123456789ab": {}}}
    (tmp_path / "error.txt").write_text("Traceback\n  ...\nray.exceptions.ActorDiedError: it was killed\n\n")
    for file in (str(tmp_path / "error.txt"), None):
        callback.on_trial_error(1, [], SimpleNamespace(config=config, error_file=file))
    died = f"its process died {1 + RESTARTS} times: "
    assert failed == [
        ("0123456789ab", f"{died}ray.exceptions.ActorDiedError: it was killed"),
        ("0123456789ab", f"{died}no error file"),
    ]


def test_a_worker_that_rays_monitor_kills_in_the_midst_of_a_task_has_died_and_ends_no_launch() -> None:
    """The error that Ray raises then is none of those that Tune expects of an actor."""
    why = "1 worker(s) were killed due to the node running low on memory."
    told: list[tuple[Any, Exception]] = []
    actor = SimpleNamespace(actor_id=1, _on_error=lambda actor, error: told.append((actor, error)))
    task: Any = SimpleNamespace(_tracked_actor=actor, _on_error=None)
    manager: Any = SimpleNamespace(_failed_actor_ids=set(), _cleanup_actor=lambda tracked_actor: None)
    with ray_tune._lack_of_memory_known():
        ray_tune.RayActorManager._actor_task_failed(manager, task, ray_tune.ray.exceptions.OutOfMemoryError(why))
    assert [(each, type(error), str(error)) for each, error in told] == [
        (actor, ray_tune.ray.exceptions.RayActorError, why)
    ]
    with pytest.raises(RuntimeError, match="Caught unexpected exception"):
        ray_tune.RayActorManager._actor_task_failed(manager, task, ray_tune.ray.exceptions.OutOfMemoryError(why))


def test_a_process_that_memory_was_short_for_is_not_begun_again_for_any_of_its_trials(tmp_path: Path) -> None:
    failed: list[tuple[str, ...]] = []
    journal: Any = SimpleNamespace(fail=lambda *words: failed.append(words))
    callback = ray_tune._JournalCallback(journal, lambda: None)
    file = tmp_path / "error.txt"
    trial = SimpleNamespace(config={"trials": {"a": {}, "b": {}}}, max_failures=3, error_file=str(file))
    file.write_text("Failure # 1\nit died\n")
    callback.on_trial_recover(1, [], trial)
    assert (failed, trial.max_failures) == ([], 3)
    with file.open("a") as more:
        more.write("Failure # 2\nthe node running low on memory.\nOOM kill reason: Memory usage 2B exceeded 1B\nmore\n")
    callback.on_trial_recover(1, [], trial)
    why = "Ray's memory monitor ended its process: Memory usage 2B exceeded 1B"
    assert sorted(failed) == [("a", why, "out_of_memory"), ("b", why, "out_of_memory")]
    assert (trial.config["trials"], trial.max_failures) == ({}, 0)
    callback.on_trial_error(1, [], trial)
    assert len(failed) == 2


def nodes(monkeypatch: pytest.MonkeyPatch, *found: dict[str, float]) -> None:
    monkeypatch.setattr(cluster, "_nodes", lambda: [{"Resources": node} for node in found])


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
    assert cluster.most_at_once(asked, None) == expected
    assert cluster.most_at_once(asked, expected + 1) == expected
    assert cluster.most_at_once(asked, 1) == 1


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
            assert cluster.most_at_once(asked, None) == expected, room


def test_each_process_that_fits_has_room_for_its_trials(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"CPU": 8, "GPU": 2})
    asked = ResourcesConfig.model_validate({"cpu": 1, "gpu": 0.5, "trials_per_process": 3})
    assert [cluster.most_at_once(asked, wanted, 3) for wanted in (None, 20, 5)] == [12, 12, 5]


def test_a_process_is_given_as_many_trials_as_it_takes_and_the_last_one_what_is_left(tmp_path: Path) -> None:
    trials = iter([SimpleNamespace(id=f"{number}" * 12, config=TrialConfig()) for number in range(5)])
    limits = {"timeout": 60, "medians": {}, "recorded": 0}
    journal = SimpleNamespace(next=lambda: next(trials, None), directory=tmp_path, limits=lambda *asked: limits)
    packing = Packing([Node(8)], 4, 0, journal.next, name=lambda trial: trial.id, each=2)
    searcher = ray_tune._JournalSearcher(journal, ResourcesConfig(cpu=4, trials_per_process=2), packing)  # type: ignore[arg-type]
    given = [searcher.suggest(f"tune-{number}") for number in range(2)]
    assert searcher.suggest("tune-2") is None  # no room
    searcher.on_trial_complete("tune-0")
    given.append(searcher.suggest("tune-2"))
    assert [list(values["trials"]) for values in given] == [["0" * 12, "1" * 12], ["2" * 12, "3" * 12], ["4" * 12]]
    searcher.on_trial_complete("tune-1")
    assert searcher.suggest("tune-3") is None  # the last one may run out of memory, and then runs again
    searcher.on_trial_complete("tune-2")
    assert searcher.suggest("tune-3") == ray_tune.Searcher.FINISHED
    assert given[0]["threads"] == 2


def test_a_process_that_dies_is_started_again_for_the_trials_that_have_not_ended(tmp_path: Path) -> None:
    taken, failed = list[Any](), list[str]()
    journal = SimpleNamespace(
        take=lambda message, again=False: taken.append(message), fail=lambda name, reason: failed.append(name)
    )
    callback = ray_tune._JournalCallback(journal, SEARCHER, lambda: None)  # type: ignore[arg-type]
    trial = SimpleNamespace(config={"trials": {"a": {}, "b": {}, "c": {}}}, max_failures=3, error_file=None)
    for record, name in (("start", "a"), ("outcome", "b"), ("epoch", "a")):
        callback.on_trial_result(1, [], trial, {"message": {"record": record, "trial_id": name, "outcome": "failed"}})
    assert (list(trial.config["trials"]), trial.max_failures, len(taken)) == (["a", "c"], 3, 3)
    callback.on_trial_error(1, [], trial)
    assert failed == ["a", "c"]
    for name in ("c", "a"):
        message = {"record": "outcome", "trial_id": name, "outcome": "completed"}
        callback.on_trial_result(1, [], trial, {"message": message})
    assert (trial.config["trials"], trial.max_failures) == ({}, 0)
    callback.on_trial_error(1, [], trial)
    assert failed == ["a", "c"]


def test_a_node_that_is_down_has_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    up, down = ({"Alive": alive, "Resources": {"CPU": 4.0}} for alive in (True, False))
    monkeypatch.setattr(ray_tune.ray, "nodes", lambda: [down, up, down])
    assert cluster.most_at_once(ResourcesConfig.model_validate({"cpu": 1}), None) == 4


def test_more_than_any_one_node_has_is_refused_with_what_the_largest_has(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"CPU": 2}, {"CPU": 4})
    with pytest.raises(UserError, match=r"^resources.cpu: a trial asks for 5 CPU, and no node .* more than 4; lower"):
        cluster.most_at_once(ResourcesConfig.model_validate({"cpu": 5}), None)


def test_one_resource_on_each_of_two_nodes_is_no_room_and_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes(monkeypatch, {"CPU": 8}, {"CPU": 1, "GPU": 2})
    with pytest.raises(UserError, match=r"^resources: no one node has 2 CPU and 1 GPU together; lower one of them, "):
        cluster.most_at_once(ResourcesConfig.model_validate({"cpu": 2, "gpu": 1}), None)


def _in_a_process_that_lr_0_1_poisons(values: dict[str, Any], bell: Any) -> None:
    """A trial through Ray, in a process that can compute no more once it has met lr 0.1; writes down which it was."""
    from trainers import cards, loop

    def broken(*args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand more")

    (trial,) = values["trials"].values()
    lr = trial["optimizer"]["lr"]
    with Path(values["directory"], "processes").open("a") as file:
        file.write(f"{lr} {os.getpid()}\n")
    if lr == 0.1:
        loop.train, cards.freed = broken, lambda device: False
    ray_tune._trainable(values, bell)


def bells() -> set[psutil.Process]:
    """The processes of `sweep.run.bell` that are there."""
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


def _in_a_process_that_dies_once(values: dict[str, Any], bell: Any) -> None:
    """Trials of one process through Ray; it dies in the second epoch of lr 0.1, after lr 0.3 has ended."""
    from trainers import loop

    directory, epoch = Path(values["directory"]), loop._epoch
    lrs = {trial["optimizer"]["lr"]: trial["epochs"] for trial in values["trials"].values()}
    with (directory / "processes").open("a") as file:
        file.write(f"{sorted(lrs)}\n")

    def dying(trial: Any, number: int) -> Any:
        if trial.config.optimizer.lr == 0.1 and number == 1 and not (directory / "died").exists():
            wait_for_outcome(directory)
            (directory / "died").touch()
            os._exit(1)
        return epoch(trial, number)

    loop._epoch = dying
    ray_tune._trainable(values, bell)


def wait_for_outcome(directory: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not any(each["record"] == "outcome" for each in read(directory)):
        time.sleep(0.05)


def test_trials_of_a_process_that_dies_go_on_together_and_those_that_had_ended_are_not_run_again(
    tiny: Callable[..., SweepConfig],
    launch: Callable[..., tuple[int, str]],
    same_numbers: Callable[[Path, Path], None],
    tmp_path: Path,
    local_ray: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_tune, "_trainable", _in_a_process_that_dies_once)
    shared = {"cpu": 1, "trials_per_process": 2}
    config = tiny(space={"optimizer.lr": [0.1, 0.3]}, resources=shared, max_concurrent=2)
    assert launch(config, tmp_path / "run")[0] == 0
    assert (tmp_path / "run" / "processes").read_text() == "[0.1, 0.3]\n[0.1]\n"
    launch(config, tmp_path / "whole", serial=True)
    same_numbers(tmp_path / "run", tmp_path / "whole")
    records = read(tmp_path / "run")
    assert [record["record"] for record in records].count("outcome") == 2
    assert load_trials(tmp_path / "run").set_index("optimizer.lr")["attempts"].to_dict() == {0.1: 2, 0.3: 1}
