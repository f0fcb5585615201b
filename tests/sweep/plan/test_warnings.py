"""Warnings of a plan: each is there where it is due, and ended by the key that it names."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sweep.cli import main
from sweep.config import SweepConfig
from sweep.config_file import load
from sweep.plan.plan import plan
from sweep.plan.warnings import Warned

Files = Callable[..., Path]


def warned(config: SweepConfig) -> tuple[Warned, ...]:
    return plan(config, [], "abc").warnings


def of(**trial: Any) -> dict[str, Any]:
    """A trial on the digits, without anything to warn of, but for what is given."""
    base = {
        "data": {"name": "digits", "train_per_class": 20, "validation_fraction": 0.2},
        "model": {"name": "small_cnn"},
        "epochs": 6,
        "schedule": {"name": "constant"},
    }
    return {"trial": base | trial, "space": LR}


PIECEWISE = {"name": "piecewise"}
LR = {"optimizer.lr": [0.1, 0.2]}
DRAWN = {"batch_size": {"choice": [16, 32]}}

CASES: dict[str, tuple[dict[str, Any], str]] = {
    "milestones after the end": (
        of(epochs=50, schedule=PIECEWISE),
        "the learning rate never falls: schedule.milestones [100, 105] of 50 epochs; "
        "set trial.schedule.milestones=[45, 48], or trial.schedule.name=constant",
    ),
    "milestones after a short end": (
        of(epochs=4, schedule=PIECEWISE),
        "the learning rate never falls: schedule.milestones [100, 105] of 4 epochs; set trial.schedule.name=constant",
    ),
    "one of two milestones": (
        of(epochs=103, schedule=PIECEWISE),
        "the learning rate falls less often than written: schedule.milestones [100, 105] of 103 epochs; "
        "set trial.schedule.milestones=[94, 98], or trial.schedule.name=constant",
    ),
    "a warm-up without end": (
        of(schedule={"name": "cosine", "warmup_epochs": 6}),
        "the learning rate never reaches optimizer.lr: it rises over 6 of 6 epochs; set trial.schedule.warmup_epochs=1",
    ),
    "a radius that never is": (
        of(attack={"radius_warmup": 7}),
        "attack.radius never reaches its value: it rises over 7 of 6 epochs; set trial.attack.radius_warmup=1",
    ),
    "a step size that never is": (
        of(attack={"step_size_warmup": 9.5}),
        "attack.step_size never reaches its value: it rises over 9.5 of 6 epochs; set trial.attack.step_size_warmup=1",
    ),
    "tau after the end": (
        of(attack={"tau": 0, "tau_milestones": [3, 50]}),
        "tau grows less often than written: attack.tau_milestones [50] of 6 epochs; "
        "set trial.attack.tau_milestones=[3]",
    ),
    "replays that are too short": (
        of(attack={"replays": 3}),
        "PGD cannot go from an image to the edge of its ball: attack.replays 3 times attack.step_size 0.007843 is less "
        "than the radius, 0.03137; set trial.attack.step_size=8/255",
    ),
    "SGD's learning rate for AdamW": (
        of(optimizer={"name": "adamw"}) | {"space": {"batch_size": [16, 32]}},
        "AdamW moves every weight by about 0.1 at each step, its optimizer.lr; set trial.optimizer.lr=0.001",
    ),
    "awp after the end": (
        of(weights={"name": "awp", "warmup": 10}),
        "AWP never begins: it waits for 10 of 6 epochs; set trial.weights.warmup=0",
    ),
    "dynamics after the end": (
        of(dynamics={"every": 7}),
        "dynamics are measured before training and at its end alone: every 7 of 6 epochs; set trial.dynamics.every=1",
    ),
    "evaluation after the end": (
        of(evaluation={"every": 7}),
        "accuracies are measured at the end alone, every 7 of 6 epochs: whether they had been better before (robust "
        "overfitting) cannot be seen; set trial.evaluation.every=1",
    ),
    "evaluation at the end": (
        of(evaluation={"every": 6}),
        "accuracies are measured at the end alone, every 6 of 6 epochs: whether they had been better before (robust "
        "overfitting) cannot be seen; set trial.evaluation.every=1",
    ),
    "steps that are too short": (
        of(attack={"radius": 0.3}),
        "PGD cannot go from an image to the edge of its ball: attack.steps 10 times attack.step_size 0.007843 is less "
        "than the radius, 0.3; set trial.attack.step_size=0.075",
    ),
    "evaluation steps that are too short": (
        of(evaluation={"radius": 0.3}),
        "PGD cannot go from an image to the edge of its ball: evaluation.steps 10 times evaluation.step_size 0.007843 "
        "is less than the radius, 0.3; set trial.evaluation.step_size=0.075",
    ),
    "a step across the ball": (
        of(attack={"step_size": 0.1}),
        "one step crosses the whole ball: attack.step_size 0.1, radius 0.03137; set trial.attack.step_size=0.007843",
    ),
    "an evaluation without a ball": (
        of(attack={"radius": 0}),
        "robust accuracy is the clean one: evaluation.radius is 0; set trial.evaluation.radius=8/255",
    ),
    "l_2 at the radius of l_inf": (
        of(attack={"norm": "l2"}),
        "an l_2 ball of radius 8/255 hardly holds another image: that is the radius of l_inf; "
        "set trial.attack.radius=128/255",
    ),
    "one step an epoch": (
        of(batch_size=160),
        "one step an epoch: batch_size 160 takes all 160 training images; set trial.batch_size=16",
    ),
    "images that are moved out of themselves": (
        of(data={"name": "digits", "train_per_class": 20, "validation_fraction": 0.2, "policy": "trivialaugment"}),
        "trivialaugment moves images by up to 32 pixels, and these have 8 x 8: some are empty then, and keep their "
        "label; set trial.data.policy=randaugment",
    ),
    "a window of no image": (
        of(data={"name": "digits", "train_per_class": 20, "validation_fraction": 0.2, "cutmix_window": 0.5}),
        "trial.data.cutmix_window=0.5 is read by no trial; set trial.data.cutmix_window=null",
    ),
    "weight decay without a control": (
        of() | {"space": {"optimizer.name": ["sgd", "deat"]}},
        "DEAT and SGD differ in two ways here, and a difference in accuracy may come from either: DEAT's steps are "
        "noisier, and for the length of its steps its weight decay is 2.24 times as strong; configs/controls.yaml "
        "tells the two apart, and equal decay avoids the question; set trial.optimizer.decoupled_weight_decay=false",
    ),
    "radii that do not compare": (
        of(attack={"step_size": 0.01}) | {"space": {"attack.radius": [0.02, 0.04], **LR}},
        "robust accuracies do not compare: trials are evaluated at radius 0.02, 0.04; set trial.evaluation.radius=0.02",
    ),
    "8/255 beside another radius": (
        of(attack={"step_size": 0.01}) | {"space": {"attack.radius": ["8/255", 0.04], **LR}},
        "robust accuracies do not compare: trials are evaluated at radius 8/255, 0.04; "
        "set trial.evaluation.radius=8/255",
    ),
    "presets that bring their networks": (
        of(evaluation={"steps": 10, "step_size": "2/255", "radius": "8/255"}, model={})
        | {"space": {"preset": ["rice2020", "trades"], **LR}},
        "accuracies of different networks do not compare: the presets train preact_resnet18, wide_resnet34_10; "
        "set trial.model.name=preact_resnet18",
    ),
    "restarts that do not compare": (
        of() | {"space": {"evaluation.restarts": [1, 2], **LR}},
        "robust accuracies do not compare: trials are evaluated at restarts 1, 2; set trial.evaluation.restarts=1",
    ),
    "norms that do not compare": (
        of(attack={"radius": 0.5, "step_size": 0.1}) | {"space": {"attack.norm": ["linf", "l2"], **LR}},
        "robust accuracies do not compare: trials are evaluated at norm linf, l2; set trial.attack.norm=linf",
    ),
    "a key that the objective does not read": (
        of(objective={"beta": 3}),
        "trial.objective.beta=3.0 is read by no trial (its name: pgd_at); set trial.objective.beta=null",
    ),
    "a key that the schedule does not read": (
        of(schedule={"name": "one_cycle", "warmup_epochs": 2}),
        "trial.schedule.warmup_epochs=2.0 is read by no trial (its name: one_cycle); "
        "set trial.schedule.warmup_epochs=0",
    ),
    "some trials of a space": (
        of(schedule=PIECEWISE, epochs=120) | {"space": {"epochs": {"grid": [50], "when": {"optimizer.lr": 0.1}}, **LR}},
        "the learning rate never falls: schedule.milestones [100, 105] of 50 epochs (1 of 2 trials); "
        "set trial.schedule.milestones=[45, 48], or trial.schedule.name=constant",
    ),
    "optuna with fewer points": (
        of() | {"space": DRAWN, "search": {"name": "optuna", "n_trials": 30}},
        "search.n_trials is 30, and the space has 2 distinct points: each is run once; set search.n_trials=2",
    ),
    "optuna with fewer points in each of two": (
        of() | {"space": {"weights.name": ["none", "awp"], **DRAWN}, "search": {"name": "optuna", "n_trials": 30}},
        "search.n_trials is 30, and a combination of the grid axes has 2 distinct points: each is run once; "
        "set search.n_trials=2",
    ),
}


@pytest.mark.parametrize(("values", "line"), CASES.values(), ids=CASES)
def test_what_can_hardly_be_meant_is_told_with_the_key_that_ends_it(
    values: dict[str, Any], line: str, sweep_file: Files
) -> None:
    found = [one.line() for one in warned(load(sweep_file(**values)))]
    assert found == [line]
    key = line.rpartition("; set ")[2].partition(", or ")[0]
    assert found[0].partition(":")[0] not in "".join(one.text for one in warned(load(sweep_file(**values), [key])))


@pytest.mark.parametrize(
    ("trial", "space", "way_out"),
    [
        ({}, {"batch_size": [32, 160, 256]}, "leave 160 and 256 out of space.batch_size"),
        ({}, {"batch_size": [160, 256]}, "take other values in space.batch_size, such as 16"),
        ({"optimizer": {"name": "adamw"}}, {"optimizer.lr": [0.001, 0.1]}, "leave 0.1 out of space.optimizer.lr"),
        ({"attack": {"radius": 0.1}}, {"attack.step_size": [0.001, 0.02]}, "leave 0.001 out of space.attack.step_size"),
        (
            {"epochs": 50, "schedule": PIECEWISE},
            {"schedule.milestones": [[30, 40], [100, 105]]},
            "leave [100, 105] out of space.schedule.milestones, or set trial.schedule.name=constant",
        ),
    ],
)
def test_the_way_out_of_a_value_of_an_axis_keeps_the_axis(
    trial: dict[str, Any], space: dict[str, Any], way_out: str, sweep_file: Files
) -> None:
    quiet = {"evaluation": {"radius": 0.03, "step_size": 0.01, "steps": 10}}
    (line,) = (one.line() for one in warned(load(sweep_file(**of(**quiet, **trial) | {"space": space}))))
    assert line.endswith(f"; {way_out}")


def test_a_range_is_to_be_narrowed(sweep_file: Files) -> None:
    values = of() | {"space": {"batch_size": {"uniform": [16, 256]}}, "search": {"name": "random", "n_trials": 12}}
    (line,) = (one.line() for one in warned(load(sweep_file(**values))))
    assert re.search(r"\(\d+ of 12 trials\); narrow space.batch_size, which has \d+$", line)


def test_trials_that_are_not_drawn_yet_are_not_counted(sweep_file: Files) -> None:
    space = {"optimizer.lr": {"loguniform": [0.01, 0.1]}, "batch_size": {"choice": [16, 32, 64, 160]}}
    search = {"name": "optuna", "sampler": "random", "n_trials": 5}
    assert [one.line() for one in warned(load(sweep_file(**of() | {"space": space, "search": search})))] == [
        "one step an epoch: batch_size 160 takes all 160 training images (where it is drawn); "
        "leave 160 out of space.batch_size"
    ]


@pytest.mark.parametrize("name", ["random", "quasi_random"])
def test_draws_that_repeat_a_point_are_told(name: str, sweep_file: Files) -> None:
    config = load(sweep_file(**of() | {"space": DRAWN, "search": {"name": name, "n_trials": 30}, "seeds": [0, 1]}))
    found = plan(config, [], "abc")
    assert (found.size, found.merged) == (4, 0)
    assert [one.line() for one in found.warnings] == [
        "of the 30 points drawn 2 are distinct, and each is run once; set search.name=optuna, which repeats none, or "
        "list the values as {grid: [...]}"
    ]


@pytest.mark.parametrize(
    "values",
    [
        of(),
        of(epochs=120, schedule=PIECEWISE),
        {"trial": {"preset": "trades", "data": of()["trial"]["data"], "model": {"name": "small_cnn"}}, "space": LR},
        of(attack={"norm": "l2", "radius": "128/255", "step_size": "15/255"}),
        of(attack={"steps": 1, "step_size": "10/255"}),  # as fast adversarial training has it
        of(objective={"name": "natural"}, attack={"radius": 0.1, "step_size": 0.02}),  # the evaluation's
        of(weights={"name": "awp", "gamma": 0.02}),
        of() | {"space": {"optimizer.name": ["sgd", "deat"], "optimizer.weight_decay": [5e-4, 1e-3]}},
        of(optimizer={"weight_decay": 0}) | {"space": {"optimizer.name": ["sgd", "deat"]}},
        of() | {"space": DRAWN, "search": {"name": "optuna", "n_trials": 2}},
        of() | {"space": {"attack.radius": [0.02, 0.04]}, "trial": of()["trial"] | {
            "attack": {"step_size": 0.01}, "evaluation": {"radius": 0.03}}},
    ],
)  # fmt: skip
def test_where_there_is_nothing_to_warn_of_nothing_is_said(values: dict[str, Any], sweep_file: Files) -> None:
    assert warned(load(sweep_file(**values))) == ()


def test_ready_configs_warn_of_the_weight_decay_of_one_measured_epoch_and_of_what_early_stopping_biases_alone() -> None:
    for path in (Path(__file__).parents[3] / "configs").rglob("*digits.yaml"):
        config = load(path)
        known = ["DEAT and SGD differ in two ways here", "accuracies are measured at the end alone"]
        if path.stem == "surface_digits":  # where few steps are part of the question
            known.append("PGD cannot go from an image to the edge of its ball")
        biased = [one.text for one in warned(config) if not one.text.startswith(tuple(known))]
        assert all("question asks" in text for text in biased), path
        assert not biased or config.stopping, path


@pytest.mark.parametrize("rule", [{"stopping": {"name": "asha"}}, {"race": {}, "seeds": list(range(5))}])
def test_a_deterministic_search_that_ends_trials_early_is_told_how_far_it_is_repeatable(
    rule: dict[str, Any], sweep_file: Files
) -> None:
    search = {"name": "optuna", "n_trials": 2, "deterministic": True}
    config = load(
        sweep_file(**of() | {"space": {"optimizer.lr": {"loguniform": [0.01, 0.1]}}, "search": search} | rule)
    )
    (line,) = (one.line() for one in warned(config) if one.text.startswith("search.deterministic: "))
    assert line.endswith(f"points are the same given the same decisions only; set {next(iter(rule))}=null")


def test_plan_and_launch_show_the_warnings(sweep_file: Files, tmp_path: Path) -> None:
    values = of(attack={"radius": 0.3}, epochs=1, evaluation={"steps": 1}) | {"space": {"optimizer.lr": [0.1]}}
    file, lines = sweep_file(**values), []
    for command in ("plan", "launch --serial"):
        words = [*shlex.split(command), str(file), "--out", str(tmp_path / "run")]
        text = CliRunner().invoke(main, words).stdout
        start = text.index("  warnings:\n")
        lines.append(text[start:].splitlines()[:2])
    assert lines[0] == lines[1]
    assert "PGD cannot go from an image to the edge of its ball" in lines[0][1]


def test_early_stopping_beside_a_question_or_several_seeds_is_said_to_bias_what_they_ask_for():
    base = {"name": "x", **of(), "stopping": {"name": "asha"}}
    for more, asks, rule in (
        ({"question": "Which?"}, "question asks", "asha"),
        ({"seeds": [0, 1]}, "several seeds are", "asha"),
        ({"seeds": [0, 1, 2], "stopping": None, "race": {}}, "several seeds are", "race"),
    ):
        (one,) = warned(SweepConfig(**base | more))
        assert one.text.startswith(
            f"{asks} for claims and figures, and early stopping leaves the trials out of them that {rule} ends: "
        )
        assert one.key.startswith("race=null" if rule == "race" else "stopping=null")
        assert "\n" not in one.line()
        assert not warned(SweepConfig(**base | more | {"stopping": None, "race": None}))
    assert not warned(SweepConfig(**base))
