"""records.jsonl -> two data frames: a row a trial, a row an epoch."""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame

from analysis.frames.arithmetic import in_words
from analysis.frames.names import KEYS, PARTS, Slots
from trainers.config import TrialConfig, leaves
from trainers.record import FINISHED, METRICS, EpochRecord, finished, read, spent

#: The axes every frame has, swept or not.
BASE_AXES: tuple[str, ...] = ("model.name", "optimizer.name", "optimizer.lr", "batch_size")

#: Whatever else is compared, trials that differ here were measured differently: on other images, by another attack.
CONDITIONS = ("data.", "evaluation.")

#: But these say only what of those images is trained on.
_TRAINED_ON = ("data.augment", "data.padding")

#: The outcome of a finished trial in whose place another one of the same cell and seed counts.
SUPERSEDED = "superseded"

#: Never an axis: the replicate, a name for other keys' values, what of the evaluation leaves a metric's meaning alone,
#: and what is only measured.
_NO_AXES = ("seed", "preset", "evaluation.splits", "evaluation.batch_size", "evaluation.every", "dynamics.")

#: Their published values depend on the method, and so are part of it.
_OF_METHOD = ("attack.start", "batch_norm_data", "clean_passes")

#: What every method of an optimizer reads: told apart within it, though another optimizer's published value differs.
_OF_OPTIMIZER = tuple(f"optimizer.{key}" for key in ("weight_decay", "momentum", "nesterov", "decoupled_weight_decay"))

#: What a trial's identity lacks where its choice (a schedule, no attack, no decay) does not read it.
_READ_BY_SOME = ("schedule.", "averaging.", "attack.", "dynamics.", "optimizer.decoupled_weight_decay")

#: Among these, and lacking where it is the default.
_LEFT_OUT_AT_DEFAULT = ("schedule.warmup_epochs",)

#: Where and with what code a trial last ran.
_PROVENANCE = ("host", "device", "code_version")

_EPOCH_FIELDS = {entry.name: entry.type == "str" for entry in fields(EpochRecord) if entry.name != "trial_id"}
"""Of an epoch's record: whether each is text; the others are numbers."""


@dataclass
class _Trial:
    """One trial as the lines read so far tell it."""

    trial_id: str
    number: int
    config: Mapping[str, Any]
    seed: int
    point: dict[str, Any] = field(default_factory=dict)
    epochs: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    measuring: dict[int, float] = field(default_factory=dict)
    """Seconds that measuring the dynamics took, by epoch."""
    attempts: int = 0
    start: Mapping[str, Any] = field(default_factory=dict)
    outcome: Mapping[str, Any] = field(default_factory=dict)
    """The last outcome line; empty again once a later start follows it."""
    began: int = 0
    """The place of its last start among the records."""
    counts_instead: str = ""
    """The trial of its cell and seed that counts in its place, if one does."""

    @property
    def state(self) -> str:
        """The outcome's name, or what the lack of one, or of an epoch's record, means."""
        if self.counts_instead:
            return SUPERSEDED
        if self.missing:
            return "unfinished"
        return str(self.outcome.get("outcome", "unfinished" if self.attempts else "never_started"))

    @property
    def reason(self) -> str:
        """Why it has its state, where a word does not say it."""
        if self.counts_instead:
            return f"trial {self.counts_instead} has the same settings and seed, and counts in its place"
        if self.missing:
            epochs = ", ".join(map(str, self.missing))
            return f"the record of epoch {epochs} is missing; the next launch runs the trial again"
        return str(self.outcome.get("reason", ""))

    @property
    def missing(self) -> list[int]:
        """Of a trial that ended, the epochs without a record."""
        if self.outcome.get("outcome") not in FINISHED or finished(self.outcome, self.epochs):
            return []
        return [epoch for epoch in range(1, self.outcome["epochs"] + 1) if epoch not in self.epochs]

    def add(self, record: Mapping[str, Any]) -> None:
        """Takes in one start, epoch or outcome line."""
        match record["record"]:
            case "epoch":
                self.epochs[record["epoch"]] = record
            case "dynamics":
                self.measuring[record["epoch"]] = record["seconds"]
            case "start":
                self.attempts, self.start, self.outcome = self.attempts + 1, record, {}
            case "outcome":
                self.outcome = record

    def counted(self) -> list[Mapping[str, Any]]:
        """The epochs that count, in order: of a finished trial, none beyond its outcome's."""
        ended = self.outcome.get("outcome") in FINISHED
        last = self.outcome["epochs"] if ended else max(self.epochs, default=0)
        return [self.epochs[epoch] for epoch in sorted(self.epochs) if epoch <= last]


