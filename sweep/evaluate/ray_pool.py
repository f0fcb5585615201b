"""Jobs on Ray by processes that stay while there are jobs: what one has in memory, such as data, its next job finds.

Tasks would not do: Ray gives each that asks for a GPU a new process.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Generic, NamedTuple, Self, TypeVar

import ray

from sweep.config import ResourcesConfig

Job = TypeVar("Job")
Values = Mapping[str, Any]


class _Running(NamedTuple):
    """A job that runs."""

    job: Any
    values: Values
    process: Any
    deaths: int
    """Processes that died at it before."""


class _Process:
    """A process that does one job after another."""

    def __init__(self, work: Callable[[Values], tuple[Any, bool]]) -> None:
        self._work = work

    def run(self, values: Values) -> tuple[Any, bool]:
        return self._work(values)


class Pool(Generic[Job]):
    """Runs jobs, each in a process of the pool; at the end of its block nothing of it is left."""

    def __init__(
        self,
        work: Callable[[Values], tuple[Any, bool]],
        resources: ResourcesConfig,
        restarts: int,
        hung: Callable[[Values], str | None] = lambda values: None,
    ) -> None:
        """Starts nothing yet.

        Args:
            work: does a job, of which it is given the plain values; gives its result, and whether the process can do
                another; raises nothing.
            resources: of one process.
            restarts: how often a job whose process dies is begun again.
            hung: says of a job whose process is gone whether that ended for hanging, and how: it begins no more.
        """
        process: Any = ray.remote(num_cpus=resources.cpu, num_gpus=resources.most_gpu)(_Process)
        self._new: Callable[[], Any] = lambda: process.remote(work)
        self._restarts, self._hung = restarts, hung
        self._idle: list[Any] = []
        self._running: dict[Any, _Running] = {}

    def __enter__(self) -> Self:
        """The pool."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Ends every process at once, in the middle of its job too."""
        for process in (*self._idle, *(running.process for running in self._running.values())):
            ray.kill(process)

    def __len__(self) -> int:
        """Jobs that run."""
        return len(self._running)

    def start(self, job: Job, values: Values) -> None:
        """Begins a job, in a process that is idle or else in a new one, as soon as there is room for that."""
        self._start(job, values, 0)

    def _start(self, job: Job, values: Values, deaths: int) -> None:
        process = self._idle.pop() if self._idle else self._new()
        self._running[process.run.remote(values)] = _Running(job, values, process, deaths)

    def ended(self, patience: float) -> list[tuple[Job, Any]]:
        """Jobs that have ended, with what they gave, or in words that their processes died; none ends twice.

        A job whose process dies is begun again, `restarts` times at most. Processes that have been given no job since
        the last call are let go: one that has no room yet, as when a node is lost, waits for theirs.

        Args:
            patience: how long it waits for the first, s.
        """
        while self._idle:
            ray.kill(self._idle.pop())
        ready = ray.wait(list(self._running), timeout=patience)[0] if self._running else []
        return [job for reference in ready for job in self._taken(reference)]

    def _taken(self, reference: Any) -> list[tuple[Job, Any]]:
        """The job of a reference with its result; nothing where it begins again."""
        running = self._running.pop(reference)
        try:
            result, usable = ray.get(reference)
        except ray.exceptions.RayError as error:
            ray.kill(running.process)
            if (why := self._hung(running.values)) is not None:
                return [(running.job, why)]
            if running.deaths < self._restarts and not isinstance(error, ray.exceptions.RayTaskError):
                self._start(running.job, running.values, running.deaths + 1)
                return []
            return [(running.job, f"its process died: {str(error).strip().splitlines()[0]}")]
        if usable:
            self._idle.append(running.process)
        else:
            ray.kill(running.process)
        return [(running.job, result)]
