"""A trial whose machine is taken away: what Slurm and Ray say of it, and that it costs no restart."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray

from analysis.frames.trials import load_trials
from sweep.config_file import load
from sweep.plan.plan import earlier_records, plan
from sweep.run.preemption import outcome_when_stopped, ray_says, slurm_says
from trainers.record import read

PATIENCE = 300  # s

#: What `scontrol show job -o` of Slurm 22.05 printed, in part, to processes of a job that had just been signalled.
BEFORE = "JobId=15 JobName=job.sh UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=4294901745 Nice=0 "
PUT_BACK = (
    f"{BEFORE}JobState=COMPLETING Reason=None Dependency=(null) Requeue=1 Restarts=1 BatchFlag=1 Reboot=0 ExitCode=0:0 "
    "RunTime=00:00:00 TimeLimit=UNLIMITED StartTime=2026-11-27T04:48:07 EndTime=Unknown Deadline=N/A SuspendTime=None"
)
IN_GRACE = (
    f"{BEFORE}JobState=RUNNING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 "
    "RunTime=00:00:03 TimeLimit=UNLIMITED StartTime=2026-11-27T04:48:33 EndTime=Unknown Deadline=N/A "
    "PreemptEligibleTime=2026-11-27T04:48:33 PreemptTime=2026-11-27T04:48:36 SuspendTime=None SecsPreSuspend=0"
)
CANCELLED_FOR_OTHERS = (
    f"{BEFORE}JobState=COMPLETING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 "
    "RunTime=00:00:03 TimeLimit=UNLIMITED StartTime=2026-11-27T04:47:24 EndTime=2026-11-27T04:47:27 Deadline=N/A "
    "PreemptEligibleTime=2026-11-27T04:47:24 PreemptTime=2026-11-27T04:47:27 SuspendTime=None SecsPreSuspend=0"
)
SCANCEL = (
    f"{BEFORE}JobState=COMPLETING Reason=None Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0 "
    "RunTime=00:00:03 TimeLimit=UNLIMITED StartTime=2026-11-27T04:48:04 EndTime=2026-11-27T04:48:07 Deadline=N/A "
    "PreemptEligibleTime=2026-11-27T04:48:04 PreemptTime=None SuspendTime=None SecsPreSuspend=0"
)
TIME_LIMIT = (
    f"{BEFORE}JobState=COMPLETING Reason=TimeLimit Dependency=(null) Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 "
    "ExitCode=0:0 RunTime=00:01:02 TimeLimit=00:01:00 StartTime=2026-11-27T04:49:02 EndTime=2026-11-27T04:50:04 "
    "Deadline=N/A PreemptEligibleTime=2026-11-27T04:49:02 PreemptTime=None SuspendTime=None SecsPreSuspend=0"
)
CONFIG = (
    "PreemptMode             = REQUEUE\nPreemptType             = preempt/partition_prio\n"
    "PreemptExemptTime       = 00:00:00\n"
)
NO_PREEMPTION = "PreemptMode             = OFF\nPreemptType             = preempt/none\n"


@pytest.mark.parametrize(
    ("job", "config", "restarts", "says"),
    [
        (IN_GRACE, CONFIG, 0, "Slurm preempts its job since 2026-11-27T04:48:36"),
        (CANCELLED_FOR_OTHERS, CONFIG, 0, "Slurm preempts its job since 2026-11-27T04:47:27"),
        (PUT_BACK, CONFIG, 0, "Slurm has put its job back into the queue"),
        (PUT_BACK, CONFIG, 1, ""),  # that was the time before
        (PUT_BACK, NO_PREEMPTION, 0, ""),  # by `scontrol requeue`, then
        (PUT_BACK, "", 0, ""),
        (SCANCEL, CONFIG, 0, ""),
        (TIME_LIMIT, CONFIG, 0, ""),
        ("", CONFIG, 0, ""),
    ],
)
def test_slurm_says_that_a_job_is_preempted_by_its_preempt_time_or_by_one_more_restart(
    job: str, config: str, restarts: int, says: str
) -> None:
    assert slurm_says(job, config, restarts) == says


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Stands in for Slurm's `scontrol`: a script that answers `show job`, and `show config` as above."""

    def answers(job: str) -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        script = tmp_path / "bin" / "scontrol"
        script.write_text(f'#!/bin/sh\nif [ "$2" = config ]; then echo "{CONFIG}"; exit; fi\n{job}\n')
        script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{script.parent}:{os.environ['PATH']}")

    monkeypatch.setenv("SLURM_JOB_ID", "15")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    return answers


