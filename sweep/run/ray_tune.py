"""Trials through Ray Tune: it places and restarts them; what they mean stays with the journal.

Tune's own restore, loggers and signal handling are not used: they lose early-stopping state, outcomes and SIGTERM.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.config import ResourcesConfig
from sweep.run import hung
from sweep.run.bell import Bell, listening
from sweep.run.directory import log_folder
from sweep.run.signals import STOPPING
from sweep.run.trial import RESTARTS, Message, run_together, run_trial, trial_values
from trainers import checkpoint

if TYPE_CHECKING:  # lest each process of a trial load the plan
    from sweep.run.journal import Journal


def run(
    journal: Journal,
    resources: ResourcesConfig,
    at_once: int,
    each_step: Callable[[], None],
) -> None:
    """Runs every trial that the journal gives out.

    Args:
        journal: gives trials and takes their messages.
        resources: of one process.
        at_once: most trials at a time.
        each_step: called several times a second from the main thread; may raise to stop everything: once each trial
            that trains has written its newest checkpoint, for which it has `STOPPING` seconds.
    """
    logs = log_folder(journal.directory)
    logs.mkdir(exist_ok=True)
    hung.forget(journal.directory)
    bell = _bell()
    processes, each = resources.divided(at_once)
    searcher = _JournalSearcher(journal, resources, each)
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trainable, bell=bell), {"cpu": resources.cpu, "gpu": resources.gpu}),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=processes,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: searcher.names[trial.trial_id],
        ),
        run_config=tune.RunConfig(
            name=time.strftime("ray-%Y%m%d-%H%M%S"),
            storage_path=str(logs.absolute()),
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            callbacks=[_JournalCallback(journal, each_step)],
            verbose=0,
        ),
    )
    with _quiet(logs / "driver.log"), _lack_of_memory_known(), _written_when_stopped(journal, bell):
        tuner.fit()
    ray.kill(bell)  # Tune keeps the trainable, and with it the handle, as long as this process lives


def _bell() -> Any:
    """On this node, so that it ends with this process's node alone; each trial that trains waits in a call to it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    return ray.remote(Bell).options(num_cpus=0, max_concurrency=100_000, scheduling_strategy=here).remote()


@contextmanager
def _written_when_stopped(journal: Journal, bell: Any) -> Iterator[None]:
    """A block of running trials; where a signal ends it, their checkpoints are then those of their last epochs."""
    try:
        yield
    except KeyboardInterrupt as stop:
        running = [trial.id for trial in journal.progress.running()]
        # First, because Ray ends this process where the signal has ended Ray's own.
        journal.interrupt(f"stopped by {stop}")
        # Beside this thread: where the signal has ended Ray's own processes too, calls to it do not come back.
        ringing = threading.Thread(target=_ring, args=(bell, running), name="ring", daemon=True)
        ringing.start()
        ringing.join(STOPPING + 1)
        raise


def _ring(bell: Any, trials: Sequence[str]) -> None:
    with suppress(ray.exceptions.RayError):
        ray.get(bell.ring.remote(trials, STOPPING))


