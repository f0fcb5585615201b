"""A launch that stops has its trials write, and waits for those that train, and no longer than it says."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from types import SimpleNamespace
from typing import Any

import pytest
import ray

from sweep.run import bell, ray_tune
from sweep.run.bell import Bell
from sweep.run.signals import Interrupted
from trainers import checkpoint


def asked(scene: Callable[[Bell], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(scene(Bell()))


def test_who_listens_hears_the_ring_and_the_ring_ends_when_those_that_run_have_left() -> None:
    async def scene(one: Bell) -> list[Any]:
        heard = [asyncio.create_task(one.listen(trial)) for trial in ("a", "b")]
        await asyncio.sleep(0)
        ring = asyncio.create_task(one.ring(["a"], 60))
        seen = [await each for each in heard]
        await asyncio.sleep(5 * bell._PAUSE)
        seen.append(ring.done())
        await one.leave("a")
        await ring
        return seen

    assert asked(scene) == ["write", "write", False]


def test_a_trial_that_ends_hears_nothing_and_is_not_waited_for() -> None:
    async def scene(one: Bell) -> str | None:
        heard = asyncio.create_task(one.listen("a"))
        await asyncio.sleep(0)
        await one.leave("a")
        await one.leave("a")
        await one.ring(["a", "never heard of"], 60)
        return await heard

    assert asked(scene) is None


def test_the_bell_knows_at_once_whom_a_rule_has_ended() -> None:
    async def scene(one: Bell) -> list[bool]:
        await one.prune("a")
        return [await one.is_pruned("a"), await one.is_pruned("b")]

    assert asked(scene) == [True, False]


def test_a_word_holds_for_who_comes_later_and_each_is_heard_once() -> None:
    async def scene(one: Bell) -> list[Any]:
        await one.want(True, ["a"])
        seen: list[Any] = [await one.listen("a"), await one.listen("b")]
        again = asyncio.create_task(one.listen("b", heard="pause"))
        await asyncio.sleep(5 * bell._PAUSE)
        seen.append(again.done())
        await one.want(False, [])
        return [*seen, await again]

    assert asked(scene) == ["end", "pause", False, ""]


def test_a_trial_that_leaves_late_takes_nothing_from_its_next_run() -> None:
    async def scene(one: Bell) -> list[Any]:
        first = asyncio.create_task(one.listen("a", "first"))
        await asyncio.sleep(0)
        second = asyncio.create_task(one.listen("a", "second"))
        await asyncio.sleep(0)
        await one.leave("a", "first")
        await one.want(True, [])
        return [await first, await second]

    assert asked(scene) == [None, "pause"]


def test_a_trial_that_does_not_write_is_waited_for_so_long_and_no_longer() -> None:
    async def scene(one: Bell) -> str | None:
        heard = asyncio.create_task(one.listen("a"))
        await asyncio.sleep(0)
        await one.ring(["a"], 10 * bell._PAUSE)
        return await heard

    started = time.monotonic()
    assert asked(scene) == "write"
    assert time.monotonic() - started >= 9 * bell._PAUSE


@ray.remote(num_cpus=0)
def _trial(of: Any) -> list[str]:
    """A process whose trial trains until it was asked to write."""
    written: list[str] = []
    done = threading.Event()
    checkpoint.write_held = lambda: (written.append("held"), done.set())  # type: ignore[assignment]
    with bell.listening(of, "a", lambda: written.append("ended")) as paused:
        assert not paused()
        assert done.wait(timeout=60)
    return written


def test_a_ring_reaches_a_trial_in_another_process_in_the_midst_of_its_training(local_ray: None) -> None:
    of = ray.remote(Bell).options(num_cpus=0).remote()
    result = _trial.remote(of)
    deadline = time.monotonic() + 60
    while not ray.wait([result], timeout=0.1)[0]:
        ray.get(of.ring.remote([], 0))  # whoever listens by now
        assert time.monotonic() < deadline
    assert ray.get(result) == ["held"]
    ray.kill(of)


@pytest.mark.parametrize("error", [Interrupted, RuntimeError])
def test_only_what_stops_the_launch_rings(error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    rung: list[Any] = []
    ringing = SimpleNamespace(ring=SimpleNamespace(remote=lambda trials, seconds: (trials, seconds)))
    progress = SimpleNamespace(running=lambda: [SimpleNamespace(id="a")] if not rung else [])
    running = SimpleNamespace(progress=progress, interrupt=rung.append)
    monkeypatch.setattr(ray_tune.ray, "get", lambda asked: rung.append(asked))
    with pytest.raises(error), ray_tune._written_when_stopped(running, ringing):  # type: ignore[arg-type]
        raise error("SIGTERM")
    # the outcomes are written down first
    assert rung == (["stopped by SIGTERM", (["a"], ray_tune.STOPPING)] if error is Interrupted else [])


def test_a_ray_that_no_longer_answers_does_not_hold_the_launch(monkeypatch: pytest.MonkeyPatch) -> None:
    ringing = SimpleNamespace(ring=SimpleNamespace(remote=lambda trials, seconds: None))
    nothing = SimpleNamespace(progress=SimpleNamespace(running=list), interrupt=lambda reason: None)
    silent = threading.Event()
    monkeypatch.setattr(ray_tune, "STOPPING", -0.9)
    monkeypatch.setattr(ray_tune.ray, "get", lambda asked: silent.wait(timeout=60))
    started = time.monotonic()
    with pytest.raises(Interrupted), ray_tune._written_when_stopped(nothing, ringing):  # type: ignore[arg-type]
        raise Interrupted("SIGTERM")
    assert time.monotonic() - started < 30
    silent.set()
