"""Which machine a process runs on, and whether another one lives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from trainers.machine import machine, started

SAID = "from trainers.machine import machine, started; import os; print(machine(), started(os.getpid()))"


def test_processes_of_one_machine_agree_on_it_and_on_when_one_of_them_started() -> None:
    command = [sys.executable, "-c", f"{SAID}; input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout
        assert other.stdout.readline().split() == [machine(), str(started(other.pid))]
        assert started(other.pid) != started(os.getpid())
        other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        assert started(other.pid) is None  # a zombie has ended
    assert started(other.pid) is None


def test_a_container_of_the_same_host_is_another_machine() -> None:
    command = ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", SAID]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        pytest.skip(f"no namespaces here: {answer.stderr.strip()}")
    assert answer.stdout.split()[0] != machine()
