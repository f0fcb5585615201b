"""What each kind of line of records.jsonl must hold, key by key, and what its keys must be together."""

from __future__ import annotations

import base64
import marshal
from collections.abc import Callable, Mapping
from dataclasses import fields
from operator import itemgetter
from typing import Any, TypeAlias, get_args

from trainers.record.kinds import LONGEST_NOTE, EpochRecord, OutcomeName
from trainers.record.rules import (
    AXES,
    CALLED,
    CODE_HASH,
    COUNTS,
    FLAG,
    FRACTION,
    IDS,
    IDS_BY_PLACE,
    LARGEST,
    MAPPING,
    MOST_EPOCHS,
    NUMBER,
    OBJECTIVES,
    PACKED,
    PLAIN,
    POSITIVE,
    ROW,
    ROWS,
    SECONDS,
    SHARE,
    SIZES,
    TAGS,
    TEXT,
    TIME,
    TRIAL,
    VERSIONS,
    WHOLE,
    Rule,
    is_classes,
    is_id,
    is_number,
    is_point,
    is_right,
    is_text,
    shown,
    whole_number,
)

_Rules: TypeAlias = "Rule | Mapping[str, _Rules]"

#: Of a part that is a user's own code, what is not its own option.
_OWN: Mapping[str, _Rules] = {"name": TEXT, "code": CODE_HASH}

#: What of a trial's config is read by name.
_CONFIG: Mapping[str, _Rules] = {
    "epochs": whole_number(1, MOST_EPOCHS),
    **dict.fromkeys(("batch_size", "workers"), POSITIVE),
    "seed": whole_number(0, 2**63),
    "clean_passes": WHOLE.or_null(),
    "deterministic": FLAG,
    **dict.fromkeys(("precision", "batch_norm_data", "batch_norm", "preset"), TEXT.or_null()),
    "data": {
        **_OWN,
        **dict.fromkeys(("validation_fraction", "cutmix", "extra_fraction", "crop_scale", "in_memory_gib"), NUMBER),
        "cutmix_window": NUMBER.or_null(),
        **dict.fromkeys(("train_per_class", "test_per_class", "image_size", "crop_size"), WHOLE.or_null()),
        "augment": FLAG.or_null(),
        "download": FLAG,
    },
    "schedule": {**_OWN, **dict.fromkeys(("factor", "warmup", "warmup_epochs"), NUMBER)},
    "averaging": {**_OWN, "decay": NUMBER, "ema_warmup": FLAG, "start": WHOLE.or_null()},
    "dynamics": {
        "every": WHOLE.or_null(),
        **dict.fromkeys(("images", "eigenpairs", "directions", "probes", "batches"), WHOLE),
    },
    "model": {**_OWN, "activation": TEXT.or_null(), "normalize": FLAG},
    "optimizer": {
        **_OWN,
        **dict.fromkeys(("lr", "k1", "k2", "momentum", "weight_decay", "beta1", "beta2", "eps"), NUMBER),
        "nesterov": FLAG,
        "decoupled_weight_decay": FLAG.or_null(),
    },
    "attack": {
        **dict.fromkeys(("radius", "step_size", "start_scale", "radius_warmup", "step_size_warmup"), NUMBER),
        "steps": WHOLE,
        **dict.fromkeys(("tau", "replays"), WHOLE.or_null()),
        **dict.fromkeys(("norm", "start"), TEXT.or_null()),
        "project": FLAG,
    },
    "objective": {
        **_OWN,
        "beta": NUMBER.or_null(),
        **dict.fromkeys(("label_smoothing", "vertex", "clean_label", "vertex_label"), NUMBER),
        "s2o": {**dict.fromkeys(("weight", "rho"), NUMBER.or_null()), **dict.fromkeys(("enabled", "in_awp"), FLAG)},
    },
    "weights": {**_OWN, "gamma": NUMBER.or_null(), "warmup": WHOLE.or_null()},
    "evaluation": {
        **dict.fromkeys(("batch_size", "every"), POSITIVE),
        **dict.fromkeys(("radius", "step_size"), NUMBER.or_null()),
        **dict.fromkeys(("steps", "restarts"), WHOLE),
        **dict.fromkeys(("start", "precision"), TEXT.or_null()),
    },
}

