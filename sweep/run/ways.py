"""The ways in which a launch runs its trials: through Ray, in a process beside this one, or in this one."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console

from sweep.config import SweepConfig
from sweep.progress import left_out_lines
from sweep.run import child, hung
from sweep.run.directory import log_folder
from sweep.run.journal import Journal
from sweep.run.replay import messages
from sweep.run.screen import Screen, counts_line, heard, say
from sweep.run.signals import EXIT_DONE, EXIT_SOME_FAILED, Interrupted, Interrupts, RayGone
from sweep.run.steering import OneByOne, Steering
from sweep.run.tracking import STOPPED, Trackers
from sweep.run.trial import Message, run_trial, trial_values
from sweep.run.worker_processes import Processes
from sweep.search.inputs import inputs
from sweep.search.trials import PlannedTrial
from trainers.fields import plural

if TYPE_CHECKING:
    from analysis.surrogate.surface import Surrogate

#: Why what runs in this process stops before its end.
LOST = "after its error the GPU answers this process no more, which ends here; the same command goes on in a new one"


@dataclass
class Running:
    """The trials of a launch while they run: what all ways of running them share."""

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
    address: str | None = None
    """Of a Ray cluster."""

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


def in_this_process(launch: Running) -> int:
    """One trial after another in this very process."""
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


def in_a_child(launch: Running) -> int:
    """One trial after another in a process beside this one, which a trial may take with it."""
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


def on_a_surface(surrogate: Surrogate, launch: Running) -> int:
    """One trial after another, each drawn from a response surface."""

    def trials() -> None:
        line = launch.one_by_one()
        for trial in line:
            with line.running(trial):
                for message in messages(surrogate, trial):
                    with launch.interrupts.held():
                        launch.journal.take(message)
            launch.each_step()

    return launch.run(trials)


def through_ray(launch: Running) -> int:
    """As many trials at once as Ray has room for."""
    from sweep.run import cluster, nodes, ray_tune, waiting
    from sweep.run.ray_packing import packing_lines, packing_of
    from sweep.run.ray_watch import watched
    from sweep.run.roster import Roster

    journal, resources = launch.journal, launch.config.resources
    tell = partial(say, launch.console)

    with ExitStack() as of_this_launch:
        up = launch.up or of_this_launch
        up.enter_context(cluster.connected(launch.address, launch.console, log_folder(journal.directory)))
        launch.interrupts.catch()
        wait = 0.0 if launch.address is None else waiting.minutes(resources, launch.min_nodes)
        refused: set[str] = set()  # nodes that joined and on which no trial can run
        of_this_launch.enter_context(
            watched(resources, launch.interrupts, launch.console, 60 * wait, launch.steering.is_paused, refused)
        )
        waiting.await_nodes(resources, launch.min_nodes, wait, tell)
        nodes.most_at_once(resources, launch.config.max_concurrent, resources.trials_per_process)
        reads = inputs(launch.config)
        passed = nodes.check_nodes(journal.directory, reads, tell)
        leave_out = launch.address is not None and not launch.again
        packing = packing_of(journal, launch.config, passed, tell, leave_out)
        for line in packing_lines(packing):
            tell(line)
        known = passed, packing.largest is not None, wait
        roster = Roster(journal.directory, reads, resources, *known, launch.steering.is_paused, refused)
        if launch.address is not None:  # no node joins a local Ray
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
