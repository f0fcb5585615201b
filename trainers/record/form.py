"""What a line of records.jsonl must be, key by key: the one place where a line that was read is believed or not.

`record_on` reads a line. Columns that pyarrow parsed, many lines at a time, are held to the same rules, and what they
refuse is read again line by line: `analysis.frames.columns`.

The last key of a line is `crc`, the CRC-32 of the bytes before it; lines of older code have none. A newer version may
add keys, kinds and outcomes: unknown keys are not looked at, and a line of an unknown kind or outcome is passed over
and counted (`UNKNOWN`). What a key means it may not change: of a `launch` the keys that are known mean what they say.
"""

from __future__ import annotations

import base64
import json
import marshal
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from itertools import chain
from operator import itemgetter
from typing import Any, NamedTuple, TypeAlias, get_args
from zlib import crc32

from trainers.record.kinds import REQUIRED, EpochRecord, OutcomeName

#: The kind of what is read in place of a line that a newer version wrote; its key `kind` says which that is.
UNKNOWN = "unknown"

#: Bytes of the longest line that is read: a launch of a million trials, or the classes of as many images, take 20 MB.
LONGEST = 1 << 26

#: What stands behind the bytes that a line's checksum is of.
SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"\}$')

#: Bytes of that.
SEAL_LENGTH = 18

#: Numbers are not larger: beyond it float32, in which losses are measured, has infinity.
LARGEST = 1e39

#: Epochs of a trial are not more: a run's would take longer than anybody waits.
MOST_EPOCHS = 1_000_000

#: Levels of a config, of which it has three.
_DEEPEST = 16

#: Seconds since 1970 at the end of the year 9999.
LAST_SECOND = 253402300799

#: A trial's id names files: its checkpoint, the one before (`.previous`) and its log.
_ID = re.compile(r"(?!.*\.previous$)[0-9A-Za-z][0-9A-Za-z_.-]{0,63}", re.ASCII)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}", re.ASCII)
#: Of an axis, whose name is a column, a part of a config's key, or both.
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}", re.ASCII)
_CODE = re.compile(r"[0-9A-Za-z]{1,64}", re.ASCII)

_BOM = b"\xef\xbb\xbf"


class Damaged(ValueError):
    """A line that is not believed; its text says what must hold, and what was got."""


def sealed(text: str) -> str:
    """A line of JSON without its newline, with the checksum of what it holds as the last key.

    >>> sealed('{"record":"start"}')
    '{"record":"start","crc":"5cb7d9cb"}'
    """
    body = text[:-1]
    return f'{body},"crc":"{crc32(body.encode()):08x}"}}'


def record_on(text: bytes) -> dict[str, Any]:
    """The record on a line, without its checksum.

    Args:
        text: with or without what ends the line.

    Raises:
        Damaged: it is not as it was written, or is no record.
    """
    text = text.strip()
    if len(text) > LONGEST:
        raise Damaged(f"must have at most {LONGEST:,} bytes, got {len(text):,}")
    record = _json(text)
    if (seal := SEAL.search(text[-SEAL_LENGTH:])) is not None:
        _refuse_changed(text, int(seal[1], 16))
        del record["crc"]
    kind = record.get("record")
    if not _is_name(kind):
        raise Damaged(_whole(text))
    if kind not in FORMS:
        return {"record": UNKNOWN, "kind": kind}
    if kind == "epoch" and _is_usual(record):
        return record
    for key, rule in FORMS[kind].items():
        if key not in record:
            if key in REQUIRED[kind]:
                raise Damaged(f"{key} must be {rule.words}, got nothing")
        elif not rule.holds(record[key]):
            if key == "outcome" and _is_name(record[key]):
                return {"record": UNKNOWN, "kind": f"outcome {record[key]}"}
            raise Damaged(f"{key} must be {rule.words}, got {_shown(record[key])}")
    if kind in _TOGETHER and (wrong := _TOGETHER[kind](record)):
        raise Damaged(wrong)
    return record


