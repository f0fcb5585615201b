"""What hangs: how long a trial may take until its next message, and what ends its process when it takes longer.

Python's faulthandler watches from a thread of its own in C, so that code which never gives up Python's lock is ended
too. It writes where every thread stood to DIR/logs/ID.hung, and ends the process; whoever starts the trial again finds
that file, and sends the outcome in place of training it. Where a signal such as SIGSEGV ends it, that is written too.
Time counts as a clock does that stands while the machine is suspended; a process that is stopped for longer than its
limit is ended when it goes on.
"""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import IO, Any

from sweep.config import LONGEST_EPOCH
from sweep.run.directory import log_folder, log_path
from sweep.share import Share
from trainers.config import TrialConfig
from trainers.plain_file import plain
from trainers.record import spent

#: By default one may take so many times what the slowest of its kind took, and at least so long, s.
TIMES, LEAST = 10, 600.0

#: What loading data and compiling may take beside that, in the first epoch that a process trains, s.
BEGINNING = 3600.0

#: What an epoch may take that holds something which was never measured, s.
UNKNOWN = 24 * 3600.0

#: Epochs of a shape that its medians are of, the newest.
_KEPT = 100

Message = Mapping[str, Any]
Parts = Mapping[str, float]
"""Seconds of what an epoch is made of: training, evaluation, dynamics; what was never measured is absent."""


def parts_of(message: Message) -> dict[str, float]:
    """The seconds of what a message tells of, by part; empty where it tells of none."""
    match message["record"]:
        case "epoch":
            evaluation = message["evaluation_seconds"]
            parts = {"training": spent(message) - evaluation}
            evaluated = any(message.get(f"{split}_clean") is not None for split in ("train", "val", "test"))
            return {**parts, "evaluation": evaluation} if evaluated else parts
        case "dynamics":
            return {"dynamics": message["seconds"]}
    return {}


class Paces:
    """What epochs of each shape take in this launch: records of an earlier one may come from another machine."""

    def __init__(self) -> None:
        """Knows of none."""
        self._seconds: dict[str, dict[str, deque[float]]] = defaultdict(
            lambda: defaultdict(lambda: deque(maxlen=_KEPT))
        )

    def add(self, shape: str, message: Message) -> None:
        """Takes in a trial's message."""
        for part, seconds in parts_of(message).items():
            self._seconds[shape][part].append(seconds)

    def medians(self, shape: str) -> dict[str, float]:
        """Of each part that was measured."""
        return {part: median(seconds) for part, seconds in self._seconds[shape].items()}


def shape_of(identity: Mapping[str, Any]) -> str:
    """Of a trial: what it is alike in with trials whose epochs take as long.

    Which data they are too: the first trial on a folder of images may decode them first, and that takes what it takes.
    """
    from sweep.plan.measured import kind_of  # the process of a trial needs no plan

    data = identity.get("data", {})
    return f"{kind_of(identity)} {identity.get('batch_size')} {data.get('fingerprint')} {data.get('extra_fingerprint')}"


class Limits:
    """How long one trial may take until its next message."""

    def __init__(self, config: TrialConfig, timeout: float | None, medians: Parts, recorded: int) -> None:
        """Begins with what other trials took.

        Args:
            config: of the trial.
            timeout: seconds that were asked for; None: the default rule.
            medians: of its shape.
            recorded: epochs that earlier launches trained; what they took says nothing of this machine.
        """
        self._config, self._timeout, self._known, self._recorded = config, timeout, dict(medians), recorded
        self._epoch, self._begins = 0, True

    def take(self, message: Message) -> None:
        """Learns from a message of the trial."""
        if message["record"] == "epoch":
            self._epoch = message["epoch"]
        if message.get("epoch", 0) > self._recorded:
            self._begins = False
            for part, seconds in parts_of(message).items():
                self._known[part] = max(seconds, self._known.get(part, 0.0))

    def seconds(self) -> float:
        """Until the next message, from now."""
        if self._timeout is not None:
            return self._timeout
        due = self._due()
        known = self._known.keys() >= due
        return allowed(sum(self._known[part] for part in due) if known else None, self._begins)

    def _due(self) -> set[str]:
        """Parts of the next epoch; after the last one there is none."""
        config, epoch = self._config, self._epoch + 1
        if epoch > config.epochs:
            return set()
        last, dynamics = epoch == config.epochs, config.dynamics.every
        evaluated = last or epoch % config.evaluation.every == 0
        measured = dynamics is not None and (last or epoch == 1 or epoch % dynamics == 0)
        return {"training"} | ({"evaluation"} if evaluated else set()) | ({"dynamics"} if measured else set())


