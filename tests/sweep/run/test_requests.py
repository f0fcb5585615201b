"""Requests: whatever lies in the folder, what is asked is what was asked, and a look costs next to nothing."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from sweep.run import requests
from sweep.run.requests import Asked, Requests, asked
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
    requests.done(tmp_path, TRIAL)
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
    monkeypatch.setattr(requests, "asked", lambda directory: (read.append(directory), asked(directory))[1])
    assert all(watch.look().paused for _ in range(3))
    assert len(read) == 2  # the second within the grain of a file system's clock
    requests.resume(tmp_path)
    assert not watch.look().paused


def test_between_two_looks_time_passes(tmp_path: Path) -> None:
    watch = Requests(tmp_path)
    assert watch.look() == Asked()
    requests.pause(tmp_path)
    assert watch.look() == Asked()
    watch._looked -= requests.PAUSE
    assert watch.look().paused
