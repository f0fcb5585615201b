"""Whether the Ray that trials run on is still there: calls to one that has gone wait for ever, or end the process."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import ray
from rich.console import Console

from sweep.config import ResourcesConfig
from sweep.plan.room import Room
from sweep.run.screen import say
from sweep.run.signals import EXIT_RAY_GONE, Interrupts, RayGone

#: Between two looks, s.
PAUSE = 0.5

#: How long a cluster may be silent, or without a node that has room for a trial, s. A launch then takes up to 23 s to
#: end, within the minute after which Ray itself would end the process.
PATIENCE = 30.0

#: How long a call to Ray may take after that, s.
STUCK = 10.0

#: Processes of a local Ray without which it is none.
NEEDED = ("raylet", "gcs_server")


@contextmanager
def watched(
    resources: ResourcesConfig,
    interrupts: Interrupts,
    console: Console,
    patience: float = PATIENCE,
    paused: Callable[[], bool] = bool,
    refused: Container[str] = (),
) -> Iterator[None]:
    """A block in which a thread looks whether Ray is there, and if it is not has RayGone raised in the main thread.

    Where that does not come back from a call to Ray, it ends the process: such calls do not heed signals. What then
    lacks a record, trials that ran, has been interrupted to all who read the records.

    Args:
        resources: of a process of trials, for which a node, or for its workers several together, must have room.
        interrupts: raises RayGone.
        console: is told where the process ends.
        patience: how long a cluster may be without a node that has room for a trial, s.
        paused: whether nothing is to run: a cluster may then have no such node for as long as that.
        refused: ids of nodes on which no trial may run, whatever room they have; may change.
    """
    over = threading.Event()
    look = _local() or _Cluster(resources, max(patience, PATIENCE), paused, refused).look

    def watch() -> None:
        while not over.wait(PAUSE):
            if how := look():
                interrupts.lose(RayGone(how))
                break
        stuck = 0.0
        while not over.wait(PAUSE):
            stuck = stuck + PAUSE if _main_is_in_ray() else 0.0
            if stuck > STUCK:
                console.show_cursor()
                say(console, f"{RayGone(how).reason}; the same command goes on")
                os._exit(EXIT_RAY_GONE)

    watching = threading.Thread(target=watch, name="ray-watch", daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


def _main_is_in_ray() -> bool:
    """Whether the main thread is in a call to Ray: nothing of ours is then half done."""
    frame = sys._current_frames()[threading.main_thread().ident or 0]
    return frame.f_code.co_filename.startswith(str(Path(ray.__file__).parent))


def _local() -> Callable[[], str | None] | None:
    """Looks at the processes of the local Ray that this process has started; None: it has not."""
    processes = {process: name for process, name in children().items() if name in NEEDED}
    return (lambda: next(filter(None, map(_ended, processes.values(), processes)), None)) if processes else None


def _ended(name: str, process: int) -> str | None:
    """How a child of ours has ended; it is then no zombie any more, which Ray's workers would take for a live one."""
    try:
        ended, status = os.waitpid(process, os.WNOHANG)
    except ChildProcessError:  # Ray has seen it first
        return f"its {name} (process {process}) has ended"
    if not ended:
        return None
    code = os.waitstatus_to_exitcode(status)
    return f"its {name} (process {process}) ended by " + (signal.Signals(-code).name if code < 0 else f"exit {code}")


def children() -> dict[int, str]:
    """Processes that this one has started and that are there, with their names; none where the system does not tell."""
    names: dict[int, str] = {}
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):  # a thread that has just ended
            for process in map(int, file.read_text().split()):
                with suppress(OSError):
                    names[process] = Path(f"/proc/{process}/comm").read_text().strip()
    return names


def have_room(nodes: Iterable[Mapping[str, Any]], resources: ResourcesConfig) -> bool:
    """Whether a process of trials, with all its workers, fits on nodes where nothing runs."""
    return Room("", [node["Resources"] for node in nodes]).processes(resources) > 0


class _Cluster:
    """Looks at the nodes of a cluster. Time is counted in looks: a process that was stopped for a while saw nothing."""

    def __init__(
        self,
        resources: ResourcesConfig,
        patience: float,
        paused: Callable[[], bool] = bool,
        refused: Container[str] = (),
    ) -> None:
        """Asks for the nodes in a thread of its own, for Ray may not answer."""
        self._resources, self._patience, self._paused, self._refused = resources, patience, paused, refused
        context = ray.get_runtime_context()
        self._here, self._head = context.get_node_id(), context.gcs_address
        self._nodes: Sequence[Mapping[str, Any]] | None = None
        self._asking: threading.Thread | None = None
        self._silent = self._full = 0.0

    def look(self) -> str | None:
        """How the cluster has ended; None while it is there."""
        if self._asking is None or not self._asking.is_alive():
            self._silent = 0.0 if self._nodes is not None else self._silent
            how = self._of(self._nodes or ())
            self._nodes = None
            self._asking = threading.Thread(target=self._ask, name="ray-nodes", daemon=True)
            self._asking.start()
            if how:
                return how
        self._silent += PAUSE
        if self._silent > PATIENCE:
            return f"its head at {self._head} has not answered for {PATIENCE:.0f} s"
        return None

    def _ask(self) -> None:
        with suppress(Exception):  # of many classes; what counts is that there is no answer
            self._nodes = ray.nodes()  # type: ignore[no-untyped-call]

    def _of(self, nodes: Sequence[Mapping[str, Any]]) -> str | None:
        """What an answer says; nothing if it is none."""
        if not nodes:
            return None
        up = [node for node in nodes if node["Alive"]]
        if all(node["NodeID"] != self._here for node in up):
            return "the node that this process is on is down"
        usable = (node for node in up if node["NodeID"] not in self._refused)
        room = self._paused() or have_room(usable, self._resources)
        self._full = 0.0 if room else self._full + PAUSE
        if self._full > self._patience:
            what = "no node has been up that has" if self._resources.workers == 1 else "no nodes have been up that have"
            return f"for {self._patience:.0f} s {what} room for a trial"
        return None
