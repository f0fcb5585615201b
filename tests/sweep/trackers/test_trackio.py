"""trackio: its own database, read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import append, launch, run, trials_of

from sweep.config import SweepConfig
from sweep.trackers.cursor import cursor_path
from sweep.trackers.feed import Count, Feed
from sweep.watchers import TrackerConfig

pytestmark = pytest.mark.slow  # to import trackio takes seconds

Tiny = Callable[..., SweepConfig]


@pytest.fixture
def storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """trackio's storage, in a folder of the test's own."""
    trackio = pytest.importorskip("trackio.sqlite_storage")
    for module in (trackio, pytest.importorskip("trackio.utils")):
        monkeypatch.setattr(module, "TRACKIO_DIR", tmp_path / "trackio")
    return trackio.SQLiteStorage


def sync(directory: Path) -> Count:
    with Feed.opened(directory, TrackerConfig(name="trackio", project="mine"), "test") as one:
        return one.look()


def test_each_trial_is_a_run_with_its_axes_metrics_and_outcome_and_nothing_is_there_twice(
    tiny: Tiny, storage: Any, tmp_path: Path
) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, None)])
    assert sync(tmp_path) == Count(1, 1)
    append(tmp_path, run(trials[0], 2, "interrupted")[2:])
    assert sync(tmp_path) == Count(1, 1)
    append(tmp_path, run(trials[0], 2)[-1:])  # at the same epoch
    assert sync(tmp_path) == Count(1, 0)
    assert sync(tmp_path) == Count(0, 0)
    token, *_ = cursor_path(tmp_path, "trackio").read_text().splitlines(keepends=True)
    cursor_path(tmp_path, "trackio").write_text(token)  # of a process that was killed before it noted anything
    sync(tmp_path)
    (name,) = storage.get_runs("mine")
    assert name.startswith(trials[0].id)
    rows = storage.get_logs("mine", name)
    assert [(row["step"], row["val_robust"]) for row in rows if "val_robust" in row] == [(1, 0.1), (2, 0.2)]
    assert [row["outcome"] for row in rows if "outcome" in row] == ["interrupted", "completed"]
    assert storage.get_run_config("mine", name)["optimizer.name"] == "sgd"
    assert storage.get_run_config("mine", name)["_Group"] == tmp_path.name
