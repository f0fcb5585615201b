"""The kinds of value that configs are made of: numbers as YAML writes them, and models that cannot change."""

from __future__ import annotations

import functools
import math
import os
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Strict, WithJsonSchema, model_validator

from trainers.visible import brief

#: Of float32, in which networks are trained.
_LARGEST = 3.4028234e38

#: Radii and steps of attacks, of which nobody knows the decimals.
_PIXELS = {k / 255: f"{k}/255" for k in range(1, 17)}


def parse_number(value: Any) -> Any:
    """A number from YAML's text: `8/255` and `1e-4` are strings there; everything else passes unchanged.

    >>> parse_number("8/255") == 8 / 255, parse_number("1e-4")
    (True, 0.0001)
    """
    if isinstance(value, bool):
        raise ValueError(f"must be a number, got {brief(value)}")
    if not isinstance(value, str):
        return value
    numerator, slash, denominator = value.partition("/")
    try:
        return float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise ValueError(f"must be a number such as 0.1, 1e-4 or 8/255, got {brief(value)}") from None


def number_text(value: float) -> str:
    """A number in the shortest text that reads back as the same one; the small fractions of 255 as `parse_number` does.

    >>> number_text(0.1), number_text(128), number_text(0.999999999), number_text(4e-9), number_text(8 / 255)
    ('0.1', '128', '0.999999999', '4e-09', '8/255')
    """
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 2**53):
        return str(int(value))
    short = f"{value:g}"
    if float(short) == value:
        return short
    return _PIXELS.get(value) or repr(float(value))


def bytes_text(size: float) -> str:
    """Bytes in the largest unit of which there is one.

    >>> bytes_text(80 * 3 * 16**2), bytes_text(5.5 * 2**20), bytes_text(1234.5 * 2**30), bytes_text(1000)
    ('60.0 KiB', '5.5 MiB', '1,234.5 GiB', '1,000 bytes')
    """
    for power, unit in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if size >= 1024**power:
            return f"{size / 1024**power:,.1f} {unit}"
    return f"{size:,.0f} bytes"


def plural(n: float, noun: str) -> str:
    """How many there are, in words.

    >>> plural(1, "trial"), plural(2, "further seed"), plural(1330.0, "trial hour")
    ('1 trial', '2 further seeds', '1330 trial hours')
    """
    return f"{number_text(n)} {noun}{'' if n == 1 else 's'}"


def _whole(value: Any) -> Any:
    if isinstance(value, bool) or (isinstance(value, float) and not value.is_integer()):
        raise ValueError(f"must be a whole number, got {brief(value)}")
    if isinstance(value, (int, float)) and abs(value) > 2**63:
        raise ValueError(f"must be a whole number of at most 64 bits, got {brief(value)}")
    return value


def _in_float32(value: float) -> float:
    if abs(value) > _LARGEST:
        raise ValueError(f"must be at most {_LARGEST:g}, the largest number that training has, got {brief(value)}")
    return value


def path_text(value: str) -> str:
    """The path, if a file system can have it: without NUL, in characters that have bytes, its `~NAME` a user's.

    Raises:
        ValueError: it cannot.
    """
    try:
        if b"\0" in os.fsencode(value):
            raise ValueError(f"must be a path, which has no NUL character, got {brief(value)}")
        Path(value).expanduser()
    except UnicodeEncodeError:
        raise ValueError(f"must be a path, whose characters have bytes, got {brief(value)}") from None
    except RuntimeError:
        user = brief(value.partition("/")[0])
        raise ValueError(f"there is no user {user}, whose home that would be; write the path out") from None
    return value


PathText = Annotated[str, AfterValidator(path_text)]
Number = Annotated[
    float,
    BeforeValidator(parse_number),
    AfterValidator(_in_float32),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": r"^[-+0-9.eE/ ]+$"}]}),
]
Whole = Annotated[int, BeforeValidator(_whole)]
#: true or false alone: a word such as yes is text, and 1 a number.
Truth = Annotated[bool, Strict()]


class Frozen(BaseModel):
    """A part of a config: cannot be changed, knows its keys and no others."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _none(cls, values: Any) -> Any:
        """`none`, as descriptions have it, is YAML's `null` for a key that is so by default, and not any text."""
        if not isinstance(values, dict):
            return values
        if "none" not in values.values():
            return values
        optional = _optional(cls)
        return {key: None if value == "none" and key in optional else value for key, value in values.items()}


@functools.cache
def _optional(model: type[BaseModel]) -> frozenset[str]:
    fields = model.model_fields.items()
    texts = {str, PathText}
    return frozenset(key for key, one in fields if one.default is None and not texts & set(get_args(one.annotation)))
