"""Extra training images in a sweep: planned, an axis, named by content, and needed for training alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sweep.cli import main
from sweep.config import SweepConfig
from sweep.config_file import dump, load
from sweep.plan.plan import plan
from sweep.search.inputs import data_inputs
from trainers.errors import UserError

Files = Callable[..., Path]


@pytest.fixture
def arrays(tmp_path: Path) -> Path:
    path = tmp_path / "extra.npz"
    np.savez(path, image=np.zeros((60, 8, 8, 1), np.uint8), label=np.arange(60) % 10)
    return path


def values(path: Path | str | None, space: dict[str, Any], **data: Any) -> dict[str, Any]:
    own = {"name": "digits", "train_per_class": 10, "test_per_class": 2, "validation_fraction": 0.2, **data}
    if path is not None:
        own["extra"] = str(path)
    trial = {
        "data": own, "model": {"name": "small_cnn"}, "epochs": 1, "batch_size": 20, "schedule": {"name": "constant"},
        "attack": {"radius": 0.1, "step_size": 0.05, "steps": 2}, "evaluation": {"steps": 2},
    }  # fmt: skip
    return {"trial": trial, "space": space, "resources": {"cpu": 1}}


def planned(config: SweepConfig, **how: Any) -> Any:
    return plan(config, [], "abc", **how)


def test_the_plan_says_how_many_images_join(arrays: Path, sweep_file: Files) -> None:
    found = planned(load(sweep_file(**values(arrays, {"data.extra_fraction": [0, 0.3, 0.7]}))))
    lines = [line for line in found.lines() if "extra:" in line]
    assert lines == [
        f"  extra: 60 images of {arrays}, {share} of every batch, join the 80 of digits" for share in (0.3, 0.7)
    ]
    assert found.size == 3
    assert not found.warnings


def test_without_a_share_nobody_looks_for_them(sweep_file: Files) -> None:
    config = load(sweep_file(**values("/none.npz", {"optimizer.lr": [0.1]}, extra_fraction=0)))
    assert planned(config).size == 1
    assert data_inputs(config) == {}


def test_another_place_is_an_axis_and_is_the_trials_by_its_content(arrays: Path, sweep_file: Files) -> None:
    other = arrays.with_name("other.npz")
    np.savez(other, image=np.ones((30, 8, 8, 1), np.uint8), label=np.arange(30) % 10)
    copy = arrays.with_name("copy.npz")
    copy.write_bytes(arrays.read_bytes())
    places = [None, str(arrays), str(other), str(copy)]
    found = planned(load(sweep_file(**values(None, {"data.extra": places}))))
    assert found.size == 3
    marks = [trial.identity["data"].get("extra_fingerprint") for trial in found.search.known()]
    assert marks[0] is None
    assert len(set(marks)) == 3
    assert data_inputs(found.config).keys() == {str(arrays), str(other), str(copy)}


def test_a_folder_beside_imagenet_is_marked_as_what_is_cropped_of_it(tmp_path: Path, sweep_file: Files) -> None:
    from PIL import Image

    for place in ("train/a", "train/b", "val/a", "val/b", "more/a"):
        (tmp_path / place).mkdir(parents=True)
        for name in "01":
            Image.new("RGB", (16, 8)).save(tmp_path / place / f"{name}.png")
    there = {"root": str(tmp_path), "image_size": 8, "name": "imagenet", "augment": False, "validation_fraction": 0.5}
    sizes = {"train_per_class": None, "test_per_class": None}
    found = planned(load(sweep_file(**values(tmp_path / "more", {"optimizer.lr": [0.1]}, **there, **sizes))))
    (trial,) = found.search.known()
    assert trial.identity["data"]["extra_fingerprint"].startswith("imagenet_extra-")


@pytest.mark.parametrize("space", [{"data.extra": ["extra.npz"]}, {"optimizer.lr": [0.1]}])
def test_the_dump_names_the_same_place_from_wherever_it_is_launched(
    space: dict[str, Any], arrays: Path, sweep_file: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(arrays.parent)
    path = None if "data.extra" in space else "extra.npz"
    config = load(sweep_file(**values(path, space)))
    assert data_inputs(config) == {str(arrays): "trial.data.extra"}
    elsewhere = arrays.with_name("dumped.yaml")
    elsewhere.write_text(dump(config))
    monkeypatch.chdir("/")
    assert load(elsewhere) == config


def test_images_that_are_not_there_are_refused_or_planned_without(tmp_path: Path, sweep_file: Files) -> None:
    config = load(sweep_file(**values(tmp_path / "none.npz", {"optimizer.lr": [0.1]})))
    with pytest.raises(UserError, match=r"^trial\.data\.extra: .*none\.npz is not there; give a folder"):
        planned(config)
    found = planned(config, data="if there")
    lines = found.lines()
    assert lines[1].startswith("  without data: trial.data.extra: ")
    assert lines[2].endswith("content, which is in the ids: they are provisional, none counts as finished")
    (shape,) = found.shapes.values()
    assert (shape.train_images, shape.extra_images) == (80, 0)


def test_what_does_not_fit_is_said_by_the_plan(arrays: Path, sweep_file: Files) -> None:
    np.savez(arrays, image=np.zeros((60, 9, 8, 1), np.uint8), label=np.arange(60) % 10)
    with pytest.raises(UserError, match=r"^trial\.data\.extra: .*must be as the data set's, 8 x 8 pixels of 1 channel"):
        planned(load(sweep_file(**values(arrays, {"optimizer.lr": [0.1]}))))


@pytest.mark.parametrize(("share", "lacking"), [(0.02, "an extra image"), (0.98, "an image of the data set's own")])
def test_a_share_of_no_image_is_warned_of(share: float, lacking: str, arrays: Path, sweep_file: Files) -> None:
    (line,) = planned(load(sweep_file(**values(arrays, {"optimizer.lr": [0.1]}, extra_fraction=share)))).warnings
    assert line.line() == (
        f"no batch has {lacking}: extra_fraction {share} of batch_size 20; set trial.data.extra_fraction=0.7"
    )


def test_other_images_than_the_fingerprints_are_refused(arrays: Path, sweep_file: Files) -> None:
    config = load(sweep_file(**values(arrays, {"optimizer.lr": [0.1]}, extra_fingerprint="npz-1")))
    with pytest.raises(UserError, match=r"^trial\.data\.extra_fingerprint: the images are npz-\w+, not npz-1; point"):
        planned(config)


def test_a_fingerprint_of_images_that_no_key_names_is_refused(sweep_file: Files) -> None:
    config = load(sweep_file(**values(None, {"optimizer.lr": [0.1]}, extra_fingerprint="npz-1")))
    with pytest.raises(UserError, match=r"^trial\.data\.extra_fingerprint: is of images that trial\.data\.extra names"):
        planned(config)


def test_a_run_is_evaluated_where_they_are_no_more(arrays: Path, sweep_file: Files, tmp_path: Path) -> None:
    file, run = sweep_file(**values(arrays, {"data.extra_fraction": [0, 0.5]})), str(tmp_path / "run")
    answer = CliRunner().invoke(main, ["launch", str(file), "--out", run, "--serial"])
    assert answer.exit_code == 0, answer.output
    arrays.unlink()
    answer = CliRunner().invoke(main, ["evaluate", run, "--attack", "fgsm", "--serial"])
    assert answer.exit_code == 0, answer.output
    answer = CliRunner().invoke(main, ["results", run])
    assert answer.exit_code == 0, answer.output
    assert "extra_fraction" in answer.output
