"""Launches whose Ray is killed, and launches that are killed with their Ray: real processes, slow."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from faults_harness import Command, Commands, name_of

from analysis.frames.trials import load_trials
from sweep.config_file import load
from sweep.run.ray_watch import NEEDED
from sweep.run.signals import EXIT_RAY_GONE
from trainers.record import read

pytestmark = pytest.mark.slow

PATIENCE = 240  # s, on a machine that is busy with other things
LONG = ("--set", "trial.epochs=25")

#: A head, which is killed at the first line of input; its node stays.
CLUSTER = """
import os
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
input()
cluster.head_node.kill_gcs_server(check_alive=False)
input()
os._exit(0)
"""

SECRETS = {
    "AWS_ACCESS_KEY_ID": "AKIAPLANTED00001",
    "AWS_SECRET_ACCESS_KEY": "planted-00000002",
    "AWS_SESSION_TOKEN": "planted-00000003",
    "AWS_SECURITY_TOKEN": "planted-00000004",
    "WANDB_API_KEY": "planted-00000005",
    "HF_TOKEN": "planted-00000006",
    "GITHUB_TOKEN": "planted-00000007",
    "MLFLOW_TRACKING_PASSWORD": "planted-00000008",
    "COMET_API_KEY": "planted-00000009",
    "OPTUNA_STORAGE": "postgresql://me:planted-00000010@db/x",
    "RAY_AUTH_TOKEN": "planted-00000011" + "a" * 32,
    "MY_OWN_SECRET": "planted-00000012",
}


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for Ray's sockets: the path of pytest's own is too long for them."""
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


def of_ray(launch: Command) -> dict[int, str]:
    """All processes under a launch, by name."""
    return {process.pid: name_of(process) for process in psutil.Process(launch.pid).children(recursive=True)}


@pytest.mark.parametrize("name", ["raylet", "gcs_server"])
def test_a_local_ray_that_is_killed_is_started_again_and_the_frames_are_those_of_an_undisturbed_run(
    name: str, driver: Any, sweep_file: Any, launch: Any, same_numbers: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = driver(*LONG)
    process.wait_for(run, "epoch", 3)
    (killed,) = (pid for pid, of in of_ray(process).items() if of == name)
    os.kill(killed, 9)
    code, output = process.code(PATIENCE), process.output
    gone = f"Ray is gone: its {name} (process {killed}) ended by SIGKILL"
    assert code == 0, output
    assert f"{gone}; going on with a new one" in output
    assert "(raylet)" not in output
    launch(load(sweep_file(), ["trial.epochs=25"]), tmp_path / "whole", serial=True)
    same_numbers(run, tmp_path / "whole")


def test_an_evaluation_whose_local_ray_is_killed_goes_on_with_a_new_one_and_evaluates_nothing_twice(
    finished: Path, commands: Commands, tmp_path: Path
) -> None:
    whole = shutil.copytree(finished, tmp_path / "whole")
    how = ("--attack", "clean", "--attack", "pgd", "--steps", "500", "--set", "max_concurrent=1")
    process = commands("evaluate", finished, *how)
    process.wait_for(finished, "evaluation", 1)
    (killed,) = (pid for pid, of in of_ray(process).items() if of == "raylet")
    os.kill(killed, 9)
    code, output = process.code(PATIENCE), process.output
    assert code == 0, output
    assert f"Ray is gone: its raylet (process {killed}) ended by SIGKILL; going on with a new one" in output
    assert "Traceback" not in output
    commands.finish("evaluate", whole, *how, "--serial")
    assert counted(finished) == counted(whole)


def counted(run: Path) -> list[tuple[Any, ...]]:
    """What was evaluated, in some order, with its numbers."""
    keys = ("trial_id", "attack", "first", "images", "clean_correct", "correct", "right")
    return sorted(tuple(r[key] for key in keys) for r in read(run) if r["record"] == "evaluation")


def test_a_launch_whose_ray_has_just_been_killed_ends_by_ctrl_c_and_starts_no_new_one(
    driver: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = driver("--set", "trial.epochs=400")
    process.wait_for(run, "epoch", 3)
    ray = [pid for pid, of in of_ray(process).items() if of in NEEDED]
    for each in ray:
        os.kill(each, 9)
    os.kill(process.pid, signal.SIGINT)
    code, output = process.code(PATIENCE), process.output
    assert code in (130, EXIT_RAY_GONE), output
    assert "stopped by SIGINT" in output or "Ray is gone" in output
    assert "going on with a new one" not in output
    assert "Traceback" not in output
    assert set(load_trials(run).outcome) <= {"interrupted", "never_started"}


def test_a_cluster_whose_head_is_gone_ends_a_launch_with_its_reason_and_exit_3(
    driver: Any, ray_cluster: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with ray_cluster(CLUSTER) as (address, fault):
        process = driver("--address", address, "--set", "trial.epochs=4000")
        process.wait_for(run, "epoch", 3)
        fault()
        code, output = process.code(PATIENCE), process.output
    assert code == 3, output
    assert output.count(f"Ray is gone: its head at {address} has not answered for 30 s; ") == 1
    assert set(load_trials(run).outcome) == {"interrupted", "never_started"}


def test_a_launch_that_is_killed_leaves_no_process_and_no_folder_and_no_secret_stands_in_a_file_of_it_or_of_ray(
    driver: Any, tmp_path: Path, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (SECRETS | {"TMPDIR": str(short), "HOME": str(tmp_path)}).items():
        monkeypatch.setenv(name, value)
    run = tmp_path / "run"
    process = driver(*LONG)
    process.wait_for(run, "epoch", 3)
    left = list(map(psutil.Process, of_ray(process)))
    (folder,) = short.glob("ray-*")
    assert folder.stat().st_mode & 0o777 == 0o700
    files = [path for top in (tmp_path, short) for path in top.rglob("*") if path.is_file()]
    assert any(path.name == "runtime_env_agent.log" for path in files)
    held = [path.name for path in files if any(value[:16].encode() in path.read_bytes() for value in SECRETS.values())]
    assert held == []
    raylet = next(each for each in left if each.name() == "raylet")
    assert raylet.environ().items() >= SECRETS.items()  # which its workers inherit
    process.kill()
    assert psutil.wait_procs(left, timeout=20)[1] == []
    deadline = time.monotonic() + 20
    while folder.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not folder.exists()
