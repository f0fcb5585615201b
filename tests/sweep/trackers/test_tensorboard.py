"""TensorBoard's event files, read back by TensorBoard itself."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded import append, launch, run, trials_of

from sweep.config import SweepConfig
from sweep.trackers.cursor import cursor_path
from sweep.trackers.feed import Feed
from sweep.watchers import TrackerConfig
from trainers.errors import UserError
from trainers.record import OutcomeRecord

pytest.importorskip("tensorboard")

Tiny = Callable[..., SweepConfig]


def sync(directory: Path, **options: Any) -> None:
    with Feed.opened(directory, TrackerConfig(name="tensorboard", **options), "test") as one:
        one.look()


def read_back(folder: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), purge_orphaned_data=False).Reload()


def values(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read_back(folder).Scalars(tag)]


def test_each_metric_is_there_by_epoch_and_a_trial_that_goes_on_keeps_its_one_file(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 2, None)])
    sync(tmp_path)
    append(tmp_path, run(trials[0], 3)[3:])
    sync(tmp_path)
    folder = tmp_path / "trackers" / "tensorboard" / trials[0].id
    assert len(list(folder.iterdir())) == 1
    assert values(folder, "val_robust") == [(1, pytest.approx(0.1)), (2, pytest.approx(0.2)), (3, pytest.approx(0.3))]
    assert {"val_robust", "lr", "seconds"} <= set(read_back(folder).Tags()["scalars"])


def test_a_trial_that_was_trained_anew_has_its_new_numbers_alone(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 3)])
    sync(tmp_path)
    start, *epochs = run(trials[0], 2)
    again = {"record": "outcome", **vars(OutcomeRecord(trials[0].id, "interrupted", "anew", 0)), "time": 9.0}
    append(tmp_path, [again, {**start, "time": 9.0}, *[{**one, "seconds": 5.0, "val_robust": 0.9} for one in epochs]])
    sync(tmp_path)
    folder = tmp_path / "trackers" / "tensorboard" / trials[0].id
    assert values(folder, "val_robust") == [(1, pytest.approx(0.9)), (2, pytest.approx(0.9))]


def test_axes_and_the_end_are_on_the_page_of_hyperparameters(tiny: Tiny, tmp_path: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1)])
    sync(tmp_path)
    content = read_back(tmp_path / "trackers" / "tensorboard" / trials[0].id).PluginTagToContent("hparams")
    data = {tag: HParamsPluginData.FromString(each) for tag, each in content.items()}
    start, end = data["_hparams_/session_start_info"].session_start_info, data["_hparams_/session_end_info"]
    assert start.hparams["optimizer.name"].string_value == "sgd"
    assert start.hparams["optimizer.lr"].number_value == 0.1
    assert end.session_end_info.status == 1  # STATUS_SUCCESS


def test_what_a_killed_process_wrote_and_did_not_note_is_not_there_twice(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 2)])
    sync(tmp_path)
    token, _ = cursor_path(tmp_path, "tensorboard").read_text().splitlines(keepends=True)
    cursor_path(tmp_path, "tensorboard").write_text(token)
    folder = tmp_path / "trackers" / "tensorboard" / trials[0].id
    sync(tmp_path)
    assert [step for step, _ in values(folder, "val_robust")] == [1, 2]


def test_a_folder_of_ones_own_has_each_sweep_apart(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    (tmp_path / "sweep.yaml").write_text("name: tiny\n")
    append(tmp_path, [*launch(trials), *run(trials[0], 1)])
    sync(tmp_path, folder=str(tmp_path / "boards"))
    assert values(tmp_path / "boards" / "tiny" / trials[0].id, "val_robust")


def test_files_that_somebody_removed_are_not_gone_on_with(tiny: Tiny, tmp_path: Path) -> None:
    trials = trials_of(tiny())
    append(tmp_path, [*launch(trials), *run(trials[0], 1, None)])
    sync(tmp_path)
    folder = tmp_path / "trackers" / "tensorboard"
    shutil.rmtree(folder)
    append(tmp_path, run(trials[0], 2)[2:])
    with pytest.raises(UserError, match=r"lacks what was written before; remove .*/tensorboard and DIR/"):
        sync(tmp_path)
    shutil.rmtree(folder)
    cursor_path(tmp_path, "tensorboard").unlink()
    sync(tmp_path)
    assert [step for step, _ in values(folder / trials[0].id, "val_robust")] == [1, 2]
