"""What every trial would fail with, said before any is run."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from itertools import islice

from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.own_code import in_own_process, uses
from sweep.search.admission import Admission
from sweep.search.inputs import in_the_config, own_sources
from sweep.search.points import combinations, strata
from sweep.search.trials import PlannedTrial, planned_trial
from trainers.config import DataConfig, TrialConfig
from trainers.data import unseen as marks
from trainers.data.sources import Shape
from trainers.errors import UserError
from trainers.fields import plural
from trainers.models.sizes import check_batches, check_size
from trainers.own.reference import PARTS
from trainers.own.source import Source

#: Parts of a trial that `check_trials` looks at, and its preset, which may set them.
_CHECKED = ("preset", "data", "model", "batch_size", "attack", "evaluation", *PARTS)


def check_trials(
    config: SweepConfig,
    trials: Iterable[PlannedTrial],
    unseen: Iterable[str] = (),
    own: Mapping[str, Source] | None = None,
) -> dict[DataConfig, Shape]:
    """Each data set can be loaded and each network trained on it; loads every distinct one, on the CPU.

    Args:
        config: the sweep.
        trials: that are to run.
        unseen: names of data, and places of extra images, that are not looked at: of these data the published numbers
            are taken, where there are some.
        own: the sources of a user's own code, which is tried in a process of its own; None: they are read.

    Returns:
        What there is of the data of each, as far as known.

    Raises:
        UserError: what every such trial would fail with.
    """
    configs, unseen = [trial.config for trial in trials], set(unseen)
    wanted = dict.fromkeys((one.data, one.model.name, one.batch_size) for one in configs)
    try:
        sets = dict.fromkeys(data for data, *_ in wanted)
        known = _seen_shapes([data for data in sets if data.name not in unseen and not data.is_own], unseen)
        known |= {data: shape for data in sets if data.name in unseen and (shape := marks.shape(data)) is not None}
        known |= _rehearsed(config, [one for one in configs if uses(one)], known, unseen, own)
        for data, network, batch_size in wanted:
            _check_parts(batch_size, known.get(data), config.resources.workers)
            if (shape := known.get(data)) is None:
                continue
            check_size(network, shape.height, shape.width)
            check_batches(network, shape.height, shape.width, shape.train_images, batch_size)
        for one in configs:
            if one.data in known:
                _check_lengths(one, known[one.data].pixels)
                _check_local(one, known[one.data], config.resources.workers)
        for model, data in dict.fromkeys((one.model, one.data) for one in configs if one.model.fine_tune):
            if data in known and not model.is_own:  # one's own was held against them where it was tried
                from trainers.models.fine_tuning import start  # and with it torch, for which no other waits

                start(model, known[data])
        if kinds := [one for one in _measured(configs) if one.data.name not in unseen and not uses(one)]:
            from trainers.dynamics.measurement import refuse  # and with it a part of scipy, for which no other waits

            for one in kinds:
                refuse(one)
    except UserError as error:
        raise in_the_config(error, config) from None
    return known


def _seen_shapes(sets: Iterable[DataConfig], unseen: Container[str]) -> dict[DataConfig, Shape]:
    """Of data that are there, without the extra images that are not."""
    from trainers.data.sources import shapes

    plain = {data: data.model_copy(update={"extra": None}) if data.extra in unseen else data for data in sets}
    known = shapes(plain.values())
    return {data: known[readable] for data, readable in plain.items()}


def _rehearsed(
    config: SweepConfig,
    trials: Iterable[TrialConfig],
    known: Mapping[DataConfig, Shape],
    unseen: Iterable[str],
    own: Mapping[str, Source] | None,
) -> dict[DataConfig, Shape]:
    """Tries one trial of each kind that has code of a user's own; gives the shapes of the user's own data."""
    workers = config.resources.workers
    kinds = {_kind(one, workers): one for one in trials}
    if not kinds:
        return {}
    if left := {kind: one for kind, one in kinds.items() if kind not in _tried}:
        code = (own_sources(config) if own is None else own).values()
        asked = list(left.values()), dict(known), set(unseen), workers
        shapes = in_own_process("trainers.rehearsal:rehearse", *asked, own=code)
        _tried.update({kind: shapes.get(one.data) for kind, one in left.items()})
    return {one.data: shape for kind, one in kinds.items() if (shape := _tried[kind]) is not None}


#: Kinds of trials that this process has tried, and the shape of their own data.
_tried: dict[str, Shape | None] = {}


def _kind(one: TrialConfig, workers: int) -> str:
    """What decides whether a user's own code can be trained with, as far as one step shows."""
    parts = {key: getattr(one, key) for key in PARTS}
    own = {key: part.model_dump(mode="json") if part.is_own else part.name for key, part in parts.items()}
    if one.optimizer.is_own:
        own["optimizer"] |= {"lr": None, "weight_decay": one.optimizer.weight_decay > 0}
    slots = one.objective.s2o.enabled, one.weights.name, one.averaging.name
    attack = one.attack.steps > 0, one.attack.batch_norm, one.attack.replays is None, one.attack.tau is None
    size = one.data.image_size, one.data.train_per_class, one.data.validation_fraction, one.batch_size
    soft = one.data.cutmix > 0  # labels are probabilities then
    others = one.batch_norm_data, one.precision, one.dynamics.every, one.batch_norm, workers
    return json.dumps([own, slots, attack, size, soft, others], sort_keys=True)


