"""A launch: from a checked config to ended trials, whatever ends it."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sweep.config import ResourcesConfig, SweepConfig
from sweep.departures import departures
from sweep.plan.plan import Plan, earlier_records, plan
from sweep.plan.room import cores, this_machine
from sweep.progress import left_out_lines
from sweep.run import child, hung
from sweep.run.budget import Budget, NothingFits, budget_of
from sweep.run.directory import RunLock, log_folder, refuse_other_sweep
from sweep.run.journal import Journal
from sweep.run.notices import Notices
from sweep.run.replay import marked, messages, refuse_mixing, refuse_outside
from sweep.run.screen import Screen, counts_line, heard, say
from sweep.run.signals import Interrupted, Interrupts, RayGone, StorageGone
from sweep.run.steering import OneByOne, Steering
from sweep.run.tracking import STOPPED, Trackers
from sweep.run.trial import Message, run_trial, trial_values
from sweep.run.worker_processes import Processes
from sweep.search.inputs import inputs
from sweep.search.trials import PlannedTrial
from sweep.share import Share
from sweep.storage.mirror import heeded
from trainers.errors import UserError
from trainers.fields import plural
from trainers.hardware import card_bytes, gpu_count, host_bytes
from trainers.provenance import code_version
from trainers.record import FINISHED
from trainers.record.linked import refuse_lost

if TYPE_CHECKING:
    from analysis.surrogate.surface import Surrogate

EXIT_DONE, EXIT_SOME_FAILED = 0, 1

#: How often a launch or an evaluation starts a new local Ray in place of one that has gone.
NEW_RAYS = 3

#: Why what runs in this process stops before its end.
LOST = "after its error the GPU answers this process no more, which ends here; the same command goes on in a new one"


def launch(
    config: SweepConfig,
    directory: Path,
    console: Console,
    *,
    command: str,
    decides: Mapping[str, Any] | None = None,
    address: str | None = None,
    serial: bool = False,
    debug: bool = False,
    again: bool = False,
    resume_pruned: bool = False,
    share: Share | None = None,
    min_nodes: int | None = None,
    budget_hours: float | None = None,
    up: ExitStack | None = None,
    notices: Notices | None = None,
    surrogate: Surrogate | None = None,
) -> int:
    """Runs what is wanted and not finished.

    Args:
        config: the sweep.
        directory: of the run; made, or gone on with.
        console: for the plan, the live table and the closing line.
        command: what the user typed, for the records.
        decides: what the launch is to decide, for the records: claim, budget_hours, choosing_seeds; None: nothing.
        address: of a Ray cluster; None: a local one.
        serial: one trial after another, in one process, without Ray.
        debug: of a serial launch, in this very process: a trial that ends its process ends the launch, and none is
            ended for hanging.
        again: also trials that ran out of memory alone, where there is no more of it, and those that were cancelled.
        resume_pruned: also trials that a stopping rule ended; none ends them any more.
        share: whose trials alone are run, beside launches of other shares of as many; None: all, with nobody beside it.
        min_nodes: how many nodes of the cluster must have room for a trial before any starts; None: one.
        budget_hours: of trials, see `sweep.run.budget`; None: no end.
        up: a Ray, or a serial launch's process, that this launch starts stays up until this is closed; None: until the
            launch ends.
        notices: of what this launch is a part of; None: it has its own.
        surrogate: the response surface that trials are drawn from, one after another; None: they are trained.

    Returns:
        The exit code: 0 done, 1 some trials failed, 3 Ray is gone, 130 interrupted.

    Raises:
        UserError: the directory, the data or the resources are not as they must be; no record has been written.
        NothingFits: trials are left, and for none of them there are hours enough; nothing has been started.
    """
    refuse_other_sweep(directory, config)
    refuse_mixing(directory, surrogate)
    with RunLock(directory, share=share) as lock, Interrupts() as interrupts, ExitStack() as of_this_launch:
        of_this_launch.enter_context(heeded(directory, lambda reason: interrupts.lose(StorageGone(reason))))
        own = notices or of_this_launch.enter_context(Notices(config.notify, config.name, directory, console))
        own_process = serial and not debug and surrogate is None
        elsewhere = serial or address is not None or surrogate is not None
        version = code_version() if surrogate is None else marked(surrogate)
        began = time.time()

        def once() -> int:
            capacity = math.inf if again or address is not None else capacity_here(config.resources)
            records = earlier_records(directory)
            refuse_lost(directory, records)
            with nullcontext() if elsewhere else _ray_ahead(config, directory, records, share, console, up):
                return planned(capacity, records)

        def planned(capacity: float, records: Sequence[Mapping[str, Any]]) -> int:
            budgeted = budget_hours is not None
            how: dict[str, Any] = {"again": again, "share": share, "resume_pruned": resume_pruned, "by_seed": budgeted}
            anew = _cancelled_since(records, began)
            wanted = plan(config, records, version, capacity=capacity, cancelled_anew=anew, **how)
            surfaces = [] if surrogate is None else refuse_outside(surrogate, config, wanted.search)
            where = None if serial or address is not None else this_machine()
            told = wanted if decides is None else replace(wanted, others=())  # it is a part of what was asked for
            say(console, "\n".join(told.lines(launched=True, serial=serial, room=where, budgeted=budgeted)))
            for line in (*departures(config, directory), *surfaces):
                say(console, line)
            if not wanted.left:
                return EXIT_SOME_FAILED if wanted.progress.needing_more() else EXIT_DONE
            if surrogate is None:
                check_resources(config, serial, address)
            journal = Journal(directory, wanted)
            journal.guard, journal.stop = lock.check, interrupts.lose
            if budget_hours is not None:
                journal.budget = _budget(budget_hours, wanted, records, console)
            run = _in_a_child if own_process else _in_this_process if serial else _through_ray
            if surrogate is not None:
                journal.surrogate = surrogate.version
                run = partial(_on_a_surface, surrogate)
            stays = up or of_this_launch if own_process else up
            reason = command, decides
            begun = _Launch(config, journal, console, interrupts, stays, reason, again, min_nodes)
            journal.listener = own.heard_by(journal.listener, journal.progress)
            return run(begun, address)

        try:
            if own_process:
                child.here(
                    up or of_this_launch, config.resources.workers
                )  # which imports torch while this process plans
            return once() if serial else kept_up(once, console, address, up)
        except Interrupted as stop:  # before the first trial, or its Ray has gone, which is said
            own.ended = stop.reason
            if not isinstance(stop, RayGone):
                say(console, f"{stop.reason}; the same command goes on")
            return stop.exit_code


@contextmanager
def _ray_ahead(
    config: SweepConfig,
    directory: Path,
    records: Sequence[Mapping[str, Any]],
    share: Share | None,
    console: Console,
    up: ExitStack | None,
) -> Iterator[None]:
    """A block beside whose plan a local Ray comes up already, where that will be needed by all that is known before it.

    Args:
        config: the sweep.
        directory: of the run.
        records: of the run.
        share: see `launch`.
        console: see `launch`.
        up: see `launch`; it then stays up after this block.
    """
    with ExitStack() as here:
        if _leaves_some(records, share) and not _refused(config, serial=False):
            from sweep.run import cluster

            (here if up is None else up).enter_context(cluster.ahead(console, log_folder(directory)))
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


@dataclass
class _Launch:
    """The parts of a launch that both ways of running share."""

    config: SweepConfig
    journal: Journal
    console: Console
    interrupts: Interrupts
    up: ExitStack | None
    reason: tuple[str, Mapping[str, Any] | None]
    """Its command, and what it is to decide."""
    again: bool
    """Whether trials are run again that ran out of memory alone, or were cancelled."""
    min_nodes: int | None = None
    """How many nodes must have room before any trial starts."""

    def __post_init__(self) -> None:
        self.screen = Screen(self.console, self.journal.progress)
        self.journal.listener = self.screen.show
        self.steering = Steering(self.journal, self.console, self.interrupts)

    def each_step(self) -> None:
        """Called several times a second.

        Raises:
            Interrupted: a signal has come.
            Cancelled: the trial that a serial launch runs is to end.
        """
        self.interrupts.check()
        self.screen.refresh()
        self.steering.look()

    def one_by_one(self) -> OneByOne:
        """The trials of a serial launch."""
        trials = OneByOne(self.journal, self.each_step)
        self.steering.steer(trials)
        return trials

    def run(self, trials: Callable[[], None]) -> int:
        """Runs the trials and closes the books, also when a signal stops it.

        Raises:
            RayGone: it has, and the books are closed.
        """
        stopped: Interrupted | None = None
        told = () if self.journal.surrogate else self.config.trackers
        trackers = Trackers(self.journal.directory, told)
        with _gc_on(), heard(self.console), self.journal.open(*self.reason), trackers, self.screen:
            try:
                trials()
            except Interrupted as stop:
                stopped, trackers.seconds = stop, STOPPED
                with self.interrupts.held():
                    self.journal.interrupt(stop.reason)
        if stopped:
            say(self.console, counts_line(self.journal.progress, live=False))
            if isinstance(stopped, RayGone):
                raise stopped
            say(self.console, f"{stopped.reason}; the same command goes on")
            return stopped.exit_code
        for line in left_out_lines(self.journal.progress.left_out()):
            say(self.console, line)
        if failed := sum(trial.outcome == "failed" for trial in self.journal.progress.current()):
            say(self.console, f"{plural(failed, 'trial')} failed; the same command tries again")
        unfinished = any(not trial.settled for trial in self.journal.progress.current())
        if (budget := self.journal.budget) is not None:
            say(self.console, budget.closing())
            unfinished = unfinished or bool(budget.left_out())
        return EXIT_SOME_FAILED if unfinished else EXIT_DONE


@contextmanager
def _gc_on() -> Iterator[None]:
    """A block with garbage collection, which the command put off, but of what is there: a plan of 10,000 trials lives
    as long as the launch, and to look through it takes half a second before the first trial begins."""
    gc.freeze()
    gc.enable()
    try:
        yield
    finally:
        gc.unfreeze()


def capacity_here(resources: ResourcesConfig) -> float:
    """Memory of this machine's largest card, or of the machine where trials take none, bytes; 0: it has no card."""
    return max(card_bytes(), default=0.0) if resources.gpu else float(host_bytes())


