"""A run's several files are read as one log: the same records, frames and progress as of one file, in any split."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from analysis.frames import columns, companion, log
from analysis.frames.companion import FOLDER
from analysis.frames.images import load_images
from analysis.frames.log import Log, read_log
from analysis.frames.trials import load_epochs, load_trials
from sweep.progress import Progress
from trainers.errors import UserError
from trainers.record import line, read, record_files

Records = list[dict[str, Any]]

NAMES = ("records.jsonl", "records.1of3.jsonl", "records.2of3.jsonl", "records.10of12.jsonl")
IDS = ("a0", "b1", "c2", "d3")
BITS = {"val": {"images": 8, "fingerprint": "f", "clean": "/w==", "robust": "/w=="}}


def planned(number: int, name: str) -> dict[str, Any]:
    config = {"model": {"name": "small_cnn"}, "epochs": 2, "optimizer": {"name": "sgd", "lr": 0.1 * (number + 1)}}
    point = {"optimizer.lr": 0.1 * (number + 1)}
    return {"record": "trial", "trial_id": name, "number": number, "config": config, "point": point, "seed": 0}


def started(name: str) -> dict[str, Any]:
    return {"record": "start", "trial_id": name, "code_version": "abc", "host": "h", "device": "cpu"}


def epoch(name: str, number: int, robust: float, **more: Any) -> dict[str, Any]:
    text = {"record": "epoch", "trial_id": name, "epoch": number, "lr": 0.1, "val_robust": robust}
    return text | {"seconds": 2.0, "evaluation_seconds": 1.0, **more}


def ended(name: str, how: str, epochs: int) -> dict[str, Any]:
    return {"record": "outcome", "trial_id": name, "outcome": how, "reason": "", "epochs": epochs}


@st.composite
def phases(draw: st.DrawFn) -> list[list[Records]]:
    """By launch the lines of each trial: it waits, is killed, interrupted or completed, and begun again later."""
    stages: list[list[Records]] = []
    left = dict.fromkeys(IDS, 0)
    for launch in range(draw(st.integers(1, 4))):
        stage: list[Records] = []
        for name in list(left):
            how = draw(st.sampled_from(["waits", "killed", "interrupted", "completed"]))
            until = 2 if how == "completed" else draw(st.integers(0, 2))
            robust = [draw(st.sampled_from([0.1, 0.25, 0.5])) + launch / 100 for _ in range(2)]
            lines = [epoch(name, n, robust[n - 1], **({"right": BITS} if n == 2 else {})) for n in range(1, until + 1)]
            lines = [] if how == "waits" else [started(name), *lines]
            if how in ("interrupted", "completed"):
                lines.append(ended(name, how, until))
            if how == "completed":
                del left[name]
            stage.append(lines)
        stages.append(stage)
    return stages


def launched() -> dict[str, Any]:
    return {"record": "launch", "size": len(IDS), "wanted": list(IDS), "metric": "val_robust", "mode": "max"}


def one_log(stages: Sequence[Sequence[Records]]) -> Records:
    """As one driver after another would have written it, at a second a line; by turns as trials run side by side."""
    texts: Records = []
    for number, stage in enumerate(stages):
        texts.append(launched())
        texts += [planned(n, name) for n, name in enumerate(IDS)] if not number else []
        lines = [list(each) for each in stage]
        while any(lines):
            texts += [each.pop(0) for each in lines if each]
    return [{**text, "time": float(place)} for place, text in enumerate(texts)]


def write(directory: Path, files: dict[str, Records]) -> Path:
    directory.mkdir()
    for name, records in files.items():
        (directory / name).write_text("".join(line(one["record"], one) for one in records))
    return directory


def bare(records: Sequence[Any]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "crc"} for one in records]


def assert_the_same(one: Path, several: Path) -> None:
    """Read line by line, as columns, and by what is kept of them."""
    for long in (1 << 30, 1):
        with ExitStack() as changed:
            changed.enter_context(patch.object(log, "LONG", long))
            changed.enter_context(patch.object(columns, "_BLOCK", 300))
            for _ in range(2 if long == 1 else 1):
                for load in (load_trials, load_epochs):
                    assert_frame_equal(load(several), load(one), check_exact=True)
            assert_frame_equal(load_images(several), load_images(one), check_exact=True)
            assert Progress.of(read_log(several)) == Progress.of(read_log(one))
    assert Progress.of(read(several)) == Progress.of(read(one))


@settings(deadline=None, max_examples=15)
@given(phases(), st.data())
def test_a_log_split_anyhow_is_read_as_it_was(stages: list[list[Records]], data: st.DataObject) -> None:
    """Where no two lines are of one moment, whichever file each is in."""
    records = one_log(stages)
    names = data.draw(st.lists(st.sampled_from(NAMES), min_size=len(records), max_size=len(records)))
    files = {name: [one for one, its in zip(records, names, strict=True) if its == name] for name in set(names)}
    with tempfile.TemporaryDirectory() as folder:
        one, several = write(Path(folder, "one"), {NAMES[0]: records}), write(Path(folder, "several"), files)
        assert bare(read(several)) == read(one)
        as_columns = [{key: one[key] for key in one} for one in Log.of(read(several))]
        with patch.object(log, "LONG", 1):
            assert list(read_log(several)) == as_columns
            assert list(read_log(several).places) == list(read_log(one).places)
            assert read_log(several).epochs.table.to_pylist() == read_log(one).epochs.table.to_pylist()
        assert_the_same(one, several)


@settings(deadline=None, max_examples=30)
@given(phases(), st.data())
def test_a_trial_goes_from_file_to_file_though_clocks_differ(stages: list[list[Records]], data: st.DataObject) -> None:
    """Each launch's lines lie in the files of its shares, each on a machine whose clock is up to an hour off."""
    files: dict[str, Records] = {}
    latest = 0.0
    for number, stage in enumerate(stages):
        share_of = [data.draw(st.sampled_from(NAMES[1:])) for _ in IDS]
        read_before = latest
        for name in sorted(set(share_of)):
            off = data.draw(st.integers(-3600, 3600)) + 7200 + number / 100  # so that no two starts are one
            own = [n for n, its in enumerate(share_of) if its == name]
            texts = [launched() | {"after": round(read_before + 0.001, 3)}]
            texts += [planned(n, IDS[n]) for n in own if not number]
            texts += [text for n in own for lines in stage for text in lines if text["trial_id"] == IDS[n]]
            stamped = [{**text, "time": round(off + place, 3)} for place, text in enumerate(texts)]
            files.setdefault(name, []).extend(stamped)
            latest = max(latest, read_before + 0.001, *(one["time"] for one in stamped))
    with tempfile.TemporaryDirectory() as folder:
        one, several = write(Path(folder, "one"), {NAMES[0]: one_log(stages)}), write(Path(folder, "several"), files)
        for load in (load_trials, load_epochs):
            assert_frame_equal(load(several), load(one), check_exact=True)
            with patch.object(log, "LONG", 1):
                assert_frame_equal(load(several), load(one), check_exact=True)


