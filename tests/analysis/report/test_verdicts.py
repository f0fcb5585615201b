"""How an interval is drawn: with a scale on which it can be read off."""

from __future__ import annotations

import re

import pytest

from analysis.claims.ledger import Claim
from analysis.report.verdicts import verdicts

LINE = Claim(
    *("deat_equal_lr", "DEAT beats SGD.", "small_cnn", "", "undecided", "fraction"),
    estimate=0.02,
    low=-0.04,
    high=0.08,
    threshold=0.0,
    n=4,
    replicate="seed",
)


def numbers(text: str) -> dict[float, float]:
    """The numbers of the scale, each with where it stands."""
    found = re.findall(r'<text x="([\d.]+)" [^>]*class="axis-number">([-+\d.]+)</text>', text)
    return {float(number): float(x) for x, number in found}


def test_an_interval_stands_on_a_scale_of_round_numbers() -> None:
    text = verdicts([LINE])
    scale = numbers(text)
    assert 0.0 in scale
    assert 3 <= len(scale) <= 8
    first, last = min(scale), max(scale)
    unit = (scale[last] - scale[first]) / (last - first)
    (estimate,) = re.findall(r'<circle cx="([\d.]+)"', text)
    assert float(estimate) == pytest.approx(scale[0.0] + 2 * unit, abs=0.3)
    assert "in percentage points; shaded: where the claim holds" in text
