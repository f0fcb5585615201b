"""Which trial next, and with how much of a card: decided here, apart from Ray, which places what it is given.

A shape is all trials that hold the same memory. Of a shape whose memory is not known a trial runs alone on a card, and
records what its process took; the others then ask for that and a margin, and Ray puts as many on a card as fit. No card
stands idle while a trial that waits would fit. A trial that ran out of memory beside others runs once more at the end.

Nodes may join and leave: what ran on one that has left runs again elsewhere, and takes its place before anything new.

A trial of several workers takes a place for each, on one node or on several, all or none, and gives them back together:
it ends where one of them does. Each has whole cards, for of a part NCCL would not know that it is another worker's too.
"""

from __future__ import annotations

import math
import sys
from collections import Counter, deque
from collections.abc import Callable, Container, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from sweep.run.seats import Node, Room, Seat, places

if TYPE_CHECKING:  # lest each process of a trial load the plan
    from sweep.config import SweepConfig
    from sweep.progress import Progress

#: What a trial gets beyond the peak of its shape, as a part of it. torch's allocator takes memory in blocks of 2 MiB,
#: and of 20 MiB and more for what is large [c10/core/AllocatorConfig.h]: its peak hangs on the order of requests. [own
#: choice; a trial that needs more runs again alone]
MARGIN = 0.1

#: Shares are rounded up to so many of a card, for processes are kept for trials that ask for the same share.
_PARTS = 100
LEAST_SHARE = 1 / _PARTS

Trial = TypeVar("Trial")


class Peak(NamedTuple):
    """The most that the process of a trial of some shape took of a card, bytes."""

    memory: int
    """As the driver counts it."""
    cuda: int
    """Of that CUDA's own: its context, kernels and libraries, which no cap of torch's holds."""


class Start(NamedTuple, Generic[Trial]):
    """Trials for one process, and what it asks for."""

    trials: tuple[Trial, ...]
    gpu: float
    alone: bool
    """On its card; where no trial takes one, in its launch."""
    cuda: int | None
    """Bytes of its share that are CUDA's own; None: not known."""
    least: int
    """Bytes that its card must have, of which its share was worked out, as far as cards are known; 0: any has enough.
    It is so much as some card has, for processes are kept for trials that ask for the same."""
    seats: tuple[Seat, ...]
    """That its workers were given; where a node of them leaves, it is given others."""
    number: int = 0
    """Tells it apart from others of the launch."""


def memory_shape(identity: Mapping[str, Any]) -> str:
    """Of a trial: what it is alike in with trials that hold as much memory, which are the optimizer's buffers too."""
    from sweep.plan.measured import kind_of

    optimizer = identity.get("optimizer", {})
    buffers = optimizer.get("name"), bool(optimizer.get("momentum"))
    return f"{kind_of(identity)} {identity.get('batch_size')} {buffers}"


def peaks_of(progress: Progress, config: SweepConfig) -> dict[str, Peak]:
    """What trials of each shape took, as the run's records tell of those that ran as this sweep's would."""
    from sweep.plan.measured import ran_alike

    peaks: dict[str, Peak] = {}
    for trial in progress.trials.values():
        if (peak := peak_in(trial.end)) is not None and ran_alike(trial, config):
            shape = memory_shape(trial.config)
            peaks[shape] = _larger(peaks.get(shape), peak)
    return peaks


def peak_in(outcome: Mapping[str, Any]) -> Peak | None:
    """What an outcome tells of memory; None: nothing."""
    memory, cuda = outcome.get("memory_bytes"), outcome.get("cuda_bytes")
    return None if memory is None or cuda is None else Peak(memory, cuda)


def _larger(known: Peak | None, peak: Peak) -> Peak:
    return peak if known is None else Peak(max(known.memory, peak.memory), max(known.cuda, peak.cuda))


