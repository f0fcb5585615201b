"""The surfaces of one setting: the accuracy to expect at a point, with its error, and what a trial there might give.

Nothing is told outside the box that the setting's trials span. At an epoch that only some of them measured, the box is
theirs. What a trial there might give is the surface and the noise of seeds: how a measured trial, of one of the nearest
points, lay about the mean of its own point, at all epochs and in all metrics together. The surface bends no more than
its data show, so that sweeps on it are smoother than trained ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pandas import DataFrame
from scipy import stats

from analysis.surrogate.process import Process, fitted
from analysis.surrogate.table import AXES, METRICS, committed, name_of, setting_of, value_at
from trainers.errors import UserError, suggestion

Array = NDArray[np.float64]

#: Axes on which what counts is by what factor a value differs.
_BY_FACTORS = ("optimizer.lr", "batch_size", "optimizer.weight_decay")

#: Of a weight decay of 0: what stands for it on that scale.
_NEARLY_NONE = 1e-7

#: How many measured points around a place lend their seeds' noise to it.
_NEAREST = 10

Curve = dict[tuple[str, int], float]
"""By metric and epoch."""


def scaled(key: str, values: Any) -> Array:
    """Values of an axis as distances are counted on it."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.log10(np.maximum(numbers, _NEARLY_NONE)) if key in _BY_FACTORS else numbers


@dataclass(frozen=True, eq=False)
class Box:
    """What trials span: axes that differ among them, and those on which they have one value."""

    ranges: dict[str, tuple[float, float]]
    """Lowest and highest value of each axis that the setting reads."""

    @classmethod
    def of(cls, rows: DataFrame) -> Box:
        """The box of a table's rows."""
        read = [key for key in AXES if rows[key].notna().all()]
        return cls({key: (float(rows[key].min()), float(rows[key].max())) for key in read})

    @property
    def axes(self) -> list[str]:
        """Those that differ."""
        return [key for key, (low, high) in self.ranges.items() if low < high]

    def places(self, points: DataFrame) -> Array:
        """Where points lie on the axes that differ, each scaled to [0, 1]: (n, d)."""
        columns = []
        for key in self.axes:
            low, high = scaled(key, self.ranges[key])
            columns.append((scaled(key, points[key]) - low) / (high - low))
        return np.column_stack(columns) if columns else np.zeros((len(points), 0))

    def outside(self, point: Mapping[str, Any]) -> str:
        """The first axis on which a point lies outside, in words; empty: it lies inside."""
        for key, (low, high) in self.ranges.items():
            value: Any = point.get(key)
            number = isinstance(value, Real)
            if not number or not low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
                reach = f"from {low:g} to {high:g}" if low < high else f"at {low:g} alone"
                got = "none" if value is None else format(value, "g") if number else f"{value!r}, which is no number"
                return f"{key}: the data lie {reach}, got {got}"
        return ""


