"""What the trials that are left take, by shape: all whose epochs cost the same (`sweep.plan.measured.kind_of`, and the
batch size) are one row.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from sweep.config import ResourcesConfig
from trainers.config import TrialConfig, leaves
from trainers.fields import number_text

if TYPE_CHECKING:
    from rich.table import Table

#: The kind and the batch size.
Shape = tuple[str, int]

#: Where a number comes from: epochs in the run's records, two steps made here, counted FLOPs at a rate.
Source = str
RECORDS, MEASURED, COUNTED = "records", "--measure", "counted"

#: Keys that are shown first, where shapes differ in them; others only where these leave two shapes alike.
_FIRST = ("data.name", "model.name", "batch_size", "objective.name", "s2o", "weights.name", "attack.steps", "precision")


class Left(NamedTuple):
    """A trial that is left to run."""

    config: TrialConfig
    """Resolved."""
    trials: float
    """1; more or less where it stands for some that are not known yet."""
    epochs: float
    """To be trained still, of all these."""
    shape: Shape
    known: bool = True
    """Whether it is this very trial that will run."""


class Taken(NamedTuple):
    """What an epoch of one trial takes."""

    seconds: float
    memory: float
    """Bytes of its process, or where they are counted of its tensors alone."""
    source: Source


@dataclass(frozen=True)
class Row:
    """All trials of one shape that are left."""

    shape: Shape
    trials: float
    epochs: float
    seconds: float
    """Of all of them, one after another."""
    longest: float
    """Seconds of the trial that takes longest."""
    memory: float
    """Bytes that the one that holds most holds."""
    seconds_from: Source
    memory_from: Source
    known: bool = True
    """Whether its trials are; of others the search decides how they fall, and as many of each kind are counted."""


def rows(
    left: Sequence[Left],
    counted: Sequence[tuple[float, float]],
    seconds: Mapping[Shape, float],
    memory: Mapping[Shape, float],
    measured: Mapping[Shape, tuple[float, float]],
) -> list[Row]:
    """What each shape takes, from records where there are some, else as measured now, else as counted.

    Args:
        left: the trials.
        counted: seconds of an epoch, and bytes, of each of them.
        seconds: of an epoch, from records.
        memory: from records, bytes.
        measured: seconds and bytes by --measure.
    """
    groups: dict[Shape, list[tuple[Left, Taken, Taken]]] = defaultdict(list)
    for one, (counted_seconds, counted_memory) in zip(left, counted, strict=True):
        now = measured.get(one.shape)
        as_counted = Taken(counted_seconds, counted_memory, COUNTED)
        otherwise = as_counted if now is None else Taken(*now, MEASURED)
        time = otherwise if (known := seconds.get(one.shape)) is None else Taken(known, 0.0, RECORDS)
        held = otherwise if (most := memory.get(one.shape)) is None else Taken(0.0, most, RECORDS)
        groups[one.shape].append((one, time, held))
    return [_row(shape, group) for shape, group in groups.items()]


def _row(shape: Shape, group: Sequence[tuple[Left, Taken, Taken]]) -> Row:
    each = [one.epochs * time.seconds for one, time, _ in group]
    return Row(
        shape,
        sum(one.trials for one, *_ in group),
        sum(one.epochs for one, *_ in group),
        sum(each),
        max(one.epochs / one.trials * time.seconds for one, time, _ in group),
        max(held.memory for *_, held in group),
        group[0][1].source,
        group[0][2].source,
        all(one.known for one, *_ in group),
    )


def sources(table: Iterable[Row]) -> dict[Source, float]:
    """How many trials have their seconds from where."""
    counts: dict[Source, float] = defaultdict(float)
    for row in table:
        counts[row.seconds_from] += row.trials
    return dict(counts)


def table(shapes: Sequence[Row], resources: ResourcesConfig) -> Table | None:
    """The rows for a person to read; none where all trials are of one shape, of which the lines say all.

    Batch sizes that take the same are one line.
    """
    from rich.table import Table

    if len(shapes) < 2:
        return None
    values = [_values(row.shape) for row in shapes]
    keys = _telling(values)
    shown = Table(box=None, pad_edge=False, title="by shape of trial", title_justify="left")
    for key in keys:
        shown.add_column(key)
    known_trials = all(row.known for row in shapes)
    for name in (
        "trials" if known_trials else "trials, if even",
        "s an epoch",
        f"{'GPU' if resources.gpu else 'CPU'} hours",
        "memory",
    ):
        shown.add_column(name, justify="right")
    shown.add_column("from")
    lines: dict[tuple[str, ...], list[tuple[Row, Mapping[str, Any]]]] = defaultdict(list)
    for row, known in sorted(zip(shapes, values, strict=True), key=lambda pair: _order(pair[1], keys)):
        own = (_text(known.get(key)) for key in keys if key != "batch_size")
        lines[*own, *_cells(row)].append((row, known))
    for cells, group in lines.items():
        told = [_between([known.get(key) for _, known in group]) for key in keys]
        hours = sum(row.seconds for row, _ in group) / 3600 * (resources.most_gpu or resources.cpu) * resources.workers
        trials = sum(row.trials for row, _ in group)
        seconds, memory, origin = cells[-3:]
        shown.add_row(
            *told,
            f"{trials:.0f}" if known_trials else _rounded(trials),
            seconds,
            _rounded(hours / resources.trials_per_process),
            memory,
            origin,
        )
    return shown


def _cells(row: Row) -> tuple[str, str, str]:
    """What a trial takes, and from where that is known."""
    origin = ", ".join(dict.fromkeys([row.seconds_from, row.memory_from]))
    return _rounded(row.seconds / row.epochs), si(row.memory, "B"), origin


def _order(known: Mapping[str, Any], keys: Sequence[str]) -> list[tuple[bool, float, str]]:
    """Numbers by size, all else by name."""
    cells = [known.get(key) for key in keys]
    return [(isinstance(one, str), float(one) if isinstance(one, int | float) else 0.0, _text(one)) for one in cells]


def _between(values: Sequence[Any]) -> str:
    """Values in their order as one: 16 to 320."""
    first, last = _text(values[0]), _text(values[-1])
    return first if first == last else f"{first} to {last}"


def words(shapes: Sequence[Shape]) -> list[str]:
    """What tells each shape from the others, in words; of a single one its network and batch size."""
    values = [_values(shape) for shape in shapes]
    keys = _telling(values) or ["model.name", "batch_size"]
    return [" ".join(f"{key}={_text(one.get(key))}" for key in keys) for one in values]


def _values(shape: Shape) -> dict[str, Any]:
    """The keys on which the shape's cost hangs, dotted, with their values."""
    kind, batch_size = shape
    values: dict[str, Any] = {"batch_size": batch_size} | json.loads(kind)
    flat: dict[str, Any] = {}
    for key in leaves(values):
        value: Any = values
        for part in key.split("."):
            value = value[part]
        flat[key] = value
    return flat


def _telling(shapes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys, as few as need be, by which the shapes are told apart."""
    every = dict.fromkeys([*_FIRST, *(key for one in shapes for key in one)])
    keys: list[str] = []
    apart = 1
    for key in every:
        now = len({tuple(_text(one.get(name)) for name in (*keys, key)) for one in shapes})
        if now > apart:
            keys.append(key)
            apart = now
    return keys


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number_text(value) if isinstance(value, float) else "-" if value is None else str(value)


def _rounded(value: float) -> str:
    """Three digits."""
    return number_text(float(f"{value:.3g}"))


def si(value: float, unit: str) -> str:
    """A number with three digits and its prefix: 1.28 PFLOP."""
    power = min(int(math.log10(max(float(f"{value:.3g}"), 1)) / 3 + 1e-9), 6)
    return f"{value / 1000**power:.3g} {('', 'k', 'M', 'G', 'T', 'P', 'E')[power]}{unit}"