class Packing(Generic[Trial]):
    """Gives out trials; knows which run.

    Attributes:
        limit: most trials at once; None: as many as there is room for. It may be changed at any time, 0 pauses: what
            runs goes on, and nothing is started while there are as many.
    """

    def __init__(
        self,
        nodes: Sequence[Node],
        cpu: float,
        gpu: float | None,
        pull: Callable[[], Trial | None],
        *,
        name: Callable[[Trial], Hashable] = lambda trial: trial,
        shape: Callable[[Trial], str] = lambda trial: "",
        peaks: Mapping[str, Peak] | None = None,
        each: int = 1,
        workers: int = 1,
        limit: int | None = None,
        listed: bool = True,
        short: Container[Hashable] = (),
        waits: Callable[[], bool] = lambda: False,
    ) -> None:
        """Nothing runs yet.

        Args:
            nodes: where trials run at first.
            cpu: cores of a process; of a worker.
            gpu: share of a card, of a worker; None: by memory.
            pull: gives the next trial; None: there is no more.
            name: tells trials apart.
            shape: of a trial: those of one hold the same memory.
            peaks: by shape, as far as known.
            each: most trials of a process; 1 by memory.
            workers: processes that train one trial together; 1 by memory, and where a process has several trials.
            limit: most trials at once; None: as many as there is room for.
            listed: whether trials may be pulled before there is room for them, where gpu is by memory: all of them.
                Else as many as there are cards: a search that learns is asked late.
            short: names of trials that have run out of memory beside others: they run at the end.
            waits: where `pull` gives None: whether it may give more once what runs or waits here has ended. Where
                nothing does, there is no more.
        """
        self.room, self._cpu, self._gpu, self._pull, self._each = Room(nodes), cpu, gpu, pull, each
        self.limit, self._workers = limit, workers
        self._name, self._shape, self._listed, self._short, self._waits = name, shape, listed, short, waits
        self._peaks = dict(peaks or {})
        self._waiting: dict[str, deque[Trial]] = {}
        self._again: deque[Trial] = deque()
        self._tried: set[Hashable] = set()
        self._measuring: Counter[str] = Counter()
        self._running: dict[int, Start[Trial]] = {}
        self._moving: list[Start[Trial]] = []
        self._started = 0
        self._exhausted = self._stalled = False
        self._on_cards = gpu != 0
        self._measure_nodes()

    def _measure_nodes(self) -> None:
        known = self.room.memories(self._cpu, 1.0 if self._gpu is None else self._gpu)
        self.smallest = known[-1] if known else None
        self.largest = known[min(self._workers, len(known)) - 1] if known else None

    def join(self, node: Node) -> None:
        """One more node, on which trials can run."""
        self.room.join(node)
        self._measure_nodes()

    def names(self, least: int = 0) -> frozenset[Hashable]:
        """Of the nodes on which trials may run whose card must have so many bytes."""
        enough = (node for node in self.room.nodes.values() if node.memory is None or node.memory >= least)
        return frozenset(node.name for node in enough)

    def leave(self, name: Hashable) -> bool:
        """The node of a name has gone; what was given a place on it waits for another, before anything new starts.

        Returns:
            Whether trials could run there.
        """
        if not self.room.leave(name):
            return False
        self._measure_nodes()
        for start in list(self._running.values()):
            if start.seats and any(seat.node not in self.room.nodes for seat in start.seats):
                self._take(start.seats, -1)
                self._running[start.number] = start._replace(seats=())
        self._moving = [start for start in self._running.values() if not start.seats]
        return True

    def _take(self, seats: Iterable[Seat], sign: int = 1) -> None:
        for seat in seats:
            self.room.take(seat, sign)

    def _seats(self, gpu: float, memory: int = 0) -> tuple[Seat, ...]:
        return self.room.seats(self._cpu, gpu, memory, self._workers)

    def _move(self) -> None:
        """Gives those whose nodes have left the places that there are; Ray does so with their processes."""
        for start in list(self._moving):
            if seats := self._seats(start.gpu, start.least):
                self._take(seats)
                self._running[start.number] = start._replace(seats=seats)
                self._moving.remove(start)

    @property
    def stranded(self) -> int:
        """Bytes of a card that a node must bring, for nothing runs but what has lost its node and fits no card here.

        0: something runs or can move, or there is no node at all.
        """
        lost = [start.least for start in self._moving if self._places(start) < self._workers]
        return min(lost) if self.names() and lost and len(lost) == len(self._running) else 0

    def _places(self, start: Start[Trial]) -> int:
        """How many workers of a trial have room where nothing runs, on cards as large as its."""
        large = (node for node in self.room.nodes.values() if node.memory is None or node.memory >= start.least)
        return sum(places(node, self._cpu, start.gpu) for node in large)

    @property
    def done(self) -> bool:
        """Whether nothing runs or waits, nor will."""
        return self._exhausted and not (self._waiting or self._again or self._running)

    @property
    def idle(self) -> bool:
        """Whether nothing runs now."""
        return not self._running

    @property
    def _left(self) -> int:
        """How many trials may be started until there are as many as may run."""
        if self.limit is None:
            return sys.maxsize
        return self.limit - sum(len(start.trials) for start in self._running.values())

    @property
    def _divided(self) -> tuple[int, int]:
        """How many processes may run, and how many trials each of them has: as many in one as in another."""
        if self.limit is None or self._each == 1 or self._gpu is None:
            return sys.maxsize, self._each
        fit = max(1, self.room.processes(self._cpu, self._gpu, self._workers))
        processes = min(fit, -(-self.limit // self._each))
        return processes, min(self._each, self.limit // max(1, processes))

    def more(self, waiting: int) -> int:
        """How many processes would run beside those that do if there were more nodes; 0: these are enough.

        Args:
            waiting: trials that have not begun.
        """
        if self._seats(self._smallest):
            return int(self.stranded > 0)
        trials = max(0, min(waiting, self._left))
        return len(self._moving) + math.ceil(trials / self._each)

    @property
    def _smallest(self) -> float:
        """The least of a card that a trial may ask for."""
        return min(map(self.share, self._peaks), default=1.0) if self._gpu is None else self._gpu

    def share(self, shape: str) -> float:
        """Of a card, for a trial of a shape: a whole one where its memory or the cards' is not known."""
        if self._gpu is not None:
            return self._gpu
        peak = self._peaks.get(shape)
        if peak is None or self.smallest is None:
            return 1.0
        return min(1.0, math.ceil(_PARTS * _needed(peak) / self.smallest) / _PARTS)

    def measured(self, shape: str, peak: Peak) -> None:
        """A trial of the shape has taken so much."""
        self._peaks[shape] = _larger(self._peaks.get(shape), peak)

    def again(self, trial: Trial) -> bool:
        """Puts a trial that ran out of memory in line for the end, to run alone; false where it has done so before."""
        if self._name(trial) in self._tried:
            return False
        self._tried.add(self._name(trial))
        self._again.append(trial)
        return True

    def put_back(self, trial: Trial) -> None:
        """A trial that has stopped before its end is the next of its shape, or of those that run alone at the end."""
        if self._name(trial) in self._tried:
            self._again.appendleft(trial)
            return
        self._waiting.setdefault(self._shape(trial) if self._gpu is None else "", deque()).appendleft(trial)

    def drop(self, name: Hashable) -> Trial | None:
        """Takes a trial out of the line; None: it does not wait here."""
        for line in (self._again, *self._waiting.values()):
            for trial in line:
                if self._name(trial) == name:
                    line.remove(trial)
                    self._waiting = {shape: trials for shape, trials in self._waiting.items() if trials}
                    return trial
        return None

    def ended(self, start: Start[Trial]) -> None:
        """The process of these trials has let go of what it had."""
        now = self._running.pop(start.number)
        self._moving = [moving for moving in self._moving if moving.number != start.number]
        self._take(now.seats, -1)
        if self._gpu is None:
            self._measuring[self._shape(start.trials[0])] -= 1

    def next(self) -> Start[Trial] | None:
        """What to start now; None: nothing, until something ends, or ever if `done`."""
        self._move()
        if self._left <= 0 or len(self._running) >= self._divided[0]:
            return None
        while self._listed and self._gpu is None and not self._exhausted and self._pull_one():
            pass
        while (start := self._next_that_fits()) is None and self._may_pull() and self._pull_one():
            pass
        if start is None and (self._exhausted or self._stalled) and not self._waiting:
            start = self._next_alone()
        if start is not None:
            self._started += 1
            start = start._replace(number=self._started)
            self._running[start.number] = start
            self._take(start.seats)
        return start

    def _pull_one(self) -> bool:
        """Puts one more in line; false where there is none, ever or now."""
        if (trial := self._pull()) is None:
            self._stalled = self._waits() and bool(self._running or self._waiting or self._again)
            self._exhausted = not self._stalled
            return False
        self._stalled = False
        if self._name(trial) in self._short:
            self.again(trial)
        else:
            self._waiting.setdefault(self._shape(trial) if self._gpu is None else "", deque()).append(trial)
        return True

    def _may_pull(self) -> bool:
        """Whether there is room for a trial that may be small, and not too many wait already."""
        if self._exhausted or sum(map(len, self._waiting.values())) >= self._ahead:
            return False
        return bool(self._seats(self._smallest))

    @property
    def _ahead(self) -> int:
        """How many may be pulled before there is room for them."""
        return (
            1 if self._listed or self._gpu is not None else max(1, sum(node.cards for node in self.room.nodes.values()))
        )

    def _next_that_fits(self) -> Start[Trial] | None:
        """Of those that wait and fit one of a shape that nobody measures yet, else the largest."""
        if not self._waiting:
            return None
        fits = [(rank, shape, start) for shape in self._waiting for rank, start in self._fit(shape)]
        if not fits:
            return None
        _, shape, start = min(fits, key=lambda fit: fit[0])
        line = self._waiting[shape]
        each = min(self._divided[1], self._left)
        while self._gpu is not None and len(line) < each and not self._exhausted and self._pull_one():
            pass
        trials = tuple(line.popleft() for _ in range(min(each, len(line))))
        if not line:
            del self._waiting[shape]
        if self._gpu is None:
            self._measuring[shape] += 1
        return start._replace(trials=trials)

    def _fit(self, shape: str) -> Iterator[tuple[tuple[int, float], Start[Trial]]]:
        """A start of the shape that fits now, if any, before which others rank that are smaller."""
        share, peak = self.share(shape), self._peaks.get(shape) if self._gpu is None else None
        memory = math.ceil(_needed(peak)) if peak is not None else 0
        if self.largest is not None and memory > self.largest:
            memory = self.largest  # it may fit without the margin, and there is none that is larger
        if seats := self._seats(share, memory):
            rank = 1 if self._gpu is not None or peak is not None else 2 if self._measuring[shape] > 0 else 0
            alone = share >= 1 and self._each == 1 and self._on_cards
            cuda = None if peak is None else math.ceil(peak.cuda * (1 + MARGIN))
            yield (
                (rank, -share),
                Start((), share, alone, cuda, self._least(max(memory, self.smallest or 0) if peak else 0), seats),
            )

    def _next_alone(self) -> Start[Trial] | None:
        """The next of those that have run out of memory, on a largest card; where there is none, with nothing else."""
        if not self._again or (self._running and not self._on_cards):
            return None
        share, memory = (1.0 if self._on_cards else 0.0), (self.largest or 0) if self._on_cards else 0
        if not (seats := self._seats(share, memory)):
            return None
        trial = self._again.popleft()
        if self._gpu is None:
            self._measuring[self._shape(trial)] += 1
        return Start((trial,), share, True, None, self._least(memory), seats)

    def _least(self, memory: int) -> int:
        """Bytes of the smallest card here that has as many as are asked for; 0 where none are, or no card is known."""
        known = (node.memory for node in self.room.nodes.values() if node.memory is not None)
        return min((has for has in known if has >= memory), default=0) if memory else 0

    def too_large(self) -> dict[str, Peak]:
        """Shapes that took more than any card here has."""
        largest = self.largest
        return {shape: peak for shape, peak in self._peaks.items() if largest is not None and peak.memory > largest}


def _needed(peak: Peak) -> float:
    """Bytes of a card that a trial of a peak is given."""
    return peak.memory * (1 + MARGIN)


def room_text(outcome: Mapping[str, Any], capacity: int | None, again: bool) -> str:
    """Where a trial ran out of memory, and what becomes of it, in words."""
    if again:
        return "it runs once more, alone, at the end of the launch"
    if not outcome.get("alone"):
        return "not alone: the next launch runs it again"
    return "alone" if capacity is None else f"alone on {capacity / 2**30:.1f} GiB"
