"""records.jsonl: whole lines, one writer, and a file that was cut anywhere can be read and gone on with."""

from __future__ import annotations

import errno
import json
import os
import re
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import pytest

from trainers.config import TrialConfig, leaves
from trainers.errors import NewerRecords, UserError
from trainers.record import (
    FINISHED,
    METRICS,
    RECORDS_FILE,
    REQUIRED,
    EpochRecord,
    OutcomeRecord,
    RecordFile,
    epoch_record,
    line,
    only_trial,
    read,
)
from trainers.record import file as record_file

LAUNCH = {"record": "launch", "command": "sweep launch 'ε.yaml'", "time": 1.5, "size": 0, "wanted": list[str]()}
EPOCH = EpochRecord("abc", 1, 0.1, val_robust=1 / 3, seconds=0.1 + 0.2, peak_memory_bytes=2**40)
OUTCOME = OutcomeRecord("abc", "diverged", "val_clean_loss is nan", 1)


def at(key: str) -> Any:
    """A default of a trial's config."""
    value: Any = TrialConfig()
    for part in key.split("."):
        value = getattr(value, part)
    return value


def written(directory: Path) -> bytes:
    file = RecordFile(directory)
    file.append("launch", {key: value for key, value in LAUNCH.items() if key != "record"})
    file.append("epoch", EPOCH)
    file.append("outcome", OUTCOME)
    file.close()
    return (directory / RECORDS_FILE).read_bytes()


WHOLE: list[dict[str, Any]] = [
    LAUNCH,
    {"record": "epoch", **asdict(EPOCH)},
    {"record": "outcome", **asdict(OUTCOME)},
]


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    written(tmp_path)
    found = read(tmp_path)
    assert found == WHOLE
    assert epoch_record(found[1]) == EPOCH


def test_a_trial_that_is_written_down_twice_is_one_trial(tmp_path: Path) -> None:
    """As it is where a wider space gives its point more keys."""
    assert only_trial(tmp_path, ["abc", "abd", "abc"], "abc") == "abc"
    with pytest.raises(UserError, match="2 trials begin with 'ab'"):
        only_trial(tmp_path, ["abc", "abd", "abc"], "ab")


def test_every_record_is_one_line_of_json(tmp_path: Path) -> None:
    lines = written(tmp_path).splitlines(keepends=True)
    assert len(lines) == 3
    assert all(text.endswith(b"\n") for text in lines)
    assert [json.loads(text)["record"] for text in lines] == ["launch", "epoch", "outcome"]


def test_a_line_break_in_a_value_breaks_no_line() -> None:
    assert line("outcome", OutcomeRecord("abc", "failed", "two\nlines\r\u2028", 0)).count("\n") == 1


def test_a_path_whose_bytes_are_no_utf8_is_written_as_readers_believe_it(tmp_path: Path) -> None:
    """Else nobody could read the run again, the launch's own summary neither."""
    record = {**LAUNCH, "command": "sweep launch caf\udce9.yaml", "start_from": {"/caf\udce9": ["abc"]}}
    file = RecordFile(tmp_path)
    file.append("launch", record)
    file.append("outcome", OutcomeRecord("abc", "failed", "data.root: /caf\udce9 is no image \U0001f600", 0))
    file.close()
    found = read(tmp_path)
    assert (found[0]["command"], found[0]["start_from"]) == ("sweep launch caf\\udce9.yaml", {"/caf\\udce9": ["abc"]})
    assert found[1]["reason"] == "data.root: /caf\\udce9 is no image \U0001f600"


def test_a_record_is_in_the_file_when_append_returns(tmp_path: Path) -> None:
    file = RecordFile(tmp_path)
    for count in range(1, 4):
        file.append("epoch", EPOCH)
        assert len(read(tmp_path)) == count
    file.close()


def test_numbers_that_json_has_not_are_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        line("epoch", EpochRecord("abc", 1, float("nan")))


