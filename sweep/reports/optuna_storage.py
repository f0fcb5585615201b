"""The trials of a run as studies of Optuna's, in memory, for programs that show such: its dashboard.

One study has all trials. Where points were drawn within each combination of the grid axes, each has one more, as the
search itself sees it. Trials that were measured differently, on other images or by another attack, share none.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from pandas import DataFrame

from analysis.frames.cells import conditions, several
from analysis.frames.history import History, TrialHistory
from analysis.frames.log import Log
from analysis.frames.pareto import Objective, objectives_of
from analysis.frames.strata import grid_axes, stratum_name
from analysis.frames.trials import SUPERSEDED, axes, epochs_of, trials_of
from sweep.reports.output import metric_of

#: Of a row of the frame of trials, what is shown beside its parameters.
SHOWN = (
    *("trial_id", "outcome", "reason", "method", "seed", "epochs", "best_epoch"),
    *(f"last_{split}_{kind}" for split in ("val", "test") for kind in ("clean", "robust")),
    *("seconds", "device", "attempts"),
)

#: Numbers over so many powers of ten are shown on a logarithmic axis.
DECADES = 1

#: What Optuna's words mean of outcomes: those that a live launch goes on with, or begins yet, are not here.
_STATES = {"completed": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "never_started": TrialState.WAITING}
_GOES_ON = ("unfinished", "interrupted", "preempted", "paused")


def storage_of(log: Log, name: str, live: bool = False) -> InMemoryStorage:
    """The studies of a run.

    Args:
        log: its records.
        name: of the study of all trials.
        live: whether a launch runs, so that what has no end yet is running.

    Returns:
        Studies whose values are those that the sweep chooses by, their directions its own. A trial that diverged or
        failed is FAIL; its outcome and reason are user attributes.
    """
    frame, epochs = trials_of(log), epochs_of(log)
    frame = frame[frame["outcome"] != SUPERSEDED]
    objectives = _objectives(log)
    curves = _curves(epochs, objectives[0].name)
    varied = [axis for axis in axes(frame) if several(frame[axis])]
    space = {axis: distribution(list(frame[axis].dropna())) for axis in varied}
    histories: Mapping[str, TrialHistory] = History.of(log).trials
    trials = {
        str(row["trial_id"]): _trial(row, space, objectives, curves, histories[row["trial_id"]], live)
        for row in frame.to_dict("records")
    }
    storage = InMemoryStorage()
    for study_name, ids in _studies(frame, name, grid_axes(log)):
        directions = [StudyDirection.MAXIMIZE if one.mode == "max" else StudyDirection.MINIMIZE for one in objectives]
        study = optuna.create_study(storage=storage, study_name=study_name, directions=directions)
        with warnings.catch_warnings():  # that names may be gone in a later version
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([one.column for one in objectives])
        study.add_trials([trials[trial_id] for trial_id in ids])
    return storage


def _objectives(log: Log) -> tuple[Objective, ...]:
    chosen = metric_of(log)
    return objectives_of(log) or (Objective(chosen.get("metric", "val_robust"), chosen.get("mode", "max")),)


def _studies(frame: DataFrame, name: str, grid: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """Names of studies and the ids of their trials."""
    apart = conditions(frame)
    known = [axis for axis in grid if axis in axes(frame) and len(frame[axis].unique()) > 1]
    for keys in dict.fromkeys([tuple(apart), tuple(dict.fromkeys([*apart, *known]))]):
        if not keys:
            yield name, list(frame["trial_id"])
            continue
        for values, rows in frame.groupby(list(keys), dropna=False, sort=False):
            yield f"{name}: {stratum_name(keys, values, keys)}", list(rows["trial_id"])


def distribution(values: Sequence[Any]) -> BaseDistribution:
    """The space that an axis's values lie in: of numbers a range, so that pictures have a scale, else their list."""
    if not all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        return CategoricalDistribution(list(dict.fromkeys(map(_plain, values))))
    low, high = min(values), max(values)
    log = low > 0 and math.log10(high / low) >= DECADES
    if all(float(value).is_integer() for value in values) and not (log and low < 1):
        return IntDistribution(int(low), int(high), log=log)
    return FloatDistribution(float(low), float(high), log=log)


def _plain(value: Any) -> Any:
    """As Optuna takes it: of numpy's kinds Python's own, whole numbers as such; a list as its JSON."""
    value = value.item() if hasattr(value, "item") else value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)


def _is_there(value: Any) -> bool:
    return value is not None and value == value and value != ""


def _curves(epochs: DataFrame, metric: str) -> dict[str, dict[int, float]]:
    """Of each trial the epochs at which the metric was measured, and what it was there."""
    if metric not in epochs:  # seconds, which no epoch has alone
        return {}
    measured = epochs[epochs[metric].notna()]
    curves: dict[str, dict[int, float]] = {}
    for trial_id, epoch, value in measured[["trial_id", "epoch", metric]].itertuples(index=False):
        curves.setdefault(trial_id, {})[int(epoch)] = float(value)
    return curves


def _trial(
    row: Mapping[Any, Any],
    space: Mapping[str, BaseDistribution],
    objectives: Sequence[Objective],
    curves: Mapping[str, dict[int, float]],
    history: TrialHistory,
    live: bool,
) -> FrozenTrial:
    curve = curves.get(row["trial_id"], {})
    values: list[float] | None = [float(row[one.column]) for one in objectives]
    state = _STATES.get(row["outcome"], TrialState.FAIL)
    if live and row["outcome"] in _GOES_ON:
        state = TrialState.RUNNING
    if state is TrialState.COMPLETE and any(map(math.isnan, values or ())):
        state = TrialState.FAIL
    if state is TrialState.PRUNED and len(objectives) == 1 and curve:
        values = [curve[max(curve)]]
    elif state is not TrialState.COMPLETE:
        values = None
    of_axes = {axis: _plain(row[axis]) for axis in space if _is_there(row[axis])}
    trial = create_trial(
        state=state,
        values=values,
        params=of_axes,
        distributions={axis: space[axis] for axis in of_axes},
        user_attrs={key: _plain(row[key]) for key in SHOWN if _is_there(row[key])},
        intermediate_values=curve,
    )
    trial.datetime_start, trial.datetime_complete = _times(state, history)
    return trial


def _times(state: TrialState, history: TrialHistory) -> tuple[datetime | None, datetime | None]:
    """When its last attempt began and ended, by its records."""
    if state is TrialState.WAITING:
        return None, None
    began = float(history.start.get("time", 0.0))
    ended = max(began, float(history.end.get("time", began)))
    return datetime.fromtimestamp(began), datetime.fromtimestamp(ended) if state.is_finished() else None
