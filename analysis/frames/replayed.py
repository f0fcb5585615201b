"""Runs that were replayed on a response surface: their records look like those of trained trials, and are none.

The first line of each of their files says so; whatever reads runs refuses them, unless it says what they are.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from trainers.errors import UserError
from trainers.plain_file import plain
from trainers.record import record_files

#: Of a launch's record: which surfaces its trials were drawn from.
KEY = "surrogate"


def surrogate_of(directory: str | Path) -> str | None:
    """The version of the surfaces that a run was replayed on; None: its trials were trained, or there is no run."""
    for path in record_files(Path(directory)):
        try:
            with open(path, "rb", opener=plain) as file:
                first = json.loads(file.readline())
        except (OSError, ValueError):  # which who reads the records tells
            continue
        if isinstance(first, Mapping) and first.get(KEY):
            return str(first[KEY])
    return None


def surrogate_in(records: Iterable[Mapping[str, Any]]) -> str | None:
    """The same of records that are at hand."""
    return next((str(one[KEY]) for one in records if one["record"] == "launch" and one.get(KEY)), None)


def replay_line(version: str) -> str:
    """What is said wherever numbers of a replay are shown."""
    return f"REPLAYED, NOT MEASURED: no network was trained; every number is drawn from response surface {version}"


def refuse_replay(directory: str | Path) -> None:
    """Refuses a replay where numbers would be taken for measured ones.

    Raises:
        UserError: the run was replayed.
    """
    if (version := surrogate_of(directory)) is not None:
        raise UserError(
            f"{directory}: was replayed on response surface {version}, and no network was trained: it supports no "
            f"claim; `sweep results {shlex.quote(str(directory))}` shows it; for measured numbers launch into another "
            "--out, without --surrogate"
        )
