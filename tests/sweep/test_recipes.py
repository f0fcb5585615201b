"""What each knob of a recipe does: one at a time, launched and compared by two commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from click.testing import CliRunner

from sweep.cli import main


def test_a_launch_of_one_at_a_time_and_methods_say_what_each_knob_does(
    sweep_file: Callable[..., Path], tmp_path: Path
) -> None:
    file = sweep_file(
        trial={
            "data": {"name": "digits", "train_per_class": 20, "validation_fraction": 0.2},
            "model": {"name": "small_cnn"}, "epochs": 2, "batch_size": 20, "schedule": {"name": "constant"},
            "attack": {"radius": 0.1, "step_size": 0.05}, "optimizer": {"lr": 0.2},
            "evaluation": {"steps": 2, "step_size": 0.05},
        },
        space={
            "data.policy": {"choice": ["none", "randaugment"]},
            "data.cutmix": {"choice": [0, 1]},
            "averaging.name": {"choice": ["none", "ema"]},
            "attack.steps": {"choice": [2, 1]},
            "attack.step_size": {"grid": [0.125], "when": {"attack.steps": 1}},
            "weights.name": {"choice": ["none", "awp"]},
        },
        search={"name": "one_at_a_time"},
        seeds=[0, 1],
        resources={"cpu": 1},
    )  # fmt: skip
    run = str(tmp_path / "run")
    answer = CliRunner().invoke(main, ["launch", str(file), "--out", run, "--serial"])
    assert answer.exit_code == 0, answer.output
    answer = CliRunner().invoke(main, ["methods", run, "--format", "json"])
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.output)
    rows = {row["method"]: row for row in told["methods"]}
    assert set(rows) == {"PGD-AT", "PGD-AT, RandAugment", "PGD-AT, CutMix 1", "PGD-AT, EMA", "FGSM-RS", "PGD-AT-AWP"}
    assert rows.pop("PGD-AT")["verdict"] == "baseline"
    for row in rows.values():
        assert row["difference_low"] <= row["difference"] <= row["difference_high"]
        assert row["verdict"] in ("better", "worse", "undecided")
        assert row["n"] == 2
    assert [effect["effect"] for effect in told["slot_effects"]] == ["with AWP - without", "FGSM-RS - PGD"]
    assert CliRunner().invoke(main, ["methods", run]).exit_code == 0
    answer = CliRunner().invoke(main, ["figures", run])
    assert answer.exit_code == 0, answer.output
    curves = pd.read_csv(tmp_path / "run" / "figures" / "accuracy_epoch.csv")
    assert set(curves["method"]) == {"PGD-AT", *rows}, "validation chooses no value of a recipe"
