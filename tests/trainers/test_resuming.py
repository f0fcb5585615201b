"""From where a trial goes on: never from a file that is damaged, another's, or put together by hand."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from small import tiny

from trainers import archive, checkpoint
from trainers.config import TrialConfig
from trainers.files import previous_path
from trainers.loop import train
from trainers.record import DynamicsRecord, EpochRecord, ResumeRecord

TIMES = {"seconds": 0.0, "evaluation_seconds": 0.0, "samples_per_second": 0.0, "peak_memory_bytes": 0}
EVERY_EPOCH = {"every_epochs": 1}
EPOCHS = 4

Records = list[EpochRecord | DynamicsRecord]


def config(**values: Any) -> TrialConfig:
    return tiny(**{"epochs": EPOCHS, "checkpoint": EVERY_EPOCH, "keep": "both"} | values)


class Stopped(Exception):
    """What ends a trial in these tests."""


def run(trial: TrialConfig, path: Path, stop_after: int | None = None) -> tuple[Records, list[ResumeRecord]]:
    """The trial's records without times, up to the epoch after which it is stopped, and what was passed over."""
    records: Records = []
    passed: list[ResumeRecord] = []

    def report(record: EpochRecord | DynamicsRecord | ResumeRecord) -> None:
        if isinstance(record, ResumeRecord):
            passed.append(record)
            return
        records.append(replace(record, **TIMES) if isinstance(record, EpochRecord) else record)
        checkpoint.write_held()
        if record.epoch == stop_after:
            raise Stopped

    try:
        train(trial, report, path)
    except Stopped:
        assert stop_after is not None
    return records, passed


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trial that was stopped after three epochs of four, for reading only."""
    folder = tmp_path_factory.mktemp("stopped")
    run(config(), folder / "trial.pt", stop_after=3)
    return folder


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """What the trial gives that nothing disturbs."""
    return run(config(), tmp_path_factory.mktemp("undisturbed") / "trial.pt")[0]


@pytest.fixture
def path(stopped: Path, tmp_path: Path) -> Path:
    """The file of the stopped trial, with the one before beside it, to be damaged."""
    shutil.copytree(stopped, tmp_path / "trial")
    return tmp_path / "trial" / "trial.pt"


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def overwritten(path: Path) -> None:
    path.write_bytes(b"junk" * 100)


def appended(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def doubled(path: Path) -> None:
    path.write_bytes(2 * path.read_bytes())


def of_something_else(path: Path) -> None:
    archive.write(path, {"model": {}})


def of_no_mapping(path: Path) -> None:
    torch.save([1, 2], path)


def of_older_code(path: Path) -> None:
    torch.save({key: value for key, value in checkpoint.load(path).items() if key != archive.HASH}, path)


def removed(path: Path) -> None:
    path.unlink()


DAMAGE = [
    *(flipped, truncated, emptied, overwritten, appended, doubled, of_something_else, of_no_mapping),
    *(of_older_code, removed),
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_the_checkpoint_before_a_damaged_one_is_gone_on_from_and_gives_the_numbers_of_a_trial_never_stopped(
    damage: Callable[[Path], None], path: Path, undisturbed: Records
) -> None:
    damage(path)
    records, passed = run(config(), path)
    assert records == undisturbed
    assert [(each.epoch, each.reason.startswith("trial.pt is ")) for each in passed] == [(2, True)]
    assert sorted(file.name for file in path.parent.iterdir()) == ["trial.pt"]


@pytest.mark.parametrize("damage", DAMAGE[:-1])
def test_where_both_are_damaged_the_trial_begins_afresh_and_gives_the_same_numbers(
    damage: Callable[[Path], None], path: Path, undisturbed: Records
) -> None:
    damage(path)
    damage(previous_path(path))
    records, passed = run(config(), path)
    assert records == undisturbed
    assert [each.epoch for each in passed] == [0]
    assert passed[0].reason.startswith("trial.pt and trial.previous.pt is ")
    assert run(config(), path) == (undisturbed, [])


def test_nothing_is_said_of_checkpoints_that_are_not_damaged_nor_where_there_are_none(
    path: Path, undisturbed: Records, tmp_path: Path
) -> None:
    assert run(config(), path) == (undisturbed, [])
    assert run(config(), tmp_path / "new.pt") == (undisturbed, [])
