"""Jobs on Ray by processes that stay: reused, replaced where they die or can do no more, and gone at the end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweep.config import ResourcesConfig
from sweep.evaluate.ray_pool import Pool

PATIENCE = 60  # s, on a machine that is busy with other things
ONE = ResourcesConfig(cpu=1)


def process(values: Mapping[str, Any]) -> tuple[int, bool]:
    """Its process, which can do another job unless told."""
    return os.getpid(), values.get("usable", True)


def deadly(values: Mapping[str, Any]) -> tuple[str, bool]:
    """Dies so often, and then tells the processes that have begun it."""
    begun = Path(values["begun"])
    with begun.open("a") as file:
        file.write(f"{os.getpid()} ")
    if len(begun.read_text().split()) <= values["deaths"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return begun.read_text(), True


def endless(values: Mapping[str, Any]) -> tuple[None, bool]:
    Path(values["begun"]).write_text(str(os.getpid()))
    time.sleep(10 * PATIENCE)
    return None, True


def results(pool: Pool[str]) -> dict[str, Any]:
    """What each job gave, once all have ended."""
    found: dict[str, Any] = {}
    while len(pool):
        for job, result in pool.ended(PATIENCE):
            assert job not in found
            found[job] = result
    return found


def one_after_another(pool: Pool[str], jobs: list[dict[str, Any]]) -> list[Any]:
    """What each job gave that began when the one before had ended."""
    found = []
    for number, values in enumerate(jobs):
        pool.start(str(number), values)
        found.extend(results(pool).values())
    return found


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_does_one_job_after_another_until_it_can_no_more_and_is_then_replaced(local_ray: None) -> None:
    with Pool[str](process, ONE, 0) as pool:
        first, second, last, other = one_after_another(pool, [{}, {}, {"usable": False}, {}])
    assert first == second == last != other


@pytest.mark.parametrize(("deaths", "begun"), [(1, 2), (2, 3), (3, 3)])
def test_a_job_whose_process_dies_begins_again_in_a_new_one_but_not_for_ever(
    deaths: int, begun: int, tmp_path: Path, local_ray: None
) -> None:
    with Pool[str](deadly, ONE, restarts=2) as pool:
        pool.start("it", {"begun": str(tmp_path / "begun"), "deaths": deaths})
        result = results(pool)["it"]
    processes = (tmp_path / "begun").read_text().split()
    assert len(set(processes)) == len(processes) == begun
    if deaths < begun:
        assert result.split() == processes
    else:
        assert result.startswith("its process died: The actor died ")


def test_a_process_for_which_there_is_no_job_is_let_go_while_others_run(tmp_path: Path, local_ray: None) -> None:
    with Pool[str](process, ONE, 0) as pool:
        pool.start("short", {})
        idle = results(pool)["short"]
        assert psutil.pid_exists(idle)
        assert pool.ended(0) == []
        wait_until(lambda: not psutil.pid_exists(idle))


def test_at_the_end_of_the_block_its_processes_are_gone_in_the_middle_of_their_jobs_too(
    tmp_path: Path, local_ray: None
) -> None:
    begun = tmp_path / "begun"
    with suppress(KeyboardInterrupt), Pool[str](endless, ONE, 3) as pool:
        pool.start("it", {"begun": str(begun)})
        wait_until(lambda: begun.exists() and begun.read_text() != "")
        raise KeyboardInterrupt
    process = int(begun.read_text())
    wait_until(lambda: not psutil.pid_exists(process))
    assert not psutil.pid_exists(process)


#: Two jobs in turn on a node with a GPU in name alone; each prints its process and the GPU that Ray gave it.
ON_A_GPU = """
import os
from ray.cluster_utils import Cluster
from sweep.config import ResourcesConfig
from sweep.evaluate.ray_pool import Pool
cluster = Cluster(initialize_head=True, connect=True, head_node_args={"num_cpus": 1, "num_gpus": 1})
work = lambda values: ((os.getpid(), os.environ.get("CUDA_VISIBLE_DEVICES")), True)
with Pool(work, ResourcesConfig(gpu=1), 0) as pool:
    for job in "ab":
        pool.start(job, {})
        for _, (process, gpu) in pool.ended(60):
            print("job", process, gpu)
cluster.shutdown()
"""


@pytest.mark.slow
def test_jobs_that_ask_for_a_gpu_stay_in_their_process_too() -> None:
    """Ray gives each task that asks for one a new process."""
    run = subprocess.run([sys.executable, "-c", ON_A_GPU], capture_output=True, text=True, timeout=300, check=False)
    began = [line.split()[1:] for line in run.stdout.splitlines() if line.startswith("job ")]
    assert len(began) == 2, run.stderr
    assert began[0] == began[1]
    assert began[0][1] == "0"
