"""records.jsonl -> two data frames: a row a trial, a row an epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pandas import DataFrame, Series

from analysis.frames.arithmetic import in_words
from analysis.frames.columns import PLACE, RIGHT, TEXTS, Array, Epochs
from analysis.frames.companion import COUNTED, EPOCHS, TRIALS, frame_of, opened, table_of
from analysis.frames.history import History, TrialHistory
from analysis.frames.identity import identity_columns, measured_once, superseded
from analysis.frames.log import Log, Records, Shelf
from analysis.frames.notes import with_notes
from analysis.frames.pruned import pruned_columns
from analysis.frames.replayed import refuse_replay
from trainers.record import METRICS, EpochRecord, read

#: The outcome of a finished or pruned trial in whose place another one of the same cell and seed counts.
SUPERSEDED = "superseded"

#: Where and with what code a trial last ran.
_PROVENANCE = ("host", "device", "code_version")


def load_trials(directory: str | Path) -> DataFrame:
    """One row a trial, in the order planned.

    The last line of an epoch counts; of a finished trial no epoch beyond its outcome's counts, and of one that is to
    be trained anew (`sweep rerun`) none from before, until it has its numbers again. A trial without
    outcome is `unfinished`: began, and its launch was killed or still runs; or `never_started`, which is left
    out if the last launch no longer wants it. One that ended and lacks an epoch's record is `unfinished` too
    (`trainers.record.finished`).

    A cell's seed counts once. Where several finished or pruned trials have the same axes and seed, trained by code
    whose ids differ, or evaluated at another pace, one that was not pruned counts before one that was, then those that
    the last launch wants before others, and then the one that began last; the rest are `superseded`.

    Trials of several base configs in one directory are told apart: a key of the config in which any two trials
    differ (epochs, the data) is an axis too, though no config's space names it. What belongs to a method is
    one only if it differs within the method: `analysis.frames.identity`, and a key within a slot's part
    (`analysis.frames.names.PARTS`); or, of weight decay and momentum, among the methods of one optimizer. Which splits
    are evaluated, how often, and how many images at a time is never one.

    Args:
        directory: a run, as given to `sweep launch --out`.

    Measuring the dynamics gives a trial another id and the same numbers: of completed ones that differ in that alone
    one is listed, which was measured.

    Returns:
        trial_id, outcome, reason; method, the name of the choice in the slots (`analysis.frames.names.Slots.method`; a
        record that lacks a slot's key was trained with the slot's default); seed; the axes: `BASE_AXES`, then the
        points' keys in the order first seen, then such keys of the config, NaN where one does not apply to the trial's
        method (objective.beta of PGD-AT, or optimizer.k1 of SGD), a list as its JSON text, `epochs` as planned_epochs
        and `workers` as batch_norm_parts; lr_batch_ratio (1/image); epochs done; best_epoch, by val_robust, the
        earliest of equals; last_<metric> at the last evaluated epoch and best_<metric> at best_epoch, NaN where not
        measured; seconds of training, compiling, evaluation, checkpoints and measuring the dynamics; memory_bytes that
        its process took of a GPU, NaN where it did not have one alone (`trainers.record.OutcomeRecord`); host, device,
        code_version of the last start; workers that trained it together then, 0 where it never began; arithmetic, on
        what its last bits depend besides (`trainers.provenance.arithmetic`; and workers), none where older code wrote
        the start; attempts; from_trial, the shorter trial from whose end it went on, whose epochs and seconds its first
        ones are, empty where there is none; of a pruned trial pruned_rung (from 1; NaN where its rule has none),
        pruned_rank (its place among those at the rung, 1 is best), pruned_share of its epochs that were trained (a
        fraction) and pruned_by, the rule's name; of a sweep of several objectives pareto
        (`analysis.frames.pareto.with_pareto`); where a user wrote of any, note and tags (`sweep note`).
        Units are in `UNITS`.

    Raises:
        UserError: the directory is not a run, or a line is damaged; or it was replayed on a response surface.
    """
    refuse_replay(directory)
    with opened(Path(directory)) as companion:
        if companion is None:
            return trials_of(read(directory))
        kept = companion.table(TRIALS)
        return _frames(companion.log())[0] if kept is None else frame_of(kept)


def trials_of(records: Records) -> DataFrame:
    """`load_trials` of records that are at hand, of one run or of no run at all.

    Args:
        records: as `trainers.record.read` gives them, in the order written.
    """
    return _frames(Log.of(records))[0].copy()


def identified(log: Log) -> tuple[DataFrame, dict[str, int]]:
    """What a row about a trial begins with: its id, method, seed, axes, lr_batch_ratio; and each trial's row by id."""
    trials = trials_of(log)
    known = trials[["trial_id", "method", "seed", *axes(trials), "lr_batch_ratio"]]
    return known, {name: row for row, name in enumerate(trials["trial_id"])}


