"""The config file: what is written is what is read, and every mistake has its one line."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from sweep.axes import nested
from sweep.config import ResourcesConfig, SearchConfig, SweepConfig
from sweep.config_file import dump, load
from sweep.plan.plan import plan
from sweep.search.inputs import distinct_data, fingerprints
from sweep.search.trials import fixed_points, planned
from trainers.config import DataConfig
from trainers.data.sources import Shape
from trainers.errors import UserError, validated
from trainers.presets import PRESETS

Write = Callable[[str], Path]

BASE: dict[str, Any] = {"name": "t", "trial": {"data": {"name": "digits"}}, "space": {"optimizer.lr": [0.1, 0.2]}}
DRAWN = {"search": {"name": "random", "n_trials": 3}}
DEAT = {"when": {"optimizer.name": "deat"}}


def space(**axes: Any) -> dict[str, Any]:
    """A space by keys with `__` for the dot."""
    return {key.replace("__", "."): axis for key, axis in axes.items()}


CONFIGS = {
    "smallest": {},
    "explicit grid": {"space": space(optimizer__lr={"grid": [0.1]})},
    "numbers as text": {"space": space(optimizer__lr=["1e-4", "8/255"])},
    "lists as values": {"space": space(schedule__milestones=[[1, 2], [3], []])},
    "none as a value": {"space": space(evaluation__step_size=[None, 0.1], data__train_per_class=[None, 5])},
    "a condition": {"space": space(optimizer__name=["sgd", "deat"], optimizer__k1={"grid": [0.5, 1.0], **DEAT})},
    "a condition with a list": {
        "space": space(batch_size=[16, 32, 64], optimizer__lr={"grid": [0.1], "when": {"batch_size": [16, 32]}})
    },
    "a condition on none": {"space": space(batch_size={"grid": [1, 2], "when": {"data.train_per_class": None}})},
    "a condition on a number as text": {
        "space": space(batch_size={"grid": [1, 2], "when": {"attack.radius": "8/255"}})
    },
    "a condition on a key of trial, which has the axis's key too": {
        "trial": {"optimizer": {"name": "deat", "k1": 0.3}},
        "space": space(optimizer__k1={"grid": [0.5], **DEAT}),
    },
    "conditions in a chain": {
        "space": space(
            optimizer__name=["sgd", "deat"],
            optimizer__momentum={"grid": [0.0, 0.9], "when": {"optimizer.name": "sgd"}},
            optimizer__nesterov={"grid": [True], "when": {"optimizer.momentum": 0.9}},
        )
    },
    "ranges": {
        "space": space(optimizer__lr={"loguniform": ["1e-3", 1]}, optimizer__weight_decay={"uniform": [0, "1/100"]}),
        **DRAWN,
    },
    "a choice": {"space": space(batch_size={"choice": [16, 32]}), **DRAWN},
    "optuna": {
        "space": space(optimizer__lr={"loguniform": [0.01, 1]}),
        "search": {"name": "optuna", "n_trials": 5, "sampler": "gp", "seed": 3},
    },
    "a loss": {"metric": "val_clean_loss", "mode": "min"},
    "several objectives": {
        "metric": [{"name": "val_robust", "mode": "max"}, {"name": "seconds", "mode": "min"}],
        **DRAWN,
        "space": space(batch_size={"choice": [16, 32]}),
    },
    "a list of one objective": {"metric": [{"name": "val_clean_loss", "mode": "min"}]},
    "a day for a name": {"name": "2024-01-01"},
    "an l_2 radius over 1": {
        "space": space(
            attack__norm=["linf", "l2"],
            attack__radius={"grid": [1.5], "when": {"attack.norm": "l2"}},
        )
    },
    "text beyond ASCII": {"question": "Is ε = 8/255 enough: für 'alle'?"},
    "a preset": {"trial": {"preset": "trades", "data": {"name": "digits"}, "optimizer": {"weight_decay": 0.0}}},
    "presets": {"space": space(preset=["deat", None, "trades"], optimizer__lr=[0.1])},
    "a preset under a condition, beside the trial's own": {
        "trial": {"preset": "mart", "data": {"name": "digits"}},
        "space": space(batch_size=[16, 32], preset={"grid": ["awp", "s2o"], "when": {"batch_size": 32}}),
    },
    "a condition on a preset": {
        "space": space(
            preset=["deat", "rice2020"],
            optimizer__momentum={"grid": [0.0, 0.5], "when": {"preset": "rice2020"}},
            optimizer__k1={"grid": [0.0, 1.0], "when": {"optimizer.name": "deat"}},
        )
    },
    "all else": {
        "seeds": [3, 1],
        "resources": {"cpu": 2, "gpu": 0},
        "max_concurrent": 4,
        "trial": {"device": "cpu", "precision": "bf16", "schedule": {"name": "cosine"}},
    },
}


@pytest.mark.parametrize("values", CONFIGS.values(), ids=CONFIGS)
def test_what_is_dumped_is_read_back_as_the_same_config(values: dict[str, Any], yaml_file: Write) -> None:
    config = load(yaml_file(yaml.safe_dump(BASE | values, allow_unicode=True)))
    text = dump(config)
    assert load(yaml_file(text)) == config
    assert dump(load(yaml_file(text))) == text


@pytest.mark.parametrize("name", [name for name in CONFIGS if "preset" in name])
def test_what_is_dumped_plans_the_same_trials(name: str, yaml_file: Write) -> None:
    config = load(yaml_file(yaml.safe_dump(BASE | CONFIGS[name])))
    again = load(yaml_file(dump(config)))
    first, second = (planned(one, fixed_points(one), fingerprints(one)) for one in (config, again))
    assert first == second


def test_what_the_trial_sets_wins_over_every_preset_of_an_axis(yaml_file: Write) -> None:
    values = {"trial": {"data": {"name": "digits"}, "epochs": 3}, "space": {"preset": ["deat", "trades", None]}}
    config = load(yaml_file(yaml.safe_dump(BASE | values)))
    trials = [trial.config for trial in planned(config, fixed_points(config), fingerprints(config))]
    assert [trial.epochs for trial in trials] == [3, 3, 3]
    assert [trial.attack.radius for trial in trials] == [8 / 255, 0.031, 8 / 255]
    assert [trial.optimizer.name for trial in trials] == ["deat", "sgd", "sgd"]
    assert [trial.optimizer.momentum for trial in trials] == [0.0, 0.9, 0.0]


def test_another_axis_wins_over_a_preset_and_where_it_does_not_apply_the_preset_stands(yaml_file: Write) -> None:
    """The trial's own preset too leaves nothing behind where an axis has another."""
    values = {
        "trial": {"data": {"name": "digits"}, "preset": "mart"},
        "space": {
            "optimizer.weight_decay": {"grid": [0.5], "when": {"objective.name": ["mart", "pgd_at"]}},
            "preset": {"grid": ["trades", "deat"], "when": {"batch_size": 32}},
            "batch_size": [16, 32],
        },
    }
    config = load(yaml_file(yaml.safe_dump(BASE | values)))
    trials = [trial.config for trial in planned(config, fixed_points(config), fingerprints(config))]
    found = [(one.batch_size, one.preset, one.epochs, one.optimizer.weight_decay) for one in trials]
    assert found == [(16, "mart", 120, 0.5), (32, "trades", 76, 2e-4), (32, "deat", 110, 0.5)]


