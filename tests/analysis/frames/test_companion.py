"""What is kept beside a log: the same frames to the bit with it as without, whatever happened to the log."""

from __future__ import annotations

import base64
import json
import os
import random
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from pandas import DataFrame
from pandas.testing import assert_frame_equal

from analysis.frames import columns, companion, log
from analysis.frames.companion import FOLDER, frame_of, table_of
from analysis.frames.images import images_of, load_images
from analysis.frames.log import read_log
from analysis.frames.trials import epochs_of, load_epochs, load_trials, trials_of
from trainers.errors import UserError
from trainers.record import RECORDS_FILE, line, read

Load = Callable[[Path], DataFrame]

TABLES = (companion.EPOCHS, companion.RIGHTS, companion.TRIALS, companion.COUNTED)


@pytest.fixture(autouse=True)
def every_log_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """And is read in several blocks."""
    monkeypatch.setattr(log, "LONG", 1)
    monkeypatch.setattr(columns, "_BLOCK", 1 << 14)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is there already was not changed just now."""
    monkeypatch.setattr("analysis.frames.companion.time.time", lambda: time.monotonic() + 1e12)


def written(text: dict[str, Any], with_crc: bool) -> bytes:
    """A line as this code writes it, or as older code did."""
    plain = {name: value for name, value in text.items() if name != "crc"}
    return (line("", plain) if with_crc else json.dumps(plain, separators=(",", ":")) + "\n").encode()


def lines(directory: Path) -> list[bytes]:
    return (directory / RECORDS_FILE).read_bytes().splitlines(keepends=True)


def write(directory: Path, texts: list[bytes]) -> None:
    (directory / RECORDS_FILE).write_bytes(b"".join(texts))


def said(call: Callable[[], object]) -> str | None:
    """What a call says of a damaged log."""
    try:
        call()
    except UserError as error:
        return str(error)
    return None


def assert_read_as_without(directory: Path) -> None:
    """Frames, records and progress by what is kept are those of the log read line by line."""
    records = read(directory)
    for load, of in ((load_trials, trials_of), (load_epochs, epochs_of)):
        for _ in range(2):  # as it is made, and as it is kept
            assert_frame_equal(load(directory), of(records), check_exact=True)
    assert list(read_log(directory)) == [record for record in records if record["record"] != "epoch"]
    assert_frame_equal(load_images(directory), images_of(records), check_exact=True)


@pytest.fixture(autouse=True)
def some_images_are_known(ratio_run: Any) -> None:
    """Of every third trial's last epoch."""
    texts = [json.loads(text) for text in lines(ratio_run.directory)]
    for text in texts:
        if text.get("epoch") == 3 and int(text["trial_id"][1:]) % 3 == 0:
            bits = base64.b64encode(bytes([int(text["trial_id"][1:])])).decode()
            text["right"] = {"val": {"images": 8, "fingerprint": "f", "clean": "/w==", "robust": bits}}
    write(ratio_run.directory, [written(text, place % 2 == 0) for place, text in enumerate(texts)])


def test_a_frame_that_is_kept_is_the_same(ratio_run: Any) -> None:
    assert len(load_images(ratio_run.directory)) > 10
    assert_read_as_without(ratio_run.directory)
    assert {path.name for path in (ratio_run.directory / FOLDER).iterdir()} >= {"epochs.arrow", "trials.arrow"}


def changed(texts: list[bytes], rng: random.Random) -> list[bytes]:
    """The lines after one thing that happens to a log: a launch appends, a hand edits, deletes, moves or cuts."""
    place = rng.randrange(1, len(texts))
    epochs = [text for text in texts if text.startswith(b'{"record":"epoch"')]
    match rng.randrange(6):
        case 0:
            return [*texts, *rng.choices(texts, k=3)]
        case 1:
            return texts[:place]
        case 2:
            return [*texts[:place], *texts[place + 1 :]]
        case 3:
            again = json.loads(rng.choice(epochs or [b"{}"])) | {"val_robust": rng.random()}
            other = json.dumps(again).encode() + b"\n"  # with spaces, as nobody of ours writes it
            return [*texts[:place], *([other] if epochs else []), *texts[place:]]
        case 4:
            digits = [number for number, byte in enumerate(texts[place]) if 0x30 < byte < 0x39]
            where = rng.choice(digits)
            return [*texts[:place], texts[place][:where] + b"9" + texts[place][where + 1 :], *texts[place + 1 :]]
        case _:
            return [*texts[:-1], texts[-1][: rng.randrange(len(texts[-1]))]]


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_to_a_log_it_is_read_as_without(seed: int, ratio_run: Any) -> None:
    rng = random.Random(seed)
    for _ in range(12):
        texts = changed(lines(ratio_run.directory), rng)
        if len(texts) < 10:
            break
        write(ratio_run.directory, texts)
        if (damage := said(lambda: read(ratio_run.directory))) is not None:  # a torn line, and others behind it
            assert said(lambda: load_trials(ratio_run.directory)) == damage
            break
        assert_read_as_without(ratio_run.directory)