def check_resources(config: SweepConfig, serial: bool, address: str | None) -> None:
    """Where trials are to run there is what one asks for, as far as that is known before Ray is up.

    Args:
        config: the sweep.
        serial: in this process.
        address: of a Ray cluster, whose machines are not this one; None: of none.

    Raises:
        UserError: this machine has less, or the config names the GPU that Ray is to choose.
    """
    if not serial and config.trial.device.startswith("cuda:"):
        raise UserError(
            f"trial.device: must be auto, cpu or cuda, got {config.trial.device!r}: "
            "Ray chooses the GPU of each trial; set trial.device=auto"
        )
    if address is None and config.resources.gpu == "auto" and not gpu_count():
        raise UserError(
            "resources.gpu: auto needs a GPU, whose memory it shares out, and torch sees none on this machine; "
            "set resources.gpu=0 to train on the CPU"
        )
    if address is None and config.resources.most_gpu > gpu_count():
        raise UserError(
            f"resources.gpu: a trial asks for {config.resources.most_gpu:g} GPU, and this machine has "
            f"{gpu_count()}; set resources.gpu=0 to train on the CPU"
        )
    if address is None and not serial and config.resources.cpu > (here := cores()):
        raise UserError(
            f"resources.cpu: a trial asks for {config.resources.cpu:g} CPU, and this machine has {here}; "
            f"set resources.cpu={here}"
        )
    if address is None and config.resources.workers > 1:
        _check_workers(config.resources, serial)


