"""Racing over seeds: a point whose first seeds are clearly worse than another's gets no more of them.

A table for each stratum, a row a point and a column a seed, filled in the order in which trials end. Each new value is
shown to a rule, which names the points that are dropped: so decisions are a function of the results in their order, and
a relaunch that replays them comes to the same ones.

A diverged seed counts as the worst there is: accuracy 0, or the largest loss of the stratum. One that failed, ran out
of memory or was cancelled says nothing, and its point is compared over its others.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sweep.stopping.decisions import Decision
from sweep.stopping.race_config import RaceConfig
from trainers.fields import number_text, plural
from trainers.record import begins_anew

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Dropped(NamedTuple):
    """A point that gets no more seeds."""

    trials: tuple[str, ...]
    """Ids, of all its seeds."""
    reason: str
    """In words."""


@dataclass(frozen=True)
class Racer:
    """A point of the space."""

    label: str
    """In words."""
    trials: dict[int, str]
    """Seed -> id of the trial."""


@dataclass
class Stratum:
    """The points that race against each other."""

    seeds: Sequence[int]
    points: int
    """How many there will be, as far as known beforehand."""
    worst: float = -math.inf
    """The value of a diverged trial, larger being better; infinite: the worst of those that there are."""
    racers: list[Racer] = field(default_factory=list)
    dropped: dict[int, str] = field(default_factory=dict)
    """Rows that get no more seeds, and why."""
    diverged: set[int] = field(default_factory=set)
    """Rows of which a seed has."""
    _rows: list[list[float]] = field(default_factory=list)

    def enter(self, racer: Racer) -> int:
        """One more point; returns its row."""
        self.racers.append(racer)
        self._rows.append([math.nan] * len(self.seeds))
        return len(self.racers) - 1

    def put(self, row: int, seed: int, value: float | None) -> None:
        """A seed's value, larger being better; None: it diverged; NaN: it has none any more."""
        self._rows[row][self.seeds.index(seed)] = -math.inf if value is None else value
        (self.diverged.add if -math.inf in self._rows[row] else self.diverged.discard)(row)

    def values(self) -> NDArray[np.float64]:
        """(points, seeds), larger is better; NaN: not known."""
        import numpy as np

        table = np.array(self._rows)
        finite = table[np.isfinite(table)]
        worst = self.worst if math.isfinite(self.worst) else finite.min() if finite.size else math.nan
        return np.where(np.isneginf(table), worst, table)


class Rule(Protocol):
    """What names the points that are dropped."""

    @property
    def name(self) -> str:
        """As `by` in the records."""

    def worse(self, stratum: Stratum, row: int) -> Iterator[tuple[int, str]]:
        """Rows that are dropped now that one of them has one more value, and why.

        Args:
            stratum: whose points race.
            row: that has one more value.
        """


@dataclass(frozen=True)
class Evidence:
    """`race`: an e-process for each pair of points, see `sweep.stopping.seed_race`."""

    config: RaceConfig
    metric: str
    name: str = "race"

    def worse(self, stratum: Stratum, row: int) -> Iterator[tuple[int, str]]:
        """Any point of the stratum against which another has evidence enough now."""
        import numpy as np

        from sweep.stopping.seed_race import clearly_worse

        rows = range(len(stratum.racers))
        if (others := max(stratum.points, len(rows)) - 1) < 1:
            return
        values = stratum.values()
        racing = np.isnan(values).any(axis=1) & np.array([number not in stratum.dropped for number in rows])
        odd = np.array([number in stratum.diverged for number in rows])
        alpha, least, margin = self.config.alpha, self.config.min_seeds, self.config.margin
        more = f" by more than {margin:g}" if margin else ""
        for one in clearly_worse(values, odd, racing, alpha=alpha / others, least=least, margin=margin):
            yield (
                one.row,
                f"{self.metric} is {one.gap:.4g} worse than of {stratum.racers[one.better].label} over the {one.seeds} "
                f"seeds of both, standard error {one.error:.2g}: {one.evidence:.3g} to 1 that it is worse{more}, of "
                f"{others / alpha:.4g} needed (alpha {alpha:g}, {plural(others, 'other point')})",
            )


@dataclass(frozen=True)
class Wilcoxon:
    """Optuna's WilcoxonPruner: a point is asked after each of its seeds, against the best one that has all of them."""

    p_threshold: float
    n_startup_steps: int
    metric: str
    name: str = "wilcoxon"

    def worse(self, stratum: Stratum, row: int) -> Iterator[tuple[int, str]]:
        """The point itself, where Optuna would prune it."""
        import numpy as np

        values = stratum.values()
        whole = [n for n, point in enumerate(values) if n not in stratum.dropped and not np.isnan(point).any()]
        best = max(whole, key=lambda n: float(values[n].mean()), default=row)
        if row in stratum.dropped or best == row or not self._prunes(values[row], values[best]):
            return
        seeds = int((~np.isnan(values[row])).sum())
        yield (
            row,
            f"{self.metric} is {np.nanmean(values[best] - values[row]):.4g} worse than of "
            f"{stratum.racers[best].label}, the best that has all seeds, over the {seeds} seeds of both: p of "
            f"Wilcoxon's signed-rank test is below {self.p_threshold:g}",
        )

    def _prunes(self, values: NDArray[np.float64], best: NDArray[np.float64]) -> bool:
        """What Optuna says, told of the two as a finished trial and one that runs."""
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            pruner = optuna.pruners.WilcoxonPruner(p_threshold=self.p_threshold, n_startup_steps=self.n_startup_steps)
        study = optuna.create_study(direction="maximize", pruner=pruner)
        study.add_trial(optuna.trial.create_trial(value=float(best.mean()), intermediate_values=_steps(best)))
        asked = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING, intermediate_values=_steps(values))
        return bool(pruner.prune(study, asked))


