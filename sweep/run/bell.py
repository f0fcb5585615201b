"""How a launch reaches its trials on all nodes in the midst of an epoch: to write their checkpoints, pause, or end."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, Literal

import ray
from ray._private.state import state

#: What a trial hears: to write its newest state and leave, to end with this epoch, to end now, to write again and again
#: for its node is about to go; or nothing of these.
Word = Literal["write", "pause", "end", "save", ""]

#: Between two looks which nodes are about to go, and between two writings of a trial there, s. A spot machine's notice
#: comes half a minute (Google's) to two minutes (Amazon's) before its end, and an epoch may end any time until then.
LOOK, AGAIN = 1.0, 5.0


class Bell:
    """Trials listen, and leave when they have ended or have written what they were rung for; a Ray actor.

    What a trial hears is what holds now, so that none misses a word that was said before it listened.
    """

    def __init__(self) -> None:
        """Nobody listens, and nothing is asked of anybody."""
        self._listening: dict[str, str] = {}
        self._changed = asyncio.Condition()
        self._rung = self._paused = False
        self._ending: Collection[str] = ()
        self._pruned: set[str] = set()
        self._lacking: dict[str, tuple[str, str]] = {}
        self._draining: Collection[str] = ()

    async def watch(self, draining: Callable[[], Collection[str]] | None = None) -> None:
        """Looks which nodes Ray is about to take away, as its autoscaler or `ray drain-node` tells it, to the end.

        Args:
            draining: gives their ids; None: Ray does.
        """
        while True:
            with suppress(Exception):  # of many classes; whether Ray is there is looked at elsewhere
                now = frozenset(await asyncio.to_thread(draining or state.get_draining_nodes))
                if now != self._draining:
                    self._draining = now
                    await self._tell()
            await asyncio.sleep(LOOK)

    async def listen(self, trial: str, run: str = "", heard: Word = "", node: str = "") -> Word | None:
        """Returns what holds for the trial, once it is another word than it has heard; None: it has left.

        Args:
            trial: its id.
            run: tells this run of the trial from another, whose leaving may come late.
            heard: the last word.
            node: id of the one that it trains on.
        """
        self._listening[trial] = run
        async with self._changed:
            await self._changed.wait_for(lambda: self._listening.get(trial) != run or self._word(trial, node) != heard)
        return self._word(trial, node) if self._listening.get(trial) == run else None

    def _word(self, trial: str, node: str) -> Word:
        if self._rung:
            return "write"
        if trial in self._ending:
            return "end"
        return "pause" if self._paused else "save" if node in self._draining else ""

    async def leave(self, trial: str, run: str = "") -> None:
        """The trial has ended, or has written."""
        if self._listening.get(trial) == run:
            del self._listening[trial]
            await self._tell()

    async def want(self, paused: bool, ending: Collection[str]) -> None:
        """From now on all trials pause, or none; and these end."""
        self._paused, self._ending = paused, ending
        await self._tell()

    async def prune(self, trial: str) -> None:
        """A stopping rule has ended the trial."""
        self._pruned.add(trial)

    async def is_pruned(self, trial: str) -> bool:
        """Whether one has: asked after each epoch, as what `listen` brings comes later than the epoch's answer."""
        return trial in self._pruned

    async def lacks(self, trial: str, why: str, preempted: str) -> None:
        """The trial's process ends itself, for another worker of it is gone: how, and that it was preempted, if so."""
        self._lacking[trial] = why, preempted

    async def lacked(self, trial: str) -> tuple[str, str]:
        """The same of a trial whose process has ended, told once; two empty texts: it was not for that."""
        return self._lacking.pop(trial, ("", ""))

    async def ring(self, trials: Sequence[str], seconds: float) -> None:
        """Rings, and returns when these trials have left, or after so many seconds."""
        self._rung = True
        await self._tell()
        for _ in range(int(seconds / _PAUSE)):
            if self._listening.keys().isdisjoint(trials):
                return
            await asyncio.sleep(_PAUSE)

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()


#: Between two looks at who has left, s.
_PAUSE = 0.02


@contextmanager
def listening(bell: Any, trial: str, end: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """A block in which a trial trains, in this thread: if the bell rings meanwhile, its newest state is written.

    Args:
        bell: handle of the actor.
        trial: its id.
        end: ends this process, the newest states written: it is called if the trial is to end now.

    Yields:
        what tells whether the trial is paused.
    """
    from trainers import checkpoint  # and with it torch, for which the actor's own process need not wait

    run, here, paused = uuid.uuid4().hex, threading.Lock(), threading.Event()
    node = ray.get_runtime_context().get_node_id()
    heard = bell.listen.remote(trial, run, "", node)  # in this thread, so that it comes before `leave`
    left = False

    def wait(heard: Any) -> None:
        word: Word | None = ""
        while True:
            try:
                word = ray.get(heard, timeout=AGAIN if word == "save" else None)
            except ray.exceptions.GetTimeoutError:
                checkpoint.write_held()
                continue
            if word is None:
                return
            if word == "save":
                checkpoint.write_held()
            (paused.set if word == "pause" else paused.clear)()
            with here:  # or it would end what this process does next
                if left:
                    return
                if word == "end":
                    end()
                if word != "write":
                    heard = bell.listen.remote(trial, run, word, node)
            if word == "write":
                checkpoint.write_held()
                bell.leave.remote(trial, run)
                return

    threading.Thread(target=wait, args=(heard,), name="bell", daemon=True).start()
    try:
        yield paused.is_set
    finally:
        with here:
            left = True
            bell.leave.remote(trial, run)
