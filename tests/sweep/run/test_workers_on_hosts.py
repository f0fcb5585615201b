"""A trial on two workers on two hosts whose names stand for addresses that no other host reaches; slow."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray_hosts
import small
import yaml
from faults_harness import lines

from analysis.frames.trials import load_trials
from sweep.config_file import load

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(ray_hosts.why_not()), reason=ray_hosts.why_not() or "hosts can be made"),
]

PATIENCE = 300  # s, on a machine that is busy with other things: Ray of two hosts, and torch in six processes

#: Has a head take a node for dead after 2 s without an answer, not after 15.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "4",
}

SWEEP: dict[str, Any] = {
    "name": "hosts",
    "trial": small.TINY | {"epochs": 12, "checkpoint": {"every_epochs": 1}},
    "space": {"optimizer.lr": [0.1]},
    "resources": {"cpu": 1, "workers": 2},
}

#: As Debian and Ubuntu write /etc/hosts: gloo by itself would listen where the other host does not come.
TRAP = "printf '127.0.0.1 localhost\\n127.0.1.1 rr%s\\n' > /tmp/names && mount --bind /tmp/names /etc/hosts"


def test_workers_on_two_hosts_meet_and_where_one_host_is_lost_the_trial_goes_on_with_another(
    tmp_path: Path, launch: Callable[..., tuple[int, str]], same_numbers: Callable[[Path, Path], None]
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    run, config, log = shared / "run", shared / "sweep.yaml", shared / "out"
    config.write_text(yaml.safe_dump(SWEEP))
    with ray_hosts.hosts(shared, 2, QUICK) as hosts, log.open("w") as out:
        for number in (1, 2):
            assert hosts.run(number, "sh", "-c", TRAP % number).wait() == 0
            hosts.start(number)
        hosts.wait(2)
        command = [sys.executable, "-c", "from sweep.cli import main; main()", "launch", str(config), "--out", str(run)]
        process = hosts.run(1, *command, "--address", hosts.address, stdout=out)

        def wait_for(epochs: int) -> None:
            deadline = time.monotonic() + PATIENCE
            while lines(run, "epoch") < epochs:
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.02)

        wait_for(2)
        hosts.kill(2)
        hosts.start(2)
        assert process.wait(PATIENCE) == 0, log.read_text()
    trials = load_trials(run)
    assert (trials.outcome.item(), trials.attempts.item(), trials.workers.item()) == ("completed", 2, 2)
    launch(load(config), tmp_path / "whole", serial=True)
    same_numbers(run, tmp_path / "whole")
