"""An evaluation of trained networks: from what is asked for to records, whatever ends it."""

from __future__ import annotations

import gc
import itertools
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.progress import Progress as Bar

from analysis.estimates.evaluated import over_seeds, with_evaluation_bits
from analysis.frames.checks import checks_of
from analysis.frames.evaluations import PARAMETERS, Key, disjoint, evaluations_of, key
from analysis.frames.log import read_log
from analysis.frames.names import short
from analysis.tables.evaluations import evaluations_table, over_seeds_table
from analysis.tables.settings import with_settings
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.evaluate.chunk import Skipped, chunk_values, hung_chunk, run_chunk, run_limited
from sweep.evaluate.plan import Asked, Chunk, Evaluation, described, fewer, plan, recorded
from sweep.run.capacity import check_resources
from sweep.run.directory import CONFIG_FILE, EVALUATION, RunLock, clean, log_folder
from sweep.run.hung import allowed
from sweep.run.launch import kept_up
from sweep.run.screen import duration, heard, print_whole, say
from sweep.run.signals import EXIT_DONE, EXIT_SOME_FAILED, Interrupted, Interrupts, RayGone, StorageGone
from sweep.run.ways import LOST
from sweep.search.inputs import data_inputs
from sweep.storage import cache
from sweep.storage.mirror import heeded
from trainers.errors import UserError
from trainers.record import CheckRecord, EvaluationRecord
from trainers.record.linked import LinkedFile, refuse_lost

#: Keys of the run's config that may be other ones in an evaluation, beside resources.
SETTABLE = (
    *("trial.data.root", "trial.data.download", "trial.data.in_memory_gib", "trial.data.decode", "trial.device"),
    "max_concurrent",
)

#: What says how long a chunk may take.
_TIMEOUT = re.compile(r"resources(\.epoch_timeout)?=")

#: How long the driver waits for a chunk before it looks for signals, s.
PATIENCE = 0.25


def evaluate(
    directory: Path,
    asked: Asked,
    console: Console,
    *,
    overrides: Sequence[str] = (),
    address: str | None = None,
    serial: bool = False,
) -> int:
    """Attacks what is asked for and not recorded, and prints the table of it.

    Args:
        directory: a run.
        asked: which trials, weights, attacks and images.
        console: for the plan, the progress and the table.
        overrides: of the run's own config, as `sweep.config_file.load` takes them: resources, and where the data lie.
        address: of a Ray cluster; None: a local one.
        serial: in this process, one chunk after another, without Ray.

    Returns:
        The exit code: 0 done, 1 some could not be evaluated, 3 Ray is gone, 130 interrupted.

    Raises:
        UserError: the run, the trials, their weights, the data or the resources are not as they must be.
    """
    read_log(directory)  # what is no run is refused before the lock makes a file in it
    sweep = _config(directory, overrides)
    with (
        RunLock(directory, EVALUATION) as lock,
        Interrupts() as interrupts,
        heeded(directory, lambda reason: interrupts.lose(StorageGone(reason))),
    ):

        def once() -> int:
            records = read_log(directory)
            refuse_lost(directory, records)
            evaluations = plan(directory, records, sweep, asked)
            run = _Run(directory, sweep, evaluations, records, console, interrupts)
            run.guard = lock.check
            for line in fewer(evaluations, asked.images):
                say(console, line)
            if run.left:
                check_resources(sweep, serial, address)
                (_in_this_process if serial else _through_ray)(run, address)
            _print_table(directory, evaluations, console)
            return EXIT_SOME_FAILED if run.failed else EXIT_DONE

        try:
            return kept_up(once, console, address)
        except RayGone as gone:
            return gone.exit_code
        except Interrupted as stop:
            say(console, f"{stop.reason}; the same command goes on")
            return stop.exit_code


def _config(directory: Path, overrides: Sequence[str]) -> SweepConfig:
    """The run's config: where its data lie, and what a trial takes of a machine."""
    path = directory / CONFIG_FILE
    for override in overrides:
        name = override.partition("=")[0]
        if name not in SETTABLE and not name.startswith("resources"):
            raise UserError(f"--set {name}: a trained network is as it is; set resources or {', '.join(SETTABLE)}")
    try:
        sweep = load(path, overrides)
        # a chunk of images is one process's, and no epoch: it may take longer than one unless that is asked for here
        own = {"workers": 1} | ({} if any(map(_TIMEOUT.match, overrides)) else {"epoch_timeout": None})
        return sweep.model_copy(update={"resources": sweep.resources.model_copy(update=own)})
    except UserError as error:
        if overrides or not path.exists():
            raise
        raise UserError(f"{error}; other code wrote this run: evaluate it with that code, or train it again") from None


