"""What may become of a records.jsonl: right keys with wrong values, wrong nesting, lines doubled, shuffled, torn."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Sequence
from typing import Any

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2.5, -0.0, 1e-320, 1e39, 1e308, 2**31, 2**53, 2**63, -(2**70), 10**400),
    *(float("nan"), float("inf"), "", " ", "a", "3", "nan", "null", "../../x", "/tmp/x", "a\0b", "\x1b[2J", "\ud800"),
    *("a" * 10_000, "é", "completed", "sgd", "none", "a:b", "./own.py:Net", [], [1], [None], ["a"], [[1.0]], [[[]]]),
    *({}, {"a": 1}, {"": {}}, {"name": "sgd"}, {"name": 3}, {"name": None}, {"test": {}}, [{}], [1, "a"], ["../x"]),
)

#: Names that a key may have got.
KEYS = ("of_tomorrow", "", "name", "trial_id", "../x", "a.b", "\x1b[2J", "\ud800")


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a record a value stands, at every depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in ((*path, key), *_places(one, (*path, key)))]


def _with(record: dict[str, Any], rng: random.Random) -> dict[str, Any]:
    """The record after one thing was done to one of its values."""
    record = copy.deepcopy(record)
    *path, key = rng.choice(_places(record))
    owner: Any = record
    for part in path:
        owner = owner[part]
    match rng.randrange(6):
        case 0:
            del owner[key]
        case 1 if isinstance(owner, dict):
            owner[rng.choice(KEYS)] = rng.choice(HOSTILE)
        case 2 if isinstance(owner[key], int | float):
            owner[key] = owner[key] * rng.choice((-1, 0, 0.5, 2, 1000, 1e18)) + rng.choice((0, 1, -1))
        case _:
            owner[key] = rng.choice(HOSTILE)
    return record


def _text(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


def damaged(lines: Sequence[bytes], rng: random.Random) -> bytes:
    """A log's content after something was done to it.

    Args:
        lines: of the log, without newlines and without checksums, which would give every change away.
        rng: that chooses.
    """
    texts = list(lines)
    place = rng.randrange(len(texts))
    match rng.randrange(16):
        case 0:
            texts.insert(rng.randrange(len(texts)), texts[place])
        case 1:
            rng.shuffle(texts)
        case 2:
            texts[place] = texts[place][: rng.randrange(len(texts[place]))]
        case 3:
            del texts[rng.randrange(len(texts)) :]
        case 4:
            texts = [*texts, *texts] if rng.random() < 0.5 else [one for one in texts for _ in range(2)]
        case 5:
            text = bytearray(texts[place])
            for _ in range(rng.choice((1, 1, 3, 30))):
                text[rng.randrange(len(text))] ^= 1 << rng.randrange(8)
            texts[place] = bytes(text)
        case 6:
            kind = json.loads(texts[place])["record"]
            texts = [one for one in texts if not one.startswith(f'{{"record":"{kind}"'.encode())]
        case 7:
            return rng.choice((b"\r\n", b"\n\n", b"\n \n\t")).join(texts) + b"\n"
        case 8:
            text = (b"\n".join(texts) + b"\n").decode()
            return text.encode(rng.choice(("utf-8-sig", "utf-16", "utf-16-be", "utf-32")))
        case _:
            for _ in range(rng.choice((1, 1, 1, 2, 5))):
                place = rng.randrange(len(texts))
                texts[place] = _text(_with(json.loads(lines[place]), rng))
    return b"\n".join(texts) + b"\n"
