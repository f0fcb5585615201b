"""A sweep's YAML file and `--set`: text -> SweepConfig, and back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from sweep.axes import Axis, Point, leaf_keys, nested, own_names, value_at
from sweep.config import SweepConfig
from sweep.yaml_text import DEEPEST, LONGEST, Misread, parsed, written
from trainers.blanked import secret_key
from trainers.config import TrialConfig, leaves
from trainers.errors import UserError, suggestion, validated
from trainers.own.reference import PARTS, is_reference
from trainers.plain_file import bounded

Part = TypeVar("Part")
Value = TypeVar("Value")


def load(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """The sweep that a file describes.

    Args:
        path: a YAML file.
        overrides: `KEY=VALUE` with a dotted key and a YAML value, as after --set. Setting `trial.KEY` where
            KEY is an axis replaces the axis by that value.

    Raises:
        UserError: one line that names the file, the key and a way out; and one for each other key that is wrong.
    """
    return of_values(mapping(path), path, overrides)


def of_values(values: dict[str, Any], path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """The sweep that plain values describe, as a file has them.

    Args:
        values: of the file; they are changed.
        path: of it, which errors name, and in whose folder a user's own code lies.
        overrides: as for `load`.

    Raises:
        UserError: as `load` does.
    """
    try:
        return _of_values(values, path, overrides)
    except UserError as error:
        raise UserError.of(_where(text, path, overrides) for text in (str(error), *error.others)) from None


def _where(text: str, path: Path, overrides: Sequence[str]) -> str:
    """A message that says where the wrong key stands: not in the file, where it was set by --set."""
    said = text.removeprefix(f"{path}: ")
    key = said.partition(": ")[0]
    for name in (override.partition("=")[0] for override in overrides) if said != text else ():
        if key == name or key.startswith(f"{name}."):
            return f"--set {said}"
        if name.startswith(f"{key}.") and ": unknown key" in said:  # else a section of the file may be at fault
            return f"--set {name}: {said}"
    return text


def _of_values(values: dict[str, Any], path: Path, overrides: Sequence[str]) -> SweepConfig:
    _refuse_shadowed(path, values)
    for override in overrides:
        _override(values, override)
    _refuse_secrets(path, values)
    if isinstance(trial := values.get("trial"), dict) and "seed" in trial:
        raise UserError(f"{path}: trial.seed: seeds are replicates; write seeds: [{trial['seed']}] instead")
    try:
        config = validated(SweepConfig, values, f"{path}: ")
    except UserError as error:
        raise UserError.of([str(error), *error.others, *_wrong_axes(values, path, error)]) from None
    axes = _each(lambda key: _read_axis(config, key, f"{path}: space"), config.space)
    config = config.model_copy(update={"space": dict(zip(config.space, axes, strict=True))})
    points = tuple(
        _each(
            lambda numbered: _read_point(config, numbered[1], f"{path}: search.points.{numbered[0]}"),
            enumerate(config.search.points),
        )
    )
    start_from = tuple(map(_absolute, config.search.start_from))
    search = config.search.model_copy(update={"points": points, "start_from": start_from})
    return _rooted(_beside(path, config.model_copy(update={"search": search})))


def _each(read: Callable[[Part], Value], parts: Iterable[Part]) -> list[Value]:
    """Every part read.

    Raises:
        UserError: all that is wrong with them.
    """
    values, wrong = [], list[str]()
    for part in parts:
        try:
            values.append(read(part))
        except UserError as error:
            wrong += [str(error), *error.others]
    if wrong:
        raise UserError.of(wrong)
    return values


def _wrong_axes(values: dict[str, Any], path: Path, first: UserError) -> Iterator[str]:
    """What is wrong with the axes of a config that is refused: they are looked at without the keys that are wrong.

    Not told is what may be wrong only for want of those: an option of an optimizer whose name is misspelt.
    """
    left, wrong, faulty = deepcopy(values), [str(first), *first.others], list[str]()

    def keys() -> list[str]:
        return [text.removeprefix(f"{path}: ").partition(": ")[0] for text in wrong]

    def told() -> Iterator[str]:
        yield from (text for text, key in zip(wrong, keys(), strict=True) if _is_sure(text, key, faulty))

    left.setdefault("name", "")  # the one key without a default
    while [key for key in keys() if _leave_out(left, key)]:
        faulty += keys()
        left.setdefault("name", "sweep")
        try:
            config = validated(SweepConfig, left, f"{path}: ")
        except UserError as error:
            wrong = [str(error), *error.others]
            yield from told()
            continue
        try:
            _each(partial(_read_axis, config, where=f"{path}: space"), config.space)
        except UserError as error:
            wrong = [str(error), *error.others]
            yield from told()
        return


def _is_sure(text: str, key: str, faulty: Sequence[str]) -> bool:
    """Whether what is wrong with an axis is so whatever stands in the place of keys that are wrong too.

    Args:
        text: what is wrong.
        key: with which, such as `space.optimizer.lr`.
        faulty: the keys that were left out.
    """
    deciding = [one for one in faulty if one.startswith("trial") or one == "space.preset" or one.endswith(".name")]
    parts = {one.partition(".")[2].partition(".")[0] for one in deciding}
    part = key.partition(".")[2].partition(".")[0]
    named = not any(one.endswith(f"{part}.name") for one in faulty)  # the options of a user's own code are its own
    return key.startswith("space.") and (("unknown key" in text and named) or not parts & {part, "preset", ""})


def _leave_out(values: dict[str, Any], key: str) -> bool:
    """Takes a key out of a config's values, or what it is within; false where nothing of it is there."""
    section, _, rest = key.partition(".")
    inner = values.get(section)
    if section == "space" and isinstance(inner, dict):
        return any([inner.pop(axis, inner) is not inner for axis in [*inner] if f"{rest}.".startswith(f"{axis}.")])
    if rest and isinstance(inner, dict) and _leave_out(inner, rest):
        return True
    return values.pop(section, values) is not values