def refusal_here(config: SweepConfig) -> str:
    """That a launch on this machine would be refused for want of what a trial asks for, in words; empty: it is not."""
    if (why := _refused(config, serial=False)) is None:
        return ""
    return f"a launch here is refused{'' if _refused(config, serial=True) else ' without --serial'}: {why}"


def _refused(config: SweepConfig, serial: bool) -> UserError | None:
    """Why `check_resources` refuses a launch on this machine; None: it does not."""
    try:
        check_resources(config, serial, address=None)
    except UserError as error:
        return error
    return None


def _check_workers(resources: ResourcesConfig, serial: bool) -> None:
    """This machine has room for all workers of a trial, as it has for one; cores are no bound to a serial launch."""
    (here,) = this_machine().nodes
    for name, amount in resources.asked.items():
        fit = int(here[name] / amount + 1e-9)
        if fit < resources.workers and not (serial and name == "CPU"):
            raise UserError(
                f"resources.workers: a trial asks for {resources.needed}, and this machine has {here[name]:g} {name}; "
                f"set resources.workers={fit}"
            )


def _in_this_process(launch: _Launch, address: str | None) -> int:
    journal, resources = launch.journal, launch.config.resources

    def send(message: Message) -> None:
        with launch.interrupts.held():
            journal.take(message)
        launch.steering.look()

    def trials() -> None:
        line = launch.one_by_one()
        how: dict[str, Any] = {
            "share": resources.most_gpu,
            "alone": True,
            "paused": line.is_paused,
            "pruned": line.is_pruned,
            "others": others,
        }
        for trial in line:
            values = trial_values(trial.config, resources)
            with line.running(trial):
                where = journal.directory, resources.threads
                usable = run_trial(trial.id, values, *where, send, shorter=journal.shorter(trial), **how)
                if not usable:
                    say(launch.console, f"trial {trial.id}: {LOST}")
                    return

    others = Processes(resources.workers - 1) if resources.workers > 1 else None
    with nullcontext() if others is None else closing(others):
        return launch.run(trials)


