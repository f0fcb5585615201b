"""Trials through Ray Tune: it places and restarts them; what they mean stays with the journal.

Tune's own restore, loggers and signal handling are not used: they lose early-stopping state, outcomes and SIGTERM.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import Counter, UserDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import asdict
from functools import partial, partialmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
from ray import tune
from ray.air._internal import usage
from ray.air.execution._internal.actor_manager import RayActorManager
from ray.tune.execution.tune_controller import TuneController
from ray.tune.progress_reporter import IS_NOTEBOOK, CLIReporter
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.config import ResourcesConfig
from sweep.run import hung, ray_workers
from sweep.run.bell import Bell, listening
from sweep.run.directory import log_folder
from sweep.run.packing import Packing, Peak, Start, memory_shape, peak_in, room_text
from sweep.run.placing import Placing, Request
from sweep.run.preemption import lack_of_memory, ray_says
from sweep.run.ray_steering import RayTrials
from sweep.run.signals import STOPPING, Interrupted, signals_kept
from sweep.run.trial import RESTARTS, Message, never, run_together, run_trial, trial_values
from sweep.run.workers import TrialEnded, WorkerDied
from sweep.storage.cache import local, named
from trainers.errors import UserError
from trainers.record import OutcomeRecord

if TYPE_CHECKING:  # lest each process of a trial load the plan
    from sweep.run.journal import Journal
    from sweep.run.steering import Steering
    from sweep.search.trials import PlannedTrial

#: How Ray goes on, for a screen, after it has said how a worker ended.
_GUESSES = " There are some potential root causes."

#: Trials that Tune may have at a time: more than any cluster runs, for it is `Packing` that says when there is room.
_MANY = 1_000_000

#: How long nothing is asked where nothing runs, s; Tune would ask without a pause.
_PAUSE = 0.1


def run(
    journal: Journal,
    resources: ResourcesConfig,
    packing: Packing[PlannedTrial],
    each_step: Callable[[], None],
    steering: Steering,
) -> None:
    """Runs every trial that is given out.

    Args:
        journal: takes the trials' messages.
        resources: of one process.
        packing: gives the journal's trials, as many at a time as there is room for.
        each_step: called several times a second from the main thread; may raise to stop everything: once each trial
            that trains has written its newest checkpoint, for which it has `STOPPING` seconds.
        steering: is told how trials are paused and cancelled here.
    """
    logs = log_folder(journal.directory)
    logs.mkdir(exist_ok=True)
    hung.forget(journal.directory, journal.share)
    bell = _bell()
    searcher = _JournalSearcher(journal, resources, packing)
    steered = RayTrials(journal, packing, bell, searcher.running)
    steering.steer(steered)
    journal.ends = steered.prune
    tuner = tune.Tuner(
        tune.with_resources(tune.with_parameters(_trainable, bell=bell), _asked),
        tune_config=tune.TuneConfig(
            search_alg=searcher,
            num_samples=-1,
            max_concurrent_trials=_MANY,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: searcher.names[trial.trial_id],
        ),
        run_config=tune.RunConfig(
            name=journal.named(time.strftime("ray-%Y%m%d-%H%M%S")),
            storage_path=str(logs.absolute()),
            failure_config=tune.FailureConfig(max_failures=RESTARTS),
            callbacks=[_JournalCallback(journal, searcher, each_step, steered)],
            verbose=0,
            # in a notebook Tune's own would clear what the launch has printed before
            progress_reporter=CLIReporter() if IS_NOTEBOOK else None,
        ),
    )
    quiet = _quiet(logs / journal.named("driver.log"))
    with quiet, _written_when_stopped(journal, bell), _keys_kept(), signals_kept(), _corrected(packing):
        try:
            tuner.fit()
        except tune.TuneError:  # whatever is raised as a message is taken, as the text of its traceback
            if journal.refused is None:
                raise
            raise journal.refused from None
    ray.kill(bell)  # Tune keeps the trainable, and with it the handle, as long as this process lives


def _bell() -> Any:
    """On this node, so that it ends with this process's node alone; each trial that trains waits in a call to it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    bell: Any = ray.remote(Bell).options(num_cpus=0, max_concurrency=100_000, scheduling_strategy=here).remote()
    bell.watch.remote()
    return bell