def test_unknown_keys_of_an_epoch_are_dropped_and_missing_ones_are_none() -> None:
    assert epoch_record({"trial_id": "abc", "epoch": 2, "lr": 0.1, "of_tomorrow": 3}) == EpochRecord("abc", 2, 0.1)


def test_read_forgives_a_last_line_torn_at_any_byte(tmp_path: Path) -> None:
    content = written(tmp_path)
    start = content[:-1].rfind(b"\n") + 1
    for end in range(start, len(content) + 1):
        (tmp_path / RECORDS_FILE).write_bytes(content[:end])
        # Only the newline is missing: the record is whole.
        assert read(tmp_path) == (WHOLE if end >= len(content) - 1 else WHOLE[:-1])


def test_appending_goes_on_behind_a_last_line_torn_at_any_byte(tmp_path: Path) -> None:
    content = written(tmp_path)
    start = content[:-1].rfind(b"\n") + 1
    for end in range(start, len(content) + 1):
        (tmp_path / RECORDS_FILE).write_bytes(content[:end])
        before = read(tmp_path)
        file = RecordFile(tmp_path)
        assert read(tmp_path) == before
        file.append("epoch", EPOCH)
        file.close()
        assert read(tmp_path) == [*before, WHOLE[1]]


@pytest.mark.parametrize("tail", [b"\0" * 20, b"\xff\xfe", b"{", b"[1]", b'"', b"3", b"{}"])
def test_rubbish_at_the_end_is_a_torn_line(tail: bytes, tmp_path: Path) -> None:
    written(tmp_path)
    with (tmp_path / RECORDS_FILE).open("ab") as file:
        file.write(tail)
    assert read(tmp_path) == WHOLE
    RecordFile(tmp_path).close()
    assert (tmp_path / RECORDS_FILE).read_bytes().endswith(b"}\n")


