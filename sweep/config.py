"""One YAML file -> a SweepConfig: checked, frozen, every default filled in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, WrapValidator, model_validator

from sweep.space import INERT_AXES, Axis, Point, axis_order, leaf_keys, nested, value_at
from sweep.yaml_text import Misread, parsed, written
from trainers.config import TrialConfig, leaves
from trainers.errors import UserError, unknown_key, validated
from trainers.fields import Frozen, Number, Whole

#: What a sweep may choose by: measured on the validation split, never on the test set.
Metric = Literal["val_robust", "val_clean", "val_robust_loss", "val_clean_loss"]


class SearchConfig(Frozen):
    """How points of the space are chosen."""

    name: Literal["grid", "random", "quasi_random", "optuna"] = Field(
        "grid",
        description="grid: every combination. random: independent draws. quasi_random: a scrambled Sobol sequence, "
        "which fills the space evenly, best at 2, 4, 8, ... points. optuna: draws that learn.",
    )
    n_trials: Whole | None = Field(
        None, gt=0, description="All but grid: points for each combination of the grid axes; each runs every seed."
    )
    sampler: Literal["tpe", "gp"] | None = Field(
        None, description="optuna: tree-structured Parzen, or Gaussian process; none: tpe."
    )
    seed: Whole = Field(0, ge=0, lt=2**63, description="Of the draws.")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name == "grid" and self.n_trials is not None:
            raise ValueError("n_trials: a grid runs every combination; leave it out, or set name: random")
        if self.name != "grid" and self.n_trials is None:
            raise ValueError(f"n_trials: needed for {self.name}: how many points to draw")
        if self.name != "optuna" and self.sampler is not None:
            raise ValueError(f"sampler: is Optuna's, and name is {self.name}; leave it out, or set name: optuna")
        return self


class ResourcesConfig(Frozen):
    """What one trial takes of a machine; a GPU may be shared: gpu: 0.5 runs two trials on each."""

    cpu: Number = Field(1, gt=0, description="CPU cores, and torch threads (at least 1).")
    gpu: Number = Field(
        0,
        ge=0,
        description="1, or the share of one, of whose memory it then gets no more.",
        json_schema_extra={"maximum": 1},
    )
    trials_per_process: Whole = Field(
        1,
        ge=1,
        le=16,  # torch has 32 streams, of which a trial takes two
        description="Trials side by side in one process, each in a thread with a CUDA stream of its own: for small "
        "networks, which leave a GPU idle. cpu and gpu are then the process's.",
    )

    @property
    def threads(self) -> int:
        """Of torch, for one trial."""
        return max(1, int(self.cpu / self.trials_per_process))

    def divided(self, at_once: int) -> tuple[int, int]:
        """How many processes run at most so many trials at once, and how many trials each of them has."""
        processes = -(-at_once // self.trials_per_process)
        return processes, at_once // processes

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.gpu > 1:
            raise ValueError(
                f"gpu: must be <= 1, got {self.gpu:g}: a trial uses one GPU, and further ones would idle; "
                "set resources.gpu=1: trials run side by side"
            )
        return self


def _as_axis(value: Any, build: Any) -> Axis:
    if not isinstance(value, (list, dict, Axis)):
        raise ValueError(f"must be a list of values, or a mapping such as {{uniform: [low, high]}}, got {value!r}")
    return build({"grid": value} if isinstance(value, list) else value)  # type: ignore[no-any-return]


class SweepConfig(Frozen):
    """A sweep: a question, the trial that everything starts from, and what is varied."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Names the run directory: runs/NAME.")
    question: str = Field("", description="What the sweep is to answer; shown with its plan.")
    trial: TrialConfig = Field(default_factory=TrialConfig, description="Defaults of every trial.")
    space: dict[str, Annotated[Axis, WrapValidator(_as_axis, json_schema_input_type=list[Any] | Axis)]] = Field(
        min_length=1, description="Dotted keys of the trial -> what they are varied over."
    )
    seeds: tuple[Annotated[Whole, Field(ge=0, lt=2**63)], ...] = Field(
        (0,), min_length=1, description="Each point runs each."
    )
    search: SearchConfig = Field(default_factory=lambda: SearchConfig())
    resources: ResourcesConfig = Field(default_factory=lambda: ResourcesConfig())
    max_concurrent: Whole | None = Field(
        None, gt=0, description="Most trials at once. none: as many as the resources allow."
    )
    metric: Metric = Field("val_robust", description="What Optuna optimises and best cells are chosen by.")
    mode: Literal["max", "min"] = Field("max", description="max for an accuracy, min for a loss.")

    @property
    def given(self) -> dict[str, Any]:
        """What is set of every trial, as plain values; the rest is its preset's, or the default."""
        return self.trial.model_dump(exclude_unset=True)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds: each once, got {list(self.seeds)}")
        if self.search.name == "optuna" and "val" not in self.trial.evaluation.splits:
            raise ValueError(f"metric: optuna needs {self.metric}; put val into trial.evaluation.splits")
        if (self.mode == "min") != self.metric.endswith("loss"):
            raise ValueError(f"mode: must be {'min' if self.mode == 'max' else 'max'} for {self.metric}")
        if self.trial.device != "auto" and self.trial.device.startswith("cuda") != (self.resources.gpu > 0):
            needed = "> 0" if self.resources.gpu == 0 else "0"
            raise ValueError(
                f"resources.gpu: must be {needed} for trial.device: {self.trial.device}, got {self.resources.gpu:g}; "
                "or set trial.device=auto"
            )
        if self.resources.trials_per_process > 1:
            _check_shared(self)
        for key, axis in self.space.items():
            _check_axis(key, axis, self)
        axis_order(self.space)
        return self