def load_trials(directory: str | Path) -> DataFrame:
    """One row a trial, in the order planned.

    The last line of an epoch counts; of a finished trial no epoch beyond its outcome's counts. A trial without
    outcome is `unfinished`: began, and its launch was killed or still runs; or `never_started`, which is left
    out if the last launch no longer wants it. One that ended and lacks an epoch's record is `unfinished` too
    (`trainers.record.finished`).

    A cell's seed counts once. Where several finished trials have the same axes and seed, trained by code whose ids
    differ, or evaluated at another pace, those that the last launch wants count before others, and then the one that
    began last; the rest are `superseded`.

    Trials of several base configs in one directory are told apart: a key of the config in which any two trials
    differ (epochs, the data) is an axis too, though no config's space names it. What belongs to a method is
    one only if it differs within the method: `_OF_METHOD`, and a key within a slot's part
    (`analysis.frames.names.PARTS`); or, of weight decay and momentum, among the methods of one optimizer. Which splits
    are evaluated, how often, and how many images at a time is never one.

    Args:
        directory: a run, as given to `sweep launch --out`.

    Measuring the dynamics gives a trial another id and the same numbers: of completed ones that differ in that alone
    one is listed, which was measured.

    Returns:
        trial_id, outcome, reason; method, the name of the choice in the slots (`analysis.frames.names.Slots.method`;
        a record that lacks a slot's key was trained with the slot's default); seed; the axes: `BASE_AXES`, then
        the points' keys in the order first seen, then such keys of the config, NaN where one does not apply to
        the trial's method (objective.beta of PGD-AT, or optimizer.k1 of SGD), a list as its JSON text,
        `epochs` as planned_epochs; lr_batch_ratio (1/image); epochs done; best_epoch, by val_robust, the earliest of
        equals; last_<metric> at the last evaluated epoch and best_<metric> at best_epoch, NaN where not
        measured; seconds of training, compiling, evaluation, checkpoints and measuring the dynamics; host, device,
        code_version of the last start; arithmetic, on what its last bits depend besides
        (`trainers.provenance.arithmetic`), none where older code wrote the start; attempts.
        Units are in `UNITS`.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return trials_of(read(directory))


def trials_of(records: Iterable[Mapping[str, Any]]) -> DataFrame:
    """`load_trials` of records that are at hand, of one run or of no run at all.

    Args:
        records: as `trainers.record.read` gives them, in the order written.
    """
    return _trials_frame(*_told(records))


def load_epochs(directory: str | Path) -> DataFrame:
    """One row an epoch that counts, sorted by the trial's number and the epoch.

    Returns:
        trial_id, method, seed, the axes and lr_batch_ratio as in `load_trials`, outcome, then the columns of
        `trainers.record.EpochRecord`; NaN: not measured.

    Raises:
        UserError: the directory is not a run, or a line is damaged.
    """
    return epochs_of(read(directory))


def epochs_of(records: Iterable[Mapping[str, Any]]) -> DataFrame:
    """`load_epochs` of records that are at hand.

    Args:
        records: as for `trials_of`.
    """
    trials, identity = _told(records)
    counted = [trial.counted() for trial in trials]
    rows = np.repeat(np.arange(len(trials)), [len(epochs) for epochs in counted])
    known = DataFrame(identity | {"outcome": [trial.state for trial in trials]})
    records = [record for epochs in counted for record in epochs]
    measured: dict[str, Any] = {
        name: [record.get(name, "") for record in records] if text else _numbers(record.get(name) for record in records)
        for name, text in _EPOCH_FIELDS.items()
    }
    whole = {name: measured[name].astype(np.int64) for name in ("epoch", "peak_memory_bytes")}
    repeated = known.take(rows).reset_index(drop=True)
    return repeated.assign(**{**measured, **whole})


def axes(frame: DataFrame) -> list[str]:
    """The hyperparameters of a frame of this module: the columns between `seed` and `lr_batch_ratio`.

    Columns added at the end, such as a derived metric, are therefore no axes.
    """
    columns = list(frame.columns)
    return columns[columns.index("seed") + 1 : columns.index("lr_batch_ratio")]


def is_condition(axis: str) -> bool:
    """Whether accuracies of trials that differ on the axis are not comparable: other images, another attack."""
    return axis.startswith(CONDITIONS) and axis not in _TRAINED_ON


def _told(records: Iterable[Mapping[str, Any]]) -> tuple[list[_Trial], dict[str, Any]]:
    """The trials that the records tell of, in the order planned, and their identity columns."""
    trials: dict[str, _Trial] = {}
    wanted: set[str] = set()
    for place, record in enumerate(records):
        if record["record"] == "launch":
            wanted = set(record["wanted"])
        elif record["record"] == "trial":
            _plan(trials, record)
            wanted.add(record["trial_id"])
        elif (trial := trials.get(record.get("trial_id", ""))) is not None:
            trial.add(record)
            trial.began = place if record["record"] == "start" else trial.began
    listed = [t for t in trials.values() if t.state != "never_started" or t.trial_id in wanted]
    told = sorted(_once(listed), key=lambda trial: trial.number)
    identity = _identity_columns(told)
    _supersede(told, identity, wanted)
    return told, identity


def _once(trials: Sequence[_Trial]) -> list[_Trial]:
    """The trials without those of which another completed one is the same but for what was measured of its dynamics.

    Of several that were measured the last planned stays.
    """
    measured = {_training(t): t.trial_id for t in trials if "dynamics" in t.config and t.state == "completed"}
    if not measured:
        return list(trials)
    return [t for t in trials if t.state != "completed" or measured.get(_training(t), t.trial_id) == t.trial_id]


def _supersede(trials: Sequence[_Trial], identity: Mapping[str, Any], wanted: Container[str]) -> None:
    """Marks finished trials in whose cell another one of the same seed counts; see `load_trials`."""
    twins: dict[tuple[Any, ...], list[_Trial]] = defaultdict(list)
    for trial, *cell in zip(trials, *(identity[key] for key in identity if key != "trial_id"), strict=True):
        if trial.state in FINISHED:
            twins[tuple(value if value == value else None for value in cell)].append(trial)
    for same in twins.values():
        newest = max(same, key=lambda trial: (trial.trial_id in wanted, trial.began))
        for trial in same:
            trial.counts_instead = newest.trial_id if trial is not newest else ""


def _training(trial: _Trial) -> str:
    """What decides the numbers of its training."""
    config = {key: value for key, value in trial.config.items() if key != "dynamics"}
    return json.dumps([config, trial.seed], sort_keys=True)


def _plan(trials: dict[str, _Trial], record: Mapping[str, Any]) -> None:
    """A trial planned again, by a launch with more axes, keeps its number and gains those axes."""
    name = record["trial_id"]
    fresh = _Trial(name, record["number"], record["config"], record["seed"])
    trials.setdefault(name, fresh).point.update(record["point"])


def _trials_frame(trials: Sequence[_Trial], identity: Mapping[str, Any]) -> DataFrame:
    counted = [trial.counted() for trial in trials]
    last = [_last(epochs) for epochs in counted]
    best = [_best(epochs) for epochs in counted]
    columns: dict[str, Any] = {
        "trial_id": identity["trial_id"],
        "outcome": [trial.state for trial in trials],
        "reason": [trial.reason for trial in trials],
        **identity,
        "epochs": [epochs[-1]["epoch"] if epochs else 0 for epochs in counted],
        "best_epoch": _numbers(record.get("epoch") for record in best),
        **{f"last_{metric}": _numbers(record.get(metric) for record in last) for metric in METRICS},
        **{f"best_{metric}": _numbers(record.get(metric) for record in best) for metric in METRICS},
        "seconds": [
            sum(map(spent, epochs)) + sum(trial.measuring.values())
            for trial, epochs in zip(trials, counted, strict=True)
        ],
        **{name: [trial.start.get(name) for trial in trials] for name in _PROVENANCE},
        "arithmetic": [in_words(trial.start.get("arithmetic"), _engine(trial)) for trial in trials],
        "attempts": [trial.attempts for trial in trials],
    }
    return DataFrame(columns)


def _engine(trial: _Trial) -> str:
    """Of its epochs, in their order; empty where none is known."""
    return ", then ".join(dict.fromkeys(engine for epoch in trial.counted() if (engine := epoch.get("engine"))))


def _identity_columns(trials: Sequence[_Trial]) -> dict[str, Any]:
    """trial_id, method, seed, the axes and lr_batch_ratio: what both frames start from."""
    slots = [_slots(trial.config) for trial in trials]
    values = _axis_values(trials, slots)
    return {
        "trial_id": [trial.trial_id for trial in trials],
        "method": [choice.method for choice in slots],
        "seed": [trial.seed for trial in trials],
        **{"planned_epochs" if key == "epochs" else key: column for key, column in values.items()},
        "lr_batch_ratio": _numbers(values["optimizer.lr"]) / _numbers(values["batch_size"]),
    }


def _slots(config: Mapping[str, Any]) -> Slots:
    """The trial's choice; PGD-AT without attack steps is natural training, as in `trainers.identity`."""
    found = {name: at(config, key) for name, key in zip(Slots._fields, KEYS, strict=True)}
    choice = Slots(**{name: value for name, value in found.items() if value == value and value is not None})
    unattacked = choice.objective == "pgd_at" and at(config, "attack.steps") == 0
    return choice._replace(objective="natural") if unattacked else choice