@pytest.mark.parametrize("damage", [b'{"record":"epoch","tri', b"\xff\xfe\x00", b"[1]", b'{"trial_id":"abc"}', b"null"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_damaged_line_in_the_middle_is_named(damage: bytes, number: int, tmp_path: Path) -> None:
    lines = written(tmp_path).split(b"\n")
    lines.insert(number - 1, damage)
    path = tmp_path / RECORDS_FILE
    path.write_bytes(b"\n".join(lines))
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{path}:{number}: damaged line: must be one whole JSON record, got {damage.decode(errors='replace')!r}; "
        "restore the line, or delete it: the next launch runs again what is then missing"
    )


CHUNK = {"weights": "last", "averaged": False, "parameters": {"norm": "linf"}, "split": "test", "asked": 9, "first": 0}
CHUNK |= {"images": 9, "clean_correct": 8, "seconds": 1.0, "trial_id": "abc"}

#: The least of each kind.
LEAST: dict[str, dict[str, Any]] = {
    "launch": {"time": 0.0, "size": 1, "wanted": ["abc"]},
    "trial": {"trial_id": "abc", "number": 0, "config": {}, "point": {}, "seed": 0},
    "start": {"trial_id": "abc", "code_version": ""},
    "resume": {"trial_id": "abc", "epoch": 1, "reason": ""},
    "epoch": {"trial_id": "abc", "epoch": 1, "lr": 0.1, "seconds": 1.0, "evaluation_seconds": 0.0},
    "dynamics": {"trial_id": "abc", "epoch": 0, "lr": 0.1, "seconds": 1.0, "curvatures": [1.0], "variances": [[None]]},
    "outcome": {"trial_id": "abc", "outcome": "failed", "reason": "", "epochs": 0},
    "evaluation": {**CHUNK, "attack": "pgd", "correct": 4},
    "check": {**CHUNK, "check": "steps", "right_under": {"PGD": 4}, "against": 0, "in_favour": 0},
    "note": {"trial_id": "abc"},
}
ONE_KEY_MISSING = [(kind, key) for kind, keys in REQUIRED.items() for key in sorted(keys)]


@pytest.mark.parametrize(("kind", "missing"), ONE_KEY_MISSING)
def test_a_record_that_lacks_a_key_is_damaged_and_at_the_end_torn(kind: str, missing: str, tmp_path: Path) -> None:
    whole = line(kind, LEAST[kind])
    lacking = json.dumps({"record": kind, **{key: value for key, value in LEAST[kind].items() if key != missing}})
    path = tmp_path / RECORDS_FILE
    path.write_text(whole + whole)
    assert len(read(tmp_path)) == 2
    path.write_text(f"{whole}{lacking}\n{whole}")
    with pytest.raises(
        UserError, match=rf"records\.jsonl:2: damaged line: {missing} must be .*, got nothing; restore "
    ):
        read(tmp_path)
    path.write_text(whole + lacking)
    assert len(read(tmp_path)) == 1


@pytest.mark.parametrize("kind", ["3", "[]", "null", '""', '"../of_tomorrow"', f'"{"a" * 99}"'])
def test_a_record_whose_kind_is_no_name_is_damaged(kind: str, tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).write_text(f'{{"record":{kind},"trial_id":"abc"}}\n')
    with pytest.raises(UserError, match=r"records\.jsonl:1: damaged line"):
        read(tmp_path)


def test_what_a_newer_version_wrote_is_passed_over_and_counted(tmp_path: Path) -> None:
    """Kinds and outcomes that are not known; of a known kind the known keys alone are read."""
    newer = [line("pruning", {"trial_id": [3]}), line("outcome", {**LEAST["outcome"], "outcome": "moonstruck"})]
    content = written(tmp_path).decode() + "".join(newer + newer[:1]) + line("start", {**LEAST["start"], "moon": [1]})
    (tmp_path / RECORDS_FILE).write_text(content)
    with pytest.warns(NewerRecords) as caught:
        records = read(tmp_path)
    assert records == [*WHOLE, {"record": "start", **LEAST["start"], "moon": [1]}]
    assert [str(one.message) for one in caught] == [
        f"{tmp_path / RECORDS_FILE}: 3 lines of kinds that this version does not know passed over: outcome moonstruck, "
        "pruning; a newer robustsweep wrote them"
    ]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"note": 3}, "note must be text of at most 1,000 characters or null, got 3"),
        ({"note": "x" * 1001}, "note must be text of at most 1,000 characters or null, got 'xxx"),
        ({"tags": "odd"}, "tags must be a list of names, got 'odd'"),
        ({"untags": ["two words"]}, "untags must be a list of names, got "),
    ],
)
def test_a_note_that_no_command_writes_is_damaged(written: dict[str, Any], says: str, tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).write_text(line("note", {"trial_id": "abc", **written}))
    with pytest.raises(UserError, match=rf":1: damaged line: {re.escape(says)}"):
        read(tmp_path)


def test_what_is_required_of_an_epoch_and_an_outcome_is_what_they_hold() -> None:
    assert {field.name for field in fields(EpochRecord)} >= REQUIRED["epoch"]
    assert {field.name for field in fields(OutcomeRecord)} >= REQUIRED["outcome"]


def test_a_damaged_line_stays_named_with_its_number_behind_empty_lines(tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).write_bytes(b"\n\n" + line("epoch", EPOCH).encode() + b"x\n")
    with pytest.raises(UserError, match=r"records\.jsonl:4: damaged line"):
        read(tmp_path)


def test_a_directory_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(UserError) as caught:
            read(path)
        assert str(caught.value) == (
            f"{path}: not a run directory: it has no records.jsonl; give the --out of a launch"
        )


def test_a_folder_of_runs_is_refused_with_their_names(tmp_path: Path) -> None:
    for name in "edcba":
        (tmp_path / name).mkdir()
        if name != "b":
            (tmp_path / name / RECORDS_FILE).touch()
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    runs = ", ".join(str(tmp_path / name) for name in "acd")
    assert str(caught.value) == f"{tmp_path}: holds runs, and is none; give one of them: {runs} and 1 more"


def test_records_that_are_a_folder_are_not_said_to_be_missing(tmp_path: Path) -> None:
    (tmp_path / RECORDS_FILE).mkdir()
    with pytest.raises(UserError) as caught:
        read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path / RECORDS_FILE}: must be a file that you may read: Is a directory; mend that"
    )


