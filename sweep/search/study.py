"""Optuna's study of one stratum: asked for points, told what became of them, and rebuilt from those that ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, QMCSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.objectives import Objective
from sweep.search.parameters import distribution, parameters, suggested
from sweep.search.samplers import generation_size, made, sampler_class, varied
from sweep.search.trials import Pruned

#: Points of a batch: tpe and gp draw their first 10 at random in any case (Optuna's n_startup_trials), so that the
#: first batch costs them nothing.
BATCH = 10

#: How often a sampler is asked again, at most, where `where` refuses what it proposes; then a draw stands in. [own]
ATTEMPTS = 10


@dataclass(frozen=True)
class Told:
    """What Optuna is told of a point that has ended."""

    state: TrialState
    values: tuple[float, ...] | None = None
    broken: Mapping[str, float] = field(default_factory=dict)
    """By how much it breaks a constraint, by the constraint's name; empty: it breaks none."""
    at: Mapping[int, float] = field(default_factory=dict)
    """Epoch -> the objective there, of a pruned point."""


@dataclass(frozen=True)
class PointEnd:
    """What became of a point, all of its seeds together."""

    values: tuple[float, ...] | None = None
    """Mean of each objective over the seeds that were trained to their end; None: the point has none that count."""
    pruned_at: Mapping[int, float] = field(default_factory=dict)
    """Epoch -> mean of the primary objective over the seeds that a stopping rule ended there; empty: none was."""

    @classmethod
    def of_seeds(cls, ends: Iterable[tuple[tuple[float, ...] | None, Pruned | None]]) -> PointEnd:
        """What the ends of a point's seeds come to.

        Seeds that failed, or were never begun, are left out. Where a rule ended one in training, the point is pruned: a
        mean over those that it let go on would be of the better ones.
        """
        every = list(ends)
        at: dict[int, list[float]] = {}
        for _, pruned in every:
            if pruned is not None and pruned.epoch > 0:
                at.setdefault(pruned.epoch, []).append(pruned.value)
        values = [one for one, _ in every if one is not None]
        if at:
            return cls(None, {epoch: sum(some) / len(some) for epoch, some in sorted(at.items())})
        return cls(tuple(sum(each) / len(each) for each in zip(*values, strict=True)) if values else None)

    def told(self, objectives: Sequence[Objective], kind: type[BaseSampler]) -> Told:
        """As Optuna is told it.

        Of several objectives Optuna knows no pruned points. tpe and nsgaii know points that break a constraint, which
        they rank as tpe ranks pruned ones: behind all others, by how far they break it. So such a point has the worst
        values, and breaks one by the less the farther it came, and the better it was there. Other samplers would take
        the values for measured ones, and learn nothing from it.
        """
        if self.values is not None:
            return Told(TrialState.COMPLETE, self.values)
        if not self.pruned_at:
            return Told(TrialState.FAIL)
        epoch, value = max(self.pruned_at.items())
        if len(objectives) == 1:
            return Told(TrialState.PRUNED, (value,), at=self.pruned_at)
        if not issubclass(kind, TPESampler | NSGAIISampler):
            return Told(TrialState.FAIL)
        good = value if objectives[0].mode == "max" else 1 / (1 + value)
        return Told(TrialState.COMPLETE, tuple(one.worst for one in objectives), {"untrained": 1 / (epoch + good)})