def _refuse_secrets(path: Path, values: dict[str, Any]) -> None:
    """A config is written down in its run, whole.

    Raises:
        UserError: names the key, and does not repeat its value.
    """
    if (key := secret_key(values)) is not None:
        raise UserError(
            f"{path}: {key}: must hold no secret, such as a password, a token or a URL with one, for the run's files "
            "keep it; give it to your code by an environment variable, which trials inherit. What only looks "
            "like one needs another key, or other words"
        )


def _beside(path: Path, config: SweepConfig) -> SweepConfig:
    """The config with the folder of the user's own code, where it names any, so that RUN/sweep.yaml means the same."""
    if not any(own_names(part, config.trial, config.space) for part in PARTS):
        return config
    folder = path.absolute().parent / Path(config.code_folder or ".").expanduser()
    return config.model_copy(update={"code_folder": str(folder)})


def _rooted(config: SweepConfig) -> SweepConfig:
    """The config with absolute paths of its data, so that RUN/sweep.yaml means the same from anywhere."""
    names = config.space["data.name"].extremes() if "data.name" in config.space else ()
    data, space = config.trial.data, dict(config.space)
    paths = {"extra": _absolute(data.extra)} if data.extra is not None else {}
    if data.root is not None or {data.name, *names} != {"digits"}:
        paths["root"] = _absolute(data.root or "data")
    if axis := space.get("data.extra"):
        listed = {kind: getattr(axis, kind) for kind in ("grid", "choice") if getattr(axis, kind) is not None}
        rooted = {kind: tuple(path and _absolute(path) for path in values) for kind, values in listed.items()}
        space["data.extra"] = axis.model_copy(update=rooted)
    trial = config.trial.model_copy(update={"data": data.model_copy(update=paths)}) if paths else config.trial
    trackers = tuple(
        one.model_copy(update={"folder": _absolute(one.folder)}) if one.folder is not None else one
        for one in config.trackers
    )
    return config.model_copy(update={"trial": trial, "space": space, "trackers": trackers})


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def _read_axis(config: SweepConfig, key: str, where: str) -> Axis:
    """The axis with every value as the key it stands for reads it: `8/255` and `1e-4` are numbers then.

    Raises:
        UserError: a value that the key refuses.
    """
    axis = config.space[key]
    conditions, beside = _conditions(config.space, key), f"{where.removesuffix('space')}trial"

    def read(name: str, value: Any, where: str) -> Any:
        _check_applies(config, name, conditions, where)
        # With the values that make the axis apply, lest sgd be checked with what only deat reads.
        values = nested(config.given, {**conditions, name: value})
        try:
            return value_at(validated(TrialConfig, values, where).model_dump(mode="json"), name)
        except UserError as error:
            text = str(error).removeprefix(f"{where}.")
            if (culprit := text.partition(":")[0]) in leaves(config.given) and culprit not in {name, *config.space}:
                raise UserError(f"{beside}.{text}") from None
            raise

    for end in axis.extremes() if axis.is_range else ():
        read(key, end, where)
    _check_conditions(config, key, where)
    admitted = {
        name: [read(name, value, f"{where}.{key}.when") for value in values]
        for name, values in axis.conditions().items()
    }
    listed = {
        kind: [read(key, value, where) for value in values]
        for kind in ("grid", "choice")
        if (values := getattr(axis, kind)) is not None
    }
    return validated(Axis, {**axis.model_dump(), **listed, "when": admitted or None}, f"{where}.{key}")


