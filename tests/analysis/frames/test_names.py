import itertools

import pytest

from analysis.frames.identity import attack_kind
from analysis.frames.names import ATTACK, KEYS, Slots, named

ALL = [
    Slots(*values)
    for values in itertools.product(
        ("natural", "pgd_at", "trades", "mart", "avmixup"),
        (False, True),
        ("none", "awp"),
        ("sgd", "deat", "adamw"),
        ("pgd", "fgsm_rs", "n_fgsm", "free", "fat"),
    )
]


def test_every_choice_has_a_name_of_its_own_that_means_it():
    assert [named(slots.method) for slots in ALL] == ALL


@pytest.mark.parametrize(
    ("slots", "name"),
    [
        (Slots(), "PGD-AT"),
        (Slots(optimizer="deat"), "DEAT"),
        (Slots("natural"), "natural"),
        (Slots(weights="awp"), "PGD-AT-AWP"),
        (Slots(weights="awp", optimizer="deat"), "PGD-AT-AWP, DEAT"),
        (Slots("avmixup", s2o=True), "AVmixup+S2O"),
        (Slots("trades", True, "awp", "deat"), "TRADES-AWP+S2O, DEAT"),
        (Slots("mart", optimizer="adam"), "MART, adam"),
        (Slots(optimizer="adamw"), "PGD-AT, AdamW"),
        (Slots(attack="fgsm_rs"), "FGSM-RS"),
        (Slots(attack="free", weights="awp", optimizer="deat"), "Free-AT-AWP, DEAT"),
        (Slots("trades", attack="fat", s2o=True), "TRADES (FAT)+S2O"),
    ],
)
def test_names_are_those_of_the_papers(slots, name):
    assert slots.method == name


def test_keys_are_those_of_the_config():
    from trainers.config import TrialConfig

    values = TrialConfig().model_dump()
    assert KEYS[-1] == ATTACK
    for key, default in zip(KEYS[:-1], Slots(), strict=False):
        value = values
        for part in key.split("."):
            value = value[part]
        assert value == default


@pytest.mark.parametrize(
    ("attack", "kind"),
    [
        ({}, "pgd"),
        ({"steps": 1}, "pgd"),
        ({"steps": 1, "step_size": "10/255"}, "fgsm_rs"),
        ({"steps": 1, "step_size": "10/255", "norm": "l2"}, "fgsm_rs"),
        ({"steps": 1, "step_size": "10/255", "start": "clean"}, "pgd"),
        ({"steps": 1, "step_size": "8/255", "start_scale": 2, "project": False}, "n_fgsm"),
        ({"tau": 0}, "fat"),
        ({"tau": 10}, "pgd"),
        ({"replays": 1}, "free"),
    ],
)
def test_an_attack_is_named_by_what_it_does(attack, kind):
    from trainers.config import TrialConfig
    from trainers.identity import identity

    assert attack_kind(identity(TrialConfig.model_validate({"attack": attack}))["attack"]) == kind
