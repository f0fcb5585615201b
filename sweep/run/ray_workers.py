"""The other workers of a trial as Ray actors, each in a bundle of the trial's own placement group.

They are the first worker's own: Ray ends them when its process ends, however it ends, and when the group is given back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from sweep.run.preemption import lack_of_memory, ray_says
from sweep.run.workers import Death, Reply
from sweep.storage.cache import local


def _address() -> str:
    """This node's, as the others reach it."""
    address: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return address


class Worker:
    """One of them; a Ray actor."""

    def __init__(self) -> None:
        """Imports torch, beside the others."""
        import trainers.loop  # noqa: F401

    def take_part(self, place: str, work: Mapping[str, Any]) -> tuple[Reply, bool]:
        """Takes part in one trial.

        Args:
            place: where the run's directory is, as `sweep.storage.cache.named` says it.
            work: further keywords of `sweep.run.worker.take_part`.
        """
        from sweep.run.worker import take_part

        return take_part(**{**work, "directory": local(place), "address": _address()})


class Actors:
    """Actors that this process keeps from trial to trial; Ray ends them when it ends."""

    def __init__(self, group: PlacementGroup, number: int, place: str) -> None:
        """Starts them.

        Args:
            group: of which this process has the first bundle.
            number: of them.
            place: see `Worker.take_part`.
        """
        self.number, self.host = number, _address()
        self.group, self._place = group, place
        self._each: dict[int, Any] = {}
        self._busy: dict[Any, int] = {}
        for rank in range(1, number + 1):
            self._start(rank)

    def _start(self, rank: int) -> None:
        there = PlacementGroupSchedulingStrategy(self.group, placement_group_bundle_index=rank)
        bundle = self.group.bundle_specs[rank]
        amounts = {"num_cpus": bundle.get("CPU", 0), "num_gpus": bundle.get("GPU", 0)}
        self._each[rank] = ray.remote(Worker).options(**amounts, scheduling_strategy=there).remote()

    def begin(self, work: Mapping[str, Any]) -> None:
        """See `sweep.run.workers.Others`."""
        try:
            for rank in range(1, self.number + 1):
                if rank not in self._each:
                    self._start(rank)
                self._busy[self._each[rank].take_part.remote(self._place, {**work, "rank": rank})] = rank
        except BaseException:
            for rank in self._busy.values():
                self._forget(rank)
            self._busy.clear()
            raise

    def ended(self) -> tuple[int, Reply | Death]:
        """See `sweep.run.workers.Others`."""
        (first, *_), _ = ray.wait(list(self._busy))
        rank = self._busy.pop(first)
        try:
            reply, usable = ray.get(first)
        except ray.exceptions.RayError as error:
            self._forget(rank)
            return rank, _death(error)
        if not usable:
            self._forget(rank)
        return rank, reply

    def _forget(self, rank: int) -> None:
        with suppress(ray.exceptions.RayError):
            ray.kill(self._each.pop(rank))

    def end(self) -> None:
        """See `sweep.run.workers.Others`."""
        for rank in self._busy.values():
            ray.kill(self._each[rank])


def _death(error: ray.exceptions.RayError) -> Death:
    """What Ray says of an actor that is gone."""
    said = str(error)
    if why := lack_of_memory(said):
        return Death(why, of_memory=True)
    (first, *_) = [line.strip() for line in said.splitlines() if line.strip()] or [type(error).__name__]
    process = re.search(r"^\s*pid: (\d+)", said, re.M)
    return Death(f"{first.rstrip('.')}{f' (process {process[1]})' if process else ''}", preempted=ray_says(error))


#: Those of this process.
_kept: Actors | None = None


def others(number: int, place: str) -> Actors | None:
    """Those of the trial that this process trains next, which are started where there are none yet.

    Args:
        number: of them; for none, None.
        place: see `Worker.take_part`.
    """
    global _kept
    if not number:
        return None
    group = get_current_placement_group()
    assert group is not None  # a trial is always in one of Tune's
    if _kept is None or (_kept.group.id, _kept.number) != (group.id, number):
        _kept = Actors(group, number, place)
    return _kept
