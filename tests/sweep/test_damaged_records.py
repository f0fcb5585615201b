"""Whatever became of records.jsonl: a command reads it, or says in one line what is wrong, and writes nowhere else."""

from __future__ import annotations

import copy
import json
import random
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from damage import whole
from pandas.testing import assert_frame_equal

from analysis.frames import log
from analysis.frames.trials import load_epochs, load_trials
from sweep.cli import main
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, forms, line, read

#: Seconds that a command may take, however busy the machine is.
LONGEST = 120


@pytest.fixture
def texts(tmp_path: Path) -> list[bytes]:
    """The lines of a whole run, of every kind, without their checksums."""
    return whole(tmp_path)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "outer" / "run"
    (directory / "checkpoints").mkdir(parents=True)
    return directory


@pytest.fixture(autouse=True)
def in_time() -> Iterator[None]:
    def late(*_: object) -> None:
        raise TimeoutError("a command hangs")

    before = signal.signal(signal.SIGALRM, late)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def says(command: str, run: Path) -> Result:
    """What a command does; fails where it ends in a traceback or says more than one line of a mistake."""
    signal.alarm(LONGEST)
    result = CliRunner().invoke(main, [word.replace("{}", str(run)) for word in command.split()])
    signal.alarm(0)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        pytest.fail(f"{command}: {''.join(traceback.format_exception(result.exception))}")
    assert result.exit_code in (0, 1, 2)
    assert result.exit_code != 2 or len(result.stderr.splitlines()) == 1
    return result


def flipped(content: bytes, rng: random.Random) -> bytes:
    damaged = bytearray(content)
    damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize("long", [False, True])
