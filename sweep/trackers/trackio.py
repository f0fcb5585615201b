"""trackio: a run for each trial in a database of this user's, which trackio's own page shows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sweep.trackers.updates import Update, metrics
from sweep.watchers import TrackerConfig

#: What would have trackio log elsewhere, where nobody here could see what has arrived.
_ELSEWHERE = ("TRACKIO_SPACE_ID", "TRACKIO_SERVER_URL")

_OUTCOME = "outcome"


class Trackio:
    """Runs of one project, each opened for as long as something is logged: of one process trackio has one open."""

    def __init__(self, project: str) -> None:
        """Opens none yet."""
        self._project = project

    def send(self, update: Update) -> str:
        """Logs what its database has not of the trial's run; gives its name, which runs of one id share."""
        again = f"-{update.begun + 1}" if update.begun else ""
        name = update.run or f"{update.trial}-{update.token}{again}"
        rows: list[tuple[int, dict[str, Any]]] = [(epoch["epoch"], {**metrics(epoch)}) for epoch in update.epochs]
        if update.outcome:
            last = max(rows, default=(0, {}))[0]
            rows.append((last, {_OUTCOME: update.outcome, "reason": update.tags.get("reason", "")}))
        known = self._known(name)
        self._log(name, update, [row for row in rows if _key(*row) not in known])
        if missing := [row[0] for row in rows if _key(*row) not in self._known(name)]:
            raise OSError(f"its database took no row of epochs {missing}")  # trackio itself only warns
        return name

    def _log(self, name: str, update: Update, rows: Sequence[tuple[int, dict[str, Any]]]) -> None:
        import trackio

        config = {**update.params, **update.tags}
        options: dict[str, Any] = {"embed": False, "auto_log_gpu": False, "auto_log_cpu": False}
        run = trackio.init(self._project, name, group=update.sweep, config=config, resume="allow", **options)
        for step, row in rows:
            run.log(row, step=step)
        run.finish()

    def _known(self, name: str) -> set[tuple[int, str]]:
        from trackio.sqlite_storage import SQLiteStorage

        return {_key(row["step"], row) for row in SQLiteStorage.get_logs(self._project, name)}

    def close(self) -> None:
        """None is open."""


def _key(step: int, row: dict[str, Any]) -> tuple[int, str]:
    """By what a row is known that is there already: an outcome whatever epoch it was logged at."""
    return (0, row[_OUTCOME]) if _OUTCOME in row else (step, "")


def opened(config: TrackerConfig, folder: Path, name: str) -> Trackio:
    """The tracker of a config.

    Args:
        config: of it.
        folder: of its own, in the run's directory.
        name: of the project.
    """
    for variable in _ELSEWHERE:
        os.environ.pop(variable, None)
    import trackio  # noqa: F401  # lest it is missed once the sweep runs

    return Trackio(name)
