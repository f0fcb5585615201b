"""Where trials would run: the cores of this machine that are ours."""

from __future__ import annotations

import os

import pytest

from sweep.config import ResourcesConfig
from sweep.plan.room import Room, cores, this_machine
from sweep.run import seats


@pytest.mark.parametrize(("said", "expected"), [("3", 3), ("", None), ("0", None), ("4(x2)", None)])
def test_in_a_job_of_slurm_the_cores_are_those_that_it_has_on_this_node(
    said: str, expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_CPUS_ON_NODE", said)
    assert cores() == (expected or os.cpu_count())
    assert this_machine().nodes[0]["CPU"] == cores()


@pytest.mark.parametrize(("gpu", "cards", "fit"), [(0.6, 2, 2), (0.4, 4, 8), (1 / 3, 1, 3), (1, 3, 3), (0.0, 2, 16)])
def test_no_trial_is_counted_on_parts_of_two_cards_by_the_plan_as_by_the_launch(
    gpu: float, cards: int, fit: int
) -> None:
    room = Room("x", [{"CPU": 16.0, "GPU": float(cards)}])
    assert room.processes(ResourcesConfig(cpu=1, gpu=gpu)) == fit
    assert seats.Room([seats.Node(16, cards)]).processes(1, gpu) == fit