@dataclass(frozen=True, eq=False)
class Surface:
    """What is known of one setting."""

    setting: str
    """As `analysis.surrogate.table.setting_of` gives it."""
    rows: DataFrame = field(repr=False)
    """Of the table, this setting's."""
    fits: Mapping[str, Any] = field(repr=False)
    """Its part of fits.json: `title`, `theta` by metric and epoch, and `held_out`."""

    @cached_property
    def box(self) -> Box:
        """At the last epoch."""
        return Box.of(self.rows[self.rows["epoch"] == self.epochs])

    @property
    def epochs(self) -> int:
        """Of a whole trial."""
        return int(self.rows["epoch"].max())

    @cached_property
    def processes(self) -> dict[tuple[str, int], tuple[Box, Process]]:
        """By metric and epoch, where there are enough trials."""
        found = {}
        for metric, by_epoch in self.fits["theta"].items():
            for epoch, theta in by_epoch.items():
                part = measured(self.rows, metric, int(epoch))
                box = Box.of(part)
                found[metric, int(epoch)] = box, fitted(box.places(part), part[metric].to_numpy(np.float64), theta)
        return found

    def check(self, point: Mapping[str, Any]) -> None:
        """Refuses a point outside the data.

        Args:
            point: value by axis; of an axis that the setting does not read it does not matter.

        Raises:
            UserError: it lies outside.
        """
        if why := self.box.outside(point):
            raise UserError(f"surrogate: {why}; it says nothing outside its data ({self.fits['title']})")

    def predict(
        self, points: Sequence[Mapping[str, Any]], metric: str = "test_robust", epoch: int | None = None
    ) -> DataFrame:
        """Accuracy to expect at some points.

        Args:
            points: value by axis of each.
            metric: one of `METRICS`.
            epoch: after which; None: the last.

        Returns:
            estimate, of the mean over seeds; error, its standard error; noise, a seed's standard deviation; low and
            high, the ends of its 95 % interval for a trial, which held-out trials did not all keep to: `coverage` of
            `analysis.surrogate.fits`. Fractions.

        Raises:
            UserError: no point, one lies outside the data, or they have no such metric at that epoch.
        """
        if not len(points):
            raise UserError("surrogate: needs a point to predict at, got none; give a value by axis of each")
        at = self.epochs if epoch is None else epoch
        if (metric, at) not in self.processes:
            known = ", ".join(f"{name} at epoch {n}" for name, n in self.processes)
            raise UserError(f"surrogate: {metric} at epoch {at}: too few trials have it; there are {known}")
        box, process = self.processes[metric, at]
        for point in points:
            if why := box.outside(point):
                raise UserError(f"surrogate: {why}; it says nothing outside its data ({self.fits['title']})")
        estimate, error = process.predict(box.places(DataFrame(list(points))))
        half = stats.norm.ppf(0.975) * np.hypot(error, process.noise)
        bounds = {"low": np.maximum(estimate - half, 0), "high": np.minimum(estimate + half, 1)}
        return DataFrame({"estimate": estimate, "error": error, "noise": process.noise, **bounds})

    def expected(self, point: Mapping[str, Any]) -> Curve:
        """The surface at a point, at every epoch and in every metric whose own data reach there.

        Raises:
            UserError: the point lies outside the data of the last epoch.
        """
        self.check(point)
        one = DataFrame([dict(point)])
        inside = {key: known for key, known in self.processes.items() if not known[0].outside(point)}
        return {key: float(process.predict(box.places(one))[0][0]) for key, (box, process) in inside.items()}

    def drawn(self, point: Mapping[str, Any], seed: int) -> Curve:
        """What a trial at a point might give: `expected`, and the noise of a measured trial.

        Args:
            point: value by axis.
            seed: of the draw: the same gives the same.

        Raises:
            UserError: the point lies outside the data.
        """
        curve = self.expected(point)
        noise = self._noise(point, list(curve), np.random.default_rng(seed))
        return {key: float(np.clip(value + off, 0, 1)) for (key, value), off in zip(curve.items(), noise, strict=True)}

    @cached_property
    def _residuals(self) -> tuple[DataFrame, DataFrame]:
        """How trials lie about the mean of their point, a `_column` a metric and epoch, and where each trial lies.

        Of n seeds about their own mean: times sqrt(n / (n - 1)), lest the noise be too small.
        """
        wide = self.rows.pivot_table(index="trial_id", columns="epoch", values=list(METRICS))
        pairs: Any = wide.columns
        wide.columns = [_column(metric, epoch) for metric, epoch in pairs]
        place = self.rows.drop_duplicates("trial_id").set_index("trial_id")[list(AXES)].loc[wide.index]
        cell = place.fillna(-1).apply(tuple, axis=1)
        grouped = wide.groupby(cell)
        count = grouped.transform("count")
        rest = (wide - grouped.transform("mean")) * np.sqrt(count / (count - 1).where(count > 1))
        return rest, place

    def _noise(self, point: Mapping[str, Any], keys: list[tuple[str, int]], rng: np.random.Generator) -> Array:
        rest, place = self._residuals
        whole = rest[[_column(*key) for key in keys]].dropna()
        box = self.box
        if box.axes:
            inside = box.places(place.loc[whole.index].reset_index(drop=True))
            distance = np.linalg.norm(inside - box.places(DataFrame([dict(point)])), axis=1)
            near = np.unique(np.round(distance, 9))[:_NEAREST]
            whole = whole[distance <= near[-1] + 1e-9]
        noise: Array = whole.to_numpy()[int(rng.integers(len(whole)))]
        return noise


