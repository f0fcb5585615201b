"""benchmarks/study.py: the study at small scale goes on, ends clean, and fills its page from its records."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from math import nan
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from pandas import DataFrame
from small import TINY

from trainers.config import DataConfig
from trainers.data.sources import fingerprint
from trainers.record import read

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks/study.py"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script, whose checkout is a folder of its own with one tiny run."""
    spec = importlib.util.spec_from_file_location("study", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "SMALL", {"small": ("tiny.yaml", ("seeds=[0]",), 60)})
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "configs/study").mkdir(parents=True)
    (tmp_path / "data/jpeg75").mkdir(parents=True)
    (tmp_path / "docs").mkdir()
    values = {"name": "tiny", "trial": {**TINY, "epochs": 1}, "space": {"optimizer.lr": [0.1, 0.2]}, "seeds": [0, 1]}
    (tmp_path / "configs/study/tiny.yaml").write_text(yaml.safe_dump(values))
    return module


def test_the_page_has_a_block_for_each_run_and_the_configs_are_there(study: ModuleType) -> None:
    page = "".join((ROOT / one).read_text(encoding="utf-8") for one in study.PAGES)
    named = re.findall(r"<!-- study (\w+) -->", page)
    assert set(named) <= {*study.SHOWN, "controls"}
    assert len(named) == len(set(named)) == page.count("<!-- end -->")
    assert set(re.findall(r"`configs/study/(\w+)\.yaml`", page)) == {
        path.stem for path in (ROOT / "configs/study").glob("*.yaml")
    }


