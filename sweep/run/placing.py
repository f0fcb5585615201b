"""Trials run on the nodes that may have them: Ray itself would put them wherever there is room."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from ray.air.execution import PlacementGroupResourceManager
from ray.air.execution.resources.request import ResourceRequest
from ray.util.placement_group import PlacementGroup, placement_group

from sweep.run.packing import Packing

#: The label that Ray gives each node.
_ID = "ray.io/node-id"


class _Request(ResourceRequest):
    """A request, equal to the one that it was made of, that only some nodes can meet."""

    def __init__(self, request: ResourceRequest, names: list[str]) -> None:
        super().__init__(request.bundles, request.strategy)
        self._names = names

    def to_placement_group(self) -> PlacementGroup:
        only = {_ID: f"in({','.join(self._names)})"}
        group: PlacementGroup = placement_group(
            self.bundles, self.strategy, bundle_label_selector=[only] * len(self.bundles)
        )
        return group


class Placing(PlacementGroupResourceManager):
    """Asks Ray for room on the nodes of a packing; what still waits is asked for anew when those change."""

    _packing: Packing[Any]
    _names: frozenset[Hashable]

    @classmethod
    def on(cls, packing: Packing[Any]) -> Placing:
        """Asks for nothing yet."""
        placing = cls()  # with no arguments of its own: Ray's `clear` makes it anew
        placing._packing, placing._names = packing, packing.names
        return placing

    def request_resources(self, resource_request: ResourceRequest) -> None:
        """One more placement group; where no node is there, it waits for one to come."""
        names = sorted(map(str, self._names)) or ["none"]
        super().request_resources(_Request(resource_request, names))

    def get_resource_futures(self) -> list[Any]:
        """Of all that waits, as Tune asks for in each of its steps."""
        if self._names != (names := self._packing.names):
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
