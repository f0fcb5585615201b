"""What users ask of a run's launches while they run: files in DIR/requests, so that any machine that sees DIR can ask.

paused        there while the sweep is paused; holds since when and from where
set-KEY       the value that a key has now
cancel-ID     a trial is to end; the launch removes it once the records say so
undo-ID       a cancelled trial is to run after all; likewise
note-ID-N     the line of a note's record, which the launch writes down and then removes this; N by when it was asked

Each is made, replaced or removed in one move: two who ask at once never undo each other. Who may write DIR may ask.
"""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sweep.config import LONGEST_EPOCH
from sweep.storage.asked import FOLDER
from trainers.fields import number_text, plural
from trainers.files import PASSING, remove_parts, whole
from trainers.plain_file import plain
from trainers.provenance import host
from trainers.record import NoteRecord, is_id, line
from trainers.record.form import Damaged, record_on
from trainers.record.rules import Rule, is_number, shown, whole_number
from trainers.visible import in_line

#: Between two looks, s.
PAUSE = 0.5

#: How long a folder that has changed is looked through anew, s: clocks of file systems have a grain, of up to 2 s.
_GRAIN = 3.0

#: Characters of a request at most, and of one that is shown.
_LONGEST, SHOWN = 16_000, 100

#: What may be changed while trials run, and what it must be: nothing that is in a trial's numbers.
SETTABLE: Mapping[str, Rule] = {
    "max_concurrent": whole_number(1, 10**9),
    "resources.epoch_timeout": Rule(
        f"a number of seconds over 0, at most {LONGEST_EPOCH:g}",
        lambda value: is_number(value) and 0 < value <= LONGEST_EPOCH,
    ),
}

_PAUSED, _SET, _CANCEL, _UNDO, _NOTE = "paused", "set-", "cancel-", "undo-", "note-"


@dataclass(frozen=True)
class Asked:
    """All that is asked for now."""

    paused: str = ""
    """Since when and from where; empty: it is not."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Values by key."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """By key, what of a value that is none of its is said."""
    cancel: frozenset[str] = frozenset()
    """Ids of trials that are to end."""
    undo: frozenset[str] = frozenset()
    """Ids of cancelled trials that are to run after all."""
    notes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Records of notes that are to be written down, by the names of the files, in their order."""


def asked(directory: Path) -> Asked:
    """What is asked of a run's launches; nothing where its storage is away."""
    with suppress(OSError):
        return _asked(directory)
    return Asked()


def _asked(directory: Path) -> Asked:
    folder = directory / FOLDER
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return Asked()
    settings = {key: _value(folder / f"{_SET}{key}") for key in SETTABLE if f"{_SET}{key}" in names}
    return Asked(
        (_text(folder / _PAUSED) or "an unknown time") if _PAUSED in names else "",
        {key: value for key, value in settings.items() if SETTABLE[key].holds(value)},
        {
            key: f"must be {SETTABLE[key].words}, got {shown(value)}, which is not taken; set {key}=null takes it back"
            for key, value in settings.items()
            if value is not None and not SETTABLE[key].holds(value)
        },
        frozenset(_ids(names, _CANCEL)),
        frozenset(_ids(names, _UNDO)),
        dict(_notes(folder, names)),
    )


def _ids(names: list[str], verb: str) -> Iterator[str]:
    return (name.removeprefix(verb) for name in names if name.startswith(verb) and is_id(name.removeprefix(verb)))


