"""A trial's config: its id is its content, and a mistake has one line."""

from __future__ import annotations

import doctest
from typing import Any

import pytest

import trainers.config.trial
import trainers.errors
import trainers.fields
import trainers.ladder.trained
import trainers.method.schedules
import trainers.seeds
from sweep.axes import leaf_keys, nested, value_at
from trainers.config import TrialConfig
from trainers.errors import UserError, suggestion, validated
from trainers.fields import Frozen, parse_number
from trainers.identity import identity, trial_id

BASE: dict[str, Any] = {"data": {"name": "digits", "fingerprint": "digits-0"}, "epochs": 110}


def config(**point: Any) -> TrialConfig:
    """The base with keys, `__` for the dot, set."""
    values = {key.replace("__", "."): value for key, value in point.items()}
    return validated(TrialConfig, nested(BASE, values))


def name_of(**point: Any) -> str:
    return trial_id(config(**point))


def test_the_id_of_one_trial_is_for_ever_the_same() -> None:
    # A new key with a default changes it, and with it the id of every trial that was ever run.
    assert name_of() == "4fbcc622344b"


#: Another value for every key that is read by every trial; what else it needs to be read stands beside it.
CHANGED: dict[str, Any] = {
    "batch_norm": ({"workers": 2}, "local"),
    "workers": ({"batch_norm": "local"}, 2),
    "preset": "rice2020",
    "data.name": "svhn",
    "data.validation_fraction": 0.1,
    "data.augment": True,
    "data.padding": ({"data.augment": True}, "zero"),
    "data.crop": ({"data.augment": True}, "random_resized"),
    "data.crop_scale": ({"data.augment": True, "data.crop": "random_resized"}, 0.25),
    "data.crop_size": 6,
    "data.policy": "augmix",
    "data.cutmix": 0.5,
    "data.cutmix_window": ({"data.cutmix": 0.5}, "20/32"),
    "data.extra_fraction": ({"data.extra_fingerprint": "npz-1"}, 0.5),
    "data.extra_fingerprint": "npz-1",
    "data.train_per_class": 5,
    "data.test_per_class": 5,
    "data.image_size": ({"data.name": "image_folder", "data.root": "/x"}, 32),
    "data.fingerprint": "digits-1",
    "model.name": "small_cnn",
    "model.activation": "silu",
    "model.weights_fingerprint": "0123456789abcdef",
    "model.normalize": False,
    "model.moments": "half",
    "batch_size": 127,
    "epochs": 111,
    "optimizer.name": "deat",
    "optimizer.lr": 0.1 + 2**-50,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": ({"optimizer.momentum": 0.9}, True),
    "optimizer.weight_decay": 0,
    "optimizer.decoupled_weight_decay": True,
    "optimizer.k1": ({"optimizer.name": "deat"}, 0.9),
    "optimizer.k2": ({"optimizer.name": "deat"}, 0.81),
    "optimizer.beta1": ({"optimizer.name": "adamw"}, 0.8),
    "optimizer.beta2": ({"optimizer.name": "adamw"}, 0.99),
    "optimizer.eps": ({"optimizer.name": "adamw"}, 1e-6),
    "schedule.name": "cosine",
    "schedule.milestones": [100, 106],
    "schedule.factor": 0.2,
    "schedule.warmup": ({"schedule.name": "one_cycle"}, 0.3),
    "schedule.warmup_epochs": 5,
    "attack.norm": "l2",
    "attack.radius": "8.5/255",
    "attack.step_size": 0.01,
    "attack.steps": 7,
    "attack.start": "clean",
    "attack.batch_norm": "train",
    "attack.start_scale": 2,
    "attack.project": False,
    "attack.radius_warmup": 5,
    "attack.step_size_warmup": 5,
    "attack.tau": 0,
    "attack.tau_milestones": ({"attack.tau": 0}, [50]),
    "attack.replays": 8,
    "objective.name": "trades",
    "objective.label_smoothing": 0.1,
    "objective.beta": ({"objective.name": "mart"}, 6),
    "objective.vertex": ({"objective.name": "avmixup"}, 1.5),
    "objective.clean_label": ({"objective.name": "avmixup"}, 0.9),
    "objective.vertex_label": ({"objective.name": "avmixup"}, 0.5),
    "objective.s2o.enabled": True,
    "objective.s2o.in_awp": ({"objective.s2o.enabled": True, "weights.name": "awp"}, True),
    "objective.s2o.weight": ({"objective.s2o.enabled": True}, 0.2),
    "objective.s2o.rho": ({"objective.s2o.enabled": True}, 0.9),
    "weights.name": "awp",
    "weights.gamma": ({"weights.name": "awp"}, 0.02),
    "weights.warmup": ({"weights.name": "awp"}, 5),
    "batch_norm_data": "adversarial",
    "clean_passes": 1,
    "averaging.name": "ema",
    "averaging.decay": ({"averaging.name": "ema"}, 0.99),
    "averaging.ema_warmup": ({"averaging.name": "ema"}, True),
    "averaging.start": ({"averaging.name": "swa"}, 3),
    "evaluation.every": 2,
    "evaluation.splits": ["val"],
    "evaluation.steps": 20,
    "evaluation.restarts": 2,
    "evaluation.start": "normal",
    "evaluation.step_size": 0.001,
    "evaluation.radius": 0.01,
    "evaluation.batch_size": 499,
    "evaluation.precision": "bf16",
    "dynamics.every": 5,
    "dynamics.images": ({"dynamics.every": 5}, 400),
    "dynamics.eigenpairs": ({"dynamics.every": 5}, 4),
    "dynamics.directions": ({"dynamics.every": 5}, 3),
    "dynamics.probes": ({"dynamics.every": 5}, 10),
    "dynamics.batches": ({"dynamics.every": 5}, 50),
    "dynamics.batch_sizes": ({"dynamics.every": 5}, [16]),
    "dynamics.batch_norm": ({"dynamics.every": 5}, "eval"),
    "dynamics.line": ({"dynamics.every": 5}, [1.0]),
    "seed": 1,
    "precision": "bf16",
    "deterministic": True,
    **{
        f"{part}.code": ({f"{part}.name": "./mine.py:Mine", f"{part}.code": "0" * 12}, "1" * 12)
        for part in ("model", "data", "objective", "optimizer", "schedule")
    },
}
INERT = {
    "data.root": "/elsewhere",
    "data.download": True,
    "data.in_memory_gib": 8,
    "data.decode": ({"data.name": "image_folder", "data.root": "/x"}, "every_epoch"),
    "model.fine_tune": ({"model.weights_fingerprint": "0123456789abcdef"}, "/elsewhere.pt"),
    "data.extra": ({"data.extra_fingerprint": "npz-1"}, "/elsewhere"),
    "device": "cpu",
    "engine": "compile",
    "keep": "none",
    "checkpoint.every_epochs": 3,
    "checkpoint.every_minutes": None,
}