def test_a_flipped_bit_is_reported_or_changes_nothing(
    long: bool, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """1,000 flips anywhere in a log whose lines have checksums, read line by line and as columns."""
    monkeypatch.setattr(log, "LONG", 1 if long else 1 << 23)
    content = b"".join(line(one["record"], one).encode() for one in map(json.loads, texts))
    (run / RECORDS_FILE).write_bytes(content)
    expected, rng, reported = log.read_log(run), random.Random(0), 0
    for _ in range(500):
        (run / RECORDS_FILE).write_bytes(flipped(content, rng))
        try:
            got = log.read_log(run)
        except UserError as error:
            reported += f"{RECORDS_FILE}:" in str(error) and "damaged line: " in str(error)
            continue
        # the key crc has another name: nothing looks at it
        assert all(old.items() <= new.items() for old, new in zip(expected, got, strict=True))
        assert got.epochs.table.equals(expected.epochs.table)
        assert got.epochs.right() == expected.epochs.right()
    assert reported > 470


FORMS: dict[str, Callable[[bytes], bytes]] = {
    "CRLF": lambda text: text.replace(b"\n", b"\r\n"),
    "a mark of byte order": lambda text: b"\xef\xbb\xbf" + text,
    "blank lines": lambda text: text.replace(b"\n", b"\n\n \n"),
    "each line doubled": lambda text: b"".join(one + b"\n" + one + b"\n" for one in text.splitlines()),
    "the file twice": lambda text: text + text,
    "keys that stand twice": lambda text: text.replace(b'"lr":0.1', b'"lr":0.7,"lr":0.1'),
}


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_another_form_of_the_same_lines_is_read_as_the_same(
    form: str, long: bool, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LONG", 1 if long else 1 << 23)
    path, content = run / RECORDS_FILE, b"\n".join(texts) + b"\n"
    path.write_bytes(content)
    expected = load_trials(run), load_epochs(run)
    path.write_bytes(FORMS[form](content))
    for frame, same in zip((load_trials(run), load_epochs(run)), expected, strict=True):
        assert_frame_equal(frame, same)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("end", ["utf-16", "one line"])
def test_a_file_of_another_kind_is_refused_in_one_line(
    end: str, long: bool, texts: list[bytes], run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "LONG", 1 if long else 1 << 23)
    content = b"\n".join(texts) + b"\n"
    monkeypatch.setattr("trainers.record.form.LONGEST", 1 << 12)
    monkeypatch.setattr("trainers.record.file.LONGEST", 1 << 12)
    monkeypatch.setattr("analysis.frames.columns.LONGEST", 1 << 12)
    other = content.decode().encode("utf-16") if end == "utf-16" else content + b"x" * (1 << 16)
    (run / RECORDS_FILE).write_bytes(other)
    result = says("status {}", run)
    assert result.exit_code == 2
    assert "damaged line: must " in result.stderr


@pytest.mark.parametrize("name", ["../../x", "/tmp/x", "a\0b", "a" * 10_000, "\x1b[2J", "", ".lock", "a.previous", 3])
@pytest.mark.parametrize("kind", ["trial", "evaluation", "check", "outcome", "launch"])
def test_a_trial_id_that_is_none_is_a_damaged_line(kind: str, name: Any, texts: list[bytes], run: Path) -> None:
    """So that nothing is written where it leads: no checkpoint, log, weights or figure."""
    records = [json.loads(text) for text in texts]
    record = next(one for one in records if one["record"] == kind)
    record |= {"wanted": [name]} if kind == "launch" else {"trial_id": name}
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    key = "wanted must be a list of trials' ids" if kind == "launch" else "trial_id must be a trial's id"
    with pytest.raises(UserError, match=f":{records.index(record) + 1}: damaged line: {key}, .*got "):
        read(run)


@pytest.mark.parametrize("key", ["attack", "split", "weights", "check"])
def test_a_name_that_is_no_name_is_a_damaged_line(key: str, texts: list[bytes], run: Path) -> None:
    records = [json.loads(text) for text in texts]
    next(one for one in records if key in one and one["record"] != "trial")[key] = "../x"
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    with pytest.raises(UserError, match=f"damaged line: {key} must be a name, of letters, digits and _, got '../x'"):
        read(run)


@pytest.mark.parametrize("kind", forms.FORMS)
def test_a_key_of_another_kind_is_left_away(kind: str, texts: list[bytes], run: Path) -> None:
    """So that what reads `trial_id` or `right` of lines of all kinds finds none that is not held to a form."""
    expected = [json.loads(text) for text in texts]
    records = copy.deepcopy(expected)
    owner = next(one for one in records if one["record"] == kind)
    foreign = {key for form in forms.FORMS.values() for key in form} - forms.FORMS[kind].keys()
    owner |= {key: [] for key in foreign}
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    assert foreign
    assert read(run) == expected


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("left_out", 3),
        ("left_out", [[]]),
        ("dirty", []),
        ("versions", ["a"]),
        ("decides", {"budget_hours": "x"}),
    ],
)
def test_what_a_launch_says_is_looked_at(key: str, value: Any, texts: list[bytes], run: Path) -> None:
    launch = json.loads(texts[0])
    (run / RECORDS_FILE).write_text(line("launch", {**launch, key: value}))
    result = says("status {}", run)
    assert result.exit_code == 2
    assert f"{RECORDS_FILE}:1: damaged line: {key}" in result.stderr


def test_code_of_a_network_leads_to_no_other_folder(texts: list[bytes], run: Path) -> None:
    records = [json.loads(text) for text in texts]
    next(one for one in records if one["record"] == "trial")["config"]["model"]["code"] = "../../x"
    (run / RECORDS_FILE).write_text("".join(line(one["record"], one) for one in records))
    with pytest.raises(UserError, match=r"damaged line: config\.model\.code must be a hash or null, got '../../x'"):
        read(run)


def test_a_command_tells_of_a_newer_versions_lines_once_in_one_line(texts: list[bytes], run: Path) -> None:
    newer = line("pruning", {"trial_id": "a"}) * 3
    (run / RECORDS_FILE).write_bytes(b"\n".join(texts) + b"\n" + newer.encode())
    for _ in range(2):
        result = says("methods {}", run)
        assert result.exit_code == 0
        assert result.stderr == (
            f"sweep: {run / RECORDS_FILE}: 3 lines of kinds that this version does not know passed over: pruning; "
            "a newer robustsweep wrote them\n"
        )


def test_what_was_changed_by_hand_is_read_without_its_checksum(texts: list[bytes], run: Path) -> None:
    edited = line("epoch", json.loads(texts[3])).replace('"lr":0.1', '"lr":0.2')
    path = run / RECORDS_FILE
    path.write_text(edited)
    with pytest.raises(UserError, match="something in it is not as it was written; if you changed it, delete its crc"):
        read(run)
    path.write_text(edited.rpartition(',"crc"')[0] + "}\n")
    assert read(run)[0]["lr"] == 0.2