def test_a_preset_and_its_values_by_hand_are_one_trial(yaml_file: Write) -> None:
    """In one sweep, where the second point is merged."""
    keys = PRESETS["trades"].values
    by_hand = nested({}, {key: value for key, (value, _) in keys.items() if key != "data.name"})
    by_hand |= {"data": by_hand["data"] | {"name": "digits"}}
    config = load(yaml_file(yaml.safe_dump(BASE | {"trial": by_hand, "space": {"preset": [None, "trades"]}})))
    assert len(planned(config, fixed_points(config), fingerprints(config))) == 1


def test_set_takes_a_preset_and_replaces_an_axis_of_presets(yaml_file: Write) -> None:
    path = yaml_file(yaml.safe_dump(BASE | {"space": {"preset": ["deat", "trades"], "optimizer.lr": [0.1]}}))
    config = load(path, ["trial.preset=s2o"])
    assert (config.trial.preset, list(config.space)) == ("s2o", ["optimizer.lr"])
    assert config.trial.objective.s2o.enabled
    assert load(path, ["trial.preset=s2o", "trial.epochs=7"]).trial.epochs == 7


def test_the_schema_lists_the_presets() -> None:
    schema = SweepConfig.model_json_schema()["$defs"]["TrialConfig"]["properties"]["preset"]
    assert {"enum": list(PRESETS), "type": "string"} in schema["anyOf"]


def test_every_default_stands_in_the_dump(yaml_file: Write) -> None:
    dumped = yaml.safe_load(dump(load(yaml_file(yaml.safe_dump(BASE)))))
    assert dumped["trial"]["attack"]["radius"] == 8 / 255
    of_optuna = {"sampler": None, "sampler_options": {}, "deterministic": False, "batch": None}
    assert dumped["search"] == {"name": "grid", "n_trials": None, **of_optuna, "seed": 0}
    assert set(dumped) == set(SweepConfig.model_fields) - {
        "code_folder",
        "code",
        "stopping",
        "where",
        "race",
        "fail_fast",
        "trackers",
        "notify",
    }


