"""What may become of a records.jsonl: right keys with wrong values, wrong nesting, lines doubled, shuffled, torn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from made_up import CHUNK, append

from trainers.record import RECORDS_FILE, CheckRecord, DynamicsRecord, NoteRecord, RecordFile
from trainers.record.forms import FORMS

HOSTILE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 3, 2.5, -0.0, 1e-320, 1e39, 1e308, 2**31, 2**53, 2**63, -(2**70), 10**400),
    *(float("nan"), float("inf"), "", " ", "a", "3", "nan", "null", "../../x", "/tmp/x", "a\0b", "\x1b[2J", "\ud800"),
    *("a" * 10_000, "é", "completed", "sgd", "none", "a:b", "./own.py:Net", [], [1], [None], ["a"], [[1.0]], [[[]]]),
    *({}, {"a": 1}, {"": {}}, {"name": "sgd"}, {"name": 3}, {"name": None}, {"test": {}}, [{}], [1, "a"], ["../x"]),
)

#: Names that a key may have got: also one that means something on lines of another kind.
KEYS = (
    st.text(max_size=9)
    | st.sampled_from(["of_tomorrow", "", "name", "../x", "a.b", "\x1b[2J", "\ud800"])
    | st.sampled_from(sorted({key for form in FORMS.values() for key in form} | {"record", "chain"}))
)

VALUES = st.sampled_from(HOSTILE) | st.recursive(
    st.text(max_size=20) | st.integers() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)


def whole(directory: Path) -> list[bytes]:
    """The lines of a whole run, of every kind, without their checksums, which would give every damage away."""
    file = RecordFile(directory)
    launch = {"time": 0.0, "size": 8, "wanted": [], "left_out": [], "taken_up": [], "dirty": False}
    launch |= {"metric": "val_robust", "mode": "max", "versions": {"torch": "2"}, "budget_hours": 1.0}
    of_launch = {"decides": {"claim": "ratio", "choosing_seeds": [0]}, "forecast": {"trials": 8, "seconds": 1.0}}
    file.append("launch", {**launch, **of_launch})
    for number in range(8):
        name, lr, seed = ("sgd", "deat")[number % 2], (0.1, 0.2)[number // 2 % 2], number // 4
        append(file, f"{name}16{lr}{seed}", number, name, lr, 16, seed)
    file.append("resume", {"trial_id": "sgd160.10", "epoch": 1, "reason": "", "from_trial": None, "time": 3.0})
    file.append("evaluation", CHUNK)
    numbers = {"batch_size": 16, "momentum": 0.0, "k1": None, "k2": None, "parameters": 9, "training_images": 64}
    sizes = {"images": 32, "robust": 0.5, "loss": 1.0, "gradient_squared": 1.0, "distance_squared": 1.0}
    of_each = {"eigenpairs": 1, "trace": 2.0, "trace_error": 0.1, "curvatures": (2.0, 1.0), "slopes": (0.1, 0.2)}
    noise = {"batches": 4, "batch_sizes": (16,), "noise_traces": (1.0,), "noise_trace_errors": (0.1,)}
    rows = {"variances": ((0.1, 0.2),), "kurtoses": ((0.0, 0.1),), "places": ((0.5,),) * 2, "rises": ((0.1,),) * 2}
    file.append("dynamics", DynamicsRecord("sgd160.10", 1, 0.1, **numbers, **sizes, **of_each, **noise, **rows))  # type: ignore[arg-type]
    count = {"right_under": {"FGSM": 5, "PGD": 4}, "against": 0, "in_favour": 1, "seconds": 1.0, "versions": {}}
    where = {"host": "h", "device": "cpu", "code_version": "abc"}
    ball = {"norm": "linf", "radius": 0.1}
    file.append("check", CheckRecord("sgd160.10", "last", False, "steps", ball, "test", 9, 0, 9, 8, **count, **where))  # type: ignore[arg-type]
    file.append("note", NoteRecord("sgd160.10", "odd", ("odd",)))
    file.close()
    records = [json.loads(text) for text in (directory / RECORDS_FILE).read_bytes().splitlines()]
    return [_text({key: value for key, value in one.items() if key != "crc"}) for one in records]


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in a record a value stands, at every depth."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, one in inner for place in ((*path, key), *_places(one, (*path, key)))]


def _text(record: dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode()


@st.composite
def _changed(draw: Any, line: bytes) -> bytes:
    """The line after one thing was done to one of its values."""
    record = json.loads(line)
    *path, key = draw(st.sampled_from(_places(record)))
    owner: Any = record
    for part in path:
        owner = owner[part]
    what = draw(st.sampled_from(["drop", "another key", "another number", "another value", "another value"]))
    if what == "drop":
        del owner[key]
    elif what == "another key" and isinstance(owner, dict):
        owner[draw(KEYS)] = draw(VALUES)
    elif what == "another number" and isinstance(owner[key], int | float):
        times, more = draw(st.sampled_from([-1, 0, 0.5, 2, 1000, 1e18])), draw(st.integers(-1, 1))
        owner[key] = owner[key] * times + more
    else:
        owner[key] = draw(VALUES)
    return _text(record)


@st.composite
def damaged(draw: Any, lines: Sequence[bytes]) -> bytes:
    """A log's content after something was done to it, with its lines given as of `whole`."""
    texts, within = list(lines), st.integers(0, len(lines) - 1)
    place = draw(within)
    match draw(st.integers(0, 15)):
        case 0:
            texts.insert(draw(within), texts[place])
        case 1:
            texts = draw(st.permutations(texts))
        case 2:
            texts[place] = texts[place][: draw(st.integers(0, len(texts[place])))]
        case 3:
            del texts[place:]
        case 4:
            texts = [*texts, *texts] if draw(st.booleans()) else [one for one in texts for _ in range(2)]
        case 5:
            text = bytearray(texts[place])
            flips = st.tuples(st.integers(0, len(text) - 1), st.integers(0, 7))
            for at, bit in draw(st.lists(flips, min_size=1, max_size=30)):
                text[at] ^= 1 << bit
            texts[place] = bytes(text)
        case 6:
            kind = json.loads(texts[place])["record"]
            texts = [one for one in texts if not one.startswith(f'{{"record":"{kind}"'.encode())]
        case 7:
            return bytes(draw(st.sampled_from([b"\r\n", b"\n\n", b"\n \n\t"])).join(texts) + b"\n")
        case 8:
            text = (b"\n".join(texts) + b"\n").decode()
            return text.encode(draw(st.sampled_from(["utf-8-sig", "utf-16", "utf-16-be", "utf-32"])))
        case 9:
            texts[place] = draw(st.binary(max_size=100))
        case _:
            for place in draw(st.lists(within, min_size=1, max_size=5)):
                texts[place] = draw(_changed(lines[place]))
    return b"\n".join(texts) + b"\n"