def test_every_key_either_changes_the_id_or_is_known_not_to() -> None:
    assert set(CHANGED) | set(INERT) == set(leaf_keys())
    assert not set(CHANGED) & set(INERT)


@pytest.mark.parametrize("key", CHANGED)
def test_a_key_that_can_change_the_numbers_changes_the_id(key: str) -> None:
    change = CHANGED[key]
    needed, value = change if isinstance(change, tuple) else ({}, change)
    before, after = (validated(TrialConfig, nested(BASE, point)) for point in (needed, {**needed, key: value}))
    assert value_at(before.model_dump(), key) != value_at(after.model_dump(), key)
    assert trial_id(before) != trial_id(after)


@pytest.mark.parametrize("key", INERT)
def test_where_a_trial_runs_and_finds_its_data_does_not_change_the_id(key: str) -> None:
    change = INERT[key]
    needed, value = change if isinstance(change, tuple) else ({}, change)
    assert name_of(**{**needed, key: value}) == name_of(**needed)


@pytest.mark.parametrize(
    ("given", "change"),
    [
        ({"optimizer.name": "sgd"}, {"optimizer.k1": 0.3, "optimizer.k2": 0.1}),
        ({"schedule.name": "constant"}, {"schedule.milestones": [5], "schedule.factor": 0.5, "schedule.warmup": 0.9}),
        ({"schedule.name": "cosine"}, {"schedule.milestones": [5], "schedule.factor": 0.5, "schedule.warmup": 0.9}),
        ({"schedule.name": "one_cycle"}, {"schedule.milestones": [5], "schedule.factor": 0.5}),
        ({"schedule.name": "piecewise"}, {"schedule.warmup": 0.9}),
        ({"epochs": 50}, {"schedule.milestones": [50, 60], "schedule.factor": 0.5}),
        ({"epochs": 50}, {"schedule.name": "constant"}),
        ({"epochs": 103}, {"schedule.milestones": [100]}),
        ({}, {"data.augment": False}),
        ({"optimizer.name": "deat"}, {"optimizer.decoupled_weight_decay": True}),
        ({"optimizer.name": "sgd"}, {"optimizer.decoupled_weight_decay": False}),
        ({}, {"attack.start": "uniform_radius", "evaluation.start": "uniform_radius"}),
        ({}, {"evaluation.start": "uniform"}),
        ({"attack.norm": "l2"}, {"attack.start": "uniform_radius", "evaluation.start": "uniform_radius"}),
        ({"attack.radius": 0.1}, {"evaluation.radius": 0.1}),
        ({"attack.step_size": 0.1}, {"evaluation.step_size": "1/10"}),
        ({"evaluation.splits": ["val", "test"]}, {"evaluation.splits": ["test", "val"]}),
        (
            {"attack.steps": 0, "evaluation.radius": 0.1, "evaluation.step_size": 0.1},
            {"attack.radius": 0.2, "attack.step_size": 0.2, "attack.batch_norm": "train"},
        ),
        ({"optimizer.weight_decay": 0}, {"optimizer.decoupled_weight_decay": True}),
        ({"schedule.factor": 1}, {"schedule.name": "constant"}),
        ({"schedule.name": "one_cycle"}, {"schedule.warmup_epochs": 5}),
        ({"objective.name": "natural"}, {"attack.start": "clean", "attack.batch_norm": "train"}),
        ({"objective.name": "natural"}, {"objective.name": "pgd_at", "attack.steps": 0}),
        ({"objective.name": "pgd_at"}, {"objective.beta": 3, "objective.vertex": 1.5, "objective.clean_label": 0.5}),
        ({"objective.name": "trades"}, {"objective.beta": 6, "objective.vertex": 1.5, "attack.start": "normal"}),
        ({"objective.name": "avmixup"}, {"objective.beta": 3}),
        ({"objective.name": "avmixup", "attack.steps": 0}, {"objective.vertex": 1.5}),
        ({}, {"objective.s2o.weight": 0.5, "objective.s2o.rho": 0.5}),
        ({}, {"weights.gamma": 0.5, "weights.warmup": 3}),
        ({"objective.name": "trades", "weights.name": "awp"}, {"weights.warmup": 10}),
        ({"objective.s2o.enabled": True}, {"objective.s2o.in_awp": True}),
        ({}, {"data.padding": "zero", "data.crop": "random_resized", "data.crop_scale": 0.5}),
        ({"data.augment": True}, {"data.crop_scale": 0.5}),
        ({"data.augment": True, "data.crop": "random_resized"}, {"data.padding": "zero"}),
        ({"model.normalize": False}, {"model.moments": "half"}),
        ({}, {"batch_norm_data": "both", "clean_passes": 2}),
        ({"objective.name": "mart"}, {"batch_norm_data": "both", "clean_passes": 1}),
        ({"objective.name": "avmixup"}, {"batch_norm_data": "adversarial", "clean_passes": 3}),
        ({"attack.steps": 0}, {"batch_norm_data": "clean", "clean_passes": 3}),
        ({}, {"weights.name": "awp", "weights.warmup": 110}),
        ({}, {"averaging.decay": 0.5, "averaging.start": 3}),
        ({"averaging.name": "swa"}, {"averaging.decay": 0.5, "averaging.start": 83, "averaging.ema_warmup": True}),
        ({}, {"optimizer.beta1": 0.5, "optimizer.beta2": 0.5, "optimizer.eps": 1}),
        ({"optimizer.name": "adamw"}, {"optimizer.decoupled_weight_decay": True, "optimizer.k1": 0.3}),
        ({"attack.replays": 8}, {"attack.steps": 3, "attack.start": "normal", "attack.batch_norm": "train"}),
        ({"attack.replays": 8}, {"attack.start_scale": 2}),
        ({"attack.replays": 8}, {"batch_norm_data": "adversarial", "clean_passes": 3}),
        ({"objective.name": "natural"}, {"attack.replays": 8, "attack.tau": None, "attack.project": True}),
        ({"objective.name": "natural"}, {"attack.tau": 0, "attack.radius_warmup": 5, "attack.start_scale": 2}),
        ({}, {"attack.tau": 10, "attack.tau_milestones": [5]}),
        ({"attack.tau": 0}, {"attack.tau_milestones": [110]}),
        ({}, {"dynamics.images": 10, "dynamics.batch_sizes": [16], "dynamics.line": [1.0]}),
    ],
)
def test_what_is_not_read_or_says_the_default_does_not_change_the_id(
    given: dict[str, Any], change: dict[str, Any]
) -> None:
    assert name_of(**given) == name_of(**{**given, **change})