@pytest.mark.parametrize("root", [None, "images", "~/images", "/images"])
def test_the_dump_names_the_same_data_from_wherever_it_is_launched(
    root: str | None, yaml_file: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    config = load(yaml_file(yaml.safe_dump(merged(BASE, {"trial": {"data": {"name": "cifar10", "root": root}}}))))
    absolute = {None: "data", "images": "images", "~/images": "home/images", "/images": "/images"}
    assert config.trial.data.root == str(tmp_path / absolute[root])
    elsewhere = yaml_file(dump(config))
    monkeypatch.chdir("/")
    assert load(elsewhere) == config


def test_digits_have_no_root(yaml_file: Write) -> None:
    assert load(yaml_file(yaml.safe_dump(BASE))).trial.data.root is None


def test_a_value_is_read_as_its_key_reads_it(yaml_file: Write) -> None:
    axes = space(optimizer__lr=["1e-4", "8/255", 1], batch_size=[16.0], optimizer__k2={"grid": ["0.5"], **DEAT})
    config = load(yaml_file(yaml.safe_dump(BASE | {"space": axes})))
    assert config.space["optimizer.lr"].grid == (1e-4, 8 / 255, 1.0)
    assert [type(value) for value in config.space["batch_size"].grid or ()] == [int]
    assert config.space["optimizer.k2"].grid == (0.5,)


def merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    both = dict(base)
    for key, value in values.items():
        deeper = isinstance(value, dict) and isinstance(base.get(key), dict) and key != "space"
        both[key] = merged(base[key], value) if deeper else value
    return both


@pytest.mark.parametrize(
    ("values", "message"),
    [
        # keys
        ({"sapce": {}}, "sapce: unknown key; did you mean 'space'?"),
        ({"trial": {"optimizer": {"lrr": 1}}}, "trial.optimizer.lrr: unknown key; did you mean 'lr'?"),
        ({"trial": {"attack": {"stepsize": 1}}}, "trial.attack.stepsize: unknown key; did you mean 'step_size'?"),
        ({"trial": {"atack": {}}}, "trial.atack: unknown key; did you mean 'attack'?"),
        ({"space": {"optimizer.LR": [1]}}, "space.optimizer.LR: unknown key; did you mean 'optimizer.lr'?"),
        (
            {"space": {"preset": ["deat", "trade"]}},
            "space.preset: must be one of deat, trades, mart, awp, s2o, avmixup, rice2020, fgsm_rs, n_fgsm, free, "
            "fat; got 'trade'; did you mean 'trades'?",
        ),
        (
            {"trial": {"preset": "aws"}},
            "trial.preset: must be one of deat, trades, mart, awp, s2o, avmixup, rice2020, fgsm_rs, n_fgsm, free, "
            "fat; got 'aws'; did you mean 'awp'?",
        ),
        (
            {"trial": {"preset": "deat"}, "space": {"preset": ["deat", "trades"]}},
            "trial.preset: is also an axis of space, which would hide it; keep one of the two",
        ),
        ({"space": {"optimizer": [1]}}, "space.optimizer: unknown key; did you mean 'optimizer.lr'?"),
        ({"space": {"lr": [1]}}, "space.lr: unknown key; did you mean 'optimizer.lr'?"),
        ({"space": {"trial.optimizer.lr": [1]}}, "space.trial.optimizer.lr: unknown key; did you mean 'optimizer.lr'?"),
        ({"lr": 0.1}, "lr: unknown key; did you mean 'trial.optimizer.lr'?"),
        ({"optimizer": {"lr": 0.1}}, "optimizer: unknown key; did you mean 'trial.optimizer'?"),
        ({"weight_dacay": 0.1}, "weight_dacay: unknown key; did you mean 'trial.optimizer.weight_decay'?"),
        ({"n_trials": 3}, "n_trials: unknown key; did you mean 'search.n_trials'?"),
        ({"seed": 3}, "seed: unknown key; did you mean 'seeds'?"),
        ({"trial": {"seeds": [3]}}, "trial.seeds: unknown key; did you mean 'seeds'?"),
        ({"trial": {"lr": 0.1}}, "trial.lr: unknown key; did you mean 'trial.optimizer.lr'?"),
        ({"trial": {"optimizer": {"epochs": 3}}}, "trial.optimizer.epochs: unknown key; did you mean 'trial.epochs'?"),
        (
            {"trial": {"radius": 3}},
            "trial.radius: unknown key; did you mean 'trial.attack.radius' or 'trial.evaluation.radius'?",
        ),
        (
            {"trial": {"optimizer": "deat"}},
            "trial.optimizer: must be a mapping of keys to values, got 'deat'; did you mean {name: deat}?",
        ),
        (
            {"search": "tpe"},
            "search: must be a mapping of keys to values, got 'tpe'; its name must be a search, and tpe is a sampler "
            "of one; set search.name: optuna, search.sampler: tpe",
        ),
        (
            {"search": "hyperopt"},
            "search: must be a mapping of keys to values, got 'hyperopt'; its name must be one of grid, one_at_a_time, "
            "random, quasi_random, optuna",
        ),
        (
            {"search": "random"},
            "search: must be a mapping of keys to values, got 'random'; did you mean {name: random}?",
        ),
        # what does not exist
        (
            {"trial": {"early_stopping": {"patience": 3}}},
            "trial.early_stopping: robustsweep has no such key; a sweep's stopping, such as stopping.name=asha, ends "
            "trials that do worse than others",
        ),
        (
            {"trial": {"wandb": True}},
            "trial.wandb: robustsweep has no such key; trackers, a list beside trial, such as trackers: [mlflow], "
            "names what trials are sent to",
        ),
        (
            {"report": "r.html"},
            "report: robustsweep has no such key; `sweep report RUN` writes the page: leave it out",
        ),
        (
            {"resources": {"gpus": 4}},
            "resources.gpus: robustsweep has no such key; resources.workers: N has N processes train one trial, "
            "resources.gpu is each one's",
        ),
        (
            {"space": {"pruner.name": ["asha"]}},
            "space.pruner.name: robustsweep has no such key; a sweep's stopping, such as stopping.name=asha, ends "
            "trials that do worse than others",
        ),
        ({"space": {"batch_size": {"gird": [1]}}}, "space.batch_size.gird: unknown key; did you mean 'grid'?"),
        (
            {"space": {"batch_size": {"grid": [1], "when": {"optimizer.nam": "sgd"}}}},
            "space.batch_size.when.optimizer.nam: unknown key; did you mean 'optimizer.name'?",
        ),
        ({"search": {"samplr": "tpe"}}, "search.samplr: unknown key; did you mean 'sampler'?"),
        (
            {"resources": {"qqq": 1}},
            "resources.qqq: unknown key; known: workers, cpu, gpu, trials_per_process, epoch_timeout, wait_minutes",
        ),
        ({1: 2}, "1: a key must be text, got 1; put it in quotes"),
        ({"space": {1: [2]}}, "space.1: a key must be text, got 1; put it in quotes"),
        # types
        ({"trial": 3}, "trial: must be a mapping of keys to values, got 3"),
        ({"trial": {"epochs": "many"}}, "trial.epochs: must be a whole number, got 'many'"),
        ({"trial": {"epochs": 1.5}}, "trial.epochs: must be a whole number, got 1.5"),
        ({"trial": {"epochs": True}}, "trial.epochs: must be a whole number, got True"),
        (
            {"trial": {"attack": {"radius": "8/0"}}},
            "trial.attack.radius: must be a number such as 0.1, 1e-4 or 8/255, got '8/0'",
        ),
        ({"trial": {"attack": {"radius": True}}}, "trial.attack.radius: must be a number, got True"),
        ({"trial": {"attack": {"radius": [1]}}}, "trial.attack.radius: must be a number, got [1]"),
        ({"trial": {"attack": {"radius": "nan"}}}, "trial.attack.radius: must be a finite number, got nan"),
        (
            {"trial": {"optimizer": {"name": "sdg"}}},
            "trial.optimizer.name: must be one of sgd, deat, adamw; got 'sdg'; did you mean 'sgd'?",
        ),
        ({"trial": {"device": "tpu"}}, r"trial.device: must match ^(auto|cpu|cuda(:\d+)?)$, got 'tpu'"),
        ({"name": "a/b"}, "name: must match ^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$, got 'a/b'"),
        ({"space": [1]}, "space: must be a mapping of keys to values, got [1]"),
        (
            {"space": {"batch_size": 16}},
            "space.batch_size: must be a list of values, or a mapping such as {uniform: [low, high]}, got 16",
        ),
        ({"seeds": 4}, "seeds: must be a list, got 4; write [0, 1, 2, 3]"),
        ({"seeds": None}, "seeds: must be a list, got None; write [0]"),
        ({"search": {"points": None}}, "search.points: must be a list, got None; write []"),
        ({"race": True}, "race: must be a mapping such as {alpha: 0.05}, or null for none, got True"),
        ({"stopping": 3}, "stopping: must be a mapping such as {name: asha}, or null for none, got 3"),
        (
            {"search": {"name": "tpe", "n_trials": 4}},
            "search.name: must be a search, and tpe is a sampler of one; set search.name: optuna, search.sampler: tpe",
        ),
        ({"seeds": [0.5]}, "seeds.0: must be a whole number, got 0.5"),
        # numbers
        (
            {"trial": {"optimizer": {"lr": -0.1}}, "space": {"batch_size": [1]}},
            "trial.optimizer.lr: must be > 0.0, got -0.1",
        ),
        ({"space": {"optimizer.lr": [0.1, -0.1]}}, "space.optimizer.lr: must be > 0.0, got -0.1"),
        (
            {"space": {"optimizer.k2": {"uniform": [0.5, 1]}}, **DRAWN},
            "space.optimizer.k2: must be < 1.0, got 1.0",
        ),
        ({"resources": {"cpu": 0}}, "resources.cpu: must be > 0.0, got 0"),
        ({"max_concurrent": 0}, "max_concurrent: must be > 0, got 0"),
        (
            {"trial": {"attack": {"radius": 8}}},
            "trial.attack.radius: must be <= 1 in linf, pixels being in [0, 1], got 8; did you mean 8/255?",
        ),
        (
            {"trial": {"attack": {"step_size": 2}}},
            "trial.attack.step_size: must be <= 1 in linf, pixels being in [0, 1], got 2; did you mean 2/255?",
        ),
        (
            {"trial": {"evaluation": {"radius": 8}}},
            "trial.evaluation.radius: must be <= 1 in linf, pixels being in [0, 1], got 8; did you mean 8/255?",
        ),
        (
            {"space": {"evaluation.step_size": [0.1, 2]}},
            "space.evaluation.step_size: must be <= 1 in linf, pixels being in [0, 1], got 2; did you mean 2/255?",
        ),
        (
            {"space": {"attack.radius": [0.1, 1.5], "attack.norm": ["linf", "l2"]}},
            "space.attack.radius: must be <= 1 in linf, pixels being in [0, 1], got 1.5; did you mean 1.5/255?",
        ),
        # what is empty, missing or twice
        ({"name": None}, "name: must be text, got None"),
        ({"space": {}}, "space: must not be empty, got {}; give it a value, or leave the key out"),
        (
            {"space": {"optimizer.lr": []}},
            "space.optimizer.lr.grid: must not be empty, got []; give it a value, or leave the key out",
        ),
        ({"seeds": []}, "seeds: must not be empty, got []; give it a value, or leave the key out"),
        ({"seeds": [1, 2, 1]}, "seeds: each once, got [1, 2, 1]"),
        ({"trial": {"batch_sizes": 32}}, "trial.batch_sizes: unknown key; did you mean 'batch_size'?"),
        (
            {"space": {"batch_size": [16, 32, 16]}},
            "space.batch_size: each value once, got 16 more than once: [16, 32, 16]",
        ),
        (
            {"space": {"optimizer.lr": [0.1, "1e-1"]}},
            "space.optimizer.lr: each value once, got 0.1 more than once: [0.1, 0.1]",
        ),
        (
            {"trial": {"optimizer": {"lr": 0.5}}},
            "trial.optimizer.lr: is also an axis of space, which would hide it; keep one of the two",
        ),
        ({"trial": {"seed": 3}}, "trial.seed: seeds are replicates; write seeds: [3] instead"),
        # axes
        (
            {"space": {"optimizer.lr": {"grid": [1], "choice": [1]}}},
            "space.optimizer.lr: must have one of grid, choice, uniform, loguniform; got ['grid', 'choice']",
        ),
        (
            {"space": {"optimizer.lr": {"when": {"optimizer.name": "sgd"}}}},
            "space.optimizer.lr: must have one of grid, choice, uniform, loguniform; got none",
        ),
        (
            {"space": {"optimizer.lr": {"uniform": [0.1, 1]}}},
            "space.optimizer.lr: search grid needs a list of values; give one, or set search.name to random or optuna",
        ),
        (
            {"space": {"optimizer.lr": {"loguniform": [0, 1]}}, **DRAWN},
            "space.optimizer.lr.loguniform: low must be > 0, got 0.0",
        ),
        (
            {"space": {"optimizer.lr": {"uniform": [1, 0.1]}}, **DRAWN},
            "space.optimizer.lr: must be [low, high] with low < high, got [1.0, 0.1]",
        ),
        (
            {"space": {"optimizer.lr": {"uniform": [0.1, 0.1]}}, **DRAWN},
            "space.optimizer.lr: must be [low, high] with low < high, got [0.1, 0.1]",
        ),
        (
            {"space": {"optimizer.lr": {"uniform": [0.1]}}, **DRAWN},
            "space.optimizer.lr.uniform.1: missing; the list is too short, got [0.1]",
        ),
        (
            {"space": {"optimizer.lr": {"uniform": [1, 2, 3]}}, **DRAWN},
            "space.optimizer.lr.uniform: must have at most 2 values, got [1, 2, 3]",
        ),
        (
            {"space": {"batch_size": {"uniform": [16, 64.5]}}, **DRAWN},
            "space.batch_size.uniform: must have whole ends, as its values are whole, got [16.0, 64.5]",
        ),
        (
            {"space": {"batch_size": {"uniform": [16, 64], "step": 0.5}}, **DRAWN},
            "space.batch_size.step: must be whole, as the values are, got 0.5",
        ),
        (
            {"space": {"batch_size": {"uniform": [16, 64], "integer": False}}, **DRAWN},
            "space.batch_size: takes whole numbers alone; leave integer out",
        ),
        (
            {"space": {"optimizer.lr": {"uniform": [0.1, 0.45], "step": 0.1}}, **DRAWN},
            "space.optimizer.lr.step: high must be a whole number of steps from low, got uniform: [0.1, 0.45], "
            "step: 0.1; such as [0.1, 0.4]",
        ),
        (
            {"space": {"batch_size": {"loguniform": [16, 64], "step": 16}}, **DRAWN},
            "space.batch_size.step: goes with uniform; list the values instead: {choice: [16, 32, 64]}",
        ),
        (
            {"space": {"batch_size": {"choice": [16, 64], "step": 16}}, **DRAWN},
            "space.batch_size.step: is of a range; leave it out beside a list, which has the values that it lists",
        ),
        (
            {"space": {"optimizer.name": {"uniform": [0, 1]}}, **DRAWN},
            "space.optimizer.name: must be one of sgd, deat, adamw; got 0.0; or name code, such as torch.optim:RMSprop",
        ),
        (
            {"where": "batch_size < 'a' or"},
            "where: \"batch_size < 'a' or\": must be an expression such as batch_size * optimizer.lr <= 10: "
            "invalid syntax",
        ),
        (
            {"where": "batch_sise < 64"},
            "where: batch_sise: unknown key; did you mean 'batch_size'?",
        ),
        ({"where": "optimizer.l < 1"}, "where: optimizer.l: unknown key; did you mean 'optimizer.lr'?"),
        (
            {"where": "objective.name == trades"},
            "where: trades: no key of the trial; text stands in quotes, such as 'trades'",
        ),
        (
            {"where": "batch_size =< 64"},
            "where: 'batch_size =< 64': must be an expression such as batch_size * optimizer.lr <= 10: invalid syntax; "
            "did you mean <=?",
        ),
        ({"where": None}, "where: must be an expression, or a list of them, got None; write []"),
        ({"where": "seed < 64"}, "where: seed cannot be an axis, and so tells no point from another; leave it out"),
        (
            {"search": {"name": "grid", "start_from": ["runs/a"]}},
            "search.start_from: is what tpe and gp learn from, got grid; leave it out",
        ),
        (
            {**DRAWN, "search": {"name": "optuna", "n_trials": 3, "start_from": ["s3://a/b"]}},
            "search.start_from: must be directories of this machine, got s3://a/b; copy the run's records here",
        ),
        ({"where": True}, "where: must be an expression, or a list of them, got True"),
        ({"space": {"seed": [0]}}, "space.seed: seeds are replicates, not an axis; list them under seeds"),
        (
            {"space": {"device": ["cpu"]}},
            "space.device: does not change a trial's numbers and so cannot be an axis",
        ),
        (
            {"space": {"data.root": ["a"]}},
            "space.data.root: does not change a trial's numbers and so cannot be an axis",
        ),
        (
            {"space": {"data.fingerprint": ["a"]}},
            "space.data.fingerprint: is filled in by the sweep and cannot be an axis",
        ),
        # conditions
        (
            {"space": {"batch_size": {"grid": [1], "when": {"optimizer.name": ["sgd", "daet"]}}}},
            "space.batch_size.when.optimizer.name: must be one of sgd, deat, adamw; got 'daet'; did you mean 'deat'?",
        ),
        (
            {"space": {"batch_size": {"grid": [1], "when": {"optimizer.name": []}}}},
            "space.batch_size.when.optimizer.name: must not be empty, got []",
        ),
        (
            {
                "space": {
                    "batch_size": {"grid": [1], "when": {"epochs": 2}},
                    "epochs": {"grid": [2], "when": {"batch_size": 1}},
                }
            },
            "space: the when of batch_size, epochs depend on each other in a circle",
        ),
        (
            {"space": {"epochs": {"grid": [2], "when": {"epochs": 2}}}},
            "space: the when of epochs depend on each other in a circle",
        ),
        # search and metric
        ({"search": {"name": "random"}}, "search.n_trials: needed for random: how many points to draw"),
        (
            {"search": {"n_trials": 3}},
            "search.n_trials: a grid runs every combination; leave it out, or set search.name: random",
        ),
        (
            {"search": {"name": "bayes"}},
            "search.name: must be one of grid, one_at_a_time, random, quasi_random, optuna; got 'bayes'",
        ),
        (
            {"search": {"name": "one_at_a_time", "n_trials": 3}},
            "search.n_trials: one_at_a_time runs every listed value; leave it out, or set search.name: random",
        ),
        (
            {"search": {"name": "one_at_a_time"}, "space": {"batch_size": [16, 32]}},
            "space: one_at_a_time varies axes that are {choice: [...]}, and there is none; write the values so, the "
            "plain one first, or set search.name=grid",
        ),
        (
            {"search": {"name": "one_at_a_time"}, "space": {"optimizer.lr": {"uniform": [0.1, 0.2]}}},
            "space.optimizer.lr: search one_at_a_time needs a list of values; give {choice: [...]}, or set search.name "
            "to random or optuna",
        ),
        (
            {"metric": "test_robust"},
            "metric: must be one of val_robust, val_clean, val_robust_loss, val_clean_loss; got 'test_robust'; the "
            "test set only reports, and chooses nothing; did you mean 'val_robust'?",
        ),
        ({"metric": "val_robust_loss"}, "mode: must be min for val_robust_loss"),
        ({"mode": "min"}, "mode: must be max for val_robust"),
        ({"metric": []}, "metric: must not be empty, got []; give it a value, or leave the key out"),
        (
            {"metric": ["val_robust", "val_clean"]},
            "metric.0: must be a mapping of keys to values, got 'val_robust'; did you mean {name: val_robust}?",
        ),
        ({"metric": [{"name": "seconds", "mode": "max"}]}, "metric.0.mode: must be min for seconds"),
        (
            {"metric": [{"name": "test_robust", "mode": "max"}]},
            "metric.0.name: must be one of val_robust, val_clean, val_robust_loss, val_clean_loss, seconds; got "
            "'test_robust'; the test set only reports, and chooses nothing; did you mean 'val_robust'?",
        ),
        ({"metric": [{"name": "val_robust"}]}, "metric.0.mode: missing; this key has no default"),
        (
            {"metric": [{"name": "val_clean", "mode": "max"}] * 2},
            "metric: each objective once, got val_clean, val_clean",
        ),
        (
            {"metric": [{"name": "seconds", "mode": "min"}, {"name": "val_clean", "mode": "max"}]},
            "metric: the first objective chooses the best cells, and seconds cannot; name a validation metric first",
        ),
        (
            {"metric": [{"name": "val_clean", "mode": "max"}], "mode": "max"},
            "mode: stands beside each name where metric is a list; leave it out here",
        ),
        (
            {"trial": {"evaluation": {"splits": ["test"]}}, "search": {"name": "optuna", "n_trials": 1}},
            "metric: optuna needs val_robust; put val into trial.evaluation.splits",
        ),
        # values that do not go together
        (
            {"trial": {"data": {"name": "image_folder"}}},
            "trial.data.root: needed for image_folder: the folder that holds train/ and test/ (or val/)",
        ),
        (
            {"trial": {"data": {"validation_fraction": 0}}},
            "trial.evaluation.splits: names val, but trial.data.validation_fraction is 0; hold images out, "
            "or set trial.evaluation.splits: [train, test]",
        ),
        (
            {"trial": {"optimizer": {"nesterov": True}}},
            "trial.optimizer.nesterov: needs momentum > 0, got 0.0",
        ),
        (
            {"trial": {"schedule": {"milestones": [5, 5]}}},
            "trial.schedule.milestones: must rise, got [5, 5]",
        ),
    ],
)
def test_a_mistake_is_named_with_its_key_and_a_way_out(values: dict[str, Any], message: str, yaml_file: Write) -> None:
    path = yaml_file(yaml.safe_dump(merged(BASE, values)))
    with pytest.raises(UserError) as caught:
        load(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            {"trial": {"epochs": "x"}, "nmae": 1, "resources": {"cpu": "y", "gpu": "z"}, "metric": ["a"]},
            [
                "trial.epochs: must be a whole number, got 'x'",
                "resources.cpu: must be a number such as 0.1, 1e-4 or 8/255, got 'y'",
                "resources.gpu: must be auto or a number from 0 to 1, got 'z'",
                "metric.0: must be a mapping of keys to values, got 'a'; its name must be one of val_robust, "
                "val_clean, val_robust_loss, val_clean_loss, seconds",
                "nmae: unknown key; did you mean 'name'?",
            ],
        ),
        (
            {"space": {"optimizer.momentum": ["x"], "batch_size": [8, "y"]}},
            [
                "space.optimizer.momentum: must be a number such as 0.1, 1e-4 or 8/255, got 'x'",
                "space.batch_size: must be a whole number, got 'y'",
            ],
        ),
    ],
)
def test_every_mistake_of_a_config_is_told_at_once(values: dict[str, Any], told: list[str], yaml_file: Write) -> None:
    path = yaml_file(yaml.safe_dump(merged(BASE, values), sort_keys=False))
    with pytest.raises(UserError) as caught:
        load(path)
    assert [str(caught.value), *caught.value.others] == [f"{path}: {one}" for one in told]


