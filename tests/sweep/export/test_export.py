"""Exported networks: what is written loads as it says, and says nothing that the records do not."""

from __future__ import annotations

import json
import re
import runpy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner, Result

from analysis.frames.trials import load_trials
from sweep.cli import main
from trainers.ladder.trained import images, load
from trainers.record import RecordFile, read

#: Keys of the files in model_info/ of github.com/RobustBench/robustbench.
FORM = [
    *("link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue", "architecture", "eps"),
    *("clean_acc", "reported", "autoattack_acc", "footnote", "unreliable"),
]


def export(*words: Any) -> Result:
    return CliRunner().invoke(main, ["export", *map(str, words)])


def first(run: Path) -> str:
    return str(load_trials(run)["trial_id"][0])


def records(run: Path, name: str, **values: Any) -> None:
    """Appends an evaluation to a run."""
    row = {
        "trial_id": name, "weights": "last", "averaged": False, "attack": "autoattack",
        "parameters": {"norm": "linf", "radius": 0.15}, "split": "test", "asked": 360, "first": 0, "images": 360,
        "clean_correct": 270, "correct": 90, "seconds": 1.0, "host": "h", "device": "cpu", "code_version": "c",
        "versions": {"torch": "2", "pyautoattack": "0.2.1"}, "time": 0.0,
    }  # fmt: skip
    file = RecordFile(run)
    file.append("evaluation", row | values)
    file.close()


def as_if_tested_whole(run: Path) -> None:
    """The run's trials as if they had been tested on all test images of the data."""
    edit(run, '"test_per_class":5', '"test_per_class":null')


def edit(run: Path, old: str, new: str) -> None:
    """Changes the records by hand: without their checksums."""
    path = run / "records.jsonl"
    path.write_text(re.sub(r',"crc":"[0-9a-f]{8}"', "", path.read_text()).replace(old, new))


def info(run: Path, folder: Path, *options: str) -> dict[str, Any]:
    answer = export(run, first(run), "--robustbench", "--out", folder, *options)
    assert answer.exit_code == 0, answer.output
    values: dict[str, Any] = json.loads(next(folder.glob("*.json")).read_text())
    return values