def _in_a_child(launch: _Launch, address: str | None) -> int:
    journal, resources = launch.journal, launch.config.resources
    hung.forget(journal.directory, journal.share)
    where = {"directory": journal.directory.absolute(), "threads": resources.threads}
    where |= {"share": resources.most_gpu, "alone": True}

    def take(message: Message) -> None:
        with launch.interrupts.held():
            journal.take(message)

    def train(trial: PlannedTrial, line: OneByOne) -> None:
        values, limits = trial_values(trial.config, resources), journal.limits(trial, resources.epoch_timeout)
        work = {"name": trial.id, "values": values, "limits": limits, "shorter": journal.shorter(trial), **where}
        process = child.here(launch.up, resources.workers)
        asked: dict[str, Any] = {"paused": line.is_paused, "pruned": line.is_pruned}
        asked["died"] = partial(journal.died, trial.id)
        if (end := process.train(work, take, launch.each_step, **asked)) is not None:
            outcome, why = end
            # it is the host's memory that the system kills for, and a GPU's is what its outcome would tell of
            journal.fail(trial.id, why, outcome, alone=not resources.gpu)
        if line.is_paused():
            process.stop()  # which gives back what it has of a GPU; the next trial gets another

    def trials() -> None:
        line = launch.one_by_one()
        for trial in line:
            with line.running(trial):
                train(trial, line)

    return launch.run(trials)


def _on_a_surface(surrogate: Surrogate, launch: _Launch, address: str | None) -> int:
    def trials() -> None:
        line = launch.one_by_one()
        for trial in line:
            with line.running(trial):
                for message in messages(surrogate, trial):
                    with launch.interrupts.held():
                        launch.journal.take(message)
            launch.each_step()

    return launch.run(trials)


def _through_ray(launch: _Launch, address: str | None) -> int:
    from sweep.run import cluster, nodes, ray_tune, waiting
    from sweep.run.ray_packing import packing_lines, packing_of
    from sweep.run.ray_watch import watched
    from sweep.run.roster import Roster

    journal, resources = launch.journal, launch.config.resources
    tell = partial(say, launch.console)

    with ExitStack() as of_this_launch:
        up = launch.up or of_this_launch
        up.enter_context(cluster.connected(address, launch.console, log_folder(journal.directory)))
        launch.interrupts.catch()
        wait = 0.0 if address is None else waiting.minutes(resources, launch.min_nodes)
        refused: set[str] = set()  # nodes that joined and on which no trial can run
        of_this_launch.enter_context(
            watched(resources, launch.interrupts, launch.console, 60 * wait, launch.steering.is_paused, refused)
        )
        waiting.await_nodes(resources, launch.min_nodes, wait, tell)
        nodes.most_at_once(resources, launch.config.max_concurrent, resources.trials_per_process)
        reads = inputs(launch.config)
        passed = nodes.check_nodes(journal.directory, reads, tell)
        leave_out = address is not None and not launch.again
        packing = packing_of(journal, launch.config, passed, tell, leave_out)
        for line in packing_lines(packing):
            tell(line)
        known = passed, packing.largest is not None, wait
        roster = Roster(journal.directory, reads, resources, *known, launch.steering.is_paused, refused)
        if address is not None:  # no node joins a local Ray
            of_this_launch.enter_context(roster.followed())

        def each_step() -> None:
            launch.each_step()
            for line in roster.news(packing):
                tell(line)
            roster.more = packing.more(journal.progress.counts().get("waiting", 0)) if wait else 0

        def trials() -> None:
            with launch.interrupts.held():
                ray_tune.run(journal, resources, packing, each_step, launch.steering)

        return launch.run(trials)
