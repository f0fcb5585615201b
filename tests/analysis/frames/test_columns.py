"""A log read at once is the log read line by line, also where a line is unusual."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from analysis.frames.columns import NUMBERS, TEXTS, parse
from analysis.frames.log import Log
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, EpochRecord, line, read
from trainers.record.form import sealed

USUAL = [
    line("launch", {"time": 0.0, "size": 1, "wanted": ["a"]}),
    line("trial", {"trial_id": "a", "number": 0, "config": {}, "point": {}, "seed": 0}),
    *(
        line("epoch", asdict(EpochRecord("a", n, 0.1, val_robust=n / 7, engine="eager")) | {"time": 1.5})
        for n in (1, 2)
    ),
]
EPOCH = {name: value for name, value in json.loads(USUAL[-1]).items() if name != "crc"}


RIGHT = {"val": {"images": 3, "fingerprint": "f", "clean": "oA==", "robust": "gA=="}}


def text(**values: object) -> str:
    return json.dumps(EPOCH | values, separators=(",", ":"))


def without(key: str) -> str:
    return json.dumps({name: value for name, value in EPOCH.items() if name != key}, separators=(",", ":"))


UNUSUAL = [
    text(val_robust=1),
    text(val_robust=2**70),
    text(val_robust=0.1 + 0.2, lr=5e-324),
    text(val_robust=-0.0),
    text(val_robust=float("nan")),
    text(val_robust=float("inf")),
    text(val_robust=True),
    text(val_robust=None),
    text(epoch=3.0),
    text(engine=None),
    text(engine_reason="a \"quoted\" reason, \\ and ünïcode"),
    text(trial_id="another"),
    *(text(trial_id=name) for name in ("", "../a", "/a", "a" * 65, ".a", "a.previous", "a b", "a\0", "\x1b[31m")),
    *(text(epoch=number) for number in (0, -1, 1_000_001, 2**63, "1", None, [1], True)),
    *(text(seconds=value) for value in (-1, None, "1", 1e40, -1e300)),
    *(text(val_robust=value) for value in ("0.1", [0.1], {}, -1e40, 10**400)),
    *(text(time=value) for value in (None, -1, 1e18)),
    *(text(peak_memory_bytes=value) for value in (1.5, 1e3, -1, None, 2**64)),
    text(of_tomorrow=1).replace(":1}", f":{'[' * 1500}{']' * 1500}}}"),
    text(of_tomorrow=1).replace(":1}", ":" + 1500 * '{"a":' + "1" + 1501 * "}"),
    text(of_tomorrow=1).replace(":1}", f":{'1' * 5000}}}"),
    text(crc="00000000"),
    text(crc="0000000g"),
    text(crc=0),
    *(sealed(text()).replace(*pair) for pair in (("0.1", "0.2"), ("}", " }"), ('"epoch":2', '"epoch":3'))),
    *(sealed(text()) + end for end in ("", " ", "\r", "\t\r", "}", sealed(text()))),
    sealed(text()).replace("crc", "cRc"),
    sealed(text()).upper(),
    text(of_tomorrow={"record": "epoch", "lr": [1, {}]}),
    text(seconds=[1.0]),
    text(right=RIGHT),
    text(right=RIGHT).replace(":", ": "),
    text(right=RIGHT).replace('"right"', '"r\\u0069ght"'),
    text(right=None).replace('"right":null', f'"right":null,"right":{json.dumps(RIGHT)}'),
    text(right=0),
    text(peak_memory_bytes=2**53 + 1),
    text()[:-1] + ',"record":"start"}',
    text()[:-1] + ',"record":null}',
    *(text(right={"val": {**RIGHT["val"], key: None}}) for key in RIGHT["val"]),
    text(right=None, of_tomorrow={"right": RIGHT}),
    text(engine_reason='"right":null', right=RIGHT),
    text(right=RIGHT, lr=None),
    text().replace('"lr":0.1', '"lr":1e400'),
    text().replace('"lr":0.1', '"lr":0.1,"lr":0.2'),
    text().replace('"lr":0.1', '"lr":01'),
    text().replace('"lr":0.1', '"lr":.1'),
    text().replace('"lr":0.1', '"lr": 0.1'),
    text().replace("eager", "e\\u0061ger"),
    text().replace("eager", "\\ud800"),
    text() + text(),
    text() + "{}",
    text()[:-1],
    text() + "}",
    text()[:-1] + ',"x":',
    " " + text(),
    text() + " ",
    "",
    "   ",
    json.dumps(EPOCH),
    *map(without, ("lr", "engine", "engine_reason", "preparing_seconds", "time", "seconds", "trial_id")),
]  # fmt: skip


def read_by(directory: Path) -> Log | str:
    path = directory / RECORDS_FILE
    try:
        with path.open("rb") as file:
            return parse(file, path).log
    except (UserError, TypeError, ValueError) as error:
        return str(error)


def line_by_line(directory: Path) -> Log | str:
    try:
        return Log.of(read(directory))
    except (UserError, TypeError, ValueError) as error:
        return str(error)


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_an_unusual_line_is_read_as_by_itself(unusual: str, tmp_path: Path) -> None:
    lines = [*USUAL, unusual + "\n", *USUAL[2:]]
    (tmp_path / RECORDS_FILE).write_text("".join(lines), encoding="utf-8")
    found, expected = read_by(tmp_path), line_by_line(tmp_path)
    if isinstance(expected, str) or isinstance(found, str):
        assert found == expected
        return
    assert list(found) == list(expected)
    for name in NUMBERS:
        np.testing.assert_array_equal(found.epochs.numbers(name), expected.epochs.numbers(name))
    for name in TEXTS:
        (codes, words), (other_codes, other_words) = found.epochs.texts(name), expected.epochs.texts(name)
        assert [words[code] for code in codes] == [other_words[code] for code in other_codes]
    assert found.epochs.right() == expected.epochs.right()


def test_what_is_usual_is_parsed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / RECORDS_FILE).write_text("".join([*USUAL, text(right=RIGHT) + "\n"]))
    monkeypatch.setattr("analysis.frames.columns._one_by_one", None)
    assert isinstance(found := read_by(tmp_path), Log)
    assert found.epochs.numbers("val_robust").tolist() == [1 / 7, 2 / 7, 2 / 7]
    assert found.epochs.right() == {4: RIGHT}


def test_what_is_said_of_each_image_is_no_column_and_costs_other_lines_nothing(tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).write_text("".join([*USUAL, text(right=RIGHT) + "\n"]))
    assert isinstance(found := read_by(tmp_path), Log)
    assert found.epochs.table.schema == Log.of(read(tmp_path)).epochs.table.schema
    assert "right" not in found.epochs.table.column_names
    assert found.epochs.rights.num_rows == 1


def test_a_trials_own_records_are_in_their_order(tmp_path: Path) -> None:
    lines = [*USUAL, line("start", {"trial_id": "a", "code_version": ""}), USUAL[2], text(trial_id="b") + "\n"]
    (tmp_path / RECORDS_FILE).write_text("".join(lines))
    own = Log.of(read(tmp_path)).of_trial("a")
    assert [(one["record"], one.get("epoch")) for one in own] == [
        *[("trial", None), ("epoch", 1), ("epoch", 2), ("start", None), ("epoch", 1)]
    ]
    assert Log.of(read(tmp_path)).of_trial("of another run") == []
