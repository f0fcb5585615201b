"""Where trials would run as it is now: how many at once, and how long all of them take there."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sweep.config import ResourcesConfig
from trainers.fields import plural
from trainers.hardware import gpu_count

#: What a node has: CPU and GPU, as Ray counts them.
Node = Mapping[str, float]

#: Ray counts resources in ten-thousandths.
UNITS = 10_000


@dataclass(frozen=True)
class Room:
    """Machines on which trials can run."""

    name: str
    """In words: this machine, or the cluster at an address."""
    nodes: Sequence[Node]
    free: Node | None = None
    """What of all nodes nobody uses at this moment; none: not known."""

    def words(self) -> str:
        """The machines with what they have: `this machine: 2 CPU, no GPU`."""
        nodes = f"{plural(len(self.nodes), 'node')}, " if len(self.nodes) > 1 else ""
        free = ""
        if self.free is not None:
            free = f", free now {self.free.get('CPU', 0.0):g} CPU, {self.free.get('GPU', 0.0):g} GPU"
        cpus, gpus = (sum(node.get(name, 0.0) for node in self.nodes) for name in ("CPU", "GPU"))
        return f"{self.name}: {nodes}{cpus:g} CPU, {f'{gpus:g}' if gpus else 'no'} GPU{free}"

    def processes(self, resources: ResourcesConfig, gpu: float | None = None) -> int:
        """How many processes of trials fit on the nodes at once, each with all its workers.

        Args:
            resources: of one.
            gpu: the share of a GPU that one takes; none: that of `resources`, of `auto` a whole one.
        """
        return self.places(resources, gpu) // resources.workers

    def places(self, resources: ResourcesConfig, gpu: float | None = None) -> int:
        """How many workers fit at once, on whatever nodes; see `processes`."""
        gpu = resources.most_gpu if gpu is None else gpu
        return sum(places(node.get("CPU", 0.0), node.get("GPU", 0.0), resources.cpu, gpu) for node in self.nodes)


def places(cpus: float, cards: float, cpu: float, gpu: float) -> int:
    """How many workers a node has room for where nothing runs, each with so many cores and that share of one card.

    >>> places(8, 2, cpu=1, gpu=0.6)
    2
    """
    cores = units(cpus) // max(1, units(cpu))
    return min(cores, int(cards) * per_card(gpu)) if gpu else cores


def per_card(gpu: float) -> int:
    """How many workers a card holds that each take such a share of it; Ray gives none parts of two."""
    return UNITS // max(1, units(gpu))


def units(amount: float) -> int:
    """As Ray counts: in ten-thousandths."""
    return round(amount * UNITS)


def cores() -> int:
    """CPU cores of this machine that are ours: in a job of Slurm those that it has here, for others run on the rest."""
    job = os.environ.get("SLURM_CPUS_ON_NODE", "")
    return int(job) if job.isdecimal() and int(job) else os.cpu_count() or 1


def this_machine() -> Room:
    """The cores and cards of this machine that are ours: what a local Ray takes."""
    return Room("this machine", [{"CPU": float(cores()), "GPU": float(gpu_count())}])


def at_once(resources: ResourcesConfig, most: int | None, left: int, room: Room | None = None) -> int | None:
    """How many trials run side by side; 0: there is no room for any; none: nothing bounds it.

    Args:
        resources: of a process.
        most: `max_concurrent`.
        left: trials to run.
        room: where; none: not known.
    """
    bounds = [most] if most else []
    if room is not None:
        bounds.append(room.processes(resources) * resources.trials_per_process)
    if not bounds:
        return None
    processes, each = resources.divided(min(bounds)) if min(bounds) else (0, 0)
    return min(processes * each, left)
