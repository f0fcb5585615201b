"""What a trial is in a frame: its method, its value on every axis, and which trials are one."""

from __future__ import annotations

import functools
import json
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from analysis.frames.history import TrialHistory
from analysis.frames.names import ATTACK, KEYS, PARTS, RENAMED, Slots
from analysis.frames.pruned import PRUNED
from trainers.config import NETWORKS, ModelConfig, TrialConfig, leaves

#: The axes every frame has, swept or not.
BASE_AXES: tuple[str, ...] = ("model.name", "optimizer.name", "optimizer.lr", "batch_size")

#: Never an axis: the replicate, a name for other keys' values, where weights lie that are named by content, what of the
#: evaluation leaves a metric's meaning alone, and what is only measured.
_NO_AXES = (
    "seed",
    "preset",
    "model.fine_tune",
    "evaluation.splits",
    "evaluation.batch_size",
    "evaluation.every",
    "dynamics.",
)

#: Their published values depend on the method, and so are part of it.
_OF_METHOD = ("attack.start", "batch_norm_data", "clean_passes")

#: What every method of an optimizer reads: told apart within it, though another optimizer's published value differs.
_OF_OPTIMIZER = tuple(f"optimizer.{key}" for key in ("weight_decay", "momentum", "nesterov", "decoupled_weight_decay"))

#: What a trial's identity lacks where its choice (a schedule, no attack, no decay) does not read it.
_READ_BY_SOME = ("schedule.", "averaging.", "attack.", "dynamics.", "optimizer.decoupled_weight_decay")

#: Among these, and lacking where it is the default.
_LEFT_OUT_AT_DEFAULT = (
    "schedule.warmup_epochs",
    *(f"attack.{key}" for key in ("start_scale", "project", "radius_warmup", "step_size_warmup", "tau_milestones")),
)


#: In place of the value of a key that a config has not.
_ABSENT = object()


def identity_columns(trials: Sequence[TrialHistory]) -> dict[str, Any]:
    """trial_id, method, seed, the axes and lr_batch_ratio: what both frames start from."""
    columns = _columns([trial.config for trial in trials])
    unattacked = [steps == 0 for steps in columns["attack.steps"]]
    kinds = [attack_kind(trial.config.get("attack", {})) for trial in trials]
    if any(kind != Slots().attack for kind in kinds):
        columns[ATTACK] = kinds
    slots = list(map(_slots, unattacked, *(columns[key] for key in KEYS)))
    names = {choice: choice.method for choice in dict.fromkeys(slots)}
    values = _axis_values(trials, columns, slots, [names[choice] for choice in slots])
    return {
        "trial_id": [trial.id for trial in trials],
        "method": [names[choice] for choice in slots],
        "seed": [trial.seed for trial in trials],
        **{RENAMED.get(key, key): column for key, column in values.items()},
        "lr_batch_ratio": numbers(values["optimizer.lr"]) / numbers(values["batch_size"]),
    }


def attack_kind(attack: Mapping[str, Any]) -> str:
    """Which of PGD's kin an attack is, by what stands in a trial's identity: pgd, fgsm_rs, n_fgsm, fat or free.

    FGSM-RS is one step from a uniform start, at least as long as the radius, as those of its paper are (Wong et al.,
    ICLR 2020); a shorter one is PGD of one step.
    """
    if attack.get("replays") is not None:
        return "free"
    if attack.get("tau") is not None:
        return "fat"
    if attack.get("steps") != 1 or attack.get("start") not in ("uniform", "uniform_radius"):
        return "pgd"
    if not attack.get("project", True):
        return "n_fgsm"
    return "fgsm_rs" if attack.get("step_size", 0.0) >= attack.get("radius", np.inf) else "pgd"


def numbers(values: Iterable[Any]) -> NDArray[np.float64]:
    """Floats, with None as NaN."""
    return np.array(list(values), dtype=np.float64)