def _steps(values: NDArray[np.float64]) -> dict[int, float]:
    return {step: float(value) for step, value in enumerate(values) if not math.isnan(value)}


class Race:
    """All strata of a sweep; a `sweep.stopping.decisions.Rule`, which learns of its points from the records too."""

    def __init__(
        self,
        rule: Rule,
        seeds: Sequence[int],
        mode: str,
        *,
        metric: str = "",
        axes: Iterable[str] = (),
        points: int = 0,
    ) -> None:
        """No point is known yet.

        Args:
            rule: that drops points.
            seeds: of each point, in their order.
            mode: of the metric: max or min.
            metric: that is compared, at the last epoch.
            axes: points that differ in one of them are of different strata.
            points: that each stratum will have, where their trials are not known beforehand.
        """
        self.rule, self._seeds, self._points = rule, seeds, points
        self._metric, self._axes = metric, tuple(axes)
        self._sign, self._worst = (1, 0.0) if mode == "max" else (-1, -math.inf)
        self._strata: dict[str, Stratum] = {}
        self._points_at: dict[str, tuple[Stratum, int]] = {}
        self._at: dict[str, tuple[Stratum, int, int]] = {}
        self._last: dict[str, float | None] = {}
        self._begun: set[str] = set()

    def add(self, record: Mapping[str, Any]) -> Iterator[Decision]:
        """Takes in the next record; the trials that get no start by it."""
        trial_id = record["trial_id"]
        match record["record"]:
            case "trial":
                self._enter(record)
                yield from self._decisions([trial_id], self.reason(trial_id))
            case "start":
                self._begun.add(trial_id)
            case "epoch":
                self._last[trial_id] = record.get(self._metric)
            case "outcome" if begins_anew(record):
                self._forget(trial_id)
            case "outcome" if record["outcome"] in ("completed", "diverged"):
                diverged, value = record["outcome"] == "diverged", self._last.get(trial_id)
                for dropped in (
                    self.ended(trial_id, None if diverged else value) if diverged or value is not None else ()
                ):
                    yield from self._decisions(dropped.trials, dropped.reason)

    def _forget(self, trial_id: str) -> None:
        """A trial has no value any more, as by `sweep rerun`; what was decided stays."""
        if trial_id in self._at:
            stratum, row, seed = self._at[trial_id]
            stratum.put(row, seed, math.nan)
        self._last.pop(trial_id, None)

    def _decisions(self, trials: Iterable[str], reason: str | None) -> Iterator[Decision]:
        if reason is not None:
            yield from (Decision(name, 0, self.rule.name, why=reason) for name in trials if name not in self._begun)

    def _enter(self, record: Mapping[str, Any]) -> None:
        """A trial that is planned: of a point that is known, or of a new one."""
        if record["seed"] not in self._seeds:
            return
        point = json.dumps({key: value for key, value in record["config"].items() if key != "seed"}, sort_keys=True)
        if point not in self._points_at:
            stratum = json.dumps({key: record["point"].get(key) for key in self._axes}, sort_keys=True)
            self._points_at[point] = self._new(stratum, Racer(_label(record["point"]), {}))
        among, row = self._points_at[point]
        among.racers[row].trials.setdefault(record["seed"], record["trial_id"])
        self._at.setdefault(record["trial_id"], (among, row, record["seed"]))

    def _new(self, stratum: str, racer: Racer) -> tuple[Stratum, int]:
        among = self._strata.setdefault(stratum, Stratum(self._seeds, self._points, self._worst))
        return among, among.enter(racer)

    def enter(self, stratum: str, racer: Racer) -> None:
        """One more point of a stratum."""
        among, row = self._new(stratum, racer)
        self._at |= {name: (among, row, seed) for seed, name in racer.trials.items()}

    def ended(self, trial_id: str, value: float | None) -> list[Dropped]:
        """A trial has, with a value, None: it diverged; gives the points that are dropped now."""
        if trial_id not in self._at:
            return []
        stratum, row, seed = self._at[trial_id]
        stratum.put(row, seed, None if value is None else self._sign * value)
        worse = list(self.rule.worse(stratum, row))
        stratum.dropped |= dict(worse)
        return [Dropped(tuple(stratum.racers[number].trials.values()), reason) for number, reason in worse]

    def reason(self, trial_id: str) -> str | None:
        """Why a trial's point gets no more seeds; None: it does."""
        if trial_id not in self._at:
            return None
        stratum, row, _ = self._at[trial_id]
        return stratum.dropped.get(row)


def _label(point: Mapping[str, Any]) -> str:
    """A point in words."""
    texts = ((key, number_text(value) if isinstance(value, float) else value) for key, value in point.items())
    return " ".join(f"{key}={value}" for key, value in texts)