@contextmanager
def _written_when_stopped(journal: Journal, bell: Any) -> Iterator[None]:
    """A block of running trials; where a signal ends it, or as no record can be written any more, their checkpoints are
    then those of their last epochs."""
    try:
        yield
    except (Interrupted, UserError) as stop:
        running = [trial.id for trial in journal.progress.running()]
        if isinstance(stop, Interrupted):  # first, because Ray ends this process where the signal has ended Ray's own
            journal.interrupt(stop.reason)
        # Beside this thread: where the signal has ended Ray's own processes too, calls to it do not come back.
        ringing = threading.Thread(target=_ring, args=(bell, running), name="ring", daemon=True)
        ringing.start()
        ringing.join(STOPPING + 1)
        raise


def _ring(bell: Any, trials: Sequence[str]) -> None:
    with suppress(ray.exceptions.RayError):
        ray.get(bell.ring.remote(trials, STOPPING))


@contextmanager
def _keys_kept() -> Iterator[None]:
    """A block in which Tune finds no AWS_* variables here: it would copy them into its trials' runtime environment,
    which Ray writes to its logs. A local Ray's trials have inherited them already, a cluster's have its nodes' own."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("AWS_")}
    try:
        yield
    finally:
        os.environ.update(kept)


@contextmanager
def _corrected(packing: Packing[Any]) -> Iterator[None]:
    """A block in which Tune 2.60 does five things otherwise.

    It takes a worker that Ray's memory monitor killed for one that died: Ray says so by an error that is none of a dead
    actor's, for which Tune would end the whole run. And where nothing runs and there is no trial to start now, it goes
    on with its steps, in which a signal is heard; it would wait in one for ten minutes. And it asks for room on the
    nodes of `packing` alone; a manager of resources other than its own can be given to its parts, but not to a Tuner.
    And where a process has died between two trials, the next one is told so once, as of the process, and gets another;
    told again, as of the task that was to hand it the trial, Tune would end a trial that waits. And it does not count
    which callbacks are in use, for which it would import MLflow and wandb, in a second, where they are installed.
    """
    actors: Any = RayActorManager
    controller: Any = TuneController
    failed, asked, manager = actors._actor_task_failed, controller._update_trial_queue, controller.__init__
    told, counted = controller._trial_task_failure, usage.tag_callbacks

    def known(manager: Any, tracked_actor_task: Any, exception: Exception) -> None:
        if isinstance(exception, ray.exceptions.OutOfMemoryError):
            exception = ray.exceptions.RayActorError(error_msg=str(exception))
        failed(manager, tracked_actor_task, exception)

    def ask(controller: Any, blocking: bool = False, timeout: int = 0) -> bool:
        return bool(asked(controller))

    def tell_once(controller: Any, trial: Any, exception: Exception) -> None:
        died = isinstance(exception, ray.exceptions.RayActorError)
        if died and trial in controller._resetting_trials and trial.status == trial.PENDING:
            controller._resetting_trials.remove(trial)
        else:
            told(controller, trial, exception)

    placing = partialmethod(manager, resource_manager_factory=partial(Placing.on, packing))
    actors._actor_task_failed, controller._update_trial_queue, controller.__init__ = known, ask, placing
    controller._trial_task_failure, usage.tag_callbacks = tell_once, lambda callbacks: False
    try:
        yield
    finally:
        actors._actor_task_failed, controller._update_trial_queue, controller.__init__ = failed, asked, manager
        controller._trial_task_failure, usage.tag_callbacks = told, counted


@contextmanager
def _quiet(log: Path) -> Iterator[None]:
    """Ray's boxes, INFO lines and warnings go to a file; the screen is the table's."""
    handler = logging.FileHandler(log, encoding="utf-8", errors="backslashreplace")
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train", "ray.data")]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [], False
    loggers[0].handlers = [handler]
    for logger in loggers[1:]:
        logger.propagate = True
    file = log.open("a", encoding="utf-8", errors="backslashreplace")
    try:
        with redirect_stdout(file), redirect_stderr(file):
            yield
    finally:
        with suppress(OSError):  # a full disk, which stops whatever matters by itself
            file.close()
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


def _asked(values: Mapping[str, Any]) -> tune.PlacementGroupFactory:
    """What a process asks Ray for; one that has let its trial go is given the next that asks for the same."""
    bundle = {"CPU": values["cpu"], "GPU": values["share"]}
    bundle = {name: amount for name, amount in bundle.items() if amount}
    return Request(bundle, values["least"], values["workers"])


def _trainable(values: dict[str, Any], bell: Any) -> None:
    """One trial, or several at once; a process whose GPU no longer answers ends, for Tune would give it the next."""
    trials, share, limits, shorter = (values[key] for key in ("trials", "share", "limits", "shorter"))
    pruned = partial(_is_pruned, bell) if values["rules"] else never
    where, paused = (local(values["directory"]), values["threads"]), False

    def send(message: Message) -> None:
        nonlocal paused
        tune.report({"message": message})  # which returns once the driver has taken it
        paused = paused or message.get("outcome") == "paused"

    if not trials:  # those that were to go on after a process that died have ended with it
        return
    if len(trials) > 1:
        training = partial(listening, bell, end=_end)
        of_each = {"limits": limits, "shorter": shorter, "pruned": pruned}
        usable = run_together(trials, *where, send, share=share, training=training, lost=_end, **of_each)
    else:
        (name, trial), *_ = trials.items()
        given = {"share": share, "alone": values["alone"], "cuda": values["cuda"]}
        if others := ray_workers.others(values["workers"] - 1, values["directory"]):
            given |= {"others": others, "died": partial(_say_and_end, bell, name)}
        with listening(bell, name, _end) as is_paused:
            given |= {"limits": limits[name], "shorter": shorter[name]}
            given |= {"paused": is_paused, "pruned": partial(pruned, name)}
            usable = run_trial(name, trial, *where, send, **given)
    if paused or not usable:  # Tune would keep it for the next trial, and with it its card
        _end()


def _is_pruned(bell: Any, trial_id: str) -> bool:
    """Whether a stopping rule has ended a trial; not, where Ray does not tell."""
    with suppress(ray.exceptions.RayError):
        return bool(ray.get(bell.is_pruned.remote(trial_id)))
    return False


def _say_and_end(bell: Any, trial_id: str, why: TrialEnded | WorkerDied) -> None:
    """Ends this process, whose trial lacks a worker, once the launch can ask why."""
    _write_held()
    with suppress(ray.exceptions.RayError):
        ray.get(bell.lacks.remote(trial_id, str(why), getattr(why, "preempted", "")), timeout=STOPPING)
    os._exit(1)


def _end() -> None:
    """Ends this process, with the newest state of each trial that still trains on the disk."""
    _write_held()
    os._exit(1)


def _write_held() -> None:
    from trainers import checkpoint  # and with it torch, for which the launch's own process need not wait

    checkpoint.write_held()


class _Values(UserDict[str, dict[str, Any]]):
    """The values of a process's trials: of a dict Tune would keep copies, flat and in words, to the launch's end."""

    def __repr__(self) -> str:
        return "values"

    def __deepcopy__(self, memo: Any) -> _Values:
        return self


class _NotSaved:
    """Tune pickles what it is given, for a restore of its own that is never used here."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class _JournalSearcher(_NotSaved, Searcher):
    """Gives Tune the journal's next trials, as one of Tune's own, whenever there is room for a process."""

    def __init__(self, journal: Journal, resources: ResourcesConfig, packing: Packing[PlannedTrial]) -> None:
        super().__init__()
        self._journal, self._resources, self._packing = journal, resources, packing
        self.running: dict[str, Start[PlannedTrial]] = {}
        self._begun: Counter[str] = Counter()
        self.names: dict[str, str] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | None:
        start = self._packing.next()
        if start is None:
            if self._packing.done:
                return Searcher.FINISHED  # type: ignore[return-value]
            if self._packing.idle:
                time.sleep(_PAUSE)
            return None
        self.running[trial_id], trials = start, start.trials
        first, before = trials[0].id, self._begun[trials[0].id]
        self._begun[first] += 1
        self.names[trial_id] = f"{first}-again-{before}" if before else first  # of its folder
        resources, directory = self._resources, named(self._journal.directory)
        return {
            "trials": _Values({trial.id: trial_values(trial.config, resources) for trial in trials}),
            "limits": {trial.id: self._journal.limits(trial, resources.epoch_timeout) for trial in trials},
            "shorter": {trial.id: self._journal.shorter(trial) for trial in trials},
            **{"threads": resources.threads, "directory": directory, "cpu": resources.cpu, "least": start.least},
            "workers": resources.workers,
            **{"share": start.gpu, "alone": start.alone, "cuda": start.cuda, "rules": self._journal.has_rules},
        }

    def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
        """Its process lets go of what it had; the journal has been told by the trial's own outcome."""
        if (start := self.running.get(trial_id)) is not None:
            self._packing.ended(start)

    @property
    def largest(self) -> int | None:
        """Memory of the largest card, bytes; None: not known."""
        return self._packing.largest

    def measured(self, name: str, peak: Peak) -> None:
        """A trial's process has taken so much."""
        self._packing.measured(memory_shape(self._journal.progress.trials[name].config), peak)

    def again(self, trial_id: str, name: str) -> bool:
        """Puts one of its trials in line to run once more, alone; false where it has done so."""
        return self._packing.again(self.planned(trial_id, name))

    def planned(self, trial_id: str, name: str) -> PlannedTrial:
        """One of its trials."""
        return next(trial for trial in self.running[trial_id].trials if trial.id == name)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the records are what is kept."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class _JournalCallback(_NotSaved, tune.Callback):
    """Brings the trials' messages to the journal."""

    def __init__(
        self, journal: Journal, searcher: _JournalSearcher, each_step: Callable[[], None], steered: RayTrials
    ) -> None:
        self._journal, self._searcher, self._each_step, self._steered = journal, searcher, each_step, steered

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._steered.tunes = trials
        self._each_step()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        # taken out: Tune would keep them, and statistics of each number in them, to the launch's end
        message, left = result.pop("message"), trial.config["trials"]
        result.pop("config", None)
        if message["trial_id"] not in left:  # cancelled before it began, which its process has not heard yet
            return
        if message["record"] != "outcome":
            self._journal.take(message)
            return
        self._take_outcome(message, trial)
        left.pop(message["trial_id"], None)  # a process that is started in place of this one runs the others
        if not left:
            trial.max_failures = 0  # what becomes of the process now is no reason to start it again

    def _take_outcome(self, message: Message, trial: Any) -> None:
        """Of one of the process's trials: what it measured is made use of, and where it is not the last, it is said."""
        name, again = message["trial_id"], False
        if self._journal.progress.trials[name].pruned:  # it has just heard of it, or ended otherwise before it did
            self._steered.ended(name)
            return
        if (peak := peak_in(message)) is not None:
            self._searcher.measured(name, peak)
        if message["outcome"] == "out_of_memory":
            has = self._journal.progress.trials[name].start.get("capacity_bytes")
            last = message["alone"] and (has or 0) >= (self._searcher.largest or 0)
            again = not last and self._searcher.again(trial.trial_id, name)
            message = {**message, "reason": f"{message['reason']}; {room_text(message, has, again)}"}
        self._journal.take(message, again or message["outcome"] == "paused")
        if message["outcome"] == "paused":
            self._steered.put_back(self._searcher.planned(trial.trial_id, name))
        self._steered.ended(name)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker died and is to be started again, but not beside others if it was for want of memory."""
        why, _ = self._died(trial)
        for name in trial.config["trials"]:
            self._journal.died(name, why)

    def _died(self, trial: Any) -> tuple[str, str]:
        """Takes note; gives why it ended itself for want of another worker, or else what Ray says of its end.

        And who says that one of its nodes was preempted; empty: nobody.
        """
        self._steered.died(trial)
        why, preempted = self._steered.lacked(trial)
        if short := lack_of_memory(_error(trial)):
            self._out_of_memory(trial, short)
        elif preempted:
            self._journal.preempt(trial.config["trials"], preempted)
            trial.max_failures += 1  # Tune would not count it, had it been this process's node
        elif preempted := ray_says(_pickled_error(trial)):
            self._journal.preempt(trial.config["trials"], preempted)
        why = why or (_error(trial).strip().splitlines() or ["no error file"])[-1].partition(_GUESSES)[0]
        return why, preempted

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker died more often than it may be restarted, or after its trials had ended."""
        why, preempted = self._died(trial)
        for name in trial.config["trials"]:
            if preempted:  # which Tune has counted, or its process was not there yet
                self._steered.put_back(self._searcher.planned(trial.trial_id, name))
                continue
            self._journal.fail(name, f"its process died {RESTARTS + 1} times: {why}")

    def _out_of_memory(self, trial: Any, text: str) -> None:
        """Its trials have run out of the host's memory; a process that is started in its place has none to train.

        A trial that has a card of its own shares the host all the same, and was not alone.
        """
        left = trial.config["trials"]
        alone = trial.config["alone"] and not trial.config["share"]
        for name in list(left):
            outcome = OutcomeRecord(name, "out_of_memory", text, 0, alone=alone)
            self._take_outcome({"record": "outcome", **asdict(outcome)}, trial)
            del left[name]
        trial.max_failures = 0


def _error(trial: Any) -> str:
    """What Ray says of the last death of a trial's worker; empty where it says nothing."""
    text = Path(trial.error_file).read_text() if trial.error_file else ""
    return text[max(text.rfind("Failure # "), 0) :]


def _pickled_error(trial: Any) -> Exception | None:
    """The exception of the last death of a trial's worker, which Tune has just written beside its text."""
    file = trial.pickled_error_file  # Tune's own reader looks for it elsewhere, where it comes later
    with suppress(Exception):  # whatever unpickling raises; its text says the rest
        return ray.cloudpickle.loads(Path(file).read_bytes()) if file else None
    return None