@pytest.mark.parametrize(
    ("trial", "space", "told"),
    [
        ({"attack": {"stepsize": 1}}, {"optimizer.lrr": [1], "attak.steps": [1]}, ["trial.attack.stepsize",
         "space.optimizer.lrr", "space.attak.steps"]),
        ({"attack": {"stepsize": 1}}, {"batch_size": [8, "y"]}, ["trial.attack.stepsize", "space.batch_size"]),
        ({"data": {"name": "image_folder"}}, {"batch_size": [0]}, ["trial.data.root", "space.batch_size"]),
        # perhaps the name is to be that of an own network, which has a width
        ({"model": {"name": "resnt18"}}, {"model.width": [8], "optimizer.lrr": [1]}, ["trial.model.name",
         "space.optimizer.lrr"]),
        # sgd, which stands in the misspelt name's place, reads no k1
        ({"optimizer": {"name": "deta"}}, {"optimizer.k1": [1.0, "x"]}, ["trial.optimizer.name"]),
        ({}, {"optimizer.lrr": [1], "batch_size": {"uniform": [8, 16]}}, ["space.optimizer.lrr", "space.batch_size"]),
    ],
)  # fmt: skip
def test_wrong_axes_are_told_beside_wrong_keys_of_the_trial(
    trial: dict[str, Any], space: dict[str, Any], told: list[str], yaml_file: Write
) -> None:
    path = yaml_file(yaml.safe_dump({"name": "a", "trial": trial, "space": space}, sort_keys=False))
    with pytest.raises(UserError) as caught:
        load(path)
    lines = [str(caught.value), *caught.value.others]
    assert [line.removeprefix(f"{path}: ").partition(": ")[0] for line in lines] == told


