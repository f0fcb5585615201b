"""What a tracker is sent of one trial at a time, and the trackers by their names."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from sweep.trackers.cursor import FOLDER
from sweep.watchers import TrackerConfig
from trainers.errors import UserError
from trainers.record import METRICS

#: Columns of an epoch that are sent: accuracies (fractions), losses (nats), and what it took.
SENT: tuple[str, ...] = (*METRICS, "lr", "seconds", "samples_per_second")


@dataclass(frozen=True)
class Update:
    """What is new of one trial; a tracker shows it in one run."""

    trial: str
    """Its id, the run's name."""
    sweep: str
    """Name of the sweep, the run's group."""
    token: str
    """Of this run directory: other runs of the sweep have trials of the same ids."""
    begun: int
    """How often the trial was begun anew, as by `sweep rerun`; another run each time, as its numbers are others."""
    run: str
    """What the tracker gave back the last time; empty: it has not seen the trial yet."""
    params: Mapping[str, Any]
    """Value on every axis, and the seed."""
    tags: Mapping[str, str]
    epochs: Sequence[Mapping[str, Any]]
    """Records of epochs, in their order, that it has not been sent."""
    outcome: str
    """Empty while the trial runs."""
    time: float
    """Of the trial's latest line, s since 1970."""

    @property
    def own(self) -> str:
        """What no other run of the tracker is called, in any project."""
        return f"{self.token}-{self.trial}" + (f"-{self.begun + 1}" if self.begun else "")

    @property
    def facts(self) -> str:
        """A hash of all but the epochs."""
        known = [dict(self.params), dict(self.tags), self.outcome]
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]


class Tracker(Protocol):
    """A program that shows trials as runs."""

    def send(self, update: Update) -> str:
        """Takes what is new of a trial; when it returns, that is out of this process.

        What the same trial was sent before may be sent once more, by a process that was killed at the wrong moment.

        Returns:
            What the next update of the trial is to hold as `run`.
        """

    def close(self) -> None:
        """Ends what is open."""


def metrics(epoch: Mapping[str, Any]) -> dict[str, float]:
    """What was measured in an epoch, by name."""
    return {name: float(epoch[name]) for name in SENT if epoch.get(name) is not None}


def tracker(config: TrackerConfig, directory: Path, sweep: str) -> Tracker:
    """The tracker that a config asks for; its program is imported here and nowhere else.

    Args:
        config: of the tracker.
        directory: of the run.
        sweep: its name.

    Raises:
        UserError: the program is not installed.
    """
    made = import_module(f"sweep.trackers.{config.name}")
    folder = directory.absolute() / FOLDER / config.name
    try:
        tracker: Tracker = made.opened(config, folder, config.project or sweep)
    except ImportError as error:
        raise UserError(
            f'{config.name}: is not installed ({error}); pip install "robustsweep[{config.name}]"'
        ) from None
    return tracker