def load_epochs(directory: str | Path) -> DataFrame:
    """One row an epoch that counts, sorted by the trial's number and the epoch.

    Args:
        directory: a run, as given to `sweep launch --out`.

    Returns:
        trial_id, method, seed, the axes and lr_batch_ratio as in `load_trials`, outcome, then the columns of
        `trainers.record.EpochRecord`; NaN: not measured.

    Raises:
        UserError: the directory is not a run, or a line is damaged; or it was replayed on a response surface.
    """
    refuse_replay(directory)
    with opened(Path(directory)) as companion:
        if companion is None:
            return epochs_of(read(directory))
        epochs = companion.table(EPOCHS)
        kept = None if epochs is None else _kept_frames(companion, Epochs(epochs))
        return _epochs_frame(*(kept or _frames(companion.log())))


def epochs_of(records: Records) -> DataFrame:
    """`load_epochs` of records that are at hand.

    Args:
        records: as for `trials_of`.
    """
    return _epochs_frame(*_frames(Log.of(records)))


def last_lines(records: Records) -> dict[str, int]:
    """Of each trial where in the log the line of its last epoch stands that counts.

    Args:
        records: as for `trials_of`.
    """
    trials, counted = _frames(Log.of(records))
    places, last = counted.numbers(PLACE), counted.lasts(_all(counted.of_trial))
    return {name: int(places[row]) for name, row in zip(trials["trial_id"], last, strict=True) if row >= 0}


def axes(frame: DataFrame) -> list[str]:
    """The hyperparameters of a frame of this module: the columns between `seed` and `lr_batch_ratio`.

    Columns added at the end, such as a derived metric, are therefore no axes.
    """
    columns = list(frame.columns)
    return columns[columns.index("seed") + 1 : columns.index("lr_batch_ratio")]


class Counted(NamedTuple):
    """The epochs that count, by trial and epoch."""

    epochs: Epochs
    """All of the log."""
    rows: NDArray[np.intp]
    """Those of them that count, (k,)."""
    of_trial: NDArray[np.intp]
    """The row of each one's trial in the frame, (k,)."""
    trials: int
    """How many trials there are."""

    def numbers(self, name: str) -> Array:
        """A column of numbers, (k,); NaN: not measured."""
        return self.epochs.numbers(name)[self.rows]

    def lasts(self, rows: NDArray[np.intp]) -> NDArray[np.intp]:
        """Of each trial the last of some of the k epochs; -1: it has none of them."""
        last = np.full(self.trials, -1)
        last[self.of_trial[rows]] = rows  # of several of one trial the last one stays
        return last


def _frames(log: Log) -> tuple[DataFrame, Counted]:
    """The frame of trials and the epochs that count, which are made once, and kept where the log has a shelf."""
    if "frames" not in log.made:
        kept = None if log.shelf is None else _kept_frames(log.shelf, log.epochs)
        log.made["frames"] = kept or _made_frames(log)
        if kept is None and log.shelf is not None:
            _keep_frames(log.shelf, *log.made["frames"])
    frames: tuple[DataFrame, Counted] = log.made["frames"]
    return frames


