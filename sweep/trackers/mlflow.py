"""MLflow: a run for each trial, on a server, or in a file of SQLite in the run's directory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sweep.trackers.updates import Update, metrics
from sweep.watchers import TrackerConfig

#: By outcome the status of a run; of all others KILLED.
_STATUS = {
    "": "RUNNING",
    "completed": "FINISHED",
    "diverged": "FINISHED",
    "failed": "FAILED",
    "out_of_memory": "FAILED",
}

#: By which tag a trial is found whose run was made by a process that was killed before it could write that down.
_TRIAL = "robustsweep.trial"

#: What the server takes at once: metrics; params, or tags.
_METRICS, _WORDS = 1000, 100

#: Characters of a param's or a tag's value at most.
_LONGEST = 5000


class Mlflow:
    """Runs of one experiment."""

    def __init__(self, client: Any, experiment: str) -> None:
        """Of a client of MLflow's, and the experiment's id."""
        self._client, self._experiment = client, experiment

    def send(self, update: Update) -> str:
        """Logs what is new in the trial's run, made if need be; gives its id.

        Of a metric that is logged twice with the same time, step and value MLflow's databases keep one.
        """
        from mlflow.entities import Metric, Param, RunTag

        run = update.run or self._made(update)
        params = [Param(key, str(value)[:_LONGEST]) for key, value in update.params.items()]
        tags = [RunTag(key, value[:_LONGEST]) for key, value in update.tags.items()]  # an empty one takes one back
        logged = [
            Metric(name, value, round(1000 * epoch.get("time", 0.0)), epoch["epoch"])
            for epoch in update.epochs
            for name, value in metrics(epoch).items()
        ]
        for part in _parts(params, _WORDS):
            self._client.log_batch(run, params=part)
        for part in _parts(tags, _WORDS):
            self._client.log_batch(run, tags=part)
        for part in _parts(logged, _METRICS):
            self._client.log_batch(run, metrics=part)
        status = _STATUS.get(update.outcome, "KILLED")
        if update.outcome:
            self._client.set_terminated(run, status, end_time=round(1000 * update.time))
        else:
            self._client.update_run(run, status)
        return run

    def _made(self, update: Update) -> str:
        named = f"tags.`{_TRIAL}` = '{update.own}'"
        known = self._client.search_runs([self._experiment], named, max_results=1)
        if known:
            return str(known[0].info.run_id)
        begun = min((epoch.get("time", update.time) for epoch in update.epochs), default=update.time)
        tags = {_TRIAL: update.own, "group": update.sweep}
        run = self._client.create_run(self._experiment, round(1000 * begun), tags, run_name=update.trial)
        return str(run.info.run_id)

    def close(self) -> None:
        """Nothing is open: each trial's state is its outcome's."""


def opened(config: TrackerConfig, folder: Path, name: str) -> Mlflow:
    """The tracker of a config; its experiment is made, if need be.

    Args:
        config: of it.
        folder: of its own, in the run's directory.
        name: of the experiment.
    """
    os.environ.setdefault("MLFLOW_ENABLE_ASYNC_LOGGING", "false")  # a call returns when it is there
    from mlflow import MlflowClient

    client = MlflowClient(config.uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}")
    known = client.get_experiment_by_name(name)
    return Mlflow(client, str(known.experiment_id) if known is not None else client.create_experiment(name))


def _parts(values: Sequence[Any], most: int) -> Iterator[Sequence[Any]]:
    return (values[start : start + most] for start in range(0, len(values), most))
