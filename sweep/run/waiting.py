"""Room that is not there yet: it is waited for, and a cluster that autoscales is shown what for."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
from ray._private.state import state
from ray.experimental.internal_kv import _internal_kv_get
from ray.util.placement_group import placement_group, remove_placement_group

from sweep.config import ResourcesConfig
from sweep.plan.room import Room
from sweep.run import nodes
from sweep.run.placing import NODE_ID
from sweep.run.ray_watch import have_room
from trainers.errors import UserError
from trainers.fields import plural

#: How long a cluster that autoscales may take to bring a node, min: as long as Ray itself waits for one that it starts
#: [ray.autoscaler._private.constants.AUTOSCALER_NODE_START_WAIT_S, 900 s].
AUTOSCALER_MINUTES = 15.0

#: How Ray names the kinds of nodes where nobody has named them, that is where nothing autoscales.
_UNNAMED = "node_"

#: Between two looks, s.
_PAUSE = 1.0


def minutes(resources: ResourcesConfig, least: int | None) -> float:
    """How long this launch waits for nodes.

    Args:
        resources: of a process of trials.
        least: how many nodes it asks for; None: it does not.
    """
    if resources.wait_minutes is not None:
        return resources.wait_minutes
    return AUTOSCALER_MINUTES if least or autoscales() else 0.0


def autoscales() -> bool:
    """Whether the cluster that we are connected to says that it starts nodes by itself.

    Ray's second autoscaler (KubeRay's) keeps what it may start in the cluster's own store. The first one (that of
    `ray up`) keeps its report there: of kinds of nodes that its config names; without a config there are none.
    """
    config = state.get_cluster_config()
    if config is not None and any(group.max_count for group in config.node_group_configs):
        return True
    report = json.loads(_internal_kv_get(DEBUG_AUTOSCALING_STATUS) or "{}").get("autoscaler_report") or {}
    return any(not kind.startswith(_UNNAMED) for kind in report.get("active_nodes", {}))


def text(resources: ResourcesConfig, least: int, wait: float) -> str:
    """What is waited for, and how long, in words."""
    if resources.workers > 1 and least == 1:
        return f"waiting for nodes with room for {resources.needed}, up to {wait:g} min"
    asked = " and ".join(f"{amount:g} {name}" for name, amount in resources.asked.items())
    return f"waiting for {'a node' if least == 1 else f'{least} nodes'} with {asked}, up to {wait:g} min"


def demand(resources: ResourcesConfig, number: int) -> Any:
    """Has Ray look for nodes with room for a trial, and an autoscaler start them: a placement group, on as many nodes;
    of a single one, with room for all workers of a trial, on whatever nodes.

    It takes what it asks for once all of that is there, until it is given back by `given_back`.
    """
    if number == 1:
        return placement_group([resources.asked] * resources.workers, "PACK")
    return placement_group([resources.asked] * number, "STRICT_SPREAD")


def more(resources: ResourcesConfig, known: Iterable[str]) -> Any:
    """Shows an autoscaler that one more process of trials would run on nodes that are not there yet.

    A placement group, which no known node can take; Ray's `request_resources` would outlive a driver that was
    killed, and these do not.

    Args:
        resources: of a process of trials.
        known: ids of the nodes that are there.

    Returns:
        What `given_back` takes.
    """
    workers = resources.workers
    new = [{NODE_ID: f"!in({','.join(sorted(known))})"}] * workers
    return placement_group([resources.asked] * workers, "PACK", bundle_label_selector=new)


def given_back(group: Any) -> None:
    """Ends a demand."""
    remove_placement_group(group)


def await_nodes(resources: ResourcesConfig, least: int | None, wait: float, say: Callable[[str], None]) -> None:
    """Waits until so many nodes have room for a trial, or for a worker of one, and then for all of its workers.

    Args:
        resources: of a process of trials.
        least: how many; None: one, which is not missed here where it does not come.
        wait: how long, min.
        say: is told once what is waited for.

    Raises:
        UserError: there are fewer at the end.
    """
    deadline = time.monotonic() + 60 * wait
    for number in dict.fromkeys((least or 1, 1)) if wait else ():
        there = _await(resources, number, deadline, partial(say, text(resources, number, wait)))
        if number == least and there < number:
            what = "a trial" if resources.workers == 1 or number == 1 else "a worker"
            raise UserError(
                f"--min-nodes {least}: after {wait:g} min {plural(there, 'node')} with room for {what} "
                f"{'is' if there == 1 else 'are'} up; start more, ask for fewer, or set resources.wait_minutes"
            )


def _await(resources: ResourcesConfig, number: int, deadline: float, say: Callable[[], None]) -> int:
    """Waits for so many nodes, and gives how many there are; see `demand`."""
    if (there := _there(nodes.nodes_up(), resources, number)) >= number:
        return there
    say()
    group = demand(resources, number)
    try:
        while (there := _there(nodes.nodes_up(), resources, number)) < number and time.monotonic() < deadline:
            time.sleep(_PAUSE)
    finally:
        given_back(group)
    return there


def _there(up: Sequence[Mapping[str, Any]], resources: ResourcesConfig, number: int) -> int:
    if number == 1:
        return int(have_room(up, resources))
    return sum(Room("", [node["Resources"]]).places(resources) > 0 for node in up)