def test_of_free_training_the_measured_dynamics_alone_read_batch_norm_in_the_attack() -> None:
    measured = {"attack.replays": 8, "dynamics.every": 1}
    assert name_of(**measured) != name_of(**measured, **{"attack.batch_norm": "train"})


def test_an_own_optimizers_options_stay_in_the_id_whatever_they_are_called() -> None:
    own = {"name": "./o.py:O", "code": "0" * 12, "weight_decay": 0}
    names = {name_of(optimizer=own | {"decoupled_weight_decay": value}) for value in (True, False)}
    assert len(names) == 2


@pytest.mark.parametrize(("one", "other"), [(1, 1.0), ("1e-1", 0.1), ("8/255", 8 / 255), ("1/10", 0.1)])
def test_two_ways_to_write_a_number_are_one_trial(one: Any, other: Any) -> None:
    assert name_of(optimizer__lr=one) == name_of(optimizer__lr=other)


def test_the_order_of_keys_does_not_change_the_id() -> None:
    values = config().model_dump()
    assert trial_id(TrialConfig.model_validate(dict(reversed(values.items())))) == name_of()


@pytest.mark.parametrize("key", CHANGED)
def test_a_config_that_went_through_json_is_the_same_trial(key: str) -> None:
    change = CHANGED[key]
    needed, value = change if isinstance(change, tuple) else ({}, change)
    before = validated(TrialConfig, nested(BASE, {**needed, key: value}))
    after = TrialConfig.model_validate_json(before.model_dump_json())
    assert after == before
    assert trial_id(after) == trial_id(before)