def _check_shared(config: SweepConfig) -> None:
    """Trials of one process agree on the flags of its arithmetic, which are the process's."""
    way_out = "set resources.trials_per_process=1"
    precision = config.space.get("precision")
    if "tf32" in (config.trial.precision, *(precision.extremes() if precision else ())):
        raise ValueError(f"trial.precision: must be fp32 or bf16 where trials share a process, got tf32; {way_out}")
    if "deterministic" in config.space:
        raise ValueError(f"space.deterministic: must be the same for trials that share a process; {way_out}")


def _check_axis(key: str, axis: Axis, config: SweepConfig) -> None:
    if key in INERT_AXES:
        raise ValueError(f"space.{key}: {INERT_AXES[key]}")
    for name, where in [(key, key), *((name, f"{key}.when.{name}") for name in axis.when or {})]:
        if name not in leaf_keys():
            raise ValueError(f"space.{where}: {unknown_key(name, leaf_keys(), leaf_keys())}")
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
    if isinstance(trial := values.get("trial"), dict) and "seed" in trial:
        raise UserError(f"{path}: trial.seed: seeds are replicates; write seeds: [{trial['seed']}] instead")
    config = validated(SweepConfig, values, f"{path}: ")
    space = {key: _read_axis(config, key, f"{path}: space") for key in config.space}
    return _rooted(config.model_copy(update={"space": space}))


def _rooted(config: SweepConfig) -> SweepConfig:
    """The config with an absolute data root, so that RUN/sweep.yaml means the same from anywhere."""
    names = config.space["data.name"].extremes() if "data.name" in config.space else ()
    if config.trial.data.root is None and {config.trial.data.name, *names} == {"digits"}:
        return config
    root = str(Path(config.trial.data.root or "data").expanduser().absolute())
    data = config.trial.data.model_copy(update={"root": root})
    return config.model_copy(update={"trial": config.trial.model_copy(update={"data": data})})


def _read_axis(config: SweepConfig, key: str, where: str) -> Axis:
    """The axis with every value as the key it stands for reads it: `8/255` and `1e-4` are numbers then.

    Raises:
        UserError: a value that the key refuses.
    """
    axis = config.space[key]
    conditions, beside = _conditions(config.space, key), f"{where.removesuffix('space')}trial"

    def read(name: str, value: Any, where: str) -> Any:
        # With the values that make the axis apply, lest sgd be checked with what only deat reads.
        values = nested(config.given, {**conditions, name: value})
        try:
            return value_at(validated(TrialConfig, values, where).model_dump(mode="json"), name)
        except UserError as error:
            text = str(error).removeprefix(f"{where}.")
            if (culprit := text.partition(":")[0]) in leaves(config.given) and culprit not in {name, *config.space}:
                raise UserError(f"{beside}.{text}") from None
            raise

    if axis.is_range:
        ends = [read(key, value, where) for value in axis.extremes()]
        if not all(isinstance(end, float) for end in ends):
            raise UserError(
                f"{where}.{key}: a range is of fractions, and this key takes none; list its values: {{choice: [...]}}"
            )
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
    if "preset" in config.space or config.trial.preset is not None:
        values["trial"] = config.trial.model_dump(mode="json", exclude_unset=True)
    values["space"] = {key: axis.model_dump(mode="json", exclude_none=True) for key, axis in config.space.items()}
    for key, axis in config.space.items():
        if not axis.when:
            _remove(values["trial"], key)
    values["trial"].pop("seed", None)
    return written(values)


def _mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; configs/ has ready ones") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text: {error}; give a YAML file") from None
    try:
        values = parsed(text)
    except (yaml.YAMLError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
        what = "" if isinstance(error, Misread) else "not valid YAML: "
        raise UserError(f"{path}{line}: {what}{problem}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: must be a mapping of keys to values, got {type(values).__name__}")
    return values


def _override(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key:
        raise UserError(f"--set {override}: must be KEY=VALUE, such as trial.epochs=3")
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
    if section == "trial" and isinstance(values.get("space"), dict):
        for pinned in leaves(nested({}, {rest: value}) if rest else value):
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
        values = values.get(part) or {}
    values.pop(last, None)