def _read_point(config: SweepConfig, point: Point, where: str) -> Point:
    """A given point with every value as its key reads it.

    Raises:
        UserError: a value that its key refuses.
    """
    conditions = {name: value for key in point for name, value in _conditions(config.space, key).items()}
    values = validated(TrialConfig, nested(config.given, {**conditions, **point}), where).model_dump(mode="json")
    return {key: value_at(values, key) for key in point}


def _check_applies(config: SweepConfig, key: str, conditions: Point, where: str) -> None:
    """An option of the user's own code is an axis only where that code is what the part's name says."""
    part, named = key.partition(".")[0], f"{key.partition('.')[0]}.name"
    if key in leaf_keys() or named in conditions or named not in config.space:
        return
    names = own_names(part, config.trial, config.space)
    if len(names) < len(config.space[named].extremes()):
        raise UserError(
            f"{where}.{key}: only {names[0]} has such an option, and {named} is an axis; write "
            f"{key}: {{grid: [...], when: {{{named}: {names[0]}}}}}"
        )


def _check_conditions(config: SweepConfig, key: str, where: str) -> None:
    """Some trial has the user's own code that a `when` names; of a listed name the part's own check knows."""
    for name, values in config.space[key].conditions().items():
        known = own_names(name.partition(".")[0], config.trial, config.space) if name.endswith(".name") else []
        if unknown := next((value for value in values if is_reference(value) and value not in known), None):
            raise UserError(f"{where}.{key}.when.{name}: no trial has {unknown}; {suggestion(unknown, known)}")


def _conditions(space: dict[str, Axis], key: str) -> Point:
    """Values at which the axis applies: the first admitted of each key in its `when`, and in theirs."""
    point: Point = {}
    for name, admitted in (space[key].conditions() if key in space else {}).items():
        point |= _conditions(space, name) | {name: admitted[0]}
    return point