def _json(text: bytes) -> dict[str, Any]:
    """A line's values, of a key that stands twice the last; a mark of byte order before the first line is none."""
    try:
        words = text.removeprefix(_BOM).decode()
        record, end = _DECODER.raw_decode(words)
    except (ValueError, RecursionError):  # a number of 5,000 digits, and a list within 1,000 lists
        raise Damaged(_whole(text)) from None
    if not isinstance(record, dict) or end < len(words):
        raise Damaged(_whole(text))
    return record


def _no_number(name: str) -> Any:
    raise ValueError(name)


_DECODER = json.JSONDecoder(parse_constant=_no_number)


def _refuse_changed(text: bytes, crc: int) -> None:
    """Raises `Damaged` where a line's checksum is not that of the line."""
    if (is_of_it := crc32(text[:-SEAL_LENGTH].removeprefix(_BOM))) != crc:
        raise Damaged(
            f"crc must be {is_of_it:08x}, that of the line, got {crc:08x}: something in it is not as it was written; "
            "if you changed it, delete its crc"
        )


def _whole(text: bytes) -> str:
    return f"must be one whole JSON record, got {_start(text)}"


def _start(text: bytes) -> str:
    return repr(text[:40].decode(errors="replace"))


def _shown(value: Any) -> str:
    shown = "an empty text" if value == "" else ascii(value) if isinstance(value, str) else json.dumps(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


class Rule(NamedTuple):
    """What must hold of a value, and how that is said."""

    words: str
    holds: Callable[[Any], bool]

    def or_null(self) -> Rule:
        """The same, or null."""
        return Rule(f"{self.words} or null", lambda value: value is None or self.holds(value))


def is_id(value: Any) -> bool:
    """Whether a value is of the form that a trial's id has."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    """Text that can be written down: JSON's escapes can hold half a character."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _whole_number(low: int, high: int = 2**53) -> Rule:
    most = f"to {high:,}" if high == MOST_EPOCHS else "on"
    return Rule(f"a whole number from {low} {most}", lambda value: type(value) is int and low <= value <= high)


def _row(value: Any) -> bool:
    return isinstance(value, list) and all(one is None or _is_number(one) for one in value)


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(map(_row, value))


def _is_plain(value: Any, deepest: int = _DEEPEST) -> bool:
    """A number, text, truth or null; or a list or mapping of such, not too deep."""
    if isinstance(value, dict | list):
        inner = chain(value, value.values()) if isinstance(value, dict) else value
        return deepest > 0 and all(_is_plain(one, deepest - 1) for one in inner)
    return value is None or isinstance(value, bool) or _is_text(value) or _is_number(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and _is_plain(value)


def _is_point(value: Any) -> bool:
    return isinstance(value, dict) and all(_KEY.fullmatch(key) and key not in _COLUMNS for key in value)


def _is_packed(value: Any) -> bool:
    """Bytes in base64."""
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except ValueError:
        return False


def _is_classes(value: Any) -> bool:
    if not isinstance(value, dict) or not all(map(_is_packed, map(value.get, ("labels", "places")))):
        return False
    names = value.get("names")
    if not isinstance(names, list) or not names or not all(map(_is_text, names)):
        return False
    width = 1 if len(names) <= 256 else 2
    labels, places = (base64.b64decode(value[name]) for name in ("labels", "places"))
    numbers = labels if width == 1 else memoryview(labels).cast("H") if len(labels) % 2 == 0 else b""
    return len(labels) * 4 == len(places) * width and all(number < len(names) for number in numbers)


def _is_right(value: Any) -> bool:
    """By split: which of how many images are right."""
    return isinstance(value, dict) and all(_is_name(split) and _is_split(bits) for split, bits in value.items())


def _is_split(value: Any) -> bool:
    if not isinstance(value, dict) or not _WHOLE.holds(value.get("images")):
        return False
    size = -(-value["images"] // 8)
    bits = [value.get(name) for name in ("clean", "robust")]
    known = _is_text(value.get("fingerprint")) and _is_classes(value.get("classes") or _NO_CLASSES)
    return known and all(_is_packed(one) and len(base64.b64decode(str(one))) == size for one in bits)


_NO_CLASSES = {"labels": "", "places": "", "names": [""]}

_WHOLE = _whole_number(0)
_POSITIVE = _whole_number(1)
_TEXT = Rule("text", _is_text)
_NUMBER = Rule(f"a number within {LARGEST:g} of 0", _is_number)
_SECONDS = Rule("seconds, a number from 0 on", lambda value: _is_number(value) and value >= 0)
_TIME = Rule("seconds since 1970", lambda value: _is_number(value) and 0 <= value <= LAST_SECOND)
_TRIAL = Rule("a trial's id, of letters, digits, - and _", is_id)
_CALLED = Rule("a name, of letters, digits and _", _is_name)
_FLAG = Rule("true or false", _is_flag)
_MAPPING = Rule(f"a mapping of keys to plain values, at most {_DEEPEST} deep", _is_mapping)
_ROW = Rule("a list of numbers or null", _row)
_ROWS = Rule("a list of lists of numbers or null", _rows)
_PACKED = Rule("bytes in base64", _is_packed)
_VERSIONS = Rule("a mapping to texts", lambda value: isinstance(value, dict) and all(map(_is_text, value.values())))
_COUNTS = Rule(
    "a mapping of texts to whole numbers",
    lambda value: isinstance(value, dict) and all(map(_is_text, value)) and all(map(_WHOLE.holds, value.values())),
)
_IDS = Rule("a list of trials' ids", lambda value: isinstance(value, list) and all(map(is_id, value)))
_SIZES = Rule(
    "a list of whole numbers from 1 on",
    lambda value: isinstance(value, list) and bool(value) and all(map(_POSITIVE.holds, value)),
)

#: Of a frame of trials the columns that no axis is called by.
_COLUMNS = frozenset(
    ("trial_id", "outcome", "reason", "method", "seed", "lr_batch_ratio", "planned_epochs", "best_epoch", "attempts")
)

_PLAIN = Rule(f"a plain value, at most {_DEEPEST} deep", _is_plain)
_CODE_HASH = Rule("a hash", lambda value: isinstance(value, str) and _CODE.fullmatch(value) is not None).or_null()

_Rules: TypeAlias = "Rule | Mapping[str, _Rules]"

#: Of a part that is a user's own code, what is not its own option.
_OWN: Mapping[str, _Rules] = {"name": _TEXT, "code": _CODE_HASH}

#: What of a trial's config is read by name.
_CONFIG: Mapping[str, _Rules] = {
    "epochs": _whole_number(1, MOST_EPOCHS),
    "batch_size": _POSITIVE,
    "seed": _whole_number(0, 2**63),
    "clean_passes": _WHOLE.or_null(),
    "deterministic": _FLAG,
    **dict.fromkeys(("precision", "batch_norm_data", "preset"), _TEXT.or_null()),
    "data": {
        **_OWN,
        **dict.fromkeys(("validation_fraction", "cutmix", "extra_fraction"), _NUMBER),
        "cutmix_window": _NUMBER.or_null(),
        **dict.fromkeys(("train_per_class", "test_per_class", "image_size"), _WHOLE.or_null()),
        "augment": _FLAG.or_null(),
        "download": _FLAG,
    },
    "schedule": {**_OWN, **dict.fromkeys(("factor", "warmup", "warmup_epochs"), _NUMBER)},
    "averaging": {**_OWN, "decay": _NUMBER, "ema_warmup": _FLAG, "start": _WHOLE.or_null()},
    "dynamics": {
        "every": _WHOLE.or_null(),
        **dict.fromkeys(("images", "eigenpairs", "directions", "probes", "batches"), _WHOLE),
    },
    "model": {**_OWN, "activation": _TEXT.or_null(), "normalize": _FLAG},
    "optimizer": {
        **_OWN,
        **dict.fromkeys(("lr", "k1", "k2", "momentum", "weight_decay", "beta1", "beta2", "eps"), _NUMBER),
        "nesterov": _FLAG,
        "decoupled_weight_decay": _FLAG.or_null(),
    },
    "attack": {
        **dict.fromkeys(("radius", "step_size", "start_scale", "radius_warmup", "step_size_warmup"), _NUMBER),
        "steps": _WHOLE,
        **dict.fromkeys(("tau", "replays"), _WHOLE.or_null()),
        **dict.fromkeys(("norm", "start"), _TEXT.or_null()),
        "project": _FLAG,
    },
    "objective": {
        **_OWN,
        "beta": _NUMBER.or_null(),
        **dict.fromkeys(("label_smoothing", "vertex", "clean_label", "vertex_label"), _NUMBER),
        "s2o": {**dict.fromkeys(("weight", "rho"), _NUMBER.or_null()), **dict.fromkeys(("enabled", "in_awp"), _FLAG)},
    },
    "weights": {**_OWN, "gamma": _NUMBER.or_null(), "warmup": _WHOLE.or_null()},
    "evaluation": {
        **dict.fromkeys(("batch_size", "every"), _POSITIVE),
        **dict.fromkeys(("radius", "step_size"), _NUMBER.or_null()),
        **dict.fromkeys(("steps", "restarts"), _WHOLE),
        **dict.fromkeys(("start", "precision"), _TEXT.or_null()),
    },
}

_OF_CHUNK: dict[str, Rule] = {
    "trial_id": _TRIAL,
    "weights": _CALLED,
    "averaged": _FLAG,
    "parameters": _MAPPING,
    "split": _CALLED,
    "asked": _POSITIVE,
    "first": _WHOLE,
    "images": _POSITIVE,
    "clean_correct": _WHOLE,
    "seconds": _SECONDS,
    "time": _TIME,
    **dict.fromkeys(("host", "device", "code_version"), _TEXT),
    "versions": _VERSIONS,
}

#: What each kind's keys must be; a key that is not here is not read.
FORMS: dict[str, dict[str, Rule]] = {
    "launch": {
        "time": _TIME,
        "size": _WHOLE,
        "wanted": _IDS,
        **dict.fromkeys(("command", "code_version", "mode"), _TEXT),
        "metric": _CALLED,
        "commit": _TEXT.or_null(),
        "decides": _MAPPING.or_null(),
    },
    "trial": {
        "trial_id": _TRIAL,
        "number": _WHOLE,
        "config": Rule("a mapping", lambda value: isinstance(value, dict) and all(map(_is_text, value))),
        "point": Rule("a mapping of axes to values", _is_point),
        "seed": _whole_number(0, 2**63),
        "time": _TIME,
        **dict.fromkeys(("preset", "fine_tune"), _TEXT),
    },
    "start": {
        "trial_id": _TRIAL,
        "code_version": _TEXT,
        "time": _TIME,
        **dict.fromkeys(("host", "device"), _TEXT),
        "arithmetic": Rule("a mapping", lambda value: isinstance(value, dict)).or_null(),
        "capacity_bytes": _WHOLE.or_null(),
    },
    "resume": {"trial_id": _TRIAL, "epoch": _whole_number(0, MOST_EPOCHS), "reason": _TEXT, "time": _TIME},
    "epoch": {
        "trial_id": _TRIAL,
        **{entry.name: _NUMBER.or_null() for entry in fields(EpochRecord) if entry.type == "float | None"},
        **{entry.name: _SECONDS for entry in fields(EpochRecord) if entry.type == "float"},
        "epoch": _whole_number(1, MOST_EPOCHS),
        "lr": _NUMBER,
        **dict.fromkeys(("engine", "engine_reason"), _TEXT.or_null()),
        "peak_memory_bytes": _WHOLE,
        "right": Rule("by split the bits of its images", _is_right).or_null(),
        "time": _TIME,
    },
    "dynamics": {
        "trial_id": _TRIAL,
        "epoch": _whole_number(0, MOST_EPOCHS),
        "lr": _NUMBER,
        **dict.fromkeys(("batch_size", "parameters", "training_images", "images", "batches"), _POSITIVE),
        "eigenpairs": _WHOLE,
        **dict.fromkeys(("momentum", "robust"), _NUMBER),
        **dict.fromkeys(("k1", "k2", "loss", "trace", "trace_error"), _NUMBER.or_null()),
        **dict.fromkeys(("gradient_squared", "distance_squared"), _SECONDS.or_null()),
        **dict.fromkeys(("curvatures", "slopes", "noise_traces", "noise_trace_errors"), _ROW),
        "batch_sizes": _SIZES,
        **dict.fromkeys(("variances", "kurtoses", "places", "rises"), _ROWS),
        "seconds": _SECONDS,
        "time": _TIME,
    },
    "outcome": {
        "trial_id": _TRIAL,
        "outcome": Rule(f"one of {', '.join(get_args(OutcomeName))}", lambda value: value in get_args(OutcomeName)),
        "reason": _TEXT,
        "epochs": _whole_number(0, MOST_EPOCHS),
        "time": _TIME,
        "alone": _FLAG,
        **dict.fromkeys(("memory_bytes", "cuda_bytes"), _WHOLE.or_null()),
    },
    "evaluation": {
        **_OF_CHUNK,
        "attack": _CALLED,
        "correct": _WHOLE,
        "draws": _TEXT.or_null(),
        "fingerprint": _TEXT.or_null(),
        **dict.fromkeys(("right", "clean_right", "margins"), _PACKED.or_null()),
        "classes": Rule("the classes of a split's images", _is_classes).or_null(),
    },
    "check": {
        **_OF_CHUNK,
        "check": _CALLED,
        "right_under": _COUNTS,
        "against": _WHOLE,
        "in_favour": _WHOLE,
    },
}


def _of_trial(record: Mapping[str, Any]) -> str:
    """What is wrong with a trial's config, or its point, in words."""
    config, point = record["config"], record["point"]
    known = {key: _CONFIG.get(key.partition(".")[0], _PLAIN) for key in point}
    rules = {key: part if isinstance(part, Rule) else _within(part, config, key) for key, part in known.items()}
    return _of_config(config, _CONFIG, "config.") or _of_config(point, rules, "point.")


def _of_config(values: Mapping[str, Any], rules: Mapping[str, _Rules], where: str) -> str:
    for key, value in values.items():
        if not _is_text(key):
            return f"{where}{key!a} must be a key of whole characters"
        rule = rules.get(key, _PLAIN)
        if isinstance(rule, Rule):
            if not rule.holds(value):
                return f"{where}{key} must be {rule.words}, got {_shown(value)}"
        elif type(value) is not dict:
            return f"{where}{key} must be a mapping, got {_shown(value)}"
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
        return _PLAIN
    for name in names:
        inner = rules.get(name, _PLAIN)
        if isinstance(inner, Rule):
            return inner
        rules = inner
    return _PLAIN


def _of_launch(record: Mapping[str, Any]) -> str:
    """What is wrong with what a launch was to decide, in words."""
    decides = record.get("decides") or {}
    if not _is_text(decides.get("claim", "")):
        return f"decides.claim must be text, got {_shown(decides['claim'])}"
    seeds = decides.get("choosing_seeds", [])
    if not isinstance(seeds, list) or not all(map(_WHOLE.holds, seeds)):
        return f"decides.choosing_seeds must be a list of whole numbers, got {_shown(seeds)}"
    if record.get("mode", "max") not in ("max", "min"):
        return f"mode must be max or min, got {_shown(record['mode'])}"
    return ""


_HOW: dict[str, Rule] = {
    **dict.fromkeys(("precision", "engine", "torch", "processor"), _TEXT),
    "deterministic": _FLAG,
    "cudnn": Rule("text, a number or null", lambda value: value is None or _is_text(value) or _is_number(value)),
    "threads": _WHOLE.or_null(),
}


def _of_start(record: Mapping[str, Any]) -> str:
    """What is wrong with how a trial was computed, in words."""
    how = record.get("arithmetic")
    if how is None:
        return ""
    wrong = [key for key, rule in _HOW.items() if key not in how or not rule.holds(how[key])]
    return f"arithmetic.{wrong[0]} must be {_HOW[wrong[0]].words}, got {_shown(how.get(wrong[0]))}" if wrong else ""


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
    "norm": _TEXT, "radius": _NUMBER, "steps": _WHOLE, "step_size": _NUMBER, "restarts": _WHOLE, "start": _TEXT
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
            return f"parameters.{key} must be {rule.words}, got {_shown(value)}"
    if record.get("right") is not None and record.get("fingerprint") is None:
        return "fingerprint must be text beside right, got null"
    return ""


#: What the keys of one kind must be together.
_TOGETHER: dict[str, Callable[[Mapping[str, Any]], str]] = {
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


def _is_usual(record: Mapping[str, Any]) -> bool:
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
