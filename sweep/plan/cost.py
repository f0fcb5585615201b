"""What trials will take that were never run: time from counted FLOPs and a named rate, memory, disk."""

from __future__ import annotations

import functools
import math
import os
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import torch

from sweep.config import ResourcesConfig
from sweep.own_code import in_own_process
from sweep.plan.shapes import Left, si
from trainers import counting
from trainers.config import DataConfig, ModelConfig, TrialConfig
from trainers.counting import Work
from trainers.data.sources import Shape
from trainers.errors import UserError
from trainers.own.source import Source
from trainers.record import EpochRecord, line

#: What a GPU that is not here is taken for: an A100's peak, FLOPs a second by precision, of dense products
#: [https://www.nvidia.com/en-us/data-center/a100], and the share of it taken for a training's: in bf16 those of ResNets
#: reach 25 to 45 % [github.com/KellerJordan/cifar10-airbench]; not measured here.
CARD, SHARE = "A100", 1 / 3
PEAK = {"fp32": 19.5e12, "tf32": 156e12, "bf16": 312e12}

_BUSY = "as busy as it is now; --rate TFLOPS takes another"


class _Rate(NamedTuple):
    """FLOPs a second of a trial's training steps and of its evaluations."""

    training: float
    evaluation: float


@dataclass(frozen=True)
class Cost:
    """What is estimated of the trials that are left."""

    each: tuple[tuple[float, float], ...]
    """Of each, seconds of an epoch, and bytes that it holds, or that each of its workers does."""
    flops: float
    """Of all trials."""
    rates: tuple[float, float]
    """The lowest and the highest, FLOPs a second."""
    how: str
    """Where the rates come from."""
    running: float
    """Bytes of the largest checkpoint of a trial that trains."""
    kept: float
    """Bytes of all trials' files once they have ended."""
    records: float

    def rate(self) -> str:
        """The rate in words, and where it comes from."""
        rates = " to ".join(dict.fromkeys(si(rate, "FLOP/s") for rate in self.rates))
        return f"{rates} ({self.how})"


def cost_of(
    left: Sequence[Left],
    shapes: Mapping[DataConfig, Shape],
    resources: ResourcesConfig,
    rate: float | None,
    own: Mapping[str, Source],
) -> tuple[Cost | None, list[str]]:
    """`estimate`, and why that is not known, in words, where it is a user's own code that fails.

    Such code is run in a process of its own.

    Args:
        left, shapes, resources, rate: see `estimate`.
        own: the sources of that code, by name.
    """
    values = left, shapes, resources, rate
    if not own:
        return estimate(*values), []
    try:
        return in_own_process("sweep.plan.cost:estimate", *values, own=own.values()), []
    except UserError as error:
        return None, [f"  not estimated, as your own code cannot be counted: {error}"]


def estimate(
    left: Sequence[Left], shapes: Mapping[DataConfig, Shape], resources: ResourcesConfig, rate: float | None = None
) -> Cost | None:
    """What trials will take; None where there are none, or nothing is known of the data of some.

    Args:
        left: the trials, resolved.
        shapes: of their data.
        resources: of a trial.
        rate: FLOPs a second; None: timed here, or where a trial takes a GPU and none is here, assumed.
    """
    if not left or any(data not in shapes for data in {one.config.data for one in left}):
        return None
    kinds: dict[Hashable, TrialConfig] = {}
    alike = [kinds.setdefault(_alike(one), one.config) for one in left]
    works = {trial: counting.work(trial, shapes[trial.data]) for trial in kinds.values()}
    known, how = _rates(works, shapes, resources, rate)
    if resources.workers > 1:
        how += f"; {resources.workers} workers are taken to share it evenly, and to exchange gradients in no time"
    each = {
        trial: _of_an_epoch(trial, shapes[trial.data], work, known[trial], resources.workers)
        for trial, work in works.items()
    }
    by_trial = list(zip(left, (each[trial] for trial in alike), strict=True))
    speeds = [value for one in known.values() for value in one]
    return Cost(
        tuple((one.seconds, one.memory) for _, one in by_trial),
        sum(trial.epochs * one.flops for trial, one in by_trial),
        (min(speeds), max(speeds)),
        how,
        max(one.running for one in each.values()),
        sum(trial.trials * one.kept for trial, one in by_trial),
        sum(trial.epochs * _line_bytes() + trial.trials * one.rights for trial, one in by_trial),
    )


class _Estimate(NamedTuple):
    """Of one trial."""

    flops: float
    """Of an epoch, as its seconds."""
    seconds: float
    memory: float
    """Bytes, as all that follow."""
    running: float
    kept: float
    rights: float


def _of_an_epoch(trial: TrialConfig, shape: Shape, work: Work, rate: _Rate, workers: int) -> _Estimate:
    training, evaluation = counting.epoch_flops(trial, shape, work)
    return _Estimate(
        training + evaluation,
        (training / rate.training + evaluation / rate.evaluation) / workers,
        counting.memory(part_of(trial, shape, workers), shape, work),
        *counting.checkpoint_bytes(trial, shape, work),
        _right_bytes(trial, shape),
    )


