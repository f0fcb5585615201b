"""Places on the nodes: what is free on each, and which a trial gets; apart from Ray, which does likewise."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

#: Ray counts resources in ten-thousandths.
_UNITS = 10_000


class Node(NamedTuple):
    """A machine for trials."""

    cpus: float
    cards: int = 0
    memory: int | None = None
    """Bytes of its smallest card, or where trials take none of its own memory; None: not known."""
    name: Hashable = None
    """By which it leaves."""


class Seat(NamedTuple):
    """What a trial takes of a node."""

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
        self.nodes[number], self._cpus[number] = node, _units(node.cpus)
        self._cards[number] = [_UNITS] * node.cards

    def leave(self, name: Hashable) -> bool:
        """The node of a name has gone, with whoever sat on it; false: there was none."""
        gone = [number for number, node in self.nodes.items() if node.name == name]
        for number in gone:
            del self.nodes[number], self._cpus[number], self._cards[number]
        return bool(gone)

    def processes(self, cpu: float, gpu: float) -> int:
        """How many processes fit where nothing runs."""
        fit = [(_units(node.cpus) // max(1, _units(cpu)), node.cards) for node in self.nodes.values()]
        return sum(min(cpus, cards * (_UNITS // _units(gpu))) if gpu else cpus for cpus, cards in fit)

    def seat(self, cpu: float, gpu: float, memory: int = 0) -> Seat | None:
        """The place that a trial would get; None: there is none now.

        Args:
            cpu: cores.
            gpu: share of a card.
            memory: bytes that the card must have, as far as that is known.
        """
        wanted = _units(cpu), _units(gpu)
        places = [
            (free, Seat(number, card, *wanted))
            for number, node in self.nodes.items()
            if self._cpus[number] >= wanted[0] and (node.memory is None or node.memory >= memory)
            for card, free in (enumerate(self._cards[number]) if gpu else [(None, self._cpus[number])])
            if not gpu or free >= wanted[1]
        ]
        return min(places, default=(0, None), key=lambda place: place[0])[1]

    def take(self, seat: Seat, sign: int = 1) -> None:
        """Takes a place; gives it back where sign is -1, unless its node has left."""
        if seat.node not in self.nodes:
            return
        self._cpus[seat.node] -= sign * seat.cpu
        if seat.card is not None:
            self._cards[seat.node][seat.card] -= sign * seat.gpu


def _units(amount: float) -> int:
    return round(amount * _UNITS)