class _Work(NamedTuple):
    """A chunk to run."""

    evaluation: Evaluation
    chunk: Chunk


class _Run:
    """The parts that both ways of running share: what is left, and the only hand that writes records."""

    def __init__(
        self,
        directory: Path,
        sweep: SweepConfig,
        evaluations: Sequence[Evaluation],
        records: Sequence[Mapping[str, Any]],
        console: Console,
        interrupts: Interrupts,
    ) -> None:
        self.directory, self.sweep, self.interrupts = directory, sweep, interrupts
        self._numbers = itertools.count()
        self.failed: set[int] = set()
        """Evaluations of which a chunk could not be run, by `id`."""
        self.guard: Callable[[], None] = lambda: None
        """Called before each record: raises where the directory is held no more."""
        self._evaluations = evaluations
        self._several = len({one.attack.radius for one in evaluations} - {None}) > 1
        done = recorded(records)
        self._console, self._bar = console, Bar(console=console, transient=True, disable=not console.is_terminal)
        self._todo = deque(_Work(one, chunk) for one in evaluations for chunk in one.missing(done))
        self._left = Counter(id(work.evaluation) for work in self._todo)
        self._slowest: dict[str, float] = {}
        """Seconds that an image took at most, by the kind of its evaluation."""
        self._chunks = {id(one): list(one.recorded(done)) for one in evaluations}
        self._say("\n".join(described(evaluations, done)))

    @property
    def left(self) -> int:
        """Chunks that wait."""
        return len(self._todo)

    def next(self) -> _Work | None:
        """The next chunk, of an evaluation that none has failed of; None when there is no more."""
        while self._todo:
            work = self._todo.popleft()
            if id(work.evaluation) not in self.failed:
                return work
        return None

    def values(self, work: _Work) -> dict[str, Any]:
        """What the process that runs the chunk is given."""
        return chunk_values(self.directory, *work, self.sweep.resources)

    def limited(self, work: _Work) -> dict[str, Any]:
        """`values` of a process that ends if the chunk hangs."""
        slowest, timeout = self._slowest.get(_kind(work.evaluation)), self.sweep.resources.epoch_timeout
        limit = allowed(None if slowest is None else slowest * work.chunk.images) if timeout is None else timeout
        name = f"{work.evaluation.trial_id}.evaluated{next(self._numbers)}"
        return {**self.values(work), "limit": limit, "name": name}

    def run(self, chunks: Callable[[], None]) -> None:
        """Runs the chunks with the file of records open."""
        gc.enable()  # the command put it off
        clean(self.directory)
        self._file = LinkedFile(self.directory)
        try:
            with self._bar, heard(self._console):
                self._task = self._bar.add_task("chunks of images", total=self.left)
                chunks()
        finally:
            self._file.close()

    def take(self, work: _Work, result: EvaluationRecord | CheckRecord | str) -> None:
        """Writes a chunk's record down, or says why there is none."""
        self._bar.advance(self._task)
        evaluation = work.evaluation
        if isinstance(result, Skipped):
            self._skip(evaluation.trial_id, result)
            return
        if isinstance(result, str):
            if id(evaluation) not in self.failed:
                self._say(f"failed {evaluation.trial_id} {self._attack(evaluation)}: {result}")
            self.failed.add(id(evaluation))
            return
        kind, took = _kind(evaluation), result.seconds / max(work.chunk.images, 1)
        self._slowest[kind] = max(took, self._slowest.get(kind, 0.0))
        record = {**asdict(result), "time": round(time.time(), 3)}
        self.guard()
        self._file.append(evaluation.kind, record)
        self._chunks[id(evaluation)].append(record)
        self._left[id(evaluation)] -= 1
        if not self._left[id(evaluation)] and not self._console.is_terminal:
            ended = _ended(evaluation, self._chunks[id(evaluation)])
            self._say(f"{evaluation.trial_id} {self._attack(evaluation)}: {ended}")

    def _skip(self, trial: str, reason: str) -> None:
        """Gives up all evaluations of a trial, and says so once."""
        others = {id(one) for one in self._evaluations if one.trial_id == trial}
        if not others <= self.failed:
            self._say(f"skipped {trial}: {reason}")
        self.failed |= others

    def _attack(self, evaluation: Evaluation) -> str:
        radius = evaluation.attack.radius
        return f"{evaluation.title} at {short(radius)}" if self._several and radius is not None else evaluation.title

    def _say(self, line: str) -> None:
        say(self._console, line)


