"""What a verdict means in plain words: of every claim, with every verdict, in its own unit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from analysis.claims.ledger import Claim
from analysis.claims.meaning import meaning
from analysis.claims.questions import NAMES, question

LINE = Claim("deat_equal_lr", "DEAT beats SGD.", "small_cnn", "", "undecided", "fraction", n=4, replicate="seed")


def line(name: str = "deat_equal_lr", **values: object) -> Claim:
    asked = question(name)
    threshold = asked.threshold(0.01, 0.05)
    known = replace(LINE, name=name, unit=asked.unit, region=asked.region, threshold=threshold)
    return replace(known, **values)


@pytest.mark.parametrize("verdict", ["supported", "contradicted", "undecided", "not measured"])
@pytest.mark.parametrize("name", NAMES)
def test_every_verdict_of_every_claim_is_one_or_two_whole_sentences(name: str, verdict: str) -> None:
    said = meaning(line(name, verdict=verdict, estimate=0.03, low=0.01, high=0.05, note="n", config="c.yaml"))
    assert said[0].isupper()
    assert said.endswith(".")
    assert "{" not in said
    assert "nan" not in said


def test_a_difference_is_told_in_points_and_a_time_in_percent() -> None:
    better = meaning(line(verdict="supported", estimate=0.0393))
    higher = "With the same settings, DEAT's robust accuracy is higher than SGD's by about 3.9 percentage points."
    assert better.startswith(higher)
    worse = meaning(line(verdict="contradicted", estimate=-0.01))
    lower = "With the same settings, DEAT's robust accuracy is lower than SGD's by about 1 percentage point."
    assert worse.startswith(lower)
    slower = meaning(line("no_extra_time", verdict="contradicted", estimate=1.12))
    assert slower.startswith("DEAT trains more slowly than SGD: an epoch takes about 12 % more time.")
    equal = meaning(line("k1_k2", verdict="supported", estimate=0.004))
    assert "differs by less than 1 percentage point." in equal


@pytest.mark.parametrize("verdict", ["supported", "contradicted"])
@pytest.mark.parametrize("name", [name for name in NAMES if name != "no_extra_time"])
def test_the_accuracy_is_the_one_that_the_ledger_is_about(name: str, verdict: str) -> None:
    assert "clean accuracy" in meaning(line(name, verdict=verdict, estimate=0.03, y="last_test_clean"))


def test_what_is_open_says_how_open_and_how_many_seeds_would_decide() -> None:
    said = meaning(line(estimate=0.01, low=-0.02, high=0.04, further=7, further_low=2, further_high=40))
    assert said == (
        "These trials do not decide it: the effect may be anything from -2.0 to +4.0 percentage points. "
        "About 7 further seeds would probably decide it; it may take from 2 to 40 (95 % interval)."
    )
    why = "the same seeds chose the best cells"
    assert meaning(line(estimate=0.01, reason=why)) == f"These trials do not decide it, because {why}."
    assert meaning(line(low=-0.02, high=0.04, further=7, further_low=2)).endswith(
        "from 2 to more than 50 (95 % interval)."
    )
    assert meaning(line(low=-0.02, high=0.04, further_low=3)).endswith(
        "More than 50 further seeds would probably decide it; it may take from 3 to more than 50 (95 % interval)."
    )
    assert "would take more than 50 further seeds." in meaning(line(low=-0.02, high=0.04, further_low=50))


def test_published_means_are_not_called_agreeing_seeds() -> None:
    said = meaning(line(verdict="supported", estimate=0.02, replicate="cell", n=20))
    assert said == "With the same settings, DEAT's robust accuracy is higher than SGD's by about 2 percentage points."