_OF_CHUNK: dict[str, Rule] = {
    "trial_id": TRIAL,
    "weights": CALLED,
    "averaged": FLAG,
    "parameters": MAPPING,
    "split": CALLED,
    "asked": POSITIVE,
    "first": WHOLE,
    "images": POSITIVE,
    "clean_correct": WHOLE,
    "seconds": SECONDS,
    "time": TIME,
    **dict.fromkeys(("host", "device", "code_version"), TEXT),
    "versions": VERSIONS,
}


def _is_forecast(value: Any) -> bool:
    return isinstance(value, dict) and all(is_number(value.get(key)) for key in ("trials", "seconds"))


#: What each kind's keys must be; a key that is not here is not read.
FORMS: dict[str, dict[str, Rule]] = {
    "launch": {
        "time": TIME,
        "size": WHOLE,
        "wanted": IDS,
        **dict.fromkeys(("command", "code_version", "mode"), TEXT),
        "dirty": FLAG.or_null(),
        "versions": VERSIONS,
        "metric": CALLED,
        "objectives": OBJECTIVES,
        "strata": AXES,
        "commit": TEXT.or_null(),
        "decides": MAPPING.or_null(),
        "shard": SHARE,
        "after": TIME,
        "merged": MAPPING,
        **dict.fromkeys(("left_out", "taken_up"), IDS),
        "start_from": IDS_BY_PLACE,
        "budget_hours": NUMBER,
        "forecast": Rule("a mapping of trials and seconds", _is_forecast),
        **dict.fromkeys(("registration", "surrogate"), TEXT),
    },
    "trial": {
        "trial_id": TRIAL,
        "number": WHOLE,
        "config": Rule("a mapping", lambda value: isinstance(value, dict)),
        "point": Rule("a mapping of axes to values", is_point),
        "seed": whole_number(0, 2**63),
        "time": TIME,
        **dict.fromkeys(("preset", "fine_tune"), TEXT),
    },
    "start": {
        "trial_id": TRIAL,
        "code_version": TEXT,
        "time": TIME,
        **dict.fromkeys(("host", "device"), TEXT),
        "arithmetic": Rule("a mapping", lambda value: isinstance(value, dict)).or_null(),
        "capacity_bytes": WHOLE.or_null(),
        "workers": POSITIVE,
        "died": TEXT,
    },
    "resume": {
        "trial_id": TRIAL,
        "epoch": whole_number(0, MOST_EPOCHS),
        "reason": TEXT,
        "from_trial": TRIAL.or_null(),
        "time": TIME,
    },
    "epoch": {
        "trial_id": TRIAL,
        **{entry.name: NUMBER.or_null() for entry in fields(EpochRecord) if entry.type == "float | None"},
        **{entry.name: SECONDS for entry in fields(EpochRecord) if entry.type == "float"},
        "epoch": whole_number(1, MOST_EPOCHS),
        "lr": NUMBER,
        **dict.fromkeys(("engine", "engine_reason"), TEXT.or_null()),
        "peak_memory_bytes": WHOLE,
        "right": Rule("by split the bits of its images", is_right).or_null(),
        "time": TIME,
    },
    "dynamics": {
        "trial_id": TRIAL,
        "epoch": whole_number(0, MOST_EPOCHS),
        "lr": NUMBER,
        **dict.fromkeys(("batch_size", "parameters", "training_images", "images", "batches"), POSITIVE),
        "eigenpairs": WHOLE,
        **dict.fromkeys(("momentum", "robust"), NUMBER),
        **dict.fromkeys(("k1", "k2", "loss", "trace", "trace_error"), NUMBER.or_null()),
        **dict.fromkeys(("gradient_squared", "distance_squared"), SECONDS.or_null()),
        **dict.fromkeys(("curvatures", "slopes", "noise_traces", "noise_trace_errors"), ROW),
        "batch_sizes": SIZES,
        **dict.fromkeys(("variances", "kurtoses", "places", "rises"), ROWS),
        "seconds": SECONDS,
        "time": TIME,
    },
    "outcome": {
        "trial_id": TRIAL,
        "outcome": Rule(f"one of {', '.join(get_args(OutcomeName))}", lambda value: value in get_args(OutcomeName)),
        "reason": TEXT,
        "epochs": whole_number(0, MOST_EPOCHS),
        "time": TIME,
        **dict.fromkeys(("alone", "state_kept"), FLAG),
        **dict.fromkeys(("memory_bytes", "cuda_bytes"), WHOLE.or_null()),
        **dict.fromkeys(("rung", "rank", "of"), POSITIVE.or_null()),
        "share": FRACTION,
        "by": TEXT,
    },
    "evaluation": {
        **_OF_CHUNK,
        "attack": CALLED,
        "correct": WHOLE,
        "draws": TEXT.or_null(),
        "fingerprint": TEXT.or_null(),
        **dict.fromkeys(("right", "clean_right", "margins"), PACKED.or_null()),
        "classes": Rule("the classes of a split's images", is_classes).or_null(),
    },
    "check": {
        **_OF_CHUNK,
        "check": CALLED,
        "right_under": COUNTS,
        "against": WHOLE,
        "in_favour": WHOLE,
    },
    "note": {
        "trial_id": TRIAL,
        "note": Rule(
            f"text of at most {LONGEST_NOTE:,} characters", lambda value: is_text(value) and len(value) <= LONGEST_NOTE
        ).or_null(),
        **dict.fromkeys(("tags", "untags"), TAGS),
        "time": TIME,
    },
}