def test_resolving_changes_neither_the_id_nor_itself() -> None:
    for given in (config(), config(optimizer__name="deat"), config(data__name="svhn")):
        assert trial_id(given.resolved()) == trial_id(given)
        assert given.resolved().resolved() == given.resolved()


def test_resolving_fills_in_what_stands_for_another_value() -> None:
    found = config(optimizer__name="deat", attack__radius=0.2, attack__step_size=0.05).resolved()
    assert (found.data.augment, found.optimizer.decoupled_weight_decay) == (False, True)
    assert (found.evaluation.radius, found.evaluation.step_size) == (0.2, 0.05)
    assert config(data__name="svhn").resolved().data.augment is True


def test_the_identity_holds_only_what_can_change_the_numbers() -> None:
    keys = identity(config(optimizer__name="deat"))
    assert "device" not in keys
    assert not {"root", "download"} & set(keys["data"])
    assert not {"momentum", "nesterov"} & set(keys["optimizer"])


def test_without_a_fingerprint_there_is_no_id() -> None:
    with pytest.raises(UserError) as caught:
        trial_id(TrialConfig())
    assert str(caught.value) == (
        "data.fingerprint: needed for the trial's id; trainers.data.sources.fingerprint gives it"
    )


def test_a_config_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        config().batch_size = 3  # type: ignore[misc]


def test_every_key_says_what_it_is() -> None:
    def described(model: type[Frozen], front: str = "") -> None:
        for key, field in model.model_fields.items():
            inner = field.annotation
            if isinstance(inner, type) and issubclass(inner, Frozen):
                described(inner, f"{front}{key}.")
            else:
                assert field.description, f"{front}{key}"

    described(TrialConfig)


# Numbers as text


@pytest.mark.parametrize(
    ("text", "number"),
    [("8/255", 8 / 255), ("1e-4", 1e-4), (" 2 / 255 ", 2 / 255), ("-1", -1.0), (3, 3), (0.5, 0.5), ("1e3/10", 100.0)],
)
def test_a_number_may_be_text(text: Any, number: float) -> None:
    assert parse_number(text) == number


@pytest.mark.parametrize("text", ["", "/", "8/", "/255", "8/0", "1/2/3", "much", "0x10", "1,5"])
def test_other_text_is_no_number(text: str) -> None:
    with pytest.raises(ValueError, match=r"must be a number such as 0\.1, 1e-4 or 8/255, got "):
        parse_number(text)


@pytest.mark.parametrize("value", [True, False])
def test_a_truth_value_is_no_number(value: bool) -> None:
    with pytest.raises(ValueError, match=f"must be a number, got {value}"):
        parse_number(value)


