"""`fail_fast: N`: a sweep whose first N trials fail alike is ended, for the others would too."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainers.fields import plural

#: Outcomes that say nothing of a trial but that it has stopped for now.
_STOPPED = ("interrupted", "preempted", "paused", "cancelled", "pruned")

#: A frame of a traceback.
_FRAME = re.compile(r'^  File "(.+)", line (\d+), in ', re.MULTILINE)

#: What tells two failures of one kind apart: ids, hexadecimal numbers, numbers.
_OWN = re.compile(r"\b(?=[0-9a-f]*\d)[0-9a-f]{12}\b|0x[0-9a-fA-F]+|\d+(?:\.\d+)?")


class FailFast:
    """Counts the trials of a launch that failed before any ended otherwise."""

    def __init__(self, most: int) -> None:
        """None has ended.

        Args:
            most: after so many failures of one kind it is enough.
        """
        self._most = most
        self._trials: set[str] = set()
        self._kind: str | None = None
        self._over = False

    def ended(self, outcome: Mapping[str, Any], log: Path) -> str | None:
        """A trial has ended; why the sweep is to end, in words, None: it goes on.

        Args:
            outcome: its line.
            log: of the trial, which has the traceback of an exception.
        """
        if self._over or outcome["outcome"] in _STOPPED:
            return None
        kind = kind_of(outcome["reason"], log) if outcome["outcome"] == "failed" else None
        self._over = kind is None or self._kind not in (None, kind)
        if self._over:
            return None
        self._kind = kind
        self._trials.add(outcome["trial_id"])
        if len(self._trials) < self._most:
            return None
        self._over = True
        return f"fail_fast: the first {plural(self._most, 'trial')} failed alike: {outcome['reason']}"


def kind_of(reason: str, log: Path) -> str:
    """What failures of one kind have in common: the exception's type and where it was raised, or else the reason.

    Of the reason without its numbers and ids, which differ between trials.

    Args:
        reason: of the outcome; of an exception it names the log.
        log: of the trial.
    """
    try:
        frames = _FRAME.findall(log.read_text(errors="replace")) if log.name in reason else []
    except OSError:
        frames = []
    if frames:
        return " ".join((reason.partition(":")[0], *frames[-1]))
    return _OWN.sub("#", reason.replace(log.name, ""))