def test_a_launch_in_a_job_asks_slurm_and_else_nobody(
    scontrol: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(f'[ "$*" = "show job -o 15" ] && [ "$SLURM_TIME_FORMAT" = standard ] && echo "{IN_GRACE}"')
    monkeypatch.setenv("SLURM_TIME_FORMAT", "relative")
    preempted = "preempted", "stopped by SIGTERM; Slurm preempts its job since 2026-11-27T04:48:36"
    assert outcome_when_stopped("stopped by SIGTERM") == preempted
    scontrol(f'echo "{PUT_BACK}"')
    assert outcome_when_stopped("stopped by SIGTERM")[0] == "preempted"
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert outcome_when_stopped("stopped by SIGTERM") == ("interrupted", "stopped by SIGTERM")
    monkeypatch.delenv("SLURM_RESTART_COUNT")
    monkeypatch.delenv("SLURM_JOB_ID")
    assert outcome_when_stopped("stopped by SIGINT") == ("interrupted", "stopped by SIGINT")


def test_a_job_of_an_array_asks_of_itself_alone(
    scontrol: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By SLURM_JOB_ID, which is the array's own of its last job, Slurm would tell of all of them."""
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "15")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    scontrol(f'[ "$*" = "show job -o 15_4" ] && echo "{PUT_BACK}"')
    assert outcome_when_stopped("stopped by SIGTERM")[0] == "preempted"


@pytest.mark.parametrize("job", ["exit 1", "sleep 30", "echo slurm_load_jobs error >&2; exit 1", "printf '\\377'"])
def test_a_slurm_that_does_not_answer_delays_no_launch_and_ends_none(
    scontrol: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, job: str
) -> None:
    scontrol(job)
    monkeypatch.setattr("sweep.run.preemption.LIMIT", 0.2)
    assert outcome_when_stopped("stopped by SIGTERM") == ("interrupted", "stopped by SIGTERM")
    monkeypatch.setenv("PATH", "/nowhere")
    assert outcome_when_stopped("stopped by SIGTERM") == ("interrupted", "stopped by SIGTERM")


def test_a_launch_that_slurm_preempts_says_so_of_what_ran_and_goes_on(
    scontrol: Callable[[str], None], driver: Any, tmp_path: Path, sweep_file: Any
) -> None:
    scontrol(f'echo "{PUT_BACK}"')
    process = driver("--serial", "--set", "trial.epochs=400")
    process.wait_for(tmp_path / "run", "epoch", 2)
    os.kill(process.pid, signal.SIGTERM)
    code, output = process.code(PATIENCE), process.output
    assert code == 130, output
    assert "4 trials: 1 preempted, 3 never started" in output
    trials = load_trials(tmp_path / "run")
    (preempted,) = trials[trials.outcome == "preempted"].itertuples()
    assert preempted.reason == "stopped by SIGTERM; Slurm has put its job back into the queue"
    assert preempted.epochs >= 2
    config = load(sweep_file(), ["trial.epochs=400"])
    assert plan(config, earlier_records(tmp_path / "run"), preempted.code_version).resumable == 1


def test_ray_says_it_of_a_worker_by_its_error_alone() -> None:
    died = ray.exceptions.RayActorError(error_msg="\tthe actor's node was preempted: spot", preempted=True)
    assert ray_says(died) == "Ray says that its node was preempted: spot"
    assert ray_says(ray.exceptions.RayActorError(preempted=True)) == "Ray says that its node was preempted"
    assert ray_says(ray.exceptions.RayActorError(error_msg="the actor's node was preempted: not so")) == ""
    assert ray_says(None) == ""


#: A head without CPUs, and nodes of one CPU. Each line of input preempts the one that there is, as an autoscaler would;
#: `and on` after another has come; the line after the last of them ends the cluster.
PREEMPTIBLE = """
import sys, time, ray
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
elsewhere = {"num_cpus": 1, "node_ip_address": "127.0.0.2"}  # so that the launch is a process of the head
node = cluster.add_node(**elsewhere)
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
gcs = ray._raylet.GcsClient(address=cluster.address)
for line in sys.stdin:
    if node is None:
        break
    old, node = node, cluster.add_node(**elsewhere) if "on" in line else None
    gcs.drain_node(old.node_id, DrainNodeReason.DRAIN_NODE_REASON_PREEMPTION, "spot", int(1000 * time.time()) + 60_000)
    cluster.remove_node(old, allow_graceful=False)
cluster.shutdown()
"""

#: By which a trial whose process dies is not started again even once.
NO_RESTARTS = {"sweep.run.ray_tune.RESTARTS": 0}


@pytest.mark.slow
def test_a_trial_on_a_node_that_ray_preempts_goes_on_elsewhere_and_uses_up_no_restart(
    driver: Any, ray_cluster: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    with ray_cluster(PREEMPTIBLE) as (address, preempt):
        process = driver("--address", address, "--set", "trial.epochs=5000", "--set", "max_concurrent=1", **NO_RESTARTS)
        process.wait_for(run, "epoch", 3)
        preempt("and on")
        process.wait_for(run, "start", 2)
        preempt("")
        process.wait_for(run, "outcome", 2)
        os.kill(process.pid, signal.SIGINT)
        code, output = process.code(PATIENCE), process.output
    assert code == 130, output
    assert "4 trials: 1 preempted, 3 never started" in output
    trials = load_trials(run)
    (preempted,) = trials[trials.outcome == "preempted"].itertuples()
    assert preempted.attempts == 2
    assert preempted.reason == "Ray says that its node was preempted"
    assert preempted.epochs > 0
    ends = [line["epochs"] for line in read(run) if line["record"] == "outcome"]
    assert ends == sorted(ends)  # it went on from its checkpoints