def part_of(trial: TrialConfig, shape: Shape, workers: int) -> TrialConfig:
    """A trial of one process that has the batches of each of so many workers."""
    if workers == 1:
        return trial
    batches = (trial.batch_size, shape.train_images), (trial.evaluation.batch_size, shape.val_images, shape.test_images)
    training, evaluating = (math.ceil(min(size, max(images)) / workers) for size, *images in batches)
    evaluation = trial.evaluation.model_copy(update={"batch_size": max(1, evaluating)})
    return trial.model_copy(update={"batch_size": training, "evaluation": evaluation})


def _alike(one: Left) -> Hashable:
    """All on which a trial's cost hangs: thousands of trials are few kinds of it."""
    config = one.config
    return one.shape, config.data, config.epochs, config.keep, counting.state_copies(config)


def _rates(
    works: Mapping[TrialConfig, Work],
    shapes: Mapping[DataConfig, Shape],
    resources: ResourcesConfig,
    rate: float | None,
) -> tuple[dict[TrialConfig, _Rate], str]:
    """The rate of each trial, and where it comes from."""
    if rate is not None:
        return dict.fromkeys(works, _Rate(rate, rate)), "--rate"
    if not resources.gpu:
        threads = min(resources.threads, os.cpu_count() or 1)
        where = f"on this machine, {threads} thread{'s' if threads > 1 else ''}"
        return _timed(works, shapes, threads, "cpu"), f"timed {where}, {_BUSY}"
    why = ""
    if torch.cuda.is_available():
        try:
            return _on_this_gpu(works, shapes, resources)
        except RuntimeError as error:  # a card that is full, or that others may not use
            why = f", for the GPU here cannot be timed: {str(error).splitlines()[0]}"
    part = resources.most_gpu / resources.trials_per_process * SHARE
    precision = "/".join(dict.fromkeys(trial.precision for trial in works))
    how = f"assumed: a third of the peak of an {CARD} in {precision}{why}; --rate TFLOPS takes another"
    return {trial: _assumed(trial, shapes[trial.data], part) for trial in works}, how


def _on_this_gpu(
    works: Mapping[TrialConfig, Work], shapes: Mapping[DataConfig, Shape], resources: ResourcesConfig
) -> tuple[dict[TrialConfig, _Rate], str]:
    """The rates of a GPU, timed alone on it; of a share of it, so much of them."""
    share = resources.most_gpu / resources.trials_per_process
    timed = _timed(works, shapes, min(resources.threads, os.cpu_count() or 1), "cuda")
    part = f", of which a trial takes {share:g}" if share < 1 else ""
    rates = {trial: _Rate(share * rate.training, share * rate.evaluation) for trial, rate in timed.items()}
    return rates, f"timed on this GPU with engine: graph{part}, {_BUSY}"


def _assumed(trial: TrialConfig, shape: Shape, part: float) -> _Rate:
    """Of that part of the card's peak."""
    attacking, exact = part * PEAK[trial.evaluation.precision], part * PEAK["fp32"]
    return _Rate(part * PEAK[trial.precision], counting.evaluation_rate(trial, shape, attacking, exact))


def _timed(
    trials: Iterable[TrialConfig], shapes: Mapping[DataConfig, Shape], threads: int, device: str
) -> dict[TrialConfig, _Rate]:
    """The rates, timed at the smallest and the largest batch of each network and data set."""
    groups: dict[tuple[ModelConfig, Shape, str, str], list[TrialConfig]] = defaultdict(list)
    for trial in trials:
        groups[trial.model, shapes[trial.data], trial.precision, trial.evaluation.precision].append(trial)
    rates: dict[TrialConfig, _Rate] = {}
    for (_, shape, _, _), group in groups.items():
        ends = [pick(group, key=lambda trial: trial.batch_size) for pick in (min, max)]
        timed = {end.batch_size: _Rate(*counting.rates(end, shape, threads, device)) for end in ends}
        rates |= {trial: _between(timed, trial.batch_size) for trial in group}
    return rates


def _between(timed: Mapping[int, _Rate], batch_size: int) -> _Rate:
    """The rate at a batch size between two that were timed: a step's time is a line in the images."""
    (low, first), (high, last) = min(timed.items()), max(timed.items())
    if low == high:
        return first
    share = (batch_size - low) / (high - low)
    seconds = (1 - share) * low / first.training + share * high / last.training
    return _Rate(batch_size / seconds, (first.evaluation + last.evaluation) / 2)


@functools.cache
def _line_bytes() -> int:
    """Of an epoch's line in the records."""
    values = asdict(EpochRecord("0" * 12, 100, 0.1, engine="eager")) | {"time": 1e9 + 0.125}
    numbers = [name for name in values if name.endswith(("_clean", "_robust", "_loss", "seconds", "second"))]
    measured = dict.fromkeys([name for name in numbers if not name.startswith("averaged")], 0.123456789012345)
    return len(line("epoch", values | measured))


def _right_bytes(trial: TrialConfig, shape: Shape) -> int:
    """Of what a trial's last epoch's line says of each image: two bits, in base64, and which images they are."""
    images = {"val": shape.val_images, "test": shape.test_images}
    return sum(80 + 2 * 4 * math.ceil(images[name] / 24) for name in trial.evaluation.splits if name in images)