# Bounds


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("batch_size", 0, "batch_size: must be > 0, got 0"),
        ("epochs", -1, "epochs: must be > 0, got -1"),
        ("seed", -1, "seed: must be >= 0, got -1"),
        ("optimizer.lr", 0, "optimizer.lr: must be > 0.0, got 0"),
        ("optimizer.momentum", 1, "optimizer.momentum: must be < 1.0, got 1"),
        ("optimizer.k2", 1, "optimizer.k2: must be < 1.0, got 1"),
        ("optimizer.weight_decay", "-1e-4", "optimizer.weight_decay: must be >= 0.0, got -0.0001"),
        ("attack.radius", -0.1, "attack.radius: must be >= 0.0, got -0.1"),
        ("attack.step_size", 0, "attack.step_size: must be > 0.0, got 0"),
        ("attack.steps", -1, "attack.steps: must be >= 0, got -1"),
        ("data.validation_fraction", 1, "data.validation_fraction: must be < 1.0, got 1"),
        ("schedule.milestones", [0], "schedule.milestones.0: must be > 0, got 0"),
        ("schedule.milestones", 100, "schedule.milestones: must be a list, got 100; write [100]"),
        (
            "evaluation.splits",
            ["vall"],
            "evaluation.splits.0: must be one of train, val, test; got 'vall'; did you mean 'val'?",
        ),
        ("evaluation.splits", ["val", "val"], "evaluation.splits: each once, got ['val', 'val']"),
        (
            "evaluation",
            {"start": "clean", "restarts": 2},
            "evaluation.restarts: from the clean image all are the same; got 2; set 1",
        ),
        ("model.normalize", "maybe", "model.normalize: must be true or false, got 'maybe'"),
        ("deterministic", "yes", "deterministic: must be true or false, got 'yes'"),
        ("data.augment", 1, "data.augment: must be true or false, got 1"),
        (
            "data.image_size",
            32,
            "data.image_size: only image_folder and tiny_imagenet and imagenet are resized, and name is 'digits'; "
            "leave it out",
        ),
        ("data", 3, "data: must be a mapping of keys to values, got 3"),
        ("data.nam", 3, "data.nam: unknown key; did you mean 'name'?"),
    ],
)
def test_a_value_out_of_bounds_is_named_with_what_must_hold(key: str, value: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        config(**{key: value})
    assert str(caught.value) == message


def test_deat_has_no_momentum() -> None:
    with pytest.raises(UserError) as caught:
        config(optimizer__name="deat", optimizer__momentum=0.9)
    assert str(caught.value) == (
        "optimizer.momentum: DEAT has none; give it to sgd alone, in space: "
        "optimizer.momentum: {grid: [0.9], when: {optimizer.name: sgd}}"
    )


# Errors


class Inner(Frozen):
    near: int = 0
    far: int = 0


class Outer(Frozen):
    by_name: dict[str, Inner] | None = None
    maybe: Inner | None = None
    first: int = 0


@pytest.mark.parametrize(
    ("where", "values", "message"),
    [
        ("", {"frist": 1}, "frist: unknown key; did you mean 'first'?"),
        ("", {"zzz": 1}, "zzz: unknown key; known: by_name, maybe, first"),
        ("a.yaml: ", {"frist": 1}, "a.yaml: frist: unknown key; did you mean 'first'?"),
        ("a.yaml: trial", {"frist": 1}, "a.yaml: trial.frist: unknown key; did you mean 'first'?"),
        ("", {"by_name": {"x": {"naer": 1}}}, "by_name.x.naer: unknown key; did you mean 'near'?"),
        ("", {"maybe": {"frr": 1}}, "maybe.frr: unknown key; did you mean 'far'?"),
        ("", 3, "must be a mapping of keys to values, got 3"),
        ("a.yaml: ", 3, "a.yaml: must be a mapping of keys to values, got 3"),
        ("a.yaml", None, "a.yaml: must be a mapping of keys to values, got None"),
        ("", {"first": 1, "by_name": {1: {}}}, "by_name.1: a key must be text, got 1; put it in quotes"),
    ],
)
def test_an_error_says_where_and_what(where: str, values: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validated(Outer, values, where)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"attack": {"tau_milestones": [5, 3], "tau": 0}},
            "attack.tau_milestones: must rise, got [5, 3]",
        ),
        (
            {"attack": {"tau_milestones": [3]}},
            "attack.tau_milestones: tau grows then, and is none; got [3]; set attack.tau: 0",
        ),
        (
            {"attack": {"start": "clean", "start_scale": 2}},
            "attack.start_scale: is of a uniform start, and start is clean; leave one of them out",
        ),
        (
            {"attack": {"start_scale": 2}, "objective": {"name": "trades"}},
            "attack.start_scale: is of a uniform start, and trades starts beside the image; set attack.start: uniform",
        ),
        (
            {"attack": {"replays": 8, "tau": 0}},
            "attack.tau: an attack with replays has no steps of its own to stop; leave one of them out",
        ),
        (
            {"attack": {"replays": 8, "project": False}},
            "attack.project: must be true with replays, or the perturbation grows without end; leave it out",
        ),
        ({"attack": {"replays": 0}}, "attack.replays: must be > 0, got 0"),
        ({"attack": {"radius_warmup": -1}}, "attack.radius_warmup: must be >= 0.0, got -1"),
        ({"objective": {"label_smoothing": 1}}, "objective.label_smoothing: must be < 1.0, got 1"),
    ],
)
def test_recipes_that_cannot_be_meant_are_refused_with_a_way_out(values: Any, message: str) -> None:
    with pytest.raises(UserError) as caught:
        validated(TrialConfig, values)
    assert str(caught.value) == message


