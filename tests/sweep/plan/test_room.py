"""Where trials would run: the cores of this machine that are ours."""

from __future__ import annotations

import os

import pytest

from sweep.plan.room import cores, this_machine


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("", None), ("0", None), ("4(x2)", None)])
def test_in_a_job_of_slurm_the_cores_are_those_that_it_has_on_this_node(
    said: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", said)
    assert cores() == (expected or os.cpu_count())
    assert this_machine().nodes[0]["CPU"] == cores()