def _made_frames(log: Log) -> tuple[DataFrame, Counted]:
    history: History[TrialHistory] = History.of(log)
    known = [one for one in history.trials.values() if one.attempts or one.end or one.id in history.wanted]
    trials = sorted(measured_once(known), key=lambda trial: trial.number)
    identity = identity_columns(trials)
    instead, counted = superseded(trials, identity, history.wanted), _counted(history, log, trials)
    from analysis.frames.pareto import objectives_of, with_pareto  # which stands on cells, and these on this file
    from analysis.frames.strata import grid_axes

    frame = _trials_frame(trials, identity, instead, counted)
    return with_notes(with_pareto(frame, objectives_of(log), grid_axes(log)), log), counted


def _keep_frames(shelf: Shelf, frame: DataFrame, counted: Counted) -> None:
    shelf.keep_table(TRIALS, table_of(frame))
    shelf.keep_table(COUNTED, pa.table([counted.rows, counted.of_trial], names=["rows", "of_trial"]))


def _kept_frames(shelf: Shelf, epochs: Epochs) -> tuple[DataFrame, Counted] | None:
    trials, counted = shelf.table(TRIALS), shelf.table(COUNTED)
    if trials is None or counted is None:
        return None
    rows, of_trial = (column.to_numpy() for column in counted.columns)
    return frame_of(trials), Counted(epochs, rows, of_trial, len(trials))


def _counted(history: History[TrialHistory], log: Log, trials: Sequence[TrialHistory]) -> Counted:
    """The last line of each epoch; of a trial that ended of none beyond its outcome's, of one that is trained anew of
    none before."""
    place = {trial.id: number for number, trial in enumerate(trials)}
    order = np.array([place.get(name, -1) for name in history.trials], dtype=np.intp)
    until = np.array([*(trial.end["epochs"] if trial.ended else np.inf for trial in trials), np.nan], dtype=np.float64)
    newest = log.epochs.after(history.newest, [trial.taken_back for trial in history.trials.values()])
    of_trial = order[newest.trials]
    counts = log.epochs.numbers("epoch")[newest.rows] <= until[of_trial]
    rows, of_trial = newest.rows[counts], of_trial[counts]
    by_trial = np.argsort(of_trial, kind="stable")
    return Counted(log.epochs, rows[by_trial], of_trial[by_trial], len(trials))


def _epochs_frame(trials: DataFrame, counted: Counted) -> DataFrame:
    known = trials[["trial_id", "method", "seed", *axes(trials), "lr_batch_ratio", "outcome"]]
    names = [entry.name for entry in fields(EpochRecord) if entry.name not in ("trial_id", RIGHT)]
    measured = {name: _texts(counted, name) if name in TEXTS else counted.numbers(name) for name in names}
    whole = {name: np.nan_to_num(measured[name]).astype(np.int64) for name in ("epoch", "peak_memory_bytes")}
    return known.take(counted.of_trial).reset_index(drop=True).assign(**{**measured, **whole})


def _texts(counted: Counted, name: str) -> Any:
    codes, words = counted.epochs.texts(name)
    return Series(words).take(codes[counted.rows]).array if len(counted.rows) else []


