"""Sweeps on a real Slurm of two hosts: whatever it does to their jobs, the frame is that of an undisturbed run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import small
import yaml
from click.testing import CliRunner
from slurm_hosts import ENDED, Slurm, slurm_hosts

from analysis.frames.trials import load_trials
from sweep.cli import main
from sweep.config_file import load

pytestmark = pytest.mark.slow

#: Twelve trials of some seconds, three in each of four shares.
TWELVE: dict[str, Any] = {
    "name": "twelve",
    "trial": small.TINY | {"epochs": 43},
    "space": {"optimizer.name": ["sgd", "deat"], "optimizer.lr": [0.1, 0.2, 0.3]},
    "seeds": [0, 1],
    "max_concurrent": 1,
}


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    with slurm_hosts() as up:
        yield up


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slurm") / "twelve.yaml"
    path.write_text(yaml.safe_dump(TWELVE))
    return path


@pytest.fixture(scope="module")
def alone(config: Path, launched: Callable[..., tuple[int, str]]) -> Path:
    """The directory of the same sweep, run in this process, where nothing happens to it."""
    assert launched(load(config), config.parent / "alone", serial=True)[0] == 0
    return config.parent / "alone"


def script(config: Path, out: Path, *options: str) -> Path:
    """Of a job, as the command writes it."""
    done = CliRunner().invoke(main, ["slurm", str(config), "--out", str(out), *options])
    assert done.exit_code == 0, done.output
    path = out.parent / f"{out.name}.sh"
    path.write_text(done.stdout)
    return path


def epochs(records: Path) -> int:
    return records.read_bytes().count(b'{"record":"epoch"') if records.exists() else 0


def stops(records: Path) -> set[tuple[str, str]]:
    """Outcomes of trials that were stopped, and what stopped them."""
    every = [json.loads(line) for line in records.read_text().splitlines()]
    ended = [one for one in every if one["record"] == "outcome" and one["outcome"] != "completed"]
    return {(one["outcome"], one["reason"].partition(";")[0]) for one in ended}


@dataclass
class Array:
    """An array of four jobs that was disturbed and has ended: each role's share, and what Slurm says of its job."""

    out: Path
    limited: int
    """The share whose job came to its time limit twice."""
    drained: int
    """That ran on the node of that one as it was drained."""
    preempted: int
    cancelled: int
    shown: dict[int, dict[str, str]]
    drained_node: str

    def records(self, share: int) -> Path:
        return self.out / f"records.{share}of4.jsonl"

    def printed(self, share: int) -> str:
        job = self.shown[share]
        return Path(job["StdOut"]).read_text()


@pytest.fixture(scope="module")
def array(slurm: Slurm, config: Path) -> Array:
    """All that happens, in one array: each job takes seconds to start.

    Those of the first node, one of which comes to its time limit, train without Ray, which takes longer to start than
    they train: `test_a_job_of_two_nodes_...` has Ray and a time limit.
    """
    folder, out = config.parent, config.parent / "the run"
    job_script = script(config, out, "--array", "4", "--cpus-per-task", "1")
    without = '[ "$SLURM_ARRAY_TASK_ID" -gt 2 ] || launch+=(--serial)'
    says = "\n# ---- What Slurm says"
    job_script.write_text(job_script.read_text().replace(says, f"{without}\n{says}"))
    job = slurm.submit(job_script, folder=folder)
    task = {share: f"{job}_{share}" for share in range(1, 5)}

    def recorded(share: int) -> int:
        return epochs(out / f"records.{share}of4.jsonl")

    def limit() -> None:
        """What Slurm sends a minute before a time limit, which is no less than a minute."""
        slurm("scancel", "--batch", "--signal=USR1", task[1])

    for share in task:
        slurm.until(task[share], "RUNNING")
    node = {share: slurm.shown(task[share])["BatchHost"] for share in task}
    (drained,) = (share for share in task if share != 1 and node[share] == node[1])
    preempted, cancelled = (share for share in task if node[share] != node[1])
    slurm("scontrol", "update", f"NodeName={node[1]}", "State=drain", "Reason=test")
    faults = {1: limit, cancelled: lambda: slurm("scancel", task[cancelled])}
    while faults:  # each as soon as its share trains
        slurm.wait(task[next(iter(faults))], lambda: any(map(recorded, faults)), "an epoch")
        faults.pop(max(faults, key=recorded))()
    slurm.wait(task[preempted], lambda: recorded(preempted), "an epoch")
    slurm.submit("--partition=high", f"--nodelist={node[preempted]}", "--exclusive", "--wrap=true", folder=folder)
    slurm.until(task[cancelled], "CANCELLED")
    assert slurm.shown(task[cancelled])["Restarts"] == "0"
    slurm.at_once(task[preempted])
    slurm.at_once(task[1])
    task[cancelled] = f"{slurm.submit(f'--array={cancelled}', job_script, folder=folder)}_{cancelled}"
    before = recorded(1)
    slurm.wait(task[1], lambda: recorded(1) > before, "an epoch more")
    limit()
    slurm.at_once(task[1])
    for share in task:
        slurm.until(task[share], *ENDED)
    slurm("scontrol", "update", f"NodeName={node[1]}", "State=resume")
    shown = {share: slurm.shown(task[share]) for share in task}
    return Array(out, 1, drained, preempted, cancelled, shown, node[1])