def test_records_that_may_not_be_read_are_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(path: Path) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    (tmp_path / RECORDS_FILE).touch()
    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(UserError, match=r"must be a file that you may read: Permission denied; mend that$"):
        read(tmp_path)


def test_an_empty_file_has_no_records(tmp_path: Path) -> None:
    RecordFile(tmp_path).close()
    assert read(tmp_path) == []


def test_an_outcome_is_forced_to_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forced: list[int] = []
    monkeypatch.setattr(os, "fsync", forced.append)
    written(tmp_path)
    assert len(forced) == 1


def test_metrics_are_the_accuracies_and_losses_of_an_epoch() -> None:
    measured = {f"{split}_{what}" for split in ("train", "val", "test") for what in ("clean", "robust")}
    measured |= {f"averaged_{name}" for name in measured if not name.startswith("train")}
    assert set(METRICS) == measured | {f"{name}_loss" for name in measured}
    assert set(METRICS) < {field.name for field in fields(EpochRecord)}
    assert {"completed", "diverged"} == FINISHED


def begun(letter: str) -> dict[str, str]:
    """The values of a start record."""
    return {"trial_id": letter * 12, "host": "", "device": "cpu", "code_version": ""}


def ended(letter: str) -> OutcomeRecord:
    return OutcomeRecord(letter * 12, "completed", "", 3)