def _trials_frame(
    trials: Sequence[TrialHistory], identity: Mapping[str, Any], instead: Mapping[str, str], counted: Counted
) -> DataFrame:
    epochs, metrics = counted.numbers("epoch"), {metric: counted.numbers(metric) for metric in METRICS}
    last, best = _last(counted, metrics), _best(counted, metrics["val_robust"])
    how = zip(trials, _engines(counted), strict=True)
    columns: dict[str, Any] = {
        "trial_id": identity["trial_id"],
        "outcome": [_state(trial, instead) for trial in trials],
        "reason": [_reason(trial, instead) for trial in trials],
        **identity,
        "epochs": [int(epoch) if epoch == epoch else 0 for epoch in _taken(epochs, counted.lasts(_all(epochs)))],
        "best_epoch": _taken(epochs, best),
        **{f"last_{metric}": _taken(values, last) for metric, values in metrics.items()},
        **{f"best_{metric}": _taken(values, best) for metric, values in metrics.items()},
        "seconds": _seconds(trials, counted),
        "memory_bytes": np.array([trial.end.get("memory_bytes") for trial in trials], dtype=np.float64),
        **{name: [trial.start.get(name) for trial in trials] for name in _PROVENANCE},
        "workers": [trial.start.get("workers", min(trial.attempts, 1)) for trial in trials],
        "arithmetic": [in_words(trial.start, engine) for trial, engine in how],
        "attempts": [trial.attempts for trial in trials],
        "from_trial": [trial.from_trial or "" for trial in trials],
        **pruned_columns(trials),
    }
    return DataFrame(columns)


def _state(trial: TrialHistory, instead: Mapping[str, str]) -> str:
    """The outcome's name, or what the lack of one, or of an epoch's record, means."""
    if trial.id in instead:
        return SUPERSEDED
    if trial.outcome is not None and (trial.finished or not trial.ended):
        return trial.outcome
    return "unfinished" if trial.attempts or trial.end else "never_started"


def _reason(trial: TrialHistory, instead: Mapping[str, str]) -> str:
    """Why it has its state, where a word does not say it."""
    if trial.id in instead:
        return f"trial {instead[trial.id]} has the same settings and seed, and counts in its place"
    if missing := trial.missing:
        epochs = ", ".join(map(str, missing[:10])) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
        return f"the record of epoch {epochs} is missing; the next launch runs the trial again"
    return trial.reason


def _all(values: NDArray[Any]) -> NDArray[np.intp]:
    return np.arange(len(values))


def _taken(values: Array, rows: NDArray[np.intp]) -> Array:
    """The values in some rows, NaN for row -1."""
    return np.append(values, np.nan)[rows]


def _last(counted: Counted, metrics: Mapping[str, Array]) -> NDArray[np.intp]:
    """Of each trial the last epoch at which a validation or test metric was measured, else its last one."""
    measured = np.any([~np.isnan(values) for name, values in metrics.items() if not name.startswith("train")], axis=0)
    evaluated = counted.lasts(np.flatnonzero(measured))
    return np.where(evaluated < 0, counted.lasts(_all(measured)), evaluated)


def _best(counted: Counted, accuracies: Array) -> NDArray[np.intp]:
    """Of each trial the earliest epoch of the highest validation accuracy."""
    rows = np.flatnonzero(~np.isnan(accuracies))
    return counted.lasts(rows[np.lexsort((-rows, accuracies[rows]))])


def _seconds(trials: Sequence[TrialHistory], counted: Counted) -> list[float]:
    """All that each trial took in the epochs that count, and of measuring its dynamics."""
    totals = np.bincount(counted.of_trial, counted.epochs.spent()[counted.rows], len(trials)).tolist()
    epochs = np.bincount(counted.of_trial, minlength=len(trials)).tolist()
    each = zip(trials, totals, epochs, strict=True)
    return [(total if n else 0) + sum(trial.measured.values()) for trial, total, n in each]


def _engines(counted: Counted) -> list[str]:
    """Of each trial's epochs the engines, in their order; empty where none is known."""
    codes, words = counted.epochs.texts("engine")
    pairs = counted.of_trial * len(words) + codes[counted.rows]
    names: list[list[str]] = [[] for _ in range(counted.trials)]
    for place in np.sort(np.unique(pairs, return_index=True)[1]).tolist():
        names[pairs[place] // len(words)] += filter(None, [words[pairs[place] % len(words)]])
    return [", then ".join(each) for each in names]
