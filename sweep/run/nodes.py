"""The nodes of the Ray that is up: what they have for trials, and whether trials can run on each."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from rich.console import Console

from sweep.config import ResourcesConfig
from sweep.plan.room import Room
from sweep.run.cluster import connected, silenced
from sweep.run.directory import PROBE
from sweep.run.packing import LEAST_SHARE
from sweep.storage import probes
from sweep.storage.cache import address_of
from trainers.errors import UserError
from trainers.provenance import code_version

#: How long a node may take to answer, s.
PATIENCE = 300.0

#: How long it may take until it is known that all of Ray has gone where a node has, s.
_GOING = 3.0


def most_at_once(resources: ResourcesConfig, wanted: int | None, each: int = 1) -> int:
    """How many trials fit on the nodes at once, `each` of them in a process, but not over `wanted`.

    Raises:
        UserError: a trial fits on no node, or its workers not on all of them together: Ray would wait for ever.
    """
    nodes = [node["Resources"] for node in nodes_up()]
    who = "a trial" if resources.workers == 1 else "a worker"
    for name, amount in resources.asked.items():
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise UserError(
                f"resources.{name.lower()}: {who} asks for {amount:g} {name}, and no node has more "
                f"than {most:g}; lower it (--set resources.{name.lower()}={most:g}), or add a node that has them"
            )
    room, share = Room("", nodes), LEAST_SHARE if resources.by_memory else None
    places, fit = room.places(resources, share), room.processes(resources, share)
    if not places:
        raise UserError(
            f"resources: no one node has {resources.cpu:g} CPU and {resources.most_gpu:g} GPU together; "
            "lower one of them, or add a node"
        )
    if not fit:
        raise UserError(
            f"resources.workers: a trial asks for {resources.needed}, and the nodes hold {places} at once; lower it "
            f"(--set resources.workers={places}), or add nodes"
        )
    return min(each * fit, wanted or each * fit)


def room(address: str, console: Console) -> Room:
    """What the nodes of a cluster have, and what of it is free now; nothing is started there.

    Args:
        address: see `connected`, as the next and the errors.
        console: is told that the cluster is looked for.
    """
    with connected(address, console, None, instead="leave --address out for this machine"):
        free = ray.available_resources()  # type: ignore[no-untyped-call]
        return Room(f"the cluster at {address}", [node["Resources"] for node in nodes_up()], free)


def nodes_up() -> list[dict[str, Any]]:
    """The nodes that are up."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def on(node: Mapping[str, Any]) -> NodeAffinitySchedulingStrategy:
    """Has a task run on this node and no other."""
    return NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)


class NodeGone(UserError):
    """A node went away while it was asked."""


def title(node: Mapping[str, Any], all_nodes: Sequence[Mapping[str, Any]]) -> str:
    """A node's hostname, with the beginning of its id where another has the same."""
    name: str = node["NodeManagerHostname"]
    same = sum(other["NodeManagerHostname"] == name for other in all_nodes)
    return name if same < 2 else f"{name} ({node['NodeID'][:8]})"


@contextmanager
def probing(directory: Path, inputs: Iterable[str]) -> Iterator[Callable[[Mapping[str, Any]], Any]]:
    """A block in which nodes can be asked, without waiting, whether trials can run there; see `check_probe`.

    Args:
        directory: of the run.
        inputs: folders and files that the trials read.
    """
    there = [path for path in inputs if Path(path).exists()]
    token = probes.place(directory, f"{PROBE}{uuid.uuid4().hex}")

    def ask(node: Mapping[str, Any]) -> Any:
        probes.put(token)  # at each, for a launch of another share may have taken it for one that was left over
        return _probe.options(scheduling_strategy=on(node)).remote([token, *there])

    try:
        yield ask
    finally:
        probes.remove(token)


def check_nodes(
    directory: Path, inputs: Mapping[str, str], say: Callable[[str], None] = lambda line: None
) -> list[str]:
    """Every node sees the run directory and the data, and has this code; checkpoints and data are found by path.

    Args:
        directory: of the run.
        inputs: folders and files that the trials read, each with the key of the config that names it.
        say: is told of nodes that went away while they were asked.

    Returns:
        The ids of the nodes on which trials can run.

    Raises:
        UserError: names the first node that does not, or one that went away where no other is left.
    """
    up, passed, gone = nodes_up(), [], []
    with probing(directory, inputs) as ask, silenced():
        asked = [(node, ask(node)) for node in up if node["Resources"].get("CPU", 0)]
        for node, probe in asked:
            try:
                check_probe(title(node, up), directory, inputs, probe)
                passed.append(node["NodeID"])
            except NodeGone as lost:
                gone.append(lost)
    leave_out(gone, bool(passed), say)
    return passed


def leave_out(gone: Sequence[NodeGone], others: bool, say: Callable[[str], None]) -> None:
    """Goes on without nodes that went away while they were asked.

    Raises:
        NodeGone: there are no others.
        RayGone: all of Ray has gone.
    """
    if gone:
        time.sleep(_GOING)  # in which RayGone is raised, if all of Ray has gone
    if gone and not others:
        raise gone[0]
    for lost in gone:
        say(f"{lost.args[0].partition(':')[0]} went away while it was asked: left out")


def check_probe(name: str, directory: Path, inputs: Mapping[str, str], probe: Any) -> None:
    """What a node that was asked by `probing` answers is as it must be.

    Raises:
        UserError: it is not, or does not come.
    """
    missing, version = answer(name, probe)
    if missing and missing[0] not in inputs and (address := address_of(directory)) is not None:
        raise UserError(
            f"--out {address}: node {name} does not reach it; give it the keys, and AWS_ENDPOINT_URL if you set that, "
            "in its own environment"
        )
    if missing:
        what = f"--out {directory}" if missing[0] not in inputs else f"{inputs[missing[0]]} {missing[0]}"
        raise UserError(f"{what}: node {name} does not see it; give a folder that all nodes share")
    if version != code_version():
        raise UserError(f"node {name}: has other code ({version}) than this ({code_version()}); install the same on it")


def answer(name: str, reference: Any) -> Any:
    """What a node answers to what it was asked.

    Args:
        name: of the node.
        reference: of the task there.

    Raises:
        NodeGone: it went away meanwhile.
        UserError: it does not answer, or cannot.
    """
    try:
        return ray.get(reference, timeout=PATIENCE)
    except ray.exceptions.GetTimeoutError:
        raise UserError(
            f"node {name}: did not answer within {PATIENCE:.0f} s; is it busy with other jobs? Try again"
        ) from None
    except ray.exceptions.RayError as error:
        last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        if not isinstance(error, ray.exceptions.RayTaskError | ray.exceptions.RuntimeEnvSetupError):
            raise NodeGone(
                f"node {name}: went away while it was asked: {last}; once it is up, or out of the cluster, try again"
            ) from None
        raise UserError(f"node {name}: cannot run robustsweep: {last}; install the same version there") from None


@ray.remote(num_cpus=0.01)
def _probe(paths: list[str]) -> tuple[list[str], str]:
    """The paths that this node does not see, and its code."""
    return [path for path in paths if not probes.sees(path)], code_version()