def test_wrong_axes_are_told_where_the_sweep_has_no_name(yaml_file: Write) -> None:
    path = yaml_file("space: {batch_size: [y]}")
    with pytest.raises(UserError) as caught:
        load(path)
    assert [line.split(": ")[1] for line in (str(caught.value), *caught.value.others)] == ["name", "space.batch_size"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: t\nspace: {}\nname: u\n", ":3: not valid YAML: duplicate key 'name': give each key once"),
        (
            "name: t\nspace:\n  batch_size: [1]\n  epochs: [1]\n  batch_size: [2]\n",
            ":5: not valid YAML: duplicate key 'batch_size': give each key once",
        ),
        ("name: [t\n", ":2: not valid YAML: expected ',' or ']', but got '<stream end>'"),
        ("name: t\n\tspace: 1\n", ":2: not valid YAML: found character '\\t' that cannot start any token"),
        ("name: t\n? [1]\n: 2\n", ":2: not valid YAML: found unhashable key"),
        ("name: !!python/object:os.system t\n", None),
        (
            "name: t\nseeds: [000, 001]\n",
            ":2: 000: a leading zero makes a number octal for some readers of YAML; write 0 if that is meant, "
            "or '000' in quotes for text",
        ),
        ("question: \x00\n", ": not valid YAML: unacceptable character #x0000: special characters are not allowed"),
        ("- a\n- b\n", ": must be a mapping of keys to values, got list"),
        ("", ": must be a mapping of keys to values, got NoneType"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_with_its_line(text: str, message: str | None, yaml_file: Write) -> None:
    path = yaml_file(text)
    with pytest.raises(UserError) as caught:
        load(path)
    if message is not None:
        assert str(caught.value) == f"{path}{message}"
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_where_ready_ones_are(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load(tmp_path / "none.yaml")
    assert (
        str(caught.value)
        == f"{tmp_path}/none.yaml: no such file; the repository has some in configs/, and sweep init methods writes one"
    )


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_what_is_no_text_is_refused(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "sweep.yaml"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(UserError, match=r"sweep\.yaml: cannot be read as text: "):
        load(path)


def test_merge_keys_are_no_duplicates(yaml_file: Write) -> None:
    text = "name: t\ntrial: {data: &d {name: digits}}\nspace: {batch_size: [1]}\nsearch: {<<: {seed: 1}, seed: 2}\n"
    assert load(yaml_file(text)).search.seed == 2


def overridden(yaml_file: Write, *overrides: str, **values: Any) -> SweepConfig:
    return load(yaml_file(yaml.safe_dump(merged(BASE, values))), overrides)


@pytest.mark.parametrize(
    ("override", "value"), [("0.5", 0.5), ("1e-4", 1e-4), ("8/255", 8 / 255), ("1", 1.0), (" 0.5 ", 0.5)]
)
def test_set_takes_every_way_to_write_a_number(override: str, value: float, yaml_file: Write) -> None:
    assert overridden(yaml_file, f"trial.attack.radius={override}").trial.attack.radius == value


def test_set_is_the_same_as_the_file(yaml_file: Write) -> None:
    values = {"seeds": [1, 2], "trial": {"epochs": 3, "optimizer": {"k1": 0.5}}, "metric": "val_clean"}
    overrides = ["seeds=[1, 2]", "trial.epochs=3", "trial.optimizer.k1=0.5", "metric=val_clean"]
    assert overridden(yaml_file, *overrides) == overridden(yaml_file, **values)


def test_the_last_of_two_sets_counts(yaml_file: Write) -> None:
    assert overridden(yaml_file, "trial.epochs=3", "trial.epochs=4").trial.epochs == 4


@pytest.mark.parametrize(
    "override", ["trial.optimizer.lr=0.7", "trial.optimizer={lr: 0.7}", "trial.optimizer={lr: 7e-1}"]
)
def test_setting_an_axis_pins_it(override: str, yaml_file: Write) -> None:
    config = overridden(yaml_file, override, space=space(optimizer__lr=[0.1], batch_size=[16]))
    assert list(config.space) == ["batch_size"]
    assert config.trial.optimizer.lr == 0.7


def test_pinning_leaves_an_axis_that_then_never_applies(yaml_file: Write) -> None:
    axes = space(optimizer__name=["sgd", "deat"], optimizer__k1={"grid": [0.5], **DEAT})
    config = overridden(yaml_file, "trial.optimizer.name=sgd", space=axes)
    assert list(config.space) == ["optimizer.k1"]


def test_setting_an_axis_of_space_replaces_what_trial_says(yaml_file: Write) -> None:
    config = overridden(yaml_file, "space.epochs=[3, 4]", trial={"epochs": 7})
    assert config.space["epochs"].grid == (3, 4)
    assert load(yaml_file(dump(config))) == config


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trial.epochs", "--set trial.epochs: must be KEY=VALUE, such as trial.epochs=3"),
        ("=3", "--set =3: must be KEY=VALUE, such as trial.epochs=3"),
        ("trial.epochs=[", "--set trial.epochs: the value is not valid YAML, got '['"),
        ("batch_size=016", "--set batch_size: 016: a leading zero makes a number octal for some readers of YAML; "
         "write 16 if that is meant, or '016' in quotes for text"),
        ("trial.weights.name=no", "--set trial.weights.name: must be one of none, awp; got 'no'; "
         "did you mean 'none'?"),
        ("name.first=3", "--set name.first=3: name is a value, not a mapping of keys"),
        ("trial.data.name=mnist", "--set trial.data.name: must be one of digits, cifar10, cifar100, svhn, "
         "image_folder, tiny_imagenet, imagenet, shards; got 'mnist'; or name code, such as ./FILE.py:NAME"),
        ("trial.epoch=3", "--set trial.epoch: unknown key; did you mean 'epochs'?"),
        ("epochs=3", "--set epochs: unknown key; did you mean 'trial.epochs'?"),
        ("lr=0.1", "--set lr: unknown key; did you mean 'trial.optimizer.lr'?"),
        ("optimizer.lr=0.1", "--set optimizer.lr: optimizer: unknown key; did you mean 'trial.optimizer'?"),
        ("zzz=3", "--set zzz: unknown key; known: name, question, trial, space, where, seeds, search, resources, "
         "max_concurrent, metric, mode, stopping, race, fail_fast, trackers, notify, code_folder"),
        ("patience=3", "--set patience: robustsweep has no such key; a sweep's stopping, such as stopping.name=asha, "
         "ends trials that do worse than others"),
        ("trial.optimizer.lr=-1", "--set trial.optimizer.lr: must be > 0.0, got -1"),
        ("trial.epochs=", "--set trial.epochs: must be a whole number, got None"),
        ("trial.seed=3", "--set trial.seed: seeds are replicates; write seeds: [3] instead"),
        ("space.optimizer.lr=[]", "--set space.optimizer.lr.grid: must not be empty, got []; "
         "give it a value, or leave the key out"),
        ("space.optimizer.ir=[1]", "--set space.optimizer.ir: unknown key; did you mean 'optimizer.lr'?"),
    ],
)  # fmt: skip
def test_a_mistake_in_set_is_named(override: str, message: str, yaml_file: Write) -> None:
    path = yaml_file(yaml.safe_dump(BASE))
    with pytest.raises(UserError) as caught:
        load(path, [override])
    assert str(caught.value) == message.format(path=path)


READY = [
    path for path in sorted((Path(__file__).parents[2] / "configs").rglob("*.yaml")) if "cluster" not in path.parts
]


@pytest.mark.parametrize("path", READY, ids=[path.stem for path in READY])
def test_every_ready_config_loads_and_plans(path: Path, yaml_file: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    def fingerprint(data: DataConfig) -> str:
        return f"{data.name}-0"

    monkeypatch.setattr("trainers.data.sources.fingerprint", fingerprint)
    monkeypatch.setattr(
        "trainers.data.sources.shapes", lambda configs: dict.fromkeys(configs, Shape(1000, 20, 100, 10, 3, 32, 32))
    )
    monkeypatch.setattr("trainers.dynamics.measurement.refuse", lambda config: None)  # it loads the data
    config = load(path)
    found = plan(config, [], "abc")
    assert found.size == found.left > 0
    assert found.lines()[0].startswith(f"{config.name}: {found.size} trials (")
    assert len(distinct_data(config)) >= 1
    assert load(yaml_file(dump(config))) == config


@pytest.mark.parametrize("path", READY, ids=[path.stem for path in READY])
def test_every_ready_config_fits_the_schema_that_editors_use(path: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(SweepConfig.model_json_schema())
    assert [error.message for error in validator.iter_errors(yaml.safe_load(path.read_text()))] == []


def test_the_schema_refuses_what_the_loader_refuses() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads(json.dumps(SweepConfig.model_json_schema()))
    for wrong in (
        {"sapce": {}},
        {"seeds": []},
        {"metric": "test_robust"},
        {"space": {"batch_size": 3}},
        {"resources": {"gpu": 2}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(merged(BASE, wrong), schema)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        *(
            (
                f"resources.gpu={got}",
                f"resources.gpu: must be <= 1, got {got}: a process uses one GPU, and further ones would idle; "
                "set resources.gpu=1: trials run side by side, or resources.workers=N: N processes train each",
            )
            for got in ("2", "1.5")
        ),
        ("resources.gpu=all", "resources.gpu: must be auto or a number from 0 to 1, got 'all'"),
        ("resources.gpu=-1", "resources.gpu: must be auto or a number from 0 to 1, got -1"),
        ("resources.gpu=true", "resources.gpu: must be auto or a number from 0 to 1, got True"),
        ("resources.gpu=.nan", "resources.gpu: must be auto or a number from 0 to 1, got nan"),
        ("resources.gpu=[1]", "resources.gpu: must be auto or a number from 0 to 1, got [1]"),
        ("resources.trials_per_process=0", "resources.trials_per_process: must be >= 1, got 0"),
        ("resources.trials_per_process=17", "resources.trials_per_process: must be <= 16, got 17"),
        (
            "trial.device=cuda",
            "resources.gpu: must be > 0 for trial.device: cuda, got 0; or set trial.device=auto",
        ),
        (
            "search.sampler=gp",
            "search.sampler: is Optuna's, and name is grid; leave it out, or set search.name: optuna",
        ),
        ("seeds=[9223372036854775808]", "seeds.0: must be < 9223372036854775808, got 9223372036854775808"),
    ],
)
def test_what_would_fail_or_be_ignored_later_is_refused_at_once(
    override: str, message: str, yaml_file: Callable[..., Path]
) -> None:
    path = yaml_file(yaml.safe_dump(BASE))
    with pytest.raises(UserError) as error:
        load(path, [override])
    own = message.startswith(override.partition("=")[0])
    assert str(error.value) == f"{'--set' if own else f'{path}:'} {message}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"resources": {"workers": 2, "trials_per_process": 4}},
            "resources.trials_per_process: must be 1 where a trial has 2 workers, got 4; set "
            "resources.trials_per_process=1, or resources.workers=1",
        ),
        (
            {"resources": {"workers": 2, "gpu": 0.5}},
            "resources.gpu: must be 0 or 1 where a trial has 2 workers, got 0.5: NCCL joins no two processes on one "
            "card; set resources.gpu=1, or resources.workers=1",
        ),
        (
            {"trial": {"batch_norm": "local", "workers": 3}, "resources": {"workers": 2}},
            "trial.workers: is filled in from resources.workers, which is 2, got 3; leave it out, or set "
            "resources.workers=3",
        ),
        ({"space": {"workers": [1, 2]}}, "space.workers: is filled in by the sweep and cannot be an axis"),
        (
            {
                "space": {"batch_size": {"uniform": [32, 64]}},
                "search": {"name": "random", "n_trials": 2},
                "resources": {"workers": 3},
            },
            "space.batch_size: has values that 3 workers cannot share evenly; list values that 3 divides, or give "
            "uniform with step: 3, or set resources.workers=1",
        ),
    ],
)
def test_what_several_workers_cannot_do_is_refused_in_one_line(
    overrides: dict[str, Any], message: str, yaml_file: Callable[..., Path]
) -> None:
    path = yaml_file(yaml.safe_dump(merged(BASE, overrides)))
    with pytest.raises(UserError) as error:
        load(path)
    assert str(error.value) == f"{path}: {message}"


def test_a_range_of_batch_sizes_goes_with_workers_that_divide_all_of_it(yaml_file: Callable[..., Path]) -> None:
    axis = {"uniform": [24, 96], "step": 12}
    search = {"name": "random", "n_trials": 2}
    values = merged(BASE, {"space": {"batch_size": axis}, "search": search, "resources": {"workers": 3}})
    assert load(yaml_file(yaml.safe_dump(values))).resources.workers == 3


@pytest.mark.parametrize(
    ("trial", "axis", "expected"),
    [
        ({}, {}, (None, 1)),
        ({"batch_norm": "sync"}, {}, (None, 1)),
        ({"batch_norm": "local"}, {}, (2, 0)),
        ({"batch_norm": "local", "workers": 1}, {}, (2, 0)),
        ({}, {"batch_norm": ["sync", "local"]}, (2, 1)),  # of the two trials, that with sync is the same
    ],
)
def test_the_number_of_workers_is_a_part_of_the_trial_where_batch_norm_is_each_workers_own(
    trial: dict[str, Any], axis: dict[str, Any], expected: tuple[int | None, int], yaml_file: Callable[..., Path]
) -> None:
    data = {"data": {"name": "digits"}}
    values = BASE | {"trial": data | trial, "space": {"optimizer.lr": [0.1], **axis}, "resources": {"workers": 2}}
    config = load(yaml_file(yaml.safe_dump(values)))
    alone = config.model_copy(update={"resources": ResourcesConfig()})
    ids, same = ({one.id for one in planned(it, fixed_points(it), fingerprints(it))} for it in (config, alone))
    assert (config.given.get("workers"), len(ids & same)) == expected


@pytest.mark.parametrize(
    ("resources", "unit", "needed"),
    [
        ({"cpu": 4}, "4 CPU", "4 CPU"),
        ({"cpu": 4, "gpu": "auto"}, "up to 1 GPU", "4 CPU and 1 GPU"),
        ({"cpu": 4, "workers": 2}, "2 x 4 CPU", "2 workers with 4 CPU each"),
        ({"cpu": 4, "gpu": "auto", "workers": 2}, "2 x 1 GPU", "2 workers with 4 CPU and 1 GPU each"),
    ],
)
def test_what_a_trial_takes_is_said_with_its_workers(resources: dict[str, Any], unit: str, needed: str) -> None:
    one = ResourcesConfig.model_validate(resources)
    assert (one.unit, one.needed) == (unit, needed)


def test_an_alias_that_holds_itself_is_refused(yaml_file: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match=r"an alias .* holds itself; write its values out"):
        load(yaml_file("trial: &t {data: *t}"))
    with pytest.raises(UserError, match="the value is not valid YAML"):
        load(yaml_file(yaml.safe_dump(BASE)), ["trial.attack=&a {x: *a}"])


def test_setting_the_whole_trial_pins_the_axes_that_it_names(yaml_file: Callable[..., Path]) -> None:
    path = yaml_file(yaml.safe_dump(BASE | {"space": space(optimizer__lr=[0.1, 0.2], batch_size=[16, 32])}))
    config = load(path, ["trial={optimizer: {lr: 0.7}, data: {name: digits}}"])
    assert config.trial.optimizer.lr == 0.7
    assert list(config.space) == ["batch_size"]


@pytest.mark.parametrize("text", ["none", "null"])
def test_none_is_null_where_a_key_is_so_by_default(text: str, yaml_file: Write) -> None:
    file = yaml_file("name: t\ntrial: {objective: {name: trades, beta: 3}}\nspace: {optimizer.lr: [0.1]}\n")
    config = load(
        file, [f"trial.objective.beta={text}", "trial.weights.name=none", f"space.evaluation.radius=[{text}]"]
    )
    assert config.trial.objective.beta is None
    assert config.trial.weights.name == "none"
    assert config.space["evaluation.radius"].grid == (None,)


def test_a_key_of_the_trial_that_an_axis_does_not_suffer_is_named_where_it_stands(yaml_file: Write) -> None:
    file = yaml_file("name: t\ntrial: {optimizer: {momentum: 0.5}}\nspace: {preset: [deat, trades]}\n")
    with pytest.raises(UserError, match=r"yaml: trial\.optimizer\.momentum: DEAT has none"):
        load(file)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"trial": {"precision": "tf32"}},
            "trial.precision: must be fp32 or bf16 where trials share a process, got tf32",
        ),
        (
            {"space": {"precision": ["fp32", "tf32"]}},
            "trial.precision: must be fp32 or bf16 where trials share a process",
        ),
        ({"space": {"deterministic": [True, False]}}, "space.deterministic: must be the same for trials that share a "),
    ],
)
def test_what_trials_of_one_process_cannot_have_of_their_own_is_refused(
    values: dict[str, Any], message: str, yaml_file: Write
) -> None:
    alone = yaml_file(yaml.safe_dump(merged(BASE, values)))
    load(alone)
    with pytest.raises(UserError) as refused:
        load(alone, ["resources.trials_per_process=2"])
    text = str(refused.value)
    assert message in text
    assert text.endswith("; set resources.trials_per_process=1")
    assert "\n" not in text


