"""A list of trials in the order in which they are to run, one file: what `sweep plan CONFIG --trials-file` writes.

Its first line says what they are of: sweep (its name), launch (what a launch's record says of the whole sweep) and
threads (of torch, for one trial). Each further one is a trial: trial (its record) and config (all of it).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from trainers.config import TrialConfig
from trainers.errors import UserError, validated
from trainers.files import why, write
from trainers.identity import hashed, trial_id
from trainers.plain_file import plain
from trainers.record import line as record_line
from trainers.record.form import record_on

#: What the first line holds, and each further one.
_HEAD, _TRIAL = {"sweep": str, "launch": dict, "threads": int}, {"trial": dict, "config": dict}

_ANEW = "have `sweep plan CONFIG --trials-file` write it anew"


@dataclass(frozen=True)
class ListedTrial:
    """One trial of the list."""

    record: Mapping[str, Any]
    """The values of its `trial` line in the records."""
    config: TrialConfig

    @property
    def id(self) -> str:
        """Its name."""
        return str(self.record["trial_id"])

    def where(self) -> str:
        """Its point and seed in words."""
        values = {**self.record["point"], "seed": self.record["seed"]}
        return " ".join(f"{key}={value}" for key, value in values.items())


@dataclass(frozen=True)
class TrialList:
    """The trials, in their order."""

    sweep: str
    launch: Mapping[str, Any]
    """Of a launch's line: metric, mode, size, wanted, ..."""
    threads: int
    """Of torch, for one trial: with another number the last bits are others."""
    trials: tuple[ListedTrial, ...]

    def with_root(self, root: Path) -> Self:
        """The same trials, whose images lie in this folder on this machine."""
        moved = []
        for one in self.trials:
            data = one.config.data.model_copy(update={"root": str(root)})
            moved.append(replace(one, config=one.config.model_copy(update={"data": data})))
        return replace(self, trials=tuple(moved))


def write_list(path: Path, trials: TrialList) -> None:
    """Writes the file, as a whole.

    Raises:
        UserError: it cannot be written.
    """
    text = "".join(f"{json.dumps(values)}\n" for values in _lines(trials))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, lambda part: part.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: {why(error, path)}; give another file") from None


def _lines(trials: TrialList) -> Iterator[dict[str, Any]]:
    yield {"sweep": trials.sweep, "launch": dict(trials.launch), "threads": trials.threads}
    for one in trials.trials:
        yield {"trial": dict(one.record), "config": one.config.model_dump(mode="json")}


def read_list(path: Path) -> TrialList:
    """The trials of a file.

    Raises:
        UserError: it is no such list; or a trial is not what its id says; or what of it would become records is none.
    """
    try:
        with open(path, encoding="utf-8", opener=plain) as file:
            lines = [line for line in file if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        said = getattr(error, "strerror", None) or "is no text"
        raise UserError(f"{path}: must be a list of trials that you may read: {said}; {_ANEW}") from None
    if not lines:
        raise UserError(f"{path}: must be a list of trials, and is empty; {_ANEW}")
    head = _values(path, 1, lines[0], _HEAD)
    _check(f"{path}:1: launch: ", "launch", head["launch"])
    trials = tuple(_trial(path, number, line) for number, line in enumerate(lines[1:], start=2))
    if len({one.id for one in trials}) < len(trials):
        raise UserError(f"{path}: must hold each trial once, and holds one twice; {_ANEW}")
    return TrialList(head["sweep"], head["launch"], max(1, head["threads"]), trials)


def _trial(path: Path, number: int, line: str) -> ListedTrial:
    values = _values(path, number, line, _TRIAL)
    record, where = values["trial"], f"{path}:{number}: "
    config = validated(TrialConfig, values["config"], where)
    name = trial_id(config)
    if not record.get("trial_id") == name == hashed(record.get("config", {})):
        raise UserError(
            f"{where}trial {record.get('trial_id')}: its config is that of a trial {name}: it was changed, or other "
            f"code wrote it; {_ANEW}"
        )
    _check(f"{where}trial: ", "trial", record)
    return ListedTrial(record, config)


def _check(where: str, kind: str, values: Mapping[str, Any]) -> None:
    """Once written it can be read again."""
    try:
        record_on(record_line(kind, {"time": 0, **values, "record": kind}).encode())
    except ValueError as error:
        raise UserError(f"{where}{error}; {_ANEW}") from None


def _values(path: Path, number: int, line: str, keys: Mapping[str, type]) -> dict[str, Any]:
    """A line's mapping, which has these keys, of these types."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or not all(isinstance(values.get(key), kind) for key, kind in keys.items()):
        what = "a list of trials" if number == 1 else "a trial"
        raise UserError(f"{path}:{number}: must be the line of {what}, with the keys {', '.join(keys)}; {_ANEW}")
    return values