def _kind(evaluation: Evaluation) -> str:
    """Of evaluations that cost the same an image."""
    return f"{evaluation.config.model} {evaluation.attack} {getattr(evaluation, 'check', None)}"


def _in_this_process(run: _Run, address: str | None) -> None:
    def chunks() -> None:
        while (work := run.next()) is not None:
            result, usable = run_chunk(run.values(work))
            with run.interrupts.held():
                run.take(work, result)
            if not usable:
                run._say(f"trial {work.evaluation.trial_id}: {LOST}")
                return

    run.run(chunks)


def _through_ray(run: _Run, address: str | None) -> None:
    from sweep.run import cluster, nodes
    from sweep.run.ray_watch import watched

    with cluster.connected(address, run._console, log_folder(run.directory)):
        run.interrupts.catch()
        with watched(run.sweep.resources, run.interrupts, run._console):
            at_once = nodes.most_at_once(run.sweep.resources, run.sweep.max_concurrent)
            nodes.check_nodes(run.directory, data_inputs(run.sweep))
            with run.interrupts.held():
                run.run(lambda: _scheduled(run, at_once))


def _scheduled(run: _Run, at_once: int) -> None:
    """Keeps `at_once` chunks running on Ray until none is left."""
    from sweep.evaluate.ray_pool import Pool
    from sweep.run.trial import RESTARTS

    with Pool[_Work](run_limited, run.sweep.resources, RESTARTS, hung_chunk) as pool:
        while len(pool) or run.left:
            while len(pool) < at_once and (work := run.next()) is not None:
                pool.start(work, run.limited(work))
            for work, result in pool.ended(PATIENCE):
                run.take(work, result)
            run.interrupts.check()


def _ended(evaluation: Evaluation, chunks: Sequence[Mapping[str, Any]]) -> str:
    """What one ended evaluation gave, in words."""
    counted = disjoint(chunks)
    number = "correct" if evaluation.kind == "evaluation" else "against"
    images, count, seconds = (sum(chunk[name] for chunk in counted) for name in ("images", number, "seconds"))
    share = f"{100 * count / images:.2f} % right" if number == "correct" else f"{count} against it"
    return f"{share} of {images} {evaluation.split} images, {duration(seconds)}"


def _print_table(directory: Path, evaluations: Sequence[Evaluation], console: Console) -> None:
    """What was asked for, also where it was recorded before, on more images perhaps."""
    log, asked = read_log(directory), {key(one.named()) for one in evaluations}
    attacked, checked = evaluations_of(log), checks_of(log)
    attacked = attacked[[_key(row) in asked for row in attacked.to_dict("records")]]
    if len(attacked):  # else all failed, or none was asked for
        shown = with_settings(attacked, log)
        print_whole(console, evaluations_table(shown))
        if len(cells := over_seeds(with_evaluation_bits(shown, log))):
            print_whole(console, over_seeds_table(cells))
        say(console, f"all evaluations: sweep results {cache.typed(directory)} --evaluations")
    checked = checked[[_key(row) in asked for row in checked.to_dict("records")]]
    if len(checked):
        from analysis.tables.checks import checks_view

        print_whole(console, checks_view(checked))
        say(console, f"all checks: sweep results {cache.typed(directory)} --checks")
    if not len(attacked) and not len(checked):
        say(console, f"{cache.shown(directory)}: nothing could be evaluated; the lines above say why")


def _key(row: Mapping[Any, Any]) -> Key:
    """The key of the evaluation that a row of `load_evaluations` sums up."""
    parameters = {name: None if row[name] != row[name] else row[name] for name in PARAMETERS if name in row}
    return key({**row, "parameters": parameters})