class Disk:
    """A disk that takes half of what is written once it is told to be full, and says that it cannot force it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.full, self.unsure, self.tries, fsync = 0, 0, 0, os.fsync
        self._write = record_file._write_all
        monkeypatch.setattr(record_file, "_write_all", self.write)
        monkeypatch.setattr(os, "fsync", lambda descriptor: self.force(lambda: fsync(descriptor)))
        monkeypatch.setattr(time, "sleep", lambda seconds: None)

    def write(self, file: Any, content: bytes) -> None:
        self.tries += 1
        if self.full:
            self.full -= 1
            self._write(file, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        self._write(file, content)

    def force(self, fsync: Callable[[], None]) -> None:
        if self.unsure:
            self.unsure -= 1
            raise OSError(errno.EIO, "Input/output error")
        fsync()


@pytest.mark.parametrize(("full", "unsure"), [(1, 0), (3, 0), (0, 1), (0, 3), (2, 2)])
def test_where_the_disk_is_full_for_a_moment_no_record_is_torn_lost_or_there_twice(
    full: int, unsure: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, file = Disk(monkeypatch), RecordFile(tmp_path)
    for letter in "abc":
        file.append("start", begun(letter))
        disk.full, disk.unsure = full, unsure
        file.append("start", begun(letter.upper()))
        file.append("outcome", ended(letter))
        assert len(read(tmp_path)) == 3 * "abc".index(letter) + 3
    file.close()
    assert disk.tries > 9
    (tmp_path / "whole").mkdir()
    whole = RecordFile(tmp_path / "whole")
    for letter in "abc":
        for name in (letter, letter.upper()):
            whole.append("start", begun(name))
        whole.append("outcome", ended(letter))
    whole.close()
    assert (tmp_path / RECORDS_FILE).read_bytes() == (tmp_path / "whole" / RECORDS_FILE).read_bytes()


def test_what_could_not_be_written_in_a_minute_is_written_with_the_next_record_and_nobody_waits_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, file = Disk(monkeypatch), RecordFile(tmp_path)
    file.append("start", begun("a"))
    now = iter(range(0, 10**9, 7))
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    disk.full = 10**9
    with pytest.raises(UserError, match=r"records.jsonl: cannot be written: No space left on device; mend that, or"):
        file.append("start", begun("b"))
    before = disk.tries
    with pytest.raises(UserError, match="No space left"):
        file.append("outcome", ended("b"))
    assert (before > 5, disk.tries) == (True, before + 1)
    assert [record["trial_id"][0] for record in read(tmp_path)] == ["a"]  # its torn line is not believed
    disk.full = 0
    file.append("start", begun("c"))
    file.close()
    assert [(one["record"], one["trial_id"][0]) for one in read(tmp_path)] == [
        *(("start", "a"), ("start", "b"), ("outcome", "b"), ("start", "c"))
    ]


@pytest.mark.parametrize("how", ["removed", "replaced", "emptied", "shortened", "shortened while the disk is full"])
def test_records_that_another_program_takes_away_are_not_written_into_nothing(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, disk, file = tmp_path / RECORDS_FILE, Disk(monkeypatch), RecordFile(tmp_path)
    file.append("outcome", ended("a"))
    if how == "removed":
        path.unlink()
    elif how == "replaced":
        (tmp_path / "edited").write_bytes(path.read_bytes())
        os.replace(tmp_path / "edited", path)
    else:
        os.truncate(path, 0 if how == "emptied" else 10)
        disk.full = int("full" in how)
    left = path.read_bytes() if path.exists() else None
    said = "removed or replaced it" if how in ("removed", "replaced") else "made it shorter"
    with pytest.raises(UserError, match=f"{RECORDS_FILE}: another program {said} while it was written; the same comm"):
        file.append("start", begun("b"))
    file.close()
    assert (path.read_bytes() if path.exists() else None) == left  # nothing is glued to what was torn


def test_a_record_that_does_not_fit_on_the_disk_is_told_with_its_file_and_costs_no_other(
    tmp_path: Path, full_disk: Callable[..., AbstractContextManager[None]]
) -> None:
    first, second = ({"trial_id": name * 12, "host": "", "device": "cpu", "code_version": ""} for name in "ab")
    file = RecordFile(tmp_path)
    file.append("start", first)
    size = (tmp_path / RECORDS_FILE).stat().st_size
    with full_disk(after=size + 10), pytest.raises(UserError) as caught:
        file.append("start", second)
    assert str(caught.value) == (
        f"{tmp_path / RECORDS_FILE}: cannot be written: File too large; "
        "mend that, or make room: the same command goes on"
    )
    with full_disk(after=size + 10):
        file.close()
    again = RecordFile(tmp_path)
    again.append("start", second)
    again.close()
    assert [record["trial_id"] for record in read(tmp_path)] == [first["trial_id"], second["trial_id"]]


NUMBERS_OF_A_CONFIG = [
    key
    for key in leaves(TrialConfig().model_dump(mode="json"))
    if isinstance(at(key), bool | int | float) and not key.startswith("checkpoint.")
]


@pytest.mark.parametrize("key", NUMBERS_OF_A_CONFIG)
@pytest.mark.parametrize("value", ["x", [1], {"a": 1}])
def test_no_number_or_flag_of_a_trials_config_may_be_something_else(key: str, value: Any, tmp_path: Path) -> None:
    trial = {**LEAST["trial"], "config": TrialConfig().model_dump(mode="json")}
    (tmp_path / RECORDS_FILE).write_text(line("trial", trial))
    assert len(read(tmp_path)) == 1
    *parts, last = key.split(".")
    owner = trial["config"]
    for part in parts:
        owner = owner[part]
    owner[last] = value
    (tmp_path / RECORDS_FILE).write_text(line("trial", trial))
    with pytest.raises(UserError, match=rf":1: damaged line: config\.{key} must be "):
        read(tmp_path)


@pytest.mark.parametrize("part", [(), ("optimizer",), ("objective", "s2o")])
def test_a_key_of_a_trial_that_holds_half_a_character_is_damage(part: tuple[str, ...], tmp_path: Path) -> None:
    trial = {**LEAST["trial"], "config": TrialConfig().model_dump(mode="json")}
    owner: Any = trial["config"]
    for name in part:
        owner = owner[name]
    owner["k\ud800"] = 1
    (tmp_path / RECORDS_FILE).write_text(json.dumps({"record": "trial", **trial}) + "\n")
    with pytest.raises(UserError, match=":1: damaged line: config"):
        read(tmp_path)
