"""What a value on a line of records.jsonl may be: a number, a name, an id, bytes; and how that is said."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

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


def shown(value: Any) -> str:
    """A value as JSON, in at most 60 characters."""
    text = "an empty text" if value == "" else ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


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


def is_name(value: Any) -> bool:
    """Whether a value is a name: letters, digits and _."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def is_text(value: Any) -> bool:
    """Text that can be written down: JSON's escapes can hold half a character."""
    return isinstance(value, str) and (value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value))


def is_number(value: Any) -> bool:
    """Whether a value is a finite number that float32 has too; true and false are none."""
    return type(value) in (int, float) and -LARGEST <= value <= LARGEST


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def whole_number(low: int, high: int = 2**53) -> Rule:
    """A rule: a whole number between two."""
    most = f"to {high:,}" if high == MOST_EPOCHS else "on"
    return Rule(f"a whole number from {low} {most}", lambda value: type(value) is int and low <= value <= high)


def _row(value: Any) -> bool:
    return isinstance(value, list) and all(one is None or is_number(one) for one in value)


def _rows(value: Any) -> bool:
    return isinstance(value, list) and all(map(_row, value))


def _is_plain(value: Any, deepest: int = _DEEPEST) -> bool:
    """A number, text, truth or null; or a list or mapping of such, not too deep."""
    if isinstance(value, dict | list):
        inner = chain(value, value.values()) if isinstance(value, dict) else value
        return deepest > 0 and all(_is_plain(one, deepest - 1) for one in inner)
    return value is None or isinstance(value, bool) or is_text(value) or is_number(value)


def _is_mapping(value: Any) -> bool:
    return isinstance(value, dict) and _is_plain(value)


def is_point(value: Any) -> bool:
    """Whether a value maps axes to values."""
    return isinstance(value, dict) and all(_KEY.fullmatch(key) and key not in _COLUMNS for key in value)


def _is_packed(value: Any) -> bool:
    """Bytes in base64."""
    try:
        return isinstance(value, str) and base64.b64decode(value, validate=True) is not None
    except ValueError:
        return False


def is_classes(value: Any) -> bool:
    """Whether a value is the classes of a split's images: see `EvaluationRecord.classes`."""
    if not isinstance(value, dict) or not all(map(_is_packed, map(value.get, ("labels", "places")))):
        return False
    names = value.get("names")
    if not isinstance(names, list) or not names or not all(map(is_text, names)):
        return False
    width = 1 if len(names) <= 256 else 2
    labels, places = (base64.b64decode(value[name]) for name in ("labels", "places"))
    numbers = labels if width == 1 else memoryview(labels).cast("H") if len(labels) % 2 == 0 else b""
    return len(labels) * 4 == len(places) * width and all(number < len(names) for number in numbers)


def is_right(value: Any) -> bool:
    """By split: which of how many images are right."""
    return isinstance(value, dict) and all(is_name(split) and _is_split(bits) for split, bits in value.items())


def _is_split(value: Any) -> bool:
    if not isinstance(value, dict) or not WHOLE.holds(value.get("images")):
        return False
    size = -(-value["images"] // 8)
    bits = [value.get(name) for name in ("clean", "robust")]
    known = is_text(value.get("fingerprint")) and is_classes(value.get("classes") or _NO_CLASSES)
    return known and all(_is_packed(one) and len(base64.b64decode(str(one))) == size for one in bits)


def _is_objective(value: Any) -> bool:
    return isinstance(value, dict) and is_name(value.get("name")) and value.get("mode") in ("max", "min")


_NO_CLASSES = {"labels": "", "places": "", "names": [""]}

WHOLE = whole_number(0)
POSITIVE = whole_number(1)
TEXT = Rule("text", is_text)
NUMBER = Rule(f"a number within {LARGEST:g} of 0", is_number)
FRACTION = Rule("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
SECONDS = Rule("seconds, a number from 0 on", lambda value: is_number(value) and value >= 0)
TIME = Rule("seconds since 1970", lambda value: is_number(value) and 0 <= value <= LAST_SECOND)
TRIAL = Rule("a trial's id, of letters, digits, - and _", is_id)
CALLED = Rule("a name, of letters, digits and _", is_name)
FLAG = Rule("true or false", _is_flag)
MAPPING = Rule(f"a mapping of keys to plain values, at most {_DEEPEST} deep", _is_mapping)
ROW = Rule("a list of numbers or null", _row)
ROWS = Rule("a list of lists of numbers or null", _rows)
PACKED = Rule("bytes in base64", _is_packed)
VERSIONS = Rule("a mapping to texts", lambda value: isinstance(value, dict) and all(map(is_text, value.values())))
COUNTS = Rule(
    "a mapping of texts to whole numbers",
    lambda value: isinstance(value, dict) and all(map(is_text, value)) and all(map(WHOLE.holds, value.values())),
)
TAGS = Rule("a list of names", lambda value: isinstance(value, list) and all(map(is_name, value)))
IDS = Rule("a list of trials' ids", lambda value: isinstance(value, list) and all(map(is_id, value)))
IDS_BY_PLACE = Rule(
    "a mapping of folders to lists of trials' ids",
    lambda value: isinstance(value, dict) and all(map(is_text, value)) and all(map(IDS.holds, value.values())),
)
AXES = Rule("a list of axes", lambda value: isinstance(value, list) and all(map(is_text, value)))
OBJECTIVES = Rule(
    "a list of objectives, each with name, and mode max or min",
    lambda value: isinstance(value, list) and bool(value) and all(map(_is_objective, value)),
)
SIZES = Rule(
    "a list of whole numbers from 1 on",
    lambda value: isinstance(value, list) and bool(value) and all(map(POSITIVE.holds, value)),
)

#: Which launch of how many a launch is; `sweep.share.Share` reads it.
_SHARE = re.compile(r"([1-9][0-9]{0,5})/([1-9][0-9]{0,5})", re.ASCII)


def is_share(value: Any) -> bool:
    """Whether a value is i/N with 1 <= i <= N."""
    parts = _SHARE.fullmatch(value) if isinstance(value, str) else None
    return parts is not None and int(parts[1]) <= int(parts[2])


SHARE = Rule("i/N with 1 <= i <= N, such as 1/4", is_share)

#: Of a frame of trials the columns that no axis is called by.
_COLUMNS = frozenset(
    ("trial_id", "outcome", "reason", "method", "seed", "lr_batch_ratio", "planned_epochs", "best_epoch", "attempts")
)

PLAIN = Rule(f"a plain value, at most {_DEEPEST} deep", _is_plain)
CODE_HASH = Rule("a hash", lambda value: isinstance(value, str) and _CODE.fullmatch(value) is not None).or_null()
