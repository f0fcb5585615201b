"""Trials run on the nodes that may have them: Ray itself would put them wherever there is room."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from copy import copy
from typing import Any

from ray.air.execution import PlacementGroupResourceManager
from ray.tune import PlacementGroupFactory
from ray.util.placement_group import PlacementGroup, placement_group

from sweep.run.packing import Packing

#: The label that Ray gives each node.
NODE_ID = "ray.io/node-id"

#: A word of ours among the labels that a request is compared by.
_LEAST = "least-memory"


class Request(PlacementGroupFactory):
    """What a process asks for, which only some nodes may meet: on which, is decided when Ray is asked.

    The workers of one trial ask together, each for a bundle: they are all given, or none is, on few nodes. Requests are
    equal where they ask for the same of the same cards, on whatever nodes.
    """

    def __init__(self, bundle: dict[str, float], least: int, workers: int = 1) -> None:
        """Of no node yet.

        Args:
            bundle: amounts of resources, of one worker.
            least: bytes that a card must have; 0: any will do.
            workers: processes that ask together.
        """
        super().__init__([bundle] * workers, "PACK", bundle_label_selector=[{_LEAST: str(least)}] * workers)
        self.least = least
        self._names: list[str] = []

    def on(self, names: Iterable[Hashable]) -> Request:
        """The same, on nodes of these names; where there are none, it waits for some to come."""
        there = copy(self)
        there._names = sorted(map(str, names)) or ["none"]
        return there

    def to_placement_group(self) -> PlacementGroup:
        """Has Ray look for room on those nodes."""
        only = [{NODE_ID: f"in({','.join(self._names)})"}] * len(self.bundles)
        group: PlacementGroup = placement_group(self.bundles, self.strategy, bundle_label_selector=only)
        return group


class Placing(PlacementGroupResourceManager):
    """Asks Ray for room on the nodes of a packing; what still waits is asked for anew when those change."""

    _packing: Packing[Any]
    _names: frozenset[Hashable]

    @classmethod
    def on(cls, packing: Packing[Any]) -> Placing:
        """Asks for nothing yet."""
        placing = cls()  # with no arguments of its own: Ray's `clear` makes it anew
        placing._packing, placing._names = packing, packing.names()
        return placing

    def request_resources(self, resource_request: Any) -> None:
        """One more placement group, on the nodes that may have it."""
        super().request_resources(resource_request.on(self._packing.names(resource_request.least)))

    def get_resource_futures(self) -> list[Any]:
        """Of all that waits, as Tune asks for in each of its steps."""
        if self._names != (names := self._packing.names()):
            self._names = names
            self._ask_anew()
        futures: list[Any] = super().get_resource_futures()
        return futures

    def _ask_anew(self) -> None:
        waiting = [(request, len(groups)) for request, groups in self._request_to_staged_pgs.items()]
        for request, number in waiting:
            for _ in range(number):
                self.cancel_resource_request(request)
            for _ in range(number):
                self.request_resources(request)