def test_without_its_images_it_says_in_a_line_how_they_come_there(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data/exact"
    monkeypatch.setattr(
        study, "SMALL", {"a": ("tiny.yaml", ("trial.data.name=image_folder", f"trial.data.root={folder}"), 60)}
    )
    with pytest.raises(SystemExit) as ended:
        study.main(["run"])
    assert str(ended.value) == f"study.py: a: {folder}: is not there; benchmarks/study.py says how it comes there"


def test_a_registered_run_is_not_gone_on_with_by_other_code(study: ModuleType, tmp_path: Path) -> None:
    kept = tmp_path / "benchmarks/study/small"
    kept.mkdir(parents=True)
    (kept / "registration.json").write_text(json.dumps({"code_version": "of another day", "commit": 40 * "a"}))
    with pytest.raises(SystemExit) as ended:
        study.main(["run", "small"])
    assert str(ended.value).startswith("study.py: small: registered with code of another day, and this is ")
    assert "git worktree add ../study aaaaaaaa" in str(ended.value)
    assert not (tmp_path / "runs").exists()


def test_what_is_kept_is_gone_on_with_and_never_overwritten_by_less(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, place = tmp_path / "benchmarks/study/small", tmp_path / "runs/study/small"
    kept.mkdir(parents=True)
    (kept / "records.jsonl").write_text('{"record":"a newer kind"}\n')
    monkeypatch.setattr(study, "_python", lambda *words: 7)
    with pytest.raises(SystemExit):
        study.main(["run"])  # as far as the plan, which fails here
    assert (place / "records.jsonl").read_text() == (kept / "records.jsonl").read_text()
    (place / "records.jsonl").write_text("")
    with pytest.raises(SystemExit, match=r"does not go on from .* nothing copied"):
        study.main(["keep"])
    assert (kept / "records.jsonl").read_text() == '{"record":"a newer kind"}\n'


def test_a_list_of_what_was_left_need_not_name_what_had_ended(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "runs/study/small"
    place.mkdir(parents=True)
    (place / "records.jsonl").touch()
    (place / "trials.jsonl").write_text('{"sweep": "tiny"}\n{"trial": {"trial_id": "b"}}\n')

    def trained(name: str) -> list[dict[str, object]]:
        of_it = {"trial_id": name, "epoch": 1}
        return [{"record": "epoch", **of_it}, {"record": "outcome", **of_it, "outcome": "completed", "epochs": 1}]

    monkeypatch.setattr("trainers.record.read", lambda place: trained("a"))
    assert study._left("small")
    monkeypatch.setattr("trainers.record.read", lambda place: trained("a") + trained("b"))
    assert not study._left("small")


def test_a_control_adds_the_difference_of_the_differences_seed_by_seed(
    study: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import analysis.frames.trials

    frames = {}
    for name, base in (("controls", 0.01), ("controls_exact", 0.02)):
        (tmp_path / "benchmarks/study" / name).mkdir(parents=True)
        (tmp_path / "benchmarks/study" / name / "records.jsonl").touch()
        rows = [
            {"seed": seed, "optimizer.lr": lr, "optimizer.name": optimizer, "attack.batch_norm": mode}
            | {study.COUPLING: coupled, "outcome": "completed", "last_test_robust": 0.3 + lr + gain * seed}
            | {"best_test_robust": 0.3 + gain * 2 * seed}
            for seed in range(3 if name == "controls" else 4)  # the fourth has no counterpart
            for lr in (0.1, 0.2)
            for optimizer, mode, coupled, gain in (
                ("sgd", "eval", None, 0.0),
                ("sgd", "train", None, 0.0),
                ("deat", "eval", True, base),
                ("deat", "eval", False, -base),
                ("deat", "train", True, 3 * base),
            )
        ]
        frames[name] = DataFrame([*rows, rows[0] | {"outcome": "failed", "seed": 3, "last_test_robust": 0.0}])
    monkeypatch.setattr(analysis.frames.trials, "load_trials", lambda place: frames[Path(place).name])
    monkeypatch.setattr(study, "_about", lambda place: "here")
    nothing, exact, train, coupled, best = study._controls().splitlines()[3:8]
    # the gains of seeds 0, 1, 2 are 0, 1, 2 points and multiples of them: t(2) = 4.303, times 1 / sqrt(3)
    one, two = "+1.00 [-1.48, +3.48]", "+2.00 [-2.97, +6.97]"
    assert nothing == f"| nothing | {one} | | |"
    assert f"| {two} | {one} |" in exact
    assert f"| +3.00 [-4.45, +10.45] | {two} |" in train
    assert "| -1.00 [-3.48, +1.48] | -2.00 [-6.97, +2.97] |" in coupled
    assert f"| {two} | {one} |" in best


def test_what_follows_the_decay_is_told_of_each_method_over_its_seeds(
    study: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import analysis.frames.trials

    rows = [
        {"method": method, "seed": seed, "outcome": "completed", "epoch": epoch, "lr": lr, "test_robust": robust}
        | {"train_robust": 0.5 + fall * seed}
        for method, fall in (("PGD-AT", 0.01), ("DEAT", 0.02))
        for seed in range(3)
        for epoch, lr, robust in (
            (1, 0.1, 0.9),
            (2, 0.1, 0.4),
            (3, 0.1, nan),
            (4, 0.01, 0.8),
            (5, 0.01, 0.4 - fall * seed),
        )
    ]
    unfinished = rows[-1] | {"seed": 3, "outcome": "failed", "test_robust": 0.0}
    monkeypatch.setattr(analysis.frames.trials, "load_epochs", lambda place: DataFrame([*rows, unfinished]))
    # falls of 0, 1, 2 points, and gaps of 10, 12, 14: t(2) = 4.303, times 1 / sqrt(3)
    assert study._decay(Path("dynamics")).splitlines()[4:6] == [
        "| PGD-AT | 3 | -1.00 [-3.48, +1.48] | +12.00 [+7.03, +16.97] |",
        "| DEAT | 3 | -2.00 [-6.97, +2.97] | +14.00 [+4.06, +23.94] |",
    ]


def test_exact_pixels_become_a_folder_of_images_with_those_pixels(study: ModuleType, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    pixels = {split: generator.integers(256, size=(10, 8, 8, 3), dtype=np.uint8) for split in ("train", "test")}
    labels = {f"y_{split}": np.arange(10, dtype=np.uint8) for split in pixels}
    np.savez(tmp_path / "exact.npz", **{f"x_{split}": one for split, one in pixels.items()}, **labels)
    assert study.main(["images", str(tmp_path / "exact.npz"), str(tmp_path / "exact")]) == 0
    from PIL import Image

    for split, images in pixels.items():
        for label, name in enumerate(study.CLASSES):
            (path,) = (tmp_path / "exact" / split / name).iterdir()
            assert np.array_equal(np.asarray(Image.open(path)), images[label])
    assert fingerprint(DataConfig(name="image_folder", root=str(tmp_path / "exact")))
    assert study.main(["images", str(tmp_path / "exact.npz"), str(tmp_path / "twin"), "--jpeg", "75"]) == 0
    (path,) = (tmp_path / "twin/test" / study.CLASSES[0]).iterdir()
    assert (path.suffix, Image.open(path).format, Image.open(path).size) == (".jpg", "JPEG", (8, 8))
    assert not np.array_equal(np.asarray(Image.open(path)), pixels["test"][0])


@pytest.mark.slow
def test_it_trains_keeps_and_fills_the_page_and_a_second_time_does_nothing(
    study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs/study.md"
    for name in ("study_again", "study_dynamics"):
        (tmp_path / f"docs/{name}.md").touch()
    page.write_text("<!-- study small -->\nof an earlier day\n<!-- end -->\n<!-- study card -->\n<!-- end -->\n")
    with page.open("a") as file:
        file.write("<!-- study controls -->\n<!-- end -->\n")
    assert study.main(["run"]) == 0
    records = read(tmp_path / "runs/study/small")
    assert [one["outcome"] for one in records if one["record"] == "outcome"] == ["completed"] * 2
    assert study.main(["run"]) == 0
    assert read(tmp_path / "runs/study/small") == records
    assert study.main(["keep"]) == 0
    assert capsys.readouterr().out.startswith("benchmarks/study/small: 2 trials, 2 completed; 0.00 h of training and ")
    kept = tmp_path / "benchmarks/study/small"
    assert sorted(path.name for path in kept.iterdir()) == ["environment.json", "records.jsonl", "sweep.yaml"]
    assert study.main(["page"]) == 0
    text = page.read_text()
    said = subprocess.run(
        [sys.executable, "-m", "sweep", "claims", "benchmarks/study/small"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    ).stdout
    assert "ratio" in said
    assert f"$ sweep claims benchmarks/study/small\n{said.rstrip()}\n```" in text
    assert "<!-- study card -->\n\nNot measured yet.\n\n<!-- end -->\n" in text
    assert text.endswith("<!-- study controls -->\n\nNot measured yet.\n\n<!-- end -->\n")
    assert "of an earlier day" not in text
    study.main(["page"])
    assert page.read_text() == text


RUNS = """
import importlib.util, sys
from pathlib import Path

spec = importlib.util.spec_from_file_location("study", sys.argv[1])
study = importlib.util.module_from_spec(spec)
spec.loader.exec_module(study)
study.ROOT, study.SMALL = Path(sys.argv[2]), {"small": ("tiny.yaml", ("trial.epochs=5000", "seeds=[0]"), 60)}
sys.exit(study.main(["run"]))
"""


def test_between_two_stints_a_signal_ends_it_and_is_not_sent_to_the_one_that_is_over(study: ModuleType) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert study._python("this") == 0
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.slow
def test_sigterm_to_it_ends_its_stint_clean(study: ModuleType, tmp_path: Path) -> None:
    words = [sys.executable, "-c", RUNS, str(SCRIPT), str(tmp_path)]
    process = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    records, deadline = tmp_path / "runs/study/small/records.jsonl", time.monotonic() + 300
    while not (records.exists() and b'"epoch"' in records.read_bytes()):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=100)
    assert process.returncode == 130
    ended = read(records.parent)[-1]
    assert (ended["outcome"], ended["reason"]) == ("interrupted", "stopped by SIGTERM")
    assert "0 of 2 trials finished" in output
    assert not (records.parent / ".lock").exists()
