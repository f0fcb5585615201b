"""A launch on a Ray of several hosts: one leaves while it is asked, others join, fail and are killed; slow.

One launch meets all of that; the tests look at what is left of it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import ray_hosts
import small
import yaml

from sweep.config_file import load
from trainers.record import read

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ray_hosts.why_not()), reason=ray_hosts.why_not() or "hosts can be made"),
]

PATIENCE = 300  # s, on a machine that is busy with other things

#: Has a head take a node for dead after 2 s without an answer, not after 15.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}

#: How Ray names a process that trains.
TRAINS = "ray::Implicit"

SWEEP: dict[str, Any] = {
    "name": "hosts",
    "trial": small.TINY | {"epochs": 40},
    "space": {"optimizer.lr": [0.1, 0.2, 0.3]},
    "resources": {"cpu": 1},
}


class Ran(NamedTuple):
    """What is left of the launch."""

    run: Path
    config: Path
    output: str
    code: int

    def records(self, kind: str) -> list[dict[str, Any]]:
        return [record for record in read(self.run) if record["record"] == kind]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    shared = tmp_path_factory.mktemp("hosts") / "shared"
    shared.mkdir()
    run, config, log = shared / "run", shared / "sweep.yaml", shared / "out"
    config.write_text(yaml.safe_dump(SWEEP))

    with ray_hosts.hosts(shared, 3, QUICK) as hosts, log.open("w") as out:

        def wait_for(what: Callable[[], bool]) -> None:
            deadline = time.monotonic() + PATIENCE
            while not what():
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)

        def runs_on(host: str) -> bool:
            path = run / "records.jsonl"
            return path.exists() and f'"host":"{host}"' in path.read_text()

        hosts.start(1)
        hosts.start(2)
        hosts.wait(2)
        hosts.kill(2, "raylet", "STOP")  # it answers nothing, so that it is asked when it is killed
        launch = [sys.executable, "-c", "from sweep.cli import main; main()", "launch", str(config), "--out", str(run)]
        process = hosts.run(1, *launch, "--address", hosts.address, stdout=out)
        wait_for(lambda: list(run.glob(".probe-*")) != [])
        hosts.kill(2)
        wait_for(lambda: runs_on("rr1"))
        hosts.kill(1, TRAINS, "STOP")  # so that it lasts as long as the test, on a machine of any speed
        hosts.start(2)
        hosts.run(3, "umount", str(shared)).wait()
        hosts.start(3)
        wait_for(lambda: runs_on("rr2") and "node rr3 does not see it" in log.read_text())
        hosts.kill(2)
        wait_for(lambda: "node rr2 has left" in log.read_text())
        hosts.kill(1, TRAINS, "CONT")
        code = process.wait(PATIENCE)
    return Ran(run, config, log.read_text(), code)


def test_a_node_that_goes_away_while_it_is_asked_at_the_start_is_left_out_with_one_line(ran: Ran) -> None:
    assert ran.output.count("node rr2 went away while it was asked: left out\n") == 1


def test_a_node_that_joins_runs_trials_beside_those_that_run(ran: Ran) -> None:
    assert ran.output.count("node rr2 has joined: trials run on 2 nodes now\n") == 1
    first, second = (min(r["time"] for r in ran.records("start") if r["host"] == host) for host in ("rr1", "rr2"))
    ends = {record["trial_id"]: record["time"] for record in ran.records("outcome")}
    on_first = [record for record in ran.records("start") if record["host"] == "rr1" and record["time"] < second]
    assert first < second < ends[on_first[-1]["trial_id"]]


def test_a_node_that_fails_its_probe_is_left_out_with_one_line_and_gets_no_trial(ran: Ran) -> None:
    refused = (
        f"left out, a node that joined: --out {ran.run}: node rr3 does not see it; give a folder that all nodes share\n"
    )
    assert ran.output.count(refused) == ran.output.count("rr3") == 1
    assert {record["host"] for record in ran.records("start")} == {"rr1", "rr2"}


def test_trials_of_a_node_whose_raylet_is_killed_go_on_elsewhere_and_the_frames_are_those_of_an_undisturbed_run(
    ran: Ran, launch: Any, same_numbers: Any, tmp_path: Path
) -> None:
    assert ran.code == 0, ran.output
    assert ran.output.count("node rr2 has left: trials run on 1 node now\n") == 1
    hosts = {(record["trial_id"], record["host"]) for record in ran.records("start")}
    assert {"rr1", "rr2"} in ({host for trial, host in hosts if trial == name} for name, _ in hosts)
    launch(load(ran.config), tmp_path / "whole", serial=True)
    same_numbers(ran.run, tmp_path / "whole")
