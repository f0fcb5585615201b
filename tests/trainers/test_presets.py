"""Presets: what a paper's code sets, beneath what is set beside it; the values are the trial, not the name."""

from __future__ import annotations

import doctest
from typing import Any, get_args

import pytest

import trainers.presets
from sweep.axes import leaf_keys, nested, value_at
from trainers.config import TrialConfig
from trainers.errors import UserError, validated
from trainers.identity import trial_id
from trainers.method.adversary import at
from trainers.method.schedules import lr_factor
from trainers.presets import PRESETS, PresetName, beneath, published

SGD = [name for name in PRESETS if name != "deat"]
NAMES = ", ".join(PRESETS)
FAST = ["fgsm_rs", "n_fgsm", "free", "fat"]


def preset(name: str, **beside: Any) -> TrialConfig:
    """A preset with keys, `__` for the dot, set beside it."""
    values = {key.replace("__", "."): value for key, value in beside.items()}
    return validated(TrialConfig, nested({"preset": name}, values))


def test_every_preset_has_a_name_that_the_config_takes() -> None:
    assert set(PRESETS) == set(get_args(PresetName))


@pytest.mark.parametrize("name", PRESETS)
def test_every_value_is_one_of_its_key_and_has_a_source(name: PresetName) -> None:
    config, table = preset(name).model_dump(mode="json"), PRESETS[name]
    for key, (value, source) in table.values.items():
        assert key in leaf_keys()
        assert value_at(config, key) == value
        assert source
    for data, values in table.on.items():
        there = preset(name, data__name=data).model_dump(mode="json")
        assert {key: value_at(there, key) for key in values} == {key: value for key, (value, _) in values.items()}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_sets_every_slot_and_all_that_the_codes_differ_in(name: PresetName) -> None:
    everywhere = {
        *("data.name", "data.padding", "model.name", "model.normalize", "batch_size", "epochs", "batch_norm_data"),
        *("optimizer.name", "optimizer.lr", "optimizer.weight_decay", "schedule.name"),
        *(f"attack.{key}" for key in ("norm", "radius", "step_size", "steps", "start", "batch_norm")),
        *("objective.name", "objective.s2o.enabled", "weights.name"),
        *(f"evaluation.{key}" for key in ("steps", "restarts", "step_size", "radius")),
    }
    falls = {"piecewise": {"schedule.milestones", "schedule.factor"}, "one_cycle": {"schedule.warmup"}}
    values = PRESETS[name].values
    assert everywhere | falls[values["schedule.name"][0]] <= set(values)


def test_the_known_differences_between_the_papers() -> None:
    found = {name: preset(name).resolved() for name in PRESETS}
    assert {found[name].optimizer.momentum for name in SGD} == {0.9}
    assert [found[name].optimizer.weight_decay for name in ("trades", "mart", "avmixup")] == [2e-4, 3.5e-3, 2e-4]
    assert [(found[name].attack.radius, found[name].attack.step_size) for name in ("trades", "mart")] == [
        (0.031, 0.007)
    ] * 2
    padded = {name: config.data.padding for name, config in found.items()}
    assert [name for name in padded if padded[name] == "zero"] == ["trades", "mart", "s2o", "avmixup", *FAST]
    assert [name for name in found if not found[name].model.normalize] == ["trades", "mart", "s2o", "fat"]
    modes = {name: config.attack.batch_norm for name, config in found.items()}
    train = dict.fromkeys(["awp", "rice2020", "fgsm_rs", "n_fgsm", "free"], "train")
    assert modes == dict.fromkeys(PRESETS, "eval") | train | {"avmixup": "batch"}
    decoupled = {name: config.optimizer.decoupled_weight_decay for name, config in found.items()}
    assert [name for name in decoupled if decoupled[name]] == ["deat"]


@pytest.mark.parametrize(
    ("name", "first", "falls"),
    [
        ("deat", 0, (100, 105)),
        ("trades", 1, (75, 90, 100)),
        ("mart", 1, (75, 90, 100)),
        ("awp", 0, (100, 150)),
        ("s2o", 1, (100, 150)),
        ("rice2020", 0, (100, 150)),
        ("fat", 1, (60, 90)),
    ],
)
def test_the_rate_falls_in_the_epochs_of_the_code_which_counts_from_0_or_1(
    name: PresetName, first: int, falls: tuple[int, ...]
) -> None:
    config = preset(name)
    for epoch in range(config.epochs):
        expected = 0.1 ** sum(epoch + first >= fall for fall in falls)
        assert lr_factor(config.schedule, float(epoch), config.epochs) == pytest.approx(expected)


def test_what_is_left_out_is_deats_but_for_the_optimizer() -> None:
    """PGD-AT beside the paper's DEAT; k2 is 0.8 in the paper and 0.81 in its code."""
    plain = TrialConfig(optimizer={"name": "deat", "k2": 0.81, "lr": 0.1})
    assert preset("deat").resolved().model_copy(update={"preset": None}) == plain.resolved()


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_trial_of_its_values_by_hand(name: PresetName) -> None:
    data = {"data": {"fingerprint": "x"}}
    by_hand = nested(data, {key: value for key, (value, _) in PRESETS[name].values.items()})
    named = TrialConfig.model_validate(data | {"preset": name})
    assert trial_id(named) == trial_id(TrialConfig.model_validate(by_hand))
    assert trial_id(named) == trial_id(TrialConfig.model_validate(named.model_dump()))


