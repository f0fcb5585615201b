"""The other workers of a trial, as its first one sees them: they begin with the trial, are watched, and end with it.

Which processes they are is another's matter: `worker_processes` of this machine, or Ray's (`ray_workers`). What each
does is `worker.take_part`.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sweep.run.signals import STOPPING
from trainers.record import OutcomeRecord

if TYPE_CHECKING:  # and with it torch, for which a launch does not wait
    import torch

    from trainers.workers import Workers

#: How long a worker waits for the others, s: as long as it takes, for one that hangs is ended by `hung`, and one that
#: dies is seen.
PATIENCE = 7 * 24 * 3600.0

#: Between two looks whether the others are there, s.
_LOOK = 0.02

#: How long the first worker may take to see by itself that it trains no more beside another, s; one that waits for its
#: GPU never does.
_SEES = 10.0

#: How long it waits to be told how a worker ended whose connection is gone, s: Ray takes half a minute to give up a
#: node.
_TOLD = 60.0


class Reply(NamedTuple):
    """What a worker says when its part has ended."""

    outcome: OutcomeRecord | None
    """Of the trial, where the worker raised; None: that is not for this one to say."""
    memory: tuple[int, int] | tuple[None, None]
    """As `trainers.cards.Meter.taken`."""


class Death(NamedTuple):
    """How a worker's process has ended, in words."""

    how: str
    of_memory: bool = False
    """Whether it was killed for want of the host's memory."""
    preempted: str = ""
    """That its machine was taken away for others, in words; empty: it was not."""


class Others(Protocol):
    """The processes of the other workers, which may be kept from trial to trial.

    Attributes:
        number: of them.
        host: this machine's address, as they reach it.
    """

    number: int
    host: str

    def begin(self, work: Mapping[str, Any]) -> None:
        """Has each begin its part, in a new process where it has none.

        Where it raises, those that had begun are ended and forgotten: a late reply of theirs is no later trial's.

        Args:
            work: keywords of `sweep.run.worker.take_part`, but for those that tell one worker from another.
        """

    def ended(self) -> tuple[int, Reply | Death]:
        """Waits for the next whose part ends: its rank, and what it says or what is known of its end."""

    def end(self) -> None:
        """Ends the processes of those whose part has not ended."""


class TrialEnded(Exception):
    """Another worker has ended the trial: carries the trial's outcome."""

    @property
    def outcome(self) -> OutcomeRecord:
        """Of the trial."""
        outcome: OutcomeRecord = self.args[0]
        return outcome


class WorkerDied(Exception):
    """A worker's process is gone: carries which, and how it ended; and whether it was preempted, as `Death` says it."""

    def __init__(self, how: str, preempted: str = "") -> None:
        """See above."""
        super().__init__(how)
        self.preempted = preempted