def test_the_script_gives_the_network_of_the_run_to_the_bit(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = first(undisturbed)
    answer = export(undisturbed, name[:7], "--torch")
    assert (answer.exit_code, answer.output) == (0, f"{name}.pt\n{name}.py\n")
    state = torch.load(f"{name}.pt", weights_only=True)
    assert all(type(tensor) is torch.Tensor for tensor in state.values())
    monkeypatch.chdir(undisturbed)
    model = runpy.run_path(str(tmp_path / f"{name}.py"))["model"]
    pixels, _ = images(undisturbed, name)
    assert not model.training
    same = model.to(memory_format=torch.channels_last)  # the layout in which a run computes
    assert torch.equal(same(pixels), load(undisturbed, name, device="cpu")(pixels))
    code = (tmp_path / f"{name}.py").read_text().partition('"""\n')[2]
    statements = [line for line in code.splitlines() if line and "import" not in line]
    assert len(statements) <= 6


def test_a_network_with_other_keys_than_the_defaults_is_built_with_them(
    tiny: Any, launch: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {"name": "small_cnn", "activation": "silu", "normalize": True, "moments": "half"}
    trial = tiny().given | {"model": model, "epochs": 1, "averaging": {"name": "ema", "decay": 0.5}, "keep": "both"}
    assert launch(tiny(trial=trial, space={"optimizer.lr": [0.1]}), tmp_path / "run", serial=True)[0] == 0
    name = first(tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    answer = export(tmp_path / "run", name, "--torch", "--averaged", "--weights", "best")
    assert answer.output == f"{name}-best-averaged.pt\n{name}-best-averaged.py\n"
    written = runpy.run_path(f"{name}-best-averaged.py")["model"]
    kept = load(tmp_path / "run", name, weights="best", averaged=True, device="cpu")
    pixels, _ = images(tmp_path / "run", name)
    assert torch.equal(written.to(memory_format=torch.channels_last)(pixels), kept(pixels))


def test_exported_weights_are_what_a_trial_can_start_from(undisturbed: Path, tmp_path: Path) -> None:
    from trainers.models.fine_tuning import fingerprint

    name = first(undisturbed)
    export(undisturbed, name, "--torch", "--out", tmp_path / "w.pt")
    assert fingerprint(str(tmp_path / "w.pt")) == fingerprint(f"{undisturbed}:{name}")


def test_what_was_not_measured_on_all_test_images_is_said_to_be_missing(finished: Path, tmp_path: Path) -> None:
    part = info(finished, tmp_path / "part")
    assert list(part) == FORM
    why = "not measured: of the test images the trial has 5 a class (data.test_per_class)"
    assert (part["clean_acc"], part["autoattack_acc"]) == (why, why)
    as_if_tested_whole(finished)
    name = first(finished)
    records(finished, name, images=250, clean_correct=200, asked=250)
    records(finished, name, attack="pgd", parameters={"norm": "linf", "radius": 0.15, "steps": 20, "restarts": 1})
    records(finished, name, parameters={"norm": "linf", "radius": 0.1})
    missing = info(finished, tmp_path / "missing")
    assert missing["autoattack_acc"] == f"not measured: sweep evaluate {finished} {name} --attack autoattack"
    assert missing["reported"] == missing["autoattack_acc"]
    assert missing["link"] == missing["authors"] == missing["venue"] == "not recorded: fill in"


def test_what_was_measured_is_there_as_robustbench_writes_it(finished: Path, tmp_path: Path) -> None:
    as_if_tested_whole(finished)
    name = first(finished)
    records(finished, name)
    measured = info(finished, tmp_path / "out")
    assert measured | {"footnote": ""} == dict.fromkeys(("link", "authors", "venue"), "not recorded: fill in") | {
        "name": "not recorded: fill in, the paper's title",
        "additional_data": False,
        "number_forward_passes": 1,
        "dataset": "digits",
        "architecture": "small_cnn",
        "eps": "0.15",
        "clean_acc": "75.00",
        "reported": "25.00",
        "autoattack_acc": "25.00",
        "footnote": "",
        "unreliable": "not checked",
    }
    assert measured["footnote"] == "Trained with PGD-AT in linf"
    card = (tmp_path / "out/README.md").read_text()
    assert "| AutoAttack | 0.15 | 360 of 360 test | 25.00 | [20.81, 29.72] | torch 2, pyautoattack 0.2.1 |" in card
    assert "\n| eps | 0.15 |\n" in card
    assert "step_size: 0.04" in card
    expected = {"README.md", *(f"{name}.{ending}" for ending in ("json", "pt", "py"))}
    assert {path.name for path in (tmp_path / "out").iterdir()} == expected


def test_given_weights_are_said(finished: Path, tmp_path: Path) -> None:
    """The records as other trials would have them."""
    edit(finished, '"name":"small_cnn"', '"name":"small_cnn","weights_fingerprint":"0a1b"')
    started = info(finished, tmp_path / "started")
    assert started["additional_data"] == "not recorded: of the weights that it started from, 0a1b"
    assert "Started from given weights (0a1b)" in started["footnote"]


def test_accuracies_of_other_weights_are_not_taken(finished: Path, tmp_path: Path) -> None:
    as_if_tested_whole(finished)
    records(finished, first(finished), weights="best")
    records(finished, first(finished), averaged=True)
    assert info(finished, tmp_path / "out")["autoattack_acc"].startswith("not measured: ")


def test_clean_accuracy_is_that_of_the_epoch_whose_weights_they_are(finished: Path, tmp_path: Path) -> None:
    as_if_tested_whole(finished)
    expected = load_trials(finished)["last_test_clean"][0]
    assert info(finished, tmp_path / "out")["clean_acc"] == f"{100 * expected:.2f}"


def test_a_user_s_own_code_is_copied_with_the_weights(undisturbed: Path, tmp_path: Path) -> None:
    from analysis.frames.log import read_log
    from sweep.export.weights import Chosen, _copied_code

    run = Path(shutil.copytree(undisturbed, tmp_path / "run"))
    (run / "code").mkdir()
    (run / "code/0a1b.zip").write_bytes(b"zip")
    (tmp_path / "out").mkdir()
    of_own = Chosen(run, "x", {"model": {"code": "0a1b"}}, "last", False, read_log(run))
    (copied,) = _copied_code(of_own, tmp_path / "out")
    assert copied == tmp_path / "out/code/0a1b.zip"
    assert copied.read_bytes() == b"zip"
    built_in = Chosen(run, "x", {"model": {"name": "small_cnn"}}, "last", False, read_log(run))
    assert _copied_code(built_in, tmp_path / "out") == ()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "export: needs --torch, a state dict, or --robustbench, all that RobustBench asks; give one of the two"),
        (["--torch", "--robustbench"], "export: needs --torch, a state dict, or --robustbench"),
        (["--torch", "--out", "."], "--out .: must name a file of weights, such as"),
        (["--robustbench", "--out", "file"], "--out file: must be a folder, and is a file; give another"),
        (["--torch", "--weights", "best"], "must hold the best weights, and holds last; choose of those"),
        (["--torch", "--averaged"], "have no average; take the raw ones"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_one_line(
    undisturbed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    answer = export(undisturbed, first(undisturbed), *words)
    assert answer.exit_code == 2
    assert message in answer.output
    assert answer.output.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_trial_that_is_not_completed_or_not_there_is_refused(finished: Path) -> None:
    assert "no trial begins with 'zzz'" in export(finished, "zzz", "--torch").output
    name = read(finished)[1]["trial_id"]
    file = RecordFile(finished)
    file.append("outcome", {"trial_id": name, "outcome": "diverged", "reason": "", "epochs": 1, "time": 0.0})
    file.close()
    assert f"trial {name} must be completed, and is diverged" in export(finished, name, "--torch").output
