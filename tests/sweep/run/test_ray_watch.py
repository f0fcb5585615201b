"""A Ray that goes away is seen, whatever is left of it."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sweep.config import ResourcesConfig
from sweep.run import ray_guard, ray_watch
from sweep.run.signals import Interrupted, Interrupts, RayGone


def cluster(*answers: list[dict[str, Any]]) -> ray_watch._Cluster:
    """Its looks, each of which has had its answer at once."""
    watch = object.__new__(ray_watch._Cluster)
    watch._resources, watch._here, watch._head = ResourcesConfig(cpu=2), "here", "head:1"
    watch._patience, watch._paused, watch._refused = ray_watch.PATIENCE, bool, {"refused"}
    watch._nodes, watch._asking, watch._silent, watch._full = None, None, 0.0, 0.0
    given = iter(answers)
    watch._ask = lambda: setattr(watch, "_nodes", next(given, None))  # type: ignore[method-assign]
    return watch


def node(name: str, cpus: float, alive: bool = True) -> dict[str, Any]:
    return {"NodeID": name, "Alive": alive, "Resources": {"CPU": cpus} if alive else {}}


def looked(watch: ray_watch._Cluster, seconds: float) -> str | None:
    """What is seen within so many seconds' looks."""
    for _ in range(int(seconds / ray_watch.PAUSE)):
        how = watch.look()
        assert watch._asking is not None
        watch._asking.join()
        if how:
            return how
    return None


def test_a_node_that_is_lost_ends_nothing_while_another_has_room() -> None:
    answers = [[node("here", 0), node("a", 2), node("b", 2, alive=False)]] * 500
    assert looked(cluster(*answers), 200) is None


def test_a_cluster_without_a_node_that_has_room_is_gone_after_a_while_and_not_before() -> None:
    full = [node("here", 1), node("a", 2, alive=False)]
    assert looked(cluster(*[full] * 500), ray_watch.PATIENCE) is None
    assert looked(cluster(*[full] * 500), ray_watch.PATIENCE + 2) == (
        "for 30 s no node has been up that has room for a trial"
    )
    assert looked(cluster(*([full] * 50 + [[node("here", 2)]]) * 9), 200) is None


def test_nodes_have_room_for_a_trial_where_they_have_it_for_all_of_its_workers_together() -> None:
    resources = ResourcesConfig(cpu=2, workers=3)
    assert ray_watch.have_room([node("a", 4), node("b", 1), node("c", 2)], resources)
    assert not ray_watch.have_room([node("a", 4), node("b", 1), node("c", 1)], resources)
    watch = cluster(*[[node("here", 2), node("a", 2)]] * 500)
    watch._resources = resources
    assert looked(watch, 200) == "for 30 s no nodes have been up that have room for a trial"


def test_room_on_a_node_where_no_trial_may_run_is_none() -> None:
    answers = [[node("here", 0), node("refused", 8)]] * 500
    assert looked(cluster(*answers), 200) == "for 30 s no node has been up that has room for a trial"


def test_the_node_of_the_driver_is_the_one_that_must_be_up() -> None:
    assert (
        looked(cluster([node("here", 2, alive=False), node("a", 2)]), 2) == "the node that this process is on is down"
    )


def test_a_head_that_answers_no_more_is_gone_after_a_while_and_not_before() -> None:
    assert looked(cluster([node("here", 2)]), ray_watch.PATIENCE) is None
    assert looked(cluster([node("here", 2)]), ray_watch.PATIENCE + 2) == "its head at head:1 has not answered for 30 s"


def test_a_process_that_ended_is_named_with_its_signal_and_is_no_zombie() -> None:
    process = subprocess.Popen(["sleep", "100"])
    assert ray_watch._ended("raylet", process.pid) is None
    deadline = time.monotonic() + 60
    while ray_watch.children().get(process.pid) != "sleep":  # a moment after its start it has Python's name yet
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    while (how := ray_watch._ended("raylet", process.pid)) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert how == f"its raylet (process {process.pid}) ended by SIGKILL"
    assert process.pid not in ray_watch.children()


@pytest.mark.parametrize("held", [False, True])
def test_a_ray_that_goes_is_raised_in_the_main_thread_and_another_one_that_goes_after_it_too(held: bool) -> None:
    with Interrupts() as interrupts:
        for how in ("one", "two"):
            thread = threading.Thread(target=interrupts.lose, args=(RayGone(how),))
            with pytest.raises(RayGone, match=how):
                gone_in(thread, interrupts, held)
            thread.join()


def test_a_ray_that_goes_as_a_signal_comes_or_after_it_is_no_reason_to_start_a_new_one() -> None:
    with Interrupts() as interrupts:
        interrupts._held += 1
        signal.raise_signal(signal.SIGINT)
        interrupts.lose(RayGone("it ended"))
        with pytest.raises(Interrupted, match="SIGINT") as stop:
            interrupts.check()
        assert not isinstance(stop.value, RayGone)
        interrupts.lose(RayGone("it ended"))
        interrupts.check()


def gone_in(thread: threading.Thread, interrupts: Interrupts, held: bool) -> None:
    """A block, in which nothing may be cut or something may, while Ray goes."""
    if held:
        with interrupts.held():
            thread.start()
            thread.join()
            interrupts.check()
    else:
        thread.start()
        time.sleep(60)


#: A process that guards a folder, in which a process of another session writes; says who that is.
GUARDED = """
import subprocess, sys, time
from pathlib import Path
from sweep.run.ray_guard import guarded
folder = Path(sys.argv[1])
with guarded(folder):
    log = (folder / "log").open("w")
    print(subprocess.Popen(["sleep", "100"], stdout=log, start_new_session=True).pid, flush=True)
    if sys.argv[2] == "killed":
        time.sleep(100)
"""


@pytest.mark.parametrize("how", ["killed", "ended"])
def test_who_writes_to_the_folder_and_the_folder_go_with_the_process_that_guards_it(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "ray-01234567"
    folder.mkdir()
    reader = subprocess.Popen(["tail", "-f", "/dev/null"])
    with subprocess.Popen(
        [sys.executable, "-c", GUARDED, str(folder), how], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        writer = int(process.stdout.readline())
        if how == "killed":
            process.kill()
    deadline = time.monotonic() + 60
    while (folder.exists() or running(writer)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not folder.exists()
    assert not running(writer)
    assert reader.poll() is None
    reader.kill()
    reader.wait()


def running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_only_folders_that_nobody_holds_are_left_over(tmp_path: Path) -> None:
    held, left, other = (tmp_path / f"ray-0000000{number}" for number in range(3))
    for folder in (held, left, other):
        folder.mkdir()
    (left / ray_guard.LOCK).write_text("")
    with ray_guard._locked(held):
        ray_guard.remove_left_over(tmp_path, "ray-????????")
        assert sorted(tmp_path.iterdir()) == [held, other]
    ray_guard.remove_left_over(tmp_path, "ray-????????")
    assert sorted(tmp_path.iterdir()) == [other]
