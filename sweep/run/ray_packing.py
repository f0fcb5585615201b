"""`sweep.run.packing` for a launch through Ray: its nodes, how much memory they have, and what to say of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import ray

from sweep.config import ResourcesConfig, SweepConfig
from sweep.run import nodes
from sweep.run.packing import Node, Packing, memory_shape, peaks_of
from sweep.search.trials import PlannedTrial

if TYPE_CHECKING:
    from sweep.run.journal import Journal

#: How the resource begins by which Ray tells kinds of card apart.
_KIND = "accelerator_type:"


def packing_of(journal: Journal, config: SweepConfig, leave_out: bool) -> Packing[PlannedTrial]:
    """What gives out a launch's trials.

    Args:
        journal: of the launch, which has begun nothing yet.
        config: the sweep.
        leave_out: those that ran out of memory alone, and where there was no less than now is known to be.

    Raises:
        UserError: a node does not answer.
    """
    resources = config.resources
    short = {trial.id for trial in journal.progress.trials.values() if trial.outcome == "out_of_memory"}
    machines = packing_nodes(resources, resources.gpu == "auto" or bool(short))
    packing = Packing(
        machines,
        resources.cpu,
        None if resources.gpu == "auto" else resources.gpu,
        journal.next,
        name=lambda trial: trial.id,
        shape=lambda trial: memory_shape(trial.identity),
        peaks=peaks_of(journal.progress, config),
        each=resources.trials_per_process,
        limit=config.max_concurrent,
        listed=journal.listed,
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


def packing_nodes(resources: ResourcesConfig, asked: bool) -> list[Node]:
    """The nodes that are up.

    Args:
        resources: of a trial.
        asked: whether each is asked for its memory, which takes seconds.

    Raises:
        UserError: one did not answer.
    """
    up = nodes.nodes_up()
    on_gpu = bool(resources.gpu)
    memory = _memory(up, on_gpu) if asked else {}
    return [
        Node(
            node["Resources"].get("CPU", 0.0),
            int(node["Resources"].get("GPU", 0)) if on_gpu else 0,
            memory.get(node["NodeID"]),
            next((name for name in node["Resources"] if name.startswith(_KIND)), ""),
            node["NodeID"],
        )
        for node in up
    ]


def _memory(up: list[dict[str, Any]], on_gpu: bool) -> dict[str, int | None]:
    """Of the nodes that can run a trial, by id."""
    asked = [
        (node, _bytes.options(scheduling_strategy=nodes.on(node)).remote(on_gpu))
        for node in up
        if node["Resources"].get("CPU") and (node["Resources"].get("GPU") or not on_gpu)
    ]
    return {node["NodeID"]: nodes.answer(node["NodeManagerHostname"], reference) for node, reference in asked}


@ray.remote(num_cpus=0.01, max_calls=1)  # its process has asked CUDA for all cards, and may become no trial's
def _bytes(on_gpu: bool) -> int | None:
    """Of this node's smallest card, or of the node itself; None: it has no card that torch sees."""
    from trainers.memory import card_bytes, host_bytes

    if not on_gpu:
        return host_bytes()
    if not os.environ.get("CUDA_VISIBLE_DEVICES", "all"):
        del os.environ["CUDA_VISIBLE_DEVICES"]  # which Ray empties for who asks for no card
    return min(card_bytes(), default=None)
