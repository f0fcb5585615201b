"""What the trials that are left take where they would run: time, memory and disk in words, with what each assumes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sweep.config import ResourcesConfig, SweepConfig
from sweep.plan.room import Room, at_once
from sweep.plan.shapes import COUNTED, MEASURED, RECORDS, Row, Source, si, sources
from sweep.plan.warnings import Warned
from trainers.fields import number_text, plural

if TYPE_CHECKING:  # lest a launch load what counts FLOPs
    from sweep.plan.cost import Cost

#: What is not known of `resources.gpu: auto` before its memory is measured.
_AUTO = "; each is counted to have a card alone (gpu: auto), and fewer hours pass where several fit on one"

#: Files of a trial while it trains: its checkpoint, the one before, and the next one while that is written.
CHECKPOINTS = 3

#: What is made of the numbers of each source, in words.
_STEPS = "two training steps and an evaluation batch of each shape, made just now (--measure)"


@dataclass(frozen=True)
class Outlook:
    """The cost of a plan, in the place where it would run."""

    config: SweepConfig
    left: int
    """Trials to run."""
    cost: Cost
    shapes: Sequence[Row]
    room: Room
    directory: Path
    """Of the run."""
    decoded: Mapping[Path, int] = field(default_factory=dict)
    """Bytes of pixels that first trials write, by the folder that takes them."""

    @property
    def seconds(self) -> float:
        """Of all trials, one after another."""
        return sum(row.seconds for row in self.shapes)

    @property
    def at_once(self) -> int:
        """Trials that run side by side; 0: there is no room for one."""
        return at_once(self.config.resources, self.config.max_concurrent, self.left, self.room) or 0

    def lines(self) -> list[str]:
        """Cost, wall-clock, memory and disk."""
        return [self._cost(), f"wall-clock: {self._wall()}", f"memory: {self._memory()}", f"disk: {self._disk()}"]

    def warnings(self) -> Iterator[Warned]:
        """That the files do not fit, those of the run or the pixels."""
        for folder, size in self.decoded.items():
            if size > (free := _free(folder)):
                text = (
                    f"the disk is too small: {si(size, 'B')} of pixels, which the first trial decodes, {si(free, 'B')} "
                    f"free at {folder}"
                )
                way_out = (
                    "trial.data.root to a copy on a larger disk, or prepare shards on one (sweep data prepare --output)"
                )
                yield Warned(text, way_out)
        if (needed := self._kept() + self._running()) > (free := _free(self.directory)):
            text = f"the disk is too small: {si(needed, 'B')} of files, {si(free, 'B')} free at {self.directory}"
            yield Warned(text, "trial.keep=none, or another --out")

    def _cost(self) -> str:
        resources = self.config.resources
        among = resources.trials_per_process
        each = f"for each {among}" if among > 1 else "each"
        amount, unit_of_time, _ = in_hours(self.seconds)
        from_records = set(sources(self.shapes)) == {RECORDS}
        taken = f"{amount_text(amount, from_records)} trial {unit_of_time} at {resources.unit} {each}"
        taken += together(self.seconds, resources, from_records)
        return f"cost: {taken}, {self._source()}{bound_text(self.config)}"

    def _source(self) -> str:
        counts = sources(self.shapes)
        words = {
            RECORDS: "the epochs measured here",
            MEASURED: _STEPS + _evenly(self.config.resources.workers),
            COUNTED: f"{si(self.cost.flops, 'FLOP')}, counted, at {self.cost.rate()}",
        }
        if len(counts) == 1:
            (source,) = counts
            return {COUNTED: "estimated: "}.get(source, "from ") + words[source]
        words[COUNTED] = f"FLOPs, counted, at {self.cost.rate()}"
        parts = [f"of {plural(round(number), 'trial')} from {words[source]}" for source, number in counts.items()]
        return f"estimated: {'; '.join(parts)}"

    def _wall(self) -> str:
        asks = self.config.resources
        amount, _, letter = in_hours(self.seconds / max(self.at_once, 1))
        if not self.at_once:
            need = f"{asks.unit} and {asks.cpu:g} CPU" if asks.gpu else asks.unit
            need = need if asks.workers == 1 else asks.needed
            return (
                f"unknown, as no trial can run on {self.room.words()}; each takes {need}. With N at once about "
                f"{_rounded(amount)} {letter} / N; --address asks a cluster what it has"
                + (", and resources.gpu=0 trains on the CPU" if asks.gpu else "")
            )
        longest, _, longest_letter = in_hours(max(row.longest for row in self.shapes))
        if self.seconds / self.at_once < max(row.longest for row in self.shapes):
            amount, letter = longest, longest_letter
        most = self.config.max_concurrent
        fit = self.room.processes(asks) * asks.trials_per_process
        bound = f"max_concurrent {most}; {fit} fit on " if most and most < fit else ""
        return (
            f"about {_rounded(amount)} {letter} with {plural(self.at_once, 'trial')} at once "
            f"({bound}{self.room.words()}), no less than the longest trial, {_rounded(longest)} {longest_letter}; "
            f"starting Ray and waiting for others not counted{_AUTO * asks.by_memory}"
        )

    def _memory(self) -> str:
        held = "torch on the card" if self.config.resources.gpu else "its process"
        among = ", for each worker" if self.config.resources.workers > 1 else ""
        words = {
            RECORDS: f"{{}} at most held by {held} in a trial{among}, from the records",
            MEASURED: f"{{}} at most held by a trial's process{among}, measured just now (--measure)",
            COUNTED: f"{{}} at most for a trial's tensors{among}, estimated, beside what torch takes itself",
        }
        most: dict[Source, float] = {}
        for row in self.shapes:
            most[row.memory_from] = max(most.get(row.memory_from, 0.0), row.memory)
        return "; ".join(words[source].format(si(value, "B")) for source, value in most.items())

    def _kept(self) -> float:
        return self.cost.kept + self.cost.records

    def _running(self) -> float:
        return CHECKPOINTS * self.cost.running * max(self.at_once, 1)

    def _disk(self) -> str:
        return (
            f"{si(self.cost.kept, 'B')} of kept weights, {si(self.cost.records, 'B')} of records, "
            f"{si(self._running(), 'B')} of checkpoints ({CHECKPOINTS} of {si(self.cost.running, 'B')} for each trial "
            f"that runs: two kept, one being written), estimated; {si(_free(self.directory), 'B')} free at "
            f"{self.directory}" + "".join(self._pixels())
        )

    def _pixels(self) -> Iterator[str]:
        for folder, size in self.decoded.items():
            free = si(_free(folder), "B")
            yield f"; {si(size, 'B')} of pixels, which the first trial decodes to {folder}, {free} free there"


def bound_text(config: SweepConfig) -> str:
    """That a cost is an upper bound, and why; empty where all trials are trained to their end."""
    if config.races:
        return "; an upper bound, as points that are worse get no more seeds"
    return "; an upper bound, as trials are ended early" if config.stopping else ""


def together(seconds: float, resources: ResourcesConfig, measured: bool) -> str:
    """What all workers of trials take that last so long, in words: ` (6.4 GPU hours)`; empty where each has one."""
    if resources.workers == 1:
        return ""
    what, each = ("GPU", resources.most_gpu) if resources.gpu else ("CPU", resources.cpu)
    amount, unit, _ = in_hours(seconds)
    return f" ({amount_text(amount * resources.workers * each, measured)} {what} {unit})"


def _evenly(workers: int) -> str:
    """What is assumed of an epoch of several workers that one process has measured; empty of one."""
    return f", of one of {workers} workers, which are taken to exchange gradients in no time" if workers > 1 else ""


def in_hours(seconds: float) -> tuple[float, str, str]:
    """The time in hours, or in seconds where it is short, with the unit's name and letter."""
    return (seconds / 3600, "hours", "h") if seconds >= 360 else (seconds, "seconds", "s")


def amount_text(value: float, measured: bool) -> str:
    """Hundredths of what was measured; three digits of what is estimated, whose rate is not known better."""
    return f"{value:.2f}" if measured else _rounded(value)


def _rounded(value: float) -> str:
    return number_text(float(f"{value:.3g}"))


def _free(directory: Path) -> float:
    """Bytes that are free where files of a folder, which need not be there, would lie."""
    there = next(folder for folder in (directory.absolute(), *directory.absolute().parents) if folder.exists())
    return float(shutil.disk_usage(there).free)
