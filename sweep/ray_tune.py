"""Trials through Ray Tune: it places and restarts them; what they mean stays with the journal.

Tune's own restore, loggers and signal handling are not used: they lose early-stopping state, outcomes and SIGTERM.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sweep.bell import Bell, listening
from sweep.config import ResourcesConfig
from sweep.journal import Journal
from sweep.trial import Message, log_folder, run_together, run_trial, trial_values
from trainers import checkpoint
from trainers.errors import UserError
from trainers.provenance import code_version

#: How the file begins by which nodes show that they see the run directory.
PROBE = ".probe-"
#: How often a trial whose worker or node dies is started again, from its checkpoint.
RESTARTS = 3
#: How long a launch that is stopped waits for its trials' checkpoints, s.
STOPPING = 15.0


def most_at_once(resources: ResourcesConfig, wanted: int | None, each: int = 1) -> int:
    """How many trials fit on the nodes at once, `each` of them in a process, but not over `wanted`.

    Raises:
        UserError: a trial fits on no node: Ray would wait for ever.
    """
    nodes = [node["Resources"] for node in _nodes()]
    asked = {"CPU": resources.cpu, "GPU": resources.gpu}
    for name, amount in asked.items():
        most = max((node.get(name, 0.0) for node in nodes), default=0.0)
        if amount > most:
            raise UserError(
                f"resources.{name.lower()}: a trial asks for {amount:g} {name}, and no node of the cluster has more "
                f"than {most:g}; lower it (--set resources.{name.lower()}={most:g}), or add a node that has them"
            )
    room = sum(
        min(int(node.get(name, 0.0) / amount + 1e-9) for name, amount in asked.items() if amount) for node in nodes
    )
    if room == 0:
        raise UserError(
            f"resources: no one node has {resources.cpu:g} CPU and {resources.gpu:g} GPU together; "
            "lower one of them, or add a node"
        )
    return min(each * room, wanted or each * room)


def _nodes() -> list[dict[str, Any]]:
    """The nodes that are up."""
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in nodes if node["Alive"]]


def check_nodes(directory: Path, data: Iterable[str]) -> None:
    """Every node sees the run directory and the data, and has this code; checkpoints and data are found by path.

    Args:
        directory: of the run.
        data: folders that the trials read.

    Raises:
        UserError: names the first node that does not.
    """
    data = [folder for folder in data if Path(folder).exists()]
    token = directory.absolute() / f"{PROBE}{uuid.uuid4().hex}"
    token.touch()
    try:
        probes = {
            node["NodeManagerHostname"]: _probe.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            ).remote([str(token), *data])
            for node in _nodes()
            if node["Resources"].get("CPU", 0)
        }
        for name, probe in probes.items():
            _check_probe(name, directory, probe)
    finally:
        token.unlink()


def _check_probe(name: str, directory: Path, probe: Any) -> None:
    try:
        missing, version = ray.get(probe, timeout=300)
    except ray.exceptions.GetTimeoutError:
        raise UserError(f"node {name}: did not answer within 300 s; is it busy with other jobs? Try again") from None
    except ray.exceptions.RayError as error:
        first = str(error).strip().splitlines()[-1]
        raise UserError(f"node {name}: cannot run robustsweep: {first}; install the same version there") from None
    if missing:
        what = f"--out {directory}" if Path(missing[0]).name.startswith(PROBE) else f"trial.data.root {missing[0]}"
        raise UserError(f"{what}: node {name} does not see it; give a folder that all nodes share")
    if version != code_version():
        raise UserError(f"node {name}: has other code ({version}) than this ({code_version()}); install the same on it")


@ray.remote(num_cpus=0.01)
def _probe(paths: list[str]) -> tuple[list[str], str]:
    """The paths that this node does not see, and its code."""
    return [path for path in paths if not Path(path).exists()], code_version()


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
    with _quiet(logs / "driver.log"), _written_when_stopped(journal, bell):
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
    trials, share = values["trials"], values["share"]
    where = Path(values["directory"]), values["threads"]

    def send(message: Message) -> None:
        tune.report({"message": message})  # which returns once the driver has taken it

    if len(trials) > 1:
        usable = run_together(trials, *where, send, share, partial(listening, bell), _end)
    else:
        (name, trial), *_ = trials.items()
        with listening(bell, name):
            usable = run_trial(trial, *where, send, share)
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
        values = {trial.id: trial_values(trial.config, self._resources)[0] for trial in trials}
        directory = str(self._journal.directory.absolute())
        resources = self._resources
        return {"trials": values, "threads": resources.threads, "directory": directory, "share": resources.gpu}

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

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """The worker died more often than it may be restarted, or after its trials had ended."""
        text = Path(trial.error_file).read_text() if trial.error_file else ""
        last = (text.strip().splitlines() or ["no error file"])[-1]
        for name in trial.config["trials"]:
            self._journal.fail(name, f"its process died {RESTARTS + 1} times: {last}")