class _Watch:
    """Ends this process when a trial of its takes too long: of several, the one whose limit comes first."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._ends: dict[str, float] = {}
        self._files: dict[str, IO[str]] = {}

    def set(self, trial: str, seconds: float | None, file: IO[str] | None = None) -> None:
        """From now on the trial has so many seconds; None: it is not watched."""
        with self._lock:
            self._ends.pop(trial, None)
            if file is not None:
                self._files[trial] = file
            if seconds is not None:
                self._ends[trial] = time.monotonic() + seconds
                _write(self._files[trial], f"{seconds:g}\n")
            faulthandler.cancel_dump_traceback_later()
            if self._ends:
                first = min(self._ends, key=lambda name: self._ends[name])
                left = max(self._ends[first] - time.monotonic(), 0.001)
                faulthandler.dump_traceback_later(left, exit=True, file=self._files[first])


_watch = _Watch()


def _write(file: IO[str], line: str) -> None:
    """The limit, ahead of what faulthandler writes: of several trials in a process that tells what was left."""
    if file is not sys.stderr:
        with suppress(OSError):  # a full disk
            file.seek(0)
            file.truncate()
            file.write(line)
            file.flush()


@contextmanager
def watched(
    directory: Path, trial: str, limits: Limits, send: Callable[[dict[str, Any]], None]
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A block in which this process, of which nothing else may be wanted, ends if the trial hangs.

    Args:
        directory: of the run.
        trial: its id.
        limits: of it.
        send: takes its messages.

    Yields:
        what takes them in place of `send`: each gives the trial its time anew, and waiting for `send` does not count.
    """

    def sent(message: dict[str, Any]) -> None:
        _watch.set(trial, None)
        limits.take(message)
        send(message)
        _watch.set(trial, limits.seconds())

    with limited(directory, trial, limits.seconds()):
        yield sent


@contextmanager
def limited(directory: Path, name: str, seconds: float) -> Iterator[None]:
    """A block in which this process, of which nothing else may be wanted, ends if the block takes longer.

    Args:
        directory: of the run.
        name: of what is done, a trial's id or another one; `hung` asks by it.
        seconds: that it may take.
    """
    with ExitStack() as block:
        try:
            file = block.enter_context(_opened(directory, name))
        except OSError:  # a full disk: it dies without saying where it stood
            file = sys.stderr
        before = faulthandler.is_enabled()
        faulthandler.enable(file)
        block.callback(faulthandler.enable if before else faulthandler.disable)
        block.callback(_watch.set, name, None)
        _watch.set(name, seconds, file)
        yield


@contextmanager
def _opened(directory: Path, trial: str) -> Iterator[IO[str]]:
    """The file that is written when the trial hangs, gone at the end of the block; others may be in its folder soon."""
    path = _path(directory, trial)
    path.parent.mkdir(exist_ok=True)
    try:
        with open(path, "a", opener=plain) as file:  # each limit is written in the place of the one before
            yield file
    finally:
        with suppress(OSError):
            path.unlink(missing_ok=True)


def hung(directory: Path, trial: str, name: str | None = None) -> str | None:
    """Why a trial's last process ended, if it was for hanging; where it stood is then in the trial's log.

    It is told once: the next process trains the trial.

    Args:
        directory: of the run.
        trial: its id.
        name: of what else was done with it, as `limited` was told; None: it was trained.
    """
    path = _path(directory, name or trial)
    try:
        with open(path, errors="replace", opener=plain) as file:
            text = file.read()
        path.unlink()
    except OSError:
        return None
    seconds, _, stood = text.partition("\n")
    where = ""
    if stood:
        with suppress(OSError), log_path(directory, trial).open("a") as log:
            log.write(stood)
            where = f"; where it stood: logs/{log_path(directory, trial).name}"
    done = "no epoch ended" if name is None else "it was not done"
    return f"hung: {done} within {seconds} s{where}" if stood.startswith("Timeout (") else None


def allowed(longest: float | None, begins: bool = True) -> float:
    """How long a piece of work may take by default, s.

    Args:
        longest: what it took at most so far; None: it was never measured.
        begins: whether its process may yet have to load data and to compile.
    """
    if longest is None:
        return UNKNOWN
    return min(max(LEAST, TIMES * longest) + (BEGINNING if begins else 0), LONGEST_EPOCH)


def forget(directory: Path, share: Share | None = None) -> None:
    """What an earlier launch left of trials that hung or were killed says nothing of those that run now.

    Args:
        directory: of the run.
        share: whose trials are run now; others may run beside it. None: all.
    """
    for path in log_folder(directory).glob("*.hung"):
        if share is None or share.has(path.stem):
            path.unlink(missing_ok=True)


def _path(directory: Path, trial: str) -> Path:
    return log_folder(directory) / f"{trial}.hung"