class Team:
    """The workers of a trial while it trains, as the first of them sees them.

    Attributes:
        workers: as the training sees them.
    """

    def __init__(self, workers: Workers) -> None:
        """Nothing is known of the others."""
        self.workers = workers
        self.failure: TrialEnded | WorkerDied | None = None
        self._memory: list[tuple[int, int]] = []
        self._changed = threading.Condition()
        self._over, self._left = False, workers.size - 1

    def taken(self, own: tuple[int, int] | tuple[None, None]) -> tuple[int, int] | tuple[None, None]:
        """Memory of the worker that took most, and CUDA's own of the one where that is most, bytes.

        Args:
            own: this one's.
        """
        if own[0] is None or own[1] is None:
            return own
        each = [(own[0], own[1]), *self._memory]
        return max(memory for memory, _ in each), max(cuda for _, cuda in each)

    def watch(self, others: Others, trial: str, act: Callable[[TrialEnded | WorkerDied], None]) -> None:
        """Waits for the ends of the others, which are none of this trial's when its training is over.

        Args:
            others: do their parts.
            trial: its id.
            act: ends this process, or does nothing: called where another has failed and this one is not over.
        """
        for _ in range(others.number):
            rank, said = others.ended()
            failure = _failure(said, trial, f"worker {rank} of {others.number + 1}")
            with self._changed:
                self._left -= 1
                if isinstance(said, Reply) and said.memory[0] is not None and said.memory[1] is not None:
                    self._memory.append(said.memory)
                news = failure is not None and self.failure is None and not self._over
                self.failure = failure if news else self.failure
                self._changed.notify_all()
                if news and isinstance(failure, TrialEnded):
                    self._changed.wait_for(lambda: self._over, _SEES)
                if news and failure is not None and not self._over:
                    act(failure)  # within the lock: where it ends this process, the training does not get out meanwhile

    def wait(self, seconds: float, failed: bool = False) -> bool:
        """Waits until all the others have ended; or, where `failed`, one has failed. Whether they have."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._left or (failed and self.failure is not None), seconds)

    def over(self) -> None:
        """The training is: how the others end is of no matter any more."""
        with self._changed:
            self._over = True
            self._changed.notify_all()


def _failure(said: Reply | Death, trial: str, worker: str) -> TrialEnded | WorkerDied | None:
    """What becomes of the trial; None: nothing."""
    if isinstance(said, Reply):
        return None if said.outcome is None else TrialEnded(said.outcome)
    if said.of_memory:
        return TrialEnded(OutcomeRecord(trial, "out_of_memory", f"{worker}: {said.how}", 0))
    return WorkerDied(f"{worker}: {said.how}", said.preempted)


@contextmanager
def beside(
    others: Others | None,
    work: Mapping[str, Any],
    device: torch.device,
    act: Callable[[TrialEnded | WorkerDied], None],
) -> Iterator[Team]:
    """A block in which this process is the first of a trial's workers.

    Args:
        others: its other workers; None: it has none.
        work: keywords of `sweep.run.worker.take_part`, but for how they meet.
        device: of this one.
        act: called in another thread where a worker has failed and this one has not left the block by itself: to end
            this process. One whose process died, at once; one that raised, after some seconds. It may do nothing.

    Raises:
        TrialEnded: a worker has ended the trial.
        WorkerDied: one is gone, and `act` has done nothing.
    """
    from trainers import crew, workers

    if others is None:
        yield Team(workers.ALONE)
        return
    size = others.number + 1
    team = Team(workers.Workers(0, size))
    store = workers.opened(others.host, size)
    others.begin({**work, "host": others.host, "port": store.port, "size": size})
    watch = threading.Thread(target=team.watch, args=(others, work["name"], act), name="workers", daemon=True)
    watch.start()
    try:
        _await(store, team, size)
        with on_network(others.host), workers.joined(store, 0, size, device, PATIENCE):
            yield team
    except (crew.WorkerLost, crew.WorkerFailed) as lost:
        team.wait(_TOLD, failed=True)
        raise (team.failure or WorkerDied(str(lost))) from None
    finally:
        team.over()
        if not team.wait(STOPPING):
            others.end()
            watch.join()


def _await(store: Any, team: Team, size: int) -> None:
    """Returns once the others are there, which may still fail to begin.

    Raises:
        TrialEnded, WorkerDied: one has.
    """
    there = [here(rank) for rank in range(1, size)]
    while not store.check(there):
        if team.failure is not None:
            raise team.failure
        time.sleep(_LOOK)


def here(rank: int) -> str:
    """By this key of the store a worker says that it is there, and that nothing but the others' coming is left."""
    return f"here {rank}"


@contextmanager
def on_network(address: str) -> Iterator[None]:
    """A block in which gloo takes the network of an address of this machine.

    By itself it takes that of the address that the machine's name stands for, which in many a file /etc/hosts is one
    that no other machine reaches.
    """
    given = os.environ.get(_NETWORK)
    if given is None and (name := _network_of(address)):
        os.environ[_NETWORK] = name
    try:
        yield
    finally:
        if given is None:
            os.environ.pop(_NETWORK, None)


#: Where gloo is told which network to take.
_NETWORK = "GLOO_SOCKET_IFNAME"


def _network_of(address: str) -> str:
    """The name of the network interface that has the address; empty where the system does not tell."""
    import fcntl
    import struct

    ask = 0x8915  # SIOCGIFADDR
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            try:
                answer = fcntl.ioctl(any_socket.fileno(), ask, struct.pack("256s", name.encode()[:15]))
            except OSError:  # it has none
                continue
            if socket.inet_ntoa(answer[20:24]) == address:
                return name
    return ""
