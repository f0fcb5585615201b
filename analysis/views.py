"""One trial, and epochs row by row, as text for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from pandas import DataFrame, isna
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.frames.arithmetic import in_words
from analysis.frames.cells import several
from analysis.frames.names import brief
from analysis.frames.trials import load_epochs
from analysis.settings import presets
from trainers.fields import plural
from trainers.record import METRICS, only_trial, read

#: What is shown of an epoch: accuracies in percent, everything else as it is.
SHOWN = (
    "epoch", "lr", "train_clean", "train_robust", "val_clean", "val_robust", "test_clean", "test_robust",
    "train_robust_loss", "test_robust_loss", "seconds",
)  # fmt: skip


def epochs_table(frame: DataFrame) -> Table:
    """One line an epoch; the trial's id in front where there are several.

    Args:
        frame: epochs, as `analysis.frames.trials.load_epochs` gives them.
    """
    names = [*(["trial_id"] if several(frame["trial_id"]) else []), *SHOWN]
    table = Table(box=None, caption="accuracies in %, losses in nats, seconds of training")
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    shown = {name: [_cell(name, value) for value in frame[name]] for name in names}
    shown["lr"] = brief(list(frame["lr"]), 4)
    for row in zip(*shown.values(), strict=True):
        table.add_row(*row)
    return table


def trial_view(directory: Path, beginning: str) -> RenderableType:
    """One trial's config, where its numbers come from, and its curve.

    Args:
        directory: of the run.
        beginning: of the trial's id; enough of it to tell it from the others.

    Raises:
        UserError: no trial, or several, begin so.
    """
    records = read(directory)
    trials = {record["trial_id"]: record for record in records if record["record"] == "trial"}
    trial = trials[only_trial(directory, trials, beginning)]
    preset = presets(records).get(trial["trial_id"])
    own = [record for record in records if record.get("trial_id") == trial["trial_id"]]
    epochs = load_epochs(directory)
    config = yaml.safe_dump(trial["config"], sort_keys=False).rstrip()
    return Group(
        Text(f"trial {trial['trial_id']} of {directory}{f', preset {preset}' if preset else ''}\n"),
        Text(f"{config}\n"),
        *(Text(_event(own[place:])) for place, one in enumerate(own) if one["record"] in ("start", "outcome")),
        Text(""),
        epochs_table(epochs[epochs["trial_id"] == trial["trial_id"]]),
    )


def _event(records: Sequence[Mapping[str, Any]]) -> str:
    """The first of them, in words; of a start, in which engine the epoch that follows it ran."""
    record, *later = records
    when = datetime.fromtimestamp(record["time"], UTC).strftime("%F %T UTC")
    if record["record"] == "start":
        following = next((each for each in later if each["record"] in ("epoch", "start")), {})
        how = in_words(record.get("arithmetic"), following.get("engine", ""))
        where = f"{when}  start on {record['host']} ({record['device']}), code {record['code_version']}"
        return f"{where}, {how}" if how else where
    return f"{when}  {record['outcome']} after {plural(record['epochs'], 'epoch')} {record['reason']}".rstrip()


def _cell(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value
    if isna(value):
        return "-"
    if name in METRICS and not name.endswith("loss"):
        return f"{100 * value:.1f}"
    return f"{value:.4g}"
