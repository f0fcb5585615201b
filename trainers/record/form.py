"""What a line of records.jsonl must be, and the one place where one that was read is believed or not.

`record_on` reads a line. Columns that pyarrow parsed, many lines at a time, are held to the same rules, and what they
refuse is read again line by line: `analysis.frames.columns`.

The last key of a line is `crc`, the CRC-32 of the bytes before it; lines of older code have none. A newer version may
add keys, kinds and outcomes: unknown keys are not looked at, those of other kinds are left away, and a line of an
unknown kind or outcome is passed over and counted (`UNKNOWN`). What a key means it may not change: of a `launch` the
keys that are known mean what they say.
"""

from __future__ import annotations

import json
import re
from typing import Any
from zlib import crc32

from trainers.record.forms import FORMS, OF_OTHERS, TOGETHER, is_usual
from trainers.record.kinds import REQUIRED
from trainers.record.rules import is_name, shown

#: The kind of what is read in place of a line that a newer version wrote; its key `kind` says which that is.
UNKNOWN = "unknown"

#: Bytes of the longest line that is read: a launch of a million trials, or the classes of as many images, take 20 MB.
LONGEST = 1 << 26

#: What stands behind the bytes that a line's checksum is of.
SEAL = re.compile(rb',"crc":"([0-9a-f]{8})"\}$')

#: Bytes of that.
SEAL_LENGTH = 18

_BOM = b"\xef\xbb\xbf"


class Damaged(ValueError):
    """A line that is not believed; its text says what must hold, and what was got."""


def sealed(text: str) -> str:
    """A line of JSON without its newline, with the checksum of what it holds as the last key.

    >>> sealed('{"record":"start"}')
    '{"record":"start","crc":"9247d069"}'
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
    if not is_name(kind):
        raise Damaged(_whole(text))
    if kind not in FORMS:
        return {"record": UNKNOWN, "kind": kind}
    if not OF_OTHERS[kind].isdisjoint(record):
        record = {key: value for key, value in record.items() if key not in OF_OTHERS[kind]}
    if kind == "epoch" and is_usual(record):
        return record
    for key, rule in FORMS[kind].items():
        if key not in record:
            if key in REQUIRED[kind]:
                raise Damaged(f"{key} must be {rule.words}, got nothing")
        elif not rule.holds(record[key]):
            if key == "outcome" and is_name(record[key]):
                return {"record": UNKNOWN, "kind": f"outcome {record[key]}"}
            raise Damaged(f"{key} must be {rule.words}, got {shown(record[key])}")
    if kind in TOGETHER and (wrong := TOGETHER[kind](record)):
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
