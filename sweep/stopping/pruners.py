"""Optuna's pruners as a stopping rule: a study in memory for each stratum, which holds intermediate values alone.

Optuna prunes in no study of several objectives, and no trial that it has not given out: these studies have one metric,
and trials of any search, grid too. They are never on a disk: the records, read again, bring them to where they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.stopping.config import StoppingConfig
from sweep.stopping.decisions import Decision
from sweep.stopping.strata import stratum
from trainers.errors import UserError
from trainers.record import begins_anew

if TYPE_CHECKING:
    import optuna
    from optuna.pruners import BasePruner
    from optuna.trial import FrozenTrial


class Epochs(NamedTuple):
    """Of the trials of a sweep."""

    longest: int
    """Of the longest one."""
    every: int = 1
    """How many apart a trial is evaluated, at most."""


class Place(NamedTuple):
    """Where a trial stands among those that it was compared with: see `trainers.record.PrunedRecord`."""

    rung: int | None
    rank: int
    of: int


class Pruners:
    """A rule that compares trials of a stratum at the same epoch.

    It is asked at each epoch that has the metric. At a trial's last epoch it is told and not heard: the trial is whole.
    An epoch that comes again with the value that it had changes nothing. With another value it was trained again: then
    it and the trial's later ones are forgotten, and the new value comes as if it were the first; decisions stay. Of a
    trial that begins anew, as by `sweep rerun`, all is forgotten.
    """

    def __init__(self, config: StoppingConfig, metric: str, epochs: Epochs, axes: Sequence[str] = ()) -> None:
        """Knows no trial yet.

        Args:
            config: the rule.
            metric: by which it compares.
            epochs: of the sweep's trials.
            axes: trials that differ in the value of one of these are not compared.
        """
        self._name, self._metric = config.name, metric
        self._axes = () if config.across else axes
        self._pruner = partial(pruner, config, epochs)
        self._strata: dict[str, _Stratum] = {}
        self._of: dict[str, tuple[_Stratum, int]] = {}

    def add(self, record: Mapping[str, Any]) -> Iterable[Decision]:
        """As of `sweep.stopping.decisions.Rule`."""
        name = record["trial_id"]
        if record["record"] == "trial":
            key = stratum(record, self._axes)
            if key not in self._strata:
                self._strata[key] = _Stratum(key, self._pruner, not self._metric.endswith("loss"))
            self._of[name] = (self._strata[key], record["config"]["epochs"])
            return
        compared, wanted = self._of[name]
        value = record.get(self._metric)
        if record["record"] == "outcome" and record["outcome"] == "completed":
            compared.complete(name)
        elif record["record"] == "outcome" and begins_anew(record):
            compared.forget(name)
        elif record["record"] == "epoch" and value is not None:
            place = compared.add(name, record["epoch"], value)
            if place is not None and record["epoch"] < wanted:
                yield Decision(name, record["epoch"], self._name, *place)


def options_of(config: StoppingConfig, epochs: Epochs) -> dict[str, Any]:
    """A rule's options as Optuna's pruner takes them, none left to be estimated from completed trials.

    Raises:
        UserError: max_resource is before the first rung as it was worked out: Optuna would have no bracket.
    """
    options = config.options
    least = max(epochs.longest // 100, 1, epochs.every)
    known = {"min_resource": least, "max_resource": max(epochs.longest, options.get("min_resource") or least)}
    most = options.get("max_resource")
    if most is not None and most < (options["min_resource"] or least):
        raise UserError(
            f"stopping.max_resource: must be at least the epochs of the first rung, {least}, got {most}; raise it, or "
            f"set stopping.min_resource={most}"
        )
    return {key: known[key] if value is None else value for key, value in options.items()}


def pruner(config: StoppingConfig, epochs: Epochs) -> BasePruner:
    """Optuna's pruner of a rule."""
    import optuna

    classes: dict[str, Any] = {
        "asha": optuna.pruners.SuccessiveHalvingPruner,
        "hyperband": optuna.pruners.HyperbandPruner,
        "median": optuna.pruners.MedianPruner,
        "percentile": optuna.pruners.PercentilePruner,
    }
    made: BasePruner = classes[config.name](**options_of(config, epochs))
    return made


