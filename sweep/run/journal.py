"""A run directory while a launch holds it: the lock, and the only hand that writes records."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sweep.config_file import dump
from sweep.plan.plan import Plan, metric
from sweep.progress import TrialProgress
from sweep.run.directory import CONFIG_FILE, clean, write_whole
from sweep.run.trial import Message
from sweep.search.trials import PlannedTrial
from trainers.files import checkpoint_path
from trainers.own import snapshot
from trainers.provenance import environment
from trainers.record import OutcomeRecord, RecordFile


class Journal:
    """Takes every message of every trial, writes what is new, and tells the search and `listener`."""

    def __init__(self, directory: Path, plan: Plan) -> None:
        """Writes nothing yet; the caller holds the run's lock.

        Args:
            directory: of the run.
            plan: made from its records; its `progress` goes on with what is written.
        """
        self.directory, self.progress = directory, plan.progress
        self.listener: Callable[[TrialProgress, Message], None] = lambda trial, message: None
        self._plan = plan

    @contextmanager
    def open(self, command: str, decides: Mapping[str, Any] | None = None) -> Iterator[None]:
        """A block in which trials run: begins with the launch and every new trial written down.

        Args:
            command: that launched them.
            decides: see `sweep.run.launch.launch`.
        """
        self._file = RecordFile(self.directory)
        try:
            self._begin(command, decides)
            yield
        finally:
            self._file.close()

    def _begin(self, command: str, decides: Mapping[str, Any] | None) -> None:
        """Writes sweep.yaml, environment.json, the launch and every trial that is new; no trial runs yet."""
        clean(self.directory)
        checkpoint_path(self.directory, "").parent.mkdir(exist_ok=True)
        for source in self._plan.own.values():
            snapshot.keep(source, self.directory / snapshot.FOLDER)
        where = environment() | {"command": command, "time": time.strftime("%FT%T%z")}
        write_whole(self.directory / CONFIG_FILE, dump(self._plan.config))
        write_whole(self.directory / "environment.json", json.dumps(where, indent=2) + "\n")
        known = self._plan.search.known()
        self._append(
            "launch",
            {
                "command": command,
                "decides": decides,
                **{key: where[key] for key in ("commit", "dirty", "code_version", "versions")},
                "metric": self._plan.config.metric,
                "mode": self._plan.config.mode,
                "size": self._plan.size,
                "wanted": [trial.id for trial in known],
            },
        )
        for trial in known:
            self._register(trial)

    def next(self) -> PlannedTrial | None:
        """The next trial to run, written down as planned; None when there is no more."""
        trial = self._plan.search.next()
        if trial is not None:
            self._register(trial)
        return trial

    def take(self, message: Message) -> None:
        """Writes a trial's message down, unless it is an epoch, or its dynamics, that stands there already."""
        trial = self.progress.trials[message["trial_id"]]
        if trial.has(message):
            return
        self._append(message["record"], {key: value for key, value in message.items() if key != "record"})
        if message["record"] == "outcome":
            self._plan.search.tell(trial.id, metric(trial, self._plan.config))
        self.listener(trial, message)

    def fail(self, trial_id: str, reason: str) -> None:
        """The outcome of a trial whose process is gone."""
        self.take({"record": "outcome", **vars(OutcomeRecord(trial_id, "failed", reason, 0))})

    def interrupt(self, reason: str) -> None:
        """The outcome `interrupted` for every trial that runs; their checkpoints stay."""
        for trial in self.progress.running():
            self.take({"record": "outcome", **vars(OutcomeRecord(trial.id, "interrupted", reason, trial.epoch))})

    def _register(self, trial: PlannedTrial) -> None:
        """Writes the trial down, again where a wider space gives its point more keys."""
        known = self.progress.trials.get(trial.id)
        if known is None or trial.id not in self.progress.wanted or known.point != trial.point:
            self._append("trial", trial.record(len(self.progress.trials)))

    def _append(self, kind: str, values: Mapping[str, Any]) -> None:
        stamped = {**values, "time": round(time.time(), 3)}
        self._file.append(kind, stamped)
        self.progress.add({"record": kind, **stamped})
