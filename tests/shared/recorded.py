"""Records of a sweep on the digits, made up: what a launch would have written down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sweep.config import SweepConfig
from sweep.search.inputs import data_key
from sweep.search.trials import PlannedTrial, fixed_points, planned
from trainers.record import RECORDS_FILE, line

Records = list[dict[str, Any]]

#: What a launch would say of its machine and code.
ENVIRONMENT = {"commit": "c0ffee", "dirty": True, "code_version": "abc", "versions": {"torch": "2.11"}}


def trials_of(config: SweepConfig) -> list[PlannedTrial]:
    return planned(config, fixed_points(config), {data_key(config.trial): "digits-0"})


def launch(trials: list[PlannedTrial]) -> Records:
    ids = [trial.id for trial in trials]
    start = {"record": "launch", "time": 0.0, "size": len(ids), "wanted": ids}
    return [start, *({"record": "trial", **trial.record(n)} for n, trial in enumerate(trials))]


def run(trial: PlannedTrial, epochs: int, outcome: str | None = "completed", code: str = "abc") -> Records:
    name = trial.id
    lines: Records = [{"record": "start", "trial_id": name, "time": 0.0, "code_version": code}]
    lines += [
        {"record": "epoch", "trial_id": name, "epoch": epoch, "lr": 0.1, "val_robust": epoch / 10,
         "seconds": 20.0, "evaluation_seconds": 10.0}
        for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    if outcome:
        lines.append({"record": "outcome", "trial_id": name, "outcome": outcome, "reason": "", "epochs": epochs})
    return lines


def append(directory: Path, records: Records, file: str = RECORDS_FILE) -> None:
    """Writes the records down, as a launch would have."""
    with open(directory / file, "a") as log:
        log.writelines(line(record["record"], {k: v for k, v in record.items() if k != "record"}) for record in records)