#: Of each kind the keys that mean something on lines of other kinds alone. A line that is read has none of them.
OF_OTHERS = {
    kind: frozenset(key for form in FORMS.values() for key in form) - form.keys() for kind, form in FORMS.items()
}


def _of_trial(record: Mapping[str, Any]) -> str:
    """What is wrong with a trial's config, or its point, in words."""
    config, point = record["config"], record["point"]
    known = {key: _CONFIG.get(key.partition(".")[0], PLAIN) for key in point}
    rules = {key: part if isinstance(part, Rule) else _within(part, config, key) for key, part in known.items()}
    return _of_config(config, _CONFIG, "config.") or _of_config(point, rules, "point.")


def _of_config(values: Mapping[str, Any], rules: Mapping[str, _Rules], where: str) -> str:
    for key, value in values.items():
        if (rule := rules.get(key)) is None:
            if not is_text(key):
                return f"{where}{key!a} must be a key of whole characters"
            rule = PLAIN
        if isinstance(rule, Rule):
            if not rule.holds(value):
                return f"{where}{key} must be {rule.words}, got {shown(value)}"
        elif type(value) is not dict:
            return f"{where}{key} must be a mapping, got {shown(value)}"
        elif (part := (key, marshal.dumps(value, _BY_VALUE))) not in _believed:
            if wrong := _of_config(value, _OWN if _is_own(value) else rule, f"{where}{key}."):
                return wrong
            _believed.add(part)
    return ""


#: Parts of configs that were looked at: of a run's thousands of trials most have most parts in common.
_believed: set[tuple[str, bytes]] = set()

#: The version of `marshal` in which equal values have equal bytes, and 1 and true have not.
_BY_VALUE = 2


def _is_own(part: Any) -> bool:
    """Whether a part of a config is a user's own code, whose other keys are its options."""
    return isinstance(part, dict) and ":" in str(part.get("name"))


def _within(rules: Mapping[str, _Rules], config: Mapping[str, Any], key: str) -> Rule:
    """What must hold of an axis of a part's key, such as `objective.s2o.enabled`."""
    part, *names = key.split(".")
    if _is_own(config.get(part)):
        return PLAIN
    for name in names:
        inner = rules.get(name, PLAIN)
        if isinstance(inner, Rule):
            return inner
        rules = inner
    return PLAIN


def _of_launch(record: Mapping[str, Any]) -> str:
    """What is wrong with what a launch was to decide, in words."""
    decides = record.get("decides") or {}
    if not is_text(decides.get("claim", "")):
        return f"decides.claim must be text, got {shown(decides['claim'])}"
    seeds = decides.get("choosing_seeds", [])
    if not isinstance(seeds, list) or not all(map(WHOLE.holds, seeds)):
        return f"decides.choosing_seeds must be a list of whole numbers, got {shown(seeds)}"
    if not NUMBER.or_null().holds(decides.get("budget_hours")):
        return f"decides.budget_hours must be {NUMBER.words}, got {shown(decides['budget_hours'])}"
    if record.get("mode", "max") not in ("max", "min"):
        return f"mode must be max or min, got {shown(record['mode'])}"
    return ""


_HOW: dict[str, Rule] = {
    **dict.fromkeys(("precision", "engine", "torch", "processor"), TEXT),
    "deterministic": FLAG,
    "cudnn": Rule("text, a number or null", lambda value: value is None or is_text(value) or is_number(value)),
    "threads": WHOLE.or_null(),
}