def test_a_log_that_was_not_changed_is_not_read_again(
    ratio_run: Any, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, epochs = load_trials(ratio_run.directory), load_epochs(ratio_run.directory)
    for name in ("_Summed", "parse"):
        monkeypatch.setattr(companion, name, None)
    assert_frame_equal(load_trials(ratio_run.directory), trials, check_exact=True)
    assert_frame_equal(load_epochs(ratio_run.directory), epochs, check_exact=True)


def test_a_log_that_was_changed_just_now_is_compared_though_it_looks_the_same(ratio_run: Any) -> None:
    """The clock of a file system may not have gone on since."""
    load_trials(ratio_run.directory)
    with companion.opened(ratio_run.directory) as kept:
        assert kept is not None
        assert kept.mark is None


@pytest.mark.parametrize("kept", [True, False])
def test_an_edit_that_leaves_length_and_time_as_they_were_is_noticed(
    kept: bool, ratio_run: Any, later: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of the inode's last change tells; a log that was moved here has another inode."""
    path = ratio_run.directory / RECORDS_FILE
    load_trials(ratio_run.directory)
    stat = path.stat()
    time.sleep(0.02)
    edited = [text.replace(b'"optimizer.lr":0.05', b'"optimizer.lr":0.06') for text in lines(ratio_run.directory)]
    content = b"".join(written(json.loads(text), b"crc" in text) for text in edited)
    other = path if kept else path.with_name("other")
    other.write_bytes(content)
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.replace(other, path)
    assert path.stat().st_size == stat.st_size
    assert_read_as_without(ratio_run.directory)


def test_of_a_log_that_grew_only_what_is_new_is_parsed(
    ratio_run: Any, new_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_trials(ratio_run.directory)
    known, before = (ratio_run.directory / RECORDS_FILE).stat().st_size, len(lines(ratio_run.directory))
    more = new_run(ratio_run.directory)
    more.whole("more", [0.1, 0.2], number=99, optimizer__lr=0.4)
    more.close()
    parsed: list[tuple[int, int]] = []

    def parse(file: Any, path: Path, before: int) -> Any:
        parsed.append((file._file.tell(), before))
        return columns.parse(file, path, before)

    monkeypatch.setattr(companion, "parse", parse)
    assert load_trials(ratio_run.directory)["trial_id"].iloc[-1] == "more"
    assert parsed == [(known, before)]


def broken(path: Path, how: str) -> None:
    content = path.read_bytes()
    match how:
        case "cut":
            path.write_bytes(content[: len(content) // 2])
        case "emptied":
            path.write_bytes(b"")
        case "rubbish":
            path.write_bytes(b"\xff" * len(content))
        case "deleted":
            path.unlink()


@pytest.mark.parametrize("name", [*(f"{name}.arrow" for name in TABLES), "others.json", "compared.json"])
@pytest.mark.parametrize("how", ["cut", "emptied", "rubbish", "deleted"])
def test_what_is_kept_and_damaged_is_made_anew(how: str, name: str, ratio_run: Any, later: None) -> None:
    load_epochs(ratio_run.directory)
    broken(ratio_run.directory / FOLDER / name, how)
    assert_read_as_without(ratio_run.directory)


def test_what_other_code_kept_is_made_anew(ratio_run: Any, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as other:
        other.setattr(companion, "_code", lambda: "other")
        load_epochs(ratio_run.directory)
    first = (ratio_run.directory / FOLDER / "epochs.arrow").read_bytes()
    assert_read_as_without(ratio_run.directory)
    assert (ratio_run.directory / FOLDER / "epochs.arrow").read_bytes() != first


def test_where_nothing_can_be_kept_all_goes_on_without(ratio_run: Any) -> None:
    (ratio_run.directory / FOLDER).write_text("a file, where a folder would be")
    assert_read_as_without(ratio_run.directory)


def test_in_a_folder_of_another_user_all_goes_on_without(ratio_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (ratio_run.directory / FOLDER).mkdir()
    (part := ratio_run.directory / FOLDER / ".epochs-00000000.part.arrow").touch()

    def refused(*args: object, **options: object) -> None:
        raise PermissionError(13, "Permission denied")

    for call in ("pathlib.Path.unlink", "trainers.files._new_part"):
        monkeypatch.setattr(call, refused)
    assert_read_as_without(ratio_run.directory)
    assert [*(ratio_run.directory / FOLDER).iterdir()] == [part]


def test_on_a_full_disk_nothing_is_kept_and_nothing_is_said(
    ratio_run: Any, full_disk: Callable[..., AbstractContextManager[None]], capsys: pytest.CaptureFixture[str]
) -> None:
    with full_disk(after=100):
        assert_read_as_without(ratio_run.directory)
    assert [path.name for path in (ratio_run.directory / FOLDER).iterdir()] == []
    assert capsys.readouterr() == ("", "")


def test_a_reader_beside_a_writer_reads_what_is_whole(ratio_run: Any) -> None:
    """The file ends anywhere in a line, as it does while one is written; the reader keeps what it can each time."""
    content = (ratio_run.directory / RECORDS_FILE).read_bytes()
    for size in range(len(lines(ratio_run.directory)[0]), len(content), 4999):
        (ratio_run.directory / RECORDS_FILE).write_bytes(content[:size])
        assert_read_as_without(ratio_run.directory)


def test_a_short_log_is_worth_no_files(ratio_run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    load_epochs(ratio_run.directory)
    assert not (ratio_run.directory / FOLDER).exists()


def test_a_frame_with_columns_of_several_kinds_is_given_back_as_it_was() -> None:
    mixed = {"kinds": [True, float("nan"), "text", None, 1], "none": [None] * 5, "text": ["a", None, "", "b", "c"]}
    frame = DataFrame({**mixed, "number": [0.1, float("nan"), 1e300, -0.0, 5e-324], "truth": [True] * 5})
    assert_frame_equal(frame_of(table_of(frame)), frame, check_exact=True)
    assert_frame_equal(frame_of(table_of(frame[:0])), frame[:0], check_exact=True)
