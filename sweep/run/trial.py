"""One trial as a process runs it: messages out, errors caught and logged."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sweep.config import ResourcesConfig
from sweep.run.directory import log_path
from sweep.run.hung import Limits, hung, watched
from sweep.run.signals import Interrupted
from sweep.run.workers import Others, TrialEnded, WorkerDied, beside
from sweep.storage import checkpoints
from trainers.config import TrialConfig
from trainers.errors import UserError
from trainers.files import checkpoint_path
from trainers.record import FINISHED, DynamicsRecord, EpochRecord, OutcomeName, OutcomeRecord, ResumeRecord

#: A record's values with its kind under `record`: start, resume, epoch, dynamics or outcome.
Message = dict[str, Any]

#: How often a trial whose process dies is started again, from its checkpoint.
RESTARTS = 3


class _Paused(BaseException):
    """A trial that trains is to end at the end of an epoch; carries how many it has, and its outcome and reason."""


#: As which trials end that do so at an epoch's end, for somebody else's reason.
_PAUSED: tuple[OutcomeName, str] = "paused", "by `sweep pause`; `sweep resume` goes on with it"
_PRUNED: tuple[OutcomeName, str] = "pruned", "by a stopping rule"


def never(trial_id: str = "") -> bool:
    """Nobody pauses the trial, and no rule ends it."""
    return False


def trial_values(config: TrialConfig, resources: ResourcesConfig) -> dict[str, Any]:
    """The trial as plain values: what a process that runs it is given."""
    values = config.model_dump(mode="json")
    if config.device == "auto" and not resources.gpu:
        values["device"] = "cpu"
    return values


#: Held by the trial of a process that ends, until that is known.
_ending = threading.Lock()


def run_together(
    trials: Mapping[str, Mapping[str, Any]],
    directory: Path,
    threads: int,
    send: Callable[[Message], None],
    *,
    share: float,
    training: Callable[[str], AbstractContextManager[Callable[[], bool]]],
    lost: Callable[[], None],
    limits: Mapping[str, Mapping[str, Any]] | None = None,
    pruned: Callable[[str], bool] = never,
    shorter: Mapping[str, Sequence[str]] | None = None,
) -> bool:
    """Trains several trials of one device side by side in this process, each as `run_trial` does, but for:

    Args:
        trials: their values by id.
        threads: of each.
        send: takes the messages of all, from their threads, one at a time.
        share: of all.
        training: makes the block in which the trial of an id trains, and what tells whether it is `paused`.
        lost: ends this process, whose GPU answers no more, once the outcome of the trial that met that first is sent:
            which of them it came from nobody can tell, and the others go on from their checkpoints in a new one.
        limits: of each, by id.
        pruned: whether the trial of an id is `pruned`.
        shorter: of each, by id.
    """
    import torch

    from trainers import cards
    from trainers.engine import device_of
    from trainers.side_by_side import side_by_side

    sending = threading.Lock()

    def send_one(message: Message) -> None:
        with sending:
            send(message)

    def run(name: str) -> None:
        with training(name) as paused:
            how: dict[str, Any] = {"lost": lost, "limits": None if limits is None else limits[name]}
            how |= {
                "paused": paused,
                "pruned": partial(pruned, name),
                "shorter": () if shorter is None else shorter[name],
            }
            run_trial(name, trials[name], directory, threads, send_one, share=share, **how)

    first = TrialConfig.model_validate(next(iter(trials.values())))
    device = torch.device("cpu")
    with suppress(UserError):  # which each trial reports as its own
        device = device_of(first.device)
    cards.freed(device)
    side_by_side([partial(run, name) for name in trials], device, first.deterministic)
    return cards.freed(device)


def run_trial(
    name: str,
    values: Mapping[str, Any],
    directory: Path,
    threads: int,
    send: Callable[[Message], None],
    *,
    share: float = 1,
    alone: bool = False,
    cuda: int | None = None,
    lost: Callable[[], None] = lambda: None,
    limits: Mapping[str, Any] | None = None,
    paused: Callable[[], bool] = never,
    pruned: Callable[[], bool] = never,
    shorter: Sequence[str] = (),
    others: Others | None = None,
    died: Callable[[TrialEnded | WorkerDied], None] | None = None,
) -> bool:
    """Trains one trial and sends what happens: a start, that its newest checkpoint was passed over where it was, its
    epochs and their dynamics, its outcome.

    Args:
        name: the trial's id.
        values: its TrialConfig as plain values.
        directory: of the run; holds the checkpoint and, if the trial fails, its log.
        threads: that torch may use; the same number gives the same numbers.
        send: takes each message; may raise to end the trial.
        share: of a GPU's memory that the trial may take.
        alone: whether the launch runs nothing else on the device: the trial's outcome then tells what memory it took.
        cuda: bytes of the share that are CUDA's own; None: as many as ever are.
        lost: called where this process cannot run another, once the outcome is sent, and before that of any other.
        limits: what `sweep.run.hung.Limits` is made of, in a process that may be ended if the trial hangs; None: it may
            not.
        paused: asked at the beginning and after each epoch but the last: whether the trial is to end there, its
            checkpoint written, with the outcome `paused`.
        pruned: asked after each epoch but the last, once it is sent: whether a stopping rule has ended the trial there.
            Its checkpoint is then written; its outcome, `pruned`, says no more than that.
        shorter: ids of the trials from whose ends it can go on where it has no checkpoint, the longest first.
        others: its other workers, of which this process is then the first; None: it has none.
        died: ends this process, the newest state of the trial written, where another worker's has died, which it is
            told: whoever starts it again starts the trial. None: the trial has then failed.

    Returns:
        whether this process can run another trial: its GPU still answers.
    """
    from trainers.own import snapshot

    snapshot.look_in(directory / snapshot.FOLDER)
    trial = _Trial(
        name, values, directory, threads, send, share, alone, cuda, lost, paused, pruned, shorter, others, died
    )
    if limits is None:
        return trial.run()
    if (reason := hung(directory, name)) is not None:
        send({"record": "outcome", **asdict(OutcomeRecord(name, "failed", reason, 0))})
        return True
    with watched(directory, name, Limits(trial.config, **limits), send) as trial.send:
        return trial.run()


@dataclass
class _Trial:
    """A trial that this process trains: its fields are what `run_trial` is given."""

    name: str
    values: Mapping[str, Any]
    directory: Path
    threads: int
    send: Callable[[Message], None]
    share: float
    alone: bool
    cuda: int | None
    lost: Callable[[], None]
    paused: Callable[[], bool]
    pruned: Callable[[], bool]
    shorter: Sequence[str]
    others: Others | None
    died: Callable[[TrialEnded | WorkerDied], None] | None

    def __post_init__(self) -> None:
        self.config = TrialConfig.model_validate(self.values)
        self._is_ended = False
        """Whether what took a message has ended the process, or Tune's trial."""

    def run(self) -> bool:
        """Trains it, sends all messages, and says whether this process can run another."""
        import torch

        from trainers import cards, loop

        torch.set_num_threads(self.threads)
        self._train = loop.train  # which is loaded before the trial is said to start
        self._device = torch.device("cpu")
        self._meter = cards.Meter(self._device, False)
        outcome = self._outcome()
        with _ending:
            usable = cards.freed(self._device)  # not within `except`, whose error holds the frames, and they the model
            self.send({"record": "outcome", **asdict(replace(outcome, alone=self._meter.alone))})
            if not usable:
                self.lost()
        return usable

    def _outcome(self) -> OutcomeRecord:
        from trainers.outcome import outcome_of

        try:
            self._begin()
            return self._trained()
        except _Paused as pause:
            return self._paused(*pause.args)
        except TrialEnded as failed:
            return failed.outcome
        except WorkerDied as gone:
            if self.died is not None:
                self.died(gone)
            return OutcomeRecord(self.name, "failed", str(gone), 0)
        except BaseException as error:
            if self._is_ended or isinstance(error, Interrupted):
                raise
            outcome = outcome_of(self.name, error, log_path(self.directory, self.name))
            checkpoints.bring_log(self.directory, log_path(self.directory, self.name))
            return outcome

    def _begin(self) -> None:
        from trainers import cards
        from trainers.engine import device_of
        from trainers.outcome import start_of

        self._device = device_of(self.config.device)
        cards.freed(self._device)
        cards.limit(self._device, self.share, cards.CONTEXT if self.cuda is None else self.cuda)
        how = {} if self.others is None else {"workers": self.others.number + 1}
        self._send({"record": "start", **start_of(self.name, self.config, self._device), **how})
        if self.paused():
            raise _Paused(0, _PAUSED)
        checkpoints.fetch(self.directory, self.name, trains=True)
        self._meter = cards.Meter(self._device, self.alone)

    def _trained(self) -> OutcomeRecord:
        work = {"name": self.name, "values": self.values, "directory": self.directory.absolute()}
        work |= {"threads": self.threads, "share": self.share, "alone": self.alone}
        with beside(self.others, work, self._device, self._end_as) as team:
            files = checkpoint_path(self.directory, self.name), _files(self.directory, self.shorter)
            outcome = self._train(self.config, self._report, *files, team.workers)
        checkpoints.settle(self.directory, self.name)
        if outcome.outcome in FINISHED:
            self._meter.look()
            memory, cuda_bytes = team.taken(self._meter.taken())
            outcome = replace(outcome, memory_bytes=memory, cuda_bytes=cuda_bytes)
        return outcome

    def _report(self, record: EpochRecord | DynamicsRecord | ResumeRecord) -> None:
        self._meter.look()
        self._send({"record": record.kind, **asdict(record)})
        if isinstance(record, EpochRecord) and record.epoch < self.config.epochs:
            if self.pruned():
                raise _Paused(record.epoch, _PRUNED)
            if self.paused():
                raise _Paused(record.epoch, _PAUSED)

    def _send(self, message: Message) -> None:
        try:
            self.send(message)
        except Exception:
            raise
        except BaseException:  # of this process, or of Tune's trial; the user's own are of the trial
            self._is_ended = True
            raise

    def _paused(self, epochs: int, ending: tuple[OutcomeName, str]) -> OutcomeRecord:
        if epochs:  # it may go on elsewhere; one that has not begun here has nothing to bring
            with suppress(UserError):  # it goes on from an earlier epoch then
                checkpoints.settle(self.directory, self.name)
        return OutcomeRecord(self.name, *ending, epochs)

    def _end_as(self, failure: TrialEnded | WorkerDied) -> None:
        """Ends this process, where it may be ended: its trial waits for a worker that does not come."""
        if self.died is None:
            return
        if isinstance(failure, TrialEnded):
            self._send({"record": "outcome", **asdict(failure.outcome)})
        self.died(failure)


def _files(directory: Path, trials: Iterable[str]) -> Iterator[Path]:
    """The trials' files, each brought to this machine when it is asked for."""
    for trial in trials:
        checkpoints.fetch(directory, trial)
        yield checkpoint_path(directory, trial)
