"""Places on the nodes: what is free on each, and which a trial gets; apart from Ray, which does likewise."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from itertools import chain
from typing import NamedTuple

from sweep.plan import room
from sweep.plan.room import UNITS, units


class Node(NamedTuple):
    """A machine for trials."""

    cpus: float
    cards: int = 0
    memory: int | None = None
    """Bytes of its smallest card, or where trials take none of its own memory; None: not known."""
    name: Hashable = None
    """By which it leaves."""


class Seat(NamedTuple):
    """What a worker of a trial takes of a node; most trials have one worker."""

    node: int
    card: int | None
    cpu: int
    gpu: int
    """cpu and gpu in ten-thousandths."""


class Room:
    """What is free on the nodes; a trial gets the card with the least that is enough, as Ray itself does."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        """All of them free."""
        self.nodes: dict[int, Node] = {}
        self._cpus: dict[int, int] = {}
        self._cards: dict[int, list[int]] = {}
        self._joined = 0
        for node in nodes:
            self.join(node)

    def join(self, node: Node) -> None:
        """One more, all of it free."""
        number, self._joined = self._joined, self._joined + 1
        self.nodes[number], self._cpus[number] = node, units(node.cpus)
        self._cards[number] = [UNITS] * node.cards

    def leave(self, name: Hashable) -> bool:
        """The node of a name has gone, with whoever sat on it; false: there was none."""
        gone = [number for number, node in self.nodes.items() if node.name == name]
        for number in gone:
            del self.nodes[number], self._cpus[number], self._cards[number]
        return bool(gone)

    def processes(self, cpu: float, gpu: float, workers: int = 1) -> int:
        """How many processes fit where nothing runs, each of so many workers."""
        return sum(places(node, cpu, gpu) for node in self.nodes.values()) // workers

    def memories(self, cpu: float, gpu: float) -> list[int]:
        """Bytes of the card, or host, of each place where nothing runs, as far as they are known, the most first."""
        known = [[node.memory] * places(node, cpu, gpu) for node in self.nodes.values() if node.memory is not None]
        return sorted(chain(*known), reverse=True)

    def seats(self, cpu: float, gpu: float, memory: int = 0, workers: int = 1) -> tuple[Seat, ...]:
        """The places that a trial would get, one for each worker, all or none; see `seat`.

        Those of several are on as few nodes as may be, of these on the fullest. Ray, which is asked to pack them, may
        choose others: as all places of a launch with several workers are alike, as many are left.
        """
        if workers == 1:
            seat = self.seat(cpu, gpu, memory)
            return () if seat is None else (seat,)
        free = {node: self._free(node, cpu, gpu, memory) for node in self.nodes}
        taken: list[Seat] = []
        while free and len(taken) < workers <= len(taken) + sum(free.values()):
            left = workers - len(taken)
            node = max(free, key=lambda node: (min(left, free[node]), -free[node]))
            del free[node]
            while len(taken) < workers and (seat := self.seat(cpu, gpu, memory, node)) is not None:
                self.take(seat)
                taken.append(seat)
        for seat in taken:
            self.take(seat, -1)
        return tuple(taken)

    def _free(self, node: int, cpu: float, gpu: float, memory: int) -> int:
        """How many places are free on a node now."""
        has = self.nodes[node].memory
        if has is not None and has < memory:
            return 0
        cpus = self._cpus[node] // max(1, units(cpu))
        return min(cpus, sum(card // max(1, units(gpu)) for card in self._cards[node])) if gpu else cpus

    def seat(self, cpu: float, gpu: float, memory: int = 0, node: int | None = None) -> Seat | None:
        """The place that a worker would get; None: there is none now.

        Args:
            cpu: cores.
            gpu: share of a card.
            memory: bytes that the card must have, as far as that is known.
            node: on which; None: on any.
        """
        wanted = units(cpu), units(gpu)
        there = [
            (free, Seat(number, card, *wanted))
            for number, has in self.nodes.items()
            if node in (None, number)
            if self._cpus[number] >= wanted[0] and (has.memory is None or has.memory >= memory)
            for card, free in (enumerate(self._cards[number]) if gpu else [(None, self._cpus[number])])
            if not gpu or free >= wanted[1]
        ]
        return min(there, default=(0, None), key=lambda place: place[0])[1]

    def take(self, seat: Seat, sign: int = 1) -> None:
        """Takes a place; gives it back where sign is -1, unless its node has left."""
        if seat.node not in self.nodes:
            return
        self._cpus[seat.node] -= sign * seat.cpu
        if seat.card is not None:
            self._cards[seat.node][seat.card] -= sign * seat.gpu


def places(node: Node, cpu: float, gpu: float) -> int:
    """How many workers a node has room for where nothing runs."""
    return room.places(node.cpus, node.cards, cpu, gpu)