class PointStudy:
    """The study of one combination of the grid axes.

    What tpe, gp and random learn from are the finished points, which `add_trial` puts there. qmc counts its draws, and
    is told the number of each. nsgaii and cmaes sort points into generations: one is asked for anew, and with it what
    Optuna keeps of the generations before; the others of it are added with its label. Generations are counted in the
    order of the draws, as where each is asked for once all before it have ended: one by one, or in batches.
    """

    def __init__(self, config: SweepConfig, number: int, stratum: Point) -> None:
        """Empty.

        Args:
            config: the sweep.
            number: of the stratum.
            stratum: its point.
        """
        self._config, self._base, self._number, self._stratum = config, config.given, number, stratum
        directions = [
            StudyDirection.MAXIMIZE if one.mode == "max" else StudyDirection.MINIMIZE for one in config.objectives
        ]
        self.study = optuna.create_study(directions=directions)
        self._kind, self._varied = sampler_class(config), varied(config, stratum)
        self._size = generation_size(self._sampler(0), config, len(self._varied))
        self.batch = (config.search.batch or self._size or BATCH) if config.search.deterministic else None
        """Points that are asked for together; None: each is asked for alone."""
        self.attempts = 1 if issubclass(self._kind, QMCSampler) else ATTEMPTS
        """How often it is asked for a point, at most, until one is let in; a sequence has but one at each place."""
        self._label: dict[str, Any] = {}
        self._ended_in_generation = self._to_count = 0
        self._sequence: str | None = None

    def ask(self, index: int, point: Point | None = None, attempt: int = 0) -> tuple[optuna.Trial, Point]:
        """The next point, or the one that is given.

        Args:
            index: number of the draw.
            point: where the stratum's draw is known.
            attempt: how often it was asked for already, and what came was not let in.
        """
        self._number_as(index)
        self.study.sampler = self._sampler(index, attempt)
        if isinstance(self.study.sampler, QMCSampler):
            self._count_draws(index)
        if point is not None:
            self.study.enqueue_trial(parameters(self._config.space, point))
        ask = self.study.ask()
        if self._size is not None:
            ask.relative_params  # noqa: B018 (Optuna draws, and keeps, nothing where it is asked for given values alone)
        drawn = suggested(ask, self._config.space, self._base, self._stratum)
        self._open_generation(self.study.get_trials(deepcopy=False)[-1])
        return ask, drawn

    def tell(self, ask: optuna.Trial, end: PointEnd) -> None:
        """What became of a point that was asked for."""
        told = end.told(self._config.objectives, self._kind)
        for epoch, value in told.at.items():
            ask.report(value, epoch)
        for name, by in told.broken.items():
            ask.set_constraint(name, by)
        self.study.tell(ask, told.values if told.state is TrialState.COMPLETE else None, state=told.state)
        self._count_end(told.state)

    def start_from(self, point: Point, values: tuple[float, ...]) -> None:
        """A point of another run, and the means of its objectives there: it is no draw of this study."""
        drawn = parameters(self._config.space, point)
        of_axes = {key: distribution(self._config.space[key]) for key in drawn}
        self.study.add_trial(create_trial(values=values, params=drawn, distributions=of_axes))

    def forget(self, ask: optuna.Trial) -> None:
        """A point that is not run."""
        self.study.tell(ask, state=TrialState.FAIL)

    def add(self, index: int, point: Point, end: PointEnd) -> None:
        """A point that has ended, as an earlier launch drew it."""
        if self._opens_generation(index):
            self.tell(self.ask(index, point)[0], end)
            return
        self._number_as(index)
        told, drawn = end.told(self._config.objectives, self._kind), parameters(self._config.space, point)
        self.study.add_trial(
            create_trial(
                state=told.state,
                values=told.values,
                params=drawn,
                distributions={key: distribution(self._config.space[key]) for key in drawn},
                system_attrs=dict(self._label),
                intermediate_values=dict(told.at),
                constraints=dict(told.broken),
            )
        )
        self._count_end(told.state)

    def settle(self) -> None:
        """What has ended so far is known to the next draws."""
        self._ended_in_generation += self._to_count
        self._to_count = 0

    def _sampler(self, index: int, attempt: int = 0) -> BaseSampler:
        place = (index, attempt) if attempt else index
        return made(self._kind, self._config, self._number, place, self._varied)

    def _number_as(self, index: int) -> None:
        """Has the next trial the number that it would have in a study that was never rebuilt.

        A draw that repeats a point, or that `where` refuses, is a failed trial in one study, and is not known to the
        next; cmaes draws by the trial's number. So each draw has as many numbers as it may need.
        """
        numbers = 2 + (ATTEMPTS if self._config.where else 0)
        while self._kind is CmaEsSampler and len(self.study.get_trials(deepcopy=False)) < numbers * index:
            self.study.add_trial(create_trial(state=TrialState.FAIL))

    def _opens_generation(self, index: int) -> bool:
        """Whether the draw may begin a generation: of a batch the first one, before which all others had ended."""
        first = self.batch is None or index % self.batch == 0
        return self._size is not None and first and (not self._label or self._ended_in_generation >= self._size)

    def _open_generation(self, asked: FrozenTrial) -> None:
        label = {key: value for key, value in asked.system_attrs.items() if key.endswith(":generation")}
        if label != self._label:
            self._label, self._ended_in_generation, self._to_count = label, 0, 0

    def _count_end(self, state: TrialState) -> None:
        pruned_too = self._config.search.sampler_options.get("consider_pruned_trials", False)
        self._to_count += state is TrialState.COMPLETE or (pruned_too and state is TrialState.PRUNED)
        if not self._config.search.deterministic:
            self.settle()

    def _count_draws(self, index: int) -> None:
        """Has the sequence go on behind so many draws; Optuna counts them under a name that its first draw shows."""
        if self._sequence is None:
            tried = optuna.create_study(sampler=self.study.sampler, directions=self.study.directions)
            tried.ask().relative_params  # noqa: B018 (which draws)
            counts = tried._storage.get_study_system_attrs(tried._study_id)
            self._sequence = next((key for key in counts if key.startswith("qmc:")), "")
        if self._sequence:
            self.study._storage.set_study_system_attr(self.study._study_id, self._sequence, index - 1)