@pytest.mark.parametrize(
    ("each", "at_once", "expected"),
    [(1, 5, (5, 1)), (4, 8, (2, 4)), (4, 4, (1, 4)), (4, 3, (1, 3)), (4, 6, (2, 3)), (4, 5, (2, 2)), (2, 1, (1, 1))],
)
def test_trials_are_spread_over_as_many_processes_as_they_need_and_never_more_at_once(
    each: int, at_once: int, expected: tuple[int, int]
) -> None:
    resources = ResourcesConfig.model_validate({"trials_per_process": each})
    assert resources.divided(at_once) == expected


def test_cpu_is_the_processs_and_its_trials_share_the_threads() -> None:
    found = [ResourcesConfig(cpu=cpu, trials_per_process=n).threads for cpu, n in ((4, 1), (4, 2), (4, 3), (1, 4))]
    assert found == [4, 2, 1, 1]


def test_a_secret_is_refused_by_its_key_and_not_repeated(yaml_file: Callable[..., Path]) -> None:
    for override, key in (
        ("trial.data.root='s3://me:hunter2hunter2@bucket'", "trial.data.root"),
        ("trial.model.api_key=hunter2hunter2", "trial.model.api_key"),
        ("question=password=hunter2hunter2", "question"),
    ):
        path = yaml_file(yaml.safe_dump(BASE))
        with pytest.raises(UserError) as error:
            load(path, [override])
        assert str(error.value).startswith(f"--set {key}: must hold no secret, ")
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("called", "sampler"),
    [("bayes", "gp"), ("Bayesian", "gp"), ("gaussian_process", "gp"), ("cma-es", "cmaes"), ("nsga2", "nsgaii"),
     ("sobol", "qmc"), ("TPE", "tpe")],
)  # fmt: skip
def test_a_sampler_by_the_name_that_others_give_it_is_told_ours(called: str, sampler: str) -> None:
    with pytest.raises(ValueError, match=f"did you mean '{sampler}'"):
        validated(SearchConfig, {"name": "optuna", "n_trials": 4, "sampler": called})