def measured_once(trials: Sequence[TrialHistory]) -> list[TrialHistory]:
    """The trials without those of which another completed one is the same but for what was measured of its dynamics.

    Of several that were measured the last planned stays.
    """

    def completed(trial: TrialHistory) -> bool:
        return trial.finished and trial.outcome == "completed"

    measured = {_training(trial): trial.id for trial in trials if "dynamics" in trial.config and completed(trial)}
    if not measured:
        return list(trials)
    return [t for t in trials if not completed(t) or measured.get(_training(t), t.id) == t.id]


def _training(trial: TrialHistory) -> str:
    """What decides the numbers of its training."""
    config = {key: value for key, value in trial.config.items() if key != "dynamics"}
    return json.dumps([config, trial.seed], sort_keys=True)


def superseded(trials: Sequence[TrialHistory], identity: Mapping[str, Any], wanted: Container[str]) -> dict[str, str]:
    """The trials that ended in whose cell another one of the same seed counts, and which; see `load_trials`."""
    twins: dict[tuple[Any, ...], list[TrialHistory]] = defaultdict(list)
    for trial, *cell in zip(trials, *(identity[key] for key in identity if key != "trial_id"), strict=True):
        if trial.finished or trial.outcome == PRUNED:
            twins[tuple(value if value == value else None for value in cell)].append(trial)
    instead: dict[str, str] = {}
    for same in twins.values():
        newest = max(same, key=lambda trial: (trial.outcome != PRUNED, trial.id in wanted, trial.began))
        instead |= {trial.id: newest.id for trial in same if trial is not newest}
    return instead


@functools.cache
def _slots(unattacked: bool, *values: Any) -> Slots:
    """A trial's choice by its values of `KEYS`; PGD-AT without attack steps is natural training."""
    named = zip(Slots._fields, values, strict=True)
    choice = Slots(**{name: value for name, value in named if value is not _ABSENT and value is not None})
    return choice._replace(objective="natural") if choice.objective == "pgd_at" and unattacked else choice


def _axis_values(
    trials: Sequence[TrialHistory],
    columns: Mapping[str, list[Any]],
    slots: Sequence[Slots],
    methods: Sequence[str],
) -> dict[str, list[Any]]:
    """Each axis with its value in every trial, NaN in those whose method it does not apply to.

    Within a slot's part, an axis of the points applies to the methods that have it there, though the config of
    another holds the key too; so does a key that varies within a method. Any other key that varies (epochs,
    the data) applies to all trials.
    """
    points = dict.fromkeys(key for trial in trials for key in trial.swept)
    shown: dict[str, list[Any]] = {}
    for key in dict.fromkeys([*BASE_AXES, *points, *columns]):
        if key not in BASE_AXES and key.startswith(_NO_AXES):
            continue
        values = columns[key]
        if key in (*BASE_AXES, *KEYS, *points) or values[1:] != values[:-1]:
            shown |= _axis(key, _values(key, values, trials, slots), trials, slots, methods)
    return shown


def _axis(
    key: str, values: Sequence[Any], trials: Sequence[TrialHistory], slots: Sequence[Slots], methods: Sequence[str]
) -> dict[str, list[Any]]:
    """The column of a key that is an axis; nothing for another."""
    values = _with_defaults(key, values, slots)
    if key == "model.activation":
        values = [
            value if _has_activations(trial.config) else np.nan for value, trial in zip(values, trials, strict=True)
        ]
    own = {name for name, trial in zip(methods, trials, strict=True) if key in trial.swept}
    own |= _in_which_several(values, methods)
    if key in _OF_OPTIMIZER:
        optimizers = _in_which_several(values, [choice.optimizer for choice in slots])
        own |= {name for name, choice in zip(methods, slots, strict=True) if choice.optimizer in optimizers}
    everywhere = key in (*BASE_AXES, *KEYS) or not key.startswith(PARTS)
    varies = everywhere and key not in _OF_METHOD and bool(_in_which_several(values, [""] * len(values)))
    if key not in BASE_AXES and not own and not varies:
        return {}
    shown = [value if everywhere or name in own else np.nan for name, value in zip(methods, values, strict=True)]
    return {key: [np.nan if value is None else value for value in shown]}


