"""Requests: whatever lies in the folder, what is asked is what was asked, and a look costs next to nothing."""

from __future__ import annotations

import errno
import io
import os
import shutil
import threading
from pathlib import Path
from unittest.mock import MagicMock, Mock

import pytest
from rich.console import Console

from sweep.config import LONGEST_EPOCH
from sweep.run import requests
from sweep.run.requests import Asked, Requests, asked
from sweep.run.steering import Steering
from trainers.record import NoteRecord, line

TRIAL = "00c0ffee0008"


def test_nothing_is_asked_where_there_is_no_folder(tmp_path: Path) -> None:
    assert asked(tmp_path) == Asked()
    assert Requests(tmp_path).look() == Asked()


def test_the_last_word_about_a_trial_counts(tmp_path: Path) -> None:
    requests.cancel(tmp_path, TRIAL)
    assert asked(tmp_path) == Asked(cancel=frozenset({TRIAL}))
    requests.cancel(tmp_path, TRIAL, undo=True)
    assert asked(tmp_path) == Asked(undo=frozenset({TRIAL}))
    requests.done(tmp_path, TRIAL, undo=False)  # what was asked last stays
    assert asked(tmp_path) == Asked(undo=frozenset({TRIAL}))
    requests.done(tmp_path, TRIAL, undo=True)
    assert asked(tmp_path) == Asked()


def test_what_is_no_request_is_passed_over_and_holds_nobody_up(tmp_path: Path) -> None:
    folder = tmp_path / requests.FOLDER
    folder.mkdir()
    texts = {"cancel-../../x": "", "set-max_concurrent": 999 * "[", "set-trial.epochs": "3", "x": ""}
    for name, text in texts.items():
        (folder / name.replace("/", "_")).write_text(text)
    os.mkfifo(folder / "set-resources.epoch_timeout")
    os.mkfifo(folder / "paused")
    os.mkfifo(folder / f"note-{TRIAL}-1")
    for number, text in enumerate(("", "{", line("start", {"trial_id": TRIAL, "code_version": ""}), 99 * "[")):
        (folder / f"note-{TRIAL}-2{number}").write_text(text)
    assert asked(tmp_path) == Asked(paused="an unknown time")


@pytest.mark.parametrize(("seconds", "taken"), [(LONGEST_EPOCH, True), (1e10, False), (0, False)])
def test_a_time_that_no_config_takes_is_not_taken_and_that_is_said(seconds: float, taken: bool, tmp_path: Path) -> None:
    """It would end every process that trains: faulthandler cannot wait so long."""
    requests.set_to(tmp_path, "resources.epoch_timeout", seconds)
    assert dict(asked(tmp_path).settings) == ({"resources.epoch_timeout": seconds} if taken else {})
    said = f"must be a number of seconds over 0, at most 1e+08, got {seconds}, which is not taken; "
    assert (said in requests.asked_line(tmp_path)) is not taken
    journal, console = MagicMock(directory=tmp_path), Console(file=io.StringIO(), width=1000)
    Steering(journal, console, MagicMock()).steer(Mock())
    assert journal.epoch_timeout == (seconds if taken else None)
    assert (said in console.file.getvalue()) is not taken


def test_notes_are_asked_for_in_their_order_and_each_is_taken_by_itself(tmp_path: Path) -> None:
    for text in ("one", "other"):
        requests.note(tmp_path, NoteRecord(TRIAL, text, ("odd",)))
    now = asked(tmp_path).notes
    assert [one["note"] for one in now.values()] == ["one", "other"]
    first, second = now
    requests.taken(tmp_path, first)
    assert [*asked(tmp_path).notes] == [second]
    assert requests.asked_line(tmp_path) == "1 note to be written down"


def test_many_who_ask_at_once_lose_nothing_of_one_another(tmp_path: Path) -> None:
    names = [f"{number:012x}" for number in range(40)]
    askers = [threading.Thread(target=requests.cancel, args=(tmp_path, name)) for name in names]
    askers += [threading.Thread(target=requests.set_to, args=(tmp_path, "max_concurrent", n)) for n in (1, 2)]
    for asker in askers:
        asker.start()
    for asker in askers:
        asker.join()
    now = asked(tmp_path)
    assert now.cancel == set(names)
    assert now.settings["max_concurrent"] in (1, 2)


def test_a_look_at_an_unchanged_folder_is_one_stat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    requests.pause(tmp_path)
    monkeypatch.setattr(requests, "PAUSE", 0.0)
    watch, times = Requests(tmp_path), iter([10.0, 12.0, 14.0, 16.0])
    monkeypatch.setattr(requests.time, "monotonic", lambda: next(times))
    read: list[Path] = []
    anew = requests._asked
    monkeypatch.setattr(requests, "_asked", lambda directory: (read.append(directory), anew(directory))[1])
    assert all(watch.look().paused for _ in range(3))
    assert len(read) == 2  # the second within the grain of a file system's clock
    requests.resume(tmp_path)
    assert not watch.look().paused


def test_storage_that_is_away_takes_nothing_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "PAUSE", 0.0)
    run, away = tmp_path / "run", tmp_path / "away"
    run.mkdir()
    watch = Requests(run)
    requests.pause(run)
    requests.set_to(run, "max_concurrent", 2)
    before = watch.look()
    assert (bool(before.paused), before.settings) == (True, {"max_concurrent": 2})
    run.rename(away)
    assert watch.look() is before
    (away / requests.FOLDER / "paused").unlink()
    away.rename(run)
    assert watch.look() == Asked(settings={"max_concurrent": 2})
    requests.set_to(run, "max_concurrent", 3)
    with monkeypatch.context() as stale:
        stale.setattr(requests.os, "listdir", Mock(side_effect=OSError(errno.ESTALE, "Stale file handle")))
        assert watch.look().settings == {"max_concurrent": 2}
    assert watch.look().settings == {"max_concurrent": 3}
    shutil.rmtree(run / requests.FOLDER)
    assert watch.look() == Asked()


def test_between_two_looks_time_passes(tmp_path: Path) -> None:
    watch = Requests(tmp_path)
    assert watch.look() == Asked()
    requests.pause(tmp_path)
    assert watch.look() == Asked()
    watch._looked -= requests.PAUSE
    assert watch.look().paused