def test_what_is_set_beside_a_preset_wins_and_a_none_too() -> None:
    config = preset("trades", optimizer__lr="1/20", objective__beta=None, schedule__milestones=[3])
    assert (config.optimizer.lr, config.objective.beta, config.schedule.milestones) == (0.05, None, (3,))
    assert config.optimizer.weight_decay == 2e-4


def test_a_trial_knows_what_was_set_from_what_its_preset_filled_in() -> None:
    config = preset("mart", optimizer__lr=0.1, data__root=None)
    given = {"preset": "mart", "optimizer": {"lr": 0.1}, "data": {"root": None}}
    assert config.model_dump(exclude_unset=True) == given
    assert TrialConfig.model_validate(given) == config
    other = TrialConfig.model_validate(given | {"preset": "trades"})
    assert (other.epochs, other.optimizer.lr) == (76, 0.1)


def test_momentum_goes_with_the_sgd_that_it_was_published_for() -> None:
    config = preset("trades", optimizer__name="deat").resolved()
    assert (config.optimizer.momentum, config.optimizer.decoupled_weight_decay) == (0.0, True)
    assert config.optimizer.weight_decay == 2e-4


@pytest.mark.parametrize("change", [{"attack__radius": 0.15}, {"attack__norm": "l2"}], ids=str)
def test_another_ball_is_evaluated_in_itself_with_the_attacks_steps(change: dict[str, Any]) -> None:
    config = preset("trades", attack__step_size=0.05, **change).resolved()
    assert config.evaluation.radius == config.attack.radius
    assert config.evaluation.step_size == 0.05
    assert config.evaluation.steps == 20


def test_in_the_l2_ball_the_attack_starts_where_the_codes_start_there() -> None:
    """As Rice's attack_pgd and TRADES's trades_loss: at a uniform distance; beside the image."""
    starts = {name: preset(name, attack__norm="l2", attack__radius=0.5).resolved().attack.start for name in PRESETS}
    others = {"trades": "normal", "mart": "normal", "free": "clean"}
    assert starts == dict.fromkeys(PRESETS, "uniform_radius") | others


def test_the_fast_methods_attacks_are_those_of_their_papers() -> None:
    """One step of 1.25 radii in the ball; of one radius from k = 2, not clipped; m = 8; tau 0, 1, 2."""
    attacks = {name: preset(name).resolved().attack for name in FAST}
    rs, noisy, free, fat = (attacks[name] for name in FAST)
    assert (rs.steps, rs.step_size / rs.radius, rs.start, rs.project) == (1, 1.25, "uniform", True)
    assert (noisy.steps, noisy.step_size / noisy.radius, noisy.start_scale, noisy.project) == (1, 1, 2, False)
    assert (free.replays, free.step_size / free.radius) == (8, 1)
    assert [at(fat, epoch).tau for epoch in (49, 50, 89, 90)] == [0, 1, 1, 2]
    assert {preset(name).resolved().batch_norm_data for name in FAST} == {"adversarial"}


def test_a_cyclic_rate_is_highest_in_the_middle() -> None:
    for name in ("fgsm_rs", "n_fgsm"):
        config = preset(name)
        shares = [lr_factor(config.schedule, config.epochs * share, config.epochs) for share in (0, 0.25, 0.5, 1)]
        assert shares == [0, 0.5, 1, 0]


def test_svhn_has_the_values_of_the_codes_for_svhn() -> None:
    awp, rice = (preset(name, data__name="svhn") for name in ("awp", "rice2020"))
    assert (awp.model.moments, awp.optimizer.lr, awp.weights.warmup, awp.data.augment) == ("half", 0.01, 5, False)
    assert awp.attack.step_size == 1 / 255
    assert (rice.model.moments, rice.optimizer.lr, rice.attack.step_size) == ("half", 0.01, 2 / 255)
    assert preset("s2o", data__name="cifar100").objective.s2o.rho == 0.98
    noisy = preset("n_fgsm", data__name="svhn")
    assert (noisy.optimizer.lr, noisy.attack.radius_warmup, noisy.attack.step_size_warmup) == (0.05, 5, 5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"preset": "trade"},
            f"preset: must be one of {NAMES}; got 'trade'; did you ",
        ),
        ({"preset": 3}, f"preset: must be one of {NAMES}; got 3"),
        ({"preset": "mart", "optimizer": 3}, "optimizer: must be a mapping of keys to values, got 3"),
        ({"preset": "mart", "attack": {"step": 3}}, "attack.step: unknown key; did you mean 'steps'?"),
        ({"preset": "deat", "optimizer": {"momentum": 0.9}}, "optimizer.momentum: DEAT has none; "),
    ],
)
def test_a_mistake_beside_a_preset_has_its_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as error:
        validated(TrialConfig, values)
    assert str(error.value).startswith(message)


def test_without_a_preset_nothing_is_filled_in() -> None:
    given = {"optimizer": {"lr": 0.1}}
    assert beneath(given) == given
    assert published(given) == published({"preset": "trade"}) == {}


def test_examples_in_docstrings_hold() -> None:
    assert doctest.testmod(trainers.presets).failed == 0