def _has_activations(config: Mapping[str, Any]) -> bool:
    """Whether the network of a trial's identity has a choice of activation."""
    name = config.get("model", {}).get("name")
    return name is None or (name in NETWORKS and ModelConfig(name=name).has_activations)


def _columns(configs: Sequence[Mapping[str, Any]]) -> defaultdict[str, list[Any]]:
    """Each dotted key's values in the configs, in the order in which these first hold it; `_ABSENT`: not there."""
    columns = _unordered(configs)
    first = {next(n for n, value in enumerate(values) if value is not _ABSENT) for values in columns.values()}
    ordered = {key: columns[key] for n in sorted(first) for key in leaves(configs[n])}
    return defaultdict(lambda: [_ABSENT] * len(configs), ordered)


def _unordered(configs: Sequence[Mapping[str, Any]], within: str = "") -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {}
    for key in dict.fromkeys(chain.from_iterable(configs)):
        values = [config.get(key, _ABSENT) for config in configs]
        if dict in (kinds := set(map(type, values))):
            columns |= _unordered([value if isinstance(value, dict) else {} for value in values], f"{within}{key}.")
            values = [_ABSENT if isinstance(value, dict) else value for value in values]
        if kinds - {dict, object}:
            columns[within + key] = values
    return columns


def _with_defaults(key: str, values: Sequence[Any], slots: Sequence[Slots]) -> list[Any]:
    """The values, with what a trial that lacks the key did where another one of its method has it.

    That is its method's default, or what code before the key did, where that was another (`_before`). So a trial of
    code that did not know the key yet, or leaves it out of the identity at its default, is in one cell with those that
    did the same, and in no other.
    """
    read_by_all = key in _LEFT_OUT_AT_DEFAULT or not key.startswith(_READ_BY_SOME)
    if not read_by_all or all(value == value for value in values):
        return list(values)
    have = {choice for choice, value in zip(slots, values, strict=True) if value == value}
    pairs = zip(slots, values, strict=True)
    return [_before(choice, key) if value != value and choice in have else value for choice, value in pairs]


def _before(choice: Slots, key: str) -> Any:
    """What code that does not know the key did: batch norm's statistics came from the update's own passes alone."""
    if choice.objective == "pgd_at" and not choice.s2o and key == "batch_norm_data":
        return "adversarial"
    if choice.objective == "trades" and not choice.s2o and key == "clean_passes":
        return 1
    if key == "data.extra_fraction":
        return 0.0  # whose default is that of trials with extra images
    return True if key == "objective.s2o.in_awp" else at(_defaults(choice), key)


@functools.cache
def _defaults(slots: Slots) -> dict[str, Any]:
    """What a config means that says nothing but the choice in the slots."""
    objective = {"name": slots.objective, "s2o": {"enabled": slots.s2o}}
    chosen = {"objective": objective, "weights": {"name": slots.weights}, "optimizer": {"name": slots.optimizer}}
    try:
        config = TrialConfig.model_validate(chosen)
    except ValueError:  # a choice that this code does not have
        config = TrialConfig()
    return config.resolved().model_dump(mode="json")


def _values(key: str, values: Sequence[Any], trials: Sequence[TrialHistory], slots: Sequence[Slots]) -> list[Any]:
    """The values under a key as a frame holds them: those of a slot as they are meant, a list as its JSON text."""
    if key in KEYS:
        return [choice[KEYS.index(key)] for choice in slots]
    pairs = zip(values, trials, strict=True)
    return [at(trial.config, key) if value is _ABSENT else _plain(value) for value, trial in pairs]


def _in_which_several(values: Sequence[Any], groups: Sequence[str]) -> set[str]:
    """The groups (methods, or optimizers) whose trials differ in the value; NaN is no value, `none` is one."""
    different = {(name, value) for name, value in zip(groups, values, strict=True) if value == value}
    counts = Counter(name for name, _ in different)
    return {name for name, n in counts.items() if n > 1}


def at(config: Mapping[str, Any], key: str) -> Any:
    """The value under a dotted key, NaN if the key is not there, JSON text if it is a list or a mapping."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part, np.nan) if isinstance(value, Mapping) else np.nan
    return _plain(value)


def _plain(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | dict) else value
