"""What a plan says of presets: how its trials differ from them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from sweep.config_file import load
from sweep.plan.plan import plan
from sweep.plan.preset_lines import preset_lines
from sweep.search.inputs import fingerprints
from sweep.search.trials import fixed_points, planned

Write = Callable[[str], Path]

DIGITS = {"data": {"name": "digits"}, "model": {"name": "small_cnn"}}


def sentences(trial: dict[str, Any], space: dict[str, Any], yaml_file: Write) -> list[str]:
    """The lines of a grid."""
    config = load(yaml_file(yaml.safe_dump({"name": "t", "trial": trial, "space": space})))
    lines = preset_lines(planned(config, fixed_points(config), fingerprints(config)), config.space)
    assert lines == list(plan(config, [], "x").presets)
    return lines


def test_without_a_preset_nothing_is_said(yaml_file: Write) -> None:
    assert sentences(DIGITS, {"optimizer.lr": [0.1]}, yaml_file) == []


def test_every_key_that_differs_stands_there_with_the_published_value(yaml_file: Write) -> None:
    trial = DIGITS | {"preset": "trades", "epochs": 7, "batch_size": 128, "schedule": {"milestones": [5]}}
    assert sentences(trial, {"optimizer.lr": [0.1, "1/3"]}, yaml_file) == [
        "preset trades (Zhang et al., ICML 2019), but for data.name digits (cifar10), model.name small_cnn "
        "(wide_resnet34_10), epochs 7 (76), optimizer.lr 0.1, 0.3333333333333333 (0.1), "
        "schedule.milestones [5] ([74, 89, 99])"
    ]


def test_keys_that_a_users_own_code_has_not_are_left_out(yaml_file: Write) -> None:
    trial = DIGITS | {"preset": "trades", "optimizer": {"name": "torch.optim:RMSprop"}}
    config = load(yaml_file(yaml.safe_dump({"name": "t", "trial": trial, "space": {"optimizer.lr": [0.1]}})))
    (line,) = preset_lines(planned(config, fixed_points(config), fingerprints(config)), config.space)
    assert "optimizer.name torch.optim:RMSprop (sgd)" in line
    assert "momentum" not in line


def test_of_many_values_only_the_number_is_said(yaml_file: Write) -> None:
    (line,) = sentences(DIGITS | {"preset": "trades"}, {"optimizer.lr": [0.1, 0.2, 0.3, 0.4]}, yaml_file)
    assert "optimizer.lr 4 values (0.1)" in line


def test_what_no_key_says_of_the_code_is_said(yaml_file: Write) -> None:
    assert sentences(DIGITS | {"preset": "awp"}, {"optimizer.lr": [0.1]}, yaml_file)[1:] == [
        "no key says of the code of awp: the optimizer steps at the perturbed weights, see trainers/method/weights.py; "
        "the attack's pass at its last images, in train mode"
    ]


def test_presets_that_are_evaluated_differently_are_warned_of_by_exact_values(yaml_file: Write) -> None:
    space = {"preset": ["rice2020", "trades"]}
    config = load(yaml_file(yaml.safe_dump({"name": "t", "trial": DIGITS, "space": space})))
    told = [one.text.rpartition("evaluated at ")[2] for one in plan(config, [], "x").warnings]
    assert told == ["radius 8/255, 0.031", "step_size 2/255, 0.003", "steps 10, 20"]


def test_a_space_that_is_drawn_from_has_its_presets_told_of_examples(yaml_file: Write) -> None:
    space = {"preset": ["deat", "trades"], "optimizer.lr": {"loguniform": [0.01, 1]}}
    values = {"name": "t", "trial": DIGITS, "space": space, "search": {"name": "optuna", "n_trials": 2}}
    lines = plan(load(yaml_file(yaml.safe_dump(values))), [], "x").lines()
    assert sum(line.startswith("  preset ") for line in lines) == 2
    assert sum("optimizer.lr 0.01 to 1 (0.1)" in line for line in lines) == 2
