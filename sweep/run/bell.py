"""How a launch reaches its trials on all nodes in the midst of an epoch: to write their checkpoints, pause, or end."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import ray

#: What a trial hears: to write its newest state now, to end with this epoch, to end now; or nothing of these.
Word = Literal["write", "pause", "end", ""]


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

    async def listen(self, trial: str, run: str = "", heard: Word = "") -> Word | None:
        """Returns what holds for the trial, once it is another word than it has heard; None: it has left.

        Args:
            trial: its id.
            run: tells this run of the trial from another, whose leaving may come late.
            heard: the last word.
        """
        self._listening[trial] = run
        async with self._changed:
            await self._changed.wait_for(lambda: self._listening.get(trial) != run or self._word(trial) != heard)
        return self._word(trial) if self._listening.get(trial) == run else None

    def _word(self, trial: str) -> Word:
        return "write" if self._rung else "end" if trial in self._ending else "pause" if self._paused else ""

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
    heard = bell.listen.remote(trial, run)  # in this thread, so that it comes before `leave`
    left = False

    def wait(heard: Any) -> None:
        while (word := ray.get(heard)) is not None:
            (paused.set if word == "pause" else paused.clear)()
            with here:  # or it would end what this process does next
                if left:
                    return
                if word == "end":
                    end()
                if word != "write":
                    heard = bell.listen.remote(trial, run, word)
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