def _column(metric: str, epoch: int) -> str:
    return f"{metric} at {epoch}"


def measured(rows: DataFrame, metric: str, epoch: int) -> DataFrame:
    """A setting's trials that have a metric at an epoch."""
    return rows[(rows["epoch"] == epoch) & rows[metric].notna()]


@dataclass(frozen=True, eq=False)
class Surrogate:
    """All surfaces of a table."""

    rows: DataFrame = field(repr=False)
    fits: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls) -> Surrogate:
        """The one that comes with the package."""
        return cls(*committed())

    @property
    def version(self) -> str:
        """12 hex digits of the SHA-256 of its table."""
        return str(self.fits["sha256"])[:12]

    @property
    def settings(self) -> dict[str, Mapping[str, Any]]:
        """Of every setting that has a surface its part of fits.json, by its name."""
        return dict(self.fits["settings"])

    def surface(self, name: str) -> Surface:
        """The surface of a setting.

        Args:
            name: 12 hex digits, as `settings` has them.

        Raises:
            UserError: there is no such setting, or it has too few trials for a surface.
        """
        if name not in self.settings:
            raise UserError(f"surrogate: {name}: no such setting; {suggestion(name, self.settings)}")
        if name not in self._surfaces:
            own = self.rows[self.rows["setting"].map(name_of) == name]
            self._surfaces[name] = Surface(str(own["setting"].iloc[0]), own, self.fits["settings"][name])
        return self._surfaces[name]

    @cached_property
    def _surfaces(self) -> dict[str, Surface]:
        return {}

    def of_trial(self, config: Mapping[str, Any]) -> tuple[Surface, dict[str, Any]]:
        """The surface on which a trial lies, and its place there.

        Args:
            config: of the trial, as a `trial` record has it.

        Raises:
            UserError: no trial of such a setting is in the data, or too few are.
        """
        setting = setting_of(config)
        if (name := name_of(setting)) not in self.fits["settings"]:
            raise UserError(f"surrogate: has no data of such trials: {self._nearest(setting)}")
        return self.surface(name), {key: value for key in AXES if (value := value_at(config, key)) is not None}

    def _nearest(self, setting: str) -> str:
        import json

        wanted = dict(_flat(json.loads(setting)))
        known = self.rows[self.rows["setting"].map(name_of).isin(self.fits["settings"])]["setting"].unique()
        differ = []
        for text in known:
            has = dict(_flat(json.loads(text)))
            keys = sorted(key for key in wanted.keys() | has.keys() if wanted.get(key) != has.get(key))
            differ.append((len(keys), self.fits["settings"][name_of(text)]["title"], keys, has))
        _, title, keys, has = min(differ, key=lambda one: one[:2])
        shown = ", ".join(f"trial.{key} (they have {has.get(key, 'none')!s})" for key in keys[:3])
        more = f" and {len(keys) - 3} more" if len(keys) > 3 else ""
        way_out = "set these, or begin from configs/ratio_digits.yaml or another that docs/surrogate.md names"
        return f"the nearest ({title}) differ in {shown}{more}; {way_out}"


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{key}.")
        else:
            yield f"{before}{key}", str(value)
