"""Nodes that come and go while trials run: who joins is asked before a trial may run there, who leaves is let go."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ray

from sweep.config import ResourcesConfig
from sweep.run import nodes, ray_packing, waiting
from sweep.run.packing import Packing
from sweep.run.ray_watch import PATIENCE, have_room
from sweep.run.seats import Node
from sweep.run.signals import RayGone
from trainers.errors import UserError

#: Between two looks, s.
PAUSE = 1.0

#: For how many processes of trials an autoscaler is asked for nodes at a time; as these come, for more. [own choice]
MOST = 64


class _Asked(NamedTuple):
    """A node that was asked, and what for; it is not waited for."""

    title: str
    node: Mapping[str, Any]
    tasks: list[Any]
    """The probe's, and where memory is asked for that one's."""
    since: float


class Roster:
    """Knows the nodes, from looks that a thread takes: Ray may not answer, and trials need not wait for that.

    A node is asked once: one that fails is left out until it joins anew, by another id.
    """

    def __init__(
        self,
        directory: Path,
        inputs: Mapping[str, str],
        resources: ResourcesConfig,
        known: Sequence[str],
        memory: bool,
        wait: float = 0.0,
        paused: Callable[[], bool] = bool,
        refused: set[str] | None = None,
    ) -> None:
        """Looks at nothing yet.

        Args:
            directory: of the run.
            inputs: see `sweep.run.nodes.check_nodes`.
            resources: of a process of trials.
            known: ids of the nodes that are not asked: they were, at the launch's start.
            memory: whether nodes are asked for their memory too.
            wait: how long a node that has room is waited for where none is left, min; 0: nothing brings any, and none
                is asked for.
            paused: whether nothing is to run: no autoscaler is then asked for anything.
            refused: gets the ids of nodes that fail: no trial runs there, whatever room they have.
        """
        self._directory, self._inputs, self._resources, self._memory = directory, inputs, resources, memory
        self._wait, self._paused, self._refused = wait, paused, set[str]() if refused is None else refused
        self.more = 0
        """How many processes of trials would run beside those that do if there were more nodes: these are asked for."""
        self._demands: list[Any] = []
        self._without = False
        """Whether no node has room."""
        self._stranded: float | None = None
        """Since when nothing runs but what needs a larger card than any that is there, s."""
        self._known = dict.fromkeys(known, "")
        self._asked: dict[str, _Asked] = {}
        self._slow: set[str] = set()
        self._news: deque[tuple[Node | None, str, str]] = deque()

    @contextmanager
    def followed(self) -> Iterator[None]:
        """A block in which the nodes are looked at."""
        over = threading.Event()

        def follow() -> None:
            with nodes.probing(self._directory, self._inputs) as ask:
                while not over.wait(PAUSE):
                    with suppress(Exception):  # of many classes, as a GCS that comes up again; the next look asks anew
                        self._look(ask)
            with suppress(Exception):
                self._ask_for(0)

        following = threading.Thread(target=follow, name="ray-roster", daemon=True)
        following.start()
        try:
            yield
        finally:
            over.set()
            following.join(2 * PAUSE)  # it may be in a call to a Ray that has gone

    def news(self, packing: Packing[Any]) -> Iterator[str]:
        """What has come of the looks, for `packing` and for the screen; for the thread that has trials started.

        Raises:
            RayGone: for too long nothing could run but what needs a larger card than any that is there.
        """
        while self._news:
            machine, left, line = self._news.popleft()
            if machine is not None:
                packing.join(machine)
            if left and not packing.leave(left):
                continue  # no trial could run there
            number = len(packing.room.nodes)
            yield line + (f": trials run on {number or 'no'} node{'s' * (number != 1)} now" if machine or left else "")

        yield from self._await_card(packing)

    def _await_card(self, packing: Packing[Any]) -> Iterator[str]:
        """Says what card is waited for, and ends the launch if none comes: Ray would wait for ever."""
        least = 0 if self._paused() else packing.stranded
        if not least:
            self._stranded = None
            return
        seconds, card = max(60 * self._wait, PATIENCE), f"a card of {least / 2**30:.1f} GiB for trials that had one"
        if self._stranded is None:
            self._stranded = time.monotonic()
            yield f"waiting up to {seconds:.0f} s for a node with {card}"
        elif time.monotonic() - self._stranded > seconds:
            raise RayGone(
                f"for {seconds:.0f} s no node has been up with {card}; a new launch goes by the cards that are there"
            )

    def _look(self, ask: Callable[[Mapping[str, Any]], Any]) -> None:
        everyone: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
        up = {node["NodeID"]: node for node in everyone if node["Alive"]}
        before = set(self._known)
        for name in self._known.keys() - up.keys() if up else ():
            self._let_go(name)
        for name in up.keys() - self._known.keys():
            with suppress(OSError, UserError):  # the storage is away: it is asked at the next look
                self._ask(up[name], list(up.values()), ask)
        for name in self._known.keys() & up.keys():
            self._known[name] = nodes.title(up[name], list(up.values()))
        for name, asked in list(self._asked.items()):
            self._hear(name, asked)
        if before != set(self._known):
            self._ask_for(0)  # what has come is for trials
        self._await_room(up.values())

    def _await_room(self, up: Iterable[Mapping[str, Any]]) -> None:
        """Shows an autoscaler what is missing: for trials that wait, and where no node has room for those that run."""
        usable = (node for node in up if node["NodeID"] not in self._refused)
        without = not (self._paused() or have_room(usable, self._resources))
        if self._wait and without and not self._without:
            self._news.append((None, "", waiting.text(self._resources, 1, self._wait)))
        self._without = without
        idle = self._paused() or self._asked.keys() - self._slow  # one that is being asked may be enough
        self._ask_for(min(MOST, max(self.more, without)) if self._wait and not idle else 0)

    def _ask_for(self, number: int) -> None:
        """Has an autoscaler asked for nodes for so many processes, and for no more."""
        while len(self._demands) > number:
            waiting.given_back(self._demands[-1])
            self._demands.pop()
        while len(self._demands) < number:
            self._demands.append(waiting.more(self._resources, self._known))

    def _let_go(self, name: str) -> None:
        title = self._known.pop(name)
        if self._asked.pop(name, None) is None:
            self._news.append((None, name, f"node {title} has left"))
        else:
            self._news.append((None, "", f"node {title} went away while it was asked: left out"))

    def _ask(self, node: Mapping[str, Any], up: Sequence[Mapping[str, Any]], ask: Callable[..., Any]) -> None:
        name, title = node["NodeID"], nodes.title(node, up)
        if node["Resources"].get("CPU", 0):
            tasks = [ask(node), ray_packing.memory(node, self._resources) if self._memory else None]
            tasks = [task for task in tasks if task is not None]
            self._asked[name] = _Asked(title, node, tasks, time.monotonic())
        self._known[name] = title

    def _hear(self, name: str, asked: _Asked) -> None:
        """Takes a node's answer, if it is there."""
        ready, _ = ray.wait(asked.tasks, num_returns=len(asked.tasks), timeout=0)
        if len(ready) < len(asked.tasks):
            if time.monotonic() - asked.since > nodes.PATIENCE and name not in self._slow:
                self._slow.add(name)
                line = (
                    f"node {asked.title} has not answered for {nodes.PATIENCE:.0f} s: no trials run there until it does"
                )
                self._news.append((None, "", line))
            return
        del self._asked[name]
        try:
            nodes.check_probe(asked.title, self._directory, self._inputs, asked.tasks[0])
            has = nodes.answer(asked.title, asked.tasks[1]) if len(asked.tasks) > 1 else None
        except nodes.NodeGone:
            self._news.append((None, "", f"node {asked.title} went away while it was asked: left out"))
        except UserError as error:
            self._refused.add(name)
            self._news.append((None, "", f"left out, a node that joined: {error}"))
        else:
            machine = ray_packing.machine(asked.node, self._resources, has)
            self._news.append((machine, "", f"node {asked.title} has joined"))