def test_every_mistake_is_told_once_and_the_first_is_the_errors_text() -> None:
    values = {"batch_size": 0, "epochs": 0, "batchsize": 1, "attack": {"radius": "x"}}
    with pytest.raises(UserError) as caught:
        validated(TrialConfig, values, "f: trial")
    told = [str(caught.value), *caught.value.others]
    assert told[0] in ("f: trial.batch_size: must be > 0, got 0", "f: trial.epochs: must be > 0, got 0")
    assert sorted(told) == [
        "f: trial.attack.radius: must be a number such as 0.1, 1e-4 or 8/255, got 'x'",
        "f: trial.batch_size: must be > 0, got 0",
        "f: trial.batchsize: unknown key; did you mean 'batch_size'?",
        "f: trial.epochs: must be > 0, got 0",
    ]


def test_a_suggestion_is_the_nearest_word_or_all_or_of_many_their_sections() -> None:
    assert suggestion("lrr", ["lr", "k1"]) == "did you mean 'lr'?"
    assert suggestion("zzz", iter(["lr", "k1"])) == "known: lr, k1"
    many = [f"optimizer.{letter}{digit}" for letter in "abcdef" for digit in range(9)]
    assert suggestion("zzz", ["seed", *many]) == "known: seed, optimizer.*"
    assert suggestion("zzz", ["seed", *many[:9]]) == f"known: seed, {', '.join(many[:9])}"


DOCUMENTED = [
    trainers.config.trial,
    trainers.errors,
    trainers.fields,
    trainers.seeds,
    trainers.method.schedules,
    trainers.ladder.trained,
]


@pytest.mark.parametrize("module", DOCUMENTED)
def test_the_examples_in_the_docstrings_hold(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


@pytest.mark.parametrize(
    ("objective", "data", "start", "beta", "gamma", "share", "rho"),
    [
        ("natural", "cifar10", "uniform", None, 0.01, 0.1, 0.8),
        ("pgd_at", "cifar10", "uniform", None, 0.01, 0.1, 0.8),
        ("trades", "cifar10", "normal", 6, 0.005, 0.3, 0.8),
        ("mart", "cifar10", "normal", 5, 0.01, 0.3, 0.8),
        ("avmixup", "cifar10", "uniform", None, 0.01, 0.1, 0.8),
        ("pgd_at", "cifar100", "uniform", None, 0.01, 0.1, 0.98),
    ],
)
def test_what_is_none_is_filled_in_as_published(
    objective: str, data: str, start: str, beta: float | None, gamma: float, share: float, rho: float
) -> None:
    values = {"data": {"name": data}, "objective": {"name": objective}}
    found = TrialConfig.model_validate(values).resolved()
    assert found.attack.start == start
    assert found.objective.beta == beta
    assert found.weights.gamma == gamma
    assert (found.objective.s2o.weight, found.objective.s2o.rho) == (share, rho)
    assert found.attack.steps == (0 if objective == "natural" else 10)


def test_what_is_given_is_not_filled_in() -> None:
    given = {
        "data": {"name": "cifar100"},
        "attack": {"start": "clean"},
        "objective": {"name": "trades", "beta": 0, "s2o": {"weight": 0, "rho": 0}},
        "weights": {"gamma": 0.3},
    }
    found = TrialConfig.model_validate(given).resolved()
    assert found.attack.start == "clean"
    assert (found.objective.beta, found.objective.s2o.weight, found.objective.s2o.rho) == (0, 0, 0)
    assert found.weights.gamma == 0.3
