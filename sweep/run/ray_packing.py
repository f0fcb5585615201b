"""`sweep.run.packing` for a launch through Ray: its nodes, how much memory they have, and what to say of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import ray

from sweep.config import ResourcesConfig, SweepConfig
from sweep.run import nodes
from sweep.run.packing import Packing, memory_shape, peaks_of
from sweep.run.seats import Node
from sweep.search.trials import PlannedTrial

if TYPE_CHECKING:
    from sweep.run.journal import Journal


def packing_of(
    journal: Journal, config: SweepConfig, passed: Container[str], say: Callable[[str], None], leave_out: bool
) -> Packing[PlannedTrial]:
    """What gives out a launch's trials.

    Args:
        journal: of the launch, which has begun nothing yet.
        config: the sweep.
        passed: ids of the nodes on which trials can run.
        say: is told of nodes that go away while they are asked.
        leave_out: trials that ran out of memory alone, and where there was no less than now is known to be.

    Raises:
        UserError: a node does not answer.
    """
    resources = config.resources
    short = {trial.id for trial in journal.progress.trials.values() if trial.outcome == "out_of_memory"}
    up = [node for node in nodes.nodes_up() if node["NodeID"] in passed]
    machines = packing_nodes(up, resources, resources.by_memory or bool(short), say)
    packing = Packing(
        machines,
        resources.cpu,
        None if resources.by_memory else resources.most_gpu,
        journal.next,
        name=lambda trial: trial.id,
        shape=lambda trial: memory_shape(trial.identity),
        peaks=peaks_of(journal.progress, config),
        each=resources.trials_per_process,
        workers=resources.workers,
        limit=config.max_concurrent,
        listed=journal.listed,
        waits=journal.waits,
        short=short,
    )
    if leave_out:
        journal.leave_out(packing.largest or 0.0)
    return packing


def packing_lines(packing: Packing[PlannedTrial]) -> Iterator[str]:
    """What is to be said before trials run that need more memory than there is."""
    for peak in packing.too_large().values():
        yield (
            f"trials of one shape took {peak.memory / 2**30:.1f} GiB before, and the largest card here has "
            f"{(packing.largest or 0) / 2**30:.1f} GiB: they run alone, and may be out_of_memory"
        )


def packing_nodes(
    up: Sequence[Mapping[str, Any]], resources: ResourcesConfig, asked: bool, say: Callable[[str], None]
) -> list[Node]:
    """Nodes as machines for trials.

    Args:
        up: the nodes, as Ray tells of them.
        resources: of a trial, or of each of its workers.
        asked: whether each is asked for its memory, which takes seconds.
        say: is told of nodes that went away while they were asked.

    Raises:
        UserError: one did not answer, or none is left.
    """
    memories: list[tuple[Mapping[str, Any], int | None]] = []
    gone = []
    for node, reference in [(node, memory(node, resources) if asked else None) for node in up]:
        try:
            name = nodes.title(node, up)
            memories.append((node, None if reference is None else nodes.answer(name, reference)))
        except nodes.NodeGone as lost:
            gone.append(lost)
    nodes.leave_out(gone, bool(memories), say)
    return [machine(node, resources, has) for node, has in memories]


def memory(node: Mapping[str, Any], resources: ResourcesConfig) -> Any:
    """The task that asks a node how much it has for a trial, see `machine`; None: no trial runs there."""
    on_gpu, has = bool(resources.gpu), node["Resources"]
    if not has.get("CPU") or (on_gpu and not has.get("GPU")):
        return None
    return _bytes.options(scheduling_strategy=nodes.on(node)).remote(on_gpu)


def machine(node: Mapping[str, Any], resources: ResourcesConfig, has: int | None) -> Node:
    """A node as a machine for trials.

    Args:
        node: as Ray tells of it.
        resources: of a trial.
        has: bytes of its smallest card, or where trials take none of its own memory; None: not known.
    """
    return Node(
        node["Resources"].get("CPU", 0.0),
        int(node["Resources"].get("GPU", 0)) if resources.gpu else 0,
        has,
        node["NodeID"],
    )


@ray.remote(num_cpus=0.01, max_calls=1)  # its process has asked CUDA for all cards, and may become no trial's
def _bytes(on_gpu: bool) -> int | None:
    """Of this node's smallest card, or of the node itself; None: it has no card that torch sees."""
    from trainers.hardware import card_bytes, host_bytes

    if not on_gpu:
        return host_bytes()
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
        del os.environ["CUDA_VISIBLE_DEVICES"]  # which Ray empties for who asks for no card
    return min(card_bytes(), default=None)
