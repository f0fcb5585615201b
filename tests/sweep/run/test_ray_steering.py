"""Trials of Tune that are cancelled: the one that is meant ends, and costs the others of its process no restart."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from sweep.run import ray_steering
from sweep.run.packing import Packing
from sweep.run.ray_steering import RayTrials
from sweep.run.seats import Node


class Scene:
    """A process with trials a and b, and c that waits."""

    def __init__(self, status: str = "RUNNING") -> None:
        line = iter([SimpleNamespace(id=name) for name in "abc"])
        self.packing: Packing[Any] = Packing(
            [Node(1)], 1, 0.0, lambda: next(line, None), name=lambda trial: trial.id, each=2
        )
        start = self.packing.next()
        assert start is not None
        assert self.packing.next() is None
        self.packing._pull_one()  # c waits
        self.process = SimpleNamespace(
            **{"trial_id": "t", "status": status, "PENDING": "PENDING", "max_failures": 3, "over": False},
            config={"trials": {"a": {}, "b": {}}},
            temporary_state=SimpleNamespace(ray_actor="actor"),
            is_finished=lambda: self.process.over,
        )
        self.asked: list[tuple[bool, list[str]]] = []
        self.cancelled: list[str] = []
        self.aside: list[str] = []
        self.known = {name: SimpleNamespace(pruned=False) for name in "abc"}
        journal: Any = SimpleNamespace(
            cancel=self.cancelled.append,
            set_aside=lambda trial: self.aside.append(trial.id),
            progress=SimpleNamespace(trials=self.known),
        )
        bell = SimpleNamespace(want=SimpleNamespace(remote=lambda *words: self.asked.append(words)))
        self.trials = RayTrials(journal, self.packing, bell, {"t": start})
        self.trials.tunes = [self.process]


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    actors: list[str] = []
    monkeypatch.setattr(ray_steering.ray, "kill", actors.append)
    return actors


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [100.0]
    monkeypatch.setattr(ray_steering.time, "monotonic", lambda: now[0])
    return lambda seconds: now.__setitem__(0, now[0] + seconds)


def test_one_that_runs_is_told_once_and_has_ended_when_its_process_has(killed: list[str]) -> None:
    scene = Scene()
    assert [scene.trials.cancel("a") for _ in range(3)] == [False] * 3
    assert scene.asked == [(False, ["a"])]
    assert scene.process.max_failures == 4  # the death that was asked for is no restart of b's
    assert scene.trials.ends("a")
    scene.trials.died(scene.process)
    assert (scene.cancelled, scene.aside, list(scene.process.config["trials"])) == (["a"], ["a"], ["b"])
    assert not scene.trials.ends("a")
    assert scene.asked[-1] == (False, [])
    assert not killed


def test_the_last_of_a_process_leaves_nothing_to_start_again(killed: list[str]) -> None:
    scene = Scene()
    for name in "ab":
        scene.trials.cancel(name)
    scene.trials.died(scene.process)
    assert scene.cancelled == ["a", "b"]
    assert scene.process.max_failures == 0


def test_a_process_that_never_hears_is_killed(killed: list[str], clock: Callable[[float], None]) -> None:
    scene = Scene()
    scene.trials.cancel("a")
    clock(ray_steering.STOPPING)
    assert not scene.trials.cancel("a")
    assert not killed
    clock(1)
    assert not scene.trials.cancel("a")
    assert killed == ["actor"]


def test_one_whose_process_is_not_there_yet_is_cancelled_at_once_and_hears_so_if_it_comes(killed: list[str]) -> None:
    scene = Scene("PENDING")
    assert scene.trials.cancel("a")
    assert list(scene.process.config["trials"]) == ["b"]
    assert scene.asked == [(False, ["a"])]
    assert scene.trials.ends("a")  # until then nobody else trains it
    scene.process.over = True
    assert not scene.trials.ends("a")


def test_one_that_waits_is_taken_out_of_the_line_and_can_come_back() -> None:
    scene = Scene()
    assert scene.trials.cancel("c")
    assert scene.aside == ["c"]
    assert scene.packing.drop("c") is None
    scene.trials.put_back(SimpleNamespace(id="c"))  # type: ignore[arg-type]
    back = scene.packing.drop("c")
    assert back is not None


def test_a_pause_holds_whatever_the_limit_is_and_is_told_once() -> None:
    scene = Scene()
    limits = []
    for at_once, paused in ((None, True), (2, True), (2, False), (None, False)):
        scene.trials.hold(at_once, paused)
        limits.append(scene.packing.limit)
    assert limits == [0, 0, 2, None]
    assert scene.asked == [(True, []), (False, [])]


def test_a_trial_that_ends_by_itself_first_is_no_longer_told_to_end() -> None:
    scene = Scene()
    scene.trials.cancel("a")
    scene.trials.ended("a")
    scene.trials.ended("b")
    assert scene.asked == [(False, ["a"]), (False, [])]
    assert scene.cancelled == []


def test_a_pruned_trial_that_waits_does_not_begin_and_one_whose_process_dies_uses_up_no_restart() -> None:
    scene = Scene()
    scene.known["c"].pruned = True
    scene.trials.prune("c")
    assert scene.aside == ["c"]
    for name in "ab":
        scene.known[name].pruned = True
    scene.trials.died(scene.process)
    assert (scene.process.config["trials"], scene.process.max_failures) == ({}, 0)
    assert scene.cancelled == []
