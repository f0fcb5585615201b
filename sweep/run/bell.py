"""How a launch that stops tells trials on all nodes, in the midst of an epoch, to write their checkpoints now."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray


class Bell:
    """Trials listen, and leave when they have ended or have written what they were rung for; a Ray actor."""

    def __init__(self) -> None:
        """Nobody listens."""
        self._listening: dict[str, asyncio.Future[bool]] = {}

    async def listen(self, trial: str) -> bool:
        """Returns when the bell rings, True, or when the trial leaves, False."""
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._listening[trial] = waiting
        return await waiting

    async def leave(self, trial: str) -> None:
        """The trial has ended, or has written."""
        waiting = self._listening.pop(trial, None)
        if waiting is not None and not waiting.done():
            waiting.set_result(False)

    async def ring(self, trials: Sequence[str], seconds: float) -> None:
        """Rings, and returns when these trials have left, or after so many seconds."""
        for waiting in self._listening.values():
            if not waiting.done():
                waiting.set_result(True)
        for _ in range(int(seconds / _PAUSE)):
            if self._listening.keys().isdisjoint(trials):
                return
            await asyncio.sleep(_PAUSE)


#: Between two looks at who has left, s.
_PAUSE = 0.02


@contextmanager
def listening(bell: Any, trial: str) -> Iterator[None]:
    """A block in which a trial trains, in this thread: if the bell rings meanwhile, its newest state is written.

    Args:
        bell: handle of the actor.
        trial: its id.
    """
    from trainers import checkpoint  # and with it torch, for which the actor's own process need not wait

    rung = bell.listen.remote(trial)  # in this thread, so that it comes before `leave`

    def wait() -> None:
        if ray.get(rung):
            checkpoint.write_held()
            bell.leave.remote(trial)

    threading.Thread(target=wait, name="bell", daemon=True).start()
    try:
        yield
    finally:
        bell.leave.remote(trial)
