"""Weights & Biases offline: its own files, read back by its own reader."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import append, launch, run, trials_of

from sweep.config import SweepConfig
from sweep.trackers.feed import Count, Feed
from sweep.watchers import TrackerConfig

pytest.importorskip("wandb")
pytestmark = pytest.mark.slow  # a run takes it seconds to open

Tiny = Callable[..., SweepConfig]


def sync(directory: Path) -> Count:
    with Feed.opened(directory, TrackerConfig(name="wandb", mode="offline"), "test") as one:
        return one.look()


#: A run's file is a log of LevelDB's: blocks of so many bytes, behind a head; in them pieces of records, each behind
#: its checksum, length and kind: whole, first, in the middle, last.
BLOCK, HEAD, PIECE = 32768, 7, struct.Struct("<IHB")
WHOLE, FIRST, LAST = 1, 2, 4


def read_back(file: Path) -> list[Any]:
    """All that a run's file holds."""
    from wandb.proto import wandb_internal_pb2

    content, place, found, record = file.read_bytes(), HEAD, [], b""
    while place < len(content):
        if (left := BLOCK - place % BLOCK) < PIECE.size:
            place += left
            continue
        _, length, kind = PIECE.unpack_from(content, place)
        piece = content[place + PIECE.size : place + PIECE.size + length]
        record = piece if kind in (WHOLE, FIRST) else record + piece
        if kind in (WHOLE, LAST):
            found.append(wandb_internal_pb2.Record.FromString(record))
        place += PIECE.size + length
    return found


def rows(records: list[Any]) -> list[dict[str, Any]]:
    """The metrics that were logged, by name."""
    return [
        {"/".join(item.nested_key) or item.key: json.loads(item.value_json) for item in record.history.item}
        for record in records
        if record.WhichOneof("record_type") == "history"
    ]


def test_each_trial_is_a_run_in_the_sweeps_group_and_nothing_is_logged_twice(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    (tmp_path / "sweep.yaml").write_text("name: tiny\n")
    append(tmp_path, [*launch(trials), *run(trials[0], 2), *run(trials[1], 1, "failed")])
    assert sync(tmp_path) == Count(2, 3)
    assert sync(tmp_path) == Count(0, 0)
    files = sorted((tmp_path / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    known = {}
    for file in files:
        records = read_back(file)
        (begun,) = [record.run for record in records if record.WhichOneof("record_type") == "run"]
        known[begun.display_name] = begun, rows(records)
    assert set(known) == {trials[0].id, trials[1].id}
    begun, logged = known[trials[0].id]
    assert (begun.project, begun.run_group) == ("tiny", "tiny")
    assert [(row["_step"], row["val_robust"]) for row in logged] == [(1, 0.1), (2, 0.2)]


def test_a_trial_that_goes_on_goes_on_in_a_run_of_the_same_id(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, None)])
    sync(tmp_path)
    append(tmp_path, run(trials[0], 2)[2:])
    sync(tmp_path)
    files = sorted((tmp_path / "trackers" / "wandb").glob("offline-run-*/*.wandb"))
    assert len({file.name for file in files}) == 1
    logged = [row for file in files for row in rows(read_back(file))]
    assert sorted((row["_step"], row["val_robust"]) for row in logged) == [(1, 0.1), (2, 0.2)]
