"""Ticks of logarithmic axes, and marks beside each other."""

from __future__ import annotations

import doctest

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.plots import page, setting, style, ticks
from analysis.plots.ticks import apart


@pytest.mark.parametrize("module", [page, setting, style, ticks])
def test_examples_hold(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("values", [[0.1], [0.1, 0.11], [1, 2, 4, 8, 16, 32], [0.01, 0.95, 0.97, 1.0]])
def test_labels_of_drawn_values_do_not_overlap_and_the_ends_stay(values):
    kept = apart(values)
    assert kept[0] == values[0]
    assert kept[-1] == values[-1]
    shares = np.log(kept) / max(np.log(values[-1] / values[0]), 1e-9)
    assert len(kept) <= 2 or np.diff(shares).min() >= 0.14
    if values == [1, 2, 4, 8, 16, 32]:
        assert kept == values


@pytest.mark.parametrize(("epochs", "shown"), [([1], [1]), ([1, 2], [1, 2]), ([1, 2, 3], [1, 2, 3])])
def test_ticks_of_epochs_are_whole_however_few_there_are(epochs: list[int], shown: list[int]) -> None:
    axes = Figure().subplots()
    axes.plot(epochs, epochs, "o")
    ticks.whole_epochs(axes)
    low, high = axes.get_xlim()
    assert [tick for tick in axes.get_xticks() if low <= tick <= high] == shown