def _axis_values(trials: Sequence[_Trial], slots: Sequence[Slots]) -> dict[str, list[Any]]:
    """Each axis with its value in every trial, NaN in those whose method it does not apply to.

    Within a slot's part, an axis of the points applies to the methods that have it there, though the config of
    another holds the key too; so does a key that varies within a method. Any other key that varies (epochs,
    the data) applies to all trials.
    """
    methods = [choice.method for choice in slots]
    points = dict.fromkeys(key for trial in trials for key in trial.point)
    written = dict.fromkeys(key for trial in trials for key in leaves(trial.config))
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys([*BASE_AXES, *points, *written]):
        values = _with_defaults(key, _values(trials, slots, key), slots)
        own = {name for name, trial in zip(methods, trials, strict=True) if key in trial.point}
        own |= _in_which_several(values, methods)
        if key in _OF_OPTIMIZER:
            optimizers = _in_which_several(values, [choice.optimizer for choice in slots])
            own |= {choice.method for choice in slots if choice.optimizer in optimizers}
        everywhere = key in (*BASE_AXES, *KEYS) or not key.startswith(PARTS)
        varies = everywhere and key not in _OF_METHOD and bool(_in_which_several(values, [""] * len(values)))
        if key in BASE_AXES or ((own or varies) and not key.startswith(_NO_AXES)):
            pairs = zip(methods, values, strict=True)
            shown = [value if everywhere or name in own else np.nan for name, value in pairs]
            columns[key] = [np.nan if value is None else value for value in shown]
    return columns