def _check_lengths(config: TrialConfig, pixels: int) -> None:
    try:
        config.check_lengths(pixels)
    except ValueError as error:
        raise UserError(str(error)) from None


def _check_parts(batch_size: int, shape: Shape | None, workers: int) -> None:
    """The workers of a trial share every batch of an epoch."""
    if batch_size % workers:
        raise UserError(
            f"batch_size: {workers} workers (resources.workers) take equal parts of a batch, and {workers} does not "
            f"divide {batch_size}; take {max(1, round(batch_size / workers)) * workers}, or another number of workers"
        )
    if shape is not None and (least := _smallest_batch(shape, batch_size)) < workers:
        raise UserError(
            f"batch_size: the smallest of an epoch's batches has {plural(least, 'image')} ({shape.train_images} "
            f"training images, batch_size {batch_size}), too few for {workers} workers (resources.workers); take "
            "another batch_size, or fewer workers"
        )


def _check_local(config: TrialConfig, shape: Shape, workers: int) -> None:
    """Where batch norm is each worker's own, its part of every batch gives it two values a channel."""
    if workers == 1 or config.batch_norm != "local" or _smallest_batch(shape, config.batch_size) >= 2 * workers:
        return
    try:
        check_batches(config.model.name, shape.height, shape.width, 1, 1)
    except UserError:
        raise UserError(
            f"batch_norm: is local, and of an epoch's last batch ({_smallest_batch(shape, config.batch_size)} images) "
            f"one of {workers} workers has 1 image, of which batch norm in {config.model.name} needs 2 where images "
            f"have {shape.height} x {shape.width} pixels; set trial.batch_norm=sync, or take another batch_size"
        ) from None


def _smallest_batch(shape: Shape, batch_size: int) -> int:
    return min(shape.train_images, shape.train_images % batch_size or batch_size)


def _measured(configs: Iterable[TrialConfig]) -> list[TrialConfig]:
    """One trial of each kind whose dynamics are measured: what they can be measured on hangs on no other key."""
    kinds = {(one.data, one.model, one.objective, one.batch_size, one.dynamics): one for one in configs}
    return [one for one in kinds.values() if one.dynamics.every is not None]


def examples(config: SweepConfig, fingerprints: Mapping[str, str]) -> list[PlannedTrial]:
    """Trials of a space whose points are not known yet: one for each data set, network and attack that it can draw.

    Of a range the low end, of whole numbers both ends, of a stratum the first 1,000 combinations.
    """
    base, admission = config.given, Admission.of_sweep(config)
    points: dict[str, Point] = {}
    for stratum in strata(config.space, base):
        combined = islice(combinations(config.space, base, stratum), 1000)
        for point in (point for point in combined if admission.may_admit(point, config.space)):
            read = {key: value for key, value in point.items() if key.split(".")[0] in _CHECKED}
            points.setdefault(json.dumps(read), point)
    return [planned_trial(base, point, config.seeds[0], fingerprints) for point in points.values()]
