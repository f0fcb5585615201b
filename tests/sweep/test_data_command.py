"""`sweep data prepare` and `check`, and a sweep on what they wrote."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from pictures import write_pictures

import trainers
from analysis.frames.trials import load_trials
from sweep.cli import main
from trainers.data import shards

Files = Callable[..., Path]


def data(*words: object) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["data", *map(str, words)])
    return done.exit_code, done.output


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in ROOT, and what was prepared of them beside it."""
    root = write_pictures(tmp_path_factory.mktemp("here") / "photos", 60, 20)
    code, said = data("prepare", root, "--size", 16, "--processes", 1)
    assert code == 0, said
    return root.with_name("photos-16.shards")


def test_it_says_how_far_it_is_and_what_there_is_then(written: Path) -> None:
    root = written.with_name("photos")
    code, said = data("prepare", root, "--size", 16, "--processes", 1)
    assert code == 0
    assert said.splitlines() == [
        f"{root}: 60 training images, 20 test images",
        "  80 of 80 images, 80 of them there from before; 0 decoded a second",
        f"{written}: {shards.index(written).fingerprint}, 60 training and 20 test images of 4 classes, 16 x 16 pixels, "
        "60.2 KiB",
        "  resized: shorter side to 16, then the middle 16 x 16; bilinear, averaging where it makes smaller",
        "  val/ is the test set, as there is no test/ with classes in it",
        f"  train on it: --set trial.data.name=shards --set trial.data.root={written}",
    ]


def test_check_reads_every_byte_and_names_what_mends_it(written: Path, tmp_path: Path) -> None:
    code, said = data("check", written)
    assert code == 0
    assert said.startswith("whole: 2 chunks as they were written\n")
    copy = shutil.copytree(written, tmp_path / "copy")
    path = copy / "test_images.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    root = written.with_name("photos")
    assert data("check", copy) == (
        2,
        f"sweep: 1 of 2 chunks are not what was written: {path}: images 0 to 19; copy them again, or mend them: sweep "
        f"data prepare {root} --output {copy} --size 16\n",
    )
    assert data("prepare", root, "--output", copy, "--size", 16, "--processes", 1)[0] == 0
    assert data("check", copy)[0] == 0


def test_mistakes_are_one_line(written: Path, tmp_path: Path) -> None:
    assert data("check", tmp_path) == (
        2,
        f"sweep: {tmp_path} holds no shards: it has no index.json; write them with sweep data prepare FOLDER\n",
    )
    assert data("prepare", tmp_path / "none") == (
        2,
        f"sweep: {tmp_path}/none is not a folder; it must hold train/ and test/ (or val/), each with one folder a "
        "class\n",
    )
    code, said = data("prepare", written.with_name("photos"), "--size", 8, "--output", written)
    assert (code, said.splitlines()[1:]) == (
        2,
        [
            f"sweep: {written} holds shards of other images, or of another size ({written.with_name('photos')}, 16 x "
            "16); give another folder to write to, or remove that one"
        ],
    )


def test_the_help_shows_examples() -> None:
    code, said = data("--help")
    assert code == 0
    assert "sweep data prepare ~/imagenet --size 256" in said


def sweep_of(written: Path, sweep_file: Files) -> Path:
    trial = {
        "data": {"name": "shards", "root": str(written), "validation_fraction": 0.2}, "model": {"name": "small_cnn"},
        "epochs": 1, "batch_size": 20, "schedule": {"name": "constant"},
        "attack": {"radius": 0.1, "step_size": 0.05, "steps": 2}, "evaluation": {"steps": 2},
    }  # fmt: skip
    return sweep_file(trial=trial, space={"optimizer.lr": [0.1]}, seeds=[0], resources={"cpu": 1})


def test_a_trial_is_launched_evaluated_exported_and_its_images_are_read(
    written: Path, sweep_file: Files, tmp_path: Path
) -> None:
    run, here = str(tmp_path / "run"), CliRunner()
    done = here.invoke(main, ["launch", str(sweep_of(written, sweep_file)), "--out", run, "--serial"])
    assert done.exit_code == 0, done.output
    (trial,) = load_trials(run)["trial_id"]
    done = here.invoke(main, ["evaluate", run, "--attack", "pgd", "--images", "10", "--serial"])
    assert done.exit_code == 0, done.output
    done = here.invoke(main, ["export", run, trial, "--robustbench", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    images, labels = trainers.images(run, trial, root=written, places=[19, 0])
    source = shards.read(written)
    assert (images * 255).round().int().tolist() == source.test_images[[19, 0]].tolist()
    assert labels.tolist() == [3, 0]
    with pytest.raises(ValueError, match=r"^places: must be from 0 to 19, got 20$"):
        trainers.images(run, trial, root=written, places=[20])


def test_a_plan_names_what_is_not_there(written: Path, sweep_file: Files, tmp_path: Path) -> None:
    half = shutil.copytree(written, tmp_path / "half")
    (half / "index.json").unlink()
    (half / "chunks.jsonl").write_text(json.dumps({"command": "sweep data prepare X"}) + "\n")
    done = CliRunner().invoke(main, ["plan", str(sweep_of(half, sweep_file))])
    assert done.exit_code == 2
    assert done.output == (
        f"sweep: trial.data.root: {half} is half prepared (0 chunks there); go on with: sweep data prepare X\n"
    )
    done = CliRunner().invoke(main, ["plan", str(sweep_of(tmp_path / "none", sweep_file))])
    assert done.exit_code == 0
    assert re.search(r"without data: trial.data.root: \S+/none is not a folder; it must hold shards", done.output)