@pytest.fixture
def several(ratio_run: Any) -> Path:
    """A run of which every third line is in another file."""
    directory: Path = ratio_run.directory
    texts = (directory / NAMES[0]).read_bytes().splitlines(keepends=True)
    records = [json.loads(text) | {"time": float(place)} for place, text in enumerate(texts)]
    for number, name in enumerate(NAMES[:3]):
        (directory / name).write_text("".join(line(one["record"], one) for one in records[number::3]))
    return directory


@pytest.fixture
def all_logs_are_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LONG", 1)
    monkeypatch.setattr("analysis.frames.companion.time.time", lambda: 1e12)


def test_files_are_listed_by_number_of_shares_and_place(tmp_path: Path) -> None:
    names = ["records.jsonl", "records.2of3.jsonl", "records.2of12.jsonl", "records.10of12.jsonl"]
    for name in [
        *reversed(names),
        "records.jsonl.bak",
        "records.1of.jsonl",
        "records.01of2.jsonl",
        "records.1of2.json",
    ]:
        (tmp_path / name).touch()
    assert [path.name for path in record_files(tmp_path)] == names
    assert record_files(tmp_path / "nowhere") == []


def test_several_long_files_are_kept_and_not_read_again(
    several: Path, all_logs_are_long: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials, epochs = load_trials(several), load_epochs(several)
    kept = {path.relative_to(several / FOLDER).as_posix() for path in (several / FOLDER).rglob("*.arrow")}
    assert kept >= {"epochs.arrow", "1of3/epochs.arrow", "2of3/epochs.arrow", "trials.arrow", "counted.arrow"}
    monkeypatch.setattr(companion, "parse", None)
    monkeypatch.setattr("analysis.frames.trials._made_frames", None)
    assert_frame_equal(load_trials(several), trials, check_exact=True)
    monkeypatch.undo()
    monkeypatch.setattr(log, "LONG", 1)
    monkeypatch.setattr("analysis.frames.trials._made_frames", None)
    assert_frame_equal(load_epochs(several), epochs, check_exact=True)


def test_of_the_file_that_grew_only_what_is_new_is_parsed(
    several: Path, all_logs_are_long: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_trials(several)
    sizes = {path.name: path.stat().st_size for path in record_files(several)}
    with (several / NAMES[2]).open("ab") as file:
        file.write(line("epoch", epoch("t0", 9, 0.5, time=1e9)).encode())
    parsed: dict[str, int] = {}

    def parse(file: Any, path: Path, before: int) -> Any:
        parsed[path.name] = file._file.tell()
        return columns.parse(file, path, before)

    monkeypatch.setattr(companion, "parse", parse)
    assert_frame_equal(load_epochs(several), load_epochs(several), check_exact=True)
    assert parsed == sizes


def test_what_is_kept_of_one_file_is_not_taken_for_what_is_kept_of_several(
    several: Path, all_logs_are_long: None
) -> None:
    both = load_trials(several)
    moved = [path.rename(path.with_suffix(".away")) for path in record_files(several)[1:]]
    first = load_trials(several)
    for path in moved:
        path.rename(path.with_suffix(".jsonl"))
    assert len(first) < len(both)
    assert_frame_equal(load_trials(several), both, check_exact=True)


@pytest.mark.parametrize("long", [1, 1 << 30])
def test_a_damaged_line_is_named_with_its_file(long: int, several: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "LONG", long)
    path = several / NAMES[1]
    texts = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*texts[:3], b"{}\n", *texts[3:]]))
    loads: list[Callable[[Path], object]] = [load_trials, load_epochs, read_log]
    for load in loads:
        with pytest.raises(UserError, match=r"records\.1of3\.jsonl:4: damaged line"):
            load(several)


def test_a_torn_last_line_of_any_file_is_left_out(several: Path) -> None:
    whole = read(several)
    for path in record_files(several):
        with path.open("ab") as file:
            file.write(b'{"record":"epo')
    assert read(several) == whole


def test_a_run_of_one_share_alone_is_a_run(several: Path) -> None:
    first, *others = record_files(several)
    for path in (first, others[1]):
        path.unlink()
    assert len(read(several)) == len(others[0].read_bytes().splitlines())
