"""kill -9 of the driver, signals to it, a node that is lost: nothing is lost with them and nothing runs twice."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import small
import torch
from click.testing import CliRunner
from faults_harness import Command, Commands

from analysis.frames.trials import load_trials
from sweep import cli
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.run.signals import Interrupted
from trainers import loop
from trainers.record import FINISHED, EpochRecord, read

Driver = Callable[..., Command]
Launch = Callable[..., tuple[int, str]]
SameNumbers = Callable[[Path, Path], None]
LONG = ("--set", "trial.epochs=400")
PATIENCE = 300  # s, on a machine that is busy with other things

#: How each launch runs, and after how many more lines of a kind it is killed.
KILLS = (
    (("--serial",), "trial", 4),
    (("--serial",), "start", 1),
    (("--serial",), "epoch", 2),
    (("--serial",), "outcome", 1),
    ((), "epoch", 2),
)


def assert_no_finished_trial_started_again(directory: Path) -> None:
    finished: set[str] = set()
    for record in read(directory):
        if record["record"] == "start":
            assert record["trial_id"] not in finished
        elif record["record"] == "outcome" and record["outcome"] in FINISHED:
            assert record["trial_id"] not in finished
            finished.add(record["trial_id"])


def lines(directory: Path, kind: str) -> int:
    if not (directory / "records.jsonl").exists():
        return 0
    return sum(record["record"] == kind for record in read(directory))


def test_killed_over_and_over_the_same_command_ends_with_the_frame_of_an_undisturbed_run(
    driver: Driver,
    sweep_file: Callable[..., Path],
    launch: Launch,
    same_numbers: SameNumbers,
    tmp_path: Path,
    local_ray: None,
) -> None:
    run, six = tmp_path / "run", "trial.epochs=6"
    for options, kind, more in KILLS:
        before = lines(run, kind)
        process = driver("--set", six, *options)
        process.wait_for(run, kind, before + more)
        process.kill()
    assert launch(load(sweep_file(), [six]), run)[0] == 0
    assert lines(run, "launch") == len(KILLS) + 1
    launch(load(sweep_file(), [six]), tmp_path / "whole", serial=True)
    same_numbers(run, tmp_path / "whole")
    assert_no_finished_trial_started_again(run)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0, 0.7, 1.5, 3])
def test_a_signal_while_a_local_ray_comes_up_is_told_and_ends_the_launch_cleanly(
    seconds: float, driver: Driver, tmp_path: Path
) -> None:
    process = driver(*LONG)
    process.says("starting a local Ray")
    time.sleep(seconds)
    os.killpg(process.pid, signal.SIGINT)
    assert process.code(PATIENCE) == 130, process.output
    assert process.output.endswith("stopped by SIGINT; the same command goes on\n")
    assert "Traceback" not in process.output


@pytest.mark.slow  # in one process: `test_runner`
@pytest.mark.parametrize(
    ("signum", "name", "each"),
    [(signal.SIGINT, "SIGINT", 1), (signal.SIGTERM, "SIGTERM", 1), (signal.SIGUSR1, "SIGUSR1", 2)],
)
def test_a_signal_leaves_honest_outcomes_and_exit_130(
    signum: int, name: str, each: int, driver: Driver, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = driver(*LONG, "--set", f"resources.trials_per_process={each}")
    process.wait_for(run, "epoch", 3)
    os.killpg(process.pid, signum)  # as a terminal and `timeout` do
    code, output = process.code(PATIENCE), process.output
    assert code == 130, output
    assert f"stopped by {name}; the same command goes on" in output
    assert "Traceback" not in output
    trials = load_trials(run)
    assert set(trials.outcome) == {"interrupted", "never_started"}
    assert (trials.reason[trials.outcome == "interrupted"] == f"stopped by {name}").all()
    for trial in trials.trial_id[trials.epochs > 0]:
        written = torch.load(run / "checkpoints" / f"{trial}.pt", weights_only=True)["history"]
        assert len(written) >= trials.epochs[trials.trial_id == trial].item()  # though none is due within a minute


def test_a_running_sweep_is_told_by_status_refuses_a_second_launch_and_ends_at_once_by_a_second_signal(
    driver: Driver, commands: Commands, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = driver("--serial", *LONG)
    first.wait_for(run, "epoch", 2)

    status = commands.finish("status", run)
    assert status.startswith("running\n")
    assert "4 trials: 1 running, 3 waiting" in status
    assert "/400" in status

    second = driver("--serial")
    code, output = second.code(PATIENCE), second.output
    assert code == 2
    assert output.startswith(f"sweep: {run}: is in use by another command (sweep launch, process {first.pid}")
    assert output.count("\n") == 1
    assert first.is_running()

    os.kill(first.pid, signal.SIGSTOP)  # both are waiting when it wakes
    os.kill(first.pid, signal.SIGINT)
    os.kill(first.pid, signal.SIGTERM)
    os.kill(first.pid, signal.SIGCONT)
    assert first.code(PATIENCE) == 130


#: A head and a second node, which is killed at the first line of input; the cluster ends at the second.
CLUSTER = """
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
second = cluster.add_node(num_cpus=1)
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
input()
cluster.remove_node(second, allow_graceful=False)
input()
cluster.shutdown()
"""


@pytest.mark.slow
def test_on_a_cluster_the_trials_of_a_lost_node_go_on_elsewhere(
    driver: Driver,
    sweep_file: Callable[..., Path],
    launch: Callable[..., tuple[int, str]],
    same_numbers: Callable[[Path, Path], None],
    ray_cluster: Any,
    tmp_path: Path,
) -> None:
    run = tmp_path / "run"
    with ray_cluster(CLUSTER) as (address, fault):
        process = driver("--address", address, "--set", "trial.epochs=25")
        process.wait_for(run, "epoch", 6)
        fault()
        code, output = process.code(PATIENCE), process.output
    assert code == 0, output
    launch(load(sweep_file(), ["trial.epochs=25"]), tmp_path / "whole", serial=True)
    same_numbers(run, tmp_path / "whole")
    assert load_trials(run).attempts.max() == 2


def test_damaged_checkpoints_of_a_stopped_sweep_cost_an_epoch_no_number_and_are_told_of(
    tiny: Callable[..., SweepConfig],
    launch: Launch,
    same_numbers: SameNumbers,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = tiny(trial=small.TINY | {"checkpoint": {"every_epochs": 1}})
    epoch = loop._epoch

    def stopping(trial: Any, number: int) -> EpochRecord:
        if number == 2:
            raise Interrupted("SIGINT")
        return epoch(trial, number)

    for damaged, said in (
        (1, "goes on from epoch 1, 1 epoch trained again: "),
        (2, "begins afresh, 2 epochs trained again: "),
    ):
        run = tmp_path / f"run{damaged}"
        with monkeypatch.context() as signalled:
            signalled.setattr(loop, "_epoch", stopping)
            assert launch(config, run, serial=True)[0] == 130
        newest, before = sorted((run / "checkpoints").iterdir(), key=lambda file: len(file.name))
        for file in (newest, before)[:damaged]:
            content = bytearray(file.read_bytes())
            content[len(content) // 3] ^= 4
            file.write_bytes(content)
        code, text = launch(config, run, serial=True)
        assert code == 0
        (line,) = [line for line in text.splitlines() if "trained again" in line]
        assert line.startswith(f"trial {newest.stem} {said}{newest.name} ")
        assert line.endswith("is damaged: its bytes are not those that were written (sha256)")
        same_numbers(run, undisturbed)
        assert len(list((run / "checkpoints").iterdir())) == 4
        shown = CliRunner().invoke(cli.main, ["show", str(run), newest.stem]).output
        assert "is damaged: its bytes" in " ".join(shown.split())
