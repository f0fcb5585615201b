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
from trainers.errors import UserError

#: By outcome what the page HPARAMS says; of all others that they failed.
_STATUS = {"completed": "STATUS_SUCCESS", "diverged": "STATUS_SUCCESS"}


class Tensorboard:
    """Event files, FOLDER/TRIAL/events.out.tfevents.*."""

    def __init__(self, folder: Path) -> None:
        """Writes nothing yet."""
        self._folder = folder

    def send(self, update: Update) -> str:
        """Appends to the trial's file; gives its size, behind which nothing counts.

        Raises:
            UserError: what was written before is not there.
        """
        from tensorboard.summary.writer.record_writer import RecordWriter

        folder, size = self._folder / update.trial, int(update.run or 0)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"events.out.tfevents.{update.token}"
        path.touch()
        with open(path, "r+b") as file:
            if file.seek(0, os.SEEK_END) < size:
                raise UserError(
                    f"{path}: lacks what was written before; remove {self._folder} and DIR/trackers/tensorboard.jsonl: "
                    "all is then written once more"
                )
            file.truncate(size)
            file.seek(size)
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

    if not update.run:
        yield Event(wall_time=update.time, file_version="brain.Event:2")
        yield Event(wall_time=update.time, summary=_start(update))
    for epoch in update.epochs:
        values = [Summary.Value(tag=name, simple_value=value) for name, value in metrics(epoch).items()]
        yield Event(wall_time=epoch.get("time", 0.0), step=epoch["epoch"], summary=Summary(value=values))
    if update.outcome:
        yield Event(wall_time=update.time, summary=_end(update))


def _start(update: Update) -> Any:
    """A trial's hyperparameters, for the page HPARAMS."""
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionStartInfo

    start = SessionStartInfo(group_name=update.trial, start_time_secs=update.time)
    for key, value in update.params.items():
        if isinstance(value, bool):
            start.hparams[key].bool_value = value
        elif isinstance(value, int | float):
            start.hparams[key].number_value = value
        else:
            start.hparams[key].string_value = str(value)
    return _of_page(metadata.SESSION_START_INFO_TAG, HParamsPluginData(session_start_info=start))


def _end(update: Update) -> Any:
    """How a trial has ended, for the same."""
    from tensorboard.plugins.hparams import metadata
    from tensorboard.plugins.hparams.api_pb2 import Status
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData, SessionEndInfo

    status = Status.Value(_STATUS.get(update.outcome, "STATUS_FAILURE"))
    end = SessionEndInfo(status=status, end_time_secs=update.time)
    return _of_page(metadata.SESSION_END_INFO_TAG, HParamsPluginData(session_end_info=end))


def _of_page(tag: str, content: Any) -> Any:
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import metadata

    return Summary(value=[Summary.Value(tag=tag, metadata=metadata.create_summary_metadata(content))])