def test_an_array_that_slurm_disturbs_ends_with_the_frame_of_an_undisturbed_run(
    array: Array, alone: Path, same_numbers: Callable[[Path, Path], None]
) -> None:
    assert {job["JobState"] for job in array.shown.values()} == {"COMPLETED"}
    assert len(load_trials(array.out)) == 12
    same_numbers(array.out, alone)


def test_a_job_at_its_time_limit_stops_is_run_again_and_goes_on_twice(array: Array) -> None:
    assert array.shown[1]["Restarts"] == "2"
    assert array.printed(1).count("stopped with exit code 130; Slurm runs this job again, and it goes on") == 2
    assert stops(array.records(1)) == {("interrupted", "stopped by SIGUSR1")}


def test_a_job_that_a_higher_partition_preempts_is_run_again_by_slurm_alone(array: Array) -> None:
    assert array.shown[array.preempted]["Restarts"] == "1"
    assert "Slurm runs this job again" not in array.printed(array.preempted)
    # Slurm has told Ray too, with which the launch may end before it has written anything.
    assert stops(array.records(array.preempted)) <= {("preempted", "stopped by SIGTERM")}


def test_on_a_node_that_is_drained_a_job_runs_to_its_end_and_one_that_runs_again_goes_elsewhere(array: Array) -> None:
    assert array.shown[array.drained]["BatchHost"] == array.drained_node
    assert array.shown[array.drained]["Restarts"] == "0"
    assert array.shown[1]["BatchHost"] != array.drained_node


def test_a_job_that_is_cancelled_is_not_run_again_and_submitted_again_it_goes_on(array: Array) -> None:
    # as above; and on a slow machine Slurm kills the launch before it has written anything
    assert stops(array.records(array.cancelled)) <= {("interrupted", "stopped by SIGTERM")}
    assert array.shown[array.cancelled]["Restarts"] == "0"


def test_a_job_of_two_nodes_trains_on_both_and_goes_on_after_its_time_limit(
    slurm: Slurm, config: Path, alone: Path, same_numbers: Callable[[Path, Path], None]
) -> None:
    out = config.parent / "two"
    options = ("--nodes", "2", "--cpus-per-task", "1", "--set", "max_concurrent=2")
    job = slurm.submit(script(config, out, *options), folder=config.parent)
    slurm.wait(job, lambda: epochs(out / "records.jsonl") >= 6, "6 epochs")
    slurm("scancel", "--batch", "--signal=USR1", job)
    slurm.at_once(job)
    slurm.until(job, "COMPLETED")
    assert slurm.shown(job)["Restarts"] == "1"
    assert set(load_trials(out)["host"]) == {"n1", "n2"}
    same_numbers(out, alone)


@pytest.mark.parametrize(
    "options",
    [
        ("--array", "3", "--time", "2-00", "--partition", "high"),
        ("--nodes", "2", "--gpus-per-task", "2", "--set", "resources.gpu=1"),
        ("--gres", "gpu:2", "--set", "resources.gpu=1", "--sbatch=--mem=2G", "--sbatch=--exclude=n2"),
    ],
    ids=str,
)
def test_sbatch_takes_what_the_command_writes(slurm: Slurm, config: Path, options: tuple[str, ...]) -> None:
    slurm.run("scontrol", "update", "nodename=n[1-2]", "state=resume")  # one may be drained yet, or was silent long
    done = slurm.run("sbatch", "--test-only", script(config, config.parent / "asked", *options))
    assert done.returncode == 0, done.stderr
    assert "to start at" in done.stderr
