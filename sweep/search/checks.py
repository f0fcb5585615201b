"""What every trial would fail with, said before any is run."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from itertools import islice

from sweep.axes import Point
from sweep.config import SweepConfig
from sweep.search.points import combinations, strata
from sweep.search.trials import PlannedTrial, in_the_config, planned_trial
from trainers.config import DataConfig, TrialConfig
from trainers.data import unseen as marks
from trainers.data.sets import Shape
from trainers.errors import UserError

#: Parts of a trial that `check_trials` looks at, and its preset, which may set them.
_CHECKED = ("preset", "data", "model", "batch_size", "attack", "evaluation")


def check_trials(
    config: SweepConfig, trials: Iterable[PlannedTrial], unseen: Container[str] = ()
) -> dict[DataConfig, Shape]:
    """Each data set can be loaded and each network trained on it; loads every distinct one, on the CPU.

    Args:
        config: the sweep.
        trials: that are to run.
        unseen: names of data, and places of extra images, that are not looked at: of these data the published numbers
            are taken, where there are some.

    Returns:
        What there is of the data of each, as far as known.

    Raises:
        UserError: what every such trial would fail with.
    """
    from trainers.models.fine_tuning import start
    from trainers.models.registry import check_batches, check_size

    configs = [trial.config for trial in trials]
    wanted = dict.fromkeys((one.data, one.model.name, one.batch_size) for one in configs)
    try:
        sets = dict.fromkeys(data for data, *_ in wanted)
        known = _seen_shapes([data for data in sets if data.name not in unseen], unseen)
        known |= {data: shape for data in sets if data.name in unseen and (shape := marks.shape(data)) is not None}
        for data, network, batch_size in wanted:
            if (shape := known.get(data)) is None:
                continue
            check_size(network, shape.height, shape.width)
            check_batches(network, shape.height, shape.width, shape.train_images, batch_size)
        for one in configs:
            if one.data in known:
                _check_lengths(one, known[one.data].pixels)
        for model, data in dict.fromkeys((one.model, one.data) for one in configs if one.model.fine_tune):
            if data in known:
                start(model, known[data])
        if kinds := [one for one in _measured(configs) if one.data.name not in unseen]:
            from trainers.dynamics.measurement import refuse  # and with it a part of scipy, for which no other waits

            for one in kinds:
                refuse(one)
    except UserError as error:
        raise in_the_config(error, config) from None
    return known


def _seen_shapes(sets: Iterable[DataConfig], unseen: Container[str]) -> dict[DataConfig, Shape]:
    """Of data that are there, without the extra images that are not."""
    from trainers.data.sets import shapes

    plain = {data: data.model_copy(update={"extra": None}) if data.extra in unseen else data for data in sets}
    known = shapes(plain.values())
    return {data: known[readable] for data, readable in plain.items()}


def _check_lengths(config: TrialConfig, pixels: int) -> None:
    try:
        config.check_lengths(pixels)
    except ValueError as error:
        raise UserError(str(error)) from None


def _measured(configs: Iterable[TrialConfig]) -> list[TrialConfig]:
    """One trial of each kind whose dynamics are measured: what they can be measured on hangs on no other key."""
    kinds = {(one.data, one.model, one.objective, one.batch_size, one.dynamics): one for one in configs}
    return [one for one in kinds.values() if one.dynamics.every is not None]


def examples(config: SweepConfig, fingerprints: Mapping[str, str]) -> list[PlannedTrial]:
    """Trials of a space whose points are not known yet: one for each data set, network and attack that it can draw.

    Of a range the low end, of a stratum the first 1,000 combinations.
    """
    base = config.given
    points: dict[str, Point] = {}
    for stratum in strata(config.space, base):
        for point in islice(combinations(config.space, base, stratum), 1000):
            read = {key: value for key, value in point.items() if key.split(".")[0] in _CHECKED}
            points.setdefault(json.dumps(read), point)
    return [planned_trial(base, point, config.seeds[0], fingerprints) for point in points.values()]