@contextmanager
def _lack_of_memory_known() -> Iterator[None]:
    """A block in which Tune takes a worker that Ray's memory monitor killed for one that died.

    Ray says so by an error that is none of a dead actor's; Tune 2.60 knows only those, and ends the whole run.
    """
    of_tune: Any = RayActorManager
    failed = of_tune._actor_task_failed

    def known(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, ray.exceptions.OutOfMemoryError):
            exception = ray.exceptions.RayActorError(error_msg=str(exception))
        failed(manager, tracked_actor_task, exception)

    of_tune._actor_task_failed = known
    try:
        yield
    finally:
        of_tune._actor_task_failed = failed


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Ray's boxes, INFO lines and warnings go to a file; the screen is the table's."""
    handler = logging.FileHandler(log)
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.data")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [], False
    loggers[0].handlers = [handler]
    for logger in loggers[1:]:
        logger.propagate = True
    file = log.open("a")
    try:
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        with suppress(OSError):  # a full disk, which stops whatever matters by itself
            file.close()
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


def _trainable(values: dict[str, Any], bell: Any) -> None:
    """One trial, or several at once; a process whose GPU no longer answers ends, for Tune would give it the next."""
    trials, share, limits = values["trials"], values["share"], values["limits"]
    where = Path(values["directory"]), values["threads"]

    def send(message: Message) -> None:
        tune.report({"message": message})  # which returns once the driver has taken it

    if not trials:  # those that were to go on after a process that died have ended with it
        return
    if len(trials) > 1:
        training = partial(listening, bell)
        usable = run_together(trials, *where, send, share=share, training=training, lost=_end, limits=limits)
    else:
        (name, trial), *_ = trials.items()
        with listening(bell, name):
            usable = run_trial(name, trial, *where, send, share=share, limits=limits[name])
    if not usable:
        _end()


def _end() -> None:
    """Ends this process, with the newest state of each trial that still trains on the disk."""
    checkpoint.write_held()
    os._exit(1)


class _NotSaved:
    """Tune pickles what it is given, for a restore of its own that is never used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _JournalSearcher(_NotSaved, Searcher):
    """Gives Tune the journal's next trials, as one of Tune's own, whenever there is room for a process."""

    def __init__(self, journal: Journal, resources: ResourcesConfig, each: int) -> None:
        super().__init__()
        self._journal, self._resources, self._each = journal, resources, each
        self.names: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        trials = list(islice(iter(self._journal.next, None), self._each))
        if not trials:
            return Searcher.FINISHED  # type: ignore[return-value]
        self.names[trial_id] = trials[0].id
        values = {trial.id: trial_values(trial.config, self._resources) for trial in trials}
        directory = str(self._journal.directory.absolute())
        resources = self._resources
        limits = {trial.id: self._journal.limits(trial, resources.epoch_timeout) for trial in trials}
        shared = {"threads": resources.threads, "directory": directory, "share": resources.gpu}
        return {"trials": values, "limits": limits, **shared}

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """The journal has been told by the trial's own outcome."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are what is kept."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class _JournalCallback(_NotSaved, tune.Callback):
    """Brings the trials' messages to the journal."""

    def __init__(self, journal: Journal, each_step: Callable[[], None]) -> None:
        self._journal, self._each_step = journal, each_step

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._each_step()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        message, left = result["message"], trial.config["trials"]
        self._journal.take(message)
        if message["record"] == "outcome":
            left.pop(message["trial_id"], None)  # a process that is started in place of this one runs the others
            if not left:
                trial.max_failures = 0  # what becomes of the process now is no reason to start it again

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker died and is to be started again; one that memory was short for would be short of it again."""
        if why := _lack_of_memory(_error(trial)):
            for name in trial.config["trials"]:
                self._journal.fail(name, why, "out_of_memory")
            trial.config["trials"].clear()
            trial.max_failures = 0

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker died more often than it may be restarted, or after its trials had ended."""
        self.on_trial_recover(iteration, trials, trial)
        last = (_error(trial).strip().splitlines() or ["no error file"])[-1]
        for name in trial.config["trials"]:
            self._journal.fail(name, f"its process died {RESTARTS + 1} times: {last}")


def _error(trial: Any) -> str:
    """What Ray says of the last death of a trial's worker; empty where it says nothing."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    return text[max(text.rfind("Failure # "), 0) :]


def _lack_of_memory(error: str) -> str:
    """Why Ray's memory monitor killed a worker, in one line; empty where it did not."""
    if "running low on memory" not in error:
        return ""
    why = re.search(r"OOM kill reason: (.*)", error) or re.search(r".*running low on memory.*", error)
    return f"Ray's memory monitor ended its process: {why[why.lastindex or 0][:300]}" if why else ""