def _of_start(record: Mapping[str, Any]) -> str:
    """What is wrong with how a trial was computed, in words."""
    how = record.get("arithmetic")
    if how is None:
        return ""
    wrong = [key for key, rule in _HOW.items() if key not in how or not rule.holds(how[key])]
    return f"arithmetic.{wrong[0]} must be {_HOW[wrong[0]].words}, got {shown(how.get(wrong[0]))}" if wrong else ""


def _of_dynamics(record: Mapping[str, Any]) -> str:
    """Which list has another length than the others, in words."""
    directions, sizes = len(record["curvatures"]), len(record.get("batch_sizes", record["variances"]))
    for key, n in (("slopes", directions), ("noise_traces", sizes), ("noise_trace_errors", sizes)):
        if len(record.get(key, ()) or [None] * n) != n:
            return f"{key} must have {n} values, got {len(record[key])}"
    for key in ("variances", "kurtoses"):
        rows = record.get(key)
        if rows is not None and [len(row) for row in rows] != [directions] * sizes:
            return f"{key} must be {sizes} lists of {directions} values, got lengths {[len(row) for row in rows]}"
    places, rises = ([len(row) for row in record.get(key, [])] for key in ("places", "rises"))
    if places != rises or (places and len(places) != directions):
        return f"places and rises must be {directions} lists of equal lengths, got {places} and {rises}"
    if record.get("eigenpairs", 0) > directions:
        return f"eigenpairs must be at most the {directions} directions, got {record['eigenpairs']}"
    return ""


_READ_BY_ATTACK = {
    "norm": TEXT, "radius": NUMBER, "steps": WHOLE, "step_size": NUMBER, "restarts": WHOLE, "start": TEXT
}  # fmt: skip


def _of_chunk(record: Mapping[str, Any]) -> str:
    """Which count is larger than that of the images, or which bits are of others, in words."""
    images = record["images"]
    for key in ("clean_correct", "correct", "against", "in_favour"):
        if record.get(key, 0) > images:
            return f"{key} must be at most the {images} images, got {record[key]}"
    for key, size in (("right", -(-images // 8)), ("clean_right", -(-images // 8)), ("margins", 2 * images)):
        if (text := record.get(key)) is not None and len(base64.b64decode(text)) != size:
            return f"{key} must hold {size} bytes for {images} images, got {len(base64.b64decode(text))}"
    for key, rule in _READ_BY_ATTACK.items():
        if (value := record["parameters"].get(key)) is not None and not rule.holds(value):
            return f"parameters.{key} must be {rule.words}, got {shown(value)}"
    for key in ("right", "classes"):
        if record.get(key) is not None and record.get("fingerprint") is None:
            return f"fingerprint must be text beside {key}, got null"
    return ""


#: What the keys of one kind must be together.
TOGETHER: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "launch": _of_launch,
    "trial": _of_trial,
    "start": _of_start,
    "dynamics": _of_dynamics,
    "evaluation": _of_chunk,
    "check": _of_chunk,
}

_MEASURED = tuple(key for key, rule in FORMS["epoch"].items() if rule.holds(0.5) and rule.holds(None))
_SPENT = tuple(entry.name for entry in fields(EpochRecord) if entry.type == "float" and entry.name != "lr")
_measured, _spent = itemgetter(*_MEASURED, "lr"), itemgetter(*_SPENT, "peak_memory_bytes")
_others = itemgetter("trial_id", "engine", "engine_reason", "epoch")
_NUMBERS = frozenset((int, float))
_OR_NULL = frozenset((*_NUMBERS, type(None)))


def is_usual(record: Mapping[str, Any]) -> bool:
    """Whether an epoch is as nearly all are, which takes a quarter of the time that it takes to look at each key."""
    try:
        measured, spent, (trial, engine, why, epoch) = _measured(record), _spent(record), _others(record)
        return (
            _OR_NULL.issuperset(map(type, measured))
            and _NUMBERS.issuperset(map(type, spent))
            and sum(map(abs, filter(None, measured))) <= LARGEST
            and min(spent) >= 0
            and max(spent) <= LARGEST
            and measured[-1] is not None
            and type(spent[-1]) is type(epoch) is int
            and 1 <= epoch <= MOST_EPOCHS
            and type(engine) is type(why) is str
            and engine.isascii()
            and why.isascii()
            and record.get("right") is None
            and FORMS["epoch"]["time"].holds(record.get("time", 0))
            and is_id(trial)
        )
    except (KeyError, OverflowError):
        return False