def _with_defaults(key: str, values: Sequence[Any], slots: Sequence[Slots]) -> list[Any]:
    """The values, with what a trial that lacks the key did where another one of its method has it.

    That is its method's default, or what code before the key did, where that was another (`_before`). So a trial of
    code that did not know the key yet, or leaves it out of the identity at its default, is in one cell with those that
    did the same, and in no other.
    """
    read_by_all = key in _LEFT_OUT_AT_DEFAULT or not key.startswith(_READ_BY_SOME)
    if not read_by_all or all(value == value for value in values):
        return list(values)
    have = {choice for choice, value in zip(slots, values, strict=True) if value == value}
    pairs = zip(slots, values, strict=True)
    return [_before(choice, key) if value != value and choice in have else value for choice, value in pairs]


def _before(choice: Slots, key: str) -> Any:
    """What code that does not know the key did: batch norm's statistics came from the update's own passes alone."""
    if choice.objective == "pgd_at" and not choice.s2o and key == "batch_norm_data":
        return "adversarial"
    if choice.objective == "trades" and not choice.s2o and key == "clean_passes":
        return 1
    return True if key == "objective.s2o.in_awp" else at(_defaults(choice), key)


@functools.cache
def _defaults(slots: Slots) -> dict[str, Any]:
    """What a config means that says nothing but the choice in the slots."""
    objective = {"name": slots.objective, "s2o": {"enabled": slots.s2o}}
    chosen = {"objective": objective, "weights": {"name": slots.weights}, "optimizer": {"name": slots.optimizer}}
    try:
        config = TrialConfig.model_validate(chosen)
    except ValueError:  # a choice that this code does not have
        config = TrialConfig()
    return config.resolved().model_dump(mode="json")


def _values(trials: Sequence[_Trial], slots: Sequence[Slots], key: str) -> list[Any]:
    if key in KEYS:
        return [choice[KEYS.index(key)] for choice in slots]
    return [at(trial.config, key) for trial in trials]


def _in_which_several(values: Sequence[Any], groups: Sequence[str]) -> set[str]:
    """The groups (methods, or optimizers) whose trials differ in the value; NaN is no value, `none` is one."""
    different = {(name, value) for name, value in zip(groups, values, strict=True) if value == value}
    counts = Counter(name for name, _ in different)
    return {name for name, n in counts.items() if n > 1}


def at(config: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key, NaN if the key is not there, JSON text if it is a list or a mapping."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part, np.nan) if isinstance(value, Mapping) else np.nan
    return json.dumps(value) if isinstance(value, list | dict) else value


def _last(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """The last epoch at which a validation or test metric was measured, else the last epoch."""
    names = [metric for metric in METRICS if not metric.startswith("train")]
    evaluated = [epoch for epoch in epochs if any(epoch.get(name) is not None for name in names)]
    return (evaluated or epochs or [{}])[-1]


def _best(epochs: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    candidates = [record for record in epochs if record.get("val_robust") is not None]
    best: Mapping[str, Any] = max(candidates, key=lambda record: float(record["val_robust"]), default={})
    return best


def _numbers(values: Any) -> NDArray[np.float64]:
    """Floats, with None as NaN."""
    return np.array(list(values), dtype=np.float64)
