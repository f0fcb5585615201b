"""The other workers of a trial as processes of this machine, as a serial launch has them; each on a card of its own."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from sweep.run.bound import DYING, Kills, bind, how, listen, started
from sweep.run.workers import Death, Reply

#: By which the processes of one machine reach each other.
_HERE = "127.0.0.1"


class Processes:
    """Processes that this one keeps from trial to trial; they end when it does, and when they are forgotten."""

    def __init__(self, number: int) -> None:
        """Starts them, so that they import torch beside this one.

        Args:
            number: of them.
        """
        self.number, self.host = number, _HERE
        self._each: dict[int, tuple[subprocess.Popen[str], Connection]] = {}
        self._busy: set[int] = set()
        self._kills = Kills()
        for rank in range(1, number + 1):
            self._start(rank)

    def _start(self, rank: int) -> None:
        self._each[rank] = started("sweep.run.worker_processes")

    def begin(self, work: Mapping[str, Any]) -> None:
        """See `sweep.run.workers.Others`."""
        self._kills = Kills()
        try:
            self._begin(work)
        except BaseException:
            for rank in self._busy:
                self._forget(rank)
            self._busy.clear()
            raise

    def _begin(self, work: Mapping[str, Any]) -> None:
        for rank in range(1, self.number + 1):
            if rank not in self._each or self._each[rank][0].poll() is not None:
                self._forget(rank)
                self._start(rank)
            self._busy.add(rank)
            with suppress(ConnectionError):  # it has just died, as will be seen
                self._each[rank][1].send({**work, "rank": rank, "address": self.host, "card": rank})

    def ended(self) -> tuple[int, Reply | Death]:
        """See `sweep.run.workers.Others`."""
        by_socket = {self._each[rank][1]: rank for rank in self._busy}
        while not (ready := wait(list(by_socket), DYING)):
            self._kills.look()
        socket = ready[0]
        rank = by_socket[socket]  # type: ignore[index]
        self._busy.discard(rank)
        try:
            reply, usable = self._each[rank][1].recv()
        except (EOFError, OSError):
            return rank, self._death(rank)
        if not usable:
            self._forget(rank)
        return rank, reply

    def _death(self, rank: int) -> Death:
        process = self._each[rank][0]
        process.kill()  # where it has but closed its socket
        code = process.wait()
        self._forget(rank)
        if code == -signal.SIGKILL and self._kills.just:
            return Death("the system killed its process for want of memory", of_memory=True)
        return Death(f"its process ({process.pid}) ended by {how(code)}")

    def _forget(self, rank: int) -> None:
        if rank in self._each:
            process, socket = self._each.pop(rank)
            process.kill()
            process.wait()
            socket.close()

    def end(self) -> None:
        """See `sweep.run.workers.Others`."""
        for rank in list(self._busy):
            self._each[rank][0].kill()

    def close(self) -> None:
        """Ends them all."""
        for rank in list(self._each):
            self._forget(rank)


def main(socket: int, parent: int) -> None:
    """One of the processes."""
    bind(parent)
    first, told = Connection(socket), queue.SimpleQueue[Any]()
    threading.Thread(target=listen, args=(first, told.put), name="first", daemon=True).start()
    import trainers.loop  # noqa: F401  # and torch, while the launch plans
    from sweep.run.worker import take_part

    while True:
        reply, usable = take_part(**told.get())
        first.send((reply, usable))
        if not usable:
            os._exit(1)