def _notes(folder: Path, names: list[str]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name in names:
        if name.startswith(_NOTE):
            with suppress(Damaged):  # half written, or no note
                record = record_on(_text(folder / name).encode())
                if record.pop("record") == "note":
                    yield name, record


def _text(path: Path) -> str:
    try:
        with open(path, opener=plain, errors="replace") as file:
            return file.read(_LONGEST).strip()
    except OSError as error:
        if error.errno in PASSING - {errno.ENOENT}:
            raise
        return ""  # taken back in this very moment, or no file


def _value(path: Path) -> Any:
    """What a setting's file holds; None: nothing that is one."""
    try:
        return json.loads(_text(path))
    except (ValueError, RecursionError):  # the latter by a thousand brackets
        return None


def pause(directory: Path) -> None:
    """Asks that nothing runs; asked again, it stays as it is."""
    if not (directory / FOLDER / _PAUSED).exists():
        _write(directory, _PAUSED, f"{time.strftime('%F %T')}, on {host()}")


def resume(directory: Path) -> bool:
    """Takes that back; false where it was not asked for."""
    return _remove(directory, _PAUSED)


def set_to(directory: Path, key: str, value: Any) -> None:
    """Gives a key a value; None: the config's."""
    if value is None:
        _remove(directory, f"{_SET}{key}")
    else:
        _write(directory, f"{_SET}{key}", json.dumps(value))


def cancel(directory: Path, trial: str, undo: bool = False) -> None:
    """Asks that a trial ends, or is run after all; what was asked of it before no longer holds."""
    verb, other = (_UNDO, _CANCEL) if undo else (_CANCEL, _UNDO)
    _remove(directory, f"{other}{trial}")
    _write(directory, f"{verb}{trial}", "")


def note(directory: Path, record: NoteRecord) -> None:
    """Asks that a note of a trial is written down."""
    _write(directory, f"{_NOTE}{record.trial_id}-{time.time_ns():x}", line("note", record))


def taken(directory: Path, name: str) -> None:
    """What a file asks for is done."""
    with suppress(OSError):  # it is looked at again
        _remove(directory, name)


def done(directory: Path, trial: str, undo: bool) -> None:
    """A trial has ended, or (undo) is to run after all; what was asked for since then stays."""
    taken(directory, f"{_UNDO if undo else _CANCEL}{trial}")


def _write(directory: Path, name: str, text: str) -> None:
    folder = directory / FOLDER
    folder.mkdir(exist_ok=True)
    remove_parts(folder)
    with whole(folder / name) as part:
        part.write_text(text, encoding="utf-8")


def _remove(directory: Path, name: str) -> bool:
    try:
        (directory / FOLDER / name).unlink()
    except FileNotFoundError:
        return False
    return True


class Requests:
    """What is asked of a run, looked at now and then: a `stat` of the folder where nothing has changed."""

    def __init__(self, directory: Path) -> None:
        """Has not looked yet."""
        self._directory = directory
        self._asked, self._mark = Asked(), object()
        self._looked = self._changed = -PAUSE

    def look(self) -> Asked:
        """What is asked for, as it was at most `PAUSE` ago; over NFS it may be older, by what its client remembers."""
        now = time.monotonic()
        if now - self._looked >= PAUSE:
            self._looked = now
            try:
                self._look(now)
            except OSError:  # storage that is away takes nothing back; once it is there all is read anew
                self._mark = object()
        return self._asked

    def _look(self, now: float) -> None:
        if (mark := self._stat()) != self._mark:
            self._mark, self._changed = mark, now
        if now - self._changed < _GRAIN:
            read = _asked(self._directory)
            if self._stat() == mark:  # else it went, or changed, meanwhile: the next look reads it
                self._asked = read

    def _stat(self) -> Any:
        try:
            status = (self._directory / FOLDER).stat()
        except FileNotFoundError:
            self._directory.stat()  # else it is the storage that is away
            return None
        return status.st_mtime_ns, status.st_ino


def asked_line(directory: Path) -> str:
    """What is asked for, in a line; empty: nothing."""
    now = asked(directory)
    parts = [f"paused since {in_line(now.paused, SHOWN)}" if now.paused else ""]
    parts += [f"{key}={number_text(value)}" for key, value in now.settings.items()]
    parts += [f"{key}: {why}" for key, why in now.refused.items()]
    for verb, names in (("to end", now.cancel), ("to run after all", now.undo)):
        parts += [f"{plural(len(names), 'trial')} {verb}"] if names else []
    parts += [f"{plural(len(now.notes), 'note')} to be written down"] if now.notes else []
    return "; ".join(filter(None, parts))
