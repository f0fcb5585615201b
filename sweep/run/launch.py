"""A launch: from a checked config to ended trials, whatever ends it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sweep.config import SweepConfig
from sweep.departures import departures
from sweep.plan.plan import Plan, earlier_records, plan
from sweep.plan.room import this_machine
from sweep.run import child
from sweep.run.budget import Budget, NothingFits, budget_of
from sweep.run.capacity import capacity_here, check_resources, refused_here
from sweep.run.directory import RunLock, log_folder, refuse_other_sweep
from sweep.run.journal import Journal
from sweep.run.notices import Notices
from sweep.run.outside import take_in
from sweep.run.replay import marked, refuse_mixing, refuse_outside
from sweep.run.screen import say
from sweep.run.signals import EXIT_DONE, EXIT_SOME_FAILED, Interrupted, Interrupts, RayGone, StorageGone
from sweep.run.ways import Running, in_a_child, in_this_process, on_a_surface, through_ray
from sweep.share import Share
from sweep.storage.mirror import heeded
from trainers.provenance import code_version
from trainers.record import FINISHED
from trainers.record.linked import refuse_lost

if TYPE_CHECKING:
    from analysis.surrogate.surface import Surrogate

#: How often a launch or an evaluation starts a new local Ray in place of one that has gone.
NEW_RAYS = 3


@dataclass
class Launch:
    """Runs what a sweep wants and is not finished."""

    config: SweepConfig
    directory: Path
    """Of the run; made, or gone on with."""
    console: Console
    """For the plan, the live table and the closing line."""
    _: KW_ONLY
    command: str
    """What the user typed, for the records."""
    decides: Mapping[str, Any] | None = None
    """What the launch is to decide, for the records: claim, budget_hours, choosing_seeds; None: nothing."""
    address: str | None = None
    """Of a Ray cluster; None: a local one."""
    serial: bool = False
    """One trial after another, in one process, without Ray."""
    debug: bool = False
    """Of a serial launch, in this very process: a trial that ends its process ends the launch, and none is ended for
    hanging."""
    again: bool = False
    """Also trials that ran out of memory alone, where there is no more of it, and those that were cancelled."""
    resume_pruned: bool = False
    """Also trials that a stopping rule ended; none ends them any more."""
    share: Share | None = None
    """Whose trials alone are run, beside launches of other shares of as many; None: all, with nobody beside it."""
    min_nodes: int | None = None
    """How many nodes of the cluster must have room for a trial before any starts; None: one."""
    budget_hours: float | None = None
    """Of trials, see `sweep.run.budget`; None: no end."""
    up: ExitStack | None = None
    """A Ray, or a serial launch's process, that this launch starts stays up until this is closed; None: until the
    launch ends."""
    notices: Notices | None = None
    """Of what this launch is a part of; None: it has its own."""
    surrogate: Surrogate | None = None
    """The response surface that trials are drawn from, one after another; None: they are trained."""

    def run(self) -> int:
        """Runs it once.

        Returns:
            The exit code: 0 done, 1 some trials failed, 3 Ray is gone, 130 interrupted.

        Raises:
            UserError: the directory, the data or the resources are not as they must be; no trial has been begun.
            NothingFits: trials are left, and for none of them there are hours enough; nothing has been started.
        """
        refuse_other_sweep(self.directory, self.config)
        refuse_mixing(self.directory, self.surrogate)
        with RunLock(self.directory, share=self.share) as lock, Interrupts() as signals, ExitStack() as ends:
            self._lock, self._signals, self._ends = lock, signals, ends
            ends.enter_context(heeded(self.directory, lambda reason: signals.lose(StorageGone(reason))))
            self._heard = self.notices or ends.enter_context(
                Notices(self.config.notify, self.config.name, self.directory, self.console)
            )
            self._version = code_version() if self.surrogate is None else marked(self.surrogate)
            self._began = time.time()
            try:
                if self._way is in_a_child:  # which imports torch while this process plans
                    child.here(self.up or ends, self.config.resources.workers)
                return self._once() if self.serial else kept_up(self._once, self.console, self.address, self.up)
            except Interrupted as stop:  # before the first trial, or its Ray has gone, which is said
                self._heard.ended = stop.reason
                if not isinstance(stop, RayGone):
                    say(self.console, f"{stop.reason}; the same command goes on")
                return stop.exit_code

    @property
    def _way(self) -> Callable[[Running], int]:
        if self.surrogate is not None:
            return partial(on_a_surface, self.surrogate)
        if not self.serial:
            return through_ray
        return in_this_process if self.debug else in_a_child

    def _once(self) -> int:
        """Plans what is left, and runs it."""
        anywhere = self.again or self.address is not None
        capacity = math.inf if anywhere else capacity_here(self.config.resources)
        records = earlier_records(self.directory)
        refuse_lost(self.directory, records)
        self._lock.check()
        if take_in(self.directory, self.share, records):
            records = earlier_records(self.directory)
        with self._ray_ahead(records):
            wanted = self._plan(records, capacity)
            if not wanted.left:
                return EXIT_SOME_FAILED if wanted.progress.needing_more() else EXIT_DONE
            if self.surrogate is None:
                check_resources(self.config, self.serial, self.address)
            return self._way(self._running(self._journal(wanted, records)))

    def _plan(self, records: Sequence[Mapping[str, Any]], capacity: float) -> Plan:
        """What is left, said."""
        budgeted = self.budget_hours is not None
        how: dict[str, Any] = {"again": self.again, "share": self.share, "resume_pruned": self.resume_pruned}
        how |= {"by_seed": budgeted, "cancelled_anew": _cancelled_since(records, self._began)}
        wanted = plan(self.config, records, self._version, capacity=capacity, **how)
        surfaces = [] if self.surrogate is None else refuse_outside(self.surrogate, self.config, wanted.search)
        where = None if self.serial or self.address is not None else this_machine()
        told = wanted if self.decides is None else replace(wanted, others=())  # it is a part of what was asked for
        lines = told.lines(launched=True, serial=self.serial, room=where, budgeted=budgeted)
        for text in ("\n".join(lines), *departures(self.config, self.directory), *surfaces):
            say(self.console, text)
        return wanted

    def _journal(self, wanted: Plan, records: Sequence[Mapping[str, Any]]) -> Journal:
        journal = Journal(self.directory, wanted)
        journal.guard, journal.stop = self._lock.check, self._signals.lose
        if self.budget_hours is not None:
            journal.budget = _budget(self.budget_hours, wanted, records, self.console)
        if self.surrogate is not None:
            journal.surrogate = self.surrogate.version
        return journal

    def _running(self, journal: Journal) -> Running:
        stays = self.up or self._ends if self._way is in_a_child else self.up
        reason, where = (self.command, self.decides), (self.min_nodes, self.address)
        running = Running(self.config, journal, self.console, self._signals, stays, reason, self.again, *where)
        journal.listener = self._heard.heard_by(journal.listener, journal.progress)
        return running

    @contextmanager
    def _ray_ahead(self, records: Sequence[Mapping[str, Any]]) -> Iterator[None]:
        """A block beside whose plan a local Ray comes up already, where that will be needed by all that is known before
        it."""
        with ExitStack() as here:
            local = self._way is through_ray and self.address is None
            if local and _leaves_some(records, self.share) and refused_here(self.config, serial=False) is None:
                from sweep.run import cluster

                stack = here if self.up is None else self.up
                stack.enter_context(cluster.ahead(self.console, log_folder(self.directory)))
            yield


def _leaves_some(records: Iterable[Mapping[str, Any]], share: Share | None) -> bool:
    """Whether a run's last launch has left trials of a share, as their outcomes say; the plan will say which."""
    wanted: Sequence[str] = ()
    outcomes: dict[str, str] = {}
    for record in records:
        if record["record"] == "launch":
            wanted = record.get("wanted", ())
        elif record["record"] == "outcome":
            outcomes[record["trial_id"]] = record["outcome"]
    ended = FINISHED | {"cancelled", "pruned", "out_of_memory"}
    return any(outcomes.get(name) not in ended for name in wanted if share is None or share.has(name))


