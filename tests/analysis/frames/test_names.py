import itertools

import pytest

from analysis.frames.names import KEYS, Slots, named

ALL = [
    Slots(*values)
    for values in itertools.product(
        ("natural", "pgd_at", "trades", "mart", "avmixup"), (False, True), ("none", "awp"), ("sgd", "deat")
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
    ],
)
def test_names_are_those_of_the_papers(slots, name):
    assert slots.method == name


def test_keys_are_those_of_the_config():
    from trainers.config import TrialConfig

    values = TrialConfig().model_dump()
    for key, default in zip(KEYS, Slots(), strict=True):
        value = values
        for part in key.split("."):
            value = value[part]
        assert value == default
