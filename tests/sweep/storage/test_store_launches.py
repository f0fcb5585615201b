"""Runs in a store by real processes: killed, taken over on another machine, with the store away, refused."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults_harness import Command, Commands, lines, numbers
from object_store import KEYS, S3

pytestmark = pytest.mark.slow

SameNumbers = Callable[[Path, Path], None]

#: Of one process: what is left over is known sooner, and a store that is away is waited for less long.
QUICK = {
    **{"sweep.storage.lock.BEAT": 0.5, "sweep.storage.lock.STALE": 4.0, "sweep.storage.lock.PAUSE": 0.2},
    **{"sweep.storage.mirror.PAUSE": 0.05, "sweep.storage.mirror.EVERY": 0.2},
}
SHORT = {f"sweep.storage.{module}.PATIENCE": 3.0 for module in ("objects", "mirror", "lock")}


class Machine:
    """Commands on one machine, with its own folder of runs."""

    def __init__(self, commands: Commands, s3: S3, cache: Path) -> None:
        self._commands, self._s3, self._cache = commands, s3, cache

    def __call__(self, *words: str | Path, values: dict[str, Any] | None = None, **variables: str) -> Command:
        environment = {**self._s3.environment(self._cache), **variables}
        return self._commands(*words, environment=environment, values={**QUICK, **(values or {})})

    def finish(self, *words: str | Path) -> str:
        command = self(*words)
        assert command.code() == 0, command.output
        return command.output

    @property
    def run(self) -> Path:
        """The folder of its one run."""
        (folder,) = self._cache.iterdir()
        return folder

    def wait_for(self, command: Command, kind: str, number: int) -> None:
        command.until(
            lambda: self._cache.exists() and any(lines(run, kind) >= number for run in self._cache.iterdir()),
            f"{number} lines of {kind}",
        )


@pytest.fixture
def machines(commands: Commands, s3: S3, tmp_path: Path) -> Callable[[str], Machine]:
    return lambda name: Machine(commands, s3, tmp_path / name)


def starts(run: Path, trial: str) -> int:
    records = [json.loads(line) for line in (run / "records.jsonl").read_text().splitlines()]
    return sum(record["record"] == "start" and record["trial_id"] == trial for record in records)


def test_a_launch_that_is_killed_goes_on_from_its_store_on_another_machine_to_the_same_numbers(
    machines: Callable[[str], Machine],
    s3: S3,
    bucket: str,
    sweep_file: Callable[..., Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
) -> None:
    one, other, out = machines("one"), machines("other"), f"s3://{bucket}/runs/tiny"
    launched = one("launch", sweep_file(), "--out", out, "--serial")
    launched.until(lambda: b'{"record":"outcome"' in s3.records(f"{bucket}/runs/tiny"), "an outcome in the store")
    launched.signal(signal.SIGKILL)
    assert launched.code() == -signal.SIGKILL

    said = other.finish("launch", sweep_file(), "--out", out, "--serial")
    assert "finished 0" not in said
    same_numbers(other.run, undisturbed)
    assert numbers(other.run) == numbers(undisturbed)
    ended = next(key[1] for key in numbers(other.run) if key[0] == "outcome")
    assert starts(other.run, ended) == 1
    names = s3.names(f"{bucket}/runs/tiny")
    assert [name for name in names if name.startswith("lock/")] == []
    assert sum(name.startswith("checkpoints/") for name in names) == 4

    # the machine that was killed, whose folder has lines that no store has, is what the store is
    assert "4 completed" in one.finish("status", out)
    same_numbers(one.run, undisturbed)
    # and a machine that has nothing reads and evaluates it, with the one file that this needs
    third = machines("third")
    assert ended in third.finish("results", out, "--format", "csv")
    assert "pgd" in third.finish("evaluate", out, ended, "--attack", "pgd", "--serial")
    assert [path.stem for path in (third.run / "checkpoints").iterdir()] == [ended]
    assert "pgd" in one.finish("results", out, "--evaluations", "--format", "csv")
    third.finish("export", out, ended, "--torch", "--out", third.run.parent.parent / "weights.pt")


def test_of_two_launches_at_once_on_two_machines_one_is_refused_by_the_name_of_the_other(
    machines: Callable[[str], Machine],
    bucket: str,
    sweep_file: Callable[..., Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
) -> None:
    one, other, out = machines("one"), machines("other"), f"s3://{bucket}/tiny"
    words = ("launch", sweep_file(trial=_longer(8)), "--out", out, "--serial")
    both = [one(*words), other(*words)]
    both[0].until(lambda: not all(command.is_running() for command in both), "one that is refused")
    refused, holder = sorted(both, key=Command.is_running)
    assert refused.code() == 2, refused.output
    assert refused.output.count("\n") == 1
    assert f"{out}: is in use by another command (sweep launch, process {holder.pid} on" in refused.output
    seen = other("status", out)
    assert seen.code() == 0
    assert seen.output.startswith("running") or "a launch is starting" in seen.output
    beside = (
        one("launch", sweep_file(), "--out", out) if holder is both[0] else other("launch", sweep_file(), "--out", out)
    )
    assert beside.code() == 2
    assert f"process {holder.pid} on" in beside.output
    assert holder.code() == 0, holder.output


def _longer(epochs: int) -> dict[str, Any]:
    import small

    return {**small.TINY, "epochs": epochs}


def test_a_store_that_is_away_for_some_seconds_is_waited_for_and_the_numbers_are_the_same(
    machines: Callable[[str], Machine],
    s3: S3,
    bucket: str,
    sweep_file: Callable[..., Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
) -> None:
    one, out = machines("one"), f"s3://{bucket}/tiny"
    launched = one("launch", sweep_file(), "--out", out, "--serial", values={"sweep.storage.mirror.SILENCE": 0.0})
    one.wait_for(launched, "epoch", 2)
    with s3.door.shut():
        launched.says("waiting for it, up to 60 s")
        time.sleep(1)
    assert launched.code() == 0, launched.output
    same_numbers(one.run, undisturbed)
    other = machines("other")
    other.finish("status", out)
    assert (other.run / "records.jsonl").read_bytes() == (one.run / "records.jsonl").read_bytes()


def test_a_store_that_stays_away_ends_the_launch_in_one_line_and_the_same_command_goes_on_with_nothing_lost(
    machines: Callable[[str], Machine],
    s3: S3,
    bucket: str,
    sweep_file: Callable[..., Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
) -> None:
    one, out = machines("one"), f"s3://{bucket}/tiny"
    words = ("launch", sweep_file(), "--out", out, "--serial", "--debug")
    launched = one(*words, values=SHORT)
    one.wait_for(launched, "outcome", 1)
    with s3.door.shut():
        assert launched.code() == 2, launched.output
    last = launched.output.splitlines()[-1]
    assert last.startswith(f"{out}: cannot be reached at AWS_ENDPOINT_URL http://127.0.0.1:")
    assert last.endswith("; the same command goes on")
    before = numbers(one.run)
    one.finish(*words)
    after = numbers(one.run)
    assert [key for key, values in before.items() if key[0] == "epoch" and after[key] != values] == []
    same_numbers(one.run, undisturbed)


def test_a_damaged_checkpoint_in_a_store_is_never_believed(
    machines: Callable[[str], Machine],
    s3: S3,
    bucket: str,
    sweep_file: Callable[..., Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
) -> None:
    one, other, out = machines("one"), machines("other"), f"s3://{bucket}/tiny"
    launched = one("launch", sweep_file(), "--out", out, "--serial")
    one.wait_for(launched, "epoch", 2)
    launched.signal(signal.SIGTERM)
    assert launched.code() == 130, launched.output
    system = s3.system()
    (name,) = [name for name in s3.names(f"{bucket}/tiny") if name.startswith("checkpoints/")]
    with system.open_input_file(f"{bucket}/tiny/{name}") as file:
        content = bytearray(file.read())
    content[len(content) // 2] ^= 1
    with system.open_output_stream(f"{bucket}/tiny/{name}") as file:
        file.write(bytes(content))
    other.finish("launch", sweep_file(), "--out", out, "--serial")
    same_numbers(other.run, undisturbed)
    assert lines(other.run, "resume") == 1
    written = b"".join(path.read_bytes() for path in other.run.rglob("*") if path.is_file())
    assert not any(key.encode() in written for key in KEYS.values())


def test_what_cannot_be_a_store_is_told_in_one_line_within_some_seconds(
    machines: Callable[[str], Machine], bucket: str, sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    one, began = machines("one"), time.monotonic()
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    asked = {
        "no bucket": one("launch", sweep_file(), "--out", "s3://no-such-bucket/run", "--serial"),
        "no server": one("launch", sweep_file(), "--out", f"s3://{bucket}/run", AWS_ENDPOINT_URL="http://127.0.0.1:9"),
        "no keys": one("launch", sweep_file(), "--out", f"s3://{bucket}/run", HOME=str(tmp_path), **none),
        "read no bucket": one("status", "s3://no-such-bucket/another"),
        "read no run": one("status", f"s3://{bucket}/none"),
    }
    for command in asked.values():
        assert command.code() == 2, command.output
    assert time.monotonic() - began < 40
    said = {what: command.output.splitlines() for what, command in asked.items()}
    assert "waiting for it, up to 10 s" in said["no server"].pop(0)
    assert {what: len(told) for what, told in said.items() if len(told) != 1} == {}
    assert "s3://no-such-bucket/run: there is no bucket no-such-bucket" in said["no bucket"][0]
    assert "AWS_ENDPOINT_URL http://127.0.0.1:9" in said["no server"][0]
    assert "the store refuses: AWS Error ACCESS_DENIED" in said["no keys"][0]
    assert "there is no bucket" in said["read no bucket"][0]
    assert f"s3://{bucket}/none: not a run: it has no records" in said["read no run"][0]


#: Two nodes, each with folders of its own, as on two machines; both end at the second line.
CLUSTER = """
import os, tempfile
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "env_vars": {"ROBUSTSWEEP_CACHE": CACHES[0]}})
cluster.add_node(num_cpus=1, env_vars={"ROBUSTSWEEP_CACHE": CACHES[1]})
cluster.wait_for_nodes()
print("address", cluster.address, flush=True)
input()
input()
cluster.shutdown()
"""


def test_trials_on_nodes_that_share_no_folder_bring_their_checkpoints_to_the_store_themselves(
    machines: Callable[[str], Machine],
    s3: S3,
    bucket: str,
    sweep_file: Callable[..., Path],
    undisturbed: Path,
    same_numbers: SameNumbers,
    ray_cluster: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    driver, caches = machines("driver"), [tmp_path / "one", tmp_path / "other"]
    for variable, value in s3.environment(tmp_path).items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("RAY_gcs_server_port_wait_time_s", "60")  # a busy machine's head is slow to answer
    with ray_cluster(f"CACHES = {list(map(str, caches))}\n{CLUSTER}") as (address, go):
        driver.finish("launch", sweep_file(), "--out", f"s3://{bucket}/tiny", "--address", address)
        go()
    same_numbers(driver.run, undisturbed)
    assert not list((driver.run / "checkpoints").iterdir())
    trained = [{path.stem for path in next(cache.iterdir()).glob("checkpoints/*.pt")} for cache in caches]
    assert all(trained)
    there = [name for name in s3.names(f"{bucket}/tiny") if name.startswith("checkpoints/")]
    assert len(there) == 4 == len(trained[0] | trained[1])
