"""TensorBoard: an event file for each trial, and its hyperparameters for the page HPARAMS.

The files are written here, by TensorBoard's own formats, so that neither torch nor TensorFlow is needed. A file that
holds more than its cursor knows of, as after a kill, is cut back to that: nothing stands in it twice.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sweep.trackers.updates import Update, metrics
from sweep.watchers import TrackerConfig

#: By outcome what the page HPARAMS says; of all others that they failed.
_STATUS = {"": "STATUS_RUNNING", "completed": "STATUS_SUCCESS", "diverged": "STATUS_SUCCESS"}


class Tensorboard:
    """Event files, FOLDER/TRIAL/events.out.tfevents.*."""

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet."""
        self._folder = folder

    def send(self, update: Update) -> str:
        """Appends to the trial's file; gives its size, behind which nothing counts."""
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder = self._folder / update.trial
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{update.token}"
        path.touch()
        with open(path, "r+b") as file:
            file.truncate(int(update.run or 0))
            file.seek(0, os.SEEK_END)
            frames = RecordWriter(file)
            for event in _events(update):
                frames.write(event.SerializeToString())
            return str(file.tell())

    def close(self) -> None:
        """No file is open."""


def opened(config: TrackerConfig, folder: Path, name: str) -> Tensorboard:
    """The tracker of a config.

    Args:
        config: of it.
        folder: of its own, in the run's directory.
        name: of the sweep.
    """
    import tensorboard.compat.proto.event_pb2  # noqa: F401  # lest it is missed once the sweep runs

    return Tensorboard(folder if config.folder is None else Path(config.folder) / name)


def _events(update: Update) -> Iterator[Any]:
    """What is new of a trial as TensorBoard's events; the first of a file says which form they have."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.summary import session_end_pb, session_start_pb

    if not update.run:
        yield Event(wall_time=update.time, file_version="brain.Event:2")
        params = {key: value if isinstance(value, int | float) else str(value) for key, value in update.params.items()}
        start = session_start_pb(params, group_name=update.trial, start_time_secs=update.time)
        yield Event(wall_time=update.time, summary=start)
    for epoch in update.epochs:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics(epoch).items()]
        yield Event(wall_time=epoch.get("time", 0.0), step=epoch["epoch"], summary=Summary(value=values))
    if update.outcome:
        status = Status.Value(_STATUS.get(update.outcome, "STATUS_FAILURE"))
        yield Event(wall_time=update.time, summary=session_end_pb(status, update.time))