def _cancelled_since(records: Iterable[Mapping[str, Any]], began: float) -> set[str]:
    """Ids of the trials that were cancelled after a launch began, s since 1970: its next Ray does not run them."""
    outcomes = (record for record in records if record["record"] == "outcome" and record.get("time", 0) >= began)
    return {record["trial_id"] for record in outcomes if record["outcome"] == "cancelled"}


def _budget(hours: float, wanted: Plan, records: Sequence[Mapping[str, Any]], console: Console) -> Budget:
    """The trials that are given out, said.

    Raises:
        NothingFits: there is none.
    """
    budget = budget_of(hours, wanted, records)
    say(console, budget.opening())
    if short := budget.check():
        say(console, short)
        raise NothingFits
    return budget


def kept_up(once: Callable[[], int], console: Console, address: str | None, up: ExitStack | None = None) -> int:
    """Does what needs Ray, and again from where it stands where its local Ray has gone, on a new one.

    Args:
        once: plans what is left and does it; raises RayGone.
        console: is told so.
        address: of a cluster, which is not for us to start again; None: of none.
        up: holds a Ray that stays up for more than this.

    Returns:
        What `once` returned.

    Raises:
        RayGone: the cluster has, or the local Ray for the last time.
    """
    for left in reversed(range(1 + NEW_RAYS)):
        try:
            return once()
        except RayGone as gone:
            say(console, f"{gone.reason}; " + _what_then(address, left))
            if address is not None or not left:
                raise
            if up is not None:
                up.close()
    raise AssertionError("the last time raises")


def _what_then(address: str | None, left: int) -> str:
    if address is not None:
        return "once the cluster is up again, the same command goes on"
    return "going on with a new one" if left else f"after {NEW_RAYS} new ones, no more; the same command goes on"