def dump(config: SweepConfig) -> str:
    """The config as YAML with every default filled in; `load` reads it back as the same config.

    Where there is a preset, of the trial only what was set: the rest is the preset's.
    """
    values = config.model_dump(mode="json")
    if config.stopping is not None:
        values["stopping"] = config.stopping.model_dump(mode="json", exclude_none=True)
    values["trackers"] = [one.model_dump(mode="json", exclude_none=True) for one in config.trackers]
    for key in ("code_folder", "code", "stopping", "race", "fail_fast", "where", "trackers", "notify"):
        if values[key] is None or values[key] == []:
            del values[key]
    for key in ("points", "start_from"):
        if not values["search"][key]:
            del values["search"][key]
    if isinstance(config.metric, tuple):
        del values["mode"]
    if "preset" in config.space or config.trial.preset is not None:
        values["trial"] = config.trial.model_dump(mode="json", exclude_unset=True)
    values["space"] = {key: axis.model_dump(mode="json", exclude_none=True) for key, axis in config.space.items()}
    for key, axis in config.space.items():
        if not axis.when:
            _remove(values["trial"], key)
    values["trial"].pop("seed", None)
    return written(values)


def submitted_name(text: str) -> str:
    """How the file of a config is called that is kept to be launched later: by 12 hex digits of its SHA-256."""
    return f"submitted-{hashlib.sha256(text.encode()).hexdigest()[:12]}.yaml"


def mapping(path: Path) -> dict[str, Any]:
    """What a config's file holds, before any of it is checked.

    Raises:
        UserError: it cannot be read, or is no mapping in YAML.
    """
    try:
        text = bounded(path, LONGEST).decode()
    except FileNotFoundError:
        raise UserError(
            f"{path}: no such file; the repository has some in configs/, and sweep init methods writes one"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path}: cannot be read as text: {why}; give a YAML file") from None
    try:
        values = parsed(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        what = "" if isinstance(error, Misread) else "not valid YAML: "
        raise UserError(f"{path}{line}: {what}{problem}") from None
    if re.fullmatch(r"submitted-[0-9a-f]{12}\.yaml", path.name) and path.name != submitted_name(text):
        raise UserError(f"{path}: is not what was submitted: it was changed since, as its name tells; submit anew")
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of keys to values, got {type(values).__name__}")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: must be KEY=VALUE, such as trial.epochs=3")
    if key.count(".") >= DEEPEST:
        raise UserError(f"--set {key}: a key has at most {DEEPEST} parts")
    try:
        value = parsed(text)
    except Misread as error:
        raise UserError(f"--set {key}: {error.problem}") from None
    except (yaml.YAMLError, ValueError):
        raise UserError(f"--set {key}: the value is not valid YAML, got {text!r}") from None
    section, _, rest = key.partition(".")
    if section == "space" and rest:
        _put(values, ["space", rest], value, override)
        if not _conditional(value) and isinstance(values.get("trial"), dict):
            _remove(values["trial"], rest)
        return
    _put(values, key.split("."), value, override)
    set_here = nested({}, {rest: value}) if rest else value
    if section == "trial" and isinstance(set_here, dict) and isinstance(values.get("space"), dict):
        for pinned in leaves(set_here):
            values["space"].pop(pinned, None)


def _put(values: dict[str, Any], path: list[str], value: Any, override: str) -> None:
    for part in path[:-1]:
        values = values.setdefault(part, {})
        if not isinstance(values, dict):
            raise UserError(f"--set {override}: {part} is a value, not a mapping of keys")
    values[path[-1]] = value


def _refuse_shadowed(path: Path, values: dict[str, Any]) -> None:
    """A key both in trial and an axis that always applies: one of the two would be ignored in silence."""
    space, trial = values.get("space"), values.get("trial")
    if not (isinstance(space, dict) and isinstance(trial, dict)):
        return
    for key in leaves(trial):
        if key in space and not _conditional(space[key]):
            raise UserError(f"{path}: trial.{key}: is also an axis of space, which would hide it; keep one of the two")


def _conditional(axis: Any) -> bool:
    return isinstance(axis, dict) and bool(axis.get("when"))


def _remove(values: dict[str, Any], key: str) -> None:
    *parts, last = key.split(".")
    for part in parts:
        inner = values.get(part)
        values = inner if isinstance(inner, dict) else {}
    values.pop(last, None)
