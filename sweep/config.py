"""One YAML file -> a SweepConfig: checked, frozen, every default filled in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, WrapValidator, model_validator

from sweep.space import INERT_AXES, Axis, axis_order, leaf_keys, nested
from trainers.config import Frozen, Number, TrialConfig, Whole
from trainers.errors import UserError, suggestion, validated

#: What a sweep may choose by: measured on the validation split, never on the test set.
Metric = Literal["val_robust", "val_clean", "val_robust_loss", "val_clean_loss"]


class SearchConfig(Frozen):
    """How points of the space are chosen."""

    name: Literal["grid", "random", "optuna"] = Field(
        "grid", description="grid: every combination. random: independent draws. optuna: draws that learn."
    )
    n_trials: Whole | None = Field(
        None, gt=0, description="random, optuna: points for each combination of the grid axes; each runs every seed."
    )
    sampler: Literal["tpe", "gp"] = Field("tpe", description="optuna: tree-structured Parzen, or Gaussian process.")
    seed: Whole = Field(0, ge=0, description="Of the draws.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "grid" and self.n_trials is not None:
            raise ValueError("n_trials: a grid runs every combination; leave it out, or set name: random")
        if self.name != "grid" and self.n_trials is None:
            raise ValueError(f"n_trials: needed for {self.name}: how many points to draw")
        return self


class ResourcesConfig(Frozen):
    """What one trial takes of a machine; a GPU may be shared: gpu: 0.5 runs two trials on each."""

    cpu: Number = Field(1, gt=0, description="CPU cores, and torch threads (at least 1).")
    gpu: Number = Field(0, ge=0, description="GPUs, or the share of one.")


def _as_axis(value: Any, build: Any) -> Axis:
    return build({"grid": value} if isinstance(value, list) else value)  # type: ignore[no-any-return]


class SweepConfig(Frozen):
    """A sweep: a question, the trial that everything starts from, and what is varied."""

    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run directory: runs/NAME."
    )
    question: str = Field("", description="What the sweep is to answer; shown with its results.")
    trial: TrialConfig = Field(default_factory=TrialConfig, description="Defaults of every trial.")
    space: dict[str, Annotated[Axis, WrapValidator(_as_axis)]] = Field(
        min_length=1, description="Dotted keys of the trial -> what they are varied over."
    )
    seeds: tuple[Annotated[Whole, Field(ge=0)], ...] = Field((0,), min_length=1, description="Each point runs each.")
    search: SearchConfig = Field(default_factory=lambda: SearchConfig())
    resources: ResourcesConfig = Field(default_factory=lambda: ResourcesConfig())
    max_concurrent: Whole | None = Field(
        None, gt=0, description="Most trials at once. none: as many as the resources allow."
    )
    metric: Metric = Field("val_robust", description="What Optuna optimises and the best trial is chosen by.")
    mode: Literal["max", "min"] = Field("max", description="max for an accuracy, min for a loss.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: each once, got {list(self.seeds)}")
        if self.search.name == "optuna" and "val" not in self.trial.evaluation.splits:
            raise ValueError(f"metric: optuna needs {self.metric}; put val into trial.evaluation.splits")
        if (self.mode == "min") != self.metric.endswith("loss"):
            raise ValueError(f"mode: must be {'min' if self.mode == 'max' else 'max'} for {self.metric}")
        for key, axis in self.space.items():
            _check_axis(key, axis, self)
        axis_order(self.space)
        return self


def _check_axis(key: str, axis: Axis, config: SweepConfig) -> None:
    if key in INERT_AXES:
        raise ValueError(f"space.{key}: {INERT_AXES[key]}")
    for name in (key, *(axis.when or {})):
        if name not in leaf_keys():
            raise ValueError(f"space.{name}: unknown key; {suggestion(name, leaf_keys())}")
    if config.search.name == "grid" and axis.grid is None:
        raise ValueError(
            f"space.{key}: search grid needs a list of values; give one, or set search.name to random or optuna"
        )


def load(path: Path, overrides: Sequence[str] = ()) -> SweepConfig:
    """The sweep that a file describes.

    Args:
        path: a YAML file.
        overrides: `KEY=VALUE` with a dotted key and a YAML value, as after --set. Setting `trial.KEY` where
            KEY is an axis replaces the axis by that value.

    Raises:
        UserError: one line that names the file, the key and a way out.
    """
    values = _mapping(path)
    _refuse_shadowed(path, values)
    for override in overrides:
        _override(values, override)
    config = validated(SweepConfig, values, f"{path}: ")
    check_values(config, f"{path}: space")
    return config


def check_values(config: SweepConfig, where: str) -> None:
    """Every value of every axis passes the validation of the key it stands for."""
    base = config.trial.model_dump()
    for key, axis in config.space.items():
        for value in axis.extremes():
            # With the values that make it apply, lest sgd be checked with what only deat reads.
            conditions = {name: wanted[0] for name, wanted in axis.conditions().items()}
            validated(TrialConfig, nested(base, {**conditions, key: value}), where)


def dump(config: SweepConfig) -> str:
    """The config as YAML with every default filled in; `load` reads it back as the same config."""
    values = config.model_dump(mode="json")
    values["space"] = {key: axis.model_dump(mode="json", exclude_none=True) for key, axis in config.space.items()}
    for key, axis in config.space.items():
        if axis.when is None:
            _remove(values["trial"], key)
    return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; configs/ has ready ones") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}") from None
    try:
        values = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{path}{line}: not valid YAML: {getattr(error, 'problem', error)}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of keys to values, got {type(values).__name__}")
    return values


class _UniqueKeys(yaml.SafeLoader):
    """YAML's safe loader, but a key that stands twice is an error: the first would be lost in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"duplicate key {key!r}: give each key once", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: must be KEY=VALUE, such as trial.epochs=3")
    try:
        value = yaml.load(text, Loader=_UniqueKeys)
    except yaml.YAMLError:
        raise UserError(f"--set {key}: the value is not valid YAML, got {text!r}") from None
    section, _, rest = key.partition(".")
    if section == "space" and rest:
        _put(values, ["space", rest], value, override)
        return
    _put(values, key.split("."), value, override)
    if section == "trial" and isinstance(values.get("space"), dict):
        values["space"].pop(rest, None)


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
    for key in _leaves(trial):
        if key in space and not (isinstance(space[key], dict) and "when" in space[key]):
            raise UserError(f"{path}: trial.{key}: is also an axis of space, which would hide it; keep one of the two")


def _leaves(values: dict[Any, Any], front: str = "") -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{front}{key}.")
        else:
            yield f"{front}{key}"


def _remove(values: dict[str, Any], key: str) -> None:
    *parts, last = key.split(".")
    for part in parts:
        values = values[part]
    values.pop(last, None)
