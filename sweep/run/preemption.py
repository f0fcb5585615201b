"""Whether a trial was preempted: its machine was taken away for others, as Slurm or Ray says, and nobody else's word.

It is no fault of the trial's, and nobody wanted it to stop: it goes on elsewhere, or later, and uses up no restart.
"""

from __future__ import annotations

import os
import re
import subprocess

from trainers.record import OutcomeName

#: How long Slurm may take to answer, s; it takes 20 ms, and kills a job some seconds after it has signalled it.
LIMIT = 2.0


def outcome_when_stopped(reason: str) -> tuple[OutcomeName, str]:
    """The outcome of the trials of a launch that is being stopped, and the reason of it.

    Args:
        reason: why the launch stops, in words.

    Returns:
        preempted, with what Slurm says, where the launch runs in a job that Slurm preempts; else interrupted.
    """
    if (job := os.environ.get("SLURM_JOB_ID")) is None:
        return "interrupted", reason
    if (array := os.environ.get("SLURM_ARRAY_JOB_ID")) and (task := os.environ.get("SLURM_ARRAY_TASK_ID")):
        job = f"{array}_{task}"  # by its own number the last job of an array would be all of them
    restarts = os.environ.get("SLURM_RESTART_COUNT", "")
    says = slurm_says(_answer("job", "-o", job), _answer("config"), int(restarts) if restarts.isdecimal() else 0)
    return ("preempted", f"{reason}; {says}") if says else ("interrupted", reason)


def slurm_says(job: str, config: str, restarts: int) -> str:
    """That a job is preempted, in words; empty: Slurm does not say so.

    It sets `PreemptTime` where the partition has a GraceTime, or PreemptMode is CANCEL. Of PreemptMode REQUEUE without
    a GraceTime there is nothing to see but that `Restarts` is one more while the job still runs. `scontrol requeue`
    looks the same; it is taken for preemption where the cluster has any.

    Args:
        job: what `scontrol show job -o` prints.
        config: what `scontrol show config` prints.
        restarts: of the job, when this process began.
    """
    since, count = re.search(r" PreemptTime=(\S+)", job), re.search(r" Restarts=(\d+)", job)
    if since is not None and since[1] not in ("None", "N/A", "Unknown"):
        return f"Slurm preempts its job since {since[1]}"
    if count is not None and int(count[1]) > restarts and re.search(r"^PreemptType *= preempt/(?!none)", config, re.M):
        return "Slurm has put its job back into the queue"
    return ""


def ray_says(error: Exception | None) -> str:
    """That the worker which died of this error was on a node that was preempted, in words; empty: it was not.

    Ray says so of a node that it was told to drain for preemption, as an autoscaler, `ray start --block` at SIGTERM and
    `ray drain-node` do; Tune then counts no failure.

    Args:
        error: that Ray gives for a call to the worker.
    """
    if not getattr(error, "preempted", False):
        return ""
    why = re.search(r"node was preempted: (.+)", str(error))
    return f"Ray says that its node was preempted{f': {why[1][:200]}' if why else ''}"


def lack_of_memory(error: str) -> str:
    """Why Ray's memory monitor killed a worker, in one line; empty where it did not."""
    if "running low on memory" not in error:
        return ""
    why = re.search(r"OOM kill reason: (.*)", error) or re.search(r".*running low on memory.*", error)
    return f"Ray's memory monitor ended its process: {why[why.lastindex or 0][:300]}" if why else ""


def _answer(*words: str) -> str:
    """What `scontrol show` prints; nothing where there is none, or it takes too long."""
    try:
        answer = subprocess.run(
            ["scontrol", "show", *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=LIMIT,
            env={**os.environ, "SLURM_TIME_FORMAT": "standard"},
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout
