"""What trials read that lies in files: images, further images, weights to start from, a user's own code.

In a trial's id it is its content that counts, and not where it lies: each is named by a hash of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from sweep.axes import Point, leaf_keys, nested
from sweep.config import SweepConfig
from sweep.own_code import in_own_process, sources, with_code
from sweep.search.points import corners
from trainers.config import ModelConfig, TrialConfig
from trainers.data import unseen as marks
from trainers.errors import Absent, UserError, validated, written_out
from trainers.identity import identity
from trainers.own.reference import COMMON, PARTS, is_reference
from trainers.own.source import Source


def named(config: TrialConfig, fingerprints: Mapping[str, str]) -> TrialConfig:
    """The trial with a hash of all that it reads, and paths that are the same from any folder.

    Args:
        config: of the trial.
        fingerprints: as `fingerprints` gives them.
    """
    config = with_code(config, fingerprints)
    root = str(Path(config.data.root or "data").expanduser().absolute())
    marks = {"fingerprint": fingerprints[data_key(config)], "root": root}
    if (beside := extra_path(config)) is not None:
        marks |= {"extra_fingerprint": fingerprints[beside], "extra": beside}
    return config.model_copy(
        update={"data": config.data.model_copy(update=marks), "model": _with_weights(config.model)}
    )


class Unseen(NamedTuple):
    """Data that are planned with and were not looked at."""

    reason: str
    sure: bool
    """Whether the trials' ids are those that they will have."""


def fingerprints(config: SweepConfig, own: Mapping[str, Source] | None = None) -> dict[str, str]:
    """Reads the data; the fingerprint of every data set that the sweep touches, by `data_key`, and of extra images, by
    their place.

    Args:
        config: the sweep.
        own: the sources of a user's own code, whose hashes are put beside, by name; None: they are read.

    Raises:
        UserError: the data are not there, or not what `data.fingerprint` says; so of weights to start from; or the
            user's own code is not there.
    """
    check_weights(config)
    own = own_sources(config) if own is None else own
    sets = {key: _fingerprint(config, trial, own, look=True) for key, trial in distinct_data(config).items()}
    beside = {path: _extra_fingerprint(config, one, look=True) for path, one in distinct_extra(config).items()}
    return {**_hashes(own), **sets, **beside}


def fingerprints_without(
    config: SweepConfig, records: Iterable[Mapping[str, Any]], look: bool, own: Mapping[str, Source] | None = None
) -> tuple[dict[str, str], dict[str, Unseen]]:
    """`fingerprints` as far as the data are there, and of the others, by name, what stands for them.

    Where a mark is the content's, that of the run's own records is taken, or else a made-up one.

    Args:
        config: the sweep.
        records: of its run.
        look: false: at no data but those inside the package.
        own: as of `fingerprints`.

    Raises:
        UserError: data that are there are not as they must be, or weights to start from are not there.
    """
    check_weights(config)
    recorded = {
        _content(data): data["fingerprint"]
        for data in (record["config"].get("data", {}) for record in records if record["record"] == "trial")
        if "fingerprint" in data and "name" in data
    }
    own = own_sources(config) if own is None else own
    codes = _hashes(own)
    fingerprints = dict(codes)
    unseen: dict[str, Unseen] = {}
    for key, trial in distinct_data(config).items():
        try:
            fingerprints[key] = _fingerprint(config, trial, own, look)
        except Absent as error:
            name = trial.data.name
            mark = marks.fingerprint(trial.data) or recorded.get(_content(identity(with_code(trial, codes))["data"]))
            fingerprints[key] = mark or f"{name}-unseen"
            unseen[name] = Unseen(str(error), mark is not None and (name not in unseen or unseen[name].sure))
    for path, trial in distinct_extra(config).items():
        try:
            fingerprints[path] = _extra_fingerprint(config, trial, look)
        except Absent as error:
            fingerprints[path] = trial.data.extra_fingerprint or "extra-unseen"
            unseen[path] = Unseen(str(error), trial.data.extra_fingerprint is not None)
    return fingerprints, unseen


def _content(data: Mapping[str, Any]) -> str:
    """What of recorded data decides which they are: the name, and of a user's own its source and options."""
    if not is_reference(name := data["name"]):
        return str(name)
    return json.dumps({key: value for key, value in data.items() if key not in COMMON["data"]}, sort_keys=True)


def _hashes(own: Mapping[str, Source]) -> dict[str, str]:
    return {name: source.hash for name, source in own.items()}


def own_sources(config: SweepConfig) -> dict[str, Source]:
    """`sweep.own_code.sources`, with errors that name the sweep's key."""
    try:
        return sources(config)
    except UserError as error:
        raise in_the_config(error, config) from None


def _fingerprint(config: SweepConfig, trial: TrialConfig, own: Mapping[str, Source], look: bool) -> str:
    from trainers.data.sources import fingerprint

    if not look and trial.data.name != "digits":
        raise Absent("--no-data")
    content: str
    try:
        if trial.data.is_own:
            data = with_code(trial, _hashes(own)).data
            (content,) = in_own_process("trainers.rehearsal:marks", [data], own=own.values())
        else:
            content = fingerprint(trial.data)
    except UserError as error:
        raise in_the_config(error, config) from None
    if trial.data.fingerprint not in (None, content):
        raise UserError(
            f"trial.data.fingerprint: the data are {content}, not {trial.data.fingerprint}; "
            "point trial.data.root at those, or leave trial.data.fingerprint out"
        )
    return content


def _extra_fingerprint(config: SweepConfig, trial: TrialConfig, look: bool) -> str:
    from trainers.data.extra import fingerprint

    if not look:
        raise Absent("--no-data")
    try:
        content = fingerprint(extra_path(trial) or "", trial.data.cropped)
    except UserError as error:
        raise in_the_config(error, config) from None
    if trial.data.extra_fingerprint not in (None, content):
        raise UserError(
            f"trial.data.extra_fingerprint: the images are {content}, not {trial.data.extra_fingerprint}; "
            "point trial.data.extra at those, or leave trial.data.extra_fingerprint out"
        )
    return content


def _with_weights(model: ModelConfig) -> ModelConfig:
    """The weights that it starts from named by content, too."""
    if model.fine_tune is None and model.weights_fingerprint is None:
        return model
    from trainers.models import fine_tuning  # and with it torch, for which nothing else here waits

    return fine_tuning.with_fingerprint(model)


def check_weights(config: SweepConfig) -> None:
    """The weights that trials are to start from are there.

    Raises:
        UserError: some are not, or are others than `model.weights_fingerprint` says.
    """
    for place in fine_tuned(config):
        try:
            _with_weights(config.trial.model.model_copy(update={"fine_tune": place}))
        except UserError as error:
            raise in_the_config(error, config) from None


def fine_tuned(config: SweepConfig) -> list[str | None]:
    """Each `model.fine_tune` that trials of the sweep may have."""
    axis = config.space.get("model.fine_tune")
    return list(dict.fromkeys([*(axis.extremes() if axis else ()), config.trial.model.fine_tune]))


def data_key(config: TrialConfig) -> str:
    """What decides which files a trial reads: two trials with the same key have the same fingerprint."""
    return config.data.model_dump_json(include={"name", "root", "download", *config.data.options})


def extra_path(config: TrialConfig) -> str | None:
    """Where the images lie that join the trial's batches, absolute; None where none do."""
    data = config.data
    return str(Path(data.extra).expanduser().absolute()) if data.extra is not None and data.reads_extra else None


def distinct_data(config: SweepConfig) -> dict[str, TrialConfig]:
    """One trial for each data set that the sweep touches, by its `data_key`."""
    own = [validated(TrialConfig, nested(config.given, point), "space") for point in _own_data_points(config)]
    listed = [one for one in _with_values_of(config, "data.name") if not (own and one.data.is_own)]
    return {data_key(trial): trial for trial in (*own, *listed)}


def distinct_extra(config: SweepConfig) -> dict[str, TrialConfig]:
    """One trial for each place of extra images that the sweep touches, by that place."""
    shares = config.space.get("data.extra_fraction")
    data = config.trial.data
    if data.extra_fraction == 0 and (shares is None or not any(shares.extremes())):
        return {}
    if data.extra is None and data.extra_fingerprint is not None and "data.extra" not in config.space:
        raise UserError(
            "trial.data.extra_fingerprint: is of images that trial.data.extra names; give that too, or neither"
        )
    trials = _with_values_of(config, "data.extra", {"data.extra_fraction": 0.5})
    return {path: trial for trial in trials if (path := extra_path(trial)) is not None}


def _with_values_of(config: SweepConfig, key: str, beside: Point | None = None) -> list[TrialConfig]:
    """The sweep's own trial with each value of a key that is an axis, and without where the axis may not apply."""
    axis = config.space.get(key)
    points: list[Point] = [{key: value} for value in axis.extremes()] if axis else []
    if axis is None or axis.when:
        points.append({})
    return [validated(TrialConfig, nested(config.given, point | (beside or {})), "space") for point in points]


def _own_data_points(config: SweepConfig) -> list[Point]:
    """Every combination of the axes that say which data of a user's own are read, and with which options."""
    space, wanted = config.space, [key for key in config.space if key.startswith("data.") and key not in leaf_keys()]
    if "data.name" in space and any(map(is_reference, space["data.name"].extremes())):
        wanted.append("data.name")
    for key in wanted:  # and, as it grows, of what their `when` names
        wanted += [name for name in space[key].conditions() if name in space and name not in wanted]
    return corners({key: space[key] for key in dict.fromkeys(wanted)}, config.given) if wanted else []


def in_the_config(error: UserError, config: SweepConfig) -> UserError:
    """The error with its keys as the sweep's file has them: under space if one is an axis, else under trial."""

    def front(key: str) -> str:
        return "space." if key in config.space else "trial."

    key, _, rest = str(error).partition(":")
    if key not in leaf_keys() and key.partition(".")[0] not in PARTS:
        return type(error)(str(error))
    return type(error)(f"{front(key)}{key}:{written_out(rest, leaf_keys(), front)}")


def inputs(config: SweepConfig) -> dict[str, str]:
    """The files and folders that trials read, each with the key of the config that names it."""
    places = [place for place in fine_tuned(config) if place is not None]
    if not places:
        return data_inputs(config)
    from trainers.models.fine_tuning import source

    return data_inputs(config) | {str(source(place).file): "trial.model.fine_tune" for place in places}


def data_inputs(config: SweepConfig) -> dict[str, str]:
    """Those of them that hold images; digits has none."""
    sets = [trial.data for trial in distinct_data(config).values() if trial.data.name != "digits"]
    roots = {str(Path(data.root or "data").expanduser().absolute()): "trial.data.root" for data in sets}
    return roots | dict.fromkeys(distinct_extra(config), "trial.data.extra")
