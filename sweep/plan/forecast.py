"""What a plan forecast of a run: kept in the user's folder of caches until a launch writes it into its record.

`sweep plan` counts and times what was never run. A launch does not, which takes seconds of the machine that trials are
about to have; where epochs were measured here it knows by itself.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from sweep.config_file import dump
from sweep.plan.plan import Plan
from sweep.storage.cache import base


def keep(directory: Path, plan: Plan, seconds: float) -> None:
    """Remembers what a plan forecast; a folder that cannot be written forgets it.

    Args:
        directory: of the run.
        plan: for it.
        seconds: of all trials left, one after another.
    """
    path = _path(directory, plan)
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"trials": plan.left, "seconds": seconds}))


def taken(directory: Path, plan: Plan) -> dict[str, Any] | None:
    """What was forecast of the trials that a launch is to run, for its record; none: nothing was.

    Args:
        directory: of the run.
        plan: of the launch; a forecast of another config, or of more or fewer trials, is not its.

    Returns:
        trials; seconds of all of them, one after another.
    """
    path = _path(directory, plan)
    known: dict[str, Any] | None = None
    with suppress(OSError, ValueError, TypeError, KeyError):  # of another version, say, or half written
        kept = json.loads(path.read_text())
        path.unlink()
        known = {"trials": int(kept["trials"]), "seconds": float(kept["seconds"])}
    if plan.trial_seconds is not None:
        known = {"trials": plan.left, "seconds": plan.trial_seconds}
    return known


def _path(directory: Path, plan: Plan) -> Path:
    of = "\0".join([str(directory.absolute()), dump(plan.config), str(plan.left)]).encode("utf-8", "surrogateescape")
    return base() / "forecasts" / f"{hashlib.sha256(of).hexdigest()[:24]}.json"