@dataclass
class _Stratum:
    """The trials that are compared with each other, as Optuna sees them."""

    name: str
    pruner: Any
    """Makes Optuna's pruner."""
    more_is_better: bool
    values: dict[str, dict[int, float]] = field(default_factory=dict)
    """By trial, in the order in which they came first, what it had at each epoch."""
    completed: dict[str, None] = field(default_factory=dict)
    told: list[tuple[str, int]] = field(default_factory=list)
    """Trials and epochs in the order in which they came."""

    def __post_init__(self) -> None:
        """Begins the study."""
        self._begin()

    def _begin(self) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        direction = "maximize" if self.more_is_better else "minimize"
        sampler = optuna.samplers.RandomSampler(seed=0)  # is never asked for a value
        made = {"study_name": self.name, "pruner": self.pruner(), "sampler": sampler}  # the name: see HyperbandPruner
        self._study = optuna.create_study(direction=direction, **made)  # type: ignore[arg-type]
        self._trials: dict[str, optuna.Trial] = {}
        self._stale = False

    def add(self, trial: str, epoch: int, value: float) -> Place | None:
        """Takes in a trial's value at an epoch; its place where it ends there."""
        known = self.values.setdefault(trial, {})
        if known.get(epoch) == value or trial in self.completed:
            return None
        if epoch <= max(known, default=0):
            self.forget(trial, epoch)
        if self._stale:
            self._rebuild()
        self.values[trial][epoch] = value
        self.told.append((trial, epoch))
        return self._place(trial, epoch) if self._tell(trial, epoch) else None

    def complete(self, trial: str) -> None:
        """A trial has all its epochs: rules that compare with completed trials do so with it."""
        if self.values.get(trial) and trial not in self.completed:
            self.completed[trial] = None
            if not self._stale:
                self._end(trial)

    def _tell(self, trial: str, epoch: int) -> bool:
        if trial not in self._trials:
            self._trials[trial] = self._study.ask()
        self._trials[trial].report(self.values[trial][epoch], epoch)
        return bool(self._trials[trial].should_prune())  # also where nobody heeds it: it is then that rungs are kept

    def _end(self, trial: str) -> None:
        self._study.tell(self._trials[trial], self.values[trial][max(self.values[trial])])

    def forget(self, trial: str, epoch: int = 0) -> None:
        """As if a trial had not come to an epoch yet; each keeps its number, and with it its bracket."""
        if trial in self.values:
            self.completed.pop(trial, None)
            self.values[trial] = {number: value for number, value in self.values[trial].items() if number < epoch}
            self.told = [(name, number) for name, number in self.told if name != trial or number < epoch]
            self._stale = True

    def _rebuild(self) -> None:
        """The study of what was told and is not forgotten: once for all that was forgotten since the last value."""
        self._begin()
        self._trials = {name: self._study.ask() for name in self.values}
        for name, number in self.told:
            self._tell(name, number)
        for name in self.completed:
            self._end(name)

    def _place(self, trial: str, epoch: int) -> Place:
        """Of a trial that ends at an epoch."""
        own = self._study.get_trials(deepcopy=False)[self._trials[trial].number]
        rungs = [key for key in own.system_attrs if key.startswith(_RUNG)]
        if rungs:
            rung, value = max(int(key.removeprefix(_RUNG)) for key in rungs), own.system_attrs
            key = f"{_RUNG}{rung}"
            values = [one.system_attrs[key] for one in self._beside(own) if key in one.system_attrs]
            return Place(rung + 1, self._rank(value[key], values), len(values))
        best = (max if self.more_is_better else min)(own.intermediate_values.values())
        others = [self.values[name][epoch] for name in self.completed if epoch in self.values[name]]
        return Place(None, self._rank(best, others), len(others) + 1)

    def _rank(self, value: float, values: Iterable[float]) -> int:
        return 1 + sum(one > value if self.more_is_better else one < value for one in values)

    def _beside(self, own: FrozenTrial) -> list[FrozenTrial]:
        """The trials whose rungs are this one's: of Hyperband those of its bracket."""
        trials = self._study.get_trials(deepcopy=False)
        bracket = getattr(self._study.pruner, "_get_bracket_id", None)  # Optuna tells it in no other way
        if bracket is None:
            return trials
        return [one for one in trials if bracket(self._study, one) == bracket(self._study, own)]


#: How Optuna keeps that a trial has come to a rung, and with which value.
_RUNG = "completed_rung_"
